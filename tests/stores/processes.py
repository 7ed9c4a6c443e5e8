"""Programs for `test_file` and `test_keyring`: processes that share a store, and are stopped or killed in the middle.

`python processes.py VERB KIND DIRECTORY …`; each says on standard output how far it is, and ends in `LIVES` seconds.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import keyring
from stores.keyrings import FileKeyring

from httpx_tokenflow import StoreError, Token
from httpx_tokenflow.stores import Entry, FileStore, KeyringStore

FINGERPRINT = "f" * 64
LIVES = 60  # seconds
KEYS = ["QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="]


def store_of(kind: str, directory: str) -> Any:
    """A store of `kind` in `directory`."""
    if kind == "keyring":
        Path(directory).mkdir(mode=0o700, exist_ok=True)
        keyring.set_keyring(FileKeyring(Path(directory) / "keyring.json"))
        return KeyringStore(directory=directory)
    return FileStore(directory, keys=KEYS if kind == "sealed" else ())


def numbered(number: int) -> Entry:
    """An entry that says its number in several places, so that a mixture of two would show; of some length."""
    token = Token(f"a{number}" * 500, refresh_token=f"r{number}")
    return Entry(token, issued_at=float(number), lifetime=None, session=str(number))


def number_of(entry: Entry | None) -> int:
    """The number of `entry`, which is whole."""
    if entry is None:
        return 0
    number = int(entry.session)
    assert entry == numbered(number), "a mixture"
    return number


def advance(store: Any) -> int:
    """The next number, saved."""
    while True:
        held = store.load(FINGERPRINT)
        number = number_of(held) + 1
        if store.save(FINGERPRINT, numbered(number), replaces=held.fence if held else None):
            return number


def say(words: object) -> None:
    os.write(1, f"{words}\n".encode())


def increment(store: Any, times: str) -> None:
    """So many increments, each by compare-and-set."""
    say("ready")
    for _ in range(int(times)):
        advance(store)


def hold(store: Any) -> None:
    """Take the lease and keep it."""
    with store.lease(FINGERPRINT, 30.0, 5.0):
        say("held")
        time.sleep(LIVES)


def hold_and_fork(store: Any, child_ends: str) -> None:
    """Take the lease, and fork a child that leaves the context as well, or stays."""
    with store.lease(FINGERPRINT, 30.0, 5.0):
        child = os.fork()
        if not child and child_ends != "ends":
            time.sleep(LIVES)
        if child:
            if child_ends == "ends":
                os.waitpid(child, 0)
            say(f"held {child}")
            time.sleep(LIVES)


def limited(store: Any, size: str) -> None:
    """Save what is longer than the kernel lets a file become."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))
    held = store.load(FINGERPRINT)
    try:
        store.save(FINGERPRINT, numbered(2), replaces=held.fence)
    except StoreError as error:
        say(f"refused: {error}")
        assert number_of(store.load(FINGERPRINT)) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say(advance(store))


def killing(store: Any, rounds: str, seed: str) -> None:
    """Two writers, killed at a random moment, so many times; what they have said is saved must be there."""
    dice = random.Random(seed)
    most = number_of(store.load(FINGERPRINT))
    for _ in range(int(rounds)):
        reader, writer = os.pipe()
        children = [_writer(store, writer) for _ in range(2)]
        os.close(writer)
        select.select([reader], [], [], 10.0)  # at work
        time.sleep(dice.uniform(0.0, 0.04))
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        with os.fdopen(reader) as said:
            told = [int(line) for line in said.read().split("\n")[:-1]]
        assert told, "nobody wrote"
        assert len(set(told)) == len(told), "one number for two"
        found = number_of(store.load(FINGERPRINT))
        assert most < max(told) <= found <= max(told) + 2, (most, max(told), found)
        most = found
    say(f"{rounds} rounds, {most} writes")


def _writer(store: Any, told: int) -> int:
    child = os.fork()
    if not child:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                os.write(told, f"{advance(store)}\n".encode())
        os._exit(1)
    return child


def full(store: Any) -> None:
    """Save longer and longer entries until the disk is full, then a short one."""
    held, number = None, 0
    while True:
        number += 1
        longer = numbered(number)
        longer = longer.having(token=Token("a" * 4096 * number))
        try:
            assert store.save(FINGERPRINT, longer, replaces=held.fence if held else None)
        except StoreError as error:
            say(f"refused: {error}")
            break
        held = longer
    assert store.load(FINGERPRINT) == held
    assert store.save(FINGERPRINT, numbered(1), replaces=held.fence if held else None)
    say(number_of(store.load(FINGERPRINT)))


VERBS: dict[str, Any] = {
    "increment": increment, "hold": hold, "hold and fork": hold_and_fork, "limited": limited, "killing": killing,
    "full": full,
}  # fmt: skip


if __name__ == "__main__":
    signal.alarm(LIVES)
    verb, kind, directory, *arguments = sys.argv[1:]
    VERBS[verb](store_of(kind, directory), *arguments)
