"""Prometheus and OpenTelemetry: the same numbers under the same names, shared, safe from threads, forks and secrets."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import prometheus_client
import pytest
from instrumented import ORIGIN, SOURCE, make, of_opentelemetry, of_prometheus, one_of_each, stream
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from httpx_tokenflow import ClientCredentials, RefreshToken, RenewalPolicy, Token, TokenAuth, TokenFlowError, events
from httpx_tokenflow.instrumentation import (
    MEASURES,
    OpenTelemetryMetrics,
    OpenTelemetryTraces,
    PrometheusMetrics,
)
from httpx_tokenflow.testing import Answer, Refuse, Sandbox, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = 1_000_000.0
REVOKED, REVOKED_LABELS = "tokenflow_revocations", {"tokenflow_source": SOURCE, "tokenflow_result": "agreed"}


class Both:
    """A handler of each backend, with what it is that they write to."""

    def __init__(self) -> None:
        self.registry, self.reader, self.spans = CollectorRegistry(), InMemoryMetricReader(), InMemorySpanExporter()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        tracing = TracerProvider(shutdown_on_exit=False)
        tracing.add_span_processor(SimpleSpanProcessor(self.spans))
        self.prometheus = PrometheusMetrics(self.registry)
        self.opentelemetry = OpenTelemetryMetrics(self.provider)
        self.traces = OpenTelemetryTraces(tracing)
        self.prometheus._collectors._reading.wall = lambda: NOW
        self.opentelemetry._meters._reading.wall = lambda: NOW

    @property
    def handler(self) -> Callable[[events.Event], object]:
        return events.to_all(self.prometheus, self.opentelemetry, self.traces)

    def text(self) -> str:
        """All that leaves the process."""
        spans = "".join(span.to_json() for span in self.spans.get_finished_spans())
        return generate_latest(self.registry).decode() + self.reader.get_metrics_data().to_json() + spans


@pytest.fixture
def both() -> Both:
    return Both()


# The two are one


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_both_backends_count_the_same(both: Both, seed: int) -> None:
    """Over the same events both have the same series with the same values, sums and buckets, whatever those say."""
    for event in stream(seed, 1_000):
        both.prometheus(event)
        both.opentelemetry(event)
    prometheus, opentelemetry = of_prometheus(both.registry), of_opentelemetry(both.reader)
    assert prometheus.keys() == opentelemetry.keys()
    for key, value in prometheus.items():
        assert opentelemetry[key] == pytest.approx(value), key
    assert {name for name, _ in prometheus} == {one.prometheus_name.removesuffix("_total") for one in MEASURES}


def test_each_measure_is_what_it_says(both: Both) -> None:
    """Names, kinds, units and descriptions are those of the table, in both backends."""
    for event in one_of_each():
        both.prometheus(event)
        both.opentelemetry(event)
    scraped = {metric.name: metric for metric in both.registry.collect()}
    (resource,) = both.reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "httpx_tokenflow"
    exported = {metric.name: metric for metric in scope.metrics}
    assert set(exported) == {measure.name for measure in MEASURES}
    for measure in MEASURES:
        theirs, ours = scraped[measure.prometheus_name.removesuffix("_total")], exported[measure.name]
        assert (theirs.type, theirs.documentation) == (measure.kind, measure.says)
        assert (ours.unit, ours.description) == (measure.unit, measure.says)
        kind = {"counter": "Sum", "histogram": "Histogram", "gauge": "Gauge"}[measure.kind]
        assert type(ours.data).__name__ == kind
        if measure.kind == "counter":
            assert ours.data.is_monotonic
        if measure.kind == "histogram":
            assert tuple(ours.data.data_points[0].explicit_bounds) == measure.buckets


def test_what_is_exported_is_text(both: Both) -> None:
    """Names with quotes, line breaks and lone surrogates leave the process as lines that can be parsed."""
    from prometheus_client.parser import text_string_to_metric_families

    for event in stream(1, 500):
        both.prometheus(event)
    for name in ('a"b\n# HELP x', "\ud800", "x" * 10_000, "\\", "\u2028"):
        both.prometheus(make(events.RequestDone, name, origin=f"https://{name}"))
        both.opentelemetry(make(events.RequestDone, name, origin=f"https://{name}"))
    text = generate_latest(both.registry).decode()
    assert len(list(text_string_to_metric_families(text))) >= len(MEASURES)
    json.loads(both.reader.get_metrics_data().to_json())


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_what_is_counted_is_what_has_happened(both: Both, driver: str) -> None:
    """Requests, refusals, token requests and renewals are as many as the server has seen, over revocations."""
    sandbox = Sandbox()
    kind = httpx.Client if driver == "threads" else httpx.AsyncClient
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    policy = RenewalPolicy(attempts=1)
    auth = TokenAuth(grant, client=kind(transport=sandbox.transport()), policy=policy, on_event=both.handler)
    sandbox.script(Status(503))
    client = kind(transport=sandbox.transport(), auth=auth)
    statuses: list[int] = []

    async def ask() -> None:
        for i in range(20):
            if i % 5 == 4:
                sandbox.revoke_access_tokens()
            try:
                response = client.get(f"{ORIGIN}/api/x")
                statuses.append((response if driver == "threads" else await response).status_code)
            except TokenFlowError:
                auth._source.forgive()

    asyncio.run(ask()) if driver == "threads" else anyio.run(ask, backend=driver)
    assert statuses == [200] * 19
    counted: dict[tuple[str, ...], float] = {}
    for (name, labels), value in of_prometheus(both.registry).items():
        values = dict(labels)
        said = values.get("tokenflow_outcome") or values.get("tokenflow_result")
        counted[name, said or ""] = counted.get((name, said or ""), 0) + (value if isinstance(value, float) else 1)
    assert counted["tokenflow_requests", "failed"] == 1
    assert counted["tokenflow_requests", "absorbed"] == sandbox.api_refused == 4
    assert counted["tokenflow_requests", "accepted"] == 15
    assert sandbox.api_requests == 15 + 2 * 4
    assert counted["tokenflow_refusals", "retried"] == 4
    tokens = counted["tokenflow_token_requests", "minted"], counted["tokenflow_token_requests", "failed"]
    assert tokens == (5.0, 1.0)
    assert sum(tokens) == sandbox.token_requests
    assert (counted["tokenflow_renewals", "minted"], counted["tokenflow_renewals", "failed"]) == (5.0, 1.0)
    assert len(both.spans.get_finished_spans()) == 2 * 6


# Who shares


def test_two_on_one_registry(both: Both) -> None:
    """Two objects on one registry, or one provider, do not raise, add up, and are one handler to who shares a token."""
    other = PrometheusMetrics(both.registry), OpenTelemetryMetrics(both.provider)
    for event in [make(events.Revoked)] * 2:
        both.prometheus(event)
        both.opentelemetry(event)
        other[0](event)
        other[1](event)
    for found in (of_prometheus(both.registry), of_opentelemetry(both.reader)):
        assert {value for (name, _), value in found.items() if name == "tokenflow_revocations"} == {4.0}
    assert other == (both.prometheus, both.opentelemetry)
    assert {hash(other[0]), hash(other[1])} == {hash(both.prometheus), hash(both.opentelemetry)}
    assert PrometheusMetrics(CollectorRegistry()) != both.prometheus
    assert OpenTelemetryMetrics(MeterProvider(shutdown_on_exit=False)) != both.opentelemetry
    assert both.prometheus != both.opentelemetry
    assert repr(both.prometheus).startswith("<PrometheusMetrics")
    assert repr(both.opentelemetry).startswith("<OpenTelemetryMetrics")


def test_who_shares_a_token_is_counted_once(both: Both) -> None:
    """Two auths that share a token, each with a handler of its own on one registry: one renewal is counted once."""
    sandbox = Sandbox()
    client = httpx.Client(transport=sandbox.transport())
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    first = TokenAuth(grant, client=client, on_event=both.prometheus)
    second = TokenAuth(grant, client=client, store=first._source.store, on_event=PrometheusMetrics(both.registry))
    third = TokenAuth(grant, client=client, store=first._source.store, on_event=both.handler)
    for auth in (first, second, third):
        with httpx.Client(transport=sandbox.transport(), auth=auth) as api:
            assert api.get(f"{ORIGIN}/api/x").status_code == 200
    counted = {name: value for (name, _), value in of_prometheus(both.registry).items()}
    assert counted["tokenflow_renewals"] == 1
    assert counted["tokenflow_requests"] == 3


def test_by_default_it_is_the_global_one() -> None:
    """Without an argument the metrics are in prometheus_client's own registry, and of the global provider."""
    code = """
from prometheus_client import REGISTRY
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from httpx_tokenflow.events import Revoked
from httpx_tokenflow.instrumentation import OpenTelemetryMetrics, PrometheusMetrics
before = OpenTelemetryMetrics()  # before the program has set its provider
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
after = OpenTelemetryMetrics()
assert before == after == OpenTelemetryMetrics(metrics.get_meter_provider())
assert before != OpenTelemetryMetrics(MeterProvider([]))
for handler in (PrometheusMetrics(), PrometheusMetrics(), before):
    handler(Revoked(source="c@as", agreed=True))
labels = {"tokenflow_source": "c@as", "tokenflow_result": "agreed"}
assert REGISTRY.get_sample_value("tokenflow_revocations_total", labels) == 2
assert "tokenflow.revocations" in reader.get_metrics_data().to_json()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_registry_is_not_kept_alive() -> None:
    """What nobody uses any more is collected, with its metrics."""
    registry, provider = CollectorRegistry(), MeterProvider(shutdown_on_exit=False)
    for handler in (PrometheusMetrics(registry), OpenTelemetryMetrics(provider)):
        handler(make(events.Revoked))
    gone = weakref.ref(registry), weakref.ref(provider)
    provider.shutdown()
    del registry, provider, handler
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_a_registry_with_other_metrics_of_these_names() -> None:
    """Another metric of that name is the program's to sort out: prometheus_client's ValueError says which."""
    registry = CollectorRegistry()
    prometheus_client.Counter("tokenflow_requests", "another", registry=registry)
    with pytest.raises(ValueError, match="tokenflow_requests"):
        PrometheusMetrics(registry)


def test_a_registry_that_has_another_metric_for_a_while() -> None:
    """Where a name is taken nothing is left behind: once it is free the metrics can be made."""
    registry = CollectorRegistry()
    last = prometheus_client.Counter("tokenflow_revocations", "another", registry=registry)
    with pytest.raises(ValueError, match="tokenflow_revocations"):
        PrometheusMetrics(registry)
    registry.unregister(last)
    PrometheusMetrics(registry)(make(events.Revoked))
    assert (REVOKED, frozenset(REVOKED_LABELS.items())) in of_prometheus(registry)


@pytest.mark.parametrize("number", [1, None], ids=["one", "all"])
def test_a_registry_that_was_emptied(number: int | None) -> None:
    """A fixture has unregistered metrics: the next object exports all of them, from the beginning."""
    registry = CollectorRegistry()
    PrometheusMetrics(registry)(make(events.Revoked))
    collectors = list(PrometheusMetrics(registry)._collectors._metrics.values())
    for collector in collectors[-1:] if number else collectors:
        registry.unregister(collector)
    handler = PrometheusMetrics(registry)
    for event in [make(events.Revoked), make(events.RequestDone)]:
        handler(event)
    found = of_prometheus(registry)
    assert found[REVOKED, frozenset(REVOKED_LABELS.items())] == 1
    assert any(name == "tokenflow_requests" for name, _ in found)
    assert PrometheusMetrics(registry) == handler


# Threads, collections of garbage, forks, processes


def test_threads_lose_nothing(both: Both) -> None:
    """What many threads count at once is all counted."""

    def count() -> None:
        for i in range(200):
            for handler in (both.prometheus, both.opentelemetry):
                handler(make(events.RequestDone, f"c{i % 7}@as.example"))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for found in (of_prometheus(both.registry), of_opentelemetry(both.reader)):
        assert sum(value for (name, _), value in found.items() if name == "tokenflow_requests") == 1600


def test_an_event_in_the_middle_of_another(both: Both) -> None:
    """A collection of garbage that tells an event while its thread holds a lock of the library stops nothing."""

    class Collected(float):
        """Tells an event where it is added up, as a `__del__` may."""

        def __radd__(self, other: float) -> float:
            both.prometheus(make(events.RefusalExplained, times=2.0))
            return float(self) + other

    def count() -> None:
        both.prometheus(make(events.RefusalExplained, times=Collected(1.0)))

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert [
        value for (name, _), value in of_prometheus(both.registry).items() if name == "tokenflow_refusal_causes"
    ] == [3.0]


def test_a_handler_whose_backend_fails(both: Both) -> None:
    """What a backend raises is raised once, and the next event is counted as ever."""
    written = both.prometheus._collectors._written
    both.prometheus._collectors._written = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        both.prometheus(make(events.Revoked))
    both.prometheus._collectors._written = written
    both.prometheus(make(events.Revoked))
    assert [value for (name, _), value in of_prometheus(both.registry).items() if name == "tokenflow_revocations"] == [
        1.0
    ]


_FORKED = """
import os, signal, sys, threading
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from httpx_tokenflow import events
from httpx_tokenflow._lifecycle import Why
from httpx_tokenflow.instrumentation import OpenTelemetryMetrics, OpenTelemetryTraces, PrometheusMetrics
from httpx_tokenflow.instrumentation import _shared

registry = CollectorRegistry()
handlers = [PrometheusMetrics(registry), OpenTelemetryTraces()]
traces = handlers[1]
locks = [handlers[0]._collectors._reading.names._lock, traces._lock, _shared._locks.making]
waited = events.Waited(source="c@as", renewal=1, leads=False, seconds=1.0, why=Why.DUE, served=True)
traces(waited)
assert len(traces._pending) == 1
held, go = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    held.set()
    go.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
children = []
for worker in range(2):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # nobody is left behind, whatever holds it up
        assert len(traces._pending) == 0  # that span is the parent's
        PrometheusMetrics(registry), OpenTelemetryMetrics(MeterProvider([InMemoryMetricReader()]))
        for handler in [*handlers]:
            handler(events.Revoked(source=f"c{worker}@as", agreed=True))
            handler(events.Revoked(source="shared@as", agreed=True))
            handler(events.BreakerOpened(source="shared@as", origin="https://api.example", seconds=10.0 + worker))
            handler(waited)
        assert len(traces._pending) == 1
        os._exit(0)
    children.append(pid)
for pid in children:
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
go.set()
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)
    print(generate_latest(together).decode())
"""


def _forked(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _FORKED], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fork_while_locks_are_held() -> None:
    """A child that is forked while other threads hold our locks counts as ever, and leaves the parent's spans to it."""
    _forked({})


def test_many_processes(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR the counters of all processes add up, and a gauge is one series without a pid."""
    lines = _forked({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}).splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    assert found['tokenflow_revocations_total{tokenflow_result="agreed",tokenflow_source="shared@as"}'] == "2.0"
    assert found['tokenflow_revocations_total{tokenflow_result="agreed",tokenflow_source="c1@as"}'] == "1.0"
    gauges = [line for line in found if line.startswith("tokenflow_breaker_open_until_seconds")]
    assert len(gauges) == 1
    assert "pid" not in gauges[0]


# Secrets


CANARIES = {"secret": "canary-client-secret", "access": "canary-access-token", "refresh": "canary-refresh-token"}


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
@pytest.mark.parametrize("is_async", [False, True])
def test_no_secret_leaves_the_process(both: Both, library: Any, is_async: bool) -> None:
    """Of all that happens to tokens and secrets no metric and no span has one, nor a path, a scope or a subject."""
    sandbox = Sandbox(clients={"client": CANARIES["secret"]})
    issued: list[str] = [*CANARIES.values()]
    answer = {"access_token": CANARIES["access"], "token_type": "Bearer", "expires_in": 3600}
    echo = " ".join(issued)
    sandbox.script(Answer({**answer, "refresh_token": CANARIES["refresh"]}))
    sandbox.script(
        Refuse(error=CANARIES["access"], params={"scope": CANARIES["access"], "error_description": echo}),
        Refuse("invalid_token", params={"error_description": echo}),
        on="api",
    )
    sandbox.script(
        Status(400, body={"error": CANARIES["access"], "error_description": echo}),
        Status(503, body=echo),
        Status(401, body={"error": "invalid_client", "error_description": echo}),
    )
    token = Token("canary-first", refresh_token=CANARIES["refresh"], expires_at=1.0)
    grants = [
        ClientCredentials(
            "https://as.example/token", client_id="client", client_secret=["canary-old", CANARIES["secret"]]
        ),
        RefreshToken(
            "https://as.example/token", client_id="client", client_secret=CANARIES["secret"], subject="canary-subject",
            scope="canary-scope",
        ),
    ]  # fmt: skip
    tokens = (httpx.AsyncClient if is_async else httpx.Client)(transport=sandbox.transport())
    policy = RenewalPolicy(attempts=1)
    outcomes = []
    for grant in grants:
        auth = TokenAuth(
            grant, token=token if grant.spends else None, client=tokens, policy=policy, on_event=both.handler
        )
        for _ in range(4):
            auth._source.forgive()
            outcomes.append(_outcome(library, is_async, sandbox, auth))
    assert {200, 401} & set(outcomes)
    assert "failed" in outcomes
    both.traces.flush()
    text = both.text()
    assert "tokenflow_refusals_total{" in text
    assert "tokenflow.renewal" in text
    for secret in [*issued, "canary", *[token for one in sandbox.seen for token in _tokens_of(one)]]:
        assert secret not in text, secret


def _outcome(library: Any, is_async: bool, sandbox: Sandbox, auth: TokenAuth) -> Any:
    url = f"{ORIGIN}/api/canary-path?canary=query"

    async def ask() -> int:
        async with library.AsyncClient(transport=_transport(library, sandbox, is_async=True), auth=auth) as client:
            return (await client.get(url)).status_code

    try:
        if is_async:
            return anyio.run(ask)
        with library.Client(transport=_transport(library, sandbox, is_async=False), auth=auth) as client:
            return client.get(url).status_code
    except TokenFlowError:
        return "failed"


def _transport(library: Any, sandbox: Sandbox, *, is_async: bool) -> Any:
    """The sandbox for either library: httpx2 has a class of its own for what it is given."""
    inner = sandbox.transport()
    if library is httpx:
        return inner

    def handed(request: Any) -> httpx.Request:
        return httpx.Request(request.method, str(request.url), headers=list(request.headers.raw))

    def answer(request: Any) -> Any:
        response = inner.handle_request(handed(request))
        return library.Response(response.status_code, headers=response.headers.raw, content=response.read())

    async def aanswer(request: Any) -> Any:
        response = await inner.handle_async_request(handed(request))
        return library.Response(response.status_code, headers=response.headers.raw, content=await response.aread())

    return library.MockTransport(aanswer if is_async else answer)


def _tokens_of(seen: Any) -> list[str]:
    return [seen.headers["authorization"].partition(" ")[2]] if seen.headers.get("authorization", "").strip() else []
