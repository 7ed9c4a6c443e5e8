"""The store that lives and dies with the process."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from httpx_tokenflow._forks import renew_after_fork

if TYPE_CHECKING:
    from httpx_tokenflow._entries import Entry

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps tokens in this process's memory; for any number of `TokenAuth` objects, threads and event loops.

    Within a process one flight per fingerprint is enough of a lease, so `lease` has nothing to do.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)}>"

    def load(self, fingerprint: str) -> Entry | None:
        """What is held for `fingerprint`, or None."""
        return self._entries.get(fingerprint)

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """Hold `entry`, if the fence of what is held now is `replaces` (None: nothing is held). Whether it did."""
        with self._lock:
            held = self._entries.get(fingerprint)
            if (None if held is None else held.fence) != replaces:
                return False
            self._entries[fingerprint] = entry
            return True

    def delete(self, fingerprint: str, *, fence: str) -> bool:
        """Forget what is held, if its fence is `fence`. Whether it did."""
        with self._lock:
            held = self._entries.get(fingerprint)
            if held is None or held.fence != fence:
                return False
            del self._entries[fingerprint]
            return True

    def lease(self, fingerprint: str, seconds: float, patience: float) -> nullcontext[bool]:  # noqa: ARG002 - the protocol
        """Nothing to do: see the class."""
        return nullcontext(True)

    async def aload(self, fingerprint: str) -> Entry | None:
        """As `load`."""
        return self.load(fingerprint)

    async def asave(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """As `save`."""
        return self.save(fingerprint, entry, replaces=replaces)

    async def adelete(self, fingerprint: str, *, fence: str) -> bool:
        """As `delete`."""
        return self.delete(fingerprint, fence=fence)

    def alease(self, fingerprint: str, seconds: float, patience: float) -> nullcontext[bool]:
        """As `lease`."""
        return self.lease(fingerprint, seconds, patience)
