"""Every request, told to those who want that: metrics. Who does not ask for it pays nothing.

Rules.

1. Nothing is looked up per request whether anybody watches: an auth that is watched is of a subclass of its class,
   whose flows have the telling around them. One that is not is of its class, with that one's flows.
2. What is told is told when the request's flow is over, whatever ended it, in its thread or on its loop.
3. What is seen changes nothing: the same requests go out, and the same errors come back.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import TYPE_CHECKING, Any, Literal

from ._errors import ConfigurationError, TokenFlowError
from ._handlers import tell_one
from ._origins import origin_of
from ._tokens import MAX_LIFETIME

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from ._flights import Held
    from ._sources import TokenSource
    from ._times import Clock
    from .events import Event

__all__ = ["watch"]

logger = logging.getLogger("httpx_tokenflow")


def watch(auth: Any, on_event: Callable[[Event], object]) -> None:
    """Have `on_event` told of every request that `auth` puts its credential on."""
    auth._watcher = on_event  # noqa: SLF001 - the other half
    # Not by flows on the auth itself, which would have to hold it: it would outlive whoever lets it go. What a class
    # has is bound when it is asked for, and holds the auth for as long as the flow lasts, and no longer.
    kind: Any = type(auth)
    object.__dict__["__class__"].__set__(auth, _watched(kind))  # since ours is a property


@functools.cache
def _watched(kind: Any) -> Any:
    """`kind` with other flows (rule 1); itself, if it has them: an auth may make others of its own type."""
    if getattr(kind, "_is_watched", False):
        return kind

    def sync_auth_flow(self: Any, request: Any) -> Generator[Any, Any, None]:
        on_event = vars(self).get("_watcher")
        flow: Generator[Any, Any, None] = kind.sync_auth_flow(self, request)
        return flow if on_event is None else _flow(self, on_event, request, flow)

    def async_auth_flow(self: Any, request: Any) -> AsyncGenerator[Any, Any]:
        on_event = vars(self).get("_watcher")
        flow: AsyncGenerator[Any, Any] = kind.async_auth_flow(self, request)
        return flow if on_event is None else _aflow(self, on_event, request, flow)

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    flows = {"sync_auth_flow": sync_auth_flow, "async_auth_flow": async_auth_flow}
    try:
        return type(kind)(kind.__name__, (kind,), {**names, **flows, "__slots__": (), "_is_watched": True})
    except TypeError as error:
        raise ConfigurationError(
            f"{kind.__name__} has an __init_subclass__ or a metaclass that wants more than there is to give: let it do "
            "without, to have its requests told of"
        ) from error


def _flow(
    auth: Any, on_event: Callable[[Event], object], request: Any, flow: Generator[Any, Any, None]
) -> Generator[Any, Any, None]:
    seen = _Seen(auth, request)
    try:
        asked = next(flow)
        while True:
            seen.sent(asked)
            seen.response = yield asked
            asked = flow.send(seen.response)
    except StopIteration:
        seen.is_over = True
    except TokenFlowError:
        seen.has_failed = True
        raise
    finally:
        flow.close()
        seen.tell(on_event)


async def _aflow(
    auth: Any, on_event: Callable[[Event], object], request: Any, flow: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    seen = _Seen(auth, request)
    try:
        asked = await anext(flow)
        while True:
            seen.sent(asked)
            seen.response = yield asked
            asked = await flow.asend(seen.response)
    except StopAsyncIteration:
        seen.is_over = True
    except TokenFlowError:
        seen.has_failed = True
        raise
    finally:
        await flow.aclose()  # waits for nothing: it has no await that a closing could reach
        seen.tell(on_event)


class _Seen:
    """What there is to tell of one request."""

    __slots__ = ("clock", "expires_in", "has_failed", "is_ours", "is_over", "is_refusal", "is_sealed", "request",
                 "response", "sends", "source", "was_refused")  # fmt: skip

    def __init__(self, auth: Any, request: Any) -> None:
        self.source: TokenSource = auth._source  # noqa: SLF001 - the other half
        self.clock: Clock = auth._policy.clock  # noqa: SLF001 - likewise
        self.is_sealed: bool = auth._placement.sealed  # noqa: SLF001 - likewise
        should_renew = auth._should_renew  # noqa: SLF001 - likewise
        self.is_refusal: Callable[[int], bool] = _REFUSALS.__contains__ if should_renew is None else _any_status
        try:
            # Now, before our own credential is on it.
            self.is_ours: bool = auth._is_ours(request)  # noqa: SLF001 - likewise
        except TokenFlowError:
            self.is_ours = True  # the flow comes upon the same, and fails in its own words
        self.request: Any = request
        self.expires_in: float | None = None
        self.response: Any = None
        self.sends = 0
        self.was_refused = False
        self.has_failed = False
        self.is_over = False

    def sent(self, request: Any) -> None:
        """It goes out, once more; the token that it carries is the one at hand now."""
        # Without a refusal it is a redirect that is followed with the credential that it had lost.
        self.was_refused |= self.response is not None and self.is_refusal(self.response.status_code)
        self.response = None
        self.request = request
        self.sends += 1
        self.expires_in = _left(self.source.held, self.clock)

    def tell(self, on_event: Callable[[Event], object]) -> None:
        """Tell it, unless the request was none of ours."""
        if not self.is_ours:
            return
        try:
            event = self._event()
        except Exception:  # this runs where the caller's own error may be on its way
            logger.exception("%s: a request could not be told of; nothing else is wrong", self.source.name)
            return
        tell_one(on_event, event)

    def _event(self) -> Event:
        from .events import RequestDone

        status = self.response.status_code if self.is_over else None
        return RequestDone(
            source=self.source.name,
            origin=str(origin_of(self.response.request.url if self.is_over else self.request.url)),
            outcome=self._outcome(status),
            status=status,
            sends=self.sends,
            expires_in=self.expires_in,
        )

    def _outcome(self, status: int | None) -> Literal["accepted", "absorbed", "refused", "failed", "broken"]:
        if not self.is_over:
            return "failed" if self.has_failed else "broken"
        if status == 401 and self._is_answered():
            return "refused"
        return "absorbed" if self.was_refused else "accepted"

    def _is_answered(self) -> bool:
        """Whether it is our credential that was answered: where a redirect leaves the origin it does not go along."""
        sent, answered = self.request, self.response.request
        if answered is sent:
            return True
        ours = sent.headers.get("Authorization")
        if self.is_sealed or ours is None:
            return not self.is_sealed and origin_of(answered.url) == origin_of(sent.url)
        return bool(answered.headers.get("Authorization") == ours)


_REFUSALS = frozenset({401, 403})


def _any_status(_status: int) -> bool:
    """Whatever the program's predicate takes for a refusal."""
    return True


def _left(held: Held | None, clock: Clock) -> float | None:
    """Seconds that a token has left; None where there is none, none that may be sent, or nobody knows."""
    if held is None or held.life.end >= MAX_LIFETIME:
        return None
    left = held.left(clock)
    return left if math.isfinite(left) else None
