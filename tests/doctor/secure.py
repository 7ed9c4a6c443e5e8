"""The doctor's servers over TLS and HTTP/2, which rig.serve does not speak."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypercorn
import hypercorn.asyncio
import trustme
from doctor.rig import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CA = Path(tempfile.gettempdir()) / f"tokenflow-doctor-{os.getpid()}.pem"  # for --cacert; there while `serve_tls` is


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def serve_tls(answer: Callable[[Request], Reply]) -> Iterator[str]:
    """The origin of a server that speaks HTTP/2 over TLS, and HTTP/1.1 with those who do not."""
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "chain.pem"
        authority().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(chain))
        authority().cert_pem.write_to_path(str(CA))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = hypercorn.Config()
        config.bind = [f"fd://{listener.fileno()}"]
        config.certfile = config.keyfile = str(chain)
        config.accesslog = config.errorlog = None
        config.graceful_timeout = config.shutdown_timeout = 0.1
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        serving = hypercorn.asyncio.serve(_app(answer), config, shutdown_trigger=stop.wait)
        thread = threading.Thread(target=loop.run_until_complete, args=(serving,), daemon=True)
        thread.start()
        try:
            yield f"https://localhost:{listener.getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(5)
            loop.close()
            CA.unlink()
            listener.detach()


def _app(answer: Callable[[Request], Reply]):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        path = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        headers.setdefault("host", headers.get(":authority", ""))
        reply = answer(Request(scope["method"], path, headers, body, scope["client"][1]))
        text = json.dumps(reply.body) if isinstance(reply.body, dict) else reply.body
        kind = "application/json" if isinstance(reply.body, dict) else "text/plain"
        given = [(name.lower(), value) for name, value in reply.headers if value]
        if not any(name == "content-type" for name, _ in given):
            given.append(("content-type", kind))
        fields = [(name.encode(), value.encode("latin-1")) for name, value in given]
        await send({"type": "http.response.start", "status": reply.status, "headers": fields})
        await send({"type": "http.response.body", "body": text.encode()})

    return app
