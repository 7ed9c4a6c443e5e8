"""Which requests of a soak should not have failed, and what else is wrong. Pure: it is given what happened.

Rules.

1. A request that got its 200 in time is right. Every other one is wrong, unless what happened to it excuses just that:

   cancelled   we cancelled it, gave it too little time, or closed its client under it: then it ended by that, and
               within `ENDS_WITHIN` (a thread does not notice that its socket was closed under it: there `HUNG` is all
               there is). What ended in another error all the same is judged by that error.
   network     it failed with an error of the HTTP library itself, and a fault of the network between clients and API
               was on at that time.
   no token    it failed with `TokenEndpointUnavailable`: its token endpoint, or the network before it, was out of order
               at that time or no longer than `AFTER` before, and the process had no good token.
   no store    it failed with `StoreError`: it is of a session that is kept in the store, the store, or the network
               before it, was out of order at that time or no longer than `AFTER` before, and the process had no good
               token. Client credentials are never excused for a store.
   refused     it got a 401: the last token that it carried had been revoked, or had ended on its way through a network
               that was slow, or while its process stood still; and it had carried another before, so that one renewal
               could not help, or another was refused to the same process from `TWICE` before it, or since the API last
               accepted a new one, so that the breaker was open.
   suspended   it ended in a time limit, or in one of the two errors above, and its process stood still meanwhile.
   busy        the same, or a 401 for a token that had ended on its way, and the machine was so busy that a probe, a
               plain request of the parent's to its own server, took longer than `BUSY`. A quiet machine has none.

2. A process has a good token if the API has accepted one from it, for the same session, before that request began,
   and that token neither ended nor was revoked until `MARGIN` after that. What is still good must have been sent.
3. "Log in again", a configuration error, or any error that is not named above is wrong, whatever the faults: no
   session is ever lost, since no answer to its refresh token is lost (but see `authority`).
4. A request that took longer than `HUNG`, without the time that its process stood still, has hung, however it ended.
5. A refresh token that is presented again is wrong unless the answer to its first time was lost. A family revoked is
   wrong.
6. Where nothing was wrong for `CALM`, no token is renewed younger than `YOUNGEST` of its lifetime: neither twice for
   one roll-over, nor too often. No server is asked more often than `HAMMER` times in a second by one process.
7. A process is flat if, over the second half, the straight line through its samples does not rise by more than
   `MEMORY` or `BLOCKS`. Nothing that it had not at the start is left: no file descriptor, thread or task.
8. An ERROR in a log, a warning of a resource, or an exception that nobody took is wrong. But httpx itself may leave a
   socket to the collector when its client is closed under a request, so those go to an address of their own, "doomed";
   and on trio the generator of a body, when a request is cancelled. These are counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ENDS_WITHIN = 5.0  # seconds: no answer and no server is waited for, but the machine may be busy
AFTER = 12.0  # seconds: pauses after failures double from one, and no outage is longer than eight
TWICE = 12.0  # seconds
MARGIN = 1.0  # seconds: what is on its way, and rounding; tokens of 15 s (dpop) are due for longer than that
HUNG = 45.0  # seconds: the budget of a session's renewal, and the lease of another, which may be suspended
BUSY = 0.25  # seconds, of which a quiet machine needs a hundredth
SLACK = 1.0  # seconds by which an error may be seen after the fault that led to it
CALM = 12.0  # seconds
YOUNGEST = 0.65  # of the lifetime; it is early at 0.75
HAMMER = 6  # three attempts of one renewal, and as many of the next
MEMORY = 4 * 2**20  # bytes resident
BLOCKS = 3_000  # of Python's allocator: a request that left one behind would leave more than that

TIME_LIMITS = frozenset({"ReadTimeout", "ConnectTimeout", "WriteTimeout", "PoolTimeout"})


@dataclass(frozen=True)
class Outcome:
    """A request that did not simply get its 200.

    Args:
        process: who sent it.
        auth: with which auth object.
        number: its own, in that process.
        began: monotonic seconds, as all times here.
        ended: when it ended.
        what: "200" or another status, "cancelled", or the name of the error's class.
        is_ours: the error is a `TokenFlowError`.
        is_transport: the error is an error of the HTTP library.
        cut: when we cancelled it, or when its little time was over; None: we did not.
        closed: we closed its client under it.
        detail: the error's words.
    """

    process: str
    auth: str
    number: int
    began: float
    ended: float
    what: str
    is_ours: bool = False
    is_transport: bool = False
    cut: float | None = None
    closed: bool = False
    detail: str = ""


@dataclass(frozen=True)
class Span:
    """Something that went wrong: a fault, at `target`, from `start` to `end`."""

    kind: str
    target: str
    start: float
    end: float


@dataclass
class Accepted:
    """An access token that the API accepted from a process: since when it has been known there, and its end."""

    since: float
    until: float  # when it ended, or was revoked


@dataclass
class World:
    """What happened, as the servers and the fault machine know it.

    Args:
        spans: what went wrong. Targets are "api", "store", "token" (all), "token <auth>", "revoked", "process <name>",
            "machine".
        accepted: (process, auth) -> the access tokens that the API accepted, in order.
        refused: (process, auth, number) -> why the API refused that request last: "revoked", "ended" or another word.
        carried: (process, auth, number) -> the access tokens of that request that the API refused.
        refusals: (process, auth) -> when the API first refused each access token from it.
        stored: the auths that keep a session in the store.
    """

    spans: list[Span] = field(default_factory=list)
    accepted: dict[tuple[str, str], list[Accepted]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[tuple[str, str, int], str] = field(default_factory=dict)
    carried: dict[tuple[str, str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    refusals: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    stored: frozenset[str] = frozenset()

    def during(self, targets: Iterable[str], start: float, end: float) -> list[Span]:
        """What went wrong there between `start` and `end`."""
        wanted = frozenset(targets)
        return [one for one in self.spans if one.target in wanted and one.start <= end and one.end >= start]

    def had_good_token(self, one: Outcome) -> bool:
        """Rule 2."""
        known = self.accepted.get((one.process, one.auth), [])
        return any(token.since < one.began and token.until > one.ended + MARGIN for token in known)

    def standstill(self, one: Outcome) -> float:
        """Seconds for which its process stood still meanwhile."""
        spans = self.during([f"process {one.process}"], one.began, one.ended)
        return sum(min(span.end, one.ended) - max(span.start, one.began) for span in spans)


@dataclass(frozen=True)
class Verdict:
    """Whether a request is right, and why."""

    wrong: bool
    cause: str


def judge(one: Outcome, world: World) -> Verdict:
    """Rules 1 to 4."""
    verdict, still = _judge(one, world), world.standstill(one)
    if not verdict.wrong or one.what == "200" or one.ended - one.began - still > HUNG:
        return verdict
    if not world.during(["machine"], one.began - SLACK, one.ended) or not _may_be_slowness(one, world):
        return verdict
    return Verdict(False, "busy")


def _may_be_slowness(one: Outcome, world: World) -> bool:
    if one.what == "401":
        return world.refused.get((one.process, one.auth, one.number)) == "ended"
    if one.what == "StoreError":
        return one.auth in world.stored and not world.had_good_token(one)
    if one.what == "TokenEndpointUnavailable":
        return not world.had_good_token(one)
    return one.what in TIME_LIMITS or one.what == "cancelled"


def _judge(one: Outcome, world: World) -> Verdict:  # noqa: PLR0911 - a table
    still = world.standstill(one)
    if one.ended - one.began - still > HUNG:
        return Verdict(True, f"hung for {one.ended - one.began:.1f} s")
    if one.what == "200":
        return Verdict(False, "200")
    if one.cut is not None and _ended_by_us(one):
        late = one.ended - one.cut - still
        if late > ENDS_WITHIN and not one.closed:
            return Verdict(True, f"cancelled, {late:.1f} s late")
        return Verdict(False, "cancelled")
    if one.what == "401":
        return _judge_401(one, world)
    if one.what == "TokenEndpointUnavailable":
        return _judge_lack(one, world, ("token", f"token {one.auth}"), "no token", still)
    if one.what == "StoreError":
        if one.auth not in world.stored:
            return Verdict(True, "StoreError, of what is not kept in the store")
        return _judge_lack(one, world, ("store",), "no store", still)
    if one.is_transport and not one.is_ours:
        if world.during(["api"], one.began - SLACK, one.ended + SLACK):
            return Verdict(False, "network")
        if still and one.what in TIME_LIMITS:
            return Verdict(False, "suspended")
    return Verdict(True, one.what)


def _ended_by_us(one: Outcome) -> bool:
    if one.what == "cancelled":
        return True
    return not one.is_ours and not one.what.isdigit() and (one.closed or one.what in TIME_LIMITS)


def _judge_401(one: Outcome, world: World) -> Verdict:
    why = world.refused.get((one.process, one.auth, one.number), "nobody knows why")
    slow = world.during(["api", f"process {one.process}"], one.began - SLACK, one.ended)
    if why != "revoked" and not (why == "ended" and slow):
        return Verdict(True, f"401: {why}")
    was_twice = len(world.carried.get((one.process, one.auth, one.number), ())) >= 2
    times = world.refusals.get((one.process, one.auth), [])
    known = [token.since for token in world.accepted.get((one.process, one.auth), []) if token.since < one.began]
    start = min(one.began - TWICE, max(known, default=one.began))  # what opened it may be long ago: nothing closed it
    is_open = sum(start <= at <= one.ended for at in times) >= 2
    if was_twice or is_open:
        return Verdict(False, "refused")
    return Verdict(True, f"401: {why}, and no other token was refused")


def _judge_lack(one: Outcome, world: World, targets: tuple[str, ...], cause: str, still: float) -> Verdict:
    if world.had_good_token(one):
        return Verdict(True, f"{one.what}, with a token that was good")
    if world.during(targets, one.began - AFTER, one.ended):
        return Verdict(False, cause)
    return Verdict(not still, "suspended" if still else f"{one.what}, and nothing was out of order")


@dataclass(frozen=True)
class Minted:
    """An access token that the token endpoint gave out.

    Args:
        whose: the session or the client, one for all who share it.
        at: when.
        lifetime: seconds.
        was_refused: its predecessor had been refused: another may come at any time.
    """

    whose: str
    at: float
    lifetime: float
    was_refused: bool = False


def too_early(minted: Sequence[Minted], spans: Sequence[Span]) -> list[str]:
    """Rule 6: tokens that came too soon after the one before, where nothing was wrong."""
    found, last = [], dict[str, Minted]()
    starts = sorted((span for span in spans if span.target != "revoked"), key=lambda span: span.start)
    moments = [span.start for span in starts]
    for one in sorted(minted, key=lambda one: one.at):
        before, last[one.whose] = last.get(one.whose), one
        if before is None or one.was_refused:
            continue
        age = one.at - before.at
        if age >= YOUNGEST * before.lifetime:
            continue
        near = starts[: bisect_left(moments, one.at)]
        if not any(span.end > before.at - CALM for span in near):
            found.append(f"{one.whose}: a token after {age:.2f} s of {before.lifetime:g} s, in a calm")
    return found


def hammered(asked: Sequence[tuple[float, str]], processes: dict[str, int]) -> list[str]:
    """Rule 6: `asked` is when, and by which client; `processes` is how many share that client."""
    found, recent = {}, defaultdict[str, list[float]](list)
    for at, whose in sorted(asked):
        times = recent[whose] = [one for one in recent[whose] if one > at - 1.0] + [at]
        most = HAMMER * processes.get(whose, 1)
        if len(times) > most:
            found[whose] = max(found.get(whose, 0), len(times))
    return [f"{whose}: {times} token requests in a second" for whose, times in found.items()]


def rise(samples: Sequence[tuple[float, float]]) -> float:
    """By how much the straight line through the second half of `samples` (time, figure) rises over that half."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return 0.0
    mean_x = sum(x for x, _ in half) / len(half)
    mean_y = sum(y for _, y in half) / len(half)
    square = sum((x - mean_x) ** 2 for x, _ in half)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in half) / square if square else 0.0
    return slope * (half[-1][0] - half[0][0])


def not_flat(samples: Sequence[dict[str, Any]]) -> list[str]:
    """Rule 7, of one process."""
    bytes_more = rise([(one["t"], one["rss"]) for one in samples])
    blocks_more = rise([(one["t"], one["blocks"]) for one in samples])
    found = []
    if bytes_more > MEMORY:
        found.append(f"memory rises by {bytes_more / 2**20:.1f} MiB in the second half")
    if blocks_more > BLOCKS:
        found.append(f"{blocks_more:.0f} more blocks of memory in the second half")
    return found
