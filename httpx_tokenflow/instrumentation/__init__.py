"""Metrics and traces, subscribed to events; off unless somebody asks for them.

    TokenAuth(…, on_event=PrometheusMetrics())                                      extra ``prometheus``
    TokenAuth(…, on_event=to_all(OpenTelemetryMetrics(), OpenTelemetryTraces()))    extra ``otel``; see `events.to_all`

What is measured is one table (`_measures`), and how an event is counted is written once (`_reading`): the backends do
no more than write it down. `dashboard` and `alerts` are what to look at, and when to get up.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from httpx_tokenflow._extras import lazily

from ._measures import MEASURES, Measure, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._otel_metrics import OpenTelemetryMetrics
    from ._otel_traces import OpenTelemetryTraces
    from ._prometheus import PrometheusMetrics

__all__ = [
    "MEASURES", "Measure", "OpenTelemetryMetrics", "OpenTelemetryTraces", "PrometheusMetrics", "alerts", "dashboard",
    "table",
]  # fmt: skip

_LAZY = {
    "OpenTelemetryMetrics": "._otel_metrics",
    "OpenTelemetryTraces": "._otel_traces",
    "PrometheusMetrics": "._prometheus",
}


def dashboard() -> str:
    """A dashboard for Grafana, as JSON: import it, and choose the Prometheus that has the metrics."""
    return _example("tokenflow.json")


def alerts() -> str:
    """Rules for Prometheus, as YAML: a file for ``rule_files``."""
    return _example("alerts.yml")


def _example(name: str) -> str:
    return (resources.files(__name__) / "dashboards" / name).read_text(encoding="utf-8")


__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazily(__name__, _LAZY)
