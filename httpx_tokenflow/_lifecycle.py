"""The numbers of a token's life, and what follows from them. No state, no clock of its own.

Rules.

1. A token is due before it expires: 60 s before, but never more than a fifth of its lifetime, so that a token of
   30 s does not renew on every request.
2. A lifetime of zero or less means: use it once. No lifetime at all means the policy's default.
3. The `exp` of an access token that happens to be a JWT is a hint about *when to renew*, looked at only if the
   answer gave no expiry and the policy allows it (RFC 9068 §6: the token is opaque to the client).
4. A renewal's attempts are spaced by full jitter; a Retry-After wins, if it fits into the budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._errors import ConfigurationError
from ._times import MAX_RETRY_AFTER, SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from ._tokens import Entry, Token

__all__ = ["RenewalPolicy", "backoff", "due_at", "lifetime_of", "pause_after_failure"]

MAX_DUE_SHARE = 0.2  # of the lifetime
FIRST_BACKOFF = 0.5  # seconds
SHORTEST_PAUSE = 1.0  # seconds during which the same error answers after a renewal has failed
FLIGHT_GRACE = 5.0  # seconds beyond the budget after which a flight counts as lost with its loop


_LEAST = {"due_window": 0.0, "budget": 0.001, "connect_timeout": 0.001, "attempts": 1, "default_lifetime": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalPolicy:
    """When and how hard to renew. Durations in seconds.

    Args:
        due_window: a token this close to its end is renewed first; at most a fifth of its lifetime. Default 60; 0
            switches the window off.
        budget: for all attempts of one renewal together. Default 30.
        connect_timeout: for one connection to the token endpoint. Default 5.
        attempts: token requests in one renewal at most. Default 3.
        default_lifetime: of a token whose server does not say. Default 3600.
        read_jwt_expiry: where the server does not say, take the `exp` of a token that is a JWT. Default False.
        clock: the clocks; tests bring their own.

    Raises:
        ConfigurationError: a number is out of range.
    """

    due_window: float = 60.0
    budget: float = 30.0
    connect_timeout: float = 5.0
    attempts: int = 3
    default_lifetime: float = 3600.0
    read_jwt_expiry: bool = False
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value: Any = getattr(self, name)
            kind = int if name == "attempts" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
                what = "a whole number" if name == "attempts" else "a number of seconds"
                raise ConfigurationError(f"RenewalPolicy: {name} must be {what}, {least:g} or more")


def lifetime_of(entry: Entry, policy: RenewalPolicy) -> float:
    """Seconds from `entry.issued_at` that the token lives, as far as anybody knows (rules 2 and 3)."""
    if entry.lifetime is not None:
        return entry.lifetime
    if policy.read_jwt_expiry and (expires_at := _jwt_expiry(entry.token)) is not None:
        return expires_at - entry.issued_at
    return policy.default_lifetime


def due_at(entry: Entry, policy: RenewalPolicy) -> float:
    """Unix seconds from which the token must be renewed before it is used (rule 1)."""
    lifetime = lifetime_of(entry, policy)
    return entry.issued_at + lifetime - min(policy.due_window, max(0.0, lifetime) * MAX_DUE_SHARE)


def backoff(attempt: int, random: float) -> float:
    """Seconds before the next attempt, after `attempt` of them: full jitter, doubling from half a second (rule 4)."""
    return random * FIRST_BACKOFF * 2.0 ** (attempt - 1)


def pause_after_failure(retry_after: float | None) -> float:
    """Seconds during which a failed renewal's error answers for itself, without another token request."""
    return min(max(SHORTEST_PAUSE, retry_after or 0.0), MAX_RETRY_AFTER)


def _jwt_expiry(token: Token) -> float | None:
    import jwt

    try:
        claims = jwt.decode(token.access_token, options={"verify_signature": False, "verify_exp": False})
    except (jwt.PyJWTError, ValueError):
        return None
    expires_at: Any = claims.get("exp")
    return float(expires_at) if isinstance(expires_at, int | float) and math.isfinite(expires_at) else None
