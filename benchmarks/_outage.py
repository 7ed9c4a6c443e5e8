"""One outage of the token endpoint, and the requests that go on meanwhile. Hours of it, on a clock moved by hand."""

from __future__ import annotations

import asyncio
import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from _clock import Clock
from _contenders import CONTENDERS
from _server import API_URL, GOOD, OLD, Server
from _setting import IN_USE, Setting
from _storm import described

if TYPE_CHECKING:
    from collections.abc import Callable

    from _server import Trouble

LIFETIME = 3600  # seconds of the token that everybody has
FIRST, DOWN, UP, LAST = 2400, 2700, 3900, 4500  # seconds of it: the stream begins, the outage, the stream ends
EDGE = 5  # seconds before the token's end, in which a request on its way may meet it
PATIENCE = 10.0  # seconds; who is not answered by then has failed
LATENCY = 0.05  # seconds that a token request takes
THREADS = 32  # of a program whose client is for threads


@dataclass(slots=True)
class Request:
    sent: float
    answered: float | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Outage:
    """How it went, in seconds since the token was issued.

    Args:
        requests: all of the stream.
        before: token requests in the outage while the token was valid.
        after: those in the outage after its end.
    """

    before: int
    after: int
    requests: list[Request] = field(repr=False)

    @property
    def with_token(self) -> list[Request]:
        """Those sent in the outage with a valid token."""
        return [each for each in self.requests if DOWN <= each.sent < LIFETIME - EDGE]

    @property
    def failed(self) -> list[Request]:
        """Those of them that got no 200 in time."""
        return [each for each in self.with_token if each.answer != "200" or self.took(each) > PATIENCE]

    @property
    def slowest(self) -> float:
        """Seconds that one of them took."""
        return max(self.took(each) for each in self.with_token)

    @property
    def recovery(self) -> float | None:
        """Seconds from the outage's end to the first 200; None: there was none."""
        times = [each.answered for each in self.requests if each.answer == "200" and (each.answered or 0) >= UP]
        return min(times) - UP if times else None  # type: ignore[type-var, operator]

    def took(self, request: Request) -> float:
        return (LAST if request.answered is None else request.answered) - request.sent


def live_through(contender: str, grant: str, trouble: Trouble, every: float) -> Outage:
    """In a process of its own, for it takes the clock."""
    if "httpx_tokenflow" in sys.modules:
        raise RuntimeError("it has the real clock already")
    clock = Clock()
    clock.rule()
    with asyncio.Runner(loop_factory=clock.loop) as runner:
        return runner.run(_live_through(clock, contender, grant, trouble, every))


async def _live_through(clock: Clock, name: str, grant: str, trouble: Trouble, every: float) -> Outage:
    contender = CONTENDERS[name]
    server = Server(latency=LATENCY, is_async=not contender.sync_only, lifetime=LIFETIME)
    setting = Setting(IN_USE, grant, not contender.sync_only, server, contender.library, LIFETIME)
    client = contender.set_up(setting)
    if inspect.isawaitable(client):
        client = await client
    began, ends = clock.now, clock.now + LIFETIME
    for token in (OLD, GOOD):
        server.accept(token, clock.wall() + LIFETIME)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(2 * THREADS))
    counts: dict[float, int] = {}

    def at(when: float, action: Callable[[], object] = lambda: None) -> None:
        def act() -> None:
            action()
            counts[when] = server.token_requests

        loop.call_at(began + when, act)

    at(DOWN, lambda: server.begin(trouble, clock.wall() + UP - DOWN))
    at(ends - began)
    at(UP, server.end)
    requests = await _stream(clock, client, began, every, is_async=not contender.sync_only)
    return Outage(counts[LIFETIME] - counts[DOWN], counts[UP] - counts[LIFETIME], requests)


async def _stream(clock: Clock, client: Any, began: float, every: float, *, is_async: bool) -> list[Request]:
    """A request every so often, whatever became of those before."""
    threads = asyncio.Semaphore(THREADS)
    requests: list[Request] = []

    async def send(request: Request) -> None:
        try:
            if is_async:
                response = await client.get(API_URL)
            else:
                async with threads:
                    response = await asyncio.to_thread(client.get, API_URL)
            request.answer = str(response.status_code)
        except Exception as error:  # noqa: BLE001 - whatever it raises is a failure to report
            request.answer = described(error)
        request.answered = clock.now - began

    tasks = []
    await asyncio.sleep(FIRST)
    while (now := clock.now - began) < LAST:
        requests.append(Request(now))
        tasks.append(asyncio.create_task(send(requests[-1])))
        await asyncio.sleep(every)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return requests
