"""One crowd that waits for one renewal, and somebody in it is cancelled in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import anyio
import trio
from _clock import datetimes_by_time, two_hours_later
from _contenders import CONTENDERS, FLOOR
from _server import API_URL, Gate, Server
from _setting import ASYNCIO, EXPIRED, TRIO, Setting
from _storm import described

TASK, TIMEOUT, ANYIO_SCOPE, TRIO_SCOPE = "task.cancel()", "asyncio.timeout()", "anyio scope", "trio scope"
WAYS = {ASYNCIO: (TASK, TIMEOUT, ANYIO_SCOPE), TRIO: (TRIO_SCOPE, ANYIO_SCOPE)}
LEADER, HALF = "the first", "the first and half of the rest"
PATIENCE = 3.0  # seconds that a request is waited for; in the crowd, and as long as everybody in turn may take


@dataclass(frozen=True, slots=True)
class Ordeal:
    """Who is cancelled how, and where."""

    contender: str
    grant: str
    runtime: str
    who: str
    way: str


@dataclass(frozen=True, slots=True)
class Survivors:
    """How it went for those who were not cancelled, and for the client.

    Args:
        cancelled: how many were still waiting when they were cancelled.
        answers: what the others got.
        token_requests: until all others had ended.
        next_answer: what a request got right afterwards.
        later_answer: what a request got two hours later, when the token had ended.
        revoked: a retired refresh token has been presented, and the session is over.
    """

    cancelled: int
    answers: Counter[str]
    token_requests: int
    next_answer: str
    later_answer: str
    revoked: bool

    @property
    def failed(self) -> int:
        return self.answers.total() - self.answers["200"]


def endure(ordeal: Ordeal, callers: int, latency: float, seed: int) -> Survivors:
    datetimes_by_time()
    if ordeal.runtime == TRIO:
        return trio.run(_endure, ordeal, callers, latency, seed)
    return asyncio.run(_endure(ordeal, callers, latency, seed))


async def _endure(ordeal: Ordeal, callers: int, latency: float, seed: int) -> Survivors:
    contender = CONTENDERS[ordeal.contender]
    server = Server(latency=latency, is_async=True)
    setting = Setting(EXPIRED, ordeal.grant, True, server, contender.library, lifetime=0)
    client = contender.set_up(setting)
    if inspect.isawaitable(client):
        client = await client
    crowd = _Crowd(client, ordeal.way)
    gate = Gate()
    if ordeal.contender == FLOOR:
        server.api_gate = gate  # it has nothing to renew: there it is the request itself that takes so long
    else:
        server.gate = gate
    chosen = {0} if ordeal.who == LEADER else {0, *random.Random(seed).sample(range(1, callers), callers // 2 - 1)}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.call, 0)
        await anyio.wait_all_tasks_blocked()  # trio starts tasks in any order, and this one is to be the first
        for number in range(1, callers):
            tasks.start_soon(crowd.call, number)
        await anyio.wait_all_tasks_blocked()  # the token request is on its way, and so are all who wait for it
        waiting = [number for number in sorted(chosen) if number not in crowd.answers]
        for number in waiting:
            crowd.cancel(number)
        await anyio.wait_all_tasks_blocked()
        gate.open()
        others = [number for number in range(callers) if number not in waiting]
        with anyio.move_on_after(patience := PATIENCE + callers * latency):
            await crowd.all_answered(others)
        tasks.cancel_scope.cancel()
    answers = Counter(crowd.answers.get(number, f"no answer in {patience:g} s") for number in others)
    count = server.token_requests
    next_answer = await _answer(client)
    two_hours_later()
    later_answer = await _answer(client)
    return Survivors(len(waiting), answers, count, next_answer, later_answer, server.family_revoked)


async def _answer(client: Any) -> str:
    with anyio.move_on_after(PATIENCE):
        try:
            return str((await client.get(API_URL)).status_code)
        except Exception as error:  # noqa: BLE001 - whatever it raises is to be told
            return type(error).__name__
    return f"no answer in {PATIENCE:g} s"


class _Crowd:
    """Callers, and how each can be cancelled."""

    def __init__(self, client: Any, way: str) -> None:
        self.answers: dict[int, str] = {}
        self._client = client
        self._way = way
        self._handles: dict[int, Any] = {}
        self._answered = anyio.Event()

    async def all_answered(self, numbers: list[int]) -> None:
        while any(number not in self.answers for number in numbers):
            await self._answered.wait()
            self._answered = anyio.Event()

    async def call(self, number: int) -> None:
        await self._call(number)
        self._answered.set()

    async def _call(self, number: int) -> None:
        handle, block = self._handle()
        self._handles[number] = handle
        try:
            async with block:
                status = (await self._client.get(API_URL)).status_code
                self.answers[number] = str(status)
        except asyncio.CancelledError:
            if self._way != TASK or not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
        except TimeoutError:
            if self._way != TIMEOUT:
                self.answers[number] = "TimeoutError"
        except Exception as error:  # noqa: BLE001 - whatever it raises is a failure to report
            self.answers[number] = described(error)

    def _handle(self) -> tuple[Any, contextlib.AbstractAsyncContextManager[Any]]:
        if self._way == TASK:
            return asyncio.current_task(), contextlib.AsyncExitStack()
        if self._way == TIMEOUT:
            timeout = asyncio.timeout(None)
            return timeout, timeout
        scope: Any = trio.CancelScope() if self._way == TRIO_SCOPE else anyio.CancelScope()
        stack = contextlib.AsyncExitStack()
        stack.enter_context(scope)
        return scope, stack

    def cancel(self, number: int) -> None:
        handle = self._handles[number]
        if self._way == TIMEOUT:
            handle.reschedule(asyncio.get_running_loop().time())
        else:
            handle.cancel()
