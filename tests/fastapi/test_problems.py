"""Problems: what a caller is told of what goes wrong behind a service, and what they are not."""

# No `from __future__ import annotations`: FastAPI reads those of routes, which name what is local to a test.

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import httpx2
import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from upstreams_rig import API, HASTY, SECRET, World, basic, bearer, behind, caller, straw_guard

from httpx_tokenflow import (
    ConfigurationError,
    InvalidCredential,
    OriginNotAllowed,
    ReauthenticationRequired,
    StepUpRequired,
    StoreError,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow.fastapi import Caller, Forwarding, Guard, InvalidToken, OnBehalfOf, Reason, install_problems

DAY = "Wed, 21 Oct 2015"
NEVER_SHOWN = (
    "as.example",
    "billing.example",
    "svc",
    SECRET,
    basic("svc", SECRET),
    "in-ann",
    "words of the server",
    "q1",
)


def answering(error: Callable[[], BaseException], handlers: Any = None, **options: Any) -> FastAPI:
    """A service whose only route fails with `error`."""
    app = FastAPI(exception_handlers=handlers)
    install_problems(app, **options)

    @app.api_route("/", methods=["GET", "HEAD"])
    async def root() -> None:
        raise error()

    return app


async def answer_to(error: Callable[[], BaseException], **options: Any) -> httpx.Response:
    async with behind(answering(error, **options)) as client:
        return await client.get("/")


def theirs(error: TokenFlowError) -> TokenFlowError:
    error.of_caller = True
    return error


def status_error(status: int, headers: dict[str, str] | None = None, library: Any = httpx) -> Exception:
    request = library.Request("GET", "https://billing.example/?key=q1")
    response = library.Response(status, headers=headers, request=request, text="words of the server")
    return library.HTTPStatusError("for url https://billing.example/?key=q1", request=request, response=response)


def unavailable(retry_after: float | None = None) -> TokenEndpointUnavailable:
    return TokenEndpointUnavailable("as.example is down", outcome="not sent", retry_after=retry_after)


TABLE: list[tuple[Callable[[], Exception], int, str | None]] = [
    (unavailable, 503, "5"),
    (lambda: unavailable(7.1), 503, "8"),
    (lambda: unavailable(0.0), 503, "1"),
    (lambda: unavailable(1e9), 503, "3600"),
    (lambda: StoreError("redis at as.example"), 503, "5"),
    (lambda: TokenRequestError("svc refused: words of the server", status=401, error="invalid_client"), 502, None),
    (lambda: theirs(TokenRequestError("svc refused", status=400, error="invalid_target")), 502, None),
    (lambda: ReauthenticationRequired("svc", error="invalid_grant"), 502, None),
    (lambda: StepUpRequired("svc", acr_values="gold"), 502, None),
    (lambda: ConfigurationError("svc is set up wrongly"), 500, None),
    (lambda: OriginNotAllowed("not to billing.example"), 500, None),
    (lambda: InvalidCredential("svc"), 500, None),
    (lambda: TokenFlowError("svc"), 500, None),
    *((lambda s=status: status_error(s), 502, None) for status in (301, 400, 401, 403, 404, 407, 409, 500, 502, 504)),
    (lambda: status_error(401, library=httpx2), 502, None),
    (lambda: status_error(503), 503, "5"),
    (lambda: status_error(503, {"Retry-After": "20"}), 503, "20"),
    (lambda: status_error(429, {"Retry-After": f"{DAY} 07:28:30 GMT", "Date": f"{DAY} 07:28:00 GMT"}), 503, "30"),
    (lambda: status_error(429, {"Retry-After": "words"}, httpx2), 503, "5"),
    (lambda: httpx.ReadTimeout("billing.example"), 504, None),
    (lambda: httpx.ConnectTimeout("billing.example"), 504, None),
    (lambda: httpx2.ReadTimeout("billing.example"), 504, None),
    (lambda: httpx.PoolTimeout("billing.example"), 503, "5"),
    (lambda: httpx.ConnectError("billing.example"), 502, None),
    (lambda: httpx2.RemoteProtocolError("billing.example"), 502, None),
    (lambda: httpx.TooManyRedirects("billing.example"), 502, None),
    (lambda: httpx.DecodingError("billing.example"), 502, None),
    (lambda: httpx.UnsupportedProtocol("billing.example"), 500, None),
    (lambda: httpx.LocalProtocolError("billing.example"), 500, None),
]  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize(("error", "status", "retry_after"), TABLE)
async def test_what_each_error_is_to_a_caller(
    error: Callable[[], Exception], status: int, retry_after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has its status, a problem document with nothing of the inside in it, and one line in the log."""
    caplog.set_level(logging.DEBUG, "httpx_tokenflow")
    answer = await answer_to(error)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "WWW-Authenticate" not in answer.headers
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail"}
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert not any(secret in answer.text for secret in NEVER_SHOWN)
    (record,) = [one for one in caplog.records if one.name == "httpx_tokenflow"]
    assert type(error()).__name__ in record.getMessage()
    assert "key=" not in record.getMessage()
    assert record.levelno == (logging.ERROR if status == 500 else logging.WARNING)


@pytest.mark.asyncio
async def test_a_caller_who_must_log_in_again() -> None:
    """The caller's own session is over: 401 invalid_token, with what the guard would say as well."""
    answer = await answer_to(
        lambda: theirs(ReauthenticationRequired("svc", error="invalid_grant")),
        realm="orders",
        resource_metadata="https://svc.example/.well-known/oauth-protected-resource",
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="orders", error="invalid_token", '
        'resource_metadata="https://svc.example/.well-known/oauth-protected-resource"'
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await answer_to(lambda: theirs(ReauthenticationRequired("svc")))).headers["WWW-Authenticate"] == (
        'Bearer error="invalid_token"'
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("wanted", "status", "challenge"),
    [
        ({"acr_values": "gold", "max_age": 0}, 401,
         'Bearer error="insufficient_user_authentication", acr_values="gold", max_age="0"'),
        ({"max_age": 300, "scope": "pay"}, 401,
         'Bearer error="insufficient_user_authentication", max_age="300", scope="pay"'),
        ({}, 401, 'Bearer error="insufficient_user_authentication"'),
        ({"scope": "pay"}, 403, 'Bearer error="insufficient_scope", scope="pay"'),
        ({"acr_values": 'a" , x="y\r\nSet-Cookie: é'}, 401,
         'Bearer error="insufficient_user_authentication", acr_values="a\\" , x=\\"ySet-Cookie: "'),
    ],
)  # fmt: skip
async def test_a_caller_who_must_log_in_better(wanted: Any, status: int, challenge: str) -> None:
    """The caller is told what the upstream wants of their login; what it says cannot break out of the field."""
    answer = await answer_to(lambda: theirs(StepUpRequired("svc", **wanted)))
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (status, challenge)
    assert "set-cookie" not in answer.headers


def whole(world: World, **options: Any) -> FastAPI:
    """A service that acts on behalf of a caller, forwards their token, and calls with a session of its own."""
    app, billing = FastAPI(), world.client()
    client = httpx.AsyncClient(transport=world.transport)
    on_behalf = OnBehalfOf(straw_guard, world.exchange(), origins=(API,), policy=HASTY, client=client)
    forwarding = Forwarding(straw_guard, origins=(API,))
    own = world.auth()
    install_problems(app, **options)

    @app.get("/on-behalf")
    async def acting(auth: Annotated[TokenAuth, Depends(on_behalf)]) -> Any:
        return (await billing.get("/", auth=auth)).raise_for_status().json()

    @app.get("/forwarding")
    async def passing(auth: Annotated[TokenAuth, Depends(forwarding)]) -> Any:
        return (await billing.get("/", auth=auth)).raise_for_status().json()

    @app.get("/own")
    async def by_itself() -> Any:
        return (await billing.get("/", auth=own)).raise_for_status().json()

    return app


@pytest.mark.asyncio
async def test_whose_session_is_over() -> None:
    """The same refusal is a 401 where it is about the caller's token, and a 502 where it is about the service's own."""
    world = World(refuses={"in-ann", "service"})
    async with behind(whole(world)) as client:
        theirs = await client.get("/on-behalf", headers=bearer("in-ann"))
        ours = await client.get("/own", headers=bearer("in-ann"))
        assert (await client.get("/on-behalf", headers=bearer("in-bob"))).status_code == 200
    assert theirs.status_code == 401
    assert 'error="invalid_token"' in theirs.headers["WWW-Authenticate"]
    assert ours.status_code == 502
    assert "WWW-Authenticate" not in ours.headers
    assert not any(secret in one.text + str(one.headers) for one in (theirs, ours) for secret in NEVER_SHOWN)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "first", "later"),
    [
        ("invalid_grant", 401, 401),
        ("invalid_token", 401, 401),
        ("interaction_required", 401, 401),
        ("login_required", 401, 401),
        ("invalid_request", 502, 401),
        ("invalid_target", 502, 502),
        ("invalid_client", 502, 502),
    ],
)
async def test_what_servers_say_of_a_token_that_is_over(code: str, first: int, later: int) -> None:
    """The codes that are about the caller's token are a 401; `invalid_request` once the exchange has worked before."""
    world = World(faults=[httpx.Response(400, json={"error": code}) for _ in range(2)])
    async with behind(whole(world)) as client:
        told = [(await client.get("/on-behalf", headers=bearer(name))).status_code for name in ("in-ann", "in-bob")]
        assert told == [first, first]
        assert (await client.get("/on-behalf", headers=bearer("in-cid"))).status_code == 200
        world.faults = [httpx.Response(400, json={"error": code, "error_description": "words of the server"})]
        refused = await client.get("/on-behalf", headers=bearer("in-dot"))
        assert refused.status_code == later
        assert (refused.headers.get("WWW-Authenticate") == 'Bearer error="invalid_token"') == (later == 401)
        world.faults = [httpx.Response(400, json={"error": code})]
        assert (await client.get("/own")).status_code == 502


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/on-behalf", "/forwarding", "/own"])
async def test_an_upstreams_401_is_never_ours(path: str) -> None:
    """An upstream that refuses again and again gives the caller a 502, without a challenge."""
    refused = [httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}) for _ in range(9)]
    async with behind(whole(World(api_faults=refused))) as client:
        answer = await client.get(path, headers=bearer("in-ann"))
    assert answer.status_code == 502
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.asyncio
@pytest.mark.parametrize(("path", "status"), [("/on-behalf", 401), ("/forwarding", 401), ("/own", 502)])
async def test_a_stronger_login(path: str, status: int) -> None:
    """An upstream that wants a stronger login of a caller gets them told so; of the service itself, nobody."""
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="gold"'
    refused = [httpx.Response(401, headers={"WWW-Authenticate": challenge}) for _ in range(9)]
    async with behind(whole(World(api_faults=refused))) as client:
        answer = await client.get(path, headers=bearer("in-ann"))
    assert answer.status_code == status
    assert answer.headers.get("WWW-Authenticate", challenge) == challenge


@pytest.mark.asyncio
async def test_an_outage_of_the_authorization_server() -> None:
    """Without a token, and nobody to get one from, it is 503 with the time that the server named."""
    busy = [httpx.Response(503, headers={"Retry-After": "40"}) for _ in range(9)]
    async with behind(whole(World(faults=busy))) as client:
        answer = await client.get("/on-behalf", headers=bearer("in-ann"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "40")


# Which are ours


@pytest.mark.asyncio
async def test_a_guards_refusals() -> None:
    """A refusal of the guard becomes a problem document, with its status and fields; our challenges have its realm."""

    class Nobody:
        async def verify(self, token: str) -> Caller:
            if token == "ann":
                return caller("ann")
            raise InvalidToken(Reason.EXPIRED) if token == "old" else unavailable(9)

    guard = Guard(Nobody(), realm="orders", resource_metadata="https://svc.example/.well-known/x")
    app = FastAPI()
    install_problems(app, guard=guard)

    @app.get("/", dependencies=[Depends(guard)])
    async def root() -> None:
        raise theirs(ReauthenticationRequired("svc"))

    async with behind(app) as client:
        given: tuple[dict[str, str], ...] = ({}, bearer("old"), bearer("new"), bearer("ann"))
        nothing, old, down, ours = [await client.get("/", headers=headers) for headers in given]
    metadata = 'resource_metadata="https://svc.example/.well-known/x"'
    assert nothing.headers["WWW-Authenticate"] == f'Bearer realm="orders", {metadata}'
    assert old.headers["WWW-Authenticate"].startswith('Bearer realm="orders", error="invalid_token", ')
    assert ours.headers["WWW-Authenticate"] == f'Bearer realm="orders", error="invalid_token", {metadata}'
    assert (down.status_code, down.headers["Retry-After"]) == (503, "9")
    for answer in (nothing, old, down, ours):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    assert old.json() == {
        "type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "the token has expired"
    }  # fmt: skip


@pytest.mark.asyncio
async def test_other_http_exceptions_stay_as_they_are() -> None:
    """An HTTPException of the app's own without a challenge is answered as before, by whoever did."""
    plain = await answer_to(lambda: HTTPException(404, "no such invoice"))
    assert (plain.status_code, plain.json()) == (404, {"detail": "no such invoice"})
    coded = await answer_to(lambda: HTTPException(401, {"code": "otp"}, {"www-authenticate": "Basic"}))
    assert coded.json() == {"detail": {"code": "otp"}}
    assert coded.headers["www-authenticate"] == "Basic"

    async def own(_: Any, error: Any) -> PlainTextResponse:
        return PlainTextResponse("own", error.status_code)

    app = FastAPI(exception_handlers={HTTPException.__mro__[1]: own})
    install_problems(app)
    async with behind(app) as client:
        assert (await client.get("/nowhere")).text == "own"


@pytest.mark.asyncio
async def test_a_challenge_of_the_apps_own() -> None:
    """It becomes a document with its fields, but for those that are about the body that it would have had."""
    fields = {"Www-Authenticate": "Basic", "Content-Type": "text/x", "content-Length": "3", "X-A": "b"}
    answer = await answer_to(lambda: HTTPException(401, "who?", fields))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "who?"}
    assert (answer.headers["www-authenticate"], answer.headers["x-a"]) == ("Basic", "b")


@pytest.mark.asyncio
async def test_handlers_of_ones_own_go_first() -> None:
    """What the app handles itself, for one of these classes or one below, is left to it."""

    async def own(_: Any, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(type(error).__name__, 418)

    for kind, error in (
        (TokenEndpointUnavailable, unavailable),
        (TokenFlowError, unavailable),
        (httpx.HTTPStatusError, lambda: status_error(404)),
    ):
        app = answering(error, handlers={kind: own})
        async with behind(app) as client:
            assert (await client.get("/")).status_code == 418


@pytest.mark.asyncio
async def test_upstream_errors_are_a_switch() -> None:
    """With `upstream=False` errors of httpx are the app's own; those of ours stay problems."""
    assert (await answer_to(lambda: status_error(401), upstream=False)).text == "Internal Server Error"
    assert (await answer_to(lambda: httpx2.ReadTimeout("x"), upstream=False)).status_code == 500
    assert (await answer_to(unavailable, upstream=False)).status_code == 503


@pytest.mark.asyncio
async def test_groups() -> None:
    """An error in a task group answers as it would alone; of several the worst does; with a stranger none does."""

    def group(*errors: Exception) -> Callable[[], BaseException]:
        return lambda: ExceptionGroup("tasks", [ExceptionGroup("inner", [errors[0]]), *errors[1:]])

    must_log_in = theirs(ReauthenticationRequired("svc"))
    assert (await answer_to(group(unavailable(9)))).headers["Retry-After"] == "9"
    assert (await answer_to(group(must_log_in))).status_code == 401
    assert (await answer_to(group(must_log_in, unavailable()))).status_code == 503
    assert (await answer_to(group(unavailable(), status_error(401), must_log_in))).status_code == 502
    stranger = await answer_to(group(unavailable(), ZeroDivisionError()))
    assert (stranger.status_code, stranger.text) == (500, "Internal Server Error")


@pytest.mark.asyncio
async def test_a_task_group_in_a_route() -> None:
    """Two calls at once in a route, one of which fails, give its status."""
    world, app = World(faults=[httpx.Response(503) for _ in range(9)]), FastAPI()
    auth, billing = world.auth(), world.client()
    install_problems(app)

    @app.get("/")
    async def root() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(billing.get("/", auth=auth))
            tasks.create_task(billing.get("/open"))

    async with behind(app) as client:
        assert (await client.get("/")).status_code == 503


def test_plain_starlette() -> None:
    """Starlette's own apps have the same."""

    async def fail(request: Any) -> Any:
        raise unavailable()

    async def missing(request: Any) -> Any:
        raise HTTPException(404, "nothing here")

    app = Starlette(routes=[Route("/", fail), Route("/missing", missing)])
    install_problems(app)
    client = TestClient(app)
    assert client.get("/").json()["title"] == "Service Unavailable"
    assert client.get("/missing").text == "nothing here"
    with pytest.raises(ConfigurationError, match="needs an app"):
        install_problems(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="guard= must be a Guard"):
        install_problems(Starlette(), guard=straw_guard)


def test_too_late() -> None:
    """An app that runs already takes no handlers: that is said, rather than found out by a caller."""
    app = answering(unavailable)
    TestClient(app).get("/")
    with pytest.raises(ConfigurationError, match="before the first request"):
        install_problems(app)


@pytest.mark.asyncio
async def test_head_and_cors() -> None:
    """A HEAD has the same status and fields; middleware around the app adds its own to a problem too."""
    app = answering(unavailable)
    app.add_middleware(CORSMiddleware, allow_origins=["https://spa.example"])
    async with behind(app) as client:
        head = await client.head("/", headers={"Origin": "https://spa.example"})
    assert (head.status_code, head.headers["Retry-After"]) == (503, "5")
    assert head.headers["access-control-allow-origin"] == "https://spa.example"


@pytest.mark.asyncio
async def test_an_answer_that_has_begun() -> None:
    """What goes wrong in the middle of a body breaks the answer off: it never looks whole."""
    app = FastAPI()
    install_problems(app)

    @app.get("/")
    async def root() -> StreamingResponse:
        async def body() -> Any:
            yield b"begun"
            raise unavailable()

        return StreamingResponse(body())

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://svc.example") as client:
        with pytest.raises((RuntimeError, TokenEndpointUnavailable, ExceptionGroup)):
            await client.get("/")


def test_websockets_are_closed() -> None:
    """A websocket that fails is closed as before; there is no document for it."""
    app = answering(unavailable)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        raise unavailable()

    @app.websocket("/refused")
    async def refused(websocket: WebSocket) -> None:
        raise HTTPException(403, "no", {"WWW-Authenticate": "Bearer"})

    with TestClient(app) as client:
        with pytest.raises(TokenEndpointUnavailable), client.websocket_connect("/ws"):
            pass
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/refused"):
            pass


@pytest.mark.asyncio
async def test_a_document_is_json() -> None:
    """The body is the document and nothing else."""
    answer = await answer_to(lambda: TokenRequestError("svc"))
    assert json.loads(answer.content) == {
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "detail": "a service that this one needs refused, or answered what it should not",
    }
