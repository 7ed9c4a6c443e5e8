"""A steady stream of requests, and a token that is renewed in the middle of it: who waits, and for how long.

    python benchmarks/rollover.py [--json] [--quick] [--seconds 4] [--repeat 2] [--latency 0.3]

Rules.

1. A few callers send one request after another by a client whose token is renewed every two seconds; right before or
   after, in turn, they do the same by a client of the same library with a static header, the floor. A number is the
   ratio of the two, over all repetitions. (Not both at once: who stops the event loop would stop its floor as well.)
2. Who renews and how is in `_rolling.py`; nobody's first token is in the stream.
3. No collection of what was there before stops a stream: that takes longer than an API.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from _report import Bar, Report, span
from _rolling import API_LATENCY, API_URL, BY_HAND, CONTENDERS, US, Contender, Server, floor, server_for

ASYNCIO, TRIO, THREADS = "asyncio", "trio", "threads"
CALLERS = 8
EVERY = 2.0  # seconds after which a token is renewed
BAR = 1.1
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
QUICK = {"seconds": 2.5, "repeat": 1}

NOTES = """\
{callers} callers, {seconds:g} s for each stream, {repeat} times; a token is renewed every {every:g} s, which takes
{latency:g} s; the API takes {api:g} s.
p50, p99, p99.9: over all repetitions, the ratio to the floor, a static header, and in brackets what that was in
milliseconds. waited: requests that took longer than half a token request, in brackets the floor's.
singleflight-auth renews on a 401: the API refuses its token after {every:g} s. mcp sends one request at a time.
Our bar: nobody waits on asyncio and trio, and p99.9 is {bar} times the floor's at most. In threads the one caller who
finds the token early renews it.
"""


@dataclass
class Stream:
    """What requests took, in seconds, and what came of them."""

    took: list[float] = field(default_factory=list)
    failed: int = 0
    token_requests: int = 0


async def _on_a_loop(client: Any, seconds: float, stream: Stream) -> None:
    await client.get(API_URL)
    end = time.monotonic() + seconds

    async def call() -> None:
        while (began := time.monotonic()) < end:
            try:
                response = await client.get(API_URL)
                stream.failed += response.status_code != 200
            except Exception:  # noqa: BLE001 - whatever it raises is a failure to report
                stream.failed += 1
            stream.took.append(time.monotonic() - began)

    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(call)


def _in_threads(client: Any, seconds: float, stream: Stream) -> None:
    client.get(API_URL)
    end = time.monotonic() + seconds

    def call() -> None:
        while (began := time.monotonic()) < end:
            try:
                stream.failed += client.get(API_URL).status_code != 200
            except Exception:  # noqa: BLE001 - whatever it raises is a failure to report
                stream.failed += 1
            stream.took.append(time.monotonic() - began)

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def send(client: Any, runtime: str, seconds: float) -> Stream:
    stream = Stream()
    gc.collect()
    gc.freeze()
    if runtime == THREADS:
        _in_threads(client, seconds, stream)
    else:
        anyio.run(partial(_on_a_loop, client, seconds, stream), backend=runtime)
    return stream


def pair(name: str, runtime: str, args: argparse.Namespace, *, floor_first: bool) -> tuple[Stream, Stream]:
    """The contender's stream, and half as much of its floor's."""
    contender, is_async = CONTENDERS[name], runtime != THREADS
    server = server_for(name, args.latency, EVERY)
    rolling = contender.make(server, EVERY, is_async=is_async)
    steady = floor(contender.host, Server(args.latency, 3600), is_async=is_async)
    before = send(steady, runtime, args.seconds / 2) if floor_first else None
    stream = send(rolling, runtime, args.seconds)
    stream.token_requests = server.token_requests
    return stream, before or send(steady, runtime, args.seconds / 2)


def lives(contender: Contender, runtime: str) -> bool:
    return {ASYNCIO: contender.is_async, TRIO: contender.trio, THREADS: contender.sync}[runtime]


def quantile(took: list[float], share: float) -> float:
    return sorted(took)[min(len(took) - 1, int(len(took) * share))]


def row(name: str, runtime: str, pairs: list[tuple[Stream, Stream]], latency: float) -> dict[str, Any]:
    took = [seconds for stream, _ in pairs for seconds in stream.took]
    steady = [seconds for _, stream in pairs for seconds in stream.took]
    of_floor = {which: quantile(steady, share) for which, share in QUANTILES.items()}
    return {
        "runtime": runtime,
        "contender": name,
        "requests": len(took),
        "token_requests": sum(stream.token_requests for stream, _ in pairs),
        "failed": sum(stream.failed for stream, _ in pairs),
        "waited": sum(seconds > latency / 2 for seconds in took),
        "floor_waited": sum(seconds > latency / 2 for seconds in steady),
        "ratios": {which: quantile(took, share) / of_floor[which] for which, share in QUANTILES.items()},
        "floor_ms": {which: seconds * 1000 for which, seconds in of_floor.items()},
    }


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    ratios = (f"{one['ratios'][which]:.2f} ({one['floor_ms'][which]:.1f})" for which in QUANTILES)
    counts = f"{one['requests']:,}", str(one["token_requests"]), str(one["failed"])
    return one["runtime"], one["contender"], *ratios, f"{one['waited']} ({one['floor_waited']})", *counts


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    ours = [one for one in rows if one["contender"] == US]
    peers = [one for one in rows if one["contender"] not in {US, BY_HAND}]
    on_loops = [one for one in ours if one["runtime"] != THREADS]
    late = [one["ratios"]["p99.9"] for one in on_loops]
    waited, failed = sum(one["waited"] for one in on_loops), sum(one["failed"] for one in ours)
    others = [one["ratios"]["p99.9"] for one in peers if one["runtime"] == ASYNCIO]
    what = "p99.9 of a steady stream with renewals in it ÷ static header, on an event loop"
    lost = span([one["failed"] for one in peers], "{:,.0f}")
    return [
        Bar(what, f"≤ {BAR:g}", span(late), max(late) <= BAR, peers=span(others)),
        Bar("requests of that stream that waited for a renewal", "0", str(waited), waited == 0, peers=_waited(peers)),
        Bar("requests of all streams that failed", "0", str(failed), failed == 0, counted=True, peers=lost),
    ]


def _waited(peers: list[dict[str, Any]]) -> str:
    return span([one["waited"] for one in peers if one["runtime"] == ASYNCIO], "{:,.0f}")


def report(rows: list[dict[str, Any]], args: argparse.Namespace) -> Report:
    settings = {"seconds": args.seconds, "repeat": args.repeat, "latency": args.latency, "every": EVERY}
    note = NOTES.format(callers=CALLERS, api=API_LATENCY, bar=BAR, **settings)
    columns = ("runtime", "contender", *QUANTILES, "waited", "requests", "token requests", "failed")
    data = {"rows": rows, "pictured": ASYNCIO, **settings}
    cells = [_cells(one) for one in rows]
    return Report("A roll-over under steady load", columns, cells, note.splitlines(), data, bars(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="A steady stream of requests, and a token that is renewed in it.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--quick", action="store_true", help="short streams, once")
    add("--seconds", type=float, default=4.0, help="of a stream (default: %(default)s)")
    add("--repeat", type=int, default=2, help="repetitions (default: %(default)s)")
    add("--latency", type=float, default=0.3, help="seconds that a token request takes (default: %(default)s)")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    logging.getLogger().addHandler(logging.NullHandler())  # no warnings among the lines of the table
    rows = []
    for runtime in (ASYNCIO, TRIO, THREADS):
        names = [name for name, contender in CONTENDERS.items() if lives(contender, runtime)]
        done: dict[str, list[tuple[Stream, Stream]]] = {name: [] for name in names}
        for turn in range(args.repeat):
            for name in names:
                print(f"\r{runtime}, {name} …", end="\033[K", file=sys.stderr)
                done[name].append(pair(name, runtime, args, floor_first=turn % 2 == 0))
        rows += [row(name, runtime, pairs, args.latency) for name, pairs in done.items()]
    print("\r", end="\033[K", file=sys.stderr)
    raise SystemExit(report(rows, args).show(as_json=args.json))


if __name__ == "__main__":
    main()
