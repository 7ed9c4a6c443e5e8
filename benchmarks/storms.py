"""Thousands of callers at once, and one token: how many token requests, who fails, and what it costs.

    python benchmarks/storms.py [--json] [--quick] [--sizes 100 1000 5000] [--repeat 3] [--timeout 30] [--seed 0]

Rules.

1. The floor is the client without any coordination (`_contenders.floor`), the server is as lean as can be (`_server`):
   what is left is what the contender adds.
2. In each turn a contender and the floor of its library meet the storm one right after the other, in an order that the
   seed decides, so that a busy machine hinders both. A number is the median of the ratios. In each repetition
   everybody has one turn, in an order that the seed decides, too.
3. Each turn is a process of its own, with small storms first to warm up, and then one storm of each size: nobody
   inherits the cache of another. As many turns as there are cores are taken at a time, each on its own core. Who comes
   to no end in time is ended, and has no more turns.
4. Whose storm takes long, together with its floor's, has one of that size and not more; we have all.
5. Token requests and failures are the worst of the repetitions. A failure is whatever is not a 200.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import statistics
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from _apart import apart, lanes
from _contenders import CONTENDERS, FLOOR, US
from _report import Bar, Report, span
from _setting import CREDENTIALS, EXPIRED, NO_TOKEN, REFRESH, REFUSED
from _storm import ASYNCIO, THREAD_COUNT, THREADS, TRIO, Outcome, Turn, storm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    Pairs = list[tuple[Outcome, Outcome]]  # a contender's outcome and the floor's, for each repetition
    Measured = dict[Turn, dict[int, Pairs]]  # by size

CASES, RUNTIMES = (NO_TOKEN, EXPIRED, REFUSED), (ASYNCIO, TRIO, THREADS)
WARM_UP = 100  # callers
LONG = 0.5  # seconds, of rule 4
BAR = 1.3

NOTES = """\
wall ÷ floor, and in brackets the processor's time ÷ floor's: medians of {repeat} repetitions. The floor met the same
storm right before or after, in the same process, with the same library. What the wall clock says depends on what else
the machine does; what the processor's says, less so. A peer whose storm and its floor's took more than {long:g} s has
one repetition of that size.
token requests, failed: the worst of the repetitions, for {sizes} callers; one number where all are the same.
All at once (in threads: {threads}, with their share one after the other); a token request takes {latency:g} s; all is
in memory.
Floor: a client with a static header, which sends each request once. In `every 401` it is one that knows the good
token beforehand: it sends the old one, on a 401 the good one, and coordinates nothing. There the API answers nobody
before all callers (in threads: the first request of each) have come with the old token; mcp's, which sends one request
at a time, it answers at once."""


# One turn


def _take_turn(tell: Callable[[Any], None], order: list[Turn], sizes: list[int], latency: float) -> None:
    logging.getLogger().addHandler(logging.NullHandler())  # no warnings among the lines of the table
    for turn in order:
        storm(turn, WARM_UP, latency)
    for size in sizes:
        outcomes = []
        for turn in order:
            gc.collect()
            outcomes.append(storm(turn, size, latency))
        tell(outcomes)


def measure(turn: Turn, sizes: list[int], args: argparse.Namespace, *, floor_first: bool) -> Pairs:
    """One turn: the contender's outcome and the floor's, size by size, until it comes to no end."""
    order = [turn, replace(turn, contender=FLOOR)][:: -1 if floor_first else 1]
    work = partial(_take_turn, order=order, sizes=sizes, latency=args.latency)
    pairs: Pairs = []
    try:
        for outcomes in apart(work, timeout=args.timeout, count=len(sizes)):
            first, second = outcomes
            pairs.append((second, first) if floor_first else (first, second))
    except (TimeoutError, ChildProcessError) as error:
        end = _no_end(str(error), sizes[len(pairs)])
        pairs.append((end, end))
    return pairs


def _no_end(how: str, size: int) -> Outcome:
    return Outcome(None, 0.0, 0, Counter({how: size}))


def turns(case: str, runtime: str) -> Iterator[Turn]:
    """Who meets one case in one runtime: everybody who can, with each grant that makes a difference."""
    for name, contender in CONTENDERS.items():
        if name == FLOOR or (contender.sync_only and runtime != THREADS):
            continue
        if case == REFUSED and not contender.renews_on_401:
            yield Turn(case, runtime, name, "either", contender.library, name)
            continue
        yield Turn(case, runtime, name, CREDENTIALS, contender.library, name)
        if case != NO_TOKEN:  # to have a refresh token and no access token is to have an expired one
            yield Turn(case, runtime, name, REFRESH, contender.library, name)


def repetitions(case: str, runtime: str, args: argparse.Namespace, dice: random.Random, pool: Executor) -> Measured:
    found: Measured = {turn: defaultdict(list) for turn in turns(case, runtime)}
    for number in range(args.repeat):
        print(f"\r{case}, {runtime}, {number + 1} of {args.repeat} …", end="\033[K", file=sys.stderr)
        order = list(found)
        dice.shuffle(order)
        taken = {}
        for turn in order:
            if sizes := _left(turn, found[turn], args.sizes) if number else args.sizes:
                taken[turn] = sizes, pool.submit(measure, turn, sizes, args, floor_first=dice.random() < 0.5)
        for turn, (sizes, pairs) in taken.items():
            for size, pair in zip(sizes, pairs.result(), strict=False):  # fewer if it came to no end
                found[turn][size].append(pair)
    print("\r", end="\033[K", file=sys.stderr)
    return found


def _left(turn: Turn, so_far: dict[int, Pairs], sizes: list[int]) -> list[int]:
    """Of which sizes there is to be another storm (rules 3 and 4)."""
    if any(ours.wall is None for pairs in so_far.values() for ours, _ in pairs):
        return []
    longest = {size: max((ours.wall or 0) + (floor.wall or 0) for ours, floor in so_far[size]) for size in sizes}
    return [size for size in sizes if turn.contender == US or longest[size] < LONG]


# What came of it


def rows(found: Measured) -> Iterator[dict[str, Any]]:
    """The floors' rows, then everybody's, each with one for each size."""
    first = next(iter(found))
    for library in sorted({turn.library for turn in found}):
        floors: dict[int, Pairs] = defaultdict(list)
        for turn, by_size in found.items():
            for size, pairs in by_size.items() if turn.library == library else ():
                floors[size] += [(floor, floor) for _, floor in pairs if floor.wall]
        turn = replace(first, contender=f"{FLOOR}, {library}", grant="", library=library)
        for size, pairs in floors.items():
            if pairs:
                seconds = statistics.median(floor.wall or 0 for floor, _ in pairs)
                yield _row(turn, size, pairs, f"{seconds:.3f} s")
    for turn, by_size in found.items():
        for size, pairs in by_size.items():
            yield _row(turn, size, pairs, _note(turn, pairs))


def _row(turn: Turn, size: int, pairs: Pairs, note: str) -> dict[str, Any]:
    ended = all(ours.wall is not None for ours, _ in pairs)
    return {
        "case": turn.case,
        "runtime": turn.runtime,
        "contender": turn.contender,
        "grant": turn.grant,
        "tasks": size,
        "token_requests": max(ours.token_requests for ours, _ in pairs) if ended else None,
        "failed": max(ours.failed for ours, _ in pairs),
        "wall": statistics.median(ours.wall / floor.wall for ours, floor in pairs) if ended else None,
        "cpu": statistics.median(ours.cpu / floor.cpu for ours, floor in pairs) if ended else None,
        "wall_seconds": [ours.wall for ours, _ in pairs],
        "note": note,
    }


def _note(turn: Turn, pairs: Pairs) -> str:
    worst = max((ours for ours, _ in pairs), key=lambda ours: (ours.wall is None, ours.failed))
    failures = [f"{what} ({count:,})" for what, count in worst.answers.most_common(3) if what != "200"]
    return "; ".join(CONTENDERS[turn.contender].remark(turn.case, turn.grant, turn.runtime) + failures)


# The table


def cells(found: list[dict[str, Any]], sizes: list[int]) -> Iterator[tuple[str, ...]]:
    """A line for each contender, case, runtime and grant, with all sizes in it."""
    lines: dict[tuple[str, ...], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in found:
        lines[row["case"], row["runtime"], row["contender"], row["grant"]][row["tasks"]] = row
    for names, by_size in lines.items():
        ratios = (_ratio(by_size.get(size)) for size in sizes)
        yield (*names, *ratios, *(_counts(by_size, sizes, key) for key in ("token_requests", "failed")), _last(by_size))
    for name, contender in CONTENDERS.items():
        if contender.sync_only:
            yield ("all", f"{ASYNCIO}, {TRIO}", name, "", *"-" * (len(sizes) + 2), "it has no client for event loops")


def _ratio(row: dict[str, Any] | None) -> str:
    return "-" if row is None or row["wall"] is None else f"{row['wall']:.2f} ({row['cpu']:.2f})"


def _counts(by_size: dict[int, dict[str, Any]], sizes: list[int], key: str) -> str:
    counts = [by_size[size][key] if size in by_size else None for size in sizes]
    shown = ["-" if count is None else f"{count:,}" for count in counts]
    return shown[0] if len(set(shown)) == 1 else " / ".join(shown)


def _last(by_size: dict[int, dict[str, Any]]) -> str:
    """The note of the largest size; of a floor, all of them, which are seconds."""
    if by_size[max(by_size)]["contender"].startswith(FLOOR):
        return " / ".join(by_size[size]["note"] for size in sorted(by_size))
    return str(by_size[max(by_size)]["note"])


def bars(found: list[dict[str, Any]], sizes: list[int]) -> Iterator[Bar]:
    ours = [row for row in found if row["contender"] == US]
    peers = [row for row in found if row["contender"] != US and not row["contender"].startswith(FLOOR)]
    for what, key, bar in (("token requests in a storm", "token_requests", 1), ("failed in a storm", "failed", 0)):
        seen = [row[key] for row in ours]
        others = [float(row[key]) for row in peers if row[key] is not None]
        worst = "no end" if None in seen else f"{max(seen):,}"
        where = f"{', '.join(f'{size:,}' for size in sizes)} callers, all {len(ours)} storms"
        held = all(each == bar for each in seen)
        yield Bar(f"{what} ({where})", f"{bar}", worst, held, counted=True, peers=span(others, "{:,.0f}"))
    for size in sizes:
        for clock, what in (("wall", "time by the clock"), ("cpu", "processor's time")):
            seen = [row[clock] for row in ours if row["tasks"] == size and row[clock] is not None]
            others = [
                row[clock] for row in peers if row["tasks"] == size and row[clock] is not None and not row["failed"]
            ]
            shown = f"{statistics.median(seen):.2f}, the worst of {len(seen)} storms {max(seen):.2f}"
            held = max(seen) <= BAR
            yield Bar(f"{what} of a storm of {size:,} ÷ floor", f"{BAR} at most", shown, held, peers=span(others))


def main() -> int:
    parser = argparse.ArgumentParser(description="Thousands of callers at once, and one token.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--quick", action="store_true", help="small storms, once")
    add("--sizes", type=int, nargs="+", default=[100, 1000, 5000], help="requests in a storm (default: %(default)s)")
    add("--repeat", type=int, default=3, help="repetitions (default: %(default)s)")
    add("--timeout", type=float, default=30.0, help="seconds for a storm and its floor (default: %(default)s)")
    add("--latency", type=float, default=0.02, help="seconds that a token request takes (default: %(default)s)")
    add("--seed", type=int, default=0, help="decides the order of turns (default: %(default)s)")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.repeat, args.timeout = [100, 1000], 1, 10.0
    dice = random.Random(args.seed)
    gc.freeze()
    both = [(case, runtime) for case in CASES for runtime in RUNTIMES]
    with lanes() as pool:
        found = [row for one in both for row in rows(repetitions(*one, args, dice, pool))]
    settings = {**vars(args), "threads": THREAD_COUNT, "bar": BAR, "long": LONG}
    callers = ", ".join(f"{size:,}" for size in args.sizes)
    sizes = tuple(f"{size:,} callers: wall ÷ floor (cpu)" for size in args.sizes)
    return Report(
        title="Storms: many callers at once, one token to be had",
        columns=("case", "runtime", "contender", "grant", *sizes, "token requests", "failed", "note"),
        rows=list(cells(found, args.sizes)),
        notes=NOTES.format(**{**settings, "sizes": callers}).splitlines(),
        data={"settings": settings, "rows": found},
        bars=list(bars(found, args.sizes)),
    ).show(as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
