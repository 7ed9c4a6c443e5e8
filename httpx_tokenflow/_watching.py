"""Every request, told to those who want that: metrics. Who does not ask for it pays nothing.

Rules.

1. Nothing is looked up per request whether anybody watches: an auth that is watched has other flows, its own with the
   telling around them. One that is not has its class's.
2. What is told is told when the request's flow is over, whatever ended it, in its thread or on its loop.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal
from weakref import ref

from ._errors import TokenFlowError
from ._handlers import tell_one
from ._origins import origin_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from ._sources import TokenSource
    from ._times import Clock
    from .events import Event

__all__ = ["watch"]


def watch(auth: Any, on_event: Callable[[Event], object]) -> None:
    """Have `on_event` told of every request that `auth` puts its credential on."""
    # By a weak reference: an auth that held itself would outlive whoever lets it go. Its client holds it meanwhile.
    auth.sync_auth_flow = functools.partial(_flow, ref(auth), on_event)
    auth.async_auth_flow = functools.partial(_aflow, ref(auth), on_event)


def _flow(this: ref[Any], on_event: Callable[[Event], object], request: Any) -> Generator[Any, Any, None]:
    auth: Any = this()
    flow = type(auth).sync_auth_flow(auth, request)
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


async def _aflow(this: ref[Any], on_event: Callable[[Event], object], request: Any) -> AsyncGenerator[Any, Any]:
    auth: Any = this()
    flow = type(auth).async_auth_flow(auth, request)
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
        await flow.aclose()
        seen.tell(on_event)


class _Seen:
    """What there is to tell of one request."""

    __slots__ = ("clock", "expires_in", "has_failed", "is_ours", "is_over", "response", "sends", "source", "url")

    def __init__(self, auth: Any, request: Any) -> None:
        self.source: TokenSource = auth._source  # noqa: SLF001 - the other half
        self.clock: Clock = auth._policy.clock  # noqa: SLF001 - likewise
        self.is_ours: bool = auth._is_ours(request)  # noqa: SLF001 - likewise
        self.url = request.url
        self.expires_in: float | None = None
        self.response: Any = None
        self.sends = 0
        self.has_failed = False
        self.is_over = False

    def sent(self, request: Any) -> None:
        """It goes out, once more; the token that it carries is the one at hand now."""
        self.url = request.url
        self.sends += 1
        held = self.source.held
        self.expires_in = None if held is None else held.left(self.clock)

    def tell(self, on_event: Callable[[Event], object]) -> None:
        """Tell it, unless the request was none of ours."""
        if not self.is_ours:
            return
        from .events import RequestDone

        status = None if self.response is None else self.response.status_code
        event = RequestDone(
            source=self.source.name,
            origin=str(origin_of(self.url)),
            outcome=self._outcome(status),
            status=status if self.is_over else None,
            sends=self.sends,
            expires_in=self.expires_in,
        )
        tell_one(on_event, event)

    def _outcome(self, status: int | None) -> Literal["accepted", "absorbed", "refused", "failed", "broken"]:
        if not self.is_over:
            return "failed" if self.has_failed else "broken"
        if status == 401:
            return "refused"
        return "accepted" if self.sends == 1 else "absorbed"
