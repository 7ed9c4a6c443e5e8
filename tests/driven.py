"""A driver performed by hand: one step at a time, in a thread or on a loop of its own, with time that costs none."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from concurrency.stage import run
from hand import Hand

from httpx_tokenflow import _drivers
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._drivers import LoopDriver, ThreadDriver, _flying
from httpx_tokenflow._leases import LoopLeases
from httpx_tokenflow._lifecycle import Why
from httpx_tokenflow._loops import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

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
        self.meanwhile: Callable[[], None] = lambda: None

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
        leases: Any = ExitStack() if self.kind == "threads" else LoopLeases()
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


def rigged(kind: str, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A rig whose driver sleeps in no time; `meanwhile` is called in each sleep."""
    rig = Rig(kind)

    def sleep(seconds: float) -> None:
        rig.slept.append(seconds)
        rig.now += seconds
        rig.meanwhile()

    async def asleep(seconds: float) -> None:
        sleep(seconds)

    monkeypatch.setattr(_drivers, "time", SimpleNamespace(monotonic=lambda: rig.now, sleep=sleep))
    monkeypatch.setattr(_drivers, "anyio", Impatient(asleep))
    return rig


@contextmanager
def flying(*flights: Any) -> Iterator[None]:
    """As within the performance of `flights`, the innermost last."""
    token = _flying.set(flights)
    try:
        yield
    finally:
        _flying.reset(token)
