"""Event loops, asyncio's and trio's, as far as anyio has no public word for it."""

from __future__ import annotations

import logging
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["call_soon", "running_loop", "spawn"]

logger = logging.getLogger("httpx_tokenflow")


def running_loop() -> Any:
    """What names the event loop of this very moment, an object that can be referred to weakly; None: no loop."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - documented, and never raises


def call_soon(loop: Any, function: Callable[[], object]) -> None:
    """Run `function` on `loop`, from anywhere. On a loop that is gone there is nobody to run it for."""
    call = getattr(loop, "run_sync_soon", None) or loop.call_soon_threadsafe
    try:
        call(function)
    except RuntimeError:  # asyncio: "Event loop is closed"; trio.RunFinishedError is one as well
        return


_tasks: set[Any] = set()  # an asyncio loop holds its tasks weakly


def spawn(function: Callable[[], Coroutine[Any, Any, None]], when_over: Callable[[], None]) -> None:
    """Start `function` as a task of its own on the running loop, out of reach of whoever calls.

    `when_over` is called in the end, also if the task is cancelled before it has begun.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():

        async def to_the_end() -> None:
            try:
                await function()
            except (trio.Cancelled, Exception):
                raise
            except BaseException:  # what leaves a system task ends the whole run in an internal error
                logger.exception("a task ended in what is no Exception")
            finally:
                when_over()

        trio.lowlevel.spawn_system_task(to_the_end, context=copy_context())
        return
    import asyncio

    task = asyncio.get_running_loop().create_task(function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: when_over())
