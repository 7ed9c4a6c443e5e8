"""The drivers, one step at a time: how flights and waits end (`_drivers`, rules 2 and 3)."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from concurrency.stage import auntil, run
from driven import DRIVERS, LOOPS, Rig, flying, rigged

from httpx_tokenflow import TokenEndpointUnavailable, _drivers
from httpx_tokenflow._drivers import LoopDriver, _outcome
from httpx_tokenflow._lifecycle import FLIGHT_GRACE
from httpx_tokenflow._loops import running_loop
from httpx_tokenflow._steps import (
    Launch,
    Patience,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(params=DRIVERS)
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rigged(request.param, monkeypatch)


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
