"""Why a refusal stands: told once for each cause and interval, whoever keeps asking.

Rules.

1. What the doctor finds in the answer is told at the first refusal that stands, and again after `INTERVAL`, with how
   often it has stood for that cause since it was told last.
2. A diagnosis costs about a millisecond: of refusals that look alike (origin, status, error) one a second is looked at,
   and the others count as the same.
3. What is remembered is bounded: beyond `MAX_KEPT` the oldest is forgotten.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ._forks import renew_after_fork

if TYPE_CHECKING:
    from ._flights import Held
    from ._steps import Answer
    from ._telling import Teller
    from ._times import Clock
    from .doctor import Diagnosis

__all__ = ["Verdicts", "explain_refusal"]

INTERVAL = 60.0  # seconds
MAX_KEPT = 32

_Look = tuple[object, int, str | None]
_LOOK_AGAIN = 1.0  # seconds


class _Locks:
    """The lock that belongs to no source."""

    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.keeping = threading.Lock()  # guards what is remembered, for a few lines


_locks = _Locks()


class Verdicts:
    """What was told of the refusals of one source, and when."""

    __slots__ = ("_looks", "_told")

    def __init__(self) -> None:
        self._looks: dict[_Look, tuple[float, str]] = {}  # until when it needs no other look, and what was found
        self._told: dict[tuple[object, str], tuple[float, int]] = {}  # until when it is not told again; not told of

    def known(self, look: _Look, now: float) -> bool:
        """Whether a refusal that looks like this one needs no look of its own; it is counted then (rule 2)."""
        with _locks.keeping:
            until, cause = self._looks.get(look, (now, ""))
            told, untold = self._told.get((look[0], cause), (now, 0))
            if now >= until or now >= told:
                return False
            self._told[look[0], cause] = told, untold + 1
            return True

    def times(self, look: _Look, cause: str, now: float) -> int:
        """How many refusals for this cause there are to tell of, with this one; 0: not now (rule 1)."""
        with _locks.keeping:
            _put(self._looks, look, (now + _LOOK_AGAIN, cause))
            told, untold = self._told.get((look[0], cause), (now, 0))
            if now < told:
                self._told[look[0], cause] = told, untold + 1
                return 0
            _put(self._told, (look[0], cause), (now + INTERVAL, 0))
            return untold + 1


def _put(kept: dict, key: object, value: object) -> None:  # type: ignore[type-arg]  # either of the two
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_KEPT:
        kept.pop(next(iter(kept)), None)


def explain_refusal(
    teller: Teller, verdicts: Verdicts, clock: Clock, held: Held | None, answer: Answer, error: str | None
) -> None:
    """Tell why `answer` stands, unless that was told a short while ago."""
    look, now = (answer.origin, answer.status, error), clock.monotonic()
    if verdicts.known(look, now):
        return
    diagnosis = _diagnosis(clock, held, answer)
    first = diagnosis.first
    times = verdicts.times(look, "" if first is None else first.id, now)
    if not times:
        return
    teller.tell(
        "RefusalExplained",
        logging.WARNING,
        origin=str(answer.origin),
        status=answer.status,
        error=error,
        cause=None if first is None else first.id,
        certainty=None if first is None else first.certainty.name.lower(),
        verdict=str(diagnosis),
        remedy=None if first is None else first.remedy,
        times=times,
    )


def _diagnosis(clock: Clock, held: Held | None, answer: Answer) -> Diagnosis:
    from .doctor import Exchange, Fields, explain, sent_in  # 20 ms that nobody pays before it has happened

    challenges = Fields(("WWW-Authenticate", text) for text in answer.challenges)
    return explain(
        answer.response or Exchange(url=str(answer.url), status=answer.status, received=challenges),
        now=clock.wall(),
        token_age=None if held is None else held.age(clock),
        carried=None if held is None else sent_in(answer.place, held.value),
    )
