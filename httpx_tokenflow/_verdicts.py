"""Why a refusal stands: told once for each cause and interval, whoever keeps asking.

Rules.

1. What the doctor finds in the answer is told at the first refusal that stands, and again after `INTERVAL` if it goes
   on, with how often it has stood for that cause since it was told last. That holds for all sources of one name
   together: a program that makes an auth for each request, or each user, says it once as well.
2. A diagnosis costs some milliseconds, and the first one a tenth of a second: it is made in a thread where a loop would
   stop. Of refusals that look alike (name, origin, status, error) one a second is looked at, and of all together ten a
   second; the others count as the same.
3. What is remembered is bounded. Where there is no room for more, what is new is not told; nothing is told twice.
"""

from __future__ import annotations

import logging
import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ._forks import renew_after_fork
from ._steps import Answer, Step, Work

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._flights import Held
    from ._telling import Teller
    from ._times import Clock
    from .doctor import Diagnosis

__all__ = ["VERDICTS", "Look", "Verdicts", "explain_refusal"]

logger = logging.getLogger("httpx_tokenflow")

INTERVAL = 60.0  # seconds
MAX_KEPT = 1024
LOOK_AGAIN = 1.0  # seconds
MAX_LOOKS = 10  # a second


class Look(NamedTuple):
    """What refusals that look alike have in common."""

    name: str
    origin: object
    status: int
    error: str | None


class _Looked:
    """Refusals that look alike: how many were not told of, and what was found at the last look."""

    __slots__ = ("cause", "until", "untold")

    def __init__(self) -> None:
        self.until = -math.inf  # when it may be looked at again
        self.cause: str | None = None
        self.untold = 0


class Verdicts:
    """What was told of refusals, and when."""

    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # for a few lines of bookkeeping
        self._looks: dict[Look, _Looked] = {}
        self._told: dict[tuple[str, object, str], float] = {}  # (name, origin, cause): until when it is not told again
        self._allowance, self._counted = float(MAX_LOOKS), -math.inf  # of looks; and when it was reckoned

    def forget(self) -> None:
        """Be as new: for tests."""
        self._after_fork()

    def count(self, look: Look, now: float) -> bool:
        """Count one refusal, and say whether it is to be looked at (rule 2)."""
        with self._lock:
            looked = self._looks.get(look)
            if looked is None:
                if len(self._looks) >= MAX_KEPT:
                    self._looks = {one: kept for one, kept in self._looks.items() if now < kept.until + INTERVAL}
                if len(self._looks) >= MAX_KEPT:
                    return False
                looked = self._looks[look] = _Looked()
            looked.untold += 1
            if now < looked.until or not self._may_look(now):
                return False
            looked.until = now + LOOK_AGAIN
            return True

    def _may_look(self, now: float) -> bool:
        gained = max(0.0, now - self._counted) * MAX_LOOKS
        self._allowance, self._counted = min(float(MAX_LOOKS), self._allowance + gained), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def times(self, look: Look, cause: str, now: float) -> int:
        """How many refusals for this cause there are to tell of; 0: not now (rule 1)."""
        key = (look.name, look.origin, cause)
        with self._lock:
            if look in self._looks:
                self._looks[look].cause = cause
            if len(self._told) >= MAX_KEPT:
                self._told = {one: until for one, until in self._told.items() if now < until}
            if now < self._told.get(key, -math.inf) or len(self._told) >= MAX_KEPT:
                return 0
            self._told[key] = now + INTERVAL
            same = [one for other, one in self._looks.items() if (other.name, other.origin, one.cause) == key]
            times = sum(one.untold for one in same)
            for one in same:
                one.untold = 0
            return times


VERDICTS = Verdicts()
"""Those of this process."""


def explain_refusal(
    teller: Teller, clock: Clock, held: Held | None, answer: Answer, error: str | None, *, has_age: bool
) -> Generator[Step, Any, None]:
    """Tell why `answer` stands, unless that was told a short while ago.

    Args:
        teller: who tells.
        clock: of its policy.
        held: the credential that was refused.
        answer: what stands.
        error: the code in its challenge.
        has_age: it is known when the credential was issued.
    """
    look = Look(teller.name, answer.origin, answer.status, error)
    if not VERDICTS.count(look, clock.monotonic()):
        return
    try:
        diagnosis: Diagnosis = yield Work(partial(_diagnosis, clock, held, answer, has_age=has_age))
    except Exception:
        logger.exception("%s: a refusal could not be explained, which is a defect; nothing else is wrong", teller.name)
        return
    first = diagnosis.first
    times = VERDICTS.times(look, "" if first is None else first.id, clock.monotonic())
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


def _diagnosis(clock: Clock, held: Held | None, answer: Answer, *, has_age: bool) -> Diagnosis:
    from .doctor import (
        Exchange,
        Fields,
        explain,
        sent_in,
    )  # a tenth of a second that nobody pays before it has happened

    challenges = Fields(("WWW-Authenticate", text) for text in answer.challenges)
    return explain(
        answer.response or Exchange(url=str(answer.url), status=answer.status, received=challenges),
        now=clock.wall(),
        token_age=held.age(clock) if held is not None and has_age else None,
        carried=None if held is None else sent_in(answer.place, held.value),
    )
