"""Where tokens outlive the object that fetched them.

A store has four verbs, each with an async twin: `load`, `save` (compare and set), `delete` (compare and delete) and
`lease`. `Store` says what they promise; `_base.py` has the rules. Those that leave the process are
loaded when they are first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow._entries import Entry
from httpx_tokenflow._extras import lazily

from ._base import AsyncStore, Store
from ._memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._file import FileStore
    from ._key_value import KeyValueStore
    from ._keyring import KeyringStore
    from ._redis import RedisStore

__all__ = [
    "AsyncStore",
    "Entry",
    "FileStore",
    "KeyValueStore",
    "KeyringStore",
    "MemoryStore",
    "RedisStore",
    "Store",
]

_LAZY = {
    "FileStore": "._file",
    "KeyValueStore": "._key_value",
    "KeyringStore": "._keyring",
    "RedisStore": "._redis",
}


__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazily(__name__, _LAZY)
