"""Time, as an argument.

Rules.

1. Nothing of ours reads a clock that it was not given: a `Clock` comes in from outside, so that a test can hold time.
2. Durations are reckoned on the monotonic clock; the wall clock serves what other machines must understand.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_RETRY_AFTER", "SYSTEM_CLOCK", "Clock", "parse_retry_after"]

MAX_RETRY_AFTER = 3600.0  # seconds; a server that asks for more is asked again after an hour


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks: `monotonic` for durations, `wall` for Unix seconds that other machines understand."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


SYSTEM_CLOCK = Clock()


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After field (RFC 9110 §10.2.3): delay-seconds or an HTTP date.

    Args:
        value: the field's value, or None.
        now: Unix seconds, against which a date is reckoned.

    Returns:
        0 to `MAX_RETRY_AFTER` seconds; None for garbage and for what is negative.
    """
    if value is None:
        return None
    try:
        seconds = float(value.strip())
    except ValueError:
        seconds = _until_date(value, now)
    if math.isnan(seconds) or seconds < 0:
        return None
    return min(seconds, MAX_RETRY_AFTER)


def _until_date(value: str, now: float) -> float:
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return math.nan
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        return max(0.0, when.timestamp() - now)
    except (OverflowError, ValueError):
        return math.nan
