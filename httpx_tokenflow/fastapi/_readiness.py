"""Readiness: whether a service could call its upstreams, as an orchestrator asks it.

Rules.

1. The answer takes no I/O: it says what is known, from `TokenAuth.status`.
2. An upstream is ready while it has a token that has not ended, however its renewals fare: an outage of the
   authorization server is no reason to take a service out while its tokens are good. One that has none any more, and
   has not failed to get another, is ready as well: a service without traffic has no reason to renew, and would never
   get any.
3. What has no token and has failed is not, nor what has never had one because the start ran out of patience. But a
   service out of rotation gets no requests, which are what renews; so after such an answer, once the pause that follows
   a failure is over, the probe has the token fetched: aside, where nobody waits for it. It does so as a request would,
   and no more: the pauses grow however often one probes, and what was given up (`TokenAuth.revoke`) stays given up.
   Whoever asks may be anybody.
4. No secret, no host, no client, no server's words: names, states and classes of errors.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import anyio

from httpx_tokenflow import ConfigurationError, State, TokenAuth, TokenFlowError
from httpx_tokenflow._extras import need_extra

from ._refusals import RETRY_AFTER
from ._upstreams import Upstreams

with need_extra("fastapi", "httpx_tokenflow.fastapi"):
    from starlette.background import BackgroundTask
    from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
    from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from httpx_tokenflow import Status

__all__ = ["readiness"]

logger = logging.getLogger("httpx_tokenflow")

_PATIENCE = 5.0  # seconds for which the end of a probe waits for a token; the renewal goes on by itself


def readiness(
    upstreams: Upstreams, *, required: Iterable[str] | None = None
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """An endpoint that says whether the service is ready: 200, or 503 with Retry-After.

        app.add_api_route("/ready", readiness(upstreams), methods=["GET", "HEAD"], include_in_schema=False)  # FastAPI
        Route("/ready", readiness(upstreams))  # Starlette

    The answer is JSON: ``{"ready": true, "upstreams": {"billing": {"ready": true, "state": "fresh", "expires_in": 3540,
    "last_error": null, "waiting": 0}}}``; `expires_in` in seconds. It is a probe of readiness, not of liveness: a
    restart mends nothing that it tells of.

    Args:
        upstreams: whose tokens. An upstream that has no `TokenAuth` has no say.
        required: names of those that the service cannot do without; None: all. The others are told of all the same.

    Raises:
        ConfigurationError: `required` names what there is not, or `upstreams` is no `Upstreams`.
    """
    if not isinstance(upstreams, Upstreams):
        raise ConfigurationError("readiness needs the Upstreams of the service, an object and not its class")
    needed = set(upstreams.names if required is None else (required,) if isinstance(required, str) else required)
    if unknown := sorted(needed - set(upstreams.names)):
        raise ConfigurationError(
            f"required= names {', '.join(unknown)}; the upstreams are {', '.join(upstreams.names)}"
        )

    async def ready(request: Request) -> Response:
        run = upstreams.opened(request)
        auths = {name: auth for name, auth in run.auths.items() if isinstance(auth, TokenAuth)}
        states = {name: auth.status for name, auth in auths.items()}
        run.cold -= {name for name, auth in auths.items() if auth._source.held is not None}  # noqa: SLF001 - ended or not
        failed = {name for name, status in states.items() if not _is_ready(status, is_cold=name in run.cold)}
        said = {name: _told(status, is_ready=name not in failed) for name, status in sorted(states.items())}
        is_ready = not failed & needed
        headers = {"Cache-Control": "no-store"}
        if not is_ready:
            headers["Retry-After"] = str(_pause_of([states[name] for name in failed & needed]))
        to_warm = [auths[name] for name in failed if states[name].state is not State.BACKED_OFF]
        aside = BackgroundTask(_warm, to_warm) if to_warm else None
        content = {"ready": is_ready, "upstreams": said}
        return JSONResponse(content, 200 if is_ready else 503, headers=headers, background=aside)

    return ready


def _is_ready(status: Status, *, is_cold: bool) -> bool:
    """Rules 2 and 3."""
    return status.expires_in is not None or (status.last_error is None and not is_cold)


def _told(status: Status, *, is_ready: bool) -> dict[str, object]:
    """Rule 4."""
    left, error = status.expires_in, status.last_error
    return {
        "ready": is_ready,
        "state": str(status.state),
        "expires_in": None if left is None else int(left),
        "last_error": None if error is None else type(error).__name__,
        "waiting": status.waiting,
    }


def _pause_of(states: Iterable[Status]) -> int:
    """Whole seconds after which it may be worth asking again."""
    named = [getattr(status.last_error, "retry_after", None) for status in states]
    return max(math.ceil(max((seconds for seconds in named if seconds is not None), default=RETRY_AFTER)), 1)


async def _warm(auths: Iterable[TokenAuth]) -> None:
    """Have tokens fetched (rule 3)."""

    async def warm(auth: TokenAuth) -> None:
        try:
            await auth.atoken()  # not awarm(): that forgets what has failed before, and logs in again
        except TokenFlowError as error:
            logger.warning("not ready: %s: %s", type(error).__name__, error)

    with anyio.move_on_after(_PATIENCE):
        async with anyio.create_task_group() as tasks:
            for auth in auths:
                tasks.start_soon(warm, auth)
