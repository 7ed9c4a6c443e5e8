"""One source for all who could use one another's tokens.

A `TokenSource` belongs to a fingerprint and a store, not to an object: any two `TokenAuth` whose tokens could be
exchanged for one another, and that share a store, share the source and so its flight.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from ._forks import renew_after_fork
from ._sources import TokenSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._entries import Entry
    from ._tokens import Token

__all__ = ["source_for"]


class _Registry:
    """All sources that somebody uses."""

    def __init__(self) -> None:
        self.sources: weakref.WeakValueDictionary[tuple[int, str], TokenSource] = weakref.WeakValueDictionary()
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.lock = threading.Lock()
        for source in self.sources.values():
            source._after_fork()  # noqa: SLF001 - as in _forks, which would hold each of 100,000 once more


_registry = _Registry()


def source_for(
    name: str, fingerprint: str, store: Any, present: Callable[[Token], str], seed: Entry | None = None
) -> TokenSource:
    """The source of `fingerprint` in `store`: one for all who ask, for as long as somebody uses it."""
    # A source keeps its store alive, so the id is its own for as long as the key is here.
    key = (id(store), fingerprint)
    with _registry.lock:
        source = _registry.sources.get(key)
        if source is None:
            source = _registry.sources[key] = TokenSource(name, fingerprint, store, present, seed)
        elif source.seed is None:
            source.seed = seed
        return source
