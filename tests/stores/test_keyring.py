"""KeyringStore: long tokens in parts, crashes between any two steps, readers in the middle, keyrings that fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keyring
import keyring.backend
import keyring.errors
import pytest
from keyring.backends import fail, null
from stores.keyrings import Failing, FileKeyring
from stores.processes import FINGERPRINT, number_of, numbered, store_of

from httpx_tokenflow import ConfigurationError, StoreError, Token
from httpx_tokenflow.stores import KeyringStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx_tokenflow.stores import Entry

PATIENCE = 30.0  # seconds; a loaded machine is slow, and this only guards against a hang
PROGRAM = str(Path(__file__).with_name("processes.py"))
SHORT, LONG, LONGER = 0, 1, 3  # entries of one item, of two parts and of four


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def store(ring: FileKeyring, tmp_path: Path) -> KeyringStore:
    return KeyringStore(directory=tmp_path / "locks")


def sized(number: int, thousands: int) -> Entry:
    """Number `number`, of so many thousand characters and some."""
    return numbered(number).having(token=Token(f"{number}" * 1000 * thousands + "a", refresh_token=f"r{number}"))


def put(store: Any, entry: Entry) -> bool:
    held = store.load(FINGERPRINT)
    return bool(store.save(FINGERPRINT, entry, replaces=held.fence if held else None))


def names(ring: FileKeyring) -> list[str]:
    with ring.items() as items:
        return sorted(name.removeprefix(f"httpx_tokenflow/{FINGERPRINT}") for name in items)


def at_call(number: int, act: Callable[[], object]) -> Callable[[str, str], None]:
    """Does `act` before the keyring's call of that number."""
    calls = Counter[str]()

    def before(verb: str, name: str) -> None:
        calls["all"] += 1
        if calls["all"] == number:
            act()

    return before


def nothing(verb: str, name: str) -> None:
    """Before a call."""


def crash() -> None:
    raise Crash


def calls_of(ring: FileKeyring, act: Callable[[], object]) -> int:
    """How many calls of the keyring `act` makes."""
    calls = Counter[str]()

    def before(verb: str, name: str) -> None:
        calls["all"] += 1

    ring.before = before
    act()
    ring.before = nothing
    return calls["all"]


def test_what_is_in_the_keyring(store: KeyringStore, ring: FileKeyring) -> None:
    """A short entry is one item; a long one has parts of at most 1,000 characters, which go in the end."""
    assert put(store, sized(1, SHORT))
    assert names(ring) == [""]
    assert put(store, sized(2, LONG))
    assert names(ring) == ["", ".b.0", ".b.1"]
    assert put(store, sized(3, LONGER))
    assert names(ring) == ["", ".a.0", ".a.1", ".a.2", ".a.3"]
    with ring.items() as items:
        assert max(map(len, items.values())) == 1000
    assert put(store, sized(4, LONG))
    assert names(ring) == ["", ".b.0", ".b.1"]
    assert put(store, sized(5, SHORT))
    assert names(ring) == [""]
    assert put(store, sized(6, LONG))
    assert store.delete(FINGERPRINT, fence=sized(6, LONG).fence)
    assert names(ring) == []


@pytest.mark.parametrize(
    ("old", "new"), [(SHORT, LONG), (LONG, SHORT), (LONG, LONGER), (LONGER, LONG), (SHORT, SHORT), (LONG, None)]
)
def test_a_crash_between_any_two_calls(store: KeyringStore, ring: FileKeyring, old: int, new: int | None) -> None:
    """Wherever a write ends: the old entry is there, or the new one, whole; what is left over goes with the next."""

    def write() -> None:
        if new is None:
            store.delete(FINGERPRINT, fence=before.fence)
        else:
            put(store, sized(2, new))

    before, found = sized(1, old), Counter[int]()
    assert put(store, before)
    with ring.items() as items:
        kept = dict(items)
    calls = calls_of(ring, write)
    for number in range(1, calls + 1):
        with ring.items() as items:
            items.clear()
            items.update(kept)
        ring.before = at_call(number, crash)
        with pytest.raises(Crash):
            write()
        ring.before = nothing
        loaded = store.load(FINGERPRINT)
        assert loaded in ((before, None) if new is None else (before, sized(2, new)))
        found[0 if loaded is None else int(loaded.session)] += 1
        for last in (SHORT,) if number % 2 else (LONG, SHORT):
            assert put(store, sized(3, last))
            assert store.load(FINGERPRINT) == sized(3, last)
        assert names(ring) == [""]
    assert found[1]
    assert len(found) == 2


@pytest.mark.parametrize("writes", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(LONG, LONG), (LONGER, LONG), (SHORT, LONGER), (LONGER, SHORT)])
def test_a_reader_in_the_middle_of_writes(
    store: KeyringStore, ring: FileKeyring, tmp_path: Path, sizes: tuple[int, int], writes: int
) -> None:
    """Whoever reads while another process writes, once or more, gets one of the entries, and never half of two."""
    other = KeyringStore(directory=tmp_path / "locks")
    assert put(store, sized(0, sizes[1]))
    for number in range(1, calls_of(ring, lambda: store.load(FINGERPRINT)) + 1):

        def write() -> None:
            ring.before = nothing
            for again in range(writes):
                assert put(other, sized(again + 1, sizes[again % 2]))

        assert put(store, sized(0, sizes[1]))
        ring.before = at_call(number, write)
        loaded = store.load(FINGERPRINT)
        assert loaded in (sized(0, sizes[1]), sized(writes, sizes[(writes - 1) % 2]))


def test_a_reader_whom_writers_give_no_rest(
    store: KeyringStore, ring: FileKeyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was disturbed reads again while nobody can write."""
    monkeypatch.setattr("httpx_tokenflow.stores._file_locks.MUTEX_PATIENCE", 0.05)
    other, numbers, refused = KeyringStore(directory=tmp_path / "locks"), iter(range(2, 9)), []

    def before(verb: str, name: str) -> None:
        if not name.endswith(".1"):
            return
        ring.before = nothing  # not for the writer's own calls
        try:
            put(other, sized(next(numbers), LONG))
        except StoreError as error:
            refused.append(error)
        ring.before = before

    assert put(store, sized(1, LONG))
    ring.before = before
    assert store.load(FINGERPRINT) == sized(2, LONG)
    assert refused


@pytest.mark.parametrize("part", [".b.0", ".b.1", ".b.2", ".b.3"])
@pytest.mark.parametrize("damage", ["missing", "changed", "swapped"])
def test_a_part_is_not_what_it_was(store: KeyringStore, ring: FileKeyring, part: str, damage: str) -> None:
    """A part that is gone or changed is an error that names the keyring, for every verb; the others stay."""
    assert put(store, sized(1, LONGER))
    name, other = (f"httpx_tokenflow/{FINGERPRINT}{one}" for one in (part, ".b.3" if part != ".b.3" else ".b.0"))
    with ring.items() as items:
        if damage == "missing":
            del items[name]
        else:
            items[name] = items[other] if damage == "swapped" else items[name][:-1] + "\U0001f511"
    before = names(ring)
    for attempt in (
        lambda: store.load(FINGERPRINT),
        lambda: store.save(FINGERPRINT, sized(2, SHORT), replaces=sized(1, LONGER).fence),
        lambda: store.save(FINGERPRINT, sized(2, SHORT), replaces=None),
        lambda: store.delete(FINGERPRINT, fence=sized(1, LONGER).fence),
    ):
        with pytest.raises(StoreError, match=r"stores\.keyrings\.FileKeyring.*damaged.*delete the items"):
            attempt()
    assert names(ring) == before


@pytest.mark.parametrize("head", ["parts a 9999 " + "0" * 64, "parts c 1 " + "0" * 64, "parts", "\ud800", ""])
def test_a_head_that_is_none(store: KeyringStore, ring: FileKeyring, head: str) -> None:
    """Whatever is in the place of an entry is an error, and nobody looks for its parts for ever."""
    ring.set_password("httpx_tokenflow", FINGERPRINT, head)
    with pytest.raises(StoreError, match="damaged"):
        store.load(FINGERPRINT)


ERRORS = [
    keyring.errors.NoKeyringError("none"),
    keyring.errors.KeyringLocked("locked"),
    keyring.errors.InitError("dismissed"),
    keyring.errors.PasswordSetError("no"),
    OSError("the bus is gone"),
    RuntimeError("what its library raises"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_keyring_that_fails(store: KeyringStore, error: Exception) -> None:
    """An error of the keyring, of whatever kind, is one that names it and says what to use instead."""
    keyring.set_keyring(Failing(error))
    for attempt in (
        lambda: store.load(FINGERPRINT),
        lambda: store.save(FINGERPRINT, numbered(1), replaces=None),
        lambda: store.delete(FINGERPRINT, fence=numbered(1).fence),
    ):
        with pytest.raises(StoreError) as caught:
            attempt()
        for word in ("stores.keyrings.Failing", type(error).__name__, "FileStore(keys="):
            assert word in str(caught.value)


def test_a_machine_without_a_keyring(store: KeyringStore) -> None:
    """On a machine without a keyring the store says so at its first use, and keeps nothing in the clear somewhere."""
    keyring.set_keyring(fail.Keyring())
    with pytest.raises(StoreError, match=r"keyring\.backends\.fail.*NoKeyringError.*FileStore\(keys="):
        store.load(FINGERPRINT)


@pytest.mark.parametrize("thousands", [SHORT, LONG])
def test_a_keyring_that_keeps_nothing(store: KeyringStore, thousands: int) -> None:
    """A keyring that takes everything and keeps nothing is found out when something is saved."""
    keyring.set_keyring(null.Keyring())
    assert store.load(FINGERPRINT) is None
    with pytest.raises(StoreError, match=r"keyring\.backends\.null.*does not keep"):
        store.save(FINGERPRINT, sized(1, thousands), replaces=None)


def test_a_keyring_that_refuses_what_is_long(store: KeyringStore, ring: FileKeyring) -> None:
    """A write that the keyring refuses in the middle leaves the old entry as it was."""
    assert put(store, sized(1, SHORT))
    ring.limit = 900
    with pytest.raises(StoreError, match="PasswordSetError"):
        put(store, sized(2, LONGER))
    assert store.load(FINGERPRINT) == sized(1, SHORT)


def test_a_token_that_is_too_large(store: KeyringStore, ring: FileKeyring) -> None:
    """What would need more than 1,000 parts is refused, before any of them is written."""
    with pytest.raises(StoreError, match="too large"):
        put(store, sized(1, 1000))
    assert names(ring) == []


def test_services_do_not_mix(ring: FileKeyring, tmp_path: Path) -> None:
    """Two services with one fingerprint keep an entry each."""
    one, two = (KeyringStore(service, directory=tmp_path) for service in ("one", "two/é"))
    assert put(one, sized(1, LONG))
    assert two.load(FINGERPRINT) is None
    assert put(two, sized(2, LONG))
    assert one.load(FINGERPRINT) == sized(1, LONG)
    assert repr(two) == "<KeyringStore 'two/é'>"


@pytest.mark.parametrize("service", ["", None, 5])
def test_a_service_that_is_none(service: Any) -> None:
    """What cannot be the name of a service is refused when the store is made."""
    with pytest.raises(ConfigurationError, match="service="):
        KeyringStore(service)


@pytest.mark.parametrize("missing", ["keyring", "filelock", "platformdirs"])
def test_the_extra_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what it needs the store says so when it is made, and names the extra."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"KeyringStore needs the extra keyring.*\[keyring\]"):
        KeyringStore()


class OfWindows(keyring.backend.KeyringBackend):
    """As keyring's for Windows: one item of a service has the service's own name, and moves for who comes next."""

    priority = 0.1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.targets: dict[str, tuple[str, str]] = {}
        self.pause = threading.Barrier(2)

    def get_password(self, service: str, username: str) -> str | None:
        for target in (service, f"{username}@{service}"):
            found = self.targets.get(target)
            if found is not None and found[0] == username:
                return found[1]
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        existing = self.targets.get(service)
        try:
            self.pause.wait(0.2)  # whoever else comes here at once
        except threading.BrokenBarrierError:
            self.pause.reset()
        if existing is not None:
            self.targets[f"{existing[0]}@{service}"] = existing
        self.targets[service] = (username, password)

    def delete_password(self, service: str, username: str) -> None:
        for target in (service, f"{username}@{service}"):
            if self.targets.get(target, ("", ""))[0] == username:
                del self.targets[target]


def test_two_fingerprints_at_once_on_windows(store: KeyringStore, tmp_path: Path) -> None:
    """Two who write entries of two fingerprints at once do not lose one, though Windows' keyring moves a third."""
    keyring.set_keyring(OfWindows())
    assert store.save("c" * 64, sized(3, SHORT), replaces=None)
    saved: list[bool] = []

    def save(fingerprint: str, number: int) -> None:
        mine = KeyringStore(directory=tmp_path / "locks")
        saved.append(mine.save(fingerprint, sized(number, SHORT), replaces=None))

    threads = [threading.Thread(target=save, args=(name * 64, number)) for number, name in enumerate("ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert saved == [True, True]
    for name, number in (("a", 0), ("b", 1), ("c", 3)):
        assert store.load(name * 64) == sized(number, SHORT)


@pytest.mark.parametrize(("processes", "times"), [(2, 5), pytest.param(4, 25, marks=pytest.mark.slow)])
def test_no_update_is_lost(ring: FileKeyring, tmp_path: Path, processes: int, times: int) -> None:
    """Processes count together in one keyring, each step by compare-and-set: none of the steps is lost."""
    home = str(tmp_path / "state")
    command = [sys.executable, PROGRAM, "increment", "keyring", home, str(times)]
    with ExitStack() as stack:
        for program in [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL)) for _ in range(processes)
        ]:
            stack.callback(program.kill)
            assert program.wait(PATIENCE * 2) == 0
    assert number_of(store_of("keyring", home).load(FINGERPRINT)) == processes * times


@pytest.mark.slow
def test_writers_that_are_killed(tmp_path: Path) -> None:
    """Killed in the middle, fifty times: the entry can be loaded, and is at least what its writers said was saved."""
    command = [sys.executable, PROGRAM, "killing", "keyring", str(tmp_path / "state"), "50", "7"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 3, check=True).stdout
    assert said.startswith("50 rounds")
