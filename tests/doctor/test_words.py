"""The words of real products lead to the cause that they mean; words that give several reasons lead to none of them."""

from __future__ import annotations

import time

import httpx
import pytest
from doctor.rig import TOKEN, signed

from httpx_tokenflow.doctor import Expected, explain

URL = "https://api.example/v1/things"
TOLD = [
    ("jsonwebtoken", "token-expired", {"error": {"name": "TokenExpiredError", "message": "jwt expired"}}),
    ("jsonwebtoken", "token-not-yet-valid", {"message": "jwt not active"}),
    ("jsonwebtoken", "wrong-signature", {"message": "invalid signature"}),
    ("jsonwebtoken", "wrong-audience", {"message": "jwt audience invalid. expected: https://api"}),
    ("jsonwebtoken", "wrong-issuer", {"message": "jwt issuer invalid. expected: https://as"}),
    ("jsonwebtoken", "wrong-algorithm", {"message": "invalid algorithm"}),
    (
        "jose, Auth0",
        "token-expired",
        'Bearer error="invalid_token", error_description="\\"exp\\" claim timestamp check failed"',
    ),
    ("jose, Auth0", "wrong-audience", 'Bearer error="invalid_token", error_description="Unexpected \'aud\' value"'),
    ("jose, Auth0", "wrong-issuer", 'Bearer error="invalid_token", error_description="Unexpected \'iss\' value"'),
    ("jose", "unknown-key", {"message": "no applicable key found in the JSON Web Key Set"}),
    ("jose", "wrong-signature", {"message": "signature verification failed"}),
    ("Auth0", "missing-scope", 'Bearer error="insufficient_scope", error_description="Insufficient Scope", scope="x"'),
    ("Auth0 Management", "token-expired", {"message": "Expired token received for JSON Web Token validation"}),
    ("Auth0 Management", "wrong-audience", {"message": "Bad audience: https://x"}),
    ("Okta", "token-expired", 'Bearer error="invalid_token", error_description="The access token has expired"'),
    (
        "Spring",
        "token-expired",
        'Bearer error="invalid_token", error_description="Jwt expired at 2026-01-01T00:00:00Z"',
    ),
    (
        "Spring",
        "token-expired",
        (
            'Bearer error="invalid_token", error_description="An error occurred while attempting to decode the Jwt: '
            'Jwt expired at 2026-01-01T00:00:00Z"'
        ),
    ),
    ("Spring", "token-not-yet-valid", 'Bearer error="invalid_token", error_description="Jwt used before 2030-01-01"'),
    ("Spring", "wrong-audience", 'Bearer error="invalid_token", error_description="The aud claim is not valid"'),
    ("Spring", "wrong-issuer", 'Bearer error="invalid_token", error_description="The iss claim is not valid"'),
    (
        "Spring",
        "wrong-signature",
        (
            'Bearer error="invalid_token", error_description="An error occurred while attempting to decode the Jwt: '
            'Signed JWT rejected: Invalid signature"'
        ),
    ),
    ("Spring", "token-revoked", 'Bearer error="invalid_token", error_description="Provided token isn\'t active"'),
    (
        "ASP.NET",
        "token-expired",
        'Bearer error="invalid_token", error_description="The token expired at \'01/01/2026\'"',
    ),
    (
        "ASP.NET",
        "token-not-yet-valid",
        'Bearer error="invalid_token", error_description="The token is not valid before \'x\'"',
    ),
    (
        "ASP.NET",
        "wrong-issuer",
        'Bearer error="invalid_token", error_description="The issuer \'https://x\' is invalid"',
    ),
    ("ASP.NET", "wrong-signature", 'Bearer error="invalid_token", error_description="The signature is invalid"'),
    (
        "Azure API Management",
        "token-expired",
        {"message": "JWT Validation Failed: IDX10223: Lifetime validation failed."},
    ),
    (
        "Azure API Management",
        "wrong-audience",
        {"message": "JWT Validation Failed: IDX10214: Audience validation failed."},
    ),
    ("Azure API Management", "wrong-issuer", {"message": "JWT Validation Failed: IDX10205: Issuer validation failed."}),
    (
        "Azure API Management",
        "unknown-key",
        {"message": "IDX10501: Signature validation failed. Unable to match key: kid: x"},
    ),
    ("Azure API Management", "wrong-signature", {"message": "IDX10511: Signature validation failed. Keys tried: x"}),
    ("Azure API Management", "missing-scope", {"message": "JWT Validation Failed: Claim value mismatch: scp=read."}),
    (
        "Azure",
        "token-expired",
        {"error": {"code": "ExpiredAuthenticationToken", "message": "The access token expiry UTC time"}},
    ),
    (
        "Azure",
        "wrong-issuer",
        {"error": {"code": "InvalidAuthenticationTokenTenant", "message": "from the wrong issuer"}},
    ),
    ("Microsoft Graph", "token-expired", {"error": {"message": "Lifetime validation failed, the token is expired."}}),
    ("Microsoft.Identity.Web", "missing-scope", {"detail": "IDW10201: Neither scope nor roles claim was found."}),
    ("PyJWT", "token-expired", {"detail": "Signature has expired"}),
    ("PyJWT", "token-not-yet-valid", {"detail": "The token is not yet valid (iat)"}),
    ("PyJWT", "wrong-audience", {"detail": "Audience doesn't match"}),
    ("PyJWT", "wrong-issuer", {"detail": "Invalid issuer"}),
    ("PyJWT", "unknown-key", {"detail": 'Unable to find a signing key that matches: "k1"'}),
    ("PyJWT", "wrong-signature", {"detail": "Signature verification failed"}),
    ("PyJWT", "wrong-algorithm", {"detail": "The specified alg value is not allowed"}),
    ("simplejwt", "token-expired", {"detail": "x", "messages": [{"message": "Token is expired"}]}),
    ("simplejwt", "token-revoked", {"detail": "Token is blacklisted", "code": "token_not_valid"}),
    ("simplejwt", "account-disabled", {"detail": "User is inactive", "code": "user_inactive"}),
    ("simplejwt", "wrong-token-type", {"detail": "Token has wrong type", "code": "token_not_valid"}),
    ("flask-jwt-extended", "token-expired", {"msg": "Token has expired"}),
    ("flask-jwt-extended", "token-revoked", {"msg": "Token has been revoked"}),
    ("golang-jwt", "token-expired", {"error": "token has invalid claims: token is expired"}),
    ("golang-jwt", "token-not-yet-valid", {"error": "token used before issued"}),
    ("golang-jwt", "wrong-signature", {"error": "token signature is invalid: crypto/rsa: verification error"}),
    ("golang-jwt", "wrong-audience", {"error": "token has invalid audience"}),
    ("go-oidc", "wrong-audience", {"error": 'oidc: expected audience "x" got ["y"]'}),
    ("go-oidc", "wrong-issuer", {"error": 'oidc: id token issued by a different provider, expected "x" got "y"'}),
    ("go-oidc", "token-expired", {"error": "oidc: token is expired (Token Expiry: 2026-01-01)"}),
    ("jjwt", "token-expired", {"message": "JWT expired at 2026-01-01T00:00:00Z. Current time: x, a difference of 1"}),
    ("jjwt", "wrong-signature", {"message": "JWT signature does not match locally computed signature."}),
    ("java-jwt", "token-expired", {"message": "The Token has expired on 2026-01-01T00:00:00Z."}),
    ("java-jwt", "wrong-audience", {"message": "The Claim 'aud' value doesn't contain the required audience."}),
    ("java-jwt", "wrong-signature", {"message": "The Token's Signature resulted invalid when verified using: RSA"}),
    ("Kong", "token-expired", {"exp": "token expired"}),
    ("Kong", "token-not-yet-valid", {"nbf": "token not valid yet"}),
    ("Kong", "wrong-signature", {"message": "Invalid signature"}),
    ("Kong", "wrong-algorithm", {"message": "Invalid algorithm"}),
    ("Kong", "wrong-issuer", {"message": "No credentials found for given 'iss'"}),
    ("Envoy", "token-expired", "Jwt is expired"),
    ("Envoy", "token-not-yet-valid", "Jwt not yet valid"),
    ("Envoy", "wrong-audience", "Audiences in Jwt are not allowed"),
    ("Envoy", "wrong-issuer", "Jwt issuer is not configured"),
    ("Envoy", "unknown-key", "Jwks doesn't have key to match kid or alg from Jwt"),
    ("Envoy", "wrong-signature", "Jwt verification fails"),
    ("Google Cloud Endpoints", "token-expired", {"message": "JWT validation failed: TIME_CONSTRAINT_FAILURE"}),
    ("Google Cloud Endpoints", "wrong-signature", {"message": "JWT validation failed: BAD_SIGNATURE"}),
    ("Google", "missing-scope", {"error": {"message": "Request had insufficient authentication scopes."}}),
    ("Keycloak", "token-expired", 'Bearer error="invalid_token", error_description="Token is not active"'),
    ("Keycloak", "token-revoked", 'Bearer error="invalid_token", error_description="Session not active"'),
    ("Keycloak", "wrong-signature", 'Bearer error="invalid_token", error_description="Token verification failed"'),
    ("Keycloak", "account-disabled", 'Bearer error="invalid_token", error_description="User disabled"'),
    (
        "Keycloak",
        "unknown-key",
        'Bearer error="invalid_token", error_description="Didn\'t find publicKey for specified kid"',
    ),
    ("AWS API Gateway", "token-expired", {"message": "The incoming token has expired"}),
    ("AWS API Gateway", "token-expired", 'Bearer error="invalid_token", error_description="the token has expired"'),
    ("AWS Cognito", "token-revoked", {"message": "Access Token has been revoked"}),
    (
        "GitLab",
        "token-expired",
        {"error_description": "Token is expired. You can either do re-authorization or token refresh."},
    ),
    (
        "GitLab",
        "missing-scope",
        {"error_description": "The request requires higher privileges than provided by the access token."},
    ),
    ("Spotify", "token-expired", {"error": {"status": 401, "message": "The access token expired"}}),
    (
        "LinkedIn",
        "token-revoked",
        {"code": "REVOKED_ACCESS_TOKEN", "message": "The token has been revoked by the user"},
    ),
    (
        "HubSpot",
        "token-expired",
        {"category": "EXPIRED_AUTHENTICATION", "message": "The OAuth token expired 3 hour(s) ago."},
    ),
    (
        "Dropbox",
        "token-expired",
        {"error_summary": "expired_access_token/..", "error": {".tag": "expired_access_token"}},
    ),
    ("WSO2", "token-expired", {"fault": {"code": 900903, "message": "Access Token Expired"}}),
    (
        "Apigee",
        "token-expired",
        {"fault": {"faultstring": "Access Token expired", "detail": {"errorcode": "keymanagement"}}},
    ),
    ("Atlassian", "missing-scope", {"code": 401, "message": "Unauthorized; scope does not match"}),
]
OPAQUE = [
    ("jsonwebtoken", "opaque-token-for-jwt", {"message": "jwt malformed"}),
    (
        "golang-jwt",
        "opaque-token-for-jwt",
        {"error": "token is malformed: token contains an invalid number of segments"},
    ),
    ("PyJWT", "opaque-token-for-jwt", {"detail": "Not enough segments"}),
    ("jose", "opaque-token-for-jwt", {"message": "Invalid Compact JWS"}),
    ("java-jwt", "opaque-token-for-jwt", {"message": "The token was expected to have 3 parts, but got 0."}),
    ("jjwt", "opaque-token-for-jwt", {"message": "JWT strings must contain exactly 2 period characters. Found: 0"}),
    ("ASP.NET", "opaque-token-for-jwt", {"message": "IDX14100: JWT is not well formed, there are no dots (.)."}),
    (
        "Microsoft Graph",
        "opaque-token-for-jwt",
        {"error": {"message": "CompactToken parsing failed with error code: 80049217"}},
    ),
    ("Spring", "opaque-token-for-jwt", 'Bearer error="invalid_token", error_description="Bearer token is malformed"'),
    ("Kong", "opaque-token-for-jwt", {"message": "Bad token; invalid JSON"}),
    (
        "Envoy",
        "opaque-token-for-jwt",
        "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    ),
    ("GitHub", "token-not-known", {"message": "Bad credentials"}),
    (
        "Google",
        "token-not-known",
        {"error": {"message": "Request had invalid authentication credentials. Expected OAuth 2"}},
    ),
    ("Twitter", "token-not-known", {"errors": [{"code": 89, "message": "Invalid or expired token."}]}),
    ("Salesforce", "token-not-known", [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]),
    ("Okta", "token-not-known", {"errorCode": "E0000011", "errorSummary": "Invalid token provided"}),
    (
        "Kong",
        "token-not-known",
        {"error": "invalid_token", "error_description": "The access token is invalid or has expired"},
    ),
    ("Apigee", "token-not-known", {"fault": {"faultstring": "Invalid Access Token"}}),
    ("Twitch", "token-not-known", {"error": "Unauthorized", "status": 401, "message": "Invalid OAuth token"}),
]
SEVERAL = [
    "Invalid or expired token",
    "The access token is invalid or has expired",
    "The access token provided is expired, revoked, malformed, or invalid for other reasons.",
    "Session expired or invalid",
    "Token is invalid or expired",
    "Access token has expired or is not yet valid.",
]
ELSEWHERE = [
    "Your password has expired",
    "The certificate has expired",
    "unable to get local issuer certificate",
    "Malformed Authorization header",
    "Authentication required",
    "The resource is not available in your plan",
]


def answer(said: object, token: str) -> httpx.Response:
    """A 401 with a challenge or a body."""
    request = httpx.Request("GET", URL, headers={"Authorization": f"Bearer {token}"})
    if isinstance(said, str) and said.startswith("Bearer"):
        return httpx.Response(401, headers={"WWW-Authenticate": said}, request=request)
    plain = httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="x"'}, request=request)
    content = {"text": said} if isinstance(said, str) else {"json": said}
    return httpx.Response(401, headers=plain.headers, request=request, **content)


@pytest.mark.parametrize(("product", "cause", "said"), TOLD)
def test_a_product_that_refuses_a_jwt_in_its_words_is_understood(product, cause, said):
    """What a product says of a JWT, in its challenge or its body, names the cause before all others."""
    diagnosis = explain(answer(said, signed({"typ": "JWT"}, aud="https://api.example")))
    assert diagnosis.first is not None, product
    assert diagnosis.first.id == cause, (product, [finding.id for finding in diagnosis.findings])


@pytest.mark.parametrize(("product", "cause", "said"), OPAQUE)
def test_a_product_that_refuses_an_opaque_token_in_its_words_is_understood(product, cause, said):
    """What a product says of an opaque token names the cause before all others."""
    diagnosis = explain(answer(said, TOKEN))
    assert diagnosis.first is not None, product
    assert diagnosis.first.id == cause, (product, [finding.id for finding in diagnosis.findings])


@pytest.mark.parametrize("said", SEVERAL)
@pytest.mark.parametrize("token", [TOKEN, signed()], ids=["opaque", "jwt"])
def test_words_that_give_several_reasons_give_none(said, token):
    """Where the server lists what it may be, no cause is likely, or certain, by its words."""
    diagnosis = explain(answer({"message": said}, token))
    sure = {finding.id for finding in diagnosis.findings if finding.certainty > 1}
    assert not sure & {"token-expired", "token-revoked", "token-malformed", "token-not-yet-valid"}


@pytest.mark.parametrize("said", ELSEWHERE)
def test_words_that_mean_something_else_name_no_cause_of_the_token(said):
    """A password that has expired is no token that has, and a header that is malformed no JWT."""
    diagnosis = explain(answer({"message": said}, signed(aud="https://api.example")))
    tokens = {"token-expired", "token-malformed", "wrong-issuer", "wrong-audience", "token-revoked", "unknown-key"}
    assert not {finding.id for finding in diagnosis.findings} & tokens


def test_the_words_of_a_server_do_not_outdo_the_claims():
    """A server that says expired of a token that has an hour left is believed less, and that is said."""
    first = explain(answer("Jwt is expired", signed(exp=time.time() + 3600))).first
    assert first is not None
    assert (first.id, first.certainty.name) == ("token-expired", "LIKELY")
    assert "exp" in first.against[0]


@pytest.mark.parametrize(
    ("said", "is_wrong"),
    [
        ("Invalid API key", True),
        ("The key is not valid", True),
        ("Invalid username or password", True),  # of Elastic's and others' keys
        ("API key is missing or invalid", False),
        ("A valid API key is required; none, or an unknown key", False),
        ("Invalid signature key", False),
        ("Invalid API key\nNo API key", False),
    ],
)
def test_a_key_that_is_missing_or_signs_is_no_wrong_key(said, is_wrong):
    """That a key is wrong is taken from words that say so, not from such that say as well that there is none."""
    request = httpx.Request("GET", URL, headers={"X-API-Key": "zT8wq0K3n5Yb7R1x"})
    found = explain(httpx.Response(401, json={"message": said}, request=request)).findings
    assert ("wrong-api-key" in {one.id for one in found}) == is_wrong


def test_who_expects_something_else_is_said():
    """What is expected and not in the token is told with who says so: a profile, say, and not the person."""
    token = signed(iss="https://as.example", aud="https://other.example", exp=time.time() + 600)
    expected = Expected(issuer="https://idp.example", audience="https://api.example", whence="the profile work says so")
    request = httpx.Request("GET", URL, headers={"Authorization": f"Bearer {token}"})
    found = {one.id: one for one in explain(httpx.Response(401, request=request), expected=expected).findings}
    for cause in ("wrong-audience", "wrong-issuer"):
        assert any("the profile work says so" in text for text in found[cause].evidence)
