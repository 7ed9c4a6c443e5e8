"""What several causes reckon with: the server's clock, durations in words, whether a token was sent at all.

Rules.

1. `Date` is when the answer was made (RFC 9110 §6.6.1). A cache gives old answers: `Age` says how old (RFC 9111
   §4.2.3), and is added. An `Age` that cannot be read leaves the `Date` unknown.
2. `Date` has whole seconds and the answer its way to go, so clocks that differ by less than `SLACK` agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from httpx_tokenflow._times import parse_date
from httpx_tokenflow.doctor._findings import Certainty

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts
    from httpx_tokenflow.doctor._readings import Reading

__all__ = ["SLACK", "ahead", "has_token", "jwt_of", "lasting", "moment", "server_time", "sure"]

SLACK = 60.0  # seconds
_MILLISECONDS = 1e11  # as seconds, that is the year 5138
_NO_TOKENS = frozenset({"basic", "digest", "negotiate", "ntlm", "aws4-hmac-sha256", "sharedkey", "hoba", "mutual"})
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def server_time(exchange: Exchange | None) -> float | None:
    """Unix seconds by the clock of whoever answered; None if that cannot be told."""
    date = None if exchange is None else parse_date(exchange.date)
    if date is None or exchange is None:
        return None
    age = exchange.received.get("Age")
    if age is None:
        return date
    return date + int(age) if age.isascii() and age.isdigit() and len(age) < 10 else None


def ahead(facts: Facts, exchange: Exchange | None = None) -> float | None:
    """Seconds by which the clock of the server is ahead of ours; None where one of the two is not known."""
    exchange = exchange or facts.last
    theirs = server_time(exchange)
    if theirs is None or exchange is None or facts.now <= 0:
        return None
    return theirs - (facts.now + exchange.began + exchange.seconds / 2)


def jwt_of(facts: Facts) -> Reading | None:
    """The token, if it is a JWT whose claims can be read."""
    return facts.token if facts.token is not None and facts.token.kind == "jwt" and facts.token.claims else None


def moment(token: Reading | None, claim: str) -> float | None:
    """A claim that is a time, in Unix seconds; one in milliseconds as well, which RFC 7519 §2 does not allow."""
    value = None if token is None else token.seconds(claim)
    if value is None or not math.isfinite(value):
        return None
    return value / 1000 if value > _MILLISECONDS else value


def lasting(seconds: float) -> str:
    """A duration in words: "3 h 2 min", the two largest units at most."""
    left = round(abs(seconds))
    for at, (size, name) in enumerate(_UNITS):
        if left >= size:
            rest = (left % size) // _UNITS[at + 1][0] if at + 1 < len(_UNITS) else 0
            return f"{left // size} {name}" + (f" {rest} {_UNITS[at + 1][1]}" if rest else "")
    return "0 s"


def has_token(facts: Facts) -> bool:
    """The request carried something that can be a token; also where it is not known what it carried."""
    sent = facts.credential
    if sent is None:
        return facts.last is not None and not facts.last.sent.pairs
    return sent.scheme.lower() not in _NO_TOKENS and sent.place != "Cookie"


def sure(words: str | None, against: str | None = None) -> Certainty:
    """The server's words alone are enough, if nothing speaks against them (rule 3 of `_claims`)."""
    return Certainty.CERTAIN if words is not None and against is None else Certainty.LIKELY
