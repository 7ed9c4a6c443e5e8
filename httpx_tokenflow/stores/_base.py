"""What a store promises.

Rules.

1. `save` and `delete` compare first: they act only if what the store holds is what the caller says it holds, named by
   `Entry.fence`. That is what keeps the loser of a race from overwriting, or deleting, the winner's token, and a holder
   whose lease has lapsed from presenting a refresh token that somebody else is about to present.
2. Both happen at once or not at all: nobody ever loads half an entry. What `save` has said is saved outlives a crash,
   as far as the store outlives one.
3. A lease belongs to one holder at a time among all that share the store, and ends by itself when its holder does.
4. A store may forget an entry after `Entry.kept_for` seconds, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from httpx_tokenflow._entries import Entry

__all__ = ["AsyncStore", "Store"]


class Store(Protocol):
    """The sync side of a store. Any exception means that the store failed."""

    def load(self, fingerprint: str) -> Entry | None:
        """What is held for `fingerprint`, or None."""

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """Hold `entry`, if the fence of what is held now is `replaces` (None: nothing is held). Whether it did."""

    def delete(self, fingerprint: str, *, fence: str) -> bool:
        """Forget what is held, if its fence is `fence`. Whether it did."""

    def lease(self, fingerprint: str, seconds: float, patience: float) -> AbstractContextManager[bool | None]:
        """The right to renew, while the context lasts, for `seconds` at most.

        Waits `patience` seconds for whoever has it now, and fails after that. It may stop waiting when another token
        than before is held: the context is False then, and brings no right.
        """


class AsyncStore(Protocol):
    """The async side of a store; a store may have both."""

    async def aload(self, fingerprint: str) -> Entry | None:
        """As `Store.load`."""

    async def asave(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        """As `Store.save`."""

    async def adelete(self, fingerprint: str, *, fence: str) -> bool:
        """As `Store.delete`."""

    def alease(self, fingerprint: str, seconds: float, patience: float) -> AbstractAsyncContextManager[bool | None]:
        """As `Store.lease`."""
