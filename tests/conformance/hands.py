"""The three ways to use an auth object: callers are threads, or tasks of an asyncio or a trio loop.

One player plays for all of them. Its steps are coroutines; those of `Threads` never wait for a loop, so that `play` can
run them to the end with a single `send`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType

    from conformance.server import Reply, Server

__all__ = ["HANDS", "PATIENCE", "Call", "Gate", "Hand"]

PATIENCE = 10.0  # seconds; only guards against a hang


class Call:
    """One caller's request, and what became of it: a status, an error, or "cancelled"."""

    def __init__(self) -> None:
        self.outcome: Any = None
        self.cancel: Callable[[], object] | None = None


class Gate:
    """Holds answers while it is shut."""

    def __init__(self, event: Callable[[], Any]) -> None:
        self._event = event
        self._opened: Any = None
        self._lock = threading.Lock()
        self.held = 0

    def shut(self) -> None:
        self._opened = self._event()

    def open(self) -> None:
        """Let out what is held, and whatever comes."""
        with self._lock:
            opened, self._opened, self.held = self._opened, None, 0
        if opened is not None:
            opened.set()

    def enter(self) -> Any:
        """What to wait for; None: nothing."""
        with self._lock:
            self.held += self._opened is not None
            return self._opened

    def leave(self, opened: Any) -> None:
        """Whoever waited has gone, of their own accord or not."""
        with self._lock:
            if opened is self._opened:
                self.held -= 1

    @property
    def is_shut(self) -> bool:
        return self._opened is not None


class Hand:
    """A library and a way to use it."""

    is_threads: bool
    event: Callable[[], Any]
    backend: str
    client_of: str
    base_of: str
    handles: str

    def __init__(self, library: ModuleType) -> None:
        self.library = library
        self.gates: dict[str, Gate] = {}

    def client(self, server: Server, where: str, **options: Any) -> Any:
        """A client that reaches `server` and nothing else."""
        kind = getattr(self.library, self.base_of)
        transport = type("Scripted", (kind,), {self.handles: staticmethod(self.handler(server, where))})()
        return getattr(self.library, self.client_of)(transport=transport, **options)

    def handler(self, server: Server, where: str) -> Callable[[Any], Any]:
        """What handles requests. It reads their streams: `request.read()` would make any body one that can be kept."""
        raise NotImplementedError

    def response(self, reply: Reply, request: Any) -> Any:
        if reply.fails is not None:
            raise getattr(self.library, reply.fails)("as the scenario has it", request=request)
        return self.library.Response(reply.status, headers=reply.headers, text=reply.body)


class Threads(Hand):
    """A sync client; each caller at once is a thread."""

    is_threads = True
    event = threading.Event
    client_of = "Client"
    base_of = "BaseTransport"
    handles = "handle_request"

    def play(self, function: Callable[[], Any]) -> None:
        try:
            function().send(None)
        except StopIteration:
            return
        raise AssertionError("a step for threads has waited for a loop")

    def handler(self, server: Server, where: str) -> Callable[[Any], Any]:
        gate = self.gates[where]

        def handle(request: Any) -> Any:
            reply = server.answer(where, request, b"".join(request.stream))
            opened = gate.enter()
            if opened is not None:
                opened.wait(PATIENCE)
                gate.leave(opened)
            return self.response(reply, request)

        return handle

    async def use(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        """A method of the public surface."""
        return getattr(owner, name)(*arguments, **options)

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "what the scenario waits for does not come"
            time.sleep(0.0003)  # noqa: ASYNC251 - there is no loop here

    def start(self, call: Call, function: Callable[[], Awaitable[Any]]) -> None:
        def work() -> None:
            self.play(lambda: _finish(call, function))

        threading.Thread(target=work, daemon=True).start()

    async def close(self, client: Any) -> None:
        client.close()


class Loop(Hand):
    """An async client; each caller at once is a task."""

    is_threads = False
    event = anyio.Event
    client_of = "AsyncClient"
    base_of = "AsyncBaseTransport"
    handles = "handle_async_request"

    def play(self, function: Callable[[], Any]) -> None:
        failed: list[BaseException] = []

        async def bounded() -> None:
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as self._tasks:
                    try:
                        await function()
                    except Exception as error:  # noqa: BLE001 - raised below, on its own
                        failed.append(error)
                        self._tasks.cancel_scope.cancel()

        anyio.run(bounded, backend=self.backend)
        for error in failed:
            raise error

    def handler(self, server: Server, where: str) -> Callable[[Any], Any]:
        gate = self.gates[where]

        async def handle(request: Any) -> Any:
            reply = server.answer(where, request, b"".join([chunk async for chunk in request.stream]))
            opened = gate.enter()
            if opened is not None:
                try:
                    await opened.wait()
                finally:
                    gate.leave(opened)
            return self.response(reply, request)

        return handle

    async def use(self, owner: Any, name: str, *arguments: Any, **options: Any) -> Any:
        if isinstance(owner, self.library.AsyncClient):
            return await getattr(owner, name)(*arguments, **options)
        return await getattr(owner, f"a{name}")(*arguments, **options)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await anyio.lowlevel.checkpoint()

    def start(self, call: Call, function: Callable[[], Awaitable[Any]]) -> None:
        self._tasks.start_soon(self._run, call, function)

    async def _run(self, call: Call, function: Callable[[], Awaitable[Any]]) -> None:
        raise NotImplementedError

    async def close(self, client: Any) -> None:
        await client.aclose()


class Asyncio(Loop):
    """Callers hang up by `task.cancel()`, as `asyncio.wait_for` does it."""

    backend = "asyncio"

    async def _run(self, call: Call, function: Callable[[], Awaitable[Any]]) -> None:
        import asyncio

        task = asyncio.ensure_future(_finish(call, function))
        call.cancel = task.cancel
        try:
            await task
        except asyncio.CancelledError:
            if not task.done():
                task.cancel()  # it is the whole play that ends
                raise
            call.outcome = "cancelled"


class Trio(Loop):
    """Callers hang up by a scope of their own."""

    backend = "trio"

    async def _run(self, call: Call, function: Callable[[], Awaitable[Any]]) -> None:
        with anyio.CancelScope() as scope:
            call.cancel = scope.cancel
            await _finish(call, function)
        if scope.cancelled_caught:
            call.outcome = "cancelled"


HANDS: dict[str, type[Hand]] = {"threads": Threads, "asyncio": Asyncio, "trio": Trio}


async def _finish(call: Call, function: Callable[[], Awaitable[Any]]) -> None:
    try:
        call.outcome = await function()
    except Exception as error:  # noqa: BLE001 - an outcome to judge
        call.outcome = error
