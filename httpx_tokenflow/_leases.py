"""What a renewal has leased of its store, where that is kept beyond the renewal: who gives it back, and where.

Rules.

1. A lease of an event loop is given back on that loop, as long as it runs: a lock may belong to it.
2. Where that loop is over, or cannot run while the caller does, it is given back here.
3. Whoever gives back gets no error of it: a lease ends by itself.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, suppress
from contextvars import Context
from functools import partial
from typing import Any

import anyio

from ._lifecycle import STORE_PATIENCE
from ._loops import begin, call_soon, running_loop, spawn, work

__all__ = ["LoopLeases", "agive_back", "give_back"]


class LoopLeases(AsyncExitStack):
    """What a flight on an event loop has leased, and the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.home = running_loop()

    def give_back_at_home(self) -> bool:
        """Have it given back on its loop; False: that is over, or cannot run while the caller does."""
        is_running = getattr(self.home, "is_running", None)  # trio's run until they are over
        if self.home is running_loop() or (is_running is not None and not is_running()):
            return False
        return call_soon(self.home, partial(spawn, self.given_back, lambda: None, 0.0))

    async def given_back(self) -> None:
        """Give it back on this loop."""
        with suppress(Exception):
            await self.aclose()


def give_back(kept: Any) -> None:
    """Give back from a thread: what belongs to a loop that is over, on a loop of its own."""
    if isinstance(kept, ExitStack):
        with suppress(Exception):
            kept.close()
    elif isinstance(kept, LoopLeases) and not kept.give_back_at_home():
        with suppress(Exception):  # it is waited for: whoever wants the lease next is the caller
            begin(Context().run, anyio.run, kept.given_back).result(STORE_PATIENCE)  # anyio looks at the context


async def agive_back(kept: Any) -> None:
    """Give back from a loop; what belongs to threads is closed in one."""
    if not isinstance(kept, LoopLeases):
        await work(partial(give_back, kept))
    elif not kept.give_back_at_home():
        await kept.given_back()
