"""The drivers, one step at a time: the store, and other sources, in a thread and on both kinds of loop."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from concurrency.stage import PATIENCE, run, start, until
from driven import DRIVERS, Rig, flying, rigged

from httpx_tokenflow import ConfigurationError, StoreError
from httpx_tokenflow._drivers import _flying
from httpx_tokenflow._lifecycle import FLIGHT_GRACE, Why
from httpx_tokenflow._steps import (
    Call,
    Delete,
    Elsewhere,
    Fetch,
    Lease,
    Load,
    Read,
    Release,
    Settle,
    Wait,
)
from httpx_tokenflow.stores import MemoryStore, RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator


@pytest.fixture(params=DRIVERS)
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rigged(request.param, monkeypatch)


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
    with pytest.raises(StoreError, match=r"^the store of tokens failed \(OSError\): SimpleNamespace$") as caught:
        rig.perform(Load())
    assert isinstance(caught.value.__cause__, OSError)


def test_a_store_that_fails_is_named(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of our stores has failed is told with its place and no password; of another the name of its class alone."""

    def load(_: str) -> None:
        raise OSError("a secret")

    async def aload(_: str) -> None:
        load(_)

    class Theirs(MemoryStore):
        def __repr__(self) -> str:
            return "<Theirs with a secret>"

    ours = RedisStore("redis://user:a-secret@redis.example:6380/0")
    for store, name in ((ours, "<RedisStore redis.example:6380 tokenflow:>"), (Theirs(), "Theirs")):
        monkeypatch.setattr(store, "load", load)
        monkeypatch.setattr(store, "aload", aload)
        rig.source.store = store
        with pytest.raises(StoreError) as caught:
            rig.perform(Load())
        assert str(caught.value) == f"the store of tokens failed (OSError): {name}"


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
