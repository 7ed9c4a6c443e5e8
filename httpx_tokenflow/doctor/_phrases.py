"""What servers say of a credential, as patterns: that they saw none, that it is no good, that it is not enough.

Several rooms look for these. What refuses a token for one reason (its audience, its age) is in `causes._words`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "KEY", "KEY_NOT_GOOD", "NOTHING_SENT", "NOT_ALLOWED", "NOT_GOOD", "TEXT_LIMIT", "WANTS_COOKIE",
    "is_refused_in_words", "key_no_good", "no_good",
]  # fmt: skip

TEXT_LIMIT = 500  # characters of a text that are looked at

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

_BAD = (
    r"\b(?:invalid|incorrect|wrong|unknown|bad|expired|disabled|deactivated|revoked|inactive|deleted|unrecogni[sz]ed)\b"
)
_NOT = r"\b(?:not|no longer|isn'?t|doesn'?t)\b.{0,20}(?:found|valid|exist|active|recogni[sz]ed|correct|known|match)"


def no_good(about: str) -> str:
    """A pattern: `about`, and that it is no good, in this order or the other."""
    return rf"(?:{_BAD}.{{0,30}}(?:{about}))|(?:(?:{about}).{{0,30}}(?:{_BAD}|{_NOT}))"


def key_no_good(about: str) -> str:
    """The same of an API key: not in a text that says that there is none, or speaks of keys that sign."""
    return rf"^(?!(?s:.*)(?:missing|no api.?key|required|jwks?|sign))(?s:.*?)(?:{no_good(about)})"


KEY = r"\b(?:api.?)?keys?\b|\bapi.?token\b|\bsubscription.?key\b"
KEY_NOT_GOOD = key_no_good(KEY)
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
# A token endpoint says 400 as well, and that is no refusal of what was sent to an API (`causes._endpoint`).
_OF_A_GRANT = re.compile(
    r"invalid_(grant|client|scope|target)|unauthorized_client|unsupported_grant_type|.*refresh.?token.*", re.IGNORECASE
)

# What is called so and is none: of forms, of lists in pages, and a member of the body.
_OF_ANOTHER = re.compile(
    r"\b[cx]srf|\bpag(?:e|ing|ination)\b|\b(?:in|of) (?:the |your )?(?:body|payload)\b", re.IGNORECASE
)


def is_refused_in_words(texts: Iterable[str]) -> bool:
    """Whether an answer of 400 is about the key or the Authorization field (Google, Amazon S3, Cloudflare, Vault)."""
    told = [text[:TEXT_LIMIT] for text in texts]
    if any(_OF_A_GRANT.fullmatch(text) or _OF_ANOTHER.search(text) for text in told):
        return False
    return any(_REFUSED_IN_WORDS.search(text) for text in told)
