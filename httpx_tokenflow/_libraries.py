"""The two HTTP libraries: which of them a thing is made of, told without importing either."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["LIBRARIES", "library_of"]

LIBRARIES = frozenset({"httpx", "httpx2"})


def library_of(thing: Any) -> ModuleType:
    """Whichever of httpx and httpx2 `thing` is made of."""
    for kind in type(thing).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in LIBRARIES:
            return sys.modules[name]
    raise ConfigurationError(f"{type(thing).__name__} is neither of httpx nor of httpx2")
