"""Hearing every log record and every warning of a process, whatever is reconfigured meanwhile.

Rules.

1. Nothing that a program can set up is relied upon, no handler, no level and no filter of warnings by place: levels,
   ``disabled``, ``propagate``, handlers, `logging.disable`, `pytest.warns`. The methods that every record goes through
   are wrapped, from the first listener to the last.
2. From DEBUG on every record is made, and told to the listeners when its logger's own filters let it through. Where it
   would not have been made without us it goes no further: a program's own handlers get what they always get. Nor does
   it break anything: where a filter, a record factory or `extra=` raises over such a record, there is none.
3. Afterwards all is as before. Where somebody else has wrapped what is wrapped here, ours stays in theirs, and only
   hands on.
4. Not heard: a warning that a filter ignores, or makes an error; a Logger class of its own that calls none of this.
"""

from __future__ import annotations

import logging
import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_UNASKED = "_made_for_a_leak_watch"  # set in a record that is made for listeners only


class Listener:
    """Who is told of records and warnings.

    Args:
        record: takes a log record.
        warning: takes the text and the category of a warning.
    """

    def __init__(
        self, record: Callable[[logging.LogRecord], None], warning: Callable[[str, type[Warning]], None]
    ) -> None:
        self.record = record
        self.warning = warning


_listeners: list[Listener] = []
_lock = threading.Lock()
_asking = threading.local()


def listen(listener: Listener) -> None:
    """Tell a listener from now on."""
    with _lock:
        if not _listeners:
            for wrap in _WRAPS:
                wrap.put()
        _listeners.append(listener)


def leave(listener: Listener) -> None:
    """Tell it no more; one that is not told is fine."""
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)
            if not _listeners:
                for wrap in _WRAPS:
                    wrap.take_back()


class _Wrap:
    """One function of the standard library, and ours in its place.

    Args:
        owner: the class or module that has it.
        name: its name there.
        make: makes ours of theirs.
    """

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        self._owner = owner
        self._name = name
        self._make = make
        self._theirs: Any = None
        self._ours: Any = None

    def put(self) -> None:
        present = getattr(self._owner, self._name)
        if present is not self._ours:
            self._theirs, self._ours = present, self._make(present)
            setattr(self._owner, self._name, self._ours)

    def take_back(self) -> None:
        if getattr(self._owner, self._name) is self._ours:
            setattr(self._owner, self._name, self._theirs)
            self._theirs = self._ours = None


def _is_enabled_for(theirs: Any) -> Callable[..., bool]:
    def isEnabledFor(self: logging.Logger, level: int) -> bool:  # noqa: N802 - logging's name
        ours = bool(_listeners) and level >= logging.DEBUG and not getattr(_asking, "now", False)
        return ours or bool(theirs(self, level))

    return isEnabledFor


def _make_record(theirs: Any) -> Callable[..., logging.LogRecord]:
    def makeRecord(self: logging.Logger, name: str, level: int, *args: Any, **more: Any) -> logging.LogRecord:  # noqa: N802 - likewise
        if not _listeners or _is_asked_for(self, level):
            record: logging.LogRecord = theirs(self, name, level, *args, **more)
            return record
        try:
            record = theirs(self, name, level, *args, **more)
        except Exception:  # noqa: BLE001 - rule 2
            record = logging.LogRecord(name, level, "", 0, "", None, None)
        setattr(record, _UNASKED, True)
        return record

    return makeRecord


def _handle(theirs: Any) -> Callable[..., None]:
    def handle(self: logging.Logger, record: logging.LogRecord) -> None:
        if not vars(record).pop(_UNASKED, False):
            theirs(self, record)
            return
        try:
            kept: Any = self.filter(record)
        except Exception:  # noqa: BLE001 - rule 2
            return
        if kept:
            _tell(record if kept is True else kept)  # from Python 3.12 on a filter may give another record

    return handle


def _call_handlers(theirs: Any) -> Callable[..., None]:
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802 - likewise
        _tell(record)
        theirs(self, record)

    return callHandlers


def _show_warning(theirs: Any) -> Callable[..., None]:
    def _showwarnmsg(message: Any) -> None:
        for listener in _listeners[:]:
            listener.warning(str(message.message), message.category)
        theirs(message)

    return _showwarnmsg


def _is_asked_for(logger: logging.Logger, level: int) -> bool:
    """Ask the logger as it would be without us."""
    _asking.now = True
    try:
        return logger.isEnabledFor(level)
    finally:
        _asking.now = False


def _tell(record: logging.LogRecord) -> None:
    for listener in _listeners[:]:
        listener.record(record)


_WRAPS = (
    _Wrap(logging.Logger, "isEnabledFor", _is_enabled_for),
    _Wrap(logging.Logger, "makeRecord", _make_record),
    _Wrap(logging.Logger, "handle", _handle),
    _Wrap(logging.Logger, "callHandlers", _call_handlers),
    _Wrap(warnings, "_showwarnmsg", _show_warning),  # beneath `showwarning`, which who catches warnings replaces
)
