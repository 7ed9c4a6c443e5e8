"""Servers that browsers cannot use, or only with cookies."""

from __future__ import annotations

from doctor.rig import TOKEN, Case, Reply, bearer

PAGE = "https://app.example"
ALLOW = ("Access-Control-Allow-Origin", PAGE)
HEADERS = ("Access-Control-Allow-Headers", "Authorization, Content-Type")
METHODS = ("Access-Control-Allow-Methods", "GET, PUT")
CREDENTIALS = ("Access-Control-Allow-Credentials", "true")
FROM_PAGE = ("{url}", "--token", TOKEN, "--origin", PAGE)
COOKIE = ("{url}", "-H", f"Cookie: session={TOKEN}")
COOKIE_FROM_PAGE = (*COOKIE, "--origin", PAGE)


def cors(*preflight, status=204, answer=(ALLOW,), refusal=(ALLOW,), method=None):
    """A healthy API, but for what it says to browsers."""

    def respond(request):
        if request.method == "OPTIONS":
            return Reply(status, preflight, body="")
        if request.credential is None and "cookie" not in request.headers:
            return Reply(401, (*bearer(), *refusal))
        return Reply(200, answer)

    return respond


def behind_authentication(request):
    """Authentication looks at preflights as well."""
    return Reply(200, (ALLOW,)) if request.credential else Reply(401, (*bearer(), ALLOW))


def session(status, *fields, body=""):
    def answer(request):
        return Reply(
            status if "cookie" in request.headers else 401, fields if "cookie" in request.headers else (), body=body
        )

    return answer


CASES = [
    Case("cors-preflight", behind_authentication, FROM_PAGE, name="preflight: 401"),
    Case("cors-preflight", cors(status=405), FROM_PAGE, name="preflight: 405"),
    Case(
        "cors-preflight",
        cors(("Location", "https://api.example/v1/things/"), status=308),
        FROM_PAGE,
        name="preflight: redirected",
    ),
    Case("cors-origin", cors(HEADERS), FROM_PAGE, name="CORS: no origin"),
    Case(
        "cors-origin",
        cors(("Access-Control-Allow-Origin", "https://other.example"), HEADERS),
        FROM_PAGE,
        name="CORS: another origin",
    ),
    Case("cors-origin", cors(ALLOW, HEADERS, answer=()), FROM_PAGE, name="CORS: only the preflight names the origin"),
    Case(
        "cors-origin",
        cors(answer=(("Access-Control-Allow-Origin", "*"), CREDENTIALS)),
        COOKIE_FROM_PAGE,
        name="CORS: * with cookies",
    ),
    Case(
        "cors-origin",
        cors(ALLOW, HEADERS, answer=(ALLOW, ("Access-Control-Allow-Origin", "*"))),
        FROM_PAGE,
        name="CORS: two values",
    ),
    Case("cors-headers", cors(ALLOW, ("Access-Control-Allow-Headers", "content-type")), FROM_PAGE),
    Case(
        "cors-headers", cors(ALLOW, ("Access-Control-Allow-Headers", "*")), FROM_PAGE, name="CORS: * and Authorization"
    ),
    Case("cors-methods", cors(ALLOW, HEADERS, METHODS), (*FROM_PAGE, "--method", "DELETE")),
    Case("cors-credentials", cors(ALLOW, HEADERS), COOKIE_FROM_PAGE),
    Case(
        "csrf-token",
        session(403, body={"detail": "CSRF Failed: CSRF token missing."}),
        COOKIE,
        name="CSRF: Django REST framework",
    ),
    Case("csrf-token", session(419, body={"message": "CSRF token mismatch."}), COOKIE, name="CSRF: Laravel"),
    Case("csrf-token", session(419, body=""), COOKIE, name="CSRF: a 419 that says nothing"),
    Case("session-over", session(440), COOKIE, name="session: IIS"),
    Case("session-over", session(401, body={"error": "Session has expired"}), COOKIE, name="session: said in the body"),
    Case(
        "session-over",
        session(401, ("Set-Cookie", "session=; Max-Age=0; Path=/")),
        COOKIE,
        name="session: the cookie is deleted",
    ),
    Case("session-over", lambda _request: Reply(401), COOKIE, name="session: says nothing"),
    Case(
        "cookie-missing",
        lambda request: (
            Reply() if "cookie" in request.headers else Reply(401, body={"error": "Session cookie missing"})
        ),
        ("{url}",),
        name="cookie: nothing sent",
    ),
    Case(
        "cookie-missing",
        lambda _request: Reply(
            401, (("Set-Cookie", "connect.sid=s%3Aabc; HttpOnly; Secure"),), body={"message": "Not logged in"}
        ),
        name="cookie: a token sent instead",
    ),
    Case("", cors(ALLOW, HEADERS), FROM_PAGE, name="healthy: CORS as it should be"),
    Case(
        "",
        cors(("Access-Control-Allow-Origin", "*"), HEADERS, answer=(("Access-Control-Allow-Origin", "*"),)),
        FROM_PAGE,
        name="healthy: CORS for all, without cookies",
    ),
    Case(
        "",
        cors(ALLOW, CREDENTIALS, answer=(ALLOW, CREDENTIALS)),
        COOKIE_FROM_PAGE,
        name="healthy: CORS with cookies",
    ),
    Case("", cors(ALLOW, HEADERS, refusal=()), FROM_PAGE, name="healthy: only refusals lack the origin"),
    Case("", cors(status=405, answer=()), ("{url}", "--token", TOKEN), name="healthy: no CORS, and no browser"),
    Case(
        "",
        cors(status=405, answer=()),
        ("{url}", "--token", TOKEN, "--origin", "{origin}"),
        name="healthy: a page of the API's own origin",
    ),
    Case("", session(200, ("Set-Cookie", "session=renewed; HttpOnly")), COOKIE, name="healthy: a session that goes on"),
]
