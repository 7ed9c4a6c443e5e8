"""Tokens in the system's keyring.

Rules.

1. A keyring may take no more than about 1,280 characters at once (Windows' does not), and a token may have more. What
   is longer is kept in parts, and the item that has the fingerprint for its name says which: it is written when all of
   them are there, and at once, so nobody reads half of an entry and a crash loses none.
2. There are two sets of names for parts, used in turn: a crash leaves parts that the next write finds and removes.
   Whoever reads the parts of one set while they are written anew sees by the digest that they do not belong together.
3. One lock for all writes of a service, not one for each fingerprint: `keyring` on Windows moves another item of the
   service out of the way when it writes one, and two who do so at once would lose it.
4. A keyring that cannot be used is an error that names it. What was written is read again: some take and keep nothing.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from httpx_tokenflow._errors import ConfigurationError, DamagedEntry, StoreError
from httpx_tokenflow._extras import need_extra

from ._file_locks import FileLocks, state_directory
from ._locked import LockedStore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from httpx_tokenflow._entries import Entry

    from ._coded import Swap

__all__ = ["KeyringStore"]

MAX_PART = 1000  # characters
_MAX_PARTS = 1000
_HEAD = re.compile(r"parts ([ab]) ([0-9]{1,4}) ([0-9a-f]{64})")

_INSTEAD = "where there is none that works, use FileStore(keys=…)"


class KeyringStore(LockedStore):
    """Keeps tokens in the keyring of the system, which encrypts them; by the package `keyring`.

    That is the Keychain of macOS, the Credential Manager of Windows, the Secret Service of a Linux desktop.

    Meant for programs that a person runs. Leases are locks on files in the user's state directory, as those of
    `FileStore`: they hold among the processes of one user on one machine. The keyring may ask the person to unlock it,
    and whoever reads or writes waits for that.

    Args:
        service: the name under which the keyring shows the items.
        directory: where the lock files are. None: ``httpx_tokenflow`` in the user's state directory.

    Raises:
        ConfigurationError: an argument is no such thing, or the extra `keyring` is missing.
    """

    def __init__(self, service: str = "httpx_tokenflow", *, directory: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        if not service or not isinstance(service, str):
            raise ConfigurationError("service= must be the name of a service, which is not empty")
        with need_extra("keyring", "KeyringStore"):
            import keyring
        self._keyring = keyring
        self._service = service
        # Two services may well share locks, since nobody holds two; but not all names of services can name a file.
        self._locks = FileLocks(state_directory(directory, "keyring", "KeyringStore"))

    def __repr__(self) -> str:
        return f"<KeyringStore {self._service!r}>"

    def _read(self, fingerprint: str) -> bytes | None:
        try:
            return self._assembled(fingerprint)
        except _Torn:
            with self._mutex():  # nobody is at work on it now
                return self._certain(fingerprint)

    def _swap(self, fingerprint: str, swap: Swap) -> bool:
        with self._mutex():
            if self._certain(fingerprint) != swap.had:
                return False
            if swap.new is None:
                self._remove(fingerprint)
            else:
                self._write(fingerprint, swap.new.decode())
            return True

    def _decode(self, fingerprint: str, raw: bytes | None) -> Entry | None:
        try:
            return super()._decode(fingerprint, raw)
        except DamagedEntry as error:
            raise DamagedEntry(f"{fingerprint} of {self._service!r} in the keyring: {error}") from None

    def _discard(self, fingerprint: str) -> None:
        """Remove what is there, also if it is damaged: for `tokenflow`."""
        with self._mutex():
            self._remove(fingerprint)

    def _remove(self, fingerprint: str) -> None:
        self._delete(fingerprint)
        self._forget_parts(fingerprint, "a")
        self._forget_parts(fingerprint, "b")

    def _mutex(self) -> AbstractContextManager[bool]:
        return self._locks.mutex("keyring")

    # entries, whole and in parts

    def _certain(self, fingerprint: str) -> bytes | None:
        try:
            return self._assembled(fingerprint)
        except _Torn:
            raise DamagedEntry(
                f"an entry of the keyring ({self._backend()}) is damaged, its parts are not what they were: "
                f"delete the items of {self._service!r} whose names begin with {fingerprint}"
            ) from None

    def _assembled(self, fingerprint: str) -> bytes | None:
        head = self._get(fingerprint)
        match = _HEAD.fullmatch(head or "")
        if head is None or match is None:
            return None if head is None else head.encode(errors="replace")
        parts = [self._get(_part(fingerprint, match[1], number)) for number in range(min(int(match[2]), _MAX_PARTS))]
        text = "".join(part or "" for part in parts)
        if _digest(text) != match[3]:
            raise _Torn
        return text.encode(errors="replace")

    def _write(self, fingerprint: str, text: str) -> None:
        if len(text) > MAX_PART * _MAX_PARTS:
            raise StoreError(f"a token of {len(text)} characters is too large for a keyring")
        match = _HEAD.fullmatch(self._get(fingerprint) or "")
        old, new = ("a", "b") if match is None or match[1] == "a" else ("b", "a")
        parts = [text[at : at + MAX_PART] for at in range(0, len(text), MAX_PART)]
        if len(parts) == 1:
            head, parts = text, []
        else:
            head = f"parts {new} {len(parts)} {_digest(text)}"
        for number, part in enumerate(parts):
            self._set(_part(fingerprint, new, number), part)
        self._forget_parts(fingerprint, new, len(parts))
        self._set(fingerprint, head)
        self._forget_parts(fingerprint, old)

    def _forget_parts(self, fingerprint: str, which: str, first: int = 0) -> None:
        """Remove the parts of one set from the `first` on: backwards, so that what a crash leaves begins with them."""
        end = first
        while self._get(_part(fingerprint, which, end)) is not None:
            end += 1
        for number in reversed(range(first, end)):
            self._delete(_part(fingerprint, which, number))

    # the keyring

    def _get(self, name: str) -> str | None:
        with self._failing():
            return self._keyring.get_password(self._service, name)

    def _set(self, name: str, text: str) -> None:
        with self._failing():
            self._keyring.set_password(self._service, name, text)
            kept = self._keyring.get_password(self._service, name)
        if kept != text:
            raise StoreError(f"the keyring ({self._backend()}) does not keep what it is given: {_INSTEAD}")

    def _delete(self, name: str) -> None:
        with self._failing():
            try:
                self._keyring.delete_password(self._service, name)
            except self._keyring.errors.PasswordDeleteError:
                if self._keyring.get_password(self._service, name) is not None:
                    raise

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # backends raise what their libraries raise, not only KeyringError
            raise StoreError(
                f"the keyring ({self._backend()}) failed ({type(error).__name__}): unlock it, or {_INSTEAD}"
            ) from error

    def _backend(self) -> str:
        try:
            backend = type(self._keyring.get_keyring())
        except Exception:  # noqa: BLE001 - whatever PYTHON_KEYRING_BACKEND names, and that is importable or not
            return "the one that PYTHON_KEYRING_BACKEND or keyring's own file names"
        return f"{backend.__module__}.{backend.__qualname__}"


class _Torn(Exception):  # noqa: N818 - what it is, and nobody else sees it
    """The parts are not those that the head names."""


def _part(fingerprint: str, which: str, number: int) -> str:
    return f"{fingerprint}.{which}.{number}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
