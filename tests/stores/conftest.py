"""What the tests of stores share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keyring
import pytest
from stores.keyrings import FileKeyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# Of kinds that differ little `make test` has one; `make proof` has all.
SLOW = (
    "test_keyring.py",
    "client trio]",
    "client sync]",
    "client asyncio]",
    "[keyring-trio",
    "[key value, sealed",
    "[file, sealed",
    "test_a_crash_between_any_two_calls",
    "-100000]",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if item.path.parent.name == "stores" and any(word in item.nodeid for word in SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[FileKeyring]:
    """The system's keyring for as long as the test lasts."""
    before = keyring.get_keyring()
    ring = FileKeyring(tmp_path / "keyring.json")
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)
