"""Clocks, claims, kinds, and tokens that look good: servers that refuse a token for what it is."""

from __future__ import annotations

import time
from email.utils import formatdate

from doctor import cases_schemes as schemes
from doctor.rig import TOKEN, Case, Reply, bearer, refusing, signed, unsigned

NOW = time.time()
HOUR, DAY = 3600.0, 86400.0
API = "https://api.example"
AUTH0_AUDIENCE = "Unexpected 'aud' value"
KONG_EXPIRED = {"exp": "token expired"}
GRAPH = {
    "error": {"code": "InvalidAuthenticationToken", "message": "Access token validation failure. Invalid audience."}
}
AZURE = {
    "error": {
        "code": "InvalidAuthenticationTokenAudience",
        "message": "The access token has been obtained for wrong audience or resource 'https://graph.microsoft.com/'.",
    }
}
SCOPES = {"error": {"code": 403, "message": "Request had insufficient authentication scopes.", "status": "DENIED"}}
DRF = {"detail": "Given token not valid for any token type", "code": "token_not_valid"}
GITHUB = {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest", "status": "401"}
GOOGLE = {
    "error": {
        "code": 401,
        "message": "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
        "other valid authentication credential.",
        "status": "UNAUTHENTICATED",
    }
}


def proof(origin: str) -> str:
    """A DPoP proof that is right by our clock."""
    return schemes.proof(token=TOKEN, htu=f"{origin}/v1/things")


def sending(token: object, *more: str) -> tuple:
    """The doctor's arguments: a token, or what makes one by the server's origin."""
    return ("{url}", "--token", token, *more)


def timed(difference: float, reply: Reply | None = None, age: str = ""):
    """A server whose clock is that many seconds ahead of ours; it accepts nobody."""
    reply = reply or Reply(401, bearer("invalid_token"))

    def answer(request):
        if request.credential is None:
            return Reply(401, bearer())
        extra = (("Date", formatdate(time.time() + difference, usegmt=True)), ("Age", age))
        return Reply(reply.status, (*reply.headers, *extra), reply.body)

    return answer


def introspecting(active: dict, reply: Reply | None = None):
    """An API that refuses, and its authorization server that is asked about the token."""

    def answer(request):
        if request.path == "/introspect":
            return Reply(body=active)
        return Reply(401, bearer()) if request.credential is None else reply or Reply(401, bearer("invalid_token"))

    return answer


def accepting(_request):
    return Reply() if _request.credential else Reply(401, bearer())


def accepting_at(difference: float):
    """A server that accepts, whose clock is off all the same."""
    return timed(difference, Reply())


def with_resource(document: dict, reply: Reply):
    """An API that tells of itself (RFC 9728)."""

    def answer(request):
        here = f"http://{request.headers['host']}"
        if request.path.startswith("/.well-known/oauth-protected-resource"):
            return Reply(body={name: _filled(value, here) for name, value in document.items()})
        told = f'Bearer resource_metadata="{here}/.well-known/oauth-protected-resource"'
        if request.credential is None:
            return Reply(401, (("WWW-Authenticate", told),))
        return Reply(reply.status, (*reply.headers, ("WWW-Authenticate", told)), reply.body)

    return answer


def _filled(value, here: str):
    return [_filled(one, here) for one in value] if isinstance(value, list) else value.replace("{origin}", here)


def introspection(*more: str, secret: str = "s3cr3t-of-the-client") -> tuple[str, ...]:
    return ("--introspection-endpoint", "{origin}/introspect", "--client-id", "me", "--client-secret", secret, *more)


SILENT = refusing()  # 401, a challenge, and not a word more
CLOCKS = [
    Case(
        "our-clock",
        timed(15 * 60),
        sending(signed(iat=NOW - 50 * 60, exp=NOW + 600)),
        name="our-clock: behind, so that an expired token looks good",
    ),
    Case(
        "our-clock",
        timed(15 * 60, Reply(401, bearer("invalid_token", "The token expired"))),
        sending(signed(iat=NOW - 50 * 60, exp=NOW + 600)),
        name="our-clock: behind, and the server says expired",
    ),
    Case(
        "our-clock",
        timed(-20 * 60, Reply(403, (), {"Error": {}, "message": "Signature expired: 20260101T000000Z is now earlier"})),
        ("{url}", "-H", "Authorization: AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/eu/s3/aws4_request"),
        name="our-clock: AWS Signature Version 4",
    ),
    Case(
        "our-clock",
        timed(-2 * HOUR, Reply(401, (("WWW-Authenticate", 'DPoP error="invalid_dpop_proof", algs="ES256"'),))),
        ("{url}", "-H", f"Authorization: DPoP {TOKEN}", "-H", lambda here: f"DPoP: {proof(here)}"),
        name="our-clock: a DPoP proof of tomorrow",
    ),
    Case("our-clock", timed(7 * DAY, Reply(401, bearer())), name="our-clock: a week, and nothing else is found"),
    Case(
        "server-clock",
        timed(2 * HOUR),
        sending(lambda _: signed(exp=time.time() + 1800)),
        name="server-clock: ahead, and a fresh token is over there",
    ),
    Case(
        "server-clock",
        timed(-HOUR),
        sending(signed()),
        name="server-clock: behind, and a fresh token is of the future there",
    ),
    Case(
        "server-clock",
        timed(-HOUR, Reply(401, bearer("invalid_token", "The token is not yet valid (nbf)"))),
        sending(signed(nbf=NOW)),
        name="server-clock: behind, and it says not yet valid",
    ),
]
CLAIMS = [
    Case("token-malformed", SILENT, sending(signed()[:-10]), name="token-malformed: its end is cut off"),
    Case("token-malformed", SILENT, sending(".".join(signed().split(".")[:2])), name="token-malformed: two parts"),
    Case("token-malformed", SILENT, sending(signed().replace(".", ".x", 1)), name="token-malformed: changed claims"),
    Case(
        "token-malformed",
        refusing(body={"error": "Unauthorized", "message": "jwt malformed"}),
        sending(signed()[:60]),
        name="token-malformed: jsonwebtoken says so",
    ),
    Case(
        "token-malformed",
        SILENT,
        sending(signed(iat=NOW * 1000, exp=(NOW + HOUR) * 1000)),
        name="token-malformed: milliseconds",
    ),
    Case("token-expired", SILENT, sending(signed(iat=NOW - 2 * HOUR, exp=NOW - HOUR)), name="token-expired: silent"),
    Case(
        "token-expired",
        refusing("invalid_token", "The token expired at '01/01/2026 00:00:00'"),
        sending(signed(iat=NOW - DAY, exp=NOW - 5)),
        name="token-expired: ASP.NET, five seconds ago",
    ),
    Case("token-expired", refusing(body=KONG_EXPIRED), name="token-expired: an opaque token, and Kong's words"),
    Case(
        "token-expired",
        lambda request: Reply(401, (), "Jwt is expired"),
        sending(signed(iat=NOW - 2 * HOUR, exp=NOW - HOUR)),
        name="token-expired: Envoy, in the body alone",
    ),
    Case(
        "token-expired",
        timed(-3 * DAY, Reply(401, bearer("invalid_token")), age=str(3 * 86400)),
        sending(signed(iat=NOW - 2 * HOUR, exp=NOW - HOUR)),
        name="token-expired: an old answer from a cache does not set the clock",
    ),
    Case("token-not-yet-valid", SILENT, sending(signed(nbf=NOW + HOUR)), name="token-not-yet-valid: nbf"),
    Case("token-not-yet-valid", SILENT, sending(signed(iat=NOW + HOUR)), name="token-not-yet-valid: iat"),
    Case(
        "token-not-yet-valid",
        refusing(body={"message": "Jwt not yet valid", "code": 401}),
        sending(lambda _: signed(nbf=time.time() + 40)),
        name="token-not-yet-valid: forty seconds, and Google's API Gateway",
    ),
    Case(
        "wrong-audience", SILENT, sending(signed(), "--audience", "https://other.example"), name="wrong-audience: asked"
    ),
    Case(
        "wrong-audience",
        refusing("invalid_token", "The audience 'https://api.example' is invalid"),
        sending(signed()),
        name="wrong-audience: ASP.NET",
    ),
    Case("wrong-audience", refusing(body=GRAPH), sending(signed()), name="wrong-audience: Microsoft Graph"),
    Case("wrong-audience", refusing(body=AZURE), sending(signed(aud=None)), name="wrong-audience: Azure, and no aud"),
    Case(
        "wrong-audience",
        SILENT,
        sending(signed(aud="https://graph.microsoft.com")),
        name="wrong-audience: Graph's token",
    ),
    Case("wrong-audience", SILENT, sending(signed(aud="account")), name="wrong-audience: Keycloak's account"),
    Case("wrong-audience", SILENT, sending(signed(aud=API + "/"), "--audience", API), name="wrong-audience: a slash"),
    Case(
        "wrong-audience",
        with_resource({"resource": "{origin}/v1"}, Reply(401, bearer("invalid_token"))),
        sending(signed()),
        name="wrong-audience: by the API's metadata",
    ),
    Case(
        "wrong-issuer",
        SILENT,
        sending(signed(), "--issuer", "{origin}"),
        name="wrong-issuer: asked",
    ),
    Case(
        "wrong-issuer",
        refusing(body={"message": "No credentials found for given 'iss'"}),
        sending(signed()),
        name="wrong-issuer: Kong",
    ),
    Case("wrong-issuer", refusing(body="Jwt issuer is not configured"), sending(signed()), name="wrong-issuer: Envoy"),
    Case(
        "wrong-issuer",
        with_resource({"authorization_servers": ["{origin}/as"]}, Reply(401, bearer("invalid_token"))),
        sending(signed(aud=None)),
        name="wrong-issuer: by the API's metadata",
    ),
    Case(
        "missing-scope",
        refusing("insufficient_scope", "more is needed", status=403, scope="read write"),
        sending(signed(scope="read")),
        name="missing-scope: RFC 6750",
    ),
    Case("missing-scope", refusing(status=403, body=SCOPES), name="missing-scope: Google, an opaque token"),
    Case(
        "missing-scope",
        SILENT,
        sending(signed(scope="read", aud=None), "--scope", "read write"),
        name="missing-scope: asked, and 401 for it",
    ),
    Case(
        "missing-scope",
        refusing(status=403, body={"message": "Insufficient scope, expected any of: read:users"}),
        sending(signed(scope="openid")),
        name="missing-scope: Auth0's Management API",
    ),
    Case(
        "wrong-client",
        refusing("invalid_token", "JWT Validation Failed: Claim value mismatch: azp=11111111."),
        sending(signed(azp="22222222")),
        name="wrong-client: Azure API Management",
    ),
]
KINDS = [
    Case(
        "id-token", SILENT, sending(signed({"typ": "JWT"}, nonce="n", at_hash="h", aud="me")), name="id-token: at_hash"
    ),
    Case(
        "id-token",
        SILENT,
        sending(signed({"typ": "JWT"}, token_use="id", aud="me")),
        name="id-token: Amazon Cognito",
    ),
    Case("id-token", SILENT, sending(signed({"typ": "JWT"}, typ="ID", azp="me", aud="me")), name="id-token: Keycloak"),
    Case(
        "id-token",
        SILENT,
        sending(signed({"typ": "JWT"}, aud="me", azp="me", email="a@b.example", name="A B")),
        name="id-token: aud and azp are the client",
    ),
    Case("refresh-token", SILENT, sending(signed({"typ": "JWT"}, typ="Refresh")), name="refresh-token: Keycloak"),
    Case(
        "refresh-token",
        refusing(body=DRF),
        sending(signed({"typ": "JWT"}, token_type="refresh")),
        name="refresh-token: djangorestframework-simplejwt",
    ),
    Case("refresh-token", refusing(body=GITHUB), sending("ghr_" + "a" * 40), name="refresh-token: GitHub"),
    Case(
        "refresh-token",
        refusing(status=401, body={"msg": "Only non-refresh tokens are allowed"}),
        sending(signed({"typ": "JWT"})),
        name="refresh-token: flask-jwt-extended says so",
    ),
    Case(
        "wrong-token-type",
        SILENT,
        sending(signed({"typ": "dpop+jwt"}, htm="GET", htu=API)),
        name="wrong-token-type: proof",
    ),
    Case(
        "wrong-token-type",
        SILENT,
        sending(
            signed(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
        name="wrong-token-type: a logout token",
    ),
    Case(
        "wrong-token-type",
        SILENT,
        sending(signed({"typ": "JWT"}, iss="me", sub="me", aud="https://as.example/oauth2/token", jti="1")),
        name="wrong-token-type: a client assertion",
    ),
    Case(
        "wrong-token-type",
        refusing("invalid_token", "JOSE header typ (type) JWT not allowed"),
        sending(signed({"typ": "JWT"})),
        name="wrong-token-type: Spring",
    ),
    Case(
        "opaque-token-for-jwt",
        refusing(body={"error": {"name": "JsonWebTokenError", "message": "jwt malformed"}}),
        name="opaque-token-for-jwt: jsonwebtoken",
    ),
    Case(
        "opaque-token-for-jwt",
        refusing(
            "invalid_token",
            "IDX12741: JWT must have three segments (JWS) or five segments (JWE).",
        ),
        name="opaque-token-for-jwt: Microsoft",
    ),
    Case(
        "opaque-token-for-jwt",
        SILENT,
        sending(
            unsigned({"alg": "dir", "enc": "A256GCM", "iss": "https://t.auth0.com/"}, {}).replace(".", "..", 1)
            + ".dGFn"
        ),
        name="opaque-token-for-jwt: Auth0 without an audience",
    ),
    Case(
        "jwt-for-opaque-token",
        introspecting({"active": False}),
        sending(signed(aud=None), *introspection()),
        name="jwt-for-opaque-token: of another issuer",
    ),
    Case(
        "jwt-for-opaque-token",
        refusing("invalid_token", "This API takes reference tokens only"),
        sending(signed()),
        name="jwt-for-opaque-token: the server says so",
    ),
]
REVOKED = [
    Case(
        "token-revoked", introspecting({"active": False}), sending(TOKEN, *introspection()), name="token-revoked: asked"
    ),
    Case(
        "token-revoked",
        refusing("invalid_token", "Token was revoked. You have to re-authorize from the user."),
        name="token-revoked: GitLab",
    ),
    Case(
        "token-revoked",
        refusing(body={"msg": "Token has been revoked"}),
        sending(signed()),
        name="token-revoked: Flask",
    ),
    Case(
        "token-revoked",
        refusing("invalid_token", "Session not active"),
        sending(signed()),
        name="token-revoked: Keycloak",
    ),
    Case(
        "account-disabled",
        refusing(body={"detail": "User is inactive", "code": "user_inactive"}),
        sending(signed()),
        name="account-disabled: Django",
    ),
    Case("fresh-token-refused", SILENT, sending(lambda origin: signed(aud=origin)), name="fresh-token-refused"),
    Case(
        "fresh-token-refused",
        refusing("invalid_token"),
        sending(lambda _: signed(aud=None)),
        name="fresh-token-refused: invalid_token and no more",
    ),
    Case("token-not-known", refusing("invalid_token"), name="token-not-known: invalid_token and no more"),
    Case("token-not-known", refusing(body=GITHUB), name="token-not-known: GitHub"),
    Case("token-not-known", refusing(body=GOOGLE), name="token-not-known: Google"),
    Case(
        "token-not-known",
        refusing(
            "invalid_token", "The access token provided is expired, revoked, malformed, or invalid for other reasons."
        ),
        name="token-not-known: RFC 6750's own words give no reason",
    ),
]
HEALTHY = [
    Case("", accepting, sending(signed()), name="healthy: a JWT of another host's audience"),
    Case("", accepting, sending(signed(iat=NOW - 2 * HOUR, exp=NOW - HOUR)), name="healthy: exp is not looked at"),
    Case("", accepting_at(3 * HOUR), sending(signed()), name="healthy: the server's clock is off, and it accepts"),
    Case(
        "", accepting, sending(signed({"typ": "JWT"}, nonce="n", token_use="id")), name="healthy: ID tokens are taken"
    ),
    Case("", accepting, sending(signed(scope="read"), "--scope", "read write"), name="healthy: a scope less is enough"),
    Case("", accepting, sending(signed({"alg": "HS256", "jku": "https://evil.example/keys"})), name="healthy: a jku"),
    Case("", accepting, sending("ghr_" + "b" * 40), name="healthy: an odd prefix"),
    Case(
        "",
        lambda request: (
            Reply(body={"error": "token expired", "message": "in the list"}) if request.credential else Reply(401)
        ),
        name="healthy: a 200 that speaks of expired tokens",
    ),
    Case(
        "", accepting, sending(unsigned({"alg": "none", "typ": "JWT"}, {"sub": "1"})), name="healthy: unsigned is taken"
    ),
    Case("", accepting, sending("eyJ1c2VyIjoxfQ.Zm9v.YmFyYmF6"), name="healthy: a session of Flask is no JWT"),
]
CASES = [*CLOCKS, *CLAIMS, *KINDS, *REVOKED, *HEALTHY]
