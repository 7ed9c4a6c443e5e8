"""Tokens in files, one for each fingerprint.

Rules.

1. A file is written under another name, synced, and renamed: who reads sees the old entry or the new one, and so does
   who comes after a crash. Whatever fails before the rename leaves the old file as it is.
2. Compare-and-set reads again under a lock, which is held for milliseconds and never while anybody renews.
3. What others can read or write is not trusted: neither read, nor written over. Links are not followed.
4. Files that are none of ours (a pipe, a device, a gigabyte) are errors that say so; nothing waits for them.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from httpx_tokenflow._errors import DamagedEntry, StoreError

from ._file_locks import WINDOWS, FileLocks, check_private, file_name, reason, state_directory
from ._locked import LockedStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from httpx_tokenflow._entries import Entry

    from ._coded import Swap

__all__ = ["FileStore"]

MAX_SIZE = 1 << 20  # bytes of an entry
_COMMON = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY"))
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _COMMON  # opening a pipe waits for nobody
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON


class FileStore(LockedStore):
    """Keeps tokens in files (0600, in a directory 0700), for all processes of one user on one machine.

    A file that others can read or write is refused, and so is a directory that they can write to or list; on Windows,
    which has no such modes, neither is looked at. Without `keys` the tokens are in the clear: who can read as this user
    can use them, and so can whoever finds a backup.

    Each fingerprint has a file ``<fingerprint>.entry``, and two lock files, which stay for good: whoever removes one
    while it is in use lets two renew at once. Entries stay until something else takes their place; to forget a session
    is `TokenAuth.revoke`. Over NFS and the like locks may not hold: use `RedisStore` there.

    Args:
        directory: where; made when it is first written to. None: ``httpx_tokenflow`` in the user's state directory
            (on Linux ``~/.local/state/httpx_tokenflow``).
        keys: encryption keys, urlsafe base64 of 32 bytes each: the first encrypts, all decrypt. Needs the extra
            `crypto`.
        accepts_plain: with keys, also read what was stored before there were any.

    Raises:
        ConfigurationError: a key or the directory is no such thing, or the extra `file` is missing.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        keys: Iterable[str | bytes] = (),
        accepts_plain: bool = False,
    ) -> None:
        super().__init__(keys, accepts_plain=accepts_plain)
        self._locks = FileLocks(state_directory(directory, "file", "FileStore"))

    def __repr__(self) -> str:
        return f"<FileStore {self._locks.directory}>"

    def _path(self, fingerprint: str) -> Path:
        return self._locks.directory / f"{file_name(fingerprint)}.entry"

    def _read(self, fingerprint: str) -> bytes | None:
        path = self._path(fingerprint)
        if not self._locks.is_there():
            return None
        # Windows lets nobody rename a file over one that is being read.
        with self._locks.mutex(fingerprint) if WINDOWS else nullcontext():
            return _read(path)

    def _decode(self, fingerprint: str, raw: bytes | None) -> Entry | None:
        try:
            return super()._decode(fingerprint, raw)
        except DamagedEntry as error:
            raise DamagedEntry(f"{self._path(fingerprint)}: {error}") from None

    def _discard(self, fingerprint: str) -> None:
        """Remove what is there, also if it is damaged: for `tokenflow`."""
        path = self._path(fingerprint)
        with self._locks.mutex(fingerprint):
            if os.path.lexists(path):
                _remove(path)

    def _swap(self, fingerprint: str, swap: Swap) -> bool:
        path = self._path(fingerprint)
        with self._locks.mutex(fingerprint):
            if _read(path) != swap.had:
                return False
            if swap.new is None:
                _remove(path)
            elif len(swap.new) > MAX_SIZE:
                raise StoreError(f"a token of {len(swap.new)} bytes is too large for a FileStore ({MAX_SIZE} at most)")
            else:
                _write(path, swap.new)
            return True


def _read(path: Path) -> bytes | None:
    try:
        file = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # EMLINK: FreeBSD
            raise StoreError(f"{path} is a symbolic link, which is not followed: remove it") from None
        raise StoreError(f"{path} cannot be read: {reason(error)}") from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no regular file: remove it")
        check_private(path, status, "600")
        if status.st_size > MAX_SIZE:
            raise StoreError(f"{path} has {status.st_size} bytes, and is no entry: delete it")
        with open(file, "rb", closefd=False) as reader:
            return reader.read(MAX_SIZE)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {reason(error)}") from error
    finally:
        os.close(file)


def _write(path: Path, raw: bytes) -> None:
    """By rule 1. Who writes, one after the other, uses one name: a crash leaves one file, which the next removes."""
    beside = path.with_suffix(".new")
    try:
        beside.unlink(missing_ok=True)  # rather than truncate what somebody may have linked there
        try:
            _fill(os.open(beside, _WRITE, 0o600), raw)
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        _sync(path.parent)
    except OSError as error:
        raise StoreError(f"{path.parent} cannot be written to: {reason(error)}") from error


def _fill(file: int, raw: bytes) -> None:
    left = memoryview(raw)
    try:
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except BaseException:
        with suppress(OSError):
            os.close(file)
        raise
    os.close(file)  # where a quota is told of in the end, on some file systems


def _remove(path: Path) -> None:
    try:
        path.unlink()
        _sync(path.parent)
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {reason(error)}") from error


def _sync(directory: Path) -> None:
    """Has the names in `directory` outlive a crash as well; Windows does so by itself."""
    if WINDOWS:
        return
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know nothing of it
            raise
    finally:
        os.close(file)
