"""What can be read of a token without any key: the rules of RFC 7519, and of what people paste.

Rules.

1. Nothing raises, whatever the text; what is wrong with it is listed in words.
2. Nothing is verified, and nothing but what to tell a person is decided by it (RFC 9068 §6).
3. A reading has claims, which are shown, and never the token; nor a private key that somebody put into it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._answers import is_shallow

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reading", "as_shown", "read_token"]

TOKEN_LIMIT = 64 * 1024  # characters
MOST_DEPTH = 100  # of JSON in a token: whoever shows it goes as deep, and Python does not go on for ever
_SIZES = {"HS256": 32, "HS384": 48, "HS512": 64, "ES256": 64, "ES256K": 64, "ES384": 96, "ES512": 132}  # bytes
_LEAST_RSA = 128  # bytes: of 1024 bits
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # members of a JWK (RFC 7518 §6)
_TEXT = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read of a token.

    Args:
        kind: "jwt"; "jwe", which only its audience can read (RFC 7516); "opaque" for all others.
        shown: its hash and length, which say whether two are the same.
        header: of a JWT or JWE (RFC 7515 §4).
        claims: of a JWT (RFC 7519 §4).
        problems: why it is no proper JWT although it looks like one; empty for the others.
    """

    kind: str
    shown: str
    header: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def is_jwt(self) -> bool:
        """It is a JWT that can be read."""
        return self.kind == "jwt" and not self.problems

    def text(self, claim: str) -> str | None:
        """A claim that is a string; None if it is missing or no string."""
        value = self.claims.get(claim)
        return value if isinstance(value, str) and value else None

    def texts(self, claim: str) -> tuple[str, ...]:
        """A claim that is a string, or several (`aud`, RFC 7519 §4.1.3)."""
        value = self.claims.get(claim)
        several = value if isinstance(value, list) else [value]
        return tuple(one for one in several if isinstance(one, str) and one)

    def seconds(self, claim: str) -> float | None:
        """A NumericDate (RFC 7519 §2), in Unix seconds; None if it is missing or no number."""
        value = self.claims.get(claim)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
            return None
        return float(value)

    @property
    def scopes(self) -> frozenset[str]:
        """What it allows, however the issuer writes it: `scope` (RFC 8693 §4.2), `scp`, `scopes`, `permissions`."""
        found: set[str] = set()
        for name in ("scope", "scp", "scopes", "permissions"):
            for text in self.texts(name):
                found |= set(text.split())
        return frozenset(found)


def as_shown(secret: str) -> str:
    """What may be shown of a secret: the beginning of its hash, and its length."""
    digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
    return f"sha256:{digest[:8]}, {len(secret)} characters"


def read_token(text: str) -> Reading:
    """Read `text` as a token, without any check of its signature."""
    shown = as_shown(text)
    if len(text) > TOKEN_LIMIT:
        return Reading(kind="opaque", shown=shown)
    parts = text.split(".")
    header = _object(parts[0])
    if len(parts) == 5 and header is not None and "enc" in header:
        return Reading(kind="jwe", shown=shown, header=header)
    if header is not None and ("alg" in header or "typ" in header):
        return _jwt(parts, header, shown)
    # What begins with base64url of '{"' and cannot be decoded was a JWT once; a JSON object of another kind was not
    # (the session cookies of Flask have such a form).
    if header is None and len(parts) == 3 and parts[0].startswith("ey"):
        return Reading(kind="jwt", shown=shown, problems=("its header cannot be decoded to a JSON object",))
    return Reading(kind="opaque", shown=shown)


def _jwt(parts: list[str], header: dict[str, Any], shown: str) -> Reading:
    problems = []
    claims = _object(parts[1]) if len(parts) > 1 else None
    if len(parts) != 3:
        problems.append(f"it has {len(parts)} parts between dots, not 3")
    if claims is None and len(parts) > 1:
        problems.append("its claims cannot be decoded to a JSON object: cut off, or changed")
    if len(parts) == 3 and not parts[2] and header.get("alg") != "none":
        problems.append("its signature is empty")
    if len(parts) == 3 and not _TEXT.fullmatch(parts[2]):
        problems.append("its signature has characters that are none of base64url")
    elif len(parts) == 3 and parts[2]:
        problems += _misfit(parts[2], header.get("alg"))
    return Reading(kind="jwt", shown=shown, header=header, claims=claims or {}, problems=tuple(problems))


def _misfit(signature: str, algorithm: object) -> list[str]:
    """What is wrong with a signature's length (RFC 7518 §3): a token that was cut off has too short a one."""
    if not isinstance(algorithm, str) or not algorithm:
        return ["its header names no algorithm (alg)"]
    size = len(signature) * 3 // 4
    wanted = _SIZES.get(algorithm)
    if len(signature) % 4 == 1:
        return ["its signature is cut off: no bytes have that many characters in base64url"]
    if wanted is not None and size != wanted:
        return [f"its signature has {size} bytes, and {algorithm} makes {wanted}: cut off, or changed"]
    if algorithm[:2] in {"RS", "PS"} and (size < _LEAST_RSA or size % 8):
        return [f"its signature has {size} bytes, which no RSA key makes: cut off, or changed"]
    return []


def _object(part: str) -> dict[str, Any] | None:
    """A part of a JWT, decoded (RFC 7515 §2); None if it is no JSON object in base64url."""
    if not part or not _TEXT.fullmatch(part):
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return _public(value) if isinstance(value, dict) and is_shallow(value, MOST_DEPTH) else None


def _public(part: dict[str, Any]) -> dict[str, Any]:
    """Without the private members of a key in it (`jwk` of a header, RFC 7515 §4.1.3; of `cnf`, RFC 7800 §3.2)."""
    kept = dict(part)
    if isinstance(key := part.get("jwk"), dict):
        kept["jwk"] = {name: "***" if name in _PRIVATE else value for name, value in key.items()}
    if isinstance(bound := part.get("cnf"), dict):
        kept["cnf"] = _public({name: value for name, value in bound.items() if name != "cnf"})
    return kept
