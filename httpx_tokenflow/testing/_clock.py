"""A clock that stands still until a test moves it.

Rules.

1. Time passes when somebody says so: the test by `ManualClock.advance`, or whoever sleeps by this clock. A sleep takes
   no time; it moves the clock and lets others run.
2. It starts at the real time, to the second: what was signed by it is good for who has another clock.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx_tokenflow import Clock


class ManualClock:
    """A clock to move by hand, for `RenewalPolicy` and for a `Sandbox`, from any thread and any event loop.

        clock = ManualClock()
        policy = RenewalPolicy(clock=clock.clock)
        sandbox = Sandbox(clock=clock)
        clock.advance(3600)

    Calling it gives Unix seconds.

    Args:
        start: Unix seconds; None: now.

    Attributes:
        slept: the seconds of each sleep so far, in their order.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = float(int(time.time()) if start is None else start)
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self._now

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:.10g}>"

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass.

        Raises:
            ValueError: it is a negative number; time does not run backwards.
        """
        if not seconds >= 0:
            raise ValueError(f"advance() takes seconds from 0 on, not {seconds!r}")
        with self._lock:
            self._now += seconds

    @property
    def clock(self) -> Clock:
        """The `Clock` that goes into ``RenewalPolicy(clock=…)``."""
        from httpx_tokenflow import Clock

        return Clock(monotonic=self, wall=self, sleep=self._sleep, asleep=self._asleep)

    def _sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))
        self.slept.append(seconds)

    async def _asleep(self, seconds: float) -> None:
        from anyio.lowlevel import checkpoint

        self._sleep(seconds)
        await checkpoint()
