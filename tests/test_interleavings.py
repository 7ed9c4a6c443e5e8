"""Hundreds of stories, each with its own order of events: what must hold holds in all of them.

`make proof` tells thousands.
"""

from __future__ import annotations

import pytest
from world import World

from httpx_tokenflow import ReauthenticationRequired, StepUpRequired, StoreError, TokenEndpointUnavailable

QUICK = range(500)  # each of the 20 blocks has its own mix of kinds and faults
ALL = range(500, 12_000)
FAULTS = {"hang up": 0.02, "not sent": 0.05, "not now": 0.05, "lost before": 0.03, "lost after": 0.03, "nonce": 0.2,
          "refused login": 0.1, "pause": 0.04, "store fails": 0.01}  # fmt: skip
SENDS = 5  # three for renewals, one for more scope, one for a nonce
FLIGHTS = 4
OVER = (ReauthenticationRequired, StepUpRequired)


def _play(seed: int) -> None:
    kind = ("client", "refresh", "login", "refresh", "person")[seed % 5]
    calm = seed % 4 == 0
    odds = {"nonce": 0.2} if calm else FAULTS | ({"process ends": 0.002} if seed % 8 == 1 else {})
    world = World(seed, kind, processes=1 + seed % 3, odds=odds, nonces=seed % 7 == 0)
    number = 150 if seed % 250 == 0 else 2 + seed % 11
    _tell(world, number)
    _check(world, calm=calm)


def _tell(world: World, number: int) -> None:
    """A story: requests that start at any time, between revocations, logins from outside and tokens that expire."""
    chance = world.random
    login, leaving = chance.randrange(6), chance.randrange(6)  # at most one: of two at once either may be the last
    is_wide, has_sibling = chance.random() < 0.3, world.grant.spends and chance.random() < 0.3
    for chapter in range(1 + chance.randrange(3)):
        for _ in range(number):
            wants = "more" if is_wide and chance.random() < 0.2 else ""
            wants = "sibling" if has_sibling and chance.random() < 0.3 else wants
            world.request(replayable=chance.random() < 0.9, wants=wants)
        if chapter == login:
            if chapter > leaving:
                world.run()
            world.set_token()
        world.go_on(chance.randrange(20 * number))
        if chapter == leaving != login:
            if chapter > login:
                world.run()
            for _ in range(1 + chance.randrange(2)):
                world.leave()
                world.go_on(chance.randrange(20))
            if chance.random() < 0.5:
                world.run()
                world.warm()
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
    most = 1 if world.lost_answers == 0 else 2
    for presented, times in server.presented.items():
        assert times <= most, story(f"{presented} was presented {times} times")
    if world.lost_answers == 0:
        assert not server.revoked, story("a family was revoked although no answer was lost")
    for actor in world.actors:
        assert actor.sends <= SENDS, story(f"{actor.name} was sent {actor.sends} times")
        assert len(actor.led) <= FLIGHTS, story(f"{actor.name} saw off {len(actor.led)} flights")
        if isinstance(actor.error, GeneratorExit):
            continue
        is_fine = actor.error is None or not calm or (world.has_left and isinstance(actor.error, OVER))
        is_fine = is_fine or (world.grant_kind == "person" and isinstance(actor.error, StoreError))  # a long login
        assert is_fine, story(f"{actor.name} failed in a world without faults: {actor.error!r}")
        expected = (TokenEndpointUnavailable, ReauthenticationRequired, StoreError, StepUpRequired)
        assert actor.error is None or isinstance(actor.error, expected), story(repr(actor.error))
    kept = [process.source.kept for process in world.members]
    left = [holder for holder, until in world.leases.values() if holder not in kept and until > world.now]
    assert not left, story("a lease was not released")
    held = [member.source.held for member in world.members]
    stored = world.store.load("f")
    if calm and stored is not None and not world.has_left:
        assert stored.presented == 0, story("a mark was left behind")
        is_held = any(one is not None and one.stamp == stored.wire_stamp for one in held)
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
    """The same for more than ten thousand other stories."""
    for seed in ALL[block::20]:
        _play(seed)
