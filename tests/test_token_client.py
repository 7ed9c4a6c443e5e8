"""A token request has one time limit over all of it, whatever the server does, in threads as on a loop."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest

from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth, TokenEndpointUnavailable
from httpx_tokenflow._token_client import MAX_RESPONSE, TokenClient, _Trust, _within
from httpx_tokenflow.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = [httpx, httpx2]


class DrippingHeaders:
    """A server that answers with one header field after the other, each in time, without end."""

    def __init__(self) -> None:
        self.hung_up = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends = time.monotonic() + 20
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/token"

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while time.monotonic() < self._ends:
                    connection.sendall(b"X-Drip: 1\r\n")
                    time.sleep(0.02)
            except OSError:
                self.hung_up.set()

    def close(self) -> None:
        self._ends = 0.0
        self._listener.close()


@pytest.fixture
def server() -> Iterator[DrippingHeaders]:
    one = DrippingHeaders()
    yield one
    one.close()


def impatient(server: DrippingHeaders, client: httpx.Client | None = None) -> TokenAuth:
    grant = ClientCredentials(server.url, client_id="c", client_secret="s")
    return TokenAuth(grant, policy=RenewalPolicy(budget=0.3, attempts=1), client=client)


@pytest.mark.parametrize("library", LIBRARIES)
def test_headers_without_end_in_a_thread(server: DrippingHeaders, library: type) -> None:
    """Each read comes back in time, and there is no last one: the request is given up, and the connection with it."""
    with (
        library.Client(transport=library.MockTransport(lambda _: library.Response(200)), auth=impatient(server)) as api,
        pytest.raises(TokenEndpointUnavailable) as caught,
    ):
        api.get("https://api.example/x")
    assert caught.value.outcome == "unknown"
    assert server.hung_up.wait(10)


def test_headers_without_end_and_the_programs_client(server: DrippingHeaders) -> None:
    """With a client of the program's, too; that one is not closed."""
    client = httpx.Client(timeout=None)
    with pytest.raises(TokenEndpointUnavailable):
        impatient(server, client).token()
    assert not client.is_closed
    server.close()


@pytest.mark.anyio
async def test_headers_without_end_on_a_loop(server: DrippingHeaders) -> None:
    """The same on an event loop."""
    with anyio.fail_after(10), pytest.raises(TokenEndpointUnavailable):
        await impatient(server).atoken()
    assert await anyio.to_thread.run_sync(server.hung_up.wait, 10)


def test_a_machine_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread is to be had, the token request is made without one, rather than not at all."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert _within(1.0, lambda number: number + 1, 1) == 2


def answering(content: bytes, **headers: str) -> httpx.MockTransport:
    """An authorization server that sends what it likes; as a stream, like one on a network."""
    return httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(content)))


def client_of(transport: httpx.MockTransport) -> TokenAuth:
    grant = ClientCredentials("https://as.example/token", client_id="c", client_secret="s")
    return TokenAuth(grant, client=httpx.Client(transport=transport), policy=RenewalPolicy(attempts=1))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_answer_that_is_packed_although_nobody_asked(coding: str) -> None:
    """Some servers pack whatever is asked for: it is unpacked."""
    body = json.dumps({"access_token": "a"}).encode()
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    assert client_of(answering(packed, **{"Content-Encoding": coding})).token().access_token == "a"


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, gzip"])
def test_an_answer_that_unpacks_without_end(coding: str) -> None:
    """A bomb, or a coding that cannot be unpacked within bounds, is an error and no memory."""
    packed = gzip.compress(b"{" + b" " * (MAX_RESPONSE + 10))
    with pytest.raises(TokenEndpointUnavailable, match="unpacked") as caught:
        client_of(answering(packed, **{"Content-Encoding": coding})).token()
    assert not caught.value.retryable


def test_what_is_for_this_machine_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http to loopback is never shown to a proxy, whatever the environment says."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        proxy.settimeout(0.2)
        sandbox = Sandbox()
        with serve(sandbox) as url:
            assert TokenAuth(ClientCredentials(f"{url}/token", client_id="client", client_secret="secret")).token()
        with pytest.raises(TimeoutError):
            proxy.accept()


@pytest.mark.anyio
@pytest.mark.parametrize("side", ["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_our_own_client_lives_for_one_request(library: Any, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of our own is closed when its request is over, and the next has another: two auths share none."""
    kind = library.Client if side == "sync" else library.AsyncClient
    made: list[Any] = []

    class Noted(kind):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr(library, kind.__name__, Noted)
    sandbox = Sandbox()
    with serve(sandbox) as url:
        for _ in range(2):
            auth = TokenAuth(ClientCredentials(f"{url}/token", client_id="client", client_secret="secret"))
            request = library.Request("GET", "https://api.example/x")
            if side == "sync":
                next(auth.sync_auth_flow(request))
            else:
                async with aclosing(auth.async_auth_flow(request)) as flow:
                    await anext(flow)
            assert request.headers["Authorization"].startswith("Bearer ")
    assert len(made) == sandbox.token_requests == 2
    assert all(one.is_closed for one in made)


def test_trust_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many auths there are, the certificates of the world are read once for each library and environment."""
    read: list[str] = []

    def reading(library: Any) -> Any:
        return lambda: read.append(library.__name__) or ssl.create_default_context()

    for library in LIBRARIES:
        monkeypatch.setattr(library, "create_ssl_context", reading(library))
    monkeypatch.setattr("httpx_tokenflow._token_client._trust", _Trust())
    contexts = [TokenClient(None, True, RenewalPolicy())._tls(one, "https") for one in LIBRARIES for _ in range(3)]
    assert read == ["httpx", "httpx2"]
    assert len(set(contexts)) == 2
    monkeypatch.setenv("SSL_CERT_FILE", "another")
    assert TokenClient(None, True, RenewalPolicy())._tls(httpx, "https") not in contexts
