"""The same credential, spelt as the server wants it: the one probe that turns a guess into a fact.

Rules.

1. It is the same credential, to the same origin: what is mended is its spelling, its scheme, or the field it is in.
2. Something must speak for it: a flaw, what the server says, or that it says nothing and there are two usual ways.
3. A scheme that needs more than a token (Basic, Digest, Negotiate, DPoP, a signature) is not made up.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._flaws import spelling
from ._placeholders import nothing_in
from ._readings import read_token
from ._sent import KEY_FIELDS, basic, canonical, credentials_of, is_key_field

if TYPE_CHECKING:
    from ._facts import Exchange, Facts
    from ._flaws import Spelling
    from ._sent import Sent

__all__ = ["Trial", "field_wanted", "mended", "trial"]

_KEY_FIELD = re.compile(
    r"(?<![\w-])(x-[a-z0-9-]{0,30}(?:key|token)|api-?key|ocp-apim-subscription-key|private-token|[a-z]+-api-key)(?![\w-])",
    re.IGNORECASE,
)
_SAID = (
    (r"no api key found in request", "apikey"),  # Kong
    (r"(missing|invalid) subscription key", "Ocp-Apim-Subscription-Key"),  # Azure API Management
    (r"missing a valid api key", "X-Goog-Api-Key"),  # Google
    (r"missing rapidapi application key", "X-RapidAPI-Key"),
)
"""What gateways say that do not name their field."""

_LET_IN = frozenset({404, 405, 406, 409, 410, 415, 422})
_ELABORATE = frozenset(
    {"basic", "digest", "negotiate", "ntlm", "kerberos", "dpop", "hoba", "mutual", "gnap", "hawk", "oauth", "signature"}
)


def mended(facts: Facts) -> list[tuple[str, str]] | None:
    """The credential's field as it should have been sent; None if that is how it was, or nobody knows."""
    sent = facts.credential
    if sent is None or sent.place in {"Cookie", "URL"} or nothing_in(sent) is not None:
        return None
    read = spelling(sent)
    if not read.value:
        return None
    elsewhere = field_wanted(facts)
    if elsewhere is not None and elsewhere.lower() != sent.place.lower() and read.scheme != "Basic":
        return [(elsewhere, read.value)]
    pair = _in_authorization(facts, read) if sent.place == "Authorization" else _from_elsewhere(facts, read)
    is_as_sent = pair is not None and pair == (sent.place, sent.raw)
    # RFC 6750 §2: one credential, in one way. Of several, the first alone may be good.
    return None if pair is None or (is_as_sent and not _is_one_of_several(facts)) else [pair]


def _in_authorization(facts: Facts, read: Spelling) -> tuple[str, str] | None:
    scheme = read.scheme
    wanted = [one.scheme for one in facts.challenges]
    simple = [one for one in wanted if one.lower() not in _ELABORATE and not one.lower().startswith("aws4")]
    if not scheme and not simple and any(one.lower() == "basic" for one in wanted) and ":" in read.value:
        return ("Authorization", f"Basic {base64.b64encode(read.value.encode('utf-8', 'replace')).decode()}")
    is_wanted = any(one.lower() == scheme.lower() for one in wanted)
    if simple and not is_wanted and (scheme != "Basic" or basic(read.value) is None):
        scheme = canonical(simple[0]) or simple[0]
    if not read.flaws and not wanted and scheme == "Bearer" and _is_silent(facts) and not _is_jwt(read.value):
        return ("X-API-Key", read.value)
    return ("Authorization", f"{scheme or 'Bearer'} {read.value}")


def _from_elsewhere(facts: Facts, read: Spelling) -> tuple[str, str] | None:
    """A key in a field of its own, or in the query."""
    if any(one.is_scheme("Bearer") for one in facts.challenges):
        return ("Authorization", f"Bearer {read.value}")
    if read.flaws and not read.place.startswith("?"):
        return (read.place, read.value)
    is_hinted = facts.said(r"\bbearer\b|authorization (header|field)") is not None
    return ("Authorization", f"Bearer {read.value}") if is_hinted or _is_silent(facts) else None


def _is_silent(facts: Facts) -> bool:
    """The server refuses, and names no scheme and no field: what it wants can only be tried."""
    return facts.last is not None and facts.last.status in {401, 403} and not facts.challenges


def _is_jwt(value: str) -> bool:
    return read_token(value).kind != "opaque"


def _is_one_of_several(facts: Facts) -> bool:
    return sum(one.place in {"Authorization", "?access_token"} for one in facts.credentials) > 1


def field_wanted(facts: Facts) -> str | None:
    """A field for API keys that the server names when it refuses, or when nothing is sent."""
    for last in (facts.last, facts.probe("bare")):
        if last is None or last.is_accepted:
            continue
        texts = [text for _, text in last.words]
        texts += [value for challenge in last.challenges for value in challenge.params.values()]
        texts += [challenge.scheme for challenge in last.challenges if challenge.scheme.lower().startswith("x-")]
        for text in texts:
            found = _KEY_FIELD.search(text)
            if found and (found[1].lower() in KEY_FIELDS or (is_key_field(found[1]) and "-" in found[1])):
                return found[1]
            for pattern, name in _SAID:
                if re.search(pattern, text, re.IGNORECASE):
                    return name
    return None


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of the mended credential.

    Args:
        exchange: with what was answered.
        sent: the credential as it was sent then.
        is_accepted: that was it.
        is_other: it was refused as well, but in another way: what is amiss now is something else.
    """

    exchange: Exchange
    sent: Sent
    is_accepted: bool
    is_other: bool


def trial(facts: Facts) -> Trial | None:
    """The probe `mended`, if it was sent and says something."""
    probe, last = facts.probe("mended"), facts.last
    if probe is None or last is None or probe.status >= 500:
        return None
    before = {(one.place, one.raw) for one in facts.credentials if one.place != "Authorization"}
    several = [one for one in credentials_of(probe.url, probe.sent.pairs) if (one.place, one.raw) not in before]
    sent = next((one for one in several if one.place == "Authorization"), several[0] if several else None)
    if sent is None:
        return None
    # What is not found, or not allowed on it, was let in first; but not where everybody is let in.
    bare = facts.probe("bare")
    is_open = bare is not None and bare.status == probe.status
    is_accepted = not is_open and probe.status != last.status and (probe.is_accepted or probe.status in _LET_IN)
    is_other = not is_accepted and (probe.status, _said(probe)) != (last.status, _said(last))
    return Trial(probe, sent, is_accepted, is_other)


def _said(exchange: Exchange) -> tuple[str | None, ...]:
    return tuple(challenge.error for challenge in exchange.challenges)
