"""What a store promises.

Rules.

1. `save` and `delete` compare first: they act only if what the store holds is what the caller says it holds, named by
   `Entry.stamp`. That is what keeps the loser of a race from overwriting, or deleting, the winner's token.
2. Both happen at once or not at all: nobody ever loads half an entry.
3. A lease belongs to one holder at a time among all that share the store, and ends by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from httpx_tokenflow._tokens import Entry

__all__ = ["AsyncStore", "Store"]


class Store(Protocol):
    """The sync side of a store. Any exception means that the store failed."""

    def load(self, fingerprint: str) -> Entry | None:
        """What is held for `fingerprint`, or None."""

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """Hold `entry`, if the stamp of what is held now is `replaces` (None: nothing is held). Whether it did."""

    def delete(self, fingerprint: str, *, stamp: str) -> bool:
        """Forget what is held, if its stamp is `stamp`. Whether it did."""

    def lease(self, fingerprint: str, seconds: float) -> AbstractContextManager[None]:
        """The right to renew, while the context lasts, for `seconds` at most; waits for who has it now."""


class AsyncStore(Protocol):
    """The async side of a store; a store may have both."""

    async def aload(self, fingerprint: str) -> Entry | None:
        """As `Store.load`."""

    async def asave(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """As `Store.save`."""

    async def adelete(self, fingerprint: str, *, stamp: str) -> bool:
        """As `Store.delete`."""

    def alease(self, fingerprint: str, seconds: float) -> AbstractAsyncContextManager[None]:
        """As `Store.lease`."""
