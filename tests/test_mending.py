"""What becomes of an answer: the rules of a request, each where it turns (`_flow`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hand import Hand
from world import NOT_EXPLAINED, Sending

from httpx_tokenflow import (
    ReauthenticationRequired,
    StepUpRequired,
    Token,
    TokenEndpointUnavailable,
    TokenRequestError,
    _flow,
)
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._flow import Verdict, authorize, current, verdict
from httpx_tokenflow._lifecycle import Pause, Why
from httpx_tokenflow._steps import Answer, Drain, Launch, Send, Wait, Work
from httpx_tokenflow.events import Waited

if TYPE_CHECKING:
    from collections.abc import Generator

OK = Answer(200, origin="https://api.example")
REFUSED = Answer(401, ('Bearer error="invalid_token"',), origin="https://api.example", url="https://api.example/x")
MORE = Answer(403, ('Bearer error="insufficient_scope", scope="more"',), url="https://api.example/x")
NONCE = Answer(401, ('DPoP error="use_dpop_nonce"',), nonce=True)
DOWN = TokenEndpointUnavailable("down", outcome="not sent")


def ready(kind: str = "client") -> Hand:
    """With a token that is no young one, so that no breaker has a say."""
    hand = Hand(kind, widens=True)
    hand.has(hand.entry("1", session="" if kind == "client" else "s"))
    hand.now += 60.0
    return hand


def begun(hand: Hand, **sending: Any) -> Generator[Any, Any, None]:
    """A request that was sent with what is held."""
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending(**sending))
    assert next(flow) == Send(hand.source.held)
    return flow


def another(hand: Hand, name: str, **notes: Any) -> Any:
    """Another token is held, by whoever's doing, and it is no young one."""
    hand.source.held = held = hand.source.hold(hand.entry(name, session="", **notes), hand.policy)
    hand.now += 60.0
    return held


def brought(hand: Hand, wait: Any, name: str, *, minted: bool = True, **notes: Any) -> Any:
    """`wait` is over: its flight has brought a token."""
    wait.flight.minted = minted
    held = hand.source.hold(hand.entry(name, session="", **notes), hand.policy)
    hand.source.land(wait.flight, held)
    hand.now += 60.0
    return held


def refuses(flow: Generator[Any, Any, None], answer: Answer = REFUSED) -> Any:
    """The step after the answer was read, which another request is to follow."""
    assert isinstance(flow.send(answer), Drain)
    return flow.send(None)


def given_back(flow: Generator[Any, Any, None], answer: Answer | None = None) -> None:
    """The flow is over, after a word on why perhaps."""

    def last_steps() -> None:
        assert isinstance(flow.send(answer), Work)
        flow.send(NOT_EXPLAINED)

    with pytest.raises(StopIteration):
        last_steps()


def stands(flow: Generator[Any, Any, None], answer: Answer = REFUSED) -> None:
    """The answer is given back."""
    given_back(flow, answer)


# What is ours to mend (rule 2).


@pytest.mark.parametrize("status", [200, 400, 402, 404, 500])
def test_a_challenge_beside_another_status_is_nothing(status: int) -> None:
    """Only a 401 or a 403 asks for another token, whatever challenge goes along."""
    assert verdict(replace(MORE, status=status)) == (Verdict.GIVE_BACK, None)


def test_what_another_token_would_not_help() -> None:
    """A 401 that says the request is wrong is given back; one that says so of one scheme of two is ours to mend."""
    assert verdict(Answer(401, ('Bearer error="invalid_request"',))) == (Verdict.GIVE_BACK, None)
    assert verdict(Answer(401, ('Bearer error="invalid_request"', "DPoP")))[0] is Verdict.RENEW


# Taking over, renewing, and how often (rules 4 and 8).


def test_a_renewal_is_spent_once() -> None:
    """A 401 for what a renewal has minted stands, also where the token is no young one."""
    hand = ready()
    flow = begun(hand)
    new = brought(hand, wait := refuses(flow), "2")
    assert wait.flight.why is Why.REFUSED
    assert flow.send(new) == Send(new)
    stands(flow)


def test_a_newer_token_is_taken_over_when_the_renewal_is_spent() -> None:
    """Who has had their renewal sends what somebody else has got meanwhile, and no fourth token."""
    hand = ready()
    flow = begun(hand)
    new = brought(hand, refuses(flow), "2")
    flow.send(new)
    newer = another(hand, "3")
    assert refuses(flow) == Send(newer)
    another(hand, "4")
    stands(flow)


def test_a_newer_token_that_is_early_is_taken_over_as_it_is() -> None:
    """Who finds another token sends that: its own renewal is seen off by the next request, and not by a 401."""
    hand = ready()
    flow = begun(hand)
    newer = another(hand, "2")
    hand.now = newer.born + newer.life.early + 1.0
    assert refuses(flow) == Send(newer)


def test_a_step_up_counts_as_a_send_and_comes_after_three() -> None:
    """More scope may be asked for after three tokens; a token taken over after a step-up is the last."""
    hand = ready()
    flow = begun(hand)
    for name in ("2", "3"):
        newer = another(hand, name)
        assert refuses(flow) == Send(newer)
    step = refuses(flow, MORE)
    assert step.flight.why is Why.STEP_UP
    hand = ready()
    flow = begun(hand)
    stronger = brought(hand, refuses(flow, MORE), "2", asked="more")
    assert flow.send(stronger) == Send(stronger)
    newer = another(hand, "3")
    assert refuses(flow) == Send(newer)
    another(hand, "4")
    stands(flow)


def test_a_nonce_is_read_before_the_request_goes_again() -> None:
    """The answer that brings a nonce is read, and the same token goes out with it, once."""
    hand = ready()
    flow = begun(hand)
    assert refuses(flow, NONCE) == Send(hand.source.held)
    stands(flow, NONCE)


@pytest.mark.parametrize("how", [{"retry": False}, {"replayable": False}])
def test_a_step_up_needs_leave_to_send_again(how: dict[str, bool]) -> None:
    """A request that may not, or cannot, be sent twice gets its 403."""
    stands(begun(ready(), **how), MORE)


def test_without_a_token_or_a_grant_there_is_no_step_up() -> None:
    """What was sent without a token, or with one that nobody renews, is given back when more scope is asked for."""
    hand = ready()
    given_back(authorize(hand.source, hand.policy, hand.renewals, Sending(), (None, MORE)))
    given_back(authorize(hand.source, hand.policy, hand.renewals, Sending(retry=False), (None, REFUSED)))
    flow = authorize(hand.source, hand.policy, None, Sending())
    next(flow)
    stands(flow, MORE)


def test_a_flight_knows_what_the_api_has_said() -> None:
    """A step-up, and a renewal seen off, carry the challenge and the URL; without a challenge there is no demand."""
    hand = ready()
    step = refuses(begun(hand), MORE)
    flight = step.flight
    assert step.renewal is not None
    assert (flight.demand.challenge.scope, flight.demand.url) == ("more", "https://api.example/x")
    step = begun(ready(), replayable=False).send(REFUSED)
    assert isinstance(step, Launch)
    assert step.renewal is not None
    assert (step.flight.demand.challenge.error, step.flight.demand.url) == ("invalid_token", "https://api.example/x")
    assert refuses(begun(ready()), Answer(401)).flight.demand is None


# What was got without a renewal leaves one to be had (rule 4).


def goes_on(hand: Hand, flow: Generator[Any, Any, None]) -> None:
    """The renewal is still to be had."""
    hand.source.pause = None
    assert isinstance(refuses(flow), Wait)


def test_a_due_token_during_a_pause_costs_no_renewal() -> None:
    """Another token that is due, while renewals pause, is sent and leaves the renewal for the next 401."""
    hand = ready()
    flow = begun(hand)
    due = another(hand, "2")
    hand.now = due.born + due.life.due + 1.0
    hand.source.pause = Pause(DOWN, until=hand.now + 60, early=hand.now + 60, failures=1)
    assert refuses(flow) == Send(due)
    goes_on(hand, flow)


def test_a_failed_renewal_costs_none() -> None:
    """Who waits for a renewal that fails, and has a token by then that is not the refused one, sends that."""
    hand = ready()
    flow = begun(hand)
    wait = refuses(flow)
    other = another(hand, "2")
    assert flow.throw(DOWN) == Send(other)
    hand.source.fail(wait.flight, DOWN)
    goes_on(hand, flow)
    (waited,) = [event for event in hand.told if isinstance(event, Waited)]
    assert waited.served


def test_a_renewal_that_takes_long_costs_none() -> None:
    """Who has waited long enough sends what there is; what the flight brings is not theirs, minted or not."""
    hand = ready()
    flow = begun(hand)
    due = another(hand, "2")
    hand.now = due.born + due.life.due + 1.0
    wait = refuses(flow)
    assert wait.until == hand.now + _flow.PATIENCE
    wait.flight.minted = True  # and about to be saved
    assert flow.send(None) == Send(hand.source.held)
    assert hand.source.held.stamp == due.stamp
    goes_on(hand, flow)


def test_who_waits_waits_on_when_what_was_good_has_ended() -> None:
    """A token that ends while its renewal is waited for is not sent: the wait goes on, as long as it takes."""
    hand = ready()
    hand.now = hand.source.held.born + hand.source.held.life.end - 1.0
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    wait = next(flow)
    assert wait.until == hand.now + _flow.PATIENCE
    hand.now += 2.0
    again = flow.send(None)
    assert (again.flight, again.until) == (wait.flight, float("inf"))


def test_one_flies_and_the_others_wait() -> None:
    """Of two requests that need a token the first one flies, and the second waits for that."""
    hand = Hand("client")
    first, second = (next(authorize(hand.source, hand.policy, hand.renewals, Sending())) for _ in range(2))
    assert first.flight is second.flight
    assert (first.renewal is not None, second.renewal) == (True, None)


@pytest.mark.parametrize("outcome", ["torn", "another"])
def test_an_early_renewal_is_seen_off_once(outcome: str) -> None:
    """Who sees an early renewal off goes on at once with what is good by then, and sees no other off."""
    hand = ready()
    early = hand.source.held
    hand.now = early.born + early.life.early + 1.0
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    step = next(flow)
    assert isinstance(step, Launch)
    if outcome == "torn":
        hand.source.abandon(step.flight)
        assert flow.send(None).held.stamp == early.stamp
    else:
        newer = brought(hand, step, "2")
        assert flow.send(None) == Send(newer)


def test_a_token_for_elsewhere_has_no_request_to_last_for() -> None:
    """Who asks for a token for use elsewhere is given one that is good to its last second, if it is due only then."""
    hand = ready()
    policy = replace(hand.policy, due_window=0.0, early_window=0.0)
    hand.source.held = held = hand.source.hold(Entry(Token("a1"), hand.now, 60.0), policy)
    hand.now += 59.5
    with pytest.raises(StopIteration) as over:
        next(current(replace(hand.renewals, policy=policy)))
    assert over.value.value is held


# What a flight that fails says to those who wait.


@pytest.mark.parametrize("case", ["in force", "over", "forgiven"])
def test_a_look_into_the_store_fails_for_as_long_as_the_pause(case: str) -> None:
    """While renewals pause, a look that finds nothing is the answer; once the pause is over it is not."""
    hand = Hand("client")
    hand.source.pause = Pause(DOWN, until=hand.now + 5.0, early=hand.now + 5.0, failures=1)
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    look = next(flow)
    assert look.flight.why is Why.BACKED_OFF
    if case == "in force":
        hand.now += 4.9
        with pytest.raises(TokenEndpointUnavailable):
            flow.throw(DOWN)
        return
    hand.source.fail(look.flight, DOWN)
    if case == "over":
        hand.now += 5.0
    else:
        hand.source.forgive()
    step = flow.throw(DOWN)
    assert (step.flight.why, step.renewal is not None) == (Why.MISSING, True)


def test_an_outage_is_the_answer_whatever_has_changed_meanwhile() -> None:
    """Only who was told to log in, of a token that was given up meanwhile, asks again: an outage is told at once."""
    for error, is_answer in ((DOWN, True), (ReauthenticationRequired("given up"), False)):
        hand = Hand("client")
        flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
        wait = next(flow)
        hand.source.leave()
        hand.source.fail(wait.flight, error)
        if is_answer:
            with pytest.raises(TokenEndpointUnavailable):
                flow.throw(error)
        else:
            assert flow.throw(error).flight is not wait.flight


@pytest.mark.parametrize(("seconds", "told"), [(0.0, []), (0.009, []), (0.01, [0.01]), (3.0, [3.0])])
def test_a_look_that_takes_no_time_is_no_wait(seconds: float, told: list[float]) -> None:
    """Who gets the error of a renewal before at once has not waited; who waits for a slow store for it has."""
    hand = Hand("client")
    hand.now = 0.0
    hand.source.pause = Pause(DOWN, until=60.0, early=60.0, failures=1)
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    next(flow)
    hand.now = seconds
    with pytest.raises(TokenEndpointUnavailable):
        flow.throw(DOWN)
    assert [event.seconds for event in hand.told if isinstance(event, Waited)] == told


# Step-ups among other flights (rule 8).


def test_a_step_up_tells_how_long_it_was_waited_for() -> None:
    """Whether it was served or not, a wait for a step-up is told with its seconds."""
    hand = ready()
    flow = begun(hand)
    wait = refuses(flow, MORE)
    hand.now += 7.0
    flow.send(brought(hand, wait, "2", asked="more"))
    other = ready()
    flow = begun(other)
    wait = refuses(flow, MORE)
    other.now += 9.0
    with pytest.raises(StepUpRequired):
        flow.throw(TokenRequestError("no", error="invalid_scope"))
    waits = [(one.seconds, one.served) for one in (*hand.told, *other.told) if isinstance(one, Waited)]
    assert waits == [(67.0, True), (9.0, False)]


@pytest.mark.parametrize("fails", [True, False])
def test_a_step_up_waits_for_what_is_in_the_air_and_then_has_its_own(*, fails: bool) -> None:
    """A flight about something else is waited for; whatever comes of it, it does not answer for the scope."""
    hand = ready()
    renewal = refuses(begun(hand))
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending(), (hand.source.held, MORE))
    assert isinstance(next(flow), Drain)
    step = flow.send(None)
    assert (step.flight is renewal.flight, step.renewal) == (True, None)
    if fails:
        hand.source.fail(renewal.flight, DOWN)
        step = flow.throw(DOWN)
    else:
        step = flow.send(brought(hand, renewal, "2"))
    assert (step.flight.why, step.flight is renewal.flight) == (Why.STEP_UP, False)
    assert [event for event in hand.told if isinstance(event, Waited)] == []


def test_the_same_demand_of_two_urls_is_one() -> None:
    """Two requests of which an API wants the same share one step-up, and each has had theirs."""
    hand = ready()
    first, second = begun(hand), begun(hand)
    step = refuses(first, MORE)
    other = refuses(second, replace(MORE, url="https://api.example/y"))
    assert other.flight is step.flight
    stronger = brought(hand, step, "2", asked="more")
    assert second.send(stronger) == Send(stronger)
    stands(second, MORE)


def test_what_was_overtaken_from_outside_does_not_answer_for_a_step_up() -> None:
    """A token set while a step-up was in the air is asked about anew: it may not have the scope."""
    hand = ready()
    flow = begun(hand)
    wait = refuses(flow, MORE)
    hand.source.replace(hand.source.hold(hand.entry("set", session=""), hand.policy))
    brought(hand, wait, "2", asked="more")
    step = flow.send(hand.source.held)
    assert isinstance(step, Wait)
    assert step.flight is not wait.flight


# Where the API says who issues tokens (rule 9), and what is said of a refusal that stands.


def test_where_nobody_knows_the_issuer_the_first_request_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request goes out without a token, or with what is held, and nobody is asked."""
    hand = ready()
    monkeypatch.setattr(type(hand.renewals), "is_unknown", lambda _: True)
    assert next(authorize(hand.source, hand.policy, hand.renewals, Sending())) == Send(hand.source.held)
    hand.source.held = None
    assert next(authorize(hand.source, hand.policy, hand.renewals, Sending())) == Send(None)


class Grant:
    """A grant that a program has written: it need not say whether what it brings was issued just then."""


class Finds(Grant):
    issues = False


@pytest.mark.parametrize(("grant", "has_age"), [(Grant(), True), (Finds(), False), (None, False)])
def test_what_is_explained(grant: Any, *, has_age: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that stands is explained by the token sent, without its text; its age counts if a grant minted it."""
    hand, seen = ready(), []

    def explain(*args: Any, has_age: bool) -> Any:
        seen.append((*args, has_age))
        return iter(())

    monkeypatch.setattr(_flow, "explain_refusal", explain)
    renewals = None if grant is None else replace(hand.renewals, grant=grant)
    answer = Answer(401, ('Bearer error="not a1"',))
    held = hand.source.held
    flow = authorize(hand.source, hand.policy, renewals, Sending(retry=False))
    next(flow)
    stands(flow, answer)
    assert seen == [(hand.source, hand.policy.clock, held, answer, "not ***", has_age)]


# The breaker (rule 7).


@pytest.mark.parametrize("answer", [OK, replace(OK, status=403), replace(OK, status=500)])
def test_any_answer_but_a_401_closes_the_breaker(answer: Answer) -> None:
    """An origin that takes the token, or answers anything but 401, is no longer one that refuses young tokens."""
    hand = ready()
    hand.source.breakers = {OK.origin: hand.source.breakers}
    accepted: list[Any] = []
    source = _Noting(hand.source, accepted)
    flow = authorize(source, hand.policy, hand.renewals, Sending())
    next(flow)
    stands(flow, answer)
    assert accepted == [(hand.source.held, OK.origin)]


@pytest.mark.parametrize("case", ["401", "no token", "no breaker"])
def test_what_says_nothing_of_the_breaker(case: str) -> None:
    """A 401, and an answer to a request without a token, close no breaker; where there is none nobody is asked."""
    hand, accepted = ready(), []
    if case != "no breaker":
        hand.source.breakers = {OK.origin: None}
    source = _Noting(hand.source, accepted)
    held = None if case == "no token" else hand.source.held
    answer = replace(REFUSED, challenges=('Bearer error="invalid_request"',)) if case == "401" else OK
    given_back(authorize(source, hand.policy, hand.renewals, Sending(), (held, answer)))
    assert accepted == []


class _Noting:
    """A source that notes what was accepted."""

    def __init__(self, source: Any, accepted: list[Any]) -> None:
        self.source = source
        self.noted = accepted

    def accepted(self, held: Any, origin: object) -> None:
        self.noted.append((held, origin))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)
