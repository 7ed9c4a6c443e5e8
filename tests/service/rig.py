"""The example service as it is run: two workers of uvicorn, Valkey, an authorization server and an upstream."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from valkey_server import ValkeyServer

from httpx_tokenflow.testing import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
WORKERS = 2
LIVES = 280.0  # seconds, whatever happens
PATIENCE = 60.0  # seconds for two workers to come up on a busy machine

# Reads lines until whoever started it has gone, or time is over; then ends the process group that it leads.
_RUN = """
import os, signal, subprocess, sys, threading, time
child = subprocess.Popen(sys.argv[2:], close_fds=False)
def end():
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
threading.Timer(float(sys.argv[1]), end).start()
sys.stdin.read()
end()
os._exit(0)
"""


class Upstream:
    """The API that the service calls: the sandbox's, which can have enough of all tokens that it has seen."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._seen: set[bytes] = set()
        self._refused: set[bytes] = set()

    def roll_over(self) -> None:
        """Every token until now is refused from now on."""
        with self._lock:
            self._refused |= self._seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            credential = dict(scope["headers"]).get(b"authorization", b"")
            with self._lock:
                self._seen.add(credential)
                is_refused = credential in self._refused
            if is_refused:
                challenge = (b"www-authenticate", b'Bearer error="invalid_token"')
                length = (b"content-length", b"0")
                await send({"type": "http.response.start", "status": 401, "headers": [challenge, length]})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._sandbox(scope, receive, send)


class Service:
    """All of it, running."""

    def __init__(self, sandbox: Sandbox, upstream: Upstream, url: str, refresh_token: str) -> None:
        self.sandbox, self.upstream, self.url, self.refresh_token = sandbox, upstream, url, refresh_token

    def token(self, subject: str, **options: Any) -> str:
        """An access token with which somebody may call the service."""
        given = {"audience": "backend", "scope": "read", "lifetime": 3600.0, **options}
        return self.sandbox.mint(subject, **given)

    @contextmanager
    def short_tokens(self) -> Iterator[None]:
        """Tokens that are good for a second."""
        tokens = self.sandbox._tokens
        lifetime, tokens._lifetime = tokens._lifetime, 1.0
        yield
        tokens._lifetime = lifetime


@contextmanager
def running(app: str = "backend:app") -> Iterator[Service]:
    """The service, for as long as the block lasts."""
    with ExitStack() as stack:
        sandbox = Sandbox(latency=0.03)
        sandbox.url = stack.enter_context(serve(sandbox))
        upstream = Upstream(sandbox)
        upstream_url = stack.enter_context(serve(upstream))
        valkey = stack.enter_context(ValkeyServer())
        refresh_token = sandbox.login("backend")["refresh_token"]
        environment = {
            "ISSUER": sandbox.issuer, "UPSTREAM": upstream_url, "REDIS": valkey.url, "REFRESH_TOKEN": refresh_token,
        }  # fmt: skip
        url = stack.enter_context(_workers(app, environment))
        yield Service(sandbox, upstream, url, refresh_token)


@contextmanager
def _workers(app: str, environment: dict[str, str]) -> Iterator[str]:
    uvicorn = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), app, "--workers", str(WORKERS), "--port", "0",
        "--no-access-log", "--timeout-graceful-shutdown", "5", "--timeout-keep-alive", "60", "--backlog", "4096",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _RUN, str(LIVES), *uvicorn],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    said = _Said(process)
    try:
        url = said.url()
        _await_workers(url, said)
        yield url
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]
        process.wait(30)
        said.close()
    assert "Traceback" not in str(said), str(said)


class _Said:
    """What the workers have said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._stderr: Any = process.stderr
        self._lines: list[str] = []
        self._has_url = threading.Event()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        for line in self._stderr:
            self._lines.append(line)
            if "running on" in line:
                self._has_url.set()

    def __str__(self) -> str:
        return "".join(self._lines)

    def url(self) -> str:
        """Where they are: uvicorn has bound the port itself, so nobody else can have it."""
        assert self._has_url.wait(PATIENCE), str(self)
        return re.search(r"running on (http://[0-9.:]+)", str(self))[1]  # type: ignore[index]

    def close(self) -> None:
        self._reading.join(10)
        self._stderr.close()


def _await_workers(url: str, said: _Said) -> None:
    until = time.monotonic() + PATIENCE
    workers: set[int] = set()
    while len(workers) < WORKERS:
        assert time.monotonic() < until, str(said)
        with suppress(httpx.TransportError), httpx.Client(base_url=url, timeout=5.0) as client:
            workers.add(client.get("/worker").json()["worker"])
        time.sleep(0.02)
