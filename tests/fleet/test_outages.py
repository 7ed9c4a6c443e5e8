"""Redis dies, hangs, comes back, and holds what this version cannot read: no session is lost, and nobody is disturbed.

Client credentials go on without it and say so. A rotating refresh token is not presented without the lease: while the
access token is good nothing fails, and after that it is a `StoreError`, until Redis is back.
"""

from __future__ import annotations

import pytest
from fleet.rig import until
from valkey_server import ValkeyServer

OUTAGES = ["killed", "killed, nothing kept", "paused"]


def fast(outage):
    """All of them, and one that is not slow."""
    return [pytest.param(one, marks=() if one == outage else pytest.mark.slow) for one in OUTAGES]


@pytest.fixture
def outage(request):
    """How Redis goes."""
    return request.param


@pytest.fixture
def valkey(outage):
    with ValkeyServer(keeps=outage == "killed") as server:
        yield server


def goes(valkey, outage):
    if outage == "paused":
        valkey.pause()
    else:
        valkey.kill()


def comes_back(valkey, outage):
    if outage == "paused":
        valkey.resume()
    else:
        valkey.start()


@pytest.mark.parametrize("outage", fast("killed"), indirect=True)
def test_client_credentials_go_on_without_redis(fleet, authority, valkey, outage):
    """Nobody fails, everybody says so, and when Redis is back a rollover is one token request again."""
    fleet.start(3, young=0.0)  # no breaker: tokens are refused here within seconds
    assert fleet.run(tasks=5).failed == {}
    goes(valkey, outage)
    assert fleet.run(tasks=5).failed == {}
    assert fleet.events("StoreFailed") == []
    authority.expire()
    authority.forget()
    assert fleet.run(tasks=5, requests=2).failed == {}
    assert len(authority.token_requests) == 3
    assert all(worker.events("StoreFailed") for worker in fleet.workers)
    comes_back(valkey, outage)
    for _ in range(2):
        authority.expire()
        authority.forget()
        outcome = fleet.run(tasks=5, requests=2)
        assert (outcome.failed, outcome.tokens) == ({}, {authority.newest: 3})
        assert len(authority.token_requests) == 1


@pytest.mark.slow
@pytest.mark.parametrize("outage", ["killed", "paused"], indirect=True)
def test_what_redis_has_from_before_the_outage_is_no_news(fleet, authority, valkey, outage):
    """Who is refused after an outage does not send the token that had been refused before it once more."""
    fleet.start(3)
    assert fleet.run(tasks=5).failed == {}
    goes(valkey, outage)
    authority.expire()
    assert fleet.run(tasks=5).failed == {}
    comes_back(valkey, outage)
    authority.expire()
    authority.forget()
    assert fleet.run(tasks=5).failed == {}
    assert len(authority.token_requests) == 1


@pytest.mark.parametrize("outage", fast("paused"), indirect=True)
def test_a_rotating_refresh_token_waits_for_redis(fleet, authority, valkey, outage):
    """Nothing is presented meanwhile; when Redis is back it goes on by itself, and each is presented once."""
    fleet.start(3, kind="refresh", token=authority.login())
    authority.expire()
    assert fleet.run(tasks=5).failed == {}
    goes(valkey, outage)
    assert fleet.run(tasks=5).failed == {}  # the access token is good
    authority.expire()
    authority.forget()
    assert fleet.run(tasks=5).failed == {"StoreError": 15}
    assert authority.token_requests == []
    comes_back(valkey, outage)
    until(lambda: fleet.run(tasks=5).failed == {})
    assert fleet.run().tokens == {authority.newest: 3}
    assert len(authority.token_requests) == 1
    assert set(authority.presented.values()) == {1}


@pytest.mark.parametrize("outage", ["killed"], indirect=True)
def test_an_entry_of_a_newer_version_disturbs_no_client_credentials(fleet, authority, outage):
    """Whoever cannot read it gets a token of its own and says so; whoever wrote it goes on with it."""
    newer = fleet.start(entry_version=2)
    older = fleet.start(2)
    assert fleet.run(newer).failed == {}
    outcome = fleet.run(older, tasks=5)
    assert (outcome.ok, outcome.failed) == (10, {})
    assert len(authority.token_requests) == 3
    assert all(worker.events("StoreFailed") for worker in older)
    late = fleet.start(entry_version=2)
    assert fleet.run([*newer, *late]).tokens == {"access-1": 2}


@pytest.mark.parametrize("outage", ["killed"], indirect=True)
def test_an_entry_of_a_newer_version_is_not_presented(fleet, authority, outage):
    """Whoever cannot read it does not know what it says: a StoreError, and nothing is sent; the session goes on."""
    login = authority.login()
    newer = fleet.start(kind="refresh", token=login, entry_version=2)
    older = fleet.start(2, kind="refresh", token=login)
    authority.expire()
    assert fleet.run(newer).failed == {}
    authority.forget()
    for _ in range(2):
        assert fleet.run(older, tasks=5).failed == {"StoreError": 10}
    assert authority.token_requests == []
    authority.expire()
    assert fleet.run(newer).failed == {}
    assert set(authority.presented.values()) == {1}
