"""Thousands of stories, each with its own order of events: what must hold holds in all of them."""

from __future__ import annotations

import pytest
from world import World

from httpx_tokenflow import ReauthenticationRequired, StoreError, TokenEndpointUnavailable

QUICK = range(2_000)
ALL = range(2_000, 12_000)
FAULTS = {"hang up": 0.02, "not sent": 0.05, "not now": 0.05, "lost before": 0.03, "lost after": 0.03}


def _play(seed: int) -> None:
    kind = ("client", "refresh", "refresh")[seed % 3]
    calm = seed % 4 == 0
    odds = {} if calm else FAULTS | ({"process ends": 0.002} if seed % 8 == 1 else {})
    world = World(seed, kind, processes=1 + seed % 3, odds=odds)
    number = 150 if seed % 250 == 0 else 2 + seed % 11
    _tell(world, number)
    _check(world, calm=calm)


def _tell(world: World, number: int) -> None:
    """A story: requests that start at any time, between revocations, logins from outside and tokens that expire."""
    chance = world.random
    login = chance.randrange(6)  # at most one: of two at once either may be the last
    for chapter in range(1 + chance.randrange(3)):
        for _ in range(number):
            world.request(replayable=chance.random() < 0.9)
        if chapter == login:
            world.set_token()
        world.go_on(chance.randrange(20 * number))
        if chance.random() < 0.5:
            world.revoke_access_tokens()
        elif chance.random() < 0.3:
            world.run()
            world.expire()
        elif chance.random() < 0.6:
            world.run()
            world.grow_old(chance.choice((0.78, 0.85, 0.95)))
    world.run()


def _check(world: World, *, calm: bool) -> None:
    server, story = world.server, world.story
    for presented, times in server.presented.items():
        assert times <= 2, story(f"{presented} was presented {times} times")
    if world.lost_answers == 0:
        assert not server.revoked, story("a family was revoked although no answer was lost")
    for actor in world.actors:
        assert actor.sends <= 3, story(f"{actor.name} was sent {actor.sends} times")
        if isinstance(actor.error, GeneratorExit):
            continue
        assert actor.error is None or not calm, story(f"{actor.name} failed in a world without faults: {actor.error!r}")
        expected = (TokenEndpointUnavailable, ReauthenticationRequired, StoreError)
        assert actor.error is None or isinstance(actor.error, expected), story(repr(actor.error))
    assert world.lease_holder is None, story("a lease was not released")
    held = [member.source.held for member in world.members]
    stored = world.store.load("f")
    if calm and stored is not None:
        assert stored.presented == 0, story("a mark was left behind")
        is_held = any(one is not None and one.entry.stamp == stored.stamp for one in held)
        assert is_held, story("nobody holds what is stored")
    if calm and world.outside is not None:
        assert world.outside in [one.value for one in held if one is not None], story(
            "a token set from outside was replaced by a renewal"
        )


@pytest.mark.parametrize("block", range(20))
def test_whatever_the_order_of_events(block: int) -> None:
    """No order of events spends a refresh token twice, sends a request four times, hangs, or loses a token."""
    for seed in QUICK[block::20]:
        _play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_whatever_the_order_of_events_ten_thousand_times(block: int) -> None:
    """The same for ten thousand other stories."""
    for seed in ALL[block::20]:
        _play(seed)
