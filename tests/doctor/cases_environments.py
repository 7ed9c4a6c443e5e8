from __future__ import annotations

import functools
import socket
from contextlib import contextmanager
from unittest import mock

from doctor.rig import Case, Reply, bearer, refusing, serve, signed

REST = "51Habc8f3a6c1e5b7d49f2a0c4"
STRIPE = {"error": {"message": "Invalid API Key provided: sk_test_***", "type": "invalid_request_error"}}
MODE = {"error": {"message": "This test mode key cannot be used with live mode objects"}}
PADDLE = {"error": {"code": "invalid_token", "detail": "Invalid or revoked API key."}}
ISSUER = {"error": "invalid_token", "error_description": "The issuer is not trusted"}


@contextmanager
def serve_as(host: str, answer):
    """The same server, under a name that resolves to it while it is there."""
    real = socket.getaddrinfo

    def resolve(name, *args, **options):
        asked = name.decode() if isinstance(name, bytes) else name
        return real("127.0.0.1" if asked == host else name, *args, **options)

    with serve(answer) as origin, mock.patch("socket.getaddrinfo", resolve):
        yield origin.replace("127.0.0.1", host)


def at(host: str, cause: str, credential: str, answer, name: str, *more: str) -> Case:
    """A server of that name, and a credential: a field, or a token."""
    given = ("-H", credential) if ": " in credential else ("--token", credential)
    secret = credential.rpartition(" ")[2]
    serving = functools.partial(serve_as, host)
    label = f"{cause or 'healthy'}: {name}"
    return Case(cause, answer, ("{url}", *given, *more), label, (secret,), serve=serving)


def mute(_request) -> Reply:
    return Reply(401)


def saying(body: str | dict, status: int = 401):
    return lambda _request: Reply(status, body=body)


def welcoming(request) -> Reply:
    return Reply() if request.credential else Reply(401, bearer())


STAGING = signed(iss="https://auth.staging.example.com/", aud="https://orders.example.com")
CASES = [
    # Keys of payment providers.
    at("api.paddle.com", "test-key-on-production", f"pdl_sdbx_apikey_{REST}", saying(PADDLE, 403), "Paddle"),
    at("sandbox-api.paddle.com", "live-key-on-test", f"pdl_live_apikey_{REST}", saying(PADDLE, 403), "Paddle"),
    at("api.checkout.com", "test-key-on-production", f"Authorization: Bearer sk_sbox_{REST}", mute, "Checkout.com"),
    at("api.stripe.com", "test-key-on-production", f"sk_test_{REST}", saying(MODE), "Stripe, which has one host"),
    at("api.prod.example.com", "test-key-on-production", f"X-API-Key: sk_test_{REST}", mute, "by the name of the host"),
    at(
        "api.example.com",
        "test-key-on-production",
        f"sk_test_{REST}",
        refusing("invalid_token"),
        "a host without a word",
    ),
    at("api.sandbox.example.com", "live-key-on-test", f"sk_live_{REST}", mute, "by the name of the host"),
    at("api.razorpay.com", "live-key-on-test", f"rzp_live_{REST}", saying("You are in test mode"), "in words"),
    at(
        "api.stripe.com",
        "publishable-key",
        f"pk_live_{REST}",
        saying(
            {
                "error": {
                    "message": "This API call cannot be made with a publishable API key. Please use a secret API key."
                }
            }
        ),
        "Stripe",
    ),
    at("api.flutterwave.com", "publishable-key", f"FLWPUBK-{REST}", mute, "not a word"),
    at("api.stripe.com", "secret-for-something-else", f"whsec_{REST}", saying(STRIPE), "a webhook's"),
    at("www.googleapis.com", "secret-for-something-else", f"GOCSPX-{REST}", refusing("invalid_token"), "a client's"),
    # Keys of others.
    at(
        "api.openai.com",
        "foreign-key",
        f"sk-ant-api03-{REST}",
        saying({"error": {"code": "invalid_api_key"}}),
        "OpenAI",
    ),
    at("api.example.com", "foreign-key", f"xoxb-{REST}", refusing("invalid_token"), "Slack's"),
    at("api.example.com", "foreign-key", f"ghp_{REST}", mute, "GitHub's"),
    at(
        "api.anthropic.com",
        "secret-key-in-browser",
        f"X-API-Key: sk-ant-api03-{REST}",
        saying({"error": {"message": "CORS requests must set 'anthropic-dangerous-direct-browser-access' header"}}),
        "Anthropic",
        "-H",
        "Origin: https://shop.example.com",
    ),
    # Tokens.
    at(
        "orders.example.com",
        "wrong-environment",
        STAGING.replace(STAGING, signed(iss="https://auth.staging.example.com/", aud="orders")),
        refusing("invalid_token"),
        "the issuer is of staging",
    ),
    at(
        "api.example.com",
        "wrong-environment",
        signed(iss="https://idp.example.com/", aud="https://api.dev.example.com"),
        refusing("invalid_token"),
        "the audience is of development",
    ),
    at(
        "api.staging.example.com",
        "wrong-environment",
        signed(iss="https://auth.prod.example.com/", aud="orders"),
        mute,
        "a token of production",
    ),
    at(
        "api.example.com",
        "wrong-environment",
        signed(iss="https://sso.example.com/realms/uat", aud="orders"),
        mute,
        "a realm of Keycloak",
    ),
    at(
        "api.example.com",
        "wrong-environment",
        signed(iss="https://sso.example.net/", aud="orders", env="staging"),
        mute,
        "a claim",
    ),
    Case(
        "wrong-environment",
        refusing("invalid_token", "The token is not valid for this API"),
        ("{url}", "--token", STAGING, "--issuer", "https://auth.example.com/"),
        "wrong-environment: what is expected differs in its name only",
        (STAGING,),
    ),
    # What is right.
    at("api.stripe.com", "", f"sk_test_{REST}", welcoming, "a test key at Stripe"),
    at("api.sandbox.checkout.com", "", f"sk_sbox_{REST}", welcoming, "a test key in a sandbox"),
    at("api.example.com", "", f"sk_test_{REST}", welcoming, "a test key where it is taken"),
    at("llm.example.com", "", f"sk-proj-{REST}", welcoming, "a gateway that takes OpenAI's keys"),
    at("github.corp.example.com", "", f"ghp_{REST}", welcoming, "GitHub in the house"),
    at("api.example.com", "", STAGING, welcoming, "a token of staging that is taken"),
    at(
        "api.example.com",
        "",
        f"X-API-Key: sk_live_{REST}",
        lambda _request: Reply(
            headers=(
                ("Access-Control-Allow-Origin", "https://shop.example.com"),
                ("Access-Control-Allow-Headers", "x-api-key"),
            )
        ),
        "a page that is let in",
        "-H",
        "Origin: https://shop.example.com",
    ),
    Case("", welcoming, ("{url}", "--token", f"sk_test_{REST}"), "healthy: a test key on this machine", (REST,)),
    at("dev.example.com", "", signed(iss="https://auth.example.com", aud="orders"), welcoming, "one issuer for all"),
]
