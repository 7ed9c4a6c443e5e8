"""The guard: who may use a route, by the bearer token on the request (RFC 6750 §2.1).

Rules.

1. A credential is taken from the one Authorization field, and from nowhere else: not from the query, a form, or a
   cookie. Two such fields are refused, since whoever stands in front may have looked at the other one.
2. A request is verified once, however many dependencies and middlewares ask, and again where it goes on for longer than
   a minute or than its token lasts. A websocket, which goes on for hours, is verified each time that somebody asks.
3. Whether a request gets in is decided by the verifier and the scopes alone. What goes wrong in between lets nobody in.
"""

# No `from __future__ import annotations`: FastAPI looks at the annotations of an object that is called.

import logging
import math
import re
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from httpx_tokenflow._errors import ConfigurationError, TokenFlowError
from httpx_tokenflow._extras import need_extra
from httpx_tokenflow._origins import check_endpoint
from httpx_tokenflow._times import SYSTEM_CLOCK, Clock

from ._caller import Caller
from ._refusals import (
    BadCredential,
    InsufficientScope,
    InvalidToken,
    MissingToken,
    RefusedToken,
    Unverifiable,
    challenge_of,
)

with need_extra("fastapi", "httpx_tokenflow.fastapi"):
    from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
else:
    try:
        from fastapi.security import SecurityScopes
        from fastapi.security.base import SecurityBase
    except ImportError:  # plain Starlette: `Guard.check` and the middleware need no more

        class SecurityBase:
            """Stands in for FastAPI's."""

        SecurityScopes = Any

__all__ = ["Guard", "Verifier"]

logger = logging.getLogger("httpx_tokenflow")

MOST_SEEN = 60.0  # seconds for which a request is not verified again (rule 2)

_NO_STRING = 'scopes= must be a sequence of words: write ("read",), even around a single one'
_SEEN = "httpx_tokenflow.fastapi.callers"  # in the scope of a connection (rule 2)
_BEARER = re.compile(rb"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")  # RFC 6750 §2.1
_SCHEME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")  # RFC 9110 §11.4
_SCOPE = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 §3.3


@runtime_checkable
class Verifier(Protocol):
    """What a guard asks about a token: a `JWTVerifier`, an `IntrospectionVerifier`, or one of your own."""

    async def verify(self, token: str) -> Caller:
        """Whoever `token` stands for.

        Raises:
            InvalidToken: it is no good.
            TokenFlowError: it cannot be verified now.
        """


class Guard(SecurityBase):
    """Lets a request in if the bearer token on it is good, and says why not if it is not.

        guard = Guard(JWTVerifier("https://as.example.com", "https://api.example.com"))

        @app.get("/orders")
        async def orders(caller: Annotated[Caller, Security(guard, scopes=["orders:read"])]): ...

    A dependency for FastAPI, of a route, a router or the app, also of a websocket; it puts the security scheme and the
    scopes into the OpenAPI document. The caller is in ``request.state.caller`` as well. For plain Starlette there is
    `GuardMiddleware`, or ``await guard.check(request, scopes)``. In a test: ``app.dependency_overrides[guard] = …``.

    FastAPI reads and parses the body before it asks a dependency: in front of routes with bodies put `GuardMiddleware`
    as well, which asks first, and the route's guard finds what that has found. The scopes of `scopes=` are wanted and
    named in challenges, but FastAPI has only those of the route for the document: say them there to have them in it. A
    guard does not ask for a stronger login (RFC 9470): look at `Caller.claims` for that.

    What it answers is a Starlette `HTTPException` (`Refusal`): 401 with a challenge that names the realm and the
    resource's metadata (RFC 6750 §3, RFC 9728 §5.1), 403 where the scope does not do, 400 where the field cannot be
    read, 503 where tokens cannot be verified now.

    Args:
        verifier: says whether a token is good.
        realm: the name of what is guarded (RFC 9110 §11.5). Default "api".
        resource_metadata: URL of the metadata that say where to get a token (RFC 9728).
        scopes: wanted of everybody, besides those of a route.
        scheme_name: of the security scheme in the OpenAPI document. Default "bearer": where there are two guards, name
            them, or the document shows one.
        description: likewise.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        realm: str | None = None,
        resource_metadata: str | None = None,
        scopes: Iterable[str] = (),
        scheme_name: str = "bearer",
        description: str | None = None,
    ) -> None:
        if isinstance(verifier, type) or not callable(getattr(verifier, "verify", None)):
            raise ConfigurationError("Guard needs a verifier: JWTVerifier(…), IntrospectionVerifier(…), or your own")
        self._verifier = verifier
        clock = getattr(verifier, "_clock", None)
        self._clock = clock if isinstance(clock, Clock) else SYSTEM_CLOCK
        self._realm = "api" if realm is None else _as_realm(realm)
        self._metadata = _as_metadata(resource_metadata)
        self._scopes = as_scopes(scopes)
        self.scheme_name = scheme_name
        self._describe(getattr(verifier, "bearer_format", None), description)

    def _describe(self, bearer_format: str | None, description: str | None) -> None:
        """The security scheme for the OpenAPI document, where there is FastAPI to write one."""
        try:
            from fastapi.openapi.models import HTTPBearer
        except ImportError:
            return
        self.model: HTTPBearer = HTTPBearer(bearerFormat=bearer_format, description=description)

    def __repr__(self) -> str:
        return f"<Guard {self._realm} {self._verifier!r}>"

    @property
    def realm(self) -> str:
        """The name of what is guarded, as challenges say it."""
        return self._realm

    @property
    def resource_metadata(self) -> str | None:
        """The URL of the metadata that challenges name, or None."""
        return self._metadata

    async def __call__(self, connection: HTTPConnection, security_scopes: SecurityScopes) -> Caller:
        """Whoever sent this request: for FastAPI, which fills in both arguments.

        Raises:
            Refusal: they are not let in.
        """
        return await self._check(connection.scope, security_scopes.scopes)

    async def check(self, connection: HTTPConnection, scopes: Iterable[str] = ()) -> Caller:
        """Whoever sent this request, or opened this websocket.

        Args:
            connection: a request or a websocket of Starlette's.
            scopes: what their token must be good for.

        Raises:
            Refusal: they are not let in.
            ConfigurationError: `scopes` is a string.
        """
        if isinstance(scopes, str):
            raise ConfigurationError(_NO_STRING)
        return await self._check(connection.scope, scopes)

    async def _check(self, scope: MutableMapping[str, Any], scopes: Iterable[str]) -> Caller:
        wanted = (*self._scopes, *(one for one in scopes if one not in self._scopes))
        token = self._token(scope, wanted)
        caller = await self._seen(scope, token)
        if not caller.scope.issuperset(wanted):
            raise InsufficientScope(
                self._challenge("insufficient_scope", "the token's scope does not cover this", wanted)
            )
        scope.setdefault("state", {})["caller"] = caller
        return caller

    async def _seen(self, scope: MutableMapping[str, Any], token: str) -> Caller:
        """Whoever the token stands for, by what was found out on this request if that holds still (rule 2)."""
        if scope["type"] == "websocket":
            return await self._verified(token)
        seen: dict[int, tuple[Verifier, Caller, float]] = scope.setdefault(_SEEN, {})
        verifier, caller, until = seen.get(id(self._verifier), (None, None, 0.0))
        now = self._clock.wall()
        if caller is None or verifier is not self._verifier or caller.token != token or now >= until:
            caller = await self._verified(token)
            ends = math.inf if caller.expires_at is None else caller.expires_at
            seen[id(self._verifier)] = self._verifier, caller, min(ends, now + MOST_SEEN)
        return caller

    def _token(self, scope: MutableMapping[str, Any], wanted: Iterable[str]) -> str:
        """The one credential on the request (rule 1)."""
        fields = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(fields) > 1:
            raise self._bad("there is more than one Authorization field")
        field = fields[0] if fields else b""
        found = _BEARER.fullmatch(field)
        if found is not None:
            return found[1].decode("ascii")
        scheme = _SCHEME.match(field)
        if scheme is None or scheme[0].lower() != b"bearer":
            raise MissingToken(self._challenge(None, None, wanted))
        raise self._bad("the Authorization field must be the word Bearer, a space, and a token")

    async def _verified(self, token: str) -> Caller:
        try:
            return await self._verifier.verify(token)
        except InvalidToken as no:
            logger.debug("the guard of %s refuses a token: %s", self._realm, no.reason)
            refused, reason = self._challenge("invalid_token", str(no.reason)), no.reason
        except TokenFlowError as error:
            logger.info("the guard of %s cannot verify tokens now: %s", self._realm, error)
            raise Unverifiable(getattr(error, "retry_after", None)) from error
        raise RefusedToken(reason, refused)

    def _bad(self, why: str) -> BadCredential:
        return BadCredential(why, self._challenge("invalid_request", why))

    def _challenge(self, error: str | None, why: str | None, wanted: Iterable[str] = ()) -> str:
        return challenge_of(
            [
                ("realm", self._realm),
                ("error", error),
                ("error_description", why),
                ("scope", " ".join(wanted) or None),
                ("resource_metadata", self._metadata),
            ]
        )


def as_scopes(given: Any) -> tuple[str, ...]:
    """The words of a scope, each once.

    Raises:
        ConfigurationError: one of them can be in no token (RFC 6749 §3.3).
    """
    if isinstance(given, str):
        raise ConfigurationError(_NO_STRING)
    words = tuple(dict.fromkeys(given))
    if not all(isinstance(one, str) and _SCOPE.fullmatch(one) for one in words):
        raise ConfigurationError("scopes= has what can be no scope (RFC 6749 §3.3): white space, quotes, non-ASCII")
    return words


def _as_realm(given: Any) -> str:
    if not (isinstance(given, str) and given.isprintable() and given.isascii()):
        raise ConfigurationError("realm= must be printable ASCII")
    return given


def _as_metadata(url: str | None) -> str | None:
    if url is None:
        return None
    found = check_endpoint(url, "resource_metadata=")
    if not found.isascii() or not found.isprintable() or " " in found or not urlsplit(found).netloc:
        raise ConfigurationError("resource_metadata= must be an absolute URL")
    return found
