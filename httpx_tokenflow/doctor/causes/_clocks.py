"""Two clocks disagree.

Rules.

1. Clocks matter where a time is compared by both: the token is good by one and not by the other, the server speaks of
   time, or a proof was made by ours (RFC 9449 §11.1). Where none of it is so, only a difference of minutes is worth a
   word.
2. Two clocks do not tell which of them is wrong; a third does. It is the issuer's (`iat` and what we know of the
   token's age, or its `Date`). An `iat` that is yet to come proves a clock to be behind: nobody signs tomorrow's token.
   Where there is no third, ours is named: servers are kept in time more often than laptops and containers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._facts import origin
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._reckoning import SLACK, ahead, jwt_of, lasting, moment, server_time
from ._words import EXPIRED, NOT_YET, SKEWED, said

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts

__all__ = ["CAUSES"]

_MUCH = 300.0  # seconds: more than any leeway that APIs are used to give
_CHOICE = "which of the two is right, these facts do not tell"


@dataclass(frozen=True, slots=True)
class _Verdict:
    is_ours: bool
    certainty: Certainty
    summary: str
    evidence: tuple[str | None, ...]


def _verdict(facts: Facts) -> _Verdict | None:
    words, difference = said(facts, SKEWED), ahead(facts)
    if difference is None or abs(difference) < SLACK:
        if words is None:
            return None
        against = "its Date field does not differ from our clock" if difference is not None else None
        summary = "the server finds the time of the request wrong by its own clock"
        return _Verdict(is_ours=True, certainty=Certainty.LIKELY, summary=summary, evidence=(words, against))
    date = None if facts.last is None else facts.last.date
    evidence = (f"the answer's Date is {date}, {lasting(difference)} {_side(difference)} our clock", words)
    if words is not None:
        summary = (
            f"our clock is {lasting(difference)} {_side(-difference)} the server's, who refuses the request for it"
        )
        return _Verdict(is_ours=True, certainty=Certainty.CERTAIN, summary=summary, evidence=evidence)
    return _by_token(facts, difference, evidence) or _by_proof(facts, difference, evidence) or _much(facts, difference)


def _side(difference: float) -> str:
    return "ahead of" if difference > 0 else "behind"


def _by_token(facts: Facts, difference: float, evidence: tuple[str | None, ...]) -> _Verdict | None:
    """The token is good by one clock and not by the other."""
    token, theirs = jwt_of(facts), server_time(facts.last)
    if token is None or theirs is None:
        return None
    ours = theirs - difference
    expires, issued = moment(token, "exp"), moment(token, "iat")
    start = max((at for at in (issued, moment(token, "nbf")) if at is not None), default=None)
    if expires is not None and ours < expires <= theirs:
        left = lasting(expires - ours)
        what = f"by the server's the token expired {lasting(theirs - expires)} ago, by ours it has {left} left"
        words = said(facts, EXPIRED)
    elif start is not None and start - theirs > SLACK / 2 and start <= ours + SLACK:
        what = f"by the server's the token begins in {lasting(start - theirs)}, by ours it has begun"
        words = said(facts, NOT_YET)
    else:
        return None
    is_ours, third = _third(facts, ours, theirs)
    summary = f"{_whose(difference, is_ours=is_ours)}, and {what}"
    certainty = Certainty.LIKELY if words is None else Certainty.CERTAIN
    return _Verdict(is_ours=is_ours, certainty=certainty, summary=summary, evidence=(*evidence, words, third))


def _by_proof(facts: Facts, difference: float, evidence: tuple[str | None, ...]) -> _Verdict | None:
    """A proof of possession carries our time (RFC 9449 §4.2)."""
    sent = facts.credential
    words = facts.said(r"dpop.{0,20}proof|invalid_dpop|\biat\b")
    if sent is None or not sent.is_scheme("DPoP") or words is None:
        return None
    summary = f"{_whose(difference, is_ours=True)}, and the DPoP proof has our time in it"
    return _Verdict(is_ours=True, certainty=Certainty.LIKELY, summary=summary, evidence=(*evidence, words))


def _much(facts: Facts, difference: float) -> _Verdict | None:
    theirs = server_time(facts.last)
    if abs(difference) < _MUCH or theirs is None:
        return None
    is_ours, third = _third(facts, theirs - difference, theirs)
    date = None if facts.last is None else facts.last.date
    summary = f"{_whose(difference, is_ours=is_ours)}: what one takes for a good time, the other may not"
    return _Verdict(
        is_ours=is_ours, certainty=Certainty.POSSIBLE, summary=summary, evidence=(f"the answer's Date is {date}", third)
    )


def _whose(difference: float, *, is_ours: bool) -> str:
    if is_ours:
        return f"our clock is {lasting(difference)} {_side(-difference)} the server's"
    return f"the server's clock is {lasting(difference)} {_side(difference)} ours"


def _third(facts: Facts, ours: float, theirs: float) -> tuple[bool, str]:
    """Whether ours is the one that is wrong, by a third clock, and what that says (rule 2)."""
    issued = moment(jwt_of(facts), "iat")
    if issued is not None and facts.token_age is not None:
        return _nearer(issued + facts.token_age, ours, theirs, "the token's iat and its age")
    if issued is not None and issued > ours + SLACK:
        return True, f"the token's iat is {lasting(issued - ours)} in our future: the issuer's clock is not with ours"
    if issued is not None and issued > theirs + SLACK / 2:
        return False, f"the token's iat is {lasting(issued - theirs)} in the server's future: the issuer's is with ours"
    for exchange in facts.exchanges:
        elsewhere = server_time(exchange)
        if elsewhere is not None and facts.last is not None and origin(exchange.url) != origin(facts.last.url):
            return _nearer(elsewhere - exchange.began, ours, theirs, "the Date of the issuer")
    if issued is not None and 0 <= ours - issued < SLACK:
        return False, "by our clock the token was issued this minute: the issuer's clock is with ours"
    return True, _CHOICE


def _nearer(third: float, ours: float, theirs: float, what: str) -> tuple[bool, str]:
    is_ours = abs(third - theirs) < abs(third - ours)
    return is_ours, f"{what} agree with {'the server' if is_ours else 'our clock'}"


class OurClock(Cause):
    """This machine's clock and the server's differ, and ours is, as far as can be told, the wrong one."""

    id = "our-clock"
    title = "Our clock is off"
    remedy = (
        "set this machine's clock by NTP (timedatectl, chronyc, w32tm), also inside its virtual machine, and try again"
    )
    reference = "RFC 7519 §4.1.4, RFC 9110 §6.6.1"

    def look(self, facts: Facts) -> Finding | None:
        verdict = _verdict(facts)
        if verdict is None or not verdict.is_ours:
            return None
        return self.found(verdict.certainty, verdict.summary, verdict.evidence)


class ServerClock(Cause):
    """The server's clock is the one that disagrees with the issuer's and ours."""

    id = "server-clock"
    title = "The server's clock is off"
    remedy = (
        "have the API's operator set its clock by NTP, or allow for the difference (leeway) when it checks exp, nbf "
        "and iat"
    )
    reference = "RFC 7519 §4.1.4 and §4.1.5, RFC 9110 §6.6.1"

    def look(self, facts: Facts) -> Finding | None:
        verdict = _verdict(facts)
        if verdict is None or verdict.is_ours:
            return None
        return self.found(verdict.certainty, verdict.summary, verdict.evidence)


CAUSES: tuple[Cause, ...] = (OurClock(), ServerClock())
