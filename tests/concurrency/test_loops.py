"""One auth, many event loops: one after the other, several at once, some that die in the middle, some that block."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
import trio
from concurrency.stage import KINDS, LIFETIME, LOOPS, Stage, asent, at_once, auntil, meanwhile, run, sent, start, until

from httpx_tokenflow import ConfigurationError, ReauthenticationRequired, RenewalPolicy, TokenEndpointUnavailable
from httpx_tokenflow._flights import Flight
from httpx_tokenflow._lifecycle import FLIGHT_GRACE
from httpx_tokenflow.events import Why
from httpx_tokenflow.testing import serve

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("impatience")

BUDGET = 2.0
LATER = BUDGET + FLIGHT_GRACE  # when a flight that has not landed is given up

# F30, F31, F34, F36: loops one after the other, and several at once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need", ["expired", "refused"])
def test_loops_one_after_the_other(kind: str, need: str) -> None:
    """Each of five successive runs, on asyncio and trio in turn, renews once for ten callers at once (F30, F34)."""
    stage = Stage(kind, "asyncio", need)
    for number, driver in enumerate(("asyncio", "asyncio", "trio", "asyncio", "trio"), start=1):
        stage.driver = driver
        with stage.held_until(waiting=10):
            assert stage.at_once(10) == [200] * 10
        assert stage.sandbox.token_requests == number
        stage.hands.move(LIFETIME) if need == "expired" else stage.sandbox.revoke_access_tokens()
    stage.check_session()


def test_loops_one_after_the_other_with_connections() -> None:
    """Without `client=`, each run has connections of its own: nothing is left over from a loop that is gone (F36)."""
    stage = Stage("refresh", "asyncio", need="expired")
    with serve(stage.sandbox) as url:
        stage.token_url = f"{url}/token"
        auth = stage.make_auth(client=None)
        for number, driver in enumerate(("asyncio", "trio", "asyncio", "threads", "trio", "threads"), start=1):
            stage.driver = driver
            assert stage.at_once(5, auths=[auth]) == [200] * 5
            assert stage.sandbox.token_requests == number
            stage.hands.move(LIFETIME)
        auth.close()


def test_every_thread_with_a_loop_of_its_own() -> None:
    """Ten threads that run one short loop after the other, and ten that run none: one token request a turn (F31)."""
    stage = Stage("refresh", "anywhere", need="refused", latency=0.02)
    together = threading.Barrier(20)

    def loops() -> list[Any]:
        answers = []
        for turn in range(3):
            together.wait(10)
            driver = ("asyncio", "trio")[turn % 2]
            answers += at_once(driver, [stage.client(driver=driver)] * 3, stage.api_url)
            if together.wait(10) == 0:
                stage.sandbox.revoke_access_tokens()
        return answers

    def thread() -> list[Any]:
        answers = []
        for _ in range(3):
            together.wait(10)
            answers.append(sent(stage.client(driver="threads"), stage.api_url))
            if together.wait(10) == 0:
                stage.sandbox.revoke_access_tokens()
        return answers

    futures = [start(work) for work in (loops, thread) for _ in range(10)]
    answers = [answer for future in futures for answer in future.result(15)]
    assert answers == [200] * (10 * 9 + 10 * 3)
    assert stage.sandbox.token_requests == 3
    assert stage.sandbox.families_revoked == 0


# F30: loops that die while a renewal is in the air


def mains_return(stage: Stage) -> None:
    """`asyncio.run` whose main returns: its tasks are cancelled."""

    async def main() -> None:
        task = asyncio.create_task(stage.client().get(stage.api_url))
        await auntil(lambda: stage.gate.reached == 1)
        assert not task.done()

    asyncio.run(main())


def mains_return_at_once(stage: Stage) -> None:
    """The same before the renewal's task has had its first turn."""

    async def main() -> None:
        task = asyncio.create_task(stage.client().get(stage.api_url))
        while stage.flight is None:  # noqa: ASYNC110 - as in `auntil`, without a turn too many
            await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(main())


def trio_is_over(stage: Stage) -> None:
    """`trio.run` whose main returns: its system tasks are cancelled."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.client().get, stage.api_url)
            await auntil(lambda: stage.gate.reached == 1)
            nursery.cancel_scope.cancel()

    trio.run(main)


def main_raises(stage: Stage) -> None:
    """`asyncio.run` whose main raises something that nobody catches."""

    async def main() -> None:
        tasks = [asyncio.create_task(stage.client().get(stage.api_url))]
        await auntil(lambda: stage.gate.reached == 1)
        raise KeyError(tasks.pop())

    with pytest.raises(KeyError):
        asyncio.run(main())


DEATHS = [mains_return, mains_return_at_once, trio_is_over, main_raises]


@pytest.mark.sampled
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("then", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_ends_in_the_middle_of_a_renewal(death: Callable[[Stage], None], then: str, kind: str) -> None:
    """A run ends while its renewal is in the air: the next one, anywhere, renews as if nothing had been (F30).

    The server has not seen the first refresh token here; its mark says once, and it is presented once more.
    """
    stage = Stage(kind, "anywhere", need="expired")
    stage.gate.shut()
    stage.gate.instead = lambda _: httpx.Response(500)  # not processed
    death(stage)
    assert stage.flight is None
    if kind == "refresh" and death is not mains_return_at_once:
        assert stage.stored.presented == 1
    stage.gate.instead = None
    stage.gate.open()
    stage.driver = then
    assert stage.at_once(10) == [200] * 10
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("death", [mains_return, trio_is_over])
def test_nothing_is_presented_without_its_mark(death: Callable[[Stage], None]) -> None:
    """Runs die again and again after the server has rotated: marked before each time, twice, then it is over (F03).

    The mark is in the store when the refresh token arrives, so whoever finds it knows.
    """
    stage = Stage("refresh", "anywhere", need="expired")
    marks = []
    stage.gate.shut()
    stage.gate.instead = lambda _: marks.append(stage.stored.presented)
    death(stage)
    stage.gate.reached = 0
    death(stage)
    stage.gate.open()
    assert marks == [1, 2]
    error = sent(stage.client(driver="threads"), stage.api_url)
    assert isinstance(error, ReauthenticationRequired)
    assert marks == [1, 2]
    assert stage.sandbox.token_requests == 2
    stage.auth.set_token(stage.login())
    assert sent(stage.client(driver="threads"), stage.api_url) == 200


class StoppedLoop:
    """A loop that is stopped while so many requests wait for a renewal, and later closed without cancelling them."""

    def __init__(self, stage: Stage, requests: int) -> None:
        self.loop = asyncio.new_event_loop()
        # The loop says at the end that its tasks are pending, which is what is meant here.
        self.loop.set_exception_handler(lambda *_: None)

        async def main() -> None:
            self.tasks = [asyncio.ensure_future(asent(stage.client(), stage.api_url)) for _ in range(requests)]
            await auntil(lambda: stage.gate.reached == 1 and stage.waiting() == requests)

        self.loop.run_until_complete(main())

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False
        self.loop.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("closed", [False, True])
def test_a_loop_that_stops_leaves_nobody_waiting(kind: str, closed: bool) -> None:
    """A loop stops in the middle of a renewal: who waits elsewhere learns, in bounded time, that nobody knows (F30).

    Each error is its own. After that a request renews, and presents the refresh token under a second mark.
    """
    stage = Stage(kind, "anywhere", need="expired", policy={"budget": BUDGET})
    stage.gate.shut()
    stage.gate.instead = lambda _: httpx.Response(500)  # not processed
    dead = StoppedLoop(stage, 1)
    if closed:
        dead.close()
    stage.hands.move(LATER - 0.3)  # that is what is left of the flight's time
    began = time.monotonic()
    waiters = [start(sent, stage.client(driver="threads"), stage.api_url) for _ in range(3)]
    waiters += [start(run, loop, asent, stage.client(driver=loop), stage.api_url) for loop in ("asyncio", "trio")]
    until(lambda: stage.waiting() == 6)
    errors = [waiter.result(10) for waiter in waiters]
    assert 0.2 < time.monotonic() - began < 5
    for error in errors:
        assert isinstance(error, TokenEndpointUnavailable)
        assert error.outcome == "unknown"
    assert len({id(error) for error in errors}) == 5
    stage.hands.move(0.3)
    stage.gate.instead = None
    stage.gate.open()
    assert sent(stage.client(driver="threads"), stage.api_url) == 200
    assert run("trio", asent, stage.client(driver="trio"), stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()
    if not closed:
        dead.close()


@pytest.mark.parametrize("when", ["while it is given up", "after the next has landed"])
def test_a_loop_that_wakes_up_too_late_has_nothing_to_say(when: str) -> None:
    """A loop goes on long after its flight was given up: what that brings does not replace what is there by now (F30).

    Whoever waited on that loop all the time is woken, and gets what there is.
    """
    stage = Stage("client", "anywhere", need="expired", policy={"budget": BUDGET})
    stage.gate.shut()
    sleeper = StoppedLoop(stage, 3)
    stage.gate.open()
    stage.hands.move(LATER)
    if when == "after the next has landed":
        assert sent(stage.client(driver="threads"), stage.api_url) == 200
        newest = stage.auth._source.held
    answers = sleeper.loop.run_until_complete(asyncio.wait_for(asyncio.gather(*sleeper.tasks), 10))
    if when == "after the next has landed":
        assert stage.auth._source.held is newest
        assert {getattr(answer, "outcome", answer) for answer in answers} <= {200, "unknown"}
    else:
        assert answers == [200] * 3
    assert stage.flight is None
    assert stage.stored.stamp == stage.auth._source.held.entry.stamp
    sleeper.loop.close()


@pytest.mark.parametrize("lands", [True, False])
def test_giving_up_and_landing_at_once(lands: bool) -> None:
    """A flight is given up in one thread at the very moment at which it ends in another: neither of them trips (F24).

    A renewal that trips over that would take its loop along.
    """
    stage = Stage("client", "anywhere", need="expired")
    source = stage.auth._source
    ticket = source.board(stage.policy)
    assert ticket.leads
    flight = ticket.flight
    future = flight.future
    real = future.set_result if lands else future.set_exception

    def too_late(what: Any) -> None:
        """The other thread has come first, between whatever was asked before and this."""
        Future.set_exception(future, TokenEndpointUnavailable("given up", outcome="unknown"))
        real(what)

    setattr(future, "set_result" if lands else "set_exception", too_late)
    if lands:
        source.land(flight, source.hold(stage.stored, stage.policy))
    else:
        source.fail(flight, TokenEndpointUnavailable("no", outcome="answered"))
    assert future.done()
    assert stage.flight is None


# F33, rule 10: blocking


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("client", ["sync", "async", "our own"])
async def test_a_renewal_does_not_stop_the_loop(backend: str, client: str) -> None:
    """While the token endpoint takes its time a ticker ticks on, whatever `client=` is, a sync one included (F33).

    Here the endpoint answers after the twentieth tick: on a loop that stands still it never would.
    """
    stage = Stage("client", "threads" if client == "sync" else backend, need="expired")
    stage.driver = backend
    stage.gate.shut()
    came, ticks = threading.Event(), 0

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        """What `serve` serves: as the gate, over loopback."""
        if scope["type"] == "http":
            came.set()
            await auntil(lambda: ticks >= 20)
        await stage.sandbox(scope, receive, send)

    async def tick() -> None:
        nonlocal ticks
        await auntil(lambda: came.is_set() or stage.gate.reached)
        for _ in range(20):
            await anyio.sleep(0.001)
            ticks += 1
        stage.gate.open()

    answers: list[Any] = []

    async def request() -> None:
        answers.append(await asent(api, stage.api_url))

    with serve(endpoint) as url:
        auth = stage.auth
        if client == "our own":
            stage.token_url = f"{url}/token"
            auth = stage.make_auth(client=None)
        async with anyio.create_task_group() as tasks, stage.client(auth) as api:
            tasks.start_soon(tick)
            for _ in range(5):
                tasks.start_soon(request)
            await auntil(lambda: len(answers) == 5)
        await auth.aclose()
    assert answers == [200] * 5
    assert ticks == 20
    assert stage.sandbox.token_requests == 1


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_sync_client_does_not_wait_for_its_own_loop(backend: str) -> None:
    """A sync request on the loop that has to run the renewal gets an error that says so, at once (rule 10).

    The renewal goes on, and is there for everybody else.
    """
    stage = Stage("refresh", "anywhere", need="expired")
    stage.gate.shut()
    answers = []

    async def request() -> None:
        answers.append(await asent(stage.client(driver=backend), stage.api_url))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await auntil(lambda: stage.gate.reached == 1)
        began = time.monotonic()
        error = sent(stage.client(driver="threads"), stage.api_url)
        assert time.monotonic() - began < 1
        stage.gate.open()
    assert isinstance(error, ConfigurationError)
    assert "event loop" in str(error)
    assert "thread" in str(error)
    assert answers == [200]
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("need", ["nothing", "expired", "refused"])
async def test_a_sync_client_on_a_loop_may_lead(backend: str, need: str) -> None:
    """A sync request on a loop renews by itself if nobody else does: it blocks, as sync clients do (rule 10)."""
    stage = Stage("refresh", "anywhere", need)
    assert sent(stage.client(driver="threads"), stage.api_url) == 200
    assert await asent(stage.client(driver=backend), stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_sync_client_in_a_worker_thread_may_wait(backend: str) -> None:
    """A sync request in a worker thread of the loop that renews waits for it, and is served (rule 10, F31)."""
    stage = Stage("refresh", "anywhere", need="expired")
    stage.gate.shut()
    answers = []

    async def request() -> None:
        answers.append(await asent(stage.client(driver=backend), stage.api_url))

    async def in_a_thread() -> None:
        answers.append(await anyio.to_thread.run_sync(sent, stage.client(driver="threads"), stage.api_url))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await auntil(lambda: stage.gate.reached == 1)
        for _ in range(5):
            tasks.start_soon(in_a_thread)
        await auntil(lambda: stage.waiting() == 6)
        stage.gate.open()
    assert answers == [200] * 6
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
async def test_waiters_in_worker_threads_leave_room_for_the_renewal(backend: str) -> None:
    """All worker threads of a loop wait for a renewal that a sync `client=` sends: it still gets a thread (F26, F33).

    That is a web backend with sync and async endpoints, at the moment at which its token expires.
    """
    stage = Stage("refresh", "anywhere", need="expired", policy={"budget": BUDGET})
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = 4
    answers = []
    flying = anyio.Event()

    class Held(type(stage.store)):
        async def aload(self, fingerprint: str) -> Any:
            await flying.wait()
            return await super().aload(fingerprint)

    stage.store = Held()
    stage.auth = stage.make_auth()

    async def request() -> None:
        answers.append(await asent(stage.client(driver=backend), stage.api_url))

    async def in_a_thread() -> None:
        answers.append(await anyio.to_thread.run_sync(sent, stage.client(driver="threads"), stage.api_url))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await auntil(lambda: stage.waiting() == 1)
        for _ in range(4):
            tasks.start_soon(in_a_thread)
        await auntil(lambda: stage.waiting() == 5)
        flying.set()
    assert answers == [200] * 5
    assert stage.sandbox.token_requests == 1
    stage.check_session()


# Changes from outside


@pytest.mark.sampled
@pytest.mark.parametrize("flies", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("sets", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_token_set_meanwhile_stays(flies: str, sets: str, kind: str) -> None:
    """A token that is set elsewhere while a renewal is in the air is the current one from then on (`generation`)."""
    stage = Stage(kind, "anywhere", need="expired")
    stage.gate.shut()
    flying = start(at_once, flies, [stage.client(driver=flies)] * 3, stage.api_url)
    until(lambda: stage.gate.reached == 1)
    newer = stage.login()
    if sets == "threads":
        stage.auth.set_token(newer)
    else:
        run(sets, stage.auth.aset_token, newer)
    assert stage.auth._source.held.entry.token is newer
    assert sent(stage.client(driver="threads"), stage.api_url) == 200
    stage.gate.open()
    assert flying.result(10) == [200] * 3
    assert stage.auth._source.held.entry.token is newer
    assert stage.stored.token is newer
    assert sent(stage.client(driver="threads"), stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    last = [seen for seen in stage.sandbox.seen if seen.path != "/token"][-1]
    assert last.headers["authorization"] == f"Bearer {newer.access_token}"


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_token_set_on_the_same_loop_is_in_order(backend: str) -> None:
    """`aset_token` on the loop that renews waits for that, and has the last word."""
    stage = Stage("refresh", backend, need="expired")
    stage.gate.shut()
    newer = stage.login()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asent, stage.client(), stage.api_url)
        await auntil(lambda: stage.gate.reached == 1)
        tasks.start_soon(stage.auth.aset_token, newer)
        await anyio.wait_all_tasks_blocked()
        stage.gate.open()
    assert stage.auth._source.held.entry.token is newer
    assert stage.stored.token is newer
    assert stage.sandbox.families_revoked == 0


@pytest.mark.parametrize("flies", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("status", [400, 401, 503])
def test_a_token_set_meanwhile_serves_who_waits(flies: str, status: int, no_pauses: None) -> None:
    """A renewal fails, but a good token has been set meanwhile: who waited for the renewal gets that one (F08)."""
    stage = Stage("refresh", "anywhere", need="expired")
    stage.gate.shut()
    error = {400: "invalid_grant", 401: "invalid_client", 503: "temporarily_unavailable"}[status]
    stage.gate.instead = lambda _: httpx.Response(status, json={"error": error})
    flying = start(at_once, flies, [stage.client(driver=flies)] * 3, stage.api_url)
    until(lambda: stage.gate.reached == 1)
    stage.auth.set_token(stage.login())
    stage.gate.open()
    assert flying.result(10) == [200] * 3
    assert stage.sandbox.token_requests == 0


@pytest.mark.parametrize("flies", ["asyncio", "trio", "threads"])
def test_a_failure_from_before_a_login_does_not_speak_for_it(flies: str) -> None:
    """A renewal fails for ten minutes, but a login came meanwhile: its token is renewed when that is needed (F08)."""
    stage = Stage("refresh", "anywhere", need="expired")
    stage.gate.shut()
    stage.gate.instead = lambda _: httpx.Response(503, headers={"Retry-After": "600"})
    flying = start(at_once, flies, [stage.client(driver=flies)] * 3, stage.api_url)
    until(lambda: stage.gate.reached == 1)
    stage.auth.set_token(stage.login())
    stage.gate.open()
    flying.result(10)
    stage.gate.instead = None
    stage.sandbox.revoke_access_tokens()
    assert sent(stage.client(driver="threads"), stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    assert stage.sandbox.families_revoked == 0


def test_a_flight_is_woken_through_every_loop() -> None:
    """Whoever waits for one flight, on whichever loop and however often, is woken by one event a loop (F31)."""
    flight = Flight(0, RenewalPolicy(), Why.MISSING, frozenset())
    woken = []

    async def main() -> None:
        from httpx_tokenflow._loops import call_soon, running_loop

        landings = {id(flight.landing(running_loop(), anyio.Event, call_soon)) for _ in range(3)}
        assert len(landings) == 1
        event = flight.landing(running_loop(), anyio.Event, call_soon)
        reached.release()
        await event.wait()
        woken.append(1)

    reached = threading.Semaphore(0)
    futures = [start(partial(run, loop, main)) for loop in ("asyncio", "trio", "asyncio", "trio")]

    def land() -> None:
        for _ in futures:
            assert reached.acquire(timeout=10)
        flight.future.set_result(None)

    with meanwhile(land):
        for future in futures:
            future.result(10)
    assert len(woken) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_of_other_loops_come_and_go(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal is seen off while other loops see off theirs: what they have in the air is looked at in one go.

    Else the renewal would be abandoned although it goes on, and the next one would present its refresh token again.
    """

    class Busy(set[Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("Set changed size during iteration")

    monkeypatch.setattr("httpx_tokenflow._loops._tasks", Busy())
    stage = Stage(kind, "asyncio", "expired")
    assert stage.at_once(3) == [200] * 3
    assert stage.sandbox.token_requests == 1
    stage.check_session()
