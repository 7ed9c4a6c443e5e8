"""Spans: one for a renewal, one for each who waited, linked; in whichever order and thread they are told."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from instrumented import SOURCE, make
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

from httpx_tokenflow import (
    ClientCredentials,
    RenewalPolicy,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenRequestError,
    events,
)
from httpx_tokenflow._lifecycle import Why
from httpx_tokenflow.instrumentation import OpenTelemetryTraces, _otel_traces
from httpx_tokenflow.testing import Sandbox, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import ReadableSpan

URL = "https://api.example/api/x"
CROWD = 5


class Traced:
    """Traces in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = OpenTelemetryTraces(self.provider)
        self.tracer = self.provider.get_tracer("the program")

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == f"tokenflow.{name}"]

    def the(self, name: str) -> Any:
        (span,) = self.spans(name)
        return span


@pytest.fixture
def traced() -> Traced:
    return Traced()


class Held(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The token endpoint, which answers when all who are to wait do."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.inner = sandbox.transport()
        self.waiting: Callable[[], int] = lambda: 0
        self.until = time.monotonic() + 30

    def _is_held(self, number: int) -> bool:
        return self.waiting() < number and time.monotonic() < self.until

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        while self._is_held(CROWD - 1):  # the thread that renews does not wait
            time.sleep(0.001)
        return self.inner.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        while self._is_held(CROWD):  # noqa: ASYNC110 - that somebody waits sets no event
            await anyio.sleep(0.001)
        return await self.inner.handle_async_request(request)


def crowd(driver: str, sandbox: Sandbox, traced: Traced) -> TokenAuth:
    """A few requests at once without a token, each in a span of its own."""
    kind = httpx.Client if driver == "threads" else httpx.AsyncClient
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    policy = RenewalPolicy(attempts=1)
    held = Held(sandbox)
    auth = TokenAuth(grant, client=kind(transport=held), policy=policy, on_event=traced.traces)
    held.waiting = lambda: auth.status.waiting
    client = kind(transport=sandbox.transport(), auth=auth)
    if driver == "threads":
        together = threading.Barrier(CROWD)

        def one(i: int) -> None:
            together.wait(30)
            with traced.tracer.start_as_current_span(f"request {i}"), contextlib.suppress(TokenEndpointUnavailable):
                client.get(URL)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(CROWD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return auth

    async def aone(i: int) -> None:
        with traced.tracer.start_as_current_span(f"request {i}"), contextlib.suppress(TokenEndpointUnavailable):
            await client.get(URL)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for i in range(CROWD):
                tasks.start_soon(aone, i)

    anyio.run(all_of_them, backend=driver)
    return auth


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_crowd_waits_for_one_renewal(driver: str, fails: bool, traced: Traced) -> None:
    """The renewal is a child of its leader's span; each wait one of its own request's, and links to it."""
    sandbox = Sandbox()
    if fails:
        sandbox.script(Status(503))
    crowd(driver, sandbox, traced)
    traced.traces.flush()
    renewal, waits = traced.the("renewal"), traced.spans("wait")
    assert len(waits) == CROWD
    assert all([link.context.span_id for link in wait.links] == [renewal.context.span_id] for wait in waits)
    requests = {
        span.context.span_id: span for span in traced.exporter.get_finished_spans() if span.name.startswith("request")
    }
    assert {wait.parent.span_id for wait in waits} == set(requests)
    (leader,) = (wait for wait in waits if wait.attributes["tokenflow.role"] == "leader")
    assert renewal.parent.span_id == leader.parent.span_id
    assert renewal.context.trace_id == leader.context.trace_id
    assert {wait.attributes["tokenflow.role"] for wait in waits} == {"leader", "waiter"}
    assert {wait.attributes["tokenflow.result"] for wait in waits} == {"failed" if fails else "served"}
    for span in (renewal, *waits):
        assert span.kind is SpanKind.INTERNAL
        assert span.instrumentation_scope.name == "httpx_tokenflow"
        assert 0 < span.end_time - span.start_time < 30e9
        assert span.attributes["tokenflow.renewal"] == renewal.attributes["tokenflow.renewal"]
    for wait in waits:
        outer = requests[wait.parent.span_id]
        assert outer.start_time <= wait.start_time + 5e6
        assert wait.end_time <= outer.end_time
    assert renewal.status.status_code is (StatusCode.ERROR if fails else StatusCode.UNSET)
    assert repr(traced.traces) == "<OpenTelemetryTraces 0 pending>"


def test_what_a_renewal_says(traced: Traced) -> None:
    """A renewal's span has why, the grant, requests, the parts of its time, who waited, and the end of its token."""
    traced.traces(make(events.TokenRenewed, seconds=2.0, renewal=7, requests=2, waiting=9, expires_in=60.0))
    span = traced.the("renewal")
    assert dict(span.attributes) == {
        "tokenflow.source": SOURCE,
        "tokenflow.grant": "ClientCredentials",
        "tokenflow.why": "due",
        "tokenflow.renewal": 7,
        "tokenflow.token_requests": 2,
        "tokenflow.endpoint_seconds": 0.3,
        "tokenflow.store_seconds": 0.05,
        "tokenflow.wait_seconds": 0.1,
        "tokenflow.waiters": 9,
        "tokenflow.token_expires_in": 60.0,
        "tokenflow.result": "minted",
    }
    assert span.end_time - span.start_time == 2_000_000_000
    assert span.parent is None


def test_what_a_renewal_that_failed_says(traced: Traced) -> None:
    """One that failed has the status of an error, its type, and none of the words of a server."""
    error = TokenRequestError("the server said S3cret", error="invalid_client")
    traced.traces(make(events.RenewalFailed, error=error, seconds=-1.0))
    span = traced.the("renewal")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "TokenRequestError"
    assert span.attributes["error.type"] == "invalid_client"
    assert span.attributes["tokenflow.result"] == "failed"
    assert "tokenflow.token_expires_in" not in span.attributes
    assert "S3cret" not in span.to_json()
    assert span.end_time == span.start_time


def test_what_a_wait_says(traced: Traced) -> None:
    """A wait's span has its role, how long it took, why, and whether a token came of it."""
    traced.traces(make(events.TokenObtained, minted=False))
    traced.traces(make(events.Waited, leads=False, seconds=1.5, served=False))
    assert traced.the("renewal").attributes["tokenflow.result"] == "found"
    span = traced.the("wait")
    assert dict(span.attributes) == {
        "tokenflow.source": SOURCE,
        "tokenflow.why": "due",
        "tokenflow.renewal": 1,
        "tokenflow.role": "waiter",
        "tokenflow.result": "failed",
        "tokenflow.seconds": 1.5,
    }
    assert span.end_time - span.start_time == 1_500_000_000


def test_a_waiter_that_is_told_first(traced: Traced) -> None:
    """A wait that is told before its renewal is held until that is, and then has its own times, parent and the link."""
    with traced.tracer.start_as_current_span("request") as request:
        traced.traces(make(events.Waited, renewal=3))
    assert traced.spans("wait") == []
    traced.traces(make(events.TokenRenewed, renewal=2))
    assert traced.spans("wait") == []
    with traced.tracer.start_as_current_span("elsewhere"):
        traced.traces(make(events.TokenRenewed, renewal=3))
    wait = traced.the("wait")
    assert wait.parent.span_id == request.get_span_context().span_id
    (link,) = wait.links
    assert link.context.span_id == traced.spans("renewal")[1].context.span_id
    assert wait.end_time <= traced.spans("renewal")[1].end_time


@pytest.mark.parametrize("why", [Why.BACKED_OFF, Why.ERRAND, Why.UNSAVED])
def test_a_renewal_that_no_event_tells_of(traced: Traced, why: Why) -> None:
    """Nobody waits for the span of a renewal that is told of by no event."""
    traced.traces(make(events.Waited, why=why))
    assert traced.the("wait").links == ()


def test_a_renewal_that_is_never_told_of(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait whose renewal is never told of has its span without a link, when its patience is over."""
    monkeypatch.setattr(_otel_traces, "PATIENCE", 100.0)
    traced.traces(make(events.Waited, renewal=3))
    traced.traces(make(events.TokenRenewed, renewal=4))
    assert traced.spans("wait") == []
    monkeypatch.setattr(_otel_traces, "PATIENCE", 0.0)
    traced.traces(make(events.TokenRenewed, renewal=5))
    assert traced.the("wait").links == ()
    traced.traces(make(events.TokenRenewed, renewal=3))
    assert len(traced.spans("wait")) == 1


def test_what_is_pending_is_made_in_the_end(traced: Traced) -> None:
    """`flush` makes the spans of all who still wait for their renewal's."""
    for _ in range(3):
        traced.traces(make(events.Waited))
    assert repr(traced.traces) == "<OpenTelemetryTraces 3 pending>"
    traced.traces.flush()
    assert [span.links for span in traced.spans("wait")] == [()] * 3
    assert repr(traced.traces) == "<OpenTelemetryTraces 0 pending>"


def test_what_is_remembered_is_bounded(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of waiters and of renewals no more than so many are remembered; a waiter that is pushed out is not lost."""
    monkeypatch.setattr(_otel_traces, "MOST_PENDING", 10)
    monkeypatch.setattr(_otel_traces, "MOST_RENEWALS", 10)
    for number in range(1, 51):
        traced.traces(make(events.Waited, renewal=number))
    assert len(traced.traces._pending) == 10
    assert [span.attributes["tokenflow.renewal"] for span in traced.spans("wait")] == list(range(1, 41))
    for number in range(1, 51):
        traced.traces(make(events.TokenRenewed, renewal=number))
    assert len(traced.traces._renewals) == 10
    assert len(traced.traces._pending) == 0
    waits = traced.spans("wait")
    assert len(waits) == 50
    assert [len(span.links) for span in waits] == [0] * 40 + [1] * 10


def test_threads_lose_no_span(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiters and renewals told by many threads at once: each has one span, and those of a renewal link to it."""
    monkeypatch.setattr(_otel_traces, "PATIENCE", 100.0)

    def tell(which: int) -> None:
        for number in range(100):
            kind = events.TokenRenewed if (number + which) % 4 == 0 else events.Waited
            traced.traces(make(kind, renewal=number))

    threads = [threading.Thread(target=tell, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(traced.spans("renewal")) == 100
    assert len(traced.spans("wait")) == 300
    assert all(len(span.links) == 1 for span in traced.spans("wait"))


def test_other_events_make_no_span(traced: Traced) -> None:
    """Requests, refusals and the rest are none of the traces' affair; nor is it called for every request."""
    for kind in (events.RequestDone, events.RequestRefused, events.Revoked, events.BreakerOpened):
        traced.traces(make(kind))
    assert traced.exporter.get_finished_spans() == ()
    assert not hasattr(traced.traces, "every_request")


@pytest.mark.parametrize(
    "provider", [NoOpTracerProvider, lambda: TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)]
)
def test_where_nothing_is_recorded(provider: Callable[[], Any]) -> None:
    """With a provider that records nothing all goes as ever, nothing stays pending, and there is no link to nothing."""
    traces = OpenTelemetryTraces(provider())
    for _ in range(100):
        traces(make(events.Waited))
        traces(make(events.TokenRenewed))
        traces(make(events.RenewalFailed))
    assert repr(traces) == "<OpenTelemetryTraces 0 pending>"


def test_the_global_provider() -> None:
    """Without an argument the spans are the global provider's, which is a no-op until the program has set one."""
    traces = OpenTelemetryTraces()
    traces(make(events.TokenRenewed))
    assert repr(traces) == "<OpenTelemetryTraces 0 pending>"


def test_what_a_span_processor_raises_breaks_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """A defect in the program's own span processor is logged, and requests get their answers."""

    class Broken(SimpleSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise LookupError("a defect of the program's")

    traced = Traced()
    traced.provider.add_span_processor(Broken(traced.exporter))
    sandbox = Sandbox()
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    auth = TokenAuth(grant, client=httpx.Client(transport=sandbox.transport()), on_event=traced.traces)
    with httpx.Client(transport=sandbox.transport(), auth=auth) as client:
        assert client.get(URL).status_code == 200
    assert "on_event raised" in caplog.text
    assert context.get_current() == {}
    assert not trace.get_current_span().is_recording()
