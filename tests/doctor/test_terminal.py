"""Every case through the real `tokenflow doctor` in a real terminal, as a person would run it, and all of it read."""

from __future__ import annotations

import json
import os
import re
import statistics
from importlib import import_module, reload
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from doctor.rig import arguments_of, run, serve
from doctor.terminal import in_terminal

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CASES = [
    pytest.param(name, at, id=case.id)
    for name in MODULES
    for at, case in enumerate(import_module(f"doctor.{name}").CASES)
]
WORDS = ("Certain: ", "Likely: ", "Possible: ")

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NO_PROXY", "no_proxy")
# Some cases are about the name of a host, which resolves to loopback in this process; and so it does in the command's.
RESOLVING = """
import socket
real = socket.getaddrinfo
def resolve(name, *args, **options):
    asked = name.decode() if isinstance(name, bytes) else name
    return real("127.0.0.1" if asked == {host!r} else name, *args, **options)
socket.getaddrinfo = resolve
"""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    for name in (*PROXIES, "TOKENFLOW_TOKEN"):
        monkeypatch.delenv(name, raising=False)


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


def fresh(name: str, at: int):
    """The case as if it was just written: its tokens have not aged, and its server remembers nothing."""
    return reload(import_module(f"doctor.{name}")).CASES[at]


@pytest.mark.parametrize(("name", "at"), CASES)
def test_the_verdict_in_a_terminal(name, at, tmp_path, times, capsys, monkeypatch):
    """The first line is the summary that --json has first, the status is the case's, and no secret is on the screen."""
    case = fresh(name, at)
    with (case.serve or serve)(case.answer) as origin:
        environment = _environment(tmp_path, origin, case)
        screen = in_terminal("doctor", *arguments_of(case, origin), environment=environment, stdin=case.stdin or None)
    secrets, case = case.secrets, fresh(name, at)
    with (case.serve or serve)(case.answer) as origin:
        arguments = arguments_of(case, origin)
        end = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[end:end] = ["--json"]
        environment = _environment(tmp_path, origin, case)
        as_json = run(["doctor", *arguments], capsys, monkeypatch, environment=environment.items(), stdin=case.stdin)
    times.append(screen.seconds)
    data = json.loads(as_json.stdout)
    expected = int(bool(case.cause)) if case.status is None else case.status
    assert (screen.status, as_json.status) == (expected, expected), screen.text
    if case.cause:
        assert data["causes"][0]["id"] == case.cause
        assert screen.verdict.startswith(WORDS)
    else:
        assert data["causes"] == []
    for secret in secrets:
        assert secret not in screen.text
        assert squeezed(secret) not in squeezed(screen.text) or len(squeezed(secret)) < 8
    assert not [secret for secret in case.secrets if secret in as_json.stdout]
    assert not {char for char in screen.text if not char.isprintable()} - {"\n"}
    assert _without_times(screen.verdict) == _without_times(data["verdict"])


def _environment(folder: Path, origin: str, case) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(RESOLVING.format(host=urlsplit(origin).hostname))
    found = {"TOKENFLOW_CONFIG": str(folder / "profiles.toml"), "PYTHONPATH": str(folder)}
    return found | {name: os.environ[name] for name in PROXIES if name in os.environ} | dict(case.environment)


def _without_times(text: str) -> str:
    """A verdict without its times and numbers: the second run is a moment, and a port, later."""
    words = re.sub(r"\b\d+ (d|h|min|s|ms)\b", "", " ".join(text.split()))
    return "".join(char for char in squeezed(words) if not char.isdigit())
