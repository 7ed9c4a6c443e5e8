"""What a server saw: each request, counted by the endpoint that it reached.

The rules:

1. A request is counted when it has arrived whole, whatever a fault makes of it afterwards.
2. ``api_refused`` counts the 401s that were answered, scripted ones included.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from ._reply import Reply

_SEEN_LIMIT = 10_000
_BRINGS_TOKENS = frozenset({"token", "login", "refresh"})


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
        endpoint: what it was for, by its name as for `Sandbox.script`; None: for none of these.
    """

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int | None
    at: float
    query: str = field(default="", repr=False)
    endpoint: str | None = None


class Record:
    """What was seen, and how often."""

    def __init__(self) -> None:
        self.counts: Counter[str | None] = Counter()
        self.seen: deque[Seen] = deque(maxlen=_SEEN_LIMIT)
        self.told: deque[bytes] = deque(maxlen=_SEEN_LIMIT)

    def add(self, endpoint: str | None, seen: Seen) -> None:
        """Count a request that arrived whole."""
        self.counts[endpoint] += 1
        if endpoint == "api" and seen.status == 401:
            self.counts["refused"] += 1
        self.seen.append(seen)

    def keep(self, endpoint: str | None, reply: Reply | None) -> None:
        """Keep what was answered where tokens are: a fault may have brought one that no state knows."""
        if reply is not None and endpoint in _BRINGS_TOKENS:
            self.told.append(reply.body)
