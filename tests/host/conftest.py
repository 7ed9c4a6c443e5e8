"""The clients by turns, and two origins on loopback for them to talk to."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from host.hands import FOUR, SIX, Hand, Stage, fresh_sandbox

from httpx_tokenflow.testing import _serve, serve


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
def _without_nagle():
    """`serve` binds a socket of protocol 0, for which asyncio leaves Nagle on: 40 ms for each request but the first."""

    def bound(host):
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
        listener.bind((host, 0))
        return listener

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_serve, "_bound", bound)
        yield


@pytest.fixture(scope="session")
def _home(_without_nagle):
    stage = Stage()
    with serve(stage) as stage.url:
        yield stage


@pytest.fixture(scope="session")
def _away(_without_nagle):
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
