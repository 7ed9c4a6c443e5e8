"""Where tokens outlive the object that fetched them.

A store has four verbs, each with an async twin: `load`, `save` (compare and set), `delete` (compare and delete) and
`lease`. `Store` says what they promise; `MemoryStore` is the example, in thirty lines.
"""

from __future__ import annotations

from httpx_tokenflow._entries import Entry

from ._base import AsyncStore, Store
from ._memory import MemoryStore

__all__ = ["AsyncStore", "Entry", "MemoryStore", "Store"]
