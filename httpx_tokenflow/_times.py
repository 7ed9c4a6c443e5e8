"""Time, as an argument.

Rules.

1. Nothing of ours reads a clock, or sleeps by one, that it was not given: a `Clock` comes in from outside, so that a
   test can hold time.
2. Durations are reckoned on the monotonic clock; the wall clock serves what other machines must understand. Where a
   token's age is at stake both are asked and the later one counts: the monotonic clock stands still while a laptop
   sleeps, and the wall clock may be set back.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["MAX_RETRY_AFTER", "SYSTEM_CLOCK", "Clock", "parse_date", "parse_retry_after"]

MAX_RETRY_AFTER = 3600.0  # seconds; a server that asks for more is asked again after an hour


async def _asleep(seconds: float) -> None:
    import anyio

    await anyio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks, and how to let time pass.

    Args:
        monotonic: seconds, for durations.
        wall: Unix seconds, which other machines understand.
        sleep: lets so many seconds pass, in a thread.
        asleep: as `sleep`, on an event loop.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep
    asleep: Callable[[float], Awaitable[object]] = _asleep


SYSTEM_CLOCK = Clock()


def parse_date(value: str | None) -> float | None:
    """Unix seconds by an HTTP date (RFC 9110 §5.6.7), such as a `Date` field; None for garbage."""
    if value is None:
        return None
    try:
        when = parsedate_to_datetime(value)
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After field (RFC 9110 §10.2.3): delay-seconds or an HTTP date.

    Args:
        value: the field's value, or None.
        now: Unix seconds by the clock of whoever wrote it, against which a date is reckoned.

    Returns:
        0 to `MAX_RETRY_AFTER` seconds; None for garbage and for what is negative.
    """
    if value is None:
        return None
    try:
        seconds = float(value.strip())
    except ValueError:
        date = parse_date(value)
        seconds = math.nan if date is None else max(0.0, date - now)
    if math.isnan(seconds) or seconds < 0:
        return None
    return min(seconds, MAX_RETRY_AFTER)
