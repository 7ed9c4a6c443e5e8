"""Early renewals: nobody waits for one but those who have to, a failing one costs nobody anything, none is lost."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest
import trio
from concurrency.stage import DRIVERS, KINDS, LIFETIME, LOOPS, Gate, Stage, asent, at_once, auntil, sent, start, until

from httpx_tokenflow.testing import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.usefixtures("no_pauses", "patience")

EARLY = 3200.0  # an age at which a token of an hour is early, whatever the jitter, and not due
DUE = 3545.0
CROWD = 8


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a good token waits for a renewal for as long as the test wants."""
    monkeypatch.setattr("httpx_tokenflow._flow.PATIENCE", 1000.0)


def early(kind: str = "client", driver: str = "asyncio", **options: Any) -> Stage:
    """A stage whose token is early; the token endpoint's answer is held."""
    stage = Stage(kind, driver, need=None, **options)
    stage.hands.move(EARLY)
    stage.gate.shut()
    return stage


async def ask(stage: Stage, client: Any = None, *limit: float | None) -> Any:
    """What a GET gets, with a time limit of its own: the status, or the exception. Sync clients work in threads."""
    client = client or stage.client()
    if limit:
        client.timeout = httpx.Timeout(*limit)
    if stage.driver == "threads":
        return await anyio.to_thread.run_sync(sent, client, stage.api_url)
    return await asent(client, stage.api_url)


class Crowd:
    """Requests that have been sent, and the answers that have come."""

    def __init__(self, tasks: Any, stage: Stage) -> None:
        self.tasks = tasks
        self.stage = stage
        self.sent = 0
        self.answers: list[Any] = []

    def send(self, number: int = 1, client: Any = None, *limit: float | None) -> None:
        async def one() -> None:
            self.answers.append(await ask(self.stage, client, *limit))

        self.sent += number
        for _ in range(number):
            self.tasks.start_soon(one)

    async def see_off(self) -> None:
        """One more request: it finds that the token is early. In a thread it is busy with that, elsewhere it is not."""
        self.send()
        await auntil(lambda: self.stage.gate.reached == 1)
        if self.stage.driver != "threads":
            await self.all_but(0)

    async def all_but(self, missing: int) -> None:
        await auntil(lambda: len(self.answers) == self.sent - missing)


async def at_once_here(stage: Stage, number: int) -> list[Any]:
    """What so many requests at once get, on the loop that is running."""
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, stage)
        crowd.send(number)
    return crowd.answers


def carried(stage: Stage) -> list[str]:
    """The tokens that came to the API, in the order of their coming."""
    return [one.headers["authorization"].split()[1] for one in stage.sandbox.seen if one.path.startswith("/api/")]


def newest(stage: Stage) -> str:
    return stage.auth._source.held.entry.token.access_token


# Nobody waits


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_waits_for_an_early_renewal(backend: str, kind: str) -> None:
    """While an early renewal is in the air all requests are served with the current token; then with the new one.

    The one that has found that it is early goes on with it as well.
    """
    stage = early(kind, backend)
    assert await at_once_here(stage, CROWD) == [200] * CROWD
    await auntil(lambda: stage.gate.reached == 1)
    assert await at_once_here(stage, CROWD) == [200] * CROWD
    assert stage.flight.waited == 0
    assert set(carried(stage)) == {stage.first.access_token}
    stage.gate.open()
    await auntil(lambda: stage.flight is None)
    assert await at_once_here(stage, CROWD) == [200] * CROWD
    assert newest(stage) != stage.first.access_token
    assert set(carried(stage)[2 * CROWD :]) == {newest(stage)}
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("kind", KINDS)
def test_in_threads_one_is_busy(kind: str) -> None:
    """Of a crowd of threads that find an early token, one renews it; all others go on with it, and nobody waits."""
    stage = early(kind, "threads")
    requests = [start(sent, stage.client(), stage.api_url) for _ in range(CROWD)]
    until(lambda: stage.gate.reached == 1 and sum(request.done() for request in requests) == CROWD - 1)
    assert stage.flight.waited == 0
    assert carried(stage) == [stage.first.access_token] * (CROWD - 1)
    stage.gate.open()
    assert [request.result(10) for request in requests] == [200] * CROWD
    assert carried(stage)[-1] == newest(stage) != stage.first.access_token
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", DRIVERS)
async def test_a_token_for_use_elsewhere_does_not_wait_either(backend: str) -> None:
    """`token`, `warm` and requests that take the long way go on with the current token during an early renewal."""
    stage = early("refresh", backend)
    client = stage.client()
    long_way = partial(client.get, stage.api_url, extensions={"tokenflow": {"retry": False}})
    async with anyio.create_task_group() as tasks:
        await Crowd(tasks, stage).see_off()
        if backend == "threads":
            assert await anyio.to_thread.run_sync(stage.auth.token) == stage.first
            assert await anyio.to_thread.run_sync(stage.auth.warm) is True
            assert (await anyio.to_thread.run_sync(long_way)).status_code == 200
        else:
            assert await stage.auth.atoken() == stage.first
            assert await stage.auth.awarm() is True
            assert (await long_way()).status_code == 200
        assert stage.flight.waited == 0
        stage.gate.open()
    await auntil(lambda: stage.flight is None)
    assert stage.sandbox.token_requests == 1
    stage.check_session()


def test_one_early_renewal_for_loops_and_threads() -> None:
    """Threads and loops of both kinds find an early token at once: one token request, and nobody waits (F48)."""
    stage = early("refresh", "anywhere")
    drivers = ["asyncio", "trio", "threads"] * 2
    crowds = [start(at_once, one, [stage.client(driver=one)] * 4, stage.api_url) for one in drivers]
    until(lambda: len(carried(stage)) >= 4 * len(drivers) - 1)  # all, but for the thread that renews
    assert stage.flight.waited == 0
    stage.gate.open()
    assert [crowd.result(10) for crowd in crowds] == [[200] * 4] * len(drivers)
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_failing_early_renewals_cost_nobody_anything(driver: str) -> None:
    """An outage while the token is early goes unseen, and the token endpoint is asked less and less often (F60, F57).

    After 5 s, 10 s, 20 s and so on; when it is over the next attempt brings the new token.
    """
    stage = Stage("refresh", driver, need=None, policy={"attempts": 1, "random": lambda: 0.0})
    stage.hands.move(EARLY)
    stage.gate.instead = lambda _: httpx.Response(503)
    began = stage.hands()
    for attempts, moment in enumerate([0.0, 5.0, 15.0, 35.0, 75.0, 155.0]):
        for just in (-0.1, 0.0, 0.1):
            stage.hands.move(max(0.0, began + moment + just - stage.hands()))
            assert stage.at_once(2) == [200] * 2
            assert stage.gate.reached == attempts + (stage.hands() >= began + moment)
    assert set(carried(stage)) == {stage.first.access_token}
    stage.gate.instead = None
    stage.hands.move(160.0)
    assert stage.at_once(2) == [200] * 2
    assert stage.sandbox.token_requests == 1
    assert newest(stage) != stage.first.access_token
    assert stage.auth.status.last_error is None
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_asks_for_time_gets_it(driver: str) -> None:
    """An early renewal that is answered with Retry-After: no token request before that, not even when due (F57)."""
    stage = Stage("client", driver, need=None)
    stage.hands.move(EARLY)
    stage.gate.instead = lambda _: httpx.Response(429, headers={"Retry-After": "380"})
    for _ in range(38):  # it becomes due on the way
        assert stage.at_once(2) == [200] * 2
        stage.hands.move(9.9)
    assert stage.gate.reached == 1
    stage.gate.instead = None
    stage.hands.move(10.0)
    assert stage.at_once(2) == [200] * 2
    assert stage.sandbox.token_requests == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_session_that_is_over_is_used_until_it_ends(driver: str) -> None:
    """An early renewal learns that somebody has to log in again: the token is used until it ends all the same (F60)."""
    stage = Stage("refresh", driver, need=None)
    stage.hands.move(EARLY)
    stage.gate.instead = lambda _: httpx.Response(400, json={"error": "invalid_grant"})
    for _ in range(39):
        assert stage.at_once(2) == [200] * 2
        stage.hands.move(10.0)
    assert stage.gate.reached == 1
    stage.hands.move(LIFETIME)
    assert [type(answer).__name__ for answer in stage.at_once(2)] == ["ReauthenticationRequired"] * 2
    assert stage.gate.reached == 1


# Those who have to wait join it


@pytest.mark.parametrize("backend", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lands", [True, False])
async def test_a_401_during_an_early_renewal_joins_it(backend: str, kind: str, lands: bool) -> None:
    """Requests are refused while an early renewal is in the air: they wait for that, and so does who comes then (F50).

    If it fails, they get its error with their own 401 on it, and the next request can go on with the token elsewhere.
    """
    stage = early(kind, backend, policy={"attempts": 1})
    stage.gate.instead = None if lands else lambda _: httpx.Response(503)
    api = Gate(stage.sandbox.transport())
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, stage)
        await crowd.see_off()
        stage.sandbox.script(*[Status(401)] * CROWD, on="api")
        api.shut()
        crowd.send(CROWD, stage.client(transport=api))
        await auntil(lambda: api.reached == CROWD)
        api.open()
        await auntil(lambda: stage.waiting() == CROWD)
        seen = stage.sandbox.api_requests
        crowd.send()
        await auntil(lambda: stage.waiting() == CROWD + 1)
        assert stage.sandbox.api_requests == seen  # nobody takes a token that was refused
        stage.gate.open()
    assert stage.gate.reached == 1
    refused = [answer for answer in crowd.answers if answer != 200]
    if lands:
        assert refused == []
        assert len(carried(stage)) == crowd.sent + CROWD
        stage.check_session()
    else:
        assert [answer.response.status_code for answer in refused] == [401] * CROWD
        assert newest(stage) == stage.first.access_token
        assert await ask(stage) == 200


@pytest.mark.parametrize("backend", DRIVERS)
@pytest.mark.parametrize("age", [DUE, LIFETIME], ids=["due", "ended"])
@pytest.mark.parametrize("lands", [True, False])
async def test_becoming_due_during_an_early_renewal_joins_it(backend: str, age: float, lands: bool) -> None:
    """The token becomes due, or ends, while its early renewal is in the air: whoever comes now waits for that one.

    If it fails, a token that has not ended is sent (F60).
    """
    stage = early("refresh", backend, policy={"attempts": 1, "budget": 600.0})
    stage.gate.instead = None if lands else lambda _: httpx.Response(503)
    async with anyio.create_task_group() as tasks:
        await Crowd(tasks, stage).see_off()
        stage.hands.move(age - EARLY)
        crowd = Crowd(tasks, stage)
        crowd.send(CROWD)
        await auntil(lambda: stage.waiting() == CROWD)
        assert stage.gate.reached == 1
        stage.gate.open()
    if lands:
        assert crowd.answers == [200] * CROWD
        assert stage.gate.reached == 1
        assert set(carried(stage)[-CROWD:]) == {newest(stage)}
        stage.check_session()
    elif age == DUE:
        assert crowd.answers == [200] * CROWD
        assert stage.gate.reached == 1
        assert set(carried(stage)) == {stage.first.access_token}
    else:
        assert [answer.outcome for answer in crowd.answers] == ["answered"] * CROWD


@pytest.mark.parametrize("backend", DRIVERS)
async def test_who_has_a_good_token_does_not_wait_for_long(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A due token is sent if its renewal takes too long; that goes on, and who has no token waits for it (F60)."""
    monkeypatch.setattr("httpx_tokenflow._flow.PATIENCE", 0.05)
    stage = early("refresh", backend, policy={"budget": 600.0})
    async with anyio.create_task_group() as tasks:
        await Crowd(tasks, stage).see_off()
        stage.hands.move(DUE - EARLY)
        crowd = Crowd(tasks, stage)
        crowd.send(CROWD)
        await crowd.all_but(0)
        assert crowd.answers == [200] * CROWD
        assert stage.flight is not None
        assert set(carried(stage)) == {stage.first.access_token}
        stage.hands.move(LIFETIME - DUE)
        crowd.send(CROWD)
        await auntil(lambda: stage.waiting() == CROWD)
        stage.gate.open()
    assert crowd.answers == [200] * 2 * CROWD
    assert stage.sandbox.token_requests == 1
    stage.check_session()


# A request that may take longer than the token lives


TIMEOUTS = [
    pytest.param(5.0, {}, False, id="as usual"),
    pytest.param(None, {}, False, id="stream"),
    pytest.param(900.0, {}, True, id="long"),
    pytest.param(900.0, {"cover_timeout": False}, False, id="long, switched off"),
    pytest.param(1500.0, {}, False, id="no renewal would help"),
]


@pytest.mark.parametrize("backend", DRIVERS)
@pytest.mark.parametrize(("limit", "policy", "waits"), TIMEOUTS)
async def test_who_may_take_longer_than_the_token_waits(
    backend: str, limit: float | None, policy: dict[str, Any], waits: bool
) -> None:
    """Of the requests that come during an early renewal, those wait whose timeout is longer than the token lives.

    Not streams, for which nothing is promised, nor a timeout that is long for any token of this server (F59).
    """
    stage = early("client", backend, policy=policy)
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks, stage)
        await crowd.see_off()
        busy = crowd.sent - len(crowd.answers)
        crowd.send(3, None, limit)
        if waits:
            await auntil(lambda: stage.waiting() == 3)
        else:
            await crowd.all_but(busy)
            assert stage.flight.waited == 0
        stage.gate.open()
        await crowd.all_but(0)
    assert crowd.answers == [200] * 4
    await auntil(lambda: stage.flight is None)
    assert carried(stage).count(newest(stage)) == busy + 3 * waits
    assert stage.sandbox.token_requests == 1


@pytest.mark.parametrize("backend", DRIVERS)
@pytest.mark.parametrize(("limit", "policy", "waits"), TIMEOUTS)
async def test_who_may_take_longer_than_the_token_renews_first(
    backend: str, limit: float | None, policy: dict[str, Any], waits: bool
) -> None:
    """The same where nobody has seen off a renewal yet: who needs one renews first, the others have a good token."""
    stage = Stage("client", backend, need=None, policy={"early_window": 0.0, **policy})
    stage.hands.move(EARLY)
    assert await ask(stage, None, limit) == 200
    assert stage.sandbox.token_requests == waits
    assert (carried(stage) == [stage.first.access_token]) is not waits
    assert await ask(stage, None, limit) == 200
    assert stage.sandbox.token_requests == waits


# Nothing is lost


ENDS = [  # native: by asyncio's own `cancel`
    *((pytest.param(*getattr(loop, "values", (loop,)), native, marks=getattr(loop, "marks", ())))
      for loop in LOOPS for native in (False, True) if (loop, native) != ("trio", True)),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "native"), ENDS)
async def test_an_early_renewal_outlives_its_request(backend: str, native: bool) -> None:
    """The request that has seen an early renewal off is cancelled: the new refresh token is saved nonetheless (F02)."""
    stage = early("refresh", backend)
    api = Gate(stage.sandbox.transport())
    api.shut()
    client = stage.client(transport=api)

    async def request(scope: anyio.CancelScope) -> None:
        with scope:
            await client.get(stage.api_url)

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        if native:
            task = asyncio.ensure_future(request(scope))
        else:
            tasks.start_soon(request, scope)
        await auntil(lambda: stage.gate.reached == api.reached == 1)
        if native:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            scope.cancel()
            await auntil(lambda: scope.cancelled_caught)
    stage.gate.open()
    await auntil(lambda: stage.flight is None)
    assert stage.stored.token.refresh_token != stage.first.refresh_token
    assert await ask(stage) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


def run_asyncio(main: Callable[[], Awaitable[None]], witness: Callable[[], Awaitable[None]]) -> None:
    async def both() -> None:
        tasks = [asyncio.ensure_future(witness())]
        await asyncio.sleep(0)
        await main()
        del tasks

    asyncio.run(both())  # type: ignore[arg-type]


def run_uvloop(main: Callable[[], Awaitable[None]], witness: Callable[[], Awaitable[None]]) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def both() -> None:
        tasks = [asyncio.ensure_future(witness())]
        await asyncio.sleep(0)
        await main()
        del tasks

    uvloop.run(both())


def run_trio(main: Callable[[], Awaitable[None]], witness: Callable[[], Awaitable[None]]) -> None:
    async def both() -> None:
        trio.lowlevel.spawn_system_task(witness)
        await trio.lowlevel.checkpoint()
        await main()

    trio.run(both)


@pytest.mark.parametrize("program", [run_asyncio, run_uvloop, run_trio])
@pytest.mark.parametrize("end", ["returns", "raises"])
@pytest.mark.parametrize("client", ["async", "sync"])
def test_an_early_renewal_outlives_the_program(program: Callable[..., None], end: str, client: str) -> None:
    """The program ends while the answer to an early renewal is on its way: the new refresh token is saved (F02).

    The answer comes only after all tasks have been cancelled, which a task of the program's own bears witness to.
    """
    stage = early("refresh", "anywhere" if client == "sync" else "asyncio")
    stage.driver = "trio" if program is run_trio else "asyncio"
    bore_witness = []

    async def witness() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            bore_witness.append(stage.flight is not None)
            stage.gate.open()

    async def main() -> None:
        assert await ask(stage) == 200
        await auntil(lambda: stage.gate.reached == 1)
        if end == "raises":
            raise LookupError

    if end == "raises":
        with pytest.raises(LookupError):
            program(main, witness)
    else:
        program(main, witness)
    assert bore_witness == [True]
    assert stage.flight is None
    assert stage.stored.token.refresh_token != stage.first.refresh_token
    assert stage.at_once(3) == [200] * 3
    assert stage.sandbox.token_requests == 1
    stage.check_session()
