"""The loopback redirect, with real sockets: who is answered how, who is not waited for, and what is left afterwards."""

from __future__ import annotations

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from httpx_tokenflow import ConfigurationError, _loopback
from httpx_tokenflow._loopback import Closed, Listener, Stray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

LIMIT = 20.0  # seconds; only against hanging
URI = "http://127.0.0.1:0/callback"


def judge(target: str) -> str | None:
    """As a login would: one with `state=mine` is ours, and one of these may be an error."""
    if "state=mine" not in target:
        raise Stray("It is another one.")
    return "it went <wrong> & badly" if "error" in target else None


@contextmanager
def waiting(uri: str = URI, seconds: float = LIMIT) -> Iterator[tuple[Listener, Future[str]]]:
    """A listener, and what the wait for its answer brings."""
    listener = Listener(uri)
    listener.serve(judge, seconds)
    with ThreadPoolExecutor(1) as pool:
        try:
            yield listener, pool.submit(listener.wait)
        finally:
            listener.close()
    assert not is_open(listener), "it outlives its use"


def get(listener: Listener, query: str = "?state=mine&code=c", **options: Any) -> httpx.Response:
    return httpx.get(listener.redirect_uri + query, timeout=LIMIT, trust_env=False, **options)


def connected(listener: Listener) -> socket.socket:
    parts = urlsplit(listener.redirect_uri)
    return socket.create_connection((parts.hostname, parts.port), timeout=LIMIT)


def is_open(listener: Listener) -> bool:
    try:
        connected(listener).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_answer_comes_through_and_nothing_is_left(host: str) -> None:
    """On each loopback name a free port is found, the answer handed over, the page shown, and the port free again."""
    with waiting(f"http://{host}:0/callback") as (listener, answer):
        assert listener.redirect_uri.startswith(f"http://{host}:")
        assert not listener.redirect_uri.startswith(f"http://{host}:0/")
        page = get(listener, "?state=mine&code=c%20d")
        assert answer.result(LIMIT) == "/callback?state=mine&code=c%20d"
        assert page.status_code == 200
        assert "close this page" in page.text
        assert not is_open(listener)


def test_localhost_is_both_addresses() -> None:
    """Which of the two a browser takes for `localhost` is up to it."""
    for address in ("127.0.0.1", "::1"):
        with waiting("http://localhost:0/callback") as (listener, answer):
            port = urlsplit(listener.redirect_uri).port
            with socket.create_connection((address, port), timeout=LIMIT) as browser:
                browser.sendall(b"GET /callback?state=mine HTTP/1.1\r\n\r\n")
                assert browser.recv(12) == b"HTTP/1.1 200"
            assert answer.result(LIMIT)


def test_a_page_tells_nobody_anything() -> None:
    """The page is not kept, not framed, runs nothing, and the code in its address goes nowhere."""
    with waiting() as (listener, _):
        page = get(listener)
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-content-type-options"] == "nosniff"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'none'" in policy


def test_what_went_wrong_is_shown_escaped() -> None:
    """An answer that is an error is an answer; the person reads why, and no server writes HTML here."""
    with waiting() as (listener, answer):
        page = get(listener, "?state=mine&error=no")
        assert page.status_code == 400
        assert "it went &lt;wrong&gt; &amp; badly" in page.text
        assert "login failed" not in page.text  # which is for the reason to say, once
        assert answer.result(LIMIT) == "/callback?state=mine&error=no"


@pytest.mark.parametrize(
    "what",
    [
        "GET /favicon.ico",
        "GET /",
        "GET /callback/",
        "GET /%63allback?state=mine",
        "GET //callback?state=mine",
        "POST /callback?state=mine",
        "HEAD /callback?state=mine",
    ],
)
def test_everything_else_is_not_found(what: str) -> None:
    """Another path or another method is not found, and the waiting goes on."""
    with waiting() as (listener, answer):
        with connected(listener) as browser:
            browser.sendall(f"{what} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert browser.recv(100).startswith(b"HTTP/1.1 404 ")
        assert not answer.done()
        get(listener)
        assert answer.result(LIMIT) == "/callback?state=mine&code=c"


def test_the_root_as_the_path() -> None:
    """A redirect URI may have no path at all; then a POST to it is not found either."""
    with waiting("http://127.0.0.1:0") as (listener, answer):
        with connected(listener) as browser:
            browser.sendall(b"POST /?state=mine HTTP/1.1\r\n\r\n")
            assert browser.recv(100).startswith(b"HTTP/1.1 404 ")
        assert not answer.done()
        get(listener, "/?state=mine")
        assert answer.result(LIMIT) == "/?state=mine"


def test_the_answer_to_another_login_does_not_end_this_one() -> None:
    """Any page in a browser can send a request here: what is not ours gets told so, and the waiting goes on."""
    with waiting() as (listener, answer):
        page = get(listener, "?state=other&code=SENTINEL")
        assert page.status_code == 400
        assert "another one" in page.text
        assert "SENTINEL" not in page.text
        assert not answer.done()
        get(listener)
        assert answer.result(LIMIT)


def test_who_says_nothing_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are opened and not used, or half used, do not hold up the one that speaks."""
    with waiting() as (listener, answer):
        silent = [connected(listener) for _ in range(5)]
        silent[0].sendall(b"GET /callback?state=mi")
        assert get(listener).status_code == 200
        assert answer.result(LIMIT)
        for one in silent:
            one.close()


@pytest.mark.parametrize("uri", [URI, "http://localhost:0/callback", "http://[::1]:0/callback"])
def test_nobody_else_can_come(uri: str) -> None:
    """It listens on loopback and nowhere else, and nothing about it blocks."""
    listener = Listener(uri)
    try:
        addresses = {door.getsockname()[0] for door in listener._doors}
        assert addresses <= {"127.0.0.1", "::1"}
        assert not any(door.getblocking() for door in listener._doors)
        with connected(listener):
            until = time.monotonic() + LIMIT
            while (guest := _loopback._welcome(listener._doors[0])) is None and time.monotonic() < until:
                time.sleep(0.001)
            with guest:
                assert not guest.getblocking()
                assert _loopback._hear(_loopback._Connection(guest, 0.0)) is None
    finally:
        listener.close()


def test_a_crowd_of_silent_ones_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are places for so many at most: the oldest have to go, and who speaks is heard at once."""
    monkeypatch.setattr(_loopback, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(_loopback, "READ_TIMEOUT", 10 * LIMIT)
    with waiting() as (listener, answer):
        silent = [connected(listener) for _ in range(10)]
        assert [one.recv(1) for one in silent[:7]] == [b""] * 7
        assert get(listener).status_code == 200
        assert answer.result(LIMIT)
        for one in silent:
            one.close()


def test_who_is_silent_for_long_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place has to be used in time, however much of a request is there already."""
    monkeypatch.setattr(_loopback, "READ_TIMEOUT", 0.3)
    with waiting() as (listener, answer), connected(listener) as silent:
        silent.sendall(b"GET /callback?state=mine HTTP/1.1\r\n")
        assert silent.recv(1) == b""
        assert not answer.done()


def test_slow_requests_are_read_in_pieces() -> None:
    """A request may come byte by byte."""
    with waiting() as (listener, answer), connected(listener) as browser:
        for byte in b"GET /callback?state=mine HTTP/1.1\r\nHost: x\r\n\r\n":
            browser.sendall(bytes([byte]))
        assert browser.recv(100).startswith(b"HTTP/1.1 200 ")
        assert answer.result(LIMIT)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET http://127.0.0.1/callback?state=mine HTTP/1.1\r\n\r\n",
        b"GET /callback?state=mine HTTP/2\r\n\r\n",
        b"GET /callback?state=mine\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_request_gets_no_answer(garbage: bytes) -> None:
    """TLS, another protocol, or nothing at all: the connection is closed, the waiting goes on."""
    with waiting() as (listener, answer):
        with connected(listener) as browser:
            browser.sendall(garbage)
            browser.shutdown(socket.SHUT_WR)
            assert browser.recv(100) == b""
        assert not answer.done()


def test_a_request_is_bounded() -> None:
    """Who sends and sends is cut off."""
    with waiting() as (listener, answer), connected(listener) as browser:
        sent = 0
        with pytest.raises(OSError):  # noqa: PT012 - whichever call finds out
            while sent < 100 * _loopback.MAX_REQUEST:
                sent += browser.send(b"GET /callback?state=mine" + b"x" * 8192)
        assert not answer.done()


def test_who_leaves_at_once_has_brought_it_all_the_same() -> None:
    """The browser is gone before its page is there: the answer counts."""
    with waiting() as (listener, answer):
        with connected(listener) as browser:
            browser.sendall(b"GET /callback?state=mine HTTP/1.1\r\n\r\n")
        assert answer.result(LIMIT) == "/callback?state=mine"
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        _loopback._say(ours, "200 OK", "title", "text")


def test_who_knocks_and_leaves_holds_nobody_up() -> None:
    """A connection that is gone before it is accepted is nobody's."""
    listener = Listener(URI)
    try:
        assert _loopback._welcome(listener._doors[0]) is None
    finally:
        listener.close()


def test_a_connection_that_breaks() -> None:
    """One that is reset has said nothing, and the waiting goes on."""
    with waiting() as (listener, answer):
        broken = connected(listener)
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        broken.sendall(b"GET /callback?state=mine")
        broken.close()
        assert get(listener).status_code == 200
        assert answer.result(LIMIT) == "/callback?state=mine&code=c"


def test_localhost_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without IPv6 has one of the two addresses, and that will do."""
    make = _loopback._door

    def door(address: str, port: int) -> socket.socket:
        if ":" in address:
            raise OSError
        return make(address, port)

    monkeypatch.setattr(_loopback, "_door", door)
    with waiting("http://localhost:0/callback") as (listener, answer):
        assert get(listener).status_code == 200
        assert answer.result(LIMIT)


def test_it_ends_at_the_deadline() -> None:
    """Nobody came: that is said when it is time, not before, and the port is free."""
    began = time.monotonic()
    with waiting(seconds=0.5) as (listener, answer):
        assert isinstance(answer.exception(LIMIT), TimeoutError)
        assert 0.5 <= time.monotonic() - began < LIMIT / 2
        assert not is_open(listener)


def test_it_can_be_closed_from_elsewhere() -> None:
    """Who waits finds out within a moment, and the port is free."""
    with waiting() as (listener, answer):
        assert is_open(listener)
        began = time.monotonic()
        listener.close()
        listener.close()
        assert isinstance(answer.exception(LIMIT), Closed)
        assert time.monotonic() - began < LIMIT / 2
        assert not is_open(listener)


def test_closed_before_anybody_waited() -> None:
    """A listener that is not waited for is closed at once, and cannot be waited for any more."""
    listener = Listener(URI)
    assert is_open(listener)
    listener.close()
    assert not is_open(listener)
    with pytest.raises(Closed):
        listener.wait()


def test_what_the_judge_raises_ends_it() -> None:
    """A defect in there leaves nothing open."""

    def broken(_target: str) -> str | None:
        raise ZeroDivisionError

    listener = Listener(URI)
    listener.serve(broken, LIMIT)
    with connected(listener) as browser:
        browser.sendall(b"GET /callback HTTP/1.1\r\n\r\n")
        with pytest.raises(ZeroDivisionError):
            listener.wait()
    assert not is_open(listener)


def test_a_port_that_is_taken() -> None:
    """The error says which port it is, and what to do."""
    with waiting() as (listener, _):
        with pytest.raises(ConfigurationError, match="another port") as caught:
            Listener(listener.redirect_uri)
        assert str(urlsplit(listener.redirect_uri).port) in str(caught.value)


def test_the_same_port_again_at_once() -> None:
    """A port that is registered with the server can be listened at again right after a login."""
    uri = URI
    for _ in range(3):
        with waiting(uri) as (listener, answer):
            uri = listener.redirect_uri
            get(listener)
            assert answer.result(LIMIT)
