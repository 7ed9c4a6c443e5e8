from __future__ import annotations

from doctor.rig import TOKEN, Case, Reply, bearer, refusing

# What products say when nothing was sent.
AUTH0 = {"error": "Unauthorized", "message": "No authorization token was found"}
KONG = {"message": "No API key found in request"}
GITHUB = {"message": "Requires authentication", "documentation_url": "https://docs.github.com/rest", "status": "401"}
SPRING = {"timestamp": "2026-01-01T00:00:00Z", "status": 401, "error": "Unauthorized", "path": "/v1/things"}
BASIC = (("WWW-Authenticate", 'Basic realm="x"'),)
PASSWORD = "aHVnbzpob25vbHVsdTE5NzM="  # hugo:honolulu1973


def saying(status: int = 401, headers: tuple = (), body: str | dict = ""):
    """A server that says the same to everybody but who has sent the token as it is to be sent."""

    def answer(request):
        return Reply() if request.credential == f"Bearer {TOKEN}" else Reply(status, headers, body)

    return answer


def sent(value: str) -> tuple[str, ...]:
    return ("{url}", "-H", f"Authorization: {value}")


CASES = [
    Case("no-credential", refusing(), arguments=("{url}",)),
    Case("no-credential", saying(), arguments=("{url}",), name="no-credential: not a word"),
    Case("no-credential", saying(body=AUTH0), arguments=("{url}",), name="no-credential: Auth0"),
    Case("no-credential", saying(body=KONG), arguments=("{url}",), name="no-credential: Kong"),
    Case("no-credential", saying(body=GITHUB), arguments=("{url}",), name="no-credential: GitHub"),
    Case("no-credential", saying(headers=bearer(), body=SPRING), arguments=("{url}",), name="no-credential: Spring"),
    Case("no-credential", saying(headers=BASIC), arguments=("{url}",), name="no-credential: nginx"),
    Case(
        "no-credential",
        saying(403, body={"message": "Missing Authentication Token"}),
        arguments=("{url}", "-H", "Idempotency-Key: 8f3a6c1e5b7d49f2"),
        name="no-credential: API Gateway, and a key that is none",
    ),
    Case(
        "field-name-misspelt",
        saying(headers=bearer()),
        arguments=("{url}", "-H", f"Authorisation: Bearer {TOKEN}"),
    ),
    *(
        Case(
            "field-name-misspelt",
            saying(headers=headers),
            arguments=("{url}", "-H", f"{name}: {value}"),
            name=f"field-name-misspelt: {name}, {len(headers)} challenges",
        )
        for name, value, headers in (
            ("Autorization", f"Bearer {TOKEN}", ()),
            ("Authorizaton", f"Bearer {TOKEN}", bearer()),
            ("Authentication", f"Bearer {TOKEN}", bearer()),
            ("Authorization_", TOKEN, bearer()),
            ("Authorisation", "Bearer another-token-0123456789", bearer()),
            ("Autorisation", f"Basic {PASSWORD}", BASIC),
        )
    ),
    Case(
        "no-credential",
        saying(headers=bearer()),
        arguments=("{url}?cursor=8f3a6c1e5b7d49f2a0c4", "-H", "X-Acme: 8f3a6c1e5b7d49f2"),
        name="no-credential: what may be one",
        secrets=("8f3a6c1e5b7d49f2",),
    ),
    Case(
        "",
        lambda request: Reply() if request.headers.get("accesskey") else Reply(401),
        arguments=("{url}", "-H", f"AccessKey: {TOKEN}"),
        name="healthy: bunny's key",
    ),
    Case(
        "",
        lambda request: Reply() if "sig=" in request.path else Reply(403),
        arguments=("{url}?sv=2022-11-02&se=2030-01-01&sig=8f3a6c1e5b7d49f2%3D",),
        name="healthy: a signed URL",
        secrets=("8f3a6c1e5b7d49f2",),
    ),
    Case(
        "",
        lambda request: Reply() if request.headers.get("authentication") else Reply(401),
        arguments=("{url}", "-H", f"Authentication: {TOKEN}"),
        name="healthy: a field of the house that is called Authentication",
    ),
    Case("empty-credential", saying(headers=bearer()), arguments=sent("Bearer")),
    Case("empty-credential", saying(), arguments=sent("Bearer "), name="empty-credential: cannot be sent"),
    Case("empty-credential", saying(), arguments=sent(""), name="empty-credential: an empty field"),
    Case("empty-credential", saying(headers=BASIC), arguments=sent("Basic Og=="), name="empty-credential: Basic"),
    Case("empty-credential", saying(body=KONG), arguments=("{url}", "-H", "apikey:"), name="empty-credential: a key"),
    Case("empty-credential", saying(), arguments=("{url}?access_token=",), name="empty-credential: in the query"),
    *(
        Case(
            "placeholder-credential",
            saying(headers=bearer("invalid_token")),
            arguments=sent(f"Bearer {value}"),
            name=value,
        )
        for value in (
            "undefined",
            "null",
            "None",
            "[object Object]",
            "[object Promise]",
            "NaN",
            "$TOKEN",
            "${TOKEN}",
            "{{token}}",
            "{token}",
            "<token>",
            "<your token>",
            "YOUR_TOKEN",
            "YOUR_ACCESS_TOKEN_HERE",
            "%TOKEN%",
            "$(cat token.txt)",
            "process.env.TOKEN",
            "<function token at 0x7f3a6c1e5b7d>",
            "SecretStr('**********')",
            "Token(token_type='Bearer', expires_at=1767225600.0, scope='read write')",
            "***",
            "xxxxxxxx",
            "token",
            "mF_9.B5f-4.1JqM",
            "${{ secrets.API_TOKEN }}",
            "'undefined'",
        )
    ),
    Case("placeholder-credential", saying(), arguments=sent("undefined"), name="placeholder: no scheme either"),
    Case(
        "placeholder-credential",
        saying(headers=BASIC),
        arguments=sent("Basic dW5kZWZpbmVkOnVuZGVmaW5lZA=="),
        name="placeholder: both of user and password",
    ),
    Case(
        "placeholder-credential",
        saying(),
        arguments=("{url}", "-H", "X-API-Key: YOUR_API_KEY"),
        name="placeholder: key",
    ),
    Case("", lambda request: Reply() if request.credential else Reply(401), name="healthy: an opaque token"),
    Case("", lambda _request: Reply(), arguments=("{url}",), name="healthy: nobody asks for a credential"),
    Case(
        "",
        lambda request: Reply() if request.headers.get("cookie") else Reply(401),
        arguments=("{url}", "-H", "Cookie: session=8f3a6c1e5b7d49f2"),
        name="healthy: a session",
    ),
    Case(
        "",
        lambda request: Reply() if request.headers.get("x-acme-key") else Reply(401),
        arguments=("{url}", "-H", "X-Acme-Key: 8f3a6c1e5b7d49f2"),
        name="healthy: a key in a field of the house",
    ),
    Case("", saying(), arguments=sent(f"Bearer {TOKEN}"), name="healthy: a header given by hand"),
    Case(
        "",
        lambda request: Reply() if request.credential == "Bearer undefined" else Reply(401),
        arguments=sent("Bearer undefined"),
        name="healthy: a token that is a word",
    ),
    Case("", lambda request: Reply(404) if request.credential else Reply(401), name="healthy: nothing is there"),
    Case("", lambda _request: Reply(503), arguments=("{url}",), name="no answer: the server fails", status=2),
    Case(
        "",
        lambda request: Reply() if "key=" in request.path else Reply(401),
        arguments=("{url}?key=8f3a6c1e5b7d49f2",),
        name="healthy: a key in the query",
    ),
    Case(
        "",
        lambda request: Reply() if request.credential == f"Basic {PASSWORD}" else Reply(401, BASIC),
        arguments=sent(f"Basic {PASSWORD}"),
        name="healthy: Basic",
        secrets=(PASSWORD, "honolulu1973"),
    ),
]
