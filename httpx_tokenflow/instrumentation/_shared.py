"""What belongs to a registry, or a provider, of another library: made once for each, and gone with it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from httpx_tokenflow._forks import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["shared"]

_T = TypeVar("_T")

_NAME = "_httpx_tokenflow"


class _Locks:
    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.making = threading.Lock()


_locks = _Locks()


def shared(owner: Any, make: Callable[[Any], _T], is_gone: Callable[[_T], bool] = lambda _: False) -> _T:
    """What `make` has made for `owner`, the first time, or since that was gone.

    It is kept as an attribute of `owner`: it refers to its owner, so that a weak dictionary would keep both for good.
    """
    with _locks.making:
        found: _T | None = vars(owner).get(_NAME)
        if found is None or is_gone(found):
            found = vars(owner)[_NAME] = make(owner)
        return found
