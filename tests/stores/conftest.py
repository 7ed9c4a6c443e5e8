"""What the tests of stores share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keyring
import pytest
from stores.keyrings import FileKeyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[FileKeyring]:
    """The system's keyring for as long as the test lasts."""
    before = keyring.get_keyring()
    ring = FileKeyring(tmp_path / "keyring.json")
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)
