"""`make fuzz`: hostile input for all that reads what comes from outside, by atheris, one target after the other.

    python tests/fuzz/run.py [--seconds 600] [--quick] [--runs 1000000] [--seed 1] [--only challenges …]

Rules.

1. A target runs for `--seconds`, and on until it has had `--runs` (a diagnosis, which no parser is, has no such
   number), but not beyond four times the seconds.
2. Nothing but the errors that the target names may be raised, and what it says of the result must hold. What is found
   is kept in `tests/fuzz/found`, and the table says how to see it again. Then the next target has its turn.
3. Beside that each target is shown texts that grow and lists that are deep (`growth`): time is linear in the text.
4. The same seed tries the same, as far as the machine is as fast.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
FOUND = HERE / "found"
TARGETS = ("challenges", "answers", "metadata", "entries", "callbacks", "doctor", "diagnosis")
PARSERS = frozenset(TARGETS) - {"diagnosis"}
SHARE = {"doctor": 0.5, "diagnosis": 0.5}  # of the seconds: these two are one
PATIENCE = 4  # times the seconds, for the runs
LONGEST = 1024  # bytes of an input; what is longer is a matter of growth
SLOWEST = 60  # seconds for one input, by the clock on the wall
MEMORY = 2048  # MiB

_STATUS = re.compile(r"^#(\d+)\s+(INITED|DONE|pulse|NEW|REDUCE|RELOAD).*?cov: (\d+)", re.MULTILINE)
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_KEPT = re.compile(r"Test unit written to (\S+)")


@dataclass
class Row:
    """What became of a target."""

    name: str
    runs: int = 0
    seconds: float = 0.0
    begun: int = 0  # branches that the seeds reach
    covered: int = 0
    kept: list[str] = field(default_factory=list)
    growth: str = "-"

    @property
    def is_good(self) -> bool:
        return not self.kept and self.growth in {"ok", "-"} and self.runs > 0


def main() -> int:
    """Run all, print the table; 1 if anything was found."""
    options = _options()
    rows = []
    for name in options.only or TARGETS:
        row = Row(name)
        seconds = options.seconds * SHARE.get(name, 1.0)
        runs = options.runs if name in PARSERS else 0
        _fuzz(row, seconds, runs, options.seed)
        _grow(row, options.seed, 2 if options.quick else 20)
        _say(_line(row))
        rows.append(row)
    _say("\n" + "\n".join(_table(rows)))
    for row in rows:
        for file in row.kept:
            _say(f"again: {sys.executable} {HERE / 'one.py'} {row.name} {file}")
    return 0 if all(row.is_good for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="10 seconds each, however many runs that are")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=TARGETS)
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.runs = 10.0, 0
    return options


def _fuzz(row: Row, seconds: float, runs: int, seed: int) -> None:
    """Rounds of libFuzzer, which ends by its time or by its runs, and not by the later of the two."""
    corpus, kept = FOUND / row.name / "corpus", FOUND / row.name
    corpus.mkdir(parents=True, exist_ok=True)
    began, turn = time.monotonic(), 0
    while not row.kept:
        spent = time.monotonic() - began
        if spent >= seconds and (row.runs >= runs or spent >= PATIENCE * seconds):
            break
        limit = seconds - spent if spent < seconds else min(60.0, PATIENCE * seconds - spent)
        more = _round(row, [
            f"-max_total_time={max(1, round(limit))}", f"-seed={seed + turn}", f"-max_len={LONGEST}",
            f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={kept}/", str(corpus),
        ])  # fmt: skip
        if more == 0:
            break
        turn += 1
    row.seconds = time.monotonic() - began


def _round(row: Row, options: list[str]) -> int:
    command = [sys.executable, str(HERE / "one.py"), row.name, *options]
    ended = subprocess.run(command, capture_output=True, check=False)
    told = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
    states = _STATUS.findall(told)
    done = _DONE.search(told)
    runs = int(done[1]) if done else int(states[-1][0]) if states else 0
    row.runs += runs
    if states:
        row.begun = row.begun or int(states[0][2])
        row.covered = max(row.covered, int(states[-1][2]))
    if ended.returncode != 0:
        kept = [one for one in _KEPT.findall(told) if not _is_merely_slow(row.name, one)]
        if kept or not _KEPT.search(told):
            row.kept += kept or ["(nothing was kept)"]
            _say(told[-4000:])
    return runs


def _is_merely_slow(name: str, file: str) -> bool:
    """Whether it was this machine that was slow, which had other work: it ends if it is tried again."""
    again = [sys.executable, str(HERE / "one.py"), name, file]
    return "/crash-" not in file and subprocess.run(again, stdout=subprocess.DEVNULL, check=False).returncode == 0


def _grow(row: Row, seed: int, pairs: int) -> None:
    command = [sys.executable, str(HERE / "one.py"), row.name, "--growth", f"--pairs={pairs}", f"--seed={seed}"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    row.growth = "ok" if ended.returncode == 0 else "BAD"
    if ended.returncode != 0:
        _say(ended.stdout.decode(errors="replace"))


def _line(row: Row) -> str:
    rate = row.runs / row.seconds if row.seconds else 0.0
    return (
        f"{row.name:<12}{row.runs:>12,}{rate:>9,.0f}{row.seconds:>9,.0f}{row.covered:>10,}"
        f"{row.covered - row.begun:>+9,}{len(row.kept):>9}  {row.growth}"
    )


def _table(rows: list[Row]) -> list[str]:
    head = f"{'target':<12}{'runs':>12}{'runs/s':>9}{'seconds':>9}{'coverage':>10}{'new':>9}{'crashes':>9}  linear"
    total = f"{'all':<12}{sum(row.runs for row in rows):>12,}{'':>9}{sum(row.seconds for row in rows):>9,.0f}"
    return [head, *map(_line, rows), total]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
