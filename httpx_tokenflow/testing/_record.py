"""What a server saw: each request, counted by the endpoint that it reached.

The rules:

1. A request is counted when it has arrived whole, whatever a fault makes of it afterwards.
2. ``api_refused`` counts the 401s that were answered, scripted ones included.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Protocol

_SEEN_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that reached the server.

    Attributes:
        method: in upper case.
        path: percent-decoded, without the query.
        headers: names in lower case; repeated fields joined by ``", "``.
        body: as much as arrived.
        status: of the answer, as far as it got; None when the connection was closed without one.
        at: Unix seconds by the server's clock.
        query: as it was sent, without the question mark.
    """

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int | None
    at: float
    query: str = field(default="", repr=False)


class Record:
    """What was seen, and how often."""

    def __init__(self) -> None:
        self.counts: Counter[str | None] = Counter()
        self.seen: deque[Seen] = deque(maxlen=_SEEN_LIMIT)

    def add(self, endpoint: str | None, seen: Seen) -> None:
        """Count a request that arrived whole."""
        self.counts[endpoint] += 1
        if endpoint == "api" and seen.status == 401:
            self.counts["refused"] += 1
        self.seen.append(seen)


class HasRecord(Protocol):
    """What a `Counted` is an attribute of."""

    _record: Record


class Counted:
    """An attribute that is one of the record's counts; who stands before a sandbox may count there, too."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __get__(self, sandbox: HasRecord, _owner: object = None) -> int:
        return sandbox._record.counts[self._what]  # noqa: SLF001 - the other half

    def __set__(self, sandbox: HasRecord, count: int) -> None:
        sandbox._record.counts[self._what] = count  # noqa: SLF001 - likewise
