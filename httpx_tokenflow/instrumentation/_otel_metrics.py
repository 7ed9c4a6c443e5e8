"""Metrics for OpenTelemetry (extra ``otel``)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from httpx_tokenflow._extras import need_extra

from ._measures import MEASURES
from ._names import Names
from ._reading import Reading
from ._shared import shared
from ._turns import Turns

with need_extra("otel", "OpenTelemetryMetrics"):
    from opentelemetry import metrics

if TYPE_CHECKING:
    from httpx_tokenflow.events import Event

    from ._measures import Measure
    from ._reading import Label

__all__ = ["OpenTelemetryMetrics"]

SCOPE = "httpx_tokenflow"  # the instrumentation scope

_VERBS = {"counter": "add", "histogram": "record", "gauge": "set"}


class OpenTelemetryMetrics:
    """Counts and times what happens: `auth = TokenAuth(…, on_event=OpenTelemetryMetrics())`.

    One object may serve any number of auths, and several objects with one provider are as one. The measures are those
    of `PrometheusMetrics`; an exporter to Prometheus gives them the same names.

    Args:
        meter_provider: a ``MeterProvider``; None: the global one, which may be set later.

    Raises:
        ConfigurationError: the extra ``otel`` is missing.
    """

    every_request: ClassVar[bool] = True

    def __init__(self, meter_provider: metrics.MeterProvider | None = None) -> None:
        is_global = meter_provider is None or meter_provider is metrics.get_meter_provider()
        self._meters = shared(_global if is_global else meter_provider, _Meters)

    def __call__(self, event: Event) -> None:
        """Count `event`."""
        self._meters.take(event)

    def __eq__(self, other: object) -> bool:
        """Two with one provider are one handler: who shares a token is counted once."""
        return isinstance(other, OpenTelemetryMetrics) and self._meters is other._meters

    def __hash__(self) -> int:
        return hash(self._meters)

    def __repr__(self) -> str:
        return f"<OpenTelemetryMetrics {len(MEASURES)} measures>"


class _Global:
    """The global provider: one and the same before and after it is set, although OpenTelemetry has two objects."""

    def get_meter(self, name: str) -> metrics.Meter:
        return metrics.get_meter_provider().get_meter(name)


_global = _Global()


class _Meters:
    """The instruments of one provider."""

    def __init__(self, provider: metrics.MeterProvider | _Global) -> None:
        meter = provider.get_meter(SCOPE)
        self._reading = Reading(Names(), time.time)
        self._writes = {one: getattr(_instrument(one, meter), _VERBS[one.kind]) for one in MEASURES}
        self._attributes: dict[tuple[Measure, tuple[Label, ...]], dict[str, Any]] = {}
        self._turns = Turns()

    def take(self, event: Event) -> None:
        """Count `event` in its turn."""
        self._turns.take(event, self._count)

    def _count(self, event: Event) -> None:
        known = self._attributes
        for measure, value, labels in self._reading.values(event):
            attributes = known.get((measure, labels))
            if attributes is None:  # there are no more of these than labels have values
                pairs = zip(measure.labels, labels, strict=True)
                attributes = known[measure, labels] = {name: label for name, label in pairs if label is not None}
            self._writes[measure](value, attributes)


def _instrument(measure: Measure, meter: metrics.Meter) -> Any:
    if measure.kind == "counter":
        return meter.create_counter(measure.name, measure.unit, measure.says)
    if measure.kind == "gauge":
        return meter.create_gauge(measure.name, measure.unit, measure.says)
    return meter.create_histogram(
        measure.name, measure.unit, measure.says, explicit_bucket_boundaries_advisory=measure.buckets
    )
