"""How a scene is played and measured: the callers, what they saw, and what came of it.

Rules.

1. A request counts with the time that its caller waited for it, from the call to the answer: waiting for a token, for
   a connection and for a second try are all in it.
2. An answer other than 200 is a failure, and so is an exception.
3. A scene that outlasts its limit is called off, and whoever waits for an answer by then has got none.
4. One client, a hundred connections, more requests than that at once, as in a service. Each connection is a pool of
   its own, and they take turns: the work of one httpcore pool grows with what waits in it times its connections, so
   that a thousand requests through a pool of a hundred take half a minute, without any auth.
"""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from httpx_tokenflow import TokenAuth

from ._outcome import Outcome, Tally
from ._sides import Props

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._server import Remote
    from ._sides import Side

__all__ = ["Stage"]

LOOK_EVERY = 0.1  # seconds
TIMEOUT = 120.0  # seconds, of each request: it is not the client who gives up
CONNECTIONS = 100


class Stage:
    """Where one scene is played by one side.

    Args:
        server: the server that is played against.
        side: whose turn it is.
        login: a token endpoint's answer to begin with; None: there is none.
        path: where the requests go.
        latency: seconds that the token endpoint takes.
        requests: how many requests the scene has.
        seconds: how long a stream of requests goes on.
        limit: how many seconds the scene may take (rule 3).
        report: told, a few times a second, how many requests have been answered.
    """

    def __init__(
        self,
        server: Remote,
        side: Side,
        *,
        login: dict[str, Any] | None = None,
        path: str = "/api/thing",
        latency: float = 0.0,
        requests: int,
        seconds: float,
        limit: float,
        report: Callable[[int], None],
    ) -> None:
        self.server = server
        self.side = side
        self.requests = requests
        self.seconds = seconds
        self.url = f"{server.url}{path}"
        self.tally = Tally()
        self.props = Props(f"{server.url}/token", login)
        self.latency = latency
        self._auth = side.make(self.props)
        self._report = report
        self._begun = time.perf_counter()
        self._over_at = time.monotonic() + limit

    def client(self) -> httpx.Client:
        """Make a sync client."""
        return httpx.Client(auth=self._auth, verify=_tls(), timeout=TIMEOUT)

    def async_client(self) -> httpx.AsyncClient:
        """Make an async client (rule 4)."""
        return httpx.AsyncClient(auth=self._auth, transport=_Pools(), timeout=TIMEOUT)

    def ask(self, client: httpx.Client) -> None:
        """Send one request, and count it."""
        begun = time.perf_counter()
        try:
            saw = str(client.get(self.url).status_code)
        except Exception as error:  # noqa: BLE001 - whatever the caller would see
            saw = type(error).__name__
        self.tally.add(begun, saw)

    async def aask(self, client: httpx.AsyncClient) -> None:
        """As `ask`."""
        begun = time.perf_counter()
        try:
            saw = str((await client.get(self.url)).status_code)
        except Exception as error:  # noqa: BLE001 - whatever the caller would see
            saw = type(error).__name__
        self.tally.add(begun, saw)

    async def rise(self, client: httpx.AsyncClient) -> None:
        """Send one request that does not count, nor what it leads to: the scene begins with the token it brings."""
        await client.get(self.url)
        self.props.told.clear()
        self._begun = time.perf_counter()

    async def settle(self) -> None:
        """Wait for a renewal in the air: on a loaded machine it may outlast the requests."""
        if isinstance(self._auth, TokenAuth):
            await self._auth.aclose()

    async def storm(self, client: httpx.AsyncClient, requests: int) -> None:
        """Send so many requests at once."""
        async with anyio.create_task_group() as group:
            for _ in range(requests):
                group.start_soon(self.aask, client)

    async def stream(self, client: httpx.AsyncClient, requests: int, seconds: float) -> None:
        """Send so many requests, evenly spread over a time."""
        begun = anyio.current_time()
        async with anyio.create_task_group() as group:
            for number in range(requests):
                await anyio.sleep_until(begun + seconds * number / requests)
                group.start_soon(self.aask, client)

    def on_a_loop(self, part: Callable[[httpx.AsyncClient], Awaitable[None]], backend: str = "asyncio") -> None:
        """Play a part on an event loop of its own, until it is over or called off."""

        async def play() -> None:
            async with self.async_client() as client, anyio.create_task_group() as group:
                group.start_soon(self._watch, group.cancel_scope)
                await part(client)
                group.cancel_scope.cancel()

        anyio.run(play, backend=backend)

    def in_threads(self, parts: list[Callable[[], None]]) -> bool:
        """Play parts in a thread each, all at once; False: they were called off, and some may still go on."""
        gate = threading.Barrier(len(parts))
        threads = [threading.Thread(target=_begin, args=(gate, part), daemon=True) for part in parts]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not self._is_called_off():
            time.sleep(LOOK_EVERY)
        return not any(thread.is_alive() for thread in threads)

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while not self._is_called_off():  # noqa: ASYNC110 - others add to the tally, on other loops too
            await anyio.sleep(LOOK_EVERY)
        scope.cancel()

    def _is_called_off(self) -> bool:
        self._report(len(self.tally))
        return time.monotonic() > self._over_at

    def outcome(self, seconds: float) -> Outcome:
        """Sum up."""
        login, course = self.props.login, sorted(self.tally.course)
        begun = time.time() - (time.perf_counter() - self._begun)
        asked = [at - begun for at in self.server.token_requests_at()]
        return Outcome(
            requests=self.requests,
            refused=self.server.api_refused(),
            token_requests=self.server.token_requests(),
            errors=Counter(self.tally.errors),
            seconds=seconds,
            family_alive=None if login is None else self.server.is_alive(login["refresh_token"]),
            times=tuple(sorted(took for _, took in course)),
            turned_away=self.server.turned_away(),
            told=tuple(self.props.told),
            course=tuple((at - self._begun, took) for at, took in course),
            renewals=tuple((at, at + self.latency) for at in asked if at > 0),
        )


class _Pools(httpx.AsyncBaseTransport):
    """Connections that take turns (rule 4)."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=1)
        self._pools = [httpx.AsyncHTTPTransport(verify=_tls(), limits=limits) for _ in range(CONNECTIONS)]
        self._turns = itertools.cycle(self._pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request through the connection whose turn it is."""
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        """Close them all."""
        for pool in self._pools:
            await pool.aclose()


def _begin(gate: threading.Barrier, part: Callable[[], None]) -> None:
    gate.wait()
    part()


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: making one takes longer than all the rest of making a client."""
    return ssl.create_default_context()
