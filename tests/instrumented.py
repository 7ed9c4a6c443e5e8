"""What the tests of the instrumentation share: events made up, and what backends have counted, in one form."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import ReauthenticationRequired, StoreError, TokenEndpointUnavailable, TokenRequestError, events
from httpx_tokenflow._lifecycle import Why

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from prometheus_client import CollectorRegistry

SOURCE = "client@as.example"
ORIGIN = "https://api.example"
_PARTS = {"endpoint_seconds": 0.3, "store_seconds": 0.05, "wait_seconds": 0.1}
_RENEWAL = {"renewal": 1, "grant": "ClientCredentials", "why": Why.DUE, "requests": 1, "seconds": 0.5, **_PARTS}

DEFAULTS: dict[type[events.Event], dict[str, Any]] = {
    events.RequestDone: {"origin": ORIGIN, "outcome": "accepted", "status": 200, "sends": 1, "expires_in": 50.0},
    events.RequestRefused: {"origin": ORIGIN, "status": 401, "error": None, "scope": None, "stands": True},
    events.RefusalExplained: {
        "origin": ORIGIN, "status": 401, "error": None, "cause": None, "certainty": None, "verdict": "", "remedy": None,
        "times": 1,
    },
    events.TokenObtained: {**_RENEWAL, "minted": True, "expires_in": 3600.0, "waiting": 3},
    events.TokenRenewed: {**_RENEWAL, "minted": True, "expires_in": 3600.0, "waiting": 3},
    events.RenewalFailed: {
        **_RENEWAL, "error": StoreError("down"), "retry_in": 5.0, "expires_in": None, "waiting": 3
    },
    events.Waited: {"renewal": 1, "leads": True, "seconds": 0.5, "why": Why.DUE, "served": True},
    events.BreakerOpened: {"origin": ORIGIN, "seconds": 4.0},
    events.BreakerClosed: {"origin": ORIGIN},
    events.StoreFailed: {"error": StoreError("down"), "consequence": "nothing"},
    events.SecretFellBack: {"what": "client_secret"},
    events.Revoked: {"agreed": True},
}  # fmt: skip


def make(kind: type[events.Event], source: str = SOURCE, **changes: Any) -> Any:
    """An event of `kind`, ordinary but for `changes`."""
    return kind(source=source, **(DEFAULTS[kind] | changes))


def one_of_each() -> list[Any]:
    return [make(kind) for kind in DEFAULTS]


def stream(seed: int, number: int) -> Iterator[Any]:
    """So many events, at random: ordinary ones, and some with values that nobody expects."""
    draw = random.Random(seed)
    sources, origins = [f"c{i}@as.example" for i in range(150)], [f"https://h{i}.example:{i + 1}" for i in range(150)]
    errors = [
        StoreError("x"), TokenRequestError("x", error="invalid_client"), TokenRequestError("x", error="made_up"),
        ReauthenticationRequired("x", error="invalid_grant"), TokenEndpointUnavailable("x", outcome="unknown"),
        TokenEndpointUnavailable("x", outcome="answered", status=503),
    ]  # fmt: skip
    choices: dict[str, list[Any]] = {
        "origin": [ORIGIN, *origins, "", "no origin"],
        "outcome": ["accepted", "absorbed", "refused", "failed", "broken"],
        "status": [200, 401, 403, 503, 0, 999],
        "error": [None, "invalid_token", "made_up"],
        "cause": [None, "proxy-drops-header", "made-up"],
        "certainty": [None, "certain", "likely"],
        "why": list(Why),
        "grant": ["ClientCredentials", *[f"Grant{i}" for i in range(150)]],
        "seconds": [0.0, 0.001, 0.2, 7.0, 1e6, -1.0],
        "expires_in": [-5.0, 0.0, 10.0, 1e9],
        "waiting": [0, 1, 7, 5000],
        "requests": [0, 1, 3],
        "times": [0, 1, 12],
        "minted": [True, False], "leads": [True, False], "served": [True, False], "stands": [True, False],
        "agreed": [True, False], "what": ["client_secret", "key", "made up"],
    }  # fmt: skip
    for _ in range(number):
        kind = draw.choice(list(DEFAULTS))
        changes = {
            name: draw.choice(choices[name]) for name in DEFAULTS[kind] if name in choices and draw.random() < 0.7
        }
        if kind in {events.RenewalFailed, events.StoreFailed}:
            changes["error"] = draw.choice(errors)
        yield make(kind, draw.choice(sources), **changes)


Series = dict[tuple[str, frozenset[tuple[str, str]]], Any]


def of_prometheus(registry: CollectorRegistry) -> Series:
    """What Prometheus would scrape: the value of each series, or count, sum and buckets."""
    found: Series = {}
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name.endswith("_created"):
                continue
            labels = dict(sample.labels)
            bound = labels.pop("le", None)
            key = metric.name, frozenset((name, value) for name, value in labels.items() if value)
            if metric.type != "histogram":
                found[key] = sample.value
            elif bound is not None:
                found.setdefault(key, {})[float(bound)] = sample.value
            else:
                found.setdefault(key, {})[sample.name.rpartition("_")[2]] = sample.value
    return found


def of_opentelemetry(reader: InMemoryMetricReader) -> Series:
    """The same of OpenTelemetry, by the names that it has for Prometheus."""
    found: Series = {}
    data = reader.get_metrics_data()
    metrics = [one for each in data.resource_metrics for scope in each.scope_metrics for one in scope.metrics]
    for metric in metrics:
        name = metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
        for point in metric.data.data_points:
            key = name, frozenset((label.replace(".", "_"), str(value)) for label, value in point.attributes.items())
            if not hasattr(point, "bucket_counts"):
                found[key] = float(point.value)
                continue
            counts, total = {}, 0
            for bound, count in zip([*point.explicit_bounds, float("inf")], point.bucket_counts, strict=True):
                total += count
                counts[bound] = float(total)
            found[key] = {**counts, "count": float(point.count), "sum": point.sum}
    return found
