"""How the scenes are played: what happens, and when. Each takes the stage, and returns when it is over.

Rules.

1. The requests and what happens to the server have a rhythm of their own, the same whoever's turn it is.
2. Where a token has to age, the clocks are put forward: a side is then where it would be after that time.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio

from ._sides import KEYS

if TYPE_CHECKING:
    import httpx

    from ._stage import Stage

__all__ = [
    "HAS_TRIO", "across_expiries", "all_at_once", "all_revoked", "everywhere", "key_retired", "leader_hangs_up",
    "outage", "roll_over", "rotation_under_all",
]  # fmt: skip

SLOW = 0.6  # seconds that the token endpoint takes longer where somebody hangs up meanwhile
SLOWER = 0.35  # the same, where a token rolls over
THREADS = 4
HAS_TRIO = importlib.util.find_spec("trio") is not None
EARLY, LATE = 94.0, 109.0  # ages, in seconds, of a token of 120: we renew it aside, and everybody thinks it is due
OFTEN = 0.03  # seconds


def all_at_once(stage: Stage) -> None:
    """All requests at once."""
    stage.on_a_loop(partial(stage.storm, requests=stage.requests))


def across_expiries(stage: Stage) -> None:
    """A stream, while token after token expires."""
    stage.on_a_loop(partial(stage.stream, requests=stage.requests, seconds=stage.seconds))


def all_revoked(stage: Stage) -> None:
    """All requests at once, with a token that has just been revoked."""
    stage.server.revoke_access_tokens()
    all_at_once(stage)


def leader_hangs_up(stage: Stage) -> None:
    """The one who leads goes while the endpoint, which has already rotated, still thinks about its answer."""

    async def part(client: httpx.AsyncClient) -> None:
        leader = asyncio.create_task(client.get(stage.url))
        while not stage.server.token_requests():  # noqa: ASYNC110 - the server is another process
            await anyio.sleep(0.01)
        async with anyio.create_task_group() as group:
            group.start_soon(stage.storm, client, stage.requests)
            await anyio.sleep(SLOW / 4)  # by now they all wait
            leader.cancel()
        await asyncio.gather(leader, return_exceptions=True)

    stage.server.revoke_access_tokens()
    stage.server.slow_down(SLOW)
    stage.on_a_loop(part)


def rotation_under_all(stage: Stage) -> None:
    """A stream across expiries, and into it, twice, a storm with a token that has just been revoked."""

    async def part(client: httpx.AsyncClient) -> None:
        storm = stage.requests // 4
        seconds = 0.75 * stage.seconds
        async with anyio.create_task_group() as group:
            group.start_soon(stage.stream, client, stage.requests - 2 * storm, seconds)
            for _ in range(2):  # one after the other: a token revoked twice within a request is another story
                await anyio.sleep(seconds / 3)
                stage.server.revoke_access_tokens()
                await stage.storm(client, storm)

    stage.on_a_loop(part)


def everywhere(stage: Stage) -> None:
    """Streams from threads, two asyncio loops and a trio run, on one object; into them, its token is revoked."""
    backends = ["asyncio", "asyncio", *(["trio"] if HAS_TRIO else [])]
    shares = [stage.requests // (THREADS + len(backends))] * (THREADS + len(backends))
    shares[-1] += stage.requests - sum(shares)
    seconds = 0.5 * stage.seconds
    client = stage.client()

    def in_turn(requests: int) -> None:
        begun = time.monotonic()
        for number in range(requests):
            time.sleep(max(0.0, begun + seconds * number / requests - time.monotonic()))
            stage.ask(client)

    def on_a_loop(requests: int, backend: str) -> None:
        stage.on_a_loop(partial(stage.stream, requests=requests, seconds=seconds), backend)

    def revoke() -> None:
        time.sleep(seconds / 2)
        stage.server.revoke_access_tokens()

    parts = [partial(in_turn, share) for share in shares[:THREADS]]
    parts += [partial(on_a_loop, share, backend) for share, backend in zip(shares[THREADS:], backends, strict=True)]
    if stage.in_threads([*parts, revoke]):
        client.close()


def outage(stage: Stage) -> None:
    """The token endpoint is down while a token gets early, and then due; it comes back before the token ends."""
    server, watch = stage.server, stage.props.watch

    async def events() -> None:
        server.go_down()
        watch.put_forward(EARLY)
        await anyio.sleep(0.4)
        watch.put_forward(LATE - EARLY)
        await anyio.sleep(1.1)
        while not server.turned_away():  # noqa: ASYNC110 - on a loaded machine the first may take its time
            await anyio.sleep(OFTEN)
        server.come_back()

    async def part(client: httpx.AsyncClient) -> None:
        await stage.rise(client)
        async with anyio.create_task_group() as group:
            group.start_soon(stage.stream, client, stage.requests, stage.seconds)
            await events()
        while server.tokens_issued() < 2:  # not yet renewed: the stream goes on
            stage.requests += 1
            await stage.aask(client)
            await anyio.sleep(OFTEN)
        await stage.settle()

    stage.on_a_loop(part)


def roll_over(stage: Stage) -> None:
    """A stream, into which a side comes to want another token, which takes its time."""

    async def part(client: httpx.AsyncClient) -> None:
        await stage.rise(client)
        stage.server.slow_down(SLOWER)
        stage.latency += SLOWER
        async with anyio.create_task_group() as group:
            group.start_soon(stage.stream, client, stage.requests, stage.seconds)
            await anyio.sleep(stage.seconds / 4)
            stage.props.watch.put_forward(stage.side.renews_at)
        await stage.settle()

    stage.on_a_loop(part)


def key_retired(stage: Stage) -> None:
    """A stream, into which the first key is retired."""
    first, second = KEYS

    async def part(client: httpx.AsyncClient) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stage.stream, client, stage.requests, stage.seconds)
            await anyio.sleep(stage.seconds / 2)
            stage.server.retire_key(first)

    stage.server.accept_key(first)
    stage.server.accept_key(second)
    stage.on_a_loop(part)
