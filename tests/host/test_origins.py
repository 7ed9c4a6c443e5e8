"""Origins: a credential that may not go somewhere has not gone there."""

from __future__ import annotations

import pytest
from host.hands import KEY, TLS, fresh_sandbox

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    OriginNotAllowed,
    RenewalPolicy,
    TokenAuth,
)
from httpx_tokenflow._token_client import TokenClient
from httpx_tokenflow.testing import serve

MAKES = {
    "TokenAuth": lambda origins: TokenAuth(
        ClientCredentials("https://auth.example.com/token", client_id="c", client_secret="SENTINEL-secret"),
        origins=origins,
        verify=TLS,
    ),
    "BearerAuth": lambda origins: BearerAuth("SENTINEL-token", origins=origins),
    "APIKeyAuth": lambda origins: APIKeyAuth(KEY, origins=origins),
    "APIKeyAuth in Authorization": lambda origins: APIKeyAuth(KEY, header="Authorization", origins=origins),
    "APIKeyAuth in the query": lambda origins: APIKeyAuth(KEY, query="api_key", origins=origins),
}

IDNA = "https://b\u00fccher.example"
SHARP_S = "https://stra\u00dfe.example"

ALLOWED = [  # origins=, URL
    (None, "https://api.example.com/x"),
    (None, "https://api.example.com:8443/x"),
    (None, "https://192.0.2.1/x"),
    (None, "http://127.0.0.1:8000/x"),
    (None, "http://127.1.2.3/x"),
    (None, "http://localhost/x"),
    (None, "http://LOCALHOST:8000/x"),
    (None, "http://[::1]:8000/x"),
    (None, "http://[0:0:0:0:0:0:0:1]/x"),
    (["https://api.example.com"], "https://api.example.com/x?a=1#f"),
    (["https://api.example.com/"], "https://api.example.com:443/x"),
    (["https://api.example.com:443"], "https://api.example.com/x"),
    (["HTTPS://API.Example.COM"], "https://api.example.com/x"),
    (["https://api.example.com"], "HTTPS://API.EXAMPLE.COM/x"),
    (["https://api.example.com"], "https://user:pass@api.example.com/x"),
    (["https://api.example.com:8443"], "https://api.example.com:8443/x"),
    (("https://a.example", "https://b.example"), "https://b.example/x"),
    (["http://127.0.0.1:8000"], "http://127.0.0.1:8000/x"),
    (["http://127.0.0.1:80"], "http://127.0.0.1/x"),
    (["http://localhost"], "http://localhost:80/x"),
    (["http://[::1]:8000"], "http://[::1]:8000/x"),
    (["https://[2001:db8::1]"], "https://[2001:DB8::1]/x"),
    ([IDNA], f"{IDNA}/x"),
    ([IDNA.upper()], f"{IDNA}/x"),
    ([IDNA], "https://xn--bcher-kva.example/x"),
    (["https://xn--bcher-kva.example"], f"{IDNA}/x"),
    ([SHARP_S], f"{SHARP_S}/x"),
]

REFUSED = [
    (None, "http://api.example.com/x"),
    (None, "http://192.0.2.1/x"),
    (None, "http://0.0.0.0/x"),
    (None, "http://[2001:db8::1]/x"),
    (None, "http://localhost.example.com/x"),
    (None, "http://127.0.0.1.example.com/x"),
    (None, "http://127.1/x"),  # some resolvers make 127.0.0.1 of it; we do not guess
    (None, "http://2130706433/x"),
    (None, "http://127.0.0.1@api.example.com/x"),
    (["https://api.example.com"], "https://api.example.com:8443/x"),
    (["https://api.example.com:8443"], "https://api.example.com/x"),
    (["https://api.example.com"], "http://api.example.com/x"),
    (["https://api.example.com"], "https://example.com/x"),
    (["https://api.example.com"], "https://a.api.example.com/x"),
    (["https://api.example.com"], "https://api.example.com.evil.example/x"),
    (["https://api.example.com"], "https://api.example.com@evil.example/x"),
    (["https://api.example.com"], "https://evil.example/https://api.example.com/"),
    (["https://api.example.com"], "https://api.example.com./x"),
    (["https://api.example.com"], "http://127.0.0.1:8000/x"),
    (["http://127.0.0.1:8000"], "http://127.0.0.1:8001/x"),
    (["http://127.0.0.1:8000"], "http://localhost:8000/x"),
    (["http://127.0.0.1:8000"], "http://[::1]:8000/x"),
    (["https://127.0.0.1:8000"], "http://127.0.0.1:8000/x"),
    ([IDNA], "https://bucher.example/x"),
    ([SHARP_S], "https://strasse.example/x"),
]


# Each library has a way of its own to read URLs; whether the client is sync or async makes no difference to that.
_EITHER_LIBRARY = pytest.mark.parametrize("hand", ["httpx-sync", "httpx2-async"], indirect=True)


class Tape:
    """An API in memory that remembers where requests went, and is the token endpoint, too."""

    def __init__(self, hand):
        self.hand = hand
        self.sent = []

    def __call__(self, request):
        self.sent.append(str(request.url))
        return self.hand.library.Response(200, json={"access_token": "SENTINEL-token", "expires_in": 60})


def _ask(hand, auth, url):
    """Send one request; the requests that went out, and the answer or the error."""
    tape = Tape(hand)
    client = hand.client(transport=hand.transport(tape), auth=auth)
    if isinstance(auth, TokenAuth):
        auth._client = TokenClient(client.raw, verify=True, policy=RenewalPolicy())  # the auth's own is for many
    (answer,) = client.together(1, "GET", url)
    return tape.sent, answer


@_EITHER_LIBRARY
@pytest.mark.parametrize(("origins", "url"), REFUSED, ids=str)
def test_where_it_may_not_go_nothing_is_sent(hand, origins, url):
    """A request to where the credential may not go is an error before anything is sent."""
    sent, error = _ask(hand, BearerAuth("SENTINEL-token", origins=origins), url)
    assert isinstance(error, OriginNotAllowed), error
    assert isinstance(error, hand.library.HTTPError)
    assert sent == []
    assert "pass" not in str(error)


@pytest.mark.parametrize(("origins", "url"), [REFUSED[0], REFUSED[9], REFUSED[12]], ids=str)
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_no_kind_of_credential_goes_where_it_may_not(hand, make, origins, url):
    """That holds for every kind of credential, and there is no token request either."""
    sent, error = _ask(hand, make(origins), url)
    assert isinstance(error, OriginNotAllowed), error
    assert isinstance(error, hand.library.HTTPError)
    assert sent == []
    assert "SENTINEL" not in str(error)


@_EITHER_LIBRARY
@pytest.mark.parametrize(("origins", "url"), ALLOWED, ids=str)
def test_where_it_may_go_it_goes(hand, origins, url):
    """A request to an allowed origin goes out, however origin and URL are spelt."""
    sent, answer = _ask(hand, BearerAuth("SENTINEL-token", origins=origins), url)
    assert not isinstance(answer, Exception), answer
    assert len(sent) == 1


def test_origins_may_be_a_generator(hand):
    """Whatever can be iterated over, once, will do for origins=."""
    auth = BearerAuth("SENTINEL-token", origins=(one for one in ["https://a.example"]))
    assert _ask(hand, auth, "https://a.example/")[1].status_code == 200
    assert isinstance(_ask(hand, auth, "https://b.example/")[1], OriginNotAllowed)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_what_was_allowed_once_opens_no_other_door(hand, make):
    """After requests to an allowed origin, the fast path included, another one is refused as before."""
    auth = make(["https://api.example.com"])
    for _ in range(3):
        sent, answer = _ask(hand, auth, "https://api.example.com/")
        assert answer.status_code == 200
        for url in ("https://evil.example/", "http://api.example.com/", "https://api.example.com:444/"):
            sent, error = _ask(hand, auth, url)
            assert isinstance(error, OriginNotAllowed)
            assert sent == []


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_without_origins_plain_http_is_refused_also_after_https(hand, make):
    """Without origins= a request over plain http is refused also when one over https to the same host has gone out."""
    auth = make(None)
    for _ in range(2):
        assert _ask(hand, auth, "https://api.example.com/")[1].status_code == 200
        sent, error = _ask(hand, auth, "http://api.example.com/")
        assert isinstance(error, OriginNotAllowed)
        assert sent == []


BAD = [
    (),
    [],
    "https://api.example.com",
    b"https://api.example.com",
    5,
    True,
    [""],
    [None],
    [5],
    [b"https://api.example.com"],
    ["api.example.com"],
    ["//api.example.com"],
    ["https:"],
    ["https://"],
    ["https://:443"],
    ["ftp://api.example.com"],
    ["file:///etc/passwd"],
    ["https://api.example.com/v1"],
    ["https://api.example.com?a=1"],
    ["https://api.example.com#f"],
    ["https://api.example.com:port"],
    ["https://api.example.com:99999"],
    ["https://user:SENTINEL@api.example.com"],
    ["https://SENTINEL@api.example.com"],
    ["https://[::1"],
    ["https://api.exa mple.com"],
    ["https://" + "a" * 64 + "\u00fc.example"],
    ["http://api.example.com"],
    ["http://192.0.2.1:8000"],
    ["https://api.example.com", "nonsense"],
]


@pytest.mark.parametrize("origins", BAD, ids=repr)
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_what_is_no_origin_is_refused_at_construction(make, origins):
    """origins= with something in it that is no origin, or empty, is a ConfigurationError that quotes no user."""
    with pytest.raises(ConfigurationError) as refused:
        make(origins)
    assert "SENTINEL" not in str(refused.value)


@pytest.mark.parametrize("hand", ["httpx2-sync", "httpx2-async"], indirect=True)
def test_a_websocket_over_tls_is_as_good_as_https(hand):
    """httpx2 sends the handshake of a websocket to wss://: the credential may go there as well as to https://."""
    _sent, answer = _ask(hand, BearerAuth("SENTINEL-token"), "wss://api.example.com/ws")
    assert not isinstance(answer, Exception), answer


def test_over_ipv6_loopback(hand):
    """::1 is loopback: plain http goes there, pinned or not (F15)."""
    sandbox = fresh_sandbox()
    with serve(sandbox, host="::1") as url:
        for origins in (None, [url]):
            auth = APIKeyAuth(KEY, origins=origins)
            assert hand.client(base_url=url, auth=auth).get("/api-key/x").status_code == 200


def test_over_real_connections_nothing_reaches_the_wrong_port(hand, home, away):
    """Bound to one port of this machine, a credential, and the request, never reach another."""
    auth = home.auth(origins=[home.url])
    client = hand.client(auth=auth)
    assert client.get(f"{home.url}/api/x").status_code == 200
    for url in (away.url, home.url.replace("127.0.0.1", "localhost")):
        (error,) = client.together(1, "GET", f"{url}/api/x")
        assert isinstance(error, OriginNotAllowed)
    assert away.sandbox.seen == []
    assert {seen.headers["host"] for seen in home.sandbox.seen} == {home.url.removeprefix("http://")}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://auth.example.com/token",
        "http://192.0.2.1/token",
        "auth.example.com/token",
        "/token",
        "",
        None,
        "ftp://auth.example.com/token",
        "https:///token",
        "https://user:SENTINEL@auth.example.com/token",
        "https://auth.example.com/token#f",
    ],
)
def test_a_token_endpoint_that_secrets_may_not_go_to_is_refused(endpoint):
    """A token endpoint is https, or loopback, with neither user nor fragment (RFC 6749 §3.2)."""
    with pytest.raises(ConfigurationError) as refused:
        ClientCredentials(endpoint, client_id="c", client_secret="s")
    assert "SENTINEL" not in str(refused.value)
