"""Processes of one machine that share a folder: threads with the sync client, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet.rig import Fleet, until

POLICY = {"budget": 3.0, "lease": 5.0}


@pytest.fixture
def fleet(nursery, authority, tmp_path):
    store = {"kind": "file", "address": str(tmp_path / "tokens")}
    with Fleet(nursery, url=authority.url, api=authority.api, kind="refresh", policy=POLICY, store=store) as fleet:
        yield fleet


@pytest.mark.parametrize(
    ("verb", "size"),
    [
        ("threads", (2, 8, 3)),
        pytest.param("threads", (4, 25, 3), marks=pytest.mark.slow),
        pytest.param("run", (8, 50, 5), marks=pytest.mark.slow),
    ],
)
def test_processes_that_share_a_folder_present_each_refresh_token_once(fleet, authority, verb, size):
    """However many threads or tasks in however many processes: one token request for each rollover, and none fails."""
    workers, crowd, rollovers = size
    login = authority.login()
    fleet.start(workers, token=login)
    for number in range(1, rollovers + 1):
        authority.expire()
        outcome = fleet.all(verb, **{"threads" if verb == "threads" else "tasks": crowd}, requests=2)
        assert (outcome.failed, outcome.tokens) == ({}, {authority.newest: workers})
        assert len(authority.token_requests) == number
    assert set(authority.presented.values()) == {1}
    assert authority.is_alive(login["refresh_token"])


def test_whoever_dies_with_the_lock_leaves_it_to_the_next(fleet, authority):
    """The lock of a killed process is free at once: the next renews, and presents the refresh token once."""
    first, second = fleet.start(2, token=authority.login())
    authority.expire()
    first.do("arm", point="leased")
    first.start("run")
    first.stops_at("leased")
    running = fleet.begin("threads", [second], threads=5)
    first.kill()
    assert running.result().failed == {}
    assert set(authority.presented.values()) == {1}


@pytest.mark.parametrize("verb", ["threads", pytest.param("run", marks=pytest.mark.slow)])
def test_a_full_disk_costs_no_session(fleet, authority, verb):
    """What cannot be saved is used from memory and reported; it is saved when there is room, and others use it."""
    first, second = fleet.start(2, token=authority.login())
    authority.expire()
    assert fleet.all(verb, requests=1).failed == {}
    authority.expire()
    authority.forget()
    hold = authority.hold("after")
    running = fleet.begin(verb, [first], requests=1)
    hold.reached()
    first.do("disk", full=True)
    hold.release()
    outcome = running.result()
    assert (outcome.failed, outcome.tokens) == ({}, {authority.newest: 1})
    assert len(first.events("StoreFailed")) == 1
    first.do("disk", full=False)
    until(lambda: fleet.all(verb, [first], requests=1).failed == {} and _is_saved(fleet))
    outcome = fleet.all(verb, [second], requests=1)
    assert (outcome.failed, outcome.tokens) == ({}, {authority.newest: 1})
    assert len(authority.token_requests) == 1


def test_what_a_full_disk_did_not_take_is_saved_when_the_program_closes(fleet, authority):
    """Nobody has sent a request since there is room again: closing is the last occasion."""
    first, second = fleet.start(2, token=authority.login())
    authority.expire()
    hold = authority.hold("after")
    running = fleet.begin("run", [first])
    hold.reached()
    first.do("disk", full=True)
    hold.release()
    assert running.result().failed == {}
    first.do("disk", full=False)
    first.do("close")
    outcome = fleet.run([second])
    assert (outcome.failed, outcome.tokens) == ({}, {authority.newest: 1})
    assert len(authority.token_requests) == 1


def test_a_disk_that_is_full_before_the_token_is_presented_keeps_it_from_being(fleet, authority):
    """The note cannot be written: a StoreError, nothing is sent, and it goes on when there is room."""
    (first,) = fleet.start(token=authority.login())
    authority.expire()
    first.do("disk", full=True)
    assert fleet.run(tasks=5).failed == {"StoreError": 5}
    assert authority.token_requests == []
    first.do("disk", full=False)
    until(lambda: fleet.run().failed == {})
    assert set(authority.presented.values()) == {1}


def _is_saved(fleet):
    """Whether the note that the refresh token was presented has given way to the new token."""
    (entry,) = Path(fleet.settings["store"]["address"]).glob("*.entry")
    return b'"presented":0' in entry.read_bytes()
