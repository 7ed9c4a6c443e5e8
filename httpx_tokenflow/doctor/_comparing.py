"""What several causes ask of an answer: what does it say, is it the same as another, is it a login page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from ._phrases import TEXT_LIMIT

if TYPE_CHECKING:
    from ._facts import Exchange, Facts

__all__ = ["is_alike", "is_login_page", "is_same_as_bare", "leads_to_login", "says", "texts"]

# Path segments of a page where people log in, and names of the hosts that have nothing else.
_LOGIN_SEGMENT = re.compile(
    r"(log|sign)[-_]?(in|on)(\.\w{2,5})?|authorize|sso|saml2?|adfs|oidc|do-?login|login_?form|openid-connect"
)
_LOGIN_HOST = re.compile(r"(login|signin|sso|accounts?|idp|adfs)\.")
_LOGIN_QUERY = frozenset({"samlrequest", "response_type", "redirect_uri", "returnurl", "wtrealm"})
_PASSWORD = re.compile(r"<input[^>]{0,300}type\s*=\s*[\"']?password", re.IGNORECASE)
_TITLE = re.compile(r"\b(log|sign)[ -]?(in|on)\b|\bauthenticat", re.IGNORECASE)
_CHANGING = re.compile(r"[0-9a-f-]{8,}|\d+", re.IGNORECASE)


def texts(exchange: Exchange | None) -> list[str]:
    """What the server says in words, one by one."""
    return [] if exchange is None else [text[:TEXT_LIMIT] for _, text in exchange.words]


def says(exchange: Exchange | None, pattern: str) -> bool:
    """Whether the server says what fits `pattern`, in any case."""
    return any(re.search(pattern, text, re.IGNORECASE) for text in texts(exchange))


def is_alike(one: Exchange | None, other: Exchange | None) -> bool:
    """Whether two answers to the same method tell the same, but for numbers and ids."""
    if one is None or other is None or not one.status or one.method != other.method:
        return False
    return _told(one) == _told(other)


def _told(exchange: Exchange) -> tuple[object, ...]:
    asked = [(one.scheme.lower(), one.token68, sorted(one.params.items())) for one in exchange.challenges]
    return exchange.status, exchange.location, asked, [_CHANGING.sub("#", text) for text in _told_shortly(exchange)]


def _told_shortly(exchange: Exchange) -> list[str]:
    """Without the paragraphs of a page, which have more in them than what it tells."""
    return [text[:TEXT_LIMIT] for where, text in exchange.words if where != "the page's text"]


def is_same_as_bare(facts: Facts) -> bool | None:
    """Whether the answer is what somebody without a credential is told; None if nobody has looked."""
    bare = facts.probe("bare")
    if bare is None or facts.last is None or bare.method != facts.last.method:
        return None
    return is_alike(facts.last, bare)


def leads_to_login(url: str | None) -> bool:
    """Whether `url` looks like that of a page where people log in."""
    try:
        parts = urlsplit(url or "")
        query = {name.lower() for name, _ in parse_qsl(parts.query, max_num_fields=100)}
    except ValueError:
        return False
    segments = parts.path.lower().split("/")
    has_segment = any(_LOGIN_SEGMENT.fullmatch(segment) for segment in segments)
    return has_segment or bool(_LOGIN_HOST.match(parts.netloc.lower())) or len(query & _LOGIN_QUERY) > 1


def is_login_page(exchange: Exchange | None) -> bool:
    """Whether the body is a page that asks for a password, and says that it is for that."""
    if exchange is None or not exchange.is_html or not exchange.body:
        return False
    return bool(_PASSWORD.search(exchange.body)) and any(_TITLE.search(text) for text in _told_shortly(exchange))
