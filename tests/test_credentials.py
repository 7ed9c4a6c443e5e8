"""What goes on a request, and where it may go."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import httpx
import httpx2
import pytest

from httpx_tokenflow import APIKeyAuth, BearerAuth, ConfigurationError, InvalidCredential, OriginNotAllowed
from httpx_tokenflow._credentials import InCookie, InQuery, cookie_value
from httpx_tokenflow._origins import Origins, check_endpoint
from httpx_tokenflow._sealing import seal

LIBRARIES = [httpx, httpx2]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/x",
        "http://127.0.0.1:8000/",
        "http://127.9.9.9/",
        "http://[::1]:1/",
        "http://localhost/",
    ],
)
def test_without_origins_any_https_and_loopback(url: str) -> None:
    """Unpinned, a credential goes to any https origin, and over plain http to loopback."""
    Origins(None, httpx.URL).check(httpx.URL(url))


@pytest.mark.parametrize(
    "url", ["http://api.example.com/", "http://10.0.0.1/", "http://localhost.example/", "ws://a.b/"]
)
def test_never_in_the_clear(url: str) -> None:
    """Over anything but https a credential leaves the machine for nobody."""
    for origins in (Origins(None, httpx.URL), Origins(["https://api.example.com"], httpx.URL)):
        with pytest.raises(OriginNotAllowed):
            origins.check(httpx.URL(url))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/x?y", True),
        ("https://API.example.com:443/", True),
        ("https://api.example.com:8443/", False),
        ("https://api.example.com.evil.example/", False),
        ("https://evil.example/", False),
        ("https://user:pw@api.example.com/", True),
        ("https://api.example.com@evil.example/", False),
        ("https://bücher.example/", True),
        ("http://127.0.0.1:8000/", True),
        ("http://127.0.0.1:8001/", False),
        ("https://[2001:db8::1]/", True),
    ],
)
@pytest.mark.parametrize("library", LIBRARIES)
def test_pinned_origins(library: object, url: str, allowed: bool) -> None:
    """Pinned, a credential goes to scheme, host and port as given, and nowhere else; asking twice changes nothing."""
    origins = Origins(
        ["https://api.example.com", "https://bücher.example", "http://127.0.0.1:8000/", "https://[2001:db8::1]"],
        library.URL,
    )
    for _ in range(2):
        if allowed:
            origins.check(library.URL(url))
        else:
            with pytest.raises(OriginNotAllowed):
                origins.check(library.URL(url))


@pytest.mark.parametrize(
    "origins",
    [
        "https://api.example.com",
        [],
        [""],
        ["api.example.com"],
        ["https://"],
        ["https://a.example/path"],
        ["https://a.example?x"],
        ["https://user@a.example"],
        ["ftp://a.example"],
        ["http://a.example"],
        ["https://a.example:port"],
        ["https://[::1"],
        [None],
        [7],
    ],
)
def test_bad_origins_are_refused_at_once(origins: object) -> None:
    """What is not an origin is an error at construction that says what to write."""
    with pytest.raises(ConfigurationError):
        BearerAuth("t", origins=origins)


@pytest.mark.parametrize(
    "url",
    [None, "", "auth.example.com", "/token", "ftp://a.example/", "http://a.example/", "https://u:p@a.example/",
     "https://a.example/#f", "http://[::1"],
)  # fmt: skip
def test_bad_endpoints_are_refused_at_once(url: str | None) -> None:
    """A token endpoint is https, or loopback, without user and fragment; the error does not quote a password."""
    with pytest.raises(ConfigurationError) as caught:
        check_endpoint(url, "token_endpoint")
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_sealed_header_is_there_for_who_reads_and_not_for_who_copies(library: object) -> None:
    """Every reading method of sealed headers shows the field; a copy, as a redirect makes one, does not (F15)."""
    sealed = seal(library.Headers([("Accept", "a"), ("Accept", "b")]), {"X-API-Key": "SENTINEL"})
    assert sealed["x-api-key"] == sealed.get("X-API-Key") == "SENTINEL"
    assert "x-api-key" in sealed
    assert (b"X-API-Key", b"SENTINEL") in sealed.raw
    assert dict(sealed) == dict(sealed.items()) == {"accept": "a, b", "x-api-key": "SENTINEL"}
    assert list(sealed.keys()) == ["accept", "x-api-key"]
    assert list(sealed.values()) == ["a, b", "SENTINEL"]
    assert sealed.get_list("accept") == ["a", "b"]
    assert ("x-api-key", "SENTINEL") in sealed.multi_items()
    assert len(sealed) == 3
    assert "SENTINEL" not in repr(sealed)
    assert "SENTINEL" not in str(library.Headers(sealed).raw)


@pytest.mark.parametrize("library", LIBRARIES)
def test_sealed_headers_can_be_changed(library: object) -> None:
    """A hook that sets, updates or deletes headers changes what is sent, and what a redirect copies."""
    sealed = seal(library.Headers({"A": "1", "C": "3"}), {"K": "SENTINEL"})
    sealed["B"] = "2"
    sealed.update({"A": "9"})
    del sealed["C"]
    assert dict(sealed) == {"a": "9", "b": "2", "k": "SENTINEL"}
    assert dict(library.Headers(sealed)) == {"a": "9", "b": "2"}
    del sealed["K"]
    assert "k" not in sealed
    with pytest.raises(KeyError):
        del sealed["K"]


def test_a_library_that_copies_otherwise_is_refused() -> None:
    """If a copy carried the field along, the key would not be sent at all."""

    class Otherwise(httpx.Headers):
        def __init__(self, headers: object = None) -> None:
            super().__init__(headers.raw if isinstance(headers, httpx.Headers) else headers)

    with pytest.raises(ConfigurationError, match="redirect"):
        seal(Otherwise(), {"K": "v"})


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("query", ["", "?a=b+c&a=%20d", "?key=mine&x", "?k"])
def test_a_key_in_the_query_is_put_and_taken_off(library: object, query: str) -> None:
    """The parameter is added to the query as it is, and taken off without a trace."""
    request = library.Request("GET", f"https://api.example.com/{query}")
    place, before = InQuery("api key"), str(request.url)
    assert not place.is_on(request)
    place.put(request, SimpleNamespace(value="S/E N"))
    assert request.url.params["api key"] == "S/E N"
    assert place.is_on(request)
    place.take_off(request)
    assert str(request.url) == before


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_url_with_a_key_in_it_does_not_show_it(library: object, caplog: pytest.LogCaptureFixture) -> None:
    """The key is on the wire, and neither in httpx's log of URLs nor in what a hook or an error prints (F19)."""
    caplog.set_level(logging.INFO)
    printed = []

    def api(request: object) -> object:
        return library.Response(200, text=request.url.query.decode())

    hooks = {"request": [lambda request: printed.append(f"{request.url} {request.url!r} {request!r}")]}
    auth = APIKeyAuth("SENTINEL", query="api_key")
    with library.Client(transport=library.MockTransport(api), auth=auth, event_hooks=hooks) as client:
        response = client.get("https://api.example.com/?x=1")
    assert response.text == "x=1&api_key=SENTINEL"
    assert "https://api.example.com/?x=1" in caplog.text
    assert "SENTINEL" not in caplog.text + str(printed) + str(response.url)


@pytest.mark.parametrize("key", ["", "k\n", " k", "k\r\nX: y", "k\u00e9y", "k\x7f", None])
def test_bad_keys_are_refused_at_once(key: object) -> None:
    """A key that no header can carry is refused at construction and not quoted (F17, F72)."""
    for make in (APIKeyAuth, BearerAuth):
        with pytest.raises(InvalidCredential) as caught:
            make(key)
        assert not key or repr(key) not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"header": ""}, {"header": "X Key"}, {"header": "X:Y"}, {"prefix": "a\n"}, {"prefix": "é"},
     {"query": "k", "header": "H"}, {"query": "k", "prefix": "p"}],
)  # fmt: skip
def test_bad_placements_are_refused_at_once(options: dict[str, str]) -> None:
    """Names that are none, and placements that contradict each other, are errors at construction."""
    with pytest.raises(ConfigurationError):
        APIKeyAuth("k", **options)


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (BearerAuth("t"), "authorization", "Bearer t"),
        (BearerAuth(lambda: "t"), "authorization", "Bearer t"),
        (APIKeyAuth("k"), "x-api-key", "k"),
        (APIKeyAuth("k", header="Authorization", prefix="ApiKey "), "authorization", "ApiKey k"),
        (APIKeyAuth("k", header="X-Token", prefix="v1:"), "x-token", "v1:k"),
    ],
)
@pytest.mark.parametrize("library", LIBRARIES)
def test_where_a_credential_is_put(library: object, auth: object, name: str, value: str) -> None:
    """Each credential is put where it was asked for, once, and the request shows no sealed key afterwards."""
    transport = library.MockTransport(lambda request: library.Response(200, json=request.headers.get_list(name)))
    with library.Client(transport=transport, auth=auth) as client:
        for _ in range(2):
            response = client.get("https://api.example.com")
            assert response.json() == [value]
            assert name == "authorization" or name not in response.request.headers


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_callable_is_asked_again_on_a_401(library: object) -> None:
    """A callable is asked before the first request and once after a 401; a fixed credential is not asked for."""
    asked = iter(["old", "new"])
    good = {"Bearer new"}

    def api(request: object) -> object:
        return library.Response(200 if request.headers["authorization"] in good else 401)

    with library.Client(transport=library.MockTransport(api), auth=BearerAuth(lambda: next(asked))) as client:
        assert [client.get("https://api.example.com").status_code for _ in range(3)] == [200] * 3
    with library.Client(transport=library.MockTransport(api), auth=BearerAuth("old")) as client:
        assert client.get("https://api.example.com").status_code == 401
    assert list(asked) == []


@pytest.mark.parametrize(
    "token", ["v", "eyJ.a-b_c", "a=b==", "!#$%&'()*+-./:<=>?@[]^_`{|}~", '"v"', '"Bearer v"', '"a, b"', r'"a\073\"b"']
)
def test_what_a_cookie_can_carry(token: str) -> None:
    """Cookie-octets, and what servers put into quotes, go as they are (RFC 6265 §4.1.1, §5.4)."""
    assert cookie_value(token) == token


@pytest.mark.parametrize(
    "token",
    ["v; admin=1", "v;", "a,b", "a b", "a\\b", 'a"b', '"a', 'a"', '"', '""', '"a"b"', '"a; b"', '"a\\', '"a\\"',
     '"a\\;"', "", " v", "v\n", "v\x7f", "v\u00e9", '"\u00e9"', None],
)  # fmt: skip
def test_what_a_cookie_cannot_carry(token: Any) -> None:
    """A token that would end early, or be read as two cookies, is refused and not quoted (F17)."""
    with pytest.raises(InvalidCredential) as caught:
        cookie_value(token)
    assert not token or len(token) < 3 or repr(token)[1:-1] not in str(caught.value)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("before", "sent"),
    [
        ([], "sid=new"),
        (["a=1"], "a=1; sid=new"),
        (["sid=old; a=1; xsid=2; sid = older ;sid"], "a=1; xsid=2; sid=new"),
        (["a=1", "sid=old"], "a=1; sid=new"),
    ],
)
def test_a_cookie_takes_the_place_of_one_of_its_name(library: Any, before: list[str], sent: str) -> None:
    """What the jar has put there of that name is not sent beside ours; afterwards the request is as it was."""
    request = library.Request("GET", "https://api.example.com", headers=[("Cookie", one) for one in before])
    place, held = InCookie("sid"), SimpleNamespace(value="new")
    for _ in range(2):
        assert not place.is_on(request)
        place.put(request, held)
        assert request.headers.get_list("Cookie") == [sent]
        assert place.carries(request, held)
        place.take_off(request)
        assert request.headers.get_list("Cookie") == before
