"""One client process of a soak: asyncio, trio or threads, each with clients of httpx and of httpx2.

It is given its configuration as JSON, and sends requests until a line on its standard input says "finish", with a 200
from every auth through every client in the end. What it says is in `sender.py`.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import mmap
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio._backends._asyncio  # httpx imports it late: here, before anything is counted
import httpx
import httpx2
import redis
import trio

sys.path[:0] = [str(Path(__file__).parents[1])]

from soak.sender import Reporter, Sender, clock_with, left_since, state, tasks  # noqa: E402 - after the path to it

import httpx_tokenflow.doctor  # noqa: E402, F401 - that explains a refusal, and is imported at the first; likewise

if TYPE_CHECKING:
    import random

TASKS, THREADS, BESIDE = 10, 10, 2  # of the three; of those that the loops have beside them
PAUSE = 0.5  # seconds between two requests of one task, at most
CUT_SHARE = 0.12  # of the requests, which are cancelled
CUT = 0.6  # seconds after which they are, at most
TIMEOUT = 10.0  # seconds, of the others
FINISHES_WITHIN = 60.0  # seconds for what is under way in the end
LIBRARIES = {"httpx": httpx, "httpx2": httpx2}
PLAIN: dict[str, Any] = {"verify": False, "trust_env": False, "timeout": TIMEOUT}

_PR_SET_PDEATHSIG = 1


# Threads


def send(client: Any, auth: Any, url: str, headers: dict[str, str], draws: random.Random, **more: Any) -> int:
    kind = draws.random()
    if kind < 0.8:
        return client.get(url, auth=auth, headers=headers, **more).status_code
    if kind < 0.9:
        return client.post(url, auth=auth, headers=headers, content=b"x" * 3000, **more).status_code
    with client.stream("GET", url, auth=auth, headers=headers, **more) as response:
        for _ in response.iter_bytes():
            pass
        return response.status_code


def one_in_a_thread(sender: Sender, clients: dict[str, Any], draws: random.Random) -> None:
    auth = draws.choice(list(sender.auths))
    library = draws.choice(list(LIBRARIES))
    number, began, headers = sender.begin(auth)
    is_cut, is_closed, seconds = draws.random() < CUT_SHARE, draws.random() < 0.3, draws.uniform(0.005, CUT)
    more: dict[str, Any] = {}
    with ExitStack() as stack:
        client = clients[library]
        if is_cut and is_closed:
            client = LIBRARIES[library].Client(**PLAIN)
            stack.callback(client.close)
            timer = threading.Timer(seconds, client.close)
            timer.daemon = True
            timer.start()
            stack.callback(timer.join)
            stack.callback(timer.cancel)
        elif is_cut:
            more = {"timeout": seconds}
        try:
            where = "doomed" if is_cut and is_closed else "api"
            what: Any = send(client, sender.auths[auth], sender.url(where), headers, draws, **more)
        except Exception as error:  # noqa: BLE001 - the judge decides
            what = error
        # A time limit of httpx is one for each read and write: it may be over later than that.
        cut = None if not is_cut else began + seconds if is_closed else time.monotonic()
        if is_cut:
            sender.counts["cancelled"] += what != 200
        sender.end(number, what, cut=cut, closed=is_cut and is_closed)


def keep_sending(sender: Sender, clients: dict[str, Any]) -> None:
    draws = sender.draws()
    while not sender.halted.is_set():
        one_in_a_thread(sender, clients, draws)
        sender.halted.wait(draws.uniform(0.0, PAUSE))


def sync_clients(stack: ExitStack) -> dict[str, Any]:
    return {name: stack.enter_context(library.Client(**PLAIN)) for name, library in LIBRARIES.items()}


def start_threads(sender: Sender, clients: dict[str, Any], number: int) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=keep_sending, args=(sender, clients), name=f"keep_sending {n}", daemon=True)
        for n in range(number)
    ]
    for thread in threads:
        thread.start()
    return threads


def last_in_threads(sender: Sender, clients: dict[str, Any]) -> None:
    for auth in sender.auths:
        for client in clients.values():
            number, _, headers = sender.begin(auth)
            try:
                what: Any = client.get(sender.url(), auth=sender.auths[auth], headers=headers).status_code
            except Exception as error:  # noqa: BLE001 - the judge decides
                what = error
            sender.counts["last 200"] += what == 200
            sender.end(number, what)


def run_threads(sender: Sender, interval: float) -> dict[str, Any]:
    before = state()
    sender.open()
    with ExitStack() as stack:
        clients = sync_clients(stack)
        threads = start_threads(sender, clients, THREADS)
        while not sender.halted.wait(interval):
            sender.sample(0)
        join(sender, threads)
        last_in_threads(sender, clients)
    for auth in sender.auths.values():
        auth.close()
    sender.store.close()
    return left_since(before)


def join(sender: Sender, threads: list[threading.Thread]) -> None:
    until = time.monotonic() + FINISHES_WITHIN
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    hanging(sender)


def hanging(sender: Sender) -> None:
    for auth, began in sender.under_way.values():
        sender.reporter.wrong(f"a request with {auth} is still under way after {time.monotonic() - began:.0f} s")


# Loops


async def asend(client: Any, auth: Any, url: str, headers: dict[str, str], draws: random.Random) -> int:
    kind = draws.random()
    if kind < 0.8:
        return (await client.get(url, auth=auth, headers=headers)).status_code
    if kind < 0.9:
        return (await client.post(url, auth=auth, headers=headers, content=b"x" * 3000)).status_code
    async with client.stream("GET", url, auth=auth, headers=headers) as response:
        async for _ in response.aiter_bytes():
            pass
        return response.status_code


async def one_on_a_loop(sender: Sender, clients: dict[str, Any], draws: random.Random) -> None:
    auth, client = draws.choice(list(sender.auths)), clients[draws.choice(list(clients))]
    is_cut, way, seconds = draws.random() < CUT_SHARE, draws.choice(["scope", "task"]), draws.uniform(0.0, CUT)
    number, began, headers = sender.begin(auth)
    sending = asend(client, sender.auths[auth], sender.url(), headers, draws)
    what: Any = "cancelled"
    try:
        if not is_cut:
            what = await sending
        elif way == "scope" or sender.config["flavour"] == "trio":
            with anyio.move_on_after(seconds):
                what = await sending
        elif draws.random() < 0.5:
            async with asyncio.timeout(seconds):
                what = await sending
        else:
            task = asyncio.create_task(sending)
            await asyncio.wait([task], timeout=seconds)
            task.cancel()
            what = await task
    except (TimeoutError, asyncio.CancelledError):
        if not is_cut:
            raise
    except Exception as error:  # noqa: BLE001 - the judge decides
        what = error
    sender.counts["cancelled"] += what == "cancelled"
    sender.end(number, what, cut=began + seconds if is_cut else None)


async def akeep_sending(sender: Sender, clients: dict[str, Any]) -> None:
    draws = sender.draws()
    while not sender.halted.is_set():
        await one_on_a_loop(sender, clients, draws)
        await anyio.sleep(draws.uniform(0.0, PAUSE))


async def run_loop(sender: Sender, interval: float) -> dict[str, Any]:
    before = state()
    sender.open()
    with ExitStack() as stack:
        beside = start_threads(sender, sync_clients(stack), BESIDE)
        clients = {name: library.AsyncClient(**PLAIN) for name, library in LIBRARIES.items()}
        with anyio.move_on_after(1e9) as scope:
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(akeep_sending, sender, clients)
                due = time.monotonic()
                while not sender.halted.is_set():
                    if time.monotonic() >= due:
                        sender.sample(tasks())
                        due = time.monotonic() + interval
                    await anyio.sleep(0.1)
                scope.deadline = anyio.current_time() + FINISHES_WITHIN
        if scope.cancelled_caught:
            hanging(sender)
        while any(thread.is_alive() for thread in beside) and not scope.cancelled_caught:  # noqa: ASYNC110 - threads
            await anyio.sleep(0.05)  # their renewals may fly on this loop
        await last_on_a_loop(sender, clients)
        for client in clients.values():
            await client.aclose()
    for auth in sender.auths.values():
        await auth.aclose()
    await sender.store.aclose()
    await anyio.sleep(0.5)
    return left_since(before)


async def last_on_a_loop(sender: Sender, clients: dict[str, Any]) -> None:
    for auth in sender.auths:
        for client in clients.values():
            number, _, headers = sender.begin(auth)
            try:
                what: Any = (await client.get(sender.url(), auth=sender.auths[auth], headers=headers)).status_code
            except Exception as error:  # noqa: BLE001 - the judge decides
                what = error
            sender.counts["last 200"] += what == 200
            sender.end(number, what)


def obey(sender: Sender) -> None:
    for line in sys.stdin:
        if line.strip() == "finish":
            sender.halted.set()
    os._exit(3)  # whoever started us has gone


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    config = json.loads(sys.argv[1])
    signal.alarm(int(config["lives"]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal is for whoever started us
    reporter = Reporter()
    with Path(config["slept"]).open("r+b") as file:
        slept = mmap.mmap(file.fileno(), 8)
    sender = Sender(config, reporter, clock_with(slept))
    reporter.listen(config["doomed"], sender.counts)
    threading.Thread(target=obey, args=(sender,), name="obey", daemon=True).start()
    with suppress(redis.RedisError):  # what redis-py imports late
        redis.Redis.from_url(config["store"]).ping()
    gc.collect()
    reporter.say(ready=True)
    if config["flavour"] == "threads":
        left = run_threads(sender, config["interval"])
    elif config["flavour"] == "trio":
        left = trio.run(run_loop, sender, config["interval"])
    else:
        left = asyncio.run(run_loop(sender, config["interval"]))
    gc.collect()
    reporter.say(done={"counts": sender.counts, "left": left})


if __name__ == "__main__":
    main()
