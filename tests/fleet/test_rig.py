"""The rig itself: what it counts, holds, stops and kills."""

from __future__ import annotations

import httpx
import pytest
from fleet.authority import Authority
from fleet.rig import Fleet, Gone

MEMORY = {"store": {"kind": "memory"}}


@pytest.fixture
def alone(nursery, authority):
    """Workers that share nothing."""
    with Fleet(nursery, url=authority.url, api=authority.api, kind="client", **MEMORY) as fleet:
        yield fleet


def test_processes_that_share_nothing_ask_once_each(alone, authority):
    """What this rig counts without a shared store is one token request for each process: it would see a stampede."""
    alone.start(3)
    outcome = alone.run(tasks=10, requests=2)
    assert (outcome.ok, outcome.failed) == (60, {})
    assert len(authority.token_requests) == len(outcome.tokens) == 3
    assert {event["minted"] for event in alone.events("TokenObtained")} == {True}


def test_whoever_is_killed_while_its_answer_is_held_is_gone(alone, authority):
    """A token request is held after it was processed; its process dies, and whoever waits for it hears so."""
    hold = authority.hold("after")
    (worker,) = alone.start()
    running = worker.start("run")
    hold.reached()
    assert len(authority.token_requests) == 1
    worker.kill()
    with pytest.raises(Gone):
        running.result(1)


def test_a_worker_stops_where_it_is_told_and_goes_on(alone, authority):
    """A worker that was armed stops itself at that point, before anything else happens."""
    (worker,) = alone.start()
    worker.do("arm", point="leased")
    running = worker.start("run")
    worker.stops_at("leased")
    assert authority.token_requests == []
    worker.resume()
    assert running.result(60)["ok"] == 1


def _present(authority: Authority, refresh_token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return httpx.post(authority.token_endpoint, data=form)


@pytest.mark.parametrize(("reuse", "status"), [("strict", 400), (60.0, 200), (0.0, 400)])
def test_a_refresh_token_that_is_presented_again_ends_its_family_but_for_the_overlap(reuse, status):
    """A strict server revokes at once, one with an overlap gives another pair while it lasts."""
    with Authority(reuse=reuse).served() as authority:
        first = authority.login()["refresh_token"]
        second = _present(authority, first).json()
        assert _present(authority, first).status_code == status
        assert authority.is_alive(first) is (status == 200)
        assert authority.presented == {first: 2}
        again = httpx.get(f"{authority.url}/api", headers={"Authorization": f"Bearer {second['access_token']}"})
        assert again.status_code == (200 if status == 200 else 401)


def test_tokens_expire_and_are_refused_when_told(authority):
    """The API refuses what has ended, what was expired, and what it never issued."""
    form = {"grant_type": "client_credentials"}
    tokens = [httpx.post(authority.token_endpoint, data=form).json()["access_token"] for _ in range(2)]
    authority.expire()
    authority.lifetime = 0.0
    tokens.append(httpx.post(authority.token_endpoint, data=form).json()["access_token"])
    for token in [*tokens, "another"]:
        assert httpx.get(f"{authority.url}/api", headers={"Authorization": f"Bearer {token}"}).status_code == 401
