"""Bulk: thousands of tenants and users in one process, what each costs, and that none gets another's token."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from httpx_tokenflow import ClientCredentials, ConfigurationError, Token, TokenAuth
from httpx_tokenflow._auth_cache import AuthCache
from httpx_tokenflow._entries import Entry
from httpx_tokenflow.stores import MemoryStore

MANY, FEW = 10_000, 1000
MOST = 2_400  # bytes
API = "https://api.example/orders"
TOKEN_URL = "https://as.example/token"


def answer(request: httpx.Request) -> httpx.Response:
    """A token endpoint whose tokens say whose they are."""
    form = dict(part.split("=") for part in request.read().decode().split("&"))
    return httpx.Response(200, json={"access_token": f"token-of-{form['scope']}", "expires_in": 3600})


def auth_of(key: str, store: MemoryStore, client: httpx.Client) -> TokenAuth:
    grant = ClientCredentials(TOKEN_URL, client_id=key, client_secret=f"secret of {key}", scope=key)
    return TokenAuth(grant, store=store, client=client)


@pytest.fixture
def tokens() -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(answer))


def entry(name: str, age: float = 0.0, **token: Any) -> Entry:
    return Entry(Token(name, **token), time.time() - age, 3600.0)


def test_a_fingerprint_in_a_store_is_small() -> None:
    """10,000 tokens in one `MemoryStore`: less than 1 kB for each, over the token's own bytes."""
    store = MemoryStore()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(MANY):
            store.save(f"{number:064x}", entry(f"{number:032d}"), replaces=None)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / MANY - 32 < 1000


def test_an_idle_auth_is_small(tokens: httpx.Client) -> None:
    """An auth with a fresh token, its source and its entry in a store that all share: so many bytes over the token."""
    store = MemoryStore()
    auths = AuthCache(lambda key: auth_of(key, store, tokens), limit=MANY)
    auths["warm"].set_token(Token("warm"))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(FEW):
            auths[str(number)].set_token(Token(f"{number:032d}", expires_at=time.time() + 3600))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / FEW - 32 < MOST


def test_lookups_do_not_scan(tokens: httpx.Client) -> None:
    """One of 10,000 is found, and its token looked at, in at most three times the time that one of 100 takes."""
    store = MemoryStore()
    caches = {}
    for count in (100, MANY // 4):
        caches[count] = AuthCache(lambda key: auth_of(key, store, tokens), limit=count)
        for number in range(count):
            caches[count][str(number)].set_token(Token(f"token-of-{number}", expires_at=time.time() + 3600))

    def seconds(count: int) -> float:
        asked = [str(number % count) for number in random.sample(range(MANY), 200)]
        request = httpx.Request("GET", API)
        for key in asked:
            next(caches[count][key].sync_auth_flow(request))
            del request.headers["Authorization"]
        began = time.process_time()
        for key in asked:
            next(caches[count][key].sync_auth_flow(request))
            del request.headers["Authorization"]
        return time.process_time() - began

    assert min(seconds(MANY // 4) for _ in range(5)) <= 3 * min(seconds(100) for _ in range(5))


@pytest.mark.parametrize("driver", ["threads", "tasks"])
def test_nobody_gets_anothers_token(driver: str, tokens: httpx.Client) -> None:
    """Threads and tasks ask for keys at random, from a cache and a store that forget all the time: nothing is mixed."""
    store = MemoryStore(limit=30)
    auths = AuthCache(lambda key: auth_of(key, store, tokens), limit=20)
    dice = random.Random(7)
    keys = [f"tenant{dice.randrange(60)}" for _ in range(600)]

    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.headers["Authorization"])

    if driver == "threads":
        with httpx.Client(transport=httpx.MockTransport(echo)) as client, ThreadPoolExecutor(16) as pool:
            got = list(pool.map(lambda key: client.get(API, auth=auths[key]).text, keys))
    else:

        async def main() -> list[str]:
            async with httpx.AsyncClient(transport=httpx.MockTransport(echo)) as client:
                responses = await asyncio.gather(*(client.get(API, auth=auths[key]) for key in keys))
                return [response.text for response in responses]

        got = asyncio.run(main())
    assert got == [f"Bearer token-of-{key}" for key in keys]
    assert len(auths) == 20


def test_a_cache_lets_go_of_what_was_used_least_recently(tokens: httpx.Client) -> None:
    """Beyond the limit the one that nobody has asked for since goes, and is really gone."""
    auths = AuthCache(lambda key: auth_of(key, MemoryStore(), tokens), limit=2)
    one = weakref.ref(auths["one"])
    two = weakref.ref(auths["two"])
    assert auths["one"] is one()
    auths["three"].token()
    gc.collect()
    assert (two(), len(auths)) == (None, 2)
    assert "one" in auths
    assert "two" not in auths


def test_one_auth_for_each_key_even_when_many_ask_at_once(tokens: httpx.Client) -> None:
    """Twenty threads ask for one key while it is made: it is made once; another key does not wait for that."""
    gate, made = threading.Event(), []

    def make(key: str) -> TokenAuth:
        made.append(key)
        if key == "slow":
            assert gate.wait(20)
        return auth_of(key, MemoryStore(), tokens)

    auths = AuthCache(make, limit=10)
    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(lambda: auths["slow"]) for _ in range(19)]
        assert pool.submit(lambda: auths["quick"]).result(20) is auths["quick"]
        gate.set()
        found = {id(each.result(20)) for each in asking}
    assert len(found) == 1
    assert sorted(made) == ["quick", "slow"]


def test_a_make_that_raises_leaves_nothing_behind(tokens: httpx.Client) -> None:
    """Its error is the caller's, and the next one to ask has it called again."""
    answers = [LookupError("no such tenant"), None]

    def make(key: str) -> TokenAuth:
        if (error := answers.pop(0)) is not None:
            raise error
        return auth_of(key, MemoryStore(), tokens)

    auths = AuthCache(make, limit=10)
    with pytest.raises(LookupError, match="no such tenant"):
        auths["acme"]
    assert len(auths) == 0
    assert auths["acme"] is auths["acme"]


def test_what_is_discarded_while_it_is_made_is_not_kept(tokens: httpx.Client) -> None:
    """Somebody logs out while their auth is made: who asked gets it, and nobody after them."""

    def make(key: str) -> TokenAuth:
        auths.discard(key)
        return auth_of(key, MemoryStore(), tokens)

    auths: AuthCache[str] = AuthCache(make, limit=10)
    assert isinstance(auths["alice"], TokenAuth)
    assert "alice" not in auths


def test_a_make_that_asks_for_its_own_key() -> None:
    """It would wait for itself: that is an error that says so."""
    auths: AuthCache[str] = AuthCache(lambda key: auths[key], limit=10)
    with pytest.raises(ConfigurationError, match="the very key"):
        auths["acme"]


def test_bad_caches() -> None:
    """What cannot work is refused at once, and an async function when it is called."""
    for limit in (0, -1, True, 1.5, None):
        with pytest.raises(ConfigurationError, match="limit"):
            AuthCache(lambda _: None, limit=limit)
        if limit is not None:
            with pytest.raises(ConfigurationError, match="limit"):
                MemoryStore(limit)
    with pytest.raises(ConfigurationError, match="function"):
        AuthCache(None, limit=1)

    async def make(_: str) -> None: ...

    with pytest.raises(ConfigurationError, match="async"):
        AuthCache(make, limit=1)["acme"]


def test_the_flight_of_an_auth_that_was_let_go_lands(tokens: httpx.Client) -> None:
    """The cache forgets an auth whose renewal is in the air: it lands, and its token is in the store."""
    gate, reached = threading.Event(), threading.Event()

    def asking(auths: AuthCache[str]) -> Token:
        return auths["one"].token()  # and nobody else has it

    def slow(request: httpx.Request) -> httpx.Response:
        reached.set()
        assert gate.wait(20)
        return answer(request)

    store = MemoryStore()
    with httpx.Client(transport=httpx.MockTransport(slow)) as client, ThreadPoolExecutor(1) as pool:
        auths = AuthCache(lambda key: auth_of(key, store, client), limit=1)
        token = pool.submit(asking, auths)
        assert reached.wait(20)
        auths["two"]
        assert "one" not in auths
        gate.set()
        assert token.result(20).access_token == "token-of-one"
    assert [one.token.access_token for one in store._entries.values()] == ["token-of-one"]
    assert auth_of("one", store, httpx.Client(transport=httpx.MockTransport(lambda _: 1 / 0))).token()


def test_closing_a_cache(tokens: httpx.Client) -> None:
    """`with` and `async with` close what it has and let it go; a later use makes it anew."""
    auths = AuthCache(lambda key: auth_of(key, MemoryStore(), tokens), limit=10)
    with auths as same:
        first = same["one"]

    async def main() -> None:
        async with auths:
            assert auths["one"] is not first

    asyncio.run(main())
    assert len(auths) == 0
    auths["one"]
    auths.clear()
    assert len(auths) == 0


def test_a_store_with_a_limit() -> None:
    """What was loaded or saved least recently goes, and before it what has ended near it, but no session."""
    store = MemoryStore(limit=3)
    for name in "abc":
        store.save(name, entry(name), replaces=None)
    store.load("a")
    store.save("d", entry("d"), replaces=None)
    assert [store.load(name) is not None for name in "abcd"] == [True, False, True, True]
    store = MemoryStore(limit=3)
    store.save("session", entry("s", age=7200, refresh_token="r"), replaces=None)
    store.save("young", entry("y"), replaces=None)
    store.save("over", entry("o", age=7200), replaces=None)
    store.save("new", entry("n"), replaces=None)
    assert [store.load(name) is not None for name in ("session", "young", "over", "new")] == [True, True, False, True]
