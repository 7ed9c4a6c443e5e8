"""Siblings: one refresh token, presented in flights of the session itself, one at a time."""

from __future__ import annotations

import httpx
import pytest
from concurrency.stage import Stage
from hand import NO, Hand, ReadTimeout
from world import Sending

from httpx_tokenflow import ClientCredentials, ReauthenticationRequired, TokenAuth, TokenEndpointUnavailable
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._drivers import ThreadDriver, _flying
from httpx_tokenflow._flow import authorize
from httpx_tokenflow._steps import Fetch, Lease, Load, Save, Wait
from httpx_tokenflow._token_client import TokenClient
from httpx_tokenflow.events import TokenObtained, TokenRenewed, Why

DOWN = ServerResponse(503, {}, b"")


def ready(kind: str = "refresh") -> tuple[Hand, object]:
    hand = Hand(kind)
    hand.has(hand.entry("1"))
    return hand, hand.sibling()


def test_an_errand_has_the_lease_and_the_mark_of_the_session() -> None:
    """The session's entry is marked under its lease before its refresh token is presented; what was rotated is kept."""
    hand, sibling = ready()
    marks = []
    hand.before[Fetch] = lambda: marks.append((hand.stored.presented, hand.leases()))
    assert hand.token(sibling) == "new1"
    assert marks == [(1, [40.0, 40.0])]
    assert [form["refresh_token"] for form in hand.forms] == ["r1"]
    assert (hand.stored.token.access_token, hand.stored.token.refresh_token) == ("a1", "next1")
    assert hand.stored.presented == 0
    assert hand.source.held.entry.token.refresh_token == "next1"
    assert hand.store.load("sibling").token.refresh_token is None


def test_the_next_errand_presents_what_the_last_one_brought() -> None:
    """Two siblings' tokens, two refresh tokens, each presented once."""
    hand, sibling = ready()
    hand.token(sibling)
    sibling.source.replace(None)
    del hand.store._entries["sibling"]
    hand.token(sibling)
    assert [form["refresh_token"] for form in hand.forms] == ["r1", "next1"]


def test_it_tells_nothing_of_the_session_and_counts_for_the_sibling() -> None:
    """The token request is the sibling's; the session has neither obtained nor renewed anything."""
    hand, sibling = ready()
    told = []
    hand.source._listeners.clear()
    hand._on_event = told.append
    hand.source.listen(hand)
    hand.token(sibling)
    assert [event for event in told if isinstance(event, TokenObtained | TokenRenewed)] == []


@pytest.mark.parametrize("answer", [NO, DOWN])
def test_a_failure_is_the_siblings(answer: ServerResponse) -> None:
    """The session goes on with its token, without a pause."""
    hand, sibling = ready()
    hand.answers = [answer] * 3
    with pytest.raises((ReauthenticationRequired, TokenEndpointUnavailable)):
        hand.token(sibling)
    assert hand.source.pause is None
    assert hand.token() == "a1"
    assert hand.stored.presented == (2 if answer is NO else 0)


def test_a_lost_answer_is_not_followed_by_another_in_the_same_breath() -> None:
    """The refresh token may be presented once more, and not by the same renewal."""
    hand, sibling = ready()
    hand.answers = [ReadTimeout] * 3
    with pytest.raises(TokenEndpointUnavailable):
        hand.token(sibling)
    assert len(hand.forms) == 1
    assert hand.stored.presented == 1


def test_somebody_elses_failure_is_not_the_errands() -> None:
    """An errand that waits for a renewal that fails is run after it."""
    hand, sibling = ready()
    other = hand.refused()
    hand.source.replace(hand.source.held)
    other.generation = hand.source._generation

    def fail() -> None:
        hand.source.fail(other, TokenEndpointUnavailable("down", outcome="not sent"))

    hand.source.held = hand.source.hold(hand.entry("1"), hand.policy)
    flow = sibling.grant._run()
    step = next(flow)
    assert isinstance(step, Wait)
    assert step.flight is other
    fail()
    with pytest.raises(TokenEndpointUnavailable) as caught:
        other.future.result(0)
    step = flow.throw(caught.value.again())
    assert step.flight.why is Why.ERRAND
    assert step.renewal is not None


def test_a_lost_flight_is_in_no_errands_way() -> None:
    """An errand whose loop has died is given up by the next one."""
    hand, sibling = ready()
    lost, _ = hand.source.board_errand(hand.policy, sibling.grant)
    hand.now += 36
    assert hand.source.board_errand(hand.policy, sibling.grant)[1]
    assert lost.future.exception(0).outcome == "unknown"


def test_the_drivers_see_to_it_that_a_flight_lasts_as_long_as_what_it_waits_for() -> None:
    """While somebody who flies waits elsewhere, and with time of their own afterwards."""
    hand, sibling = ready()
    outer, inner = sibling.source.board(hand.policy).flight, hand.refused()
    driver = ThreadDriver(hand.source, hand.policy, TokenClient(None, True, hand.policy, None), httpx)
    token = _flying.set((outer,))
    try:
        with driver._as_long_as(inner):
            assert outer.elsewhere is inner
            hand.now += 100
        assert outer.elsewhere is None
        assert outer.deadline == hand.now + 35
    finally:
        _flying.reset(token)


def test_the_token_request_of_an_errand_is_the_siblings() -> None:
    """One token was obtained, by one request; of the session there is nothing to tell."""
    stage = Stage("refresh", "threads", None)
    told: list[object] = []
    stage.make_auth(on_event=told.append).using(audience="https://x").token()
    assert [event.requests for event in told if isinstance(event, TokenObtained)] == [1]


def test_who_waits_for_an_errand_is_served_all_the_same() -> None:
    """A request whose token was refused waits for the errand in the air, and then gets a renewal of its own."""
    hand, sibling = ready()
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    held = next(flow).held
    errand, _ = hand.source.board_errand(hand.policy, sibling.grant)
    from httpx_tokenflow._steps import Answer, Drain

    assert isinstance(flow.send(Answer(401)), Drain)
    step = flow.send(None)
    assert (step.flight, step.renewal) == (errand, None)
    errand.minted = True
    hand.source.land(errand, hand.source.hold(hand.entry("1"), hand.policy))
    step = flow.send(errand.future.result(0))
    assert step.flight.why is Why.REFUSED
    assert step.renewal is not None
    assert held.stamp in step.flight.replaces


def test_a_sibling_waits_as_long_as_the_session_logs_in() -> None:
    """A flight that waits for another lasts as long as that, and has time of its own afterwards."""
    hand, sibling = ready("person")
    outer = sibling.source.board(hand.policy).flight
    inner = hand.source.board(hand.policy, hand.source.held).flight
    outer.elsewhere = inner
    inner.last(300.0)
    assert outer.deadline > inner.deadline > hand.now + 300
    hand.now += 200
    outer.last(hand.policy.budget)
    outer.elsewhere = None
    assert outer.deadline == hand.now + 35


def test_a_session_that_was_given_up_takes_its_siblings_along() -> None:
    """Memory and store of a sibling are emptied, and its token goes back."""
    from httpx_tokenflow._outside import leave

    hand, sibling = ready()
    hand.token(sibling)
    hand.run(leave(hand.renewals))
    assert sibling.source.held is None
    assert hand.store.load("sibling").is_mark
    assert "revoke new1" in hand.grants()
    with pytest.raises(ReauthenticationRequired):
        hand.token(sibling)
    assert {type(step) for step in hand.steps} >= {Load, Save, Lease}


class Tenant(TokenAuth):
    """As a program would have it: with a constructor, and a name, of its own."""

    def __init__(self, tenant: str) -> None:
        super().__init__(ClientCredentials("https://as.example/token", client_id=tenant, client_secret="secret"))
        self.tenant = tenant


def test_a_sibling_of_a_programs_own_class() -> None:
    """It is of that class, whatever its constructor wants, and has what that has put there."""
    acme = Tenant("acme")
    sibling = acme.using(scope="q")
    assert (type(sibling), sibling.tenant) == (Tenant, "acme")
    assert sibling._source is not acme._source
    assert sibling._source.store is acme._source.store
