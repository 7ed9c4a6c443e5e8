"""KeyValueStore: what it asks of the store below, who waits for whom in one process, and what it does not promise."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import httpx
import pytest
from key_value.aio.stores.simple import SimpleStore
from key_value.aio.wrappers.base import BaseWrapper

from httpx_tokenflow import ClientCredentials, ConfigurationError, StoreError, Token, TokenAuth
from httpx_tokenflow.stores import Entry, KeyValueStore, _key_value
from httpx_tokenflow.testing import Sandbox

BACKENDS = ["asyncio", "trio"]
PATIENCE = 30.0  # seconds; a loaded machine is slow, and this only guards against a hang


class Slow:
    """A store in which others have their turn between any two steps; notes what it is asked."""

    def __init__(self, pause: float = 0.0) -> None:
        self.values: dict[tuple[str | None, str], Any] = {}
        self.asked: list[Any] = []
        self.pause = pause
        self.fails = False

    async def get(self, key: str, *, collection: str | None = None) -> Any:
        value = self.values.get((collection, key))
        await anyio.sleep(self.pause)
        return value

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: float | None = None) -> None:
        self.asked.append(("put", key, value, collection, ttl))
        await anyio.sleep(self.pause)
        if self.fails:
            raise OSError("SENTINEL")
        self.values[collection, key] = value

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        self.asked.append(("delete", key, collection))
        await anyio.sleep(self.pause)
        return self.values.pop((collection, key), None) is not None


def numbered(number: int) -> Entry:
    return Entry(Token(f"a{number}", refresh_token="r"), issued_at=0.0, lifetime=None, session=str(number))


async def advance(store: KeyValueStore) -> None:
    """The next number, by compare-and-set."""
    while True:
        held = await store.aload("f")
        number = 1 if held is None else int(held.session) + 1
        if await store.asave("f", numbered(number), replaces=None if held is None else held.fence):
            return


def run(backend: str, function: Any) -> None:
    async def bounded() -> None:
        with anyio.fail_after(PATIENCE):
            await function()

    anyio.run(bounded, backend=backend)


def test_what_it_asks_of_the_store() -> None:
    """An entry is a value of one text, in a collection of ours, to be kept as long as it is of use and no longer."""
    below = Slow()
    store = KeyValueStore(below)
    now = time.time()

    async def main() -> None:
        first = Entry(Token("a"), issued_at=now, lifetime=100.0)
        second = Entry(Token("a", refresh_token="r"), issued_at=now, lifetime=100.0)
        third = Entry(Token("b"), issued_at=now, lifetime=1e300)  # no calendar holds it
        assert await store.asave("f", first, replaces=None)
        assert await store.asave("f", second, replaces=first.fence)
        assert await store.asave("f", third, replaces=second.fence)
        assert await store.adelete("f", fence=third.fence)

    run("asyncio", main)
    (_, key, value, collection, ttl), *others = below.asked
    assert (key, list(value), type(value["entry"]), collection) == ("f", ["entry"], str, "tokenflow")
    assert 100 < ttl <= 160
    assert [other[-1] for other in others] == [None, None, "tokenflow"]
    assert below.values == {}


def test_collections_do_not_mix() -> None:
    """Two collections of one store keep an entry each, and have a lease each."""
    below = Slow()
    one, two = (KeyValueStore(below, collection=name) for name in ("one", "two"))

    async def main() -> None:
        assert await one.asave("f", numbered(1), replaces=None)
        assert await two.aload("f") is None
        async with one.alease("f", 30.0, 0.0), two.alease("f", 30.0, 0.0) as held:
            assert held is True

    run("asyncio", main)


def test_there_is_no_sync_side() -> None:
    """A sync client with this store is told to use another, or async; it is no matter of a missing attribute."""
    store = KeyValueStore(Slow())
    assert not any(hasattr(store, verb) for verb in ("load", "save", "delete", "lease"))
    sandbox = Sandbox()
    auth = TokenAuth(
        ClientCredentials("https://sandbox.example/token", client_id="client", client_secret="secret"), store=store
    )
    api = httpx.Client(transport=sandbox.transport(), auth=auth)
    with api, pytest.raises(ConfigurationError, match="KeyValueStore has no sync side"):
        api.get("https://sandbox.example/api/orders")


@pytest.mark.parametrize("store", [None, {}, SimpleStore, MemoryError(), object()])
def test_what_is_no_store(store: Any) -> None:
    """What has no async get, put and delete is refused when the store is made."""
    with pytest.raises(ConfigurationError, match="needs a store of py-key-value-aio"):
        KeyValueStore(store)


@pytest.mark.parametrize("value", [{}, {"entry": 5}, {"entry": None}, {"else": "SENTINEL"}, {"entry": "\ud800"}])
def test_values_that_are_none_of_ours(value: dict[str, Any]) -> None:
    """A value that somebody else has put there is an error for every verb, and stays."""
    below = Slow()
    below.values["tokenflow", "f"] = value
    store = KeyValueStore(below)

    async def main() -> None:
        for attempt in (
            lambda: store.aload("f"),
            lambda: store.asave("f", numbered(1), replaces=None),
            lambda: store.adelete("f", fence=numbered(1).fence),
        ):
            with pytest.raises(StoreError, match="damaged") as caught:
                await attempt()
            assert "SENTINEL" not in str(caught.value)

    run("asyncio", main)
    assert below.asked == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrappers_pass_through(backend: str) -> None:
    """A store that is wrapped, as py-key-value-aio's are, is one."""
    with pytest.warns(UserWarning, match="unstable"):
        below = SimpleStore()
    wrapped = BaseWrapper()
    wrapped.key_value = below

    async def main() -> None:
        store = KeyValueStore(wrapped)
        await advance(store)
        assert await store.aload("f") == numbered(1)

    run(backend, main)


# in one process


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_update_is_lost_among_tasks(backend: str) -> None:
    """20 tasks over two objects count together, each step by compare-and-set: none of the steps is lost."""
    below = Slow()
    stores = [KeyValueStore(below) for _ in range(2)]

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(advance, stores[number % 2])
        assert await stores[0].aload("f") == numbered(20)

    run(backend, main)


def test_no_update_is_lost_among_loops() -> None:
    """Four loops in four threads, asyncio's and trio's, count together over one store: none of the steps is lost."""
    below, failed = Slow(0.0001), []

    def work(backend: str) -> None:
        async def main() -> None:
            store = KeyValueStore(below)
            for _ in range(10):
                await advance(store)

        try:
            run(backend, main)
        except BaseException as error:  # noqa: BLE001 - for the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(backend,)) for backend in BACKENDS * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failed == []
    run("asyncio", lambda: _is(below, 40))


async def _is(below: Slow, number: int) -> None:
    assert await KeyValueStore(below).aload("f") == numbered(number)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_write_that_fails_or_is_cancelled(backend: str) -> None:
    """Whoever fails in the middle of a write, or is cancelled there or in waiting for it, is in nobody's way."""
    below = Slow()
    store = KeyValueStore(below)

    async def main() -> None:
        below.fails = True
        with pytest.raises(OSError, match="SENTINEL"):
            await advance(store)
        below.fails, below.pause = False, PATIENCE * 2
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(advance, store)
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        below.pause = 0.0
        await advance(store)
        assert await store.aload("f") == numbered(1)
        assert _key_value._turns._taken == {}

    run(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lease_that_is_not_let_go_of(backend: str) -> None:
    """Who waits for a lease gives up in time and is told so; the error of who holds it passes."""
    below = Slow()
    store, other = KeyValueStore(below), KeyValueStore(below)

    async def main() -> None:
        async with store.alease("f", 30.0, 0.0):
            with pytest.raises(StoreError, match=r"another task of this process has had the lease for 0\.05 s"):
                async with other.alease("f", 30.0, 0.05):
                    pytest.fail("two have the lease")
        for error in (ZeroDivisionError, TimeoutError):
            with pytest.raises(error):
                async with store.alease("f", 30.0, 0.0):
                    raise error
        async with other.alease("f", 30.0, 0.0) as held:
            assert held is True

    run(backend, main)


def test_a_child_does_not_wait_for_its_parents_tasks() -> None:
    """What another task was doing when the process forked keeps nobody in the child from doing the same."""
    store = KeyValueStore(Slow())

    async def main() -> None:
        async with store.alease("f", 30.0, 0.0):
            _key_value._turns._after_fork()  # as in a child
            async with store.alease("f", 30.0, 0.0) as held:
                assert held is True

    run("asyncio", main)
    assert _key_value._turns._taken == {}
