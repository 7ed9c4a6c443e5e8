"""Servers that send the request elsewhere: the credential does not come along, or it does."""

from __future__ import annotations

from doctor.rig import TOKEN, Case, Reply, bearer
from doctor.secure import CA, serve_tls

LOGIN = """<!doctype html><html><head><title>Sign in to Acme</title></head><body><h1>Sign in</h1>
<form method="post"><input name="user"><input type="password" name="password"></form></body></html>"""
HTML = ("Content-Type", "text/html; charset=utf-8")


def to(location, *, status=301, refuses_first=False):
    """A server that redirects everybody, or whoever has a credential, to a place (with the request's path)."""

    def answer(request):
        if refuses_first and request.credential is None:
            return Reply(401, bearer())
        host = request.headers["host"].partition(":")[0]
        return Reply(status, (("Location", location.format(path=request.path, host=host)),), body="")

    return answer


def with_slash(request):
    """As FastAPI's and Django's redirects of a path without its slash, within the origin."""
    if request.path == "/v1/things":
        return Reply(307, (("Location", "/v1/things/"),), body="")
    return Reply() if request.credential else Reply(401, bearer())


def session_login(request):
    """As Spring Security's form login, or Django's login_required."""
    if request.path.startswith("/login"):
        return Reply(200, (HTML,), body=LOGIN)
    return Reply(302, (("Location", f"/login?next={request.path}"),), body="")


def circle(request):
    there = {"/v1/things": "/v1/things/", "/v1/things/": "/v1/things"}[request.path]
    return Reply(301, (("Location", there), ("Set-Cookie", "seen=1; Path=/")), body="")


def counting(request):
    number = int(request.path.partition("?r=")[2] or 0)
    return Reply(302, (("Location", f"/v1/things?r={number + 1}"),), body="")


def loses_the_query(request):
    if request.path.startswith("/v1/things?"):
        return Reply(301, (("Location", "/v1/things/"),), body="")
    return Reply(401, body={"error": "api_key is missing"})


LOST = "redirect-lost-credential"
CASES = [
    Case(LOST, to("https://{host}{path}"), name="redirect: http to https"),
    Case(LOST, to("https://www.acme.example{path}"), name="redirect: another host"),
    Case(LOST, to("http://{host}:9{path}/", status=308), name="redirect: another port, and a slash"),
    Case(
        LOST,
        to("http://{host}{path}/", status=307),
        ("{url}", "--token", TOKEN, "--cacert", str(CA)),
        name="redirect: back to http behind a proxy that ends TLS",
        serve=serve_tls,
    ),
    Case(LOST, loses_the_query, ("{url}?api_key=" + TOKEN,), name="redirect: the query with the key is lost"),
    Case("login-page", session_login, name="login page, followed"),
    Case("login-page", session_login, ("{url}",), name="login page, without any credential"),
    Case(
        "login-page", session_login, ("{url}", "-H", f"Cookie: session={TOKEN}"), name="login page, for a stale cookie"
    ),
    Case(
        "login-page",
        to("https://login.microsoftonline.com/common/oauth2/v2.0/authorize?client_id=1&redirect_uri=x", status=302),
        name="login page of Entra ID",
    ),
    Case(
        "login-page", to("https://acme.okta.com/app/x/sso/saml?SAMLRequest=abc", status=302), name="login page by SAML"
    ),
    Case("login-page", lambda _request: Reply(200, (HTML,), body=LOGIN), name="login page with status 200"),
    Case("redirect-loop", circle, name="redirect loop over a slash"),
    Case("redirect-loop", counting, name="redirect loop with a counter"),
    Case(
        "redirect-loop", lambda request: Reply(302, (("Location", request.path),), body=""), name="redirect to itself"
    ),
    Case(
        "redirect-became-get",
        lambda request: (
            Reply(301, (("Location", request.path + "/"),), body="") if request.method == "POST" else Reply()
        ),
        ("{url}", "--method", "POST", "--token", TOKEN),
    ),
    Case("", with_slash, name="healthy: a redirect within the origin, to the path with a slash"),
    Case(
        "",
        to(
            "https://bucket.s3.amazonaws.com/v1/things?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0a1b2c",
            status=302,
            refuses_first=True,
        ),
        name="healthy: a redirect to a presigned URL",
    ),
    Case(
        "",
        to("https://acme.blob.core.windows.net/c/things?sv=2024-01-01&sig=c2ln", status=307, refuses_first=True),
        name="healthy: a redirect to a URL with Azure's signature",
    ),
    Case(
        "",
        to("https://codeload.acme.example/archive/things.tar.gz?token=abcdef", status=302, refuses_first=True),
        name="healthy: a redirect to a download elsewhere",
    ),
    Case("", to("https://cdn.acme.example/static/things.bin", status=302), name="healthy: a redirect to a CDN, public"),
    Case(
        "",
        lambda request: (
            Reply(303, (("Location", "/v1/things/42"),), body="")
            if request.method == "POST"
            else Reply(200 if request.credential else 401, bearer())
        ),
        ("{url}", "--method", "POST", "--token", TOKEN),
        name="healthy: a POST that leads to what it made (303)",
    ),
    Case(
        "",
        lambda request: Reply(200 if request.credential else 401, bearer()),
        ("{origin}/login/history", "--token", TOKEN),
        name="healthy: an API whose path has login in it",
    ),
]
