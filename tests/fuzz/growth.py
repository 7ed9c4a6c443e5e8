"""Time in proportion to the text, and no depth that Python cannot bear: what random bytes do not find by themselves.

Rules.

1. Linear: a reader is given one piece over and over (`UNITS`, and pairs of them), with something before and after it,
   in texts of 1,000 to 64,000 characters. Four times the text may take `FACTOR` times as long; a square takes 16 times.
2. What is measured is the processor's time of this thread. Less than `FLOOR` is too little to say anything. What seems
   to grow too fast is measured again, the best of three, and has to seem so each time: other programs run here, too.
3. Deep: lists in lists, objects in objects, at every depth around the one at which Python's own parser gives up. What
   is read at 980 is written, compared or shown by a function that is called from further down.
4. A text that takes more than `MOST` seconds is as bad as one that never ends.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (1_000, 4_000, 16_000, 64_000)
FACTOR = 8.0
FLOOR = 0.02  # seconds
MOST = 10  # seconds
AROUND = (("", ""), ("a", ""), ("", "x"), ('"', ""), ("a ", ' "x'), ("{", "}"), ("a=", '"'))


class TooLong(Exception):  # noqa: N818 - what it is
    """It took more than `MOST` seconds."""


def texts_of(units: tuple[str, ...], seed: int, pairs: int) -> Iterator[tuple[str, str, str]]:
    """What is repeated, with what is before and after it: each by itself, then pairs by chance."""
    for unit in units:
        for before, after in AROUND[:3]:
            yield before, unit, after
    chance = random.Random(seed)
    for _ in range(pairs):
        unit = "".join(chance.choices(units, k=chance.randint(1, 3)))
        yield *chance.choice(AROUND)[:1], unit, chance.choice(AROUND)[1]


def faults_of(reader: Callable[[str], Any], before: str, unit: str, after: str) -> str | None:
    """What is wrong with how `reader` takes to it; None if nothing is."""
    last = 0.0
    for size in SIZES:
        text = before + unit * (size // len(unit)) + after
        try:
            now = _seconds(reader, text)
            if now > FLOOR and last and now > FACTOR * last:
                shorter = before + unit * (size // 4 // len(unit)) + after
                again = [(_seconds(reader, text), _seconds(reader, shorter)) for _ in range(3)]
                now, last = (min(times) for times in zip(*again, strict=True))
                if now > FLOOR and now > FACTOR * last:
                    return f"{size:,} characters take {now:.3f} s, a quarter of them {last:.3f} s"
        except TooLong:
            return f"{size:,} characters take more than {MOST} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not documented
            return f"{size:,} characters: {type(error).__name__}: {str(error)[:200]}"
        last = now
    return None


def depths(reader: Callable[[str], Any]) -> str | None:
    """What is wrong with how `reader` takes to nesting; None if nothing is."""
    most = sys.getrecursionlimit()
    for begin, end in (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")):
        for depth in (*range(10, most - 160, 35), *range(most - 160, most + 20, 1), 5 * most, 50 * most):
            try:
                reader(begin * depth + end * depth)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not documented
                return f"{begin} {depth:,} deep: {type(error).__name__}: {str(error)[:200]}"
    return None


def _seconds(reader: Callable[[str], Any], text: str) -> float:
    with _limited():
        began = time.thread_time()
        reader(text)
        return time.thread_time() - began


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST * 2)  # of the processor: a machine that stands still is no fault
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
