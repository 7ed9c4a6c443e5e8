"""The network of a soak: a TCP proxy before each server, which delays, cuts and refuses when it is told to."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine

PORTS = range(20_000, 32_000)  # below those that the system gives away, so that a closed port can be opened again


class Network:
    """Some proxies, on a thread with a loop of its own. Its methods may be called from any thread.

    Args:
        targets: name -> port of the server.
    """

    def __init__(self, targets: dict[str, int], seed: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        draws = random.Random(seed)
        self._proxies = {name: Proxy(port, draws) for name, port in targets.items()}

    def __enter__(self) -> Self:
        self._thread.start()
        for proxy in self._proxies.values():
            self._do(proxy.open())
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._proxies.values():
            self._do(proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def port(self, name: str) -> int:
        """Where the proxy listens."""
        return self._proxies[name].port

    def delay(self, name: str, seconds: float) -> None:
        """What comes, either way, is passed on so much later; 0: at once."""
        self._proxies[name].delay = seconds

    def cut(self, name: str, share: float) -> None:
        """End this share of the connections."""
        self._do(self._proxies[name].cut(share))

    def refuse(self, name: str) -> None:
        """Nobody listens any more; connections stay."""
        self._do(self._proxies[name].refuse())

    def listen(self, name: str) -> None:
        """Somebody listens again."""
        self._do(self._proxies[name].open())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(20)


class Proxy:
    """One of them."""

    def __init__(self, target: int, draws: random.Random) -> None:
        self.port, self.delay = 0, 0.0
        self._target, self._draws = target, draws
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        if self._server is not None:
            return
        listener = self._bound()
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listener, backlog=512)

    async def refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    async def cut(self, share: float) -> None:
        for pair in list(self._pairs):
            if self._draws.random() < share:
                for writer in pair:
                    writer.transport.abort()

    async def close(self) -> None:
        await self.refuse()
        await self.cut(1.0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _bound(self) -> socket.socket:
        for _ in range(100):
            # Named as TCP, for asyncio sets TCP_NODELAY only on what is.
            listener = socket.socket(socket.AF_INET, proto=socket.IPPROTO_TCP)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", self.port or random.choice(PORTS)))
            except OSError:
                listener.close()
            else:
                return listener
        raise RuntimeError("no port to listen on")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        pair = (writer, onward)
        self._pairs.add(pair)
        pumps = [asyncio.ensure_future(one) for one in (self._pump(reader, onward), self._pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._pairs.discard(pair)
            self._tasks.discard(task)
            for one in pair:
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
