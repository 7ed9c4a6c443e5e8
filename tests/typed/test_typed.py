"""The types are part of the API: two checkers, at their strictest, read two files that no program runs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = [HERE / "usage.py", HERE / "mistakes.py"]
PUBLIC = ["", ".doctor", ".events", ".fastapi", ".grants", ".instrumentation", ".stores", ".testing"]


def check(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_mypy_agrees() -> None:
    """mypy accepts each line of the one file, and finds each mistake in the other: an ignore too many is an error."""
    done = check("mypy", "--strict", *map(str, FILES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_agrees() -> None:
    """So does pyright, with its strict rules."""
    done = check("basedpyright", "--project", str(HERE), "--pythonpath", sys.executable, "--outputjson")
    found = json.loads(done.stdout)
    assert found["generalDiagnostics"] == []
    assert (done.returncode, found["summary"]["filesAnalyzed"]) == (0, 2)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_used(module: str) -> None:
    """What is public has a line in the file that both accept."""
    tree = ast.parse(FILES[0].read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {*import_module(f"httpx_tokenflow{module}").__all__} - used == set()
