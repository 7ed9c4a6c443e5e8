"""Latencies as a small picture of text: time from left to right, and how long a request took that was sent then.

Rules.

1. A column is a stretch of time, as high as the slowest request that was sent in it. One in which no request was sent
   is empty; one in which all were fast has the lowest block.
2. No colour, and nothing but block elements beyond ASCII; nor those, where the terminal cannot show them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ASCII", "BLOCKS", "ceiling", "plot"]

BLOCKS = " ▁▂▃▄▅▆▇█"  # from nothing to a full cell
ASCII = " .:#"
STEP = 0.05  # seconds, to which the top of the picture is rounded up
MARGIN = 8  # columns left of the picture


def ceiling(seconds: float) -> float:
    """A round number that is not below: the top of the picture."""
    return STEP * max(1, math.ceil(seconds / STEP))


def plot(
    course: Iterable[tuple[float, float]],
    *,
    seconds: float,
    top: float,
    spans: Iterable[tuple[float, float]] = (),
    columns: int = 52,
    rows: int = 6,
    levels: str = BLOCKS,
) -> list[str]:
    """Draw latencies.

    Args:
        course: of each request, when it was sent and how long it took, in seconds.
        seconds: when the picture ends.
        top: the latency, in seconds, of a column of full height.
        spans: stretches of time to mark on the axis, in seconds.
        columns: how wide it is, without the margin.
        rows: how high it is, without the axis.
        levels: a cell from empty to full: `BLOCKS` or `ASCII`.

    Returns:
        Lines, two more than rows: an axis with the marks, and its labels.
    """
    full = len(levels) - 1

    def column(at: float) -> int:
        return min(columns - 1, max(0, int(at / seconds * columns)))

    heights = [0] * columns
    for at, took in course:
        height = min(rows * full, max(1, math.ceil(took / top * rows * full)))
        heights[column(at)] = max(heights[column(at)], height)
    lines = []
    for row in reversed(range(rows)):
        label = f"{1000 * top:.0f} ms" if row == rows - 1 else "0 ms" if row == 0 else ""
        cells = "".join(levels[min(full, max(0, height - row * full))] for height in heights)
        lines.append(f"{label:>{MARGIN - 1}}|{cells}".rstrip())
    axis = ["-"] * columns
    for begin, end in spans:
        axis[column(begin) : column(end) + 1] = "=" * (column(end) + 1 - column(begin))
    return [*lines, " " * (MARGIN - 1) + "+" + "".join(axis), _labels("".join(axis), seconds)]


def _labels(axis: str, seconds: float) -> str:
    """The line below the axis: where it begins and ends, and what its mark is, if there is room."""
    ends = f"{seconds:.1f} s"
    label = "renewal" if "=" in axis else ""
    at = max(0, axis.find("="))
    between = f"{label:>{at + len(label)}}"[3:] if at >= 4 else ""
    line = "0 s" + between
    room = len(axis) - len(ends)
    return " " * MARGIN + (line if len(line) < room else "0 s").ljust(room) + ends
