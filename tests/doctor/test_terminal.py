"""Every case through the real `tokenflow doctor` in a real terminal, as a person would run it, and all of it read."""

from __future__ import annotations

import json
import statistics
from importlib import import_module
from pathlib import Path

import pytest
from doctor.rig import arguments_of, serve
from doctor.terminal import in_terminal

CASES = [
    case
    for name in sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
    for case in import_module(f"doctor.{name}").CASES
]
WORDS = ("Certain: ", "Likely: ", "Possible: ")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def times():
    """Seconds of each run, told at the end."""
    found = []
    yield found
    if found:
        print(f"\n{len(found)} runs in a terminal: median {statistics.median(found):.2f} s, most {max(found):.2f} s")  # noqa: T201


def squeezed(text: str) -> str:
    """Without white space: a long line is broken between words, or within one that is longer than the line."""
    return "".join(text.split())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_verdict_in_a_terminal(case, tmp_path, times):
    """The first line is the summary that --json has first, the status is the case's, and no secret is on the screen."""
    environment = {"TOKENFLOW_CONFIG": str(tmp_path / "profiles.toml"), **dict(case.environment)}
    stdin = case.stdin or None
    with (case.serve or serve)(case.answer) as origin:
        arguments = arguments_of(case, origin)
        screen = in_terminal("doctor", *arguments, environment=environment, stdin=stdin)
        at = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[at:at] = ["--json"]
        as_json = in_terminal("doctor", *arguments, environment=environment, stdin=stdin, columns=2000)
    times.append(screen.seconds)
    data = json.loads(as_json.text)
    expected = int(bool(case.cause)) if case.status is None else case.status
    assert (screen.status, as_json.status) == (expected, expected), screen.text
    if case.cause:
        assert data["causes"][0]["id"] == case.cause
        assert screen.verdict.startswith(WORDS)
    else:
        assert data["causes"] == []
    for secret in case.secrets:
        assert secret not in screen.text
        assert squeezed(secret) not in squeezed(screen.text) or len(squeezed(secret)) < 8
        assert secret not in as_json.text
    assert not {char for char in screen.text if not char.isprintable()} - {"\n"}
    assert _without_times(screen.verdict) == _without_times(data["verdict"])


def _without_times(text: str) -> str:
    """A verdict without its numbers: the second run is a moment, and a port or a connection, later."""
    return "".join(char for char in squeezed(text) if not char.isdigit())
