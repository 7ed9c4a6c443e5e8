"""The pytest plugin of httpx_tokenflow: fixtures for tests of code that uses tokens, or checks them.

It is installed beside the package, for it is imported whenever pytest starts, and importing the package takes time.
Nothing but pytest is imported before a test asks for a fixture. ``-p no:tokenflow`` does without it.

    tokenflow_sandbox   an authorization server and a protected API in memory, see `httpx_tokenflow.testing.Sandbox`
    tokenflow_server    the same on loopback, at its ``url``; needs the extra ``testing``
    tokenflow_clock     a clock that the test advances; the sandbox of the same test goes by it
    tokenflow_leaks     fails the test if a secret of the sandbox's can be read in logs, warnings or output
    @pytest.mark.tokenflow(lifetime=60, …)   options of the sandbox; all_faults_used=False: not all need happen
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from httpx_tokenflow.testing import LeakWatch, ManualClock, Sandbox

_checks: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()  # by test; pytest's own stash is not in an old one


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "tokenflow(lifetime=…, rotate=…, all_faults_used=True, …): options of tokenflow_sandbox, those of "
        "httpx_tokenflow.testing.Sandbox; all_faults_used=False allows scripted faults that never happen",
    )


# Old-style hook wrappers, which every pytest knows: a plugin that is there for all must start with any.


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Forget the fixtures of an earlier run of this test: a test may be run again."""
    _checks.pop(item, None)
    yield


@pytest.hookimpl(hookwrapper=True, tryfirst=True)  # outermost: what the test has printed has been captured by then
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any]:
    """Fail a test in whose end something is wrong that its fixtures look at; once, however many subtests it has."""
    outcome = yield
    checks = _checks.pop(item, [])
    if checks and outcome.excinfo is None:
        sections = getattr(item, "_report_sections", ())  # what a report is made of; public only in the report
        output = "".join(content for _, key, content in sections if key in {"stdout", "stderr"})
        problems = [problem for check in checks if (problem := check(output))]
        if problems:
            outcome.force_exception(pytest.fail.Exception("\n".join(problems), pytrace=False))


@pytest.fixture
def tokenflow_clock() -> ManualClock:
    """A clock that stands still until the test advances it: ``RenewalPolicy(clock=tokenflow_clock.clock)``.

    Its `advance` lets seconds pass; who sleeps by it takes no time. The sandbox of the same test goes by it.
    """
    from httpx_tokenflow.testing import ManualClock

    return ManualClock()


@pytest.fixture
def tokenflow_sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """An authorization server and a protected API, in memory; its client is ``"client"``, its account ``"user"``.

    Their secrets are made for the test: ``tokenflow_sandbox.clients["client"]``. The test fails if a scripted fault
    never happens. Options: ``@pytest.mark.tokenflow(…)``.
    """
    from httpx_tokenflow.testing._fixtures import make_sandbox

    return make_sandbox(request, _checks.setdefault(request.node, []))


@pytest.fixture
def tokenflow_server(tokenflow_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The test's sandbox, served on loopback at its ``url``; needs the extra ``testing``."""
    from httpx_tokenflow.testing import serve

    with serve(tokenflow_sandbox):
        yield tokenflow_sandbox


@pytest.fixture
def tokenflow_leaks(request: pytest.FixtureRequest, tokenflow_sandbox: Sandbox) -> Iterator[LeakWatch]:
    """Fails the test if a secret of the sandbox's can be read in what the test says.

    That is the log at DEBUG of every logger, warnings, captured output, and what is handed to ``check(…)``.
    """
    from httpx_tokenflow.testing._fixtures import watch

    yield from watch(tokenflow_sandbox, _checks.setdefault(request.node, []))
