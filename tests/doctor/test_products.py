"""What products say, in short: no server is needed to read it."""

from __future__ import annotations

import json

import httpx
import pytest
from doctor.rig import Reply, run, serve, signed, unsigned

from httpx_tokenflow.cli._token_words import seems
from httpx_tokenflow.doctor import Certainty, Exchange, Facts, Fields, Refusal, diagnose, explain, read_token
from httpx_tokenflow.doctor._explain import reading_of
from httpx_tokenflow.doctor.causes._endpoint import topic_of

HOST = "https://api.example.com/v1/things"
TOKEN = "opaque-8f3a6c1e5b7d49f2a0c4"
PRIVATE = "private-exponent-1234567890"


def told(status=401, body="", headers=(), sent=("Authorization", f"Bearer {TOKEN}"), url=HOST):
    """The causes that `explain` finds for one response."""
    request = httpx.Request("GET", url, headers=[sent])
    content = json.dumps(body) if isinstance(body, (dict, list)) else body
    findings = explain(httpx.Response(status, headers=list(headers), text=content, request=request)).findings
    return {finding.id: finding.certainty for finding in findings}


def beside_bare(status, body, headers=()):
    """The causes where the server says the same with a credential and without one."""
    fields, sent = Fields(headers), Fields([("Authorization", f"Bearer {TOKEN}")])
    asked = Exchange(url=HOST, sent=sent, status=status, received=fields, body=body)
    bare = Exchange(role="bare", url=HOST, status=status, received=fields, body=body)
    return {finding.id: finding.certainty for finding in diagnose(Facts(exchanges=(asked, bare))).findings}


@pytest.mark.parametrize("url", ["https://api.stripe.com/v1/charges", "https://shop.zendesk.com/api/v2/users"])
def test_a_host_that_takes_bearer_wants_no_basic(url):
    """A host that is known to take Bearer is not said to want Basic, whatever its challenge names."""
    challenge = [("WWW-Authenticate", 'Basic realm="x"')]
    assert "basic-expected" not in told(headers=challenge, url=url)
    assert "basic-expected" in told(headers=challenge)


def test_the_words_about_the_key_go_first():
    """Where the server says that the key is wrong, a challenge of another scheme is no cause."""
    challenge = [("WWW-Authenticate", 'Basic realm="x"')]
    found = told(body={"error": {"message": "Invalid API Key provided: sk_test_****1234"}}, headers=challenge)
    assert next(iter(found)) == "wrong-api-key"
    assert "basic-expected" not in found


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x", "http://10.0.0.7/x", "http://api/x", "http://[::1]/x"])
def test_an_audience_is_not_compared_with_a_private_name(url):
    """That a token is for another URL is said of public hosts alone: the others have another name outside."""
    token = signed(aud="https://api.example")
    sent = ("Authorization", f"Bearer {token}")
    assert "wrong-audience" not in told(sent=sent, url=url)
    assert told(sent=sent, url="https://other.example.com/x")["wrong-audience"] == Certainty.POSSIBLE


def test_a_403_without_words_is_possible_only():
    """403 with a credential and without it alike is possibly a 401, and likely one where it says so."""
    assert beside_bare(403, "Forbidden")["403-means-401"] == Certainty.POSSIBLE
    assert beside_bare(403, '{"message": "invalid token"}')["403-means-401"] == Certainty.LIKELY


def test_required_is_said_of_bad_credentials_too():
    """That authentication is required makes a dropped credential possible; that none was given, likely."""
    assert beside_bare(401, '{"error": "authentication required"}')["authorization-stripped"] == Certainty.POSSIBLE
    none = '{"detail": "Authentication credentials were not provided."}'
    assert beside_bare(401, none)["authorization-stripped"] == Certainty.LIKELY


def test_a_challenge_without_commas_is_possibly_malformed():
    """Azure's parameters without commas are no likely reason of a 401; a quote that is never closed may be."""
    azure = 'Bearer realm="x" authorization_uri="https://login.example/authorize" resource_id="y"'
    assert told(headers=[("WWW-Authenticate", azure)])["malformed-challenge"] == Certainty.POSSIBLE
    assert told(headers=[("WWW-Authenticate", 'Bearer realm="x')])["malformed-challenge"] == Certainty.LIKELY


def test_a_count_of_requests_is_a_cause_only_when_used_up():
    """X-RateLimit-Remaining is on every answer of many APIs: only 0 says that a limit is reached."""
    assert "limit-reached" not in told(403, "Forbidden", [("X-RateLimit-Remaining", "59")])
    assert "limit-reached" in told(403, "Forbidden", [("X-RateLimit-Remaining", "0")])
    assert "limit-reached" not in told(401, "Unauthorized", [("X-RateLimit-Remaining", "0")])


@pytest.mark.parametrize(
    ("error", "description", "topic"),
    [
        ("unauthorized_client", "Grant type 'client_credentials' not allowed for the client.", "grant type"),
        ("unauthorized_client", "Invalid client secret", "client"),
        ("bad_client_secret", None, "client"),
        ("invalid_code", None, "grant"),
        ("bad_redirect_uri", None, "redirect"),
    ],
)
def test_what_a_token_endpoint_means(error, description, topic):
    """A refusal of Auth0's and Slack's token endpoint is put down to what it is about."""
    assert topic_of(Refusal(status=400, error=error, description=description)) == topic


KINDS = (
    {"typ": "Bearer", "nonce": "n", "scope": None},  # Keycloak
    {"nonce": "n", "scope": "openid profile"},  # Auth0
    {"nonce": "n"},
    {"at_hash": "h"},
    {"token_use": "access", "nonce": "n"},
    {"typ": "ID", "scope": "openid"},
    {"token_use": "id"},
    {"typ": "Refresh"},
    {"token_type": "refresh"},
    {"type": "refresh"},
    {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    {"scope": "read"},
)


@pytest.mark.parametrize("claims", KINDS, ids=str)
def test_inspect_and_the_doctor_agree_on_what_a_token_is(claims):
    """inspect calls a token an ID token, a refresh token or another kind where the doctor does, and nowhere else."""
    token = signed({"typ": "JWT"}, **claims)
    shown = seems(read_token(token))
    found = told(sent=("Authorization", f"Bearer {token}"))
    assert ("an ID token" in shown) == ("id-token" in found)
    assert ("a refresh token" in shown) == ("refresh-token" in found)
    assert ("a logout token" in shown) == ("wrong-token-type" in found)


def test_keycloaks_and_auth0s_access_tokens_are_such():
    """A nonce makes no ID token of one that says to be an access token, or that allows something."""
    for claims in KINDS[:2]:
        assert seems(read_token(signed({"typ": "JWT"}, **claims))).startswith("an access token")


def test_a_private_key_in_a_token_is_not_shown(capsys, monkeypatch):
    """The private members of a key in a token's header or cnf are shown by neither inspect nor the doctor."""
    key = {"kty": "RSA", "n": "modulus", "e": "AQAB"} | {name: f"{PRIVATE}-{name}" for name in ("d", "p", "q", "qi")}
    token = unsigned({"alg": "RS256", "jwk": key}, {"iss": "x", "cnf": {"jwk": key}})
    for extra in ((), ("--json",)):
        ended = run(["inspect", token, *extra], capsys, monkeypatch)
        assert PRIVATE not in ended.stdout + ended.stderr
        assert "modulus" in ended.stdout
    with serve(lambda _request: Reply(401)) as origin:
        ended = run(["doctor", origin, "--token", token, "--json"], capsys, monkeypatch)
    assert json.loads(ended.stdout)["causes"]
    assert PRIVATE not in ended.stdout + ended.stderr


def test_a_scheme_in_a_key_field_is_no_space_too_many():
    """One word that is a scheme and one space in front of a key are right; a space within a key is not."""
    assert "extra-space" not in told(sent=("X-API-Key", "Key zT8wq0K3n5Yb7R1x"))
    assert "extra-space" in told(sent=("X-API-Key", "zT8wq0K3 n5Yb7R1x"))
    assert "extra-space" in told(sent=("X-API-Key", "Key zT8wq0K3 n5Yb7R1x"))


@pytest.mark.parametrize("value", ["Bearer \x0c", "Bearer \x0b ", "Bearer '\x1c'"])
def test_a_token_of_white_space_is_none(value):
    """Nothing is read of a token that is white space of an unusual kind, and nothing raises."""
    sent = Fields([("Authorization", value)])
    facts = Facts(exchanges=(Exchange(url=HOST, sent=sent, status=401),))
    assert reading_of(facts.credential) is None
