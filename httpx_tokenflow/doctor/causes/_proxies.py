"""Who stands on the way: answers in the API's place, wants a credential of its own, drops or changes ours.

Rules.

1. From outside nobody sees what a proxy forwards. That it drops a credential shows only in what the API says: that it
   saw none, or one of another kind. So it is likely at most, and only where the credential was sent as it should be.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._comparing import is_same_as_bare, texts
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._flaws import spelling
from httpx_tokenflow.doctor._gateways import answered_by
from httpx_tokenflow.doctor._mending import field_wanted
from httpx_tokenflow.doctor._phrases import NOT_GOOD, NOTHING_SENT
from httpx_tokenflow.doctor._placeholders import nothing_in

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._sent import Sent

__all__ = ["CAUSES"]

# What servers say of a credential by the name of its scheme, as one that was sent to them.
_OTHER_SCHEME = re.compile(
    r"\b(?:got|received|unsupported|unexpected|unknown|invalid|failed to decode|wrong)\W+(?:\w+\W+){0,4}?"
    r"(?P<scheme>basic|digest|negotiate|ntlm|aws4-hmac-sha256)\b",
    re.IGNORECASE,
)
# A status in words, as web servers have it; and Amazon's, for a path that is not there or a field that is no signature.
_NOTHING_BUT_A_STATUS = r"^\W*(401\W+)?authori[sz]ation required\W*$|missing authentication token|key=value pair"
# "Authentication required" is said of a credential that is no good as well (npm); these are said of none alone.
_SEES_NONE = r"\b(missing|no|not|without|lacks?|absent|empty|anonymous)\b"
_ELSEWHERE = r"api.?key|subscription|\bquery\b|\bparameter\b|\bcookie\b"


class ProxyAuthentication(Cause):
    """A proxy wants a credential of its own."""

    id = "proxy-authentication"
    title = "A proxy on the way wants a credential of its own"
    remedy = (
        "put user and password into the proxy's URL (HTTPS_PROXY=http://user:password@proxy:port, or proxy= on the "
        "client); or leave it aside for this host with NO_PROXY"
    )
    reference = "RFC 9110 §15.5.8, §11.7"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None:
            return None
        failed = last.failure is not None and last.failure.startswith("ProxyError") and "407" in last.failure
        if last.status != 407 and not failed:
            return None
        wanted = ", ".join(value.split(" ", 1)[0] for value in last.received.get_list("Proxy-Authenticate"))
        return self.found(
            Certainty.CERTAIN,
            f"a proxy refuses the request{f', and wants {wanted}' if wanted else ''}: the API has not seen it",
            [
                "the tunnel through the proxy was refused with 407" if failed else "the answer is 407",
                f"Proxy-Authenticate asks for {wanted}" if wanted else None,
                _passed(facts),
            ],
        )


class CaptivePortal(Cause):
    """The network wants somebody to log in first."""

    id = "captive-portal"
    title = "The network (a captive portal) answers, not the API"
    remedy = "open a page in a browser on this machine and log in to the network, then try again"
    reference = "RFC 6585 §6"

    def look(self, facts: Facts) -> Finding | None:
        if facts.status != 511:
            return None
        return self.found(
            Certainty.CERTAIN,
            "the network wants a login before it lets anything pass: the API has not seen the request",
            ["the answer is 511 Network Authentication Required"],
        )


class Blocked(Cause):
    """A firewall keeps the request out, whatever its credential."""

    id = "blocked-on-the-way"
    title = "A firewall, CDN or filter has kept the request out: the API has not seen it"
    remedy = "another token does not help: have whoever runs it let this client, address, path or User-Agent pass"
    reference = "RFC 9110 §15.5.4; custom of the product"

    def look(self, facts: Facts) -> Finding | None:
        gateway = answered_by(facts.last)
        if gateway is None or not gateway.blocks or facts.last is None or facts.last.challenges:
            return None
        alike = is_same_as_bare(facts)
        return self.found(
            Certainty.LIKELY if alike is False else Certainty.CERTAIN,
            f"{gateway.name} has kept the request out with {facts.status}: the API has not seen it",
            [
                f"the answer is {gateway.name}'s own, by its fields or its page",
                "it is the same without the credential" if alike else None,
                _passed(facts),
            ],
            ["without the credential the answer is another"] if alike is False else [],
            remedy=f"{self.remedy}; {gateway.remedy}" if gateway.remedy else None,
        )


class Stripped(Cause):
    """The credential was sent as it should be, and the API says that there was none."""

    id = "authorization-stripped"
    title = "Something on the way drops the credential: it was sent, and the API says that nothing was"
    remedy = (
        "let what is in front of the API pass it: WSGIPassAuthorization On (mod_wsgi), CGIPassAuth On (Apache's CGI), "
        "proxy_set_header Authorization $http_authorization (nginx), an origin request policy with it (CloudFront); "
        "compare what the client logs with what the API logs"
    )
    reference = "RFC 9110 §11.6.2: a proxy must not modify Authorization"

    def look(self, facts: Facts) -> Finding | None:
        sent, last = facts.credential, facts.last
        if sent is None or last is None or sent.place in {"Cookie", "URL"} or sent.place.startswith("?"):
            return None
        if "_" in sent.place or not last.is_refused or not _is_proper(facts, sent):
            return None
        missing = [text for text in texts(last) if _tells_of_nothing(text, sent.place)]
        alike = is_same_as_bare(facts)
        if not missing or alike is False:
            return None
        is_vague = all(not re.search(_SEES_NONE, text, re.IGNORECASE) for text in missing)
        return self.found(
            Certainty.POSSIBLE if is_vague else Certainty.LIKELY,
            f"{sent.place} was sent, and the API says that it got none: something on the way drops it",
            [
                facts.said(re.escape(missing[0])),
                "the answer is the same, word for word, without the credential" if alike else None,
                _passed(facts),
            ],
            ["an API that says so of every token it does not like would look the same"],
        )


class Underscores(Cause):
    """nginx and others drop fields with underscores in their names, and say nothing."""

    id = "underscore-in-field-name"
    title = "The field's name has an underscore, and proxies drop such fields"
    remedy = "send it with hyphens (X-API-Key); or switch on underscores_in_headers (nginx)"
    reference = "nginx, underscores_in_headers; RFC 3875 §4.1.18 is why"

    def look(self, facts: Facts) -> Finding | None:
        sent = next((one for one in facts.credentials if "_" in one.place and not one.place.startswith("?")), None)
        if sent is None or len(facts.credentials) > 1 or is_same_as_bare(facts) is False:
            return None
        return self.found(
            Certainty.LIKELY,
            f"the key was sent in {sent.place}: proxies drop fields with an underscore in their name",
            [
                f"the field's name is {sent.place}",
                "the answer is the same without it" if is_same_as_bare(facts) else None,
                facts.said(NOTHING_SENT),
            ],
        )


class Rewritten(Cause):
    """The API speaks of a credential that was not sent."""

    id = "authorization-rewritten"
    title = "Something on the way puts another credential in place of ours"
    remedy = (
        "look for what sets Authorization in front of the API: proxy_set_header or auth_basic (nginx), RequestHeader "
        "set (Apache), a plugin that adds a service's own credential, user and password in the upstream's URL"
    )
    reference = "RFC 9110 §11.6.2: a proxy must not modify Authorization"

    def look(self, facts: Facts) -> Finding | None:
        sent, last = facts.credential, facts.last
        if sent is None or last is None or sent.place != "Authorization" or not sent.scheme or not last.is_refused:
            return None
        for text in texts(last):
            told = _OTHER_SCHEME.search(text)
            if told is None or sent.is_scheme(told["scheme"]):
                continue
            if any(one.is_scheme(told["scheme"]) for one in facts.challenges):
                continue  # it wants that scheme, and says so: it need not have seen it
            return self.found(
                Certainty.LIKELY,
                f"{sent.scheme} was sent, and the API speaks of a {told['scheme'].capitalize()} credential: "
                "something on the way has put another in its place",
                [facts.said(re.escape(text)), f"the request has Authorization: {sent.scheme} …", _passed(facts)],
            )
        return None


def _is_proper(facts: Facts, sent: Sent) -> bool:
    """Nothing is amiss with how and where it was sent, as far as the server says what it wants."""
    retried, elsewhere = facts.probe("mended"), field_wanted(facts)
    if (
        not sent.value.strip()
        or nothing_in(sent)
        or spelling(sent).flaws
        or (retried is not None and not retried.is_refused)
    ):
        return False
    if elsewhere is not None and elsewhere.lower() != sent.place.lower():
        return False
    wanted = facts.challenges
    return not wanted or (sent.place == "Authorization" and any(sent.is_scheme(one.scheme) for one in wanted))


def _tells_of_nothing(text: str, place: str) -> bool:
    if re.search(_NOTHING_BUT_A_STATUS, text, re.IGNORECASE):
        return False
    if re.search(_ELSEWHERE, text, re.IGNORECASE) and place == "Authorization":
        return False
    return bool(re.search(NOTHING_SENT, text, re.IGNORECASE)) and not re.search(NOT_GOOD, text, re.IGNORECASE)


def _passed(facts: Facts) -> str | None:
    """Who is on the way, by the answer's own account (RFC 9110 §7.6.3)."""
    if facts.last is None:
        return None
    told = [value for name in ("Via", "Server") for value in facts.last.received.get_list(name)]
    return f"on the way: {facts.sieve.sift(', '.join(told))[:200]}" if told else None


CAUSES: tuple[Cause, ...] = (
    ProxyAuthentication(),
    CaptivePortal(),
    Blocked(),
    Underscores(),
    Rewritten(),
    Stripped(),
)
