"""The token itself says why it is refused: its times, for whom it is, by whom, and what it allows.

Rules.

1. Times are judged by the server's clock where its `Date` tells it. Where the clocks differ and that alone decides,
   `_clocks` speaks, and this room does not.
2. What the person, or the API's metadata, says that the API expects is compared with the claims; else the server's
   words decide. An audience that is a URL of another host proves nothing: many are names and no more (RFC 7519 §4.1.3).
3. What the server says in so many words is certain, unless the claims speak against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._recipients import CAUSES as RECIPIENTS
from ._reckoning import SLACK, ahead, has_token, jwt_of, lasting, moment, server_time, sure
from ._words import EXPIRED, MALFORMED, NOT_YET, said

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._readings import Reading

__all__ = ["CAUSES"]


class Malformed(Cause):
    """It looks like a JWT, and is none."""

    id = "token-malformed"
    title = "The JWT is malformed"
    remedy = (
        "take the token anew and whole: three parts between two dots, on one line; look for what cuts it off (a "
        "column, a variable, a copy)"
    )
    reference = "RFC 7519 §7.2, RFC 7515 §5.2"

    def look(self, facts: Facts) -> Finding | None:
        token, words = facts.token, said(facts, MALFORMED) if has_token(facts) else None
        if token is None or token.kind == "opaque":
            # Of an opaque token the same words mean that it is none: _kinds.
            return None if token is not None or words is None else self.found(Certainty.CERTAIN, _NONE, [words])
        if token.problems:
            return self.found(Certainty.CERTAIN, f"the JWT is malformed: {token.problems[0]}", [*token.problems, words])
        wrong = _wrong_times(token)
        if wrong is not None:
            return self.found(sure(words), f"the JWT is malformed: {wrong}", [wrong, words])
        if words is None or token.kind != "jwt":
            return None
        against = "it can be decoded here: three parts, a header, claims, a signature"
        return self.found(
            Certainty.LIKELY, "the server cannot read the JWT, although it can be read here", [words], [against]
        )


_NONE = "the server cannot read the token as a JWT"


def _wrong_times(token: Reading) -> str | None:
    for claim in ("exp", "nbf", "iat"):
        value = token.claims.get(claim)
        if value is None:
            continue
        if token.seconds(claim) is None:
            return f"its {claim} is no number, but {type(value).__name__} in JSON (RFC 7519 §2)"
        if token.seconds(claim) != moment(token, claim):
            return f"its {claim} is in milliseconds, and seconds are asked for (RFC 7519 §2)"
    return None


class Expired(Cause):
    """Its time is over (`exp`), or the server says so."""

    id = "token-expired"
    title = "The token has expired"
    remedy = (
        "get a new one: TokenAuth(…) renews a token before it expires; do not keep access tokens in files or variables"
    )
    reference = "RFC 7519 §4.1.4, RFC 6750 §3.1"

    def look(self, facts: Facts) -> Finding | None:
        words = said(facts, EXPIRED) if has_token(facts) else None
        token = jwt_of(facts)
        expires = moment(token, "exp")
        if expires is None:
            what = "the server says that the token has expired"
            return None if words is None else self.found(Certainty.CERTAIN, what, [words])
        theirs, difference = server_time(facts.last), ahead(facts) or 0.0
        ours = facts.now if facts.now > 0 else (theirs or 0.0)
        by_ours, by_theirs = expires <= ours, expires <= (ours if theirs is None else theirs)
        if by_theirs and not by_ours and abs(difference) >= SLACK:
            return None  # rule 1
        if by_ours or by_theirs:
            return self._over(
                token, expires, max(ours, theirs or 0.0) if by_theirs else ours, words, by_theirs=by_theirs
            )
        if words is None:
            return None
        left = lasting(expires - (theirs or ours))
        return self.found(
            Certainty.LIKELY,
            f"the server says that the token has expired, although by its exp it has {left} left",
            [words],
            [f"its exp is {left} away"],
            "renew it all the same: the session behind it may have ended; then have the API's clock looked at",
        )

    def _over(self, token: Reading | None, expires: float, at: float, words: str | None, *, by_theirs: bool) -> Finding:
        issued = moment(token, "iat") or moment(token, "nbf")
        lifetime = f", after a lifetime of {lasting(expires - issued)}" if issued and issued < expires else ""
        against = None if by_theirs else "by the server's Date field it is still good"
        # A server allows for some difference of the clocks (RFC 7519 §4.1.4).
        is_certain = words is not None or (by_theirs and at - expires >= SLACK)
        summary = f"the token expired {lasting(at - expires)} ago{lifetime}"
        whose = "the server's Date" if by_theirs else "our clock"
        return self.found(
            Certainty.CERTAIN if is_certain else Certainty.LIKELY,
            summary,
            [f"its exp is {lasting(at - expires)} before {whose}", words],
            [against],
        )


class NotYetValid(Cause):
    """Its time has not come (`nbf`), or it was issued in the future (`iat`)."""

    id = "token-not-yet-valid"
    title = "The token is not valid yet"
    remedy = (
        "have the clocks of the issuer and the API set by NTP; until then wait for that time, or allow a leeway at "
        "the API"
    )
    reference = "RFC 7519 §4.1.5 and §4.1.6"

    def look(self, facts: Facts) -> Finding | None:
        words = said(facts, NOT_YET) if has_token(facts) else None
        token = jwt_of(facts)
        times = [(at, claim) for claim in ("nbf", "iat") if (at := moment(token, claim)) is not None]
        theirs = server_time(facts.last)
        at = facts.now if theirs is None else theirs
        begins, claim = max(times, default=(at, ""))
        if begins <= at + 1 or at <= 0:
            against = "its nbf and iat are in the past" if times else None
            what = "the server says that the token is not valid yet"
            return None if words is None else self.found(sure(words, against), what, [words], [against])
        if begins <= facts.now + 1 and abs(ahead(facts) or 0.0) >= SLACK:
            return None  # rule 1
        wait = lasting(begins - at)
        if begins - at < SLACK and words is None:
            return None  # within the leeway that is usual, and nobody complains of it
        summary = f"the token is not valid yet: its {claim} is {wait} ahead"
        is_certain = words is not None or claim == "nbf"
        evidence = [f"its {claim} is {wait} after {'our clock' if theirs is None else 'the Date of the server'}", words]
        return self.found(Certainty.CERTAIN if is_certain else Certainty.LIKELY, summary, evidence)


CAUSES: tuple[Cause, ...] = (Malformed(), Expired(), NotYetValid(), *RECIPIENTS)
