"""Whoever holds the lease is killed, or stopped until the lease has lapsed: others take over, and nothing is lost.

With a rotating refresh token it depends on where that happened. Before the token is presented nothing is lost. Once it
may have been, the mark in the store says so: whoever takes over presents it once more, and the server decides. One that
allows an overlap goes on; one that does not ends the session, which everybody is told, and nobody presents it again.
"""

from __future__ import annotations

import time

import pytest
from fleet.rig import until

POLICY = {"budget": 2.0, "lease": 3.0}  # seconds
OVERLAP = 600.0  # seconds


def slow(*values, marks=()):
    return pytest.param(*values, marks=[pytest.mark.slow, *marks])


@pytest.fixture
def session(fleet, authority):
    """Starts workers that share a session, whose access token has just been refused, and says its refresh token."""

    def start(number):
        workers = fleet.start(number, kind="refresh", token=authority.login(), policy=POLICY)
        authority.expire()
        assert fleet.run().failed == {}
        authority.expire()
        authority.forget()
        return authority.newest.replace("access", "refresh"), *workers

    return start


def arrested(worker, point):
    """The worker sends a request, and stops itself at `point`."""
    worker.do("arm", point=point)
    running = worker.start("run")
    worker.stops_at(point)
    return running


def lapsed(valkey):
    """Wait until no lease is held."""
    with valkey.client() as client:
        until(lambda: not list(client.scan_iter("*:lease")))


def times_presented(authority):
    return sorted(authority.presented.values())


@pytest.mark.parametrize("point", [slow("leased"), slow("saving")])
def test_client_credentials_survive_a_killed_holder(fleet, authority, point):
    """Killed before the token request or after its answer: the others get a token, and none of them fails."""
    first, *others = fleet.start(3, policy=POLICY)
    arrested(first, point)
    before = len(authority.token_requests)
    first.kill()
    outcome = fleet.run(others, tasks=10)
    assert outcome.failed == {}
    assert len(authority.token_requests) == before + 1
    assert outcome.tokens == {authority.newest: 2}


def test_client_credentials_survive_a_holder_killed_while_it_asks(fleet, authority):
    """Killed between the token request and its answer: the others get a token, and none of them fails."""
    first, *others = fleet.start(3, policy=POLICY)
    hold = authority.hold("after")
    first.start("run")
    hold.reached()
    first.kill()
    outcome = fleet.run(others, tasks=10)
    assert outcome.failed == {}
    assert len(authority.token_requests) == 2
    assert outcome.tokens == {authority.newest: 2}


@pytest.mark.parametrize("point", [slow("leased"), "marked"])
def test_a_session_survives_a_holder_killed_before_it_asks(fleet, authority, session, point):
    """The server has not seen the refresh token yet: it is presented once, also where the mark says otherwise."""
    refresh_token, first, *others = session(3)
    arrested(first, point)
    first.kill()
    assert fleet.run(others, tasks=10).failed == {}
    assert authority.presented == {refresh_token: 1}
    assert authority.is_alive(refresh_token)


@pytest.mark.parametrize("when", [slow("while it asks"), "after the answer"])
def test_a_session_survives_a_killed_holder_if_the_server_has_an_overlap(fleet, authority, session, when):
    """The new pair died with the holder: the mark is found, the refresh token presented once more, and all goes on."""
    authority.reuse = OVERLAP
    refresh_token, first, *others = session(3)
    _lose_the_answer(first, authority, when)
    outcome = fleet.run(others, tasks=10)
    assert (outcome.failed, outcome.tokens) == ({}, {authority.newest: 2})
    assert authority.presented == {refresh_token: 2}
    authority.expire()
    authority.forget()
    assert fleet.run(others, tasks=10).failed == {}
    assert times_presented(authority) == [1]


@pytest.mark.parametrize("when", ["while it asks", slow("after the answer")])
def test_a_strict_server_ends_the_session_of_a_killed_holder_and_everybody_is_told(fleet, authority, session, when):
    """The refresh token is presented once more, and never a third time, by nobody, however often they are asked."""
    refresh_token, first, *others = session(3)
    _lose_the_answer(first, authority, when)
    for _ in range(3):
        assert fleet.run(others, tasks=5).failed == {"ReauthenticationRequired": 10}
    late = fleet.start(kind="refresh", policy=POLICY)
    assert fleet.run(late).failed == {"ReauthenticationRequired": 1}
    assert authority.presented == {refresh_token: 2}
    new = authority.login()
    others[0].do("set_token", token=new)
    outcome = fleet.run([*others, *late])
    assert (outcome.failed, outcome.tokens) == ({}, {new["access_token"]: 3})


def test_news_that_does_not_serve_brings_no_right_to_renew(fleet, authority, valkey, session):
    """Two wait for the lease, and a login comes whose access token has ended: one of them renews it, once."""
    _, first, second, third, fourth = session(4)
    hold = authority.hold("after")
    holder = first.start("run")
    hold.reached()
    waiting = fleet.begin("run", [second, third], tasks=3)
    with valkey.client() as client:
        until(lambda: [count for _, count in client.pubsub_numsub(*client.pubsub_channels())] == [2])
    new = authority.login() | {"expires_in": 0}
    fourth.do("set_token", token=new)
    hold.release()
    assert holder.result(60)["failed"] == {}
    assert waiting.result().failed == {}
    assert authority.presented[new["refresh_token"]] == 1
    assert authority.is_alive(new["refresh_token"])


@pytest.mark.slow
@pytest.mark.parametrize("point", ["marked", "saving"])
def test_after_two_lost_answers_nobody_presents_a_third_time(fleet, authority, session, point):
    """Two holders die one after the other: the notes in the store say so, and the third says to log in again."""
    authority.reuse = OVERLAP
    refresh_token, first, second, third = session(3)
    for worker in (first, second):
        arrested(worker, point)
        worker.kill()
    for _ in range(2):
        assert fleet.run([third], tasks=5).failed == {"ReauthenticationRequired": 5}
    assert authority.presented == ({} if point == "marked" else {refresh_token: 2})


def _lose_the_answer(worker, authority, when):
    if when == "while it asks":
        hold = authority.hold("after")
        worker.start("run")
        hold.reached()
    else:
        arrested(worker, "saving")
    worker.kill()


@pytest.mark.parametrize(("point", "requests"), [slow("leased", 1), slow("reloaded", 1), ("saving", 2)])
def test_what_a_paused_holder_brings_too_late_is_not_published(fleet, authority, valkey, point, requests):
    """F75. Its lease lapsed while it was stopped, and others have renewed: it goes on with their token, as all do."""
    first, second, third = fleet.start(3, policy=POLICY)
    late = arrested(first, point)
    lapsed(valkey)
    assert fleet.run([second]).failed == {}
    theirs = authority.newest
    first.resume()
    assert late.result(60)["tokens"] == {theirs: 1}
    assert fleet.run([third]).tokens == {theirs: 1}
    assert len(authority.token_requests) == requests


@pytest.mark.parametrize("point", [slow("leased"), slow("reloaded"), "marking"])
def test_a_paused_holder_does_not_present_what_another_has_presented_meanwhile(
    fleet, authority, valkey, session, point
):
    """Its lease lapsed before its note was in the store: the note comes too late, and it takes the newer token."""
    refresh_token, first, second, third = session(3)
    late = arrested(first, point)
    lapsed(valkey)
    assert fleet.run([second]).failed == {}
    first.resume()
    assert late.result(60)["tokens"] == {authority.newest: 1}
    assert fleet.run([third]).tokens == {authority.newest: 1}
    assert authority.presented == {refresh_token: 1}


@pytest.mark.slow
def test_a_paused_holder_does_not_present_a_token_after_its_lease(fleet, authority, valkey, session):
    """Stopped after its note and before its token request, until its lease has lapsed: it sends nothing any more."""
    refresh_token, first, second, third = session(3)
    late = arrested(first, "marked")
    lapsed(valkey)
    assert fleet.run([second]).failed == {}
    first.resume()
    assert late.result(60)["tokens"] == {authority.newest: 1}
    assert fleet.run([third]).tokens == {authority.newest: 1}
    assert authority.presented == {refresh_token: 1}


@pytest.mark.slow
def test_a_pair_that_a_paused_holder_saves_too_late_is_not_published(fleet, authority, valkey, session):
    """Stopped between answer and save; another has presented the token once more, in the overlap: theirs stays."""
    authority.reuse = OVERLAP
    refresh_token, first, second, third = session(3)
    late = arrested(first, "saving")
    lapsed(valkey)
    assert fleet.run([second]).failed == {}
    theirs = authority.newest
    first.resume()
    assert late.result(60)["tokens"] == {theirs: 1}
    assert fleet.run([third]).tokens == {theirs: 1}
    assert authority.presented == {refresh_token: 2}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["client", "refresh"])
def test_a_fleet_takes_over_within_the_lease_and_a_second(fleet, authority, kind, record_property):
    """8 processes x 20 tasks; whoever holds the lease is killed: one of the others asks within lease + 1 s."""
    first, *others = fleet.start(8, kind=kind, token=authority.login(), policy=POLICY)
    authority.expire()
    assert fleet.run(tasks=20).failed == {}
    authority.expire()
    authority.forget()
    arrested(first, "leased")
    running = fleet.begin("run", others, tasks=20)
    killed = time.monotonic()
    first.kill()
    outcome = running.result()
    assert outcome.failed == {}
    seconds = authority.token_requests[0].at - killed
    record_property("takeover_seconds", seconds)
    assert seconds <= POLICY["lease"] + 1.0
    assert len(authority.token_requests) == 1
