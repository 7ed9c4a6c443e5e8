"""One hand on all the clients, sync and async, of httpx and of httpx2: what is done with one is done with each.

A test is a plain function. It opens a client with `Hand.client` and uses it like a sync one; behind an async client
there is an event loop in a thread of its own, asyncio's or trio's. Whatever hangs ends after `LIMIT` seconds.
"""

from __future__ import annotations

import inspect
import ssl
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import httpx
import httpx2

from httpx_tokenflow import RefreshToken, Token, TokenAuth
from httpx_tokenflow.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

LIMIT = 20.0  # seconds after which something hangs
TLS = ssl.create_default_context()  # one for all: most of what a client costs is making it

KEY = "SENTINEL-key"

# trio warns of an async generator that is left in the middle, and httpx leaves its own so when a body is not read to
# its end. `test_pool` has a test of that; elsewhere it is beside the point.
UNFINISHED = "ignore:Async generator:ResourceWarning"

FOUR = {
    "httpx-sync": (httpx, None),
    "httpx-async": (httpx, "asyncio"),
    "httpx2-sync": (httpx2, None),
    "httpx2-async": (httpx2, "asyncio"),
}
SIX = FOUR | {"httpx-trio": (httpx, "trio"), "httpx2-trio": (httpx2, "trio")}


class Hand:
    """One of the clients: which library, sync or on which kind of event loop."""

    def __init__(self, library: ModuleType, backend: str | None, stack: ExitStack) -> None:
        self.library = library
        self.is_async = backend is not None
        self._stack = stack
        self._portal = backend and stack.enter_context(anyio.from_thread.start_blocking_portal(backend))

    def client(self, **options: Any) -> Client:
        """Open a client; it is closed when the test is over."""
        kind = self.library.AsyncClient if self.is_async else self.library.Client
        raw = kind(**{"verify": TLS} | options)
        self._stack.callback(lambda: self.call(raw.aclose if self.is_async else raw.close))
        return Client(self, raw)

    def start(self, function: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        """Begin a call, of a coroutine function if the client is async, and go on at once."""
        if self.is_async:
            return self._portal.start_task_soon(partial(function, *args, **options))
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **options))
            except BaseException as error:  # noqa: BLE001 - it is for the one who waits
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Make a call, and wait for what it returns."""
        return self.wait(self.start(function, *args, **options))

    def wait(self, future: Future[Any]) -> Any:
        """What a call returned or raised."""
        try:
            return future.result(LIMIT)
        except TimeoutError as hung:
            if future.done():
                raise
            future.cancel()
            raise AssertionError(f"hung for {LIMIT:g} s") from hung

    def outcomes(self, futures: Iterable[Future[Any]]) -> list[Any]:
        """What each call returned or raised, as values."""
        found = []
        for future in futures:
            try:
                found.append(self.wait(future))
            except Exception as error:  # noqa: BLE001 - it is what the test looks at
                found.append(error)
        return found

    def either(self, thing: Any, name: str) -> Any:
        """The method of `thing` for this kind of client: `name`, or its async twin."""
        return getattr(thing, f"a{name}" if self.is_async else name)

    def hook(self, function: Callable[[Any], None]) -> Callable[[Any], Any]:
        """`function` as an event hook."""

        async def ahook(thing: Any) -> None:
            function(thing)

        return ahook if self.is_async else function

    def read(self, response: Any) -> bytes:
        """Read a streamed response."""
        return self.call(self.either(response, "read"))

    def transport(self, handler: Callable[[Any], Any]) -> Any:
        """An in-memory transport of this library."""
        return self.library.MockTransport(handler)

    # Bodies

    def generator(self, chunks: Iterable[bytes]) -> Any:
        """A body that can be sent once, and says so."""

        async def agenerate() -> Any:
            for chunk in chunks:
                yield chunk

        return agenerate() if self.is_async else (chunk for chunk in chunks)

    def iterator(self, chunks: Iterable[bytes]) -> Any:
        """A body that can be sent once, and does not say so."""
        return _AsyncIterator(chunks) if self.is_async else iter(chunks)

    def iterable(self, chunks: list[bytes]) -> Any:
        """A body that begins anew each time."""
        return _AsyncIterable(chunks) if self.is_async else _Iterable(chunks)

    def __repr__(self) -> str:
        return f"<Hand {self.library.__name__} {'async' if self.is_async else 'sync'}>"


class Client:
    """A client of any kind, used like a sync one; `raw` is the client itself."""

    def __init__(self, hand: Hand, raw: Any) -> None:
        self.hand = hand
        self.raw = raw

    def request(self, method: str, url: str, **options: Any) -> Any:
        return self.hand.call(self.raw.request, method, url, **options)

    def get(self, url: str, **options: Any) -> Any:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> Any:
        return self.request("POST", url, **options)

    def send(self, request: Any, **options: Any) -> Any:
        return self.hand.call(self.raw.send, request, **options)

    def start(self, method: str, url: str, **options: Any) -> Future[Any]:
        return self.hand.start(self.raw.request, method, url, **options)

    def together(self, number: int, method: str, url: str, **options: Any) -> list[Any]:
        """The same request, `number` times at once; errors as values."""
        return self.hand.outcomes([self.start(method, url, **options) for _ in range(number)])

    @contextmanager
    def stream(self, method: str, url: str, **options: Any) -> Any:
        request = self.raw.build_request(method, url, **options)
        response = self.send(request, stream=True)
        try:
            yield response
        finally:
            self.hand.call(self.hand.either(response, "close"))

    def busy(self) -> list[Any]:
        """The connections of its pool that are in use."""
        connections = self.raw._transport._pool.connections
        return [one for one in connections if not (one.is_idle() or one.is_closed())]


class _Iterable:
    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def __iter__(self) -> Any:
        return iter(self.chunks)


class _AsyncIterable:
    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def __aiter__(self) -> _AsyncIterator:
        return _AsyncIterator(self.chunks)


class _AsyncIterator:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> _AsyncIterator:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


def fresh_sandbox(**options: Any) -> Sandbox:
    """A sandbox whose secrets can be told from everything else."""
    sandbox = Sandbox(**{"clients": {"client": "SENTINEL-secret"}} | options)
    sandbox.api_keys.clear()
    sandbox.api_keys.add(KEY)
    return sandbox


class Stage:
    """An origin on loopback; each test puts its own app on it."""

    url: str

    def __init__(self) -> None:
        self.sandbox = self.app = fresh_sandbox()

    def put(self, sandbox: Any, app: Any = None) -> Any:
        """Play `sandbox` from now on; `app`, if given, stands before it."""
        self.sandbox, self.app = sandbox, app or sandbox
        return sandbox

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def grant(self, kind: Any = RefreshToken, **options: Any) -> Any:
        """A grant at this origin's token endpoint."""
        client_id, secret = next(iter(self.sandbox.clients.items()))
        return kind(
            **{"token_endpoint": f"{self.url}/token", "client_id": client_id, "client_secret": secret} | options
        )

    def auth(self, *, expired: bool = True, **options: Any) -> TokenAuth:
        """Logged in, with a token that looks good; `expired`: only looks, the API refuses it."""
        first = self.sandbox.login(client_id=next(iter(self.sandbox.clients)))
        if expired:
            self.sandbox.expire_access_tokens()
        token = Token(first["access_token"], refresh_token=first["refresh_token"], expires_at=time.time() + 3600)
        tls = {} if "client" in options else {"verify": TLS}
        return TokenAuth(self.grant(), **{"token": token} | tls | options)


class Crowd:
    """Before a sandbox: lets the first `number` requests to its API in together, and keeps no connection open.

    None stays open because httpcore 1.0.9 races over idle connections when threads fill the pool: there plain httpx
    without any auth gets `ReadError: Bad file descriptor` and ReadTimeouts, too.
    """

    def __init__(self, sandbox: Sandbox, number: int) -> None:
        self.sandbox = sandbox
        self.missing = number
        self.complete: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/api") and self.missing:
            self.complete = self.complete or anyio.Event()
            self.missing -= 1
            if not self.missing:
                self.complete.set()
            with anyio.fail_after(LIMIT):
                await self.complete.wait()

        async def closing(message: Any) -> None:
            if message["type"] == "http.response.start" and scope["http_version"] == "1.1":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self.sandbox(scope, receive, closing)


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread is about to do."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {inspect.getsource(condition).strip()}"
        time.sleep(0.001)


def secrets_of(*sandboxes: Sandbox) -> set[str]:
    """Everything that a server knows and nobody else should: tokens, client secrets, keys."""
    found: set[str] = set()
    for sandbox in sandboxes:
        tokens = sandbox._tokens
        found |= tokens._access.keys() | tokens._families.keys() | sandbox.api_keys
        found |= {secret for secret in sandbox.clients.values() if secret}
    return found


def chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it came from."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
