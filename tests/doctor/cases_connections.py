"""Servers that decide once for each connection."""

from __future__ import annotations

from contextlib import contextmanager

from doctor.rig import TOKEN, Case, Reply, bearer, serve, unsigned
from doctor.secure import CA, serve_tls


def remembering():
    """A server that refuses all that comes on a connection on which it has refused once."""
    refused = set()

    def answer(request):
        if request.credential is None or request.connection in refused:
            refused.add(request.connection)
            return Reply(401, bearer())
        return Reply()

    return answer


def once():
    """A server that takes a credential once, whatever the connection."""
    seen = set()

    def answer(request):
        if request.credential is None or request.credential in seen:
            return Reply(401, bearer())
        seen.add(request.credential)
        return Reply()

    return answer


def banning(status, body="", *fields):
    """A server that lets nobody in, for a while, who was refused once."""

    def make():
        refused = []

        def answer(request):
            if refused:
                return Reply(status, fields, body=body)
            if request.credential is None:
                refused.append(request)
                return Reply(401, bearer())
            return Reply()

        return answer

    return make


def closing(request):
    """A server that remembers too, but closes the connection when it refuses: nobody notices."""
    return Reply() if request.credential else Reply(401, (*bearer(), ("Connection", "close")))


def each(server, make):
    """A `serve` that begins with nothing remembered."""

    @contextmanager
    def serving(_answer):
        with server(make()) as origin:
            yield origin

    return serving


def proof():
    """A proof as RFC 9449 §4.2 has it, but for its key and signature."""
    return unsigned(
        {"typ": "dpop+jwt", "alg": "ES256"}, {"jti": "1", "htm": "GET", "htu": "http://127.0.0.1/v1/things"}
    )


SECURE = ("{url}", "--token", TOKEN, "--cacert", str(CA))
CASES = [
    Case("connection-bound", remembering(), serve=each(serve, remembering), name="connection-bound over HTTP/1.1"),
    Case(
        "connection-bound",
        remembering(),
        SECURE,
        serve=each(serve_tls, remembering),
        name="connection-bound over HTTP/2",
    ),
    Case("good-for-once", once(), serve=each(serve, once)),
    Case(
        "",
        once(),
        ("{url}", "-H", f"Authorization: DPoP {TOKEN}", "-H", f"DPoP: {proof()}"),
        name="healthy: a DPoP proof is good for one request, and the doctor sends it again",
        serve=each(serve, once),
    ),
    *(
        Case("", make(), serve=each(serve, make), name=f"healthy: {what}")
        for what, make in (
            ("banned by the probe, with 403", banning(403)),
            ("banned by the probe, with 429", banning(429, "", ("Retry-After", "60"))),
            ("banned by the probe, in words", banning(401, {"message": "Your IP is temporarily blocked"})),
            ("banned by the probe, with Retry-After", banning(401, "", *bearer(), ("Retry-After", "60"))),
        )
    ),
    Case("", closing, name="healthy: the connection is closed on a refusal"),
    Case(
        "",
        lambda request: Reply() if request.credential else Reply(401, bearer()),
        SECURE,
        serve=serve_tls,
        name="healthy: over HTTP/2",
    ),
]
