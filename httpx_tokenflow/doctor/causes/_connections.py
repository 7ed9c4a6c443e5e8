"""The connection remembers who was refused on it; or the server does, whatever the connection.

Rules.

1. That a credential is refused after a request without one may be our own doing: a server that bans or slows down who
   was refused is healthy. So it counts only as the refusal that a request without a credential got.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts

__all__ = ["CAUSES", "is_shut_out"]

_BAN = re.compile(
    r"\bban(ned|s)?\b|block(ed|list)|black-?list|deny-?list|too many|rate.?limit|limit exceeded|throttl|lock(ed)? ?out"
    r"|\blocked\b|suspended|suspicious|abuse|try again (later|in)|attempts|temporarily|slow down|quota",
    re.IGNORECASE,
)
_SENT_AGAIN = frozenset({"bearer", "basic", "token", "apikey", "api-key", "key", "privatetoken"})


class BoundToConnection(Cause):
    """A server or a gateway decides once for each connection, and not for each request."""

    id = "connection-bound"
    title = "The server remembers on the connection who was refused, and refuses a good credential there"
    remedy = (
        "close the connection after a 401 (a new client, or Connection: close over HTTP/1.1) until the server or its "
        "proxy decides for each request; over HTTP/2 all requests share one connection, so it shows there first"
    )
    reference = "RFC 9110 §3.3: each request stands for itself; RFC 9113 §9.1"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        asked, again, anew = facts.last, facts.probe("again"), facts.probe("anew")
        if asked is None or again is None or anew is None:
            return None
        if not asked.is_accepted or not again.is_refused or not anew.is_accepted:
            return None
        version = f" over {again.http_version}" if again.http_version else ""
        return self.found(
            Certainty.CERTAIN,
            f"the credential is accepted on a new connection, and refused with {again.status} on one where a request "
            f"was refused before{version}",
            [
                f"on a connection of its own: {asked.status}",
                f"on the connection of a request without a credential: {again.status}",
                f"on another new connection: {anew.status}",
            ],
        )


class GoodForOnce(Cause):
    """The first request was accepted, and no other, whatever the connection."""

    id = "good-for-once"
    title = "The same credential is accepted once, and then refused"
    remedy = (
        "if it is a token for one use, get a new one for each request; else look whether all servers behind it "
        "share keys, sessions and clocks: one refuses what another accepts"
    )
    reference = "RFC 9110 §15.5.2; custom of one-time tokens"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        asked, again, anew = facts.last, facts.probe("again"), facts.probe("anew")
        if asked is None or again is None or anew is None or asked.method != anew.method:
            return None
        if not asked.is_accepted or not again.is_refused or not anew.is_refused or _is_for_one_request(facts):
            return None
        if is_shut_out(facts):
            return None
        return self.found(
            Certainty.LIKELY,
            f"the credential is accepted at first ({asked.status}), then refused twice ({again.status}, {anew.status})",
            [
                f"the first request: {asked.status}",
                f"the same after one without a credential: {again.status}",
                f"the same on a new connection: {anew.status}",
            ],
        )


def is_shut_out(facts: Facts) -> bool:
    """Whether the server seems to keep us out for now, as one of our probes had no credential (rule 1)."""
    asked, bare = facts.last, facts.probe("bare")
    later = [one for one in (facts.probe("again"), facts.probe("anew")) if one is not None]
    if asked is None or bare is None or not asked.is_accepted or not later or later[-1].is_accepted:
        return False
    return any(_is_ban(one, bare) for one in later)


def _is_ban(one: Exchange, bare: Exchange) -> bool:
    if not 400 <= one.status < 500 and one.status != 503:
        return False
    is_told = any(_BAN.search(text) for _, text in one.words)
    return is_told or one.status not in {bare.status, 401} or one.received.get("Retry-After") is not None


def _is_for_one_request(facts: Facts) -> bool:
    """A proof, a signature, a count: a server is right to refuse it when the doctor sends it again (RFC 9449 §11.1)."""
    if facts.asked is None or facts.asked.sent.get("DPoP") or facts.asked.sent.get("Signature"):
        return True
    return any(one.scheme and one.scheme.lower() not in _SENT_AGAIN for one in facts.credentials)


CAUSES: tuple[Cause, ...] = (BoundToConnection(), GoodForOnce())
