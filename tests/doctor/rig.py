"""Servers with one fault each, on loopback, and the doctor that is sent to them.

A `Case` is a cause with a server that has it: `answer` is called with each request, and gives the `Reply`. It is served
over HTTP/1.1 by a thread; cases that need TLS, HTTP/2 or two servers bring their own `serve`. The cases of a group of
causes are in a module of its own (`cases_*.py`, each with a list CASES); test_causes.py runs them all.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from unittest import mock

import jwt

from httpx_tokenflow.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "opaque-8f3a6c1e5b7d49f2a0c4"  # a credential that is none
SIZES = {"HS256": 32, "HS384": 48, "HS512": 64, "ES256": 64, "ES384": 96, "EdDSA": 64, "none": 0}  # of signatures
KEY = "k" * 32  # signs the JWTs of those who have no better key


@dataclass(frozen=True)
class Request:
    """What the server got; names of fields in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int  # the client's port: which connection it came on

    @property
    def credential(self) -> str | None:
        return self.headers.get("authorization")


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: str | dict = field(default_factory=lambda: {"ok": True})


@dataclass(frozen=True)
class Case:
    """A server with one fault, and how the doctor is called for it.

    `{url}` and `{origin}` in the arguments become the server's: the URL of the API, and its origin.
    """

    cause: str  # the id that must be named first; "" for a healthy server
    answer: Callable[[Request], Reply]
    arguments: tuple[str | Callable[[str], str], ...] = ("{url}", "--token", TOKEN)  # or of the server's origin
    name: str = ""
    secrets: tuple[str, ...] = (TOKEN,)  # what the output must not have in it
    environment: tuple[tuple[str, str], ...] = ()
    stdin: str = ""
    serve: Callable[[Callable[[Request], Reply]], object] | None = None  # a context manager that yields the origin
    status: int | None = None  # the exit status; None: 1 with a cause, 0 without

    @property
    def id(self) -> str:
        return self.name or self.cause or "healthy"


@contextmanager
def serve(answer: Callable[[Request], Reply]) -> Iterator[str]:
    """The origin of a server whose answers `answer` gives."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the second write of an answer waits 40 ms otherwise

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = answer(Request(self.command, self.path, headers, body, self.client_address[1]))
            text = json.dumps(reply.body) if isinstance(reply.body, dict) else reply.body
            kind = "application/json" if isinstance(reply.body, dict) else "text/plain"
            self.send_response_only(reply.status)
            given = {name.lower() for name, _ in reply.headers}
            for name, value in reply.headers:
                if value:
                    self.send_header(name, value)
            if "content-type" not in given:
                self.send_header("Content-Type", kind)
            if "date" not in given:
                self.send_header("Date", self.date_time_string())
            content = b"" if self.command == "HEAD" else text.encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - as http.server has it

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass(frozen=True)
class Ended:
    """What a command has left."""

    status: int
    stdout: str
    stderr: str

    @property
    def causes(self) -> list[dict]:
        return json.loads(self.stdout)["causes"]


def arguments_of(case: Case, origin: str) -> list[str]:
    texts = [one(origin) if callable(one) else one for one in case.arguments]
    return [one.replace("{url}", f"{origin}/v1/things").replace("{origin}", origin) for one in texts]


def run(arguments: list[str], capsys, monkeypatch, *, environment=(), stdin: str = "") -> Ended:
    """`tokenflow` with these arguments, in this process."""
    import io

    for name, value in environment:
        monkeypatch.setenv(name, value)
    with mock.patch.object(sys, "argv", ["tokenflow", *arguments]), mock.patch.object(sys, "stdin", io.StringIO(stdin)):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    captured = capsys.readouterr()
    status = code if isinstance(code, int) else 0 if code is None else 1
    return Ended(status, captured.out, captured.err + (code if isinstance(code, str) else ""))


def signed(header: dict | None = None, key: object = KEY, algorithm: str = "HS256", **claims: object) -> str:
    """A JWT that is good for an hour, but for what is given; a claim that is None is left out."""
    now = time.time()
    full = {"iss": "https://issuer.example", "aud": "https://api.example", "sub": "42", "iat": now, "exp": now + 3600}
    full |= claims
    kept = {name: value for name, value in full.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"typ": "at+jwt"} | (header or {}))


def unsigned(header: dict, claims: dict) -> str:
    """A JWT of any header and claims, with a signature that is none."""
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    size = next((size for name, size in SIZES.items() if name == header.get("alg")), 256)
    return ".".join((*parts, base64.urlsafe_b64encode(b"none" * (size // 4)).rstrip(b"=").decode()))


def bearer(error: str = "", description: str = "", **more: str) -> tuple[tuple[str, str], ...]:
    """A challenge as RFC 6750 §3 has it."""
    said = {"realm": "api", "error": error, "error_description": description} | more
    return (("WWW-Authenticate", "Bearer " + ", ".join(f'{name}="{text}"' for name, text in said.items() if text)),)


def refusing(error: str = "", description: str = "", status: int = 401, body: str | dict = "", **more: str):
    """A server that refuses whatever it is sent, in these words; without a credential, without an error."""

    def answer(request: Request) -> Reply:
        if request.credential is None:
            return Reply(401, bearer(), body={"error": "unauthorized"} if isinstance(body, dict) else "")
        return Reply(status, bearer(error, description, **more), body=body)

    return answer
