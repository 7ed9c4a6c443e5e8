"""What it takes to import the package: processor time and modules, beyond those of `import httpx`.

    python benchmarks/imports.py [--json] [--quick]

Rules.

1. The floor is `import httpx` in a fresh process; a number is the ratio to it, httpx or the contender's own host being
   in its own number, since whoever imports the contender imports that too.
2. Processor time, not the clock's, of the import statement alone, in an isolated interpreter with byte code at hand.
   Rounds are interleaved, in an order that a seed decides; a number is the median of the ratios to the same round's
   floor.
3. Modules are counted: those in `sys.modules` afterwards that were not there before. That does not depend on a machine.
4. What is imported is what a program's first lines import to call an API with client credentials.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from typing import Any

from _report import Bar, Report, span

ROUNDS, QUICK = 15, 3
FLOOR, US = "httpx (floor)", "httpx_tokenflow"
BAR = 2.0
OURS = "httpx_tokenflow; from httpx_tokenflow import TokenAuth, ClientCredentials"
CASES = {
    FLOOR: "import httpx",
    US: f"import httpx, {OURS}",
    "httpx_tokenflow, httpx2": f"import httpx2, {OURS}",
    "singleflight-auth": "import httpx; from singleflight_auth import SingleFlightAuth",
    "httpx-auth": "import httpx; from httpx_auth import OAuth2ClientCredentials",
    "authlib": "from authlib.integrations.httpx_client import OAuth2Client",
    "mcp": "import httpx2; from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider",
    "requests-oauth2client": "from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth",
    "google-auth": "from google.auth.transport.requests import AuthorizedSession; import google.oauth2.credentials",
    "azure-core, msal": "import msal; from azure.core import PipelineClient; "
    "from azure.core.pipeline.policies import BearerTokenCredentialPolicy",
    "httpx2 alone": "import httpx2",
    "requests alone": "import requests",
}
PEERS = (
    "singleflight-auth",
    "httpx-auth",
    "authlib",
    "mcp",
    "requests-oauth2client",
    "google-auth",
    "azure-core, msal",
)

_CHILD = """\
import sys, time
before, began = set(sys.modules), time.process_time()
{what}
took = time.process_time() - began
print(took, len(set(sys.modules) - before))
"""

NOTES = """\
time: the processor's, of the import, medians of {rounds} interleaved rounds in fresh processes.
modules: those that it brings. floor: {seconds:.0f} ms and {modules} modules. Over it we import {more}.
Our bar: {bar} times the floor at most.
"""


def once(what: str) -> tuple[float, int] | None:
    """Seconds and modules, or None where it is not installed."""
    command = [sys.executable, "-I", "-c", _CHILD.format(what=what)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        return None
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


def brought() -> str:
    """The packages that ours brings and httpx does not, as a list."""
    code = f"import sys, json; {CASES[FLOOR]}; before = set(sys.modules); {CASES[US]}; "
    code += "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    outside = [name for name in json.loads(done.stdout) if name not in sys.stdlib_module_names and name[0] != "_"]
    return ", ".join(name for name in outside if name != US) or "nothing but itself"


def measure(rounds: int, seed: int) -> dict[str, list[tuple[float, int]]]:
    """For each that is installed, what its rounds took."""
    dice = random.Random(seed)
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in CASES if once(CASES[name])}  # and warms up
    for _ in range(rounds):
        for name in dice.sample(list(found), len(found)):
            one = once(CASES[name])
            if one is not None:
                found[name].append(one)
    return found


def rows(found: dict[str, list[tuple[float, int]]]) -> list[dict[str, Any]]:
    floors = found[FLOOR]
    return [
        {
            "what": name,
            "time": statistics.median(one[0] / floor[0] for one, floor in zip(taken, floors, strict=True)),
            "modules": taken[0][1] / floors[0][1],
            "more_modules": taken[0][1] - floors[0][1],
            "seconds": statistics.median(one[0] for one in taken),
        }
        for name, taken in found.items()
    ]


def report(table: list[dict[str, Any]], rounds: int, modules: int) -> Report:
    by_name = {row["what"]: row for row in table}
    facts = {"rounds": rounds, "seconds": by_name[FLOOR]["seconds"] * 1000, "modules": modules, "bar": BAR}
    peers = [by_name[name]["time"] for name in PEERS if name in by_name]
    ours = by_name[US]["time"]
    return Report(
        title="Import time, over `import httpx`",
        columns=("import", "time ÷ floor", "modules ÷ floor", "modules more", "ms"),
        rows=[
            (
                row["what"],
                f"{row['time']:.2f}",
                f"{row['modules']:.2f}",
                f"{row['more_modules']:,}",
                f"{row['seconds'] * 1000:.0f}",
            )
            for row in table
        ],
        notes=NOTES.format(**facts, more=brought()).splitlines(),
        data={"rows": table, "rounds": rounds},
        bars=[
            Bar("import time ÷ import httpx", f"≤ {BAR:g}", f"{ours:.2f}", ours <= BAR, peers=span(peers)),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What it takes to import the package, over httpx.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rounds")
    parser.add_argument("--seed", type=int, default=0, help="decides the order of a round (default: %(default)s)")
    args = parser.parse_args()
    rounds = QUICK if args.quick else ROUNDS
    found = measure(rounds, args.seed)
    raise SystemExit(report(rows(found), rounds, found[FLOOR][0][1]).show(as_json=args.json))


if __name__ == "__main__":
    main()
