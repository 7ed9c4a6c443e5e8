"""What `serve` asks of uvicorn, and what uvicorn does not offer by itself.

The rules:

1. A connection can be closed without an answer: the protocol lends the app its transport's ``abort``.
2. Whoever started the server is told when it is up, and told too when it failed.
3. It stops at once: no client's idle connection and no answer under way holds it up.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable
from contextlib import suppress

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ._asgi import ABORT, ASGIApp, Receive, Scope, Send


class AbortableProtocol(H11Protocol):
    """HTTP/1.1 whose scope holds a callable that closes the connection as it is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Put ``abort`` into each scope of this connection."""
        super().connection_made(transport)
        app: ASGIApp = self.app

        def with_abort(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            scope.setdefault("extensions", {})[ABORT] = transport.abort
            return app(scope, receive, send)

        self.app = with_abort


class Server(uvicorn.Server):
    """A uvicorn server for a thread of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    def run_on(self, listener: socket.socket) -> None:
        """Serve on a bound socket until ``should_exit`` is set, then close it; a failure ends it, too."""
        try:
            with listener, suppress(SystemExit):  # with which uvicorn says that it could not start
                asyncio.run(self.serve(sockets=[listener]))
        finally:
            self.settled.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets=sockets)
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is open, then stop."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets=sockets)


def quiet_server(app: ASGIApp, certfile: str | None, keyfile: str | None) -> Server:
    """Configure a server that says nothing but errors, with room for thousands of connections at once."""
    config = uvicorn.Config(
        app,
        http=AbortableProtocol,
        ws="none",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=4096,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )
    config.load()  # here, so that a wrong certificate is the caller's exception and not a dead thread
    return Server(config)
