"""What several causes ask of an answer: is it the same as another, is it about the credential, is it a login page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from ._facts import Exchange, Facts

__all__ = [
    "KEY",
    "KEY_NOT_GOOD",
    "NOTHING_SENT",
    "NOT_ALLOWED",
    "NOT_GOOD",
    "WANTS_COOKIE",
    "is_alike",
    "is_login_page",
    "is_refused_in_words",
    "is_same_as_bare",
    "leads_to_login",
    "no_good",
    "says",
    "texts",
]

NOTHING_SENT = (
    r"\b(missing|no|lacks?|without|absent|empty)\W+((an?|any|the|your|valid|required|bearer|access|api|request|http|jwt|oauth"
    r"|oauth2|security|user|authori[sz]ation|authentication)\W+){0,4}(auth\w*|token|credentials?|jwt|bearer|key)\b"
    r"|\b(auth\w*|token|credentials?|jwt|bearer|header|key)\W+((is|are|was|were|has|have|been|the|this|in|from|and"
    r"|request|headers?|value|field|token|credentials?)\W+){0,5}"
    r"(missing|not (been )?(provided|present|supplied|included|sent|set|given)|required|absent|empty)\b"
    r"|\bnot authenticated\b|\bcredentials were not provided\b|\bfull authentication is required\b"
)
"""What a server says that saw no credential."""

NOT_GOOD = (
    r"\b(invalid|expired|malformed|revoked|bad|incorrect|unknown|unrecogni[sz]ed)\W+(\w+\W+){0,3}"
    r"(auth\w*|token|credentials?|jwt|bearer|api\W?key|session|signature|password)\b"
    r"|\b(auth\w*|token|credentials?|jwt|api\W?key|session|signature|password)\W+(\w+\W+){0,4}"
    r"(invalid|expired|malformed|revoked|not valid|incorrect|failed|timed out)\b"
    r"|\binvalid_token\b|\btoken_expired\b|\bplease (log|sign) ?in\b"
    r"|\b(unable|failed) to authenticate\b|\bAuthenticationFailed\b"
)
"""What a server says that saw one, and did not like it."""

BAD = (
    r"\b(?:invalid|incorrect|wrong|unknown|bad|expired|disabled|deactivated|revoked|inactive|deleted|unrecogni[sz]ed)\b"
)
NOT = r"\b(?:not|no longer|isn'?t|doesn'?t)\b.{0,20}(?:found|valid|exist|active|recogni[sz]ed|correct|known|match)"


def no_good(about: str) -> str:
    """A pattern: `about`, and that it is no good, in this order or the other."""
    return rf"(?:{BAD}.{{0,30}}(?:{about}))|(?:(?:{about}).{{0,30}}(?:{BAD}|{NOT}))"


KEY = r"\b(?:api.?)?keys?\b|\bapi.?token\b|\bsubscription.?key\b"
KEY_NOT_GOOD = rf"^(?!.*(?:missing|no api.?key|required|jwks?|sign)).*?(?:{no_good(KEY)})"
"""What a server says that saw an API key, and did not like it."""

NOT_ALLOWED = (
    r"\binsufficient|\bpermissions?\b|\bprivileges?\b|\bnot (allowed|permitted|entitled)\b|\brole\b|\bscopes?\b"
    r"|\bnot authori[sz]ed to\b"
)
"""What a server says that knows who asks, and does not let them."""

WANTS_COOKIE = (
    r"\bcookie\W+(\w+\W+){0,4}(missing|not (set|found|present|sent|provided)|required|expected)"
    r"|\b(missing|no|without|requires?|expected|send)\W+(\w+\W+){0,2}(session\W+)?cookie"
    r"|\bnot logged in\b|\bno (active |valid )?session\b|\bsession (is )?(missing|required)\b"
)
"""What a server says that goes by a session, and got no cookie."""

_TROUBLE = r"(?:invalid|not valid|expired|revoked|malformed|missing|unsupported|incorrect|bad|wrong)"
_OF_A_CREDENTIAL = (
    r"(?:\bauthori[sz]ation\W{0,2}(?:type|header|token|mechanism|field)"
    r"|\b(?:(?:access|bearer|auth|security|provided)\W{0,2}|client\W{1,2})token)\b"
)
_REFUSED_IN_WORDS = re.compile(
    r"\bapi.?key\b.{0,20}\b(?:not valid|invalid|expired|disabled|revoked)"
    r"|\b(?:invalid|incorrect|expired|wrong|unknown)\W{1,2}api.?key\b|API_KEY_INVALID"  # Google
    rf"|{_OF_A_CREDENTIAL}.{{0,20}}\b{_TROUBLE}\b|\b{_TROUBLE}\b.{{0,25}}{_OF_A_CREDENTIAL}"
    r"|\bAuthorizationHeaderMalformed\b|^(?:Expired|Invalid)Token$",  # Amazon S3
    re.IGNORECASE,
)
# A token endpoint says 400 as well, and that is no refusal of what was sent to an API (`_endpoint`).
_OF_A_GRANT = re.compile(
    r"invalid_(grant|client|scope|target)|unauthorized_client|unsupported_grant_type|.*refresh.?token.*", re.IGNORECASE
)

# What is called so and is none: of forms, of lists in pages, and a member of the body.
_OF_ANOTHER = re.compile(
    r"\b[cx]srf|\bpag(?:e|ing|ination)\b|\b(?:in|of) (?:the |your )?(?:body|payload)\b", re.IGNORECASE
)

# Path segments of a page where people log in, and names of the hosts that have nothing else.
_LOGIN_SEGMENT = re.compile(
    r"(log|sign)[-_]?(in|on)(\.\w{2,5})?|authorize|sso|saml2?|adfs|oidc|do-?login|login_?form|openid-connect"
)
_LOGIN_HOST = re.compile(r"(login|signin|sso|accounts?|idp|adfs)\.")
_LOGIN_QUERY = frozenset({"samlrequest", "response_type", "redirect_uri", "returnurl", "wtrealm"})
_PASSWORD = re.compile(r"<input[^>]{0,300}type\s*=\s*[\"']?password", re.IGNORECASE)
_TITLE = re.compile(r"\b(log|sign)[ -]?(in|on)\b|\bauthenticat", re.IGNORECASE)
_CHANGING = re.compile(r"[0-9a-f-]{8,}|\d+", re.IGNORECASE)
_TEXT_LIMIT = 500  # characters of a text that are looked at


def texts(exchange: Exchange | None) -> list[str]:
    """What the server says in words, one by one."""
    return [] if exchange is None else [text[:_TEXT_LIMIT] for _, text in exchange.words]


def says(exchange: Exchange | None, pattern: str) -> bool:
    """Whether the server says what fits `pattern`, in any case."""
    return any(re.search(pattern, text, re.IGNORECASE) for text in texts(exchange))


def is_refused_in_words(exchange: Exchange) -> bool:
    """Whether an answer of 400 is about the key or the Authorization field (Google, Amazon S3, Cloudflare, Vault)."""
    told = texts(exchange)
    if any(_OF_A_GRANT.fullmatch(text) or _OF_ANOTHER.search(text) for text in told):
        return False
    return any(_REFUSED_IN_WORDS.search(text) for text in told)


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
    return [text[:_TEXT_LIMIT] for where, text in exchange.words if where != "the page's text"]


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
