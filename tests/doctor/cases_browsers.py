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


# "Copy as cURL (bash)" of Chrome 130 and Firefox 132, whole, with the cache disabled in the developer tools.
CHROME = (
    "curl '{url}' \\\n"
    "  -H 'accept: application/json, text/plain, */*' \\\n"
    "  -H 'accept-language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7' \\\n"
    f"  -H 'authorization: Bearer {TOKEN}' \\\n"
    "  -H 'cache-control: no-cache' \\\n"
    "  -H 'dnt: 1' \\\n"
    f"  -H 'origin: {PAGE}' \\\n"
    "  -H 'pragma: no-cache' \\\n"
    "  -H 'priority: u=1, i' \\\n"
    f"  -H 'referer: {PAGE}/' \\\n"
    """  -H 'sec-ch-ua: "Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"' \\\n"""
    "  -H 'sec-ch-ua-mobile: ?0' \\\n"
    """  -H 'sec-ch-ua-platform: "Linux"' \\\n"""
    "  -H 'sec-fetch-dest: empty' \\\n"
    "  -H 'sec-fetch-mode: cors' \\\n"
    "  -H 'sec-fetch-site: cross-site' \\\n"
    "  -H 'user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
    "Safari/537.36'"
)
FIREFOX = (
    "curl '{url}' --compressed \\\n"
    "  -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0' \\\n"
    "  -H 'Accept: */*' \\\n"
    "  -H 'Accept-Language: en-US,en;q=0.5' \\\n"
    "  -H 'Accept-Encoding: gzip, deflate, br, zstd' \\\n"
    f"  -H 'Referer: {PAGE}/' \\\n"
    f"  -H 'Authorization: Bearer {TOKEN}' \\\n"
    f"  -H 'Origin: {PAGE}' \\\n"
    "  -H 'DNT: 1' \\\n"
    "  -H 'Sec-GPC: 1' \\\n"
    "  -H 'Connection: keep-alive' \\\n"
    "  -H 'Alt-Used: api.example' \\\n"
    "  -H 'Sec-Fetch-Dest: empty' \\\n"
    "  -H 'Sec-Fetch-Mode: cors' \\\n"
    "  -H 'Sec-Fetch-Site: cross-site' \\\n"
    "  -H 'Priority: u=4' \\\n"
    "  -H 'Pragma: no-cache' \\\n"
    "  -H 'Cache-Control: no-cache' \\\n"
    "  -H 'TE: trailers'"
)


def refusing_page(*fields, body):
    """CORS as it should be for a page that sends Authorization alone; and a plain 401."""

    def respond(request):
        if request.method == "OPTIONS":
            return Reply(204, (ALLOW, ("Access-Control-Allow-Headers", "authorization")), body="")
        return Reply(401, (ALLOW, *fields), body=body)

    return respond


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


PASTED = [
    case
    for browser, line in (("Chrome", CHROME), ("Firefox", FIREFOX))
    for case in (
        Case(
            "", cors(ALLOW, ("Access-Control-Allow-Headers", "authorization")), ("--", line),
            name=f"healthy: pasted from {browser}",
        ),
        Case("token-expired", refusing_page(body={"message": "jwt expired"}), ("--", line), name=f"{browser}: expired"),
        Case(
            "basic-expected", refusing_page(("WWW-Authenticate", 'Basic realm="x"'), body=""), ("--", line),
            name=f"{browser}: Basic wanted",
        ),
        Case(
            "cors-headers", cors(ALLOW, ("Access-Control-Allow-Headers", "content-type")), ("--", line),
            name=f"{browser}: Authorization is not allowed",
        ),
    )
]  # fmt: skip
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
    Case(
        "",
        lambda request: Reply(405 if request.method == "OPTIONS" else 200, (("Access-Control-Allow-Origin", "*"),)),
        ("{url}", "-H", "Content-Type: text/plain;charset=UTF-8", "-H", "Range: bytes=0-1", "--origin", PAGE),
        name="healthy: fields that need no preflight",
    ),
    *PASTED,
]
