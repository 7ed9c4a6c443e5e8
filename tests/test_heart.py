"""What changes to the heart (tests/mutation) have shown that no other test would see."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from hand import NO, Hand
from world import Sending

from httpx_tokenflow import StepUpRequired, StoreError, Token, _drivers, _flights, _forks
from httpx_tokenflow._challenges import parse_challenges
from httpx_tokenflow._drivers import LoopDriver
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._flights import Demand, Flight
from httpx_tokenflow._flow import authorize
from httpx_tokenflow._lifecycle import ENDED, FLIGHT_GRACE, Pause, Why
from httpx_tokenflow._steps import Answer, Drain, Lease, Load, Send, Wait
from httpx_tokenflow._terms import Renewals
from httpx_tokenflow.events import RequestRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "SENTINEL-at"
ECHOES = Answer(401, (f'Bearer error="no {SECRET}", scope="x {SECRET}"',))
WANTS_LOGIN = f'Bearer error="insufficient_user_authentication", acr_values="gold {SECRET}", max_age="60"'
WANTS_SCOPE = f'Bearer error="insufficient_scope", scope="more {SECRET}"'


def ready(kind: str = "client", *, widens: bool = True) -> Hand:
    hand = Hand(kind, widens=widens)
    hand.has(Entry(Token(SECRET), hand.now, 3600.0, session="" if kind == "client" else "s"))
    return hand


@pytest.mark.parametrize("retry", [True, False])
def test_a_token_that_the_api_echoes_is_in_no_event(*, retry: bool) -> None:
    """What the API says of a refusal is told without the token that it was sent, whether it stands or not (F19)."""
    hand = ready()
    hand.play(ECHOES, *[Answer(200)] * retry, retry=retry)
    refused = [event for event in hand.told if isinstance(event, RequestRefused)]
    assert [(event.error, event.scope, event.stands) for event in refused] == [("no ***", "x ***", not retry)]
    assert SECRET not in repr(hand.told)


def test_a_token_that_is_echoed_beside_a_scope_is_in_no_event() -> None:
    """The same holds for a refusal that more scope mends."""
    hand = ready()
    hand.play(Answer(403, (WANTS_SCOPE,)), Answer(200))
    (refused,) = [event for event in hand.told if isinstance(event, RequestRefused)]
    assert (refused.scope, refused.stands) == ("more ***", False)
    assert SECRET not in repr(refused)


def test_a_pause_does_not_keep_a_fresh_token_back() -> None:
    """Who asks for a token for use elsewhere gets a fresh one, whatever renewals have come to (rule 8)."""
    hand = ready()
    hand.source.pause = Pause(StoreError("down"), until=hand.now + 60, early=hand.now + 60, failures=1)
    assert hand.token() == SECRET


def test_a_timeout_that_is_not_to_be_covered_counts_for_nothing() -> None:
    """With `cover_timeout` off a token is sent up to its end, however long the request may take."""
    hand = Hand("client")
    policy = replace(hand.policy, cover_timeout=False, due_window=0.0, early_window=0.0)
    hand.source.held = hand.source.hold(Entry(Token(SECRET), hand.now, 60.0), policy)
    hand.now += 59.5
    renewals = Renewals(hand.source, hand.renewals.grant, policy)
    step = next(authorize(hand.source, policy, renewals, Sending(timeout=15.0)))
    assert step == Send(hand.source.held)


@pytest.mark.parametrize("can_log_in", [True, False])
def test_a_step_up_says_what_is_wanted_and_no_token(*, can_log_in: bool) -> None:
    """The error of a step-up names all that the API wants, whoever has refused it, and not the token it echoes."""
    hand = ready("login")
    hand.answers = [NO]
    with pytest.raises(StepUpRequired) as caught:
        hand.play(Answer(401, (WANTS_LOGIN,)), retry=can_log_in)
    assert "(acr_values=gold ***, max_age=60; RFC 9470)" in str(caught.value)
    assert (caught.value.acr_values, caught.value.max_age) == ("gold ***", 60)
    hand = ready()
    hand.answers = [NO]
    with pytest.raises(StepUpRequired, match=r"'more \*\*\*'") as caught:
        hand.play(Answer(403, (WANTS_SCOPE,)))
    assert caught.value.scope == "more ***"


def test_a_step_up_that_says_nothing() -> None:
    """An API that wants another login and does not say which is quoted as just that."""
    with pytest.raises(StepUpRequired, match="it does not say which") as caught:
        ready().play(Answer(401, ('Bearer error="insufficient_user_authentication"',)), retry=False)
    assert (caught.value.acr_values, caught.value.max_age, caught.value.scope) == (None, None, None)


def test_a_renewal_knows_what_the_api_has_said() -> None:
    """The flight that a 401 causes carries its challenge and the request's URL: a grant may learn from them (F53)."""
    hand = ready()
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    next(flow)
    challenge = 'Bearer error="invalid_token", resource_metadata="https://api.example/meta"'
    assert isinstance(flow.send(Answer(401, (challenge,), url="https://api.example/x")), Drain)
    step = flow.send(None)
    assert isinstance(step, Wait)
    assert step.flight.demand.challenge.resource_metadata == "https://api.example/meta"
    assert step.flight.demand.url == "https://api.example/x"


class Slow:
    """A store that is slow: its lease is another's for a while, and its load takes its time."""

    seconds = 0.3

    @asynccontextmanager
    async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncIterator[bool]:
        assert (fingerprint, seconds) == ("f", 40.0)
        await anyio.sleep(self.seconds)
        yield True

    async def aload(self, fingerprint: str) -> None:
        await anyio.sleep(self.seconds)

    @contextmanager
    def lease(self, fingerprint: str, seconds: float, patience: float) -> Any:
        yield True


@pytest.mark.anyio
async def test_a_lease_may_take_as_long_as_there_is_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that waits for another's lease has the patience for that beside its own time, and no more (rule 5)."""
    monkeypatch.setattr(_drivers, "STORE_PATIENCE", 0.1)
    hand = Hand()
    hand.source.store = Slow()
    driver = LoopDriver(hand.source, hand.policy, SimpleNamespace(), httpx)
    async with _drivers.AsyncExitStack() as leases:
        assert await driver.perform(Lease(40.0, 30.0), leases) is True
        with pytest.raises(StoreError, match="TimeoutError"):
            await driver.perform(Lease(40.0, 0.05), leases)
        with pytest.raises(StoreError, match="TimeoutError"):
            await driver.perform(Load(), leases)


def test_what_another_has_brought_costs_no_renewal() -> None:
    """Who waited for a flight that took over another's token has their own renewal still, if that is refused too."""
    hand = ready()
    flow = authorize(hand.source, hand.policy, hand.renewals, Sending())
    next(flow)
    hand.now += 60  # so that it is no young token that is refused
    flow.send(Answer(401))
    wait = flow.send(None)
    taken = hand.source.hold(Entry(Token("another"), hand.now, 3600.0), hand.policy)
    hand.source.land(wait.flight, taken)
    assert flow.send(taken) == Send(taken)
    assert isinstance(flow.send(Answer(401)), Drain)
    step = flow.send(None)
    assert isinstance(step, Wait)
    assert step.flight is not wait.flight


def test_a_flight_that_takes_off() -> None:
    """It has cost and brought nothing yet, nobody waits and nobody was asked; it lasts as long as its budget."""
    hand = Hand()
    flight, next_one = (Flight(7, hand.policy, Why.DUE, frozenset({"s"})) for _ in range(2))
    assert next_one.number == flight.number + 1
    assert flight.facts() == {
        "renewal": flight.number, "grant": "", "why": Why.DUE, "requests": 0, "seconds": 0.0,
        "endpoint_seconds": 0.0, "store_seconds": 0.0, "wait_seconds": 0.0, "waiting": 0,
    }  # fmt: skip
    for name in ("minted", "asked", "declined", "is_login_refused", "without_store"):
        assert getattr(flight, name) is False, name
    for name in ("demand", "errand", "brought_along", "elsewhere", "brought", "home", "grounded", "fell_back"):
        assert getattr(flight, name) is None, name
    assert (flight.generation, flight.replaces, flight.waiting, flight.landings) == (7, {"s"}, 0, {})
    assert flight.deadline == hand.now + hand.policy.budget + FLIGHT_GRACE


def test_a_refused_token_is_for_nobody() -> None:
    """While it is replaced it has ended, and the path that does without any thought does not take it either."""
    refused = ready().source.held.refused()
    assert refused.life == ENDED
    assert (refused.look, refused.fresh_until) == (-math.inf, -math.inf)


def test_a_flight_lasts_longer_but_not_less_unless_told_anew() -> None:
    """More time is added to what it has; `anew` is all that it has from now on; another's time counts beside."""
    hand = Hand()
    flight, other = (Flight(0, hand.policy, Why.DUE, frozenset()) for _ in range(2))
    flight.last(600.0)
    flight.last(1.0)
    assert flight.deadline == hand.now + 600.0 + FLIGHT_GRACE
    flight.last(1.0, anew=True)
    assert flight.deadline == hand.now + 1.0 + FLIGHT_GRACE
    flight.elsewhere = other
    assert flight.deadline == other.deadline + FLIGHT_GRACE
    flight.last(600.0)
    assert flight.deadline == hand.now + 600.0 + FLIGHT_GRACE


def test_what_may_meet_a_demand() -> None:
    """Scope that a token has, or was asked for, may be enough; of a stronger login nobody can tell before."""
    (more, gold) = parse_challenges(['Bearer error="insufficient_scope", scope="a b"', WANTS_LOGIN])
    (less,) = parse_challenges(['Bearer error="insufficient_scope"'])
    narrow, wide = (Entry(Token("t", scope=scope), 0.0, 1.0) for scope in (None, "b c a"))
    asked = Entry(Token("t", scope="a"), 0.0, 1.0, asked="b")
    assert [Demand(more, "").is_met_by(entry) for entry in (narrow, wide, asked)] == [False, True, True]
    assert all(Demand(challenge, "").is_met_by(narrow) for challenge in (gold, less))
    assert Demand(more, "x") == Demand(more, "y")
    assert not Demand(more, "x") != Demand(more, "y")  # noqa: SIM202 - a tuple has an opinion of its own on that
    assert Demand(more, "x") != Demand(gold, "x")
    assert Demand(more, "x") != (more, "x")


def test_the_lock_of_flights_is_made_anew_in_a_fork() -> None:
    """A child whose parent was counting at that moment would wait for ever: it has a lock of its own."""
    locks = _flights._Locks()
    before = locks.counting
    assert locks in _forks._renewables
    locks._after_fork()
    assert locks.counting is not before
    with locks.counting:
        assert not before.locked()
