"""The keys that tokens are verified with: read from a JWK Set or given by the program.

Rules.

1. A key verifies only what it is for: its type and curve say which algorithms it can, `alg`, `use` and `key_ops` (RFC
   7517 §4) which of these it may. A shared secret (`oct`) is never taken from a set, and neither is a private key,
   which is nobody's secret any more. RSA has 2,048 bits at least (RFC 7518 §3.3).
2. What cannot be read is skipped, and costs no other key anything; `MOST_KEYS` are read. What a key says of places
   where there are others (`x5u`) is not looked at.
3. The set is read when it is first needed, once for everybody, and again when three quarters of `max_age` are over:
   that is done aside, so that nobody waits. A key that is not in the new set verifies nothing from then on. Where the
   set is not to be had, the last one serves for a day beyond `max_age`, and no longer.
4. A token whose key is unknown may have been signed with a new one, so the set is read again for it; but tokens are
   easy to make up, so that is done at most once per `cooldown`, counted from the last time it was read for whatever
   reason. Who comes in between is refused at once.
5. After a failure the set is left alone for a second, then two, up to `cooldown`, and for as long as the server asks
   for (five minutes at most). Who needs it meanwhile, and has no older one, gets the same error without a request.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._errors import ConfigurationError, TokenEndpointUnavailable, TokenFlowError
from httpx_tokenflow._forks import renew_after_fork
from httpx_tokenflow._lifecycle import RenewalPolicy
from httpx_tokenflow._metadata import Metadata, Server, read_document
from httpx_tokenflow._steps import Fetch
from httpx_tokenflow._token_client import TokenClient

from ._once import Once

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from httpx_tokenflow._steps import Step
    from httpx_tokenflow._times import Clock

__all__ = ["ASYMMETRIC", "SYMMETRIC", "Key", "KeySet", "Keys", "PublishedKeys", "given_keys"]

logger = logging.getLogger("httpx_tokenflow")

MOST_KEYS = 100
MOST_KID = 256  # characters
LEAST_RSA, MOST_RSA = 2048, 16_384  # bits; more costs whoever verifies too much
MOST_TRIED = 8  # keys for a token that does not say which
AHEAD = 0.75  # of max_age, after which the set is read again aside
STALE = 86_400.0  # seconds beyond max_age for which the last set serves
READING = 10.0  # seconds for finding and reading the set, all in all: each request gets half of what is left
PATIENCE = 15.0  # seconds for which anybody waits for that
MOST_PAUSE = 300.0  # seconds, whatever the server asks for

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {  # (kty, crv) -> what such a key can
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("OKP", "Ed448"): frozenset({"EdDSA"}),
}
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
    """

    kid: str | None
    algorithms: frozenset[str]
    identity: str
    material: Any = field(repr=False, compare=False)


class KeySet:
    """Keys at one moment.

    Args:
        keys: in the order to try.
        named: a token that names a key is verified with a key of that name alone; else also with one that has none.
    """

    def __init__(self, keys: Iterable[Key], *, named: bool) -> None:
        keys = tuple(keys)
        self.keys = frozenset(keys)
        self._unnamed = () if named else tuple(one for one in keys if one.kid is None)
        self._by_kid: dict[str | None, tuple[Key, ...]] = {None: keys}
        for kid in {one.kid for one in keys} - {None}:
            self._by_kid[kid] = (*(one for one in keys if one.kid == kid), *self._unnamed)

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token; `kid` is looked up, and used for nothing else."""
        found = self._by_kid.get(kid, self._unnamed)
        return [one for one in found if algorithm in one.algorithms][:MOST_TRIED]


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


class PublishedKeys:
    """Keys that an issuer publishes.

    Args:
        issuer: whose metadata name the place, where `uri` is None.
        uri: the place.
        max_age: seconds.
        cooldown: seconds.
        client: a client of httpx or httpx2; None for our own.
        verify: how our own verifies certificates.
        clock: for all that.
    """

    def __init__(
        self, issuer: str, uri: str | None, *, max_age: float, cooldown: float, client: Any, verify: Any, clock: Clock
    ) -> None:
        self._uri = uri
        self._server = Server(issuer=issuer, endpoints={}) if uri is None else None
        if uri is not None:
            Metadata(None, {"jwks_uri": uri}).endpoint("jwks_uri")  # sees whether a request may go there
        self._max_age, self._cooldown = max_age, cooldown
        self._client = TokenClient.of(client, verify, RenewalPolicy(), None)
        self._clock = clock
        self._set: KeySet | None = None
        self._read_at = -math.inf
        self._begun_at = -math.inf
        self._idle_until = -math.inf  # after a failure
        self._failures = 0
        self._error: TokenFlowError | None = None
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # guards the bookkeeping, never waiting
        self._reading: Once[KeySet] | None = None

    def ready(self) -> KeySet | None:
        """The keys, if they are at hand and need not be read again before they are used (rule 3)."""
        age = self._clock.monotonic() - self._read_at
        if self._set is None or age >= self._max_age:
            return None
        if age >= self._max_age * AHEAD:
            self._read()
        return self._set

    async def current(self) -> KeySet:
        """The keys; read first if there are none, or they are too old.

        Raises:
            TokenFlowError: there are none, and none are to be had now.
        """
        found = self.ready()
        if found is not None:
            return found
        reading = self._read()
        try:
            if reading is not None:
                return await reading.result()
        except TokenFlowError:
            if not self._serves_on():
                raise
        if self._set is not None and self._serves_on():
            return self._set
        raise self._pause()

    async def newer(self, seen: KeySet) -> KeySet:
        """The keys, read again unless that has been done a moment ago (rule 4)."""
        if self._set is not None and self._set is not seen:
            return self._set
        reading = self._read(for_unknown=True)
        if reading is None:
            return seen
        try:
            return await reading.result()
        except TokenFlowError:
            return seen

    def _serves_on(self) -> bool:
        return self._clock.monotonic() - self._read_at < self._max_age + STALE

    def _pause(self) -> TokenFlowError:
        """The error of the last time, with the time that is left until the next."""
        left = max(0.0, self._idle_until - self._clock.monotonic())
        cause = self._error
        error = TokenEndpointUnavailable(
            str(cause) if cause is not None else "the issuer's keys cannot be read now",
            outcome="not sent",
            retry_after=left,
        )
        error.__cause__ = cause
        return error

    def _read(self, *, for_unknown: bool = False) -> Once[KeySet] | None:
        """The reading under way, or a new one; None where there must be none now (rules 4 and 5)."""
        now = self._clock.monotonic()
        with self._lock:
            reading, lost = self._reading, None
            if reading is not None and not reading.is_over:
                if now < self._begun_at + PATIENCE:
                    return reading
                lost = reading
            if lost is None and (now < self._idle_until or (for_unknown and now < self._begun_at + self._cooldown)):
                return None
            self._begun_at = now
            reading = self._reading = Once(self._fetched, "reading the issuer's keys", PATIENCE)
        if lost is not None:
            lost.give_up()
        reading.begin(lambda: None)
        return reading

    async def _fetched(self) -> KeySet:
        try:
            found = await self._perform(self._find())
        except TokenFlowError as error:
            self._failed(error)
            raise
        self._set, self._read_at = found, self._clock.monotonic()
        self._failures, self._error = 0, None
        return found

    def _failed(self, error: TokenFlowError) -> None:
        logger.warning("%s; %s", error, "there are no older ones" if self._set is None else "the older ones serve on")
        pause = min(2.0**self._failures, self._cooldown)
        asked = min(getattr(error, "retry_after", None) or 0.0, MOST_PAUSE)
        self._idle_until = self._clock.monotonic() + max(pause, asked)
        self._failures = min(self._failures + 1, 16)
        self._error = error

    def _find(self) -> Generator[Step, Any, KeySet]:
        attempt = Attempt(None, self._clock.monotonic() + READING, self._clock)
        uri = self._uri
        if self._server is not None:
            metadata = yield from self._server.find(attempt)
            uri = metadata.endpoint("jwks_uri")
        assert uri is not None  # noqa: S101 - one of the two is there
        status, document = yield from read_document(uri, "the issuer's key set", attempt)
        listed = None if document is None else document.get("keys")
        if not isinstance(listed, list):
            if self._server is not None:
                self._server.doubt(metadata)
            raise TokenEndpointUnavailable(
                f"the issuer's key set is none ({status}; RFC 7517 §5): check jwks_uri= and issuer=",
                outcome="not sent",
                status=status,
            )
        return KeySet(read_keys(listed), named=True)

    async def _perform(self, flow: Generator[Step, Any, KeySet]) -> KeySet:
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as end:
                found: KeySet = end.value
                return found
            answer = error = None
            assert isinstance(step, Fetch)  # noqa: S101 - reading takes nothing else
            try:
                answer = await self._client.asend(step.request, step.timeout, httpx)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed


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
    material = reader.from_jwk(dict(jwk))
    if kty == "RSA" and not LEAST_RSA <= material.key_size <= MOST_RSA:
        raise ValueError("it has too few bits, or too many")
    members = {name: jwk.get(name) for name in ("kty", "crv", "x", "y", "n", "e")}
    identity = hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()
    return Key(kid, may, identity, material)


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
