"""Telling one handler what has happened."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import Event

__all__ = ["tell_one"]

logger = logging.getLogger("httpx_tokenflow")


def tell_one(on_event: Callable[[Event], object], event: Event) -> None:
    """Tell it; what a handler raises is no affair of whoever tells."""
    try:
        on_event(event)
    except Exception:
        logger.exception("%s: on_event raised; nothing else is wrong", event.source)
