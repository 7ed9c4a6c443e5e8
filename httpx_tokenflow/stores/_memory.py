"""The store that lives and dies with the process."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._forks import renew_after_fork

if TYPE_CHECKING:
    from httpx_tokenflow._entries import Entry

__all__ = ["MemoryStore"]

_LOOKED_AT = 16  # entries, when there has to be room for another: never all of them


class MemoryStore:
    """Keeps tokens in this process's memory; for any number of `TokenAuth` objects, threads and event loops.

    Within a process one flight per fingerprint is enough of a lease, so `lease` has nothing to do.

    Args:
        limit: how many entries it keeps at most. The one that was loaded or saved least recently goes, or before it one
            near it that has ended. An access token is fetched again; a session (a refresh token, a login) that lives
            nowhere else is lost with its entry. None, the default: all of them.

    Raises:
        ConfigurationError: `limit` is no whole number, or less than 1.
    """

    def __init__(self, limit: int | None = None) -> None:
        given: Any = limit
        if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
            raise ConfigurationError("MemoryStore's limit must be a whole number of entries, 1 or more; None: no limit")
        self._limit = limit
        self._entries: dict[str, Entry] = {}  # with a limit, the least recently used first
        self._lock = threading.Lock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._entries)}>"

    def load(self, fingerprint: str) -> Entry | None:
        """What is held for `fingerprint`, or None."""
        if self._limit is None:
            return self._entries.get(fingerprint)
        with self._lock:
            entry = self._entries.pop(fingerprint, None)
            if entry is not None:
                self._entries[fingerprint] = entry
            return entry

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """Hold `entry`, if the fence of what is held now is `replaces` (None: nothing is held). Whether it did."""
        with self._lock:
            held = self._entries.get(fingerprint)
            if (None if held is None else held.fence) != replaces:
                return False
            if self._limit is not None:
                self._entries.pop(fingerprint, None)
                if len(self._entries) >= self._limit:
                    self._make_room()
            self._entries[fingerprint] = entry
            return True

    def _make_room(self) -> None:
        """Forget one entry."""
        now, oldest = time.time(), list(islice(self._entries.items(), _LOOKED_AT))
        over = (fingerprint for fingerprint, entry in oldest if _is_over(entry, now))
        del self._entries[next(over, oldest[0][0])]

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


def _is_over(entry: Entry, now: float) -> bool:
    """Whether a token has ended that nothing can renew. Word of a session that was given up counts for longer."""
    seconds = None if entry.is_spent else entry.kept_for(entry.issued_at)
    return seconds is not None and entry.issued_at + seconds < now
