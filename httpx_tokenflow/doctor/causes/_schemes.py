"""The credential was sent in another way than the API expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._diagnosis import Cause

__all__ = ["CAUSES"]

CAUSES: tuple[Cause, ...] = ()
