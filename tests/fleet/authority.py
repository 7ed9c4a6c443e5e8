"""The authorization server and the API that a fleet talks to, on loopback: it counts, and it can be held.

    with authority.served():
        authority.token_requests        one `Asked` for each POST that reached the token endpoint, in order
        authority.carriers[token]       the workers that the API accepted with that access token
        authority.presented             how often each refresh token was presented
        authority.expire()              the API refuses all access tokens issued so far
        hold = authority.hold("after")  the next token request is processed, and its answer held
        hold.reached(), hold.release()

Rotation is that of `reuse`. "strict": a refresh token is good once, and presenting it again ends its family. A number:
so many seconds after it was first presented it may be presented again, and brings another pair (an overlap, or a grace
period); then as "strict".
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

from asgi import received

from httpx_tokenflow.testing import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0  # seconds after which something has hung


@dataclass
class Family:
    """A login: its refresh tokens, and when each was first presented."""

    presented: dict[str, float | None] = field(default_factory=dict)
    alive: bool = True


@dataclass(frozen=True)
class Asked:
    """One token request: when it came (monotonic seconds), what it presented, and the status that it got."""

    at: float
    grant: str
    presented: str | None
    status: int


class Hold:
    """A token request that is held where it is."""

    def __init__(self, when: str) -> None:
        self.when = when
        self._reached, self.released = threading.Event(), threading.Event()

    def reached(self) -> None:
        """Wait until a request is held."""
        assert self._reached.wait(PATIENCE), f"no token request was held {self.when} it was processed"

    def release(self) -> None:
        self.released.set()

    async def here(self) -> None:
        self._reached.set()
        while not self.released.is_set():  # noqa: ASYNC110 - another thread releases
            await asyncio.sleep(0.01)


class Authority:
    """One server; any thread may look at it and change it.

    Args:
        lifetime: seconds of the access tokens issued from now on.
        reuse: see the module.
        prefix: how all tokens begin.
    """

    def __init__(self, lifetime: float = 3600.0, reuse: float | Literal["strict"] = "strict", prefix: str = "") -> None:
        self.lifetime, self.reuse, self.prefix = lifetime, reuse, prefix
        self.url = self.api = ""
        self.down = False  # it answers 503
        self.token_requests: list[Asked] = []
        self.presented: Counter[str] = Counter()
        self.answered: Counter[int] = Counter()  # the API's answers by status
        self.carriers: defaultdict[str, set[str]] = defaultdict(
            set
        )  # access token -> workers that the API accepted with it
        self.newest = ""  # access token
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._good: dict[str, tuple[float, Family | None]] = {}  # access token -> its end, its family
        self._families: dict[str, Family] = {}  # refresh token -> its family
        self._holds: list[Hold] = []  # all there ever were
        self._coming: list[Hold] = []  # for requests to come

    @contextmanager
    def served(self) -> Iterator[Authority]:
        # Each has a loop of its own: thousands of requests to the API do not hold up the one that all of them wait for.
        with serve(self) as self.url, serve(self) as self.api:
            try:
                yield self
            finally:
                for hold in self._holds:
                    hold.release()

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/token"

    def login(self) -> dict[str, Any]:
        """What a login brings; it counts as no token request."""
        with self._lock:
            return self._issue(Family())

    def is_alive(self, refresh_token: str) -> bool:
        with self._lock:
            return self._families[refresh_token].alive

    def is_newest(self, refresh_token: str) -> bool:
        """Whether it was never presented, and its family lives."""
        with self._lock:
            family = self._families[refresh_token]
            return family.alive and family.presented[refresh_token] is None

    def expire(self) -> None:
        with self._lock:
            self._good.clear()

    def hold(self, when: Literal["before", "after"]) -> Hold:
        """Hold the next token request before or after it is processed."""
        hold = Hold(when)
        with self._lock:
            self._holds.append(hold)
            self._coming.append(hold)
        return hold

    def forget(self) -> None:
        """All counters to zero."""
        with self._lock:
            self.token_requests, self.presented = [], Counter()
            self.answered, self.carriers = Counter(), defaultdict(set)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        body = await received(scope, receive, send)
        if body is None:
            return
        headers = {name.lower(): value.decode() for name, value in scope["headers"]}
        if scope["path"] == "/token":
            status, answer = await self._token_request(dict(parse_qsl(body.decode())))
        else:
            status, answer = self._api(headers.get(b"authorization", ""), headers.get(b"x-worker", ""))
        fields = [(b"content-type", b"application/json")]
        if status == 401:
            fields.append((b"www-authenticate", b'Bearer error="invalid_token"'))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    async def _token_request(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            hold = self._coming.pop(0) if self._coming else None
        if hold is not None and hold.when == "before":
            await hold.here()
        with self._lock:
            status, answer = self._grant(form)
            presented = form.get("refresh_token")
            self.token_requests.append(Asked(time.monotonic(), form["grant_type"], presented, status))
            if presented is not None:
                self.presented[presented] += 1
        if hold is not None and hold.when == "after":
            await hold.here()
        return status, answer

    def _grant(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if self.down:
            return 503, {}
        if form["grant_type"] == "client_credentials":
            return 200, self._issue(None)
        presented = form["refresh_token"]
        family, now = self._families[presented], time.monotonic()
        first = family.presented[presented]
        if first is not None and (self.reuse == "strict" or now - first > self.reuse):
            family.alive = False
        if not family.alive:
            return 400, {"error": "invalid_grant"}
        family.presented[presented] = now if first is None else first
        return 200, self._issue(family)

    def _issue(self, family: Family | None) -> dict[str, Any]:
        number = next(self._numbers)
        access, refresh = f"{self.prefix}access-{number}", f"{self.prefix}refresh-{number}"
        self.newest = access
        self._good[access] = time.monotonic() + self.lifetime, family
        answer: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": self.lifetime}
        if family is not None:
            self._families[refresh] = family
            family.presented[refresh] = None
            answer["refresh_token"] = refresh
        return answer

    def _api(self, authorization: str, worker: str) -> tuple[int, dict[str, Any]]:
        access = authorization.removeprefix("Bearer ")
        with self._lock:
            end, family = self._good.get(access, (0.0, None))
            is_good = time.monotonic() < end and (family is None or family.alive)
            status = 200 if is_good else 401
            self.answered[status] += 1
            if is_good:
                self.carriers[access].add(worker)
        return status, {}
