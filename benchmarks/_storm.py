"""One storm, in this process: everybody sends at once, and there is one token to be had."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import Counter
from dataclasses import dataclass

import trio
from _contenders import CONTENDERS
from _server import API_URL, Server
from _setting import ASYNCIO, REFUSED, THREADS, TRIO, Setting

THREAD_COUNT = 100


@dataclass(frozen=True, slots=True)
class Turn:
    """Who meets what, and where.

    Args:
        peer: for a floor, whose; else the contender itself.
    """

    case: str
    runtime: str
    contender: str
    grant: str
    library: str
    peer: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went, in seconds by the clock and of the processor; with None it did not come to its end."""

    wall: float | None
    cpu: float
    token_requests: int
    answers: Counter[str]

    @property
    def failed(self) -> int:
        return self.answers.total() - self.answers["200"]


def storm(turn: Turn, tasks: int, latency: float) -> Outcome:
    if turn.runtime == ASYNCIO:
        return asyncio.run(_async_storm(turn, tasks, latency))
    if turn.runtime == TRIO:
        return trio.run(_async_storm, turn, tasks, latency)
    return _thread_storm(turn, tasks, latency)


class _Stopwatch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def _setting(turn: Turn, crowd: int, latency: float) -> Setting:
    is_async = turn.runtime != THREADS
    comes_at_once = turn.case == REFUSED and not CONTENDERS[turn.peer].one_at_a_time
    server = Server(latency=latency, crowd=crowd if comes_at_once else 0, is_async=is_async)
    return Setting(turn.case, turn.grant, is_async, server, turn.library, lifetime=3600 if turn.case == REFUSED else 0)


async def _async_storm(turn: Turn, tasks: int, latency: float) -> Outcome:
    setting = _setting(turn, tasks, latency)
    contender = CONTENDERS[turn.contender]
    client = contender.set_up(setting)
    if inspect.isawaitable(client):
        client = await client
    answers: Counter[str] = Counter()

    async def caller() -> None:
        try:
            response = await client.get(API_URL)
        except Exception as error:  # noqa: BLE001 - whatever it raises is a failure to report
            answers[described(error)] += 1
        else:
            answers[str(response.status_code)] += 1

    stopwatch = _Stopwatch()
    if inspect.isawaitable(first := contender.first(client, setting)):
        await first
    if turn.runtime == TRIO:
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(caller)
    else:
        await asyncio.gather(*(caller() for _ in range(tasks)))
    return Outcome(*stopwatch.read(), setting.server.token_requests, answers)


def _thread_storm(turn: Turn, tasks: int, latency: float) -> Outcome:
    setting = _setting(turn, THREAD_COUNT, latency)
    contender = CONTENDERS[turn.contender]
    client = contender.set_up(setting)
    answers: list[Counter[str]] = []
    start = threading.Barrier(THREAD_COUNT + 1)

    def caller() -> None:
        mine: Counter[str] = Counter()
        start.wait()
        for _ in range(tasks // THREAD_COUNT):
            try:
                mine[str(client.get(API_URL).status_code)] += 1
            except Exception as error:  # noqa: BLE001 - whatever it raises is a failure to report
                mine[described(error)] += 1
        answers.append(mine)

    threads = [threading.Thread(target=caller) for _ in range(THREAD_COUNT)]
    for thread in threads:
        thread.start()
    stopwatch = _Stopwatch()
    contender.first(client, setting)
    start.wait()
    for thread in threads:
        thread.join()
    return Outcome(*stopwatch.read(), setting.server.token_requests, sum(answers, Counter()))


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:48].rstrip(": ")
