"""Carrying deliveries over ASGI 3.

The rules:

1. A plain answer costs two messages and no task.
2. Whatever waits, drips or never ends is given up as soon as the client hangs up.
3. ASGI has no word for closing a connection without an answer. The server of `serve` lends one, as a callable
   in ``scope["extensions"]``; under any other server an exception must do.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import anyio

from ._reply import Delivery

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ABORT = "httpx_tokenflow.abort"


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer the lifespan protocol: there is nothing to start and nothing to stop."""
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def read_body(receive: Receive) -> tuple[bytes, bool]:
    """Read a request's body; the flag says whether it came to its end."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return message.get("body", b""), True
    parts = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts), True
        message = await receive()
    return b"".join(parts), False


def lower(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Turn raw header fields into a dict: names in lower case, repeated fields joined (RFC 9110 §5.2)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


async def carry(delivery: Delivery, scope: Scope, receive: Receive, send: Send) -> None:
    """Do what the delivery says."""
    reply = delivery.reply
    if reply is not None and delivery.plain:
        await send({"type": "http.response.start", "status": reply.status, "headers": delivery.head(reply)})
        await send({"type": "http.response.body", "body": reply.body})
        return
    performed = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
        await _perform(delivery, send)
        performed = True
        tasks.cancel_scope.cancel()
    if performed and (reply is None or delivery.ending == "cut"):
        await _hang_up(scope, receive)


async def _perform(delivery: Delivery, send: Send) -> None:
    if delivery.wait:
        await anyio.sleep(delivery.wait)
    reply = delivery.reply
    if reply is None:
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": delivery.head(reply)})
    for piece in delivery.pieces(reply):
        if isinstance(piece, bytes):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            await anyio.sleep(piece)
    if delivery.ending != "cut":
        await send({"type": "http.response.body", "body": b""})


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    await _gone(receive)
    scope.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _hang_up(scope: Scope, receive: Receive) -> None:
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is None:
        raise ConnectionAbortedError("a scripted fault closes the connection here; only `serve` can really do that")
    abort()
    await _gone(receive)  # uvicorn complains of an app that returns without an answer before the connection is gone
