"""What the core does not depend on: imported where it is used, with an error that says what to install."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["lazily", "need_extra"]


@contextmanager
def need_extra(extra: str, what: str) -> Iterator[None]:
    """An import in here that fails says which extra `what` needs.

    Raises:
        ConfigurationError: instead of the ImportError.
    """
    try:
        yield
    except ImportError as missing:
        raise ConfigurationError(f"{what} needs the extra {extra}: pip install 'httpx-tokenflow[{extra}]'") from missing


def lazily(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of `package`, whose names in `where` are imported on first use."""
    module = sys.modules[package]

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(where[name], package), name)
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *where})

    return find, names
