"""One target under atheris; or, with files after it, what they do to it again.

    python tests/fuzz/one.py challenges [libFuzzer's options]
    python tests/fuzz/one.py challenges tests/fuzz/found/challenges/crash-…
    python tests/fuzz/one.py challenges --growth [--pairs 20] [--seed 0]

The first and the last are what `run.py` starts. The second needs no atheris, and ends with the traceback.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

SLOWEST = 30  # seconds of the processor for what is done again


def main() -> int:
    """Do what the command line says."""
    name, *rest = sys.argv[1:]
    if "--growth" in rest:
        return _grow(name, rest)
    files = [Path(one) for one in rest if not one.startswith("-") and Path(one).is_file()]
    if files:
        target = importlib.import_module(f"fuzz.on_{name}")
        resource.setrlimit(resource.RLIMIT_CPU, (SLOWEST, SLOWEST))
        for file in files:
            target.check(file.read_bytes())
            sys.stdout.write(f"{file}: nothing is wrong\n")
        return 0
    _fuzz(name, rest)
    return 0


def _fuzz(name: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["httpx_tokenflow"]):
        target: Any = importlib.import_module(f"fuzz.on_{name}")
    with tempfile.TemporaryDirectory() as seeds:
        for at, seed in enumerate(target.SEEDS):
            Path(seeds, str(at)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, seeds], target.check)
        atheris.Fuzz()


def _grow(name: str, rest: list[str]) -> int:
    from fuzz import growth

    parser = argparse.ArgumentParser()
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(rest)
    target: Any = importlib.import_module(f"fuzz.on_{name}")
    bad = 0
    for what, reader in target.NESTED.items():
        if fault := growth.depths(reader):
            bad += 1
            sys.stdout.write(f"{name}, {what}: {fault}\n")
    for what, reader in target.READERS.items():
        for before, unit, after in growth.texts_of(target.UNITS, options.seed, options.pairs):
            if fault := growth.faults_of(reader, before, unit, after):
                bad += 1
                sys.stdout.write(f"{name}, {what}: {before!r} + {unit!r} * n + {after!r}: {fault}\n")
                break
    sys.stdout.write(f"{len(target.READERS)} readers, {len(target.NESTED)} nestings: {bad} bad\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
