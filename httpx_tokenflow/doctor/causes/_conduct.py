"""The server refuses in a way that misleads: the wrong status, or no word of what it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._diagnosis import Cause

__all__ = ["CAUSES"]

CAUSES: tuple[Cause, ...] = ()
