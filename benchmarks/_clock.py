"""Time for the benchmarks that wait for hours: the clocks of this process, moved by hand.

Only for a process of its own (`_apart`): what is patched stays so.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import selectors
import sys
import threading
import time
from typing import Any

_Datetime = dt.datetime


class _LikeDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Datetime)


class _ByTime(_Datetime, metaclass=_LikeDatetime):
    """`datetime.now()` goes by `time.time()`, whoever has replaced that."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _Datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _Datetime.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)


def datetimes_by_time() -> None:
    """Replace `datetime` everywhere that it has been imported to."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("datetime") is _Datetime:
            module.datetime = _ByTime


def two_hours_later() -> None:
    """From now on the wall clock is ahead."""
    real = time.time
    time.time = lambda: real() + 7200


class Clock:
    """Time that passes only when everybody waits: hours of it in a moment.

    The event loop of `loop` jumps to its next timer, or to when a thread wakes up, as soon as there is nothing else to
    do. Who sleeps on the loop's own thread takes the time of all.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.working = 0  # threads that the loop waits for, and that do not sleep
        self._sleepers: list[float] = []
        self._passed = threading.Condition()
        self._main = threading.get_ident()

    def rule(self) -> None:
        """From now on `time` and `datetime` go by this one."""
        began = time.time()
        time.time = lambda: began + self.now
        time.monotonic = lambda: self.now
        time.sleep = self.sleep
        datetimes_by_time()

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        if threading.get_ident() == self._main:
            self.pass_by(seconds)
            return
        if seconds <= 0:
            return
        with self._passed:
            until = self.now + seconds
            self._sleepers.append(until)
            self.working -= 1
            self._passed.wait_for(lambda: self.now >= until)

    def work(self, threads: int) -> None:
        """So many threads more, or less, have something to do."""
        with self._passed:
            self.working += threads

    def pass_by(self, seconds: float) -> None:
        with self._passed:
            self.now += seconds
            awake = [until for until in self._sleepers if until <= self.now]
            self._sleepers = [until for until in self._sleepers if until > self.now]
            self.working += len(awake)  # before the loop can look, and let more time pass
            self._passed.notify_all()

    def until_next(self, timeout: float | None) -> float | None:
        """Seconds until something is to happen; None: nothing."""
        with self._passed:
            waits = [until - self.now for until in self._sleepers]
        return min(waits if timeout is None else [*waits, timeout], default=None)

    def loop(self) -> asyncio.AbstractEventLoop:
        return _Loop(self)


class _Selector(selectors.DefaultSelector):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        while self._clock.working:
            if events := super().select(0.0005):
                return events
        wait = self._clock.until_next(timeout)
        if wait is None:
            return super().select(0.01)
        self._clock.pass_by(wait)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        super().__init__(_Selector(clock))
        self._clock = clock

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        self._clock.work(1)
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _future: Any) -> None:
        self._clock.work(-1)
