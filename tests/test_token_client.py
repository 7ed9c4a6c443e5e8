"""A token request has one time limit over all of it, whatever the server does, in threads as on a loop."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import anyio
import httpx
import httpx2
import pytest

from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth, TokenEndpointUnavailable
from httpx_tokenflow._token_client import _within

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
