"""Cookies: the session that a browser keeps, and a program does not, or no longer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._phrases import WANTS_COOKIE

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts

__all__ = ["CAUSES"]

_CSRF = r"[cx]srf|\bcrumb\b|\bpage expired\b|cross[- ]site request forgery"
_SESSION_OVER = (
    r"\bsession\W+(\w+\W+){0,3}(expired|timed out|timeout|invalid|over|not found|no longer)"
    r"|\b(expired|invalid|unknown|stale)\W+session\b|\blogged out\b|\bplease (log|sign) ?in again\b"
)
_SESSION_COOKIE = re.compile(
    r"[\w.-]*sess[\w.-]*|\.aspnetcore\.[\w.-]*|(connect\.)?sid",
    re.IGNORECASE,
)


class NoCsrfToken(Cause):
    """A form's token is missing."""

    id = "csrf-token"
    title = "The token against forged requests (CSRF) is missing or stale"
    remedy = (
        "get a page or the cookie first, and send its token along (X-CSRF-Token, X-XSRF-TOKEN, X-CSRFToken) with the "
        "same session; an API for programs should not want one where Authorization is sent"
    )
    reference = "custom of Django, Laravel, Rails, Spring Security, Angular, Jenkins (crumb)"

    def look(self, facts: Facts) -> Finding | None:
        said = facts.said(_CSRF)
        if said is None and facts.status != 419:
            return None
        names = [name for name, _ in facts.asked.sent] if facts.asked is not None else []
        what = "stale, or of another session" if any(re.search("(?i)[cx]srf", name) for name in names) else "missing"
        return self.found(
            Certainty.CERTAIN if said else Certainty.LIKELY,
            f"the server refuses the request for its CSRF token, which is {what}",
            [said, "419 is Laravel's status for that" if facts.status == 419 else f"the answer is {facts.status}"],
        )


class SessionOver(Cause):
    """A cookie was sent, and its session is over."""

    id = "session-over"
    title = "The session of the cookie that was sent is over"
    remedy = "log in again, and keep what the server sets (a client with a cookie jar), for sessions end"
    reference = "RFC 6265 §8.4 (session identifiers); 440 is IIS's custom"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or not any(one.place == "Cookie" for one in facts.credentials):
            return None
        names = _cookies_sent(facts)
        gone = [name for name in _cookies_deleted(last) if name in names]
        said = facts.said(_SESSION_OVER)
        only = all(one.place == "Cookie" for one in facts.credentials)
        if not gone and said is None and last.status != 440 and not (only and last.status == 401):
            return None
        if facts.said(_CSRF):
            return None
        return self.found(
            Certainty.CERTAIN if gone or said or last.status == 440 else Certainty.LIKELY,
            f"the session cookie is not accepted ({last.status}): its session is over, or unknown there",
            [
                said,
                f"the server deletes the cookie {gone[0]}" if gone else None,
                f"the request has the cookies {', '.join(sorted(names))}"[:300],
                "440 is IIS's status for it" if last.status == 440 else None,
            ],
        )


class CookieMissing(Cause):
    """The server goes by a cookie, and got none."""

    id = "cookie-missing"
    title = "The server goes by a session cookie, and none was sent"
    remedy = (
        "log in first, with a client that keeps cookies; in a page ask with credentials: 'include' (withCredentials). "
        "A Secure cookie does not go over http, nor one with SameSite from another site"
    )
    reference = "RFC 6265 §5.4; the Fetch standard, credentials mode"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or any(one.place == "Cookie" for one in facts.credentials) or not last.is_refused:
            return None
        said = facts.said(WANTS_COOKIE)
        wants = any(one.is_scheme("Cookie") for one in facts.challenges)
        if said is None and not wants:
            return None
        new = [name for name in _cookies_set(last) if _SESSION_COOKIE.fullmatch(name)]
        return self.found(
            Certainty.CERTAIN if not facts.credentials else Certainty.LIKELY,
            "the server goes by a session cookie, and the request has none",
            [
                said,
                "it asks for the scheme Cookie" if wants else None,
                f"it begins a session on its refusal, with the cookie {new[0]}" if new else None,
            ],
        )


def _cookies_sent(facts: Facts) -> set[str]:
    return {
        pair.partition("=")[0].strip()
        for one in facts.credentials
        if one.place == "Cookie"
        for pair in one.raw.split(";")
    }


def _cookies_set(exchange: Exchange) -> list[str]:
    return [value.partition("=")[0].strip() for value in exchange.received.get_list("Set-Cookie")]


def _cookies_deleted(exchange: Exchange) -> list[str]:
    over = re.compile(r";\s*(max-age\s*=\s*(0|-\d)|expires\s*=[^;]*\b19[67]\d\b)", re.IGNORECASE)
    values = exchange.received.get_list("Set-Cookie")
    return [value.partition("=")[0].strip() for value in values if over.search(value)]


CAUSES: tuple[Cause, ...] = (NoCsrfToken(), SessionOver(), CookieMissing())
