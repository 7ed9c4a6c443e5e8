"""`serve`: an ASGI app on real loopback HTTP, for as long as a ``with`` block lasts."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from httpx_tokenflow._extras import need_extra

from ._asgi import ASGIApp
from ._sandbox import Sandbox

_STOP_WITHIN = 10.0  # seconds


@contextmanager
def serve(
    app: ASGIApp,
    *,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    host: str = "127.0.0.1",
) -> Iterator[str]:
    """Serve an ASGI app from a thread with an event loop of its own, on a free port.

    It is up when the block begins. When the block ends, open connections are closed, and the thread is gone
    within seconds. It logs errors only, handles no signals, and its answers have no ``Date`` but the app's
    own. Idle connections stay open for 60 seconds. A `Sandbox` learns its ``url``, after which its endpoints are
    named and, unless it has another ``issuer``, itself.

    Args:
        app: an ASGI 3 app, such as a `Sandbox`.
        certfile: PEM file of the certificate; with it the URL is ``https``. None: plain HTTP.
        keyfile: PEM file of its key; None: the key is in ``certfile``.
        host: the address to listen on.

    Yields:
        The base URL, such as ``"http://127.0.0.1:43121"``.

    Raises:
        ConfigurationError: uvicorn is missing; it is in the extra ``testing``.
        RuntimeError: the app's lifespan failed, or something blocks the event loop so that the server cannot
        stop.
    """
    with need_extra("testing", "serve()"):
        from ._uvicorn import quiet_server
    server = quiet_server(app, _text(certfile), _text(keyfile))
    listener = _bound(host)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run_on, args=(listener,), name=f"serve:{port}", daemon=True)
    thread.start()
    server.settled.wait()
    try:
        if not server.started:
            raise RuntimeError("the app's lifespan failed")
        url = f"{'https' if certfile else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        if isinstance(app, Sandbox):
            app.url = url
        yield url
    finally:
        server.should_exit = True
        thread.join(_STOP_WITHIN)
    if thread.is_alive():
        raise RuntimeError(f"the server did not stop in {_STOP_WITHIN:g} s: something blocks its event loop")


def _bound(host: str) -> socket.socket:
    """Bind a free port; uvicorn gets the very socket, so nobody else can have the port in between."""
    # Named as TCP, for asyncio sets TCP_NODELAY only on what is: without it each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    listener.bind((host, 0))
    return listener


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)
