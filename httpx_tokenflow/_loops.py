"""Event loops, asyncio's and trio's, as far as anyio has no public word for it; and threads that stop none of them."""

from __future__ import annotations

import logging
import sys
import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["begin", "call_soon", "running_loop", "spawn", "work"]

logger = logging.getLogger("httpx_tokenflow")

_T = TypeVar("_T")


def running_loop() -> Any:
    """What names the event loop of this very moment, an object that can be referred to weakly; None: no loop."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - documented, and never raises


def call_soon(loop: Any, function: Callable[[], object]) -> bool:
    """Run `function` on `loop`, from anywhere. On a loop that is gone there is nobody to run it for: False."""
    call = getattr(loop, "run_sync_soon", None) or loop.call_soon_threadsafe
    try:
        call(function)
    except RuntimeError:  # asyncio: "Event loop is closed"; trio.RunFinishedError is one as well
        return False
    return True


def begin(function: Callable[..., _T], *arguments: Any) -> Future[_T]:
    """Call `function` in a thread of its own, for which the end of the program does not wait.

    Raises:
        RuntimeError: there are no more threads to be had.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="httpx_tokenflow", daemon=True).start()
    return future


async def work(function: Callable[[], _T]) -> _T:
    """What `function` returns, in a thread of its own; who is cancelled meanwhile leaves it to itself."""
    import anyio

    over, loop = anyio.Event(), running_loop()
    future = begin(function)
    future.add_done_callback(lambda _: call_soon(loop, over.set))
    await over.wait()
    return future.result()


_tasks: set[Any] = set()  # an asyncio loop holds its tasks weakly

CLEAN_UP = 1.0  # seconds that a task has to put things in order when its time is over


def spawn(function: Callable[[], Coroutine[Any, Any, None]], when_over: Callable[[], None], patience: float) -> None:
    """Start `function` as a task of its own on the running loop, out of reach of whoever calls.

    When the program ends, which cancels all tasks, it may go on for `patience` seconds. `when_over` is called in the
    end, also if the task is cancelled before it has begun.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        trio.lowlevel.spawn_system_task(_guard_on_trio, trio, function, when_over, patience, context=copy_context())
        return
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(function())
    # Unknown to asyncio.all_tasks(), so that asyncio.run(), which cancels all of them in the end, reaches the guard.
    asyncio._unregister_task(task)  # noqa: SLF001 - documented, for whoever has tasks of their own kind
    guard = loop.create_task(_guard_on_asyncio(task, patience))
    for one in (task, guard):
        _tasks.add(one)
        one.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: when_over())
    # Last, and over a copy, which is made in one go: other loops come and go here, and the task is under way.
    _tasks.difference_update([one for one in _tasks.copy() if one.get_loop().is_closed()])


async def _guard_on_asyncio(task: Any, patience: float) -> None:
    import asyncio

    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=patience)
        task.cancel()
        await asyncio.wait([task], timeout=CLEAN_UP)
        raise


async def _guard_on_trio(
    trio: Any, function: Callable[[], Coroutine[Any, Any, None]], when_over: Callable[[], None], patience: float
) -> None:
    shield = trio.CancelScope(shield=True)

    async def to_the_end() -> None:
        with shield:
            try:
                await function()
            except (trio.Cancelled, Exception):
                raise
            except BaseException:  # what leaves a system task ends the whole run in an internal error
                logger.exception("a task ended in what is no Exception")
        over.set()

    over = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(to_the_end)
            try:
                await over.wait()
            except trio.Cancelled:
                shield.deadline = trio.current_time() + patience
                raise
    finally:
        when_over()
