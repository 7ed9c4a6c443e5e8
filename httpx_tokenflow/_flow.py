"""The heart: the order of events, written once. Generators without I/O that yield steps and are sent their answers.

    authorize   the life of one request; may be cancelled or thrown away at any yield
    renew       one renewal (`_renewal.py`); belongs to its flight, and nothing that happens to a request can tear it

Rules of a request.

1. Nothing is held across a yield. The host may drop the generator, or close it from another task.
2. A 401 is ours to mend only if the request that was answered carried our credential: not after a redirect to
   somebody else (failures F20), not if the challenge says that another token would not help (RFC 6750 §3.1:
   `invalid_request`, `insufficient_scope`), and never by a renewal where RFC 9470 asks for another login.
3. It is read before anybody waits: until then it holds a connection of the pool, and waiters that hold the whole
   pool starve each other (failures F26).
4. If the current token is another than the one that was refused, it is sent: that costs no renewal. Otherwise there
   is one renewal, for everybody. A second 401 after that is given back. Three sends at most.
5. A body that cannot be replayed is never sent twice: the 401 is given back, and the renewal goes on for the next.
6. A token that is early is sent, and its renewal seen off; one that is due is renewed first. If that fails, or is not
   over in two seconds, whoever has a token that has not ended, and was not refused to them, sends it (design rule 8).
7. Where one fresh token after the other is refused, the 401 is given back and no other is minted (the breaker).
"""

from __future__ import annotations

import enum
import logging
import math
from typing import TYPE_CHECKING, Any, Protocol

from ._challenges import Challenge, parse_challenges
from ._errors import StepUpRequired, TokenFlowError
from ._lifecycle import Why
from ._steps import Answer, Drain, Launch, Send, Step, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._flights import Flight, Held
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._steps import Renewing

__all__ = ["Sending", "Verdict", "authorize", "current", "verdict"]

MAX_SENDS = 3
PATIENCE = 2.0  # seconds for which those whose token has not ended wait for a renewal

_POINTLESS = frozenset({"invalid_request", "insufficient_scope"})


class Sending(Protocol):
    """What a flow needs to know of a request, where it matters."""

    @property
    def replayable(self) -> bool:
        """Its body can go out twice."""

    @property
    def retry(self) -> bool:
        """The caller wants it to."""

    @property
    def timeout(self) -> float:
        """Seconds that it may take; 0 if nobody knows."""


class Verdict(enum.Enum):
    """What to do about an answer."""

    GIVE_BACK = "give it back"
    RENEW = "send it again with another token"
    STEP_UP = "somebody has to log in in another way"


def verdict(answer: Answer) -> tuple[Verdict, Challenge | None]:  # noqa: PLR0911 - a table, in words
    """Whether `answer` is ours to mend (rule 2), and the challenge that decided."""
    if not answer.ours:
        return Verdict.GIVE_BACK, None
    if answer.expired:
        return Verdict.RENEW, None
    if answer.status not in {401, 403}:
        return Verdict.GIVE_BACK, None
    # A challenge of another scheme than ours does not speak of our token (failures F53).
    ours = [one for one in parse_challenges(answer.challenges) if one.is_scheme("Bearer") or one.is_scheme("DPoP")]
    for challenge in ours:
        if challenge.error == "insufficient_user_authentication":
            return Verdict.STEP_UP, challenge
        if challenge.error == "insufficient_scope":
            return Verdict.GIVE_BACK, challenge
    if answer.status != 401 or (ours and all(challenge.error in _POINTLESS for challenge in ours)):
        return Verdict.GIVE_BACK, None
    return Verdict.RENEW, ours[0] if ours else None


def authorize(
    source: TokenSource,
    policy: RenewalPolicy,
    lead: Callable[[Flight], Renewing] | None,
    sending: Sending,
    sent: tuple[Held, Answer] | None = None,
) -> Generator[Step, Any, None]:
    """The life of one request.

    Args:
        source: where tokens come from.
        policy: the caller's numbers.
        lead: makes the renewal of a flight that the caller has to fly; None if there is nothing to renew with.
        sending: about the request.
        sent: the request has gone out already, with this token, and was answered like this.
    """
    if sent is None:
        timeout = sending.timeout if policy.cover_timeout else 0.0
        held = (yield from _await_token(source, policy, lead, timeout=timeout))[0] if lead else source.held
        assert held is not None  # noqa: S101 - without a grant the source was made with a token
        sent = held, (yield Send(held))
    held, answer = sent
    sends, renewed = 1, False
    while True:
        what, challenge = verdict(answer)
        if what is Verdict.STEP_UP and challenge is not None:
            yield Drain()
            raise _step_up(challenge)
        if what is Verdict.GIVE_BACK and answer.status != 401 and source.breakers:
            source.accepted(held, answer.origin)
        if what is Verdict.GIVE_BACK or lead is None or not sending.retry:
            break
        helps = source.is_of_use(held, answer.origin, policy.clock)
        if sends == MAX_SENDS or ((renewed or not helps) and source.newer(held, policy.clock) is None):
            break
        if not sending.replayable:
            yield from _renew_aside(source, policy, lead, held)
            break
        _tell(source, answer, challenge, stands=False)
        yield Drain()
        newer = source.newer(held, policy.clock)
        if newer is None:
            newer, renewed = yield from _await_token(source, policy, lead, refused=held)
        held = newer
        answer = yield Send(held)
        sends += 1
    _tell(source, answer, challenge, stands=True)


def current(
    source: TokenSource, policy: RenewalPolicy, lead: Callable[[Flight], Renewing]
) -> Generator[Step, Any, Held]:
    """A token for use elsewhere: never one that is due, since nobody knows for how long it is to serve there."""
    held, _ = yield from _await_token(source, policy, lead, patience=math.inf)
    pause = source.pause
    if pause is not None and held.age(policy.clock) >= held.life.due:
        raise pause.error.again() from pause.error
    return held


def _await_token(  # noqa: C901 - a table of what may have happened meanwhile
    source: TokenSource,
    policy: RenewalPolicy,
    lead: Callable[[Flight], Renewing],
    refused: Held | None = None,
    timeout: float = 0.0,
    patience: float | None = None,
) -> Generator[Step, Any, tuple[Held, bool]]:
    """A token other than `refused`, and whether a grant was used up for it."""
    patience = PATIENCE if patience is None else patience
    while True:
        ticket = source.board(policy, refused, timeout)
        flight, held = ticket.flight, ticket.held
        if held is not None and flight is not None:
            yield Launch(flight, lead(flight), policy.clock.monotonic() + PATIENCE)
            if (held := source.newer(held, policy.clock) or source.usable(policy.clock)) is None:
                continue  # it has ended while it was renewed
        if held is not None:
            return held, False
        assert flight is not None  # noqa: S101 - a ticket is good for one of the two
        began = policy.clock.monotonic()
        # Whoever has a token that is still good does not wait for a slow server as long as who has none.
        until = math.inf if source.usable(policy.clock, refused) is None else began + patience
        try:
            held = yield Wait(flight, lead(flight) if ticket.leads else None, until)
        except TokenFlowError:
            if flight.why is Why.BACKED_OFF and not _is_paused(source, policy):
                continue  # it was about to look into the store and no more, and the time for that is over
            held = source.usable(policy.clock, refused)
            _tell_wait(source, flight, policy.clock.monotonic() - began, served=held is not None)
            if held is None:
                raise
            return held, False
        is_late, held = held is None, held or source.usable(policy.clock, refused)
        if held is None:
            continue  # what was good has ended meanwhile: wait on
        _tell_wait(source, flight, policy.clock.monotonic() - began, served=True)
        if is_late:
            return held, False
        # A flight that took off before `refused` was refused may bring that very token: once more, then.
        if flight.minted or refused is None or held.stamp != refused.stamp:
            return held, flight.minted


def _is_paused(source: TokenSource, policy: RenewalPolicy) -> bool:
    pause = source.pause
    return pause is not None and policy.clock.monotonic() < pause.until


def _renew_aside(
    source: TokenSource, policy: RenewalPolicy, lead: Callable[[Flight], Renewing], refused: Held
) -> Generator[Step, Any, None]:
    """See a flight off without waiting for it: the next request will (rule 5)."""
    ticket = source.board(policy, refused)
    if ticket.leads and ticket.flight is not None:
        yield Launch(ticket.flight, lead(ticket.flight))


def _step_up(challenge: Challenge) -> StepUpRequired:
    wants = [f"acr_values={challenge.acr_values}"] if challenge.acr_values else []
    wants += [f"max_age={challenge.max_age}"] if challenge.max_age is not None else []
    return StepUpRequired(
        f"the API wants a stronger or fresher login ({', '.join(wants) or 'it does not say which'}; RFC 9470)",
        acr_values=challenge.acr_values,
        max_age=challenge.max_age,
        scope=challenge.scope,
    )


def _tell(source: TokenSource, answer: Answer, challenge: Challenge | None, *, stands: bool) -> None:
    if not answer.ours or not (answer.status == 401 or answer.expired or challenge is not None):
        return
    level = logging.WARNING if stands else logging.DEBUG
    if source.is_heard(level):
        source.tell(
            "RequestRefused",
            level,
            origin=str(answer.origin),
            status=answer.status,
            error=challenge.error if challenge else None,
            scope=challenge.scope if challenge else None,
            stands=stands,
        )


def _tell_wait(source: TokenSource, flight: Flight, seconds: float, *, served: bool) -> None:
    source.tell("Waited", logging.DEBUG, seconds=seconds, why=flight.why, served=served)
