"""Every request told to who asks for that (`_watching`): what is told, whatever ends a request, and what it changes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import subprocess
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import anyio
import httpx
import httpx2
import pytest

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    OriginNotAllowed,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    events,
)
from httpx_tokenflow.instrumentation import OpenTelemetryTraces
from httpx_tokenflow.testing import Sandbox, Status

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGIN = "https://api.example"
URL = f"{ORIGIN}/thing"
LIBRARIES = [httpx, httpx2]


class Heard:
    """Hears of every request."""

    every_request = True

    def __init__(self) -> None:
        self.all: list[events.Event] = []

    def __call__(self, event: events.Event) -> None:
        self.all.append(event)

    @property
    def done(self) -> list[events.RequestDone]:
        return [one for one in self.all if isinstance(one, events.RequestDone)]

    @property
    def one(self) -> tuple[Any, ...]:
        """What was told, of one request and no more."""
        (event,) = self.done
        return event.outcome, event.status, event.sends


def token_auth(heard: Any, sandbox: Sandbox | None = None, **options: Any) -> TokenAuth:
    sandbox = sandbox or Sandbox()
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    return TokenAuth(grant, client=httpx.Client(transport=sandbox.transport()), on_event=heard, **options)


def get(library: Any, is_async: bool, auth: Any, answer: Callable[[Any], Any], url: str = URL, **how: Any) -> Any:
    """The answer to one request, by either library, sync or async."""
    transport = library.MockTransport(answer)
    if not is_async:
        with library.Client(transport=transport, auth=auth, **how) as client:
            return client.get(url)

    async def ask() -> Any:
        async with library.AsyncClient(transport=transport, auth=auth, **how) as client:
            return await client.get(url)

    return anyio.run(ask)


class Wraps(httpx.Auth, httpx2.Auth):
    """Has the auth that `make` makes do each request, and holds on to nothing."""

    def __init__(self, make: Callable[[], TokenAuth]) -> None:
        self.make = make

    def sync_auth_flow(self, request: Any) -> Any:
        yield from self.make().sync_auth_flow(request)

    async def async_auth_flow(self, request: Any) -> Any:
        flow = self.make().async_auth_flow(request)
        with contextlib.suppress(StopAsyncIteration):
            asked = await anext(flow)
            while True:
                asked = await flow.asend((yield asked))


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.__name__)
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return request.param


# What is told


def test_an_accepted_request(library: Any, is_async: bool) -> None:
    """A request that is answered at once is accepted, with its status, its origin and what the token had left."""
    heard = Heard()
    auth = token_auth(heard, token=Token("good", expires_at=time.time() + 1000))
    assert get(library, is_async, auth, lambda _: library.Response(204)).status_code == 204
    assert heard.one == ("accepted", 204, 1)
    assert heard.done[0].origin == ORIGIN
    assert heard.done[0].source == "client@as.example"
    left = heard.done[0].expires_in
    assert left is not None
    assert 900 < left <= 1000


def test_a_request_that_was_refused_and_sent_again(library: Any, is_async: bool) -> None:
    """A 401 that another token mends is absorbed: the status is that which the caller got."""
    heard = Heard()
    auth = token_auth(heard, token=Token("old", expires_at=time.time() + 1000))
    answers = iter([401, 200])
    assert get(library, is_async, auth, lambda _: library.Response(next(answers))).status_code == 200
    assert heard.one == ("absorbed", 200, 2)


def test_a_request_that_stays_refused(library: Any, is_async: bool) -> None:
    """A 401 that the caller gets is refused, however often it was sent."""
    heard = Heard()
    assert get(library, is_async, token_auth(heard), lambda _: library.Response(401)).status_code == 401
    assert heard.one == ("refused", 401, 2)


def test_a_request_without_a_token(library: Any, is_async: bool) -> None:
    """A request for which no token is to be had has failed, and was never sent."""
    heard, sandbox = Heard(), Sandbox()
    sandbox.script(Status(503))
    auth = token_auth(heard, sandbox, policy=RenewalPolicy(attempts=1))
    with pytest.raises(TokenEndpointUnavailable):
        get(library, is_async, auth, lambda _: library.Response(200))
    assert heard.one == ("failed", None, 0)
    assert heard.done[0].expires_in is None


def test_a_connection_that_fails(library: Any, is_async: bool) -> None:
    """A request whose connection fails is broken; the caller gets the library's own error, of which nothing is lost."""

    def broken(request: Any) -> Any:
        raise library.ConnectError("down", request=request)

    heard = Heard()
    with pytest.raises(library.ConnectError, match="down") as caught:
        get(library, is_async, token_auth(heard), broken)
    assert str(caught.value.request.url) == URL
    assert heard.one == ("broken", None, 1)


def test_a_retry_whose_connection_fails(library: Any, is_async: bool) -> None:
    """The 401 before it is not what a broken second send is told with: nobody got it."""
    answers: Any = iter([library.Response(401)])

    def broken(request: Any) -> Any:
        for answer in answers:
            return answer
        raise library.PoolTimeout("full", request=request)

    heard = Heard()
    with pytest.raises(library.PoolTimeout):
        get(library, is_async, token_auth(heard), broken)
    assert heard.one == ("broken", None, 2)


def test_an_origin_that_is_not_allowed(library: Any, is_async: bool) -> None:
    """A request to an origin that the credential may not go to has failed, and that origin is told."""
    heard = Heard()
    with pytest.raises(OriginNotAllowed):
        get(library, is_async, token_auth(heard, origins=("https://other.example",)), lambda _: library.Response(200))
    assert heard.one == ("failed", None, 0)
    assert heard.done[0].origin == ORIGIN


def test_a_program_that_raises(library: Any, is_async: bool) -> None:
    """What the program's own predicate raises comes through as it is, and the request is told of as broken."""
    heard = Heard()
    auth = token_auth(heard, should_renew=lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        get(library, is_async, auth, lambda _: library.Response(200))
    assert heard.one == ("broken", None, 1)


def test_an_answer_that_the_program_takes_for_a_refusal(library: Any, is_async: bool) -> None:
    """Where `should_renew` has a 440 mended it is absorbed, like a 401."""
    heard, answers = Heard(), iter([440, 200])
    auth = token_auth(heard, should_renew=lambda response: response.status_code == 440)
    get(library, is_async, auth, lambda _: library.Response(next(answers)))
    assert heard.one == ("absorbed", 200, 2)


def test_redirects(library: Any, is_async: bool) -> None:
    """A redirect that the client follows is no refusal, and the origin is that of whoever has answered in the end."""

    def answer(request: Any) -> Any:
        if request.url.host == "api.example":
            return library.Response(302, headers={"Location": "https://elsewhere.example:8443/x"})
        return library.Response(401)

    heard = Heard()
    get(library, is_async, token_auth(heard), answer, follow_redirects=True)
    assert heard.one == ("accepted", 401, 1)  # whoever it is did not get our credential
    assert heard.done[0].origin == "https://elsewhere.example:8443"
    heard = Heard()
    get(library, is_async, APIKeyAuth("key", on_event=heard), answer, follow_redirects=True)
    assert heard.one == ("accepted", 401, 1)


def test_a_refusal_behind_a_redirect(library: Any, is_async: bool) -> None:
    """A 401 behind a redirect that the credential went along with is a refusal: within the origin, or http to https."""

    def answer(request: Any) -> Any:
        if request.url.path == "/thing":
            return library.Response(302, headers={"Location": f"https://{request.url.host}/there"})
        return library.Response(401)

    heard = Heard()
    auths = [
        (token_auth(heard), "http://localhost/thing"),
        (token_auth(heard), URL),
        (APIKeyAuth("key", on_event=heard), URL),
        (BearerAuth("good", on_event=heard), "http://localhost/thing"),
        (BearerAuth("good", on_event=heard), URL),  # the answer to the redirect stands, as nobody sends it again
    ]
    for auth, url in auths:
        heard.all.clear()
        get(library, is_async, auth, answer, url, follow_redirects=True)
        assert heard.one[:2] == ("refused", 401)


def test_a_redirect_with_a_sealed_credential(library: Any, is_async: bool) -> None:
    """A key that is put on again behind a redirect within the origin makes two sends, and nothing was refused."""

    def answer(request: Any) -> Any:
        if request.url.path == "/thing":
            return library.Response(302, headers={"Location": "/there"})
        return library.Response(200)

    heard = Heard()
    get(library, is_async, APIKeyAuth("key", on_event=heard), answer, follow_redirects=True)
    assert heard.one == ("accepted", 200, 2)


def test_a_credential_without_an_end(library: Any, is_async: bool) -> None:
    """Nobody knows when a static credential ends: that is told as None, and not as ten years."""
    heard = Heard()
    get(library, is_async, BearerAuth("good", on_event=heard), lambda _: library.Response(200))
    assert heard.one == ("accepted", 200, 1)
    assert heard.done[0].expires_in is None


def test_requests_that_are_none_of_ours(library: Any, is_async: bool) -> None:
    """A request with the caller's own credential, or without any, is not told of."""
    heard = Heard()
    auth = token_auth(heard)
    get(library, is_async, auth, lambda _: library.Response(401), headers={"Authorization": "Basic eA=="})
    request = library.Request("GET", URL, extensions={"tokenflow": {"auth": False}})
    with library.Client(transport=library.MockTransport(lambda _: library.Response(401)), auth=auth) as client:
        assert client.send(request).status_code == 401
    assert heard.done == []


def test_an_option_that_is_wrong(library: Any) -> None:
    """A wrong option is the flow's own error, with the request on it, watched or not."""
    heard = Heard()
    for auth in (token_auth(heard), token_auth(None)):
        request = library.Request("GET", URL, extensions={"tokenflow": {"autt": False}})
        with library.Client(transport=library.MockTransport(lambda _: library.Response(200)), auth=auth) as client:
            with pytest.raises(ConfigurationError, match="tokenflow") as caught:
                client.send(request)
            assert caught.value.request is request
    assert heard.one == ("failed", None, 0)


def test_streams(library: Any, is_async: bool) -> None:
    """A streamed answer is told of before its body is read, and is not read for it."""
    heard = Heard()
    auth = token_auth(heard)
    transport = library.MockTransport(lambda _: library.Response(200, content=b"x" * 10))
    if is_async:

        async def ask() -> None:
            client = library.AsyncClient(transport=transport, auth=auth)
            async with client, client.stream("GET", URL) as response:
                assert heard.one == ("accepted", 200, 1)
                assert await response.aread() == b"x" * 10

        anyio.run(ask)
    else:
        with library.Client(transport=transport, auth=auth) as client, client.stream("GET", URL) as response:
            assert heard.one == ("accepted", 200, 1)
            assert response.read() == b"x" * 10


# Whatever ends it


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("where", ["api", "token"])
def test_a_caller_who_goes_away(backend: str, where: str, library: Any) -> None:
    """A request that is cancelled, while it waits for a token or for its answer, is told of once, as broken."""
    heard = Heard()
    sandbox = Sandbox().transport()

    async def ask() -> None:
        reached, released = anyio.Event(), anyio.Event()

        async def answer(_: Any) -> Any:
            reached.set()
            await released.wait()
            return library.Response(200)

        class Slow(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                await answer(request)
                return await sandbox.handle_async_request(request)

        grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
        token = Token("good", expires_at=time.time() + 1000) if where == "api" else None
        auth = TokenAuth(grant, token=token, client=httpx.AsyncClient(transport=Slow()), on_event=heard)
        async with library.AsyncClient(transport=library.MockTransport(answer), auth=auth) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get, URL)
                await reached.wait()
                tasks.cancel_scope.cancel()
            assert heard.one == ("broken", None, int(where == "api"))
            released.set()
            await auth.aclose()
            assert auth.status.waiting == 0

    anyio.run(ask, backend=backend)


def test_a_flow_that_is_dropped(is_async: bool) -> None:
    """A flow that nobody finishes is told of when it is collected, and never before it has begun."""
    heard = Heard()
    auth = token_auth(heard, token=Token("good", expires_at=time.time() + 1000))
    request = httpx.Request("GET", URL)
    if not is_async:
        auth.sync_auth_flow(request)
        assert heard.done == []
        next(auth.sync_auth_flow(request))
        gc.collect()
    else:

        async def drop() -> None:
            await anext(auth.async_auth_flow(request))
            gc.collect()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(drop())
    assert heard.one == ("broken", None, 1)


def test_a_flow_that_something_is_thrown_into(is_async: bool) -> None:
    """What is thrown into the flow comes out of it, and the request is told of as broken."""
    heard = Heard()
    auth = token_auth(heard, token=Token("good", expires_at=time.time() + 1000))
    if not is_async:
        flow = auth.sync_auth_flow(httpx.Request("GET", URL))
        next(flow)
        with pytest.raises(KeyboardInterrupt):
            flow.throw(KeyboardInterrupt())
    else:

        async def throw() -> None:
            flow = auth.async_auth_flow(httpx.Request("GET", URL))
            await anext(flow)
            with pytest.raises(KeyboardInterrupt):
                await flow.athrow(KeyboardInterrupt())

        asyncio.run(throw())
    assert heard.one == ("broken", None, 1)


def test_a_handler_that_raises(library: Any, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that raises is logged, and the caller gets the answer."""

    class Raises(Heard):
        def __call__(self, event: events.Event) -> None:
            raise LookupError("a defect of the program's")

    assert get(library, is_async, token_auth(Raises()), lambda _: library.Response(200)).status_code == 200
    assert {record.getMessage() for record in caplog.records if record.levelname == "ERROR"} == {
        "client@as.example: on_event raised; nothing else is wrong"
    }


def test_what_cannot_be_told(library: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A URL of which no origin can be made is the caller's error, and not ours: nothing of ours takes its place."""

    class Odd(Exception):  # noqa: N818 - a connection's
        """What the caller is to see."""

    heard = Heard()
    auth = token_auth(heard, token=Token("good", expires_at=time.time() + 1000))
    flow = auth.sync_auth_flow(library.Request("GET", URL))
    asked = next(flow)
    seen = flow.gi_frame.f_locals["seen"]
    seen.request = None
    with pytest.raises(Odd):
        flow.throw(Odd())
    assert asked.url == URL
    assert heard.done == []
    assert "could not be told of" in caplog.text


# Who is told


def test_who_does_not_ask_is_not_called(library: Any, is_async: bool) -> None:
    """Without a handler for requests the flows are the class's own, and a hot request calls nothing of ours for it."""
    code = {"_watching.py", "events.py", "_handlers.py", "_timing.py"}
    plain: list[events.Event] = []
    for handler in (None, plain.append, OpenTelemetryTraces()):
        auth = token_auth(handler, token=Token("good", expires_at=time.time() + 1000))
        assert type(auth) is TokenAuth
        assert not {"sync_auth_flow", "async_auth_flow"} & vars(auth).keys()
        called: set[str] = set()

        def profile(frame: Any, _event: str, _arg: Any, called: set[str] = called) -> None:
            called.add(frame.f_code.co_filename)

        transport = library.MockTransport(lambda _: library.Response(200))
        client = (library.AsyncClient if is_async else library.Client)(transport=transport, auth=auth)

        async def ask(client: Any = client) -> None:
            for _ in range(100):
                response = client.get(URL)
                assert (await response if is_async else response).status_code == 200

        asyncio.run(ask())  # all is imported
        plain.clear()
        sys.setprofile(profile)
        try:
            asyncio.run(ask())
        finally:
            sys.setprofile(None)
        ours = {name for name in called if "httpx_tokenflow" in name}
        assert any(name.endswith("_auth.py") for name in ours)
        assert not {name for name in ours if name.rpartition("/")[2] in code or "instrumentation" in name}
        assert plain == []


def test_who_shares_a_token_hears_of_their_own_requests(library: Any) -> None:
    """Two auths that share a token: a request is told to the handler of the auth that it went through, and once."""
    first, second = Heard(), Heard()
    one = token_auth(first)
    other = token_auth(second, store=one._source.store)
    assert other._source is one._source
    get(library, False, one, lambda _: library.Response(200))
    assert len(first.done) == 1
    assert second.done == []
    assert get(library, False, other.using(scope="a"), lambda _: library.Response(200)).status_code == 200
    assert len(second.done) == 1


def test_handlers_that_are_joined(library: Any, is_async: bool) -> None:
    """Of handlers that are joined, requests are told to those who ask; one that raises keeps nothing from others."""
    heard, plain = Heard(), []

    def raises(event: events.Event) -> None:
        raise LookupError

    get(
        library,
        is_async,
        token_auth(events.to_all(raises, heard, heard, plain.append)),
        lambda _: library.Response(200),
    )
    assert heard.one == ("accepted", 200, 1)
    assert {type(event) for event in plain} == {events.TokenObtained, events.Waited}
    assert events.to_all(raises, heard).every_request  # type: ignore[attr-defined]  # the handler's protocol
    assert not events.to_all(raises).every_request  # type: ignore[attr-defined]  # likewise


def test_handlers_that_are_joined_twice() -> None:
    """Two auths that share a token, with the same handlers joined for each: they hear of a renewal once."""
    heard: list[events.Event] = []
    sandbox = Sandbox()
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    first = TokenAuth(
        grant, client=httpx.Client(transport=sandbox.transport()), on_event=events.to_all(heard.append, print)
    )
    store = first._source.store
    second = TokenAuth(grant, store=store, on_event=events.to_all(heard.append, print))
    assert second._source is first._source
    first.token()
    assert [type(event) for event in heard] == [events.TokenObtained, events.Waited]


def test_a_watched_auth_is_gone_at_once(library: Any) -> None:
    """Watching makes no circle: who lets an auth go has it gone, without a collection of garbage."""
    auth = token_auth(Heard(), token=Token("good", expires_at=time.time() + 1000))
    get(library, False, auth, lambda _: library.Response(200))
    gone = weakref.ref(auth)
    gc.collect()
    gc.disable()
    try:
        del auth
        assert gone() is None
    finally:
        gc.enable()


def test_an_auth_that_nobody_holds(library: Any, is_async: bool) -> None:
    """An auth that another makes inline for one request does it, and is told of, as if nobody watched."""
    heard = Heard()
    auth = Wraps(lambda: token_auth(heard, token=Token("good", expires_at=time.time() + 1000)))
    assert get(library, is_async, auth, lambda _: library.Response(200)).status_code == 200
    assert heard.one == ("accepted", 200, 1)


def test_a_watched_auth_is_what_it_was(library: Any, is_async: bool) -> None:
    """Name, repr, bases and the refusal to be pickled are as without a watcher; a subclass's own flows are run."""

    class Mine(TokenAuth):
        """A program's."""

        def sync_auth_flow(self, request: Any) -> Any:
            request.headers["X-Mine"] = "1"
            yield from super().sync_auth_flow(request)

        async def async_auth_flow(self, request: Any) -> Any:
            request.headers["X-Mine"] = "1"
            flow = super().async_auth_flow(request)
            with contextlib.suppress(StopAsyncIteration):
                asked = await anext(flow)
                while True:
                    asked = await flow.asend((yield asked))

    heard = Heard()
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    auth, plain = [Mine(grant, client=httpx.Client(transport=Sandbox().transport()), on_event=one)
                   for one in (heard, None)]  # fmt: skip
    for one in (auth, auth.using(scope="a")):
        heard.all.clear()
        assert repr(one).startswith("<Mine <TokenSource client@as.example")
        assert isinstance(one, Mine)
        assert isinstance(one, library.Auth)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            assert getattr(type(one), name) == getattr(Mine, name)
        answers = get(library, is_async, one, lambda asked: library.Response(200, headers=asked.headers))
        assert answers.headers["X-Mine"] == "1"
        assert heard.one == ("accepted", 200, 1)
        with pytest.raises(TypeError, match="Mine is not pickled"):
            pickle.dumps(one)
    assert type(auth.using(scope="a")) is type(auth)
    assert type(plain) is Mine


def test_an_auth_made_by_a_watched_one(library: Any) -> None:
    """Whoever makes another of a watched auth's own type, with another handler or none, has that one told alone."""
    heard, plain = Heard(), []
    auth = token_auth(heard)
    grant, token = auth._own.grant, Token("good", expires_at=time.time() + 1000)
    for handler in (None, plain.append):
        other = type(auth)(grant, token=token, on_event=handler)
        assert get(library, False, other, lambda _: library.Response(200)).status_code == 200
    assert heard.done == []
    assert not [event for event in plain if isinstance(event, events.RequestDone)]


def test_the_module_is_loaded_for_watchers_alone() -> None:
    """`import httpx_tokenflow` does not load what watches requests, nor an auth that nobody watches."""
    code = (
        "import sys, httpx_tokenflow as t; t.BearerAuth('x'); t.BearerAuth('y', on_event=print);"
        "names = ('_watching', 'events', 'instrumentation');"
        "print([name for name in names if 'httpx_tokenflow.' + name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_mock_does_not_ask_for_every_request() -> None:
    """Only ``every_request = True`` asks: a Mock, which has any attribute, is told what it was always told."""
    sandbox, mock = Sandbox(), Mock()
    grant = ClientCredentials("https://sandbox/token", client_id="client", client_secret="secret")
    auth = TokenAuth(grant, on_event=mock, client=httpx.Client(transport=sandbox.transport()))
    joined: Any = events.to_all(mock)
    assert not joined.every_request
    with httpx.Client(transport=sandbox.transport(), auth=auth, base_url="https://sandbox") as client:
        client.get("/api/x")
    assert {type(call.args[0]).__name__ for call in mock.call_args_list} == {"TokenObtained", "Waited"}


def test_two_handlers_that_are_equal_are_two() -> None:
    """Handlers are joined by what they are: two lists are equal as long as both are empty; a method is one handler."""

    class Heard(list):
        __call__ = list.append

        def hear(self, event: object) -> None:
            self.append(event)

    one, other = Heard(), Heard()
    events.to_all(one, other, one)("event")
    assert (one, other) == (["event"], ["event"])
    one.clear()
    events.to_all(one.hear, one.hear)("event")
    assert one == ["event"]


def test_a_class_that_cannot_be_watched_says_so() -> None:
    """A class whose `__init_subclass__` wants arguments is a ConfigurationError, where requests are to be told of."""

    class Regional(TokenAuth):
        def __init_subclass__(cls, *, region: str) -> None: ...

    class Mine(Regional, region="eu"): ...

    def heard(_: object) -> None: ...

    heard.every_request = True  # type: ignore[attr-defined]
    grant = ClientCredentials("https://sandbox/token", client_id="client", client_secret="secret")
    with pytest.raises(ConfigurationError, match="Mine has an __init_subclass__"):
        Mine(grant, on_event=heard)
    Mine(grant)
