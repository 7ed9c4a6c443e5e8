"""What an event says of the measures: the one translation that all backends share.

Rules.

1. It does no I/O, waits for nothing, and knows no backend; all that it keeps are the names that it has admitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow._lifecycle import Why
from httpx_tokenflow.events import (
    BreakerClosed,
    BreakerOpened,
    RefusalExplained,
    RenewalFailed,
    RequestDone,
    RequestRefused,
    Revoked,
    SecretFellBack,
    StoreFailed,
    TokenObtained,
    TokenRenewed,
    Waited,
)

from . import _measures as m
from ._names import OTHER, Names, cause_of, code_of, error_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx_tokenflow.events import Event

    from ._measures import Measure

    Label = str | int | None
    Value = tuple[Measure, float, tuple[Label, ...]]

__all__ = ["Reading"]

_OUTCOMES = frozenset({"accepted", "absorbed", "refused", "failed", "broken"})
_CERTAINTIES = frozenset({"certain", "likely", "possible"})
_CREDENTIALS = frozenset({"client_secret", "key"})
_WHYS = frozenset(Why)


class Reading:
    """Reads events.

    Args:
        names: those that labels may have.
        wall: gives Unix seconds.
    """

    __slots__ = ("names", "wall")

    def __init__(self, names: Names, wall: Callable[[], float]) -> None:
        self.names = names
        self.wall = wall

    def values(self, event: Event) -> list[Value]:
        """What `event` says: measures, values, and labels in the order of `Measure.labels`; None: there is none."""
        read = _READ.get(type(event))
        return [] if read is None else read(self, event, self.names.name("source", event.source))

    def done(self, event: RequestDone, source: str) -> list[Value]:
        outcome = event.outcome if event.outcome in _OUTCOMES else OTHER
        labels = (source, *self.names.server(event.origin), outcome, _status_class(event.status))
        values: list[Value] = [(m.REQUESTS, 1, labels)]
        if event.expires_in is not None:
            values.append((m.LIFE_AT_USE, max(0.0, event.expires_in), (source,)))
        return values

    def refused(self, event: RequestRefused, source: str) -> list[Value]:
        result = "standing" if event.stands else "retried"
        status = event.status if 100 <= event.status <= 599 else None
        code = code_of(event.status, event.error)
        return [(m.REFUSALS, 1, (source, *self.names.server(event.origin), result, status, code))]

    def explained(self, event: RefusalExplained, source: str) -> list[Value]:
        certainty = event.certainty if event.certainty in _CERTAINTIES else None
        labels = (source, *self.names.server(event.origin), cause_of(event.cause), certainty)
        return [(m.EXPLAINED, max(0, event.times), labels)]

    def obtained(self, event: TokenObtained, source: str) -> list[Value]:
        values = self._renewal(event, source, "minted" if event.minted else "found", None)
        values.append((m.EXPIRY_TIME, self.wall() + event.expires_in, (source,)))
        return values

    def renewed(self, event: TokenRenewed, source: str) -> list[Value]:
        missed = {Why.DUE: "due", Why.MISSING: "ended"}.get(event.why)
        values = self.obtained(event, source)
        return values if missed is None else [*values, (m.MISSED, 1, (source, missed))]

    def failed(self, event: RenewalFailed, source: str) -> list[Value]:
        values = self._renewal(event, source, "failed", error_of(event.error))
        return values if event.why is not Why.EARLY else [*values, (m.MISSED, 1, (source, "failed"))]

    def _renewal(
        self, event: TokenObtained | RenewalFailed, source: str, result: str, error: str | None
    ) -> list[Value]:
        why = event.why.value if event.why in _WHYS else OTHER
        labels = (source, self.names.name("grant", event.grant), why, result, error)
        parts = {"endpoint": event.endpoint_seconds, "store": event.store_seconds, "wait": event.wait_seconds}
        parts["rest"] = event.seconds - sum(parts.values())
        values: list[Value] = [
            (m.RENEWALS, 1, labels),
            (m.RENEWAL_SECONDS, max(0.0, event.seconds), (source, result)),
            *[(m.RENEWAL_PHASES, max(0.0, seconds), (source, part)) for part, seconds in parts.items()],
            (m.WAITERS, event.waiting, (source,)),
        ]
        return [*values, (m.TOKEN_REQUESTS, event.requests, labels)] if event.requests > 0 else values

    def waited(self, event: Waited, source: str) -> list[Value]:
        role, result = "leader" if event.leads else "waiter", "served" if event.served else "failed"
        return [(m.WAIT_SECONDS, max(0.0, event.seconds), (source, role, result))]

    def opened(self, event: BreakerOpened, source: str) -> list[Value]:
        labels = (source, *self.names.server(event.origin))
        return [(m.BREAKER_TRIPS, 1, labels), (m.BREAKER_OPEN_UNTIL, self.wall() + event.seconds, labels)]

    def closed(self, event: BreakerClosed, source: str) -> list[Value]:
        return [(m.BREAKER_OPEN_UNTIL, 0, (source, *self.names.server(event.origin)))]

    def store_failed(self, event: StoreFailed, source: str) -> list[Value]:
        return [(m.STORE_FAILURES, 1, (source, error_of(event.error)))]

    def fell_back(self, event: SecretFellBack, source: str) -> list[Value]:
        return [(m.FALLBACKS, 1, (source, event.what if event.what in _CREDENTIALS else OTHER))]

    def revoked(self, event: Revoked, source: str) -> list[Value]:
        return [(m.REVOCATIONS, 1, (source, "agreed" if event.agreed else "here")), (m.EXPIRY_TIME, 0, (source,))]


_READ: dict[type[Event], Callable[[Reading, Any, str], list[Value]]] = {
    RequestDone: Reading.done,
    RequestRefused: Reading.refused,
    RefusalExplained: Reading.explained,
    TokenObtained: Reading.obtained,
    TokenRenewed: Reading.renewed,
    RenewalFailed: Reading.failed,
    Waited: Reading.waited,
    BreakerOpened: Reading.opened,
    BreakerClosed: Reading.closed,
    StoreFailed: Reading.store_failed,
    SecretFellBack: Reading.fell_back,
    Revoked: Reading.revoked,
}


def _status_class(status: int | None) -> str:
    return "none" if status is None else f"{status // 100}xx" if 100 <= status <= 599 else OTHER
