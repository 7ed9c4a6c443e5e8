"""What the storms hit: a token endpoint and an API in memory, as lean as can be, for the floor must be the client.

1. The API answers 200 to a good token and 401 to anything else. `GOOD` is good from the start; only the floor knows it.
2. With a crowd, whoever comes with `OLD` waits until that many have come: then all of them get their 401 at once.
3. A refresh token is good once. Presenting a retired one revokes its family: the refresh tokens and the access tokens.
4. A token request is processed on arrival and answered after `latency`. Client authentication is not looked at.
5. One transport serves sync and async clients, on asyncio and trio; a request lets others run once, as on a network.
6. What a contender did long before, it did in `before`: there the token that it gets is `OLD`, and nothing counts.
7. With a `trouble` the token endpoint counts the request and says 503, is not to be reached, or does not answer.
"""

from __future__ import annotations

import json
import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

import anyio
from _wires import WIRES, NotAnsweredError, NotReachedError
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    Trouble = Literal["503", "connect error", "hang"]
    Answer = tuple[int, bytes]

API_URL = "https://api.example.com/orders"
AS_URL = "https://as.example.com/tenant"  # msal wants a path
TOKEN_URL = "https://as.example.com/token"
OLD, OLD_REFRESH_TOKEN = "at-0", "rt-0"  # what everybody holds when the storm begins
GOOD = "good"

_ORDERS = 200, b'{"orders": []}'
_REFUSED = 401, b"{}"
_METADATA = json.dumps(
    {
        "issuer": AS_URL,
        "authorization_endpoint": "https://as.example.com/authorize",
        "token_endpoint": TOKEN_URL,
        "response_types_supported": ["code"],
        "resource": API_URL,
        "authorization_servers": [AS_URL],
    }
).encode()  # of the authorization server and of the resource, in one


class Gate:
    """Holds answers back until it is opened; made on the event loop, which it does not stop."""

    def __init__(self) -> None:
        self._open, self._open_for_threads = anyio.Event(), threading.Event()
        self._loop_thread = threading.get_ident()

    def open(self) -> None:
        self._open.set()
        self._open_for_threads.set()

    async def wait(self) -> None:
        await self._open.wait()

    def wait_in_thread(self) -> None:
        if threading.get_ident() != self._loop_thread:
            self._open_for_threads.wait()


class Server:
    """An authorization server and an API.

    Args:
        latency: seconds that a token request takes.
        crowd: how many requests with `OLD` have to come before any is answered; 0: none has to wait.
        is_async: they come from one event loop, not from threads.
        lifetime: seconds that a token lives.
    """

    def __init__(
        self,
        *,
        latency: float,
        crowd: int = 0,
        is_async: bool = False,
        lifetime: int = 3600,
    ) -> None:
        self.token_requests = 0
        self.family_revoked = False
        self.gate: Gate | None = None  # which holds the answers to token requests back
        self.api_gate: Gate | None = None
        self.trouble: Trouble | None = None
        self.trouble_ends = math.inf  # by time.time()
        self._latency = latency
        self._crowd = crowd
        self._lifetime = lifetime
        self._serial = 1  # number of the next token
        self._good = {f"Bearer {GOOD}": math.inf}  # and until when
        self._family: set[str] = set()
        self._refresh_token: str | None = OLD_REFRESH_TOKEN
        self._lock = threading.Lock()
        self._complete: Any = anyio.Event() if is_async else threading.Event()

    def transport(self, library: ModuleType) -> Any:
        """A transport of `library` to this server."""
        return WIRES[library.__name__](self, library)

    @contextmanager
    def before(self, lifetime: int) -> Iterator[None]:
        """Long ago (rule 6).

        Args:
            lifetime: seconds that `OLD` will have left when the storm begins; 0: it will just have ended.
        """
        kept = self._lifetime, self._latency, self._crowd
        self._lifetime, self._latency, self._crowd = lifetime, 0, 0
        self._serial = 0
        self._good[f"Bearer {OLD}"] = math.inf
        try:
            yield
        finally:
            self._lifetime, self._latency, self._crowd = kept
            self._serial, self.token_requests = 1, 0
            del self._good[f"Bearer {OLD}"]

    def accept(self, credential: str, until: float) -> None:
        """Let a token of before be good still, until then."""
        self._good[f"Bearer {credential}"] = until

    def begin(self, trouble: Trouble, ends: float) -> None:
        """The token endpoint is down (rule 7), until then by `time.time()`."""
        self.trouble, self.trouble_ends = trouble, ends

    def end(self) -> None:
        self.trouble = None

    # What the wires call

    def get(self, path: str, credential: str | None) -> Answer:
        if credential is None and "/.well-known/" in path:
            return 200, _METADATA
        if self._has_to_wait(credential):
            self._complete.wait()
        return self._order(credential)

    async def aget(self, path: str, credential: str | None) -> Answer:
        if credential is None and "/.well-known/" in path:
            return 200, _METADATA
        if self._has_to_wait(credential):
            await self._complete.wait()
        elif self.api_gate is not None:
            await self.api_gate.wait()
        else:
            await checkpoint()
        return self._order(credential)

    def post(self, body: bytes, timeout: float | None) -> Answer:
        if (wait := self._troubled(timeout)) is not None:
            time.sleep(wait)
            raise NotAnsweredError
        answer = self._token(body)
        if self.gate is not None:
            self.gate.wait_in_thread()
        time.sleep(self._latency)
        return answer

    async def apost(self, body: bytes, timeout: float | None) -> Answer:  # noqa: ASYNC109 - the client's, to be kept to
        if (wait := self._troubled(timeout)) is not None:
            await anyio.sleep(wait)
            raise NotAnsweredError
        answer = self._token(body)
        if self.gate is not None:
            await self.gate.wait()
        await anyio.sleep(self._latency)
        return answer

    # And what they do not

    def _has_to_wait(self, credential: str | None) -> bool:
        if self._crowd <= 0 or credential != f"Bearer {OLD}":
            return False
        with self._lock:
            self._crowd -= 1
            is_last = self._crowd == 0
        if is_last:
            self._complete.set()
        return not is_last

    def _order(self, credential: str | None) -> Answer:
        return _ORDERS if time.time() < self._good.get(credential or "", 0.0) else _REFUSED

    def _troubled(self, timeout: float | None) -> float | None:
        """How long this client waits in vain; None: it need not."""
        if self.trouble == "connect error":
            self.token_requests += 1
            raise NotReachedError
        if self.trouble != "hang":
            return None
        self.token_requests += 1
        return min(math.inf if timeout is None else timeout, max(0.0, self.trouble_ends - time.time()))

    def _token(self, body: bytes) -> Answer:
        form = dict(parse_qsl(body.decode()))
        with self._lock:
            self.token_requests += 1
            if self.trouble == "503":
                return 503, b""
            if form["grant_type"] == "client_credentials":
                return 200, self._issue()
            if form["grant_type"] != "refresh_token":  # a login
                self._family = set()
            elif form.get("refresh_token") != self._refresh_token:  # rule 3
                for credential in self._family:
                    self._good.pop(credential, None)
                self._refresh_token, self.family_revoked = None, True
                return 400, b'{"error": "invalid_grant"}'
            self._family.add(f"Bearer at-{self._serial}")
            self._refresh_token = f"rt-{self._serial}"
            return 200, self._issue(refresh_token=self._refresh_token)

    def _issue(self, **more: str) -> bytes:
        access_token = f"at-{self._serial}"
        self._serial += 1
        self._good.setdefault(f"Bearer {access_token}", time.time() + self._lifetime)
        answer = {"access_token": access_token, "token_type": "Bearer", "expires_in": self._lifetime, **more}
        return json.dumps(answer).encode()
