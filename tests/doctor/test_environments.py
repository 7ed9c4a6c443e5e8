"""Keys and tokens of another environment are told by rows of data and names, and by nothing that may be right."""

from __future__ import annotations

import base64

import pytest
from doctor.rig import signed

from httpx_tokenflow.doctor import Certainty, Exchange, Expected, Facts, Fields, diagnose, read_token
from httpx_tokenflow.doctor.causes import _environments
from httpx_tokenflow.doctor.causes._hosts import environment_of
from httpx_tokenflow.doctor.causes._key_prefixes import HOSTS, PREFIXES

REST = "51Habc8f3a6c1e5b7d49f2a0c4"


def facts(url: str, credential: str, body: str = "", *, status: int = 401, token: str = "", **more) -> Facts:
    sent = Fields([("Host", "x"), ("Authorization", credential)])
    asked = Exchange(url=url, sent=sent, status=status, body=body)
    return Facts(exchanges=(asked,), token=read_token(token) if token else None, **more)


def named(known: Facts) -> dict[str, Certainty]:
    return {finding.id: finding.certainty for finding in diagnose(known, _environments.CAUSES).findings}


def of_key(url: str, text: str, body: str = "", **more) -> dict[str, Certainty]:
    return named(facts(url, f"Bearer {text}{REST}", body, **more))


def of_token(url: str, body: str = "", expected: Expected | None = None, **claims) -> dict[str, Certainty]:
    token = signed(**claims)
    return named(facts(url, f"Bearer {token}", body, token=token, expected=expected or Expected()))


@pytest.mark.parametrize(
    ("url", "prefix", "body", "found"),
    [
        ("https://api.paddle.com/", "pdl_sdbx_apikey_", "", {"test-key-on-production": Certainty.CERTAIN}),
        ("https://sandbox-api.paddle.com/", "pdl_live_apikey_", "", {"live-key-on-test": Certainty.CERTAIN}),
        ("https://sandbox-api.paddle.com/", "pdl_sdbx_apikey_", "", {}),
        ("https://api.paddle.com/", "pdl_live_apikey_", "", {}),
        ("https://api.stripe.com/v1", "sk_test_", "", {}),
        ("https://api.stripe.com/v1", "sk_live_", "", {}),
        (
            "https://api.stripe.com/v1",
            "sk_test_",
            "no such live mode object",
            {"test-key-on-production": Certainty.CERTAIN},
        ),
        ("https://api.prod.example.com/", "sk_test_", "", {"test-key-on-production": Certainty.LIKELY}),
        ("https://api.example.com/", "sk_test_", "", {"test-key-on-production": Certainty.POSSIBLE}),
        ("https://api.example.com/", "sk_live_", "", {}),
        ("https://staging.example.com/", "sk_test_", "", {}),
        ("https://staging.example.com/", "sk_live_", "", {"live-key-on-test": Certainty.LIKELY}),
        ("https://shop-staging.example.com/", "rk_live_", "", None),
        ("http://127.0.0.1:8000/", "sk_test_", "", {}),
        ("http://localhost:8000/", "sk_live_", "", {}),
        ("http://api:8000/", "sk_test_", "", {}),
        ("http://10.0.0.3/", "ghp_", "", {}),
    ],
)
def test_the_mode_of_a_key(url, prefix, body, found):
    """A host that is known decides, one that is named after an environment speaks, and a machine here says nothing."""
    named = of_key(url, prefix, body)
    assert named == found if found is not None else "live-key-on-test" in named


@pytest.mark.parametrize(
    ("url", "prefix", "found"),
    [
        ("https://api.openai.com/v1", "sk-ant-", Certainty.CERTAIN),
        ("https://api.openai.com/v1", "sk_live_", Certainty.CERTAIN),
        ("https://api.anthropic.com/v1", "sk-proj-", Certainty.CERTAIN),
        ("https://api.example.com/", "github_pat_", Certainty.LIKELY),
        ("https://api.example.com/", "hvs.", Certainty.POSSIBLE),
        ("https://api.github.com/", "ghp_", None),
        ("https://github.example.com/api/v3", "ghp_", None),
        ("https://git.example.com/api/v4", "glpat-", None),
        ("https://maps.googleapis.com/", "AIza", None),
        ("https://s3.eu-west-1.amazonaws.com/", "AKIA", None),
        ("https://evilgithub.com.example.com/", "xoxb-", Certainty.LIKELY),
        ("http://localhost:4000/", "sk-ant-", None),
    ],
)
def test_a_key_of_another_vendor(url, prefix, found):
    """It is certain at a host of somebody else, and none at the vendor's own, in the house, or on this machine."""
    assert of_key(url, prefix).get("foreign-key") == found


@pytest.mark.parametrize(
    ("prefix", "id_"),
    [
        ("pk_live_", "publishable-key"),
        ("FLWPUBK_TEST-", "publishable-key"),
        ("whsec_", "secret-for-something-else"),
        ("GOCSPX-", "secret-for-something-else"),
        ("ghr_", None),  # a refresh token: that is another cause
        ("sk_live_", None),
        ("pk_", None),
        ("ghp_", None),
    ],
)
def test_a_key_of_another_kind(prefix, id_):
    """What is for pages, webhooks or the token endpoint is named; a secret key, and what only looks alike, is not."""
    kinds = {"publishable-key", "secret-for-something-else"}
    assert kinds & of_key("https://api.example.com/", prefix).keys() == ({id_} if id_ else set())


def test_a_key_is_found_wherever_it_was_sent():
    """As the user of Basic, in a field, in the query, and with quotes around it."""
    user = base64.b64encode(f"sk_live_{REST}:".encode()).decode()
    url = "https://api.sandbox.example.com/"
    assert "live-key-on-test" in named(facts(url, f"Basic {user}"))
    assert "live-key-on-test" in named(facts(url, f'Bearer "sk_live_{REST}"'))
    for asked in (
        Exchange(url=url, sent=Fields([("X-API-Key", f"sk_live_{REST}")]), status=401),
        Exchange(url=f"{url}?api_key=sk_live_{REST}", status=401),
    ):
        assert "live-key-on-test" in named(Facts(exchanges=(asked,)))


def test_a_key_that_is_taken_is_none_of_ours():
    """Only where a key was refused is anything said of it; a short text is no key."""
    assert of_key("https://api.openai.com/", "sk-ant-", status=200) == {}
    assert of_key("https://api.openai.com/", "sk-ant-", status=404) == {}
    assert of_key("https://api.openai.com/", "sk-ant-", status=503) == {}
    assert of_key("https://api.openai.com/", "sk-ant-", status=0) == {}
    assert named(facts("https://api.openai.com/", "Bearer sk-ant-x")) == {}


def test_a_secret_key_in_a_page():
    """A secret key with an Origin is possibly the reason, and certainly where the server speaks of browsers."""
    url, key = "https://api.anthropic.com/", f"Bearer sk-ant-{REST}"
    page = "https://shop.example.com"
    assert named(facts(url, key, browser_origin=page)) == {"secret-key-in-browser": Certainty.POSSIBLE}
    told = facts(url, key, '{"error": "CORS requests are not allowed"}', browser_origin=page)
    assert named(told) == {"secret-key-in-browser": Certainty.CERTAIN}
    assert named(facts(url, key)) == {}


def test_no_key_is_in_the_texts():
    """Of a key, its prefix is shown, and no more."""
    for row in PREFIXES:
        known = facts("https://api.sandbox.example.com/", f"Bearer {row.text}{REST}", "test mode")
        assert REST not in str(diagnose(known, _environments.CAUSES).to_dict())


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("https://auth.staging.example.com/", "staging"),
        ("https://auth-stg.example.com", "staging"),
        ("https://example-dev.com", "development"),
        ("https://sso.example.com/realms/uat", "acceptance"),
        ("https://sandbox-api.paddle.com", "sandbox"),
        ("https://acme.oktapreview.com/oauth2/default", "preview"),
        ("api://orders-dev", "development"),
        ("orders-prod", "production"),
        ("https://api.example.com", None),
        ("https://latest.example.com/protest", None),
        ("https://api.example.dev", None),
        ("https://example.test", None),
        ("http://localhost:8080/realms/dev", None),
        ("https://[", None),
        ("", None),
    ],
)
def test_the_environment_in_a_name(text, environment):
    """A word between dots, hyphens and slashes counts; a part of a word, or the last labels of a host, does not."""
    assert environment_of(text) == environment


@pytest.mark.parametrize(
    ("url", "claims", "found"),
    [
        ("https://api.example.com/", {"iss": "https://auth.staging.example.com"}, Certainty.LIKELY),
        ("https://api.staging.example.com/", {"iss": "https://auth.dev.example.com"}, Certainty.LIKELY),
        ("https://api.staging.example.com/", {"iss": "https://auth.staging.example.com"}, None),
        ("https://api.example.com/", {"iss": "https://dev-abc123.us.auth0.com/"}, None),
        ("https://api.staging.example.com/", {"iss": "https://auth.example.com"}, None),
        ("https://api.prod.example.com/", {"iss": "https://auth.example.com"}, None),
        ("https://api.example.com/", {"iss": "https://auth.prod.example.com"}, None),
        (
            "https://api.example.com/",
            {"iss": "https://a.example.com", "aud": "https://api.qa.example.com"},
            Certainty.LIKELY,
        ),
        ("https://api.example.com/", {"iss": "https://auth.dev.example.com", "aud": "https://api.example.com/"}, None),
        ("http://127.0.0.1/", {"iss": "https://auth.staging.example.com"}, None),
        ("https://api.example.com/", {"iss": "https://a.example.net", "environment": "staging"}, Certainty.LIKELY),
        ("https://api.example.com/", {"iss": "https://a.example.net", "environment": "production"}, None),
        ("https://api.example.com/", {"iss": "https://a.example.net", "livemode": False}, Certainty.LIKELY),
        ("https://api.example.com/", {"iss": "https://a.example.net", "livemode": True}, None),
        ("https://api.qa.example.com/", {"iss": "https://a.example.net", "livemode": True}, Certainty.LIKELY),
        ("https://api.example.com/", {"iss": None, "env": ["staging"], "livemode": "no"}, None),
    ],
)
def test_a_token_of_another_environment(url, claims, found):
    """The names of one house are compared; one issuer for several, and the tenants of a service, are left alone."""
    assert of_token(url, **({"aud": "orders"} | claims)).get("wrong-environment") == found


def test_words_about_the_issuer_make_more_of_a_name():
    """Where the server speaks of the issuer, its name counts even if it is of another house."""
    claims = {"iss": "https://dev-abc123.us.auth0.com/", "aud": "orders"}
    assert of_token("https://api.example.com/", "unknown issuer", **claims) == {"wrong-environment": Certainty.LIKELY}


def test_what_is_expected_differs_in_the_environment_only():
    """That is certain; where more differs, it is another issuer, and not ours to name."""
    expected = Expected(issuer="https://auth.example.com/")
    url = "http://127.0.0.1/"
    assert of_token(url, expected=expected, iss="https://auth.staging.example.com") == {
        "wrong-environment": Certainty.CERTAIN
    }
    assert of_token(url, expected=expected, iss="https://login.staging.example.net") == {}
    assert of_token(url, expected=expected, iss="https://auth.example.com") == {}
    audience = Expected(audience="https://api.example.com")
    assert of_token(url, expected=audience, aud="https://api.dev.example.com") == {
        "wrong-environment": Certainty.CERTAIN
    }
    assert of_token(url, expected=audience, aud=["https://api.dev.example.com", "https://api.example.com"]) == {}


def test_the_data_is_sound():
    """No row stands twice, none hides another, and a known host has a mode that causes know."""
    texts = [row.text for row in PREFIXES]
    assert len(set(texts)) == len(texts)
    assert all(len(text) >= 3 for text in texts)
    assert {row.mode for row in PREFIXES} == {"", "test", "live"}
    assert {row.mode for row in HOSTS} == {"test", "live", "both"}
    for row in PREFIXES:
        assert not {host for host in row.hosts if "." not in host}
