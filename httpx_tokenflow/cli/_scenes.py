"""The scenes, as data: what happens, on which server, and what is promised of ours.

Of ours it is promised that no request fails, that a login survives, how many token requests there are, and in some
scenes how often an event is told. Of the other side nothing is promised; the table says what happened. Nor is anything
promised of latencies: they are shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from httpx_tokenflow.events import SecretFellBack, TokenRenewed, Waited

from . import _plays
from ._sides import HANDWRITTEN, HANDWRITTEN_KEYS, OUR_KEYS, OURS, Side
from ._stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from httpx_tokenflow.events import Event

    from ._outcome import Outcome
    from ._server import Server

__all__ = ["SCENES", "Scene", "broken_promises", "perform", "promised"]

LATENCY = 0.05  # seconds that the token endpoint takes
WAITING = 50  # callers behind the one who hangs up
DUE = 0.8  # of a short token's lifetime: then it is renewed
ATTEMPTS = 3  # token requests of one renewal, at most


def duration(requests: int) -> float:
    """Seconds that a stream of requests goes on; a small demo is also a short one."""
    return min(2.6, max(1.6, requests / 200))


def lifetime(requests: int) -> float:
    """Seconds that a short token lives: a stream outlives two of them."""
    return 0.5 * duration(requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One scene.

    Attributes:
        lines: what happens, in two short lines.
        play: how it is played.
        promised: fewest and most token requests, for a number of expiries, if tokens are short; else of seconds.
        requests: how many requests it has, of so many that were asked for.
        seconds: how long its stream goes on; None: as long as `duration` says.
        server: arguments of the sandbox.
        path: where the requests go.
        short: tokens live for a few seconds only.
        login: it begins with a login, and a refresh token that rotates; otherwise the grant is client credentials.
        told: how often events are told.
        drawn: the latencies are drawn.
        ours: who plays it for us.
        by_hand: who plays it for the other side.
    """

    lines: tuple[str, str]
    play: Callable[[Stage], None]
    promised: Callable[[int], tuple[int, int]]
    requests: Callable[[int], int] = int
    seconds: float | None = None
    server: dict[str, Any] = field(default_factory=dict)
    path: str = "/api/thing"
    short: bool = False
    login: bool = False
    told: Mapping[type[Event], int] = field(default_factory=dict)
    drawn: bool = False
    ours: Side = OURS
    by_hand: Side = HANDWRITTEN

    @property
    def title(self) -> str:
        """What happens, in one line."""
        return " ".join(self.lines)


def _some(asked: int) -> int:
    """For a stream of a second or two: enough that something is always on its way, and no more than we can send."""
    return min(200, max(60, asked // 5))


SCENES = (
    Scene(
        lines=("all at once,", "without a token"),
        play=_plays.all_at_once,
        promised=lambda _: (1, 1),
    ),
    Scene(
        lines=("tokens expire", "in a stream"),
        play=_plays.across_expiries,
        promised=lambda expiries: (expiries, expiries + 2),  # the first, and one for each; give or take one
        requests=lambda asked: asked // 2,
        short=True,
    ),
    Scene(
        lines=("all at once, their", "token just revoked"),
        play=_plays.all_revoked,
        promised=lambda _: (1, 1),
        login=True,
    ),
    Scene(
        lines=("the one who renews", "hangs up, others wait"),
        play=_plays.leader_hangs_up,
        promised=lambda _: (1, 1),
        requests=lambda asked: min(WAITING, asked // 2),
        login=True,
    ),
    Scene(
        lines=("rotation, a stream,", "expiries and storms"),
        play=_plays.rotation_under_all,
        promised=lambda expiries: (2, expiries + 3),  # one for each storm, and at most one for each expiry
        requests=lambda asked: asked // 2,
        server={"newest_only": True},
        short=True,
        login=True,
    ),
    Scene(
        lines=("threads, two asyncio", "loops, trio, together")
        if _plays.HAS_TRIO
        else ("threads, two asyncio", "loops, together"),
        play=_plays.everywhere,
        promised=lambda _: (1, 1),
        requests=lambda asked: asked // 4,
        server={"latency": 2 * LATENCY},
        login=True,
    ),
    Scene(
        lines=("no token server, for", "a while; token good"),
        play=_plays.outage,
        # The first, one in vain, the next; at most an early renewal in vain, one when it is due, and one each second.
        promised=lambda seconds: (3, 2 + ATTEMPTS * (2 + seconds)),
        requests=_some,
        seconds=1.7,
        server={"lifetime": 120},
        told={TokenRenewed: 1},
    ),
    Scene(
        lines=("a roll-over", "under steady load"),
        play=_plays.roll_over,
        promised=lambda _: (2, 2),
        requests=_some,
        seconds=1.0,
        told={TokenRenewed: 1, Waited: 0},
        drawn=True,
    ),
    Scene(
        lines=("a key is retired", "under steady load"),
        play=_plays.key_retired,
        promised=lambda _: (0, 0),
        requests=lambda asked: _some(asked) // 2,
        seconds=0.4,
        server={"api_latency": LATENCY},
        path="/api-key/thing",
        told={SecretFellBack: 1},
        ours=OUR_KEYS,
        by_hand=HANDWRITTEN_KEYS,
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
        stage = Stage(
            sandbox,
            side,
            login=sandbox.login() if scene.login else None,
            path=scene.path,
            latency=settings["latency"],
            requests=scene.requests(asked),
            seconds=scene.seconds or duration(asked),
            limit=limit,
            report=report,
        )
        begun = time.perf_counter()
        scene.play(stage)
        return stage.outcome(time.perf_counter() - begun)


def promised(scene: Scene, outcome: Outcome, asked: int) -> tuple[int, int]:
    """Fewest and most token requests that are promised of a scene that took so long."""
    return scene.promised(int(outcome.seconds / (DUE * lifetime(asked) if scene.short else 1)))


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
    for kind, times in scene.told.items():
        if (told := len(outcome.told_of(kind))) != times:
            broken.append(f"{title}: {kind.__name__} was told {told} times, where {times} are promised.")
    return broken
