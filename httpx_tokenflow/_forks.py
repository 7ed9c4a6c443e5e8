"""After a fork the child has the parent's memory and none of its threads: locks may be held by nobody."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_after_fork"]


class _Renewable(Protocol):
    def _after_fork(self) -> None: ...


_renewables: weakref.WeakSet[_Renewable] = weakref.WeakSet()


def renew_after_fork(thing: _Renewable) -> None:
    """Have ``thing._after_fork()`` called in every child process; `thing` is held weakly."""
    _renewables.add(thing)


def _in_child() -> None:
    for thing in list(_renewables):
        thing._after_fork()  # noqa: SLF001 - the protocol of this module


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
