"""Thousands of callers at once, and one token: how many token requests, who fails, and what it costs.

    python benchmarks/storms.py [--json] [--tasks 5000] [--repeat 3] [--timeout 60] [--seed 0]

Rules.

1. The floor is the client without any coordination (`_contenders.floor`), the server is as lean as can be (`_server`):
   what is left is what the contender adds.
2. A number is a ratio to the floor of the same library in the same repetition, and the median over the repetitions, in
   each of which everybody has one turn, in an order that the seed decides. Beside it, the best over the floor's best.
3. Each turn is a process of its own, with a small storm first to warm up: nobody inherits a cache, and who hangs is
   ended when the time is over and has no more turns.
4. Token requests and failures are the worst of the repetitions. A failure is whatever is not a 200.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import logging
import multiprocessing
import random
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import trio
from _contenders import CONTENDERS, CREDENTIALS, EXPIRED, NO_TOKEN, REFRESH, REFUSED, Setting
from _report import Report
from _server import API_URL, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

ASYNCIO, TRIO, THREADS = "asyncio", "trio", "100 threads"
CASES, RUNTIMES = (NO_TOKEN, EXPIRED, REFUSED), (ASYNCIO, TRIO, THREADS)
THREAD_COUNT = 100
WARM_UP = 200  # callers
BAR = 1.3

NOTES = """\
token requests, failed: the worst of {repeat} repetitions. wall ÷ floor: the median of the ratios within a repetition.
best ÷ best: the fastest repetition over the floor's fastest, which a busy machine disturbs less.
{tasks:,} requests, all at once (in threads: {threads}, with their share one after the other); a token request takes
{latency:g} s; all is in memory. Each contender is held against the floor of its own library.
Floor: a client with a static header, which sends each request once. In `every 401` it is an auth that knows the good
token beforehand: it sends the old one, on a 401 the good one, and coordinates nothing. There the API answers nobody
before all callers (in threads: the first request of each) have come with the old token.
Our bar: 1 token request, none failed: {right} of {rows} rows.
Our bar, {bar} times the floor at most: {median_ratio} of {rows} by the median, {best_ratio} by the best.
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender does in one process."""

    case: str
    runtime: str
    contender: str
    grant: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went; without `seconds`, it did not come to its end."""

    seconds: float | None
    token_requests: int
    answers: Counter[str]

    @property
    def failed(self) -> int:
        return self.answers.total() - self.answers["200"]


# One storm


def storm(turn: Turn, tasks: int, latency: float) -> Outcome:
    """Let a storm loose, in this process."""
    if turn.runtime == ASYNCIO:
        return asyncio.run(_async_storm(turn, tasks, latency))
    if turn.runtime == TRIO:
        return trio.run(_async_storm, turn, tasks, latency)
    return _thread_storm(turn, tasks, latency)


def _setting(turn: Turn, crowd: int, latency: float) -> Setting:
    is_async = turn.runtime != THREADS
    server = Server(latency=latency, crowd=crowd if turn.case == REFUSED else 0, is_async=is_async)
    library = import_module(CONTENDERS[turn.contender].library)
    return Setting(turn.case, turn.grant, is_async, server, library)


async def _async_storm(turn: Turn, tasks: int, latency: float) -> Outcome:
    setting = _setting(turn, tasks, latency)
    contender = CONTENDERS[turn.contender]
    client = contender.set_up(setting)
    answers: Counter[str] = Counter()

    async def caller() -> None:
        try:
            response = await client.get(API_URL)
        except Exception as error:  # noqa: BLE001 - whatever it raises is a failure to report
            answers[_described(error)] += 1
        else:
            answers[str(response.status_code)] += 1

    started = time.perf_counter()
    if inspect.isawaitable(first := contender.first(client, setting)):
        await first
    if turn.runtime == TRIO:
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(caller)
    else:
        await asyncio.gather(*(caller() for _ in range(tasks)))
    return Outcome(time.perf_counter() - started, setting.server.token_requests, answers)


def _thread_storm(turn: Turn, tasks: int, latency: float) -> Outcome:
    setting = _setting(turn, THREAD_COUNT, latency)
    contender = CONTENDERS[turn.contender]
    client = contender.set_up(setting)
    answers: list[Counter[str]] = []
    start = threading.Barrier(THREAD_COUNT + 1)

    def caller() -> None:
        mine: Counter[str] = Counter()
        start.wait()
        for _ in range(tasks // THREAD_COUNT):
            try:
                mine[str(client.get(API_URL).status_code)] += 1
            except Exception as error:  # noqa: BLE001 - whatever it raises is a failure to report
                mine[_described(error)] += 1
        answers.append(mine)

    threads = [threading.Thread(target=caller) for _ in range(THREAD_COUNT)]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    contender.first(client, setting)
    start.wait()
    for thread in threads:
        thread.join()
    return Outcome(time.perf_counter() - started, setting.server.token_requests, sum(answers, Counter()))


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:48].rstrip(": ")


# One turn


def _take_turn(there: Any, turn: Turn, tasks: int, latency: float) -> None:
    logging.getLogger().addHandler(logging.NullHandler())  # no warnings among the lines of the table
    storm(turn, WARM_UP, latency)
    gc.collect()
    there.send(storm(turn, tasks, latency))


def measure(turn: Turn, args: argparse.Namespace) -> Outcome:
    """One turn in a process of its own, which is ended when the time is over."""
    forks = "fork" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_take_turn, args=(there, turn, args.tasks, args.latency))
    process.start()
    there.close()
    try:
        if here.poll(args.timeout):
            return here.recv()
        return Outcome(None, 0, Counter({"hangs": args.tasks}))
    except EOFError:
        return Outcome(None, 0, Counter({"its process died": args.tasks}))
    finally:
        process.kill()
        process.join()


def turns(case: str, runtime: str) -> Iterator[Turn]:
    """Who meets one case in one runtime: the floors, and everybody with each grant that makes sense."""
    for name in CONTENDERS:
        if name.startswith("floor"):
            yield Turn(case, runtime, name, "")
            continue
        yield Turn(case, runtime, name, CREDENTIALS)
        if case != NO_TOKEN:  # to have a refresh token and no access token is to have an expired one
            yield Turn(case, runtime, name, REFRESH)


def repetitions(case: str, runtime: str, args: argparse.Namespace, dice: random.Random) -> dict[Turn, list[Outcome]]:
    outcomes: dict[Turn, list[Outcome]] = {turn: [] for turn in turns(case, runtime)}
    for _ in range(args.repeat):
        order = [turn for turn, so_far in outcomes.items() if all(one.seconds is not None for one in so_far)]
        dice.shuffle(order)
        for turn in order:
            outcomes[turn].append(measure(turn, args))
    return outcomes


# The table


def rows(outcomes: dict[Turn, list[Outcome]]) -> Iterator[dict[str, Any]]:
    floors = {CONTENDERS[turn.contender].library: done for turn, done in outcomes.items() if _is_floor(turn)}
    for turn, done in outcomes.items():
        floor = floors[CONTENDERS[turn.contender].library]
        worst = max(done, key=lambda one: (one.seconds is None, one.failed))
        ended = all(one.seconds is not None for one in (*done, *floor))
        yield {
            "case": turn.case,
            "runtime": turn.runtime,
            "contender": turn.contender,
            "grant": turn.grant,
            "token_requests": max(one.token_requests for one in done) if ended else None,
            "failed": worst.failed,
            "median_ratio": _median_ratio(done, floor) if ended else None,
            "best_ratio": _best(done) / _best(floor) if ended else None,
            "seconds": [one.seconds for one in done],
            "note": _note(turn, done, worst),
        }


def _is_floor(turn: Turn) -> bool:
    return turn.contender.startswith("floor")


def _median_ratio(done: list[Any], floor: list[Any]) -> float:
    return statistics.median(one.seconds / other.seconds for one, other in zip(done, floor, strict=True))


def _best(done: list[Any]) -> float:
    return min(one.seconds for one in done)


def _note(turn: Turn, done: list[Outcome], worst: Outcome) -> str:
    if _is_floor(turn):
        return f"{statistics.median(one.seconds or 0 for one in done):.2f} s"
    remarks = CONTENDERS[turn.contender].remarks
    failures = [f"{what} ({count:,})" for what, count in worst.answers.most_common(3) if what != "200"]
    return "; ".join([text for key, text in remarks.items() if key in {turn.case, turn.grant}] + failures)


def report(found: list[dict[str, Any]], args: argparse.Namespace) -> Report:
    ours = [row for row in found if row["contender"] == "tokenflow"]
    right = [row for row in ours if (row["token_requests"], row["failed"]) == (1, 0)]
    held = {key: sum(row[key] <= BAR for row in right) for key in ("median_ratio", "best_ratio")}
    settings = {**vars(args), "threads": THREAD_COUNT, "bar": BAR}
    return Report(
        title="Storms: many callers at once, one token to be had",
        columns=(
            "case",
            "runtime",
            "contender",
            "grant",
            "token requests",
            "failed",
            "wall ÷ floor",
            "best ÷ best",
            "note",
        ),
        rows=[_cells(row) for row in found],
        notes=NOTES.format(**settings, **held, right=len(right), rows=len(ours)).splitlines(),
        data={"settings": settings, "rows": found},
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    names = row["case"], row["runtime"], row["contender"], row["grant"]
    counts = ("-" if row[key] is None else f"{row[key]:,}" for key in ("token_requests", "failed"))
    ratios = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("median_ratio", "best_ratio"))
    return (*names, *counts, *ratios, row["note"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Thousands of callers at once, and one token.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--tasks", type=int, default=5000, help="requests in a storm (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one turn (default: %(default)s)")
    parser.add_argument(
        "--latency", type=float, default=0.02, help="seconds for a token request (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the order of turns (default: %(default)s)")
    args = parser.parse_args()
    dice = random.Random(args.seed)
    gc.freeze()
    found = [row for case in CASES for runtime in RUNTIMES for row in rows(repetitions(case, runtime, args, dice))]
    report(found, args).show(as_json=args.json)


if __name__ == "__main__":
    main()
