"""Whether another token helps, where one that has just been minted is refused: pure functions, for each origin.

A young token that is refused, and then another, means that minting does not help: a breaker stops it for that origin,
lets one probe through after a second, doubling to a minute, and is closed by any answer but a 401.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Breaker", "Refusal", "after_refusal", "is_one_of_many"]

YOUNG = 30.0  # seconds; a token refused at this age was not refused because it ended
MAX_BREAKERS = 64  # origins of which it is remembered that they refuse young tokens: the latest

_FIRST_BREAK, _MAX_BREAK = 1.0, 60.0  # seconds
_REFUSALS = 2  # of young tokens, in a row, that open the breaker


class Breaker(NamedTuple):
    """Whether minting helps against the 401s of one origin.

    Args:
        token: names the token that was last refused when it was young.
        refused: young tokens refused in a row.
        trips: how often it has opened in a row; 0: it is closed.
        until: monotonic seconds before which no token is minted for this origin, if it is open.
    """

    token: object = None
    refused: int = 0
    trips: int = 0
    until: float = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether it stops the minting, but for probes."""
        return self.trips > 0

    def after_refusal(self, token: object, age: float, now: float) -> Breaker:
        """After `token` was refused at `age`; many requests refused with one token count once."""
        if token == self.token:
            return self
        if age >= YOUNG:
            return self if self.is_open else Breaker()
        refused = self.refused + 1
        if refused < _REFUSALS:
            return self._replace(token=token, refused=refused)
        return Breaker(token, refused, self.trips + 1, now + _break(self.trips))

    def probing(self, now: float) -> Breaker | None:
        """The breaker after it let one probe through; None: it is too soon for another."""
        return self._replace(until=now + _break(self.trips)) if now >= self.until else None


def _break(trips: int) -> float:
    return float(min(_MAX_BREAK, _FIRST_BREAK * 2.0 ** min(trips, 30)))


class Refusal(NamedTuple):
    """What becomes of a refusal.

    Args:
        breakers: as they are from now on; a mapping of their own, so that who reads them needs no lock.
        helps: another token could help.
        opened: for how many seconds the breaker has just opened; None: it has not.
    """

    breakers: dict[object, Breaker]
    helps: bool
    opened: float | None


def is_one_of_many(breakers: Mapping[object, Breaker], origin: object, token: object, age: float) -> bool:
    """Whether the refusal of `token` at `age` is nothing to be counted: it was no young one, or is one of a storm."""
    breaker = breakers.get(origin)
    return age >= YOUNG if breaker is None else breaker.token == token and not breaker.is_open


def after_refusal(
    breakers: Mapping[object, Breaker],
    origin: object,
    token: object,
    age: float,
    now: float,
    *,
    is_current: bool,
    is_flying: bool,
) -> Refusal:
    """After `token` was refused by `origin` at `age`.

    Args:
        breakers: of all origins, as they are.
        origin: who has refused it.
        token: names it.
        age: seconds.
        now: monotonic seconds.
        is_current: no other token is held by now, which might help there.
        is_flying: another is on its way anyhow.
    """
    before, opened = breakers.get(origin) or Breaker(), None
    breaker = before.after_refusal(token, age, now) if is_current else before
    if breaker.trips > before.trips:
        opened = breaker.until - now
    helps = not breaker.is_open or is_flying or not is_current
    if not helps and opened is None and (probing := breaker.probing(now)) is not None:
        breaker, helps = probing, True
    if breaker == Breaker():
        return Refusal(dict(breakers), helps, opened)
    others = [(other, one) for other, one in breakers.items() if other != origin]
    return Refusal(dict([*others[1 - MAX_BREAKERS :], (origin, breaker)]), helps, opened)
