"""The clients by turns, and two origins on loopback for them to talk to."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from host.hands import FOUR, SIX, Hand, Stage, fresh_sandbox

from httpx_tokenflow.testing import serve


@pytest.fixture(params=FOUR)
def hand(request):
    """Each of the four clients, the async ones on asyncio."""
    with ExitStack() as stack:
        yield Hand(*SIX[request.param], stack)


@pytest.fixture(params=SIX)
def any_hand(request):
    """Each of the four clients, the async ones on asyncio and on trio."""
    with ExitStack() as stack:
        yield Hand(*SIX[request.param], stack)


@pytest.fixture(scope="session")
def _home():
    stage = Stage()
    with serve(stage) as stage.url:
        yield stage


@pytest.fixture(scope="session")
def _away():
    stage = Stage()
    with serve(stage) as stage.url:
        yield stage


@pytest.fixture
def home(_home):
    """The origin that the credentials belong to, with a fresh sandbox on it."""
    _home.put(fresh_sandbox())
    return _home


@pytest.fixture
def away(_away):
    """Another origin, with a fresh sandbox on it."""
    _away.put(fresh_sandbox())
    return _away
