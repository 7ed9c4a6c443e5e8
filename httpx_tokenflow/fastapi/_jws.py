"""A signed token as it came (JWS, RFC 7515 §7.1), taken apart before anything of it is believed.

Rules.

1. What changes the meaning of the rest and is not understood (`crit`, `zip`, …) has the token refused, and so does an
   algorithm or a type that is not allowed.
2. Header and payload have one spelling each. Base64url is canonical, without padding (RFC 7515 §2), and JSON has each
   member once, nothing that is no JSON, and no half of a surrogate pair: two parties that read one token in two ways
   are how tokens are forged. (A signature may have two, as those of ECDSA do, and says the same in both.)
3. JSON goes no deeper than `MOST_DEPTH`, in the tokens and in what is said of them.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any, NoReturn

from httpx_tokenflow._answers import is_shallow

from ._keys import MOST_KID
from ._refusals import InvalidToken, Reason

__all__ = ["Signed", "as_object", "is_plain"]

MOST_HEADER = 8192  # characters: some issuers put their certificates there, which nobody looks at
MOST_DEPTH = 16  # of JSON

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_UNREADABLE = frozenset({"crit", "b64", "zip", "enc"})  # members of a header that change what the rest means


@dataclass(frozen=True, slots=True)
class Signed:
    """A token as it came, taken apart; nothing of it is believed yet.

    Args:
        algorithm: how it says that it is signed: one of those that are allowed.
        kid: which key it names.
        message: what is signed.
        payload: what it says.
        signature: the signature.
    """

    algorithm: str
    kid: str | None
    message: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def read(cls, token: str, algorithms: frozenset[str], types: frozenset[str | None]) -> Signed:
        """Take `token` apart.

        Raises:
            InvalidToken: it is no JWS, or not one of a kind that is allowed.
        """
        parts = token.split(".", 3)
        if len(parts) != 3 or len(parts[0]) > MOST_HEADER:  # five parts: it is encrypted (RFC 7516 §9)
            raise InvalidToken(Reason.MALFORMED)
        header = as_object(_decoded(parts[0]))
        if _UNREADABLE & header.keys():  # RFC 7515 §4.1.11: what is critical is understood, or the token is refused
            raise InvalidToken(Reason.MALFORMED)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in algorithms:
            raise InvalidToken(Reason.ALGORITHM)
        if "kid" in header and (not isinstance(kid, str) or len(kid) > MOST_KID):
            raise InvalidToken(Reason.MALFORMED)
        if _type(header) not in types:
            raise InvalidToken(Reason.KIND)
        message = f"{parts[0]}.{parts[1]}".encode("ascii", "replace")
        return cls(algorithm, kid, message, _decoded(parts[1]), _decoded(parts[2]))


def _type(header: dict[str, Any]) -> str | None:
    """`typ` as a media type without its "application/" (RFC 7515 §4.1.9)."""
    said = header.get("typ")
    if "typ" not in header:
        return None
    if not isinstance(said, str):
        raise InvalidToken(Reason.MALFORMED)
    return said.lower().removeprefix("application/")


def _decoded(part: str) -> bytes:
    """`part` out of base64url, in its one spelling (rule 2)."""
    if _BASE64URL.fullmatch(part) is None:
        raise InvalidToken(Reason.MALFORMED)
    try:
        found = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise InvalidToken(Reason.MALFORMED) from None
    if urlsafe_b64encode(found).rstrip(b"=") != part.encode():
        raise InvalidToken(Reason.MALFORMED)
    return found


def as_object(text: bytes) -> dict[str, Any]:
    """A JSON object in its one spelling, of no great depth (rules 2 and 3)."""
    try:
        found = json.loads(text.decode(), object_pairs_hook=_members, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise InvalidToken(Reason.MALFORMED) from None
    if not isinstance(found, dict) or not (is_plain(found) if b"\\u" in text else is_shallow(found, MOST_DEPTH)):
        raise InvalidToken(Reason.MALFORMED)
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _no_number(_name: str) -> NoReturn:
    raise ValueError("no JSON (RFC 8259 §6)")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no number that anybody could mean")
    return number


def is_plain(value: Any) -> bool:
    """Whether this JSON is of no great depth, and its strings are text: no half of a surrogate pair (RFC 8259 §8.2)."""
    if not is_shallow(value, MOST_DEPTH):
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True
