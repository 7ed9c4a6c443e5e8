"""The same credential, spelt as the server wants it: the one probe that turns a guess into a fact."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from ._sent import KEY_FIELDS, SCHEMES

if TYPE_CHECKING:
    from ._facts import Facts
    from ._sent import Sent

__all__ = ["mended", "respelt"]

_QUOTES = "\"'`“”‘’<>"  # noqa: RUF001 - these are what people paste
_KEY_FIELD = re.compile(
    r"\b(x-[a-z0-9-]{0,30}(?:key|token)|api-?key|ocp-apim-subscription-key|private-token)\b", re.IGNORECASE
)
_CANONICAL = {scheme.lower(): scheme for scheme in SCHEMES}


def mended(facts: Facts) -> list[tuple[str, str]] | None:
    """The credential's field as it should have been sent; None if that is how it was, or nobody knows."""
    sent = facts.credential
    if sent is None or sent.place == "Cookie" or sent.place.startswith("?"):
        return None
    elsewhere = _field_wanted(facts)
    if elsewhere is not None and elsewhere.lower() != sent.place.lower():
        return [(elsewhere, respelt(sent.value)[1])]
    if sent.place != "Authorization":
        bearer = any(one.is_scheme("Bearer") for one in facts.challenges)
        return [("Authorization", f"Bearer {respelt(sent.value)[1]}")] if bearer else None
    scheme, value = respelt(sent.raw)
    wanted = [one.scheme for one in facts.challenges if one.scheme.lower() not in {"negotiate", "ntlm", "digest"}]
    if not any(one.lower() == scheme.lower() for one in wanted) and len(wanted) == 1 and wanted[0].lower() != "basic":
        scheme = wanted[0]
    scheme = _CANONICAL.get(scheme.lower(), scheme) or "Bearer"
    field = f"{scheme} {value}"
    return None if not value or field == sent.raw else [("Authorization", field)]


def respelt(raw: str) -> tuple[str, str]:
    """Scheme and credential without what crept in: spaces, quotes, colons, invisible characters, a second scheme."""
    text = "".join(
        char for char in raw if unicodedata.category(char) not in {"Cf", "Cc", "Zl", "Zp"} or char in "\t\r\n"
    )
    words = [word for word in (word.strip(_QUOTES) for word in text.strip(_QUOTES + " \t\r\n").split()) if word]
    if not words:
        return "", ""
    *schemes, value = words
    return (schemes[0].rstrip(":=") if schemes else ""), value


def _field_wanted(facts: Facts) -> str | None:
    """A field for API keys that the server names when it refuses."""
    last = facts.last
    if last is None:
        return None
    texts = [text for _, text in last.words()]
    texts += [value for challenge in last.challenges for value in challenge.params.values()]
    for text in texts:
        found = _KEY_FIELD.search(text)
        if found and (found[1].lower() in KEY_FIELDS or found[1].lower().startswith("x-")):
            return found[1]
    return None


def is_scheme_known(sent: Sent) -> bool:
    """Whether the scheme is one that is registered, or in use."""
    return sent.scheme.lower() in _CANONICAL
