"""One event after the other in each thread, also where a collection of garbage tells one in the middle of another."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx_tokenflow.events import Event

__all__ = ["Turns"]

MOST_LATER = 1000  # events of one thread that wait for their turn; more are dropped, the oldest first


class Turns(threading.local):
    """Has events handled in turn: the locks of the libraries that count are not reentrant.

    A request that nobody finished is told of when it is collected, which may be while its thread counts another.
    """

    def __init__(self) -> None:
        self.is_busy = False
        self.later: deque[Event] = deque(maxlen=MOST_LATER)

    def take(self, event: Event, handle: Callable[[Event], None]) -> None:
        """Have `event` handled: now, or when what this thread is about is done."""
        self.later.append(event)
        if self.is_busy:
            return
        self.is_busy = True
        try:
            while self.later:
                handle(self.later.popleft())
        finally:
            self.is_busy = False
