"""What is measured: one table for all backends. What an event says of it is in `_reading`.

Rules.

1. A measure is named after OpenTelemetry's conventions, and for Prometheus by the rules by which OpenTelemetry is
   exported to it (dots become underscores, the unit is spelled out, a counter ends in ``_total``): one dashboard and
   one set of alerts serve both.
2. A label has a bounded number of values, whatever happens: a name that grows with the program's tenants, hosts or
   grants is one of the first `MAX_NAMES`, or "other"; a code is one that an RFC defines, or "_OTHER"; a status is its
   class, or a number from 100 to 599. No subject, no scope, no path of a URL, no text of a server's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BREAKER_OPEN_UNTIL", "BREAKER_TRIPS", "EXPIRY_TIME", "EXPLAINED", "FALLBACKS", "LIFE_AT_USE", "MEASURES",
    "MISSED", "REFUSALS", "RENEWALS", "RENEWAL_PHASES", "RENEWAL_SECONDS", "REQUESTS", "REVOCATIONS",
    "STORE_FAILURES", "TOKEN_REQUESTS", "WAITERS", "WAIT_SECONDS", "Measure", "table",
]  # fmt: skip

Kind = Literal["counter", "histogram", "gauge"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LIVES = (0.0, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0)
_CROWDS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing that is measured.

    Args:
        name: OpenTelemetry's.
        kind: of instrument.
        unit: in UCUM; "s" is seconds, braces are for what is counted.
        says: what it says, in a sentence.
        labels: the names of what it is split by, OpenTelemetry's.
        buckets: the upper bounds of a histogram's.
        across: how a gauge's values of several processes are one (``multiprocess_mode`` of prometheus_client).
    """

    name: str
    kind: Kind
    unit: str
    says: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    across: Literal["livemax", "livemostrecent"] = "livemostrecent"

    @property
    def prometheus_name(self) -> str:
        """What it is called on a dashboard (rule 1)."""
        unit = "_seconds" if self.unit == "s" else ""
        return self.name.replace(".", "_") + unit + ("_total" if self.kind == "counter" else "")

    @property
    def prometheus_labels(self) -> tuple[str, ...]:
        """What its labels are called there."""
        return tuple(label.replace(".", "_") for label in self.labels)


_SOURCE = "tokenflow.source"
_SERVER = ("server.address", "server.port")
_RENEWAL = (_SOURCE, "tokenflow.grant", "tokenflow.why", "tokenflow.result", "error.type")

REQUESTS = Measure(
    name="tokenflow.requests",
    kind="counter",
    unit="{request}",
    says="Requests that carried a credential, or were to, by how they ended: accepted; absorbed, that is refused and "
    "sent again with success; refused, a 401 that stands; failed, an error of ours; broken, no answer.",
    labels=(_SOURCE, *_SERVER, "tokenflow.outcome", "tokenflow.status_class"),
)
LIFE_AT_USE = Measure(
    name="tokenflow.token.life_at_use",
    kind="histogram",
    unit="s",
    says="What a token had left when a request was sent with it; 0: it had ended.",
    labels=(_SOURCE,),
    buckets=_LIVES,
)
REFUSALS = Measure(
    name="tokenflow.refusals",
    kind="counter",
    unit="{refusal}",
    says="Answers that refused the credential: retried, with another token or proof; or standing, given to the caller.",
    labels=(_SOURCE, *_SERVER, "tokenflow.result", "http.response.status_code", "error.type"),
)
EXPLAINED = Measure(
    name="tokenflow.refusal.causes",
    kind="counter",
    unit="{refusal}",
    says="Refusals that stand, by the cause that the answer itself tells (an id of the doctor's table, or unknown).",
    labels=(_SOURCE, *_SERVER, "tokenflow.cause", "tokenflow.certainty"),
)
TOKEN_REQUESTS = Measure(
    name="tokenflow.token_requests",
    kind="counter",
    unit="{request}",
    says="Requests to the authorization server for a token, by the renewal that made them.",
    labels=_RENEWAL,
)
RENEWALS = Measure(
    name="tokenflow.renewals",
    kind="counter",
    unit="{renewal}",
    says="Renewals that are over: minted, by the grant; found, in the store, where another process put it; or failed.",
    labels=_RENEWAL,
)
RENEWAL_SECONDS = Measure(
    name="tokenflow.renewal.duration",
    kind="histogram",
    unit="s",
    says="How long a renewal took, from the moment that a token was wanted.",
    labels=(_SOURCE, "tokenflow.result"),
    buckets=_SECONDS,
)
RENEWAL_PHASES = Measure(
    name="tokenflow.renewal.phase.duration",
    kind="histogram",
    unit="s",
    says="Where a renewal's time went: endpoint, the authorization server; store; wait, for the lease, for another "
    "renewal or between two attempts; rest, work of this process, callables and people.",
    labels=(_SOURCE, "tokenflow.phase"),
    buckets=_SECONDS,
)
WAITERS = Measure(
    name="tokenflow.renewal.waiters",
    kind="histogram",
    unit="{waiter}",
    says="How many waited for a renewal; not the thread that renewed.",
    labels=(_SOURCE,),
    buckets=_CROWDS,
)
WAIT_SECONDS = Measure(
    name="tokenflow.wait.duration",
    kind="histogram",
    unit="s",
    says="How long a request waited for a renewal: its leader set it off, a waiter came upon it; in the end it was "
    "served a token, or got the renewal's error.",
    labels=(_SOURCE, "tokenflow.role", "tokenflow.result"),
    buckets=_SECONDS,
)
MISSED = Measure(
    name="tokenflow.renewal.missed_early",
    kind="counter",
    unit="{renewal}",
    says="Early renewals that should have spared somebody a wait and did not: failed, one was tried in vain; due, the "
    "token was renewed only when it was due, since no request came in its early window or that is switched off; ended, "
    "only after it had ended.",
    labels=(_SOURCE, "tokenflow.cause"),
)
EXPIRY_TIME = Measure(
    name="tokenflow.token.expiry_time",
    kind="gauge",
    unit="s",
    says="Unix time at which the token at hand ends, by the last renewal of the source, one of its many sessions where "
    "it has them; less `time()`: its remaining life. 0: the last that happened is that a session was given up.",
    labels=(_SOURCE,),
)
BREAKER_TRIPS = Measure(
    name="tokenflow.breaker.trips",
    kind="counter",
    unit="{trip}",
    says="How often a breaker has opened: an origin refuses one fresh token after the other.",
    labels=(_SOURCE, *_SERVER),
)
BREAKER_OPEN_UNTIL = Measure(
    name="tokenflow.breaker.open_until",
    kind="gauge",
    unit="s",
    says="Unix time until which no token is minted for an origin that refuses them; 0: it accepts them again. "
    "`> time()`: its breaker is open now.",
    labels=(_SOURCE, *_SERVER),
    across="livemax",
)
STORE_FAILURES = Measure(
    name="tokenflow.store.failures",
    kind="counter",
    unit="{failure}",
    says="Failures of the store of tokens.",
    labels=(_SOURCE, "error.type"),
)
FALLBACKS = Measure(
    name="tokenflow.secret.fallbacks",
    kind="counter",
    unit="{fallback}",
    says="Secrets that were refused, so that the next of their sequence has taken their place: the old one can go.",
    labels=(_SOURCE, "tokenflow.credential"),
)
REVOCATIONS = Measure(
    name="tokenflow.revocations",
    kind="counter",
    unit="{revocation}",
    says="Sessions that were given up: agreed, the server knows; or here, it does not.",
    labels=(_SOURCE, "tokenflow.result"),
)

MEASURES: tuple[Measure, ...] = (
    REQUESTS, REFUSALS, EXPLAINED, LIFE_AT_USE, RENEWALS, TOKEN_REQUESTS, RENEWAL_SECONDS, RENEWAL_PHASES, WAITERS,
    WAIT_SECONDS, MISSED, EXPIRY_TIME, BREAKER_TRIPS, BREAKER_OPEN_UNTIL, STORE_FAILURES, FALLBACKS, REVOCATIONS,
)  # fmt: skip


def table(measures: Iterable[Measure] = MEASURES) -> str:
    """The measures as a table in Markdown, for the documents."""
    rows = [
        f"| `{one.prometheus_name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.prometheus_labels)} "
        f"| {one.says} |"
        for one in measures
    ]
    return "\n".join(["| measure | kind | split by | says |", "| --- | --- | --- | --- |", *rows])
