"""A clock that stands still until a test moves it.

Rules.

1. Time passes when somebody says so: the test by `ManualClock.advance`, or whoever sleeps by this clock. A sleep takes
   no time; it moves the clock and lets others run.
2. A sleep moves the clock to its own end, and not at all if that has passed: sleeps that begin at one moment run side
   by side. On an event loop the others are let run first, so that they may begin theirs; a thread cannot wait for
   others that may never come, and moves the clock at once.
3. It starts at the real time, to the second: what was signed by it is good for who has another clock.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx_tokenflow import Clock


_TURNS = 10  # of the event loop, for others on their way to a sleep that begins now


class ManualClock:
    """A clock to move by hand, for `RenewalPolicy` and for a `Sandbox`, from any thread and any event loop.

        clock = ManualClock()
        policy = RenewalPolicy(clock=clock.clock)
        sandbox = Sandbox(clock=clock)
        clock.advance(3600)

    Calling it gives Unix seconds. Twenty tasks that sleep 0.2 seconds at once move it by 0.2 seconds; twenty threads
    may each begin where the one before has ended, and move it by up to 4.

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
        self.slept.append(seconds)
        self._wake_at(self._now + seconds)

    async def _asleep(self, seconds: float) -> None:
        from anyio.lowlevel import checkpoint

        self.slept.append(seconds)
        end = self._now + seconds
        for _ in range(_TURNS):
            await checkpoint()
        self._wake_at(end)

    def _wake_at(self, end: float) -> None:
        with self._lock:
            self._now = max(self._now, end)
