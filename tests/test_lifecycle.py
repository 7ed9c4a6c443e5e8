"""The states of a token over time, and the numbers between them."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from httpx_tokenflow import (
    ConfigurationError,
    RenewalPolicy,
    State,
    StoreError,
    Token,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._breakers import Breaker
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._lifecycle import (
    ENDED,
    FLIGHT_GRACE,
    STORE_PATIENCE,
    Life,
    Pause,
    backoff,
    classify,
    life_of,
    lifetime_of,
    pause_after,
    save_pause,
)
from httpx_tokenflow._times import SYSTEM_CLOCK
from httpx_tokenflow._tokens import MAX_LIFETIME

HOUR = Life(early=2700.0, due=3540.0, end=3600.0)
DOWN = TokenEndpointUnavailable("down", outcome="not sent")
NO = TokenRequestError("no")


def life(lifetime: float | None, random: float = 0.0, refresh_in: float | None = None, **policy: Any) -> Life:
    return life_of(Entry(Token("a"), 1000.0, lifetime, refresh_in=refresh_in), RenewalPolicy(**policy), random)


class TestLife:
    """When a token is early, when it is due, when it ends."""

    @pytest.mark.parametrize(
        ("lifetime", "early", "due"),
        [
            (86_400, 85_500, 86_340),
            (3600, 2700, 3540),
            (300, 225, 240),
            (60, 45, 48),
            (30, 22.5, 24),
            (5, 3.75, 4),
            (1, 1, 1),
            (0.5, 0.5, 0.5),
            (0, 0, 0),
        ],
    )
    def test_the_windows_follow_the_lifetime(self, lifetime: float, early: float, due: float) -> None:
        """Due 60 s before the end, at most a fifth; early a quarter, at most 15 min; never within a second (F58)."""
        assert life(lifetime) == Life(early, due, lifetime)

    def test_a_negative_lifetime_is_none(self) -> None:
        """What has ended when it comes is used once (F64)."""
        assert life(-5) == Life(0.0, 0.0, 0.0)

    @pytest.mark.parametrize(("random", "early"), [(0.0, 2700.0), (0.5, 2910.0), (1.0, 3120.0)])
    def test_jitter_spreads_over_half_of_the_early_stretch(self, random: float, early: float) -> None:
        """Each token of each process draws its own moment; half of the stretch is left to ride out an outage."""
        assert life(3600, random).early == early

    def test_windows_given_are_taken_as_they_are(self) -> None:
        """An explicit window wins over the reckoned one; what it cannot do is renew twice within a second."""
        assert life(3600, early_window=1200.0, jitter=0.0).early == 2400.0
        assert life(3600, 1.0, jitter=10.0).early == 2710.0
        assert life(60, early_window=300.0).early == 1.0
        assert life(3600, 1.0, early_window=100.0, jitter=1000.0).early == 3540.0

    def test_windows_can_be_switched_off(self) -> None:
        """0 switches a window off: no early renewal, or none before the end."""
        assert life(3600, early_window=0.0) == Life(3540.0, 3540.0, 3600.0)
        assert life(3600, early_window=0.0, due_window=0.0) == Life(3600.0, 3600.0, 3600.0)

    def test_the_servers_refresh_in_wins(self) -> None:
        """What the server asks for wins over the early window, given or reckoned, but not over an "off"."""
        assert life(86_400, refresh_in=43_200).early == 43_200.0
        assert life(86_400, refresh_in=43_200, early_window=900.0).early == 43_200.0
        assert life(86_400, refresh_in=43_200, early_window=0.0).early == 86_340.0

    def test_a_refresh_in_of_no_time_is_a_second(self) -> None:
        """A server that wants to be asked again at once is asked after a second (F58)."""
        assert life(3600, refresh_in=0.25).early == 1.0

    @pytest.mark.parametrize("refresh_in", [0.0, -1.0, 3600.0, 1e9])
    def test_a_refresh_in_that_makes_no_sense_is_ignored(self, refresh_in: float) -> None:
        """Not within the lifetime: as if it were not there."""
        assert life(3600, refresh_in=refresh_in) == HOUR

    def test_a_missing_lifetime_is_the_policys(self) -> None:
        """Without a lifetime the policy's default counts (F62)."""
        entry = Entry(Token("a"), 0.0, None)
        assert lifetime_of(entry, RenewalPolicy()) == 3600.0
        assert lifetime_of(entry, RenewalPolicy(default_lifetime=10)) == 10.0
        assert life(None, default_lifetime=10.0) == Life(7.5, 8.0, 10.0)

    def test_a_life_without_windows(self) -> None:
        """A token that its server brought again is neither early nor due before it ends (F58)."""
        assert HOUR.to_its_end() == Life(3600.0, 3600.0, 3600.0)

    def test_what_has_ended_has_ended_at_any_age(self) -> None:
        """A token that was refused is early, due and at its end, however young it is."""
        assert all(age < -1e300 for age in ENDED)

    @pytest.mark.parametrize(
        ("token", "lifetime"),
        [
            (jwt.encode({"exp": 1500}, "k" * 32), 500.0),
            (jwt.encode({}, "k" * 32), 3600.0),
            (jwt.encode({"exp": 10**400}, "k" * 32), 3600.0),
            (jwt.encode({"exp": None}, "k" * 32), 3600.0),
            (jwt.encode({"exp": float("inf")}, "k" * 32), 3600.0),
            (jwt.encode({"exp": float("nan")}, "k" * 32), 3600.0),
            ("opaque", 3600.0),
            ("a.b.c", 3600.0),
        ],
    )
    def test_the_hint_in_a_jwt_is_looked_at_only_if_asked(self, token: str, lifetime: float) -> None:
        """RFC 9068 §6: a token is opaque; its exp counts only by policy, and only if the answer gave no lifetime."""
        entry = Entry(Token(token), 1000.0, None)
        assert lifetime_of(entry, RenewalPolicy()) == 3600.0
        assert lifetime_of(entry, RenewalPolicy(read_jwt_expiry=True)) == lifetime
        assert lifetime_of(Entry(Token(token), 1000.0, 7.0), RenewalPolicy(read_jwt_expiry=True)) == 7.0

    def test_a_jwt_that_goes_too_deep_has_no_hint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token whose claims go too deep for PyJWT, which said so by RecursionError before 2.11, says no end."""

        def decode(*_: object, **__: object) -> None:
            raise RecursionError

        monkeypatch.setattr(jwt, "decode", decode)
        assert lifetime_of(Entry(Token("a.b.c"), 1000.0, None), RenewalPolicy(read_jwt_expiry=True)) == 3600.0

    @pytest.mark.parametrize("skew", [3600.0, -3600.0])
    def test_the_hint_is_reckoned_by_the_servers_clock(self, skew: float) -> None:
        """A clock that is an hour off does not make the token an hour younger or older (F74)."""
        entry = Entry(Token(jwt.encode({"exp": 1500 + skew}, "k" * 32)), 1000.0, None, skew=skew)
        assert lifetime_of(entry, RenewalPolicy(read_jwt_expiry=True)) == 500.0


class TestClassify:
    """The state machine."""

    @pytest.mark.parametrize(
        ("age", "state"),
        [
            (0.0, State.FRESH),
            (2699.9, State.FRESH),
            (2700.0, State.EARLY),
            (3539.9, State.EARLY),
            (3540.0, State.DUE),
            (3599.9, State.DUE),
            (3600.0, State.MISSING),
        ],
    )
    def test_the_states_of_a_life(self, age: float, state: State) -> None:
        """Fresh, early, due, missing: each begins at its age exactly."""
        assert classify(HOUR, age) is state

    def test_a_request_that_says_nothing_of_its_time(self) -> None:
        """Without a timeout, and without a failure, a token is sent up to its windows."""
        assert classify(Life(10.0, 10.0, 10.0), 9.9) is State.FRESH
        assert classify(HOUR, 2700.0, pause=Pause(DOWN, early=0.5)) is State.BACKED_OFF

    def test_no_token_is_missing(self) -> None:
        """Without a token there is nothing to classify."""
        assert classify(None, 0.0) is State.MISSING

    @pytest.mark.parametrize(
        ("age", "now", "state"),
        [
            (0.0, 0.0, State.FRESH),
            (2700.0, 19.9, State.BACKED_OFF),
            (2700.0, 20.0, State.EARLY),
            (3540.0, 9.9, State.BACKED_OFF),
            (3540.0, 10.0, State.DUE),
            (3600.0, 9.9, State.BACKED_OFF),
            (3600.0, 10.0, State.MISSING),
        ],
    )
    def test_backed_off(self, age: float, now: float, state: State) -> None:
        """After a failure nothing is renewed for a while: for longer, if it would only be early."""
        assert classify(HOUR, age, pause=Pause(DOWN, until=10.0, early=20.0), now=now) is state

    @pytest.mark.parametrize(
        ("age", "timeout", "state"),
        [
            (2000.0, 1200.0, State.FRESH),
            (2400.0, 1200.0, State.FRESH),
            (2400.1, 1200.0, State.DUE),
            (2400.1, 1200.1, State.FRESH),
            (3000.0, 300.0, State.EARLY),
            (3301.0, 300.0, State.DUE),
        ],
    )
    def test_a_request_that_may_outlast_the_token_renews_first(self, age: float, timeout: float, state: State) -> None:
        """If its timeout is longer than what is left; not if it is longer than a third of any token's life."""
        assert classify(HOUR, age, timeout=timeout) is state


class TestPause:
    """What failures lead to."""

    def test_without_a_token_one_second_doubling_to_thirty(self) -> None:
        """1, 2, 4, 8, 16, 30 s, less up to a half of it at random, but a second at least."""
        assert waits(DOWN, 0.0) == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
        assert waits(DOWN, 1.0) == [1.0, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
        assert waits(StoreError("down"), 0.0)[-1] == 30.0

    def test_after_a_no_one_to_five_seconds(self) -> None:
        """A refusal is asked for again soon: somebody may have mended the configuration."""
        assert waits(NO, 0.0) == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0]

    def test_early_five_seconds_doubling_to_five_minutes(self) -> None:
        """While there is a token there is time."""
        assert waits(DOWN, 0.0, is_early=True) == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0]

    def test_a_failure_that_was_merely_early_does_not_hold_up_what_is_due(self) -> None:
        """The pause after an early renewal counts for early renewals alone."""
        pause = pause_after(None, DOWN, is_early=True, now=100.0, random=0.0)
        assert (pause.early, pause.until, pause.error) == (105.0, 100.0, DOWN)

    @pytest.mark.parametrize("is_early", [True, False])
    def test_retry_after_wins(self, *, is_early: bool) -> None:
        """What the server asks for counts for every renewal, an hour at most (F57)."""
        for asked, wait in ((120.0, 120.0), (1e9, 3600.0)):
            error = TokenEndpointUnavailable("", outcome="answered", retry_after=asked)
            pause = pause_after(None, error, is_early=is_early, now=0.0, random=1.0)
            assert (pause.until, pause.early) == (wait, wait)

    def test_a_retry_after_shorter_than_the_backoff_is_waited_for_and_more(self) -> None:
        """Nobody is hammered because they allow it."""
        error = TokenEndpointUnavailable("", outcome="answered", retry_after=0.1)
        assert pause_after(None, error, is_early=False, now=0.0, random=0.0).until == 1.0

    def test_refused_credentials_are_not_presented_again_soon(self) -> None:
        """After refused credentials: 30 s doubling to a quarter of an hour, since servers lock accounts."""
        assert waits(NO, 0.0, is_login=True) == [30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0]

    def test_what_follows_is_never_earlier(self) -> None:
        """A failure in a row of the other kind shortens no pause, and each kind counts its own."""
        early = pause_after(None, DOWN, is_early=True, now=0.0, random=0.0)
        both = pause_after(early, NO, is_early=False, now=1.0, random=0.0)
        assert both == Pause(NO, until=2.0, early=5.0, failures=1, early_failures=1)
        again = pause_after(both, DOWN, is_early=True, now=1.5, random=0.0)
        assert again == Pause(DOWN, until=2.0, early=11.5, failures=1, early_failures=2)

    def test_between_attempts_of_one_renewal(self) -> None:
        """Full jitter: between nothing and half a second, then a second, then two."""
        assert [backoff(attempt, 1.0) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]
        assert backoff(3, 0.0) == 0.0

    def test_pauses_between_tries_to_save(self) -> None:
        """What a store would not take is offered again after two seconds, doubling to a minute, however often."""
        assert [save_pause(tries) for tries in (0, 1, 4, 5, 10_000)] == [2.0, 4.0, 32.0, 60.0, 60.0]


def waits(error: TokenFlowError, random: float, *, is_early: bool = False, is_login: bool = False) -> list[float]:
    pause, found = None, []
    for _ in range(7):
        pause = pause_after(pause, error, is_early=is_early, now=0.0, random=random, is_login=is_login)
        found.append(pause.early if is_early else pause.until)
    return found


class TestBreaker:
    """Where minting does not help."""

    def test_one_refused_young_token_is_nothing(self) -> None:
        """It may have been revoked."""
        assert not Breaker().after_refusal("a", 0.0, 0.0).is_open

    def test_two_in_a_row_open_it(self) -> None:
        """A token younger than 30 s, and then another: no more for a second."""
        breaker = Breaker().after_refusal("a", 29.9, 10.0).after_refusal("b", 0.0, 10.0)
        assert breaker.is_open
        assert breaker.until == 11.0

    def test_a_storm_on_one_token_counts_once(self) -> None:
        """A thousand requests with one and the same revoked token are no row."""
        breaker = Breaker()
        for _ in range(1000):
            breaker = breaker.after_refusal("a", 1.0, 0.0)
        assert not breaker.is_open

    def test_an_old_token_breaks_the_row(self) -> None:
        """An old token may well be refused: that says nothing of young ones."""
        breaker = Breaker().after_refusal("a", 0.0, 0.0).after_refusal("b", 30.0, 0.0).after_refusal("c", 0.0, 0.0)
        assert not breaker.is_open

    def test_it_opens_for_longer_each_time(self) -> None:
        """1 s doubling to 60 s."""
        breaker, waits = Breaker().after_refusal("first", 0.0, 0.0), []
        for number in range(8):
            breaker = breaker.after_refusal(number, 0.0, 0.0)
            waits.append(breaker.until)
        assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]

    def test_one_probe_at_a_time(self) -> None:
        """When its time is over one renewal is let through, and no other until that one's time is over."""
        breaker = Breaker().after_refusal("a", 0.0, 0.0).after_refusal("b", 0.0, 0.0)
        assert breaker.probing(0.9) is None
        probing = breaker.probing(1.0)
        assert probing is not None
        assert probing.probing(2.9) is None
        assert probing.probing(3.0) is not None

    def test_an_old_token_does_not_close_it(self) -> None:
        """Only an answer other than a 401 does."""
        breaker = Breaker().after_refusal("a", 0.0, 0.0).after_refusal("b", 0.0, 0.0)
        assert breaker.after_refusal("c", 40.0, 0.0).is_open


@pytest.mark.parametrize(
    "wrong",
    [
        {"early_window": -1.0},
        {"jitter": -0.1},
        {"early_window": "900"},
        {"due_window": None},
        {"budget": 0.0},
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"budget": True},
        {"default_lifetime": float("inf")},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    """Early, and with the name of the number."""
    what = "a whole number" if "attempts" in wrong else "a number of seconds"
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} must be {what}"):
        RenewalPolicy(**wrong)


@pytest.mark.parametrize(
    "least",
    [
        {"due_window": 0.0},
        {"early_window": 0.0},
        {"jitter": 0.0},
        {"budget": 0.001},
        {"budget": 0.001, "lease": 1.001},
        {"lease": 31.0},
        {"connect_timeout": 0.001},
        {"attempts": 1},
        {"default_lifetime": 0.0},
    ],
)
def test_the_least_of_each_number_is_allowed(least: dict[str, Any]) -> None:
    """What is as small as it may be is taken as it is."""
    policy = RenewalPolicy(**least)
    assert {name: getattr(policy, name) for name in least} == least


@pytest.mark.parametrize("wrong", [{"lease": 30.9}, {"lease": 10.0}, {"budget": 60.0, "lease": 60.5}])
def test_a_lease_outlives_the_budget(wrong: dict[str, Any]) -> None:
    """A lease that could end while its holder is still at it is refused, with both numbers."""
    with pytest.raises(ConfigurationError, match=rf"lease \({wrong['lease']:g} s\).*budget"):
        RenewalPolicy(**wrong)


def test_the_numbers_that_are_promised() -> None:
    """What the documentation says of a policy by default is so; its clock and its dice are no part of how it looks."""
    policy = RenewalPolicy()
    assert repr(policy) == (
        "RenewalPolicy(due_window=60.0, early_window=None, jitter=None, budget=30.0, lease=None, connect_timeout=5.0, "
        "attempts=3, default_lifetime=3600.0, read_jwt_expiry=False, cover_timeout=True)"
    )
    assert policy.lease_seconds == 40.0
    assert RenewalPolicy(budget=5.0).lease_seconds == 15.0
    assert RenewalPolicy(lease=90.0).lease_seconds == 90.0
    assert policy.clock is SYSTEM_CLOCK
    assert len({policy.random() for _ in range(10)}) > 1
    assert (STORE_PATIENCE, FLIGHT_GRACE, MAX_LIFETIME) == (5.0, 5.0, 315_360_000.0)
