"""Signals that would end a command at a moment that costs a session.

Rules.

1. While a token request, or what is to be kept of its answer, may be in the air, SIGINT, SIGTERM and SIGHUP are noted,
   and end the command when that is over: a refresh token that was presented, and whose answer nobody took, is a session
   lost (`hold` to `release`). All of it is bounded: a renewal has 30 s.
2. Else they end it at once: while it waits for a person, for the lease, or for nothing of ours.
3. A second Ctrl-C ends it in any case, half a second after the first at least: `timeout` sends each signal twice, to
   the process and to its group, and so do others that pass signals on.
4. A signal that whoever started us has ignored (nohup, or ``&`` in a script) stays ignored.

Python runs handlers in the main thread, where the commands do their work as well: what is here needs no lock.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._metadata import Metadata
    from httpx_tokenflow._steps import Step

__all__ = ["HeldLogin", "Stopped", "heeding_signals", "held", "hold", "hold_in_lease", "release"]

APART = 0.5  # seconds between two that somebody has meant (rule 3)
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class Stopped(KeyboardInterrupt):
    """A signal ends the command.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    depth = 0  # of holds
    noted: int | None = None
    noted_at = 0.0


@contextmanager
def heeding_signals() -> Iterator[None]:
    """In here the rules hold.

    Raises:
        Stopped: a signal has come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where no handler can be set
        return
    _State.depth, _State.noted = 0, None
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number in _SIGNALS if before[number] in _DEFAULTS]  # rule 4
    for number in ours:
        signal.signal(number, _heed)
    try:
        yield
        _end_if_noted()
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _State.noted = None  # it has ended what it was to end; a program may go on


def hold() -> None:
    """From now on signals are noted (rule 1)."""
    _State.depth += 1


def release() -> None:
    """One hold less; the last ends the command if a signal has come."""
    _State.depth -= 1
    if not _State.depth and threading.current_thread() is threading.main_thread():
        _end_if_noted()


@contextmanager
def held() -> Iterator[None]:
    """In here signals are noted."""
    hold()
    try:
        yield
    finally:
        release()


def hold_in_lease(store: Any) -> Any:
    """`store`, and while a lease of its is held, signals are noted: in there the refresh token is spent."""
    lease = store.lease

    @contextmanager
    def held_lease(fingerprint: str, seconds: float, patience: float) -> Iterator[bool]:
        with lease(fingerprint, seconds, patience) as right, held():
            yield right

    store.lease = held_lease
    return store


class HeldLogin:
    """Beside a grant that logs in: what the login has brought is not torn, and stays held for whoever keeps it."""

    def _redeem(
        self, attempt: Attempt, server: Metadata, grant_type: str, pairs: Any, **more: Any
    ) -> Generator[Step, Any, Minted]:
        hold()
        try:
            minted: Minted = yield from super()._redeem(  # type: ignore[misc]  # of the grant beside it
                attempt, server, grant_type, pairs, **more
            )
        except BaseException:
            release()
            raise
        return minted


def _heed(number: int, _frame: object) -> None:
    now = time.monotonic()
    insists = number == signal.SIGINT and _State.noted is not None and now - _State.noted_at >= APART
    if not _State.depth or insists:
        raise Stopped(number)
    if _State.noted is None:
        _State.noted, _State.noted_at = number, now


def _end_if_noted() -> None:
    if _State.noted is not None:
        raise Stopped(_State.noted)
