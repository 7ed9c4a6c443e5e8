"""The guide's tests, as they stand there, with the imports that they need."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from documents import example

if TYPE_CHECKING:
    from pathlib import Path

IMPORTS = """
import asyncio, httpx, pytest
from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth
from httpx_tokenflow.testing import assert_token_requests
LOGIN, ORDERS = "https://login.example.com/oauth2/token", "https://api.example.com/orders"
pytestmark = pytest.mark.asyncio
"""


def test_the_tests_of_the_guide(tmp_path: Path) -> None:
    """They pass; and one of them fails where the program asks for a token twice."""
    text = example("tokenflow_sandbox")
    twice = "range(50)]); await client.auth.arevoke(); await client.get(ORDERS)"
    (tmp_path / "test_good.py").write_text(IMPORTS + text)
    (tmp_path / "test_bad.py").write_text(IMPORTS + text.replace("range(50)])", twice))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert "1 failed, 3 passed" in done.stdout, done.stdout
    assert "test_bad.py::test_fifty_at_once" in done.stdout
