"""Thousands of callers at once, and one token: how many token requests, who fails, and what it costs.

    python benchmarks/storms.py [--json] [--tasks 5000] [--repeat 3] [--timeout 60] [--seed 0]

Rules.

1. The floor is the client without any coordination (`_contenders.floor`), the server is as lean as can be (`_server`):
   what is left is what the contender adds.
2. In each turn a contender and the floor of its library meet the storm one right after the other, in an order that the
   seed decides, so that a busy machine hinders both. A number is the median of the ratios. In each repetition
   everybody has one turn, in an order that the seed decides, too.
3. Each turn is a process of its own, with small storms first to warm up: nobody inherits a cache. Who comes to no end
   in time is ended, and has no more turns.
4. Token requests and failures are the worst of the repetitions. A failure is whatever is not a 200.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import random
import statistics
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from _contenders import CONTENDERS, CREDENTIALS, EXPIRED, FLOOR, NO_TOKEN, REFRESH, REFUSED
from _report import Report
from _storm import ASYNCIO, THREAD_COUNT, THREADS, TRIO, Outcome, Turn, storm

if TYPE_CHECKING:
    from collections.abc import Iterator

    Pairs = list[tuple[Outcome, Outcome]]  # a contender's outcome and the floor's, for each repetition

CASES, RUNTIMES = (NO_TOKEN, EXPIRED, REFUSED), (ASYNCIO, TRIO, THREADS)
WARM_UP = 200  # callers
BAR = 1.3

NOTES = """\
token requests, failed: the worst of {repeat} repetitions. wall, cpu: the medians of the ratios to the floor, which met
the same storm right before or after, in the same process, with the same library. What the wall clock says depends on
what else the machine does; what the processor's says, less so.
{tasks:,} requests, all at once (in threads: {threads}, with their share one after the other); a token request takes
{latency:g} s; all is in memory.
Floor: a client with a static header, which sends each request once. In `every 401` it is an auth that knows the good
token beforehand: it sends the old one, on a 401 the good one, and coordinates nothing. There the API answers nobody
before all callers (in threads: the first request of each) have come with the old token.
Our bar: 1 token request, none failed: {right} of {rows} rows.
Our bar, {bar} times the floor at most: {wall} of {rows} by the wall clock, {cpu} by the processor's.
"""


# One turn


def _take_turn(there: Any, order: list[Turn], tasks: int, latency: float) -> None:
    logging.getLogger().addHandler(logging.NullHandler())  # no warnings among the lines of the table
    for turn in order:
        storm(turn, WARM_UP, latency)
    outcomes = []
    for turn in order:
        gc.collect()
        outcomes.append(storm(turn, tasks, latency))
    there.send(outcomes)


def measure(turn: Turn, args: argparse.Namespace, dice: random.Random) -> tuple[Outcome, Outcome]:
    """One turn in a process of its own, which is ended when the time is over: the contender's outcome, the floor's."""
    order = [turn, replace(turn, contender=FLOOR)]
    dice.shuffle(order)
    context: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_take_turn, args=(there, order, args.tasks, args.latency))
    process.start()
    there.close()
    try:
        outcomes = here.recv() if here.poll(args.timeout) else [_no_end(f"no end in {args.timeout:g} s", args)] * 2
    except EOFError:
        outcomes = [_no_end("its process died", args)] * 2
    finally:
        process.kill()
        process.join()
    ours = order.index(turn)
    return outcomes[ours], outcomes[1 - ours]


def _no_end(how: str, args: argparse.Namespace) -> Outcome:
    return Outcome(None, 0.0, 0, Counter({how: args.tasks}))


def turns(case: str, runtime: str) -> Iterator[Turn]:
    """Who meets one case in one runtime: everybody, with each grant that makes a difference."""
    for name, contender in CONTENDERS.items():
        if name == FLOOR:
            continue
        if case == REFUSED and not contender.renews_on_401:
            yield Turn(case, runtime, name, "either", contender.library)
            continue
        yield Turn(case, runtime, name, CREDENTIALS, contender.library)
        if case != NO_TOKEN:  # to have a refresh token and no access token is to have an expired one
            yield Turn(case, runtime, name, REFRESH, contender.library)


def repetitions(case: str, runtime: str, args: argparse.Namespace, dice: random.Random) -> dict[Turn, Pairs]:
    pairs: dict[Turn, Pairs] = {turn: [] for turn in turns(case, runtime)}
    for _ in range(args.repeat):
        order = [turn for turn, so_far in pairs.items() if all(ours.wall is not None for ours, _ in so_far)]
        dice.shuffle(order)
        for turn in order:
            pairs[turn].append(measure(turn, args, dice))
    return pairs


# The table


def rows(pairs: dict[Turn, Pairs]) -> Iterator[dict[str, Any]]:
    """The floors' rows, then everybody's."""
    first = next(iter(pairs))
    for library in sorted({turn.library for turn in pairs}):
        floors = [floor for turn, done in pairs.items() if turn.library == library for _, floor in done if floor.wall]
        if floors:
            turn = replace(first, contender=f"{FLOOR}, {library}", grant="", library=library)
            seconds = statistics.median(floor.wall or 0 for floor in floors)
            yield _row(turn, [(floor, floor) for floor in floors], f"{seconds:.2f} s")
    for turn, done in pairs.items():
        yield _row(turn, done, _note(turn, done))


def _row(turn: Turn, pairs: Pairs, note: str) -> dict[str, Any]:
    ended = all(ours.wall is not None for ours, _ in pairs)
    return {
        "case": turn.case,
        "runtime": turn.runtime,
        "contender": turn.contender,
        "grant": turn.grant,
        "token_requests": max(ours.token_requests for ours, _ in pairs) if ended else None,
        "failed": max(ours.failed for ours, _ in pairs),
        "wall": statistics.median(ours.wall / floor.wall for ours, floor in pairs) if ended else None,
        "cpu": statistics.median(ours.cpu / floor.cpu for ours, floor in pairs) if ended else None,
        "wall_seconds": [ours.wall for ours, _ in pairs],
        "note": note,
    }


def _note(turn: Turn, pairs: Pairs) -> str:
    worst = max((ours for ours, _ in pairs), key=lambda ours: (ours.wall is None, ours.failed))
    remarks = CONTENDERS[turn.contender].remarks
    failures = [f"{what} ({count:,})" for what, count in worst.answers.most_common(3) if what != "200"]
    return "; ".join([text for key, text in remarks.items() if key in {turn.case, turn.grant}] + failures)


def report(found: list[dict[str, Any]], args: argparse.Namespace) -> Report:
    ours = [row for row in found if row["contender"] == "tokenflow"]
    right = [row for row in ours if (row["token_requests"], row["failed"]) == (1, 0)]
    held = {clock: sum(row[clock] <= BAR for row in right) for clock in ("wall", "cpu")}
    settings = {**vars(args), "threads": THREAD_COUNT, "bar": BAR}
    names = "case", "runtime", "contender", "grant"
    return Report(
        title="Storms: many callers at once, one token to be had",
        columns=(*names, "token requests", "failed", "wall ÷ floor", "cpu ÷ floor", "note"),
        rows=[_cells(row) for row in found],
        notes=NOTES.format(**settings, **held, right=len(right), rows=len(ours)).splitlines(),
        data={"settings": settings, "rows": found},
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    names = row["case"], row["runtime"], row["contender"], row["grant"]
    counts = ("-" if row[key] is None else f"{row[key]:,}" for key in ("token_requests", "failed"))
    ratios = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("wall", "cpu"))
    return (*names, *counts, *ratios, row["note"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Thousands of callers at once, and one token.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--tasks", type=int, default=5000, help="requests in a storm (default: %(default)s)")
    add("--repeat", type=int, default=3, help="repetitions (default: %(default)s)")
    add("--timeout", type=float, default=60.0, help="seconds for one turn (default: %(default)s)")
    add("--latency", type=float, default=0.02, help="seconds that a token request takes (default: %(default)s)")
    add("--seed", type=int, default=0, help="decides the order of turns (default: %(default)s)")
    args = parser.parse_args()
    dice = random.Random(args.seed)
    gc.freeze()
    found = [row for case in CASES for runtime in RUNTIMES for row in rows(repetitions(case, runtime, args, dice))]
    report(found, args).show(as_json=args.json)


if __name__ == "__main__":
    main()
