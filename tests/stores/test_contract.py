"""One contract for all stores, in threads, on asyncio and on trio, wherever they can; and a store of one's own."""

from __future__ import annotations

import base64
import gc
import json
import time
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import valkey_server
from key_value.aio.stores.simple import SimpleStore

from httpx_tokenflow import ClientCredentials, RefreshToken, StoreError, Token, TokenAuth
from httpx_tokenflow.stores import Entry, FileStore, KeyringStore, KeyValueStore, MemoryStore, RedisStore
from httpx_tokenflow.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from stores.keyrings import FileKeyring

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
FINGERPRINT = "f" * 64
ORIGIN = "https://sandbox.example"
# Redis has clients for threads and for asyncio; a store of py-key-value-aio has no sync side.
KINDS = {
    "memory": ("sync", "asyncio", "trio"),
    "file": ("sync", "asyncio", "trio"),
    "file, sealed": ("sync", "asyncio", "trio"),
    "keyring": ("sync", "asyncio", "trio"),
    "key value": ("asyncio", "trio"),
    "key value, sealed": ("asyncio", "trio"),
    "redis": ("sync", "asyncio"),
    "redis, sealed": ("sync", "asyncio"),
}
CASES = [(kind, side) for kind, sides in KINDS.items() for side in sides]
SHARED = [(kind, side) for kind, side in CASES if kind != "memory"]


@dataclass
class Home:
    """Where a kind of store keeps things: makes stores over it, and changes it behind their backs."""

    make: Callable[[], Any]
    plant: Callable[[bytes], None]
    found: Callable[[], bytes | None]


class Side:
    """A store by its sync or its async verbs."""

    def __init__(self, store: Any, side: str) -> None:
        self.store = store
        self.is_sync = side == "sync"

    async def _call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.store, verb)(*args, **kwargs) if self.is_sync else await self._acall(verb, *args, **kwargs)

    async def _acall(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self.store, f"a{verb}")(*args, **kwargs)

    async def load(self, fingerprint: str = FINGERPRINT) -> Any:
        return await self._call("load", fingerprint)

    async def save(self, entry: Entry, replaces: str | None) -> Any:
        return await self._call("save", FINGERPRINT, entry, replaces=replaces)

    async def delete(self, fence: str) -> Any:
        return await self._call("delete", FINGERPRINT, fence=fence)

    @asynccontextmanager
    async def lease(self, patience: float, fingerprint: str = FINGERPRINT) -> AsyncIterator[Any]:
        if self.is_sync:
            with self.store.lease(fingerprint, 30.0, patience) as held:
                yield held
        else:
            async with self.store.alease(fingerprint, 30.0, patience) as held:
                yield held


@pytest.fixture(scope="module")
def valkey() -> Iterator[valkey_server.ValkeyServer]:
    with valkey_server.ValkeyServer() as server:
        yield server


def _file_home(directory: Path, **options: Any) -> Home:
    path = directory / f"{FINGERPRINT}.entry"

    def plant(raw: bytes) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(raw)
        path.chmod(0o600)

    return Home(lambda: FileStore(directory, **options), plant, lambda: path.read_bytes() if path.exists() else None)


def _keyring_home(ring: FileKeyring, directory: Path) -> Home:
    def found() -> bytes | None:
        text = ring.get_password("httpx_tokenflow", FINGERPRINT)
        return None if text is None else text.encode()

    return Home(
        lambda: KeyringStore(directory=directory),
        lambda raw: ring.set_password("httpx_tokenflow", FINGERPRINT, raw.decode("latin-1")),
        found,
    )


def _key_value_home(**options: Any) -> Home:
    with pytest.warns(UserWarning, match="unstable"):
        shared = SimpleStore()

    def plant(raw: bytes) -> None:
        value = {"entry": raw.decode("latin-1")}
        anyio.run(lambda: shared.put(FINGERPRINT, value, collection="tokenflow"))

    def found() -> bytes | None:
        value = anyio.run(lambda: shared.get(FINGERPRINT, collection="tokenflow"))
        return None if value is None else value["entry"].encode()

    return Home(lambda: KeyValueStore(shared, **options), plant, found)


def _redis_home(server: valkey_server.ValkeyServer, **options: Any) -> Home:
    client = server.client()
    client.flushall()

    def name() -> str:
        return f"tokenflow:{FINGERPRINT}"

    return Home(
        lambda: RedisStore(server.url, timeout=10.0, **options),
        lambda raw: client.set(name(), raw),
        lambda: client.get(name()),
    )


@pytest.fixture
def home(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Home:
    options: dict[str, Any] = {"keys": [KEY]} if kind.endswith("sealed") else {}
    if kind == "memory":
        memory = MemoryStore()
        return Home(lambda: memory, lambda raw: None, lambda: None)
    if kind.startswith("file"):
        return _file_home(tmp_path / "entries", **options)
    if kind == "keyring":
        return _keyring_home(request.getfixturevalue("ring"), tmp_path / "locks")
    if kind.startswith("key value"):
        return _key_value_home(**options)
    return _redis_home(request.getfixturevalue("valkey"), **options)


def run(home: Home, side: str, function: Callable[..., Any], stores: int = 1) -> None:
    """`function` with so many stores over one home, on a loop of its own."""

    async def bounded() -> None:
        with anyio.fail_after(30):
            await function(*[Side(home.make(), side) for _ in range(stores)])

    anyio.run(bounded, backend="trio" if side == "trio" else "asyncio")


def entry(number: int = 1, **changes: Any) -> Entry:
    token = Token(f"SENTINEL-a{number}", refresh_token=f"SENTINEL-r{number}")
    return Entry(token, issued_at=time.time(), lifetime=3600.0, session="s").having(**changes)


@pytest.mark.parametrize(("kind", "side"), CASES)
def test_a_store_that_holds_nothing(home: Home, side: str) -> None:
    """Nothing is loaded from nothing, replaced in it, or deleted from it."""

    async def main(store: Side) -> None:
        assert await store.load() is None
        assert await store.delete(entry().fence) is False
        assert await store.save(entry(), "another") is False
        assert await store.load() is None

    run(home, side, main)


@pytest.mark.parametrize(("kind", "side"), CASES)
def test_the_first_of_two_saves_counts(home: Home, side: str) -> None:
    """Who saves over nothing, or over what was there before, and comes late, has changed nothing."""

    async def main(store: Side, other: Side) -> None:
        assert await store.save(entry(1), None) is True
        assert await other.save(entry(2), None) is False
        assert await other.load() == entry(1).having(issued_at=(await store.load()).issued_at)
        assert await other.save(entry(2), entry(1).fence) is True
        assert await store.save(entry(3), entry(1).fence) is False
        assert (await store.load()).stamp == entry(2).stamp

    run(home, side, main, stores=2)


@pytest.mark.parametrize(("kind", "side"), CASES)
def test_two_notes_on_one_token(home: Home, side: str) -> None:
    """Of two who find one entry and each note that they present its refresh token, one is late."""

    async def main(store: Side, other: Side) -> None:
        first = entry()
        assert await store.save(first, None)
        note = first.marked(1)
        assert await store.save(note, first.fence) is True
        assert await other.save(first.marked(1), first.fence) is False
        assert (await other.load()).note == note.note
        assert await other.save(first.marked(0), note.fence) is True  # notes may go back as well

    run(home, side, main, stores=2)


@pytest.mark.parametrize(("kind", "side"), CASES)
def test_delete_compares_as_well(home: Home, side: str) -> None:
    """The loser of a race does not delete the winner's token (F08); what is deleted is gone for all, once."""

    async def main(store: Side, other: Side) -> None:
        assert await store.save(entry(2), None)
        assert await other.delete(entry(1).fence) is False
        assert await other.delete(entry(2).marked(1).fence) is False
        assert (await store.load()).stamp == entry(2).stamp
        assert await other.delete(entry(2).fence) is True
        assert await store.load() is None
        assert await store.delete(entry(2).fence) is False
        assert await store.save(entry(3), None) is True

    run(home, side, main, stores=2)


@pytest.mark.parametrize(("kind", "side"), CASES)
def test_a_mark_says_that_a_session_is_over(home: Home, side: str) -> None:
    """A mark takes the place of a token and is loaded as one; two of them are never the same to compare-and-set."""

    async def main(store: Side) -> None:
        assert await store.save(entry(), None)
        mark, other = (Entry.mark(time.time(), "s") for _ in range(2))
        assert await store.save(mark, entry().fence)
        loaded = await store.load()
        assert (loaded.is_mark, loaded.is_spent, loaded.session) == (True, True, "s")
        assert await store.delete(other.fence) is False
        assert await store.delete(mark.fence) is True

    run(home, side, main)


def large(size: int) -> Entry:
    token = Token(
        "a" * size, token_type="DPoP", expires_at=2e9, refresh_token="r", scope="é ☂ \U0001f511", id_token="i.d",
        extra={"nested": {"list": [1, None, 2.5, True]}, "words": "\u2028\x00\"'\\é\U0001f511"},
    )  # fmt: skip
    return Entry(
        token, issued_at=time.time() + 0.123456789, lifetime=1e9, presented=1, session="été", refresh_in=12.5,
        skew=-3.25, asked="read ☂", issuer="https://as.example/é", key='{"kty": "EC"}',
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 900, 999, 1000, 1001, 100_000])
@pytest.mark.parametrize(("kind", "side"), CASES)
def test_everything_comes_back(home: Home, side: str, size: int) -> None:
    """All of an entry is loaded as it was saved: each of its fields, any character, and a token of 100 kB."""

    async def main(store: Side, other: Side) -> None:
        assert await store.save(large(10), None)
        saved = large(size)
        assert await store.save(saved, large(10).fence)
        loaded = await other.load()
        for name in Entry.__slots__:
            assert getattr(loaded, name) == getattr(saved, name), name
        assert (loaded.fence, loaded.kept_for(0)) == (saved.fence, saved.kept_for(0))
        assert await other.save(entry(), saved.fence)
        assert (await store.load()).stamp == entry().stamp

    run(home, side, main, stores=2)


@pytest.mark.parametrize("lifetime", [None, 0.0, -5.0, 1e-3, 1e12])
@pytest.mark.parametrize(("kind", "side"), CASES)
def test_lifetimes_at_the_edge(home: Home, side: str, lifetime: float | None) -> None:
    """An entry that is over already, or never, or that nobody knows the end of, can be saved and loaded."""

    async def main(store: Side) -> None:
        saved = entry(lifetime=lifetime, token=Token("a"))
        assert await store.save(saved, None)
        assert await store.load() == saved

    run(home, side, main)


@pytest.mark.parametrize("damage", ["version 2", "half", "no JSON", "no object", "empty", "no text"])
@pytest.mark.parametrize(("kind", "side"), SHARED)
def test_what_cannot_be_read_stays_where_it_is(home: Home, side: str, damage: str) -> None:
    """An entry of another version, or a damaged one, is a StoreError to every verb, and nobody overwrites it."""
    plain = json.dumps(entry().to_dict())
    raw = {
        "version 2": json.dumps(entry().to_dict() | {"version": 2}),
        "half": plain[: len(plain) // 2],
        "no JSON": "SENTINEL",
        "no object": "[1]",
        "empty": "",
        "no text": "\x80\xff\x00",
    }[damage].encode("latin-1")
    home.plant(raw)
    before = home.found()
    assert before is not None

    async def main(store: Side) -> None:
        for attempt in (
            store.load,
            lambda: store.save(entry(2), None),
            lambda: store.save(entry(2), entry().fence),
            lambda: store.delete(entry().fence),
        ):
            with pytest.raises(StoreError) as caught:
                await attempt()
            assert "SENTINEL" not in str(caught.value)

    run(home, side, main)
    assert home.found() == before


@pytest.mark.parametrize(("kind", "side"), CASES)
def test_a_lease_is_given(home: Home, side: str) -> None:
    """Who need not wait has the right to renew, again and again, and meanwhile may load and save."""

    async def main(store: Side) -> None:
        for number in range(3):
            async with store.lease(5.0) as held:
                assert held is True
                replaces = await store.load()
                assert await store.save(entry(number), replaces.fence if replaces else None)

    run(home, side, main)


@pytest.mark.parametrize(("kind", "side"), SHARED)
def test_a_lease_excludes(home: Home, side: str) -> None:
    """While somebody has the lease nobody else gets it, not even in the same process; another fingerprint's is free."""

    async def main(store: Side, other: Side) -> None:
        async with store.lease(5.0) as held:
            assert held is True
            with pytest.raises(StoreError):
                async with other.lease(0.1):
                    pytest.fail("two have the lease")
            async with other.lease(5.0, "e" * 64) as elsewhere:
                assert elsewhere is True
        async with other.lease(5.0) as held:
            assert held is True

    run(home, side, main, stores=2)


@pytest.mark.parametrize(("kind", "side"), SHARED)
def test_an_error_lets_go_of_the_lease(home: Home, side: str) -> None:
    """Whatever ends the work under a lease, the next gets it."""

    async def main(store: Side, other: Side) -> None:
        kept = []
        for error in (ZeroDivisionError(), TimeoutError(), KeyboardInterrupt()):
            with pytest.raises(type(error)):
                async with store.lease(5.0):
                    raise error
            kept.append(error)  # and all that its traceback keeps alive
            async with other.lease(1.0) as held:
                assert held is True

    run(home, side, main, stores=2)


@pytest.mark.parametrize(("kind", "side"), [(kind, side) for kind, side in SHARED if side != "sync"])
def test_leases_of_many_tasks(home: Home, side: str) -> None:
    """Of 20 tasks over two stores each has the lease once, alone; who is cancelled in waiting leaves none."""
    inside = most = done = 0

    async def main(*stores: Side) -> None:
        async def one(store: Side) -> None:
            nonlocal inside, most, done
            async with store.lease(25.0):
                inside += 1
                most = max(most, inside)
                await anyio.sleep(0.001)
                inside -= 1
                done += 1

        async with stores[0].lease(5.0):
            with anyio.move_on_after(0.02):
                await one(stores[1])
                pytest.fail("two have the lease")
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, stores[number % 2])

    run(home, side, main, stores=2)
    assert (most, done) == (1, 20)


@pytest.mark.parametrize("kind", [kind for kind, sides in KINDS.items() if "sync" in sides and "asyncio" in sides])
def test_both_sides_are_one_store(home: Home) -> None:
    """What one side saves the other loads, replaces and deletes."""

    async def main(store: Side) -> None:
        twin = Side(store.store, "asyncio")
        assert await store.save(entry(1), None)
        assert await twin.load() == await store.load()
        assert await twin.save(entry(2), entry(1).fence) is True
        assert await store.delete(entry(2).fence) is True

    run(home, "sync", main)


@pytest.mark.parametrize(("kind", "side"), CASES)
def test_a_store_shows_no_secret(home: Home, side: str) -> None:
    """Its repr has neither a token nor a key in it."""

    async def main(store: Side) -> None:
        assert await store.save(entry(), None)
        assert "SENTINEL" not in repr(store.store)
        assert KEY not in repr(store.store)

    run(home, side, main)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("sealed")])
def test_a_sealed_store_shows_no_secret_to_who_reads_it(home: Home) -> None:
    """With keys nothing of a token can be read where it is kept."""

    async def main(store: Side) -> None:
        assert await store.save(entry(), None)

    run(home, "asyncio", main)
    found = home.found()
    assert found is not None
    assert b"SENTINEL" not in found
    assert b"access_token" not in found


def session(sandbox: Sandbox, store: Any) -> TokenAuth:
    """An auth of a process of its own, of a session that `store` may know."""
    return TokenAuth(
        RefreshToken(f"{ORIGIN}/token", client_id="client", client_secret="secret", subject="ann"),
        store=store,
        client=httpx.AsyncClient(transport=sandbox.transport()),
    )


@pytest.mark.parametrize(("kind", "side"), [(kind, side) for kind, side in CASES if side != "sync"])
def test_a_session_outlives_its_process(home: Home, side: str) -> None:
    """A second auth object goes on with the session that the first has put into the store, and its rotated token."""
    sandbox = Sandbox()
    login = sandbox.login(subject="ann")

    async def main(first: Side, second: Side) -> None:
        before = session(sandbox, first.store)
        await before.aset_token(Token(login["access_token"], refresh_token=login["refresh_token"]))
        for store in (first.store, second.store):
            auth = session(sandbox, store)
            for _ in range(2):
                sandbox.expire_access_tokens()
                async with httpx.AsyncClient(transport=sandbox.transport(), auth=auth) as client:
                    assert (await client.get(f"{ORIGIN}/api/orders")).status_code == 200

    run(home, side, main, stores=2)
    assert sandbox.families_revoked == 0
    assert sandbox.token_requests == 4


# Documentation: a store of one's own.


class Table:
    """All that a store needs to be, of sync programs: here a dict that holds what a database would."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def load(self, fingerprint: str) -> Entry | None:
        row = self.rows.get(fingerprint)
        return None if row is None else Entry.from_dict(row)

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        held = self.load(fingerprint)  # a database does this and the next in one transaction
        if (held.fence if held else None) != replaces:
            return False
        self.rows[fingerprint] = entry.to_dict()
        return True

    def delete(self, fingerprint: str, *, fence: str) -> bool:
        held = self.load(fingerprint)
        return held is not None and held.fence == fence and bool(self.rows.pop(fingerprint))

    def lease(self, fingerprint: str, seconds: float, patience: float) -> Any:
        return nullcontext(True)  # one process: nobody to exclude


def test_a_store_of_ones_own() -> None:
    """A class of twenty lines is a store: a second object finds the first one's token, and renews it when it ends."""
    sandbox, table = Sandbox(clients={"client": "secret"}), Table()
    for expected in (1, 1):
        auth = TokenAuth(
            ClientCredentials(f"{ORIGIN}/token", client_id="client", client_secret="secret"),
            store=table,
            client=httpx.Client(transport=sandbox.transport()),
        )
        with httpx.Client(transport=sandbox.transport(), auth=auth) as client:
            assert client.get(f"{ORIGIN}/api/orders").status_code == 200
        assert sandbox.token_requests == expected
        del auth
        gc.collect()
    (row,) = table.rows.values()
    assert Entry.from_dict(json.loads(json.dumps(row))).token.access_token
