"""The drivers, one step at a time: what a flow may rely on, in a thread and on both kinds of loop."""

from __future__ import annotations

import math
from contextlib import ExitStack, asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from concurrency.stage import PATIENCE, auntil, run, start, until
from hand import Hand

from httpx_tokenflow import ConfigurationError, StoreError, TokenEndpointUnavailable, _drivers
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._drivers import LoopDriver, ThreadDriver, _flying, _LoopLeases, _outcome
from httpx_tokenflow._lifecycle import FLIGHT_GRACE, Why
from httpx_tokenflow._loops import running_loop
from httpx_tokenflow._steps import (
    Call,
    Delete,
    Elsewhere,
    Fetch,
    Keep,
    Launch,
    Lease,
    LetGo,
    Load,
    Patience,
    Read,
    Release,
    Settle,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

DRIVERS = ["threads", "asyncio", "trio"]
LOOPS = DRIVERS[1:]


class Rig(Hand):
    """A source with a driver of one kind, whose token endpoint says nothing but 200, and whose pauses take no time."""

    def __init__(self, kind: str, store: Any = None) -> None:
        super().__init__(store=store)
        self.kind = kind
        self.sent: list[Any] = []
        client: Any = SimpleNamespace(send=self._send, asend=self._asend)
        make = ThreadDriver if kind == "threads" else LoopDriver
        self.driver = make(self.source, self.policy, client, httpx)
        self.slept: list[float] = []
        self.closed: list[str] = []

    def _send(self, *sent: Any) -> ServerResponse:
        self.sent.append(sent)
        return ServerResponse(200, {}, b"{}")

    async def _asend(self, *sent: Any) -> ServerResponse:
        return self._send(*sent)

    def perform(self, *steps: Any, leases: Any = None) -> list[Any]:
        """The answers of the driver, on a loop of its own if it is of that kind; a callable in between is called."""
        if self.kind == "threads":
            return [step() if callable(step) else self.driver.perform(step, leases) for step in steps]

        async def all_of_them() -> list[Any]:
            self._at_home(leases)
            return [step() if callable(step) else await self.driver.perform(step, leases) for step in steps]

        return run(self.kind, all_of_them)

    def stack(self, name: str = "lease") -> Any:
        """Leases that note when they are given back."""
        leases: Any = ExitStack() if self.kind == "threads" else _LoopLeases()
        leases.callback(self.closed.append, name)
        return leases

    def _at_home(self, leases: Any) -> None:
        if leases is not None:
            leases.home = running_loop()

    def look_after(self, kept: Any, seconds: float) -> None:
        """As the driver does after `Keep`, here."""
        self.source.kept = kept
        if self.kind == "threads":
            self.driver._look_after(kept, seconds)
        else:

            async def at_home() -> None:
                self._at_home(kept)
                await self.driver._look_after(kept, seconds)

            run(self.kind, at_home)

    def flight(self, why: Why = Why.MISSING) -> Any:
        """One that is in the air, on this source."""
        flight = self.source.board(self.policy).flight
        assert flight is not None
        flight.why = why
        return flight


class Impatient:
    """anyio, but for its `sleep`."""

    def __init__(self, sleep: Any) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(anyio, name)


@pytest.fixture(params=DRIVERS)
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    rig = Rig(request.param)

    def sleep(seconds: float) -> None:
        rig.slept.append(seconds)
        rig.now += seconds
        rig.meanwhile()

    async def asleep(seconds: float) -> None:
        sleep(seconds)

    rig.meanwhile = lambda: None
    monkeypatch.setattr(_drivers, "time", SimpleNamespace(monotonic=lambda: rig.now, sleep=sleep))
    monkeypatch.setattr(_drivers, "anyio", Impatient(asleep))
    return rig


@contextmanager
def flying(*flights: Any) -> Iterator[None]:
    token = _flying.set(flights)
    try:
        yield
    finally:
        _flying.reset(token)


# A lease that is kept (rule 7).


def test_a_kept_lease_is_looked_after_until_its_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The save is tried again after 2 s, doubling, whatever a try comes to; then the lease is given back."""
    tried = []

    def fails(source: Any) -> Generator[Any, Any, None]:
        tried.append((source, list(rig.closed)))
        yield Load()
        raise RuntimeError

    monkeypatch.setattr(_drivers, "save_unsaved", fails)
    rig.look_after(rig.stack(), 14.5)
    assert rig.slept == [2.0, 4.0, 8.0, 0.5]
    assert tried == [(rig.source, [])] * 4
    assert (rig.closed, rig.source.kept) == (["lease"], None)


def test_a_kept_lease_is_left_alone_once_it_is_let_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds that another lease is kept by now neither saves, nor tries again, nor gives that back."""
    tried: list[Any] = []
    monkeypatch.setattr(_drivers, "save_unsaved", tried.append)
    kept, another = rig.stack(), rig.stack("another")

    def replaced() -> None:
        rig.source.kept = another

    rig.meanwhile = replaced
    rig.look_after(kept, 20.0)
    assert (rig.slept, tried, rig.closed) == ([2.0], [], [])
    assert rig.source.kept is another


def test_a_try_that_works_is_the_last(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the save has let the lease go nothing more is tried."""
    tried = []

    def works(source: Any) -> Generator[Any, Any, None]:
        tried.append(source)
        yield LetGo()

    monkeypatch.setattr(_drivers, "save_unsaved", works)
    rig.look_after(rig.stack(), 20.0)
    assert (rig.slept, tried, rig.closed) == ([2.0], [rig.source], ["lease"])


def test_a_lease_that_cannot_be_given_back_is_nobodys_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails to take its lease back is let be: it ends by itself."""
    monkeypatch.setattr(_drivers, "save_unsaved", lambda _: iter(()))
    kept = rig.stack()
    kept.callback(int, "no number")
    rig.look_after(kept, 1.0)
    assert (rig.closed, rig.source.kept) == (["lease"], None)


def test_a_lease_is_kept_beside_the_program(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Keep` takes the lease out of the renewal's hands, and the end of the program does not wait for who has it."""
    begun: list[Any] = []

    class Thread:
        def __init__(self, **options: Any) -> None:
            begun.append(options)

        def start(self) -> None:
            begun.append("started")

    def spawn(function: Any, when_over: Any, patience: float) -> None:
        begun.append((function.func, function.args, when_over(), patience))

    monkeypatch.setattr(_drivers, "threading", SimpleNamespace(Thread=Thread))
    monkeypatch.setattr(_drivers, "spawn", spawn)
    leases = rig.stack()
    seen: list[Any] = []
    rig.perform(Keep(17.0), Release(), lambda: seen.append((rig.source.kept, list(rig.closed))), LetGo(), leases=leases)
    ((kept, closed),) = seen
    assert closed == [], "it was not the renewal's to give back"
    look_after = rig.driver._look_after
    if rig.kind == "threads":
        options = {"target": look_after, "args": (kept, 17.0), "name": "httpx_tokenflow", "daemon": True}
        assert begun == [options, "started"]
    else:
        assert begun == [(look_after, (kept, 17.0), None, 0.0)]
    assert (rig.closed, rig.source.kept) == (["lease"], None)


@pytest.mark.parametrize("backend", LOOPS)
def test_a_loop_that_runs_elsewhere_gives_its_lease_back(backend: str) -> None:
    """A kept lease is given back on its loop only while that runs, and not where the caller would wait for itself."""
    leases: list[Any] = []

    async def scene() -> None:
        leases.append(_LoopLeases())
        assert leases[0].give_back_at_home() is False
        assert await anyio.to_thread.run_sync(leases[0].give_back_at_home) is True

    run(backend, scene)
    assert leases[0].give_back_at_home() is False


@pytest.mark.parametrize("is_at_home", [True, False])
def test_a_thread_gives_back_on_a_loop_of_its_own_only_where_it_must(
    *, is_at_home: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what its own loop cannot give back is given back beside, within a store's patience, and tells no failure."""
    kept, begun = _LoopLeases(), []

    class Future:
        def result(self, timeout: float) -> None:
            begun.append(timeout)
            raise TimeoutError

    def begin(*_: Any) -> Future:
        return Future()

    monkeypatch.setattr(_drivers, "begin", begin)
    monkeypatch.setattr(_LoopLeases, "give_back_at_home", lambda _: is_at_home)
    _drivers._dropped(None)
    _drivers._dropped(kept)
    assert begun == ([] if is_at_home else [_drivers.STORE_PATIENCE])


@pytest.mark.parametrize("backend", LOOPS)
def test_a_loop_lets_go_what_a_thread_has_kept(backend: str) -> None:
    """A lease that a thread has kept is given back in a thread: a store may block there, and not on the loop."""
    rig, gave = Rig(backend), []
    rig.source.kept = kept = ExitStack()
    kept.callback(lambda: gave.append(running_loop()))
    rig.perform(LetGo())
    assert (gave, rig.source.kept) == ([None], None)


@pytest.mark.parametrize("backend", LOOPS)
def test_a_thread_lets_go_what_a_loop_has_kept(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given back on its own loop, which no end of a program waits for, and what fails there is told to nobody."""
    rig, gave, spawned = Rig("threads"), [], []

    def spawn(*args: Any) -> None:
        spawned.append((args[1](), *args[2:]))
        real(*args)

    real = _drivers.spawn
    monkeypatch.setattr(_drivers, "spawn", spawn)

    async def scene() -> None:
        async def fails() -> None:
            gave.append(running_loop())
            raise OSError

        rig.source.kept = kept = _LoopLeases()
        kept.push_async_callback(fails)
        await anyio.to_thread.run_sync(rig.driver._let_go)
        await auntil(lambda: gave)
        assert gave == [running_loop()]
        assert kept.home is running_loop()

    run(backend, scene)
    assert (spawned, rig.source.kept) == ([(None, 0.0)], None)
    assert caplog.records == []


# The store (rule 5).


def test_a_deletion_is_performed(rig: Rig) -> None:
    """`Delete` deletes the entry of that fence, and says whether there was one."""
    entry = rig.has(rig.entry("1"))
    assert rig.perform(Delete("another")) == [False]
    assert rig.perform(Load()) == [entry]
    assert rig.perform(Delete(entry.fence)) == [True]
    assert rig.perform(Load()) == [None]


def test_a_lease_is_asked_for_as_the_renewal_says(rig: Rig) -> None:
    """The store is told whose lease, for how long, and how long to wait; it is given back with `Release`."""
    asked: list[Any] = []

    class Store:
        @contextmanager
        def lease(self, *args: Any) -> Iterator[bool]:
            asked.append(args)
            yield True
            asked.append("back")

        @asynccontextmanager
        async def alease(self, *args: Any) -> AsyncIterator[bool]:
            with self.lease(*args) as leased:
                yield leased

    rig.source.store = Store()
    assert rig.perform(Lease(40.0, 7.0), Release(), leases=rig.stack()) == [True, None]
    assert asked == [("f", 40.0, 7.0), "back"]


def test_a_store_without_that_side_says_so(rig: Rig) -> None:
    """A store that cannot serve this kind of use is a mistake of the program, told as that, and which side it is."""
    rig.source.store = SimpleNamespace()
    said = r"has no sync side \(load\)" if rig.kind == "threads" else r"has no async side \(aload\)"
    with pytest.raises(ConfigurationError, match=said):
        rig.perform(Load())


def test_a_store_that_fails_is_quoted_by_the_kind_of_its_error(rig: Rig) -> None:
    """Whatever a store raises becomes a StoreError that has the error as its cause, and none of its words."""

    def load(_: str) -> None:
        raise OSError("a secret")

    async def aload(_: str) -> None:
        load(_)

    rig.source.store = SimpleNamespace(load=load, aload=aload)
    with pytest.raises(StoreError, match=r"^the store of tokens failed \(OSError\)$") as caught:
        rig.perform(Load())
    assert isinstance(caught.value.__cause__, OSError)


# Other sources (rule 6).


def test_a_flow_elsewhere_is_performed_on_that_source(rig: Rig) -> None:
    """`Elsewhere` performs a flow for another source, and answers with what the flow returns."""
    mine, other, request = rig.has(rig.entry("1")), rig.entry("2"), SimpleNamespace()
    sibling = rig.sibling().source
    rig.store._entries["sibling"] = other

    def flow() -> Generator[Any, Any, Any]:
        yield Fetch(request, 1.0)
        return (yield Load()), "returned"

    assert rig.perform(Elsewhere(sibling, flow()), Load()) == [(other, "returned"), mine]
    assert rig.sent == [(request, 1.0, httpx)]


def test_who_waits_elsewhere_lasts_as_long_as_that(rig: Rig) -> None:
    """A flight that waits for another lasts as long, and has then as much time of its own as at first."""
    outer, other = rig.flight(), Rig("threads")
    flight = other.flight()
    token, seen = rig.source.hold(rig.entry("1"), rig.policy), []

    def land() -> None:
        until(lambda: flight.waiting)
        seen.append((outer.elsewhere is flight, outermost.elsewhere))
        rig.now += 100.0
        other.source.land(flight, token)

    outermost = Rig("threads").flight()
    outermost.policy = rig.policy
    over, lasts = start(land), outermost.lasts
    with flying(outermost, outer):
        assert rig.perform(Wait(flight)) == [token]
    over.result(PATIENCE)
    assert (seen, outer.elsewhere) == ([(True, None)], None)
    assert outer.lasts == rig.now + rig.policy.budget + FLIGHT_GRACE
    assert (outermost.elsewhere, outermost.lasts) == (None, lasts), "it waits for `outer`, and lasts as long as that"


def test_a_thread_that_flies_for_another_lasts_as_long_as_that() -> None:
    """The same holds where a thread flies the other flight itself, beneath its own."""
    rig, seen = Rig("threads"), []
    outer, flight = Rig("threads").flight(), rig.flight()
    token = rig.source.hold(rig.entry("1"), rig.policy)

    def renewal() -> Generator[Any, Any, Any]:
        seen.append((outer.elsewhere is flight, _flying.get()))
        return token
        yield

    with flying(outer):
        assert rig.perform(Wait(flight, renewal())) == [token]
        assert _flying.get() == (outer,)
    assert seen == [(True, (outer, flight))]
    assert outer.elsewhere is None


def test_who_waits_alone_is_no_flight(rig: Rig) -> None:
    """A request that waits counts among those who wait, and no more once it has its token."""
    flight = rig.flight()

    def land() -> None:
        until(lambda: flight.waiting == 1)
        flight.brought = "token"
        flight.future.set_result("token")

    over = start(land)
    assert rig.perform(Wait(flight)) == ["token"]
    over.result(PATIENCE)
    assert (flight.waiting, flight.waited) == (0, 1)


@pytest.mark.parametrize(("why", "counted"), [(Why.ERRAND, (1, 1)), (Why.MISSING, (0, 1))])
def test_token_requests_are_counted(rig: Rig, why: Why, counted: tuple[int, int]) -> None:
    """A token request counts for the flight that makes it; an errand's for the renewal that it is for as well."""
    outer, inner, request = rig.flight(), Rig("threads").flight(why), SimpleNamespace()
    with flying(outer, inner):
        rig.perform(Fetch(request, 1.0))
    assert rig.sent == [(request, 1.0, httpx)]
    assert (outer.requests, inner.requests) == counted


def test_nobody_waits_for_themselves(rig: Rig) -> None:
    """Who flies, and asks the very auth that is flown for, is told so: it would wait for itself (failures F29)."""
    flight = rig.flight()
    with flying(flight):
        with pytest.raises(ConfigurationError, match="the very auth that asked"):
            rig.perform(Wait(flight))
        assert rig.perform(Settle()) == [None]
    if rig.kind != "threads":
        with flying(flight), pytest.raises(ConfigurationError, match="the very auth that asked"):
            run(rig.kind, rig.driver.in_order, iter(()))


def test_an_answer_is_read_for_the_caller(rig: Rig) -> None:
    """`Read` reads the response, as that is done in this kind of use."""
    read: list[str] = []

    class Response:
        def read(self) -> None:
            read.append("threads")

        async def aread(self) -> None:
            read.append(rig.kind)

    rig.perform(Read(Response()))
    assert read == [rig.kind]


def test_an_async_callable_in_a_sync_use() -> None:
    """A callable that returns anything to be awaited is told to be async; a coroutine is not left behind."""

    class Later:
        def __await__(self) -> Any:
            raise NotImplementedError

    async def coroutine() -> None:
        raise NotImplementedError

    for function in (Later, coroutine):
        with pytest.raises(ConfigurationError, match="secret= is async"):
            Rig("threads").perform(Call(function, "secret=", 1.0))


# Ends of flights and of waits (rules 2 and 3).


def test_a_defect_is_the_cause_of_what_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for a flight that ends in a defect is told that it was torn, and by what."""
    flight, defect = rig.flight(), LookupError("a defect")

    def renewal() -> Generator[Any, Any, Any]:
        raise defect
        yield

    with pytest.raises((LookupError, TokenEndpointUnavailable)):
        rig.perform(Wait(flight, renewal()))
    error = flight.future.exception(0)
    assert isinstance(error, TokenEndpointUnavailable)
    assert error.__cause__ is defect
    logged = [(record.name, record.getMessage()) for record in caplog.records]
    assert logged == ([] if rig.kind == "threads" else [("httpx_tokenflow", "f: a renewal ended in a defect")])


def test_a_person_takes_the_time_of_the_flight_that_asks(rig: Rig) -> None:
    """Where a person has to act the flight that asks lasts longer; one that it is a part of waits for it anyhow."""
    outer, inner = rig.flight(), Rig("threads").flight()
    lasts = outer.lasts
    with flying(outer, inner):
        rig.perform(Patience(600.0))
    assert (outer.asked, outer.lasts) == (False, lasts)
    assert (inner.asked, inner.lasts) == (True, 1_000_000.0 + 600.0 + FLIGHT_GRACE)


def test_a_wait_is_as_long_as_it_says_and_longer_if_the_flight_is(rig: Rig) -> None:
    """A wait ends when it says, or when the flight is lost; if that is later by then, there is another wait."""
    flight = rig.flight()
    assert list(rig.driver._patiently(Wait(flight, until=rig.now + 0.5))) == [0.5]
    assert list(rig.driver._patiently(Wait(flight, until=rig.now - 1.0))) == [0.0]
    waits = rig.driver._patiently(Wait(flight))
    assert next(waits) == flight.deadline - rig.now
    rig.now = flight.deadline
    flight.last(600.0)
    assert next(waits) == 600.0 + FLIGHT_GRACE
    assert list(waits) == []


def test_a_wait_that_was_to_be_short_ends_without_a_token(rig: Rig) -> None:
    """Who would wait no longer goes on without; whose flight is lost by then is told that."""
    flight = rig.flight()
    assert _outcome(Wait(flight, until=flight.deadline - 1.0)) is None
    for late in (flight.deadline, math.inf):
        with pytest.raises(TokenEndpointUnavailable, match="interrupted"):
            _outcome(Wait(flight, until=late))


def test_closing_waits_a_few_seconds_and_not_for_what_is_lost(rig: Rig) -> None:
    """Closing waits five seconds, less if the flight is lost before, and not at all if it is lost already."""
    flight = rig.flight()
    assert rig.driver._patience(flight) == 5.0
    rig.now = flight.deadline - 2.0
    assert rig.driver._patience(flight) == 2.0
    rig.now += 9.0
    assert rig.driver._patience(flight) == 0.0


@pytest.mark.parametrize("ahead", [-1.0, 0.0, 1.5])
def test_the_end_of_the_program_waits_for_what_was_launched(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that nobody waits for is flown by a thread that is no daemon; who launches it waits as they said."""
    rig, seen = Rig("threads"), []

    class Thread:
        def __init__(self, **options: Any) -> None:
            seen.append((options["name"], options["daemon"]))

        def start(self) -> None:
            seen.append("started")

        def join(self, timeout: float) -> None:
            seen.append(timeout)

    monkeypatch.setattr(_drivers, "threading", SimpleNamespace(Thread=Thread))
    rig.perform(Launch(rig.flight(), iter(()), rig.now + ahead))
    assert seen == [("httpx_tokenflow", False), "started", max(0.0, ahead)]


def test_without_a_thread_nobody_is_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no more threads to be had the flight is torn, by that, and the next request will try."""
    rig, error = Rig("threads"), RuntimeError("can't start new thread")

    class Thread:
        def __init__(self, **_: Any) -> None:
            pass

        def start(self) -> None:
            raise error

    monkeypatch.setattr(_drivers, "threading", SimpleNamespace(Thread=Thread))
    flight = rig.flight()
    rig.perform(Launch(flight, iter(())))
    told = flight.future.exception(0)
    assert isinstance(told, TokenEndpointUnavailable)
    assert told.__cause__ is error
    assert rig.source.flight is None


@pytest.mark.parametrize("backend", LOOPS)
def test_who_waits_on_the_loop_that_flies_waits_for_its_event(backend: str) -> None:
    """There a flight always lands, however late, and who waits is served: nobody is told that it is lost (rule 2)."""
    rig = Rig(backend)
    flight = rig.flight()
    token = rig.source.hold(rig.entry("1"), rig.policy)

    async def scene() -> None:
        async def lands() -> None:
            await auntil(lambda: flight.waiting)
            rig.source.land(flight, token)

        flight.home = running_loop()
        rig.now = flight.deadline + 1.0
        async with anyio.create_task_group() as group:
            group.start_soon(lands)
            assert await rig.driver.perform(Wait(flight)) is token

    run(backend, scene)


@pytest.mark.parametrize("backend", LOOPS)
def test_a_loop_that_takes_no_task_leaves_nobody_waiting(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a flight cannot be seen off it is torn at once, and who wanted to is told why."""
    rig = Rig(backend)

    def spawn(*_: Any) -> None:
        raise LookupError

    monkeypatch.setattr(_drivers, "spawn", spawn)
    flight = rig.flight()
    with pytest.raises(LookupError):
        rig.perform(Launch(flight, iter(())))
    assert isinstance(flight.future.exception(0), TokenEndpointUnavailable)
    assert rig.source.flight is None


@pytest.mark.parametrize("backend", LOOPS)
def test_a_change_from_outside_comes_after_what_is_in_the_air(backend: str) -> None:
    """It is begun when the flight in the air is over, and not before."""
    rig, order = Rig(backend), []
    flight = rig.flight()
    token = rig.source.hold(rig.entry("1"), rig.policy)

    def change() -> Generator[Any, Any, str]:
        order.append("change")
        return "changed"
        yield

    async def scene() -> None:
        async def lands() -> None:
            await auntil(lambda: flight.landings)
            order.append("lands")
            rig.source.land(flight, token)

        async with anyio.create_task_group() as group:
            group.start_soon(lands)
            assert await rig.driver.in_order(change()) == "changed"

    run(backend, scene)
    assert order == ["lands", "change"]


@pytest.mark.parametrize("backend", LOOPS)
def test_changes_from_outside_come_one_at_a_time(backend: str) -> None:
    """All drivers of a source share one order on a loop, and two loops have none in common."""
    rig, orders = Rig(backend), []

    async def scene() -> None:
        first = rig.driver._order()
        assert rig.driver._order() is first
        assert LoopDriver(rig.source, rig.policy, rig.driver.client, httpx)._order() is first
        orders.append(first)

    run(backend, scene)
    run(backend, scene)
    assert orders[0] is not orders[1]
