"""A guard in front of a whole app: Starlette, or anything else that speaks ASGI.

Rules.

1. Everything is guarded but what is exempt by name. A path is exempt only if it is spelt as it is named: who writes it
   with percent-encoded letters, empty segments, dots, semicolons or backslashes is asked for a token, since the app, or
   whatever is in front of it, may understand another path than we do.
2. A CORS preflight has no credentials (Fetch §3.2.2), and is answered by Starlette's CORSMiddleware, outside of this
   one. Here it passes only if the program says so: anybody can send an OPTIONS that looks like one.
3. A websocket is refused before it is accepted: by an answer where the server can send one, else by closing, with 1013
   (try again later) where tokens cannot be verified now.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._extras import need_extra

from ._guard import Guard, as_scopes
from ._refusals import Refusal, Unverifiable

with need_extra("fastapi", "httpx_tokenflow.fastapi"):
    from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["GuardMiddleware"]

_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1
_TRY_AGAIN_LATER = 1013  # registered with IANA after it
_PREFLIGHT = {b"origin", b"access-control-request-method"}
_PLAIN = re.compile(
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?"
)  # RFC 3986 §3.3, without dots alone, and ;


class GuardMiddleware:
    """A `Guard` in front of an app: ``app.add_middleware(GuardMiddleware, guard=guard, exempt=("/healthz",))``.

    The caller is in ``request.state.caller``, and dependencies that ask the same guard do not verify again for a minute
    (but of a websocket each time). It is asked before anything of a body is read.

    For browsers of other origins put Starlette's CORSMiddleware outside, which is to add it after this one. It answers
    preflights, and puts its fields on what the guard refuses, which a page could not read without them.

    Args:
        app: an ASGI app.
        guard: whom it asks.
        scopes: what every token must be good for.
        exempt: paths that are not guarded, from the app's root: ``"/healthz"`` is that path alone, ``"/static/*"`` all
            that is below.
        pass_preflights: let CORS preflights through to the app: for an app that answers them itself. That lets in
            anybody who sends an OPTIONS with the fields Origin and Access-Control-Request-Method: each route, mounted
            app or proxy behind that serves OPTIONS must then expect requests without a token. Default False.

    Raises:
        ConfigurationError: a path cannot be meant so.
    """

    def __init__(
        self,
        app: ASGIApp,
        guard: Guard,
        *,
        scopes: Iterable[str] = (),
        exempt: Iterable[str] = (),
        pass_preflights: bool = False,
    ) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("GuardMiddleware needs guard=, a Guard")
        self.app = app
        self._guard = guard
        self._scopes = as_scopes(scopes)
        self._pass_preflights = pass_preflights
        paths = _as_paths(exempt)
        self._exact = frozenset(one for one in paths if not one.endswith("/*"))
        self._below = tuple(one[:-1] for one in paths if one.endswith("/*"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind not in {"http", "websocket"}:
            if kind == "lifespan":
                await self.app(scope, receive, send)
            return
        if not (self._is_exempt(scope) or (self._pass_preflights and _is_preflight(scope))):
            try:
                await self._guard._check(scope, self._scopes)  # noqa: SLF001 - a friend
            except Refusal as refusal:
                await _refuse(refusal, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_exempt(self, scope: Scope) -> bool:
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and f"{path}/".startswith(f"{root}/"):  # as Starlette's router reckons
            path = path.removeprefix(root)
        if path not in self._exact and not any(path.startswith(one) and path != one for one in self._below):
            return False
        raw: bytes | None = scope.get("raw_path")
        return _PLAIN.fullmatch(path) is not None and (raw is None or b"%" not in raw.partition(b"?")[0])


def _as_paths(given: Any) -> list[str]:
    paths = [given] if isinstance(given, str) else list(given)
    for one in paths:
        if not isinstance(one, str) or not one.startswith("/") or _PLAIN.fullmatch(one.removesuffix("*")) is None:
            raise ConfigurationError('exempt= must be paths such as "/healthz", or "/static/*" for all that is below')
        if "*" in one.removesuffix("/*"):
            raise ConfigurationError('exempt= can have a * only at the end, as in "/static/*"')
    return paths


def _is_preflight(scope: Scope) -> bool:
    return scope.get("method") == "OPTIONS" and {name for name, _ in scope["headers"]} >= _PREFLIGHT


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    extensions: dict[str, Any] = scope.get("extensions") or {}
    if scope["type"] == "websocket" and "websocket.http.response" not in extensions:
        code = _TRY_AGAIN_LATER if isinstance(refusal, Unverifiable) else _POLICY_VIOLATION
        await send({"type": "websocket.close", "code": code, "reason": refusal.detail})
        return
    answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, dict(refusal.headers or {}))
    await answer(scope, receive, send)
