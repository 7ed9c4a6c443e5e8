"""Issuers with keys, and tokens that are signed with others."""

from __future__ import annotations

import json

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from doctor.rig import Case, Reply, bearer, refusing, signed, unsigned

OURS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
THEIRS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def jwk(key: object, kid: str | None = "k1", **more: str) -> dict:
    """The public half, as a JWKS has it."""
    algorithm = jwt.algorithms.ECAlgorithm if key is CURVE else jwt.algorithms.RSAAlgorithm
    found = json.loads(algorithm.to_jwk(key.public_key())) | {"use": "sig"} | more
    found.pop("key_ops", None)
    return found if kid is None else found | {"kid": kid}


def issuing(*keys: dict, reply: Reply | None = None, **metadata: object):
    """An API that refuses every token, and the issuer that it trusts, at one origin."""

    def answer(request):
        here = f"http://{request.headers['host']}"
        if request.path == "/.well-known/openid-configuration":
            return Reply(body={"issuer": here, "jwks_uri": f"{here}/keys"} | metadata)
        if request.path == "/keys":
            return Reply(body={"keys": list(keys)})
        return Reply(401, bearer()) if request.credential is None else reply or Reply(401, bearer("invalid_token"))

    return answer


def accepting(*keys: dict, **metadata: object):
    return issuing(*keys, reply=Reply(), **metadata)


def sending(key: object = OURS, algorithm: str = "RS256", kid: str | None = "k1", **header: str) -> tuple:
    """The doctor's arguments: a token of that issuer, good but for its signature."""
    mark = header if kid is None else {"kid": kid} | header

    def token(origin: str) -> str:
        return signed(mark, key, algorithm, iss=origin, aud=origin, iat=None)

    return ("{url}", "--token", token, "--issuer", "{origin}")


def claims(origin: str) -> dict:
    return {"iss": origin, "aud": origin, "exp": 4102444800}


CASES = [
    Case("unknown-key", issuing(jwk(OURS, "k2")), sending(kid="k1"), name="unknown-key: rotated"),
    Case(
        "unknown-key",
        issuing(jwk(OURS, "k2"), jwk(CURVE, "k3")),
        sending(THEIRS, kid="k1"),
        name="unknown-key: another",
    ),
    Case("unknown-key", issuing(), sending(), name="unknown-key: the JWKS is empty"),
    Case(
        "unknown-key",
        refusing("invalid_token", "The signature key was not found"),
        ("{url}", "--token", signed()),
        name="unknown-key: ASP.NET",
    ),
    Case(
        "unknown-key",
        refusing(
            "invalid_token",
            "An error occurred while attempting to decode the Jwt: Signed JWT rejected: Another algorithm expected, or "
            "no matching key(s) found",
        ),
        ("{url}", "--token", signed()),
        name="unknown-key: Spring",
    ),
    Case(
        "unknown-key",
        lambda request: Reply(401, (), "Jwks doesn't have key to match kid or alg from Jwt"),
        ("{url}", "--token", signed()),
        name="unknown-key: Envoy and Istio",
    ),
    Case(
        "unknown-key",
        issuing(jwk(OURS), reply=Reply(401, bearer("invalid_token", "The signature key was not found"))),
        sending(),
        name="unknown-key: the API's copy of the JWKS is old",
    ),
    Case("wrong-algorithm", issuing(jwk(OURS)), sending("k" * 32, "HS256"), name="wrong-algorithm: a shared secret"),
    Case(
        "wrong-algorithm",
        issuing(jwk(OURS)),
        sending("k" * 32, "HS256", "s"),
        name="wrong-algorithm: a shared secret of its own",
    ),
    Case("wrong-algorithm", issuing(jwk(OURS, alg="RS256")), sending(OURS, "RS512"), name="wrong-algorithm: RS512"),
    Case(
        "wrong-algorithm",
        issuing(jwk(CURVE)),
        sending(OURS, "RS256"),
        name="wrong-algorithm: another kind of key has that kid",
    ),
    Case(
        "wrong-algorithm",
        issuing(reply=None, jwks_uri="https://keys.example/", id_token_signing_alg_values_supported=["ES256"]),
        sending(),
        name="wrong-algorithm: the issuer's metadata",
    ),
    Case(
        "wrong-algorithm",
        refusing(body={"message": "invalid algorithm"}),
        ("{url}", "--token", signed()),
        name="wrong-algorithm: jsonwebtoken",
    ),
    Case("no-key-id", issuing(jwk(OURS, "k1"), jwk(THEIRS, "k2")), sending(kid=None), name="no-key-id"),
    Case("wrong-signature", issuing(jwk(OURS)), sending(THEIRS), name="wrong-signature: another key of that name"),
    Case(
        "wrong-signature", issuing(jwk(OURS, None)), sending(THEIRS, kid=None), name="wrong-signature: one key, no kid"
    ),
    Case(
        "wrong-signature",
        issuing(jwk(OURS, "k1"), jwk(CURVE, "k2")),
        (
            "{url}",
            "--token",
            lambda here: unsigned({"alg": "ES256", "kid": "k2"}, claims(here)),
            "--issuer",
            "{origin}",
        ),
        name="wrong-signature: made up",
    ),
    Case(
        "wrong-signature",
        refusing(body={"message": "invalid signature"}),
        ("{url}", "--token", signed()),
        name="wrong-signature: jsonwebtoken",
    ),
    Case(
        "wrong-signature",
        issuing(jwk(OURS), reply=Reply(401, (), "Jwt verification fails")),
        sending(),
        name="wrong-signature: the API has another key",
    ),
    Case(
        "token-unsigned",
        refusing(),
        ("{url}", "--token", unsigned({"alg": "none", "typ": "JWT"}, {"sub": "1", "exp": 4102444800})),
        name="token-unsigned",
    ),
    Case(
        "key-elsewhere",
        issuing(jwk(OURS)),
        sending(jku="https://evil.example/keys"),
        name="key-elsewhere: a jku of another host",
    ),
    Case("", accepting(jwk(OURS)), sending(), name="healthy: a signed token"),
    Case("", accepting(jwk(OURS, "k2")), sending(kid="k1"), name="healthy: a key that the JWKS has not, and accepted"),
    Case("", accepting(jwk(OURS)), sending("k" * 32, "HS256"), name="healthy: a shared secret, and accepted"),
    Case("", accepting(jwk(OURS)), sending(THEIRS), name="healthy: the signature is not looked at"),
]
