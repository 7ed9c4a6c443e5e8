"""The terms on which the tokens of a source are renewed: by which grant, by which numbers, bound to which key."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._attempt import Attempt
from ._lifecycle import Why, life_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._challenges import Challenge
    from ._dpop import DPoP
    from ._entries import Entry
    from ._flights import Flight
    from ._grants import Grant
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._steps import Step

__all__ = ["Renewals"]

logger = logging.getLogger("httpx_tokenflow")


@dataclass(frozen=True, slots=True)
class Renewals:
    """How the tokens of a source are renewed.

    Args:
        source: whose tokens.
        grant: how they are obtained.
        policy: the numbers, and the clock.
        dpop: what binds them to a key, or None.
        widens: an API's `insufficient_scope` may lead to a token with more scope.
    """

    source: TokenSource
    grant: Grant
    policy: RenewalPolicy
    dpop: DPoP | None = None
    widens: bool = False

    def __post_init__(self) -> None:
        sibling_of = getattr(self.grant, "sibling_of", None)
        if sibling_of is not None:
            sibling_of.source.has_sibling(self.source)

    @property
    def logs_in(self) -> bool:
        """Whether the grant can open a session where there is none."""
        return getattr(self.grant, "logs_in", False)

    @property
    def is_of_session(self) -> bool:
        """Whether what it brings goes when a session is given up."""
        return self.grant.spends or getattr(self.grant, "sibling_of", None) is not None

    @property
    def login_timeout(self) -> float:
        """Seconds that a person may take to log in; 0: none is asked."""
        return getattr(self.grant, "login_timeout", 0.0)

    def can_meet(self, challenge: Challenge) -> bool:
        """Whether the grant may bring what an API wants of a token that is good."""
        if self.login_timeout > 0 and self.source.logged_out:
            return False
        if challenge.error == "insufficient_scope":
            return self.widens and bool(challenge.scope) and getattr(self.grant, "widens", False)
        return self.login_timeout > 0

    def is_unknown(self) -> bool:
        """Whether an API has to say first which authorization server this is (RFC 9728)."""
        is_unknown = getattr(self.grant, "is_unknown", None)
        return is_unknown is not None and is_unknown(self.source.newest(None))

    def may_log_in(self, flight: Flight) -> bool:
        """Whether a new session may be opened: nobody has logged out, and no person is disturbed too early."""
        is_early = flight.why is Why.EARLY and self.login_timeout > 0
        return self.logs_in and not self.source.logged_out and not is_early and flight.errand is None

    def attempt(self, presented: Entry | None, timeout: float, flight: Flight | None = None) -> Attempt:
        """What the grant may go by."""
        clock, demand = self.policy.clock, flight.demand if flight is not None else None
        return Attempt(
            presented,
            clock.monotonic() + timeout,
            clock,
            challenge=demand.challenge if demand is not None else None,
            url=str(demand.url) if demand is not None else "",
            dpop=self.dpop,
            may_log_in=flight is not None and self.may_log_in(flight),
        )

    def serves(self, entry: Entry, flight: Flight) -> bool:
        """Whether `entry`, which somebody else may have brought, is what `flight` is to bring."""
        source, policy = self.source, self.policy
        if not source.is_expected(entry) or source.is_past(entry):
            return False
        if entry.is_spent or flight.replaces & {entry.stamp, entry.wire_stamp} or flight.errand is not None:
            return False
        if flight.demand is not None and not flight.demand.is_met_by(entry):
            return False
        return entry.age(policy.clock.wall()) < life_of(entry, policy, 0.0).due

    def give_back(self, entry: Entry) -> Generator[Step, Any, bool]:
        """Have the server revoke what is in `entry`. Whether it agreed."""
        revoke = getattr(self.grant, "revoke", None)
        if revoke is None:
            return False
        try:
            return bool((yield from revoke(self.attempt(entry, self.policy.budget))))
        except Exception as error:  # noqa: BLE001 - whatever a transport raises: it is over here all the same
            logger.warning("%s: the server did not take a session back: %s", self.source.name, type(error).__name__)
            return False
