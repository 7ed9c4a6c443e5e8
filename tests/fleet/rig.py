"""A fleet of real processes, as a test sees it. The manual is in `conftest.py`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fleet.authority import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKER = Path(__file__).with_name("worker.py")


class Gone(Exception):  # noqa: N818 - what is the case
    """The worker that was asked is no more."""


class Worker:
    """One process."""

    def __init__(self, name: str, plug: socket.socket) -> None:
        self.name = name
        self._plug = plug
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[Any]] = {}
        self._reached: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._lines = plug.makefile("rb")
        self.pid: int = json.loads(self._lines.readline())["pid"]
        self.is_gone = threading.Event()
        threading.Thread(target=self._listen, name=name, daemon=True).start()

    def __repr__(self) -> str:
        return f"<Worker {self.name}>"

    def start(self, do: str, **arguments: Any) -> Future[Any]:
        """Have it do something; what comes of it."""
        future: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            if self.is_gone.is_set():
                future.set_exception(Gone(self.name))
                return future
            self._asked[number] = future
        with contextlib.suppress(OSError):
            self._plug.sendall(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        return future

    def do(self, do: str, **arguments: Any) -> Any:
        """Have it do something, and wait for it."""
        return self.start(do, **arguments).result(PATIENCE)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it was told of, of one kind."""
        return [event for event in self.do("events") if event["event"] == kind]

    def reaches(self, point: str) -> None:
        """Wait until it is at a point that it was armed for."""
        assert self._reached.get(timeout=PATIENCE) == point

    def stops_at(self, point: str) -> None:
        """Wait until it has stopped itself at a point that it was armed for."""
        self.reaches(point)
        until(lambda: self._state() == "T")

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: self._state() == "T")

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        assert self.is_gone.wait(PATIENCE)

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            for line in self._lines:
                self._take(json.loads(line))
        with self._lock:
            self.is_gone.set()
            asked = list(self._asked.values())
        for future in asked:
            future.set_exception(Gone(self.name))
        self._lines.close()
        self._plug.close()

    def _take(self, said: dict[str, Any]) -> None:
        if "at" in said:
            self._reached.put(said["at"])
            return
        with self._lock:
            future = self._asked.pop(said["id"])
        if "error" in said:
            future.set_exception(AssertionError(f"{self.name}: {said['error']}"))
        else:
            future.set_result(said["result"])


class Nursery:
    """The process that workers are forked from, see `worker.py`."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="tokenflow-fleet-")
        self._path = f"{self._folder}/plug"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen(64)
        self._listener.settimeout(PATIENCE)
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._names = itertools.count(1)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the nursery does not start"
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.communicate()  # the end of its standard input is its own
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def worker(self) -> Worker:
        """One more process."""
        assert self._process.stdin is not None
        name = f"worker {next(self._names)}"
        self._process.stdin.write(json.dumps({"name": name, "connect": self._path}).encode() + b"\n")
        self._process.stdin.flush()
        plug, _ = self._listener.accept()
        plug.settimeout(None)
        return Worker(name, plug)


class Fleet:
    """The workers of one test, which all end with it.

    Args:
        nursery: where they come from.
        settings: arguments of `build` that they share.
    """

    def __init__(self, nursery: Nursery, **settings: Any) -> None:
        self._nursery = nursery
        self.settings = settings
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for worker in self.workers:
            worker.kill()

    def start(self, number: int = 1, **settings: Any) -> list[Worker]:
        """So many more workers, with an auth object each."""
        new = [self._nursery.worker() for _ in range(number)]
        self.workers += new
        for future in [worker.start("build", **self.settings | settings) for worker in new]:
            future.result(PATIENCE)
        return new

    def run(self, workers: Iterable[Worker] | None = None, **arguments: Any) -> Outcome:
        """Have all of them (or these) `run`, and wait."""
        return self.all("run", workers, **arguments)

    def all(self, do: str, workers: Iterable[Worker] | None = None, **arguments: Any) -> Outcome:
        """Have all of them (or these) do something that has a tally, and wait."""
        return self.begin(do, workers, **arguments).result()

    def begin(self, do: str, workers: Iterable[Worker] | None = None, **arguments: Any) -> Running:
        return Running([one.start(do, **arguments) for one in (self.workers if workers is None else workers)])

    def events(self, kind: str, workers: Iterable[Worker] | None = None) -> list[dict[str, Any]]:
        """What all of them (or these) were told of, of one kind."""
        return [event for one in (self.workers if workers is None else workers) for event in one.events(kind)]


class Running:
    """What a number of workers are about to have done."""

    def __init__(self, futures: list[Future[Any]]) -> None:
        self._futures = futures

    @property
    def done(self) -> bool:
        return all(future.done() for future in self._futures)

    def result(self, patience: float = 2 * PATIENCE) -> Outcome:
        outcome = Outcome()
        deadline = time.monotonic() + patience
        for future in self._futures:
            outcome.add(future.result(max(0.0, deadline - time.monotonic())))
        return outcome


class Outcome:
    """What became of requests, in all workers together.

    Attributes:
        ok: answered with 200.
        failed: how many by status, or by the error's name.
        tokens: the access tokens that served, and in how many workers.
    """

    def __init__(self) -> None:
        self.ok = 0
        self.failed: dict[str, int] = {}
        self.tokens: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Outcome {self.ok} ok, {self.failed} failed, {self.tokens}>"

    def add(self, tally: dict[str, Any]) -> None:
        self.ok += tally["ok"]
        for how, count in tally["failed"].items():
            self.failed[how] = self.failed.get(how, 0) + count
        for token in tally["tokens"]:
            self.tokens[token] = self.tokens.get(token, 0) + 1


def until(is_so: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(0.01)
