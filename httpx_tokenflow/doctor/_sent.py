"""The credentials that a request carries: in which field, with which scheme, spelt how."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "KEY_FIELDS", "NOTHING", "SCHEMES", "Sent", "basic", "canonical", "credentials_of", "is_harmless", "is_key_field",
    "is_key_parameter", "is_misspelt", "nearest_scheme",
]  # fmt: skip

SCHEMES = (
    "Basic", "Bearer", "Concealed", "Digest", "DPoP", "GNAP", "HOBA", "Mutual", "Negotiate", "NTLM", "OAuth",
    "PrivateToken", "SCRAM-SHA-1", "SCRAM-SHA-256", "vapid",
    "ApiKey", "API-Key", "Token", "Key", "JWT", "AWS", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "SharedKey",
    "SharedKeyLite", "SharedAccessSignature", "Hawk", "Signature", "MAC", "SSWS", "GenieKey", "Splunk", "Bot",
    "DeepL-Auth-Key", "Klaviyo-API-Key", "KakaoAK", "sso-key", "Zoho-oauthtoken", "GoogleLogin", "NLAuth", "Kerberos",
)  # fmt: skip
"""The schemes of the IANA registry (RFC 9110 §16.4.1), and those that are in use without."""

KEY_FIELDS = frozenset(
    {
        "x-api-key", "api-key", "apikey", "x-apikey", "x-auth-token", "x-access-token", "x-token", "private-token",
        "x-goog-api-key", "ocp-apim-subscription-key", "x-functions-key", "x-subscription-token", "x-rapidapi-key",
        "dd-api-key", "x-vault-token", "x-figma-token", "x-shopify-access-token", "circle-token", "job-token",
    }
)  # fmt: skip
"""Fields in which APIs take a key, in lower case."""

NOTHING = frozenset({"undefined", "null", "none", "nil", "nan", "[object object]", "[object promise]"})
"""What programming languages write for a variable that has no value, in lower case."""

# Whole words of a name: X-Acme-Secret, CB-ACCESS-SIGN, AccessKey, X-Authorization, private_token, subscription-key.
_KEY_NAME = re.compile(
    r"(?:^|[-.])(?:(?:api|app|access|auth|client|secret|private|session|user|subscription|hapi|id|refresh)*"
    r"(?:key|token|secret|password|passwd|pwd|passphrase|passcode|sign|signature|session|sessionid|credentials?|jwt)"
    r"|auth(?:entication|enticate|ori[sz]ation|n|z)?|session-id|sessid|jsessionid|phpsessid|bearer|otp|app-?id)(?:$|[-.])"
)
_NO_KEY_NAME = re.compile(
    r"csrf|xsrf|idempotency|websocket|continuation|page|paging|next|cursor|sync|^(?:x-)?request-(?!token)|trace"
    r"|sort|partition|primary|foreign|public|cache-key|surrogate|^proxy-auth|sign-?(?:in|up)|header|algorithm|expires"
    r"|token-type|version|credential-provider|(?:amz|goog)-credential|key-?id$|^sec-(?!websocket-protocol)"
)
# What is a credential in a query, and would be none as a field.
_QUERY = frozenset({"code", "sig", "ticket", "sid", "appkey", "apitoken", "hmac"})
# A field that no credential is in: of HTTP itself, of browsers, of those who follow requests through a system.
_HARMLESS = frozenset(
    {
        "user-agent", "host", "content-type", "content-length", "content-language", "content-encoding",
        "content-disposition", "content-md5", "origin", "referer", "connection", "keep-alive", "cache-control",
        "pragma", "te", "trailer", "transfer-encoding", "upgrade", "upgrade-insecure-requests", "range", "date",
        "expect", "via", "forwarded", "dnt", "priority", "prefer", "max-forwards", "x-requested-with", "x-request-id",
        "request-id", "x-correlation-id", "correlation-id", "traceparent", "tracestate", "idempotency-key",
        "x-idempotency-key", "x-api-version", "api-version", "x-github-api-version", "anthropic-version", "x-amz-date",
        "x-amz-content-sha256", "x-amz-target", "x-http-method-override", "x-real-ip", "last-event-id",
    }
)  # fmt: skip
_HARMLESS_BEGIN = ("accept", "if-", "x-forwarded-", "access-control-request-", "x-b3-")
_MEANT = "authorization"
_NOT_MEANT = frozenset({"x-authorization", "proxy-authorization", _MEANT})  # fields that are in use
_OTHERWISE = frozenset({"authentication", "http-authorization", "authorisation-header", "authorization-header"})
_NAME_LIMIT = 100  # characters of a name that is looked at
_LETTERS = 2  # that may be amiss in a misspelt name
_LONG = 16  # characters of a parameter's value that may be a credential
_CANONICAL = {scheme.lower(): scheme for scheme in SCHEMES}
_MISSPELT = ("Bearer", "Basic", "Digest", "Negotiate", "Token")  # what people type by hand


@dataclass(frozen=True, slots=True)
class Sent:
    """One credential as it was sent.

    Args:
        place: "Authorization", another field's name, "Cookie", "?" and the name of a query parameter, or "URL" for
            user and password in front of the host.
        raw: the whole value.
        scheme: its first word, if a scheme can be there and one is; else empty.
        value: what follows the scheme and one space; the whole value where there is no scheme.
    """

    place: str
    raw: str = field(repr=False)
    scheme: str = ""
    value: str = field(default="", repr=False)

    def __repr__(self) -> str:
        return f"<Sent in {self.place}{f', {self.scheme}' if canonical(self.scheme) else ''}>"

    def is_scheme(self, scheme: str) -> bool:
        """Whether it was sent with that scheme, in any spelling (RFC 9110 §11.1)."""
        return self.scheme.lower() == scheme.lower()


def credentials_of(url: str, fields: Iterable[tuple[str, str]]) -> tuple[Sent, ...]:
    """Every credential in a request's header fields and in its URL."""
    found: list[Sent] = []
    for name, raw in fields:
        lower = name.lower()
        if lower == "authorization":
            found.append(_in_authorization(raw))
        elif is_misspelt(lower):
            found.append(replace(_in_authorization(raw), place=name))
        elif lower == "cookie" or is_key_field(lower):
            found.append(Sent("Cookie" if lower == "cookie" else name, raw, "", raw))
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return tuple(found)
    found += [Sent(f"?{name}", raw, "", raw) for name, raw in pairs if is_key_parameter(name)]
    if "@" in parts.netloc:
        person = unquote(parts.netloc.rpartition("@")[0])
        found.append(Sent("URL", person, "Basic", base64.b64encode(person.encode("utf-8", "replace")).decode()))
    return tuple(found)


def is_key_field(name: str) -> bool:
    """Whether a field of that name is one that a key or token is sent in: a known one, or one that is called so."""
    lower = name.lower().replace("_", "-")  # as variables of the environment have it
    return lower in KEY_FIELDS or (lower != _MEANT and _is_called_so(name))


def is_key_parameter(name: str) -> bool:
    """Whether a parameter of that name in a query is one that a key, a token or a signature is sent in."""
    return name.lower() in _QUERY or _is_called_so(name)


def _is_called_so(name: str) -> bool:
    """X-Acme-Secret, CB-ACCESS-KEY, apiSecretAccessKey, X-Amz-Signature: the words of a name tell."""
    if len(name) > _NAME_LIMIT:
        return False
    lower = name.lower().replace("_", "-")
    return _KEY_NAME.search(lower) is not None and not _NO_KEY_NAME.search(lower)


def is_misspelt(name: str) -> bool:
    """Whether a field of that name was meant to be `Authorization`: two letters amiss at most, or another word."""
    lower = name.lower().replace("_", "-")
    if lower in _OTHERWISE:
        return True
    return (
        lower not in _NOT_MEANT and abs(len(lower) - len(_MEANT)) <= _LETTERS and _distance(lower, _MEANT) <= _LETTERS
    )


def is_harmless(name: str, value: str = "") -> bool:
    """Whether nobody sends a credential there: a field of HTTP itself, a parameter ("?…") with a plain value.

    A parameter is told by its value, since names of parameters are anybody's: digits and letters, 16 or more, may be
    one; so may a value that has no name ("?" alone).
    """
    if not name.startswith("?"):
        lower = name.lower()
        begins = lower.startswith(_HARMLESS_BEGIN) or (lower.startswith("sec-") and lower != "sec-websocket-protocol")
        return lower in _HARMLESS or begins
    if is_key_parameter(name[1:]):
        return False
    looks = len(value) >= _LONG and re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return not looks or "://" in value or re.match(r"\d{4}-\d\d-\d\dT", value) is not None


def canonical(scheme: str) -> str | None:
    """The scheme as its own specification writes it; None if it is none that is known."""
    return _CANONICAL.get(scheme.lower())


def nearest_scheme(word: str) -> str | None:
    """The scheme that `word` is, or was meant to be: two letters amiss at most; None if it is near to none."""
    bare = word.strip(":=,;'\"").lower()
    if bare in _CANONICAL:
        return _CANONICAL[bare]
    if not 4 <= len(bare) <= 12:
        return None
    near = sorted((_distance(bare, scheme.lower()), scheme) for scheme in _MISSPELT)
    letters, scheme = near[0]
    is_long = scheme in {"Bearer", "Negotiate"} and bare[0] == scheme[0].lower()
    return scheme if letters <= (2 if is_long else 1) else None


def _distance(one: str, other: str) -> int:
    """How many letters are to be added, left out, changed, or swapped with their neighbour (Damerau, Levenshtein)."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def sent_in(place: str, raw: str) -> Sent:
    """A credential that was sent in a field, "Cookie", or a parameter of the query ("?" and its name)."""
    return _in_authorization(raw) if place.lower() == "authorization" else Sent(place, raw, "", raw)


def _in_authorization(raw: str) -> Sent:
    """The scheme is a word that something follows, or a known one that nothing does (RFC 9110 §11.4)."""
    word, space, rest = raw.lstrip().partition(" ")
    if not space and word.lower() not in _CANONICAL:
        return Sent("Authorization", raw, "", raw)
    return Sent("Authorization", raw, word, rest)


def basic(value: str) -> str | None:
    """User and password of a Basic credential, as UTF-8 or Latin-1 (RFC 7617 §2); None if it is no base64."""
    try:
        raw = base64.b64decode(value.translate({45: 43, 95: 47}) + "=" * (-len(value) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
