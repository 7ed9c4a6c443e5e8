"""Processes: one for each turn, so that nobody inherits a cache, a moved clock or a hang; and lanes for them."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def context() -> Any:
    return multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")


def apart(work: Callable[[Callable[[Any], None]], None], *, timeout: float, count: int = 1) -> Iterator[Any]:
    """What `work` tells, in a process of its own, which is ended when nothing was told for too long.

    Args:
        work: is called there, with what it tells by.
        timeout: seconds until each next thing.
        count: how many things there are to tell.

    Raises:
        TimeoutError: so long.
        ChildProcessError: it died.
    """
    how = context()
    here, there = how.Pipe(duplex=False)
    process = how.Process(target=_work, args=(there, work))
    process.start()
    there.close()
    try:
        for _ in range(count):
            if not here.poll(timeout):
                raise TimeoutError(f"no end in {timeout:g} s")
            yield here.recv()
    except EOFError:
        raise ChildProcessError("its process died") from None
    finally:
        process.kill()
        process.join()


def _work(there: Any, work: Callable[[Callable[[Any], None]], None]) -> None:
    work(there.send)


def lanes(each: int = 1) -> Executor:
    """Processes that see to one turn after the other, so many on each core, and stay there."""
    cores = context().Queue()
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else [None]
    for core in own * each:
        cores.put(core)
    return ProcessPoolExecutor(len(own) * each, context(), initializer=_pin, initargs=(cores,))


def _pin(cores: Any) -> None:
    if (core := cores.get()) is not None:
        os.sched_setaffinity(0, {core})
