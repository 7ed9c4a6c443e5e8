"""The server lets nobody in now, or nobody from there: whatever the credential, it was not what was refused.

Rules.

1. A 403 for a limit is told by its fields (X-RateLimit-Remaining, RateLimit, Retry-After) or by its words; 429 is no
   refusal, and no business of the doctor's.
2. A field that counts requests is on every answer of many APIs: only a count of 0 says anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts

__all__ = ["CAUSES"]

_LIMIT = (
    r"\brate.?limit|\bratelimit|\bquota\b|RESOURCE_EXHAUSTED|\bthrottl"
    r"|\btoo many (?:\w+ ){0,3}(?:requests|calls|attempts|logins|connections)"
    r"|\b(?:request|usage|call|daily|monthly|hourly) limit\b|\blimit (?:exceeded|reached)\b|\babuse detection\b"
    r"|\blocked out\b|\bCAPTCHA"
)
_PLACE = (
    r"\b(?:not|un)\W{0,2}(?:available|supported|permitted|allowed)\b.{0,30}\b(?:country|region|location|territory)\b"
    r"|\b(?:country|region|location)\b.{0,30}\b(?:not (?:available|supported|permitted|allowed)|blocked|unsupported)\b"
    r"|unsupported_country"
)
_PLAIN = (
    r"\b(?:https|ssl|tls)\b(?: (?:is|connection))* (?:required|only)\b"
    r"|\b(?:requires?|must use|use) (?:https|ssl)\b(?! client)"
)
_ADDRESS = (
    r"\bip(?: address)?\b.{0,40}\bnot (?:allowed|permitted|whitelisted|authori[sz]ed|(?:on|in) (?:the|an?|your))\b"
    r"|(?<!email )(?<!e-mail )\b(?:address|ip)\b.{0,30}\b(?:blocked|banned|denied)\b"
    r"|\b(?:address|ips?)\b.{0,60}\b(?:allow|white).?list|\b(?:allow|white).?list.{0,60}\b(?:address|ips?)\b"
)
_AGENT = (
    r"\buser.?agent\b.{0,40}\b(?:required|missing|must|blocked|invalid|not|rules)\b"
    r"|\b(?:missing|invalid|no|set|blocked|administrative)\b.{0,40}\buser.?agent\b"
)


class LimitReached(Cause):
    """The account, the key or the address has asked too often, and 403 is how this server says 429."""

    id = "limit-reached"
    title = "A limit is reached: of requests, of a quota, or of failed logins"
    remedy = (
        "wait as long as the answer says (Retry-After, X-RateLimit-Reset) and ask less often; look at the quota of "
        "the account; after failed logins log in once in a browser, and mend the credential before the next try"
    )
    reference = "RFC 6585 §4 (429); custom of GitHub, Google and Atlassian, who say 403"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.status not in {401, 403}:
            return None
        counted, said, denied = _counted(last), facts.said(_LIMIT), _denied(last)
        wait = last.received.get("Retry-After") if last.status == 403 else None
        if not (counted or said or denied or wait):
            return None
        is_seen = bool(counted) and last.status == 403
        if last.status == 401 and not (said or denied):
            return None
        return self.found(
            Certainty.CERTAIN if is_seen and said else Certainty.LIKELY,
            f"a limit is reached, and the answer is {last.status}: another credential of the same account is no help",
            [said, counted, denied, f"Retry-After is {wait[:40]}" if wait else None],
        )


class KeptOut(Cause):
    """The server does not let this client in: its country, its address, plain http, its User-Agent."""

    id = "client-kept-out"
    title = "The server keeps the client out: for its country, its address, plain http, or its User-Agent"
    remedy = (
        "change what the server names: ask over https, from an address or a country that it lets in (an allowlist of "
        "the key or the account), with a User-Agent"
    )
    reference = "RFC 9110 §15.5.4"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.status not in {401, 403}:
            return None
        for what, pattern in (
            ("the place it comes from", _PLACE),
            ("being sent over plain http", _PLAIN),
            ("the address it comes from", _ADDRESS),
            ("its User-Agent", _AGENT),
        ):
            said = facts.said(pattern)
            if said is not None:
                return self.found(Certainty.LIKELY, f"the server refuses the request for {what}", [said])
        return None


def _counted(exchange: Exchange) -> str | None:
    """A count of requests that is used up, by the fields of GitHub and others, or by the draft's RateLimit."""
    for name in ("X-RateLimit-Remaining", "X-Rate-Limit-Remaining", "RateLimit-Remaining"):
        if (exchange.received.get(name) or "").strip() == "0":
            return f"{name} is 0"
    left = re.search(r"(?:^|[;,\s])(?:r|remaining)=0(?:$|[;,\s])", exchange.received.get("RateLimit") or "")
    return "RateLimit says that nothing remains" if left else None


def _denied(exchange: Exchange) -> str | None:
    """Jira and Confluence want a CAPTCHA solved after failed logins, and say so in a field."""
    told = exchange.received.get("X-Authentication-Denied-Reason") or ""
    return "X-Authentication-Denied-Reason is CAPTCHA_CHALLENGE" if "CAPTCHA" in told.upper() else None


CAUSES: tuple[Cause, ...] = (LimitReached(), KeptOut())
