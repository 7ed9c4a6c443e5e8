"""One client process of a soak: asyncio, trio or threads, each with clients of httpx and of httpx2.

It is given its configuration as JSON, and sends requests until a line on its standard input says "finish", with a 200
from every auth through every client in the end. It says, a JSON line each: what became of a request that did not simply
get its 200, a sample of its size, what was wrong with it, and in the end its counts and what it has left behind.

It reckons by a clock that can be made to stand still: the seconds in the shared memory of `slept` are not counted.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio._backends._asyncio  # httpx imports it late: here, before anything is counted
import httpx
import httpx2
import redis
import trio

from httpx_tokenflow import (
    ClientCredentials,
    Clock,
    DPoP,
    RefreshToken,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenFlowError,
)
from httpx_tokenflow.stores import RedisStore

TASKS, THREADS, BESIDE = 10, 10, 2  # of the three; of those that the loops have beside them
PAUSE = 0.5  # seconds between two requests of one task, at most
CUT_SHARE = 0.12  # of the requests, which are cancelled
CUT = 0.6  # seconds after which they are, at most
TIMEOUT = 10.0  # seconds, of the others
SLOW = 20.0  # seconds: of a request that took longer the judge is told, even if all went well
FINISHES_WITHIN = 60.0  # seconds for what is under way in the end
LIBRARIES = {"httpx": httpx, "httpx2": httpx2}
PLAIN: dict[str, Any] = {"verify": False, "trust_env": False, "timeout": TIMEOUT}

_PR_SET_PDEATHSIG = 1


class Reporter:
    """What is said to whoever started us, and what is wrong here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out = os.dup(1)

    def say(self, **what: Any) -> None:
        line = json.dumps(what, default=str).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._out, line) :]

    def wrong(self, what: str) -> None:
        self.say(wrong=what[:2000])

    def listen(self, doomed: str, counts: Counter[str]) -> None:
        """Rule 8 of the judge."""
        reporter = self
        theirs = ("raddr=('127.0.0.1', " + doomed.rpartition(":")[2] + ")", "'httpx._content.", "'httpx2._content.")

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                reporter.wrong(f"log, {record.name}: {self.format(record)}")

        logging.getLogger().addHandler(Handler(logging.ERROR))
        logging.lastResort = None
        warnings.simplefilter("always", ResourceWarning)

        def show(message: Any, category: type[Warning], *_: Any) -> None:
            if issubclass(category, ResourceWarning) and any(one in str(message) for one in theirs):
                counts["left by httpx"] += 1
            elif issubclass(category, ResourceWarning):
                self.wrong(f"{category.__name__}: {message}")

        warnings.showwarning = show
        sys.unraisablehook = lambda args: self.wrong(
            f"nobody took: {args.exc_type.__name__}: {args.exc_value} in {args.object!r}"
        )
        threading.excepthook = lambda args: self.wrong(f"a thread ended in {args.exc_type.__name__}: {args.exc_value}")


def clock_with(slept: Any) -> Clock:
    """See the module; `slept` changes only while the whole process stands still."""

    def monotonic() -> float:
        while True:
            (before,) = struct.unpack_from("d", slept)
            now = time.monotonic()
            if struct.unpack_from("d", slept)[0] == before:
                return now - before

    return Clock(monotonic=monotonic)


class Soldier:
    """What the three kinds share."""

    def __init__(self, config: dict[str, Any], reporter: Reporter, clock: Clock) -> None:
        self.config, self.reporter, self.clock = config, reporter, clock
        self.halted = threading.Event()
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._number = 0
        self.under_way: dict[int, tuple[str, float]] = {}
        self._seed = config["seed"]
        self.store: Any = None
        self.auths: dict[str, TokenAuth] = {}

    def open(self) -> None:
        """The auth objects."""
        config, name = self.config, self.config["name"]
        # Time limits that a busy machine keeps to: its slowness is no fault of ours.
        self.store = RedisStore(config["store"], timeout=3.0)
        brief = RenewalPolicy(clock=self.clock, budget=6.0, lease=8.0, connect_timeout=3.0)
        # As long as the longest suspend and the slowest answer together: a session's answer must not be given up.
        patient = RenewalPolicy(clock=self.clock, budget=20.0, connect_timeout=3.0)

        def service(client_id: str, **options: Any) -> TokenAuth:
            grant = ClientCredentials(f"{config['token']}/token", client_id=client_id, client_secret="secret")
            return TokenAuth(grant, policy=brief, on_event=self.note, **options)

        def session(client_id: str, **options: Any) -> TokenAuth:
            answer = config["logins"][client_id]
            token = Token(
                answer["access_token"],
                refresh_token=answer["refresh_token"],
                expires_at=time.time() + answer["expires_in"],
            )
            grant = RefreshToken(f"{config['session']}/token", client_id=client_id, subject=client_id)
            return TokenAuth(grant, token=token, policy=patient, on_event=self.note, **options)

        self.auths = {
            "shared": service("shared", store=self.store),
            "dpop": service(f"dpop-{name}", dpop=DPoP()),
            "session": session("session", store=self.store),
            "graced": session("graced", store=self.store),
            "own": session(f"own-{name}"),
        }

    def note(self, event: Any) -> None:
        kind = type(event).__name__
        with self._lock:
            self.counts[kind] += 1
            if kind in {"TokenObtained", "TokenRenewed"}:
                self.counts["minted" if event.minted else "loaded"] += 1

    def draws(self) -> random.Random:
        with self._lock:
            self._seed += 1
            return random.Random(self._seed)

    def begin(self, auth: str) -> tuple[int, float, dict[str, str]]:
        with self._lock:
            self._number += 1
            number, began = self._number, time.monotonic()
            self.under_way[number] = auth, began
            self.counts["requests"] += 1
        return number, began, {"X-Soak": f"{self.config['name']}/{auth}/{number}"}

    def end(
        self, number: int, what: int | str | BaseException, *, cut: float | None = None, closed: bool = False
    ) -> None:
        ended = time.monotonic()
        with self._lock:
            auth, began = self.under_way.pop(number)
            self.counts["200"] += what == 200
        if what == 200 and ended - began < SLOW:
            return
        is_error = isinstance(what, BaseException)
        cut = None if cut is None or what == 200 else min(cut, ended)
        self.reporter.say(
            outcome={
                "process": self.config["name"], "auth": auth, "number": number, "began": began, "ended": ended,
                "what": type(what).__name__ if is_error else str(what), "is_ours": isinstance(what, TokenFlowError),
                "is_transport": isinstance(what, httpx.HTTPError | httpx2.HTTPError), "cut": cut, "closed": closed,
                "detail": repr(what)[:500] if is_error else "",
            }
        )  # fmt: skip

    def sample(self, tasks: int) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.reporter.say(
            sample={
                "t": time.monotonic(), "rss": pages * mmap.PAGESIZE, "blocks": sys.getallocatedblocks(),
                "fds": len(descriptors()), "threads": threading.active_count(), "tasks": tasks,
                "requests": self.counts["200"],
            }
        )  # fmt: skip

    def url(self, where: str = "api") -> str:
        return f"{self.config[where]}/api/things"


def descriptors() -> dict[str, str]:
    """What is open: number -> what it is."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found[path.name] = str(path.readlink())
    return {name: what for name, what in found.items() if not what.startswith("/proc/")}


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


def one_in_a_thread(soldier: Soldier, clients: dict[str, Any], draws: random.Random) -> None:
    auth = draws.choice(list(soldier.auths))
    library = draws.choice(list(LIBRARIES))
    number, began, headers = soldier.begin(auth)
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
            what: Any = send(client, soldier.auths[auth], soldier.url(where), headers, draws, **more)
        except Exception as error:  # noqa: BLE001 - the judge decides
            what = error
        # A time limit of httpx is one for each read and write: it may be over later than that.
        cut = None if not is_cut else began + seconds if is_closed else time.monotonic()
        if is_cut:
            soldier.counts["cancelled"] += what != 200
        soldier.end(number, what, cut=cut, closed=is_cut and is_closed)


def march(soldier: Soldier, clients: dict[str, Any]) -> None:
    draws = soldier.draws()
    while not soldier.halted.is_set():
        one_in_a_thread(soldier, clients, draws)
        soldier.halted.wait(draws.uniform(0.0, PAUSE))


def sync_clients(stack: ExitStack) -> dict[str, Any]:
    return {name: stack.enter_context(library.Client(**PLAIN)) for name, library in LIBRARIES.items()}


def recruit(soldier: Soldier, clients: dict[str, Any], number: int) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=march, args=(soldier, clients), name=f"march {n}", daemon=True) for n in range(number)
    ]
    for thread in threads:
        thread.start()
    return threads


def last_in_threads(soldier: Soldier, clients: dict[str, Any]) -> None:
    for auth in soldier.auths:
        for client in clients.values():
            number, _, headers = soldier.begin(auth)
            try:
                what: Any = client.get(soldier.url(), auth=soldier.auths[auth], headers=headers).status_code
            except Exception as error:  # noqa: BLE001 - the judge decides
                what = error
            soldier.counts["last 200"] += what == 200
            soldier.end(number, what)


def run_threads(soldier: Soldier, interval: float) -> dict[str, Any]:
    before = state()
    soldier.open()
    with ExitStack() as stack:
        clients = sync_clients(stack)
        threads = recruit(soldier, clients, THREADS)
        while not soldier.halted.wait(interval):
            soldier.sample(0)
        join(soldier, threads)
        last_in_threads(soldier, clients)
    for auth in soldier.auths.values():
        auth.close()
    soldier.store.close()
    return left_since(before)


def join(soldier: Soldier, threads: list[threading.Thread]) -> None:
    until = time.monotonic() + FINISHES_WITHIN
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    hanging(soldier)


def hanging(soldier: Soldier) -> None:
    for auth, began in soldier.under_way.values():
        soldier.reporter.wrong(f"a request with {auth} is still under way after {time.monotonic() - began:.0f} s")


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


async def one_on_a_loop(soldier: Soldier, clients: dict[str, Any], draws: random.Random) -> None:
    auth, client = draws.choice(list(soldier.auths)), clients[draws.choice(list(clients))]
    is_cut, way, seconds = draws.random() < CUT_SHARE, draws.choice(["scope", "task"]), draws.uniform(0.0, CUT)
    number, began, headers = soldier.begin(auth)
    sending = asend(client, soldier.auths[auth], soldier.url(), headers, draws)
    what: Any = "cancelled"
    try:
        if not is_cut:
            what = await sending
        elif way == "scope" or soldier.config["flavour"] == "trio":
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
    soldier.counts["cancelled"] += what == "cancelled"
    soldier.end(number, what, cut=began + seconds if is_cut else None)


async def amarch(soldier: Soldier, clients: dict[str, Any]) -> None:
    draws = soldier.draws()
    while not soldier.halted.is_set():
        await one_on_a_loop(soldier, clients, draws)
        await anyio.sleep(draws.uniform(0.0, PAUSE))


async def run_loop(soldier: Soldier, interval: float) -> dict[str, Any]:
    before = state()
    soldier.open()
    with ExitStack() as stack:
        beside = recruit(soldier, sync_clients(stack), BESIDE)
        clients = {name: library.AsyncClient(**PLAIN) for name, library in LIBRARIES.items()}
        with anyio.move_on_after(1e9) as scope:
            async with anyio.create_task_group() as group:
                for _ in range(TASKS):
                    group.start_soon(amarch, soldier, clients)
                due = time.monotonic()
                while not soldier.halted.is_set():
                    if time.monotonic() >= due:
                        soldier.sample(tasks())
                        due = time.monotonic() + interval
                    await anyio.sleep(0.1)
                scope.deadline = anyio.current_time() + FINISHES_WITHIN
        if scope.cancelled_caught:
            hanging(soldier)
        while any(thread.is_alive() for thread in beside) and not scope.cancelled_caught:  # noqa: ASYNC110 - threads
            await anyio.sleep(0.05)  # their renewals may fly on this loop
        await last_on_a_loop(soldier, clients)
        for client in clients.values():
            await client.aclose()
    for auth in soldier.auths.values():
        await auth.aclose()
    await soldier.store.aclose()
    await anyio.sleep(0.5)
    return left_since(before)


async def last_on_a_loop(soldier: Soldier, clients: dict[str, Any]) -> None:
    for auth in soldier.auths:
        for client in clients.values():
            number, _, headers = soldier.begin(auth)
            try:
                what: Any = (await client.get(soldier.url(), auth=soldier.auths[auth], headers=headers)).status_code
            except Exception as error:  # noqa: BLE001 - the judge decides
                what = error
            soldier.counts["last 200"] += what == 200
            soldier.end(number, what)


def tasks() -> int:
    """How many there are on this loop; 0 off any."""
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_statistics().tasks_living
    with suppress(RuntimeError):
        return len(asyncio.all_tasks())
    return 0


def state() -> dict[str, Any]:
    gc.collect()
    return {"fds": descriptors(), "threads": {thread.name for thread in threading.enumerate()}, "tasks": tasks()}


def left_since(before: dict[str, Any]) -> dict[str, Any]:
    """What is there that was not at the start; threads have a moment to end."""
    until = time.monotonic() + 10.0
    while threading.active_count() > len(before["threads"]) and time.monotonic() < until:
        time.sleep(0.05)
    now = state()
    workers = {"AnyIO worker thread"}  # of which a loop keeps some as long as it runs
    fds = [what for name, what in now["fds"].items() if before["fds"].get(name) != what]
    return {
        "fds": sorted(fds) if len(now["fds"]) > len(before["fds"]) else [],
        "threads": sorted(now["threads"] - before["threads"] - workers),
        "tasks": now["tasks"] - before["tasks"],
        "counts": [len(before["fds"]), len(now["fds"])],
    }


def obey(soldier: Soldier) -> None:
    for line in sys.stdin:
        if line.strip() == "finish":
            soldier.halted.set()
    os._exit(3)  # whoever started us has gone


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    config = json.loads(sys.argv[1])
    signal.alarm(int(config["lives"]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal is for whoever started us
    reporter = Reporter()
    with Path(config["slept"]).open("r+b") as file:
        slept = mmap.mmap(file.fileno(), 8)
    soldier = Soldier(config, reporter, clock_with(slept))
    reporter.listen(config["doomed"], soldier.counts)
    threading.Thread(target=obey, args=(soldier,), name="obey", daemon=True).start()
    with suppress(redis.RedisError):  # what redis-py imports late
        redis.Redis.from_url(config["store"]).ping()
    gc.collect()
    reporter.say(ready=True)
    if config["flavour"] == "threads":
        left = run_threads(soldier, config["interval"])
    elif config["flavour"] == "trio":
        left = trio.run(run_loop, soldier, config["interval"])
    else:
        left = asyncio.run(run_loop(soldier, config["interval"]))
    gc.collect()
    reporter.say(done={"counts": soldier.counts, "left": left})


if __name__ == "__main__":
    main()
