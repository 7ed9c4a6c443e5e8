"""Keys that sign: JSON Web Signatures (RFC 7515) for DPoP proofs and for assertions (RFC 7523).

Rules.

1. A private key shows itself in one place only, `Key.to_json`: not in a repr, an error's text, a pickle or
   `dataclasses.asdict`.
2. What cannot sign fails when it is read, with a sentence that says what to do and quotes nothing: a public key, a
   certificate, an encrypted key, a key of the wrong type for its algorithm, an RSA key that is too short.
3. A key that lives elsewhere (a KMS, an HSM) is a callable that signs. It is asked as any callable of the program's is,
   so that it may be sync or async and has a time limit; what it returns is checked, and the DER form of an ECDSA
   signature, which most services return, is turned into that of RFC 7518 §3.4.
4. A DPoP proof is signed on each request, so all that can be done beforehand is done when the key is read.

`cryptography` is the extra `crypto`; a callable that signs does not need it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ._attempt import called
from ._errors import ConfigurationError, InvalidCredential
from ._extras import need_extra
from ._secrets import EnvSecret, FileSecret
from ._steps import Call, Step

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "GivenKey",
    "Key",
    "Signer",
    "base64url",
    "join",
    "key_from_json",
    "make_key",
    "read_kept_key",
    "read_key",
    "read_signer",
    "signing_input",
]

GivenKey = str | bytes | Mapping[str, Any] | EnvSecret | FileSecret | Callable[[bytes], Any]
"""A private key: PEM text, a JWK, or where one of them is; or a callable (sync or async) that gets what is to be
signed, as bytes, and returns the signature, as bytes."""

LEAST_RSA = 2048  # bits (RFC 7518 §3.3)

# The algorithms of RFC 7518 §3.1, RFC 8037 §3.1 and RFC 9864: key type and hash. The first of a type is its default.
_ALGS = {
    "RS256": ("RSA", "SHA256"),
    "RS384": ("RSA", "SHA384"),
    "RS512": ("RSA", "SHA512"),
    "PS256": ("RSA", "SHA256"),
    "PS384": ("RSA", "SHA384"),
    "PS512": ("RSA", "SHA512"),
    "ES256": ("P-256", "SHA256"),
    "ES384": ("P-384", "SHA384"),
    "ES512": ("P-521", "SHA512"),
    "EdDSA": ("Ed25519", ""),
    "Ed25519": ("Ed25519", ""),
}
_HALF = {"P-256": 32, "P-384": 48, "P-521": 66}  # bytes of r, and of s (RFC 7518 §3.4)
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}  # as `cryptography` names them
_PUBLIC = frozenset({"kty", "crv", "x", "y", "n", "e"})
_PRIVATE_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """A private key that signs JSON Web Signatures (RFC 7515). Its repr shows its public thumbprint.

    Args:
        alg: how it signs (RFC 7518 §3.1).
        kid: the name by which a server knows it, or None.
        thumbprint: of the public key (RFC 7638, SHA-256, base64url).
    """

    alg: str
    kid: str | None
    thumbprint: str
    _public: dict[str, str] = field(repr=False)
    _private: Any = field(repr=False)
    _signature: Callable[[bytes], bytes] = field(repr=False)

    @property
    def public_jwk(self) -> dict[str, str]:
        """The public key as a JWK (RFC 7517), with the members that make it and no other."""
        return dict(self._public)

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        """A compact JWS (RFC 7515 §7.1) of `claims`; `header` gets the `alg`."""
        data = signing_input(self.alg, header, claims)
        return join(data, self._signature(data))

    def to_json(self) -> str:
        """The private key, as a JWK with its `alg` and `kid`: the explicit way to keep it."""
        whole = _algorithm(self.alg).to_jwk(self._private, as_dict=True)
        whole = {name: value for name, value in whole.items() if name != "key_ops"} | {"alg": self.alg}
        return _encode(whole if self.kid is None else whole | {"kid": self.kid})

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Key is not pickled: it is a private key; read it in each process")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


del Key.__dataclass_fields__  # as with Token: asdict() would hand the private key out


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """Signs assertions: with a key at hand, or by a callable of the program's whose key is elsewhere (rule 3).

    A key in a file or in the environment is read for each signature: who rotates it need tell nobody.

    Args:
        alg: how it signs (RFC 7518 §3.1), or None where a key that is yet to be read says so.
        kid: the name by which a server knows the key, or None.
        what: what the key was given as, for messages.
    """

    alg: str | None
    kid: str | None
    what: str
    _given: Key | EnvSecret | FileSecret | Callable[[bytes], Any] = field(repr=False)

    @property
    def proof(self) -> str | None:
        """Which key: by its thumbprint; by its name, if it is elsewhere and has one."""
        return self._given.thumbprint if isinstance(self._given, Key) else self.kid

    def sign(
        self, claims: Mapping[str, Any], timeout: float, *, typ: str = "JWT", headers: Mapping[str, Any] | None = None
    ) -> Generator[Step, Any, str]:
        """A compact JWS of `claims`, with the `kid` in its header.

        Args:
            claims: what is signed.
            timeout: seconds that an async callable may take.
            typ: the type that the header names (RFC 7515 §4.1.9).
            headers: further members of the header.

        Raises:
            TokenEndpointUnavailable: the callable raised; what it raised is the cause.
            InvalidCredential: what the callable returned is no such signature.
        """
        key = self._given
        if isinstance(key, EnvSecret | FileSecret):
            text = yield Call(key, self.what, timeout)
            key = read_kept_key(key, text, alg=self.alg, kid=self.kid, what=self.what)
        kid = key.kid if isinstance(key, Key) else self.kid
        header = {**(headers or {}), "typ": typ, **({} if kid is None else {"kid": kid})}
        if isinstance(key, Key):
            return key.sign(header, claims)
        alg = self.alg or ""  # a callable has one
        data = signing_input(alg, header, claims)
        returned = yield from called(partial(key, data), self.what, timeout)
        return join(data, _checked(returned, alg, self.what))


def read_signer(given: GivenKey, *, alg: str | None = None, kid: str | None = None, what: str = "key") -> Signer:
    """What signs with `given`; as `read_key`, and for a callable `alg` has to be said.

    Raises:
        ConfigurationError: it cannot sign; the message says why.
    """
    if alg is not None:
        _check_alg(alg, what)
    if isinstance(given, EnvSecret | FileSecret):
        return Signer(alg, kid, what, given)
    if callable(given):
        if alg is None:
            raise ConfigurationError(f"{what} is a callable: say with alg= how it signs, such as alg='ES256'")
        return Signer(alg, kid, what, given)
    key = read_key(given, alg=alg, kid=kid, what=what)
    return Signer(key.alg, key.kid, what, key)


def read_key(
    given: str | bytes | Mapping[str, Any], *, alg: str | None = None, kid: str | None = None, what: str = "key"
) -> Key:
    """The private key in `given`.

    Args:
        given: PEM text (PKCS#8, SEC1 or PKCS#1, not encrypted; other blocks beside the key are passed over), or a
            private JWK (RFC 7517 §4), as a mapping or as JSON.
        alg: how it signs. None: as the JWK says, or else as its type has it: RS256 for RSA, ES256, ES384 or ES512 for
            the curves P-256, P-384 and P-521, EdDSA for Ed25519.
        kid: its name. None: as the JWK says.
        what: what it is, for messages.

    Raises:
        ConfigurationError: it cannot sign, or the extra `crypto` is not installed; the message says what to do.
    """
    if isinstance(given, bytes):
        try:
            given = given.decode()
        except UnicodeDecodeError:
            raise ConfigurationError(f"{what} is binary (DER?): give PEM text or a JWK") from None
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise ConfigurationError(f"{what} looks like a JWK and is no JSON: check where it is read from") from None
    if isinstance(given, Mapping):
        private = _of_jwk(given, what)
        alg, kid = alg or given.get("alg"), kid or given.get("kid")
    elif isinstance(given, str):
        private = _of_pem(given, what)
    else:
        raise ConfigurationError(f"{what} must be PEM text or a JWK, not {type(given).__name__}")
    if kid is not None and not isinstance(kid, str):
        raise ConfigurationError(f"the kid of {what} must be a string")
    return _ready(private, alg, kid, what)


def read_kept_key(
    place: EnvSecret | FileSecret, text: str, *, alg: str | None = None, kid: str | None = None, what: str = "key"
) -> Key:
    """The private key in `text`, which was in `place`: as `read_key`, and a message names the file.

    Raises:
        ConfigurationError: as `read_key`.
    """
    if isinstance(place, FileSecret):
        if "-----BEGIN" not in text and not text.startswith("{"):
            raise ConfigurationError(f"the file {place._path} holds no private key (PEM or JWK)")  # noqa: SLF001
        what = f"{what} in the file {place._path}"  # noqa: SLF001
    return read_key(text, alg=alg, kid=kid, what=what)


def make_key(alg: str = "ES256", *, what: str = "a new key") -> Key:
    """A new private key for `alg`.

    Args:
        alg: how it signs.
        what: what it is for, for messages.

    Raises:
        ConfigurationError: there is no such algorithm, or the extra `crypto` is not installed.
    """
    _check_alg(alg, what)
    _need_crypto(what)
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    kind = _ALGS[alg][0]
    if kind == "RSA":
        return _ready(rsa.generate_private_key(65537, LEAST_RSA), alg, None, what)
    if kind == "Ed25519":
        return _ready(ed25519.Ed25519PrivateKey.generate(), alg, None, what)
    curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[kind]
    return _ready(ec.generate_private_key(curve), alg, None, what)


def key_from_json(text: str) -> Key:
    """The key that `Key.to_json` wrote.

    Raises:
        ConfigurationError: it is none.
    """
    return read_key(text, what="the key kept with the token")


def signing_input(alg: str, header: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    """What is signed (RFC 7515 §5.1)."""
    protected = base64url(_encode({**header, "alg": alg}).encode("ascii"))
    return f"{protected}.{base64url(_encode(claims).encode('ascii'))}".encode("ascii")


def join(data: bytes, signature: bytes) -> str:
    """A compact JWS: what was signed, and its signature (RFC 7515 §7.1)."""
    return f"{data.decode('ascii')}.{base64url(signature)}"


def base64url(data: bytes) -> str:
    """`data` as JSON Web Signatures have it: base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _need_crypto(what: str) -> None:
    with need_extra("crypto", what):
        import cryptography  # noqa: F401 - whether it is there


def _check_alg(alg: object, what: str) -> None:
    if not isinstance(alg, str) or alg not in _ALGS:
        raise ConfigurationError(f"{what} cannot sign with that alg: it must be one of {', '.join(_ALGS)}")


def _algorithm(alg: str) -> Any:
    """What pyjwt knows of `alg`."""
    from jwt import algorithms

    kind = _ALGS[alg][0]
    return {"RSA": algorithms.RSAAlgorithm, "Ed25519": algorithms.OKPAlgorithm}.get(kind, algorithms.ECAlgorithm)


def _of_jwk(jwk: Mapping[str, Any], what: str) -> Any:
    if "kty" not in jwk:
        if "keys" in jwk:
            hint = "it is a set of keys: give one of them"
        elif "private_key" in jwk:
            hint = "give its member private_key alone (a service account's file)"
        else:
            hint = "it has no kty"
        raise ConfigurationError(f"{what} is not a JWK: {hint}")
    if jwk["kty"] not in {"RSA", "EC", "OKP"}:
        raise ConfigurationError(
            f"{what} must be a private key of type RSA, EC or OKP, and this JWK is another: "
            "a shared secret (oct) goes into client_secret= with ClientSecretJWT"
        )
    if "d" not in jwk:
        raise ConfigurationError(f"{what} is a public key: to sign, give the private one")
    _need_crypto(what)
    from jwt import algorithms

    reader: Any = {"RSA": algorithms.RSAAlgorithm, "EC": algorithms.ECAlgorithm, "OKP": algorithms.OKPAlgorithm}
    try:
        return reader[jwk["kty"]].from_jwk(dict(jwk))
    except Exception:  # noqa: BLE001 - from None: whatever a parser says may quote what it parses
        raise ConfigurationError(f"{what} is a JWK that cannot be read: check that it is whole") from None


def _of_pem(text: str, what: str) -> Any:
    found = _PRIVATE_PEM.search(text)
    if found is None:
        raise ConfigurationError(f"{what} {_why_no_pem(text)}")
    if found[1].startswith("ENCRYPTED") or "ENCRYPTED" in found[0].partition("\n\n")[0]:
        raise ConfigurationError(
            f"{what} is encrypted: decrypt it first (openssl pkey -in key.pem -out plain.pem), "
            "or keep it in a KMS and give a callable that signs"
        )
    if "\\n" in found[0]:
        raise ConfigurationError(
            f"{what} has a backslash and an n for each of its line ends: replace them by line ends"
        )
    _need_crypto(what)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(found[0].encode(), None)
    except Exception:  # noqa: BLE001 - likewise
        raise ConfigurationError(f"{what} is PEM text that cannot be read: check that it is whole") from None


def _why_no_pem(text: str) -> str:
    if "-----BEGIN" not in text:
        return "is neither PEM text nor a JWK: give the key itself, not the path of its file"
    if "PRIVATE KEY-----" in text:
        return "is PEM text that cannot be read: check that it is whole"
    if "PUBLIC KEY-----" in text:
        return "is a public key: to sign, give the private one"
    if "CERTIFICATE-----" in text:
        return "is a certificate: to sign, give the private key that belongs to it"
    return "has no private key in it: PEM text has a block of that name"


def _kind(private: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, rsa.RSAPrivateKey):
        return "RSA"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "Ed25519"
    return _CURVES.get(private.curve.name, "") if isinstance(private, ec.EllipticCurvePrivateKey) else ""


def _ready(private: Any, alg: str | None, kid: str | None, what: str) -> Key:
    kind = _kind(private)
    if not kind:
        raise ConfigurationError(f"{what} is of a type that does not sign: use RSA, P-256, P-384, P-521 or Ed25519")
    if kind == "RSA" and private.key_size < LEAST_RSA:
        raise ConfigurationError(
            f"{what} is an RSA key of less than {LEAST_RSA} bit: make a longer one (RFC 7518 §3.3)"
        )
    if alg is None:
        alg = next(one for one, (of, _) in _ALGS.items() if of == kind)
    _check_alg(alg, what)
    if _ALGS[alg][0] != kind:
        fitting = ", ".join(one for one, (of, _) in _ALGS.items() if of == kind)
        raise ConfigurationError(
            f"{what} is of type {kind}, and {alg} wants {_ALGS[alg][0]}: give another key, or one of these: {fitting}"
        )
    whole = _algorithm(alg).to_jwk(private.public_key(), as_dict=True)
    public = {name: whole[name] for name in sorted(_PUBLIC & whole.keys())}
    thumbprint = base64url(hashlib.sha256(_encode(public).encode("ascii")).digest())  # RFC 7638 §3: sorted by name
    return Key(alg, kid, thumbprint, public, private, _prepared(private, alg))


def _prepared(private: Any, alg: str) -> Callable[[bytes], bytes]:
    """The signature of what it is given (rule 4)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    kind, name = _ALGS[alg]
    if kind == "Ed25519":
        return private.sign  # type: ignore[no-any-return]  # one of three classes
    hashed = getattr(hashes, name)()
    if kind == "RSA":
        pad: Any = padding.PKCS1v15()
        if alg.startswith("PS"):
            pad = padding.PSS(padding.MGF1(hashed), hashed.digest_size)  # RFC 7518 §3.5: salt as long as the hash
        return lambda data: private.sign(data, pad, hashed)
    ecdsa, half = ec.ECDSA(hashed), _HALF[kind]

    def signature(data: bytes) -> bytes:
        return _of_der(private.sign(data, ecdsa), half) or b""

    return signature


def _checked(returned: object, alg: str, what: str) -> bytes:
    """`returned`, if it can be a signature with `alg`, in the form of RFC 7518 §3."""
    kind = _ALGS[alg][0]
    if isinstance(returned, bytes):
        if kind in _HALF:
            # Of that very length it is the JWS form: a DER signature that short is one in 2^48.
            raw = returned if len(returned) == 2 * _HALF[kind] else _of_der(returned, _HALF[kind])
            if raw is not None:
                return raw
        elif len(returned) >= LEAST_RSA // 8 if kind == "RSA" else len(returned) == 64:
            return returned
    got = f"{len(returned)} bytes" if isinstance(returned, bytes) else type(returned).__name__
    raise InvalidCredential(
        f"the callable given as {what} must return the {alg} signature of what it gets, as bytes: it returned {got}"
    )


def _of_der(signature: bytes, half: int) -> bytes | None:
    """An ECDSA signature in DER (RFC 3279 §2.2.3) as r and s, `half` bytes each (RFC 7518 §3.4); None if it is none."""
    start = 3 if signature[:2] == b"\x30\x81" else 2
    if len(signature) <= start or signature[0] != 0x30 or signature[start - 1] != len(signature) - start:
        return None
    raw = b""
    for _ in range(2):
        size = signature[start + 1] if start + 1 < len(signature) else 0
        number = signature[start + 2 : start + 2 + size]
        if not size or signature[start] != 0x02 or len(number) != size or number[0] > 0x7F:
            return None
        start += 2 + size
        number = number.lstrip(b"\0")
        if len(number) > half:
            return None
        raw += number.rjust(half, b"\0")
    return raw if start == len(signature) else None
