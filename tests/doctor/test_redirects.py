"""What a response's history tells of a lost credential; what looks like it and is none."""

from __future__ import annotations

import httpx
import pytest

from httpx_tokenflow.doctor import explain
from httpx_tokenflow.doctor._comparing import leads_to_login

SECRET = "credential-3b9f1c77d2"
AUTHORIZATION = {"Authorization": f"Bearer {SECRET}"}
CHALLENGE = {"WWW-Authenticate": "Bearer"}
URL = "http://api.example/v1/things"


def responses(*steps):
    """The last of the responses; the others are its history. Each step: method, URL, sent, status, received."""
    made = []
    for method, url, sent, status, received in steps:
        request = httpx.Request(method, url, headers=sent)
        made.append(httpx.Response(status, headers=received, request=request, content=b""))
    made[-1].history = made[:-1]
    return made[-1]


def ids(response):
    return [finding.id for finding in explain(response).findings]


@pytest.mark.parametrize(
    ("url", "to", "words"),
    [
        (URL, "https://api.example/v1/things", "from http to https"),
        ("https://api.example/v1/things", "http://api.example/v1/things/", "from https to http"),
        ("https://api.example/v1/things", "https://www.api.example/v1/things", "from api.example to www.api.example"),
        ("https://api.example/v1/things", "https://api.example:8443/v1/things", "from port 443 to port 8443"),
    ],
)
def test_a_redirect_that_lost_the_credential_is_certain(url, to, words):
    """Sent at first, not sent at last, and refused there: the history shows it, and the step is named."""
    response = responses(("GET", url, AUTHORIZATION, 301, {"Location": to}), ("GET", to, {}, 401, CHALLENGE))
    found = explain(response).first
    assert (found.id, found.certainty.name) == ("redirect-lost-credential", "CERTAIN")
    assert words in found.summary
    assert SECRET not in str(found.to_dict())


def test_back_to_http_is_the_proxys_business():
    """From https to http on one host, the remedy speaks of X-Forwarded-Proto."""
    steps = [
        ("GET", "https://api.example/x", AUTHORIZATION, 307, {"Location": "http://api.example/x/"}),
        ("GET", "http://api.example/x/", {}, 401, CHALLENGE),
    ]
    assert "X-Forwarded-Proto" in explain(responses(*steps)).first.remedy


def test_a_credential_that_went_along_was_not_lost():
    """Where the last request still has it, the redirect is not to blame for the 401."""
    steps = [
        ("GET", URL, AUTHORIZATION, 301, {"Location": URL + "/"}),
        ("GET", URL + "/", AUTHORIZATION, 401, CHALLENGE),
    ]
    assert "redirect-lost-credential" not in ids(responses(*steps))
    away = "https://elsewhere.example/v1/things"
    back = [
        ("GET", URL, AUTHORIZATION, 302, {"Location": away}),
        ("GET", away, {}, 302, {"Location": URL + "/"}),
        ("GET", URL + "/", AUTHORIZATION, 401, CHALLENGE),
    ]
    assert "redirect-lost-credential" not in ids(responses(*back))


def test_a_download_elsewhere_is_healthy():
    """A presigned URL needs no Authorization, and gets none."""
    there = "https://bucket.s3.amazonaws.com/v1/things?X-Amz-Signature=0a1b"
    steps = [("GET", URL, AUTHORIZATION, 302, {"Location": there}), ("GET", there, {}, 200, {})]
    assert explain(responses(*steps)).is_healthy
    assert explain(responses(steps[0])).is_healthy


@pytest.mark.parametrize(
    "there",
    [
        "https://api.example/login?next=/", "https://login.example/x", "https://a.example/oauth2/v2.0/authorize",
        "https://idp.example/adfs/ls/?SAMLRequest=a&RelayState=b", "/users/sign_in", "/accounts/login/",
        "https://x.example/go?response_type=code&redirect_uri=y",
    ],
)  # fmt: skip
def test_a_redirect_to_a_login_page_is_told(there):
    """It is neither a lost credential nor healthy: the server takes the request for a browser."""
    assert ids(responses(("GET", URL, AUTHORIZATION, 302, {"Location": there})))[:1] == ["login-page"]


@pytest.mark.parametrize(
    "there",
    [
        "https://api.example/v1/logins",
        "/v1/things/login-attempts",
        "/authorized",
        "/v2/things",
        "https://[",
        "/sso-guide",
    ],
)
def test_not_every_word_with_login_is_a_login_page(there):
    """A path segment that has other letters too is another word."""
    assert not leads_to_login(there)
    assert "login-page" not in ids(responses(("GET", URL, AUTHORIZATION, 302, {"Location": there})))


def test_a_login_in_between_that_came_back_is_healthy():
    """Single sign-on sends a browser away and back: what counts is where it ended."""
    steps = [
        ("GET", URL, AUTHORIZATION, 302, {"Location": "https://sso.example/authorize"}),
        ("GET", "https://sso.example/authorize", {}, 302, {"Location": URL}),
        ("GET", URL, AUTHORIZATION, 200, {"Content-Type": "application/json"}),
    ]
    assert explain(responses(*steps)).is_healthy


def test_a_post_that_became_a_get_is_told():
    """301 to the same path with a slash turned it into a GET; a 307 does not, and a 303 to what was made is healthy."""
    there = URL + "/"
    lost = [("POST", URL, AUTHORIZATION, 301, {"Location": there}), ("GET", there, AUTHORIZATION, 200, {})]
    assert ids(responses(*lost)) == ["redirect-became-get"]
    kept = [("POST", URL, AUTHORIZATION, 307, {"Location": there}), ("POST", there, AUTHORIZATION, 200, {})]
    assert ids(responses(*kept)) == []
    for status in (303, 307, 308):
        assert ids(responses(("POST", URL, AUTHORIZATION, status, {"Location": there}))) == []
    made = [
        ("POST", URL, AUTHORIZATION, 303, {"Location": URL + "/42"}),
        ("GET", URL + "/42", AUTHORIZATION, 200, {}),
    ]
    assert ids(responses(*made)) == []


@pytest.mark.parametrize("place", ["", "https://[", "http://api.example:port/", "\x00", "//", "?", "#", "http://", "é"])
def test_a_location_that_cannot_be_read_is_none(place):
    """Whatever is in Location, explain() answers."""
    request = httpx.Request("GET", URL, headers=AUTHORIZATION)
    response = httpx.Response(301, headers=[(b"Location", place.encode())], request=request)
    explain(response)
