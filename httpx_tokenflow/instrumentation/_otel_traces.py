"""Traces for OpenTelemetry (extra ``otel``).

Rules.

1. A renewal is one span, a child of the span in which it was set off, which it may outlive: that is what caused it.
   Whoever waited for it has a span of their own, a child of theirs, with a link to the renewal's: many wait for one.
2. Events are told when all is over, so spans are made then, with the times that they had: the requests that a renewal
   makes, where an HTTP library is instrumented, lie beside its span and not in it.
3. A waiter may be told of before the renewal, in another thread. Its span is then made when the renewal's is; or
   without a link, if that has not come within `PATIENCE`, or too many wait for theirs.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from httpx_tokenflow._extras import need_extra
from httpx_tokenflow._forks import renew_after_fork
from httpx_tokenflow._lifecycle import Why
from httpx_tokenflow.events import RenewalFailed, TokenObtained, Waited

from ._names import error_of
from ._turns import Turns

with need_extra("otel", "OpenTelemetryTraces"):
    from opentelemetry import context, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from httpx_tokenflow._errors import TokenFlowError
    from httpx_tokenflow.events import Event

__all__ = ["OpenTelemetryTraces"]

SCOPE = "httpx_tokenflow"  # the instrumentation scope
MOST_RENEWALS = 1000  # whose spans are remembered, for those who waited
MOST_PENDING = 1000  # waiters whose renewal has not been told of
PATIENCE = 5.0  # seconds that they wait for that

_UNTOLD = frozenset({Why.BACKED_OFF, Why.ERRAND, Why.UNSAVED})  # renewals of which no event tells


class _Pending(NamedTuple):
    """A waiter whose renewal has not been told of."""

    event: Waited
    parent: context.Context
    end: int  # Unix nanoseconds


class OpenTelemetryTraces:
    """A span for each renewal, and one for each wait, linked to it: `TokenAuth(…, on_event=OpenTelemetryTraces())`.

    ``tokenflow.renewal`` says why, by which grant, with how many token requests and where the time went;
    ``tokenflow.wait`` says who led, how long it took and whether a token came of it. Both are internal spans; a request
    with a fresh token has none.

    Args:
        tracer_provider: a ``TracerProvider``; None: the global one.

    Raises:
        ConfigurationError: the extra ``otel`` is missing.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._turns = Turns()
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._renewals: OrderedDict[int, trace.SpanContext] = OrderedDict()
        self._pending: deque[_Pending] = deque()  # the parent process has those that were there before

    def __call__(self, event: Event) -> None:
        """Make the span that `event` tells of, if it does."""
        if isinstance(event, TokenObtained | RenewalFailed | Waited):
            self._turns.take(event, self._handle)

    def flush(self) -> None:
        """Make the spans of those who still wait for their renewal's, without a link: when the program ends."""
        self._make(self._due(0.0))

    def _handle(self, event: Event) -> None:
        if isinstance(event, Waited):
            self._waited(event)
        elif isinstance(event, TokenObtained | RenewalFailed):
            self._renewed(event)
        if self._pending:
            self._make(self._due(PATIENCE))

    def _renewed(self, event: TokenObtained | RenewalFailed) -> None:
        end = time.time_ns()
        span = self._tracer.start_span("tokenflow.renewal", start_time=_before(end, event.seconds))
        if span.is_recording():
            span.set_attributes(_of_renewal(event))
            _fail(span, event.error if isinstance(event, RenewalFailed) else None)
        span.end(end)
        with self._lock:
            self._renewals[event.renewal] = span.get_span_context()
            if len(self._renewals) > MOST_RENEWALS:
                self._renewals.popitem(last=False)
            ready = self._take(lambda one: one.event.renewal == event.renewal)
        self._make(ready)

    def _waited(self, event: Waited) -> None:
        ready = _Pending(event, context.get_current(), time.time_ns())
        with self._lock:
            if event.renewal not in self._renewals and event.why not in _UNTOLD:
                self._pending.append(ready)
                if len(self._pending) <= MOST_PENDING:
                    return
                ready = self._pending.popleft()
        self._make([ready])

    def _due(self, patience: float) -> list[_Pending]:
        """Those whose patience is over, who are no longer pending."""
        until = _before(time.time_ns(), patience)
        with self._lock:
            return self._take(lambda one: one.end <= until)

    def _take(self, is_ready: Callable[[_Pending], bool]) -> list[_Pending]:
        ready = [one for one in self._pending if is_ready(one)]
        if ready:
            self._pending = deque(one for one in self._pending if not is_ready(one))
        return ready

    def _make(self, waiters: Iterable[_Pending]) -> None:
        """The spans of `waiters`."""
        for event, parent, end in waiters:
            renewal = self._renewals.get(event.renewal)
            span = self._tracer.start_span(
                "tokenflow.wait",
                parent,
                links=[] if renewal is None or not renewal.is_valid else [trace.Link(renewal)],
                start_time=_before(end, event.seconds),
            )
            if span.is_recording():
                span.set_attributes(_of_wait(event))
            span.end(end)

    def __repr__(self) -> str:
        return f"<OpenTelemetryTraces {len(self._pending)} pending>"


def _before(end: int, seconds: float) -> int:
    """Unix nanoseconds."""
    return end - int(max(0.0, seconds) * 1e9)


def _of_renewal(event: TokenObtained | RenewalFailed) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "tokenflow.source": event.source,
        "tokenflow.grant": event.grant,
        "tokenflow.why": str(event.why),
        "tokenflow.renewal": event.renewal,
        "tokenflow.token_requests": event.requests,
        "tokenflow.endpoint_seconds": event.endpoint_seconds,
        "tokenflow.store_seconds": event.store_seconds,
        "tokenflow.wait_seconds": event.wait_seconds,
        "tokenflow.waiters": event.waiting,
    }
    if event.expires_in is not None:
        attributes["tokenflow.token_expires_in"] = event.expires_in
    if isinstance(event, RenewalFailed):
        return {**attributes, "tokenflow.result": "failed", "tokenflow.retry_in": event.retry_in}
    return {**attributes, "tokenflow.result": "minted" if event.minted else "found"}


def _of_wait(event: Waited) -> dict[str, Any]:
    return {
        "tokenflow.source": event.source,
        "tokenflow.why": str(event.why),
        "tokenflow.renewal": event.renewal,
        "tokenflow.role": "leader" if event.leads else "waiter",
        "tokenflow.result": "served" if event.served else "failed",
        "tokenflow.seconds": event.seconds,
    }


def _fail(span: trace.Span, error: TokenFlowError | None) -> None:
    if error is not None:
        span.set_attribute("error.type", error_of(error))
        # Not its words, which may be a server's: they are in the log.
        span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
