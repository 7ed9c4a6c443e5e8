"""What these tests share: a sandbox with an auth on it, clocks that stand still, gates, and requests made at once.

Rules.

1. Nothing waits blindly. `until` and `auntil` wait for a state that can be named; a `Gate` holds an answer until it is
   opened, so that "while the renewal is in the air" lasts as long as the test wants.
2. Nothing waits for ever. Each test runs in a thread that is given up in the end (`conftest`), each event loop within
   `PATIENCE`, each thread's result is asked for within `PATIENCE`.
3. A property is one test, parametrised over the drivers that can have it.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import anyio
import httpx
import pytest

from httpx_tokenflow import ClientCredentials, RefreshToken, RenewalPolicy, Token, TokenAuth
from httpx_tokenflow._loops import call_soon, running_loop
from httpx_tokenflow._times import Clock
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

ORIGIN = "https://sandbox.example"
LIFETIME = 3600.0
PATIENCE = 30.0  # seconds; a loaded machine is slow, and this only guards against a hang
STORM_PATIENCE = 50.0  # for thousands of tasks on a busy machine

LOOPS = [
    "asyncio",
    pytest.param(
        "uvloop", marks=pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
    ),
    "trio",
]
DRIVERS = [*LOOPS, "threads"]
KINDS = ["client", "refresh"]


def run(backend: str, function: Callable[..., Awaitable[Any]], *args: Any, within: float = PATIENCE) -> Any:
    """`function` on an event loop of its own, in this thread."""

    async def bounded() -> Any:
        with anyio.fail_after(within):
            return await function(*args)

    uvloop = {"use_uvloop": True} if backend == "uvloop" else {}
    return anyio.run(bounded, backend="trio" if backend == "trio" else "asyncio", backend_options=uvloop)


def until(condition: Callable[[], object]) -> None:
    """Wait, in a thread, until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for does not come"
        time.sleep(0.001)


async def auntil(condition: Callable[[], object]) -> None:
    """As `until`, on an event loop; `run` bounds it."""
    while not condition():  # noqa: ASYNC110 - the state of another thread, or of a flight, sets no event
        await anyio.sleep(0.001)


def start(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """`function` in a thread of its own; whatever it raises is in the future."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:  # noqa: BLE001 - for whoever asks the future
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


@contextmanager
def meanwhile(function: Callable[[], Any]) -> Iterator[None]:
    """Have `function` done in another thread while the block runs; what it raises is raised at the end."""
    future = start(function)
    yield
    future.result(PATIENCE)


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = 1_000_000.0

    def __call__(self) -> float:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += seconds


class Gate(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport in front of another: a request is processed at once, and its answer held while the gate is shut.

    `reached` counts the requests that came. `instead` is asked first: it may answer, or raise, in the server's place.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.reached = 0
        self.instead: Callable[[httpx.Request], httpx.Response | None] | None = None
        self._lock = threading.Lock()
        self._opened: Future[None] = Future()
        self.open()

    def shut(self) -> None:
        """Hold the answers from now on."""
        self._opened = Future()

    def open(self) -> None:
        """Let out what is held, and whatever comes."""
        if not self._opened.done():
            self._opened.set_result(None)

    def _count(self) -> None:
        with self._lock:
            self.reached += 1

    def _in_its_place(self, request: httpx.Request) -> httpx.Response | BaseException | None:
        try:
            return None if self.instead is None else self.instead(request)
        except BaseException as error:  # noqa: BLE001 - held, and raised when the gate opens
            return error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        opened = self._opened
        response = self._in_its_place(request)
        if response is None:
            response = self.inner.handle_request(request)
        self._count()
        opened.result(PATIENCE)
        return _given(response)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        opened = self._opened
        response = self._in_its_place(request)
        if response is None:
            response = await self.inner.handle_async_request(request)
        self._count()
        if not opened.done():
            event, loop = anyio.Event(), running_loop()
            opened.add_done_callback(lambda _: call_soon(loop, event.set))
            await event.wait()
        return _given(response)


def _given(response: httpx.Response | BaseException) -> httpx.Response:
    if isinstance(response, BaseException):
        raise response
    return response


class Window:
    """A store seen by another process: the same entries, an object of its own."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Stage:
    """A sandbox in memory, and what it takes to use it from one kind of driver.

    Args:
        kind: ``"client"`` for client credentials, ``"refresh"`` for a refresh token that rotates.
        driver: where it is used: an event loop's name, ``"threads"``, or ``"anywhere"`` for both.
        need: why a renewal is needed: ``"nothing"`` is held yet, what is held ``"expired"`` or will be ``"refused"``
            by the API; None: it is good.
        policy: numbers for the RenewalPolicy.
        sandbox: options of the Sandbox.
    """

    def __init__(
        self,
        kind: str = "client",
        driver: str = "asyncio",
        need: str | None = "nothing",
        *,
        policy: dict[str, Any] | None = None,
        store: Any = None,
        secret: Any = "secret",
        **sandbox: Any,
    ) -> None:
        self.kind, self.driver = kind, driver
        self.hands = Hands()
        self.sandbox = Sandbox(clock=self.hands, lifetime=LIFETIME, **sandbox)
        self.token_url, self.api_url = f"{ORIGIN}/token", f"{ORIGIN}/api/thing"
        self.gate = Gate(self.sandbox.transport())
        self.store = MemoryStore() if store is None else store
        self.policy = RenewalPolicy(clock=Clock(monotonic=self.hands, wall=self.hands), **(policy or {}))
        self.secret = secret
        self.first = self.login(LIFETIME if need else None)
        self.auth = self.make_auth()
        if need != "nothing":
            self.auth.set_token(self.first)
        if need == "expired":
            self.hands.move(LIFETIME)
        elif need == "refused":
            self.sandbox.revoke_access_tokens()

    def login(self, lives: float | None = LIFETIME) -> Token:
        """What an interactive login brings."""
        answer = self.sandbox.login()
        refresh_token = answer["refresh_token"] if self.kind == "refresh" else None
        expires_at = self.hands() + (LIFETIME if lives is None else lives)
        return Token(answer["access_token"], expires_at=expires_at, refresh_token=refresh_token)

    def grant(self, **options: Any) -> Any:
        """The grant of this stage's kind."""
        kind = ClientCredentials if self.kind == "client" else RefreshToken
        given = {"client_id": "client", "client_secret": self.secret} | options
        if self.kind == "refresh":
            given = {"subject": "user"} | given
        return kind(self.token_url, **given)

    def make_auth(self, **options: Any) -> TokenAuth:
        """Another auth object: the same grant, the same store, the same token to begin with."""
        token = None
        if self.kind == "refresh":  # a token that is due, so that it has to be renewed first
            token = Token(self.first.access_token, expires_at=self.hands(), refresh_token=self.first.refresh_token)
        given = {"token": token, "store": self.store, "policy": self.policy, "client": self.token_client()} | options
        return TokenAuth(given.pop("grant", None) or self.grant(), **given)

    def token_client(self) -> Any:
        """What goes into `client=`: sync if threads use it as well."""
        sync = self.driver in {"threads", "anywhere"}
        return (httpx.Client if sync else httpx.AsyncClient)(transport=self.gate)

    def client(self, auth: Any = None, *, driver: str | None = None, transport: Any = None) -> Any:
        """A client for the API, with an auth."""
        kind = httpx.Client if (driver or self.driver) == "threads" else httpx.AsyncClient
        return kind(transport=transport or self.sandbox.transport(), auth=auth or self.auth)

    def at_once(
        self, number: int, clients: Sequence[Any] | None = None, *, auths: Sequence[Any] = (), within: float = PATIENCE
    ) -> list[Any]:
        """What so many callers at once get, dealt out over the clients: statuses and exceptions."""
        clients = clients or [self.client(auth) for auth in auths or [self.auth]]
        return at_once(self.driver, [clients[i % len(clients)] for i in range(number)], self.api_url, within=within)

    @property
    def flight(self) -> Any:
        return self.auth._source._flight

    def waiting(self) -> int:
        """How many wait for the flight that is in the air; the thread that flies one is not among them."""
        return 0 if self.flight is None else self.flight.waiting

    @contextmanager
    def held_until(self, waiting: int) -> Iterator[None]:
        """Hold the token endpoint's answer until so many wait for it."""
        self.gate.shut()

        def conduct() -> None:
            try:
                until(lambda: self.waiting() >= waiting)
            finally:
                self.gate.open()

        with meanwhile(conduct):
            yield

    @property
    def stored(self) -> Any:
        """What the store holds for this auth."""
        return self.store.load(self.auth._source.fingerprint)

    def presented(self) -> Counter[str]:
        """How often each refresh token came to the token endpoint."""
        bodies = [parse_qs(seen.body.decode()) for seen in self.sandbox.seen if seen.path == "/token"]
        return Counter(body["refresh_token"][0] for body in bodies if "refresh_token" in body)

    def check_session(self) -> None:
        """The login has survived, and no mark was left behind."""
        assert self.sandbox.families_revoked == 0
        if self.kind == "refresh":
            assert self.sandbox.is_alive(self.first.refresh_token)
            assert self.stored.presented == 0
            assert max(self.presented().values(), default=0) <= 1


def at_once(
    driver: str, clients: Sequence[Any], url: str, *, within: float = PATIENCE, close: bool = False
) -> list[Any]:
    """What each of these clients gets for a GET, all sent at once: statuses and exceptions.

    `close` the clients in the end, on the loop that used them: those that have connections want that.
    """
    answers: list[Any] = [None] * len(clients)
    if driver == "threads":
        together = threading.Barrier(len(clients))

        def one(i: int) -> None:
            together.wait(within)
            answers[i] = sent(clients[i], url)

        for future in [start(one, i) for i in range(len(clients))]:
            future.result(within)
        for client in set(clients) if close else ():
            client.close()
        return answers

    async def on_a_loop() -> None:
        async def one(i: int) -> None:
            answers[i] = await asent(clients[i], url)

        async with anyio.create_task_group() as tasks:
            for i in range(len(clients)):
                tasks.start_soon(one, i)
        for client in set(clients) if close else ():
            await client.aclose()

    run(driver, on_a_loop, within=within)
    return answers


def sent(client: Any, url: str) -> Any:
    """The status that a GET gets, or the exception."""
    try:
        return client.get(url).status_code
    except Exception as error:  # noqa: BLE001 - an outcome to judge
        return error


async def asent(client: Any, url: str) -> Any:
    """As `sent`."""
    try:
        return (await client.get(url)).status_code
    except Exception as error:  # noqa: BLE001 - an outcome to judge
        return error
