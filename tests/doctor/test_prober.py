"""The probes that are really sent: on which connection, for how long, and how much is read."""

from __future__ import annotations

import gzip
import socketserver
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager

import httpx
import pytest
from doctor.rig import TOKEN, Reply, bearer, serve, signed
from doctor.secure import CA, serve_tls

from httpx_tokenflow.cli._prober import Prober
from httpx_tokenflow.doctor import Fields, Question, diagnose
from httpx_tokenflow.doctor._facts import UNSENDABLE

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
    assert ("names no proxy" in facts.asked.failure) == (proxy in {"::", "socks9://127.0.0.1:1"})


@pytest.mark.parametrize(
    "place", ["javascript:alert(1)", "mailto:x", "{origin}.evil.example/z", "{origin}/z#\x7f", "//[/"]
)
def test_a_redirect_is_an_answer_wherever_it_leads(place):
    """The status and the field are facts, also where no client could go there; and nobody goes."""
    seen = []
    with writing(b"") as nowhere:
        told = place.replace("{origin}", nowhere.rstrip("/"))

    def answer(request):
        seen.append(request.path)
        return Reply(302, (("Location", told),))

    with serve(answer) as origin:
        facts = Prober().examine(Question(url=f"{origin}/x", fields=FIELDS))
    assert (facts.asked.status, facts.asked.failure) == (302, None)
    assert facts.asked.received.get("Location") == told.strip()
    assert set(seen) == {"/x"}


def compressed(body, coding):
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    return writing(head % (coding.encode(), len(body)) + body)


@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip"])
def test_a_bomb_is_not_inflated(coding):
    """Of a small body that would be a large one no more is inflated than is read, and no layer in a layer."""
    body = gzip.compress(b"\0" * 60_000_000, 9)
    body = gzip.compress(body, 9) if "," in coding else body
    with compressed(body, coding) as url:
        tracemalloc.start()
        try:
            facts = Prober().examine(Question(url=url))
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert facts.status == 401
    assert peak < 15_000_000
    assert facts.asked.body == (None if "," in coding else "\0" * 64 * 1024)


@pytest.mark.parametrize(
    ("coding", "body", "reads"),
    [
        ("gzip", gzip.compress(b"why", mtime=0), "why"),
        ("deflate", zlib.compress(b"why"), "why"),
        ("deflate", zlib.compress(b"why")[2:-4], "why"),
        ("gzip", gzip.compress(b"why", mtime=0)[:-6], "why"),
        ("identity", b"why", "why"),
        ("br", b"why", None),
    ],
)
def test_a_body_that_is_compressed_all_the_same_is_read(coding, body, reads):
    """One layer is inflated, cut off or not, with its header or without; an unknown coding is not read."""
    with compressed(body, coding) as url:
        assert Prober().examine(Question(url=url)).asked.body == reads


@pytest.mark.parametrize(("given", "sent"), [((), "identity"), ((("Accept-Encoding", "gzip"),), "gzip")])
def test_a_body_is_asked_for_as_it_is(given, sent):
    """Nothing is to be compressed, unless the person says so."""
    seen = []
    with serve(lambda request: seen.append(request.headers["accept-encoding"]) or Reply()) as origin:
        Prober().examine(Question(url=origin, fields=Fields((*FIELDS, *given))))
    assert set(seen) == {sent}


@pytest.mark.parametrize(("status", "reads"), [(401, "why"), (200, None)])
def test_bytes_are_read_where_they_refuse(status, reads):
    """A refusal that says of itself to be any bytes is a text; what is accepted and says so is a file."""
    with serve(lambda _request: Reply(status, (("Content-Type", "application/octet-stream"),), "why")) as origin:
        assert Prober().examine(Question(url=origin, fields=FIELDS)).asked.body == reads


@pytest.mark.parametrize("value", [f"{TOKEN}\u2603", f"{TOKEN}\n", f"{TOKEN} "])
def test_a_value_that_cannot_be_sent_is_told_by_its_field(value):
    """The failure names the field, and not its value."""
    with serve(lambda _request: Reply()) as origin:
        facts = Prober().examine(Question(url=origin, fields=Fields([("Accept", "x"), ("X-Key", value)])))
    assert facts.asked.failure.endswith(f": {UNSENDABLE} (X-Key)")


@pytest.mark.parametrize(
    ("url", "says"), [("http://\u2603.example/", "IDNA"), ("http://127.0.0.1:1/\udcff", "the request cannot be sent")]
)
def test_what_is_wrong_with_a_url_is_not_said_of_a_header(url, says):
    """A host that has no name in the DNS, or a URL that no encoding has, is told as what it is."""
    facts = Prober().examine(Question(url=url, fields=FIELDS))
    assert says in facts.asked.failure
    assert UNSENDABLE not in facts.asked.failure


def test_whatever_goes_wrong_is_a_failure(monkeypatch):
    """What nobody has foreseen is why there was no answer, by its kind alone: nobody knows what it quotes."""

    async def breaking(*_args, **_more):
        raise RuntimeError(TOKEN)

    monkeypatch.setattr(httpx.AsyncClient, "send", breaking)
    facts = Prober().examine(Question(url="http://127.0.0.1:1/", fields=FIELDS))
    assert facts.asked.failure == "RuntimeError"
