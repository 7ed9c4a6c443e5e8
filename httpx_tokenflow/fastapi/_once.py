"""One piece of work, and everybody who waits for it.

Rules.

1. The work is a task of its own: whoever is cancelled while they wait, or hangs up, leaves it alone, and so does the
   one for whom it was begun.
2. Who waits is woken on their own event loop, whichever loop the work runs on; and waits for a bounded time, since a
   loop that dies wakes nobody.
3. Each who waits has an error of their own, from the shared cause.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from httpx_tokenflow._errors import TokenEndpointUnavailable, TokenFlowError
from httpx_tokenflow._loops import call_soon, running_loop, spawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Once", "late"]

_T = TypeVar("_T")


def late(what: str) -> TokenEndpointUnavailable:
    """The error of work that did not end in time, or at all."""
    return TokenEndpointUnavailable(f"{what} was interrupted, or took too long", outcome="not sent")


class Once(Generic[_T]):
    """One piece of work under way.

    Args:
        work: the work.
        what: it in words, for errors.
        seconds: for which anybody waits for it.
    """

    def __init__(self, work: Callable[[], Awaitable[_T]], what: str, seconds: float) -> None:
        self._work = work
        self._what = what
        self._seconds = seconds
        self._future: Future[_T] = Future()
        self._landings: dict[Any, anyio.Event] = {}
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self._future.done()

    def begin(self, when_over: Callable[[], object]) -> None:
        """Begin it on the running loop (rule 1); `when_over` is called in the end, whatever the end is."""
        self._future.add_done_callback(lambda _: when_over())
        try:
            spawn(self._run, partial(self._fail, late(self._what)), 0.0)
        except BaseException:
            self._fail(late(self._what))
            raise

    def give_up(self) -> None:
        """It has been lost with its loop: whoever still waits is told."""
        self._fail(late(self._what))

    async def result(self) -> _T:
        """What it brings.

        Raises:
            TokenFlowError: what it failed with, or it took too long.
        """
        if not self._future.done():
            with anyio.move_on_after(self._seconds):
                await self._landing(running_loop()).wait()
            if not self._future.done():
                raise late(self._what)
        cause = self._future.exception()
        if isinstance(cause, TokenFlowError):
            raise cause.again() from cause
        return self._future.result()

    def _landing(self, loop: Any) -> anyio.Event:
        """The event that wakes all who wait on `loop` (rule 2)."""
        with self._lock:
            event = self._landings.get(loop)
            if event is not None:
                return event
            event = self._landings[loop] = anyio.Event()
        self._future.add_done_callback(lambda _: call_soon(loop, event.set))
        return event

    async def _run(self) -> None:
        try:
            result = await self._work()
        except Exception as error:  # noqa: BLE001 - for whoever waits
            self._fail(error)
            return
        try:
            self._future.set_result(result)
        except InvalidStateError:
            return  # it was given up

    def _fail(self, error: Exception) -> None:
        try:
            self._future.set_exception(error)
        except InvalidStateError:
            return  # it was over
