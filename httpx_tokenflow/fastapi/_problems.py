"""What goes wrong behind a service, as an answer to its caller: a problem document (RFC 9457).

Rules.

1. A status says whose turn it is. 401 and 403 are for what the caller can mend, and nothing else: an upstream's own 401
   is between this service and that one, and becomes 502. So does the end of the service's own session; if it became a
   401, each browser would renew its good token, or log its person out, again and again.
2. An error is the caller's where it says so (`TokenFlowError.of_caller`), as those of `OnBehalfOf` and `Forwarding` do.
   Then `ReauthenticationRequired` is 401 invalid_token, and `StepUpRequired` is 401 insufficient_user_authentication
   (RFC 9470 §3) or, where it is about scope alone, 403 insufficient_scope (RFC 6750 §3.1).
3. What will pass is 503 with Retry-After, as whoever is down said, or 5 s. What came too late is 504, but for a
   connection of our own pool: that is us, and 503. What no waiting mends is 502, or 500 where it is ours to mend.
4. The document says what a caller may know: no host, no client, no server's words. Those go to the log, once; but never
   a URL, which may have a secret in its query.
5. An error in a group (a task group in a route) answers as it would alone, if all in the group are ours to answer; the
   worst of them does. An answer that has begun cannot be taken back.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import (
    ConfigurationError,
    ReauthenticationRequired,
    StepUpRequired,
    StoreError,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._extras import need_extra
from httpx_tokenflow._origins import origin_of
from httpx_tokenflow._times import MAX_RETRY_AFTER, parse_date, parse_retry_after

from ._guard import Guard
from ._refusals import RETRY_AFTER, Refusal, challenge_of

with need_extra("fastapi", "httpx_tokenflow.fastapi"):
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection

    _Parameters = tuple[tuple[str, str | None], ...]  # of a challenge

__all__ = ["install_problems"]

logger = logging.getLogger("httpx_tokenflow")

_DETAILS = {
    401: "log in again: this service can no longer act for you",
    403: "the scope of your token does not cover this",
    500: "this service is not set up rightly",
    502: "a service that this one needs refused, or answered what it should not",
    503: "a service that this one needs is not available now; try again later",
    504: "a service that this one needs did not answer in time",
}
_OF_A_BODY = frozenset({"content-type", "content-length", "content-encoding"})
_STRONGER = "log in again, in a stronger or fresher way: this service can not act for you as it is"
_BUSY = frozenset({429, 503})  # of an upstream: it will pass
_RANK = (500, 502, 504, 503, 403, 401)  # the worst first: no login mends what else is wrong


@dataclass(frozen=True, slots=True)
class _Problem:
    """An answer: its status, what it says, and header fields."""

    status: int
    detail: str
    headers: Mapping[str, str]


class _Document(JSONResponse):
    media_type = "application/problem+json"


def install_problems(
    app: Starlette,
    *,
    guard: Any = None,
    realm: str | None = None,
    resource_metadata: str | None = None,
    upstream: bool = True,
) -> None:
    """Have what goes wrong behind `app` (FastAPI or Starlette) answered with problem documents (RFC 9457).

    The errors of `httpx_tokenflow` are; so are the guard's refusals, and any `HTTPException` that has a challenge and
    says why in words, with the same status and header fields; all other `HTTPException` go on to whoever had them
    before. A handler of the app's own for one of these classes, or for a class below it, goes before ours if it is
    there already.

    Handlers work inside of all middleware: CORS headers are added, and an error that middleware itself raises, such as
    one of an auth that it uses, does not come here. Nor does that of an app that is mounted, which has handlers of its
    own: call this for each. It comes before the first request, and not in a lifespan.

    Args:
        app: where to.
        guard: the guard whose `realm` and `resource_metadata` go into our challenges as well; None: none.
        realm: instead of the guard's (RFC 9110 §11.5).
        resource_metadata: instead of the guard's: the URL of the service's metadata (RFC 9728 §5.1).
        upstream: answer errors of httpx, and of httpx2 if that is loaded, as well (``raise_for_status``, timeouts,
            connections), whatever client they come from: an upstream's 4xx, such as 404, becomes 502, since what it
            refuses is this service's request. Where it is the caller's own, catch it in the route. Import httpx2 before
            this, if you use it: what is loaded later is not known. Default True; False leaves them to the app: 500, if
            to nobody.

    Raises:
        ConfigurationError: `app` takes no handlers, or no more of them since it runs; `guard` is none.
    """
    _check_arguments(app, guard)
    metadata = resource_metadata or getattr(guard, "resource_metadata", None)
    challenge = (("realm", realm or getattr(guard, "realm", None)),), (("resource_metadata", metadata),)
    libraries = _libraries() if upstream else ()
    ours: tuple[type[Exception], ...] = (TokenFlowError, *libraries)
    before = app.exception_handlers.get(HTTPException, _plain)

    async def on_error(connection: HTTPConnection, error: Exception) -> Response:
        errors = list(_leaves(error))
        if connection.scope["type"] != "http" or not all(isinstance(one, ours) for one in errors):
            raise error  # a websocket is closed by whoever serves it
        problems = [(_problem_of(one, *challenge), one) for one in errors]
        for problem, one in problems:
            _log(problem, one)
        worst = min((problem for problem, _ in problems), key=lambda problem: _RANK.index(problem.status))
        return _document(worst)

    async def on_http_exception(connection: HTTPConnection, error: Any) -> Any:
        fields = {name.lower(): value for name, value in (error.headers or {}).items()}
        is_refusal = isinstance(error, Refusal) or "www-authenticate" in fields
        is_in_words = isinstance(error.detail, str)  # or else a client may go by what is in it
        if not is_refusal or not is_in_words or connection.scope["type"] != "http":
            return await _ask(before, connection, error)
        kept = {name: value for name, value in fields.items() if name not in _OF_A_BODY}
        return _document(_Problem(error.status_code, error.detail, kept))

    for kind in (*ours, ExceptionGroup):
        if kind not in app.exception_handlers:
            app.add_exception_handler(kind, on_error)
    app.add_exception_handler(HTTPException, on_http_exception)


def _check_arguments(app: Any, guard: Any) -> None:
    if not callable(getattr(app, "add_exception_handler", None)):
        raise ConfigurationError("install_problems needs an app of FastAPI or Starlette")
    if getattr(app, "middleware_stack", None) is not None:
        raise ConfigurationError("install_problems comes before the first request, and not in a lifespan: the app runs")
    if guard is not None and not isinstance(guard, Guard):
        raise ConfigurationError("guard= must be a Guard; for a dependency of your own give realm= in its place")


def _libraries() -> tuple[type[Exception], ...]:
    """``HTTPError`` of what is loaded; both names may be one module (`httpx2.alias_httpx`)."""
    modules = (sys.modules.get("httpx"), sys.modules.get("httpx2"))
    return tuple(dict.fromkeys(module.HTTPError for module in modules if module is not None))


def _leaves(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


async def _ask(handler: Callable[..., Any], connection: Any, error: Any) -> Any:
    """What whoever was there before makes of it."""
    answer: Awaitable[Any] | Any = handler(connection, error)
    return await answer if hasattr(answer, "__await__") else answer


async def _plain(_: Any, error: Any) -> Response:
    """As Starlette answers by itself."""
    if error.status_code in {204, 304}:
        return Response(status_code=error.status_code, headers=error.headers)
    return PlainTextResponse(error.detail, status_code=error.status_code, headers=error.headers)


def _problem_of(error: Any, first: _Parameters, last: _Parameters) -> _Problem:  # noqa: PLR0911 - a table
    """What `error` is to a caller (rules 1 to 3); `first` and `last` go around what a challenge says."""
    if isinstance(error, TokenEndpointUnavailable):
        return _later(error.retry_after)
    if isinstance(error, StoreError):
        return _later(None)
    if isinstance(error, ReauthenticationRequired) and error.of_caller:
        return _challenge(401, _DETAILS[401], (*first, ("error", "invalid_token"), *last))
    if isinstance(error, StepUpRequired) and error.of_caller:
        return _step_up(error, first, last)
    if isinstance(error, (TokenRequestError, StepUpRequired)):
        return _plainly(502)
    if isinstance(error, TokenFlowError):
        return _plainly(500)
    return _upstream_problem(error)


def _step_up(error: StepUpRequired, first: _Parameters, last: _Parameters) -> _Problem:
    if error.scope and not error.acr_values and error.max_age is None:
        return _challenge(403, _DETAILS[403], (*first, ("error", "insufficient_scope"), ("scope", error.scope), *last))
    wanted = (
        ("acr_values", error.acr_values),
        ("max_age", None if error.max_age is None else str(error.max_age)),
        ("scope", error.scope),
    )
    return _challenge(401, _STRONGER, (*first, ("error", "insufficient_user_authentication"), *wanted, *last))


def _upstream_problem(error: Any) -> _Problem:
    """What an error of httpx or httpx2 is to a caller; by name, since the two libraries share no class."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "HTTPStatusError" in kinds:
        if error.response.status_code not in _BUSY:
            return _plainly(502)
        fields = error.response.headers
        date = parse_date(fields.get("Date"))
        return _later(parse_retry_after(fields.get("Retry-After"), now=time.time() if date is None else date))
    if "PoolTimeout" in kinds:
        return _later(None)
    if "TimeoutException" in kinds:
        return _plainly(504)
    return _plainly(500 if kinds & {"UnsupportedProtocol", "LocalProtocolError"} else 502)


def _plainly(status: int) -> _Problem:
    return _Problem(status, _DETAILS[status], {})


def _later(retry_after: float | None) -> _Problem:
    seconds = RETRY_AFTER if retry_after is None else min(max(retry_after, 1.0), MAX_RETRY_AFTER)
    return _Problem(503, _DETAILS[503], {"Retry-After": str(math.ceil(seconds))})


def _challenge(status: int, detail: str, parameters: _Parameters) -> _Problem:
    return _Problem(status, detail, {"WWW-Authenticate": challenge_of(parameters), "Cache-Control": "no-store"})


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _document(problem: _Problem) -> Response:
    # "about:blank": the status says it all, and the title is its phrase (RFC 9457 §4.2.1).
    said = {"type": "about:blank", "title": _phrase(problem.status), "status": problem.status, "detail": problem.detail}
    return _Document(said, problem.status, headers=dict(problem.headers))


def _log(problem: _Problem, error: BaseException) -> None:
    """What the caller is not told (rule 4)."""
    level = {500: logging.ERROR, 401: logging.INFO, 403: logging.INFO}.get(problem.status, logging.WARNING)
    said = f": {error}" if isinstance(error, TokenFlowError) else ""
    response = getattr(error, "response", None)
    status = "" if said or response is None else f" {response.status_code}"
    logger.log(level, "answered %d: %s%s%s%s", problem.status, type(error).__name__, status, _place(error), said)


def _place(error: Any) -> str:
    """Where the request went that failed: its origin."""
    try:
        return f" from {origin_of(error.request.url)}"
    except (AttributeError, RuntimeError):  # none was ever made
        return ""
