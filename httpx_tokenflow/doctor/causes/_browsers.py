"""What only browsers do: they ask beforehand whether a page may (CORS), and they send cookies, or do not.

Rules.

1. Whether a page may is asked only where its origin is known: `--origin`, or a preflight in hand. An origin does not
   ask itself.
2. A preflight carries no credential, ever; so one that is refused for the lack of it refuses everybody (the Fetch
   standard, CORS-preflight fetch).
3. Cookies are the only credentials that "include" is about here; a script's own `Authorization` is a field like others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._facts import origin
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._sifting import without_secrets

from . import _cookies

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts

__all__ = ["CAUSES"]

_SIMPLE_METHODS = frozenset({"GET", "HEAD", "POST"})


class PreflightFails(Cause):
    """A preflight must get 2xx, without redirect."""

    id = "cors-preflight"
    title = "The preflight (OPTIONS) of a browser is refused, so the browser never sends the request"
    remedy = "answer OPTIONS before credentials are looked at: put the CORS middleware in front of authentication"
    reference = "the Fetch standard, CORS-preflight fetch"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        preflight = _preflight(facts)
        if preflight is None or 200 <= preflight.status < 300:
            return None
        to = preflight.location
        what = f"is redirected to {without_secrets(to)}" if to else f"gets {preflight.status}"
        return self.found(
            Certainty.CERTAIN,
            f"the preflight of a page from {_from(facts)} {what}, and has to get 2xx: the browser sends no more",
            [
                f"OPTIONS: {preflight.status}",
                "it carries no credential, and never does" if preflight.is_refused else None,
                f"outside a browser the request itself gets {facts.status}" if preflight is not facts.last else None,
            ],
        )


class OriginNotAllowed(Cause):
    """The page's origin must be named, in the preflight's answer and in that of the request."""

    id = "cors-origin"
    title = "Access-Control-Allow-Origin is missing, or does not allow the page's origin"
    remedy = (
        "answer with Access-Control-Allow-Origin: the page's origin (not *, where cookies are sent), and Vary: Origin, "
        "on refusals too"
    )
    reference = "the Fetch standard, CORS check"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        for where, answer in (("preflight", _preflight(facts)), ("request", _actual(facts))):
            if answer is None or (where == "preflight" and not 200 <= answer.status < 300):
                continue
            told = answer.received.get_list("Access-Control-Allow-Origin")
            if _is_allowed(facts, told):
                continue
            says = f"says {', '.join(told)!r}" if told else "is missing"
            return self.found(
                Certainty.POSSIBLE if where == "request" and answer.is_refused else Certainty.CERTAIN,
                f"a page from {_from(facts)} may not read the answer: Access-Control-Allow-Origin {says}",
                [
                    f"Access-Control-Allow-Origin on the answer to the {where} {says}",
                    "cookies are sent, and with them * is no answer" if told == ["*"] else None,
                    "two values are none" if len(told) > 1 else None,
                ],
            )
        return None


class FieldNotAllowed(Cause):
    """`*` does not cover `Authorization`."""

    id = "cors-headers"
    title = "Access-Control-Allow-Headers does not allow a field of the request (* does not cover Authorization)"
    remedy = "name each field in Access-Control-Allow-Headers: authorization, content-type, …"
    reference = "the Fetch standard, CORS non-wildcard request-header name"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        preflight = _preflight(facts)
        if preflight is None or not 200 <= preflight.status < 300:
            return None
        asked = _listed(preflight.sent.get_list("Access-Control-Request-Headers"))
        allowed = _listed(preflight.received.get_list("Access-Control-Allow-Headers"))
        covered = asked - {"authorization"} if "*" in allowed and not _has_cookies(facts) else set()
        lacking = sorted(asked - allowed - covered)
        if not lacking:
            return None
        return self.found(
            Certainty.CERTAIN,
            f"the browser may not send {', '.join(lacking)}: Access-Control-Allow-Headers does not name it",
            [
                f"the preflight asks for {', '.join(sorted(asked))}",
                f"the answer allows {', '.join(sorted(allowed)) or 'none'}"[:300],
                "* covers all fields but Authorization" if "*" in allowed else None,
            ],
        )


class MethodNotAllowed(Cause):
    """GET, HEAD and POST need no permission; the others do."""

    id = "cors-methods"
    title = "Access-Control-Allow-Methods does not allow the request's method"
    remedy = "name the method in Access-Control-Allow-Methods, in capitals"
    reference = "the Fetch standard, CORS-preflight fetch"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        preflight = _preflight(facts)
        if preflight is None or not 200 <= preflight.status < 300:
            return None
        method = preflight.sent.get("Access-Control-Request-Method") or ""
        told = ",".join(preflight.received.get_list("Access-Control-Allow-Methods"))
        allowed = {one.strip() for one in told.split(",") if one.strip()}
        if method in _SIMPLE_METHODS or method in allowed or ("*" in allowed and not _has_cookies(facts)):
            return None
        return self.found(
            Certainty.CERTAIN,
            f"the browser may not send {method}: Access-Control-Allow-Methods does not name it",
            [f"the preflight asks for {method}", f"the answer allows {', '.join(sorted(allowed)) or 'none'}"[:300]],
        )


class CredentialsNotAllowed(Cause):
    """Where cookies go along, the server must say that they may."""

    id = "cors-credentials"
    title = "Access-Control-Allow-Credentials is missing, and cookies are sent"
    remedy = (
        "answer with Access-Control-Allow-Credentials: true, and the page's origin; ask with credentials: 'include'"
    )
    reference = "the Fetch standard, CORS check"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        for answer in (_preflight(facts), _actual(facts)):
            if answer is None or not 200 <= answer.status < 300 or not _has_cookies(facts):
                continue
            told = answer.received.get("Access-Control-Allow-Credentials")
            if told == "true":
                continue
            return self.found(
                Certainty.CERTAIN,
                f"a page from {_from(facts)} may not send cookies: Access-Control-Allow-Credentials "
                f"{'is missing' if told is None else f'says {told!r}, not true'}",
                ["the request has a cookie", f"Access-Control-Allow-Credentials: {told}"],
            )
        return None


def _preflight(facts: Facts) -> Exchange | None:
    """The probe; or the request itself, where somebody has a preflight in hand."""
    asked = facts.asked
    if asked is not None and asked.method == "OPTIONS" and asked.sent.get("Access-Control-Request-Method"):
        return asked
    return facts.probe("preflight") if _is_elsewhere(facts) else None


def _actual(facts: Facts) -> Exchange | None:
    """The answer to the request, as a page from another origin would get it."""
    last = facts.last
    is_told = last is not None and (200 <= last.status < 300 or last.is_refused)
    return last if is_told and _is_elsewhere(facts) else None


def _is_elsewhere(facts: Facts) -> bool:
    if facts.browser_origin is None or facts.asked is None:
        return False
    return origin(facts.browser_origin) != origin(facts.asked.url)


def _from(facts: Facts) -> str:
    asked = facts.asked
    return facts.browser_origin or (asked.sent.get("Origin") if asked is not None else None) or "another origin"


def _is_allowed(facts: Facts, told: list[str]) -> bool:
    return len(told) == 1 and (told[0].strip() == _from(facts) or (told[0].strip() == "*" and not _has_cookies(facts)))


def _has_cookies(facts: Facts) -> bool:
    return any(one.place == "Cookie" for one in facts.credentials)


def _listed(values: list[str]) -> set[str]:
    return {name.strip().lower() for value in values for name in value.split(",") if name.strip()}


CAUSES: tuple[Cause, ...] = (
    PreflightFails(),
    OriginNotAllowed(),
    FieldNotAllowed(),
    MethodNotAllowed(),
    CredentialsNotAllowed(),
    *_cookies.CAUSES,
)
