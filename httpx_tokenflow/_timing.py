"""Where the time of a renewal goes: the wrapper that its flight is flown in. Without I/O, as the renewal itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._steps import Delete, Elsewhere, Fetch, Keep, Lease, LetGo, Load, Release, Save, Settle, Sleep, Wait

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._flights import Flight, Held
    from ._steps import Step

__all__ = ["timed"]

_STORE = (Load, Save, Delete, Release, Keep, LetGo)
_WAIT = (Lease, Sleep, Settle, Wait, Elsewhere)  # for others, and for a better time


def timed(flight: Flight, renewal: Generator[Step, Any, Held]) -> Generator[Step, Any, Held]:
    """`renewal`, with the time that its steps take counted on `flight`."""
    clock = flight.policy.clock.monotonic
    answer: Any = None
    error: Exception | None = None
    try:
        while True:
            try:
                step = renewal.send(answer) if error is None else renewal.throw(error)
            except StopIteration as end:
                held: Held = end.value
                return held
            answer, error, began = None, None, clock()
            try:
                answer = yield step
            except Exception as failed:  # noqa: BLE001 - the renewal decides what it means
                error = failed
            _count(flight, step, clock() - began)
    finally:
        renewal.close()


def _count(flight: Flight, step: Step, seconds: float) -> None:
    if isinstance(step, Fetch):
        flight.endpoint_seconds += seconds
    elif isinstance(step, _STORE):
        flight.store_seconds += seconds
    elif isinstance(step, _WAIT):
        flight.wait_seconds += seconds
