"""The scenes, as data: what happens, on which server, and what is promised of ours.

Of ours it is promised that no request fails, that a login survives, and how many token requests there are. Of the
other side nothing is promised; the table says what happened.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from httpx_tokenflow import ClientCredentials, RefreshToken, Token, TokenAuth

from ._handwritten import LockAndRefresh
from ._stage import Outcome, Side, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from ._server import Server

__all__ = ["HANDWRITTEN", "OURS", "SCENES", "Scene", "broken_promises", "perform", "promised"]

LATENCY = 0.05  # seconds that the token endpoint takes
SLOW = 0.6  # seconds that it takes longer where somebody hangs up meanwhile
WAITING = 50  # callers behind the one who hangs up
THREADS = 4
CREDENTIALS: dict[str, Any] = {"client_id": "client", "client_secret": "secret"}  # which every sandbox knows
HAS_TRIO = importlib.util.find_spec("trio") is not None
DUE = 0.8  # of a short token's lifetime: then it is renewed


def duration(requests: int) -> float:
    """Seconds that a stream of requests goes on; a small demo is also a short one."""
    return min(3.6, max(1.6, requests / 200))


def lifetime(requests: int) -> float:
    """Seconds that a short token lives: a stream outlives three of them."""
    return 0.4 * duration(requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One scene.

    Attributes:
        lines: what happens, in two short lines.
        play: how it is played.
        promised: fewest and most token requests, for a number of expiries.
        requests: how many requests it has, of so many that were asked for.
        server: arguments of the sandbox.
        short: tokens live for a few seconds only.
        login: it begins with a login, and a refresh token that rotates; otherwise the grant is client credentials.
    """

    lines: tuple[str, str]
    play: Callable[[Stage], None]
    promised: Callable[[int], tuple[int, int]]
    requests: Callable[[int], int] = int
    server: dict[str, Any] = field(default_factory=dict)
    short: bool = False
    login: bool = False

    @property
    def title(self) -> str:
        """What happens, in one line."""
        return " ".join(self.lines)


def _ours(endpoint: str, login: dict[str, Any] | None) -> httpx.Auth:
    if login is None:
        return TokenAuth(ClientCredentials(endpoint, **CREDENTIALS))
    token = Token(
        login["access_token"], expires_at=time.time() + login["expires_in"], refresh_token=login["refresh_token"]
    )
    return TokenAuth(RefreshToken(endpoint, **CREDENTIALS), token=token)


def _handwritten(endpoint: str, login: dict[str, Any] | None) -> httpx.Auth:
    return LockAndRefresh(endpoint, **CREDENTIALS, login=login)


OURS = Side("ours", _ours)
HANDWRITTEN = Side("by hand", _handwritten)


def _all_at_once(stage: Stage) -> None:
    stage.on_a_loop(partial(stage.storm, requests=stage.requests))


def _across_expiries(stage: Stage) -> None:
    stage.on_a_loop(partial(stage.stream, requests=stage.requests, seconds=stage.seconds))


def _all_revoked(stage: Stage) -> None:
    stage.server.revoke_access_tokens()
    _all_at_once(stage)


def _leader_hangs_up(stage: Stage) -> None:
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


def _rotation_under_all(stage: Stage) -> None:
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


def _everywhere(stage: Stage) -> None:
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


SCENES = (
    Scene(
        lines=("all at once,", "without a token"),
        play=_all_at_once,
        promised=lambda _: (1, 1),
    ),
    Scene(
        lines=("tokens expire", "in a stream"),
        play=_across_expiries,
        promised=lambda expiries: (expiries, expiries + 2),  # the first, and one for each; give or take one
        requests=lambda asked: asked // 2,
        short=True,
    ),
    Scene(
        lines=("all at once, their", "token just revoked"),
        play=_all_revoked,
        promised=lambda _: (1, 1),
        login=True,
    ),
    Scene(
        lines=("the one who renews", "hangs up, others wait"),
        play=_leader_hangs_up,
        promised=lambda _: (1, 1),
        requests=lambda asked: min(WAITING, asked // 2),
        login=True,
    ),
    Scene(
        lines=("rotation, a stream,", "expiries and storms"),
        play=_rotation_under_all,
        promised=lambda expiries: (2, expiries + 3),  # one for each storm, and at most one for each expiry
        requests=lambda asked: asked // 2,
        server={"newest_only": True},
        short=True,
        login=True,
    ),
    Scene(
        lines=("threads, two asyncio", "loops, trio, together")
        if HAS_TRIO
        else ("threads, two asyncio", "loops, together"),
        play=_everywhere,
        promised=lambda _: (1, 1),
        requests=lambda asked: asked // 4,
        server={"latency": 2 * LATENCY},
        login=True,
    ),
)


def perform(
    scene: Scene, side: Side, server: Server, *, asked: int, limit: float, report: Callable[[int], None]
) -> Outcome:
    """Play a scene.

    Args:
        scene: which.
        side: whose turn it is.
        server: where the sandbox is served.
        asked: how many requests a scene has that does not say otherwise.
        limit: how many seconds it may take before it is called off.
        report: told, a few times a second, how many requests have been answered.
    """
    settings = {"latency": LATENCY, **scene.server}
    if scene.short:
        settings["lifetime"] = lifetime(asked)
    with server.sandbox(settings) as sandbox:
        login = sandbox.login() if scene.login else None
        stage = Stage(
            sandbox,
            side.make(f"{sandbox.url}/token", login),
            requests=scene.requests(asked),
            seconds=duration(asked),
            limit=limit,
            report=report,
        )
        begun = time.perf_counter()
        scene.play(stage)
        return stage.outcome(time.perf_counter() - begun, login)


def promised(scene: Scene, outcome: Outcome, asked: int) -> tuple[int, int]:
    """Fewest and most token requests that are promised of a scene that took so long."""
    return scene.promised(int(outcome.seconds / (DUE * lifetime(asked))))


def broken_promises(scene: Scene, outcome: Outcome, asked: int) -> list[str]:
    """What is not as promised, a sentence each; empty: all is."""
    fewest, most = promised(scene, outcome, asked)
    title = scene.title
    broken = []
    if not fewest <= outcome.token_requests <= most:
        span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        broken.append(f"{title}: {outcome.token_requests} token requests, where {span} are promised.")
    if outcome.failed:
        broken.append(f"{title}: {outcome.failed} requests failed ({', '.join(outcome.troubles)}), where none may.")
    if outcome.family_alive is False:
        broken.append(f"{title}: the refresh token was revoked, where the login must survive.")
    return broken
