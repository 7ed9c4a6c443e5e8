"""FileStore: what others may see of it, what it may find, what fails while it writes, and who dies meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from stores.processes import FINGERPRINT, number_of, numbered, store_of

from httpx_tokenflow import ConfigurationError, StoreError
from httpx_tokenflow.stores import FileStore

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0  # seconds; a loaded machine is slow, and this only guards against a hang
PROGRAM = str(Path(__file__).with_name("processes.py"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(home: Path) -> FileStore:
    """A store that holds number 1."""
    store = FileStore(home)
    assert save(store, 1) is True
    return store


def save(store: Any, number: int) -> bool:
    """`number` in the place of what is there."""
    held = store.load(FINGERPRINT)
    return bool(store.save(FINGERPRINT, numbered(number), replaces=held.fence if held else None))


def file_of(home: Path, kind: str = "entry") -> Path:
    return home / f"{FINGERPRINT}.{kind}"


def mode_of(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of the programs of `processes`, killed in the end."""
    with subprocess.Popen([sys.executable, PROGRAM, *arguments], stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def refused(store: Any, match: str) -> None:
    """Each verb that touches the entry says `match`."""
    for attempt in (
        lambda: store.load(FINGERPRINT),
        lambda: store.save(FINGERPRINT, numbered(2), replaces=numbered(1).fence),
        lambda: store.save(FINGERPRINT, numbered(2), replaces=None),
        lambda: store.delete(FINGERPRINT, fence=numbered(1).fence),
    ):
        with pytest.raises(StoreError, match=match):
            attempt()


# what it is made of


def test_nothing_is_touched_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the directory is the platform's; making a store, and loading from it, makes none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for store in (FileStore(), FileStore(tmp_path / "a" / "b"), FileStore("~/there")):
        assert store.load(FINGERPRINT) is None
        assert list(tmp_path.iterdir()) == []
        assert str(tmp_path) in repr(store)
    if sys.platform == "linux":
        assert save(FileStore(), 1)
        assert file_of(tmp_path / "xdg" / "httpx_tokenflow").exists()


def test_a_relative_directory_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that goes elsewhere finds its tokens."""
    monkeypatch.chdir(tmp_path)
    store = FileStore("state")
    assert save(store, 1)
    monkeypatch.chdir("/")
    assert number_of(store.load(FINGERPRINT)) == 1


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_else_can_read(home: Path, mask: int) -> None:
    """Whatever the umask, the directory is 0700 and all that is in it 0600."""
    before = os.umask(mask)
    try:
        store = FileStore(home)
        with store.lease(FINGERPRINT, 30.0, 1.0):
            assert save(store, 1)
    finally:
        os.umask(before)
    assert mode_of(home) == "0o700"
    assert {path.name: mode_of(path) for path in home.iterdir()} == {
        f"{FINGERPRINT}.{kind}": "0o600" for kind in ("entry", "write.lock", "lease.lock")
    }


@pytest.mark.parametrize("fingerprint", ["", "../up", "a/b", "A", "é", "a" * 129, "a.entry", "a\n", "\x00"])
def test_fingerprints_are_names_of_files(store: FileStore, fingerprint: str) -> None:
    """What could be no file, or another one, is refused; on some systems A and a are the same."""
    for attempt in (
        lambda: store.load(fingerprint),
        lambda: store.save(fingerprint, numbered(1), replaces=None),
        lambda: store.lease(fingerprint, 30.0, 1.0),
        lambda: store.alease(fingerprint, 30.0, 1.0),
    ):
        with pytest.raises(ConfigurationError, match="fingerprint"):
            attempt()


@pytest.mark.parametrize("directory", [5, b"bytes", object()])
def test_a_directory_that_is_no_path(directory: Any) -> None:
    """What is no path is refused when the store is made."""
    with pytest.raises(ConfigurationError, match="directory="):
        FileStore(directory)


@pytest.mark.parametrize("missing", ["filelock", "platformdirs"])
def test_the_extra_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what it needs the store says so when it is made, and names the extra."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"FileStore needs the extra file.*\[file\]"):
        FileStore()


# what it may find


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
def test_a_file_that_others_can_read_or_write(store: FileStore, home: Path, mode: int) -> None:
    """It is refused, by its name and with what to do, and is not made private in silence."""
    file_of(home).chmod(mode)
    refused(store, f"{file_of(home)}: chmod 600 it.*revoke")
    assert mode_of(file_of(home)) == oct(mode)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o770, 0o777])
def test_a_directory_that_others_can_use(store: FileStore, home: Path, mode: int) -> None:
    """It is refused for whatever is in it, and for leases, whose locks others could remove."""
    home.chmod(mode)
    refused(store, f"{home}: chmod 700 it")
    with pytest.raises(StoreError, match="chmod 700"), store.lease(FINGERPRINT, 30.0, 1.0):
        pytest.fail("it has a lease")
    assert mode_of(home) == oct(mode)


@pytest.mark.parametrize("kind", ["entry", "directory"])
def test_what_belongs_to_another_user(store: FileStore, home: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a directory of another user is refused, whatever its mode: they could change it."""
    mine = os.geteuid()
    if kind == "directory":
        monkeypatch.setattr("os.geteuid", lambda: mine + 1)
        refused(store, f"{home} belongs to another user")
        return
    real = os.fstat

    def fstat(file: int) -> Any:
        status = list(real(file))
        status[4] += 1
        return os.stat_result(status)

    monkeypatch.setattr("os.fstat", fstat)
    with pytest.raises(StoreError, match="entry belongs to another user"):
        store.load(FINGERPRINT)


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _directory(path: Path) -> None:
    path.mkdir(0o700)


def _link(path: Path) -> None:
    real = path.with_name("real")
    real.write_text("SENTINEL")
    real.chmod(0o600)
    path.symlink_to(real)


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        before = Path.cwd()
        os.chdir(path.parent)  # names of sockets are short
        try:
            sock.bind(path.name)
        finally:
            os.chdir(before)


def _huge(path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("plant", "match"),
    [
        (_pipe, "no regular file"),
        (_directory, "no regular file"),
        (_socket, "cannot be read"),
        (_link, "symbolic link"),
        (_dangling, "symbolic link"),
        (_huge, "is no entry"),
    ],
)
def test_what_is_no_file_of_ours(store: FileStore, home: Path, plant: Any, match: str) -> None:
    """A pipe, a link, a terabyte in the place of an entry are errors that name it: nothing hangs, or is followed."""
    file_of(home).unlink()
    plant(file_of(home))
    before = sorted((path.name, path.lstat().st_mode, path.lstat().st_size) for path in home.iterdir())
    refused(store, f"{FINGERPRINT}.entry .*{match}")
    assert sorted((path.name, path.lstat().st_mode, path.lstat().st_size) for path in home.iterdir()) == before


@pytest.mark.parametrize(
    ("place", "how"),
    [("new", "hard"), *product(("new", "write.lock", "lease.lock"), ("symbolic", "dangling"))],
)
def test_links_that_somebody_has_planted(home: Path, tmp_path: Path, place: str, how: str) -> None:
    """A link in the place of the temporary file, or of a lock, leaves what it leads to as it was."""
    target = tmp_path / "target"
    if how != "dangling":
        target.write_text("precious")
        target.chmod(0o640)
    store = FileStore(home)
    home.mkdir(mode=0o700)
    if how == "hard":
        os.link(target, file_of(home, place))
    else:
        file_of(home, place).symlink_to(target)
    if place == "new":
        with store.lease(FINGERPRINT, 30.0, 1.0):
            assert save(store, 1)
        assert number_of(store.load(FINGERPRINT)) == 1
    else:
        with pytest.raises(StoreError, match="cannot be locked"), store.lease(FINGERPRINT, 30.0, 1.0):
            save(store, 1)
    if how == "dangling":
        assert not target.exists()
    else:
        assert target.read_text() == "precious"
        assert mode_of(target) == "0o640"


def test_what_a_crash_has_left(store: FileStore, home: Path) -> None:
    """A temporary file of a writer that was killed is in nobody's way, and gone after the next write."""
    file_of(home, "new").write_text("half an en")
    assert number_of(store.load(FINGERPRINT)) == 1
    assert save(store, 2)
    assert number_of(store.load(FINGERPRINT)) == 2
    assert not file_of(home, "new").exists()


def test_the_directory_is_gone(store: FileStore, home: Path) -> None:
    """Who removes the directory has removed the tokens; the next write makes it anew."""
    shutil.rmtree(home)
    assert store.load(FINGERPRINT) is None
    assert store.delete(FINGERPRINT, fence=numbered(1).fence) is False
    assert save(store, 2)
    assert number_of(store.load(FINGERPRINT)) == 2


def test_the_directory_is_none(tmp_path: Path) -> None:
    """A file in the place of the directory, or of one above it, is an error that names it."""
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, file / "below"):
        refused(FileStore(path), f"{file}.* (is no directory|cannot be looked at)")
    with pytest.raises(StoreError, match="cannot be made"), FileStore("/proc/nowhere").lease(FINGERPRINT, 1.0, 1.0):
        pytest.fail("it has a lease")


# what fails while it writes

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS]


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
def test_a_disk_that_fails(
    store: FileStore, home: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a write fails: the old entry is untouched, nothing is left beside it, and the error says where."""
    real, opened = getattr(os, call), []
    real_open = os.open

    def note(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        file = real_open(path, flags, *args, **kwargs)
        if str(path).endswith(".new"):
            opened.append(file)
        return file

    def fail(*args: Any, **kwargs: Any) -> Any:
        concerns = args[0] in opened or str(args[0]).endswith(".new")
        if call == "write" and concerns and len(args[1]) > 100:
            return real(args[0], args[1][:100])  # short first, as a disk that fills up is
        if not concerns:
            return real(*args, **kwargs)
        if call == "close":
            opened.clear()
            real(*args)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("os.open", note)
        patch.setattr(f"os.{call}", fail)
        with pytest.raises(StoreError) as caught:
            save(store, 2)
    assert str(home) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert number_of(store.load(FINGERPRINT)) == 1
    assert {path.name for path in home.iterdir()} == {f"{FINGERPRINT}.entry", f"{FINGERPRINT}.write.lock"}
    assert save(store, 2)  # there is room again


def test_short_writes(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a few bytes at a time gets all of them."""
    real = os.write
    monkeypatch.setattr("os.write", lambda file, data: real(file, data[:7]))
    assert save(store, 2)
    assert number_of(store.load(FINGERPRINT)) == 2


@pytest.mark.parametrize(("number", "matters"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
@pytest.mark.parametrize("verb", ["save", "delete"])
def test_the_directory_cannot_be_synced(
    store: FileStore, verb: str, number: int, matters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that cannot sync directories is put up with; one that fails at it keeps nothing for certain."""
    real = os.fsync

    def fsync(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").is_dir():
            raise OSError(number, os.strerror(number))
        real(file)

    monkeypatch.setattr("os.fsync", fsync)

    def act() -> bool:
        return save(store, 2) if verb == "save" else store.delete(FINGERPRINT, fence=numbered(1).fence)

    if not matters:
        assert act() is True
        return
    with pytest.raises(StoreError, match=os.strerror(number)):
        act()


def test_all_that_is_written_is_synced_before_it_counts(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it is renamed, and the directory after: a power cut finds the old entry, or the new."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        calls.append(f"sync {Path(f'/proc/self/fd/{file}').readlink().suffix}")
        fsync(file)

    def replaced(*paths: Any) -> None:
        calls.append("replace")
        replace(*paths)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr("os.replace", replaced)
    assert save(store, 2)
    assert calls == ["sync .new", "replace", "sync "]


def test_a_token_that_is_too_large(store: FileStore) -> None:
    """What could not be read again is not written."""
    large = numbered(2).having(session="s" * (1 << 20))
    with pytest.raises(StoreError, match="too large"):
        store.save(FINGERPRINT, large, replaces=numbered(1).fence)
    assert number_of(store.load(FINGERPRINT)) == 1


def test_between_the_look_and_the_lock(store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has looked before somebody else wrote is late, though it is their turn now."""
    other, real, numbers = FileStore(home), FileStore._swap, iter((5, 6))

    def swap(self: FileStore, *args: Any) -> bool:
        if self is store:
            assert save(other, next(numbers))
        return real(self, *args)

    monkeypatch.setattr(FileStore, "_swap", swap)
    assert save(store, 2) is False
    assert store.delete(FINGERPRINT, fence=numbered(5).fence) is False
    assert number_of(store.load(FINGERPRINT)) == 6


# locks


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_goes_on_while_another_writes(store: FileStore, home: Path, backend: str) -> None:
    """Who waits for a lock to write, or for a lease, does not stop the loop that they are on."""
    mutex, lease = FileStore(home)._locks.mutex(FINGERPRINT), FileStore(home).lease(FINGERPRINT, 30.0, 1.0)

    async def release() -> None:
        for _ in range(20):
            await anyio.sleep(0.001)
        mutex.__exit__(None, None, None)
        lease.__exit__(None, None, None)

    async def main() -> None:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                mutex.__enter__()
                lease.__enter__()
                group.start_soon(release)
                assert await store.asave(FINGERPRINT, numbered(2), replaces=numbered(1).fence)
                async with store.alease(FINGERPRINT, 30.0, PATIENCE) as held:
                    assert held is True

    anyio.run(main, backend=backend)


def test_a_writer_that_does_not_go_on(store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds the lock of a write taken for long gives up with an error that names it, and has written nothing."""
    monkeypatch.setattr("httpx_tokenflow.stores._file_locks.MUTEX_PATIENCE", 0.05)
    with FileStore(home)._locks.mutex(FINGERPRINT), pytest.raises(StoreError, match=r"write\.lock has not let go"):
        save(store, 2)
    assert number_of(store.load(FINGERPRINT)) == 1


def test_a_lease_is_let_go_of_in_any_thread(store: FileStore, home: Path) -> None:
    """A lease belongs to no thread; whatever ends its context lets go of it, an error as well."""
    lease = store.lease(FINGERPRINT, 30.0, 1.0)
    lease.__enter__()
    thread = threading.Thread(target=lease.__exit__, args=(None, None, None))
    thread.start()
    thread.join(PATIENCE)
    with pytest.raises(ZeroDivisionError), FileStore(home).lease(FINGERPRINT, 30.0, 0.0):
        raise ZeroDivisionError
    with FileStore(home).lease(FINGERPRINT, 30.0, 0.0) as held:
        assert held is True


def test_a_lease_that_is_dropped(store: FileStore, home: Path) -> None:
    """A lease whose context nobody ends goes with the last who knew of it."""
    lease = store.lease(FINGERPRINT, 30.0, 1.0)
    lease.__enter__()
    del lease
    with FileStore(home).lease(FINGERPRINT, 30.0, 5.0) as held:
        assert held is True


def test_where_there_are_no_locks(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without flock nothing is written, rather than under a lock that a killed process would keep."""
    fcntl = pytest.importorskip("fcntl")

    def flock(file: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match="cannot be locked"):
        save(store, 2)
    with pytest.raises(StoreError, match="cannot be locked"), store.lease(FINGERPRINT, 30.0, 1.0):
        pytest.fail("it has a lease")


def test_windows_has_no_modes(store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the modes, which mean nothing there, are not looked at, and nobody reads while another renames."""
    for module in ("_file", "_file_locks"):
        monkeypatch.setattr(f"httpx_tokenflow.stores.{module}.WINDOWS", True)
    home.chmod(0o755)
    file_of(home).chmod(0o644)
    assert save(store, 2)
    monkeypatch.setattr("httpx_tokenflow.stores._file_locks.MUTEX_PATIENCE", 0.05)
    with FileStore(home)._locks.mutex(FINGERPRINT), pytest.raises(StoreError, match="has not let go"):
        store.load(FINGERPRINT)
    assert number_of(store.load(FINGERPRINT)) == 2


# processes


def test_a_holder_that_is_killed(home: Path) -> None:
    """The lease of a process that is killed is free at once, whatever it would have had left."""
    store = FileStore(home)
    with running("hold", "file", str(home)) as holder:
        assert line(holder) == "held"
        with pytest.raises(StoreError), store.lease(FINGERPRINT, 30.0, 0.0):
            pytest.fail("two have the lease")
        holder.kill()
        holder.wait()
        with store.lease(FINGERPRINT, 30.0, 0.0) as held:  # at the first try
            assert held is True


@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_a_holder_that_is_stopped(home: Path, backend: str) -> None:
    """A process that is stopped keeps its lease; who waits gives up in time, and is told so; and it goes on with it."""
    store = FileStore(home)

    def wait() -> None:
        with store.lease(FINGERPRINT, 30.0, 0.2):
            pytest.fail("two have the lease")

    async def await_() -> None:
        async with store.alease(FINGERPRINT, 30.0, 0.2):
            pytest.fail("two have the lease")

    with running("hold", "file", str(home)) as holder:
        assert line(holder) == "held"
        holder.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(StoreError, match=r"lease\.lock has not let go of it for 0\.2 s: it may be stopped"):
            wait() if backend == "sync" else anyio.run(await_, backend=backend)
        assert 0.2 <= time.monotonic() - begun < PATIENCE
        holder.send_signal(signal.SIGCONT)
        with pytest.raises(StoreError):
            wait()


def test_a_child_that_lets_go(home: Path) -> None:
    """A forked child that leaves the context of its parent's lease, and ends, has not let go of it."""
    store = FileStore(home)
    with running("hold and fork", "file", str(home), "ends") as holder:
        assert line(holder).startswith("held")
        with pytest.raises(StoreError), store.lease(FINGERPRINT, 30.0, 0.0):
            pytest.fail("the child has let go of its parent's lease")


def test_a_child_that_stays(home: Path) -> None:
    """A forked child that outlives its parent does not keep the lease that the parent had."""
    store = FileStore(home)
    with running("hold and fork", "file", str(home), "stays") as holder:
        child = int(line(holder).removeprefix("held "))
        try:
            with pytest.raises(StoreError), store.lease(FINGERPRINT, 30.0, 0.0):
                pytest.fail("two have the lease")
            holder.kill()
            holder.wait()
            with store.lease(FINGERPRINT, 30.0, 5.0) as held:  # a child that has just begun has it for a moment
                assert held is True
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("size", [1, 600, 1100])
def test_a_file_may_not_become_so_long(store: FileStore, home: Path, size: int) -> None:
    """The kernel refuses a write, at once or in the middle: the old entry stands, and the next write goes through."""
    with running("limited", "file", str(home), str(size)) as program:
        assert line(program) == f"refused: {home} cannot be written to: {os.strerror(errno.EFBIG)}"
        assert line(program) == "2"
    assert number_of(store.load(FINGERPRINT)) == 2
    assert not file_of(home, "new").exists()


@pytest.mark.parametrize(
    ("kind", "processes", "times"),
    [
        ("file", 3, 10),
        pytest.param("file", 4, 50, marks=pytest.mark.slow),
        pytest.param("sealed", 4, 50, marks=pytest.mark.slow),
    ],
)
def test_no_update_is_lost(home: Path, kind: str, processes: int, times: int) -> None:
    """Processes count together, each step by compare-and-set: none of the steps is lost."""
    with ExitStack() as stack:
        for program in [
            stack.enter_context(running("increment", kind, str(home), str(times))) for _ in range(processes)
        ]:
            assert program.wait(PATIENCE * 2) == 0
    assert number_of(store_of(kind, str(home)).load(FINGERPRINT)) == processes * times


def _killed(kind: str, home: Path, rounds: int, seed: int) -> None:
    with running("killing", kind, str(home), str(rounds), str(seed)) as program:
        assert line(program).startswith(f"{rounds} rounds")


def test_writers_that_are_killed(home: Path) -> None:
    """Killed in the middle, ten times: the file can be loaded, and has at least what its writers said was saved."""
    _killed("file", home, 10, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["file", "sealed"])
def test_writers_that_are_killed_often(home: Path, kind: str, seed: int) -> None:
    """The same fifty times over."""
    _killed(kind, home, 50, seed)


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """On a real disk of 256 kB that fills up the old entry stands, and there is room for a shorter one."""
    command = 'mount -t tmpfs -o size=256k,mode=700 none "$1" && exec "$2" "$3" full file "$1/state"'
    full = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", command, "sh", str(tmp_path), sys.executable, PROGRAM],
        capture_output=True, text=True, timeout=PATIENCE * 2, check=False,
    )  # fmt: skip
    if "unshare" in full.stderr or "mount" in full.stderr:
        pytest.skip("this user may mount nothing")
    refusal, number = full.stdout.splitlines()
    assert refusal == f"refused: {tmp_path}/state cannot be written to: {os.strerror(errno.ENOSPC)}"
    assert number == "1"
