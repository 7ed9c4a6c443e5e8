"""A token's life as a state machine over time: pure functions of what is known and of the clock.

          early ┐          ┌ due                    ┌ end
    ────────────┴──────────┴────────────────────────┴─────────────▶ age
       FRESH    │  EARLY   │          DUE           │   MISSING
       send it  │ send it, │ renew first; if that   │ renew, or fail
                │ renew    │ fails, send it         │
                │ aside    │                        │

    BACKED_OFF   a renewal has failed a moment ago: no other yet. Send the token if it has not ended; else the same
                 error answers, unless the store holds something newer.

Rules.

1. Ages are counted from when the token request was sent, on both clocks, and the later one counts.
2. A token is due 60 s before it ends, but never more than a fifth of its lifetime before, so that a token of 30 s does
   not renew on every request. It is early a quarter of its lifetime before it ends, 15 minutes at most; a server's
   `refresh_in` wins over that, and a window given by the program is taken as it is. A lifetime of zero or less means:
   use it once. No lifetime at all means the policy's default.
3. Each process, and each token, draws its own early moment from the first half of the early stretch, so that a fleet
   that started at once does not renew at once.
4. While a token has not ended, two renewals are a second apart at least, whatever the windows say. A renewal that
   brought the same token again is the last until that token ends (failures F58).
5. Still good is still good: what has not ended is sent if nothing better is to be had (failures F60).
6. A request that may take longer than the token has left renews first, if its own timeout is no more than a third of
   the lifetime; else no renewal could help it. A request without a timeout is a stream, for which nothing is promised.
7. Renewals that fail are spaced out: early ones 5 s doubling to 5 min, others 1 s doubling to 30 s (5 s if the server
   said no), with jitter. Retry-After wins, an hour at most.
8. The `exp` of an access token that happens to be a JWT is a hint about *when to renew*, looked at only if the answer
   gave no expiry and the policy allows it (RFC 9068 §6: the token is opaque to the client). It is reckoned by the
   server's clock, of which the answer's `Date` tells.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import ConfigurationError, StoreError, TokenEndpointUnavailable
from ._times import MAX_RETRY_AFTER, SYSTEM_CLOCK, Clock
from ._tokens import MAX_LIFETIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._entries import Entry
    from ._errors import TokenFlowError
    from ._tokens import Token

__all__ = [
    "Life", "Pause", "RenewalPolicy", "State", "Why", "backoff", "classify", "life_of", "lifetime_of", "pause_after",
    "save_pause",
]  # fmt: skip

MAX_DUE_SHARE = 0.2  # of the lifetime
EARLY_SHARE = 0.25  # of the lifetime
MAX_EARLY_WINDOW = 900.0  # seconds
JITTER_SHARE = 0.5  # of the time between early and due
APART = 1.0  # seconds between two renewals of a token that has not ended (rule 4)
MAX_COVERED_SHARE = 1 / 3  # of the lifetime (rule 6)
FIRST_BACKOFF = 0.5  # seconds between the attempts of one renewal
FIRST_SAVE_PAUSE, MAX_SAVE_PAUSE = 2.0, 60.0  # seconds between two tries to save what a store would not take
LEASE_GRACE = 10.0  # seconds by which a lease outlives the budget of the work that it guards
STORE_PATIENCE = 5.0  # seconds that a store may take for what is asked of it
FLIGHT_GRACE = 5.0  # seconds beyond the budget after which a flight counts as lost with its loop

_FIRST_PAUSE, _MAX_PAUSE, _MAX_TERMINAL_PAUSE = 1.0, 30.0, 5.0  # seconds (rule 7)
_FIRST_LOGIN_PAUSE, _MAX_LOGIN_PAUSE = 30.0, 900.0  # after credentials were refused: servers lock accounts
_FIRST_EARLY_PAUSE, _MAX_EARLY_PAUSE = 5.0, 300.0

_LEAST = {
    "due_window": 0.0, "early_window": 0.0, "jitter": 0.0, "budget": 0.001, "lease": 0.001, "connect_timeout": 0.001,
    "attempts": 1, "default_lifetime": 0.0,
}  # fmt: skip
_RECKONED = frozenset({"early_window", "jitter", "lease"})  # None: from the lifetime, or from the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalPolicy:
    """When and how hard to renew. Durations in seconds.

    Args:
        due_window: a token this close to its end is renewed first; at most a fifth of its lifetime. Default 60; 0
            switches the window off.
        early_window: a token this close to its end is renewed aside, while requests go on with it. None, the default:
            a quarter of the lifetime, at most 900, or the server's `refresh_in`. 0 switches the window off.
        jitter: the early moment is put off by up to so much, at random. None, the default: half of the time between
            early and due. 0 switches it off.
        budget: for all attempts of one renewal together. Default 30.
        lease: for which a process that renews keeps others that share the store from it, if it dies meanwhile. It must
            be a second longer than `budget`, or more. None, the default: `budget` and 10 more.
        connect_timeout: for one connection to the token endpoint. Default 5.
        attempts: token requests in one renewal at most. Default 3.
        default_lifetime: of a token whose server does not say. Default 3600.
        read_jwt_expiry: where the server does not say, take the `exp` of a token that is a JWT. Default False.
        cover_timeout: a request whose own timeout is longer than the token's remaining life renews first, unless the
            timeout is longer than a third of the lifetime. Requests without a read timeout, that is, streams without
            end, do not. Default True.
        clock: the clocks; tests bring their own.
        random: 0 to 1, for all jitter; tests bring their own.

    Raises:
        ConfigurationError: a number is out of range.
    """

    due_window: float = 60.0
    early_window: float | None = None
    jitter: float | None = None
    budget: float = 30.0
    lease: float | None = None
    connect_timeout: float = 5.0
    attempts: int = 3
    default_lifetime: float = 3600.0
    read_jwt_expiry: bool = False
    cover_timeout: bool = True
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False)
    random: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value: Any = getattr(self, name)
            if value is None and name in _RECKONED:
                continue
            kind = int if name == "attempts" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
                what = "a whole number" if name == "attempts" else "a number of seconds"
                raise ConfigurationError(f"RenewalPolicy: {name} must be {what}, {least:g} or more")
        if self.lease_seconds < self.budget + 1:
            raise ConfigurationError(
                f"RenewalPolicy: lease ({self.lease:g} s) must be a second longer than budget ({self.budget:g} s): "
                "else another process renews beside one that is still at it"
            )

    @property
    def lease_seconds(self) -> float:
        """Seconds of a lease: `lease`, or what it is by default."""
        return self.budget + LEASE_GRACE if self.lease is None else self.lease


class State(enum.StrEnum):
    """What is to be done about a token; drawn at the top of this module."""

    FRESH = "fresh"
    EARLY = "early"
    DUE = "due"
    MISSING = "missing"
    BACKED_OFF = "backed off"


class Why(enum.StrEnum):
    """Why a renewal took off."""

    MISSING = "missing"
    """There was no token, or only one that had ended."""
    EARLY = "early"
    """Its end comes into sight: renewed aside, nobody waits."""
    DUE = "due"
    """It ends soon, or before the request at hand may be over."""
    REFUSED = "refused"
    """An API answered 401."""
    STEP_UP = "step up"
    """An API wants more of a token than this one has: scope, or a stronger login."""
    ERRAND = "errand"
    """Its refresh token buys another access token, for a sibling."""
    UNSAVED = "unsaved"
    """The store would not take the token: it is tried again."""
    BACKED_OFF = "backed off"
    """A renewal has just failed: the store was asked whether it holds something newer, and nobody else was."""


class Life(NamedTuple):
    """The ages, in seconds, at which a token changes its state."""

    early: float
    due: float
    end: float

    def covers(self, age: float, timeout: float) -> bool:
        """Whether a request of `timeout` seconds can be sent at `age` as it is (rule 6)."""
        return self.end - age >= timeout or timeout > self.end * MAX_COVERED_SHARE

    def to_its_end(self) -> Life:
        """The same life without windows: nothing is to be had before it ends (rule 4)."""
        return Life(self.end, self.end, self.end)


ENDED = Life(-math.inf, -math.inf, -math.inf)


def classify(
    life: Life | None, age: float, *, pause: Pause | None = None, now: float = 0.0, timeout: float = 0.0
) -> State:
    """What is to be done about a token of `age` seconds.

    Args:
        life: the token's; None if there is no token.
        age: seconds, by whichever clock says more (rule 1).
        pause: what failed before.
        now: monotonic seconds, for `pause`.
        timeout: seconds that the request at hand may take (rule 6).
    """
    if life is None or age >= life.end:
        state = State.MISSING
    elif age >= life.due or not life.covers(age, timeout):
        state = State.DUE
    elif age >= life.early:
        state = State.EARLY
    else:
        return State.FRESH
    if pause is not None and now < (pause.early if state is State.EARLY else pause.until):
        return State.BACKED_OFF
    return state


def life_of(entry: Entry, policy: RenewalPolicy, random: float) -> Life:
    """The life of the token in `entry` (rules 2 to 4); `random` from 0 to 1 draws its early moment."""
    end = max(0.0, lifetime_of(entry, policy))
    due = min(end, max(APART, end - min(policy.due_window, end * MAX_DUE_SHARE)))
    if policy.early_window == 0:
        return Life(due, due, end)
    if policy.early_window is not None:
        start = end - policy.early_window
    else:
        start = end - min(end * EARLY_SHARE, MAX_EARLY_WINDOW)
    if entry.refresh_in is not None and 0 < entry.refresh_in < end:
        start = entry.refresh_in
    start = min(due, max(APART, start))
    jitter = (due - start) * JITTER_SHARE if policy.jitter is None else policy.jitter
    return Life(min(due, start + random * jitter), due, end)


def lifetime_of(entry: Entry, policy: RenewalPolicy) -> float:
    """Seconds from `entry.issued_at` that the token lives, as far as anybody knows (rules 2 and 8)."""
    if entry.lifetime is not None:
        return entry.lifetime
    if policy.read_jwt_expiry and (expires_at := _jwt_expiry(entry.token)) is not None:
        return min(expires_at - (entry.issued_at + entry.skew), MAX_LIFETIME)
    return policy.default_lifetime


def backoff(attempt: int, random: float) -> float:
    """Seconds before the next attempt of one renewal, after `attempt` of them: full jitter, doubling from 0.5 s."""
    return random * FIRST_BACKOFF * 2.0 ** (attempt - 1)


def save_pause(tries: int) -> float:
    """Seconds before a store is offered again what it would not take, after `tries` more in vain: doubling from 2 s."""
    return min(MAX_SAVE_PAUSE, FIRST_SAVE_PAUSE * 2.0 ** min(tries, 30))


class Pause(NamedTuple):
    """What renewals that failed lead to (rule 7).

    Args:
        error: how the last one failed.
        until: monotonic seconds before which nothing is renewed.
        early: monotonic seconds before which nothing is renewed early.
        failures: in a row.
        early_failures: of early renewals, in a row.
    """

    error: TokenFlowError
    until: float = -math.inf
    early: float = -math.inf
    failures: int = 0
    early_failures: int = 0


def pause_after(
    before: Pause | None, error: TokenFlowError, *, is_early: bool, now: float, random: float, is_login: bool = False
) -> Pause:
    """The pause after one more failure; `random` from 0 to 1; `is_login`: credentials were refused."""
    pause = Pause(error) if before is None else before._replace(error=error)
    asked = min(getattr(error, "retry_after", None) or 0.0, MAX_RETRY_AFTER)
    if is_early:
        failures = pause.early_failures + 1
        wait = max(asked, _doubling(_FIRST_EARLY_PAUSE, _MAX_EARLY_PAUSE, failures, random))
        # When the token is due the next renewal need not wait for this, unless the server has asked for it.
        return pause._replace(early=now + wait, until=max(pause.until, now + asked), early_failures=failures)
    failures = pause.failures + 1
    may_pass = isinstance(error, TokenEndpointUnavailable | StoreError)
    first, most = _FIRST_PAUSE, _MAX_PAUSE if may_pass else _MAX_TERMINAL_PAUSE
    if is_login:
        first, most = _FIRST_LOGIN_PAUSE, _MAX_LOGIN_PAUSE
    wait = max(asked, _doubling(first, most, failures, random))
    return pause._replace(until=now + wait, early=max(pause.early, now + wait), failures=failures)


def _doubling(first: float, most: float, times: int, random: float) -> float:
    """`first`, then doubled each time up to `most`, less up to a half of it at random."""
    return max(first, min(most, first * 2.0 ** min(times - 1, 30)) * (1.0 - random / 2))


def _jwt_expiry(token: Token) -> float | None:
    import jwt

    try:
        claims = jwt.decode(token.access_token, options={"verify_signature": False})
        expires_at = float(claims["exp"])
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return expires_at if math.isfinite(expires_at) else None
