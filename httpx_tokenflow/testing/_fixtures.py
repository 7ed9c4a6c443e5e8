"""What the fixtures of the pytest plugin give: loaded when a test first asks for one.

Rules.

1. The secrets of a sandbox are made for one test, so that a leak of one cannot be mistaken for a word.
2. The sandbox goes by the test's clock if the test has one.
3. What is wrong in the end, a leak or a fault that never happened, fails a test that has passed; one that has failed
   keeps its own reason.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from ._checks import assert_faults_used
from ._sandbox import Sandbox
from ._watch import LeakWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Check = Callable[[pytest.TestReport], str | None]


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

    def check(_report: pytest.TestReport) -> str | None:
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
    passed = True

    def check(report: pytest.TestReport) -> str | None:
        nonlocal passed
        passed = report.passed
        if not passed:
            return None
        leaks.hear("the captured output", report.capstdout + report.capstderr)
        return leaks.problem()

    checks.append(check)
    leaks.start()
    try:
        yield leaks
    finally:
        leaks.stop()
    problem = leaks.problem() if passed else None
    if problem is not None:
        pytest.fail(problem, pytrace=False)


def _made() -> str:
    return secrets.token_urlsafe(18)


def _renamed(keys: set[str]) -> set[str]:
    keys.clear()
    keys.add(_made())
    return keys
