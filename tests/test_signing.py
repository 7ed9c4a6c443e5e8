"""Keys that sign: vectors of the RFCs, what is refused and why, and no private part where it does not belong."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import pickle
import sys
import traceback
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from httpx_tokenflow import (
    ConfigurationError,
    DPoP,
    EnvSecret,
    FileSecret,
    InvalidCredential,
    PrivateKeyJWT,
    TokenEndpointUnavailable,
)
from httpx_tokenflow._signing import _of_der, key_from_json, make_key, read_key, read_signer
from httpx_tokenflow._steps import Call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALGS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]

# RFC 7515 appendix A.3, RFC 8037 appendix A.1, RFC 7517 appendix A.2 (whose public part is the example of RFC 7638)
EC_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}
ED_JWK = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
RSA_JWK = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
    "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
    "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
    "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
    "d": "X4cTteJY_gn4FYPsXB8rdXix5vwsg1FLN5E3EaG6RJoVH-HLLKD9M7dx5oo7GURknchnrRweUkC7hT5fJLM0WbFAKNLWY2vv7B6N"
    "qXSzUvxT0_YSfqijwp3RTzlBaCxWp4doFk5N2o8Gy_nHNKroADIkJ46pRUohsXywbReAdYaMwFs9tv8d_cPVY3i07a3t8MN6TNwm"
    "0dSawm9v47UiCl3Sk5ZiG7xojPLu4sbg1U2jx4IBTNBznbJSzFHK66jT8bgkuqsk0GjskDJk19Z4qwjwbsnn4j2WBii3RL-Us2lG"
    "VkY8fkFzme1z0HbIkfz0Y6mqnOYtqc0X4jfcKoAC8Q",
    "alg": "RS256",
    "kid": "2011-04-29",
}


@cache
def made(alg: str) -> Any:
    return make_key(alg)


def pem(private: Any, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None) -> str:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return private.private_bytes(Encoding.PEM, form, encryption).decode()


def public_pem(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def certificate(private: Any) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "me")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def parts(jws: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = jws.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))  # type: ignore[return-value]


def verify(jws: str, key: Any) -> dict[str, Any]:
    """What pyjwt makes of it; it does not know the newer name of EdDSA."""
    alg = "EdDSA" if key.alg == "Ed25519" else key.alg
    public = jwt.PyJWK(key.public_jwk, algorithm=alg)
    if key.alg == "Ed25519":
        data, _, signature = jws.rpartition(".")
        assert public.Algorithm.verify(data.encode(), public.key, base64.urlsafe_b64decode(signature + "=="))
        return parts(jws)[1]
    return jwt.decode(jws, public, algorithms=[alg])


# What the RFCs say


@pytest.mark.parametrize(
    ("jwk", "thumbprint"),
    [
        (RSA_JWK, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),  # RFC 7638 §3.1
        (ED_JWK, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),  # RFC 8037 appendix A.3
        (EC_JWK, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"),  # RFC 7515 appendix A.3; by jose
    ],
    ids=["RSA", "Ed25519", "P-256"],
)
def test_thumbprints(jwk: dict[str, Any], thumbprint: str) -> None:
    """RFC 7638: of the members that make the public key, sorted by name, whatever else the JWK has."""
    assert read_key(jwk).thumbprint == thumbprint
    assert read_key({**jwk, "use": "sig", "x-other": "1"}, kid="another").thumbprint == thumbprint


def test_a_signature_of_ed25519() -> None:
    """RFC 8037 appendix A.4: the signature is as there."""
    data = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    assert base64.urlsafe_b64encode(read_key(ED_JWK)._signature(data)).decode().rstrip("=") == expected


@pytest.mark.parametrize("alg", ALGS)
def test_what_is_signed_can_be_verified(alg: str) -> None:
    """Each algorithm, by another implementation; the header has what was given and the alg, and no kid by itself."""
    key = made(alg)
    for text in ("", "aäß€"):  # ECDSA is random: a short r or s must come out at full length, see below
        jws = key.sign({"typ": "x"}, {"a": text})
        assert parts(jws)[0] == {"alg": alg, "typ": "x"}
        assert verify(jws, key) == {"a": text}
    assert "=" not in jws
    assert parts(key.sign({"alg": "none"}, {}))[0] == {"alg": alg}


def test_a_signature_by_pss_has_a_salt_as_long_as_the_hash() -> None:
    """RFC 7518 §3.5, to which strict servers hold."""
    from cryptography.hazmat.primitives.asymmetric import padding

    for alg, hashed in (("PS256", hashes.SHA256()), ("PS512", hashes.SHA512())):
        key = read_key(RSA_JWK, alg=alg)
        data, _, signature = key.sign({}, {}).rpartition(".")
        exact = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
        key._private.public_key().verify(base64.urlsafe_b64decode(signature + "=="), data.encode(), exact, hashed)


# Reading


@pytest.mark.parametrize(
    ("private", "alg"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (rsa.generate_private_key(65537, 2048), "RS256"),
    ],
    ids=["P-256", "P-384", "P-521", "RSA"],
)
def test_pem_of_every_form(private: Any, alg: str) -> None:
    """PKCS#8 and the older forms, as text or bytes, with other blocks and words around the key; alg by the type."""
    old = pem(private, PrivateFormat.TraditionalOpenSSL)
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    texts = [pem(private), old, old.encode(), parameters + old, certificate(private) + pem(private)]
    texts += [f"Bag Attributes\n  friendlyName: me\n{pem(private)}\n", pem(private).replace("\n", "\r\n")]
    keys = [read_key(text) for text in texts]
    assert {key.thumbprint for key in keys} == {keys[0].thumbprint}
    assert {(key.alg, key.kid) for key in keys} == {(alg, None)}
    assert verify(keys[1].sign({}, {"a": 1}), keys[0]) == {"a": 1}


def test_an_ed25519_key_in_pem() -> None:
    """PKCS#8 is the only form that there is."""
    key = read_key(pem(made("EdDSA")._private), kid="k")
    assert (key.alg, key.kid, key.thumbprint) == ("EdDSA", "k", made("EdDSA").thumbprint)


def test_a_jwk_brings_alg_and_kid() -> None:
    """Its own are used unless others are given; as a mapping, as JSON, and as bytes of it."""
    for form in (RSA_JWK, json.dumps(RSA_JWK), json.dumps(RSA_JWK, indent=1).encode()):
        own, given = read_key(form), read_key(form, alg="PS384", kid="k")
        assert (own.alg, own.kid) == ("RS256", "2011-04-29")
        assert (given.alg, given.kid) == ("PS384", "k")


@pytest.mark.parametrize("alg", ALGS)
def test_a_key_comes_back_from_json(alg: str) -> None:
    """`to_json` and `key_from_json`: the same key, with its alg and its kid."""
    key = read_key(made(alg).to_json(), kid="k")
    twin = key_from_json(key.to_json())
    assert (twin.alg, twin.kid, twin.thumbprint) == (alg, "k", made(alg).thumbprint)
    assert "kid" not in json.loads(made(alg).to_json())
    assert verify(twin.sign({}, {"a": 1}), made(alg)) == {"a": 1}


# What cannot sign

EC_KEY = ec.generate_private_key(ec.SECP256R1())
WRONG: dict[str, tuple[Any, str | None, str]] = {
    "public PEM": (public_pem(EC_KEY), None, "is a public key: to sign, give the private one"),
    "public JWK": ({name: EC_JWK[name] for name in ("kty", "crv", "x", "y")}, None, "is a public key"),
    "certificate": (certificate(EC_KEY), None, "is a certificate"),
    "secret": ({"kty": "oct", "k": "U0VOVElORUw"}, None, "goes into client_secret= with ClientSecretJWT"),
    "encrypted": (pem(EC_KEY, password=b"SENTINEL"), None, "is encrypted: decrypt it first"),
    "encrypted as of old": (
        pem(EC_KEY, PrivateFormat.TraditionalOpenSSL, b"SENTINEL"), None, "is encrypted: decrypt it first"
    ),
    "path": ("/etc/keys/client.pem", None, "not the path of its file"),
    "empty": ("", None, "neither PEM text nor a JWK"),
    "garbage": ("-----BEGIN PRIVATE KEY-----\nU0VOVElORUw=\n-----END PRIVATE KEY-----", None, "check that it is whole"),
    "half": (pem(EC_KEY)[:80], None, "check that it is whole"),
    "one line": (pem(EC_KEY).replace("\n", "\\n"), None, "line ends"),
    "other block": ("-----BEGIN X-----\nU0VOVElORUw=\n-----END X-----\n", None, "has no private key in it"),
    "DER": (base64.b64decode("".join(pem(EC_KEY).splitlines()[1:-1])), None, "is binary"),
    "broken JSON": ('{"kty": "EC", "d": "SENTINEL"', None, "is no JSON"),
    "deep JSON": ('{"a":' * 100_000, None, "is no JSON"),
    "set": ({"keys": [EC_JWK]}, None, "it is a set of keys"),
    "Google's file": ({"type": "service_account", "private_key": "SENTINEL"}, None, "its member private_key alone"),
    "no kty": ({"d": "SENTINEL"}, None, "it has no kty"),
    "half a JWK": ({"kty": "EC", "crv": "P-256", "d": EC_JWK["d"]}, None, "check that it is whole"),
    "damaged JWK": ({**EC_JWK, "d": "SENTINEL!"}, None, "check that it is whole"),
    "damaged member": ({**RSA_JWK, "d": 5}, None, "check that it is whole"),
    "other point": ({**EC_JWK, "y": EC_JWK["x"]}, None, "check that it is whole"),
    "kid": ({**EC_JWK, "kid": 5}, None, "kid of key must be a string"),
    "a number": (5, None, "not int"),
    "nothing": (None, None, "not NoneType"),
    "short RSA": (pem(rsa.generate_private_key(65537, 1024)), None, "less than 2048 bit"),
    "secp256k1": (pem(ec.generate_private_key(ec.SECP256K1())), None, "a type that does not sign"),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate()), None, "a type that does not sign"),
    "X25519": (pem(x25519.X25519PrivateKey.generate()), None, "a type that does not sign"),
    "DSA": (pem(dsa.generate_private_key(1024)), None, "a type that does not sign"),
    "no alg": (EC_JWK, "none", "must be one of RS256"),
    "HMAC": (EC_JWK, "HS256", "must be one of RS256"),
    "encryption": ({**EC_JWK, "alg": "ECDH-ES"}, None, "must be one of RS256"),
    "alg of no kind": ({**EC_JWK, "alg": ["ES256"]}, None, "must be one of RS256"),
    "P-256, ES384": (EC_JWK, "ES384", "of type P-256, and ES384 wants P-384: give another key, or one of these: ES256"),
    "P-256, RS256": (EC_JWK, "RS256", "of type P-256, and RS256 wants RSA"),
    "RSA, ES256": (RSA_JWK, "ES256", "of type RSA, and ES256 wants P-256: .* RS256, RS384, RS512, PS256"),
    "Ed25519, ES256": (ED_JWK, "ES256", "of type Ed25519, and ES256 wants P-256"),
    "RSA, EdDSA": (RSA_JWK, "EdDSA", "of type RSA, and EdDSA wants Ed25519"),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "alg", "why"), WRONG.values(), ids=WRONG)
def test_what_cannot_sign_is_refused_and_not_quoted(wrong: Any, alg: str | None, why: str) -> None:
    """Each its own sentence, which says what to do; nothing of the key is in it, nor in the traceback."""
    with pytest.raises(ConfigurationError, match=why) as caught:
        read_key(wrong, alg=alg)
    assert str(caught.value).startswith(("key ", "the kid of key "))
    shown = "".join(traceback.format_exception(caught.value)).partition("ConfigurationError")[2]
    for private in ("SENTINEL", EC_JWK["d"], RSA_JWK["d"], ED_JWK["d"], *pem(EC_KEY).splitlines()[1:-1]):
        assert private not in shown


def test_what_cannot_be_made() -> None:
    """There are keys for the algorithms that there are; the public exponent and the size are the usual ones."""
    for alg in ("HS256", "none", ""):
        with pytest.raises(ConfigurationError, match="must be one of"):
            make_key(alg)
    assert made("RS256")._private.key_size == 2048


def test_a_damaged_key_of_a_store_says_what_it_was() -> None:
    """`key_from_json` names the place, and is an error of ours."""
    with pytest.raises(ConfigurationError, match="the key kept with the token"):
        key_from_json("damaged")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it, and what needs it; a callable that signs does without."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    needs: dict[str, Callable[[], object]] = {
        "PrivateKeyJWT's key": lambda: PrivateKeyJWT(EC_JWK), "JWTBearer's key": lambda: read_key(
            pem(EC_KEY), what="JWTBearer's key"
        ), "a new key": make_key, "DPoP": DPoP, "DPoP's key": lambda: DPoP(EC_JWK),
    }  # fmt: skip
    for what, read in needs.items():
        with pytest.raises(ConfigurationError, match=rf"^{what} needs the extra crypto: .*\[crypto\]'$"):
            read()
    assert perform(read_signer(lambda data: b"s" * 64, alg="ES256"), lambda step: step.function())


# No private part where it does not belong


@pytest.mark.parametrize("alg", ALGS)
def test_a_key_shows_its_public_part_only(alg: str) -> None:
    """repr, str, public_jwk, vars, asdict, pickle and copy: the private members are in none of them."""
    key = key_from_json(made(alg).to_json())
    whole = json.loads(key.to_json())
    private = {name: value for name, value in whole.items() if name not in {"kty", "crv", "x", "y", "n", "e", "alg"}}
    assert private
    signer = read_signer(whole)
    shown = [repr(key), str(key), f"{key:}", json.dumps(key.public_jwk), repr(signer), key.sign({}, {})]
    shown += [repr(dataclasses.asdict(signer)), repr([getattr(key, name) for name in ("alg", "kid", "thumbprint")])]
    for value in private.values():
        assert not any(value in one for one in shown)
    assert set(key.public_jwk) <= {"kty", "crv", "x", "y", "n", "e"}
    for thing in (key, signer):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing)
    with pytest.raises(TypeError, match="dataclass"):
        dataclasses.asdict(key)
    assert copy.copy(key) is copy.deepcopy(key) is key


def test_a_key_does_not_change() -> None:
    """It is frozen, and what it hands out is a copy."""
    key = read_key(EC_JWK)
    key.public_jwk["d"] = "x"
    assert "d" not in key.public_jwk
    with pytest.raises(AttributeError):
        key.alg = "none"  # type: ignore[misc]


# Keys that live elsewhere


def perform(signer: Any, answer: Any) -> str:
    """One signature of {"a": 1}; `answer` does what the step says."""
    flow = signer.sign({"a": 1}, 5.0)
    try:
        step = next(flow)
        assert isinstance(step, Call)
        assert (step.what, step.timeout) == ("key", 5.0)
        flow.send(answer(step))
    except StopIteration as end:
        return end.value
    raise AssertionError("it goes on")


@pytest.mark.parametrize("alg", ALGS)
def test_a_callable_signs(alg: str) -> None:
    """It gets the signing input, and its signature is the JWS's; ECDSA in DER, as services return it, or ready."""
    key = made(alg)
    asked: list[bytes] = []

    def ready(data: bytes) -> bytes:
        asked.append(data)
        return key._signature(data)

    def der(data: bytes) -> bytes:
        hashed = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}[alg]
        return key._private.sign(data, ec.ECDSA(hashed))

    for sign in (ready, der) if alg.startswith("ES") else (ready,):
        jws = perform(read_signer(sign, alg=alg, kid="k"), lambda step: step.function())
        assert verify(jws, key) == {"a": 1}
        assert parts(jws)[0] == {"alg": alg, "typ": "JWT", "kid": "k"}
        assert asked == ([] if sign is der else [jws.rpartition(".")[0].encode()])
        asked.clear()


@pytest.mark.parametrize(
    ("alg", "returned", "got"),
    [
        ("ES256", b"", "0 bytes"),
        ("ES256", b"s" * 63, "63 bytes"),
        ("ES256", "s" * 64, "str"),
        ("ES256", bytearray(64), "bytearray"),
        ("ES256", None, "NoneType"),
        ("ES384", b"s" * 64, "64 bytes"),
        ("ES256", encode_dss_signature(2**300, 1), "bytes"),
        ("EdDSA", b"s" * 65, "65 bytes"),
        ("RS256", b"s" * 255, "255 bytes"),
        ("PS256", "SENTINEL", "str"),
    ],
)
def test_what_a_callable_returns_is_checked(alg: str, returned: Any, got: str) -> None:
    """Something else than a signature of that algorithm is refused before it is sent, and not quoted."""
    with pytest.raises(InvalidCredential, match=f"as bytes: it returned .*{got}") as caught:
        perform(read_signer(lambda data: returned, alg=alg), lambda step: step.function())
    assert "SENTINEL" not in str(caught.value)


def test_what_a_callable_raises_is_the_cause() -> None:
    """Nothing was sent, and its words stay in the cause; an error of ours passes as it is."""
    for raised, kind in (
        (LookupError("SENTINEL"), TokenEndpointUnavailable),
        (TimeoutError(), TokenEndpointUnavailable),
    ):
        flow = read_signer(len, alg="RS256").sign({}, 1.0)
        next(flow)
        with pytest.raises(kind, match=f"given as key raised {type(raised).__name__}") as caught:
            flow.throw(raised)
        assert caught.value.__cause__ is raised
        assert (caught.value.outcome, caught.value.retryable) == ("not sent", False)
        assert "SENTINEL" not in str(caught.value)
    flow = read_signer(len, alg="RS256").sign({}, 1.0)
    next(flow)
    with pytest.raises(ConfigurationError, match="ours"):
        flow.throw(ConfigurationError("ours"))


def test_a_callable_needs_an_alg() -> None:
    """Nobody else can say how it signs."""
    with pytest.raises(ConfigurationError, match="say with alg="):
        read_signer(len)
    with pytest.raises(ConfigurationError, match="must be one of"):
        read_signer(len, alg="HS256")


def test_a_key_in_a_file_is_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounted secrets change: the next signature is by the new key, with its own kid and alg; so in the environment."""
    path = tmp_path / "key"
    signer = read_signer(FileSecret(path))
    for key in (read_key(made("ES256").to_json(), kid="a"), read_key(made("RS256").to_json(), kid="b")):
        path.write_text(key.to_json() + "\n")
        jws = perform(signer, lambda step: step.function())
        assert verify(jws, key) == {"a": 1}
        assert parts(jws)[0] == {"alg": key.alg, "typ": "JWT", "kid": key.kid}
    assert (signer.proof, read_signer(FileSecret(path), kid="k").proof) == (None, "k")
    for content, says in {
        "SENTINEL": f"the file {path} holds no private key (PEM or JWK)",
        '{"kty": "SENTINEL"}': f"key in the file {path} must be a private key of type RSA, EC or OKP",
    }.items():
        path.write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            perform(signer, lambda step: step.function())
        assert str(caught.value).startswith(says)
        assert "SENTINEL" not in str(caught.value)

    monkeypatch.setenv("MY_KEY", pem(EC_KEY))
    jws = perform(read_signer(EnvSecret("MY_KEY"), kid="k"), lambda step: step.function())
    assert verify(jws, read_key(pem(EC_KEY))) == {"a": 1}
    assert parts(jws)[0]["kid"] == "k"
    with pytest.raises(ConfigurationError, match="must be one of"):
        read_signer(EnvSecret("MY_KEY"), alg="HS256")


def test_what_names_a_key() -> None:
    """A key at hand by its thumbprint, whatever its kid; one elsewhere by its kid, or not at all."""
    assert read_signer(EC_JWK, kid="k").proof == read_key(EC_JWK).thumbprint
    assert (read_signer(len, alg="RS256", kid="k").proof, read_signer(len, alg="RS256").proof) == ("k", None)


# ECDSA in DER

HALVES = {32: ec.SECP256R1(), 48: ec.SECP384R1(), 66: ec.SECP521R1()}


@given(half=st.sampled_from(sorted(HALVES)), data=st.data())
def test_der_becomes_r_and_s_of_full_length(half: int, data: Any) -> None:
    """RFC 7518 §3.4, for numbers of any length, as `cryptography` encodes them."""
    numbers = st.one_of(st.integers(1, 2 ** (8 * half) - 1), st.integers(1, 300), st.just(2 ** (8 * half - 1)))
    r, s = data.draw(numbers), data.draw(numbers)
    assert _of_der(encode_dss_signature(r, s), half) == r.to_bytes(half, "big") + s.to_bytes(half, "big")


@given(given_bytes=st.binary(max_size=80), half=st.sampled_from(sorted(HALVES)))
def test_what_is_no_der_is_none(given_bytes: bytes, half: int) -> None:
    """Whatever it is, there is an answer: nothing, or a signature of the right length."""
    for one in (given_bytes, b"\x30" + bytes([len(given_bytes)]) + given_bytes, b"\x30\x81" + given_bytes):
        found = _of_der(one, half)
        assert found is None or len(found) == 2 * half


@given(at=st.integers(0, 69), change=st.integers(1, 255))
def test_der_that_is_damaged_in_its_frame_is_none(at: int, change: int) -> None:
    """One changed byte of a tag or a length is seen; one in a number makes another number, which the server refuses."""
    r, s = 2**250 + 1, 2**250 + 2
    whole = bytearray(encode_dss_signature(r, s))
    assert len(whole) == 70
    whole[at] ^= change
    frame = at in {0, 1, 2, 3, 36, 37}
    assert (_of_der(bytes(whole), 32) is None) >= frame
    assert _of_der(bytes(whole) + b"\0", 32) is None
    assert _of_der(b"\x30\x06\x02\x01\x81\x02\x01\x01", 32) is None  # a number below zero
    assert _of_der(bytes(whole)[:-1], 32) is None
