"""What came of a scene."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpx_tokenflow.events import Event

__all__ = ["Outcome", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a scene.

    Attributes:
        requests: how many there were to be.
        refused: 401s that the API answered.
        token_requests: POSTs to the token endpoint.
        errors: what callers saw instead of a 200, by name and number.
        seconds: how long the scene took.
        family_alive: whether the login's refresh token is still good; None: there was no login.
        times: seconds that each request that got its 200 took, in ascending order.
        turned_away: token requests that found the token endpoint down.
        told: the events.
        course: the same requests as in `times`: seconds into the scene at which each was sent, and that it took.
        renewals: seconds into the scene from which and until which the token endpoint had a request to answer.
    """

    requests: int
    refused: int
    token_requests: int
    errors: Mapping[str, int]
    seconds: float
    family_alive: bool | None
    times: tuple[float, ...] = field(repr=False)
    turned_away: int = 0
    told: tuple[Event, ...] = field(default=(), repr=False)
    course: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    renewals: tuple[tuple[float, float], ...] = ()

    @property
    def failed(self) -> int:
        """Requests whose callers did not get their 200."""
        return self.requests - len(self.times)

    @property
    def unanswered(self) -> int:
        """Requests whose callers still waited when the scene was called off."""
        return self.failed - sum(self.errors.values())

    @property
    def absorbed(self) -> int:
        """401s for which no caller failed: neither was one given to a caller, nor did mending it end in an error."""
        return max(0, self.refused - self.failed)

    @property
    def troubles(self) -> list[str]:
        """What callers saw instead of a 200, the most frequent first."""
        saw = [f"{count} x {name}" for name, count in Counter(self.errors).most_common()]
        return [*saw, f"{self.unanswered} unanswered"] if self.unanswered else saw

    def percentile(self, percent: float) -> float | None:
        """Milliseconds within which this part of the requests was answered; None: none was."""
        if not self.times:
            return None
        return 1000 * self.times[min(len(self.times) - 1, int(len(self.times) * percent / 100))]

    def told_of(self, kind: type[Event]) -> list[Event]:
        """The events of exactly this kind."""
        return [event for event in self.told if type(event) is kind]


class Tally:
    """What the callers of a scene saw. Any thread may add to it: appending to a list is one step."""

    def __init__(self) -> None:
        self.course: list[tuple[float, float]] = []
        self.errors: list[str] = []

    def __len__(self) -> int:
        return len(self.course) + len(self.errors)

    def add(self, begun: float, saw: str) -> None:
        """Count one request that was begun then, and whose caller saw a status or an exception of this name."""
        if saw == "200":
            self.course.append((begun, time.perf_counter() - begun))
        else:
            self.errors.append(saw)
