"""The guard in front of a whole app: what passes, what does not, and what cannot be fooled."""

from __future__ import annotations

from typing import Any

import pytest
from guarding import Reply, ask, scope_of
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request  # noqa: TC002 - read at run time
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from httpx_tokenflow import ConfigurationError, TokenEndpointUnavailable
from httpx_tokenflow._challenges import parse_challenges
from httpx_tokenflow.fastapi import Caller, Guard, GuardMiddleware, InvalidToken, Reason


class Good:
    """Lets the token `good` in."""

    calls = 0

    async def verify(self, token: str) -> Caller:
        self.calls += 1
        if token != "good":
            raise InvalidToken(Reason.INACTIVE)
        return Caller("ada", None, None, frozenset({"read"}), None, {}, token)


async def who(request: Request) -> JSONResponse:
    caller = getattr(request.state, "caller", None)
    return JSONResponse({"sub": caller.subject if caller else None, "path": request.url.path})


def made(**how: Any) -> GuardMiddleware:
    every = ["GET", "POST", "OPTIONS"]
    inner = Starlette(routes=[Route("/{path:path}", who, methods=every)])
    app = Starlette(routes=[Mount("/mounted", inner), Route("/{path:path}", who, methods=every)])
    return GuardMiddleware(app, Guard(Good()), **how)


async def get(app: Any, path: str, *fields: str, **scope: Any) -> Reply:
    return await ask(app, scope={**scope_of(*fields, path=path), **scope})


@pytest.mark.anyio
async def test_everything_is_guarded() -> None:
    """Each path needs a token, also in a mounted app; the caller is in `request.state`."""
    app = made()
    for path in ("/", "/orders", "/mounted/x", "/nowhere"):
        assert (await get(app, path)).status == 401
        assert (await get(app, path, "Bearer bad")).status == 401
        reply = await get(app, path, "Bearer good")
        assert reply.status == 200
        assert b'"sub":"ada"' in reply.body
    refused = await get(app, "/orders", "Bearer bad")
    (challenge,) = parse_challenges([refused.challenge or ""])
    assert challenge.error == "invalid_token"
    assert refused.body == b'{"detail":"the token is not active"}'
    assert (await get(made(scopes=["read"]), "/", "Bearer good")).status == 200
    assert (await get(made(scopes=["write"]), "/", "Bearer good")).status == 403


EXEMPT = ("/healthz", "/static/*")


@pytest.mark.parametrize("path", ["/healthz", "/static/a.css", "/static/a/b.js"])
@pytest.mark.anyio
async def test_what_is_exempt_passes(path: str) -> None:
    """A path that is exempt needs no token, and nobody is the caller."""
    reply = await get(made(exempt=EXEMPT), path)
    assert reply.status == 200
    assert b'"sub":null' in reply.body


FOOLS = [
    ("/healthz/", None),
    ("/healthz/x", None),
    ("//healthz", None),
    ("/healthzz", None),
    ("/Healthz", None),
    ("/healthz\\", None),
    ("/healthz\0", None),
    ("/healthz\n", None),
    ("/healthz;/x", None),
    ("/x/healthz", None),
    ("/static", None),
    ("/static/", None),
    ("/staticx", None),
    ("/static/../orders", None),
    ("/static/..", None),
    ("/static/./a", None),
    ("/static//orders", None),
    ("/static/a/../../orders", None),
    ("/static/..\\orders", None),
    ("/static/../orders", b"/static/%2e%2e/orders"),
    ("/static/../orders", b"/static/..%2Forders"),
    ("/static/a/b", b"/static/a%2Fb"),
    ("/healthz", b"/%68ealthz"),
    ("/static/%2e%2e/orders", b"/static/%252e%252e/orders"),
    ("/static/é", None),
    ("/static/..;/orders", None),
    ("/static/..;a=b/orders", None),
    ("/static/a;/..;/orders", None),
    ("/static/;/orders", None),
    ("healthz", None),
    ("", None),
    ("*", None),
]


@pytest.mark.parametrize(("path", "raw"), FOOLS)
@pytest.mark.anyio
async def test_no_spelling_fools_the_exemption(path: str, raw: bytes | None) -> None:
    """What is exempt is so in its plain spelling alone: by any other a token is asked for."""
    app = made(exempt=EXEMPT)
    assert (await get(app, path, raw_path=path.encode() if raw is None else raw)).status == 401
    if raw is None:
        assert (await get(app, path, raw_path=None)).status == 401


@pytest.mark.anyio
async def test_a_query_does_not_matter() -> None:
    """A path is exempt whatever its query is, also where the server leaves that in the raw path."""
    app = made(exempt=EXEMPT)
    assert (await get(app, "/healthz", raw_path=b"/healthz?a=%2F", query_string=b"a=%2F")).status == 200


@pytest.mark.anyio
async def test_exemptions_are_reckoned_as_the_router_does() -> None:
    """Below a root path, what is exempt is what the app's routes call so."""
    app = made(exempt=EXEMPT)
    assert (await get(app, "/v1/healthz", root_path="/v1")).status == 200
    assert (await get(app, "/v1/orders", root_path="/v1")).status == 401
    assert (await get(app, "/v1x/healthz", root_path="/v1")).status == 401
    assert (await get(app, "/v1/healthz", root_path="/v")).status == 401
    assert (await get(app, "/v/healthz", root_path="/v/")).status == 401
    assert (await get(app, "/healthz", root_path="/healthz")).status == 401
    assert (await get(app, "/static/a.css", root_path="/static/a")).status == 200


ASKS = [(b"origin", b"https://web.example"), (b"access-control-request-method", b"GET")]


@pytest.mark.anyio
async def test_what_looks_like_a_preflight_is_guarded() -> None:
    """An OPTIONS with the fields of a preflight, which anybody can send, needs a token as all else does."""
    app = made()
    for path in ("/", "/mounted/x"):
        assert (await ask(app, path=path, method="OPTIONS", more=ASKS)).status == 401
        assert (await ask(app, "Bearer good", path=path, method="OPTIONS", more=ASKS)).status == 200


@pytest.mark.anyio
async def test_preflights_pass_if_so_told_and_no_other_options() -> None:
    """Where the program says so a CORS preflight needs no token; another OPTIONS, or another method, does."""
    app = made(pass_preflights=True)
    assert (await ask(app, method="OPTIONS", more=ASKS)).status == 200
    assert (await ask(app, method="OPTIONS", more=ASKS[:1])).status == 401
    assert (await ask(app, method="OPTIONS", more=ASKS[1:])).status == 401
    assert (await ask(app, method="OPTIONS")).status == 401
    assert (await ask(app, method="POST", more=ASKS)).status == 401


@pytest.mark.anyio
async def test_cors_goes_outside() -> None:
    """With Starlette's CORSMiddleware outside a browser's preflight is answered, and a refusal can be read."""
    app = CORSMiddleware(made(), allow_origins=["https://web.example"], allow_headers=["authorization"])
    preflight = await ask(app, method="OPTIONS", more=ASKS)
    assert (preflight.status, preflight.field("access-control-allow-origin")) == (200, "https://web.example")
    refused = await ask(app, more=ASKS[:1])
    assert (refused.status, refused.field("access-control-allow-origin")) == (401, "https://web.example")


async def open_socket(app: Any, *fields: str, extensions: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []
    scope = {**scope_of(*fields, path="/ws"), "type": "websocket", "extensions": extensions}
    del scope["method"]

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.anyio
async def test_websockets_are_refused_before_they_are_accepted() -> None:
    """A websocket without a good token is denied: with an answer if the server has a way, else it is closed."""

    async def accepts(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    app = GuardMiddleware(accepts, Guard(Good()))
    assert await open_socket(app, "Bearer good", extensions={}) == [{"type": "websocket.accept"}]
    closed = await open_socket(app, extensions={})
    assert [(one["type"], one["code"]) for one in closed] == [("websocket.close", 1008)]
    denied = await open_socket(app, "Bearer bad", extensions={"websocket.http.response": {}})
    assert (denied[0]["type"], denied[0]["status"]) == ("websocket.http.response.start", 401)
    assert b"www-authenticate" in dict(denied[0]["headers"])


@pytest.mark.anyio
async def test_a_websocket_in_an_outage_may_try_again() -> None:
    """Where tokens cannot be verified now a websocket is closed with 1013, which is no verdict on its token."""

    class Out:
        async def verify(self, token: str) -> Caller:
            raise TokenEndpointUnavailable(f"no word of {len(token)}", outcome="not sent")

    (closed,) = await open_socket(GuardMiddleware(Starlette(), Guard(Out())), "Bearer good", extensions={})
    assert (closed["type"], closed["code"]) == ("websocket.close", 1013)


@pytest.mark.anyio
async def test_lifespan_passes_and_the_unknown_does_not() -> None:
    """The lifespan of the app is its own; a kind of connection that nobody knows reaches no app."""
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    guarded: Any = GuardMiddleware(app, Guard(Good()))
    await guarded({"type": "lifespan"}, None, None)
    await guarded({"type": "tunnel", "headers": []}, None, None)
    assert seen == ["lifespan"]


@pytest.mark.anyio
async def test_middleware_and_route_verify_once() -> None:
    """A route that asks the same guard finds what the middleware has found, also in a mounted app."""
    verifier = Good()
    guard = Guard(verifier)

    async def asks(request: Request) -> JSONResponse:
        return JSONResponse({"sub": (await guard.check(request, ["read"])).subject})

    app = Starlette(routes=[Mount("/mounted", Starlette(routes=[Route("/x", asks)]))])
    reply = await get(GuardMiddleware(app, guard), "/mounted/x", "Bearer good")
    assert (reply.status, reply.body, verifier.calls) == (200, b'{"sub":"ada"}', 1)


@pytest.mark.parametrize(
    "how",
    [
        {"exempt": ["healthz"]},
        {"exempt": ["/a*"]},
        {"exempt": ["/a/*/b"]},
        {"exempt": ["/a/../b"]},
        {"exempt": ["/a//b"]},
        {"exempt": ["/a;b"]},
        {"exempt": [1]},
        {"scopes": "read"},
        {"guard": None},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_early(how: dict[str, Any]) -> None:
    """A path, a scope or a guard that could not work is refused when the program starts."""
    with pytest.raises(ConfigurationError):
        GuardMiddleware(**{"app": Starlette(), "guard": Guard(Good()), **how})
