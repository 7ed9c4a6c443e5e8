"""Tokens verified here: what a caller is, what is remembered, and what cannot be set up."""

from __future__ import annotations

import dataclasses
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import guarding
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from guarding import AUDIENCE, ISSUER, NOW, Issuer, Time, claims, header, jwk, sign, token
from jwt.algorithms import HMACAlgorithm

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow.fastapi import Caller, InvalidToken, JWTVerifier, Reason

GOOD = token()
SECRET = "0123456789abcdef0123456789abcdef"


def pem(name: str) -> bytes:
    return guarding.private_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def verifier(**how: Any) -> JWTVerifier:
    return JWTVerifier(**{"issuer": ISSUER, "audience": AUDIENCE, "keys": pem("rsa-1"), "clock": Time().clock, **how})


def by_secret(secret: str, **changes: Any) -> str:
    head = header(**{"alg": "HS256", "kid": None, **changes})
    message = f"{guarding.b64(json.dumps(head))}.{guarding.b64(json.dumps(claims()))}"
    return f"{message}.{guarding.b64(HMACAlgorithm(HMACAlgorithm.SHA256).sign(message.encode(), secret.encode()))}"


async def verdict(it: JWTVerifier, given: str) -> Any:
    try:
        return (await it.verify(given)).subject
    except InvalidToken as no:
        return no.reason


@pytest.mark.anyio
async def test_a_caller_is_what_the_token_says() -> None:
    """Subject, client, issuer, scope and end are the token's; no repr shows the token."""
    caller = await verifier().verify(GOOD)
    assert caller == Caller("ada", "web", ISSUER, frozenset({"read", "write"}), NOW + 600, claims(), GOOD)
    assert GOOD not in repr(caller)
    assert "rsa" not in repr(verifier())


@pytest.mark.parametrize(
    ("says", "client", "scope"),
    [
        ({"client_id": None, "azp": "a"}, "a", {"read", "write"}),
        ({"client_id": None, "appid": "b"}, "b", {"read", "write"}),
        ({"client_id": "c", "azp": "a"}, "c", {"read", "write"}),
        ({"client_id": None, "scope": None, "scp": "x y"}, None, {"x", "y"}),
        ({"scope": None, "scp": ["x", "y z"]}, "web", {"x", "y z"}),
        ({"scope": "x  y "}, "web", {"x", "y"}),
        *(({"scope": f"x{one}y"}, "web", {f"x{one}y"}) for one in "\t\u00a0\x1f\u2003\x85\n"),
        ({"scope": None, "scp": ["x", ""]}, "web", {"x"}),
        ({"scope": None, "scp": "x\ty z"}, "web", {"x\ty", "z"}),
        ({"scope": None}, "web", set()),
        ({"scope": "x", "scp": ["y"]}, "web", {"x"}),
    ],
)
@pytest.mark.anyio
async def test_clients_and_scopes_have_several_names(says: dict[str, Any], client: str, scope: set[str]) -> None:
    """Client and scope are read by the names that issuers use."""
    caller = await verifier().verify(token(**says))
    assert (caller.client_id, caller.scope) == (client, scope)


class Counting:
    """A signer of pyjwt's that counts."""

    def __init__(self, signer: Any) -> None:
        self.signer, self.calls = signer, 0

    def verify(self, *args: Any) -> bool:
        self.calls += 1
        return self.signer.verify(*args)


def counting(it: JWTVerifier) -> Counting:
    it._how["RS256"] = found = Counting(it._how["RS256"])
    return found


@pytest.mark.anyio
async def test_a_verified_token_is_remembered_while_it_is_good() -> None:
    """A token is verified once in 5 minutes; when it has ended it is refused, remembered or not."""
    time = Time()
    it = verifier(clock=time.clock)
    signer = counting(it)
    for _ in range(10):
        assert await verdict(it, GOOD) == "ada"
    assert signer.calls == 1
    time.now += 300
    assert await verdict(it, GOOD) == "ada"
    assert signer.calls == 2
    time.now = NOW + 629
    assert await verdict(it, GOOD) == "ada"
    time.now = NOW + 630
    assert await verdict(it, GOOD) is Reason.EXPIRED


@pytest.mark.anyio
async def test_a_signer_that_raises_has_not_verified() -> None:
    """Whatever a library raises over a signature is a refusal, and the next key has its turn."""
    it = verifier(keys=[pem("rsa-new"), pem("rsa-1")])
    signer = counting(it)

    class Raises:
        def verify(self, message: bytes, key: Any, signature: bytes) -> bool:
            if signer.calls == 0:
                signer.calls = 1
                raise RuntimeError
            return signer.signer.verify(message, key, signature)

    it._how["RS256"] = Raises()
    assert await verdict(it, GOOD) == "ada"
    signer.calls = 0
    assert await verdict(it, sign(header(), claims(), "rsa-attacker")) is Reason.SIGNATURE


@pytest.mark.parametrize("stands_still", ["wall", "monotonic"])
@pytest.mark.anyio
async def test_what_is_remembered_is_over_by_either_clock(stands_still: str) -> None:
    """A clock that is set back, or that stands still while the machine sleeps, does not lengthen the 5 minutes."""
    time = Time()
    clock = dataclasses.replace(time.clock, **{stands_still: lambda: NOW})
    it = verifier(clock=clock)
    signer = counting(it)
    for calls in (1, 1, 2):
        await it.verify(GOOD)
        assert signer.calls == calls
        time.now += 150


@pytest.mark.anyio
async def test_refusals_are_not_remembered() -> None:
    """A token that is refused is looked at again: time may make it good."""
    time = Time()
    it = verifier(clock=time.clock)
    early = token(nbf=NOW + 60)
    assert await verdict(it, early) is Reason.NOT_YET
    time.now += 30
    assert await verdict(it, early) == "ada"


@pytest.mark.anyio
async def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    """No more tokens are remembered than there is room for, those that were used last; none, if so told."""
    it = verifier(cache_size=2)
    signer = counting(it)
    one, two, three = (token(sub=name) for name in ("one", "two", "three"))
    for each in (one, two, one, three, one):
        await it.verify(each)
    assert (signer.calls, len(it._verified)) == (3, 2)
    await it.verify(two)
    assert signer.calls == 4
    it = verifier(cache_size=0)
    signer = counting(it)
    await it.verify(one)
    await it.verify(one)
    assert (signer.calls, len(it._verified)) == (2, 0)


@pytest.mark.anyio
async def test_a_route_cannot_change_what_the_next_one_sees() -> None:
    """Claims belong to one request: who writes into them changes nobody else's."""
    it = verifier()
    given = token(roles=["user"])
    for _ in range(3):
        caller = await it.verify(given)
        assert caller.claims["roles"] == ["user"]
        caller.claims["roles"].append("admin")  # type: ignore[index]
        caller.claims["sub"] = "root"  # type: ignore[index]


@pytest.mark.anyio
async def test_given_keys_of_all_kinds() -> None:
    """Keys may be given as PEM, as JWK, as a set, or as several of them; those with a name go by it."""
    other = sign(header(), claims(), "rsa-new")
    for keys in (
        pem("rsa-1"),
        pem("rsa-1").decode(),
        jwk("rsa-1"),
        {"keys": [jwk("rsa-1")]},
        [pem("ec256-1"), pem("ed-1"), pem("rsa-1")],
        (jwk("rsa-1", kid=None),),
    ):
        it = verifier(keys=keys)
        assert await verdict(it, GOOD) == "ada"
        assert await verdict(it, other) is Reason.SIGNATURE
        await it.awarm()
    assert await verdict(verifier(keys=jwk("rsa-1", kid="x")), GOOD) is Reason.KEY
    assert await verdict(verifier(keys=[jwk("rsa-1", kid="x"), pem("rsa-1")]), GOOD) == "ada"


@pytest.mark.anyio
async def test_all_given_keys_are_tried() -> None:
    """However many keys a program gives, the last one verifies as the first one does."""
    it = verifier(keys=[*(pem(f"ec256-{at}") for at in range(12)), pem("rsa-1"), pem("rsa-new")])
    for at in (0, 11):
        given = sign(header(alg="ES256", kid=None), claims(), f"ec256-{at}", algorithm="ES256")
        assert await verdict(it, given) == "ada"
    assert await verdict(it, GOOD) == "ada"


@pytest.mark.anyio
async def test_a_certificate_is_a_public_key() -> None:
    """A certificate stands for the key in it; whether it has ended is for whoever gave it to know."""
    private, name = guarding.private_key("rsa-1"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "as")])
    since = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, since, since + timedelta(days=1))
    certificate = builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM)
    assert await verdict(verifier(keys=certificate), GOOD) == "ada"
    assert await verdict(verifier(keys=certificate), sign(header(), claims(), "rsa-new")) is Reason.SIGNATURE


@pytest.mark.anyio
async def test_a_secret_may_follow_another() -> None:
    """With HS256 each of several secrets is good, any other is not, and no other algorithm is."""
    second = SECRET[::-1]
    it = verifier(algorithms=("HS256",), keys=[SECRET, second.encode()])
    assert await verdict(it, by_secret(SECRET)) == "ada"
    assert await verdict(it, by_secret(second)) == "ada"
    assert await verdict(it, by_secret("x" * 32)) is Reason.SIGNATURE
    assert await verdict(it, GOOD) is Reason.ALGORITHM
    assert await verdict(it, by_secret(SECRET, alg="HS512")) is Reason.ALGORITHM
    assert await verdict(it, by_secret(SECRET, alg="none")) is Reason.ALGORITHM
    assert SECRET not in repr(it)


@pytest.mark.anyio
async def test_settings_are_heeded() -> None:
    """Algorithms, types, claims, audiences, sizes, leeway and bound tokens are as the program says."""
    cases: list[tuple[dict[str, Any], str, Any]] = [
        ({"algorithms": ["PS256"]}, GOOD, Reason.ALGORITHM),
        ({"algorithms": "RS256"}, GOOD, "ada"),
        ({"token_types": ["application/at+jwt"]}, GOOD, "ada"),
        ({"token_types": ["at+jwt"]}, sign(header(typ=None), claims()), Reason.KIND),
        ({"token_types": [None]}, GOOD, Reason.KIND),
        ({"required": ["jti"]}, GOOD, Reason.LACKING),
        ({"required": "jti"}, GOOD, Reason.LACKING),
        ({"required": "jti"}, token(jti="1"), "ada"),
        ({"required": ["jti"]}, sign(header(), {**claims(), "jti": None}), Reason.LACKING),
        ({"required": ["jti"]}, token(jti="1"), "ada"),
        ({"audience": ["x", AUDIENCE]}, GOOD, "ada"),
        ({"audience": ["x", "y"]}, GOOD, Reason.AUDIENCE),
        ({"issuer": f"{ISSUER}/"}, GOOD, Reason.ISSUER),
        ({"max_size": 100}, GOOD, Reason.TOO_LARGE),
        ({"leeway": 0}, token(exp=NOW), Reason.EXPIRED),
        ({"leeway": 0}, token(exp=NOW + 1), "ada"),
        ({"accept_bound_without_proof": True}, token(cnf={"jkt": "x"}), "ada"),
    ]
    for how, given, expected in cases:
        assert await verdict(verifier(**how), given) == expected, how


PRIVATE = guarding.private_key("rsa-1").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"issuer": ""}, "issuer="),
        ({"issuer": None}, "issuer="),
        ({"issuer": "http://as.example", "keys": None}, "https"),
        ({"issuer": [ISSUER]}, "issuer="),
        ({"audience": ""}, "audience="),
        ({"audience": ()}, "audience="),
        ({"audience": None}, "audience="),
        ({"audience": [1]}, "audience="),
        ({"algorithms": ()}, "algorithms="),
        ({"algorithms": ("none",)}, "none"),
        ({"algorithms": ("RS256", "none")}, "none"),
        ({"algorithms": ("HS256", "RS256")}, "both kinds"),
        ({"algorithms": ("HS256",), "keys": None}, "not published"),
        ({"algorithms": ("HS256",), "keys": "short"}, "32 bytes"),
        ({"algorithms": ("HS256", "HS512"), "keys": SECRET}, "64 bytes"),
        ({"algorithms": ("HS256",), "keys": [SECRET, "short"]}, "32 bytes"),
        ({"algorithms": ("HS256",), "keys": []}, "empty"),
        ({"algorithms": ("HS256",), "keys": json.dumps(jwk("rsa-1"))}, "no secret|cannot"),
        ({"algorithms": ("HS256",), "keys": {"kty": "oct"}}, "must be a secret"),
        ({"keys": SECRET}, "HS256"),
        ({"keys": [pem("rsa-1")] * 101}, "more than 100"),
        ({"keys": pem("rsa-1") + pem("rsa-new")}, "list"),
        ({"keys": [(pem("rsa-1") + pem("rsa-new")).decode()]}, "list"),
        ({"keys": PRIVATE}, "private"),
        ({"keys": jwk("rsa1024-1")}, "weak"),
        ({"keys": jwk("rsa-1", use="enc")}, "something else"),
        ({"keys": {"kty": "oct", "k": "AAAA"}}, "cannot be read"),
        ({"keys": pem("rsa-1"), "algorithms": ("ES256",)}, "none of algorithms="),
        ({"keys": pem("rsa-1"), "jwks_uri": f"{ISSUER}/jwks"}, "contradict"),
        ({"keys": None, "jwks_uri": "http://as.example/jwks"}, "https"),
        ({"keys": None, "jwks_uri": "file:///etc/passwd"}, "https"),
        ({"keys": None, "client": object()}, "client="),
        ({"keys": None, "max_age": 0}, "max_age="),
        ({"keys": None, "cooldown": float("nan")}, "cooldown="),
        ({"leeway": -1}, "leeway="),
        ({"cache_size": -1}, "cache_size="),
        ({"cache_size": "9"}, "cache_size="),
        ({"max_size": 0}, "max_size="),
        ({"max_size": True}, "max_size="),
        ({"max_size": 1e4}, "max_size="),
        ({"required": ""}, "required="),
        ({"required": [1]}, "required="),
        ({"required": None}, "required="),
        ({"leeway": "30"}, "leeway="),
        ({"token_types": ()}, "token_types="),
        ({"token_types": [1]}, "token_types="),
    ],
    ids=itertools.count(),
)
def test_what_cannot_work_is_refused_early(how: dict[str, Any], says: str) -> None:
    """A verifier that could not work, or would not be safe, is not made; the error says why and quotes no key."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        verifier(**how)
    assert "BEGIN" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.anyio
async def test_the_issuer_is_discovered_once() -> None:
    """Without `jwks_uri=` the issuer's metadata say where the keys are; with it they are not asked."""
    issuer, time = Issuer(), Time()
    assert await verdict(issuer.verifier(time), GOOD) == "ada"
    assert issuer.seen == ["/.well-known/openid-configuration", "/jwks"]
    issuer.seen.clear()
    assert await verdict(issuer.verifier(time, jwks_uri=f"{ISSUER}/jwks"), GOOD) == "ada"
    assert issuer.seen == ["/jwks"]
