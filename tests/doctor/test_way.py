"""What stands on the way, by a response in hand: proxies, browsers, and servers that mislead."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from httpx_tokenflow.doctor import Exchange, Facts, Fields, diagnose, explain
from httpx_tokenflow.doctor.causes._conduct import _wrong_with

SECRET = "credential-3b9f1c77d2"
BEARER = {"Authorization": f"Bearer {SECRET}"}


def response(status, headers=None, body="", *, method="GET", sent=BEARER):
    content = json.dumps(body) if isinstance(body, dict | list) else body
    request = httpx.Request(method, "https://api.example/v1/things", headers=sent)
    return httpx.Response(status, headers=headers or {}, text=content, request=request)


def ids(*args, **options):
    return [finding.id for finding in explain(response(*args, **options)).findings]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Missing token", True),
        ("No Authorization header was found", True),
        ("Authentication credentials were not provided.", True),
        ("jwt is missing", True),
        ("Access token is required", True),
        ("Invalid or missing token", False),
        ("Token not found", False),
        ("The token has expired", False),
        ("Missing Authentication Token", False),
        ("Unauthorized", False),
        ("missing permission", False),
    ],
)
def test_a_stripped_credential_shows_in_words(body, expected):
    """Only words that say nothing was sent, and no more, tell of a credential that was dropped."""
    assert ("authorization-stripped" in ids(401, {"WWW-Authenticate": "Bearer"}, {"message": body})) is expected


@pytest.mark.parametrize(
    ("sent", "challenge"),
    [
        ({"Authorization": f"Token {SECRET}"}, "Bearer"),
        ({"Authorization": f"Bearer  {SECRET}"}, "Bearer"),
        ({"Authorization": SECRET}, "Bearer"),
        ({"Cookie": f"session={SECRET}"}, "Bearer"),
        ({"Authorization": f"Bearer {SECRET}"}, "Basic"),
        ({}, "Bearer"),
    ],
)
def test_what_was_sent_amiss_was_not_stripped(sent, challenge):
    """Where the spelling or the scheme is wrong, a server that saw nothing is right."""
    assert "authorization-stripped" not in ids(401, {"WWW-Authenticate": challenge}, "missing token", sent=sent)


def test_a_server_that_knows_the_difference_has_seen_the_credential():
    """With another answer to a request without the credential, nothing was stripped."""
    common = {"method": "GET", "url": "https://api.example/x"}
    asked = Exchange(
        **common, sent=Fields(BEARER.items()), status=401, body="No token for this tenant was found: missing token"
    )
    bare = Exchange(**common, role="bare", status=401, body="Who are you?")
    assert "authorization-stripped" not in [one.id for one in diagnose(Facts(exchanges=(asked, bare))).findings]
    same = Exchange(**common, role="bare", status=401, body=asked.body)
    assert "authorization-stripped" in [one.id for one in diagnose(Facts(exchanges=(asked, same))).findings]


def test_a_tunnel_that_was_refused_is_the_proxys_407():
    """httpx raises where CONNECT gets 407: that is a fact too, and CERTAIN."""
    failed = Exchange(url="https://api.example/", sent=Fields(BEARER.items()), failure="ProxyError: 407 Proxy Auth")
    assert diagnose(Facts(exchanges=(failed,))).first.id == "proxy-authentication"
    refused = Exchange(url="https://api.example/", sent=Fields(BEARER.items()), failure="ConnectError: refused, 407")
    assert diagnose(Facts(exchanges=(refused,))).findings == ()


def test_the_name_of_a_gateway_alone_tells_nothing():
    """Server: cloudflare is on every answer that passes through it."""
    for name in ("cloudflare", "nginx", "envoy", "AkamaiGHost-like", "awselb/2.0", "Apache"):
        found = ids(401, {"WWW-Authenticate": 'Bearer error="invalid_token"', "Server": name}, {"message": "no"})
        assert not {"gateway-answered", "blocked-on-the-way"} & set(found), name


def test_kong_is_not_blamed_for_what_the_api_says():
    """With an upstream's latency in the answer, Kong has asked the API."""
    own = {"X-Kong-Response-Latency": "1"}
    assert "gateway-answered" in ids(401, own)
    assert "gateway-answered" not in ids(401, {"X-Kong-Upstream-Latency": "3", **own})


@pytest.mark.parametrize(
    ("value", "is_wrong"),
    [
        ("Bearer", False),
        ("Negotiate", False),
        ("NTLM TlRMTVNTUAACAAAAAAAAACgAAAABggAA", False),
        ('Bearer realm="a, b", error="invalid_token", error_description="it has \\"quotes\\""', False),
        ("Bearer error=invalid_token", False),
        ('Basic realm="x", Bearer realm="y"', False),
        ("Basic , Bearer", False),
        ('Digest realm="x", qop="auth,auth-int", nonce=abc, algorithm=MD5', False),
        ("Bearer realm=", False),  # that is token68
        ("", False),
        ('{"error": "unauthorized"}', True),
        ("Bearer realm=“api”", True),
        ('realm="api"', True),
        ('Bearer realm="api', True),
        ("Bearer error=invalid_token error_description=The token expired", True),
        ("Bearer realm=https://api.example/x", True),
        ("Please log in first", True),
        ('"Bearer"', True),
    ],
)
def test_a_malformed_challenge_is_told_from_an_odd_one(value, is_wrong):
    """By the grammar of RFC 9110 §11, not by taste."""
    assert (_wrong_with(value) is not None) is is_wrong


def test_a_preflight_in_hand_is_read():
    """Somebody who logs a refused preflight learns that it never carries a credential."""
    sent = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    assert "cors-preflight" in ids(401, sent=sent, method="OPTIONS")
    assert "cors-preflight" not in ids(401, sent={"Origin": "https://app.example"}, method="OPTIONS")
    assert ids(401, sent={**BEARER, "Origin": "https://app.example"}).count("cors-origin") == 0


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, "Token has expired", "403-means-401"),
        (403, "Invalid API key", "403-means-401"),
        (403, "Not authenticated", "403-means-401"),
        (403, "You do not have permission", "forbidden"),
        (403, "Forbidden", "forbidden"),
        (401, "Insufficient privileges for this operation", "401-means-403"),
    ],
)
def test_403_and_401_are_told_apart_by_words(status, body, expected):
    """What the words say counts, where the status says another thing."""
    found = ids(status, {"WWW-Authenticate": "Bearer"} if status == 401 else {}, {"message": body})
    both = {"403-means-401", "forbidden", "401-means-403"}
    assert [one for one in found if one in both] == [expected]


@pytest.mark.parametrize("status", [200, 204, 304, 404, 409, 429, 500, 502, 503])
@pytest.mark.parametrize("body", ["", "missing token", {"error": "Forbidden"}, [1], "null", '{"errors": 7}'])
def test_an_answer_that_refuses_nothing_has_no_cause(status, body):
    """However an answer that is no refusal is worded, nobody of the way, the browser or the conduct is blamed."""
    assert ids(status, body=body) == []


def test_data_with_401_in_it_is_data():
    """A record of a delivery that got 401 is what was asked for."""
    for body in ({"status": 401}, {"code": 401, "message": "delivered"}, {"status": [401]}, {"code": {"a": 1}}):
        assert ids(200, body=body) == []
    assert ids(200, body={"code": 401, "message": "Unauthorized"}) == ["200-means-401"]


def test_nothing_raises_on_odd_fields(caplog):
    """Fields of any shape are looked at, and no cause of these rooms ends in a defect."""
    odd = ["", ",", "=", '"', "é", "x" * 20_000, "Bearer " + "a=b, " * 5_000]
    with caplog.at_level(logging.ERROR):
        for value in odd:
            for status in (200, 301, 401, 403):
                names = ("WWW-Authenticate", "Location", "Set-Cookie", "Access-Control-Allow-Origin", "Via", "Server")
                received = Fields((name, value) for name in names)
                for role in ("asked", "preflight"):
                    one = Exchange(sent=Fields([("Cookie", value)]), status=status, received=received, body=value)
                    other = Exchange(role=role, sent=one.sent, status=status, received=received, body=value)
                    diagnose(Facts(exchanges=(one, other), browser_origin=value))
    assert not caplog.records
