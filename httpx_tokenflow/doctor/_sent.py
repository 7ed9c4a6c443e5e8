"""The credentials that a request carries: in which field, with which scheme, spelt how."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "KEY_FIELDS", "NOTHING", "SCHEMES", "Sent", "canonical", "credentials_of", "is_key_field", "nearest_scheme",
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

_KEY_FIELD = re.compile(
    r"(x-)?([a-z0-9]+-)*(api-?key|apitoken|api-token|auth-?token|access-?token|secret)|x-.*(key|token)"
)
_NO_KEY_FIELD = re.compile(r"csrf|xsrf|idempotency|websocket|continuation|page|sync|request-|trace")
_QUERY = frozenset({"access_token", "api_key", "apikey", "api-key", "key", "token", "auth", "auth_token", "sig"})
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
        elif lower == "cookie" or is_key_field(lower):
            found.append(Sent("Cookie" if lower == "cookie" else name, raw, "", raw))
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return tuple(found)
    found += [Sent(f"?{name}", raw, "", raw) for name, raw in pairs if name.lower() in _QUERY]
    if "@" in parts.netloc:
        person = unquote(parts.netloc.rpartition("@")[0])
        found.append(Sent("URL", person, "Basic", base64.b64encode(person.encode("utf-8", "replace")).decode()))
    return tuple(found)


def is_key_field(name: str) -> bool:
    """Whether a field of that name is one that a key or token is sent in: a known one, or one that is called so."""
    lower = name.lower().replace("_", "-")  # as variables of the environment have it
    return lower in KEY_FIELDS or (_KEY_FIELD.fullmatch(lower) is not None and not _NO_KEY_FIELD.search(lower))


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
