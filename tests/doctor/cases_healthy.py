"""Healthy servers of many kinds: there is nothing to find."""

from __future__ import annotations

import gzip
import socketserver
import threading
import time
from contextlib import contextmanager

from doctor.rig import TOKEN, Case, Reply, bearer, signed

HTML = ("Content-Type", "text/html")
PAGE = """<!doctype html><html><head><title>Acme</title></head><body><nav><a href="/login">Log in</a></nav>
<h1>Things for everybody</h1></body></html>"""


def healthy(status=200, *fields, body=""):
    def answer(request):
        return Reply(status, fields, body=body) if request.credential else Reply(401, bearer())

    return answer


def public(status=200, *fields, body=""):
    return lambda _request: Reply(status, fields, body=body)


def raw(head, *chunks, pause=0.0):
    """A `serve` of a server that writes just that to whoever has a credential, and a 401 to the others."""
    refusal = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            lines = iter(self.rfile.readline, b"\r\n")
            if not any(line.lower().startswith(b"authorization:") for line in lines):
                self.wfile.write(refusal)
                return
            try:
                self.wfile.write(head)
                for chunk in chunks:
                    self.wfile.write(chunk)
                    time.sleep(pause)
            except OSError:  # the doctor has seen enough
                pass

    @contextmanager
    def serving(_answer):
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            server.block_on_close = False
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join(5)

    return serving


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(b'{"ok": true}')
HEADLINE = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(ZIPPED)

CASES = [
    Case("", healthy(204), name="healthy: 204"),
    Case("", healthy(304), name="healthy: 304"),
    Case("", healthy(206, ("Content-Range", "bytes 0-4/9"), body="hello"), name="healthy: 206"),
    Case("", healthy(), ("{url}", "--token", TOKEN, "--method", "HEAD"), name="healthy: HEAD"),
    Case("", healthy(), ("{url}", "--token", signed()), name="healthy: a JWT", secrets=()),
    Case("", healthy(404, body={"message": "Not Found"}), name="healthy: 404 with a good token"),
    Case("", healthy(400, body={"message": "limit is not a number"}), name="healthy: 400 with a good token"),
    Case("", healthy(405, ("Allow", "POST")), name="healthy: 405 with a good token"),
    Case("", healthy(200, ("WWW-Authenticate", "Negotiate oYG2MIGz")), name="healthy: 200 with WWW-Authenticate"),
    Case("", public(200, HTML, body=PAGE), name="healthy: a site for everybody"),
    Case("", public(200, HTML, body=PAGE), ("{url}",), name="healthy: a site for everybody, and nothing sent"),
    Case("", public(200, body={"things": []}), name="healthy: an API that ignores credentials"),
    Case("", public(404, body={"message": "Not Found"}), name="healthy: 404 for all"),
    Case("", healthy(body={"id": 7, "status": 401, "message": "delivered"}), name="healthy: 401 as data"),
    Case("", healthy(body={"data": {"errors": []}, "errors": []}), name="healthy: GraphQL without errors"),
    Case("", healthy(body={"error": None, "ok": True}), name="healthy: Slack's ok"),
    Case(
        "",
        lambda request: Reply() if request.credential else Reply(302, (("Location", "/login"),), body=""),
        name="healthy: a login page for those without a credential only",
    ),
    Case(
        "",
        lambda request: Reply() if request.credential else Reply(403, body={"detail": "Not authenticated"}),
        name="healthy: 403 for those without a credential",
    ),
    Case("", healthy(), name="healthy: gzip", serve=raw(HEADLINE, ZIPPED)),
    Case("", healthy(), name="healthy: a wrong encoding", serve=raw(HEADLINE, b"x" * len(ZIPPED))),
    Case("", healthy(body={"text": "x" * 3_000_000}), name="healthy: a big body"),
    Case("", healthy(), name="healthy: a slow body", serve=raw(CHUNKED, *[b"1\r\nx\r\n"] * 3, b"0\r\n\r\n", pause=0.1)),
    Case("", healthy(), name="healthy: a body without end", serve=raw(CHUNKED, *[b"1\r\nx\r\n"] * 400, pause=0.05)),
    Case(
        "",
        healthy(),
        name="healthy: a stream of events",
        serve=raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", *[b": x\n\n"] * 400, pause=0.05),
    ),
    Case("", healthy(), name="could not look: half a head", serve=raw(b"HTTP/1.1 200 OK\r\nX: y"), status=2),
]
