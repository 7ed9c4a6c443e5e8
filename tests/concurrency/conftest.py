"""Every test of this folder runs in a thread of its own that is given up in the end; an async one on `backend`'s loop.

A blocked event loop or a dead lock cannot be interrupted from inside; so the thread is left behind, all stacks are
printed, and the test has failed.
"""

from __future__ import annotations

import faulthandler
import inspect
import sys
from concurrent.futures import wait

import pytest
from concurrency.stage import STORM_PATIENCE, run, start

HANGS_AFTER = STORM_PATIENCE + 10.0  # seconds


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Run the test by the rule above."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    def work() -> None:
        if inspect.iscoroutinefunction(pyfuncitem.obj):
            backend = pyfuncitem.callspec.params["backend"]
            run(backend, lambda: pyfuncitem.obj(**arguments))
        else:
            pyfuncitem.obj(**arguments)

    test = start(work)
    if wait([test], HANGS_AFTER).not_done:
        faulthandler.dump_traceback(file=sys.__stderr__)
        pytest.fail(f"the test hangs after {HANGS_AFTER:g} s; the stacks are on standard error")
    test.result()
    return True


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no time between two attempts of one renewal."""
    monkeypatch.setattr("httpx_tokenflow._lifecycle.FIRST_BACKOFF", 0.0)


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in the middle of a renewal does not wait long for it."""
    monkeypatch.setattr("httpx_tokenflow._drivers.CLOSING_PATIENCE", 0.3)
