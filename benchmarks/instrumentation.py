"""What it costs a request with a fresh token to be watched, over the same request with a static header.

    python benchmarks/instrumentation.py [--json] [--wall] [--quick]

Rules.

1. The rules of `hot_path.py`, whose clients, floor and ways of counting these are.
2. A handler that asks for no requests costs nothing: nothing of it is called, which is asserted, by a profile of 100
   requests, before anything is counted.
3. The backends are the real ones: prometheus_client, and OpenTelemetry's SDK with readers and exporters in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import hot_path
from _fresh import FLOOR, TOKEN_URL, URL, client_of, static_header
from _report import Bar, Report, span
from hot_path import HTTPX_KINDS

if TYPE_CHECKING:
    from types import ModuleType

    from _fresh import Handler
    from hot_path import Costs

REQUESTS = 100
OF_OURS = ("events.py", "_watching.py", "_handlers.py", "_telling.py", "_timing.py", "instrumentation")


def watched(on_event: Any, library: ModuleType, is_async: bool, handler: Handler) -> Any:
    """A client whose auth has its token, and this handler."""
    from httpx_tokenflow import ClientCredentials, Token, TokenAuth

    grant = ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret")
    auth = TokenAuth(grant, token=Token("good", expires_at=time.time() + 3600), on_event=on_event)
    auth.token()
    return client_of(library, is_async, handler, auth=auth)


def nobody(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return watched(None, library, is_async, handler)


def of_events(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return watched([].append, library, is_async, handler)


class Nothing:
    """Asks for every request, and does nothing with it."""

    every_request = True

    def __call__(self, event: Any) -> None:
        pass


def of_requests(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return watched(Nothing(), library, is_async, handler)


def _prometheus() -> Any:
    from prometheus_client import CollectorRegistry

    from httpx_tokenflow.instrumentation import PrometheusMetrics

    return PrometheusMetrics(CollectorRegistry())


def _metrics() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from httpx_tokenflow.instrumentation import OpenTelemetryMetrics

    return OpenTelemetryMetrics(MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))


def _traces() -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from httpx_tokenflow.instrumentation import OpenTelemetryTraces

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    return OpenTelemetryTraces(provider)


def prometheus(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return watched(_prometheus(), library, is_async, handler)


def opentelemetry_metrics(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return watched(_metrics(), library, is_async, handler)


def opentelemetry_traces(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return watched(_traces(), library, is_async, handler)


def opentelemetry_both(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from httpx_tokenflow.events import to_all

    return watched(to_all(_metrics(), _traces()), library, is_async, handler)


OFF = {"no handler": nobody, "handler of events": of_events, "OpenTelemetryTraces": opentelemetry_traces}
CASES = {
    FLOOR: static_header,
    **OFF,
    "handler of every request, which does nothing": of_requests,
    "PrometheusMetrics": prometheus,
    "OpenTelemetryMetrics (SDK)": opentelemetry_metrics,
    "OpenTelemetryMetrics and OpenTelemetryTraces": opentelemetry_both,
}


def calls(client: Any, is_async: bool) -> int:
    """How often `REQUESTS` requests call what tells events, and what hears them."""
    counted = 0

    def profile(frame: Any, event: str, _arg: Any) -> None:
        nonlocal counted
        name = frame.f_code.co_filename
        counted += event == "call" and "httpx_tokenflow" in name and any(one in name for one in OF_OURS)

    async def ask() -> None:
        for _ in range(REQUESTS):
            await client.get(URL)

    asyncio.run(client.get(URL)) if is_async else client.get(URL)
    sys.setprofile(profile)
    try:
        if is_async:
            asyncio.run(ask())
        else:
            for _ in range(REQUESTS):
                client.get(URL)
    finally:
        sys.setprofile(None)
    return counted


def called() -> dict[str, list[int]]:
    """The calls of each case but the floor, by kind of client; of those that are off there are none."""
    found: dict[str, list[int]] = {name: [] for name in CASES if name != FLOOR}
    for kind in HTTPX_KINDS:
        library, is_async = importlib.import_module(kind[0]), kind[1] == "async"
        for name, each in found.items():
            each.append(calls(CASES[name](library, is_async, lambda _, own=library: own.Response(200)), is_async))
    for name in OFF:
        if any(found[name]):
            raise RuntimeError(f"{name} is called by a hot request: {found[name]}")
    return found


def report(costs: Costs, calls_of: dict[str, list[int]], *, counted: bool) -> Report:
    """The table of `hot_path`, and a column of calls."""
    table = hot_path.report(costs, counted=counted)
    rows = [(*row, f"{max(calls_of.get(row[0], [0])) / REQUESTS:.0f}") for row in table.rows]
    data = {**table.data, "calls": calls_of}
    return Report(
        title=table.title.replace("a request with a fresh token", "being watched"),
        columns=(*table.columns, "calls"),
        rows=rows,
        notes=[*table.notes, "calls: of our functions that tell and hear events, for each request"],
        data=data,
        bars=_bars(costs, calls_of, counted=counted),
    )


def _bars(costs: Costs, calls_of: dict[str, list[int]], *, counted: bool) -> list[Bar]:
    """A request that nobody watches calls nothing, and costs what it costs without a handler."""
    called = max(max(calls_of[name]) for name in OFF)
    ratios = [each["handler of events"] / each["no handler"] for each in costs.values()]
    bar = 1.005 if counted else 1.05
    return [
        Bar("calls of a fresh request to a handler that asks for no requests", "0", str(called), called == 0, True),
        Bar("cost of a fresh request with such a handler ÷ without", "≤ 1", span(ratios, "{:.3f}"), max(ratios) <= bar),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs a request to be watched, over a static header.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--wall", action="store_true", help="by the clock, even where valgrind is there")
    parser.add_argument("--quick", action="store_true", help="by the clock, and few rounds")
    parser.add_argument("--child", nargs="+", metavar="LIB KIND CASE…", help=argparse.SUPPRESS)
    args = parser.parse_args()
    hot_path.CASES, hot_path.KINDS, hot_path.__file__ = (
        CASES,
        HTTPX_KINDS,
        __file__,
    )  # the same way of counting, of these clients
    if args.child:
        hot_path.child(*args.child)
        return
    counted = not (args.wall or args.quick) and shutil.which("valgrind") is not None
    calls_of = called()
    cells = hot_path.contestants()
    costs = (
        hot_path.by_instructions(cells)
        if counted
        else hot_path.by_clock(cells, hot_path.QUICK if args.quick else hot_path.ROUNDS)
    )
    raise SystemExit(report(costs, calls_of, counted=counted).show(as_json=args.json))


if __name__ == "__main__":
    main()
