"""The credentials that a request carries: in which field, with which scheme, spelt how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KEY_FIELDS", "SCHEMES", "Sent", "credentials_of"]

SCHEMES = (
    "Basic", "Bearer", "Digest", "DPoP", "GNAP", "HOBA", "Mutual", "Negotiate", "NTLM", "OAuth", "PrivateToken",
    "SCRAM-SHA-256", "vapid", "ApiKey", "Api-Key", "Token", "Key", "AWS4-HMAC-SHA256", "SharedKey",
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

_QUERY = frozenset({"access_token", "api_key", "apikey", "api-key", "key", "token", "auth", "auth_token", "sig"})


@dataclass(frozen=True, slots=True)
class Sent:
    """One credential as it was sent.

    Args:
        place: "Authorization", another field's name, "Cookie", or "?" and the name of a query parameter.
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
    """Every credential in a request's header fields and in the query of its URL."""
    found: list[Sent] = []
    for name, raw in fields:
        lower = name.lower()
        if lower == "authorization":
            found.append(_in_authorization(raw))
        elif lower == "cookie" or lower in KEY_FIELDS:
            found.append(Sent("Cookie" if lower == "cookie" else name, raw, "", raw))
    try:
        query = urlsplit(url).query
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        pairs = []
    found += [Sent(f"?{name}", raw, "", raw) for name, raw in pairs if name.lower() in _QUERY]
    return tuple(found)


def _in_authorization(raw: str) -> Sent:
    """The scheme is a word that something follows, or a known one that nothing does (RFC 9110 §11.4)."""
    word, space, rest = raw.lstrip().partition(" ")
    if not space and word.lower() not in {scheme.lower() for scheme in SCHEMES}:
        return Sent("Authorization", raw, "", raw)
    return Sent("Authorization", raw, word, rest)
