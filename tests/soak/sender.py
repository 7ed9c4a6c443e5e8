"""What the client processes of a soak share: what they say, by which clock they reckon, their auth objects, their size.

A process says, a JSON line each: what became of a request that did not simply get its 200, a sample of its size, what
is wrong with it, and in the end its counts and what it has left behind.

It reckons by a clock that can be made to stand still: the seconds in the shared memory of `slept` are not counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import mmap
import os
import random
import struct
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
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

SLOW = 20.0  # seconds: of a request that took longer the judge is told, even if all went well


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


class Sender:
    """What the three kinds of processes share: the auth objects, and the books on what was sent."""

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
        brief = RenewalPolicy(clock=self.clock, budget=12.0, lease=14.0, connect_timeout=5.0)
        # As long as the longest suspend and the slowest answer together: a session's answer must not be given up.
        patient = RenewalPolicy(clock=self.clock, budget=20.0, connect_timeout=5.0)

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
