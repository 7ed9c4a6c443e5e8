"""Why a refusal stands: told once for each cause and interval, whoever keeps asking.

Rules.

1. What the doctor finds in the answer is told at the first refusal that stands, and again after `INTERVAL`, with how
   often it has stood for that cause since it was told last.
2. A diagnosis costs some milliseconds, and the first one a tenth of a second: it is made in a thread where a loop would
   stop. Of refusals that look alike (origin, status, error) one a second is looked at; the others count as the same.
3. What is remembered is bounded: beyond `MAX_KEPT` the oldest is forgotten.
"""

from __future__ import annotations

import logging
import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ._forks import renew_after_fork
from ._steps import Answer, Step, Work

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._flights import Held
    from ._telling import Teller
    from ._times import Clock
    from .doctor import Diagnosis

__all__ = ["Verdicts", "explain_refusal"]

logger = logging.getLogger("httpx_tokenflow")

INTERVAL = 60.0  # seconds
MAX_KEPT = 32

_K = TypeVar("_K")
_V = TypeVar("_V")
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
        self._looks: dict[_Look, _Looked] = {}
        self._told: dict[tuple[object, str], float] = {}  # (origin, cause): until when it is not told again

    def count(self, look: _Look, now: float) -> bool:
        """Count one refusal, and say whether it is to be looked at (rule 2)."""
        with _locks.keeping:
            looked = self._looks.get(look)
            if looked is None:
                looked = _put(self._looks, look, _Looked())
            looked.untold += 1
            if now < looked.until:
                return False
            looked.until = now + _LOOK_AGAIN
            return True

    def times(self, look: _Look, cause: str, now: float) -> int:
        """How many refusals for this cause there are to tell of; 0: not now (rule 1)."""
        with _locks.keeping:
            looked = self._looks.get(look)
            if looked is not None:
                looked.cause = cause
            if now < self._told.get((look[0], cause), -math.inf):
                return 0
            _put(self._told, (look[0], cause), now + INTERVAL)
            same = [one for other, one in self._looks.items() if (other[0], one.cause) == (look[0], cause)]
            times = sum(one.untold for one in same)
            for one in same:
                one.untold = 0
            return times


class _Looked:
    """Refusals that look alike: how many were not told of, and what was found at the last look."""

    __slots__ = ("cause", "until", "untold")

    def __init__(self) -> None:
        self.until = -math.inf
        self.cause: str | None = None
        self.untold = 0


def _put(kept: dict[_K, _V], key: _K, value: _V) -> _V:
    """Keep `value` as the newest (rule 3)."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_KEPT:
        del kept[next(iter(kept))]
    return value


def explain_refusal(
    teller: Teller, verdicts: Verdicts, clock: Clock, held: Held | None, answer: Answer, error: str | None
) -> Generator[Step, Any, None]:
    """Tell why `answer` stands, unless that was told a short while ago."""
    look = (answer.origin, answer.status, error)
    if not verdicts.count(look, clock.monotonic()):
        return
    try:
        diagnosis: Diagnosis = yield Work(partial(_diagnosis, clock, held, answer))
    except Exception:
        logger.exception("%s: a refusal could not be explained, which is a defect; nothing else is wrong", teller.name)
        return
    first = diagnosis.first
    times = verdicts.times(look, "" if first is None else first.id, clock.monotonic())
    if times:
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
