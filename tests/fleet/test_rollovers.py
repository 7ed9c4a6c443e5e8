"""A fleet that shares a Redis: one token request for each rollover, whatever the number of processes and tasks."""

from __future__ import annotations

import itertools

import pytest
from fleet.rig import Fleet, until

ROOMY: dict[str, float] = {}  # the defaults: nobody dies here, and a busy machine may take its time

SIZES = [
    pytest.param((3, 10, 3), id="3x10x3"),
    pytest.param((8, 200, 5), id="8x200x5", marks=pytest.mark.slow),
]
ROTATIONS = [
    pytest.param((3, 5, 4), id="3x5x4"),
    pytest.param((8, 200, 20), id="8x200x20", marks=pytest.mark.slow),
]


def roll_over(fleet, authority, tasks, requests=2):
    """All access tokens so far are refused, and everybody sends requests: one token request, and nobody fails."""
    before = len(authority.token_requests)
    authority.expire()
    outcome = fleet.run(tasks=tasks, requests=requests)
    assert outcome.failed == {}
    assert outcome.ok == len(fleet.workers) * tasks * requests
    assert outcome.tokens == {authority.newest: len(fleet.workers)}
    assert len(authority.token_requests) == before + 1


@pytest.mark.parametrize("size", SIZES)
def test_a_fleet_asks_once_for_each_rollover(fleet, authority, size):
    """However many processes and tasks are refused at once: one token request, and none of them fails."""
    workers, tasks, rollovers = size
    fleet.start(workers, policy=ROOMY)
    for _ in range(rollovers):
        roll_over(fleet, authority, tasks)
    renewed = [*fleet.events("TokenObtained"), *fleet.events("TokenRenewed")]
    assert sum(event["minted"] for event in renewed) == rollovers
    assert fleet.events("StoreFailed") == []


@pytest.mark.parametrize("size", ROTATIONS)
def test_a_fleet_presents_each_rotating_refresh_token_once(fleet, authority, size):
    """A server that ends the family at the first reuse never sees one: a token request for each rollover."""
    workers, tasks, rollovers = size
    login = authority.login()
    fleet.start(workers, kind="refresh", token=login, policy=ROOMY)
    for _ in range(rollovers):
        roll_over(fleet, authority, tasks, requests=1)
    assert len(authority.presented) == rollovers
    assert set(authority.presented.values()) == {1}
    assert authority.is_alive(login["refresh_token"])


@pytest.mark.slow
def test_a_fleet_lives_through_tokens_that_end_by_themselves(fleet, authority):
    """8 processes x 200 tasks, five rollovers by time alone: none fails, and no token has two successors."""
    authority.lifetime = 20.0
    fleet.start(8, policy=ROOMY)
    assert fleet.run().failed == {}
    streams = fleet.begin("stream", tasks=200, pause=20.0)
    until(lambda: len(authority.token_requests) >= 6, 300.0)
    for worker in fleet.workers:
        worker.do("halt")
    outcome = streams.result()
    assert outcome.failed == {}
    came = [asked.at for asked in authority.token_requests]
    # A quarter of its life before its end a token may be renewed early, and not before that.
    assert min(after - before for before, after in itertools.pairwise(came)) > 10.0


def test_a_request_with_a_fresh_token_asks_redis_nothing(fleet, authority, valkey):
    """200 requests in two processes that have a fresh token: not one Redis command."""
    _ask_nothing(fleet, authority, valkey, 2, 100)


@pytest.mark.slow
def test_ten_thousand_requests_ask_redis_nothing(fleet, authority, valkey):
    """10,000 requests in four processes that have a fresh token: not one Redis command."""
    _ask_nothing(fleet, authority, valkey, 4, 2500)


def _ask_nothing(fleet, authority, valkey, workers, requests):
    fleet.start(workers)
    assert fleet.run(tasks=10).failed == {}
    assert valkey.calls() != {}
    valkey.forget_calls()
    outcome = fleet.run(tasks=10, requests=requests // 10)
    assert (outcome.ok, outcome.failed) == (workers * requests, {})
    assert valkey.calls() == {}
    assert len(authority.token_requests) == 1


@pytest.mark.parametrize("workers", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_the_early_window_is_one_for_the_fleet(fleet, authority, workers):
    """Each process comes to its own early moment: the first renews aside, the others load, and nobody waits."""
    authority.lifetime = 60.0
    first, *_ = fleet.start(workers, policy={"early_window": 59.0, "jitter": 2.0})  # from its first second on
    assert fleet.run([first]).failed == {}
    authority.lifetime = 36_000.0
    assert fleet.run().failed == {}
    streams = fleet.begin("stream", tasks=5, pause=0.05)
    until(lambda: len(authority.carriers[authority.newest]) == workers and len(authority.token_requests) == 2)
    for worker in fleet.workers:
        worker.do("halt")
    assert streams.result().failed == {}
    assert len(authority.token_requests) == 2
    renewed = fleet.events("TokenRenewed")
    assert {event["why"] for event in renewed} == {"early"}
    assert sorted(event["minted"] for event in renewed) == [False] * (workers - 1) + [True]
    assert {event["why"] for event in fleet.events("Waited")} == {"missing"}  # at the beginning, and never again


@pytest.mark.parametrize("lifetime", [60.0, pytest.param(86_400.0, marks=pytest.mark.slow)])
def test_clocks_that_differ_by_minutes_make_no_difference(fleet, authority, lifetime):
    """Whoever renews, and whatever their clock says: a rollover is one token request, and no new token is refused."""
    authority.lifetime = lifetime
    ahead, right, behind = (*fleet.start(shift=300.0), *fleet.start(), *fleet.start(shift=-300.0))
    for leader in (right, ahead, behind):
        before = len(authority.token_requests)
        authority.expire()
        assert fleet.run([leader]).failed == {}
        refused = authority.answered[401]
        for _ in range(3):
            assert fleet.run(tasks=5).failed == {}
        assert len(authority.token_requests) == before + 1
        # Of those who have the old one, which was refused a moment ago, each task is told so once at most.
        assert authority.answered[401] - refused <= 2 * 5
    ends = [worker.do("status")["expires_in"] for worker in fleet.workers]
    assert max(ends) - min(ends) < 10.0
    assert max(ends) <= lifetime + 2.0


@pytest.mark.slow
def test_a_clock_that_is_minutes_behind_sees_a_token_end(fleet, authority):
    """A token that has aged is as old to who loads it ten minutes behind: renewed in time, and never refused."""
    authority.lifetime = 10.0
    ahead, behind = (*fleet.start(shift=300.0), *fleet.start(shift=-300.0))
    for first, second in ((ahead, behind), (behind, ahead)) * 2:
        authority.forget()
        before = authority.newest
        until(lambda first=first, before=before: fleet.run([first]).tokens.keys() != {before})
        until(lambda first=first: first.do("status")["expires_in"] < 6.0)
        assert fleet.run([second]).failed == {}
        assert second.do("status")["expires_in"] < 8.0
        last = authority.newest
        until(lambda second=second, last=last: fleet.run([second]).tokens.keys() != {last})
        assert authority.answered[401] == 0


@pytest.mark.parametrize("kind", [pytest.param("client", marks=pytest.mark.slow), "refresh"])
def test_a_token_that_was_set_in_one_process_serves_in_all(fleet, authority, kind):
    """Once the old one is refused everybody has the new one from the store: no token request."""
    first, *others = fleet.start(3, kind=kind, token=authority.login())
    assert fleet.run(tasks=3).failed == {}
    authority.expire()
    authority.forget()
    new = authority.login()
    first.do("set_token", token=new)
    outcome = fleet.run(others, tasks=5)
    assert (outcome.failed, outcome.tokens) == ({}, {new["access_token"]: 2})
    assert authority.token_requests == []


def test_a_session_that_was_given_up_in_one_process_is_over_in_all(fleet, authority):
    """Whoever is refused finds that it is over, asks the server nothing, and so does who starts later."""
    first, *others = fleet.start(3, kind="refresh", token=authority.login())
    authority.expire()
    assert fleet.run(tasks=3).failed == {}
    first.do("revoke")
    authority.expire()
    authority.forget()
    late = fleet.start(kind="refresh")
    for _ in range(2):
        assert fleet.run([*others, *late], tasks=5).failed == {"ReauthenticationRequired": 15}
    assert authority.token_requests == []


def test_a_token_that_was_given_up_in_one_process_is_gone_from_the_store(fleet, authority):
    """Client credentials have no session: others get another token when theirs is refused, once for all."""
    first, *others = fleet.start(3)
    assert fleet.run(tasks=3).failed == {}
    first.do("revoke")
    roll_over(fleet, authority, 5)
    assert others[0].do("status")["state"] == "fresh"


@pytest.mark.parametrize("kind", [pytest.param("client", marks=pytest.mark.slow), "refresh"])
def test_the_sync_client_shares_as_well(nursery, valkey, authority, kind):
    """Threads of some processes and tasks of others, one Redis: one token request for a rollover."""
    settings = {
        "url": authority.url,
        "api": authority.api,
        "store": {"kind": "redis", "address": valkey.url},
        "policy": ROOMY,
    }
    with Fleet(nursery, kind=kind, token=authority.login(), **settings) as fleet:
        *sync, tasks = fleet.start(3)
        for _ in range(2):
            authority.expire()
            authority.forget()
            running = [fleet.begin("threads", sync, threads=10, requests=2), fleet.begin("run", [tasks], tasks=10)]
            assert [outcome.result().failed for outcome in running] == [{}, {}]
            assert len(authority.token_requests) == 1
