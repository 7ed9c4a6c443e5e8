"""The token is signed in a way that the API cannot, or does not, accept.

Rules.

1. The keys are those of the issuer that the person has named. Without them the server's words are all there is.
2. A signature is verified where PyJWT can do it (RSA and elliptic curves need the package cryptography). Where it
   cannot, or a key cannot be read, nothing is concluded.
3. The algorithm comes before the key, and the key before the signature: each makes what follows meaningless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._reckoning import has_token, jwt_of, sure
from ._words import ALGORITHM, KEY, SIGNATURE, said

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._readings import Reading

__all__ = ["CAUSES"]

_KEYS_LIMIT = 50
_KEY_LIMIT = 8192  # characters of one, certificates included: a larger one is there to keep us busy
_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "HS": "oct", "Ed": "OKP"}  # RFC 7518 §6.1, RFC 8037 §2


def _keys_of(facts: Facts) -> list[dict[str, Any]] | None:
    """The keys for signatures in the issuer's set; None if they are not known."""
    keys = None if facts.jwks is None else facts.jwks.get("keys")
    if not isinstance(keys, list):
        return None
    return [key for key in keys[:_KEYS_LIMIT] if isinstance(key, dict) and key.get("use", "sig") == "sig"]


def _text(token: Reading | None, name: str) -> str:
    value = None if token is None else token.header.get(name)
    return value if isinstance(value, str) else ""


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    """Whether a key can be one for that algorithm (RFC 7517 §4.1 and §4.4)."""
    wanted = _TYPES.get(algorithm[:2])
    told = key.get("alg")
    is_same = not isinstance(told, str) or told == algorithm or {told, algorithm} == {"EdDSA", "Ed25519"}
    return is_same and (wanted is None or key.get("kty") == wanted)


def _verifies(facts: Facts, key: dict[str, Any], algorithm: str) -> bool | None:
    """Whether the token's signature is of `key`; None if that cannot be told (rule 2)."""
    import jwt

    sent = facts.credential
    if sent is None or len(str(key)) > _KEY_LIMIT:
        return None
    try:
        known = jwt.PyJWK({**key, "alg": algorithm})
        jwt.PyJWS().decode_complete(sent.value.strip(" \t\r\n\"'").split()[-1], known, algorithms=[algorithm])
    except jwt.InvalidSignatureError:
        return False
    except Exception:  # noqa: BLE001 - whatever it cannot read is not known
        return None
    return True


def _elsewhere(token: Reading | None) -> list[str]:
    """Where the token says that its key is, if that is not at its issuer (RFC 7515 §4.1.2 and §4.1.5)."""
    issuer = None if token is None else _host(token.text("iss") or "")
    found = []
    for name in ("jku", "x5u"):
        host = _host(_text(token, name))
        if host is not None and host != issuer:
            found.append(f"its {name} says that the key is at {host}, which is not the host of its issuer")
    return found


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class Unsigned(Cause):
    """Its algorithm is `none`."""

    id = "token-unsigned"
    title = "The JWT is not signed"
    remedy = "take the token from the issuer; one with alg none is a test's, or forged, and no API may accept it"
    reference = "RFC 8725 §3.2, RFC 9068 §2.1"

    def look(self, facts: Facts) -> Finding | None:
        token = facts.token
        if token is None or token.kind != "jwt" or _text(token, "alg").lower() != "none":
            return None
        evidence = ["its header says alg none", said(facts, ALGORITHM)]
        return self.found(Certainty.CERTAIN, "the JWT is not signed: its alg is none", evidence)


class WrongAlgorithm(Cause):
    """It is signed with an algorithm that the issuer does not offer, or the API does not accept."""

    id = "wrong-algorithm"
    title = "The token is signed with an algorithm that is not accepted"
    remedy = (
        "have the issuer sign with an algorithm that the API accepts (RS256 or ES256 mostly); a token signed with a "
        "shared secret is of another maker"
    )
    reference = "RFC 8725 §3.1, RFC 7517 §4.4"

    def look(self, facts: Facts) -> Finding | None:
        token, words = jwt_of(facts), said(facts, ALGORITHM) if has_token(facts) else None
        algorithm = _text(token, "alg")
        if algorithm.lower() == "none":
            return None
        misfit = self._misfit(facts, token, algorithm) if token is not None and algorithm else None
        if misfit is not None:
            return self.found(
                Certainty.CERTAIN, f"the token is signed with {algorithm[:20]}, and {misfit}", [misfit, words]
            )
        offered = (facts.issuer_metadata or {}).get("id_token_signing_alg_values_supported")
        keys = _keys_of(facts) or []
        if algorithm and isinstance(offered, list) and offered and algorithm not in offered and not keys:
            listed = ", ".join(str(one)[:20] for one in offered[:8])
            what = f"the token is signed with {algorithm[:20]}, and its issuer offers {listed}"
            return self.found(Certainty.LIKELY, what, [f"the issuer's metadata offers {listed} for ID tokens", words])
        if words is None:
            return None
        named = f" {algorithm[:20]}" if algorithm else ""
        return self.found(sure(words), f"the server does not accept the token's algorithm{named}", [words])

    def _misfit(self, facts: Facts, token: Reading, algorithm: str) -> str | None:
        keys, kid = _keys_of(facts), _text(token, "kid")
        if not keys:
            return None
        if algorithm.startswith("HS") and all(key.get("kty") != "oct" for key in keys):
            return "the issuer has public keys only: that algorithm needs a secret that both share"
        named = [key for key in keys if kid and key.get("kid") == kid]
        if named and not any(_fits(key, algorithm) for key in named):
            told = named[0].get("alg") or named[0].get("kty")
            return f"the issuer's key {kid[:80]!r} is for {str(told)[:20]}"
        if not kid and not any(_fits(key, algorithm) for key in keys):
            return "the issuer has no key for that"
        return None


class UnknownKey(Cause):
    """The issuer's key set does not hold the key that it is signed with."""

    id = "unknown-key"
    title = "The token is signed with a key that the issuer's JWKS does not hold"
    remedy = (
        "get a new token from this issuer: the key was rotated, or the token is from another environment; if a new "
        "one is refused too, have the API read the JWKS anew"
    )
    reference = "RFC 7517 §5, OpenID Connect Core §10.1.1"

    def look(self, facts: Facts) -> Finding | None:
        token, words = jwt_of(facts), said(facts, KEY) if has_token(facts) else None
        keys, kid = _keys_of(facts), _text(token, "kid")
        is_shared = _text(token, "alg").startswith("HS") or _text(token, "alg").lower() == "none"
        if token is not None and keys is not None and not is_shared:
            kids = [str(key.get("kid"))[:80] for key in keys]
            if not keys:
                return self.found(Certainty.LIKELY, "the issuer's JWKS holds no key", ["its keys are empty", words])
            if kid and kid not in kids:
                evidence = [f"the JWKS has {len(keys)} keys: {', '.join(kids[:6])}", *_elsewhere(token), words]
                what = f"the token is signed with the key {kid[:80]!r}, which the issuer's JWKS does not hold"
                return self.found(Certainty.CERTAIN, what, evidence)
        if words is None:
            return None
        against = "the issuer's JWKS holds the key" if keys and kid else None
        named = f" {kid[:80]!r}" if kid else ""
        remedy = "have the API read the issuer's JWKS anew: its copy is older than the key" if against else None
        return self.found(
            sure(words, against),
            f"the server does not know the key{named} that the token is signed with",
            [words, *_elsewhere(token)],
            [against],
            remedy,
        )


class NoKeyId(Cause):
    """It does not say which of several keys it is signed with."""

    id = "no-key-id"
    title = "The token does not say which key it is signed with"
    remedy = (
        "have the issuer put kid into the header: with several keys in the JWKS many APIs accept no token without it"
    )
    reference = "RFC 7515 §4.1.4, OpenID Connect Core §10.1"

    def look(self, facts: Facts) -> Finding | None:
        token, keys = jwt_of(facts), _keys_of(facts)
        algorithm = _text(token, "alg")
        if token is None or not keys or _text(token, "kid") or algorithm.startswith("HS"):
            return None
        fitting = [key for key in keys if _fits(key, algorithm)]
        if len(fitting) < 2 or all(_verifies(facts, key, algorithm) is False for key in fitting):
            return None
        what = f"the token does not say which of the issuer's {len(fitting)} keys it is signed with"
        return self.found(
            Certainty.LIKELY, what, ["its header has no kid", f"{len(fitting)} keys of the JWKS are for {algorithm}"]
        )


class WrongSignature(Cause):
    """The signature is not that of the issuer's key."""

    id = "wrong-signature"
    title = "The token's signature does not verify"
    remedy = (
        "take the token anew and whole: it was changed after it was signed, or another issuer has signed it under the"
        " same name"
    )
    reference = "RFC 7515 §5.2"

    def look(self, facts: Facts) -> Finding | None:
        token, words = jwt_of(facts), said(facts, SIGNATURE) if has_token(facts) else None
        keys, kid, algorithm = _keys_of(facts) or [], _text(token, "kid"), _text(token, "alg")
        named = [key for key in keys if (not kid or key.get("kid") == kid) and _fits(key, algorithm)]
        verified = [_verifies(facts, key, algorithm) for key in named]
        if token is not None and verified and all(one is False for one in verified):
            which = (
                f"the issuer's key {kid[:80]!r}" if kid else f"any of the issuer's {len(named)} keys for {algorithm}"
            )
            return self.found(
                Certainty.CERTAIN,
                f"the token's signature is not of {which}",
                [f"verified with {which}", *_elsewhere(token), words],
            )
        if words is None:
            return None
        against = "the signature is of the issuer's key" if True in verified else None
        remedy = (
            "have the API's key, secret and issuer looked at: the token is as its issuer has signed it"
            if against
            else None
        )
        return self.found(
            sure(words, against),
            "the server says that the token's signature does not verify",
            [words, *_elsewhere(token)],
            [against],
            remedy,
        )


class ForeignKey(Cause):
    """It names a place for its key that is not its issuer's."""

    id = "key-elsewhere"
    title = "The token says that its key is elsewhere"
    remedy = (
        "have the issuer leave jku and x5u out: APIs take keys from the issuer that they know, and must not follow "
        "these"
    )
    reference = "RFC 8725 §3.10"

    def look(self, facts: Facts) -> Finding | None:
        token = jwt_of(facts)
        evidence = _elsewhere(token)
        if not evidence:
            return None
        against = "the issuer's JWKS is known, and was looked at" if facts.jwks is not None else None
        return self.found(
            Certainty.POSSIBLE, f"the key of the token may not be found: {evidence[0]}", evidence, [against]
        )


CAUSES: tuple[Cause, ...] = (Unsigned(), WrongAlgorithm(), UnknownKey(), NoKeyId(), WrongSignature(), ForeignKey())
