"""Keyrings for tests. One is a file, so that processes share it; each of its verbs happens at once."""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keyring.backend
import keyring.errors

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1280  # characters that Windows takes for one item


class FileKeyring(keyring.backend.KeyringBackend):
    """A keyring in a JSON file; takes `limit` characters at most. `before` is called with each verb and name."""

    priority = 0.1  # type: ignore[assignment]

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        super().__init__()
        self.path = path
        self.limit = limit
        self.before: Any = lambda verb, name: None

    @contextmanager
    def items(self) -> Iterator[dict[str, str]]:
        """All items; what is done to them is written."""
        with Path(f"{self.path}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            items = json.loads(self.path.read_text()) if self.path.exists() else {}
            before = dict(items)
            yield items
            if items != before:
                beside = self.path.with_suffix(".new")
                beside.write_text(json.dumps(items))
                beside.replace(self.path)

    def get_password(self, service: str, username: str) -> str | None:
        self.before("get", username)
        with self.items() as items:
            return items.get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self.before("set", username)
        if len(password) > self.limit:
            raise keyring.errors.PasswordSetError("too long")
        with self.items() as items:
            items[f"{service}/{username}"] = password

    def delete_password(self, service: str, username: str) -> None:
        self.before("delete", username)
        with self.items() as items:
            if f"{service}/{username}" not in items:
                raise keyring.errors.PasswordDeleteError("not found")
            del items[f"{service}/{username}"]


class Failing(keyring.backend.KeyringBackend):
    """A keyring of which every verb raises `error`."""

    priority = 0.1  # type: ignore[assignment]

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def get_password(self, service: str, username: str) -> str | None:
        raise self.error

    def set_password(self, service: str, username: str, password: str) -> None:
        raise self.error

    def delete_password(self, service: str, username: str) -> None:
        raise self.error
