"""One process of a fleet: it makes a `TokenAuth` as it is told, sends requests, and can stop where it is told.

`python worker.py` is the nursery: it has imported all there is to import and forks a worker for each line that it
reads, `{"name": …, "connect": path of a socket}`. It dies with the end of its standard input, and its workers with it,
even those that are stopped. A worker obeys JSON lines, `{"id": …, "do": verb, …arguments}`, all at once, and answers
`{"id": …, "result": …}`; the verbs are the methods of `Worker` without an underscore.

Points, at which a worker says `{"at": name}` and stops itself by SIGSTOP if it was armed so, once:

    loading, loaded     the store is read; once the lease is held that is reloading, reloaded
    leasing, leased     the lease is asked for; it is held
    marking, marked     the note that a refresh token is about to be presented is written
    saving, saved       the new token is
    renaming            of a FileStore: the new file is written, and not yet in its place
    releasing, released
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import json
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio._backends._asyncio  # noqa: F401 - likewise
import httpcore  # noqa: F401 - httpx imports it late: here once, and not in each worker
import httpx

from httpx_tokenflow import (
    ClientCredentials,
    Clock,
    RefreshToken,
    RenewalPolicy,
    Token,
    TokenAuth,
    _entries,
)
from httpx_tokenflow.stores import FileStore, MemoryStore, RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LIVES = 1800.0  # seconds after which a nursery, and all of it, ends in any case
CLIENTS, CONNECTIONS = 8, 10  # of a worker, of each: httpx's pool is slow with many
# The API speaks plain http, from here: to read what the world trusts takes 40 ms.
PLAIN: dict[str, Any] = {"verify": False, "trust_env": False}
EVENTS = 5000  # that are kept

_PR_SET_PDEATHSIG = 1
_real_time = time.time


class Points:
    """Where the process can be told to stop."""

    def __init__(self, say: Any) -> None:
        self.armed: dict[str, bool] = {}  # whether to stop there
        self._say = say

    def reached(self, name: str) -> None:
        if name not in self.armed:
            return
        stops = self.armed.pop(name)
        self._say({"at": name})
        if stops:
            signal.raise_signal(signal.SIGSTOP)


class Watched:
    """A store with points around what it does."""

    def __init__(self, store: Any, points: Points) -> None:
        self.store, self.points = store, points
        self.leased = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @contextmanager
    def _around(self, before: str, after: str) -> Iterator[None]:
        self.points.reached(before)
        yield
        self.points.reached(after)

    def _loading(self) -> Any:
        return self._around("reloading", "reloaded") if self.leased else self._around("loading", "loaded")

    @contextmanager
    def _holding(self) -> Iterator[None]:
        self.leased = True
        self.points.reached("leased")
        try:
            yield
            self.points.reached("releasing")
        finally:
            self.leased = False

    def _saving(self, entry: Any) -> Any:
        return self._around("marking", "marked") if entry.presented else self._around("saving", "saved")

    def load(self, fingerprint: str) -> Any:
        with self._loading():
            return self.store.load(fingerprint)

    def save(self, fingerprint: str, entry: Any, *, replaces: str | None) -> bool:
        with self._saving(entry):
            return self.store.save(fingerprint, entry, replaces=replaces)

    @contextmanager
    def lease(self, fingerprint: str, seconds: float, patience: float) -> Iterator[bool]:
        self.points.reached("leasing")
        with self.store.lease(fingerprint, seconds, patience) as leased, self._holding():
            yield leased
        self.points.reached("released")

    async def aload(self, fingerprint: str) -> Any:
        with self._loading():
            return await self.store.aload(fingerprint)

    async def asave(self, fingerprint: str, entry: Any, *, replaces: str | None) -> bool:
        with self._saving(entry):
            return await self.store.asave(fingerprint, entry, replaces=replaces)

    @asynccontextmanager
    async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncIterator[bool]:
        self.points.reached("leasing")
        async with self.store.alease(fingerprint, seconds, patience) as leased:
            with self._holding():
                yield leased
        self.points.reached("released")


class Tally:
    """What became of requests."""

    def __init__(self) -> None:
        self.ok = 0
        self.failed: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()

    def add(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            self.ok += 1
            self.tokens[response.request.headers["Authorization"].removeprefix("Bearer ")] += 1
        else:
            self.failed[str(response.status_code)] += 1

    def fail(self, error: Exception) -> None:
        self.failed[type(error).__name__] += 1

    def result(self) -> dict[str, Any]:
        return {"ok": self.ok, "failed": dict(self.failed), "tokens": dict(self.tokens)}


class Worker:
    """What a worker can be told to do."""

    def __init__(self, name: str, say: Any) -> None:
        self._headers = {"X-Worker": name}
        self._points = Points(say)
        self._events: list[dict[str, Any]] = []
        self._halted = False
        self._auth: TokenAuth
        self._api = ""
        self._clients: list[httpx.AsyncClient]
        self._threads = ThreadPoolExecutor(200)

    def build(
        self,
        url: str,
        api: str,
        kind: str,
        store: dict[str, Any],
        policy: dict[str, Any] | None = None,
        token: dict[str, Any] | None = None,
        client_secret: str = "secret",
        shift: float = 0.0,
        entry_version: int | None = None,
        young: float | None = None,
    ) -> None:
        """Make the auth object.

        Args:
            url: of the authority's token endpoint, without the path.
            api: of its API.
            kind: "client" for client credentials, "refresh" for a refresh token.
            store: its "kind" (redis, file, memory), "address" and other options.
            policy: numbers of the `RenewalPolicy`.
            token: a token endpoint's answer, to begin with.
            client_secret: what it says.
            shift: seconds by which this process's wall clock is ahead.
            entry_version: what this process takes for the version of entries, if not what it is.
            young: seconds up to which a token that is refused counts as young to the breaker, if not what it is.
        """
        if shift:
            time.time = lambda: _real_time() + shift
        if entry_version is not None:
            _entries.VERSION = entry_version
        if young is not None:
            ours = [module for name, module in sys.modules.items() if name.startswith("httpx_tokenflow")]
            for module in [module for module in ours if hasattr(module, "YOUNG")]:
                vars(module)["YOUNG"] = young
        grants = {"client": ClientCredentials, "refresh": RefreshToken}
        more = {"subject": "alice"} if kind == "refresh" else {}
        first = None
        if token is not None:
            first = Token(
                token["access_token"],
                refresh_token=token.get("refresh_token"),
                expires_at=time.time() + token["expires_in"],
            )
        if store["kind"] == "file":
            _stop_before_renaming(self._points)
        self._auth = TokenAuth(
            grants[kind](f"{url}/token", client_id="client", client_secret=client_secret, **more),
            token=first,
            store=Watched(_store(**store), self._points),
            policy=RenewalPolicy(clock=Clock(wall=time.time), **(policy or {})),
            on_event=self._note,
        )
        self._api = f"{api}/api"
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        self._clients = [
            httpx.AsyncClient(auth=self._auth, headers=self._headers, timeout=60.0, limits=limits, **PLAIN)
            for _ in range(CLIENTS)
        ]

    async def run(self, tasks: int = 1, requests: int = 1) -> dict[str, Any]:
        """So many asyncio tasks, each sends so many requests one after the other."""
        tally = Tally()

        async def task(client: httpx.AsyncClient) -> None:
            for _ in range(requests):
                await self._send(client, tally)

        await asyncio.gather(*(task(self._clients[number % CLIENTS]) for number in range(tasks)))
        return tally.result()

    async def stream(self, tasks: int = 1, pause: float = 0.0) -> dict[str, Any]:
        """So many asyncio tasks send requests, with a pause of up to so many seconds, until they are told to halt."""
        tally, self._halted = Tally(), False

        async def task(client: httpx.AsyncClient) -> None:
            while not self._halted:
                await self._send(client, tally)
                await asyncio.sleep(pause * random.random())

        await asyncio.gather(*(task(self._clients[number % CLIENTS]) for number in range(tasks)))
        return tally.result()

    def halt(self) -> None:
        self._halted = True

    async def threads(self, threads: int = 1, requests: int = 1) -> dict[str, Any]:
        """As `run`, with so many threads and the sync client."""
        tally = Tally()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)

        def work(client: httpx.Client) -> None:
            for _ in range(requests):
                try:
                    tally.add(client.get(self._api))
                except Exception as error:  # noqa: BLE001 - counted
                    tally.fail(error)

        loop = asyncio.get_running_loop()
        with httpx.Client(auth=self._auth, headers=self._headers, timeout=60.0, limits=limits, **PLAIN) as client:
            await asyncio.gather(*(loop.run_in_executor(self._threads, work, client) for _ in range(threads)))
        return tally.result()

    async def _send(self, client: httpx.AsyncClient, tally: Tally) -> None:
        try:
            tally.add(await client.get(self._api))
        except Exception as error:  # noqa: BLE001 - counted
            tally.fail(error)

    def arm(self, point: str, *, stops: bool = True) -> None:
        """Stop at the next such point, or say no more than that it was reached."""
        self._points.armed[point] = stops

    async def set_token(self, token: dict[str, Any]) -> None:
        await self._auth.aset_token(
            Token(
                token["access_token"],
                refresh_token=token.get("refresh_token"),
                expires_at=time.time() + token["expires_in"],
            )
        )

    async def revoke(self) -> bool:
        return await self._auth.arevoke()

    async def close(self) -> None:
        await self._auth.aclose()

    async def close_sync(self) -> None:
        await asyncio.to_thread(self._auth.close)

    def disk(self, *, full: bool) -> None:
        """What this process writes into files fails, by the kernel's own word (EFBIG); or works again."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if full else hard, hard))

    def events(self) -> list[dict[str, Any]]:
        """What has happened so far: the kind of each event and what can be said of it in JSON."""
        return self._events

    def status(self) -> dict[str, Any]:
        """How the token in memory is doing."""
        status = self._auth.status
        return {"state": status.state, "expires_in": status.expires_in}

    def _note(self, event: Any) -> None:
        if len(self._events) < EVENTS:
            facts = {one.name: getattr(event, one.name) for one in dataclasses.fields(event)}
            if "error" in facts:
                facts["error"] = type(facts["error"]).__name__
            self._events.append({"event": type(event).__name__, **facts})


def _stop_before_renaming(points: Points) -> None:
    rename = Path.replace

    def replace(self: Path, target: Any) -> Path:
        points.reached("renaming")
        return rename(self, target)

    Path.replace = replace  # type: ignore[method-assign]


def _store(kind: str, address: str = "", **options: Any) -> Any:
    if kind == "redis":
        return RedisStore(address, **options)
    return FileStore(address, **options) if kind == "file" else MemoryStore()


async def _serve(path: str, name: str) -> None:
    plug = socket.socket(socket.AF_UNIX)
    plug.connect(path)
    lock = threading.Lock()

    def say(what: dict[str, Any]) -> None:
        with lock:  # whole, and out, before anything else happens: the process may stop or die in the next moment
            plug.sendall(json.dumps(what).encode() + b"\n")

    worker = Worker(name, say)
    say({"name": name, "pid": os.getpid()})
    loop, tasks = asyncio.get_running_loop(), set()

    async def obey(order: dict[str, Any]) -> None:
        number, verb = order.pop("id"), order.pop("do")
        try:
            result = getattr(worker, verb)(**order)
            if asyncio.iscoroutine(result):
                result = await result
        except Exception as error:  # noqa: BLE001 - the test decides what it means
            say({"id": number, "error": f"{type(error).__name__}: {error}"})
        else:
            say({"id": number, "result": result})

    def take(line: bytes) -> None:
        task = loop.create_task(obey(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def listen() -> None:
        for line in plug.makefile("rb"):
            loop.call_soon_threadsafe(take, line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    await asyncio.Event().wait()


def _work(order: dict[str, str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(0)
    asyncio.run(_serve(order["connect"], order["name"]))


def _nursery() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C in a terminal is for the tests
    signal.alarm(int(LIVES))
    gc.freeze()  # or each worker's first collection copies all pages
    print("ready", flush=True)  # noqa: T201 - how it says so
    for line in sys.stdin:
        if os.fork() == 0:
            try:
                _work(json.loads(line))
            finally:
                os._exit(0)


if __name__ == "__main__":
    _nursery()
