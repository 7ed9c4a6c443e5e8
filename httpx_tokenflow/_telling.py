"""Who is told what happens: those who listen, and the log."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ._forks import renew_after_fork
from ._handlers import is_same, leaves, tell_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import Event

__all__ = ["Listener", "Teller"]

logger = logging.getLogger("httpx_tokenflow")

EventName = Literal[
    "BreakerClosed", "BreakerOpened", "RefusalExplained", "RenewalFailed", "RequestRefused", "Revoked",
    "SecretFellBack", "StoreFailed", "TokenObtained", "TokenRenewed", "Waited",
]  # fmt: skip


class Listener(Protocol):
    """Who is told what happens."""

    _on_event: Callable[[Event], object]

    def __hash__(self) -> int: ...


class _Locks:
    """The lock that belongs to no teller: there may be 100,000 of them."""

    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        # Guards who listens, for a line or two, in which a collection may come upon a __del__ that tells something.
        self.hearing = threading.RLock()


_locks = _Locks()


class Teller:
    """Tells everybody who listens, for as long as they live, and the log.

    Args:
        name: of whose token it tells: client and server.
    """

    __slots__ = ("__weakref__", "_listeners", "name")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self._listeners: weakref.WeakSet[Listener] | None = None  # 0.8 kB, and most have nobody who listens

    def _after_fork(self) -> None:
        """Nothing: see `_Locks`. Subclasses have more to do."""

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of everything, for as long as it lives."""
        with _locks.hearing:
            if self._listeners is None:
                self._listeners = weakref.WeakSet()
            self._listeners.add(listener)

    def is_heard(self, level: int) -> bool:
        """Whether anybody would hear of what is told at this level of the log."""
        return bool(self._listeners) or logger.isEnabledFor(level)

    def tell(self, kind: EventName, level: int, **facts: Any) -> None:
        """Tell everybody who listens, and the log."""
        if not self.is_heard(level):
            return
        from . import events  # 7 ms that nobody pays before something has happened

        event: Event = getattr(events, kind)(source=self.name, **facts)
        logger.log(level, "%s", event)
        with _locks.hearing:
            listeners = [listener._on_event for listener in self._listeners or ()]  # noqa: SLF001 - the protocol
        told: list[object] = []
        for on_event in listeners:
            for one in leaves(on_event):
                if not any(is_same(one, other) for other in told):  # two objects may share source and handler
                    told.append(one)
                    tell_one(one, event)
