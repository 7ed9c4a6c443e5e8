"""Many wait for one renewal, and who leads it, or half of them, is cancelled in the middle: what becomes of the others.

    python benchmarks/cancellation.py [--json] [--quick] [--callers 100] [--latency 0.02] [--seed 0]

Rules.

1. Everybody's token has ended. All callers send at once, the first of them first. When all wait, those chosen are
   cancelled: the first, who leads where somebody does, or the first and a random half of the rest. The token endpoint
   has had the request all the time, and answers it only then.
2. The ways to be cancelled: on asyncio `task.cancel()`, `asyncio.timeout()` and an anyio scope; on trio its own scope
   and anyio's. A line is the worst of the ways.
3. Then the client sends one request more, and another one two hours later, when the token has ended: does it work
   still, and is the session (a refresh token that rotates) still there?
4. Who is not answered in the time that all of them would need one after the other, and three seconds, is given up.
   Each turn is a process of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from _apart import apart, lanes
from _cancel import HALF, LEADER, PATIENCE, TASK, TRIO_SCOPE, WAYS, Ordeal, Survivors, endure
from _contenders import CONTENDERS, FLOOR, US
from _report import Bar, Report, span
from _setting import ASYNCIO, CREDENTIALS, REFRESH, TRIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Found = dict[Ordeal, Survivors]

LIMIT = 90.0  # seconds for a turn
AT_ONCE = 4  # turns on each core: they wait most of the time
COLUMNS = (
    "runtime", "contender", "grant", "cancelled", "others", "failed", "token requests",
    "next request", "two hours later", "session", "note",
)  # fmt: skip
NOTES = """\
{callers} callers; the token endpoint has the request while they are cancelled, and answers right after. All is in
memory.
others, failed: those who were not cancelled, and how many of them got anything but a 200; token requests until they had
ended; each the worst of the ways: {ways}.
next request, two hours later: what the client's next request got, and one after the token had ended.
session: lost where a refresh token, which is good once, was presented again: somebody has to log in.
Floor: a client with a static header, whose API takes as long as the token request.
Threads cannot be cancelled: {sync_only} have nothing for event loops."""


def ordeals(*, quick: bool) -> Iterator[Ordeal]:
    for runtime, ways in WAYS.items():
        for name, contender in CONTENDERS.items():
            grants = (CREDENTIALS,) if name == FLOOR else (CREDENTIALS, REFRESH)
            for grant in grants if not contender.sync_only else ():
                for who in (LEADER, HALF):
                    for way in ways if not quick else {TASK, TRIO_SCOPE}.intersection(ways):
                        yield Ordeal(name, grant, runtime, who, way)


def _take_turn(tell: Callable[[Any], None], ordeal: Ordeal, callers: int, latency: float, seed: int) -> None:
    import logging

    logging.getLogger().addHandler(logging.NullHandler())
    tell(endure(ordeal, callers, latency, seed))


def measure(ordeal: Ordeal, callers: int, latency: float, seed: int) -> Survivors:
    work = partial(_take_turn, ordeal=ordeal, callers=callers, latency=latency, seed=seed)
    try:
        return next(apart(work, timeout=LIMIT))
    except (TimeoutError, ChildProcessError) as error:
        return Survivors(0, Counter({str(error): callers}), 0, "-", "-", revoked=False)


def rows(found: Found) -> Iterator[dict[str, Any]]:
    """One for each contender, grant and choice of who is cancelled: the worst of the ways."""
    together: dict[tuple[str, ...], dict[str, Survivors]] = {}
    for ordeal, survivors in found.items():
        names = ordeal.runtime, ordeal.contender, ordeal.grant, ordeal.who
        together.setdefault(names, {})[ordeal.way] = survivors
    for (runtime, contender, grant, who), ways in together.items():
        all_of_them = list(ways.values())
        works = all(each.later_answer == "200" for each in all_of_them)
        session = "lost" if any(each.revoked for each in all_of_them) else "kept" if works else "not tried"
        yield {
            "runtime": runtime,
            "contender": contender,
            "grant": "" if contender == FLOOR else grant,
            "cancelled": who,
            "others": max(each.answers.total() for each in all_of_them),
            "failed": max(each.failed for each in all_of_them),
            "token_requests": max(each.token_requests for each in all_of_them),
            "next": _worst([each.next_answer for each in all_of_them]),
            "later": _worst([each.later_answer for each in all_of_them]),
            "session": session if grant == REFRESH and contender != FLOOR else "-",
            "note": _note(ways),
        }


def _worst(answers: list[str]) -> str:
    return next((answer for answer in answers if answer != "200"), answers[0])


def _note(ways: dict[str, Survivors]) -> str:
    """What the others got instead, and in which ways, if not in all."""
    notes = []
    if not any(each.cancelled for each in ways.values()):
        notes.append("nobody waits that could be cancelled: the loop stands still")
    bad = {way: each for way, each in ways.items() if each.failed}
    seen: Counter[str] = sum((each.answers for each in bad.values()), Counter())
    del seen["200"]
    if bad:
        which = f" (of {', '.join(bad)})" if len(bad) < len(ways) else ""
        notes.append(", ".join(what for what, _ in seen.most_common(2)) + which)
    return "; ".join(notes)


def cells(found: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    keys = ("runtime", "contender", "grant", "cancelled", "others", "failed", "token_requests", "next", "later")
    lines = [tuple(f"{row[key]:,}" if isinstance(row[key], int) else row[key] for key in keys) for row in found]
    lines = [(*line, row["session"], row["note"]) for line, row in zip(lines, found, strict=True)]
    for name, contender in CONTENDERS.items():
        if contender.sync_only:
            lines.append((f"{ASYNCIO}, {TRIO}", name, *[""] * 2, *"-" * 6, "it has no client for event loops"))
    return lines


def bars(found: list[dict[str, Any]]) -> Iterator[Bar]:
    ours = [row for row in found if row["contender"] == US]
    peers = [row for row in found if row["contender"] not in {US, FLOOR}]
    for what, key, bar in (("failed, of those not cancelled", "failed", 0), ("token requests", "token_requests", 1)):
        worst = max(row[key] for row in ours)
        others = span([float(row[key]) for row in peers], "{:,.0f}")
        yield Bar(f"{what}, in a renewal that is cancelled upon", str(bar), str(worst), worst == bar, True, others)
    lost = sum(row["session"] == "lost" for row in ours)
    others = f"{sum(row['session'] == 'lost' for row in peers)} of {sum(row['session'] != '-' for row in peers)}"
    yield Bar("sessions lost by a cancellation", "0", str(lost), lost == 0, True, others)
    broken = sum((row["next"], row["later"]) != ("200", "200") for row in ours)
    others = f"{sum((row['next'], row['later']) != ('200', '200') for row in peers)} of {len(peers)}"
    yield Bar("clients that no longer work after a cancellation", "0", str(broken), broken == 0, True, others)


def main() -> int:
    parser = argparse.ArgumentParser(description="Many wait for one renewal, and some are cancelled in the middle.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--quick", action="store_true", help="fewer callers, one way to be cancelled")
    add("--callers", type=int, default=100, help="who wait (default: %(default)s)")
    add("--latency", type=float, default=0.02, help="seconds that an answer takes (default: %(default)s)")
    add("--seed", type=int, default=0, help="decides which half is cancelled (default: %(default)s)")
    args = parser.parse_args()
    if args.quick:
        args.callers = 30
    with lanes(AT_ONCE) as pool:
        asked = {
            ordeal: pool.submit(measure, ordeal, args.callers, args.latency, args.seed)
            for ordeal in ordeals(quick=args.quick)
        }
        found = list(rows({ordeal: done.result() for ordeal, done in asked.items()}))
    ways = "; ".join(f"on {runtime} {', '.join(each)}" for runtime, each in WAYS.items())
    sync_only = " and ".join(name for name, contender in CONTENDERS.items() if contender.sync_only)
    return Report(
        title="Cancellation: many wait for one renewal, and some are cancelled in the middle",
        columns=COLUMNS,
        rows=cells(found),
        notes=NOTES.format(**vars(args), ways=ways, sync_only=sync_only).splitlines(),
        data={"settings": {**vars(args), "patience": PATIENCE}, "rows": found},
        bars=list(bars(found)),
    ).show(as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
