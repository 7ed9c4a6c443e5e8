"""The two sides of a client that comes in two kinds, so that what is asked of it is written once.

A side asks a question within a time. On the sync side that blocks, and a coroutine that asks by it never waits for
anything else: `at_once` runs it. On the async side a sync client is asked from a thread, an asyncio client as it is.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from httpx_tokenflow._errors import StoreError
from httpx_tokenflow._loops import begin, running_loop, work

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["AsyncioSide", "Gate", "Side", "SyncSide", "ThreadSide", "at_once"]

_T = TypeVar("_T")

_AT_ONCE = 32  # questions on one event loop; fewer than the connections of any pool


class Side(ABC):
    """How questions are asked.

    Args:
        timeout: seconds that each may take.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    async def ask(self, function: Callable[..., Any], *arguments: Any, waits: float = 0.0, **options: Any) -> Any:
        """What `function` says, which waits for `waits` seconds on purpose.

        Raises:
            StoreError: time is over.
        """
        try:
            return await self._perform(partial(function, *arguments, **options), self._timeout + waits)
        except TimeoutError:
            raise StoreError(f"the store did not answer within {self._timeout:g} s") from None

    @abstractmethod
    async def _perform(self, function: Callable[[], Any], seconds: float) -> Any: ...

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    def shield(self) -> AbstractContextManager[object]:
        """What has to be done even if the caller is cancelled."""


class SyncSide(Side):
    """A sync client in a sync program."""

    async def _perform(self, function: Callable[[], Any], seconds: float) -> Any:
        try:
            future = begin(function)  # which is left to itself when time is over
        except RuntimeError:  # no more threads to be had
            return function()
        return future.result(seconds)

    async def sleep(self, seconds: float) -> None:
        """It blocks."""
        time.sleep(seconds)  # noqa: ASYNC251 - the sync side

    def shield(self) -> AbstractContextManager[object]:
        """Nobody cancels here."""
        return nullcontext()


class Gate:
    """So many questions at once on each event loop: a thousand users who renew together would time one another out.

    Who comes later waits, and their time has not begun.
    """

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def turn(self) -> AbstractAsyncContextManager[object]:
        """One question's turn."""
        import anyio

        loop = running_loop()
        turns = self._loops.get(loop)
        if turns is None:
            turns = self._loops[loop] = anyio.Semaphore(_AT_ONCE)
        gate: AbstractAsyncContextManager[object] = turns
        return gate


class ThreadSide(Side):
    """A sync client in an async program, of asyncio or trio."""

    def __init__(self, timeout: float, gate: Gate) -> None:
        super().__init__(timeout)
        self._gate = gate

    async def ask(self, function: Callable[..., Any], *arguments: Any, waits: float = 0.0, **options: Any) -> Any:
        """As `Side.ask`; who waits on purpose keeps nobody else waiting."""
        if waits:
            return await super().ask(function, *arguments, waits=waits, **options)
        async with self._gate.turn():
            return await super().ask(function, *arguments, **options)

    async def _perform(self, function: Callable[[], Any], seconds: float) -> Any:
        import anyio

        with anyio.fail_after(seconds):
            return await work(function)  # whose thread is left to itself when time is over

    async def sleep(self, seconds: float) -> None:
        """Others go on meanwhile."""
        import anyio

        await anyio.sleep(seconds)

    def shield(self) -> AbstractContextManager[object]:
        """From cancellation by anyio and trio; a native one of asyncio comes once, and is over by then."""
        import anyio

        return anyio.CancelScope(shield=True)


class AsyncioSide(ThreadSide):
    """An asyncio client on its loop."""

    async def _perform(self, function: Callable[[], Any], seconds: float) -> Any:
        import anyio

        with anyio.fail_after(seconds):
            return await function()  # cancelled, redis-py closes the connection: nobody else takes the answer


def at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns that asks by a `SyncSide`, and so never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("a coroutine of the sync side has waited")
