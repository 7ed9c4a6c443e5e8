"""What the storms hit: a token endpoint and an API in memory, as lean as can be, for the floor must be the client.

1. The API answers 200 to a good token and 401 to anything else. `GOOD` is good from the start; only the floor knows it.
2. With a crowd, whoever comes with `OLD` waits until that many have come: then all of them get their 401 at once.
3. A refresh token is good once. Presenting a retired one revokes its family: the refresh tokens and the access tokens.
4. A token request is processed on arrival and answered after `latency`. Client authentication is not looked at.
5. One transport serves sync and async clients, on asyncio and trio; a request lets others run once, as on a network.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from types import ModuleType

API_URL = "https://api.example.com/orders"
TOKEN_URL = "https://as.example.com/token"
OLD, OLD_REFRESH_TOKEN = "at-0", "rt-0"  # what everybody holds when the storm begins
GOOD = "good"

_JSON = {"content-type": "application/json"}


class Server:
    """An authorization server and an API.

    Args:
        latency: seconds that a token request takes.
        crowd: how many requests with `OLD` have to come before any is answered; 0: none has to wait.
        is_async: they come from one event loop, not from threads.
        lifetime: seconds that a token lives, as far as the client is told.
        serial: number of the first token; 0 makes that one `OLD`.
    """

    def __init__(
        self, *, latency: float, crowd: int = 0, is_async: bool = False, lifetime: int = 3600, serial: int = 1
    ) -> None:
        self.token_requests = 0
        self._latency = latency
        self._crowd = crowd
        self._lifetime = lifetime
        self._serial = serial
        self._good = {f"Bearer {GOOD}"}
        self._family: set[str] = set()
        self._refresh_token: str | None = OLD_REFRESH_TOKEN
        self._lock = threading.Lock()
        self._complete: Any = anyio.Event() if is_async else threading.Event()

    def transport(self, library: ModuleType) -> Any:
        """A transport of `library` to this server."""
        return type("Wire", (_Wire, library.BaseTransport, library.AsyncBaseTransport), {})(self, library)

    def _has_to_wait(self, credential: str | None) -> bool:
        if self._crowd <= 0 or credential != f"Bearer {OLD}":
            return False
        with self._lock:
            self._crowd -= 1
            is_last = self._crowd == 0
        if is_last:
            self._complete.set()
        return not is_last

    def _answer(self, credential: str | None) -> tuple[int, bytes]:
        return (200, b'{"orders": []}') if credential in self._good else (401, b"{}")

    def _token(self, body: bytes) -> tuple[int, dict[str, Any]]:
        form = dict(parse_qsl(body.decode()))
        with self._lock:
            self.token_requests += 1
            if form["grant_type"] == "client_credentials":
                return 200, self._issue()
            if form["grant_type"] == "password":
                self._family = set()
            elif form.get("refresh_token") != self._refresh_token:  # rule 3
                self._good -= self._family
                self._refresh_token = None
                return 400, {"error": "invalid_grant"}
            self._refresh_token = f"rt-{self._serial}"
            answer = self._issue()
            self._family.add(f"Bearer {answer['access_token']}")
            return 200, {**answer, "refresh_token": self._refresh_token}

    def _issue(self) -> dict[str, Any]:
        access_token = f"at-{self._serial}"
        self._serial += 1
        self._good.add(f"Bearer {access_token}")
        return {"access_token": access_token, "token_type": "Bearer", "expires_in": self._lifetime}


class _Wire:
    """The transport, mixed with a library's transport classes."""

    def __init__(self, server: Server, library: ModuleType) -> None:
        self._server = server
        self._library = library

    def handle_request(self, request: Any) -> Any:
        server = self._server
        if request.method == "POST":
            status, content = server._token(request.read())
            time.sleep(server._latency)
            return self._library.Response(status, json=content)
        credential = request.headers.get("Authorization")
        if server._has_to_wait(credential):
            server._complete.wait()
        return self._response(credential)

    async def handle_async_request(self, request: Any) -> Any:
        server = self._server
        if request.method == "POST":
            status, content = server._token(await request.aread())
            await anyio.sleep(server._latency)
            return self._library.Response(status, json=content)
        credential = request.headers.get("Authorization")
        if server._has_to_wait(credential):
            await server._complete.wait()
        else:
            await checkpoint()
        return self._response(credential)

    def _response(self, credential: str | None) -> Any:
        status, content = self._server._answer(credential)
        return self._library.Response(status, headers=_JSON, content=content)
