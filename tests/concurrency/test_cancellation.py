"""Whoever is cancelled, interrupted or closed is alone with it: the renewal goes on, and the others are served."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from concurrency.stage import DRIVERS, KINDS, LIFETIME, LOOPS, Stage, asent, auntil, run, sent, start, until

from httpx_tokenflow import TokenEndpointUnavailable
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx

# Five ways to be cancelled. Each runs `work`, cancels it when `cut` is set, and returns when it has ended by that.


async def by_task_cancel(work: Callable[[], Awaitable[Any]], cut: anyio.Event) -> None:
    task = asyncio.ensure_future(work())
    await cut.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(work: Callable[[], Awaitable[Any]], cut: anyio.Event) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(), 0.3)
    await cut.wait()


async def by_timeout(work: Callable[[], Awaitable[Any]], cut: anyio.Event) -> None:
    async def strike(limit: asyncio.Timeout) -> None:
        await cut.wait()
        limit.reschedule(0)

    async def limited(tasks: Any) -> None:
        async with asyncio.timeout(None) as limit:
            tasks.start_soon(strike, limit)
            await work()

    async with anyio.create_task_group() as tasks:
        with pytest.raises(TimeoutError):
            await limited(tasks)


async def by_scope(work: Callable[[], Awaitable[Any]], cut: anyio.Event) -> None:
    async def strike() -> None:
        await cut.wait()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(strike)
            await work()
    assert scope.cancelled_caught


async def by_trio_scope(work: Callable[[], Awaitable[Any]], cut: anyio.Event) -> None:
    async def strike() -> None:
        await cut.wait()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(strike)
            await work()
    assert scope.cancelled_caught


ASYNCIO_WAYS = [by_task_cancel, by_wait_for, by_timeout, by_scope]
WAYS = [
    *(pytest.param(*loop.values if hasattr(loop, "values") else (loop,), way, marks=getattr(loop, "marks", ()))
      for loop, way in itertools.product(LOOPS[:2], ASYNCIO_WAYS)),
    *(("trio", way) for way in (by_scope, by_trio_scope)),
]  # fmt: skip


class HeldStore(MemoryStore):
    """A store one of whose verbs is held until it is let go."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.verb = verb
        self.reached = False
        self.go = False

    async def _hold(self, verb: str) -> None:
        if verb == self.verb:
            self.reached = True
            await auntil(lambda: self.go)

    async def aload(self, fingerprint: str) -> Any:
        await self._hold("aload")
        return self.load(fingerprint)

    async def asave(self, fingerprint: str, entry: Any, *, replaces: str | None) -> bool:
        await self._hold("asave")
        return self.save(fingerprint, entry, replaces=replaces)

    @asynccontextmanager
    async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncIterator[None]:
        await self._hold("alease")
        yield
        await self._hold("release")


async def fifty_join(tasks: Any, stage: Stage, client: httpx.AsyncClient, answers: list[Any]) -> None:
    """Fifty requests that wait for the flight that is in the air."""

    async def wait() -> None:
        answers.append(await asent(client, stage.api_url))

    for _ in range(50):
        tasks.start_soon(wait)
    await auntil(lambda: stage.waiting() == 51)


@pytest.mark.parametrize(("backend", "way"), WAYS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_leader_costs_nobody_anything(backend: str, way: Any, kind: str) -> None:
    """The leader is cancelled after the server has rotated: 50 waiters are served, nothing is lost, no POST more (F02).

    Nor does the next request POST: what the renewal brought is in memory and in the store.
    """
    stage = Stage(kind, backend, need="expired")
    stage.gate.shut()
    answers: list[Any] = []
    cut = anyio.Event()
    async with stage.client() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(way, lambda: client.get(stage.api_url), cut)
        await auntil(lambda: stage.gate.reached == 1)
        await fifty_join(tasks, stage, client, answers)
        cut.set()
        await auntil(lambda: stage.waiting() == 50)
        assert answers == []
        stage.gate.open()
    assert answers == [200] * 50
    async with stage.client() as client:
        assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    assert stage.stored.stamp == stage.auth._source.held.entry.stamp
    assert stage.stored.token.access_token != stage.first.access_token
    stage.check_session()


@pytest.mark.parametrize(("backend", "way"), [("asyncio", by_task_cancel), ("trio", by_trio_scope)])
@pytest.mark.parametrize("verb", ["aload", "alease", "asave", "release"])
async def test_a_cancelled_leader_does_not_tear_the_store(backend: str, way: Any, verb: str) -> None:
    """The leader is cancelled while the store is at work: the renewal goes on from there, and is stored (F02, F04)."""
    store = HeldStore(verb)
    stage = Stage("refresh", backend, need="expired", store=store)
    cut = anyio.Event()
    answers: list[Any] = []
    async with stage.client() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(way, lambda: client.get(stage.api_url), cut)
        await auntil(lambda: store.reached)
        await fifty_join(tasks, stage, client, answers)
        cut.set()
        await auntil(lambda: stage.waiting() == 50)
        store.go = True
    assert answers == [200] * 50
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_client_that_is_closed_meanwhile_takes_nobody_along(backend: str) -> None:
    """The leader's client is left and closed while the renewal is in the air: the others are served (F02)."""
    stage = Stage("refresh", backend, need="expired")
    stage.gate.shut()
    answers: list[Any] = []
    async with stage.client() as other, anyio.create_task_group() as tasks:
        async with stage.client() as client, anyio.create_task_group() as hurried:
            hurried.start_soon(client.get, stage.api_url)
            await auntil(lambda: stage.gate.reached == 1)
            hurried.cancel_scope.cancel()
        assert client.is_closed
        await auntil(lambda: stage.waiting() == 0)

        async def wait() -> None:
            answers.append(await asent(other, stage.api_url))

        for _ in range(50):
            tasks.start_soon(wait)
        await auntil(lambda: stage.waiting() == 50)
        stage.gate.open()
    assert answers == [200] * 50
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_closing_the_auth_meanwhile_loses_no_token(driver: str) -> None:
    """The auth is closed while a renewal is in the air on its own connection: the answer is not lost for that (F02).

    A later use opens what it needs anew.
    """
    stage = Stage("refresh", driver, need="expired", latency=0.3)

    async def close_in_the_middle() -> list[Any]:
        answers: list[Any] = []
        client = stage.client(auth)

        async def request() -> None:
            answers.append(await asent(client, stage.api_url))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(request)
            await auntil(lambda: stage.sandbox.token_requests == 1)
            await auth.aclose()
        return answers

    with serve(stage.sandbox) as url:
        stage.token_url = f"{url}/token"
        auth = stage.make_auth(client=None)
        if driver == "threads":
            flying = start(stage.at_once, 3, [stage.client(auth)])
            until(lambda: stage.sandbox.token_requests == 1)
            auth.close()
            answers = flying.result(10)
        else:
            answers = run(driver, close_in_the_middle)
        assert answers == [200] * 3
        stage.hands.move(LIFETIME)
        assert stage.at_once(3, auths=[auth]) == [200] * 3
        auth.close()
    assert stage.sandbox.token_requests == 2
    stage.check_session()


@pytest.mark.parametrize(("backend", "way"), [("asyncio", by_task_cancel), ("asyncio", by_scope), ("trio", by_scope)])
@pytest.mark.parametrize("victim", range(4))
async def test_only_the_one_who_is_cancelled_ends(backend: str, way: Any, victim: int) -> None:
    """Of four that wait, the leader among them, any one can be cancelled: the other three are served (F25)."""
    stage = Stage("refresh", backend, need="expired")
    stage.gate.shut()
    cut = anyio.Event()
    answers: dict[int, Any] = {}
    async with stage.client() as client, anyio.create_task_group() as tasks:

        async def request(i: int) -> None:
            answers[i] = await asent(client, stage.api_url)

        for i in range(4):
            if i == victim:
                tasks.start_soon(way, lambda: client.get(stage.api_url), cut)
            else:
                tasks.start_soon(request, i)
            await auntil(lambda i=i: stage.waiting() == i + 1)
        cut.set()
        await auntil(lambda: stage.waiting() == 3)
        assert answers == {}
        stage.gate.open()
    assert answers == {i: 200 for i in range(4) if i != victim}
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_renewal_that_nobody_waits_for_is_stored(backend: str) -> None:
    """All callers are cancelled: the renewal is finished and stored all the same, and the next uses it (F02, F25)."""
    stage = Stage("refresh", backend, need="expired")
    stage.gate.shut()
    async with stage.client() as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(client.get, stage.api_url)
            await auntil(lambda: stage.waiting() == 10)
            await auntil(lambda: stage.gate.reached == 1)
            tasks.cancel_scope.cancel()
        assert stage.waiting() == 0
        stage.gate.open()
        await auntil(lambda: stage.flight is None)
        assert stage.stored.token.access_token != stage.first.access_token
        assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_leader_that_is_cancelled_at_once_harms_nobody(backend: str) -> None:
    """The leader is cancelled in the very turn in which the renewal starts: the next request is served (F02, F24)."""
    stage = Stage("refresh", backend, need="expired")
    async with stage.client() as client:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.get(stage.api_url)
        assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_renewal_aside_outlives_its_request(driver: str, kind: str) -> None:
    """A 401 to a body that cannot be sent again is given back at once; the renewal goes on for the next (F37, F02).

    They wait for it, and nobody starts another.
    """
    stage = Stage(kind, driver, need="refused")
    stage.gate.shut()
    if driver == "threads":
        with stage.client() as client:
            assert client.post(stage.api_url, content=iter([b"x"])).status_code == 401
        until(lambda: stage.gate.reached == 1)
        flying = start(stage.at_once, 10)
        until(lambda: stage.waiting() == 10)
        stage.gate.open()
        answers = flying.result(10)
    else:

        async def body() -> AsyncIterator[bytes]:
            yield b"x"

        async def main() -> list[Any]:
            async with stage.client() as client:
                assert (await client.post(stage.api_url, content=body())).status_code == 401
            await auntil(lambda: stage.gate.reached == 1)
            answers: list[Any] = []
            client = stage.client()

            async def request() -> None:
                answers.append(await asent(client, stage.api_url))

            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(request)
                await auntil(lambda: stage.waiting() == 10)
                stage.gate.open()
            return answers

        answers = run(driver, main)
    assert answers == [200] * 10
    assert stage.sandbox.token_requests == 1
    stage.check_session()


def test_a_renewal_that_cannot_begin_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is to be had for a renewal aside: nobody waits for it, and the next request renews (F24)."""
    stage = Stage("client", "threads", need="refused")

    class NoThread:
        def __init__(self, **_: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, stage.client() as client:
        patch.setattr(threading, "Thread", NoThread)
        with suppress(Exception):  # a 401, or what the system says: neither is wrong
            client.post(stage.api_url, content=iter([b"x"]))
    assert stage.waiting() == 0
    answer = start(sent, stage.client(), stage.api_url).result(3)
    assert answer == 200
    assert stage.sandbox.token_requests == 1


@pytest.mark.parametrize(("backend", "way"), [("asyncio", by_task_cancel), ("asyncio", by_scope), ("trio", by_scope)])
@pytest.mark.parametrize("verb", ["aload", "asave"])
async def test_a_login_that_is_cancelled_holds_nothing(backend: str, way: Any, verb: str) -> None:
    """`aset_token` is cancelled while the store is at work: what was there is renewed as ever (F22)."""
    store = HeldStore(verb)
    stage = Stage("refresh", backend, need="expired", store=store)
    cut = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(way, lambda: stage.auth.aset_token(stage.login()), cut)
        await auntil(lambda: store.reached)
        cut.set()
    store.go = True
    async with stage.client() as client:
        assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


class Interrupt(BaseException):
    """Neither an Exception nor anything that is known here."""


class Interrupts:
    """Raises in the place of the first answer, before the server has seen anything, as soon as it is told to."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind
        self.now = threading.Event()
        self.done = False

    def __call__(self, _: object) -> None:
        if not self.done:
            until(self.now.is_set)
            self.done = True
            raise self.kind


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit, Interrupt])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_thread_tells_who_waits(interrupt: type[BaseException], kind: str) -> None:
    """A thread that flies is interrupted: who waits, in threads and on a loop, learns that nobody knows (F24)."""
    stage = Stage(kind, "anywhere", need="expired")
    stage.gate.instead = interrupts = Interrupts(interrupt)
    leader = start(stage.client(driver="threads").get, stage.api_url)
    until(lambda: stage.flight is not None)
    threads = [start(sent, stage.client(driver="threads"), stage.api_url) for _ in range(3)]
    loops = [start(run, loop, asent, stage.client(driver=loop), stage.api_url) for loop in ("asyncio", "trio")]
    until(lambda: stage.waiting() == 5)
    interrupts.now.set()
    with pytest.raises(interrupt):
        leader.result(10)
    errors = [one.result(10) for one in threads + loops]
    for error in errors:
        assert isinstance(error, TokenEndpointUnavailable)
        assert error.outcome == "unknown"
    assert len({id(error) for error in errors}) == 5
    # That nothing was sent nobody knows: a refresh token has its mark, and is presented once more.
    assert sent(stage.client(driver="threads"), stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    assert stage.sandbox.families_revoked == 0


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_interrupt_in_a_renewal_on_a_loop_tells_who_waits(backend: str, kind: str) -> None:
    """Something that is no Exception comes out of a renewal on a loop: who waits is told, the loop goes on (F24)."""
    stage = Stage(kind, backend, need="expired")
    stage.gate.instead = interrupts = Interrupts(Interrupt)
    interrupts.now.set()
    answers = []
    async with stage.client() as client:

        async def request() -> None:
            answers.append(await asent(client, stage.api_url))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(request)
        assert [type(answer).__name__ for answer in answers] == ["TokenEndpointUnavailable"] * 4
        assert {answer.outcome for answer in answers} == {"unknown"}
        assert await asent(client, stage.api_url) == 200


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_defect_in_a_renewal_does_not_stop_the_loop(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An Exception that nobody foresaw ends the flight and is logged; who waits is told, the loop goes on (F24)."""
    stage = Stage("client", backend, need="expired")
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "httpx_tokenflow"):
        patch.setattr(type(stage.auth._source), "hold", lambda *_: 1 / 0)
        async with stage.client() as client:
            answers = []

            async def request() -> None:
                answers.append(await asent(client, stage.api_url))

            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(request)
    assert [type(answer).__name__ for answer in answers] == ["TokenEndpointUnavailable"] * 4
    assert "defect" in caplog.text
    async with stage.client() as client:
        assert await asent(client, stage.api_url) == 200


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
async def test_a_cancellation_from_inside_a_renewal_is_not_inherited(backend: str) -> None:
    """The renewal's own task is cancelled, from within: who waits gets an error, not a cancellation (F24, F25)."""
    if backend == "uvloop":
        pytest.importorskip("uvloop")
    stage = Stage("client", backend, need="expired")
    stage.gate.instead = interrupts = Interrupts(asyncio.CancelledError)
    interrupts.now.set()
    async with stage.client() as client:
        answer = await asent(client, stage.api_url)
        assert isinstance(answer, TokenEndpointUnavailable)
        assert await asent(client, stage.api_url) == 200
