"""What the core does not depend on: imported where it is used, with an error that says what to install."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["need_extra"]


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
