"""Time for the benchmarks that wait for hours: the clocks of this process, moved by hand.

Only for a process of its own (`_apart`): what is patched stays so.
"""

from __future__ import annotations

import datetime as dt
import sys
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
