"""Access tokens that are JWTs, verified here (RFC 9068 §4, RFC 8725).

Rules.

1. Nothing that a token says is believed before its signature is verified, but which key and which algorithm it claims;
   and the algorithm is one of those that the program allows, and of those that the key is for.
2. All work is bounded by the size of a token, and what makes it dear is done last: size, form, header, key, signature,
   claims. A request to the issuer is never more than one for everybody and per cool-down (`_published`).
3. No place that a token names is ever visited: `jku`, `x5u`, `jwk` and `x5c` are not looked at (RFC 8725 §3.10).
4. The header and the payload of a token have one spelling each (`_jws`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._extras import need_extra
from httpx_tokenflow._times import SYSTEM_CLOCK, Clock

from ._caller import Caller, copied
from ._claims import Wanted, as_names, as_required, as_seconds, as_size
from ._jws import Signed, as_object
from ._keys import ASYMMETRIC, SYMMETRIC, given_keys
from ._published import PublishedKeys
from ._refusals import InvalidToken, Reason

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from ._keys import Key, Keys, KeySet

__all__ = ["JWTVerifier"]

MOST_REMEMBERED = 300.0  # seconds for which a verified token is not verified again


@dataclass(slots=True)
class _Verified:
    """A token that was verified.

    Args:
        caller: whoever it stands for.
        key: what it was verified with.
        keys: the set in which that was seen last.
        until: monotonic seconds.
        until_wall: Unix seconds.
    """

    caller: Caller = field(repr=False)
    key: Key
    keys: KeySet
    until: float
    until_wall: float


class JWTVerifier:
    """Verifies access tokens that are JWTs (RFC 9068), for a `Guard`; or by itself, with `verify`.

    The issuer's keys are discovered (RFC 8414, OpenID Connect Discovery), read through a client of our own, and read
    again when a token's key is unknown or its signature is bad, once for everybody and once per `cooldown`.

    A token that was verified is remembered by its hash, for 5 minutes at most. That changes no answer: only the very
    same bytes are found again, which would be verified with the very same result as long as the token has not ended and
    its key is still in the issuer's set, and both are looked at each time. Refusals are not remembered. (That a JWT was
    revoked cannot be seen by verifying it, remembered or not: see `IntrospectionVerifier`.)

    Args:
        issuer: who issues the tokens: `iss`, to the letter.
        audience: who they must be for: `aud`; one of them, if there are several.
        algorithms: how they may be signed. Default: all that need no shared secret (RS256, PS256, ES256, EdDSA, …).
        jwks_uri: where the issuer's keys are, if not where its metadata say.
        keys: the issuer's public keys, where they are not to be fetched: PEM or JWK, one or several; for HS256 the
            secret, or several while one follows the other.
        token_types: which `typ` they may have (RFC 9068 §4); None: none. Default: at+jwt, JWT or none.
        leeway: seconds by which the issuer's clock may differ. Default 30.
        required: claims that must be there, besides `iss`, `aud` and `exp`.
        max_age: seconds for which the keys are used before they are read again. Default one hour. Where they are not to
            be had then, the last ones serve for a day more.
        cooldown: seconds between two readings for keys that are unknown. Default 30.
        max_size: characters that a token may have. Default 16 KiB.
        cache_size: tokens that are remembered. Default 1,024; 0: none.
        accept_bound_without_proof: let a token in that is bound to a key (`cnf`) although nobody proves to have it.
        client: a client of httpx or httpx2 for the issuer, used without its auth and without redirects.
        verify: how our own client verifies certificates.
        clock: for tests.

    Raises:
        ConfigurationError: an argument is missing, contradicts another, or is not safe.
    """

    bearer_format = "JWT"
    """How OpenAPI calls such tokens."""

    def __init__(  # noqa: PLR0913 - each is one thing that issuers differ in, or a bound
        self,
        issuer: str,
        audience: str | Iterable[str],
        *,
        algorithms: Sequence[str] = ASYMMETRIC,
        jwks_uri: str | None = None,
        keys: Any = None,
        token_types: Iterable[str | None] = ("at+jwt", "JWT", None),
        leeway: float = 30.0,
        required: Iterable[str] = (),
        max_age: float = 3600.0,
        cooldown: float = 30.0,
        max_size: int = 16_384,
        cache_size: int = 1024,
        accept_bound_without_proof: bool = False,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._algorithms = _as_algorithms(algorithms)
        self._types = _as_types(token_types)
        self._wanted = Wanted(
            issuer=_as_issuer(issuer),
            audience=as_names(audience, "audience="),
            required=frozenset({"iss", "aud", "exp"}) | as_required(required),
            leeway=as_seconds(leeway, "leeway="),
            bound_is_fine=accept_bound_without_proof,
        )
        self._most = as_size(max_size, "max_size=", least=1)
        self._keys: Keys
        if keys is not None:
            if jwks_uri is not None:
                raise ConfigurationError("keys= and jwks_uri= contradict each other: give one of them")
            self._keys = given_keys(keys, self._algorithms)
        elif self._algorithms & SYMMETRIC.keys():
            raise ConfigurationError("a shared secret is not published: give it in keys=")
        else:
            self._keys = PublishedKeys(
                issuer,
                jwks_uri,
                max_age=as_seconds(max_age, "max_age=", least=1.0),
                cooldown=as_seconds(cooldown, "cooldown=", least=1.0),
                client=client,
                verify=verify,
                clock=clock,
            )
        self._how = _signers(self._algorithms)
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._room = as_size(cache_size, "cache_size=")

    def __repr__(self) -> str:
        return f"<JWTVerifier {self._wanted.issuer} for {', '.join(sorted(self._wanted.audience))}>"

    async def awarm(self) -> None:
        """Read the issuer's keys now, if they are not at hand, so that the first request need not wait.

        Raises:
            ConfigurationError: the issuer is not to be found, or names no keys.
            TokenEndpointUnavailable: it cannot be reached now.
        """
        await self._keys.current()

    async def verify(self, token: str) -> Caller:
        """Whoever `token` stands for.

        Raises:
            InvalidToken: it is no good.
            TokenFlowError: it cannot be verified now: there are no keys, and none are to be had.
        """
        if len(token) > self._most:
            raise InvalidToken(Reason.TOO_LARGE)
        keys = self._keys.ready()
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(name)
        if known is not None and keys is not None and self._still_good(known, keys, name):
            return copied(known.caller)
        signed = Signed.read(token, self._algorithms, self._types)
        keys = await self._keys.current() if keys is None else keys
        key = self._verify(signed, keys)
        if key is None:
            keys, seen = await self._keys.newer(keys), keys
            key = None if keys is seen else self._verify(signed, keys)
        if key is None:
            is_known = bool(keys.candidates(signed.kid, signed.algorithm))
            raise InvalidToken(Reason.SIGNATURE if is_known else Reason.KEY)
        now = self._clock.wall()
        caller = self._wanted.caller(as_object(signed.payload), token, now)
        self._remember(name, _Verified(caller, key, keys, *self._until(caller, now)))
        return copied(caller)

    def _verify(self, signed: Signed, keys: KeySet) -> Key | None:
        """The key that `signed` is signed with, if it is one of `keys`."""
        signer = self._how[signed.algorithm]
        for key in keys.candidates(signed.kid, signed.algorithm):
            if key.length is not None and len(signed.signature) != key.length:
                continue
            try:
                if signer.verify(signed.message, key.material, signed.signature):
                    return key
            except Exception:  # noqa: BLE001, S112 - whatever a library thinks of a signature that cannot be one
                continue
        return None

    def _until(self, caller: Caller, now: float) -> tuple[float, float]:
        """Until when it need not be verified again: monotonic seconds, and Unix seconds."""
        ends = now if caller.expires_at is None else caller.expires_at + self._wanted.leeway
        return self._clock.monotonic() + MOST_REMEMBERED, min(ends, now + MOST_REMEMBERED)

    def _still_good(self, known: _Verified, keys: KeySet, name: bytes) -> bool:
        is_over = self._clock.wall() >= known.until_wall or self._clock.monotonic() >= known.until
        if is_over or (known.keys is not keys and known.key not in keys.keys):
            self._verified.pop(name, None)
            return False
        known.keys = keys
        try:
            self._verified.move_to_end(name)
        except KeyError:  # another thread has just dropped it
            return False
        return True

    def _remember(self, name: bytes, verified: _Verified) -> None:
        if self._room:
            self._verified[name] = verified
            while len(self._verified) > self._room:
                self._verified.popitem(last=False)


def _as_issuer(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise ConfigurationError("issuer= must be a string: who issues the tokens, as it calls itself in their iss")
    return given


def _as_algorithms(given: Any) -> frozenset[str]:
    names = as_names(given, "algorithms=")
    if unknown := names - SYMMETRIC.keys() - set(ASYMMETRIC):
        raise ConfigurationError(
            f"algorithms= has {', '.join(sorted(unknown))}, which is not verified here: give some of "
            f"{', '.join((*ASYMMETRIC, *SYMMETRIC))}"
        )
    if names & SYMMETRIC.keys() and names & set(ASYMMETRIC):
        raise ConfigurationError(
            "algorithms= has both kinds, of shared secrets and of key pairs: whoever knows a public key could sign "
            "with it as a secret (RFC 8725 §2.1); make two verifiers"
        )
    return names


def _as_types(given: Iterable[str | None]) -> frozenset[str | None]:
    several = [given] if isinstance(given, str) or given is None else list(given)
    if not several or not all(one is None or isinstance(one, str) for one in several):
        raise ConfigurationError('token_types= must be values of typ, such as ("at+jwt",); None stands for none')
    return frozenset(None if one is None else one.lower().removeprefix("application/") for one in several)


def _signers(algorithms: frozenset[str]) -> dict[str, Any]:
    """What pyjwt verifies these with."""
    from jwt.algorithms import get_default_algorithms

    if not algorithms & SYMMETRIC.keys():
        with need_extra("fastapi", "JWTVerifier"):
            import cryptography  # noqa: F401 - whether it is there
    known = get_default_algorithms()
    return {name: known[name] for name in algorithms}
