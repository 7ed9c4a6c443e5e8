from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from doctor.rig import TOKEN, Case, Reply, bearer, signed

PASSWORD = "honolulu1973"
BASIC = base64.b64encode(f"hugo:{PASSWORD}".encode()).decode()
SECRETS = (TOKEN, BASIC, PASSWORD)
KEY = ec.generate_private_key(ec.SECP256R1())
JWK = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
OTHER_JWK = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
CLAIMS = base64.b64encode(json.dumps({"access_token": {"acrs": {"essential": True, "value": "c1"}}}).encode()).decode()


def digest(data: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data.encode()).digest()).rstrip(b"=").decode()


def thumbprint(jwk: dict) -> str:
    return digest(json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":")))


BOUND = signed(cnf={"jkt": thumbprint(JWK)})
CERTIFIED = signed(cnf={"x5t#S256": digest("a certificate")})
DPOP = (("WWW-Authenticate", 'DPoP algs="ES256 PS256", error="invalid_token"'),)
PROOF_INVALID = (("WWW-Authenticate", 'DPoP error="invalid_dpop_proof", algs="ES256"'),)
USE_NONCE = (("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'), ("DPoP-Nonce", "eyJ7S_zG.eyJH0-Z.HX4w-7v"))


def proof(header: dict | None = None, token: str = BOUND, **changed: object) -> str:
    """A proof that is right for no URL of ours (its port is not known yet), but for what is given."""
    claims = {"jti": uuid.uuid4().hex, "htm": "GET", "htu": "http://127.0.0.1/v1/things", "iat": time.time()}
    claims |= {"ath": digest(token)} | changed
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, KEY, "ES256", headers={"typ": "dpop+jwt", "jwk": JWK} | (header or {}))


def taking(field: str, value: str, told=(), status: int = 401, body: str | dict = ""):
    """A server that accepts `value` in `field`, to the letter, and says the same to everybody else."""

    def answer(request):
        return Reply() if request.headers.get(field.lower()) == value else Reply(status, tuple(told), body)

    return answer


def challenging(*challenges: str, status: int = 401, body: str | dict = "", more=()):
    return taking("x-never", "", [*(("WWW-Authenticate", one) for one in challenges), *more], status, body)


def case(cause: str, answer, header: str, name: str, secrets: tuple[str, ...] = SECRETS, *more: str) -> Case:
    return Case(cause, answer, ("{url}", "-H", header, *more), f"{cause or 'healthy'}: {name}", secrets)


WITH_TOKEN = f"Authorization: Bearer {TOKEN}"
WITH_BASIC = f"Authorization: Basic {BASIC}"
WITH_KEY = f"X-API-Key: {TOKEN}"
AS_BEARER = f"Bearer {TOKEN}"

CASES = [
    # Bearer is wanted.
    case("bearer-expected", challenging('Bearer realm="api"'), WITH_BASIC, "Basic was sent"),
    case("bearer-expected", taking("Authorization", AS_BEARER, bearer()), WITH_KEY, "a key was sent"),
    case("bearer-expected", taking("Authorization", AS_BEARER), WITH_KEY, "a key was sent, and not a word"),
    case(
        "bearer-expected",
        taking("Authorization", AS_BEARER, bearer()),
        f"Authorization: Token {TOKEN}",
        "Token was sent",
    ),
    case(
        "bearer-expected",
        challenging(body={"message": "Please provide a valid Bearer token"}),
        WITH_BASIC,
        "an article's middleware",
    ),
    Case(
        "bearer-expected",
        taking("Authorization", AS_BEARER, bearer()),
        ("{url}?access_token=" + TOKEN,),
        "bearer-expected: the token is in the query",
    ),
    # Basic is wanted.
    case("basic-expected", challenging('Basic realm="Jenkins"'), WITH_TOKEN, "Jenkins"),
    case("basic-expected", challenging('Basic realm="Restricted"'), WITH_KEY, "nginx"),
    case("basic-expected", challenging('xBasic realm="Realm"'), WITH_TOKEN, "Spring, and no window in browsers"),
    case("basic-expected", challenging(body="HTTP Basic: Access denied"), WITH_TOKEN, "GitLab, in words"),
    # A key in another field is wanted.
    case(
        "api-key-expected",
        taking("X-API-Key", TOKEN, body={"error": "X-API-Key header is missing"}),
        WITH_TOKEN,
        "named",
    ),
    case("api-key-expected", taking("X-API-Key", TOKEN), WITH_TOKEN, "not a word"),
    case(
        "api-key-expected",
        taking(
            "apikey",
            TOKEN,
            (("WWW-Authenticate", 'Key realm="kong"'),),
            body={"message": "No API key found in request"},
        ),
        WITH_TOKEN,
        "Kong",
    ),
    case(
        "api-key-expected",
        taking(
            "Ocp-Apim-Subscription-Key",
            TOKEN,
            body={
                "statusCode": 401,
                "message": "Access denied due to missing subscription key. Make sure to include subscription key when "
                "making requests to an API.",
            },
        ),
        WITH_TOKEN,
        "Azure API Management",
    ),
    case(
        "api-key-expected",
        taking(
            "x-api-key",
            TOKEN,
            body={
                "type": "error",
                "error": {"type": "authentication_error", "message": "x-api-key header is required"},
            },
        ),
        WITH_TOKEN,
        "Anthropic",
    ),
    case(
        "api-key-expected",
        taking(
            "x-goog-api-key",
            TOKEN,
            status=403,
            body={
                "error": {
                    "code": 403,
                    "status": "PERMISSION_DENIED",
                    "message": "The request is missing a valid API key.",
                }
            },
        ),
        WITH_TOKEN,
        "Google",
    ),
    case(
        "api-key-expected",
        taking("PRIVATE-TOKEN", TOKEN, body={"message": "Send PRIVATE-TOKEN"}),
        WITH_KEY,
        "another field",
    ),
    case(
        "api-key-expected",
        taking("X-API-Key", TOKEN, body={"detail": "X-API-Key missing"}),
        f"Authorization: {TOKEN}",
        "alone",
    ),
    case(
        "api-key-expected",
        challenging(body={"message": "API key is missing: send it as query parameter api_key"}),
        WITH_TOKEN,
        "in the query",
    ),
    # Other schemes.
    case(
        "digest-expected",
        challenging('Digest realm="x", nonce="abc", qop="auth", algorithm=SHA-256'),
        WITH_BASIC,
        "IP camera",
    ),
    case("digest-expected", challenging('Digest realm="x", nonce="abc"'), WITH_TOKEN, "Bearer was sent"),
    case("negotiate-expected", challenging("Negotiate", "NTLM"), WITH_TOKEN, "IIS"),
    case("negotiate-expected", challenging("NTLM"), WITH_BASIC, "Exchange"),
    case(
        "other-scheme-expected",
        taking("Authorization", f"Token {TOKEN}", (("WWW-Authenticate", "Token"),)),
        WITH_TOKEN,
        "Django",
    ),
    case(
        "other-scheme-expected",
        taking("Authorization", f"ApiKey {TOKEN}", (("WWW-Authenticate", "ApiKey"),)),
        WITH_TOKEN,
        "Elastic",
    ),
    case("other-scheme-expected", challenging('AcmeAuth realm="acme"'), WITH_TOKEN, "a scheme of the house"),
    case(
        "signature-expected",
        challenging(
            status=403,
            body={"message": "Missing Authentication Token"},
            more=[("x-amzn-ErrorType", "MissingAuthenticationTokenException")],
        ),
        WITH_KEY,
        "API Gateway",
    ),
    case(
        "signature-expected",
        challenging(
            status=403,
            body={"message": "Invalid key=value pair (missing equal-sign) in Authorization header"},
            more=[("x-amzn-ErrorType", "IncompleteSignatureException")],
        ),
        WITH_TOKEN,
        "API Gateway, with a token",
    ),
    # More than the token.
    case("dpop-expected", taking("x-never", "", DPOP), WITH_TOKEN, "the challenge names nothing else"),
    case(
        "dpop-expected",
        taking("x-never", "", bearer("invalid_token")),
        f"Authorization: Bearer {BOUND}",
        "bound",
        (BOUND,),
    ),
    case(
        "dpop-proof-missing", taking("x-never", "", PROOF_INVALID), f"Authorization: DPoP {BOUND}", "RFC 9449", (BOUND,)
    ),
    case("dpop-proof-missing", challenging(), f"Authorization: DPoP {BOUND}", "not a word", (BOUND,)),
    case(
        "dpop-nonce",
        taking("x-never", "", USE_NONCE),
        f"Authorization: DPoP {BOUND}",
        "RFC 9449",
        (BOUND,),
        "-H",
        f"DPoP: {proof()}",
    ),
    *(
        case(
            "dpop-proof-invalid",
            taking("x-never", "", told),
            f"Authorization: DPoP {BOUND}",
            name,
            (BOUND, text),
            "-H",
            f"DPoP: {text}",
        )
        for name, text, told in (
            ("another URL", proof(), PROOF_INVALID),
            ("another method, and not a word", proof(htm="POST"), ()),
            ("another token", proof(token="another"), PROOF_INVALID),
            ("too old", proof(iat=time.time() - 4000), PROOF_INVALID),
            ("no JWT", "a-proof-that-is-none", ()),
            ("another key", proof({"jwk": OTHER_JWK}), PROOF_INVALID),
        )
    ),
    case(
        "certificate-expected",
        challenging(bearer("invalid_token")[0][1]),
        f"Authorization: Bearer {CERTIFIED}",
        "bound",
        (CERTIFIED,),
    ),
    case(
        "certificate-expected",
        challenging(status=403, body={"message": "client certificate required"}),
        WITH_TOKEN,
        "in words",
    ),
    Case(
        "certificate-expected",
        taking(
            "x-never",
            "",
            (("Content-Type", "text/html"),),
            400,
            "<html><head><title>400 No required SSL certificate was sent</title></head></html>",
        ),
        name="certificate-expected: nginx",
    ),
    case(
        "step-up-required",
        challenging('Bearer error="insufficient_user_authentication", acr_values="urn:example:gold", max_age="300"'),
        f"Authorization: Bearer {signed(auth_time=time.time() - 4000, acr='urn:example:silver')}",
        "RFC 9470",
    ),
    case(
        "step-up-required",
        challenging(f'Bearer error="insufficient_claims", claims="{CLAIMS}"'),
        WITH_TOKEN,
        "Entra ID",
    ),
    # What is right.
    case("", taking("X-API-Key", TOKEN, bearer()), WITH_KEY, "a key, and a challenge that names Bearer"),
    case(
        "",
        taking("Authorization", AS_BEARER, [("WWW-Authenticate", 'Basic realm="x"')]),
        WITH_TOKEN,
        "Bearer, and a challenge that names Basic",
    ),
    case(
        "",
        taking("Authorization", f"Basic {BASIC}", [("WWW-Authenticate", 'Bearer realm="x"')]),
        WITH_BASIC,
        "Basic, and a challenge that names Bearer",
    ),
    case("", taking("Authorization", f"ApiKey {TOKEN}"), f"Authorization: ApiKey {TOKEN}", "a scheme of the house"),
    case(
        "",
        taking("Authorization", f"Bearer {BOUND}", bearer()),
        f"Authorization: Bearer {BOUND}",
        "a bound token where nobody looks",
        (BOUND,),
    ),
    case(
        "",
        taking("Authorization", f"Bearer {CERTIFIED}"),
        f"Authorization: Bearer {CERTIFIED}",
        "a certified token where nobody looks",
        (CERTIFIED,),
    ),
    case(
        "",
        taking("Authorization", f"DPoP {BOUND}", DPOP),
        f"Authorization: DPoP {BOUND}",
        "DPoP",
        (BOUND,),
        "-H",
        f"DPoP: {proof()}",
    ),
    Case(
        "",
        lambda request: Reply() if "access_token" in request.path else Reply(401, bearer()),
        ("{url}?access_token=" + TOKEN,),
        "healthy: a token in the query",
    ),
    Case(
        "",
        lambda request: Reply(400, body={"error": "no such thing"}) if request.credential else Reply(401),
        name="healthy: a bad request",
    ),
]
