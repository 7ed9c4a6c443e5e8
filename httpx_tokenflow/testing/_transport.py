"""An in-memory transport for `httpx` and its kin: the deliveries of a sandbox without a network.

The rules:

1. One class per library, with that library's transports, streams and exceptions; no library is imported here.
2. As on the wire: a request's body is read once and not kept, so a body that cannot be replayed fails here as
   it fails there; a read timeout ends a wait.
3. The sync and the async half share every decision and differ in how they sleep.
"""

import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from ._arrivals import Arrivals
from ._asgi import lower
from ._reply import Delivery, Reply


class _Body:
    """A body on its way: a stream for sync and async clients, mixed with the library's stream classes."""

    def __init__(self, wire: "_Wire", delivery: Delivery, reply: Reply) -> None:
        self._wire = wire
        self._cut = delivery.ending == "cut"
        self._pieces = delivery.pieces(reply)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                self._wire.sleep(piece)
        self._end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                await self._wire.asleep(piece)
        self._end()

    def _end(self) -> None:
        if self._cut:
            raise self._wire.dropped("peer closed connection without sending complete message body")


class _Wire:
    """One request's connection: how long one may wait on it, and how it breaks."""

    def __init__(self, library: ModuleType, request: Any) -> None:
        self._library = library
        self._request = request
        self._patience: float | None = request.extensions.get("timeout", {}).get("read")

    def sleep(self, seconds: float) -> None:
        time.sleep(self._bounded(seconds))
        self._check(seconds)

    async def asleep(self, seconds: float) -> None:
        await anyio.sleep(self._bounded(seconds))
        self._check(seconds)

    def dropped(self, message: str = "Server disconnected without sending a response.") -> Exception:
        error: Exception = self._library.RemoteProtocolError(message, request=self._request)
        return error

    def check_length(self, body: bytes) -> None:
        """Fail as a network transport does when a body is not as long as its header says."""
        declared = self._request.headers.get("content-length")
        if declared is not None and int(declared) != len(body):
            few = "little" if len(body) < int(declared) else "much"
            raise self._library.LocalProtocolError(f"Too {few} data for declared Content-Length", request=self._request)

    def _bounded(self, seconds: float) -> float:
        return seconds if self._patience is None else min(seconds, self._patience)

    def _check(self, seconds: float) -> None:
        if self._patience is not None and seconds > self._patience:
            raise self._library.ReadTimeout("The read operation timed out", request=self._request)


class _Carrier:
    """The transport, mixed with the library's transport classes."""

    library: ModuleType
    stream_class: type[Any]

    def __init__(self, arrivals: Arrivals, on: str | None = None) -> None:
        self._arrivals = arrivals
        self._on = on

    def handle_request(self, request: Any) -> Any:
        wire = _Wire(self.library, request)
        delivery = self._deliver(wire, request, b"".join(request.stream))
        if delivery.wait:
            wire.sleep(delivery.wait)
        return self._response(wire, request, delivery)

    async def handle_async_request(self, request: Any) -> Any:
        wire = _Wire(self.library, request)
        delivery = self._deliver(wire, request, b"".join([chunk async for chunk in request.stream]))
        if delivery.wait:
            await wire.asleep(delivery.wait)
        else:
            await checkpoint()  # a network would let others run here
        return self._response(wire, request, delivery)

    def _deliver(self, wire: _Wire, request: Any, body: bytes) -> Delivery:
        wire.check_length(body)
        url = request.url
        query = url.query.decode("ascii")
        return self._arrivals.take(request.method, url.path, query, lower(request.headers.raw), body, self._on)

    def _response(self, wire: _Wire, request: Any, delivery: Delivery) -> Any:
        reply = delivery.reply
        if reply is None:
            raise wire.dropped()
        if request.method == "HEAD":
            return self.library.Response(reply.status, headers=delivery.head(reply), content=b"")
        stream = self.stream_class(wire, delivery, reply)
        return self.library.Response(reply.status, headers=delivery.head(reply), stream=stream)


@lru_cache(maxsize=8)
def transport_class(library: ModuleType) -> Any:
    """Build a library's transport class, a subclass of its ``BaseTransport`` and ``AsyncBaseTransport``."""
    stream = type("SandboxStream", (_Body, library.SyncByteStream, library.AsyncByteStream), {})
    bases = (_Carrier, library.BaseTransport, library.AsyncBaseTransport)
    return type("SandboxTransport", bases, {"library": library, "stream_class": stream})


def answer(arrivals: Arrivals, request: Any, on: str | None) -> Any:
    """Answer a request object of either library with that library's response."""
    return transport_class(_library_of(request))(arrivals, on).handle_request(request)


async def aanswer(arrivals: Arrivals, request: Any, on: str | None) -> Any:
    """Answer a request object as `answer` does, and let others run meanwhile."""
    await request.aread()  # a sync stream that a mock has read stays as it is
    return await transport_class(_library_of(request))(arrivals, on).handle_async_request(request)


def _library_of(request: Any) -> Any:
    """Find the library whose request it is, or whose request its class is made of."""
    for kind in type(request).__mro__:
        library: Any = sys.modules.get(kind.__module__.partition(".")[0])
        if kind is getattr(library, "Request", None) and hasattr(library, "AsyncBaseTransport"):
            return library
    raise TypeError(f"a handler answers requests of httpx or httpx2, not {type(request).__name__}")
