"""The example with a server that cancels a request when its client has gone, as some do; and a look inside."""

import os
from typing import Any

import anyio
from backend import app as backend

from httpx_tokenflow._registry import _registry


@backend.get("/inside")
async def inside() -> dict[str, Any]:
    """What is in the air in this worker."""
    flights = [source.flight for source in list(_registry.sources.values()) if source.flight is not None]
    return {"worker": os.getpid(), "flights": len(flights), "waiting": sum(flight.waiting for flight in flights)}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`backend`, cancelled as soon as there is nobody to answer."""
    if scope["type"] != "http":
        await backend(scope, receive, send)
        return
    first = await receive()

    async def only_first() -> Any:
        nonlocal first
        if first is not None:
            message, first = first, None
            return message
        return await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel)
        await backend(scope, only_first, send)
        tasks.cancel_scope.cancel()
