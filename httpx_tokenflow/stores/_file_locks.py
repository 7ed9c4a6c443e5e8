"""Locks that are files, and the directory that they are in.

Rules.

1. The operating system keeps a lock (flock; by `filelock`), and takes it back when its holder dies, however it dies. No
   clock has a say, so a holder that is stopped and goes on later still has it; who waits gives up after a while.
2. Two holders exclude each other wherever they are: in two processes, or in one, in two threads or two tasks.
3. A forked child has no part in what its parent holds: neither can it let go of it, nor keep it.
4. Lock files are left where they are. Who waits for one that somebody removes would hold the old file, and who comes
   later another of the same name, both at once.
5. Over NFS and the like none of this is certain: a server may keep locks for each machine alone, or forget them.
"""

from __future__ import annotations

import os
import random
import re
import stat
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import BusyStore, ConfigurationError, StoreError
from httpx_tokenflow._extras import need_extra

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

__all__ = [
    "WINDOWS", "FileLocks", "check_private", "file_name", "in_home", "make_private", "reason", "state_directory",
]  # fmt: skip

WINDOWS = sys.platform == "win32"
MUTEX_PATIENCE = 4.0  # seconds; less than a driver gives to a store, so that this is the error that people see
LEASE_POLL = 0.05  # seconds between two tries, give or take a half
MUTEX_POLL = 0.004
_NAME = re.compile(r"[0-9a-z_-]{1,128}")  # names a file everywhere, and never the same as another
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def state_directory(given: str | os.PathLike[str] | None, extra: str, what: str) -> Path:
    """The directory `given`, or that of the platform; nothing is made or looked at.

    Raises:
        ConfigurationError: `given` is no path, or the extra `extra`, which `what` needs, is missing.
    """
    with need_extra(extra, what):
        import filelock  # noqa: F401 - missing extras are told when a store is made, not when it is needed
        import platformdirs
    if given is None:
        return in_home(platformdirs.user_state_path, "httpx_tokenflow")
    try:
        return Path(given).expanduser().absolute()
    except TypeError:
        raise ConfigurationError(f"directory= must be a path, not {type(given).__name__}") from None
    except RuntimeError:
        raise ConfigurationError(
            "directory= begins with ~, and nobody knows whose home that is: set HOME, or write it in full"
        ) from None


def in_home(find: Callable[..., Path], name: str) -> Path:
    """The directory of the platform's for `name` that `find`, a function of `platformdirs`, finds.

    Raises:
        ConfigurationError: the user has no home directory, as one whom the system does not know.
    """
    try:
        path = find(name, appauthor=False)
    except (RuntimeError, KeyError):
        path = Path()
    if not path.is_absolute():  # some versions leave the ~ in it
        raise ConfigurationError("this user has no home directory, where such files are kept: set HOME")
    return path


def make_private(directory: Path) -> None:
    """Make `directory`, and what it is in, for nobody else (0700), whatever the umask says.

    Raises:
        OSError: it cannot be made.
    """
    for one in (*reversed(directory.parents), directory):
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)  # or else a FileExistsError


def file_name(fingerprint: str) -> str:
    """`fingerprint`, if it can be the name of a file.

    Raises:
        ConfigurationError: it cannot; those that `TokenAuth` makes can.
    """
    if not _NAME.fullmatch(fingerprint):
        raise ConfigurationError(f"a fingerprint must match {_NAME.pattern}: it becomes the name of a file")
    return fingerprint


def reason(error: BaseException) -> str:
    """What the system says, without the path, which the message names already."""
    return getattr(error, "strerror", None) or type(error).__name__


def check_private(path: Path, status: os.stat_result, mode: str) -> None:
    """Whether nobody else can read or change what is at `path`; `mode` is what it should have.

    On Windows there is no such mode: what is in a user's profile belongs to that user.

    Raises:
        StoreError: somebody can.
    """
    if WINDOWS:
        return
    if status.st_uid != os.geteuid():
        raise StoreError(f"{path} belongs to another user (uid {status.st_uid}): tokens are not kept there")
    if status.st_mode & _OTHERS:
        raise StoreError(
            f"other users have access to {path}: chmod {mode} it. Who could read it may have the token: "
            "if that may have happened, revoke it"
        )


class FileLocks:
    """Locks in `directory`, which is made (0700) when the first of them is taken."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def is_there(self) -> bool:
        """Whether there is a directory.

        Raises:
            StoreError: others can write to it or list it, or it is none.
        """
        try:
            status = self.directory.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"{self.directory} cannot be looked at: {reason(error)}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise StoreError(f"{self.directory} is no directory")
        check_private(self.directory, status, "700")
        return True

    def mutex(self, name: str) -> AbstractContextManager[bool]:
        """For the moment that a write takes."""
        return self._held(f"{file_name(name)}.write.lock", MUTEX_PATIENCE, MUTEX_POLL)

    def lease(self, name: str, patience: float) -> AbstractContextManager[bool]:
        """For as long as a renewal takes; the context is True."""
        return self._held(f"{file_name(name)}.lease.lock", patience, LEASE_POLL)

    def alease(self, name: str, patience: float) -> AbstractAsyncContextManager[bool]:
        """As `lease`."""
        return self._aheld(f"{file_name(name)}.lease.lock", patience, LEASE_POLL)

    @contextmanager
    def _held(self, name: str, patience: float, poll: float) -> Iterator[bool]:
        lock = self._lock(name)
        for pause in self._tries(lock, patience, poll):
            time.sleep(pause)
        try:
            yield True
        finally:
            lock.release()

    @asynccontextmanager
    async def _aheld(self, name: str, patience: float, poll: float) -> AsyncIterator[bool]:
        """A try takes microseconds and never waits, so no thread is needed for it."""
        import anyio

        lock = self._lock(name)
        for pause in self._tries(lock, patience, poll):
            await anyio.sleep(pause)
        try:
            yield True
        finally:
            lock.release()

    def _lock(self, name: str) -> Any:
        from filelock import FileLock

        if not self.is_there():
            try:
                make_private(self.directory)
            except OSError as error:
                raise StoreError(f"{self.directory} cannot be made: {reason(error)}") from error
            self.is_there()
        # A lock of its own for each holder (rule 2), which may be let go of in another thread. Where there is no flock,
        # filelock would take to files that a killed holder leaves behind: rather none at all.
        return FileLock(self.directory / name, mode=0o600, thread_local=False, fallback_to_soft=False)

    def _tries(self, lock: Any, patience: float, poll: float) -> Iterator[float]:
        """Tries until `lock` is held; gives the seconds to wait until the next try."""
        from filelock import Timeout

        deadline = time.monotonic() + patience
        while True:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                left = deadline - time.monotonic()
            except (OSError, NotImplementedError) as error:
                raise StoreError(f"{lock.lock_file} cannot be locked: {reason(error)}") from error
            else:
                return
            if left <= 0:
                raise BusyStore(
                    f"another holder of {lock.lock_file} has not let go of it for {patience:g} s: "
                    "it may be stopped, or be busy for longer than it is waited for"
                )
            yield min(left, poll * random.uniform(0.5, 1.5))
