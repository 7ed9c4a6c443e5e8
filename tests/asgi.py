"""What every ASGI app does before it looks at a request."""

from __future__ import annotations

from typing import Any


async def received(scope: Any, receive: Any, send: Any) -> bytes | None:
    """The body of a request; None where nothing is to be answered: the server starts and stops, a client is gone."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return None
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body
