"""Servers that refuse in a way that misleads."""

from __future__ import annotations

from doctor.rig import Case, Reply, bearer, signed


def says(status, *fields, body="", bare=401):
    """`status` for whoever has a credential, `bare` for whoever has none."""

    def answer(request):
        if request.credential is None:
            return Reply(bare, bearer() if bare == 401 else (), body={"message": "Unauthorized"})
        return Reply(status, fields, body=body)

    return answer


def silent(*fields, status=401, body=""):
    return lambda _request: Reply(status, fields, body=body)


BEARER = ("WWW-Authenticate", "Bearer")
CASES = [
    Case("forbidden", says(403, body={"message": "Forbidden"}), name="403: a real one"),
    Case(
        "forbidden",
        says(403, body={"error": {"message": "The caller does not have permission", "status": "PERMISSION_DENIED"}}),
        name="403: Google's words",
    ),
    Case(
        "403-means-401",
        lambda request: Reply(403, body={"detail": "Invalid token" if request.credential else "Not authenticated"}),
        name="403 means 401: FastAPI's HTTPBearer of old",
    ),
    Case("403-means-401", silent(status=403, body={"message": "Forbidden"}), name="403 means 401: the same for all"),
    Case(
        "401-means-403",
        says(401, BEARER, body={"error": "User is not allowed to list things"}),
        name="401 means 403: in words",
    ),
    Case(
        "401-means-403",
        says(401, BEARER, body={"message": "Access denied: you do not have the required permissions"}),
        ("{url}", "--token", signed(scope="read:other")),
        name="401 means 403: a JWT",
        secrets=(),
    ),
    Case(
        "200-means-401",
        says(200, body={"errors": [{"message": "not now", "extensions": {"code": "UNAUTHENTICATED"}}], "data": None}),
        name="200 means 401: GraphQL",
    ),
    Case("200-means-401", silent(status=200, body={"ok": False, "error": "invalid_auth"}), name="200 means 401: Slack"),
    Case(
        "200-means-401",
        silent(status=200, body={"statusCode": 401, "message": "Unauthorized"}),
        name="200 means 401: a status in the body",
    ),
    Case("malformed-challenge", says(401, ("WWW-Authenticate", '{"error": "nope"}')), name="challenge: JSON"),
    Case("malformed-challenge", says(401, ("WWW-Authenticate", 'realm="api"')), name="challenge: no scheme"),
    Case("malformed-challenge", says(401, ("WWW-Authenticate", 'Bearer realm="api')), name="challenge: an open quote"),
    Case("malformed-challenge", silent(("WWW-Authenticate", "Bearer realm=the api, x")), name="challenge: spaces"),
    Case("no-challenge", silent(), name="401 without WWW-Authenticate"),
    Case("no-challenge", says(401, body={"message": "Unauthorized"}), name="401 without WWW-Authenticate, with a body"),
    Case("no-difference", silent(BEARER), name="no difference: a server that says nothing"),
    Case("", silent(("Retry-After", "1"), status=429), name="could not look: 429", status=2),
    Case("", silent(("Retry-After", "1"), status=503), name="could not look: 503", status=2),
    Case("", silent(status=502, body="<html><h1>Bad Gateway</h1></html>"), name="could not look: 502", status=2),
]
