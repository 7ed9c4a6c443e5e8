"""A program that forks at a bad moment, for `test_fork`: it says what its children made of it, and ends within seconds.

`python forked.py MOMENT`: the moment is the name of a lock that another thread holds, or "in the air …". One child
sends requests from threads, one on asyncio, one on trio.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from concurrency.stage import Stage, asent, auntil, run, start, until

from httpx_tokenflow import _flights, _registry, _token_client
from httpx_tokenflow.stores import MemoryStore

GIVEN_UP_AFTER = 6.0  # seconds


def say(who: str, answers: list[Any], stage: Stage) -> None:
    os.write(1, f"{who}: {answers} {stage.sandbox.token_requests}\n".encode())


def child(stage: Stage, how: str) -> None:
    """What a child does; it never returns."""
    faulthandler.dump_traceback_later(GIVEN_UP_AFTER - 1, exit=True)

    def use() -> list[Any]:
        stage.driver = how
        stage.gate.open()
        again = Stage("client", how, store=MemoryStore())  # an auth made in the child works as well
        return stage.at_once(5) + again.at_once(2)

    with contextlib.suppress(BaseException):
        say(how, start(use).result(GIVEN_UP_AFTER - 2), stage)
    os._exit(0)


def fork(stage: Stage) -> list[int]:
    """Three children."""
    children = []
    for how in ("threads", "asyncio", "trio"):
        pid = os.fork()
        if pid == 0:
            child(stage, how)
        children.append(pid)
    return children


def reap(children: list[int]) -> None:
    deadline = time.monotonic() + GIVEN_UP_AFTER
    for pid in children:
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.01)


def locks(stage: Stage) -> dict[str, Any]:
    return {
        "source": stage.auth._source._lock,
        "store": stage.store._lock,
        "token client": _token_client._trust._lock,
        "all sources": _registry._registry.lock,
        "all flights": _flights._locks.counting,
    }


def with_a_lock_held(stage: Stage, moment: str) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locks(stage)[moment]:
            held.set()
            done.wait(GIVEN_UP_AFTER)

    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(GIVEN_UP_AFTER)
    children = fork(stage)
    done.set()
    reap(children)
    say("parent", stage.at_once(5), stage)


def with_a_flight_of_a_thread(stage: Stage) -> None:
    stage.gate.shut()
    flying = start(stage.at_once, 5)
    until(lambda: stage.waiting() == 4 and stage.gate.reached == 1)
    reap(fork(stage))
    stage.gate.open()
    say("parent", flying.result(GIVEN_UP_AFTER), stage)


def with_a_flight_of_this_loop(stage: Stage) -> None:
    async def main() -> None:
        stage.gate.shut()
        tasks = [asyncio.ensure_future(asent(stage.client(driver="asyncio"), stage.api_url)) for _ in range(5)]
        await auntil(lambda: stage.waiting() == 5 and stage.gate.reached == 1)
        reap(fork(stage))
        stage.gate.open()
        say("parent", await asyncio.gather(*tasks), stage)

    run("asyncio", main, within=2 * GIVEN_UP_AFTER)


def main() -> None:
    moment = sys.argv[1]
    stage = Stage("client", "anywhere", need="expired")
    stage.driver = "threads"
    if moment == "in the air in a thread":
        with_a_flight_of_a_thread(stage)
    elif moment == "in the air on a loop":
        with_a_flight_of_this_loop(stage)
    else:
        with_a_lock_held(stage, moment)


if __name__ == "__main__":
    main()
