"""Upstreams: what is opened is warmed and closed, whatever happens; and given out by name."""

# No `from __future__ import annotations`: FastAPI reads those of routes, which name what is local to a test.

import asyncio
import inspect
import logging
import threading
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import httpx
import httpx2
import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from upstreams_rig import SECRET, World, behind

from httpx_tokenflow import BearerAuth, ConfigurationError, TokenAuth
from httpx_tokenflow.fastapi import Upstreams

WRONG = httpx.Response(401, json={"error": "invalid_client"})


def down(_: Any = None) -> httpx.ConnectError:
    return httpx.ConnectError("nobody at home")


class Made:
    """Makes clients, and keeps them to be looked at."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world, self.options = world, options
        self.clients: list[httpx.AsyncClient] = []

    def __call__(self) -> httpx.AsyncClient:
        auth = self.options.get("auth", None) or self.world.auth()
        self.clients.append(self.world.client(**{"auth": auth, **self.options}))
        return self.clients[-1]

    @property
    def all_closed(self) -> bool:
        return bool(self.clients) and all(client.is_closed for client in self.clients)


def service(upstreams: Upstreams) -> FastAPI:
    app = FastAPI(lifespan=upstreams.lifespan)

    @app.get("/")
    async def root(billing: Annotated[httpx.AsyncClient, Depends(upstreams.client("billing"))]) -> Any:
        return (await billing.get("/invoices")).json()

    return app


def test_a_service_calls_its_upstream() -> None:
    """The client that a route is given is open and has a token from the start; at the end it is closed."""
    world = World()
    billing = Made(world)
    with TestClient(service(Upstreams({"billing": billing}))) as service_client:
        assert len(world.requests) == 1
        assert service_client.get("/").json() == {"token": "for.service.1"}
        assert not billing.all_closed
    assert len(world.requests) == 1
    assert billing.all_closed


def test_one_lifespan_twice() -> None:
    """The same app runs again, with clients of its own each time."""
    billing = Made(World())
    app = service(Upstreams({"billing": billing}))
    for run in (1, 2):
        with TestClient(app) as service_client:
            assert service_client.get("/").status_code == 200
            assert len(billing.clients) == run
        assert billing.all_closed


def test_two_apps_on_two_loops() -> None:
    """Two apps, and one app on two loops at once, each have their own clients, on the loop they are used on."""
    billing = Made(World())
    upstreams = Upstreams({"billing": billing})
    app = service(upstreams)
    with TestClient(app) as one, TestClient(app) as two, TestClient(service(upstreams)) as three:
        for _ in range(2):
            tokens = [client.get("/").json()["token"] for client in (one, two, three)]
            assert tokens == ["for.service.1", "for.service.2", "for.service.3"]  # each client has its own
    assert billing.all_closed
    assert upstreams._runs == {}


@pytest.mark.asyncio
async def test_two_apps_on_one_loop_have_their_own() -> None:
    """Each of two apps on one loop gives its own client; and one that is in nobody's lifespan says so."""
    billing = Made(World())
    upstreams = Upstreams({"billing": billing})

    async def which(app: Any) -> Any:
        return await upstreams.client("billing")(httpx_connection(app))

    one, two = FastAPI(), FastAPI()
    async with upstreams.lifespan(one), upstreams.lifespan(two):
        assert await which(one) is billing.clients[0]
        assert await which(two) is billing.clients[1]
        with pytest.raises(ConfigurationError, match="this is none of them"):
            await which(FastAPI())


def httpx_connection(app: Any) -> Any:
    from starlette.requests import HTTPConnection

    return HTTPConnection({"type": "http", "app": app})


@pytest.mark.asyncio
async def test_a_mounted_app_has_what_the_one_above_has_opened() -> None:
    """An app that is mounted, whose lifespan nobody runs, is given what is open."""
    upstreams = Upstreams({"billing": Made(World())})
    above = FastAPI()
    above.mount("/below", service(upstreams))
    async with upstreams.lifespan(above), behind(above) as client:
        assert (await client.get("/below/")).status_code == 200


@pytest.mark.asyncio
async def test_plain_starlette_and_httpx2() -> None:
    """It works with Starlette's own routes, and with a client of httpx2."""
    world = World()

    def make() -> httpx2.AsyncClient:
        async def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, json={"token": request.headers["authorization"][7:]})

        return httpx2.AsyncClient(
            transport=httpx2.MockTransport(answer), auth=world.auth(), base_url="https://b.example"
        )

    upstreams = Upstreams({"billing": make})

    async def root(request: Any) -> JSONResponse:
        billing = await upstreams.client("billing")(request)
        assert isinstance(billing, httpx2.AsyncClient)
        return JSONResponse((await billing.get("/")).json())

    app = Starlette(routes=[Route("/", root)], lifespan=upstreams.lifespan)
    with TestClient(app) as client:
        assert client.get("/").json() == {"token": "for.service.1"}


def test_a_websocket_is_given_them_too() -> None:
    """A websocket route has the same dependencies."""
    upstreams = Upstreams({"billing": Made(World())})
    app = service(upstreams)

    @app.websocket("/ws")
    async def ws(
        websocket: WebSocket, billing: Annotated[httpx.AsyncClient, Depends(upstreams.client("billing"))]
    ) -> None:
        await websocket.accept()
        await websocket.send_json((await billing.get("/")).json())
        await websocket.close()

    with TestClient(app) as client, client.websocket_connect("/ws") as socket:
        assert socket.receive_json() == {"token": "for.service.1"}


def test_a_lifespan_of_ones_own() -> None:
    """It is joined with a lifespan of the app's own."""
    seen: list[str] = []
    billing = Made(World())
    upstreams = Upstreams({"billing": billing})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        async with upstreams.lifespan(app):
            seen.append("open")
            yield
        seen.append("closed")

    app = FastAPI(lifespan=lifespan)
    with TestClient(app):
        assert seen == ["open"]
    assert seen == ["open", "closed"]
    assert billing.all_closed


@pytest.mark.asyncio
@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_shared_client_keeps_no_cookies(library: Any) -> None:
    """What an upstream sets with one answer goes with no other's request; what the client was made with does."""
    sent: dict[str, list[str]] = {"shared": [], "own": []}

    def maker(name: str) -> Any:
        def answer(request: Any) -> Any:
            sent[name].append(request.headers.get("cookie", ""))
            return library.Response(200, headers={"Set-Cookie": "SESSION=of-the-first; Path=/"})

        transport = library.MockTransport(answer)
        return lambda: library.AsyncClient(base_url="https://b.example", transport=transport, cookies={"pin": "7"})

    upstreams, app = Upstreams({name: maker(name) for name in sent}, cookies="own"), FastAPI()
    async with upstreams.lifespan(app):
        for name in sent:
            client = await upstreams.client(name)(httpx_connection(app))
            for _ in range(3):
                assert (await client.get("/")).cookies["SESSION"] == "of-the-first"
    assert sent["shared"] == ["pin=7"] * 3
    assert sent["own"][1:] == ["pin=7; SESSION=of-the-first"] * 2
    with pytest.raises(ConfigurationError, match="cookies= names c; there are 'a'"):
        Upstreams({"a": httpx.AsyncClient}, cookies=("a", "c"))


def test_dependencies_are_the_same_object_each_time() -> None:
    """What is given for a name is one object, so that `dependency_overrides` finds it."""
    world = World()
    upstreams = Upstreams({"billing": Made(world)}, {"queue": world.auth()})
    assert upstreams.client("billing") is upstreams.client("billing")
    assert upstreams.auth("queue") is upstreams.auth("queue")
    assert upstreams.auth("billing") is not upstreams.client("billing")
    assert Upstreams({"billing": Made(world)}).client("billing") is not upstreams.client("billing")


def test_a_client_is_overridden_in_tests() -> None:
    """A test puts a client of its own in the place of one, without any lifespan."""
    upstreams = Upstreams({"billing": Made(World())})
    app = service(upstreams)
    fake = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json="fake")), base_url="https://fake.example"
    )
    app.dependency_overrides[upstreams.client("billing")] = lambda: fake
    assert TestClient(app).get("/").json() == "fake"


@pytest.mark.asyncio
async def test_auths_by_name() -> None:
    """An auth is given by its name, or by that of the client that has it."""
    world = World()
    queue, of_billing = world.auth(), world.auth()
    upstreams = Upstreams({"billing": Made(world, auth=of_billing)}, {"queue": queue})
    app = FastAPI()
    async with upstreams.lifespan(app):
        connection = httpx_connection(app)
        assert await upstreams.auth("queue")(connection) is queue
        assert await upstreams.auth("billing")(connection) is of_billing


def test_what_cannot_be() -> None:
    """A name that is not there, and an argument that is none, are errors at once that say what there is."""
    world = World()
    upstreams = Upstreams({"billing": Made(world)}, {"queue": world.auth()})
    with pytest.raises(ConfigurationError, match=r"no client 'biling' among the upstreams: there are 'billing'$"):
        upstreams.client("biling")
    with pytest.raises(ConfigurationError, match=r"no auth 'q' among the upstreams: there are 'billing', 'queue'$"):
        upstreams.auth("q")
    with pytest.raises(ConfigurationError, match="there are none"):
        Upstreams().client("billing")
    with pytest.raises(ConfigurationError, match="billing: an auth of the same name"):
        Upstreams({"billing": Made(world)}, {"billing": world.auth()})
    with pytest.raises(ConfigurationError, match="client 'billing' must be a function"):
        Upstreams({"billing": world.client()})  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError, match="auth 'queue' must be an auth of httpx_tokenflow"):
        Upstreams(auths={"queue": httpx.BasicAuth("a", "b")})  # type: ignore[dict-item]
    for patience in ("10", -1.0, float("nan"), None, True):
        with pytest.raises(ConfigurationError, match="patience= must be seconds"):
            Upstreams(patience=patience)  # type: ignore[arg-type]
    for one in ({"clients": [httpx.AsyncClient]}, {"auths": [world.auth()]}):
        with pytest.raises(ConfigurationError, match="clients= and auths= must be mappings"):
            Upstreams(**one)  # type: ignore[arg-type]
    assert repr(upstreams) == "<Upstreams billing, queue>"


def test_without_the_lifespan() -> None:
    """Whoever forgets the lifespan is told what is missing."""
    app = service(Upstreams({"billing": Made(World())}))
    with pytest.raises(ConfigurationError, match="the upstreams are not open: FastAPI"):
        TestClient(app).get("/")


# The start


@pytest.mark.asyncio
async def test_a_wrong_configuration_stops_the_start_and_names_all() -> None:
    """All upstreams that cannot work are named, with why; nothing is left open, and no secret is told."""
    world, good = World(faults=[WRONG, WRONG]), World()
    made = [Made(world), Made(world), Made(good)]
    upstreams = Upstreams({"a": made[0], "b": made[1], "good": made[2], "none": lambda: None}, {"q": good.auth()})
    with pytest.raises(ConfigurationError) as caught:
        async with upstreams.lifespan(FastAPI()):
            raise AssertionError("it started")
    told = str(caught.value)
    assert told.startswith("upstreams that cannot work: 'a': TokenRequestError: ")
    assert "; 'b': TokenRequestError: " in told
    assert "'none': ConfigurationError: its function must return an AsyncClient" in told
    assert "good" not in told
    assert SECRET not in told
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert len(caught.value.__cause__.exceptions) == 3
    assert all(one.all_closed for one in made)
    assert upstreams._runs == {}


@pytest.mark.asyncio
async def test_one_wrong_upstream_is_the_cause() -> None:
    """Of one alone the error itself is the cause."""
    with pytest.raises(ConfigurationError, match="'billing': TokenRequestError") as caught:
        async with Upstreams({"billing": Made(World(faults=[WRONG]))}).lifespan(FastAPI()):
            raise AssertionError("it started")
    assert type(caught.value.__cause__).__name__ == "TokenRequestError"


@pytest.mark.asyncio
async def test_an_outage_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """With the authorization server down the service starts, says so, and works as soon as that is up."""
    world = World(faults=[down() for _ in range(3)])
    upstreams = Upstreams({"billing": Made(world)})
    app = service(upstreams)
    with caplog.at_level(logging.WARNING):
        async with upstreams.lifespan(app), behind(app) as client:
            assert "upstream billing: no token yet" in caplog.text
            world.faults.clear()
            await asyncio.sleep(0)
            auth = await upstreams.auth("billing")(httpx_connection(app))
            auth._source.forgive()
            assert (await client.get("/")).json() == {"token": "for.service.1"}


@pytest.mark.asyncio
async def test_a_slow_server_does_not_hold_the_start_up() -> None:
    """The start waits for no more than its patience, for all upstreams at once; what is late lands by itself."""
    world = World()
    gate = asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return await world.answer(request)

    auth = TokenAuth(world.auth()._own.grant, client=httpx.AsyncClient(transport=httpx.MockTransport(slow)))
    names = {f"u{number}": world.auth() for number in range(3)}
    upstreams = Upstreams(auths={"slow": auth, **names}, patience=0.05)
    with anyio.fail_after(5):
        async with upstreams.lifespan(FastAPI()):
            assert auth.status.expires_in is None
            assert all(one.status.expires_in for one in names.values())
            gate.set()
            assert (await auth.atoken()).access_token


@pytest.mark.asyncio
async def test_tokens_are_fetched_at_once() -> None:
    """Ten upstreams that each wait for the others are warm together: nobody stands in line."""
    together = asyncio.Barrier(10)

    async def answer(_: httpx.Request) -> httpx.Response:
        await together.wait()
        return httpx.Response(200, json={"access_token": "t", "expires_in": 3600})

    grant = World().auth()._own.grant
    auths = {
        f"u{number}": TokenAuth(grant, client=httpx.AsyncClient(transport=httpx.MockTransport(answer)))
        for number in range(10)
    }
    async with asyncio.timeout(5), Upstreams(auths=auths).lifespan(FastAPI()):
        assert {str(auth.status.state) for auth in auths.values()} == {"fresh"}


@pytest.mark.asyncio
async def test_a_client_without_an_auth_of_ours() -> None:
    """Such a client is opened and closed like the others; asked for its auth, the service does not start."""
    plain = Made(World(), auth=httpx.BasicAuth("a", "b"))
    key = Made(World(), auth=BearerAuth("static"))
    upstreams = Upstreams({"plain": plain, "key": key})
    async with upstreams.lifespan(FastAPI()):
        assert plain.clients
    assert plain.all_closed
    upstreams.auth("plain")
    with pytest.raises(ConfigurationError, match="'plain': ConfigurationError: it has no auth of httpx_tokenflow"):
        async with upstreams.lifespan(FastAPI()):
            raise AssertionError("it started")
    assert plain.all_closed
    assert key.all_closed


@pytest.mark.asyncio
async def test_a_client_that_is_used_again() -> None:
    """A function that gives the same client again is told to make a new one."""
    world = World()
    client = world.client()
    upstreams = Upstreams({"billing": lambda: client})
    async with upstreams.lifespan(FastAPI()):
        pass
    with pytest.raises(ConfigurationError, match="must make a new client each time"):
        async with upstreams.lifespan(FastAPI()):
            raise AssertionError("it started")


@pytest.mark.asyncio
async def test_an_async_function_is_no_maker() -> None:
    """A function that is async is refused, and its coroutine is not left behind."""

    async def make() -> httpx.AsyncClient:
        raise AssertionError("nobody awaits it")

    with pytest.raises(ConfigurationError, match="and not be async; not coroutine"):
        async with Upstreams({"billing": make}).lifespan(FastAPI()):
            raise AssertionError("it started")


# The end


class Bad(httpx.AsyncBaseTransport):
    """A transport that cannot be closed."""

    def __init__(self, closing: Any) -> None:
        self.closing = closing

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError("not used")

    async def aclose(self) -> None:
        await self.closing()


async def _raise() -> None:
    raise OSError("with a secret in it")


@pytest.mark.asyncio
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_that_cannot_be_closed_keeps_no_other_open(place: int, caplog: pytest.LogCaptureFixture) -> None:
    """Where closing one fails the others are closed all the same, and a warning names it."""
    good = Made(World())
    makers: list[Any] = [good, good]
    makers.insert(place, lambda: httpx.AsyncClient(transport=Bad(_raise)))
    upstreams = Upstreams({f"u{number}": make for number, make in enumerate(makers)})
    async with upstreams.lifespan(FastAPI()):
        pass
    assert len(good.clients) == 2
    assert good.all_closed
    assert f"upstream u{place}: closing it failed (OSError)" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.asyncio
async def test_one_that_hangs_holds_no_end_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where closing one never ends it is given up after a while, with a warning, and the others are closed."""
    monkeypatch.setattr("httpx_tokenflow.fastapi._upstreams.CLOSING", 0.02)
    good = Made(World())
    upstreams = Upstreams({"bad": lambda: httpx.AsyncClient(transport=Bad(asyncio.Event().wait)), "good": good})
    async with asyncio.timeout(5), upstreams.lifespan(FastAPI()):
        pass
    assert good.all_closed
    assert "upstream bad: closing it took too long" in caplog.text


@pytest.mark.asyncio
async def test_a_client_is_left_as_it_was_entered() -> None:
    """A client with a way of its own of being opened and closed goes both ways."""
    seen: list[str] = []

    class Client(httpx.AsyncClient):
        async def __aenter__(self) -> Any:
            seen.append("in")
            return await super().__aenter__()

        async def __aexit__(self, *error: object) -> None:
            seen.append("out")
            await super().__aexit__(*error)  # type: ignore[arg-type]  # whatever the library says

    async with Upstreams({"own": Client}).lifespan(FastAPI()):
        assert seen == ["in"]
    assert seen == ["in", "out"]


@pytest.mark.asyncio
async def test_what_others_raise_is_not_told() -> None:
    """A maker that fails is named, with the class of what it raised: the words may have a secret in them."""

    def make() -> httpx.AsyncClient:
        raise OSError("with a secret in it")

    with pytest.raises(ConfigurationError, match=r"'bad': OSError$") as caught:
        async with Upstreams({"bad": make}).lifespan(FastAPI()):
            raise AssertionError("it started")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["anyio", "asyncio"])
async def test_a_cancelled_start_leaves_nothing_open(how: str) -> None:
    """Where the start is cancelled while it waits for a token, all that was opened is closed."""
    waiting = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    auth = TokenAuth(World().auth()._own.grant, client=httpx.AsyncClient(transport=httpx.MockTransport(never)))
    auth.aclose = _nothing  # type: ignore[method-assign]  # it would wait 5 s for a renewal that never ends
    made = [Made(World()), Made(World(), auth=auth), Made(World())]
    upstreams = Upstreams({f"u{number}": make for number, make in enumerate(made)})

    async def start() -> None:
        async with upstreams.lifespan(FastAPI()):
            raise AssertionError("it started")

    if how == "asyncio":
        task = asyncio.create_task(start())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            await waiting.wait()
            tasks.cancel_scope.cancel()
    assert all(one.all_closed for one in made)
    for flying in asyncio.all_tasks() - {asyncio.current_task()}:
        flying.cancel()


async def _nothing() -> None:
    pass


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["anyio", "asyncio"])
async def test_a_cancelled_end_closes_all(how: str) -> None:
    """Where the end itself is cancelled, in the middle of closing one, each is closed to its own end."""
    closing, go, done = asyncio.Event(), asyncio.Event(), []

    async def slowly() -> None:
        closing.set()
        await go.wait()
        done.append("slow")

    good = Made(World())
    upstreams = Upstreams({"slow": lambda: httpx.AsyncClient(transport=Bad(slowly)), "good": good})

    async def run() -> None:
        async with upstreams.lifespan(FastAPI()):
            pass

    if how == "asyncio":
        task = asyncio.create_task(run())
        await closing.wait()
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await closing.wait()
            tasks.cancel_scope.cancel()
            go.set()
    assert done == ["slow"]
    assert good.all_closed


@pytest.mark.asyncio
async def test_an_error_in_the_middle_closes_all() -> None:
    """What an app's own lifespan raises comes through as it is, and all is closed."""
    good = Made(World())
    with pytest.raises(ZeroDivisionError):
        async with Upstreams({"good": good}).lifespan(FastAPI()):
            raise ZeroDivisionError
    assert good.all_closed


@pytest.mark.asyncio
async def test_auths_settle_before_clients_are_closed() -> None:
    """A renewal in the air that goes through one of the clients lands before that is closed."""
    world, shared = World(), []

    class Wire(httpx.AsyncBaseTransport):
        """A transport on which closing tears what is in the air."""

        closed = False

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.05)
            if self.closed:
                raise httpx.ReadError("torn")
            return await world.answer(request)

        async def aclose(self) -> None:
            self.closed = True

    def make() -> httpx.AsyncClient:
        shared.append(httpx.AsyncClient(transport=Wire()))
        return shared[-1]

    grant = world.auth()._own.grant
    upstreams = Upstreams({"idp": make})
    auth: TokenAuth | None = None
    async with upstreams.lifespan(FastAPI()):
        auth = TokenAuth(grant, client=shared[0])
        upstreams._runs[asyncio.get_running_loop()][0].auths["late"] = auth
        task = asyncio.create_task(auth.awarm())
        await asyncio.sleep(0.01)
    assert await task
    assert auth.status.expires_in
    assert shared[0].is_closed


def test_dependencies_run_on_the_loop() -> None:
    """They are async: FastAPI has no thread for each."""
    world = World()
    upstreams = Upstreams({"billing": Made(world)}, {"queue": world.auth()})
    threads: list[int] = []
    app = service(upstreams)

    @app.get("/thread")
    async def thread(auth: Annotated[TokenAuth, Depends(upstreams.auth("queue"))]) -> None:
        threads.append(threading.get_ident())

    assert inspect.iscoroutinefunction(upstreams.client("billing"))
    assert inspect.iscoroutinefunction(upstreams.auth("queue"))
    with TestClient(app) as client:
        assert client.get("/thread").status_code == 200
    assert "connection" not in str(app.openapi())
