"""The token endpoint is down for twenty minutes, and the token that everybody has ends in the middle of it: who fails?

    python benchmarks/outage.py [--json] [--quick] [--every 1]

Rules.

1. A token of an hour is in use. The endpoint goes down 15 minutes before the token's end, and is up again 5 minutes
   after it: it says 503, is not to be reached, or takes the request and does not answer. A request is sent every second
   all the time, whatever became of those before.
2. A request that was sent with the token valid, 5 s before its end at the latest, has failed if it got no 200 within
   10 s. Requests after the token's end cannot but fail: they do not count.
3. The clock is moved by hand (`_clock`), for everybody alike: hours pass in seconds, and a timeout takes what it says.
   Who has no timeout waits until the endpoint is up again, and gets an error then.
4. Peers for event loops are used on asyncio, those for threads in 32 threads. Each turn is a process of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from _apart import apart, lanes
from _contenders import CONTENDERS, FLOOR, US
from _outage import DOWN, EDGE, LIFETIME, PATIENCE, UP, Outage, live_through
from _report import Bar, Report, span
from _setting import CREDENTIALS, REFRESH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _server import Trouble

TROUBLES: tuple[Trouble, ...] = ("503", "connect error", "hang")
GRANTS = {"google-auth": REFRESH}  # its own, where what it does in an outage is its own as well
LIMIT = 60.0  # seconds for a turn
QUICK = 5.0  # seconds between requests
MINUTE_BAR = 6  # token requests in a minute of the outage, on average
COLUMNS = (
    "endpoint", "contender", "failed", "of", "slowest, s", "token requests, token valid", "token requests, token ended",
    "back after, s", "note",
)  # fmt: skip
NOTES = """\
failed: of the requests sent in the outage with a valid token, those that got no 200 within {patience:g} s; slowest: of
the same. token requests in the {valid:g} minutes of the outage with a valid token, and in the {ended:g} minutes after
its end.
back after: from the end of the outage to the first 200. A request every {every:g} s, on a clock moved by hand.
Floor: a client with a static header, which nobody renews. singleflight-auth and mcp look at no clock, or not before the
end: they ask the endpoint for nothing while the token is valid."""


def _take_turn(tell: Callable[[Any], None], contender: str, trouble: Trouble, every: float) -> None:
    import logging

    logging.getLogger().addHandler(logging.NullHandler())
    outage = live_through(contender, GRANTS.get(contender, CREDENTIALS), trouble, every)
    tell(_row(contender, trouble, outage, int((LIFETIME - EDGE - DOWN) / every)))


def _row(contender: str, trouble: str, outage: Outage, planned: int) -> dict[str, Any]:
    errors = Counter((each.answer or "no answer").partition(":")[0] for each in outage.failed)
    late = errors.pop("200", 0)
    said = [f"{what} ({count:,})" for what, count in errors.most_common(2)]
    if late:
        said.append(f"too late ({late:,})")
    if len(outage.with_token) < planned:
        said.append(f"the loop stood still: {planned - len(outage.with_token):,} were not sent")
    return {
        "trouble": trouble,
        "contender": contender,
        "failed": len(outage.failed),
        "of": len(outage.with_token),
        "slowest": outage.slowest,
        "before": outage.before,
        "after": outage.after,
        "recovery": outage.recovery,
        "note": "; ".join(said),
    }


def measure(contender: str, trouble: Trouble, every: float) -> dict[str, Any]:
    work = partial(_take_turn, contender=contender, trouble=trouble, every=every)
    try:
        return next(apart(work, timeout=LIMIT))
    except (TimeoutError, ChildProcessError) as error:
        nothing = dict.fromkeys(("failed", "of", "slowest", "before", "after", "recovery"))
        return {"trouble": trouble, "contender": contender, **nothing, "note": str(error)}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def shown(key: str, how: str) -> str:
        return "-" if row[key] is None else how.format(row[key])

    back = "never" if row["recovery"] is None and row["failed"] is not None else shown("recovery", "{:,.1f}")
    counts = (shown(key, "{:,}") for key in ("failed", "of"))
    asked = (shown(key, "{:,}") for key in ("before", "after"))
    return (row["trouble"], row["contender"], *counts, shown("slowest", "{:,.1f}"), *asked, back, row["note"])


def bars(found: list[dict[str, Any]]) -> Iterator[Bar]:
    ours = [row for row in found if row["contender"] == US]
    peers = [row for row in found if row["contender"] not in {US, FLOOR} and row["failed"] is not None]
    failed = [row["failed"] for row in ours]
    worst = "no end" if None in failed else f"{max(failed):,}"
    others = span([float(row["failed"]) for row in peers], "{:,.0f}")
    what = "failed with a valid token, in an outage of the token endpoint"
    yield Bar(what, "0", worst, set(failed) == {0}, counted=True, peers=others)
    asked = [None if row["before"] is None else row["before"] + row["after"] for row in ours]
    minutes = (UP - DOWN) / 60
    rates = [each / minutes for each in asked if each is not None]
    others = span([(row["before"] + row["after"]) / minutes for row in peers], "{:,.1f}")
    shown = "no end" if None in asked else f"{max(rates):.1f}"
    held = None not in asked and max(rates) <= MINUTE_BAR
    yield Bar(
        "token requests in a minute of the outage", f"{MINUTE_BAR} at most", shown, held, counted=True, peers=others
    )
    back = [row["recovery"] for row in ours]
    others = span([row["recovery"] for row in peers if row["recovery"] is not None], "{:,.1f}")
    shown = "never" if None in back else f"{max(back):.1f}"
    held = None not in back and max(back) <= 31
    yield Bar("seconds from the outage's end to the first 200", "31 at most", shown, held, peers=others)


def main() -> int:
    parser = argparse.ArgumentParser(description="The token endpoint is down, and the token ends in the middle of it.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--quick", action="store_true", help="fewer requests")
    add("--every", type=float, default=1.0, help="seconds between two requests (default: %(default)s)")
    args = parser.parse_args()
    if args.quick:
        args.every = QUICK
    with lanes() as pool:
        both = [(trouble, name) for trouble in TROUBLES for name in CONTENDERS]
        asked = [pool.submit(measure, name, trouble, args.every) for trouble, name in both]
        found = [done.result() for done in asked]
    numbers = {
        "patience": PATIENCE,
        "valid": (LIFETIME - DOWN) / 60,
        "ended": (UP - LIFETIME) / 60,
        "every": args.every,
    }
    return Report(
        title="Outage: the token endpoint is down for 20 minutes, and the token ends in the middle of it",
        columns=COLUMNS,
        rows=[_cells(row) for row in found],
        notes=NOTES.format(**numbers).splitlines(),
        data={"settings": {**vars(args), **numbers}, "rows": found},
        bars=list(bars(found)),
    ).show(as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
