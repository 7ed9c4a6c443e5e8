"""What a store would not take: the only copy of a session is tried again, soon, and before the program closes."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest

from httpx_tokenflow import (
    ClientCredentials,
    Clock,
    RefreshToken,
    RenewalPolicy,
    StoreError,
    Token,
    TokenAuth,
    _drivers,
    events,
)
from httpx_tokenflow._loops import running_loop
from httpx_tokenflow.stores import Entry, MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

API = "https://api.example/orders"


class Disk(MemoryStore):
    """A store that fails in some of its verbs."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: set[str] = set()
        self.asked: Counter[str] = Counter()

    def _check(self, verb: str) -> None:
        self.asked[verb] += 1
        if verb in self.fails:
            raise OSError("no space left on device")

    def load(self, fingerprint: str) -> Entry | None:
        self._check("load")
        return super().load(fingerprint)

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        # A note on a pair that is there already fits where another token does not.
        if not (self.fails == {"new"} and any(held.stamp == entry.stamp for held in self._entries.values())):
            self._check("new" if "new" in self.fails else "save")
        return super().save(fingerprint, entry, replaces=replaces)

    @property
    def held(self) -> Entry:
        (entry,) = self._entries.values()
        return entry


class Process:
    """A program with a session that rotates (or client credentials), its clock in our hands."""

    def __init__(self, kind: str, disk: Disk | None = None) -> None:
        self.now = 1_000_000.0
        self.disk = disk or Disk()
        self.presented: list[str] = []
        self.told: list[events.Event] = []
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now, sleep=self._sleep)
        transport = httpx.MockTransport(self._answer)
        options: dict[str, Any] = {
            "store": self.disk, "policy": RenewalPolicy(clock=clock, random=lambda: 0.0), "on_event": self.told.append,
            "client": httpx.Client(transport=transport),
        }  # fmt: skip
        url = "https://as.example/token"
        if kind == "client":
            self.auth = TokenAuth(ClientCredentials(url, client_id="c", client_secret="s"), **options)
        else:
            first = Token("at-0", refresh_token="rt-0", expires_at=self.now - 1)
            self.auth = TokenAuth(RefreshToken(url, client_id="c", subject="u"), token=first, **options)
        self.client = httpx.Client(transport=transport, auth=self.auth)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=request.headers["Authorization"])
        form = dict(httpx.QueryParams(request.content.decode()))
        self.presented.append(form.get("refresh_token", ""))
        number = len(self.presented)
        tokens = {"access_token": f"at-{number}", "refresh_token": f"rt-{number}", "expires_in": 3600}
        if "refresh_token" not in form:
            del tokens["refresh_token"]
        return httpx.Response(200, json=tokens)

    def get(self) -> str:
        return str(self.client.get(API).json())

    def failures(self) -> list[str]:
        return [event.consequence for event in self.told if isinstance(event, events.StoreFailed)]


def test_it_is_saved_as_soon_as_that_works() -> None:
    """The disk is full when the token is rotated: requests go on, and within seconds after it has room it is saved."""
    process = Process("refresh")
    process.disk.fails = {"new"}
    process.disk._entries[process.auth._source.fingerprint] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    assert process.get() == "Bearer at-1"
    assert "kept in memory" in process.failures()[0]
    process.disk.fails = set()
    process.now += 1.9
    assert process.get() == "Bearer at-1"
    assert process.disk.held.token.access_token == "at-0", "too soon to try again"
    process.now += 0.2
    assert process.get() == "Bearer at-1"
    assert process.disk.held.token.refresh_token == "rt-1"
    before = process.disk.asked.copy()
    process.now += 60.0
    process.get()
    assert process.disk.asked == before, "and then the store is left alone"
    assert process.presented == ["rt-0"]


def test_tries_are_spaced_out() -> None:
    """In an hour of requests and a disk that stays full, the store is asked some sixty times, not at each request."""
    process = Process("refresh")
    process.disk._entries[process.auth._source.fingerprint] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    process.disk.fails = {"new"}
    process.get()
    for _ in range(2600):
        process.now += 1.0
        assert process.get() == "Bearer at-1"
    assert 40 <= process.disk.asked["new"] <= 60
    assert process.presented == ["rt-0"]


def test_it_is_saved_before_the_next_renewal() -> None:
    """The next refresh token is not presented before the store knows of it."""
    process = Process("refresh")
    process.disk._entries[process.auth._source.fingerprint] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    process.disk.fails = {"new"}
    process.get()
    process.now += 3600.0
    with pytest.raises(StoreError):
        process.get()
    assert process.presented == ["rt-0"]
    process.disk.fails = set()
    process.now += 31.0
    assert process.get() == "Bearer at-2"
    assert process.presented == ["rt-0", "rt-1"]
    assert process.disk.held.token.refresh_token == "rt-2"


def test_closing_tries_once_more() -> None:
    """A program that ends leaves the token in the store, if that takes it by then; a restart goes on with it."""
    process = Process("refresh")
    process.disk._entries[process.auth._source.fingerprint] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    process.disk.fails = {"new"}
    process.get()
    process.disk.fails = {"load"}
    process.auth.close()
    assert "in memory alone" in process.failures()[-1]
    process.disk.fails = set()
    process.auth.close()
    assert process.disk.held.token.refresh_token == "rt-1"
    again = Process("refresh", process.disk)
    again.now = process.now
    assert again.get() == "Bearer at-1"


@pytest.mark.asyncio
async def test_aclose_tries_once_more() -> None:
    """The same on an event loop."""
    process = Process("refresh")
    process.disk._entries[process.auth._source.fingerprint] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    process.disk.fails = {"new"}
    process.get()
    process.disk.fails = set()
    await process.auth.aclose()
    assert process.disk.held.token.refresh_token == "rt-1"


def test_what_somebody_else_has_saved_meanwhile_wins() -> None:
    """A login that another process has stored is not overwritten by what was kept in memory."""
    process = Process("refresh")
    name = process.auth._source.fingerprint
    process.disk._entries[name] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    process.disk.fails = {"new"}
    process.get()
    process.disk.fails = set()
    process.disk._entries[name] = Entry(Token("login", refresh_token="rt"), process.now, 3600.0)
    process.now += 6.0
    process.get()
    assert process.get() == "Bearer login"
    assert process.disk.held.token.access_token == "login"
    assert process.auth._source.unsaved is None


def test_client_credentials_ask_a_store_that_has_failed_once_per_renewal() -> None:
    """One failure is enough for a renewal to go on without; its token is shared when the store is back."""
    process = Process("client")
    process.disk.fails = {"load", "save", "new"}
    assert process.get() == "Bearer at-1"
    assert process.disk.asked == {"load": 1}
    assert len(process.failures()) == 1
    assert "no space left" not in repr(process.told), "whatever a store's own error says, it may quote anything"
    process.disk.fails = set()
    process.now += 6.0
    process.get()
    assert process.disk.held.token.access_token == "at-1"


@pytest.mark.asyncio
async def test_a_store_that_hangs_costs_one_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Client credentials go on without a store that does not answer, and ask it nothing more in that renewal."""
    monkeypatch.setattr(_drivers, "STORE_PATIENCE", 0.2)
    asked = []

    class Hangs:
        async def aload(self, fingerprint: str) -> Entry | None:
            asked.append("load")
            await anyio.sleep(600)

        asave = adelete = alease = aload

    process = Process("client")
    store: Any = Hangs()
    auth = TokenAuth(
        ClientCredentials("https://as.example/token", client_id="c", client_secret="s"),
        store=store,
        client=httpx.Client(transport=httpx.MockTransport(process._answer)),
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(process._answer), auth=auth) as client:
        with anyio.fail_after(30):
            assert (await client.get(API)).json() == "Bearer at-1"
    assert asked == ["load"]


@pytest.mark.anyio
async def test_a_thread_gives_a_lease_back_on_the_loop_that_has_kept_it() -> None:
    """A lease that a loop holds on to is given back there when a thread saves the token: it is not left to be found."""
    given_back = anyio.Event()

    class Leased(Disk):
        @asynccontextmanager
        async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncIterator[bool]:
            try:
                yield True
            finally:
                given_back.set()

    process = Process("refresh", Leased())
    process.disk._entries[process.auth._source.fingerprint] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    process.disk.fails = {"new"}
    async with httpx.AsyncClient(transport=process.client._transport, auth=process.auth) as client:
        assert (await client.get(API)).json() == "Bearer at-1"
    assert not given_back.is_set()
    process.disk.fails = set()
    process.now += 3600.0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert await anyio.to_thread.run_sync(process.get) == "Bearer at-2"
        gc.collect()
        with anyio.fail_after(30):
            await given_back.wait()
    assert [one for one in seen if issubclass(one.category, ResourceWarning)] == []


class OnLoops(Disk):
    """A store that notes on which loop a lease was taken and given back; it is no generator, which a loop ends with."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []
        self.given_back: list[Any] = []

    def alease(self, fingerprint: str, seconds: float, patience: float) -> OnLoops:
        return self

    async def __aenter__(self) -> bool:
        self.taken.append(running_loop())
        return True

    async def __aexit__(self, *_: object) -> None:
        self.given_back.append(running_loop())


def kept_on_a_loop() -> tuple[Process, OnLoops]:
    disk = OnLoops()
    process = Process("refresh", disk)
    disk._entries[process.auth._source.fingerprint] = Entry(Token("at-0", refresh_token="rt-0"), 0.0, 1.0)
    disk.fails = {"new"}
    return process, disk


async def aget(process: Process) -> str:
    async with httpx.AsyncClient(transport=process.client._transport, auth=process.auth) as client:
        return str((await client.get(API)).json())


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_another_loop_has_a_lease_given_back_on_the_loop_that_has_kept_it(backend: str) -> None:
    """A lease that a loop holds on to is given back there, too, when another loop saves the token."""
    process, disk = kept_on_a_loop()
    assert await aget(process) == "Bearer at-1"
    disk.fails = set()
    process.now += 3600.0
    assert await anyio.to_thread.run_sync(partial(anyio.run, aget, process, backend=backend)) == "Bearer at-2"
    with anyio.fail_after(30):
        while len(disk.given_back) < len(disk.taken):  # noqa: ASYNC110 - what happens on two loops has no event of one
            await anyio.sleep(0.01)
    assert disk.taken[0] is running_loop()
    assert sorted(disk.given_back, key=id) == sorted(disk.taken, key=id)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("before", ["asyncio", "trio"])
def test_a_lease_of_a_loop_that_is_gone_is_given_back_on_another(before: str, backend: str) -> None:
    """Nobody waits for a lease to end by itself whose loop has ended: the loop that saves the token gives it back."""
    process, disk = kept_on_a_loop()
    assert anyio.run(aget, process, backend=before) == "Bearer at-1"
    disk.fails = set()
    process.now += 3600.0
    assert anyio.run(aget, process, backend=backend) == "Bearer at-2"
    assert len(disk.given_back) == len(disk.taken)


@pytest.mark.anyio
async def test_a_sync_use_on_the_loop_that_has_kept_a_lease() -> None:
    """Whoever blocks the loop that holds on to a lease does not wait for it: it is given back beside that loop."""
    process, disk = kept_on_a_loop()
    assert await aget(process) == "Bearer at-1"
    disk.fails = set()
    process.now += 3600.0
    assert process.get() == "Bearer at-2"
    assert len(disk.given_back) == len(disk.taken) == 1


@pytest.mark.parametrize("is_on_loop", [True, False])
def test_a_lease_of_a_loop_that_stands_still(is_on_loop: bool) -> None:
    """A loop that was stopped, and not closed, gives nothing back: whoever saves the token does, thread or loop."""
    process, disk = kept_on_a_loop()
    with asyncio.Runner() as runner:
        assert runner.run(aget(process)) == "Bearer at-1"
        disk.fails = set()
        process.now += 3600.0
        assert (anyio.run(aget, process) if is_on_loop else process.get()) == "Bearer at-2"
        assert len(disk.given_back) == len(disk.taken)
