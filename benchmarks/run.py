"""All benchmarks, one after the other, and one page and one picture of what they say: RESULTS.md and results.svg.

    python benchmarks/run.py [--quick] [--only NAME …]

Rules.

1. Each script has a process of its own, and a time after which it is ended. One that fails, is out of time, or whose
   counted bar does not hold is told on the page, and the exit status is 1; the others go on.
2. What each script said is kept in `build/bench`. With `--only` the page is put together again from what these say now
   and what the others said last; each section says when it was.
3. Small numbers are not for the page: with `--quick` all of it, page and picture too, goes to `build/bench-quick`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import _picture
from _results import Run, render

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
LIMITS = {
    "hot_path": 600,
    "storms": 900,
    "cancellation": 300,
    "outage": 300,
    "rollover": 480,
    "fleet": 600,
    "fingerprints": 600,
    "imports": 300,
    "instrumentation": 600,
    "guard": 300,
}  # seconds, several times what they take on two quiet cores
GRACE = 10  # seconds for a script to end what it has started
_ESCAPES = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
_PATHS = re.compile(r"(?:/[\w.@+-]+){2,}/")


def machine() -> str:
    """Its size; neither its name nor where anything is on it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    load = os.getloadavg()[0]
    size = f"{os.cpu_count()} cores, {memory:.1f} GiB of memory"
    return f"{size}, {platform.system()} on {platform.machine()}; load at the start: {load:.1f}"


def measure(name: str, *, quick: bool) -> Run:
    """One script, to its end or to the end of its time."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *(["--quick"] if quick else [])]
    when, began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        # In files: whoever a script leaves behind may hold a pipe open for ever. In a session: to end all of it.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        try:
            status: int | None = process.wait(LIMITS[name])
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        seconds = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        report, last = _table(out.read()), _last_line(err.read())
    return Run(name, when, seconds, status, report, "" if report else last)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of its session: by SIGINT, on which a script cleans up, and then by force."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _table(printed: str) -> dict[str, object] | None:
    try:
        report = json.loads(printed)
    except ValueError:
        return None
    return report if {"title", "columns", "rows", "notes"} <= report.keys() else None


def _last_line(printed: str) -> str:
    lines = [_ESCAPES.sub("", line.rpartition("\r")[2]).strip() for line in printed.splitlines()]
    return _PATHS.sub("…/", next((line for line in reversed(lines) if line), ""))[:200]


def put_together(runs: list[Run], place: Path, size: str) -> None:
    (place / "RESULTS.md").write_text(render(runs, size))
    (place / "results.svg").write_text(_picture.draw({run.name: run.report for run in runs if run.report}))


def main() -> int:
    parser = argparse.ArgumentParser(description="All benchmarks, and one page of what they say.")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--only", nargs="+", choices=list(LIMITS), metavar="NAME", help=", ".join(LIMITS))
    args = parser.parse_args()
    kept = BUILD / ("bench-quick" if args.quick else "bench")
    kept.mkdir(parents=True, exist_ok=True)
    if not args.only:
        for name in LIMITS:
            (kept / f"{name}.json").unlink(missing_ok=True)
    size, went_wrong = machine(), 0
    for name in args.only or LIMITS:
        print(f"{name} …", end="", file=sys.stderr, flush=True)
        run = measure(name, quick=args.quick)
        print(f" {run.seconds:.0f} s{'' if run.status == 0 else f', {run.outcome}'}", file=sys.stderr)
        (kept / f"{name}.json").write_text(json.dumps(asdict(run), indent=2))
        went_wrong += run.status != 0
        files = [path for each in LIMITS if (path := kept / f"{each}.json").exists()]
        runs = [Run(**json.loads(path.read_text())) for path in files]
        put_together(runs, kept if args.quick else HERE, size)  # each time: who ends it early has what there was
    return int(went_wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
