"""Token endpoints that refuse, or fail."""

from __future__ import annotations

from doctor.rig import TOKEN, Case, Reply, bearer

SECRET = "s3cr3t-of-the-client-9f"
CODE = "the-code-of-a-login-77aa"
REFRESH = "the-refresh-token-55cc"
FETCHED = ("{url}", "--token-endpoint", "{origin}/token", "--client-id", "me", "--client-secret", SECRET)
WITH_CODE = (
    *FETCHED, "--grant", "authorization_code", "--code", CODE, "--redirect-uri", "http://127.0.0.1:1/cb",
    "--code-verifier", "v" * 43,
)  # fmt: skip
RENEWED = (*FETCHED, "--grant", "refresh_token", "--refresh-token", REFRESH)
SECRETS = (SECRET, CODE, REFRESH, "v" * 43)
HTML = (("Content-Type", "text/html"),)


def refused(error: str, description: str = "", status: int = 400):
    """An API with a token endpoint that says no."""
    return answered(Reply(status, body={"error": error} | ({"error_description": description} if description else {})))


def answered(reply: Reply):
    return lambda request: reply if request.path == "/token" else Reply(401, bearer())


def granting(request):
    """All is well: a token is issued, and accepted."""
    if request.path == "/token":
        return Reply(body={"access_token": TOKEN, "token_type": "Bearer", "expires_in": 60})
    return Reply() if request.credential == f"Bearer {TOKEN}" else Reply(401, bearer())


def granting_for_nothing(request):
    return (
        granting(request)
        if request.path == "/token"
        else Reply(401, bearer("invalid_token" if request.credential else ""))
    )


def case(cause: str, name: str, answer, arguments: tuple = FETCHED, status: int | None = None) -> Case:
    return Case(cause, answer, arguments, name=f"{cause or 'healthy'}: {name}", secrets=SECRETS, status=status)


CASES = [
    case("token-client-authentication", "RFC 6749", refused("invalid_client", status=401)),
    case(
        "token-client-authentication",
        "Entra ID, a wrong secret",
        refused(
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the value",
            401,
        ),
    ),
    case(
        "token-client-authentication",
        "Entra ID, no such application",
        refused("unauthorized_client", "AADSTS700016: Application with identifier 'me' was not found in the directory"),
    ),
    case("token-client-authentication", "Keycloak", refused("unauthorized_client", "Invalid client secret", 401)),
    case("token-client-authentication", "Auth0", refused("access_denied", "Unauthorized", 401)),
    case("token-client-not-allowed", "RFC 6749", refused("unauthorized_client")),
    case(
        "token-client-not-allowed",
        "Auth0",
        refused(
            "access_denied", 'Client is not authorized to access "https://api.example". Create a "client-grant".', 403
        ),
    ),
    case("token-scope", "RFC 6749", refused("invalid_scope", "The requested scope is unknown")),
    case(
        "token-scope", "Entra ID", refused("invalid_scope", "AADSTS70011: The provided value for 'scope' isn't valid.")
    ),
    case("token-pkce", "Keycloak", refused("invalid_grant", "PKCE verification failed: Code mismatch"), WITH_CODE),
    case(
        "token-pkce", "Entra ID", refused("invalid_grant", "AADSTS501481: The Code_Verifier doesn't match"), WITH_CODE
    ),
    case("token-pkce", "missing", refused("invalid_request", "code_verifier is missing"), WITH_CODE),
    case("token-redirect-uri", "Google", refused("redirect_uri_mismatch", "Bad Request"), WITH_CODE),
    case("token-redirect-uri", "Keycloak", refused("invalid_grant", "Incorrect redirect_uri"), WITH_CODE),
    case("token-redirect-uri", "Entra ID", refused("invalid_grant", "AADSTS50011: The reply URL is not"), WITH_CODE),
    case("token-grant-ended", "a refresh token, RFC 6749", refused("invalid_grant"), RENEWED),
    case(
        "token-grant-ended",
        "Entra ID, not used for too long",
        refused("invalid_grant", "AADSTS700082: The refresh token has expired due to inactivity."),
        RENEWED,
    ),
    case("token-grant-ended", "Google", refused("invalid_grant", "Token has been expired or revoked."), RENEWED),
    case("token-grant-ended", "a code, used twice", refused("invalid_grant", "Code not valid"), WITH_CODE),
    case("token-grant-type", "RFC 6749", refused("unsupported_grant_type")),
    case(
        "token-grant-type", "Auth0", refused("unauthorized_client", "Grant type 'x' not allowed for the client.", 403)
    ),
    case("token-target", "RFC 8707", refused("invalid_target", "unknown resource")),
    case("token-target", "Auth0", refused("access_denied", "Service not found: https://nowhere.example", 403)),
    case(
        "token-consent",
        "Entra ID",
        refused("invalid_grant", "AADSTS65001: The user or administrator has not consented"),
    ),
    case(
        "token-login-needed",
        "Entra ID",
        refused("interaction_required", "AADSTS50076: you must use multi-factor"),
        RENEWED,
    ),
    case("token-account", "Keycloak", refused("invalid_grant", "Account disabled"), RENEWED),
    case(
        "token-assertion-time",
        "Google",
        refused(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes). Check your iat and exp values",
        ),
    ),
    case("token-request-refused", "RFC 6749", refused("invalid_request", "parameter x is repeated")),
    case("token-endpoint-failing", "not found", answered(Reply(404, HTML, "<html><h1>Not Found</h1></html>"))),
    case("token-endpoint-failing", "a page", answered(Reply(200, HTML, "<html><title>Log in</title></html>"))),
    case("token-endpoint-failing", "503", answered(Reply(503, (), "busy"))),
    case(
        "token-endpoint-failing",
        "nobody is there",
        granting,
        ("{url}", "--token-endpoint", "http://127.0.0.1:9/token", "--client-id", "me", "--client-secret", SECRET),
    ),
    case(
        "token-client-authentication",
        "the token endpoint itself was asked",
        refused("invalid_client", "Unknown client", 401),
        ("{origin}/token", "-u", f"me:{SECRET}", "-X", "POST"),
    ),
    case(
        "token-grant-ended",
        "the token endpoint itself was asked, and says 400",
        refused("invalid_grant", "Session not active"),
        ("{origin}/token", "-X", "POST", "-u", f"me:{SECRET}"),
    ),
    case("", "a token is issued and accepted", granting),
    case("", "an API's own 400", lambda _: Reply(400, body={"error": "invalid_request"}), ("{url}", "--token", TOKEN)),
    case("fresh-token-refused", "a token fetched this moment, an opaque one", granting_for_nothing),
]
