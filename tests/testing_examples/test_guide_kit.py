"""The guide's tests, as they stand there."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from documents import example

if TYPE_CHECKING:
    from pathlib import Path

QUICKEST = "def test_a_request_has_a_token"


def test_the_tests_of_the_guide(tmp_path: Path) -> None:
    """They pass; and one of them fails where the program asks for a token twice."""
    text = example("tokenflow_leaks")
    twice = "range(50)]); await client.auth.arevoke(); await client.get(ORDERS)"
    (tmp_path / "test_good.py").write_text(text)
    (tmp_path / "test_bad.py").write_text(text.replace("range(50)])", twice))
    (tmp_path / "test_quickest.py").write_text(example(QUICKEST))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert "1 failed, 4 passed" in done.stdout, done.stdout
    assert "test_bad.py::test_fifty_at_once" in done.stdout
