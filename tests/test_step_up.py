"""Step-up and logins: a person is asked when there is no other way, once, and nobody else is held up."""

from __future__ import annotations

import pytest
from hand import NO, Hand, ReadTimeout
from world import Sending

from httpx_tokenflow import ReauthenticationRequired, StepUpRequired, TokenEndpointUnavailable
from httpx_tokenflow._challenges import parse_challenges
from httpx_tokenflow._flights import Demand
from httpx_tokenflow._flow import authorize
from httpx_tokenflow._outside import leave
from httpx_tokenflow._steps import Answer, Drain, Fetch, Lease, Patience, Release, Save, Send, Wait
from httpx_tokenflow.events import Why

MORE = Answer(403, ('Bearer error="insufficient_scope", scope="more"',), url="https://api.example/x")
OTHER = Answer(403, ('Bearer error="insufficient_scope", scope="other"',))
STRONGER = Answer(401, ('Bearer error="insufficient_user_authentication", acr_values="gold"',))
REFUSED = Answer(401)


def ready(kind: str, *, widens: bool = True) -> Hand:
    hand = Hand(kind, widens=widens)
    hand.has(hand.entry("1", session="" if kind == "client" else "s"))
    return hand


def request(hand: Hand, *answers: Answer) -> list[str]:
    """The tokens that one request is sent with, answered like this."""
    return [held.value.removeprefix("Bearer ") for held in hand.play(*answers) if held is not None]


def test_more_scope_is_got_once_and_used_from_then_on() -> None:
    """The scope that the API names is asked for; the second 403 is given back."""
    hand = ready("client")
    assert request(hand, MORE, MORE) == ["a1", "new1"]
    assert [form["scope"] for form in hand.forms] == ["more"]
    assert request(hand, Answer(200)) == ["new1"]
    assert hand.stored.asked == "more"


def test_without_leave_to_widen_the_answer_stands() -> None:
    """No token request, and the 403 is the caller's."""
    hand = ready("client", widens=False)
    assert request(hand, MORE) == ["a1"]
    assert hand.forms == []


def test_each_cause_has_a_budget_of_its_own() -> None:
    """A nonce, a renewal and more scope in one request; the second of each stands."""
    hand = ready("client")
    nonce = Answer(401, ('DPoP error="use_dpop_nonce"',), nonce=True)
    assert request(hand, nonce, REFUSED, MORE, nonce) == ["a1", "a1", "new1", "new2"]
    hand = ready("client")
    assert request(hand, nonce, nonce) == ["a1", "a1"]
    hand = ready("client")
    assert request(hand, MORE, nonce, REFUSED, REFUSED) == ["a1", "new1", "new1", "new2"]


def test_taking_over_a_newer_token_costs_no_step_up() -> None:
    """Who finds another token by then tries that; and then has one got."""
    hand = ready("client")
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    next(flow)
    hand.source.replace(hand.source.hold(hand.entry("2", session="", asked="more"), hand.policy))
    assert isinstance(flow.send(MORE), Drain)
    assert flow.send(None).held.value == "Bearer a2"
    assert isinstance(flow.send(MORE), Drain)
    step = flow.send(None)
    assert step.flight.why is Why.STEP_UP


def test_others_go_on_meanwhile_and_the_token_is_not_grounded() -> None:
    """While more scope is asked for, the token at hand is sent as before."""
    hand = ready("client")
    seen: list[str] = []
    hand.before[Fetch] = lambda: seen.extend(request(hand, Answer(200)))
    request(hand, MORE, Answer(200))
    assert seen == ["a1"]


def test_what_brings_no_token_is_not_tried_again_at_once() -> None:
    """A refusal answers for a while, is no pause for anybody else, and leaves the token as it is."""
    hand = ready("client")
    hand.answers = [NO]
    for _ in range(3):
        with pytest.raises(StepUpRequired) as caught:
            request(hand, MORE)
        assert caught.value.scope == "more"
    assert len(hand.forms) == 1
    assert hand.source.pause is None
    assert request(hand, Answer(200)) == ["a1"]
    assert hand.source.status(hand.policy).state == "fresh"
    hand.now += 2
    assert request(hand, MORE, Answer(200)) == ["a1", "new1"]


def test_who_was_asked_in_vain_for_a_step_up_is_not_asked_again() -> None:
    """Not for the same, nor for something else, however long it is ago; until the program says so."""
    hand = ready("person")
    hand.answers = [NO]
    with pytest.raises(StepUpRequired):
        request(hand, STRONGER)
    for answer in (STRONGER, OTHER):
        hand.now += 100
        with pytest.raises(StepUpRequired):
            request(hand, answer)
    assert hand.grants() == ["password"]
    assert not hand.source.logged_out
    hand.source.forgive()
    assert request(hand, STRONGER, Answer(200)) == ["a1", "new1"]


def test_a_step_up_in_vain_does_not_cost_the_session() -> None:
    """The refresh token was not presented, and is neither marked nor forgotten."""
    hand = ready("person")
    hand.answers = [NO]
    marks: list[int] = []
    hand.before[Fetch] = lambda: marks.append(hand.stored.presented)
    with pytest.raises(StepUpRequired):
        request(hand, STRONGER)
    assert marks == [0]
    assert hand.stored.presented == 0
    hand.now += 3700
    assert hand.token() == "new1"
    assert hand.grants() == ["password", "refresh_token"]


def test_a_lost_flight_is_in_no_step_ups_way() -> None:
    """A flight whose loop has died is given up by whoever wants more, instead of being waited for, for ever."""
    hand = ready("client")
    held = hand.source.held
    lost = hand.refused()
    hand.now += 36
    (challenge,) = parse_challenges(MORE.challenges)
    assert hand.source.step_up(hand.policy, held, Demand(challenge, "")).leads
    assert lost.future.exception(0).outcome == "unknown"


def test_what_a_flight_brought_before_things_changed_is_not_sent() -> None:
    """Who waited for a flight that has landed, and wakes after somebody has left, asks again."""
    hand = ready("client")
    hand.source.held = None
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    flight = next(flow).flight
    hand.source.land(flight, hand.source.hold(hand.entry("2"), hand.policy))
    hand.source.leave()
    step = flow.send(flight.future.result(0))
    assert isinstance(step, Wait)
    assert step.flight is not flight


def test_a_lost_flight_is_in_nobodys_way() -> None:
    """Nor does one stay in the air because the token at hand is fresh."""
    hand = ready("client")
    lost = hand.refused()
    hand.source.held = hand.source.hold(hand.entry("2", session=""), hand.policy)
    hand.now += 36
    assert hand.source.board(hand.policy).held is hand.source.held
    assert lost.future.done()
    assert hand.source.flight is None


# logins


def test_a_refused_refresh_token_leads_to_a_login_under_a_lease_that_outlives_it() -> None:
    """The lease is given back and taken again, for as long as a person may take."""
    hand = ready("person")
    hand.now += 3700
    hand.answers = [NO]
    assert hand.token() == "new1"
    assert hand.grants() == ["refresh_token", "password"]
    assert hand.leases() == [40.0, 100.0]
    kinds = [type(step) for step in hand.steps]
    assert kinds.index(Release) < kinds.index(Lease, kinds.index(Lease) + 1) < kinds.index(Patience)


def test_two_processes_one_login() -> None:
    """Who waits for the lease while somebody logs in takes what that has brought."""
    hand = ready("person")
    del hand.store._entries["f"]
    hand.source.held = None
    other = Hand("person", hand.store)
    other.before[Lease] = hand.token
    assert other.token() == "new1"
    assert other.forms == []


def test_whoever_waits_for_a_login_elsewhere_is_not_lost() -> None:
    """A flight that may have to wait for the lease of a login lasts as long."""
    hand = Hand("person")
    flight = hand.source.board(hand.policy).flight
    hand.before[Lease] = lambda: lasts.append(flight.deadline - hand.now)
    lasts: list[float] = []
    hand.fly(flight)
    assert lasts == [106.0], "the lease of a login, and a second to take over"


def test_a_person_is_asked_once() -> None:
    """After a refusal nobody is asked again, whatever time passes, and somebody who has a token goes on with it."""
    hand = Hand("person")
    hand.answers = [NO]
    for _ in range(3):
        with pytest.raises(ReauthenticationRequired):
            hand.token()
        hand.now += 60
    assert hand.grants() == ["password"]
    assert hand.source.logged_out
    hand.source.forgive()
    assert hand.token() == "new1"


@pytest.mark.parametrize("meanwhile", ["a mark", "a token that is due"])
def test_nor_in_the_same_breath_because_the_store_has_changed(meanwhile: str) -> None:
    """A login that was refused while somebody else left, or set a token that does not serve, is not tried again."""
    hand = Hand("person")
    other = Hand("person", hand.store)

    def change() -> None:
        if meanwhile == "a mark":
            other.run(leave(other.renewals))
        else:
            hand.has(hand.entry("2"), held=False)
            hand.now += 3590

    hand.answers = [NO]
    hand.before[Fetch] = change
    with pytest.raises(ReauthenticationRequired):
        hand.token()
    assert hand.grants() == ["password"]


def test_what_somebody_else_has_brought_meanwhile_serves() -> None:
    """A login that was refused does not matter where the store has a good token by then."""
    hand = Hand("person")
    hand.answers = [NO]
    hand.before[Fetch] = lambda: hand.has(hand.entry("2"), held=False)
    assert hand.token() == "a2"
    assert not hand.source.logged_out


def test_an_early_renewal_disturbs_nobody() -> None:
    """While the token is good, a refused refresh token leads to no login by a person; by stored credentials it does."""
    for kind, grants in (("person", ["refresh_token"]), ("login", ["refresh_token", "password"])):
        hand = ready(kind)
        hand.now += 3000
        hand.answers = [NO]
        ticket = hand.source.board(hand.policy)
        assert ticket.flight.why is Why.EARLY
        hand.fly(ticket.flight)
        assert hand.grants() == grants
        assert not hand.source.logged_out


def test_the_store_is_told_before_somebody_is_asked() -> None:
    """The refresh token that was refused is spent in the store before the login, whoever finds it then."""
    hand = ready("person")
    hand.now += 3700
    hand.answers = [NO]
    spent: list[bool] = []
    hand.before[Patience] = lambda: spent.append(hand.stored.is_spent)
    hand.token()
    assert spent == [True]


def test_a_login_that_nobody_answered_is_no_refusal() -> None:
    """A login whose answer was lost fails, marks nothing, and may be tried again after a pause."""
    hand = ready("person")
    hand.now += 3700
    hand.answers = [NO, ReadTimeout, ReadTimeout]
    with pytest.raises(TokenEndpointUnavailable):
        hand.token()
    assert hand.stored.is_spent
    assert not hand.source.logged_out
    hand.answers = []
    hand.now += 2
    assert hand.token() == "new1"


def test_a_login_that_failed_after_a_token_was_set_changes_nothing() -> None:
    """Who was asked in vain while the program set a token may be asked again when that is over."""
    hand = Hand("person")
    hand.answers = [NO]
    due = hand.entry("2").having(issued_at=hand.now - 3590)
    hand.before[Fetch] = lambda: hand.source.replace(hand.source.hold(due, hand.policy))
    flight = hand.source.board(hand.policy).flight
    hand.fly(flight)
    assert flight.declined
    assert flight.future.result(0).value == "Bearer a2"
    assert not hand.source.logged_out


def test_who_waits_for_a_flight_about_something_else_is_not_served_with_its_failure() -> None:
    """A refused request that waits for a step-up that fails gets a renewal of its own; a wait counts from its start."""
    hand = ready("person")
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    next(flow)
    flow.send(STRONGER)
    stepping = flow.send(None).flight
    other = authorize(hand.source, hand.policy, hand.renewals, Sending())
    next(other)
    other.send(REFUSED)
    step = other.send(None)
    assert isinstance(step, Wait)
    assert step.flight is stepping
    error = TokenEndpointUnavailable("down", outcome="not sent")
    hand.source.fail(stepping, error)
    step = other.throw(error.again())
    assert step.flight.why is Why.REFUSED
    assert step.renewal is not None
    assert {type(one) for one in hand.steps} <= {Send, Save}
