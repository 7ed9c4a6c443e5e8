"""Mutation of the heart: of each small change to it a test must know, or the list says why none can.

    python tests/mutation/run.py [--only MODULE …] [--sample N] [--quick] [--show]  (and more: --help)

Rules.

1. mutmut (its operators: `mutants.py`) makes the changes. It does not run the tests: its own way, to put each function
   behind a switch, leaves out constants, the fields of a class, and what has a decorator. `running.py` forks instead.
2. What survives is in `explained.toml`, with the reason, or the exit status is 1. An explanation of something that does
   not survive is told as well: it is for nothing.
3. Nothing is written to the tree. What runs is a copy of what is there when it begins.
4. What is slow on a busy machine is no proof: a test that fails for want of time kills a mutant that it does not know.
   The score is good from a quiet machine.
5. With `--ledger` a run goes on where another was stopped (`ledger.py`), and says that its table is merged. What
   `--memory` keeps is a short cut too: it does not know that a test reaches more than it did.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from running import Fate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HEART = ["_flow", "_lifecycle", "_flights", "_challenges", "_tokens", "_leases", "_drivers"]
NEAR = [
    "test_flow.py", "test_mending.py", "test_heart.py", "test_drivers.py", "test_kept_leases.py", "test_waits.py",
    "test_lifecycle.py", "test_challenges.py", "test_tokens.py", "test_step_up.py", "test_siblings.py",
]  # fmt: skip
TESTS = [
    *NEAR, "test_interleavings.py", "test_sources.py", "test_unsaved.py", "test_watching.py", "test_verdicts.py",
    "test_attempt.py", "test_leaving.py", "test_timing.py", "test_auth.py", "test_own_grant.py", "concurrency",
    "conformance",
]  # fmt: skip
EXPLAINED = HERE / "explained.toml"


def explanations() -> dict[str, str]:
    """Name of a mutant -> why it may live."""
    if not EXPLAINED.exists():
        return {}
    groups = tomllib.loads(EXPLAINED.read_text())["because"]
    return {name: group["why"] for group in groups for name in group["mutants"]}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=HEART, metavar="MODULE", help=f"of {', '.join(HEART)}, or another")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants, drawn at random")
    parser.add_argument("--again", type=Path, metavar="FILE", help="those alone that a former run has named")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--quick", action="store_true", help="what survives gets no second look")
    parser.add_argument("--workers", type=int, default=2, help="how many are tried at once")
    parser.add_argument("--show", action="store_true", help="what has killed each mutant")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="FILE", help="in tests/; those that pin the heart")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="keep all ends here; what it has killed stays so")
    parser.add_argument("--memory", type=Path, help="keep here which test reaches what, for the next run")
    return parser.parse_args()


def table(fates: list[Fate], explained: dict[str, str]) -> str:
    """A line for each module, and one for all."""
    rows = defaultdict(Counter)
    for fate in fates:
        end = "explained" if fate.end in {"survived", "not reached"} and fate.mutant.name in explained else fate.end
        for module in (fate.mutant.source.name, "all"):
            rows[module][end] += 1
    lines = ["module        mutants  killed  by time  explained  survived  not reached   score"]
    for module, ends in sorted(rows.items(), key=lambda row: row[0] == "all"):
        made = sum(ends.values()) - ends["not made"]
        killed = ends["killed"] + ends["hung"]
        lines.append(
            f"{module:12} {made:8} {ends['killed']:7} {ends['hung']:8} {ends['explained']:10} {ends['survived']:9}"
            f" {ends['not reached']:12} {killed / max(1, made):7.1%}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run, and say what has come of it."""
    chosen_by = options()
    copy = Path(tempfile.mkdtemp(prefix="mutation-"))
    try:
        for folder in ("httpx_tokenflow", "tests"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        for file in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / file, copy)
        return _in_copy(copy, chosen_by)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _in_copy(copy: Path, chosen_by: argparse.Namespace) -> int:
    named = "" if chosen_by.again is None else chosen_by.again.read_text()
    os.chdir(copy)
    sys.path[:0] = [str(copy)]
    os.environ["PYTHONPATH"] = str(copy)
    memory = chosen_by.memory and (ROOT / chosen_by.memory).resolve()
    ledger_path = chosen_by.ledger and (ROOT / chosen_by.ledger).resolve()
    screen = os.fdopen(os.dup(1), "w", buffering=1)

    import pytest
    from ledger import Ledger
    from mutants import Source
    from running import Loop

    sources = [Source(copy / "httpx_tokenflow" / f"{name}.py") for name in chosen_by.only]
    chosen = [mutant for source in sources for mutant in source.mutants]
    if chosen_by.sample is not None:
        chosen = random.Random(chosen_by.seed).sample(chosen, min(chosen_by.sample, len(chosen)))
    if chosen_by.again is not None:
        chosen = [mutant for mutant in chosen if mutant.name in named]
    explained = explanations()
    ledger = Ledger(ledger_path)
    former = ledger.taken_over(chosen)
    over = {id(fate.mutant) for fate in former}
    loop = Loop(
        sources,
        [mutant for mutant in chosen if id(mutant) not in over],
        explained.keys(),
        memory,
        chosen_by.quick,
        chosen_by.workers,
        tuple(f"tests/{name}::" for name in NEAR),
        lambda text: print(text, file=screen),
        ledger.write,
    )
    log = copy / "log"
    with log.open("wb") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    tests = [f"tests/{name}" for name in chosen_by.tests if (copy / "tests" / name).exists()]
    pytest.main(["-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", *tests], plugins=[loop])
    if not loop.fates:
        print(log.read_text()[-5000:], file=screen)
    if former:
        print(
            f"\nmerged: {len(former)} were killed in a former run, {len(loop.fates)} were tried in this one",
            file=screen,
        )
    return report(former + loop.fates, explained, chosen_by, screen)


def report(fates: list[Fate], explained: dict[str, str], chosen_by: argparse.Namespace, screen) -> int:
    """Print what has come of it; 1 if anything is not explained."""
    alive = [fate for fate in fates if fate.end in {"survived", "not reached"}]
    names = {fate.mutant.name for fate in alive}
    if chosen_by.show:
        for fate in fates:
            if fate.end in {"killed", "hung"}:
                print(f"{fate.end}: {fate.mutant.name}  [{fate.killer}]", file=screen)
    if chosen_by.sample is None and chosen_by.again is None:
        modules = tuple(f"{name}." for name in chosen_by.only)
        for name in explained:
            if name.startswith(modules) and name not in names:
                print(f"explained, and does not live: {name}", file=screen)
    print(f"\n{table(fates, explained)}", file=screen)
    return int(not fates or not names <= explained.keys())


if __name__ == "__main__":
    sys.exit(main())
