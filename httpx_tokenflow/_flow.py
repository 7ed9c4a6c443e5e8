"""The heart: the order of events, written once. Generators without I/O that yield steps and are sent their answers.

    authorize   the life of one request; may be cancelled or thrown away at any yield
    current     a token for use elsewhere than on a request
    renew       one renewal (`_renewal.py`); belongs to its flight, and nothing that happens to a request can tear it

Rules of a request.

1. Nothing is held across a yield. The host may drop the generator, or close it from another task.
2. A 401 is ours to mend only if the request that was answered carried our credential: not after a redirect to
   somebody else (failures F20), and not if the challenge says that another token would not help (RFC 6750 §3.1:
   `invalid_request`; `insufficient_scope`, unless the program lets us ask for more).
3. It is read before anybody waits: until then it holds a connection of the pool, and waiters that hold the whole
   pool starve each other (failures F26).
4. If the current token is another than the one that was refused, it is sent: that costs no renewal. Otherwise there
   is one renewal, for everybody. A second 401 after that is given back. Three sends at most for this.
5. A body that cannot be replayed is never sent twice: the 401 is given back, and the renewal goes on for the next.
6. A token that is early is sent, and its renewal seen off; one that is due is renewed first. If that fails, or is not
   over in two seconds, whoever has a token that has not ended, and was not refused to them, sends it.
7. Where one fresh token after the other is refused, the 401 is given back and no other is minted (the breaker).
8. Each cause has a budget of its own, of one: a renewal, a nonce that a server asks for (RFC 9449 §9), more scope or a
   stronger login (RFC 6750 §3.1, RFC 9470). For the last the token at hand stays good: others go on with it.
9. Where nobody but the API can say who issues its tokens, the first request goes out without one (RFC 9728 §5).
"""

from __future__ import annotations

import enum
import logging
import math
from typing import TYPE_CHECKING, Any, Protocol

from ._answers import words
from ._challenges import Challenge, parse_challenges
from ._errors import ReauthenticationRequired, StepUpRequired, TokenFlowError, TokenRequestError
from ._flights import Demand
from ._lifecycle import Why
from ._renewal import lead
from ._steps import Answer, Drain, Launch, Send, Step, Wait
from ._verdicts import explain_refusal

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._flights import Flight, Held, Ticket
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._terms import Renewals

__all__ = ["Sending", "Verdict", "authorize", "current", "verdict"]

MAX_SENDS = 3
PATIENCE = 2.0  # seconds for which those whose token has not ended wait for a renewal
NO_WAIT = 0.01  # seconds that a look into the store may take, while renewals pause, and be no wait


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
    NONCE = "send it again with the nonce that came along"
    STEP_UP = "send it again with a token that can do more"


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
        if challenge.error in {"insufficient_user_authentication", "insufficient_scope"}:
            return Verdict.STEP_UP, challenge
        if challenge.error == "use_dpop_nonce" and answer.status == 401:
            return (Verdict.NONCE if answer.nonce else Verdict.GIVE_BACK), challenge
    if answer.status != 401 or (ours and all(challenge.error == "invalid_request" for challenge in ours)):
        return Verdict.GIVE_BACK, None
    return Verdict.RENEW, ours[0] if ours else None


def authorize(
    source: TokenSource,
    policy: RenewalPolicy,
    renewals: Renewals | None,
    sending: Sending,
    sent: tuple[Held | None, Answer] | None = None,
) -> Generator[Step, Any, None]:
    """The life of one request that carries our credential.

    Args:
        source: whose token it carries.
        policy: the numbers, and the clock.
        renewals: how a token is renewed; None where it cannot be.
        sending: the request.
        sent: it was sent already, with this token, and was answered like this.
    """
    if sent is None:
        held = yield from _first(source, policy, renewals, sending)
        sent = held, (yield Send(held))
    request = _Request(source, policy, renewals, sending, *sent)
    while True:
        what, challenge = verdict(request.answer)
        if not (yield from request.mend(what, challenge)):
            break
        request.answer = yield Send(request.held)
    _tell(source, request.held, request.answer, challenge, stands=True)
    if _is_refusal(request.answer, challenge) and source.is_heard(logging.WARNING):
        error = _said(challenge.error, request.held) if challenge else None
        issues = renewals is not None and getattr(renewals.grant, "issues", True)
        yield from explain_refusal(source, policy.clock, request.held, request.answer, error, has_age=issues)


def current(renewals: Renewals) -> Generator[Step, Any, Held]:
    """A token for use elsewhere: never one that is due, since nobody knows for how long it is to serve there."""
    held, _ = yield from _await_token(renewals, patience=math.inf)
    pause = renewals.source.pause
    if pause is not None and held.age(renewals.policy.clock) >= held.life.due:
        raise pause.error.again() from pause.error
    return held


def _first(
    source: TokenSource, policy: RenewalPolicy, renewals: Renewals | None, sending: Sending
) -> Generator[Step, Any, Held | None]:
    """The token to send first; None where there is none, and it takes an API to say who issues one (rule 9)."""
    if renewals is None:
        assert source.held is not None  # noqa: S101 - without a grant the source was made with a token
        return source.held
    if renewals.is_unknown():
        return source.usable(policy.clock)  # nobody could renew it: its 401 says who can
    timeout = sending.timeout if policy.cover_timeout else 0.0
    return (yield from _await_token(renewals, timeout=timeout))[0]


class _Request:
    """A request that was answered: with which token, and what may still be done about it (rule 8)."""

    __slots__ = ("answer", "budget", "held", "policy", "renewals", "sending", "sends", "source")

    def __init__(
        self,
        source: TokenSource,
        policy: RenewalPolicy,
        renewals: Renewals | None,
        sending: Sending,
        held: Held | None,
        answer: Answer,
    ) -> None:
        self.source = source
        self.policy = policy
        self.renewals = renewals
        self.sending = sending
        self.held = held
        self.answer = answer
        self.budget = {Verdict.RENEW, Verdict.NONCE, Verdict.STEP_UP}
        self.sends = 1  # that a token is about

    def mend(self, what: Verdict, challenge: Challenge | None) -> Generator[Step, Any, bool]:
        """Do what can be done about the answer; whether the request is to be sent again."""
        if what is Verdict.GIVE_BACK:
            if self.source.breakers and self.answer.status != 401 and self.held is not None:
                self.source.accepted(self.held, self.answer.origin)
            return False
        if what is Verdict.STEP_UP and challenge is not None:
            return (yield from self._step_up(challenge))
        if self.renewals is None or not self.sending.retry:
            return False
        if what is Verdict.RENEW:
            return (yield from self._renew(self.renewals, challenge))
        if what not in self.budget or not self.sending.replayable:
            return False
        self.budget.discard(what)
        yield Drain()
        return True

    def _renew(self, renewals: Renewals, challenge: Challenge | None) -> Generator[Step, Any, bool]:
        """Another token than the one that was refused (rule 4)."""
        source, policy, held = self.source, self.policy, self.held
        helps = held is None or source.is_of_use(held, self.answer.origin, policy.clock)
        may_renew = helps and Verdict.RENEW in self.budget
        if self.sends >= MAX_SENDS or (not may_renew and source.newer(held, policy.clock) is None):
            return False
        demand = None if challenge is None else Demand(challenge, self.answer.url)
        if not self.sending.replayable:
            yield from _renew_aside(renewals, held, demand)
            return False
        _tell(source, self.held, self.answer, challenge, stands=False)
        yield Drain()
        self.held = source.newer(held, policy.clock)
        if self.held is None:
            self.held, is_renewed = yield from _await_token(renewals, refused=held, demand=demand)
            if is_renewed:
                self.budget.discard(Verdict.RENEW)
        self.sends += 1
        return True

    def _step_up(self, challenge: Challenge) -> Generator[Step, Any, bool]:
        """A token that can do what the API asks for."""
        renewals, held = self.renewals, self.held
        can = Verdict.STEP_UP in self.budget and self.sends <= MAX_SENDS
        may = self.sending.retry and self.sending.replayable
        if held is None or renewals is None or not can or not may or not renewals.can_meet(challenge):
            if challenge.error == "insufficient_scope":
                return False
            yield Drain()
            raise _step_up_required(challenge, held)
        _tell(self.source, self.held, self.answer, challenge, stands=False)
        yield Drain()
        demand = Demand(challenge, self.answer.url)
        try:
            self.held, is_new = yield from _stronger(renewals, held, demand)
        except TokenRequestError as error:
            raise _step_up_required(challenge, held) from error
        if is_new:
            self.budget.discard(Verdict.STEP_UP)
        self.sends += 1
        return True


def _stronger(renewals: Renewals, refused: Held, demand: Demand) -> Generator[Step, Any, tuple[Held, bool]]:
    """A token that may meet `demand`, and whether it was got for that; others go on with the one at hand."""
    source, policy = renewals.source, renewals.policy
    began = policy.clock.monotonic()
    while True:
        ticket = source.step_up(policy, refused, demand)
        flight = ticket.flight
        if flight is None:
            assert ticket.held is not None  # noqa: S101 - a ticket is good for one of the two
            return ticket.held, False
        is_ours = flight.demand == demand
        try:
            held: Held | None = yield Wait(flight, lead(flight, renewals) if ticket.leads else None)
        except TokenFlowError:
            if is_ours:
                _tell_wait(source, ticket, policy.clock.monotonic() - began, served=False)
                raise
            continue  # it was about something else
        if is_ours and held is not None and not source.is_outdated(flight):
            _tell_wait(source, ticket, policy.clock.monotonic() - began, served=True)
            return held, True


def _await_token(  # noqa: C901 - a table of what may have happened meanwhile
    renewals: Renewals,
    refused: Held | None = None,
    timeout: float = 0.0,
    patience: float | None = None,
    demand: Demand | None = None,
) -> Generator[Step, Any, tuple[Held, bool]]:
    """A token other than `refused`, and whether a grant was used up for it."""
    source, policy = renewals.source, renewals.policy
    patience = PATIENCE if patience is None else patience
    began = policy.clock.monotonic()
    while True:
        ticket = source.board(policy, refused, timeout, demand)
        flight, held = ticket.flight, ticket.held
        if held is not None and flight is not None:
            yield Launch(flight, lead(flight, renewals), policy.clock.monotonic() + PATIENCE)
            if (held := source.usable(policy.clock)) is None:
                continue  # it has ended while it was renewed
        if held is not None:
            return held, False
        assert flight is not None  # noqa: S101 - a ticket is good for one of the two
        # Whoever has a token that is still good does not wait for a slow server as long as who has none.
        until = math.inf if source.usable(policy.clock, refused) is None else began + patience
        try:
            held = yield Wait(flight, lead(flight, renewals) if ticket.leads else None, until)
        except TokenFlowError as error:
            if _is_about_something_else(error, flight, renewals):
                continue
            held = source.usable(policy.clock, refused)
            _tell_wait(source, ticket, policy.clock.monotonic() - began, served=held is not None)
            if held is None:
                raise
            return held, False
        if held is not None and (flight.why is Why.ERRAND or source.is_outdated(flight)):
            continue  # it was about something else; or things have changed from outside since
        is_late, held = held is None, held or source.usable(policy.clock, refused)
        if held is None:
            continue  # what was good has ended meanwhile: wait on
        _tell_wait(source, ticket, policy.clock.monotonic() - began, served=True)
        if is_late:
            return held, False
        # A flight that took off before `refused` was refused may bring that very token: once more, then.
        if flight.minted or refused is None or held.stamp != refused.stamp:
            return held, flight.minted


def _is_about_something_else(error: TokenFlowError, flight: Flight, renewals: Renewals) -> bool:
    """Whether another flight may bring what this one did not."""
    source = renewals.source
    if flight.why is Why.BACKED_OFF:
        pause = source.pause  # it was about to look into the store and no more
        return pause is None or renewals.policy.clock.monotonic() >= pause.until
    if flight.why in {Why.STEP_UP, Why.ERRAND, Why.UNSAVED}:
        return True
    # A token that no session stands behind was given up while it was renewed: there is another to be had.
    is_given_up = isinstance(error, ReauthenticationRequired) and source.is_outdated(flight)
    return is_given_up and not renewals.grant.spends


def _renew_aside(renewals: Renewals, refused: Held | None, demand: Demand | None) -> Generator[Step, Any, None]:
    """See a flight off without waiting for it: the next request will (rule 5)."""
    ticket = renewals.source.board(renewals.policy, refused, demand=demand)
    if ticket.leads and ticket.flight is not None:
        yield Launch(ticket.flight, lead(ticket.flight, renewals))


def _step_up_required(challenge: Challenge, held: Held | None) -> StepUpRequired:
    scope, acr_values = _said(challenge.scope, held), _said(challenge.acr_values, held)
    if challenge.error == "insufficient_scope":
        return StepUpRequired(
            f"the API wants the scope {scope!r}, and no token with it is to be had (RFC 6750 §3.1)", scope=scope
        )
    wants = [f"acr_values={acr_values}"] if acr_values else []
    wants += [f"max_age={challenge.max_age}"] if challenge.max_age is not None else []
    return StepUpRequired(
        f"the API wants a stronger or fresher login ({', '.join(wants) or 'it does not say which'}; RFC 9470)",
        acr_values=acr_values,
        max_age=challenge.max_age,
        scope=scope,
    )


def _said(text: str | None, held: Held | None) -> str | None:
    """An API's words, bounded and printable, without the token that it got."""
    return words(text, () if held is None else (held.entry.token.access_token,))


def _is_refusal(answer: Answer, challenge: Challenge | None) -> bool:
    """Whether our credential was refused; a 403 without a challenge of ours is the API's own business."""
    return answer.ours and (answer.status == 401 or answer.expired or challenge is not None)


def _tell(source: TokenSource, held: Held | None, answer: Answer, challenge: Challenge | None, *, stands: bool) -> None:
    if _is_refusal(answer, challenge) and source.is_heard(logging.DEBUG):
        source.tell(
            "RequestRefused",
            logging.DEBUG,
            origin=str(answer.origin),
            status=answer.status,
            error=_said(challenge.error, held) if challenge else None,
            scope=_said(challenge.scope, held) if challenge else None,
            stands=stands,
        )


def _tell_wait(source: TokenSource, ticket: Ticket, seconds: float, *, served: bool) -> None:
    flight = ticket.flight
    assert flight is not None  # noqa: S101 - or there was nothing to wait for
    if flight.why is Why.BACKED_OFF and not served and seconds < NO_WAIT:
        return  # it got the error of a renewal before at once
    facts = {"renewal": flight.number, "why": flight.why, "leads": ticket.leads}
    source.tell("Waited", logging.DEBUG, seconds=seconds, served=served, **facts)
