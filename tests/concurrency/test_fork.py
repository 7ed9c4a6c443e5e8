"""A process forks at a bad moment: the child has its parent's memory and none of its threads, and works all the same.

Client credentials only: two processes that hold the same rotating refresh token in memory cannot both go on from it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

PROGRAM = Path(__file__).with_name("forked.py")
LOCKS = ["source", "store", "token client", "all sources", "all flights"]


def forked(moment: str) -> set[str]:
    """What the children and the parent say."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(PROGRAM), moment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


def expected(token_requests_of_the_child: int) -> set[str]:
    children = {f"{how}: {[200] * 7} {token_requests_of_the_child}" for how in ("threads", "asyncio", "trio")}
    return children | {f"parent: {[200] * 5} 1"}


@pytest.mark.sampled(0)
@pytest.mark.parametrize("moment", ["in the air in a thread", "in the air on a loop"])
def test_a_fork_while_a_renewal_is_in_the_air(moment: str) -> None:
    """The child of a process that renews does not wait for a thread it does not have: it renews itself (F30, F31).

    The parent's renewal goes on.
    """
    assert forked(moment) == expected(2)


@pytest.mark.sampled(0)
@pytest.mark.parametrize("lock", LOCKS)
def test_a_fork_while_a_lock_is_held(lock: str) -> None:
    """A lock that another thread held at the moment of the fork is free in the child (F32)."""
    assert forked(lock) == expected(1)
