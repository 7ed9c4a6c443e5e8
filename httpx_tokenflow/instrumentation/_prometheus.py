"""Metrics for Prometheus (extra ``prometheus``)."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, ClassVar

from httpx_tokenflow._extras import need_extra

from ._measures import MEASURES
from ._names import Names
from ._reading import Reading
from ._shared import shared
from ._turns import Turns

with need_extra("prometheus", "PrometheusMetrics"):
    import prometheus_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from httpx_tokenflow.events import Event

    from ._measures import Measure
    from ._reading import Label

__all__ = ["PrometheusMetrics"]

_VERBS = {"counter": "inc", "histogram": "observe", "gauge": "set"}


class PrometheusMetrics:
    """Counts and times what happens, for Prometheus: `auth = TokenAuth(…, on_event=PrometheusMetrics())`.

    One object may serve any number of auths, and several objects with one registry are as one. The measures are listed
    in `guide/metrics.md` of the package; their dashboard and their alerts are `dashboard()` and `alerts()`. With
    ``PROMETHEUS_MULTIPROC_DIR`` set, as for gunicorn, the values of all processes are added up; gauges are those of the
    process that spoke last. Where somebody has unregistered the metrics, as fixtures of tests do, the next object
    registers new ones.

    Args:
        registry: where the metrics are registered; None: prometheus_client's own, ``REGISTRY``.

    Raises:
        ConfigurationError: the extra ``prometheus`` is missing.
        ValueError: the registry has other metrics of these names.
    """

    every_request: ClassVar[bool] = True

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        owner = prometheus_client.REGISTRY if registry is None else registry
        self._collectors = shared(owner, _Collectors, _Collectors.are_gone)

    def __call__(self, event: Event) -> None:
        """Count `event`."""
        self._collectors.take(event)

    def __eq__(self, other: object) -> bool:
        """Two on one registry are one handler: who shares a token is counted once."""
        return isinstance(other, PrometheusMetrics) and self._collectors is other._collectors

    def __hash__(self) -> int:
        return hash(self._collectors)

    def __repr__(self) -> str:
        return f"<PrometheusMetrics {len(MEASURES)} measures>"


class _Collectors:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reading = Reading(Names(), time.time)
        self._registry = registry
        self._metrics: dict[Measure, Any] = {}
        try:
            for measure in MEASURES:
                self._metrics[measure] = _metric(measure, registry)
        except ValueError:  # nothing is left of what was made: who makes room tries again
            self._leave()
            raise
        self._series: dict[tuple[Measure, tuple[Label, ...]], Callable[[float], object]] = {}
        self._turns = Turns()

    def _leave(self) -> None:
        for one in self._metrics.values():
            with contextlib.suppress(KeyError):  # it has gone already
                self._registry.unregister(one)

    def are_gone(self) -> bool:
        """Whether somebody has taken some of them from the registry, as fixtures of tests do; then all are."""
        is_gone = False
        for one in self._metrics.values():
            with contextlib.suppress(ValueError):  # it is there
                self._registry.register(one)
                is_gone = True
        if is_gone:
            self._leave()
        return is_gone

    def take(self, event: Event) -> None:
        """Count `event` in its turn."""
        self._turns.take(event, self._count)

    def _count(self, event: Event) -> None:
        series = self._series
        for measure, value, labels in self._reading.values(event):
            write = series.get((measure, labels)) or self._written(measure, labels)
            write(value)

    def _written(self, measure: Measure, labels: tuple[Label, ...]) -> Callable[[float], object]:
        """How a value is written; there are no more of these than labels have values."""
        # To Prometheus an empty label is one that is not there.
        one = self._metrics[measure].labels(*("" if label is None else str(label) for label in labels))
        write: Callable[[float], object] = getattr(one, _VERBS[measure.kind])
        self._series[measure, labels] = write
        return write


def _metric(measure: Measure, registry: CollectorRegistry) -> Any:
    name, says, labels = measure.prometheus_name, measure.says, measure.prometheus_labels
    if measure.kind == "counter":
        return prometheus_client.Counter(name, says, labels, registry=registry)
    if measure.kind == "histogram":
        return prometheus_client.Histogram(name, says, labels, registry=registry, buckets=measure.buckets)
    return prometheus_client.Gauge(name, says, labels, registry=registry, multiprocess_mode=measure.across)
