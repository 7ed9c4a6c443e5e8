"""What the fixtures of the pytest plugin give: loaded when a test first asks for one.

Rules.

1. The secrets of a sandbox are made for one test, so that a leak of one cannot be mistaken for a word.
2. The sandbox goes by the test's clock if the test has one.
3. What is wrong in the end, a leak or a fault that never happened, is a failure of the test's own, as if its last line
   had failed: one that is expected to fail does so by it. A test that has failed keeps its own reason.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ._checks import assert_faults_used
from ._sandbox import Sandbox
from ._watch import LeakWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Check = Callable[[str], str | None]  # what is wrong in the end of a test that printed so much


def make_sandbox(request: pytest.FixtureRequest, checks: list[Check]) -> Sandbox:
    """Make a sandbox with the options of the markers; those of the closest one win."""
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("tokenflow"):
        if marker.args:
            raise pytest.UsageError("@pytest.mark.tokenflow takes options by name, such as lifetime=60")
        options = marker.kwargs | options
    all_faults_used = options.pop("all_faults_used", True)
    if "tokenflow_clock" in request.fixturenames:
        options = {"clock": request.getfixturevalue("tokenflow_clock")} | options
    made = {"clients": {"client": _made()}, "accounts": {"user": _made()}}
    try:
        sandbox = Sandbox(**made | options)
    except TypeError as wrong:
        raise pytest.UsageError(
            f"@pytest.mark.tokenflow takes all_faults_used= and what Sandbox takes: {wrong}"
        ) from None
    sandbox.api_keys = _renamed(sandbox.api_keys)

    def check(_output: str) -> str | None:
        try:
            assert_faults_used(sandbox)
        except AssertionError as unused:
            return str(unused)
        return None

    if all_faults_used:
        checks.append(check)
    return sandbox


def watch(sandbox: Sandbox, checks: list[Check]) -> Iterator[LeakWatch]:
    """Watch a test from here to its end."""
    leaks = LeakWatch(sandbox)
    passed = False

    def check(output: str) -> str | None:
        nonlocal passed
        passed = True
        leaks.hear("the captured output", output)
        return leaks.problem()

    checks.append(check)
    leaks.start()
    try:
        with _hearing_what_is_taken(leaks):
            yield leaks
    finally:
        leaks.stop()
    problem = leaks.problem() if passed else None
    if problem is not None:
        pytest.fail(problem, pytrace=False)


@contextmanager
def _hearing_what_is_taken(leaks: LeakWatch) -> Iterator[None]:
    """Hear what is taken out of the captured output, by the test (``capsys.readouterr()``) or for subtests."""
    take = pytest.CaptureFixture.readouterr

    def readouterr(capture: pytest.CaptureFixture[Any]) -> Any:
        taken = take(capture)
        for text in taken:
            leaks.hear("the captured output", text if isinstance(text, str) else text.decode("utf-8", "replace"))
        return taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytest.CaptureFixture, "readouterr", readouterr)
        yield


def _made() -> str:
    return secrets.token_urlsafe(18)


def _renamed(keys: set[str]) -> set[str]:
    keys.clear()
    keys.add(_made())
    return keys
