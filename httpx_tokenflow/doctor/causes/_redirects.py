"""The request was sent elsewhere, and the credential did not come along.

Rules.

1. A redirect is no refusal: most are healthy. What leads elsewhere with a signature of its own, or to another path of
   another host, is a download or a move, and no alarm.
2. What was not followed was not seen: it is likely at most. What a response's history shows is certain.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from httpx_tokenflow.doctor._comparing import is_alike, is_login_page, leads_to_login
from httpx_tokenflow.doctor._facts import origin
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._sent import credentials_of
from httpx_tokenflow.doctor._sifting import without_secrets

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts

__all__ = ["CAUSES"]

_SIGNATURES = ("signature", "sig", "token", "hmac", "jwt", "x-amz-credential", "x-goog-credential", "key-pair-id")
_BEHIND = (
    "have the proxy that ends TLS send X-Forwarded-Proto: https, and the application believe it "
    "(uvicorn --proxy-headers, SECURE_PROXY_SSL_HEADER in Django, server.forward-headers-strategy in Spring); "
    "until then ask for the URL as the redirect has it, with https"
)
_UPGRADE = "ask for the https URL at once, and renew the credential: over http anybody on the way has read it"

_STARTS = re.compile(r"/(?:connect|start|begin|initiate|install|link|oauth2?|auth|redirect|authenticate)/?$")


class LostCredential(Cause):
    """Clients drop `Authorization` where a redirect leaves the origin, as they should."""

    id = "redirect-lost-credential"
    title = "A redirect leads to another origin (https, www., a port), and the credential does not come along"
    remedy = (
        "ask for the final URL at once: make it the client's base_url, with scheme, host and slash as they are there"
    )
    reference = "RFC 9110 §15.4; the Fetch standard, HTTP-redirect fetch"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        walk = _walk(facts)
        return (self._followed(walk) or self._ahead(facts, walk[-1])) if walk and facts.credentials else None

    def _followed(self, walk: list[Exchange]) -> Finding | None:
        """The caller's client went along, and the history tells what it left behind."""
        last = walk[-1]
        if len(walk) == 1 or not (last.is_refused or _is_at_login(last)):
            return None
        had, has = (credentials_of(one.url, one.sent.pairs) for one in (walk[0], last))
        if not had or any(one.place.lower() == had[0].place.lower() for one in has):
            return None
        lost = next(
            (pair for pair in pairwise(walk) if len(credentials_of(pair[1].url, pair[1].sent.pairs)) < len(had)), None
        )
        if lost is None or leads_to_login(lost[1].url):
            return None
        before, after = lost
        step = _step(before.url, after.url)
        place = _in_words(had[0].place)
        return self.found(
            Certainty.CERTAIN if last.is_refused else Certainty.LIKELY,
            f"the redirect {step} lost the credential: {place} was sent to {_shown(before.url)}, "
            f"not to {_shown(after.url)}",
            [f"{before.status} from {_shown(before.url)} to {_shown(after.url)}", f"the answer there is {last.status}"],
            remedy=_remedy(before.url, after.url),
        )

    def _ahead(self, facts: Facts, last: Exchange) -> Finding | None:
        """The redirect that was not followed, since it leaves the origin."""
        to = last.location
        if to is None or origin(to) == origin(last.url) or not _is_same_path(last.url, to):
            return None
        bare = facts.probe("bare")
        if _has_signature(to) or leads_to_login(to) or (_host(to) != _host(last.url) and bare and bare.is_refused):
            return None
        kept = _step_of_httpx(last.url, to)
        return self.found(
            Certainty.LIKELY,
            f"the server redirects {_step(last.url, to)} ({last.status} to {_shown(to)}), and clients do not send "
            "the credential there",
            [
                f"{last.status}, Location: {_shown(to)}",
                "the same without the credential: it was not looked at before the redirect"
                if is_alike(last, bare)
                else None,
            ],
            ["httpx itself keeps Authorization on this one step; others do not, and the first went unencrypted"]
            if kept
            else [],
            remedy=_remedy(last.url, to),
        )


class LoginPage(Cause):
    """A server for browsers sends whoever has no session to the place where one begins."""

    id = "login-page"
    title = "The server takes the request for a browser without a session, and shows its login page"
    remedy = (
        "send what says that no browser asks: the credential this server wants, Accept: application/json, "
        "X-Requested-With: XMLHttpRequest; or ask for the API's own URL, which is not the site's"
    )
    reference = "RFC 9110 §15.5.2: what wants a credential answers 401"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        walk = _walk(facts)
        if not walk or leads_to_login(walk[0].url):
            return None
        last = walk[-1]
        sent_away = next((one for one in walk if leads_to_login(one.location)), None)
        if sent_away is not None and _begins_login(walk[0].url, sent_away.location):
            return None
        if sent_away is not None and (last.location is not None or _is_at_login(last) or last.is_refused):
            return self._redirected(facts, sent_away, last)
        bare = facts.probe("bare")
        if last.is_accepted and is_login_page(last) and (is_login_page(bare) or _wants_json(last)):
            same = is_login_page(bare)
            return self.found(
                Certainty.CERTAIN if same else Certainty.LIKELY,
                f"the answer is {last.status}, and a login page: the credential was not looked at",
                [
                    "the body is a page with a field for a password",
                    "it is the same without the credential" if same else None,
                ],
            )
        return None

    def _redirected(self, facts: Facts, sent_away: Exchange, last: Exchange) -> Finding | None:
        had, has = (credentials_of(one.url, one.sent.pairs) for one in (facts.asked or sent_away, sent_away))
        if had and not has:
            return None  # it was lost before: `LostCredential` tells where
        bare = facts.probe("bare")
        same = bare is not None and leads_to_login(bare.location)
        shows = is_login_page(last)
        return self.found(
            Certainty.CERTAIN if same or shows else Certainty.LIKELY,
            f"the server sends the request to its login page ({sent_away.status} to {_shown(sent_away.location or '')})"
            + ("" if had else ", and no credential was sent"),
            [
                f"{sent_away.status}, Location: {_shown(sent_away.location or '')}",
                "it does so without the credential too" if same and had else None,
                "what is there asks for a password" if shows else None,
            ],
        )


class RedirectLoop(Cause):
    """The redirects lead back to where they began."""

    id = "redirect-loop"
    title = "The redirects lead in a circle"
    remedy = (
        "look which two disagree: a proxy that ends TLS and an application that wants https, or two rules about the "
        "slash; a server that sets a cookie on each round wants it back (cookies= on the client)"
    )
    reference = "RFC 9110 §15.4"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        walk = _walk(facts)
        to = walk[-1].location if walk and walk[-1].method in {"GET", "HEAD"} else None
        if to is None:
            return None
        been = [_without_query(one.url) for one in walk]
        is_circle = to.partition("#")[0] in {one.url.partition("#")[0] for one in walk}
        if not is_circle and been.count(_without_query(to)) < 3:
            return None
        cookie = next((one for one in walk if one.received.get("Set-Cookie")), None)
        return self.found(
            Certainty.CERTAIN if is_circle else Certainty.LIKELY,
            f"the redirects lead in a circle: after {len(walk)} of them back to {_shown(to)}",
            [
                *(f"{one.status} from {_shown(one.url)} to {_shown(one.location or '')}" for one in walk[-3:]),
                "the server sets a cookie on the way, and does not get it back" if cookie is not None else None,
            ],
        )


class BecameGet(Cause):
    """301, 302 and 303 turn a POST into a GET without its body."""

    id = "redirect-became-get"
    title = "A redirect turned a POST into a GET, without the body"
    remedy = "send the request to the final URL at once; a server that means it to be sent again says 307 or 308"
    reference = "RFC 9110 §15.4.2, §15.4.3"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        walk = _walk(facts)
        for at, one in enumerate(walk):
            to = one.location
            if one.method in {"GET", "HEAD", "OPTIONS"} or one.status not in {301, 302} or to is None:
                continue
            if not _is_same_path(one.url, to) or one.url == to:
                continue  # leading to a page that shows what became of a POST is what 302 is used for
            after = walk[at + 1] if at + 1 < len(walk) else None
            if after is not None and after.method == one.method:
                continue
            return self.found(
                Certainty.LIKELY if after is None else Certainty.CERTAIN,
                f"the {one.method} is redirected {_step(one.url, to)} with {one.status}, and becomes a GET on the way",
                [
                    f"{one.status}, Location: {_shown(to)}",
                    None if after is None else f"{after.method} was sent there, and the answer is {walk[-1].status}",
                ],
            )
        return None


def _walk(facts: Facts) -> list[Exchange]:
    """The request, and the redirects that were followed for it."""
    return [one for one in facts.exchanges if one.role in {"asked", "hop"} and one.status]


def _is_at_login(exchange: Exchange) -> bool:
    if is_login_page(exchange) or leads_to_login(exchange.location):
        return True
    return leads_to_login(exchange.url) and not (exchange.is_accepted and not exchange.is_html)  # JSON is no page


def _begins_login(url: str, to: str | None) -> bool:
    """Whether whoever asked for `url` wants to be sent to log in: /oauth/connect leads to an authorization request."""
    return _STARTS.search(_path(url).lower()) is not None and "response_type=" in (to or "")


def _wants_json(exchange: Exchange) -> bool:
    return "json" in (exchange.sent.get("Accept") or "").lower()


def _has_signature(url: str) -> bool:
    """The place it leads to has a credential of its own in its query, as presigned URLs have."""
    try:
        names = [name.lower() for name, _ in parse_qsl(urlsplit(url).query, max_num_fields=200)]
    except ValueError:
        return False
    return any(name.endswith(_SIGNATURES) for name in names)


def _is_same_path(url: str, other: str) -> bool:
    one, another = (_path(each).rstrip("/") for each in (url, other))
    return one == another


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return url


def _without_query(url: str) -> str:
    return url.partition("#")[0].partition("?")[0]


def _host(url: str) -> str:
    return origin(url)[1]


def _shown(url: str) -> str:
    return without_secrets(url)


def _in_words(place: str) -> str:
    if place == "Cookie":
        return "the cookie"
    return f"the parameter {place[1:]}" if place.startswith("?") else place


def _step(url: str, to: str) -> str:
    """How the place it leads to differs, in words."""
    (scheme, host, port), (new_scheme, new_host, new_port) = origin(url), origin(to)
    if scheme != new_scheme:
        return f"from {scheme} to {new_scheme}"
    if host != new_host:
        return f"from {host} to {new_host}"
    if port != new_port:
        return f"from port {port} to port {new_port}"
    return "to the same path with another slash" if _is_same_path(url, to) else "to another path"


def _step_of_httpx(url: str, to: str) -> bool:
    """From http to https on the default ports: httpx keeps `Authorization` there."""
    return origin(url) == ("http", _host(to), 80) and origin(to) == ("https", _host(url), 443)


def _remedy(url: str, to: str) -> str | None:
    if origin(url)[0] == "https" and origin(to)[0] == "http" and _host(url) == _host(to):
        return _BEHIND
    return _UPGRADE if origin(url)[0] == "http" and origin(to)[0] == "https" else None


CAUSES: tuple[Cause, ...] = (LostCredential(), LoginPage(), RedirectLoop(), BecameGet())
