"""Upstreams: the clients and auths of a service, opened with it and closed with it.

Rules.

1. What is open belongs to one run of one app's lifespan, on one event loop; it is kept here, under both, until that run
   ends. Not in the app's state, which a mounted app has not, nor in that of the lifespan, which some servers have not.
2. A service that cannot work does not start: whatever will not pass by itself is an error, and it names all upstreams
   that have such, not the first alone. An outage is a warning: a fleet that restarts while an authorization server is
   down has to come up, and go on by itself afterwards.
3. Getting the tokens takes a bounded time, all at once. A renewal that is late goes on by itself.
4. Whatever has been opened is closed, even where the start failed half way, something is cancelled, or the closing of
   another fails, which is a warning: auths first, since a renewal in the air may need one of the clients.
5. What a server sets for one caller goes with no other's request: a client that is opened here keeps no cookies, but
   where the program says that they are its own.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio

from httpx_tokenflow import ConfigurationError, TokenFlowError
from httpx_tokenflow._auth import CredentialAuth
from httpx_tokenflow._extras import need_extra
from httpx_tokenflow._libraries import library_of
from httpx_tokenflow._loops import running_loop

from ._cookies import keep_no_cookies

with need_extra("fastapi", "httpx_tokenflow.fastapi"):
    from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

__all__ = ["Upstreams"]

logger = logging.getLogger("httpx_tokenflow")

CLOSING = 10.0  # seconds for each thing: an auth waits 5 s for a renewal


class Upstreams:
    """The clients and auths by which a service calls others: opened, warmed and closed with it, given out by name.

        def billing() -> httpx.AsyncClient:
            return httpx.AsyncClient(base_url="https://billing.example.com", auth=TokenAuth(…))

        upstreams = Upstreams(clients={"billing": billing}, auths={"queue": TokenAuth(…)})
        app = FastAPI(lifespan=upstreams.lifespan)
        Billing = Annotated[httpx.AsyncClient, Depends(upstreams.client("billing"))]

        @app.get("/invoices")
        async def invoices(billing: Billing) -> Any:
            return (await billing.get("/invoices")).raise_for_status().json()

    With a lifespan of one's own:

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            async with upstreams.lifespan(app), database():
                yield

    In a test: ``app.dependency_overrides[upstreams.client("billing")] = lambda: fake``. With plain Starlette:
    ``billing = await upstreams.client("billing")(request)``.

    Args:
        clients: name -> a function that makes an ``AsyncClient`` of httpx or httpx2, a new one each time.
        auths: name -> an auth that is used without such a client. No name of `clients` again.
        patience: seconds for which the start waits for tokens at most. Default 10.
        cookies: names of the clients that keep the cookies which their upstream sets. Default: none does, since all
            callers share a client, and a session cookie makes each of them whoever came first. It is a choice by name,
            for an upstream that is never called on behalf of anybody (one that needs a session of the service's own,
            or a load balancer that pins by cookie). Cookies that a client is made with are sent, unless a server has
            deleted them.

    Raises:
        ConfigurationError: an argument is none, or a name stands for two things.
    """

    def __init__(
        self,
        clients: Mapping[str, Callable[[], Any]] | None = None,
        auths: Mapping[str, CredentialAuth] | None = None,
        *,
        patience: float = 10.0,
        cookies: Iterable[str] = (),
    ) -> None:
        for given in (clients, auths):
            if given is not None and not isinstance(given, Mapping):
                raise ConfigurationError("clients= and auths= must be mappings: a name for each")
        seconds: Any = patience
        # "not … >= 0", since NaN is no number of seconds either
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise ConfigurationError("patience= must be seconds, 0 or more")
        self._makers, self._auths = dict(clients or {}), dict(auths or {})
        self._patience = patience
        if twice := sorted(self._makers.keys() & self._auths.keys()):
            raise ConfigurationError(f"{', '.join(twice)}: an auth of the same name as a client; upstreams.auth() of a "
                                     "client's name gives that client's own")  # fmt: skip
        self._with_cookies = frozenset((cookies,) if isinstance(cookies, str) else cookies)
        if unknown := sorted(self._with_cookies - self._makers.keys()):
            raise ConfigurationError(f"cookies= names {', '.join(unknown)}; {_listed(self._makers)}")
        for name, make in self._makers.items():
            if not callable(make):
                raise ConfigurationError(f"client {name!r} must be a function that makes it: lambda: AsyncClient(…)")
        for name, auth in self._auths.items():
            if not isinstance(auth, CredentialAuth):
                raise ConfigurationError(f"auth {name!r} must be an auth of httpx_tokenflow, such as TokenAuth")
        self._given: dict[tuple[str, str], Callable[[HTTPConnection], Awaitable[Any]]] = {}  # dependencies
        self._runs: dict[Any, list[_Run]] = {}  # event loop -> what is open there

    def __repr__(self) -> str:
        return f"<Upstreams {', '.join(self.names)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """All there are: clients, then auths."""
        return (*self._makers, *self._auths)

    def client(self, name: str) -> Callable[[HTTPConnection], Awaitable[Any]]:
        """The dependency that gives the client `name`: the same one each time, to be overridden in tests.

        Raises:
            ConfigurationError: there is none of that name; and, as an answer to a request, the lifespan has not begun.
        """
        if name not in self._makers:
            raise ConfigurationError(f"no client {name!r} among the upstreams: {_listed(self._makers)}")
        return self._giving("clients", name)

    def auth(self, name: str) -> Callable[[HTTPConnection], Awaitable[Any]]:
        """The dependency that gives the auth `name`, or that of the client `name`: the same one each time.

        Raises:
            ConfigurationError: there is none of that name; when the lifespan begins, that client has no auth of ours;
                and, as an answer to a request, the lifespan has not begun.
        """
        if name not in self.names:
            raise ConfigurationError(f"no auth {name!r} among the upstreams: {_listed(self.names)}")
        return self._giving("auths", name)

    def _giving(self, what: Literal["clients", "auths"], name: str) -> Callable[[HTTPConnection], Awaitable[Any]]:
        async def give(connection: HTTPConnection) -> Any:
            return getattr(self.opened(connection), what)[name]

        return self._given.setdefault((what, name), give)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Open the clients and get the tokens; close all of it at the end.

        Raises:
            ConfigurationError: an upstream cannot work; the message names all of them and says why, the cause has the
                errors themselves.
        """
        run = _Run(app)
        try:
            wrong = await self._open(run)
            self._refuse(wrong | await self._warm(run))
            runs = self._runs.setdefault(running_loop(), [])
            runs.append(run)
            try:
                yield
            finally:
                runs.remove(run)
                if not runs:
                    self._runs.pop(running_loop(), None)
        finally:
            await run.aclose()

    def opened(self, connection: HTTPConnection) -> _Run:
        """What is open for the app of `connection`; or all there is on its loop, where that app is a mounted one."""
        runs = self._runs.get(running_loop(), [])
        app = connection.scope.get("app")
        own = [run for run in runs if run.app is app]
        found = own or runs
        if not found:
            raise ConfigurationError(
                "the upstreams are not open: FastAPI(lifespan=upstreams.lifespan), or async with "
                "upstreams.lifespan(app) in a lifespan of your own; in a test: with TestClient(app)"
            )
        if not own and len(found) > 1:
            raise ConfigurationError(
                "the upstreams are open for several apps, and this is none of them: mount it in one"
            )
        return found[-1]

    async def _open(self, run: _Run) -> dict[str, Exception]:
        """Open all clients; what kept one from it."""
        wrong: dict[str, Exception] = {}
        run.auths.update(self._auths)
        for name, make in self._makers.items():
            try:
                client = run.clients[name] = _checked(make())
                if name not in self._with_cookies:
                    keep_no_cookies(client)
                run.closers[name] = client.aclose
                await _enter(client)
                run.closers[name] = partial(client.__aexit__, None, None, None)
                if isinstance(client.auth, CredentialAuth) or ("auths", name) in self._given:
                    run.auths[name] = _auth_of(client)
            except Exception as error:  # noqa: BLE001 - all of them are named, whatever they are
                wrong[name] = error
        return wrong

    async def _warm(self, run: _Run) -> dict[str, Exception]:
        """Get all tokens (rules 2 and 3); what will not pass by itself."""
        wrong: dict[str, Exception] = {}

        async def warm(name: str, auth: Any) -> None:
            has_token = False
            with anyio.move_on_after(self._patience):
                try:
                    has_token = await auth.awarm()
                except Exception as error:  # noqa: BLE001 - as above
                    wrong[name] = error
                    return
            if not has_token:
                run.cold.add(name)
                logger.warning("upstream %s: no token yet; requests will try again", name)

        async with anyio.create_task_group() as tasks:
            for name, auth in run.auths.items():
                if hasattr(auth, "awarm"):
                    tasks.start_soon(warm, name, auth)
        return wrong

    def _refuse(self, wrong: Mapping[str, Exception]) -> None:
        """Name all that cannot work."""
        names = [name for name in self.names if name in wrong]
        if names:
            told = "; ".join(f"{name!r}: {_said(wrong[name])}" for name in names)
            errors = [wrong[name] for name in names]
            cause = errors[0] if len(errors) == 1 else ExceptionGroup("upstreams that cannot work", errors)
            raise ConfigurationError(f"upstreams that cannot work: {told}") from cause


class _Run:
    """What is open from the beginning of a lifespan to its end."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.clients: dict[str, Any] = {}
        self.auths: dict[str, Any] = {}
        self.cold: set[str] = set()  # whose tokens the start could not get
        self.closers: dict[str, Callable[[], Awaitable[None]]] = {}

    async def aclose(self) -> None:
        """Close everything (rule 4)."""
        try:
            await _close_all({name: auth.aclose for name, auth in self.auths.items() if hasattr(auth, "aclose")})
        finally:
            await _close_all(self.closers)


async def _close_all(closers: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """Call all of them, at once; nothing that happens to one, or to whoever waits, keeps another from it."""

    async def close(name: str, closer: Callable[[], Awaitable[None]]) -> None:
        with anyio.move_on_after(CLOSING, shield=True) as scope:
            try:
                await closer()
            except Exception as error:  # noqa: BLE001 - there is nobody left who could do anything about it
                logger.warning("upstream %s: closing it failed (%s)", name, type(error).__name__)
        if scope.cancelled_caught:
            logger.warning("upstream %s: closing it took too long", name)

    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            for name, closer in closers.items():
                tasks.start_soon(close, name, closer)


def _checked(client: Any) -> Any:
    if inspect.iscoroutine(client):
        client.close()
    try:
        is_client = isinstance(client, library_of(client).AsyncClient)
    except ConfigurationError:
        is_client = False
    if not is_client:
        raise ConfigurationError(
            f"its function must return an AsyncClient of httpx or httpx2, and not be async; not {type(client).__name__}"
        )
    return client


def _auth_of(client: Any) -> CredentialAuth:
    if not isinstance(client.auth, CredentialAuth):
        raise ConfigurationError("it has no auth of httpx_tokenflow to give out: AsyncClient(auth=…)")
    return client.auth


async def _enter(client: Any) -> None:
    try:
        await client.__aenter__()
    except RuntimeError as error:  # of the library: it has been opened, or closed, before
        raise ConfigurationError("its function must make a new client each time: this one has been in use") from error


def _said(error: Exception) -> str:
    """An error in words: ours have no secrets in them, others may."""
    return f"{type(error).__name__}: {error}" if isinstance(error, TokenFlowError) else type(error).__name__


def _listed(names: Iterable[str]) -> str:
    return "there are " + (", ".join(map(repr, names)) or "none")
