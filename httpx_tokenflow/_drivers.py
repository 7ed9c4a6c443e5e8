"""The two drivers: they perform steps, on threads or on anyio, and decide nothing.

Rules.

1. A flight on an event loop is a task of its own, which no caller's cancellation reaches, neither anyio's nor a native
   one (`CancelScope(shield=True)` does not stop `task.cancel()`; failures F02). On asyncio the flight's loop holds it
   strongly, on trio it is a system task; if the program ends meanwhile, it is given a few seconds to land. In a thread
   it is flown by the one who leads; where nobody has to wait for it, by a thread of its own, for which the end of the
   program waits: a refresh token that was presented, and whose answer nobody took, is a lost session.
2. Who waits on the loop that flies waits for an event of that loop; who waits elsewhere is woken through their own
   loop, or through the flight's future. A loop that dies wakes nobody, so who waits elsewhere waits for a bounded time.
3. A flight is over whatever happens to its task: it lands, fails or is abandoned in the same breath, without an await.
4. A sync caller on the very loop that flies would wait for itself: that is an error that says so, no deadlock. So
   is a callable, asked for a credential, that sends a request through the auth that asks (failures F29).
5. A store gets 5 s for each of its verbs, and for a lease as long as there is patience for its holder: one that hangs
   longer has failed. In a thread nothing can stop it: there a store has to see to that itself.
6. Whoever flies, and waits for a flight on another source, has as much time as that.
7. A lease that is kept since the store would not take a token is looked after beside the program: the save is tried
   again, after 2 s, doubling, until the lease would have ended.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
from concurrent import futures
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

import anyio

from ._bodies import adrain, drain
from ._errors import ConfigurationError, StoreError, TokenFlowError
from ._flights import Flight, Held, torn
from ._leases import LoopLeases, agive_back, give_back
from ._lifecycle import STORE_PATIENCE, Why, save_pause
from ._loops import call_soon, running_loop, spawn, work
from ._steps import (
    Call,
    Delete,
    Drain,
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
    Save,
    Settle,
    Sleep,
    Step,
    Wait,
    Work,
)
from ._storing import save_unsaved

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import ModuleType

    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._steps import Renewing
    from ._token_client import TokenClient

__all__ = ["LoopDriver", "ThreadDriver"]

logger = logging.getLogger("httpx_tokenflow")

CLOSING_PATIENCE = 5.0  # seconds for which closing waits for a flight in the air

_ALONE = nullcontext()  # whoever waits is no flight

_flying: ContextVar[tuple[Flight, ...]] = ContextVar("httpx_tokenflow_flying", default=())


class _Driver:
    """What both drivers know: whose token, by whose numbers, through which client, for which library."""

    __slots__ = ("client", "library", "policy", "source")

    def __init__(self, source: TokenSource, policy: RenewalPolicy, client: TokenClient, library: ModuleType) -> None:
        self.source = source
        self.policy = policy
        self.client = client
        self.library = library

    def _check_reentry(self, flight: Flight | None) -> None:
        if flight is not None and flight in _flying.get():
            raise ConfigurationError(
                "a callable that is asked for a credential uses the very auth that asked: "
                "give it a client without this auth"
            )

    def _patiently(self, step: Wait) -> Iterator[float]:
        """How long to wait: seconds; and then once more, if a person may take longer than was known before."""
        flight, limit = step.flight, -math.inf
        while not flight.future.done() and limit < (until := min(flight.deadline, step.until)):
            limit = until
            yield max(0.0, limit - self.policy.clock.monotonic())

    def _patience(self, flight: Flight) -> float:
        """Seconds for which closing waits: not for a flight that is lost."""
        return max(0.0, min(CLOSING_PATIENCE, flight.deadline - self.policy.clock.monotonic()))

    @contextmanager
    def _as_long_as(self, flight: Flight) -> Iterator[None]:
        """Whoever flies and waits for another flight has as much time as that, and then time of their own."""
        for outer in _flying.get()[-1:]:
            outer.elsewhere = flight
        try:
            yield
        finally:
            for outer in _flying.get()[-1:]:
                outer.last(self.policy.budget)
                outer.elsewhere = None

    def _in_the_air(self) -> Flight | None:
        """The flight that closing and leaving wait for; nobody waits for one that they are a part of."""
        flight = self.source.flight
        return None if flight in _flying.get() else flight

    def _verb(self, verb: str) -> Callable[..., Any]:
        method: Callable[..., Any] | None = getattr(self.source.store, verb, None)
        if method is None:
            side = "async" if verb.startswith("a") else "sync"
            raise ConfigurationError(
                f"{type(self.source.store).__name__} has no {side} side ({verb}): use another store"
            )
        return method

    def _store_call(self, step: Step, prefix: str) -> Callable[[], Any] | None:
        fingerprint = self.source.fingerprint
        if isinstance(step, Load):
            return partial(self._verb(f"{prefix}load"), fingerprint)
        if isinstance(step, Save):
            return partial(self._verb(f"{prefix}save"), fingerprint, step.entry, replaces=step.replaces)
        if isinstance(step, Delete):
            return partial(self._verb(f"{prefix}delete"), fingerprint, fence=step.fence)
        return None

    def _be_patient(self, step: Patience) -> None:
        for flight in _flying.get()[-1:]:
            flight.asked = True
            flight.last(step.seconds)

    def _tries(self, kept: Any, seconds: float) -> Iterator[float]:
        """The pauses between tries to save, until that has worked, or `seconds` are over (rule 7)."""
        until, tries = time.monotonic() + seconds, 0
        while self.source.kept is kept and (left := until - time.monotonic()) > 0:
            yield min(save_pause(tries), left)
            tries += 1

    def _on(self, source: TokenSource) -> Self:
        return type(self)(source, self.policy, self.client, self.library)


class ThreadDriver(_Driver):
    """Performs steps in the thread that asks."""

    __slots__ = ()

    def run(self, flow: Generator[Step, Any, Any], leases: ExitStack | None = None) -> Any:
        """Perform `flow` to its end."""
        answer, error = None, None
        with closing(flow):  # whatever tears it, an interrupt or a loop that ends: it lets go at once
            while True:
                try:
                    step = flow.send(answer) if error is None else flow.throw(error)
                except StopIteration as end:
                    return end.value
                answer, error = None, None
                try:
                    answer = self.perform(step, leases)
                except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                    error = failed

    def perform(  # noqa: C901, PLR0911, PLR0912 - a line for each step
        self, step: Step, leases: ExitStack | None = None
    ) -> Any:
        """Perform one step; raises what it fails with."""
        if isinstance(step, Wait):
            return self._wait(step)
        if isinstance(step, Launch):
            return self._launch(step)
        if isinstance(step, Drain):
            return drain(step.response)
        if isinstance(step, Read):
            return step.response.read()
        if isinstance(step, Fetch):
            _count()
            return self.client.send(step.request, step.timeout, self.library)
        if isinstance(step, Sleep):
            return self.policy.clock.sleep(step.seconds)
        if isinstance(step, Call):
            return self._call(step)
        if isinstance(step, Work):
            return step.function()
        if isinstance(step, Patience):
            return self._be_patient(step)
        if isinstance(step, Settle):
            return self.settle()
        if isinstance(step, Elsewhere):
            return self._on(step.source).run(step.flow)
        try:
            if (call := self._store_call(step, "")) is not None:
                return call()
            if isinstance(step, LetGo):
                return self._let_go()
            assert leases is not None  # noqa: S101 - only renewals lease
            if isinstance(step, Keep):
                return self._keep(leases, step.seconds)
            if isinstance(step, Lease):
                return leases.enter_context(self._verb("lease")(self.source.fingerprint, step.seconds, step.patience))
            assert isinstance(step, Release)  # noqa: S101 - the last of the steps
            return leases.close()
        except TokenFlowError:
            raise
        except Exception as error:
            raise _store_failed(error, self.source.store) from error

    def _keep(self, leases: ExitStack, seconds: float) -> None:
        kept = self.source.kept = leases.pop_all()
        threading.Thread(target=self._look_after, args=(kept, seconds), name="httpx_tokenflow", daemon=True).start()

    def _look_after(self, kept: ExitStack, seconds: float) -> None:
        for pause in self._tries(kept, seconds):
            time.sleep(pause)
            if self.source.kept is kept:
                with suppress(Exception):
                    self.run(save_unsaved(self.source))
        if self.source.kept is kept:
            self._let_go()

    def _let_go(self) -> None:
        kept, self.source.kept = self.source.kept, None
        give_back(kept)

    def settle(self) -> None:
        """Wait a while for a flight in the air, so that closing does not tear it; not on the loop that flies it."""
        flight = self._in_the_air()
        if flight is not None and (flight.home is None or flight.home is not running_loop()):
            futures.wait([flight.future], timeout=self._patience(flight))

    def _call(self, step: Call) -> Any:
        result = step.function()
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise ConfigurationError(
                f"{step.what} is async, and this is a sync use: give a sync callable, or use async"
            )
        return result

    def _launch(self, step: Launch) -> None:
        flying = partial(copy_context().run, self._fly, step.flight, step.renewal)
        thread = threading.Thread(target=flying, name="httpx_tokenflow", daemon=False)
        patience = max(0.0, step.until - self.policy.clock.monotonic())
        try:
            thread.start()
        except RuntimeError as error:  # no more threads to be had: the next request will try
            self.source.abandon(step.flight, error)
            return
        thread.join(patience)

    def _wait(self, step: Wait) -> Held | None:
        flight = step.flight
        self._check_reentry(flight)
        if step.renewal is not None:
            with self._as_long_as(flight):
                self._fly(flight, step.renewal)
        elif flight.home is not None and flight.home is running_loop():
            raise ConfigurationError(
                "a sync client waits here for a renewal that this very event loop has to run: "
                "use an async client, or call the sync one in a thread"
            )
        else:
            with self._as_long_as(flight) if _flying.get() else _ALONE, flight.joined():
                for patience in self._patiently(step):
                    futures.wait([flight.future], timeout=patience)
        return _outcome(step)

    def _fly(self, flight: Flight, renewal: Renewing) -> None:
        token = _flying.set((*_flying.get(), flight))
        try:
            with ExitStack() as leases:
                held = self.run(renewal, leases)
        except TokenFlowError as error:
            self.source.fail(flight, error)
        except BaseException as error:
            self.source.abandon(flight, error)
            raise
        else:
            self.source.land(flight, held)
        finally:
            _flying.reset(token)


class LoopDriver(_Driver):
    """Performs steps on the event loop that asks, asyncio's or trio's."""

    __slots__ = ()

    async def run(self, flow: Generator[Step, Any, Any], leases: AsyncExitStack | None = None) -> Any:
        """Perform `flow` to its end."""
        answer, error = None, None
        with closing(flow):  # whatever tears it, an interrupt or a loop that ends: it lets go at once
            while True:
                try:
                    step = flow.send(answer) if error is None else flow.throw(error)
                except StopIteration as end:
                    return end.value
                answer, error = None, None
                try:
                    answer = await self.perform(step, leases)
                except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                    error = failed

    async def perform(  # noqa: C901, PLR0911, PLR0912 - a line for each step
        self, step: Step, leases: AsyncExitStack | None = None
    ) -> Any:
        """Perform one step; raises what it fails with."""
        if isinstance(step, Wait):
            return await self._wait(step)
        if isinstance(step, Launch):
            return self._launch(step.flight, step.renewal)
        if isinstance(step, Drain):
            return await adrain(step.response)
        if isinstance(step, Read):
            return await step.response.aread()
        if isinstance(step, Fetch):
            _count()
            return await self.client.asend(step.request, step.timeout, self.library)
        if isinstance(step, Sleep):
            return await self.policy.clock.asleep(step.seconds)
        if isinstance(step, Call):
            with anyio.fail_after(step.timeout):
                result = step.function()
                return await result if inspect.isawaitable(result) else result
        if isinstance(step, Work):
            return await work(step.function)
        if isinstance(step, Patience):
            return self._be_patient(step)
        if isinstance(step, Settle):
            return await self.settle()
        if isinstance(step, Elsewhere):
            return await self._on(step.source).run(step.flow)
        try:
            limit = STORE_PATIENCE + (step.patience if isinstance(step, Lease) else 0.0)
            with anyio.fail_after(limit):
                if (call := self._store_call(step, "a")) is not None:
                    return await call()
                if isinstance(step, LetGo):
                    return await self._let_go()
                assert leases is not None  # noqa: S101 - only renewals lease
                if isinstance(step, Keep):
                    return self._keep(leases, step.seconds)
                if isinstance(step, Lease):
                    lease = self._verb("alease")(self.source.fingerprint, step.seconds, step.patience)
                    return await leases.enter_async_context(lease)
                assert isinstance(step, Release)  # noqa: S101 - the last of the steps
                return await leases.aclose()
        except TokenFlowError:
            raise
        except Exception as error:
            raise _store_failed(error, self.source.store) from error

    def _keep(self, leases: AsyncExitStack, seconds: float) -> None:
        kept = self.source.kept = leases.pop_all()
        spawn(partial(self._look_after, kept, seconds), lambda: None, 0.0)

    async def _look_after(self, kept: AsyncExitStack, seconds: float) -> None:
        for pause in self._tries(kept, seconds):
            await anyio.sleep(pause)
            if self.source.kept is kept:
                with suppress(Exception):
                    await self.run(save_unsaved(self.source))
        if self.source.kept is kept:
            await self._let_go()

    async def _let_go(self) -> None:
        kept, self.source.kept = self.source.kept, None
        await agive_back(kept)

    async def settle(self) -> None:
        """Wait a while for a flight in the air, so that closing does not tear it."""
        flight = self._in_the_air()
        if flight is not None:
            with anyio.move_on_after(self._patience(flight)):
                await flight.landing(running_loop(), anyio.Event, call_soon).wait()

    async def in_order(self, flow: Generator[Step, Any, Any]) -> Any:
        """Perform a flow that changes the source's state from outside, in order: one at a time on this loop.

        It comes after the flight in the air, if that is short. A login may wait for a person: what comes from outside
        does not, and has the last word all the same.
        """
        self._check_reentry(self.source.flight)
        async with self._order():
            await self.settle()
            return await self.run(flow)

    def _order(self) -> anyio.Lock:
        loop = running_loop()
        if self.source.locks is None:
            self.source.locks = WeakKeyDictionary()
        locks = self.source.locks
        lock: anyio.Lock | None = locks.get(loop)
        if lock is None:
            lock = locks[loop] = anyio.Lock()
        return lock

    def _launch(self, flight: Flight, renewal: Renewing) -> None:
        flight.home = running_loop()
        try:
            spawn(partial(self._fly, flight, renewal), partial(self.source.abandon, flight), CLOSING_PATIENCE)
        except BaseException:
            self.source.abandon(flight)
            raise

    async def _wait(self, step: Wait) -> Held | None:
        flight, here = step.flight, running_loop()
        self._check_reentry(flight)
        if step.renewal is not None:
            self._launch(flight, step.renewal)
        landed = flight.landing(here, anyio.Event, call_soon)
        with self._as_long_as(flight) if _flying.get() else _ALONE, flight.joined():
            if flight.home is here and step.until == math.inf:
                await landed.wait()
            else:
                for patience in self._patiently(step):
                    with anyio.move_on_after(patience):
                        await landed.wait()
        return _outcome(step)

    async def _fly(self, flight: Flight, renewal: Renewing) -> None:
        _flying.set((*_flying.get(), flight))
        try:
            async with LoopLeases() as leases:
                held = await self.run(renewal, leases)
        except TokenFlowError as error:
            self.source.fail(flight, error)
        except Exception as error:
            # Not one of ours: a defect. Whoever waits is told; the loop, which nobody here may stop, is not.
            logger.exception("%s: a renewal ended in a defect", self.source.name)
            self.source.abandon(flight, error)
        else:
            self.source.land(flight, held)


def _outcome(step: Wait) -> Held | None:
    """What the flight brought: to each who waits an error of their own, from the shared cause."""
    flight = step.flight
    if flight.brought is not None:
        return flight.brought
    if not flight.future.done():
        if step.until < flight.deadline:
            return None
        raise torn()
    cause = flight.future.exception()
    assert isinstance(cause, TokenFlowError)  # noqa: S101 - nothing else ever lands
    raise cause.again() from cause


def _count() -> None:
    for flight in reversed(_flying.get()):
        flight.requests += 1
        if flight.why is not Why.ERRAND:
            break  # an errand's are those of the renewal that it is for


def _store_failed(error: Exception, store: object) -> StoreError:
    return StoreError(f"the store of tokens failed ({type(error).__name__}): {_which(store)}")


def _which(store: object) -> str:
    """Which store, and where: ours show no secret; of another nobody knows what it shows."""
    kind = type(store)
    return repr(store) if kind.__module__.startswith("httpx_tokenflow.") else kind.__name__
