"""A hundred thousand fingerprints in one process: what each costs to keep, and what it takes to find its token.

    python benchmarks/fingerprints.py [--json] [--quick] [--count 100000]

Rules.

1. The floor is a dict of header strings. Bytes are resident ones, of a process of its own for each contender, over what
   it had before; what all of its clients share (a transport, a store) is there before, a first fingerprint too.
2. A lookup goes from the key to a request that has its credential. It is measured in laps, in turn with the floor's in
   the same process, of as many keys, at random among all of them, which no processor's cache holds.
3. Everybody is set up as its manual shows for many tenants (`_tenants.py`). Who has a client or an auth for each has
   them in a dict; tokens come from an endpoint in memory, or as a program hands over those that it has.
4. Who would take minutes is measured with fewer, and the table says with how many.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from _fresh import URL
from _report import Bar, Report, span
from _tenants import CONTENDERS, FLOOR, US, floor

if TYPE_CHECKING:
    from _tenants import Kept

LAPS, LOOKUPS, QUICK = 11, 1000, 2000
FEW = 100
BAR_LOOKUP, BAR_BYTES = 1.5, 3000
LIMIT = 240  # seconds for one contender

NOTES = """\
bytes: resident ones for each fingerprint, the token among them, the key not: the program has it. lookup: from the key
to a request with its credential, over the floor's lookup among as many; of the floor: {floor_us:.1f} microseconds.
{count:,} ÷ {few}: a lookup among all over one among {few}, of the same few keys: whether anything is searched.
to add: one more fingerprint, its token from an endpoint in memory (httpx-auth, google-auth, authlib: from the program);
msal looks through all that it has before it asks for another, so its cache is filled directly, and this is of the last.
{fewer}
"""


# In a process of its own


def child(name: str, count: int) -> dict[str, float]:
    add, put = CONTENDERS[name].set_up(count)
    few_add, few_put = CONTENDERS[name].set_up(FEW)
    floor_add, floor_put = floor(count)
    keys = [f"tenant-{number}" for number in range(count)]
    some = keys[:FEW]
    add("first")
    put("first", _request())
    gc.collect()
    resident, began = _resident(), time.perf_counter()
    for key in keys:
        add(key)
    took = (time.perf_counter() - began) / count
    gc.collect()
    resident = _resident() - resident
    began = time.perf_counter()
    add("last")
    last = time.perf_counter() - began
    gc.freeze()
    if name != "httpx-auth, an auth each":  # of which there is one cache for the process
        for key in some:
            few_add(key)
    else:
        few_put = put
    for key in keys:
        floor_add(key)
        put(key, _request())  # each has been in use
    laps = [(_lap(put, keys), _lap(floor_put, keys), _lap(put, some), _lap(few_put, some)) for _ in range(LAPS)][1:]
    return {
        "bytes": resident / count,
        "add": last if name.startswith("msal") else took,
        "lookup": statistics.median(ours / other for ours, other, _, _ in laps),
        "searched": statistics.median(many / few for _, _, many, few in laps),
        "seconds": statistics.median(ours for ours, _, _, _ in laps),
        "count": count,
    }


def _request() -> httpx.Request:
    return httpx.Request("GET", URL)


def _lap(put: Kept, keys: list[str]) -> float:
    asked, request = random.choices(keys, k=LOOKUPS), _request()
    began = time.perf_counter()
    for key in asked:
        put(key, request)
        del request.headers["Authorization"]
    return (time.perf_counter() - began) / LOOKUPS


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# The table


def measure(name: str, count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, "--count", str(min(count, CONTENDERS[name].most))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"what": name, "error": f"no end in {LIMIT} s"}
    if done.returncode:
        return {"what": name, "error": (done.stderr.strip().splitlines() or ["it failed"])[-1][:80]}
    return {"what": name, **json.loads(done.stdout)}


def report(rows: list[dict[str, Any]], count: int) -> Report:
    by_name = {row["what"]: row for row in rows if "error" not in row}
    floor_bytes, fewer = by_name[FLOOR]["bytes"], [row for row in by_name.values() if row["count"] < count]
    said = "".join(f"{row['what']}: measured with {row['count']:,}. " for row in fewer)
    notes = NOTES.format(count=count, few=FEW, floor_us=by_name[FLOOR]["seconds"] * 1e6, fewer=said)
    columns = ("what", "bytes ÷ floor", "lookup ÷ floor", f"{count:,} ÷ {FEW}", "bytes", "µs to add", "of")
    return Report(
        title=f"{count:,} fingerprints in one process",
        columns=columns,
        rows=[_cells(row, floor_bytes) for row in rows],
        notes=notes.strip().splitlines(),
        data={"rows": rows, "count": count},
        bars=_bars(by_name, count) if US in by_name else [],
    )


def _cells(row: dict[str, Any], floor_bytes: float) -> tuple[str, ...]:
    if "error" in row:
        return (row["what"], "-", "-", "-", "-", "-", row["error"])
    ratios = f"{row['bytes'] / floor_bytes:,.1f}", f"{row['lookup']:.2f}", f"{row['searched']:.2f}"
    return (row["what"], *ratios, f"{row['bytes']:,.0f}", f"{row['add'] * 1e6:,.1f}", f"{row['count']:,}")


def _bars(by_name: dict[str, dict[str, Any]], count: int) -> list[Bar]:
    ours, peers = by_name[US], [row for name, row in by_name.items() if name not in {US, FLOOR}]
    found = [row["searched"] for row in peers if row["count"] > FEW]
    return [
        Bar(
            f"lookup among {count:,} fingerprints ÷ among {FEW}, of the same keys",
            f"≤ {BAR_LOOKUP:g}",
            f"{ours['searched']:.2f}",
            ours["searched"] <= BAR_LOOKUP,
            peers=span(found),
        ),
        Bar(
            f"resident bytes for each of {count:,} fingerprints",
            f"≤ {BAR_BYTES:,}",
            f"{ours['bytes']:,.0f}",
            ours["bytes"] <= BAR_BYTES,
            peers=span([row["bytes"] for row in peers], "{:,.0f}"),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="A hundred thousand fingerprints in one process.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} fingerprints")
    parser.add_argument("--count", type=int, default=100_000, help="fingerprints (default: %(default)s)")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args.count)))
        return
    count = QUICK if args.quick else args.count
    with ThreadPoolExecutor(2) as pool:  # a number is a ratio within a process, or bytes
        rows = list(pool.map(measure, CONTENDERS, [count] * len(CONTENDERS)))
    raise SystemExit(report(rows, count).show(as_json=args.json))


if __name__ == "__main__":
    main()
