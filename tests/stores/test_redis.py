"""RedisStore and a real Valkey: what it costs, who waits for whom, and what a server that stops, hangs or forgets does.

`test_contract` has what all stores promise. Here a use is a kind of client and a side: a URL and a sync client serve
sync programs, asyncio and trio; an asyncio client asyncio alone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import redis
import redis.asyncio
from valkey_server import ValkeyServer

from httpx_tokenflow import ClientCredentials, ConfigurationError, StoreError, Token, TokenAuth
from httpx_tokenflow.stores import Entry, RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

USES = [
    "url sync", "url asyncio", "url trio", "client sync", "client asyncio", "client trio", "text sync",
    "native asyncio", "native-text asyncio",
]  # fmt: skip
FEW = ["url sync", "url trio", "native asyncio"]  # each way of asking once
HANGS_AFTER = 40.0  # seconds


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    """One for all tests that do it no harm."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """One that may be stopped; it keeps its data."""
    with ValkeyServer(keeps=True) as server:
        yield server


@pytest.fixture
def name() -> str:
    """A fingerprint of this test alone."""
    return secrets.token_hex(8)


def entry(name: str = "at", *, refreshes: bool = True, issued_at: float = 1_770_000_000.123456, **more: Any) -> Entry:
    return Entry(Token(name, refresh_token=f"rt-{name}" if refreshes else None), issued_at, 3600.0, **more)


class Use:
    """A store by its sync or its async verbs."""

    def __init__(self, store: RedisStore, side: str) -> None:
        self.store, self.is_sync = store, side == "sync"

    async def _do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        if self.is_sync:
            return getattr(self.store, verb)(*args, **kwargs)
        return await getattr(self.store, f"a{verb}")(*args, **kwargs)

    async def load(self, name: str) -> Entry | None:
        return await self._do("load", name)

    async def save(self, name: str, entry: Entry, replaces: Entry | None = None) -> bool:
        return await self._do("save", name, entry, replaces=replaces and replaces.fence)

    async def delete(self, name: str, entry: Entry) -> bool:
        return await self._do("delete", name, fence=entry.fence)

    @asynccontextmanager
    async def lease(self, name: str, seconds: float = 40.0, patience: float = 30.0) -> AsyncIterator[bool]:
        if self.is_sync:
            with self.store.lease(name, seconds, patience) as leased:
                yield leased
        else:
            async with self.store.alease(name, seconds, patience) as leased:
                yield leased


@asynccontextmanager
async def used(server: ValkeyServer, use: str, **options: Any) -> AsyncIterator[Use]:
    kind, side = use.split()
    if kind == "url":
        with RedisStore(server.url, **options) as store:
            yield Use(store, side)
    elif kind.startswith("native"):
        client = redis.asyncio.Redis(
            host="127.0.0.1", port=server.port, password=server.password, decode_responses=kind == "native-text"
        )
        async with client:
            yield Use(RedisStore(client, **options), side)
    else:
        with server.client(decode_responses=kind == "text") as client:
            yield Use(RedisStore(client, **options), side)


def play(server: ValkeyServer, use: str, scene: Callable[[Use], Awaitable[None]], **options: Any) -> None:
    """`scene` with a store, on the loop that its use needs."""

    async def main() -> None:
        with anyio.fail_after(HANGS_AFTER):
            async with used(server, use, **options) as one:
                await scene(one)

    anyio.run(main, backend="trio" if use.endswith("trio") else "asyncio")


def held_elsewhere(server: ValkeyServer, name: str, *, saves: Entry | None = None) -> tuple[Any, threading.Event]:
    """Another store has the lease until the event is set; if it `saves`, it lets all listeners go first."""
    has_it, over = threading.Event(), threading.Event()

    def hold() -> None:
        with RedisStore(server.url) as store, store.lease(name, 40.0, 5.0):
            has_it.set()
            assert over.wait(HANGS_AFTER)
            if saves is not None:
                assert store.save(name, saves, replaces=None)
                until_listening(server, 0)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert has_it.wait(HANGS_AFTER)
    return thread, over


def listeners(client: Any) -> int:
    """How many clients listen to any channel. (PUBSUB NUMSUB of Valkey 9.1 tells nonsense now and then.)"""
    return client.info("clients")["pubsub_clients"]


def until_listening(server: ValkeyServer, wanted: int = 1) -> None:
    """Until so many listen, or more; 0: until nobody does."""
    with server.client() as client:
        deadline = time.monotonic() + HANGS_AFTER
        while (there := listeners(client)) < wanted or (there and not wanted):
            assert time.monotonic() < deadline, f"{there} wait"
            time.sleep(0.01)


@contextmanager
def hanging(server: ValkeyServer, store: RedisStore) -> Iterator[None]:
    """The server hangs, and the store has little patience meanwhile."""
    patience, store._timeout = store._timeout, 0.2
    server.pause()
    yield
    server.resume()
    store._timeout = patience


# What it costs


@pytest.mark.parametrize("use", USES)
def test_commands(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """A load is one command, a save two, a lease one and its return one; a script is loaded once."""

    async def scene(one: Use) -> None:
        assert await one.load(name) is None
        assert await one.save(name, entry())
        async with one.lease(name):
            pass
        for verb, cost in [
            (one.load(name), {"get": 1}),
            (one.save(name, entry("at2"), entry()), {"get": 2, "evalsha": 1, "set": 1, "publish": 1}),
            (one.delete(name, entry("at2")), {"get": 2, "evalsha": 1, "del": 1}),
        ]:
            own_valkey.forget_calls()
            await verb
            assert own_valkey.calls() == cost
        own_valkey.forget_calls()
        async with one.lease(name) as leased:
            assert leased
            assert own_valkey.calls() == {"set": 1}
        assert own_valkey.calls() == {"set": 1, "evalsha": 1, "get": 1, "del": 1}

    play(own_valkey, use, scene)


def test_a_fresh_token_asks_nothing_of_redis(own_valkey: ValkeyServer) -> None:
    """Requests with a fresh token cost Redis no command at all."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"access_token": "at", "expires_in": 3600})

    transport = httpx.MockTransport(answer)
    with RedisStore(own_valkey.url) as store, httpx.Client(transport=transport) as token_client:
        grant = ClientCredentials("https://as.example/token", client_id="c", client_secret="s")
        auth = TokenAuth(grant, store=store, client=token_client)
        with httpx.Client(transport=transport, auth=auth) as client:
            client.get("https://api.example/")
            own_valkey.forget_calls()
            for _ in range(50):
                client.get("https://api.example/")
            assert own_valkey.calls() == {}


def test_what_is_imported() -> None:
    """Importing the package and its stores imports no redis; naming RedisStore does not either, making one does."""
    program = (
        "import sys, httpx_tokenflow, httpx_tokenflow.stores as s; assert 'redis' not in sys.modules\n"
        "assert 'httpx_tokenflow.stores._redis' not in sys.modules\n"
        "s.RedisStore; assert 'redis' not in sys.modules and 'asyncio' not in sys.modules\n"
        "sys.modules['redis'] = None\n"
        "try: s.RedisStore('redis://127.0.0.1')\n"
        "except httpx_tokenflow.ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert "pip install 'httpx-tokenflow[redis]'" in done.stdout


# Compare-and-set, and for how long


@pytest.mark.parametrize("use", USES)
def test_a_script_that_was_sent_twice(valkey: ValkeyServer, name: str, use: str) -> None:
    """A swap whose answer was lost, and that is sent again, succeeds; another of the same words does not."""

    async def scene(one: Use) -> None:
        store = one.store
        first, second = (store._saving(name, entry(), None, None) for _ in "12")
        assert first is not None
        assert second is not None
        swap = store._swap if one.is_sync else store._aswap
        told = [swap(name, each) for each in (first, first, second)]
        assert [each if one.is_sync else await each for each in told] == [True, True, False]

    play(valkey, use, scene)


@pytest.mark.parametrize("use", FEW)
def test_the_server_forgets_its_scripts(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """Scripts that the server has lost are loaded again."""

    async def scene(one: Use) -> None:
        assert await one.save(name, entry())
        with own_valkey.client() as client:
            client.script_flush()
        assert await one.save(name, entry("at2"), entry())
        one.store._clock_due = 0.0
        with own_valkey.client() as client:
            client.script_flush()
        assert await one.load(name) == entry("at2")

    play(own_valkey, use, scene)


@pytest.mark.parametrize("use", ["url sync", "native-text asyncio"])
def test_how_long_entries_are_kept(valkey: ValkeyServer, name: str, use: str) -> None:
    """Redis forgets a token a minute after its end, a spent one after 30 days, and one that can be renewed never."""

    async def scene(one: Use) -> None:
        for number, (what, least, most) in enumerate(
            [
                (entry(refreshes=False, issued_at=time.time()), 3_640.0, 3_660.0),
                (entry(refreshes=False, issued_at=1.0), 50.0, 60.0),
                (entry().spent(), 30 * 86_400 - 10.0, 30 * 86_400.0),
            ]
        ):
            assert await one.save(f"{name}{number}", what)
            with valkey.client() as client:
                assert least < client.pttl(f"tokenflow:{name}{number}") / 1000 <= most
        first = entry(refreshes=False)
        assert await one.save(name, first)
        assert await one.save(name, entry(), first)
        with valkey.client() as client:
            assert client.pttl(f"tokenflow:{name}") == -1

    play(valkey, use, scene)


# The lease


@pytest.mark.parametrize("use", USES)
def test_news_ends_the_waiting(valkey: ValkeyServer, name: str, use: str) -> None:
    """Who waits for the lease is told when another token is saved, need not have it any more, and finds the token."""

    async def scene(one: Use) -> None:
        holder, over = held_elsewhere(valkey, name, saves=entry())
        teller = threading.Thread(target=lambda: (until_listening(valkey), over.set()))
        teller.start()
        async with one.lease(name) as leased:
            assert leased is False
            assert await one.load(name) == entry()
        teller.join()
        holder.join()

    play(valkey, use, scene)


@pytest.mark.parametrize("use", USES)
def test_the_lease_goes_on_without_news(valkey: ValkeyServer, name: str, use: str) -> None:
    """Who waits gets the lease when the holder gives it back and has saved nothing."""

    async def scene(one: Use) -> None:
        holder, over = held_elsewhere(valkey, name)
        teller = threading.Thread(target=lambda: (until_listening(valkey), over.set()))
        teller.start()
        async with one.lease(name) as leased:
            assert leased is True
        teller.join()
        holder.join()

    play(valkey, use, scene)


def test_a_hundred_who_wait(valkey: ValkeyServer, name: str) -> None:
    """A hundred replicas that wait are all told by one message; none of them has to have the lease in turn."""

    async def main() -> None:
        outcomes = []
        client = redis.asyncio.Redis(host="127.0.0.1", port=valkey.port, max_connections=300)

        async def wait() -> None:
            async with RedisStore(client, timeout=10.0).alease(name, 40.0, 30.0) as leased:
                outcomes.append(leased)

        holder, over = held_elsewhere(valkey, name, saves=entry())
        with anyio.fail_after(HANGS_AFTER):
            async with client, anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(wait)
                await anyio.to_thread.run_sync(until_listening, valkey, 100)
                over.set()
        assert outcomes == [False] * 100
        holder.join()

    anyio.run(main)


def test_who_waits_leaves_connections_to_others(valkey: ValkeyServer, name: str) -> None:
    """Of 30 who wait through one store for 30 leases no more than 10 listen; the others get theirs all the same."""

    async def scene(one: Use) -> None:
        most, outcomes = 0, []

        async def wait(number: int) -> None:
            nonlocal most
            async with one.lease(f"{name}{number}") as leased:
                outcomes.append(leased)

        with valkey.client() as client:
            held = [
                client.lock(f"tokenflow:{name}{number}:lease", timeout=40, thread_local=False) for number in range(30)
            ]
            assert all(lock.acquire() for lock in held)
            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(wait, number)
                while one.store._leases._waiting < 30:  # noqa: ASYNC110 - what they come to is what counts
                    await anyio.sleep(0.01)
                await anyio.sleep(0.2)
                most = len(client.pubsub_channels(f"tokenflow:{name}*"))
                for lock in held:
                    lock.release()
        assert outcomes == [True] * 30
        assert most == 10

    play(valkey, "native asyncio", scene, timeout=10.0)


@pytest.mark.parametrize("use", FEW)
def test_patience_ends(valkey: ValkeyServer, name: str, use: str) -> None:
    """Who has waited as long as they have patience gets an error, and the holder keeps the lease."""

    async def scene(one: Use) -> None:
        holder, over = held_elsewhere(valkey, name)
        with pytest.raises(StoreError, match="held it for longer"):
            async with one.lease(name, patience=0.3):
                pass
        assert one.store._leases._doubts == []
        with valkey.client() as client:
            assert client.exists(f"tokenflow:{name}:lease")
        over.set()
        holder.join()

    play(valkey, use, scene)


@pytest.mark.parametrize("use", FEW)
def test_a_lease_that_lapsed(valkey: ValkeyServer, name: str, use: str) -> None:
    """Who comes back after their lease has ended does no harm to the next holder's, and gets no error."""

    async def scene(one: Use) -> None:
        first, second = one.lease(name, seconds=0.2), one.lease(name, patience=5.0)
        assert await first.__aenter__()
        assert await second.__aenter__()
        await first.__aexit__(None, None, None)
        with valkey.client() as client:
            assert client.exists(f"tokenflow:{name}:lease")
        await second.__aexit__(None, None, None)

    play(valkey, use, scene)


HOLDER = """
import sys, time
from httpx_tokenflow.stores import RedisStore
with RedisStore(sys.argv[1]).lease(sys.argv[2], 0.8, 1.0):
    print("has it", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize("use", ["url asyncio"])
def test_the_holder_is_killed(valkey: ValkeyServer, name: str, use: str) -> None:
    """The lease of a process that was killed is free when its time is over, and not before."""

    async def scene(one: Use) -> None:
        with pytest.raises(StoreError, match="held it for longer"):
            async with one.lease(name, patience=0.1):
                pass
        async with one.lease(name, patience=10.0) as leased:
            assert leased

    holder = subprocess.Popen([sys.executable, "-c", HOLDER, valkey.url, name], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"has it\n"
    holder.kill()
    holder.communicate()
    play(valkey, use, scene)


WORKER = """
import sys, time, redis
from httpx_tokenflow.stores import RedisStore
store, client = RedisStore(sys.argv[1]), redis.Redis.from_url(sys.argv[1])
for _ in range(10):
    with store.lease(sys.argv[2], 40.0, 30.0) as leased:
        assert leased
        count = int(client.get(sys.argv[2]) or 0)
        time.sleep(0.002)
        client.set(sys.argv[2], count + 1)
"""


@pytest.mark.slow
def test_processes_share_a_lease(valkey: ValkeyServer, name: str) -> None:
    """Three processes that count by reading and writing lose no count under the lease."""
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, valkey.url, name]) for _ in range(3)]
    assert [worker.wait(HANGS_AFTER) for worker in workers] == [0, 0, 0]
    with valkey.client() as client:
        assert client.get(name) == b"30"


@pytest.mark.parametrize("use", ["url asyncio", "url trio", "native asyncio"])
def test_a_waiter_is_cancelled(valkey: ValkeyServer, name: str, use: str) -> None:
    """Who is cancelled while waiting leaves neither a lease nor a subscription behind."""

    async def scene(one: Use) -> None:
        async def wait() -> None:
            async with one.lease(name):
                raise AssertionError

        holder, over = held_elsewhere(valkey, name)
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.to_thread.run_sync(until_listening, valkey)
            group.cancel_scope.cancel()
        over.set()
        await anyio.to_thread.run_sync(holder.join)
        async with one.lease(name, patience=5.0) as leased:
            assert leased
        with valkey.client() as client:
            assert listeners(client) == 0
            assert not client.exists(f"tokenflow:{name}:lease")

    play(valkey, use, scene)


@pytest.mark.parametrize("use", FEW)
def test_an_error_under_the_lease(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """What goes wrong under a lease is what the caller sees, even if the lease cannot be given back."""

    async def scene(one: Use) -> None:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what is raised under the lease
            async with one.lease(name):
                own_valkey.kill()
                raise ZeroDivisionError

    play(own_valkey, use, scene, timeout=0.5)


# A server that allows little


@pytest.mark.parametrize("use", FEW)
def test_without_news(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """Where channels are forbidden saving works, and who waits for a lease asks now and then."""
    with own_valkey.client() as client:
        client.acl_setuser("default", enabled=True, nopass=True, reset_channels=True, categories=["+@all"], keys=["*"])

    async def scene(one: Use) -> None:
        holder, over = held_elsewhere(own_valkey, name, saves=entry())
        threading.Timer(0.3, over.set).start()
        async with one.lease(name) as leased:
            assert leased is True
            assert await one.load(name) == entry()
        holder.join()

    play(own_valkey, use, scene)


@pytest.mark.parametrize("use", FEW)
def test_without_the_time(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """Where TIME is forbidden all else works."""
    with own_valkey.client() as client:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["-time"], categories=["+@all"], keys=["*"])

    async def scene(one: Use) -> None:
        assert await one.load(name) is None
        assert await one.save(name, entry())
        one.store._clock_due = 0.0
        assert await one.load(name) == entry()

    play(own_valkey, use, scene)


# A server that stops and hangs


@pytest.mark.parametrize("use", ["url sync", "url asyncio", "url trio", "client sync", "native asyncio"])
def test_a_restart(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """A server that was restarted between two questions is no error."""

    async def scene(one: Use) -> None:
        assert await one.save(name, entry())
        own_valkey.restart()
        assert await one.load(name) == entry()
        own_valkey.restart()
        assert await one.save(name, entry("at2"), entry())
        own_valkey.restart()
        async with one.lease(name) as leased:
            assert leased

    play(own_valkey, use, scene, timeout=5.0)


@pytest.mark.parametrize("use", ["url sync", "url trio", "client sync", "client asyncio", "native asyncio"])
def test_a_server_that_hangs(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """While the server hangs each verb fails within its time, whatever the client would put up with."""

    async def scene(one: Use) -> None:
        assert await one.save(name, entry())
        with hanging(own_valkey, one.store):
            for verb in (one.load(name), one.save(name, entry("at2"), entry()), one.delete(name, entry())):
                began = time.monotonic()
                with pytest.raises(StoreError, match="did not answer within"):
                    await verb
                assert time.monotonic() - began < 4.0  # redis-py's own limits: 5 s, ten times over
        assert await one.load(name) == entry()

    play(own_valkey, use, scene, timeout=5.0)


@pytest.mark.parametrize("use", ["url sync", "url trio", "client sync", "client asyncio", "native asyncio"])
def test_a_lease_whose_answer_was_lost(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """A lease that the server gave after we had stopped waiting is given back before it is asked for again."""

    async def scene(one: Use) -> None:
        async with one.lease(name):
            pass  # a connection to send it by
        with hanging(own_valkey, one.store), pytest.raises(StoreError, match="did not answer within"):
            async with one.lease(name):
                pass
        assert len(one.store._leases._doubts) == 1
        async with one.lease(name, patience=5.0) as leased:
            assert leased

    play(own_valkey, use, scene, timeout=5.0)


def test_a_lease_that_comes_late_to_a_thread(valkey: ValkeyServer, name: str) -> None:
    """A thread that gets the lease when nobody waits for it any more gives it back by itself."""
    goes_on, is_done = threading.Event(), threading.Event()

    class Slow(redis.Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            if args[0] != "SET":
                return super().execute_command(*args, **options)
            assert goes_on.wait(HANGS_AFTER)
            try:
                return super().execute_command(*args, **options)
            finally:
                is_done.set()

    with Slow(host="127.0.0.1", port=valkey.port) as client, valkey.client() as other:
        store = RedisStore(client, timeout=0.1)
        with pytest.raises(StoreError), store.lease(name, 40.0, 5.0):
            pass
        goes_on.set()
        assert is_done.wait(HANGS_AFTER)
        deadline = time.monotonic() + 10.0
        while other.exists(f"tokenflow:{name}:lease"):
            assert time.monotonic() < deadline, "nobody gives it back"
            time.sleep(0.01)


def test_a_lease_that_was_asked_for_twice(valkey: ValkeyServer, name: str) -> None:
    """A client that sends a command again, since its answer was lost, does not stand in its own way."""

    class Twice(redis.Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            if args[0] == "SET":
                super().execute_command(*args, **options)
            return super().execute_command(*args, **options)

    with Twice(host="127.0.0.1", port=valkey.port) as client, RedisStore(client).lease(name, 40.0, 0.5) as leased:
        assert leased


@pytest.mark.parametrize("use", FEW)
def test_a_return_whose_answer_was_lost(own_valkey: ValkeyServer, name: str, use: str) -> None:
    """A lease that could not be given back, since the server hung, is given back before it is asked for again."""

    async def scene(one: Use) -> None:
        hang = hanging(own_valkey, one.store)
        with pytest.raises(StoreError, match="did not answer within"):
            async with one.lease(name):
                hang.__enter__()
        hang.__exit__(None, None, None)
        async with one.lease(name, patience=5.0) as leased:
            assert leased

    play(own_valkey, use, scene, timeout=0.5)


def test_no_stale_answers(valkey: ValkeyServer, name: str) -> None:
    """A question that was cancelled leaves its answer to nobody: the next one on an asyncio client gets its own."""

    async def scene(one: Use) -> None:
        both = {f"{name}a": entry("a"), f"{name}b": entry("b")}
        for each, what in both.items():
            assert await one.save(each, what)
        for number in range(200):
            first, second = sorted(both, reverse=number % 2 == 0)
            task = asyncio.ensure_future(one.load(first))
            for _ in range(number % 8):  # so many turns of the loop: it is cancelled in another place each time
                await asyncio.sleep(0)
            if number % 3 == 0:
                await asyncio.sleep(0.0002)
            task.cancel()
            assert await one.load(second) == both[second]

    play(valkey, "native asyncio", scene)


# Clocks


@pytest.mark.parametrize("use", ["url sync", "url trio", "text sync", "native asyncio"])
@pytest.mark.parametrize("ahead", [-300.0, 300.0, 86_400.4])
def test_clocks_that_differ(
    valkey: ValkeyServer, name: str, use: str, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node whose clock is wrong loads what another has saved as old as it is, and its own as it was, bit for bit."""
    real = time.time

    async def scene(one: Use) -> None:
        now = real()
        saved = entry(issued_at=now, skew=1.5)
        with RedisStore(valkey.url) as right:
            assert right.save(name, saved, replaces=None)
            monkeypatch.setattr(time, "time", lambda: real() + ahead)
            loaded = await one.load(name)
            assert loaded is not None
            assert loaded.issued_at == pytest.approx(now + ahead, abs=0.6)
            assert loaded.issued_at + loaded.skew == pytest.approx(now + 1.5)  # the server's clock is where it was
            mine = entry("at2", issued_at=time.time())
            assert await one.save(name, mine, saved)
            again = await one.load(name)
            assert again is not None
            assert again.issued_at == mine.issued_at
            monkeypatch.undo()
            theirs = right.load(name)
            assert theirs is not None
            assert theirs.issued_at == pytest.approx(real(), abs=10.0)

    play(valkey, use, scene)


def test_when_the_clock_is_set_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference under 2 s is none, one that changes by less stays, a question that took too long tells nothing."""
    with RedisStore("redis://127.0.0.1:1") as store:

        def offset(ahead: float, took: float = 0.0) -> int:
            store._set_clock(1000.0 + ahead - took / 2, 1000.0 + ahead + took / 2, b"1000", b"0")
            return store._offset

        assert [offset(ahead) for ahead in (1.9, 2.1, 3.9, 4.6, -1.9, -7.4, -9.0)] == [0, 2, 2, 5, 0, -7, -7]
        assert offset(300.0, took=2.5) == -7
        store._set_clock(5.0, 5.0, None, None)
        assert store._offset == -7


def test_the_time_is_asked_for_now_and_then(own_valkey: ValkeyServer, name: str) -> None:
    """The first question brings the time along, and so does the first one after a minute; no other does."""
    with RedisStore(own_valkey.url) as store:
        for due, times in ((None, 1), (None, 0), (0.0, 1)):
            store._clock_due = store._clock_due if due is None else due
            own_valkey.forget_calls()
            store.load(name)
            assert own_valkey.calls().get("time", 0) == times
        assert 50.0 < store._clock_due - time.monotonic() <= 60.0


# Secrets


@pytest.mark.parametrize("use", ["url sync", "native asyncio"])
def test_nothing_can_be_read_in_redis(name: str, use: str) -> None:
    """With keys no part of a token is in a key, a value, what waiters are told, or the file that Redis writes."""
    key = "A" * 43 + "="
    canaries = [b"access-canary", b"refresh-canary", b"id-canary", b"session-canary"]
    token = Token("access-canary", refresh_token="refresh-canary", id_token="id-canary")

    async def scene(one: Use) -> None:
        assert await one.save(name, Entry(token, time.time(), 3600.0, session="session-canary"))
        async with one.lease(name):
            found = server.contents() + server.dump()
            assert name.encode() in found
            assert not [canary for canary in canaries if canary in found]
        plain = one.store
        plain._codec = RedisStore("redis://127.0.0.1:1")._codec
        assert await one.save(f"{name}2", Entry(token, time.time(), 3600.0, session="session-canary"))
        assert all(
            canary in server.dump() and canary in server.contents() for canary in canaries
        )  # so it would be seen

    with ValkeyServer() as server:
        play(server, use, scene, keys=[key])


def test_a_password_is_never_told() -> None:
    """Neither a repr nor an error quotes the password of a URL."""
    with ValkeyServer(password="open-sesame") as server:
        with RedisStore(server.url) as store:
            assert store.load("f") is None
            assert repr(store) == f"<RedisStore 127.0.0.1:{server.port} tokenflow:>"
        with RedisStore(server.unix_url, prefix="mine:") as store:
            assert store.load("f") is None
            assert repr(store) == f"<RedisStore {server.socket_path} mine:>"
        wrong = server.url.replace("open-sesame", "guess-canary")
        with RedisStore(wrong) as store, pytest.raises(redis.AuthenticationError) as failure:
            store.load("f")
        server.kill()
        with RedisStore(wrong) as store, pytest.raises(redis.ConnectionError) as refused:
            store.load("f")
    for error in (failure, refused):
        assert "canary" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    "bad",
    [
        {"client": None},
        {"client": 6379},
        {"client": b"redis://h"},
        {"client": "localhost:6379"},
        {"client": "http://:canary@h"},
        {"client": "redis://:canary@h:port/0"},
        {"client": "redis://:canary@h/0?socket_timeout=soon"},
        {"client": redis.Redis},
        {"prefix": None},
        {"prefix": b"t:"},
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"timeout": "1"},
        {"timeout": True},
        {"timeout": None},
        {"keys": ["short"]},
    ],
    ids=str,
)
def test_bad_input(bad: dict[str, Any]) -> None:
    """What cannot work is refused when the store is made, and no password is quoted."""
    with pytest.raises(ConfigurationError) as error:
        RedisStore(**{"client": "redis://127.0.0.1", **bad})
    assert "canary" not in str(error.value)
    assert error.value.__cause__ is None


# Clients


def test_an_asyncio_client_elsewhere(valkey: ValkeyServer, name: str) -> None:
    """An asyncio client in a sync program, or on trio, is a mistake that says what to do instead."""
    store = RedisStore(redis.asyncio.Redis(host="127.0.0.1", port=valkey.port))
    for verb in (lambda: store.load(name), lambda: store.lease(name, 1.0, 1.0).__enter__()):
        with pytest.raises(ConfigurationError, match="give it a URL"):
            verb()
    with pytest.raises(ConfigurationError, match="give it a URL"):
        anyio.run(store.aload, name, backend="trio")


def test_which_client_is_which() -> None:
    """A client is told by what it is, cluster clients too; those of asyncio have no sync side."""
    is_asyncio = {
        redis.Redis(): False,
        redis.Redis.from_url("redis://h"): False,
        redis.sentinel.Sentinel([("h", 1)]).master_for("m"): False,
        redis.asyncio.Redis(): True,
        redis.asyncio.sentinel.Sentinel([("h", 1)]).master_for("m"): True,
        redis.asyncio.RedisCluster(host="h"): True,
    }
    assert {client: RedisStore(client)._is_asyncio for client in is_asyncio} == is_asyncio


def test_a_client_that_was_given_is_not_closed(valkey: ValkeyServer, name: str) -> None:
    """Closing the store closes our own client, which may be used again, and no other."""
    with valkey.client(single_connection_client=True) as client:
        number = client.client_id()
        with RedisStore(client) as store:
            store.load(name)
        assert client.client_id() == number  # the same connection
        store = RedisStore(valkey.url)
        with store:
            number = store._client.client_id()
            assert number in [int(one["id"]) for one in client.client_list()]
        deadline = time.monotonic() + 10.0
        while number in [int(one["id"]) for one in client.client_list()]:
            assert time.monotonic() < deadline, "its connection is still there"
        with store:
            assert store.load(name) is None


def test_a_client_of_valkey_py(valkey: ValkeyServer, name: str) -> None:
    """valkey-py's clients do as well, sync and asyncio."""
    library = pytest.importorskip("valkey")
    with library.Valkey(host="127.0.0.1", port=valkey.port) as client:
        store = RedisStore(client)
        assert store.save(name, entry(), replaces=None)
        with store.lease(name, 40.0, 1.0) as leased:
            assert leased
            with pytest.raises(StoreError), store.lease(name, 40.0, 0.1):
                pass
            client.delete(f"tokenflow:{name}:lease")  # so that it cannot be given back

    async def main() -> None:
        async with library.asyncio.Valkey(host="127.0.0.1", port=valkey.port) as client:
            store = RedisStore(client)
            assert await store.aload(name) == entry()
            async with store.alease(name, 40.0, 1.0) as leased:
                assert leased

    asyncio.run(main())


def test_threads_and_loops_share_a_store(valkey: ValkeyServer, name: str) -> None:
    """One store serves threads, asyncio and trio at once: each of them counts under the lease, and none is lost."""
    with RedisStore(valkey.url, timeout=10.0) as store, valkey.client() as client:

        def count() -> None:
            client.set(name, int(client.get(name) or 0) + 1)

        def by_thread() -> None:
            with store.lease(name, 40.0, 30.0) as leased:
                assert leased
                count()

        async def on_loop() -> None:
            async with store.alease(name, 40.0, 30.0) as leased:
                assert leased
                count()

        with ThreadPoolExecutor(6) as threads:
            jobs = [threads.submit(by_thread) for _ in range(2)]
            jobs += [
                threads.submit(anyio.run, on_loop, backend=backend) for backend in ("asyncio", "trio") for _ in "12"
            ]
            for job in jobs:
                job.result(HANGS_AFTER)
        assert client.get(name) == b"6"


FORKS = """
import os, sys, time
from httpx_tokenflow import Token
from httpx_tokenflow.stores import Entry, RedisStore
store, name = RedisStore(sys.argv[1]), sys.argv[2]
assert store.save(name, Entry(Token("parent"), time.time(), 3600.0), replaces=None)
store._leases._doubts.append(None)  # the parent's business
children = []
for number in range(2):
    pid = os.fork()
    if pid == 0:
        assert store._leases._doubts == []
        for _ in range(50):
            assert store.load(name).token.access_token == "parent"
        with store.lease(name, 40.0, 20.0) as leased:
            assert leased
        os._exit(7)
    children.append(pid)
for _ in range(50):
    assert store.load(name).token.access_token == "parent"
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [7, 7]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork(valkey: ValkeyServer, name: str) -> None:
    """Children of a process that has used the store use it as well, at the same time, on connections of their own."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, valkey.url, name], timeout=HANGS_AFTER, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("side", ["sync", "asyncio", "trio", "native"])
def test_a_cluster(name: str, side: str) -> None:
    """Cluster clients do all of it: each script and each lock is about one key, and news goes round the cluster."""

    async def scene(one: Use, server: ValkeyServer) -> None:
        for number in range(5):  # slots of all kinds
            each = f"{name}{number}"
            assert await one.load(each) is None
            assert await one.save(each, entry())
            assert await one.save(each, entry("at2"), entry())
            assert not await one.save(each, entry("at3"), entry())
            assert await one.load(each) == entry("at2")
            assert await one.delete(each, entry("at2"))
        async with one.lease(name) as leased:
            assert leased
            with pytest.raises(StoreError, match="held it for longer"):
                async with one.lease(name, patience=0.2):
                    pass
        assert not server_client.exists(f"tokenflow:{name}:lease")
        async with one.lease(name, seconds=0.5), one.lease(name) as leased:
            assert leased

    async def main(server: ValkeyServer) -> None:
        if side == "native":
            async with redis.asyncio.RedisCluster(host="127.0.0.1", port=server.port) as client:
                await scene(Use(RedisStore(client), "asyncio"), server)
        else:
            with redis.RedisCluster(host="127.0.0.1", port=server.port) as client:
                await scene(Use(RedisStore(client), side), server)

    with ValkeyServer(cluster=True) as server, server.client() as server_client:
        anyio.run(main, server, backend="trio" if side == "trio" else "asyncio")


def test_the_servers_of_these_tests_end_with_them() -> None:
    """A Valkey whose test process is killed is killed as well."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from valkey_server import ValkeyServer\n"
        "server = ValkeyServer(); server.start(); print(server.pid, server.directory, flush=True)\n"
        f"os.kill(os.getpid(), {signal.SIGKILL})"
    )
    here = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program, here], capture_output=True, text=True, timeout=30, check=False
    )
    pid = int(done.stdout.split()[0])
    deadline = time.monotonic() + 10.0
    while _is_alive(pid):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.01)
    subprocess.run(["rm", "-rf", done.stdout.split()[1]], check=True)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
