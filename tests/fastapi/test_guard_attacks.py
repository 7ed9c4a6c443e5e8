"""The guard against a list of attacks: all are refused, for the right reason, in bounded time, and say nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import guarding
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from guarding import AUDIENCE, ISSUER, NOW, Issuer, Reply, Time, ask, b64, claims, header, jwk, sign
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import HMACAlgorithm

from httpx_tokenflow._challenges import parse_challenges
from httpx_tokenflow.fastapi import Guard, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND = 5.0  # seconds: catches what hangs, and nothing else

KEYS = [jwk("rsa-1"), jwk("ec256-1"), jwk("ed-1"), jwk("rsa1024-1"), jwk("rsa-enc", use="enc"), jwk("rsa-2", kid=None)]
SECRET = b"0123456789abcdef0123456789abcdef"
ATTACKER = "https://attacker.example/keys"


def guarded(**how: Any) -> tuple[Any, Issuer]:
    issuer = Issuer(keys=[*KEYS, {"kty": "oct", "kid": "oct-1", "k": b64(SECRET), "alg": "HS256"}])
    return guarding.app_of(Guard(issuer.verifier(Time(), **how))), issuer


def unsigned(head: Any, payload: Any = None, signature: str = "") -> str:
    payload = claims() if payload is None else payload
    return f"{b64(guarding.as_json(head))}.{b64(guarding.as_json(payload))}.{signature}"


def by_secret(secret: bytes, **changes: Any) -> str:
    head, signer = header(**{"alg": "HS256", **changes}), HMACAlgorithm(HMACAlgorithm.SHA256)
    message = f"{b64(json.dumps(head))}.{b64(json.dumps(claims()))}"
    return f"{message}.{b64(signer.sign(message.encode(), secret))}"


def public(encoding: Encoding, layout: PublicFormat) -> bytes:
    return guarding.private_key("rsa-1").public_key().public_bytes(encoding, layout)


def by_attacker(**changes: Any) -> str:
    return sign(header(**changes), claims(), "rsa-attacker")


def ec_token(change: Callable[[bytes], bytes]) -> str:
    message = f"{b64(json.dumps(header(alg='ES256', kid='ec256-1')))}.{b64(json.dumps(claims()))}"
    signature = guarding.SIGNERS["ES256"].sign(message.encode(), guarding.private_key("ec256-1"))
    return f"{message}.{b64(change(signature))}"


def der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def said(**changes: Any) -> str:
    return sign(header(), claims(**changes))


def raw_payload(text: str) -> str:
    return sign(header(), text)


GOOD = json.dumps(claims())[1:-1]


def with_exp(text: str) -> str:
    return raw_payload("{" + GOOD.replace(f'"exp": {NOW + 600}', f'"exp": {text}') + "}")


MALFORMED, ALGORITHM, KIND, KEY = Reason.MALFORMED, Reason.ALGORITHM, Reason.KIND, Reason.KEY
SIGNATURE, LACKING, AUD, ISS = Reason.SIGNATURE, Reason.LACKING, Reason.AUDIENCE, Reason.ISSUER

ATTACKS: list[tuple[str, Callable[[], str], Reason]] = [
    # no signature
    *((f"alg {one}", lambda one=one: unsigned(header(alg=one)), ALGORITHM) for one in ("none", "None", "NONE", "nOnE")),
    ("alg none with a signature", lambda: unsigned(header(alg="none"), signature="AAAA"), ALGORITHM),
    ("alg empty", lambda: sign(header(alg=""), claims()), ALGORITHM),
    ("alg missing", lambda: sign(header(alg=None), claims()), ALGORITHM),
    ("alg a list", lambda: sign(header(alg=["RS256"]), claims()), ALGORITHM),
    ("alg a dict", lambda: sign(header(alg={"RS256": 1}), claims()), ALGORITHM),
    ("alg in lower case", lambda: sign(header(alg="rs256"), claims()), ALGORITHM),
    ("no signature at all", lambda: unsigned(header()), SIGNATURE),
    # algorithm confusion
    ("HS256 with the PEM", lambda: by_secret(public(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)), ALGORITHM),
    ("HS256 with the DER", lambda: by_secret(public(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)), ALGORITHM),
    ("HS256 with PKCS1", lambda: by_secret(public(Encoding.PEM, PublicFormat.PKCS1)), ALGORITHM),
    ("HS256 with the JWK", lambda: by_secret(json.dumps(jwk("rsa-1")).encode()), ALGORITHM),
    ("HS256 with nothing", lambda: by_secret(b"\0"), ALGORITHM),
    ("HS256 with an oct of the set", lambda: by_secret(SECRET, kid="oct-1"), ALGORITHM),
    ("HS512", lambda: by_secret(SECRET, alg="HS512"), ALGORITHM),
    ("ES256 for an RSA key", lambda: sign(header(alg="ES256"), claims(), "ec256-1", algorithm="ES256"), KEY),
    ("RS256 for an EC key", lambda: sign(header(kid="ec256-1"), claims()), KEY),
    ("ES384 for a P-256 key", lambda: sign(header(alg="ES384", kid="ec256-1"), claims()), KEY),
    ("RSA of 1024 bits", lambda: sign(header(kid="rsa1024-1"), claims(), "rsa1024-1"), KEY),
    ("a key for encryption", lambda: sign(header(kid="rsa-enc"), claims(), "rsa-enc"), KEY),
    ("a key without a name, named", lambda: sign(header(kid="rsa-2"), claims(), "rsa-2"), KEY),
    # signatures
    ("another's signature", by_attacker, SIGNATURE),
    ("another's signature, no kid", lambda: by_attacker(kid=None), SIGNATURE),
    ("a signature cut off", lambda: said()[:-2], SIGNATURE),
    ("a signature cut off within a byte", lambda: said()[:-1], MALFORMED),
    ("psychic signature", lambda: ec_token(lambda _: bytes(64)), SIGNATURE),
    ("r and s as the order", lambda: ec_token(lambda _: b"\xff" * 64), SIGNATURE),
    ("ES256 in DER", lambda: ec_token(der), SIGNATURE),
    ("ES256 cut off", lambda: ec_token(lambda raw: raw[:-1]), SIGNATURE),
    ("ES256 and more", lambda: ec_token(lambda raw: raw + b"\0"), SIGNATURE),
    (
        "EdDSA of zeros",
        lambda: unsigned(header(alg="EdDSA", kid="ed-1"), signature=b64(bytes(64))),
        SIGNATURE,
    ),
    ("RSA of zeros", lambda: unsigned(header(), signature=b64(bytes(256))), SIGNATURE),
    ("PS256 by an RS256 signature", lambda: sign(header(alg="PS256"), claims()), SIGNATURE),
    # the key's name
    *(
        (f"kid {one[:20]!r}", lambda one=one: by_attacker(kid=one), KEY)
        for one in ("../../dev/null", "x' UNION SELECT 'key'--", "\0", "rsa-1\0", "", "file:///etc/passwd", "é" * 200)
    ),
    *(
        (f"kid of another type {at}", lambda one=one: sign({**header(), "kid": one}, claims()), MALFORMED)
        for at, one in enumerate((["rsa-1"], {"rsa-1": 1}, 1, True, None, "x" * 257, "x" * 5000))
    ),
    # keys and places in the token
    ("jku", lambda: by_attacker(jku=ATTACKER), SIGNATURE),
    ("jku and a kid of theirs", lambda: by_attacker(jku=ATTACKER, kid="rsa-attacker"), KEY),
    ("x5u", lambda: by_attacker(x5u=ATTACKER), SIGNATURE),
    ("jwk", lambda: by_attacker(jwk=jwk("rsa-attacker")), SIGNATURE),
    ("jwk, no kid", lambda: by_attacker(jwk=jwk("rsa-attacker"), kid=None), SIGNATURE),
    ("x5c", lambda: by_attacker(x5c=["MIIB"]), SIGNATURE),
    ("iss a URL of theirs", lambda: sign(header(), claims(iss="https://attacker.example"), "rsa-attacker"), SIGNATURE),
    # what changes the meaning of the rest
    ("crit", lambda: sign(header(crit=["exp"]), claims()), MALFORMED),
    ("crit empty", lambda: sign(header(crit=[]), claims()), MALFORMED),
    ("b64 false", lambda: sign(header(b64=False, crit=["b64"]), claims()), MALFORMED),
    ("b64 false, not critical", lambda: sign(header(b64=False), claims()), MALFORMED),
    ("zip", lambda: sign(header(zip="DEF"), claims()), MALFORMED),
    ("JWE", lambda: ".".join([b64(json.dumps({"alg": "RSA-OAEP", "enc": "A256GCM"})), *["AAAA"] * 4]), MALFORMED),
    # other kinds of token
    *(
        (f"typ {one}", lambda one=one: sign(header(typ=one), claims()), KIND)
        for one in ("dpop+jwt", "logout+jwt", "application/logout+jwt", "id_token", "secevent+jwt", "JWS", "jwt ", "")
    ),
    ("typ a list", lambda: sign(header(typ=["at+jwt"]), claims()), MALFORMED),
    ("typ null", lambda: sign({**header(), "typ": None}, claims()), MALFORMED),
    ("an ID token", lambda: sign(header(typ="JWT"), claims(at_hash="x")), KIND),
    ("an ID token of Cognito", lambda: said(token_use="id"), KIND),
    ("a refresh token of Keycloak", lambda: said(typ="Refresh"), KIND),
    ("an offline token of Keycloak", lambda: said(typ="Offline"), KIND),
    ("an ID token of the hybrid flow", lambda: said(c_hash="x"), KIND),
    ("a logout token", lambda: said(events={"http://schemas.openid.net/event/backchannel-logout": {}}), KIND),
    ("bound by DPoP", lambda: said(cnf={"jkt": "x"}), Reason.BOUND),
    ("bound to a certificate", lambda: said(cnf={"x5t#S256": "x"}), Reason.BOUND),
    ("bound to nothing", lambda: said(cnf={}), Reason.BOUND),
    # times
    ("expired", lambda: said(exp=NOW - 31), Reason.EXPIRED),
    ("expired at the second", lambda: said(exp=NOW - 30), Reason.EXPIRED),
    ("expired for ever", lambda: said(exp=0), Reason.EXPIRED),
    ("not yet", lambda: said(nbf=NOW + 31), Reason.NOT_YET),
    ("issued in the future", lambda: said(iat=NOW + 31), Reason.NOT_YET),
    ("no exp", lambda: said(exp=None), LACKING),
    *(
        (f"exp {one[:12]}", lambda one=one: with_exp(one), MALFORMED)
        for one in (
            "true",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e400",
            "-1",
            "null",
            '"1900000000"',
            "[1900000000]",
            "{}",
            "1900000000000",
            "9" * 5000,
            "1e30",
        )
    ),
    ("nbf a string", lambda: said(nbf="0"), MALFORMED),
    ("nbf true", lambda: said(nbf=True), MALFORMED),
    ("iat a list", lambda: said(iat=[0]), MALFORMED),
    # who it is from and for
    ("no iss", lambda: said(iss=None), LACKING),
    ("iss another", lambda: said(iss="https://other.example"), ISS),
    ("iss with a slash more", lambda: said(iss=f"{ISSUER}/"), ISS),
    ("iss in capitals", lambda: said(iss=ISSUER.upper()), ISS),
    ("iss a list", lambda: said(iss=[ISSUER]), ISS),
    ("no aud", lambda: said(aud=None), LACKING),
    ("aud another", lambda: said(aud="https://other.example"), AUD),
    ("aud a list of others", lambda: said(aud=["https://other.example", f"{AUDIENCE}/"]), AUD),
    ("aud a list of nobody", lambda: said(aud=[]), AUD),
    ("aud empty", lambda: said(aud=""), AUD),
    ("aud part of ours", lambda: said(aud="https"), AUD),
    ("aud more than ours", lambda: said(aud=f"{AUDIENCE}.attacker.example"), AUD),
    *(
        (f"aud of another type {at}", lambda one=one: said(aud=one), MALFORMED)
        for at, one in enumerate(({AUDIENCE: 1}, 1, True, [AUDIENCE, 1], [[AUDIENCE]], {"aud": AUDIENCE}))
    ),
    ("sub a list", lambda: said(sub=["ada"]), MALFORMED),
    ("scope a list", lambda: said(scope=["read"]), MALFORMED),
    ("scp a dict", lambda: said(scope=None, scp={"read": 1}), MALFORMED),
    ("client_id a number", lambda: said(client_id=1), MALFORMED),
    # form
    ("huge", lambda: said(pad="x" * 20_000), Reason.TOO_LARGE),
    ("a huge header", lambda: sign(header(pad="x" * 9_000), claims()), MALFORMED),
    ("a header that is a list", lambda: sign([header()], claims()), MALFORMED),
    ("a header that is no JSON", lambda: sign("{", claims()), MALFORMED),
    ("a payload that is a list", lambda: sign(header(), [claims()]), MALFORMED),
    ("a payload that is no JSON", lambda: raw_payload("{"), MALFORMED),
    ("no payload", lambda: raw_payload(""), MALFORMED),
    ("a deep header", lambda: sign('{"a":' + "[" * 2900 + "]" * 2900 + "}", claims()), MALFORMED),
    ("a deep payload", lambda: raw_payload('{"a":' + "[" * 5000 + "]" * 5000 + "}"), MALFORMED),
    ("a payload somewhat deep", lambda: raw_payload("{" + GOOD + ',"a":' + "[" * 20 + "]" * 20 + "}"), MALFORMED),
    ("a deep payload of objects", lambda: raw_payload('{"a":' * 1500 + "1" + "}" * 1500), MALFORMED),
    ("alg twice", lambda: sign('{"alg":"none","alg":"RS256","kid":"rsa-1"}', claims()), MALFORMED),
    ("aud twice", lambda: raw_payload("{" + GOOD + f',"aud":"{AUDIENCE}"' + "}"), MALFORMED),
    ("a member twice, further down", lambda: raw_payload("{" + GOOD + ',"a":{"b":1,"b":2}}'), MALFORMED),
    ("a number that is none", lambda: raw_payload("{" + GOOD + ',"a":NaN}'), MALFORMED),
    ("a number beyond all", lambda: raw_payload("{" + GOOD + ',"a":1e999}'), MALFORMED),
    ("half of a pair", lambda: raw_payload("{" + GOOD + r',"a":["\uD83D"]}'), MALFORMED),
    ("half of a pair in a name", lambda: raw_payload("{" + GOOD + r',"\ude00":1}'), MALFORMED),
    ("half of a pair in the header", lambda: sign(r'{"alg":"RS256","kid":"rsa-1","a":"\ud83d"}', claims()), MALFORMED),
    ("one part", lambda: "abc", MALFORMED),
    ("two parts", lambda: said().rpartition(".")[0], MALFORMED),
    ("four parts", lambda: said() + ".AAAA", MALFORMED),
    ("dots", lambda: "..", MALFORMED),
    ("a hundred dots", lambda: "." * 100, MALFORMED),
    ("padding", lambda: said() + "=", MALFORMED),
    ("standard base64", lambda: "++//" + said(), MALFORMED),
]


def check(reply: Reply, sent: str, status: int, error: str | None, why: str | None) -> None:
    """`reply` refuses, as it must, and says nothing of what was sent."""
    assert reply.status == status
    (challenge,) = parse_challenges([reply.challenge or ""])
    assert challenge.is_scheme("Bearer")
    assert challenge.error == error
    assert challenge.error_description == why
    assert challenge.realm == "api"
    assert reply.field("cache-control") == "no-store"
    shown = b" ".join([reply.body, *(value for _, value in reply.fields)]).decode()
    assert not any(part in shown for part in sent.split(".") if len(part) > 3)
    assert "ada" not in shown
    assert "attacker" not in shown


@pytest.fixture(scope="module")
def guarded_app() -> tuple[Any, Issuer]:
    return guarded()


@pytest.mark.parametrize("attack", ATTACKS, ids=[name for name, _, _ in ATTACKS])
@pytest.mark.asyncio
async def test_attacks_are_refused(
    guarded_app: tuple[Any, Issuer], attack: tuple[str, Callable[[], str], Reason], caplog: Any
) -> None:
    """A token that is not what it should be gets a 401 with the reason, and nobody but the issuer is asked."""
    _, make, reason = attack
    app, issuer = guarded_app
    caplog.set_level("DEBUG", "httpx_tokenflow")
    sent = make()
    started = time.monotonic()
    reply = await ask(app, f"Bearer {sent}")
    assert time.monotonic() - started < BOUND
    check(reply, sent, 401, "invalid_token", str(reason))
    assert set(issuer.seen) <= {"/.well-known/openid-configuration", "/jwks"}
    assert not any(part in caplog.text for part in sent.split(".") if len(part) > 3)


@pytest.mark.asyncio
async def test_the_honest_token_passes() -> None:
    """What the attacks are made of is a good token: without the attack it gets in, by each kind of key."""
    app, _ = guarded()
    for one in (
        said(),
        sign(header(kid=None), claims()),
        sign(header(kid=None), claims(), "rsa-2"),
        sign(header(typ=None), claims(aud=["x", AUDIENCE])),
        sign(header(typ="application/at+JWT"), claims(nbf=NOW + 29, iat=NOW + 29)),
        said(exp=NOW - 29),
        sign(header(alg="PS512"), claims(), algorithm="PS512"),
        ec_token(lambda raw: raw),
        sign(header(alg="EdDSA", kid="ed-1"), claims(), "ed-1", algorithm="EdDSA"),
        sign(header(jku=ATTACKER), claims()),
        raw_payload("{" + GOOD + r',"a":"\uD83D\uDE00"}'),
        raw_payload("{" + GOOD + ',"a":' + "[" * 14 + "]" * 14 + "}"),
    ):
        reply = await ask(app, f"Bearer {one}")
        assert (reply.status, reply.body) == (200, b'{"sub":"ada"}'), one


GOOD_TOKEN = guarding.token()
BAD_FIELDS: list[tuple[str, list[bytes]]] = [
    ("two fields", [f"Bearer {GOOD_TOKEN}".encode()] * 2),
    ("a good one and another scheme", [f"Bearer {GOOD_TOKEN}".encode(), b"Basic YTpi"]),
    ("another scheme and a good one", [b"Basic YTpi", f"Bearer {GOOD_TOKEN}".encode()]),
    ("two credentials in one", [f"Bearer {GOOD_TOKEN}, Bearer {GOOD_TOKEN}".encode()]),
    ("two credentials, a space between", [f"Bearer {GOOD_TOKEN} {GOOD_TOKEN}".encode()]),
    ("nothing after the scheme", [b"Bearer"]),
    ("a space after the scheme", [b"Bearer "]),
    ("a space at the end", [f"Bearer {GOOD_TOKEN} ".encode()]),
    ("a tab", [f"Bearer\t{GOOD_TOKEN}".encode()]),
    ("a newline", [f"Bearer {GOOD_TOKEN}\n".encode()]),
    ("a carriage return and another field", [f"Bearer {GOOD_TOKEN}\r\nX-Admin: 1".encode()]),
    ("a NUL", [f"Bearer {GOOD_TOKEN}\0".encode()]),
    ("not ASCII", [f"Bearer {GOOD_TOKEN}é".encode()]),
    ("in quotes", [f'Bearer "{GOOD_TOKEN}"'.encode()]),
    ("a parameter", [f"Bearer token={GOOD_TOKEN}x".encode()]),
    ("a colon", [f"Bearer: {GOOD_TOKEN}".encode()]),
    ("padding in the middle", [b"Bearer a=b"]),
]


@pytest.mark.parametrize("fields", [fields for _, fields in BAD_FIELDS], ids=[name for name, _ in BAD_FIELDS])
@pytest.mark.asyncio
async def test_what_cannot_be_read_is_a_bad_request(fields: list[bytes]) -> None:
    """An Authorization field that can be read in two ways, or in none, gets 400 invalid_request (RFC 6750 §3.1)."""
    app, _ = guarded()
    reply = await ask(app, *fields)
    (challenge,) = parse_challenges([reply.challenge or ""])
    check(reply, GOOD_TOKEN, 400, "invalid_request", challenge.error_description)


@pytest.mark.parametrize("field", [None, b"", b"Basic YTpi", b"DPoP abc", b"Bearerx abc", b"\xff\xfe", b" Bearer abc"])
@pytest.mark.asyncio
async def test_no_bearer_token_gets_no_error(field: bytes | None) -> None:
    """Who has sent no bearer token is told how, with no error (RFC 6750 §3.1)."""
    app, issuer = guarded()
    check(await ask(app, *([] if field is None else [field])), "", 401, None, None)
    assert issuer.seen == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
@pytest.mark.asyncio
async def test_the_scheme_is_spelt_as_anybody_likes(scheme: str) -> None:
    """The scheme is case-insensitive, and spaces may follow it (RFC 9110 §11.1, §11.4)."""
    app, _ = guarded()
    assert (await ask(app, f"{scheme} {GOOD_TOKEN}")).status == 200


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda one: b"Bearer " + one)))
@pytest.mark.asyncio
async def test_no_bytes_get_in(guarded_app: tuple[Any, Issuer], field: bytes) -> None:
    """Whatever bytes are sent: 400 or 401, and nothing raises."""
    assert (await ask(guarded_app[0], field)).status in {400, 401}


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.asyncio
async def test_no_changed_token_gets_in(guarded_app: tuple[Any, Issuer], data: st.DataObject) -> None:
    """A good token of which anything was changed is good no more, although the good one is remembered."""
    app = guarded_app[0]
    at = data.draw(st.integers(0, len(GOOD_TOKEN) - 1))
    until = data.draw(st.integers(at, min(at + 3, len(GOOD_TOKEN))))
    alphabet = "ABCXYZabcxyz0123456789-_.=/+~"
    changed = GOOD_TOKEN[:at] + data.draw(st.text(alphabet, max_size=3)) + GOOD_TOKEN[until:]
    assert (await ask(app, f"Bearer {GOOD_TOKEN}")).status == 200
    if changed != GOOD_TOKEN:
        assert (await ask(app, f"Bearer {changed}")).status in {400, 401}


@pytest.mark.asyncio
async def test_the_last_letter_has_one_spelling() -> None:
    """The unused bits at the end of a signature cannot be changed either: a token has one spelling."""
    app, _ = guarded()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [GOOD_TOKEN[:-1] + one for one in alphabet if one != GOOD_TOKEN[-1]]
    assert {(await ask(app, f"Bearer {one}")).status for one in others} == {401}


@pytest.mark.parametrize(
    "secret", ["x" * 31, public(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)], ids=["short", "public"]
)
def test_a_secret_that_is_none_is_refused(secret: Any) -> None:
    """A shared secret of less than 32 bytes, or that everybody knows, is refused when the program starts."""
    from httpx_tokenflow import ConfigurationError
    from httpx_tokenflow.fastapi import JWTVerifier

    with pytest.raises(ConfigurationError) as caught:
        JWTVerifier(ISSUER, AUDIENCE, algorithms=("HS256",), keys=secret)
    assert str(secret)[:40] not in str(caught.value)
