"""Servers with somebody in front of them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

from doctor.rig import TOKEN, Case, Reply, bearer, signed

HTML = ("Content-Type", "text/html; charset=UTF-8")
CLOUDFLARE = (HTML, ("Server", "cloudflare"), ("CF-RAY", "8c1d2e3f4a5b6c7d-FRA"))
CLOUDFLARE_PAGE = """<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head>
<body><div class="cf-error-details"><h1>Sorry, you have been blocked</h1></div></body></html>"""
AKAMAI_PAGE = """<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD><BODY><H1>Access Denied</H1>
You don't have permission to access this server.<P>Reference&#32;&#35;18&#46;2f3</BODY></HTML>"""
CLOUDFRONT_PAGE = """<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY><H1>403 ERROR</H1>
<H2>The request could not be satisfied.</H2>Request blocked.</BODY></HTML>"""
F5_PAGE = """<html><head><title>Request Rejected</title></head><body>The requested URL was rejected. Please consult with
your administrator.<br><br>Your support ID is: 123</body></html>"""


def always(status, *fields, body=""):
    def answer(_request):
        return Reply(status, fields, body=body)

    return answer


def allowing(status, *fields, body=""):
    """Somebody without a credential is told what a 401 tells; whoever has one gets this."""

    def answer(request):
        return Reply(401, bearer()) if request.credential is None else Reply(status, fields, body=body)

    return answer


@contextmanager
def through_proxy(_answer):
    """The API is behind a proxy that wants a credential before it opens a tunnel; the environment names it."""

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self):
            self.send_response_only(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="corp"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        proxy = f"http://127.0.0.1:{server.server_port}"
        with mock.patch.dict("os.environ", HTTPS_PROXY=proxy, NO_PROXY="", no_proxy=""):
            yield "https://api.example"
        server.shutdown()
        thread.join(5)


def dropping_underscores(request):
    """As nginx does, unless underscores_in_headers is on."""
    if "x-api-key" in request.headers:
        return Reply()
    return Reply(401, (("WWW-Authenticate", "ApiKey"),), body={"message": "API key is missing"})


CASES = [
    Case(
        "proxy-authentication",
        always(407, ("Proxy-Authenticate", 'Negotiate, Basic realm="corp"'), HTML, body="<html>no</html>"),
        name="a proxy's 407",
    ),
    Case("proxy-authentication", always(407), ("{url}",), name="a proxy's 407, and nothing sent"),
    Case("proxy-authentication", always(407), serve=through_proxy, name="a proxy's 407, for the tunnel"),
    Case("captive-portal", always(511, HTML, body="<html><title>Hotel WiFi</title></html>")),
    Case("blocked-on-the-way", always(403, *CLOUDFLARE, body=CLOUDFLARE_PAGE), name="Cloudflare's page"),
    Case(
        "blocked-on-the-way",
        always(403, HTML, ("cf-mitigated", "challenge"), body="<title>Just a moment...</title>"),
        name="Cloudflare's challenge",
    ),
    Case("blocked-on-the-way", always(403, HTML, ("Server", "AkamaiGHost"), body=AKAMAI_PAGE), name="Akamai's page"),
    Case(
        "blocked-on-the-way",
        always(403, HTML, ("X-Cache", "Error from cloudfront"), ("Via", "1.1 a.cloudfront.net"), body=CLOUDFRONT_PAGE),
        name="CloudFront's page",
    ),
    Case("blocked-on-the-way", always(403, HTML, body=F5_PAGE), ("{url}",), name="F5's page, and nothing sent"),
    Case("blocked-on-the-way", allowing(403, ("X-Squid-Error", "ERR_ACCESS_DENIED 0"), HTML), name="Squid"),
    Case(
        "authorization-stripped",
        always(
            401, ("WWW-Authenticate", "Bearer"), ("Server", "Apache"), body={"detail": "Missing Authorization Header"}
        ),
        name="stripped: mod_wsgi",
    ),
    Case(
        "authorization-stripped",
        always(401, *bearer("invalid_request", "No bearer token was found in the request"), ("Via", "1.1 squid")),
        name="stripped: said in the challenge",
    ),
    Case(
        "authorization-stripped",
        always(401, ("WWW-Authenticate", 'Bearer realm="api"'), body={"message": "Full authentication is required"}),
        ("{url}", "--token", signed()),
        name="stripped: a JWT, before Spring",
        secrets=(),
    ),
    Case(
        "authorization-stripped",
        always(401, body="Jwt is missing"),
        ("{url}", "--token", signed()),
        name="stripped: before Envoy",
        secrets=(),
    ),
    Case(
        "authorization-rewritten",
        always(401, ("WWW-Authenticate", "Bearer"), body={"error_description": "Invalid basic authentication token"}),
        name="rewritten: Spring",
    ),
    Case(
        "authorization-rewritten",
        allowing(401, *bearer("invalid_request", "unsupported authorization scheme: got Basic, want Bearer")),
        name="rewritten: said in the challenge",
    ),
    Case("underscore-in-field-name", dropping_underscores, ("{url}", "-H", f"X_API_KEY: {TOKEN}")),
    Case(
        "gateway-answered",
        always(
            401,
            ("Server", "nginx"),
            HTML,
            body="<html><head><title>401 Authorization Required</title></head><body><center><h1>401 Authorization "
            "Required</h1></center><hr><center>nginx/1.27.2</center></body></html>",
        ),
        name="nginx answers",
    ),
    Case(
        "gateway-answered",
        allowing(401, ("X-Kong-Response-Latency", "1"), ("Server", "kong/3.8"), body={"message": "Unauthorized"}),
        name="Kong answers",
    ),
    Case(
        "gateway-answered",
        always(
            401,
            ("x-amzn-ErrorType", "UnauthorizedException"),
            ("x-amz-apigw-id", "abc="),
            body={"message": "Unauthorized"},
        ),
        name="Amazon API Gateway answers",
    ),
    Case(
        "",
        lambda request: Reply(200 if request.credential else 401, (("Server", "cloudflare"), ("CF-RAY", "1-FRA"))),
        name="healthy: behind Cloudflare",
    ),
    Case(
        "",
        lambda request: Reply(
            200 if request.credential else 401,
            (("Via", "1.1 a.cloudfront.net (CloudFront)"), ("X-Cache", "Miss from cloudfront"), ("Server", "nginx")),
        ),
        name="healthy: behind CloudFront and nginx",
    ),
    Case(
        "",
        lambda request: (
            Reply() if "x-api-key" in request.headers else Reply(401, body={"message": "API key is missing"})
        ),
        ("{url}", "-H", f"X-API-Key: {TOKEN}"),
        name="healthy: an API key",
    ),
]
