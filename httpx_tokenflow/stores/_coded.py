"""Stores that keep bytes somewhere: entries encoded, and compare-and-set over what is there.

A subclass says how bytes are read, and how they are swapped for others if they are still what they were. One that says
it by async methods is an `AsyncCodedStore`, and has no sync side; one that says it by sync methods is a `CodedStore`,
and serves async programs from a thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from httpx_tokenflow._loops import work

from ._codec import Codec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from httpx_tokenflow._entries import Entry

__all__ = ["AsyncCodedStore", "CodedStore", "Swap"]


@dataclass(frozen=True, slots=True)
class Swap:
    """What is to happen to the bytes of a fingerprint, if they are still what they were.

    Args:
        had: what is there; None: nothing.
        new: what takes its place; None: nothing.
        seconds: for which it has to be kept; None: until something else takes its place.
        is_news: another token than before, for which others may be waiting.
    """

    had: bytes | None = field(repr=False)
    new: bytes | None = field(default=None, repr=False)
    seconds: float | None = None
    is_news: bool = False


class AsyncCodedStore(ABC):
    """The async side, and what both sides share.

    Args:
        keys: encryption keys: the first encrypts, all decrypt.
        accepts_plain: with keys, also read what was stored before there were any.
    """

    def __init__(self, keys: Iterable[str | bytes] = (), *, accepts_plain: bool = False) -> None:
        self._codec = Codec(keys, accepts_plain=accepts_plain)

    @abstractmethod
    async def _aread(self, fingerprint: str) -> bytes | None:
        """The bytes that are there."""

    @abstractmethod
    async def _aswap(self, fingerprint: str, swap: Swap) -> bool:
        """Swap them, at once or not at all. Whether they were still what they were."""

    def _encode(self, fingerprint: str, entry: Entry) -> bytes:
        return self._codec.encode(fingerprint, entry)

    def _decode(self, fingerprint: str, raw: bytes | None) -> Entry | None:
        return None if raw is None else self._codec.decode(fingerprint, raw)

    def _saving(self, fingerprint: str, entry: Entry, had: bytes | None, replaces: str | None) -> Swap | None:
        """How `entry` takes the place of what is there; None: that is not what it is to replace."""
        held = self._decode(fingerprint, had)
        if (None if held is None else held.fence) != replaces:
            return None
        is_news = held is None or held.stamp != entry.stamp
        return Swap(had, self._encode(fingerprint, entry), entry.kept_for(time.time()), is_news)

    def _deleting(self, fingerprint: str, had: bytes | None, fence: str) -> Swap | None:
        held = self._decode(fingerprint, had)
        return None if held is None or held.fence != fence else Swap(had)

    async def aload(self, fingerprint: str) -> Entry | None:
        """What is held for `fingerprint`, or None."""
        return self._decode(fingerprint, await self._aread(fingerprint))

    async def asave(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """Hold `entry`, if the fence of what is held now is `replaces` (None: nothing is held). Whether it did."""
        swap = self._saving(fingerprint, entry, await self._aread(fingerprint), replaces)
        return swap is not None and await self._aswap(fingerprint, swap)

    async def adelete(self, fingerprint: str, *, fence: str) -> bool:
        """Forget what is held, if its fence is `fence`. Whether it did."""
        swap = self._deleting(fingerprint, await self._aread(fingerprint), fence)
        return swap is not None and await self._aswap(fingerprint, swap)


class CodedStore(AsyncCodedStore):
    """Both sides, of a store that blocks; `keys` and `accepts_plain` as in `AsyncCodedStore`."""

    @abstractmethod
    def _read(self, fingerprint: str) -> bytes | None:
        """As `_aread`."""

    @abstractmethod
    def _swap(self, fingerprint: str, swap: Swap) -> bool:
        """As `_aswap`."""

    async def _aread(self, fingerprint: str) -> bytes | None:
        return await work(partial(self._read, fingerprint))

    async def _aswap(self, fingerprint: str, swap: Swap) -> bool:
        return await work(partial(self._swap, fingerprint, swap))

    def load(self, fingerprint: str) -> Entry | None:
        """What is held for `fingerprint`, or None."""
        return self._decode(fingerprint, self._read(fingerprint))

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """Hold `entry`, if the fence of what is held now is `replaces` (None: nothing is held). Whether it did."""
        swap = self._saving(fingerprint, entry, self._read(fingerprint), replaces)
        return swap is not None and self._swap(fingerprint, swap)

    def delete(self, fingerprint: str, *, fence: str) -> bool:
        """Forget what is held, if its fence is `fence`. Whether it did."""
        swap = self._deleting(fingerprint, self._read(fingerprint), fence)
        return swap is not None and self._swap(fingerprint, swap)
