"""Stores for the processes of one user on one machine: their leases are locks on files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._coded import CodedStore

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from ._file_locks import FileLocks

__all__ = ["LockedStore"]


class LockedStore(CodedStore):
    """A store that blocks, whose leases are `_locks`; a subclass says where those are."""

    _locks: FileLocks

    def lease(self, fingerprint: str, seconds: float, patience: float) -> AbstractContextManager[bool]:  # noqa: ARG002
        """The right to renew, while the context lasts or the process lives; `seconds` has no say.

        Raises:
            StoreError: another holder has not let go of it within `patience` seconds, or it cannot be locked.
        """
        return self._locks.lease(fingerprint, patience)

    def alease(
        self,
        fingerprint: str,
        seconds: float,  # noqa: ARG002
        patience: float,
    ) -> AbstractAsyncContextManager[bool]:
        """As `lease`."""
        return self._locks.alease(fingerprint, patience)
