"""No secret leaves the doctor: every text that it gives goes through a sieve.

Rules.

1. A secret is every credential that was sent, whole and in its parts, and in the spellings of a form, a URL and JSON;
   every cookie that was received; what the person gave as a secret; and whatever looks like a JWT.
2. The claims of a token are no secret: they are what the doctor is for. Its signature is.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from httpx_tokenflow._answers import forms_of

from ._sent import NOTHING, SCHEMES, credentials_of, is_key_field, nearest_scheme

if TYPE_CHECKING:
    from ._facts import Facts

__all__ = ["Sieve", "without_secrets"]

_SHORT = 4  # a secret that has no more characters than that is a word, and hiding it would hide the text
_JWT = re.compile(r"\bey[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){0,3}")
_WORDS = frozenset(scheme.lower() for scheme in SCHEMES)
_LONG_FIELDS = frozenset({"cookie", "authorization", "proxy-authorization", "dpop"})


class Sieve:
    """Takes secrets out of texts.

    Args:
        secrets: what no text may show.
    """

    def __init__(self, secrets: frozenset[str]) -> None:
        forms = {form for secret in secrets if len(secret) > _SHORT for form in forms_of(secret)}
        # One may be a part of another: the longest first.
        self._forms = sorted((form for form in forms if len(form) > _SHORT), key=len, reverse=True)

    @classmethod
    def of(cls, facts: Facts) -> Sieve:
        """The sieve for all that `facts` know."""
        secrets = set(facts.secrets)
        if facts.carried is not None:
            secrets |= _parts(facts.carried.raw)
        for exchange in facts.exchanges:
            for sent in credentials_of(exchange.url, exchange.sent.pairs):
                secrets |= _parts(sent.raw)
            for name, value in exchange.sent:
                if name.lower() in _LONG_FIELDS or is_key_field(name):
                    secrets |= _parts(value)
            for cookie in exchange.received.get_list("Set-Cookie"):
                secrets.add(cookie.partition(";")[0].partition("=")[2].strip())
        return cls(frozenset(secrets))

    def sift(self, text: str) -> str:
        """`text` without secrets, and printable."""
        for form in self._forms:
            text = text.replace(form, "***")
        text = _JWT.sub("***", text)
        if text.isprintable():
            return text
        return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def without_secrets(url: str) -> str:
    """`url` as it may be shown: without user, password, and the values of its query."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return "a URL that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(f"{name}=…" for name, _ in pairs)
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def _parts(value: str) -> set[str]:
    """A credential's parts that are secrets by themselves."""
    found = {value, value.strip(), *(word.strip("\"'<>,;") for word in value.split())}
    scheme, space, rest = value.strip().partition(" ")
    if space and rest.strip() and nearest_scheme(scheme) is not None:
        found.discard(scheme.strip("\"'<>,;"))  # a scheme, or a word that was meant to be one, is none
    for pair in value.split(";"):  # cookies
        found.add(pair.partition("=")[2].strip())
    for word in list(found):
        try:
            decoded = base64.b64decode(word, validate=True).decode()
        except (ValueError, binascii.Error):
            continue
        if ":" in decoded:  # Basic, RFC 7617 §2
            found |= {decoded, decoded.partition(":")[2]}
    return {one for one in found if one.lower() not in _WORDS and one.lower() not in NOTHING}
