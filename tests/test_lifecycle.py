"""The numbers of a token's life."""

from __future__ import annotations

import jwt
import pytest

from httpx_tokenflow import RenewalPolicy, Token
from httpx_tokenflow._lifecycle import backoff, due_at, lifetime_of, pause_after_failure
from httpx_tokenflow._tokens import Entry


@pytest.mark.parametrize(
    ("lifetime", "due"), [(3600, 3540), (300, 240), (60, 48), (30, 24), (5, 4), (1, 0.8), (0, 0), (-5, -5)]
)
def test_due_before_the_end_but_not_on_every_request(lifetime: float, due: float) -> None:
    """A token is due 60 s before its end, at most a fifth of its lifetime before (F58)."""
    assert due_at(Entry(Token("a"), 1000.0, lifetime), RenewalPolicy()) == 1000.0 + due


def test_the_window_can_be_switched_off() -> None:
    """due_window=0 uses a token to its end."""
    assert due_at(Entry(Token("a"), 0.0, 100.0), RenewalPolicy(due_window=0)) == 100.0


def test_a_missing_lifetime_is_the_policys() -> None:
    """Without a lifetime the policy's default counts (F62)."""
    entry = Entry(Token("a"), 0.0, None)
    assert lifetime_of(entry, RenewalPolicy()) == 3600.0
    assert lifetime_of(entry, RenewalPolicy(default_lifetime=10)) == 10.0


@pytest.mark.parametrize(
    ("token", "lifetime"),
    [
        (jwt.encode({"exp": 1500}, "k" * 32), 500.0),
        (jwt.encode({}, "k" * 32), 3600.0),
        ("opaque", 3600.0),
        ("a.b.c", 3600.0),
    ],
)
def test_the_hint_in_a_jwt_is_looked_at_only_if_asked(token: str, lifetime: float) -> None:
    """RFC 9068 §6: a token is opaque; its exp counts only by policy, and only if the answer gave no lifetime."""
    entry = Entry(Token(token), 1000.0, None)
    assert lifetime_of(entry, RenewalPolicy()) == 3600.0
    assert lifetime_of(entry, RenewalPolicy(read_jwt_expiry=True)) == lifetime
    assert lifetime_of(Entry(Token(token), 1000.0, 7.0), RenewalPolicy(read_jwt_expiry=True)) == 7.0


def test_backoff_is_full_jitter_that_doubles() -> None:
    """Between nothing and half a second, then a second, then two."""
    assert [backoff(attempt, 1.0) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert backoff(3, 0.0) == 0.0


def test_after_a_failure_the_error_answers_for_a_while() -> None:
    """A second at least, as long as the server asks, an hour at most (F57)."""
    assert [pause_after_failure(wish) for wish in (None, 0.0, 7.0, 1e9)] == [1.0, 1.0, 7.0, 3600.0]
