"""Bodies: what can be sent twice, and how much of a refused answer is read.

Rules.

1. A body is replayed only if it provably can be: bytes, multipart of files that can seek, an iterable that is not its
   own iterator. Everything else would be sent empty or half the second time, with a 200 to show for it (failures F37).
2. An answer that another request follows is read first, up to 64 KiB or 2 s, so that its connection is free for whoever
   needs it. Past that the connection is given up; the answer then has no body (failures F26, F43).
"""

from __future__ import annotations

import time
import zlib
from contextlib import aclosing
from typing import Any

import anyio

from ._libraries import library_of

__all__ = ["adrain", "drain", "is_replayable", "unpacked"]

MAX_BYTES = 64 * 1024
MAX_SECONDS = 2.0


def is_replayable(request: Any) -> bool:
    """Whether the body of `request` goes out whole a second time (rule 1)."""
    stream = request.stream
    if isinstance(stream, library_of(request).ByteStream):
        return True
    fields = getattr(stream, "fields", None)
    if fields is not None:  # multipart: httpx rewinds its files, if they let it
        files = [field.file for field in fields if hasattr(field, "file")]
        return all(isinstance(file, str | bytes) or _can_seek(file) for file in files)
    source = getattr(stream, "_stream", None)  # httpx's wrapper around what the caller gave; without it: no proof
    if source is None or hasattr(source, "read") or hasattr(source, "aread"):
        return False
    begin = getattr(source, "__aiter__", None) or getattr(source, "__iter__", None)
    return begin is not None and begin() is not begin()  # two beginnings, or one that goes on


def _can_seek(file: Any) -> bool:
    try:
        file.seek(file.tell())
    except (AttributeError, OSError, ValueError):
        return False
    return True


def drain(response: Any) -> None:
    """Read `response` within bounds, and leave it read."""
    if response.is_closed:
        return
    until = time.monotonic() + MAX_SECONDS
    timeouts = response.request.extensions.get("timeout")
    patience = None
    if isinstance(timeouts, dict):
        # httpcore looks at this very dictionary when it begins to read a body.
        patience, timeouts["read"] = timeouts.get("read"), MAX_SECONDS
    body = _Body()
    try:
        for chunk in response.iter_raw():
            if not body.add(chunk) or time.monotonic() > until:
                body.give_up()
                break
    except Exception:  # noqa: BLE001 - a 401 that cannot be read is a 401 all the same
        body.give_up()
    finally:
        if isinstance(timeouts, dict):
            timeouts["read"] = patience
        response.close()
    body.put_back(response)
    response.read()


async def adrain(response: Any) -> None:
    """As `drain`."""
    if response.is_closed:
        return
    body = _Body()
    with anyio.move_on_after(MAX_SECONDS) as limit:
        try:
            async with aclosing(response.aiter_raw()) as chunks:
                async for chunk in chunks:
                    if limit.cancel_called:
                        break  # a stream that never waits cannot be cancelled
                    if not body.add(chunk):
                        body.give_up()
                        limit.cancel()  # ends httpx's nest of generators from the inside; closing leaves some over
        except Exception:  # noqa: BLE001 - as in drain
            body.give_up()
    if limit.cancelled_caught:
        body.give_up()
    await response.aclose()
    body.put_back(response)
    await response.aread()


class _Body:
    """What has been read so far."""

    def __init__(self) -> None:
        self._chunks: list[bytes] | None = []
        self._size = 0

    def add(self, chunk: bytes) -> bool:
        assert self._chunks is not None  # noqa: S101 - nothing is added after giving up
        self._chunks.append(chunk)
        self._size += len(chunk)
        return self._size <= MAX_BYTES

    def give_up(self) -> None:
        self._chunks = None

    def put_back(self, response: Any) -> None:
        """Have `response` read again, from memory: only attributes that httpx documents are touched."""
        content = b"".join(self._chunks or ())
        coding = response.headers.pop("content-encoding", "").strip().lower()
        if content and coding not in {"", "identity"}:
            content = unpacked(content, coding, MAX_BYTES) or b""
        response.stream = library_of(response).ByteStream(content)
        response.is_closed = False
        response.is_stream_consumed = False


def unpacked(content: bytes, coding: str, most: int) -> bytes | None:
    """`content` without its content coding; None if that is none of zlib's, or more than `most` bytes come out."""
    if coding not in {"gzip", "x-gzip", "deflate"}:
        return None
    try:
        unpacking = zlib.decompressobj(32 + zlib.MAX_WBITS)  # 32: by its header, gzip or zlib
        found = unpacking.decompress(content, most)
    except zlib.error:
        return None
    return None if unpacking.unconsumed_tail else found
