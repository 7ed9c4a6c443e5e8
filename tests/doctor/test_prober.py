"""The probes that are really sent: on which connection, for how long, and how much is read."""

from __future__ import annotations

import socketserver
import threading
import time
from contextlib import contextmanager

import pytest
from doctor.rig import TOKEN, Reply, bearer, serve, signed
from doctor.secure import CA, serve_tls

from httpx_tokenflow.cli._prober import Prober
from httpx_tokenflow.doctor import Fields, Question, diagnose

FIELDS = Fields([("Authorization", f"Bearer {TOKEN}")])
HEAD = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nWWW-Authenticate: Bearer\r\n"


@contextmanager
def writing(*chunks, pause=0.05):
    """A server that writes these one by one, whatever it is asked."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            for _line in iter(self.rfile.readline, b"\r\n"):
                pass
            try:
                for chunk in chunks:
                    self.wfile.write(chunk)
                    time.sleep(pause)
            except OSError:  # nobody listens any more
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


def test_a_head_that_dribbles_has_a_limit():
    """A server that gives its head byte by byte is left after the time for a probe, and that is the fact."""
    began = time.monotonic()
    with writing(*([b"H"] + [b"x"] * 400)) as url:
        facts = Prober(timeout=0.3).examine(Question(url=url, fields=FIELDS))
    assert [(one.role, one.failure) for one in facts.exchanges] == [
        ("asked", "TimeoutError: no answer within 0.3 seconds")
    ]
    assert time.monotonic() - began < 5


def test_a_body_that_does_not_end_is_an_answer():
    """The status and the fields are there, and the beginning of the body: enough for a diagnosis."""
    began = time.monotonic()
    with writing(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"2\r\nab\r\n"] * 400) as url:
        facts = Prober().examine(Question(url=url, fields=FIELDS))
    assert facts.status == 401
    assert facts.asked.body.startswith("abab")
    assert time.monotonic() - began < 15


def test_a_document_has_time():
    """The issuer's keys are read to their end, where it takes longer than a refusal is listened to."""
    keys = [b'{"keys": [', *[b" "] * 30, b"]}"]
    body = [b"%x\r\n%s\r\n" % (len(one), one) for one in keys]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with writing(head, *body, b"0\r\n\r\n") as url, serve(lambda _request: Reply(401, bearer())) as origin:
        fields = Fields([("Authorization", f"Bearer {signed()}")])
        facts = Prober().examine(Question(url=origin, fields=fields, issuer=origin, jwks_uri=url))
    assert facts.jwks == {"keys": []}


def test_the_patience_is_for_all_of_it():
    """With the time of all probes used up, what is left is not waited for."""
    with writing(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"2\r\nab\r\n"] * 400) as url:
        facts = Prober(patience=0.5).examine(Question(url=url, fields=FIELDS))
    assert facts.asked.status == 401
    assert [one.status for one in facts.exchanges[1:]] == [0] * len(facts.exchanges[1:])
    assert len(facts.exchanges) > 1


@pytest.mark.parametrize("body", [b"half", b"\x1f\x8b\x08 no gzip"])
def test_a_body_that_is_broken_is_an_answer(body):
    """Cut off, or not encoded as it says: the refusal counts still."""
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n"
    with writing(head + body) as url:
        facts = Prober().examine(Question(url=url, fields=FIELDS))
    assert facts.status == 401


def test_only_the_beginning_is_read():
    """Of a body of megabytes no more than 64 kB become a fact."""
    with serve(lambda _request: Reply(401, bearer(), body="x" * 5_000_000)) as origin:
        facts = Prober().examine(Question(url=origin, fields=FIELDS))
    assert {len(one.body) for one in facts.exchanges} == {64 * 1024}


@pytest.mark.parametrize("server", [serve, serve_tls])
def test_the_third_probe_is_on_the_connection_of_the_second(server):
    """`asked` has a connection of its own; `again` goes where `bare` was refused, over HTTP/1.1 and HTTP/2."""
    seen = []

    def answer(request):
        seen.append(request.connection)
        return Reply() if request.credential else Reply(401, bearer())

    with server(answer) as origin:
        verify = True
        if server is serve_tls:
            import ssl

            verify = ssl.create_default_context(cafile=str(CA))
        facts = Prober(verify=verify).examine(Question(url=origin, fields=FIELDS))
    assert [one.role for one in facts.exchanges] == ["asked", "bare", "again"]
    assert {one.http_version for one in facts.exchanges} == {"HTTP/2" if server is serve_tls else "HTTP/1.1"}
    assert seen[0] != seen[1] == seen[2]


def test_no_cookie_is_kept():
    """What a server sets is a fact, and is not sent back: each probe is what it says."""
    seen = []

    def answer(request):
        seen.append(request.headers.get("cookie"))
        return Reply(200 if request.credential else 401, (("Set-Cookie", "session=abcdef; Path=/"),))

    with serve(answer) as origin:
        Prober().examine(Question(url=origin, fields=FIELDS))
    assert seen == [None, None, None]


@pytest.mark.parametrize("proxy", ["socks9://127.0.0.1:1", "http://127.0.0.1:1", "::", "http://["])
def test_a_proxy_that_is_none_is_a_fact(proxy, monkeypatch):
    """A proxy variable that cannot be used is why there was no answer, and nothing raises."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    facts = Prober().examine(Question(url="http://api.example/", fields=FIELDS))
    assert facts.status == 0
    assert facts.asked.failure
    assert not diagnose(facts).is_healthy
