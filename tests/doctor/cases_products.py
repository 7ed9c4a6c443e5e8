"""Real products in their own words: what a challenge, a status or a beginning of theirs hides, and what it does not."""

from __future__ import annotations

from doctor.rig import Case, Reply, bearer, signed

WORDS = "WWW-Authenticate"
STRIPE = ((WORDS, 'Basic realm="Stripe"'),)
KONG = ((WORDS, 'Key realm="kong"'),)
ELASTIC = ((WORDS, 'Basic realm="security"'), (WORDS, "ApiKey"))
ELASTIC_WORDS = "unable to authenticate with provided credentials and anonymous access is not allowed for this request"
KEY = "zT8wq0K3n5Yb7R1x"
ADDRESS = "your IP address is not on the allow list"


def two(missing: Reply, refused: Reply, place: str = "authorization"):
    """A server: what it answers without a credential in `place`, and with any."""
    return lambda request: refused if place in request.headers else missing


def same(status: int, body: str | dict, *headers: tuple[str, str]):
    """A server that says the same to everybody."""
    return lambda _request: Reply(status, headers, body)


def page(line: str) -> Reply:
    """Express's page for an error."""
    body = (
        f"<!DOCTYPE html><html><head><title>Error</title></head><body><pre>{line}<br> &nbsp; at x</pre></body></html>"
    )
    return Reply(401, (("Content-Type", "text/html"),), body)


def led(path: str, to: str, at_last: Reply):
    """A server that leads from `path` to another, where it answers with `at_last`."""
    return lambda request: Reply(302, (("Location", to),), "") if request.path == path else at_last


EXPIRED_KEY = {
    "error": {
        "root_cause": [
            {
                "type": "security_exception",
                "reason": ELASTIC_WORDS,
                "additional_unsuccessful_credentials": "API key: api key is expired",
            }
        ],
        "reason": ELASTIC_WORDS,
    },
    "status": 401,
}
RBAC = 'nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope'
GOOGLE = {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID"}}
S3 = '<?xml version="1.0"?><Error><Code>InvalidArgument</Code><Message>Unsupported Authorization Type</Message></Error>'

WRONG_KEY = (
    Case(
        "wrong-api-key",
        two(
            Reply(401, STRIPE, {"error": {"message": "You did not provide an API key."}}),
            Reply(401, STRIPE, {"error": {"message": "Invalid API Key provided: sk_test_****1234"}}),
        ),
        name="wrong-api-key: Stripe, who challenges with Basic",
    ),
    Case(
        "wrong-api-key",
        two(Reply(401, ELASTIC, {"error": {"reason": "missing"}}), Reply(401, ELASTIC, EXPIRED_KEY)),
        arguments=("{url}", "-H", f"Authorization: ApiKey {KEY}"),
        secrets=(KEY,),
        name="wrong-api-key: Elasticsearch's has ended",
    ),
    Case(
        "wrong-api-key",
        two(
            Reply(401, KONG, {"message": "No API key found in request"}),
            Reply(401, KONG, {"message": "Unauthorized"}),
            "apikey",
        ),
        arguments=("{url}", "-H", f"apikey: {KEY}"),
        secrets=(KEY,),
        name="wrong-api-key: Kong, who challenges with Key",
    ),
    Case(
        "wrong-api-key",
        same(400, GOOGLE),
        arguments=(f"{{url}}?key={KEY}",),
        secrets=(KEY,),
        name="wrong-api-key: Google says 400",
    ),
    Case(
        "signature-expected",
        same(400, S3, ("Content-Type", "application/xml")),
        name="signature-expected: Amazon S3 says 400",
    ),
    Case(
        "no-credential",
        same(400, {"errors": ["missing client token"]}),
        arguments=("{url}",),
        name="no-credential: Vault says 400",
    ),
    Case(
        "token-not-known",
        same(401, {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}, (WORDS, "Token")),
        name="token-not-known: Salesforce, who challenges with Token",
    ),
)

NOT_NOW = (
    Case(
        "limit-reached",
        same(403, {"message": "API rate limit exceeded for 192.0.2.1."}, ("X-RateLimit-Remaining", "0")),
        name="limit-reached: GitHub",
    ),
    Case(
        "limit-reached",
        same(403, {"error": {"message": "Quota exceeded for quota metric 'Queries'", "status": "RESOURCE_EXHAUSTED"}}),
        name="limit-reached: Google",
    ),
    Case(
        "limit-reached",
        same(403, "Basic Auth Failure", ("X-Authentication-Denied-Reason", "CAPTCHA_CHALLENGE; login-url=/login")),
        arguments=("{url}", "--user", f"paula:{KEY}"),
        secrets=(KEY,),
        name="limit-reached: Jira after failed logins",
    ),
    Case("client-kept-out", same(403, "HTTPS Required"), name="client-kept-out: plain http"),
    Case(
        "client-kept-out",
        same(403, {"error": "This service is not available in your country"}),
        name="client-kept-out: a country",
    ),
    Case(
        "client-kept-out",
        two(Reply(401, body={"message": "Unauthorized"}), Reply(403, body={"message": ADDRESS})),
        name="client-kept-out: an address",
    ),
    Case(
        "403-means-401",
        same(403, {"error": "Access to this API has been disallowed"}, ("X-RateLimit-Remaining", "41")),
        name="403-means-401: a count that is not used up",
    ),
)

NOT_ALLOWED = (
    Case(
        "forbidden",
        two(Reply(401, body={"message": "Unauthorized"}), Reply(403, body={"message": RBAC, "code": 403})),
        arguments=("{url}", "--token", signed()),
        name="forbidden: Kubernetes, at the cluster scope",
    ),
    Case("forbidden", same(403, "RBAC: access denied", ("Server", "istio-envoy")), name="forbidden: Istio"),
    Case(
        "forbidden",
        two(Reply(401, bearer()), Reply(403, body={"message": "Your subscription has expired. Upgrade your plan."})),
        name="forbidden: a subscription has expired",
    ),
    Case(
        "csrf-token",
        same(
            403,
            "<html><head><title>Error 403 No valid crumb was included in the request</title></head>",
            ("Content-Type", "text/html"),
        ),
        arguments=("{url}", "--user", f"paula:{KEY}"),
        secrets=(KEY,),
        name="csrf-token: Jenkins calls it crumb",
    ),
    Case(
        "wrong-signature",
        two(page("UnauthorizedError: No authorization token was found"), page("UnauthorizedError: invalid signature")),
        arguments=("{url}", "--token", signed()),
        name="wrong-signature: Express says so in a trace",
    ),
    Case(
        "token-revoked",
        two(Reply(401), Reply(401, (("grpc-message", "the token was revoked%2C log in again"),), "")),
        arguments=("{url}", "--token", signed()),
        name="token-revoked: in grpc-message",
    ),
    Case(
        "token-revoked",
        two(Reply(401), Reply(401, body={"status": "fail", "data": {"message": "the token was revoked"}})),
        arguments=("{url}", "--token", signed()),
        name="token-revoked: in data",
    ),
)

IN_200 = tuple(
    Case("200-means-401", same(200, {"ok": False, "error": code, "needed": "x"}), name=f"200-means-401: {code}")
    for code in ("missing_scope", "account_inactive", "not_allowed_token_type")
)

HEALTHY = (
    *(
        Case("", same(200, body), name=f"healthy: a record, {name}")
        for name, body in (
            ("a token bucket", {"status": 401, "message": "the token bucket", "code": "x"}),
            ("of an audit", {"success": False, "error": "unauthorized", "id": 7, "kind": "login_attempt"}),
            ("of documentation", {"code": 401, "message": "unauthorized", "title": "Errors", "example": True}),
        )
    ),
    Case("", led("/v1/things", "/sso", Reply(body={"sso": "config"})), name="healthy: led to /sso"),
    Case("", led("/v1/things", "/login/success", Reply()), name="healthy: led to /login/success"),
    Case(
        "",
        same(302, "", ("Location", "https://idp.example/authorize?response_type=code&client_id=x&redirect_uri=y")),
        arguments=("{origin}/oauth/connect", "--token", KEY),
        secrets=(KEY,),
        name="healthy: where a login begins",
    ),
    Case("", same(400, {"message": "Unexpected token < in JSON at position 0"}), name="healthy: 400 of a parser"),
    Case(
        "", same(400, {"error": "invalid_request", "message": "missing required parameter token"}), name="healthy: 400"
    ),
    Case("", same(400, {"error": "bad key size"}), name="healthy: 400 of a size"),
)

CASES = [*WRONG_KEY, *NOT_NOW, *NOT_ALLOWED, *IN_200, *HEALTHY]
