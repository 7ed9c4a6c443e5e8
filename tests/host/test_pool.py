"""Connections: nobody waits for a connection that those who wait with them hold (F26 to F29, F42, F43)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import socket
import threading
import time
from typing import ClassVar

import httpx
import hypercorn
import hypercorn.asyncio
import pytest
from host.hands import LIMIT, TLS, UNFINISHED, Crowd, chain, fresh_sandbox, until

from httpx_tokenflow import (
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    _bodies,
)
from httpx_tokenflow.testing import Drip, Endless, Silent, Truncated


def _limits(hand, number):
    return {
        "limits": hand.library.Limits(max_connections=number),
        "timeout": hand.library.Timeout(5.0, pool=3.0),
    }


# F26


@pytest.mark.parametrize("number", [5, 20])
def test_a_full_pool_of_401s_renews_once(any_hand, home, number):
    """Five connections and 5 or 20 requests that all get a 401: all 200, one token request, no PoolTimeout (F26)."""
    sandbox = home.put(fresh_sandbox(latency=0.02))
    home.app = Crowd(sandbox, 5)
    client = any_hand.client(base_url=home.url, auth=home.auth(), **_limits(any_hand, 5))
    answers = client.together(number, "GET", "/api/x")
    assert [getattr(answer, "status_code", answer) for answer in answers] == [200] * number
    assert sandbox.token_requests == 1
    assert sandbox.api_refused >= 5
    assert not client.busy()


def test_one_connection_is_enough(hand, home):
    """With a pool of a single connection a 401 is read before the renewal, so that the others come through (F26)."""
    sandbox = home.put(fresh_sandbox(latency=0.02))
    home.app = Crowd(sandbox, 1)
    client = hand.client(base_url=home.url, auth=home.auth(), **_limits(hand, 1))
    answers = client.together(6, "GET", "/api/x")
    assert [getattr(answer, "status_code", answer) for answer in answers] == [200] * 6
    assert sandbox.token_requests == 1


def test_streams_that_get_a_401_hold_no_connection(hand, home):
    """A 401 to a streamed request gives its connection back too, before anybody waits (F26)."""
    sandbox = home.put(fresh_sandbox(latency=0.02))
    home.app = Crowd(sandbox, 2)
    client = hand.client(base_url=home.url, auth=home.auth(), **_limits(hand, 2))
    requests = [client.raw.build_request("GET", "/api/x") for _ in range(2)]
    answers = hand.outcomes([hand.start(client.raw.send, request, stream=True) for request in requests])
    assert [getattr(answer, "status_code", answer) for answer in answers] == [200, 200]
    assert (sandbox.token_requests, sandbox.api_refused) == (1, 2)
    for answer in answers:
        assert b"subject" in hand.read(answer)


def test_the_api_client_itself_can_fetch_the_tokens(hand, home):
    """Given the very client of the requests, full pool and our auth included, renewals come through (F26, F29)."""
    sandbox = home.put(fresh_sandbox(latency=0.02))
    home.app = Crowd(sandbox, 5)
    client = hand.client(base_url=home.url, **_limits(hand, 5))
    client.raw.auth = home.auth(client=client.raw)
    answers = client.together(20, "GET", "/api/x")
    assert [getattr(answer, "status_code", answer) for answer in answers] == [200] * 20
    assert sandbox.token_requests == 1
    token_request = next(seen for seen in sandbox.seen if seen.path == "/token")
    assert token_request.headers["authorization"].startswith("Basic ")


def test_a_callable_that_asks_itself_is_told(any_hand, home):
    """A callable that sends its request through the very auth that asks it gets an error that says so (F29)."""
    client = any_hand.client(base_url=home.url)
    asking = {"sync": lambda: client.raw.get("/api/x").text, "async": _asking(client)}
    client.raw.auth = BearerAuth(asking["async" if any_hand.is_async else "sync"])
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, ConfigurationError)
    assert "the very auth" in str(error)
    assert home.sandbox.seen == []


def _asking(client):
    async def ask():
        return (await client.raw.get("/api/x")).text

    return ask


# F27


@pytest.fixture(scope="module")
def http2():
    """An HTTP/2 origin with four streams for each connection; whatever app is put on it.

    Without TLS (both sides know beforehand): httpcore's sync HTTP/2 reads in one thread while it writes in another, and
    before Python 3.13 one TLS connection cannot bear that. With a static header and no auth at all, 3 of 100 requests
    from twelve threads end in "Server disconnected" over TLS, none without.
    """
    config = hypercorn.Config()
    config.h2_max_concurrent_streams = 4
    config.accesslog = config.errorlog = None
    config.graceful_timeout = config.shutdown_timeout = 0.1
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config.bind = [f"fd://{listener.fileno()}"]
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    class Origin:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        options: ClassVar = {"http2": True, "http1": False, "timeout": 3.0}
        app = fresh_sandbox()

        def is_up(self):
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/open/x").is_success

    async def app(scope, receive, send):
        await origin.app(scope, receive, send)

    async def serve():
        await hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)

    origin = Origin()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    until(origin.is_up)
    yield origin
    loop.call_soon_threadsafe(stop.set)
    thread.join(LIMIT)
    loop.close()
    with contextlib.suppress(OSError):  # hypercorn has closed it already
        listener.close()


@pytest.mark.parametrize("number", [4, 12])
def test_a_full_http2_connection_renews_once(any_hand, home, http2, number):
    """Four streams and 4 or 12 requests that all get a 401: all 200, one token request, no hang (F27)."""
    for _ in range(3):
        sandbox = home.put(fresh_sandbox(latency=0.02))
        http2.app = Crowd(sandbox, 4)
        client = any_hand.client(base_url=http2.url, auth=home.auth(), **http2.options)
        answers = client.together(number, "GET", "/api/x")
        if not any("error_code:1," in str(answer) for answer in answers):
            break  # or else httpcore's threads have sent streams out of their order, which no server takes
    assert [getattr(answer, "status_code", answer) for answer in answers] == [200] * number
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert sandbox.token_requests == 1
    assert sandbox.api_refused >= 4


@pytest.mark.filterwarnings(UNFINISHED)
@pytest.mark.parametrize("fault", [Endless(), Drip(30.0)], ids=["endless", "silent"])
def test_an_http2_401_without_end_is_given_up(any_hand, home, http2, fault, monkeypatch):
    """On HTTP/2 too, a 401 that does not end is given up and the request sent again (F27, F43).

    Each one costs a stream for as long as the connection lives, with plain httpx as well: httpcore resets no stream
    that it closes early.
    """
    monkeypatch.setattr(_bodies, "MAX_SECONDS", 0.2)
    sandbox = http2.app = home.put(fresh_sandbox())
    sandbox.script(fault, on="api")
    client = any_hand.client(base_url=http2.url, auth=home.auth(), **http2.options)
    assert client.get("/api/x").status_code == 200
    assert (sandbox.api_requests, sandbox.token_requests) == (2, 1)
    gc.collect()


# F28


def _impatient(home, **options):
    grant = home.grant(ClientCredentials)
    return TokenAuth(grant, **{"policy": RenewalPolicy(budget=0.5, attempts=2)} | options)


@pytest.mark.parametrize("timeout", [None, 300.0, 0.1], ids=["no timeout", "300 s", "0.1 s"])
def test_a_silent_token_endpoint_fails_everybody_within_the_budget(any_hand, home, timeout):
    """All fail within the policy's budget, whatever the request's own timeout, with our error and its cause (F28)."""
    sandbox = home.sandbox
    sandbox.script(*[Silent()] * 4)
    client = any_hand.client(base_url=home.url, auth=_impatient(home), timeout=timeout)
    began = time.monotonic()
    errors = client.together(10, "GET", "/api/x")
    assert time.monotonic() - began < 5.0  # the budget is 0.5
    assert {type(error).__name__ for error in errors} == {"TokenEndpointUnavailable"}
    assert sandbox.api_requests == 0
    assert sandbox.token_requests <= 2
    assert len({id(error) for error in errors}) == 10  # each its own
    for error in errors:
        assert isinstance(error, TokenEndpointUnavailable)
        assert isinstance(error, any_hand.library.TransportError)
        # "not sent" is the truth where a loaded machine takes a quarter of a second to connect.
        assert error.outcome in ({"unknown"} if sandbox.token_requests == 2 else {"unknown", "not sent"})
        assert error.request.url.path == "/api/x"  # the caller's, not the token endpoint's


def test_the_cause_of_a_silent_token_endpoint_is_the_library_s_error(any_hand, home):
    """Down the chain of causes is the timeout of the library whose request led (F28)."""
    home.sandbox.script(*[Silent()] * 4)
    client = any_hand.client(base_url=home.url, auth=_impatient(home))
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, TokenEndpointUnavailable)
    causes = chain(error)
    assert any(isinstance(cause, any_hand.library.TimeoutException) for cause in causes), causes


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore leaves a socket open that it was cancelled on
def test_a_token_endpoint_that_never_gets_through_its_handshake_was_not_sent_anything(any_hand, home):
    """A TLS handshake that hangs till the budget ends is "not sent": no refresh token is in doubt (F03, F28)."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        outcome = _outcome_at(any_hand, home, f"https://127.0.0.1:{mute.getsockname()[1]}/token")
    gc.collect()
    assert outcome == "not sent"


def _outcome_at(hand, home, endpoint):
    """How a renewal at `endpoint` ends, and nothing that keeps its error alive."""
    token = Token("a", refresh_token="r", expires_at=1.0)
    policy = RenewalPolicy(budget=0.5, attempts=1)
    auth = TokenAuth(home.grant(token_endpoint=endpoint), token=token, policy=policy, verify=TLS)
    (error,) = hand.client(base_url=home.url, auth=auth).together(1, "GET", "/api/x")
    assert isinstance(error, TokenEndpointUnavailable)
    auth._source.pause = None
    return error.outcome


def test_a_dripping_token_answer_ends_with_the_budget(any_hand, home):
    """An answer that comes byte by byte is not waited for longer than a silent one (F28)."""
    home.sandbox.script(*[Drip(0.02)] * 4)
    client = any_hand.client(base_url=home.url, auth=_impatient(home), timeout=None)
    began = time.monotonic()
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, TokenEndpointUnavailable)
    assert time.monotonic() - began < 5.0


def test_a_token_endpoint_that_nobody_listens_at_fails_at_once(any_hand, home):
    """A refused connection is "not sent", and its cause is the library's ConnectError (F03, F28)."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        grant = home.grant(ClientCredentials, token_endpoint=f"http://127.0.0.1:{nobody.getsockname()[1]}/token")
        auth = TokenAuth(grant, policy=RenewalPolicy(budget=2.0, attempts=1))
        client = any_hand.client(base_url=home.url, auth=auth)
        (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, TokenEndpointUnavailable)
    assert error.outcome == "not sent"
    assert any(isinstance(cause, any_hand.library.ConnectError) for cause in chain(error))


# F42


@pytest.mark.sampled(0)
def test_two_hundred_streamed_401s_leak_no_connection(hand, home):
    """200 times a 401, a renewal and a streamed 200 on two connections: no PoolTimeout, none busy in the end (F42)."""
    sandbox = home.sandbox
    client = hand.client(base_url=home.url, **_limits(hand, 2))
    client.raw.auth = BearerAuth(lambda: sandbox.login()["access_token"])
    for _ in range(200):
        sandbox.expire_access_tokens()
        with client.stream("GET", "/api/x") as response:
            assert response.status_code == 200
            assert b"subject" in hand.read(response)
    assert sandbox.api_refused == 199
    assert not client.busy()


def test_a_stream_that_is_not_read_frees_its_connection_when_closed(hand, home):
    """A 401 that is given back unread holds its connection only until the caller closes it (F42)."""
    sandbox = home.sandbox
    client = hand.client(base_url=home.url, auth=home.auth(), **_limits(hand, 1))
    for _ in range(3):
        sandbox.expire_access_tokens()
        with client.stream("POST", "/api/x", content=hand.generator([b"x"])) as response:
            assert response.status_code == 401
        assert not client.busy()
        assert client.get("/api/x").status_code == 200


# F43


def test_the_bounds_of_a_401_s_body():
    """A 401 is read up to 64 KiB or 2 s; the tests below shorten the 2 s."""
    assert (_bodies.MAX_BYTES, _bodies.MAX_SECONDS) == (64 * 1024, 2.0)


@pytest.mark.filterwarnings(UNFINISHED)
@pytest.mark.parametrize("fault", [Endless(), Drip(0.05), Drip(30.0)], ids=["endless", "dripping", "silent"])
@pytest.mark.parametrize("timeout", [None, 5.0], ids=["no timeout", "5 s"])
def test_a_401_without_end_is_given_up(any_hand, home, fault, timeout, monkeypatch):
    """A 401 whose body does not end, drips or falls silent is given up, and the request sent again (F43)."""
    monkeypatch.setattr(_bodies, "MAX_SECONDS", 0.2)
    sandbox = home.sandbox
    sandbox.script(fault, on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(), timeout=timeout)
    began = time.monotonic()
    response = client.get("/api/x")
    assert time.monotonic() - began < 3.0
    assert (response.status_code, [past.status_code for past in response.history]) == (200, [401])
    assert (sandbox.api_requests, sandbox.token_requests) == (2, 1)
    assert not client.busy()
    gc.collect()


@pytest.mark.xfail(strict=False, reason="when httpcore's own generators end is not always ours to say")
@pytest.mark.parametrize("any_hand", ["httpx-trio", "httpx2-trio"], indirect=True)
def test_a_401_that_is_given_up_leaves_nothing_behind_on_trio(any_hand, home):
    """Giving up a 401 leaves no async generator in the middle, of which trio would warn (F43)."""
    home.sandbox.script(Endless(), on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth())
    assert client.get("/api/x").status_code == 200
    gc.collect()


def test_a_401_that_ends_too_early_is_a_401(any_hand, home):
    """A 401 whose connection breaks in the middle of its body is mended like any other (F43)."""
    home.sandbox.script(Truncated(), on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth())
    assert client.get("/api/x").status_code == 200
    assert home.sandbox.token_requests == 1


class _Answers:
    """An API in memory: 401s with a body of your choice until the token is another; counts what is read of it."""

    def __init__(self, hand, chunks, headers=()):
        self.hand = hand
        self.chunks = chunks
        self.headers = dict(headers)
        self.read = 0
        self.closed = False
        self.refused = None

    def __call__(self, request):
        library, owner = self.hand.library, self
        if self.refused is None:
            self.refused = request.headers["authorization"]
        if request.headers["authorization"] != self.refused:
            return library.Response(200, text="good")

        class Body(library.SyncByteStream, library.AsyncByteStream):
            def __iter__(self):
                for chunk in owner.chunks:
                    owner.read += len(chunk)
                    yield chunk

            async def __aiter__(self):
                for chunk in self:
                    yield chunk

            def close(self):
                owner.closed = True

            async def aclose(self):
                owner.closed = True

        return library.Response(401, headers=self.headers, stream=Body())


def _two_tokens():
    tokens = iter(["first", "second"])
    return BearerAuth(lambda: next(tokens))


@pytest.mark.filterwarnings(UNFINISHED)
def test_no_more_of_a_huge_401_is_read_than_64_kib(any_hand):
    """Of a 401 of 100 MiB at most 64 KiB and two chunks are read; then it is closed (F43)."""
    api = _Answers(any_hand, (b"x" * 1024 for _ in range(100 * 1024)))
    client = any_hand.client(transport=any_hand.transport(api), auth=_two_tokens())
    assert client.get("https://api.example.com/").text == "good"
    assert api.read <= 66 * 1024
    assert api.closed
    gc.collect()


def test_a_small_401_is_whole_in_the_history(any_hand):
    """A 401 within the bounds can be read in the history of the answer that followed (F43)."""
    api = _Answers(any_hand, [b"expired"])
    client = any_hand.client(transport=any_hand.transport(api), auth=_two_tokens())
    response = client.get("https://api.example.com/")
    assert [past.text for past in response.history] == ["expired"]


def test_a_compressed_401_is_whole_in_the_history(any_hand):
    """A gzipped 401 within the bounds is read as what it says (F43)."""
    api = _Answers(any_hand, [gzip.compress(b"expired")], {"Content-Encoding": "gzip"})
    client = any_hand.client(transport=any_hand.transport(api), auth=_two_tokens())
    response = client.get("https://api.example.com/")
    assert [past.text for past in response.history] == ["expired"]


@pytest.mark.filterwarnings(UNFINISHED)
def test_a_401_that_cannot_be_decoded_is_a_401(any_hand):
    """A 401 that calls itself gzip and is none is mended like any other (F43: it could not be read, no more)."""
    api = _Answers(any_hand, [b"not gzip at all"], {"Content-Encoding": "gzip"})
    client = any_hand.client(transport=any_hand.transport(api), auth=_two_tokens())
    assert client.get("https://api.example.com/").text == "good"


def test_a_bomb_of_a_401_is_not_unpacked(any_hand):
    """64 KiB are 64 KiB after decompression too: a small gzip of a huge body costs no memory (F43)."""
    bomb = gzip.compress(b"\0" * (8 << 20))
    assert len(bomb) < 64 * 1024
    api = _Answers(any_hand, [bomb], {"Content-Encoding": "gzip"})
    client = any_hand.client(transport=any_hand.transport(api), auth=_two_tokens())
    response = client.get("https://api.example.com/")
    assert response.text == "good"
    unpacked = len(response.history[0].content)
    assert unpacked <= 64 * 1024


def test_the_request_keeps_its_read_timeout(hand, home):
    """The bound on reading a 401 is gone when the request is sent again: its own timeouts are as before (F43)."""
    client = hand.client(base_url=home.url, auth=home.auth(), timeout=7.0)
    request = client.raw.build_request("GET", "/api/x")
    response = client.send(request)
    assert response.status_code == 200
    assert request.extensions["timeout"] == {"connect": 7.0, "read": 7.0, "write": 7.0, "pool": 7.0}
