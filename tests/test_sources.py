"""What a source hands out, state by state: a token, a flight to wait for, or one to see off."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from httpx_tokenflow import (
    ClientCredentials,
    RenewalPolicy,
    State,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenRequestError,
)
from httpx_tokenflow._breakers import MAX_BREAKERS
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._sources import TokenSource
from httpx_tokenflow._times import Clock
from httpx_tokenflow.events import BreakerClosed, BreakerOpened, Event, RenewalFailed, TokenRenewed, Why
from httpx_tokenflow.stores import MemoryStore

DOWN = TokenEndpointUnavailable("down", outcome="not sent")
HERE = "https://api.example"


class Stage:
    """A source that holds a token of an hour, and two clocks."""

    def __init__(self) -> None:
        self.mono, self.wall = 5_000.0, 1_000_000.0
        clock = Clock(monotonic=lambda: self.mono, wall=lambda: self.wall)
        self.policy = RenewalPolicy(clock=clock, random=lambda: 0.0)
        self.source = TokenSource("c@as", "f", MemoryStore(), lambda token: f"Bearer {token.access_token}")
        self.told: list[Event] = []
        self._on_event = self.told.append
        self.source.listen(self)
        self.source.held = self.hold("one")

    def hold(self, access: str, lifetime: float = 3600.0, **entry: Any) -> Any:
        return self.source.hold(Entry(Token(access), self.wall, lifetime, **entry), self.policy)

    def grow(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds

    def board(self, **how: Any) -> Any:
        return self.source.board(self.policy, **how)

    @property
    def state(self) -> State:
        return self.source.status(self.policy).state


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_early_is_sent_and_seen_off_once(stage: Stage) -> None:
    """Whoever finds a token early gets it, with a flight to see off; whoever comes after that just gets it."""
    stage.grow(2700)
    first, second = stage.board(), stage.board()
    assert (first.held.value, first.leads, first.flight.why) == ("Bearer one", True, Why.EARLY)
    assert (second.held.value, second.flight) == ("Bearer one", None)
    assert stage.source.held.look == stage.source.held.life.due


def test_what_is_due_while_it_is_renewed_early_waits_for_that(stage: Stage) -> None:
    """There is one flight, whatever it took off for."""
    stage.grow(2700)
    flight = stage.board().flight
    stage.policy = RenewalPolicy(clock=stage.policy.clock, random=lambda: 0.0, budget=3600.0)
    stage.grow(30)
    assert stage.board(timeout=1000.0).flight is flight
    assert stage.board(refused=stage.source.held).flight is flight
    assert stage.board().flight is flight, "it was refused to somebody: nobody takes it"


def test_a_failed_early_renewal_costs_nobody_anything(stage: Stage) -> None:
    """The token goes out; after 5 s, and then 10, somebody tries again."""
    for pause in (5.0, 10.0, 20.0):
        stage.grow(2700 if pause == 5.0 else 0.0)
        stage.source.fail(stage.board().flight, DOWN)
        assert stage.state is State.BACKED_OFF
        stage.grow(pause - 0.1)
        assert stage.board().flight is None
        assert stage.source.held.fresh_until <= stage.mono + 0.1 or stage.source.held.look > 2700
        stage.grow(0.1)
        assert stage.board(timeout=0.0).leads
        stage.source.abandon(stage.source.flight)
    assert stage.told[0].retry_in == 5.0
    assert isinstance(stage.told[0], RenewalFailed)
    assert stage.told[0].expires_in == 900.0


def test_the_fast_path_ends_where_somebody_has_to_look(stage: Stage) -> None:
    """Two thirds of a life pass without a thought; then its age is looked at; at its early moment it is renewed."""
    held = stage.source.held
    assert (held.fresh_until - held.born, held.fresh_until_wall - held.born_wall) == (2400.0, 2400.0)
    assert held.look == 2700.0
    assert stage.hold("short", 30.0).fresh_until == stage.mono + 20.0


@pytest.mark.parametrize(("mono", "wall"), [(7200.0, 0.0), (0.0, 7200.0), (3600.0, -3600.0), (-1.0, 3600.0)])
def test_either_clock_ends_a_token(stage: Stage, mono: float, wall: float) -> None:
    """A suspended laptop stops the one clock, a step back sets the other: the later one counts (F73, F74)."""
    stage.mono += mono
    stage.wall += wall
    assert stage.state is State.MISSING
    assert stage.board().flight.why is Why.MISSING
    held = stage.source.held
    assert stage.mono >= held.fresh_until or stage.wall >= held.fresh_until_wall


def test_a_token_from_the_future_is_new(stage: Stage) -> None:
    """Whoever has written it has another clock: it is as old as if it had been issued just now, and no younger."""
    held = stage.source.hold(Entry(Token("x"), stage.wall + 9999, 100.0), stage.policy)
    assert held.age(stage.policy.clock) == 0.0
    stage.grow(100.0)
    assert held.age(stage.policy.clock) == 100.0


def test_the_same_token_again_is_used_to_its_end(stage: Stage) -> None:
    """A server that hands out what it has until shortly before its end is not asked again before that (F58)."""
    stage.grow(2700)
    again = stage.hold("one", 900.0)
    assert (again.life.early, again.life.due, again.life.end) == (900.0, 900.0, 900.0)
    longer = stage.hold("one", 3600.0)
    assert longer.life.early == 2700.0, "its end has moved: that is as good as another token"


def test_a_torn_early_renewal_is_tried_again(stage: Stage) -> None:
    """Its loop was closed under it: the next request sees off another."""
    stage.grow(2700)
    stage.source.abandon(stage.board().flight)
    assert stage.board().leads


def test_a_renewal_in_the_middle_of_a_pause_is_a_look_into_the_store(stage: Stage) -> None:
    """Without a token, after a failure, a flight takes off that fetches nothing; when it fails the pause is as long."""
    stage.grow(3600)
    stage.source.fail(stage.board().flight, TokenRequestError("no"))
    until = stage.source.pause.until
    look = stage.board().flight
    assert look.why is Why.BACKED_OFF
    stage.source.fail(look, TokenRequestError("no"))
    assert (stage.source.pause.until, stage.source.pause.failures) == (until, 1)
    look = stage.board().flight
    stage.source.land(look, stage.hold("newer"))
    assert (stage.source.pause, stage.board().held.value) == (None, "Bearer newer")
    assert isinstance(stage.told[-1], TokenRenewed)


def test_a_token_that_cannot_be_renewed_is_used_to_its_end(stage: Stage) -> None:
    """`invalid_grant` for a refresh token says nothing of the access token, unless that was refused as well."""
    held = stage.source.held
    stage.grow(2700)
    stage.source.forget(held.entry.stamp, stage.policy.clock)
    assert stage.source.held.entry.is_spent
    assert stage.source.usable(stage.policy.clock).value == "Bearer one"
    stage.board(refused=held)
    stage.source.forget(held.entry.stamp, stage.policy.clock)
    assert stage.source.held is None


def refuse(stage: Stage, access: str, origin: str = HERE) -> bool:
    """`origin` refuses a token that has just been minted; whether another would help there."""
    stage.source.held = stage.hold(access)
    return stage.source.is_of_use(stage.source.held, origin, stage.policy.clock)


def test_the_breaker_is_of_one_origin(stage: Stage) -> None:
    """Where two young tokens were refused no third is minted; elsewhere nothing has changed."""
    assert refuse(stage, "a")
    assert not refuse(stage, "b")
    assert refuse(stage, "b", "https://other.example")
    assert [type(event) for event in stage.told] == [BreakerOpened]
    assert (stage.told[0].origin, stage.told[0].seconds) == (HERE, 1.0)


def test_the_breaker_lets_one_probe_through(stage: Stage) -> None:
    """After a second one 401 leads to a renewal, and the next one does not."""
    refuse(stage, "a")
    refuse(stage, "b")
    held, clock = stage.source.held, stage.policy.clock
    stage.grow(1.0)
    assert stage.source.is_of_use(held, HERE, clock)
    assert not stage.source.is_of_use(held, HERE, clock)
    stage.board(refused=held)
    assert stage.source.is_of_use(held, HERE, clock), "a flight is in the air: it may as well wait for that"


def test_another_token_may_be_taken_over_whatever_the_breaker_says(stage: Stage) -> None:
    """A late 401 for a token that is no longer the current one costs no minting."""
    refuse(stage, "a")
    refuse(stage, "b")
    old, stage.source.held = stage.source.held, stage.hold("c")
    assert stage.source.is_of_use(old, HERE, stage.policy.clock)


def test_any_other_answer_closes_it(stage: Stage) -> None:
    """For the current token, at that origin; it is told if it was open."""
    refuse(stage, "a")
    stage.source.accepted(stage.source.held, HERE)
    assert (stage.source.breakers, stage.told) == ({}, [])
    refuse(stage, "b")
    refuse(stage, "c")
    stage.source.accepted(stage.hold("d"), HERE)
    stage.source.accepted(stage.source.held, "https://other.example")
    assert stage.source.breakers[HERE].is_open
    stage.source.accepted(stage.source.held, HERE)
    assert stage.source.breakers == {}
    assert [type(event) for event in stage.told] == [BreakerOpened, BreakerClosed]


def test_refusals_are_not_remembered_for_ever(stage: Stage) -> None:
    """A program that asks a thousand origins keeps a few of them in mind."""
    for number in range(1000):
        refuse(stage, "a", f"https://{number}.example")
    assert len(stage.source.breakers) == MAX_BREAKERS
    assert "https://999.example" in stage.source.breakers


def test_each_process_draws_its_own_early_moment(stage: Stage) -> None:
    """Workers that are forked from one that is warm do not all find the token early in the same second."""
    draws = iter([0.25, 0.75])
    stage.policy = RenewalPolicy(clock=stage.policy.clock, random=lambda: next(draws))
    stage.source.held = stage.hold("one")
    assert stage.source.held.life.early == 2805.0
    stage.source._after_fork()
    assert (stage.source.held.life.early, stage.source.held.value) == (3015.0, "Bearer one")


def test_a_token_set_while_a_flight_is_up_is_not_taken_for_what_that_brought(stage: Stage) -> None:
    """It was refused, its request joined the old flight, and that brought something else: nobody's renewal is spent."""
    flight = stage.board(refused=stage.source.held).flight
    login = stage.hold("login")
    stage.source.replace(login)
    assert stage.board(refused=login).flight is flight
    flight.minted = True
    stage.source.land(flight, stage.hold("stale"))
    assert not flight.minted
    assert (flight.brought.value, stage.board().held.value) == ("Bearer login", "Bearer login")


def test_late_refusals_of_an_older_token_do_not_open_the_breaker(stage: Stage) -> None:
    """Two tokens refused in turn, by answers that were long on their way, are no row of fresh ones."""
    old = stage.source.held
    refuse(stage, "new")
    for _ in range(9):
        stage.source.is_of_use(old, HERE, stage.policy.clock)
        stage.source.is_of_use(stage.source.held, HERE, stage.policy.clock)
    assert not stage.source.breakers[HERE].is_open


def test_a_look_that_fails_makes_no_pause(stage: Stage) -> None:
    """`warm()` has forgiven what failed before, while somebody was looking into the store: it is not held up."""
    stage.grow(3600)
    stage.source.fail(stage.board().flight, DOWN)
    look = stage.board().flight
    stage.source.forgive()
    stage.source.fail(look, DOWN)
    assert stage.source.pause is None


def test_what_is_due_in_the_store_is_better_than_nothing(stage: Stage) -> None:
    """A process that has just started adopts a token that has not ended, and goes on with it if the renewal fails."""
    stage.source.held = None
    flight = stage.board().flight
    stage.source.adopt(stage.hold("ended", 0.0), flight)
    assert stage.source.held is None
    stage.source.adopt(stage.source.hold(Entry(Token("due"), stage.wall - 3550, 3600.0), stage.policy), flight)
    stage.source.fail(flight, DOWN)
    assert stage.board().held.value == "Bearer due"


def test_a_listener_is_not_kept_alive(stage: Stage) -> None:
    """A service that gives a method of its own as handler, and holds the auth, can be collected."""

    class Service:
        def __init__(self) -> None:
            self.auth = TokenAuth(
                ClientCredentials("https://as.example/token", client_id="c", client_secret="s"),
                store=store,
                on_event=self.hear,
            )

        def hear(self, _: Event) -> None: ...

    store = MemoryStore()
    kept = Service()
    gone = weakref.ref(Service())
    gc.collect()
    assert gone() is None
    assert len(kept.auth._source._listeners) == 1


def test_after_a_fork_nothing_is_checked_again(stage: Stage) -> None:
    """What the program expects may fail in the child: the token at hand was checked, and the locks are made anew."""
    answers = iter([True])
    stage.source.expect(lambda _: next(answers, False))
    stage.source._after_fork()
    assert stage.source.held.value == "Bearer one"
