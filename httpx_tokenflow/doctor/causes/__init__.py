"""The causes, in the order in which they are named where they are as certain: what explains others comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._diagnosis import Cause

__all__ = ["CAUSES", "table"]

CAUSES: tuple[Cause, ...] = ()


def table() -> str:
    """The causes as a table in Markdown, for the documents."""
    rows = [f"| `{cause.id}` | {cause.title} | {cause.remedy} | {cause.reference} |" for cause in CAUSES]
    return "\n".join(["| id | cause | what to do | where it is written |", "| --- | --- | --- | --- |", *rows])
