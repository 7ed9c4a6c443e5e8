"""The one translation: what each event says, and that no label can grow without bound."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import pytest
from instrumented import DEFAULTS, ORIGIN, SOURCE, make, stream

from httpx_tokenflow import (
    ReauthenticationRequired,
    StepUpRequired,
    StoreError,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
    events,
)
from httpx_tokenflow._errors import DamagedEntry
from httpx_tokenflow._lifecycle import Why
from httpx_tokenflow.doctor.causes import CAUSES
from httpx_tokenflow.instrumentation import MEASURES
from httpx_tokenflow.instrumentation._names import MAX_NAMES, Names, code_of, error_of, server_of
from httpx_tokenflow.instrumentation._reading import Reading

NOW = 1_000_000.0


def read(event: Any, reading: Reading | None = None) -> dict[tuple[str, ...], float]:
    """Values by name and labels, labels of nothing left out."""
    values = (reading or Reading(Names(), lambda: NOW)).values(event)
    for measure, _, labels in values:
        assert measure in MEASURES
        assert len(labels) == len(measure.labels)
    return {
        (measure.name, *(str(label) for label in labels if label is not None)): value
        for measure, value, labels in values
    }


def of(name: str, event: Any) -> dict[tuple[str, ...], float]:
    """Those of one measure, without the source."""
    return {key[2:]: value for key, value in read(event).items() if key[0] == f"tokenflow.{name}"}


SERVER = ("api.example", "443")
OWN = ("ClientCredentials", "due")


@pytest.mark.parametrize(
    ("event", "name", "values"),
    [
        (make(events.RequestDone), "requests", {(*SERVER, "accepted", "2xx"): 1}),
        (make(events.RequestDone, outcome="refused", status=401), "requests", {(*SERVER, "refused", "4xx"): 1}),
        (make(events.RequestDone, outcome="broken", status=None), "requests", {(*SERVER, "broken", "none"): 1}),
        (make(events.RequestDone, status=700), "requests", {(*SERVER, "accepted", "other"): 1}),
        (make(events.RequestDone, expires_in=50.0), "token.life_at_use", {(): 50.0}),
        (make(events.RequestDone, expires_in=-1.0), "token.life_at_use", {(): 0.0}),
        (make(events.RequestDone, expires_in=None), "token.life_at_use", {}),
        (make(events.RequestRefused), "refusals", {(*SERVER, "standing", "401", "401"): 1}),
        (
            make(events.RequestRefused, stands=False, error="invalid_token"),
            "refusals",
            {(*SERVER, "retried", "401", "invalid_token"): 1},
        ),
        (make(events.RequestRefused, status=7, error="x"), "refusals", {(*SERVER, "standing", "_OTHER"): 1}),
        (make(events.RefusalExplained, times=12), "refusal.causes", {(*SERVER, "unknown"): 12}),
        (
            make(events.RefusalExplained, cause=CAUSES[0].id, certainty="likely"),
            "refusal.causes",
            {(*SERVER, CAUSES[0].id, "likely"): 1},
        ),
        (make(events.RefusalExplained, cause="x"), "refusal.causes", {(*SERVER, "other"): 1}),
        (make(events.TokenObtained), "renewals", {(*OWN, "minted"): 1}),
        (make(events.TokenObtained, minted=False), "renewals", {(*OWN, "found"): 1}),
        (make(events.RenewalFailed), "renewals", {(*OWN, "failed", "StoreError"): 1}),
        (make(events.TokenRenewed, requests=3), "token_requests", {(*OWN, "minted"): 3}),
        (make(events.RenewalFailed, requests=2), "token_requests", {(*OWN, "failed", "StoreError"): 2}),
        (make(events.TokenObtained, requests=0), "token_requests", {}),
        (make(events.TokenRenewed), "renewal.duration", {("minted",): 0.5}),
        (make(events.RenewalFailed), "renewal.duration", {("failed",): 0.5}),
        (make(events.RenewalFailed, waiting=7), "renewal.waiters", {(): 7}),
        (make(events.TokenObtained, expires_in=60.0), "token.expiry_time", {(): NOW + 60}),
        (make(events.TokenRenewed, expires_in=60.0), "token.expiry_time", {(): NOW + 60}),
        (make(events.Waited, seconds=2.0), "wait.duration", {("leader", "served"): 2.0}),
        (make(events.Waited, leads=False, served=False), "wait.duration", {("waiter", "failed"): 0.5}),
        (make(events.BreakerOpened), "breaker.trips", {SERVER: 1}),
        (make(events.BreakerOpened, seconds=4.0), "breaker.open_until", {SERVER: NOW + 4}),
        (make(events.BreakerClosed), "breaker.open_until", {SERVER: 0}),
        (make(events.StoreFailed), "store.failures", {("StoreError",): 1}),
        (make(events.SecretFellBack, what="key"), "secret.fallbacks", {("key",): 1}),
        (make(events.Revoked), "revocations", {("agreed",): 1}),
        (make(events.Revoked, agreed=False), "revocations", {("here",): 1}),
        (make(events.Revoked), "token.expiry_time", {(): 0}),
    ],
)
def test_what_an_event_says(event: Any, name: str, values: dict[tuple[str, ...], float]) -> None:
    """Each event is these values of these measures, with these labels."""
    assert of(name, event) == values
    assert all(key[1] == SOURCE for key in read(event))


@pytest.mark.parametrize("kind", [events.TokenObtained, events.TokenRenewed, events.RenewalFailed])
def test_the_parts_of_a_renewal_are_the_whole(kind: type[events.Event]) -> None:
    """Endpoint, store, wait and rest are four values that add up to the renewal's duration."""
    parts = of("renewal.phase.duration", make(kind))
    assert parts == {("endpoint",): 0.3, ("store",): 0.05, ("wait",): 0.1, ("rest",): pytest.approx(0.05)}
    assert sum(parts.values()) == pytest.approx(0.5)
    assert of("renewal.phase.duration", make(kind, seconds=0.1))[("rest",)] == 0.0


@pytest.mark.parametrize(
    ("kind", "why", "missed"),
    [
        (events.TokenRenewed, Why.DUE, {("due",): 1}),
        (events.TokenRenewed, Why.MISSING, {("ended",): 1}),
        (events.RenewalFailed, Why.EARLY, {("failed",): 1}),
        (events.TokenRenewed, Why.EARLY, {}),
        (events.TokenRenewed, Why.REFUSED, {}),
        (events.TokenObtained, Why.MISSING, {}),
        (events.RenewalFailed, Why.DUE, {}),
        (events.RenewalFailed, Why.MISSING, {}),
    ],
)
def test_early_renewals_that_were_missed(kind: type[events.Event], why: Why, missed: dict[Any, float]) -> None:
    """Missed is an early renewal that failed, and one that came only when the token was due, or had ended."""
    assert of("renewal.missed_early", make(kind, why=why)) == missed


def test_an_event_that_nobody_knows() -> None:
    """An event of another kind says nothing."""

    class Other(events.Event):
        """From a later version."""

    assert read(Other(source=SOURCE)) == {}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TokenRequestError("x", error="invalid_client"), "invalid_client"),
        (ReauthenticationRequired("x", error="invalid_grant"), "invalid_grant"),
        (TokenRequestError("x", error="S3cret"), "_OTHER"),
        (TokenRequestError("x"), "TokenRequestError"),
        (TokenEndpointUnavailable("x", outcome="answered", status=503), "503"),
        (TokenEndpointUnavailable("x", outcome="answered", status=99999), "TokenEndpointUnavailable"),
        (TokenEndpointUnavailable("x", outcome="unknown"), "TokenEndpointUnavailable"),
        (StepUpRequired("x"), "StepUpRequired"),
        (StoreError("x"), "StoreError"),
        (DamagedEntry("x"), "DamagedEntry"),
        (LookupError("x"), "_OTHER"),
        (type("Mine", (TokenFlowError,), {})("x"), "_OTHER"),
    ],
)
def test_errors_are_told_by_what_is_known_of_them(error: Exception, told: str) -> None:
    """An error is a code that an RFC has, a status, or one of our own kinds; nothing that a server makes up."""
    assert error_of(error) == told


def test_codes_of_challenges() -> None:
    """A challenge's code is one that an RFC has, or none: then the status stands for it."""
    assert code_of(401, "invalid_token") == "invalid_token"
    assert code_of(401, "insufficient_user_authentication") == "insufficient_user_authentication"
    assert code_of(401, "S3cret") == "_OTHER"
    assert (code_of(403, None), code_of(-1, None)) == ("403", "_OTHER")


@pytest.mark.parametrize(
    ("origin", "server"),
    [
        (ORIGIN, ("api.example", 443)),
        ("http://127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("http://localhost", ("localhost", 80)),
        ("https://[::1]:9", ("::1", 9)),
        ("https://user:S3cret@api.example/path?token=S3cret", ("api.example", 443)),
        ("https://api.example:99999", ("other", 0)),
        ("https://[", ("other", 0)),
        ("", ("other", 0)),
        ("https://a\x00\nb", ("a?b", 443)),
    ],
)
def test_servers(origin: str, server: tuple[str, int]) -> None:
    """Of an origin its address and its port are told, whatever else somebody has put into it."""
    assert server_of(origin) == server


# Bounds


HOSTILE: dict[str, Any] = {
    "source": lambda i: f'tenant{i}\n\x00\ud800"}}{"x" * (i % 300)}@as.example',
    "origin": lambda i: f"https://h{i}.example:{i % 65536}/path{i}",
    "outcome": lambda i: f"o{i}",
    "status": lambda i: i - 50_000,
    "error": lambda i: f"e{i}",
    "cause": lambda i: f"c{i}",
    "certainty": lambda i: f"c{i}",
    "grant": lambda i: f"Grant{i}",
    "why": lambda i: f"w{i}",
    "what": lambda i: f"w{i}",
    "expires_in": float,
    "seconds": float,
    "waiting": lambda i: i,
    "scope": lambda i: f"s{i}",
}

# The most values that a label may have; what is not here has 10.
MOST = {
    "tokenflow.source": MAX_NAMES + 1,
    "tokenflow.grant": MAX_NAMES + 1,
    "server.address": MAX_NAMES + 1,
    "server.port": MAX_NAMES + 1,
    "http.response.status_code": 501,
    "error.type": 540,
    "tokenflow.cause": 100,
}


@pytest.mark.parametrize("number", [500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_flood_makes_no_more_series(number: int) -> None:
    """Whatever comes in whichever field of an event, and however often: a label has its bounded number of values."""
    reading = Reading(Names(), lambda: NOW)
    seen: dict[str, set[Any]] = defaultdict(set)
    series = set()
    for kind, fields in DEFAULTS.items():
        for name in ["source", *fields]:
            if name not in HOSTILE or (name == "error" and kind is not events.RequestRefused):
                continue
            for i in range(number):
                for measure, _, labels in reading.values(make(kind, **{name: HOSTILE[name](i)})):
                    series.add((measure.name, labels))
                    for label, value in zip(measure.labels, labels, strict=True):
                        seen[label].add(value)
    for label, values in seen.items():
        assert len(values) <= MOST.get(label, 10), label
        for value in values:
            assert value is None or isinstance(value, int) or (len(value) <= 128 and value.isprintable())
    assert len(series) < 5_000
    assert "other" in seen["tokenflow.source"] & seen["tokenflow.grant"] & seen["server.address"]


def test_errors_that_a_server_makes_up() -> None:
    """10,000 codes of a token endpoint are one label."""
    reading = Reading(Names(), lambda: NOW)
    seen = set()
    for i in range(10_000):
        event = make(events.RenewalFailed, error=TokenRequestError("x", error=f"e{i}"))
        seen |= {labels for measure, _, labels in reading.values(event) if measure.name == "tokenflow.renewals"}
    assert len(seen) == 1


def test_the_first_names_stay() -> None:
    """The first hundred keep their names however many come later, and those are one."""
    names = Names()
    first = [names.name("source", f"s{i}") for i in range(MAX_NAMES)]
    assert first == [f"s{i}" for i in range(MAX_NAMES)]
    assert {names.name("source", f"late{i}") for i in range(1000)} == {"other"}
    assert names.name("source", "s7") == "s7"
    assert names.name("grant", "late1") == "late1"
    assert names.server("https://late.example") == ("late.example", 443)


def test_threads_admit_no_more_names() -> None:
    """Many threads with names of their own: there are no more than there may be."""
    names, admitted = Names(), set()

    def admit(which: int) -> None:
        for i in range(200):
            admitted.add(names.name("source", f"{which}-{i}"))

    threads = [threading.Thread(target=admit, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(admitted) == MAX_NAMES + 1


def test_a_stream_of_anything_is_read() -> None:
    """No event, however odd, makes the translation raise, and counters and times are never negative."""
    reading = Reading(Names(), lambda: NOW)
    for event in stream(7, 5_000):
        for _measure, value, _labels in reading.values(event):
            assert value >= 0
