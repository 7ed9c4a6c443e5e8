"""The table of measures: names by the conventions, and the table for the documents."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from instrumented import DEFAULTS

from httpx_tokenflow import events, instrumentation
from httpx_tokenflow.instrumentation import MEASURES, Measure, table
from httpx_tokenflow.instrumentation._reading import _READ

UNITS = {"s", "{request}", "{refusal}", "{renewal}", "{waiter}", "{trip}", "{failure}", "{fallback}", "{revocation}"}
OF_OTHERS = {"server.address", "server.port", "http.response.status_code", "error.type"}  # semantic conventions


@pytest.mark.parametrize("measure", MEASURES, ids=lambda one: one.name)
def test_a_measure_follows_the_conventions(measure: Measure) -> None:
    """Lower case with dots, below our own prefix, no unit and no "total" in it; labels are ours or conventional."""
    assert re.fullmatch(r"tokenflow(\.[a-z][a-z_]*[a-z])+", measure.name)
    assert not re.search(r"total|seconds|count$", measure.name)
    assert measure.unit in UNITS
    assert all(re.fullmatch(r"tokenflow\.[a-z_]+", label) or label in OF_OTHERS for label in measure.labels)
    assert "tokenflow.source" in measure.labels
    assert measure.says.endswith(".")
    assert list(measure.buckets) == sorted(set(measure.buckets))
    assert bool(measure.buckets) == (measure.kind == "histogram")
    is_counted = re.fullmatch(r"tokenflow(_[a-z]+)+", measure.prometheus_name)
    assert is_counted
    assert measure.prometheus_name.endswith("_total") == (measure.kind == "counter")
    assert ("_seconds" in measure.prometheus_name) == (measure.unit == "s")


def test_names_are_no_namespaces() -> None:
    """No two measures have one name, and none is the namespace of another."""
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)
    assert not [(one, other) for one in names for other in names if other.startswith(f"{one}.")]


def test_every_event_is_read() -> None:
    """There is a line in the translation for each kind of event, and these tests know all of them."""
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert set(_READ) == set(DEFAULTS) == kinds - {events.Event}


def test_the_table_for_the_documents() -> None:
    """Each measure is one line of the table: its name for Prometheus, its kind, its labels and what it says."""
    head, rule, *lines = table().splitlines()
    assert head.count("|") == rule.count("|") == 5
    assert len(lines) == len(MEASURES)
    for measure, line in zip(MEASURES, lines, strict=True):
        assert line.count("|") == 5
        assert line.startswith(f"| `{measure.prometheus_name}` | {measure.kind} | `tokenflow_source`")
        assert line.endswith(f"{measure.says} |")


def test_the_public_names() -> None:
    """`__all__` can be had, and a name that is not there is an AttributeError."""
    for name in instrumentation.__all__:
        assert getattr(instrumentation, name) is not None
    assert set(instrumentation.__all__) <= set(dir(instrumentation))
    with pytest.raises(AttributeError, match="Statsd"):
        instrumentation.StatsdMetrics  # noqa: B018 - it raises


@pytest.mark.parametrize(
    ("extra", "module", "names"),
    [
        ("prometheus", "prometheus_client", ["PrometheusMetrics"]),
        ("otel", "opentelemetry", ["OpenTelemetryMetrics", "OpenTelemetryTraces"]),
    ],
)
def test_a_missing_extra_is_named(extra: str, module: str, names: list[str]) -> None:
    """Without its library a handler is a ConfigurationError that says what to install; the others do not care."""
    code = f"""
import sys
sys.modules[{module!r}] = None
import httpx_tokenflow
from httpx_tokenflow import instrumentation
for name in {names!r}:
    try:
        getattr(instrumentation, name)
    except httpx_tokenflow.ConfigurationError as error:
        assert "httpx-tokenflow[{extra}]" in str(error), error
    else:
        raise SystemExit(name)
others = {{"PrometheusMetrics", "OpenTelemetryMetrics", "OpenTelemetryTraces"}} - set({names!r})
for name in others:
    getattr(instrumentation, name)()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    """To import the instrumentation loads neither backend."""
    code = (
        "import sys, httpx_tokenflow.instrumentation;"
        "print({'prometheus_client', 'opentelemetry'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
