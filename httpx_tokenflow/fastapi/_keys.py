"""The keys that tokens are verified with: read from a JWK Set or given by the program.

Rules.

1. A key verifies only what it is for: its type and curve say which algorithms it can, `alg`, `use` and `key_ops` (RFC
   7517 §4) which of these it may. A shared secret (`oct`) is never taken from a set, and neither is a private key,
   which is nobody's secret any more. RSA has 2,048 bits at least (RFC 7518 §3.3).
2. What cannot be read is skipped, and costs no other key anything; `MOST_KEYS` are read. What a key says of places
   where there are others (`x5u`) is not looked at.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from httpx_tokenflow._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ASYMMETRIC", "SYMMETRIC", "Key", "KeySet", "Keys", "given_keys", "read_keys"]

logger = logging.getLogger("httpx_tokenflow")

MOST_KEYS = 100
MOST_KID = 256  # characters
LEAST_RSA, MOST_RSA = 2048, 16_384  # bits; more costs whoever verifies too much
MOST_TRIED = 8  # keys for a token that does not say which

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {  # (kty, crv) -> what such a key can
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("OKP", "Ed448"): frozenset({"EdDSA"}),
}
_PEM = re.compile(rb"-----BEGIN ")
SYMMETRIC = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms of shared secrets, and the bytes that theirs must have (RFC 7518 §3.2)."""
ASYMMETRIC = (*sorted(_RSA), "ES256", "ES384", "ES512", "EdDSA")
"""Algorithms of key pairs."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Args:
        kid: its name, or None.
        algorithms: what it may verify.
        identity: a hash of it, so that two sets can have the same key.
        material: itself, as pyjwt takes it.
        length: bytes of a signature, where the library does not look at that itself (RFC 8017 §8.1.2, §8.2.2).
    """

    kid: str | None
    algorithms: frozenset[str]
    identity: str
    material: Any = field(repr=False, compare=False)
    length: int | None = field(default=None, compare=False)


class KeySet:
    """Keys at one moment.

    Args:
        keys: in the order to try.
        named: a token that names a key is verified with a key of that name alone, and `MOST_TRIED` are tried; else also
            with those that have none, and all are tried.
    """

    def __init__(self, keys: Iterable[Key], *, named: bool) -> None:
        keys = tuple(keys)
        self.keys = frozenset(keys)
        self._most = MOST_TRIED if named else None
        self._unnamed = () if named else tuple(one for one in keys if one.kid is None)
        self._by_kid: dict[str | None, tuple[Key, ...]] = {None: keys}
        for kid in {one.kid for one in keys} - {None}:
            self._by_kid[kid] = (*(one for one in keys if one.kid == kid), *self._unnamed)

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token; `kid` is looked up, and used for nothing else."""
        found = self._by_kid.get(kid, self._unnamed)
        return [one for one in found if algorithm in one.algorithms][: self._most]


class Keys(Protocol):
    """Where a verifier has its keys from."""

    def ready(self) -> KeySet | None:
        """The keys, if they are at hand."""

    async def current(self) -> KeySet:
        """The keys, read first if need be."""

    async def newer(self, seen: KeySet) -> KeySet:
        """The keys, read again if `seen` has not the right one and that may be done."""


class GivenKeys:
    """Keys that the program has given, which do not change."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._set = KeySet(keys, named=False)

    def ready(self) -> KeySet:
        """As `Keys.ready`."""
        return self._set

    async def current(self) -> KeySet:
        """As `Keys.current`."""
        return self._set

    async def newer(self, seen: KeySet) -> KeySet:
        """As `Keys.newer`."""
        return seen


def read_keys(listed: list[Any]) -> list[Key]:
    """The keys of a set, without what is of no use to a verifier (rules 1 and 2)."""
    found = [_read_or_none(one) for one in listed[:MOST_KEYS]]
    return [one for one in found if one is not None]


def _read_or_none(jwk: Any) -> Key | None:
    try:
        return read_key(jwk)
    except Exception as error:  # noqa: BLE001 - whatever a parser raises over what anybody wrote
        logger.debug("a key of the issuer's set is skipped (%s)", type(error).__name__)
        return None


def read_key(jwk: Mapping[str, Any]) -> Key:
    """A public key out of a JWK (RFC 7517 §4).

    Raises:
        ValueError: it is not one that verifies signatures (rule 1); or whatever a parser raises.
    """
    from jwt import algorithms

    jwk = {name: value for name, value in jwk.items() if value is not None}
    kty, kid = jwk["kty"], jwk.get("kid")
    may_do = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(may_do, list) or "verify" not in may_do:
        raise ValueError("it is for something else")
    if "d" in jwk or "k" in jwk:
        raise ValueError("it is a secret")
    if kid is not None and (not isinstance(kid, str) or len(kid) > MOST_KID):
        raise ValueError("its name is none")
    can = _RSA if kty == "RSA" else _CURVES[kty, jwk["crv"]]
    may = can & {jwk["alg"]} if "alg" in jwk else can
    if not may:
        raise ValueError("it is for an algorithm that it cannot be used with")
    reader: Any = {"RSA": algorithms.RSAAlgorithm, "EC": algorithms.ECAlgorithm, "OKP": algorithms.OKPAlgorithm}[kty]
    material = reader.from_jwk(jwk)
    length = None
    if kty == "RSA":
        if not LEAST_RSA <= material.key_size <= MOST_RSA:
            raise ValueError("it has too few bits, or too many")
        length = (material.key_size + 7) // 8
    members = {name: jwk.get(name) for name in ("kty", "crv", "x", "y", "n", "e")}
    identity = hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()
    return Key(kid, may, identity, material, length)


def given_keys(given: Any, algorithms: frozenset[str]) -> GivenKeys:
    """Keys that the program gives: a PEM, a JWK, a JWK Set, or several of them; for HMAC a secret, or several.

    Raises:
        ConfigurationError: there is none, or one of them cannot be used.
    """
    if isinstance(given, dict) and isinstance(given.get("keys"), list):
        given = given["keys"]
    several = list(given) if isinstance(given, list | tuple) else [given]
    if not several:
        raise ConfigurationError("keys= is empty: give at least one")
    is_shared = bool(algorithms & SYMMETRIC.keys())
    if len(several) > MOST_KEYS:
        raise ConfigurationError(f"keys= has more than {MOST_KEYS}: all of them are tried, so give fewer")
    read = _secret if is_shared else _public
    return GivenKeys([read(one, algorithms) for one in several])


def _secret(given: Any, algorithms: frozenset[str]) -> Key:
    from jwt.algorithms import HMACAlgorithm

    secret = given.encode() if isinstance(given, str) else given
    if not isinstance(secret, bytes):
        raise ConfigurationError(f"keys= must be a secret, or several, for {', '.join(sorted(algorithms))}")
    least = max(SYMMETRIC[one] for one in algorithms)
    if len(secret) < least:
        raise ConfigurationError(f"a secret in keys= must have {least} bytes at least (RFC 7518 §3.2)")
    try:
        material = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except Exception:  # noqa: BLE001 - from None: a parser may quote what it parses
        raise ConfigurationError(
            "keys= has a public key or a certificate, which is no secret: whoever knows it could sign; name an "
            "asymmetric algorithm such as RS256 in algorithms="
        ) from None
    return Key(None, algorithms, hashlib.sha256(secret).hexdigest(), material)


def _public(given: Any, algorithms: frozenset[str]) -> Key:
    if isinstance(given, str | bytes) and len(_PEM.findall(given.encode() if isinstance(given, str) else given)) > 1:
        raise ConfigurationError("keys= has a string with several keys or certificates in it: give a list of them")
    hint = "keys= must be public keys, each a PEM or a JWK (for a shared secret, say algorithms=('HS256',))"
    try:
        jwk = given if isinstance(given, dict) else _jwk_of_pem(given)
        key = read_key(jwk)
    except Exception:  # noqa: BLE001 - from None: a parser may quote what it parses
        raise ConfigurationError(
            f"{hint}: one of them cannot be read, is private, is for something else than signatures, or is weak"
        ) from None
    if not key.algorithms & algorithms:
        raise ConfigurationError(f"{hint}: one of them is good for none of algorithms=")
    return key


def _jwk_of_pem(given: Any) -> dict[str, Any]:
    """A public key in PEM, or a certificate, as a JWK: read by one way only."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate
    from jwt import algorithms

    pem = given.encode() if isinstance(given, str) else bytes(given)
    if b"BEGIN CERTIFICATE" in pem:
        key: Any = load_pem_x509_certificate(pem).public_key()
    else:
        key = load_pem_public_key(pem)
    kinds: list[tuple[type, Any]] = [
        (RSAPublicKey, algorithms.RSAAlgorithm),
        (EllipticCurvePublicKey, algorithms.ECAlgorithm),
    ]
    writer = next((writer for kind, writer in kinds if isinstance(key, kind)), algorithms.OKPAlgorithm)
    jwk: dict[str, Any] = json.loads(writer.to_jwk(key))
    # pyjwt says what it would be used for, if at all, and here that is known.
    return {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
