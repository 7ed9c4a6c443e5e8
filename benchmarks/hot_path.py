"""What a request with a fresh token costs, over the same request with a static header.

    python benchmarks/hot_path.py [--json] [--wall] [--quick]

Rules.

1. A number is a ratio to the floor: a client of the same kind whose `Authorization` header was written down by hand.
2. Where valgrind is there, cost is instructions per request, which a busy machine does not change. Each case has a
   process, forked where all imports and set-up are done: it sends 100 requests, has valgrind tell the count so far and
   sends 200 more. Elsewhere, and with `--wall`, cost is the median of interleaved rounds by the clock.
3. The transport is in memory, with one small answer: all that is left to measure is the client (`_fresh.py`).
4. Every contender has its token already, in the way that its manual shows, and is seen to send it before it is
   measured. A dash: that library does not serve that client. Who lives on requests or azure-core has its floor there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

from _fresh import CASES, ELSEWHERE, FLOOR, JSON, URL
from _report import Bar, Report, span

if TYPE_CHECKING:
    from _fresh import Case

HTTPX_KINDS = [("httpx", "sync"), ("httpx", "async"), ("httpx2", "sync"), ("httpx2", "async")]
KINDS = [*HTTPX_KINDS, *((host, "sync") for host in ELSEWHERE)]
NAMES = {"requests": "requests.Session", "azure-core": "azure PipelineClient"}
WARM_UP, MEASURED = 100, 200
ROUNDS, PER_ROUND = 41, 100
QUICK = 5  # rounds
BAR, BAR_BY_CLOCK = 1.0, 1.05
PEERS = {
    "singleflight-auth": "singleflight-auth",
    "httpx-auth OAuth2ClientCredentials": "httpx-auth",
    "authlib OAuth2Client": "authlib",
    "mcp ClientCredentialsOAuthProvider": "mcp",
    "requests-oauth2client OAuth2ClientCredentialsAuth": "requests-oauth2client",
    "google-auth AuthorizedSession": "google-auth",
    "azure-core BearerTokenCredentialPolicy, msal": "azure-core, msal",
}
US = "tokenflow TokenAuth"
Costs = dict[tuple[str, str], dict[str, float]]


def cases_of(host: str) -> dict[str, Case]:
    return ELSEWHERE.get(host, CASES)


def answer_of(host: str) -> Any:
    """How a handler of that host answers: with a status and a body."""
    if host in ELSEWHERE:
        return lambda status, content: (status, content)
    response = importlib.import_module(host).Response
    return lambda status, content: response(status, headers=JSON, content=content)


def library_of(host: str) -> Any:
    return None if host in ELSEWHERE else importlib.import_module(host)


def contestants() -> dict[tuple[str, str], list[str]]:
    """Which cases there are for each kind of client; each is seen to send its credential."""
    found: dict[tuple[str, str], list[str]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        host, is_async, answer = kind[0], kind[1] == "async", answer_of(kind[0])

        def strict(request: Any, answer: Any = answer) -> Any:
            sent = {request.headers.get("authorization"), request.headers.get("x-api-key")} & {"Bearer good", "good"}
            return answer(200 if sent else 401, b"{}")

        for name, case in cases_of(host).items():
            client = case(library_of(host), is_async, strict)
            if client is None:
                continue
            response = asyncio.run(client.get(URL)) if is_async else client.get(URL)
            if response.status_code != 200:
                raise RuntimeError(f"{name} sent no credential with {host}, {kind[1]}")
            found[kind].append(name)
    return found


def lean_client(host: str, flavour: str, case: str) -> Any:
    answer = answer_of(host)
    return cases_of(host)[case](library_of(host), flavour == "async", lambda _: answer(200, b'{"orders": []}'))


# By instructions


def child(library_name: str, flavour: str, *cases: str) -> NoReturn:
    """For valgrind: a fork for each case, which tells twice how many instructions there were so far."""
    clients = [lean_client(library_name, flavour, case) for case in cases]
    gc.collect()
    gc.freeze()  # collections see what requests leave behind, and not the imports
    for client in clients:
        if os.fork() == 0:
            _send(client) if flavour == "sync" else asyncio.run(_asend(client))
        if os.wait()[1] != 0:
            os._exit(1)
    os._exit(0)


def _send(client: Any) -> NoReturn:
    for _ in range(WARM_UP):
        client.get(URL)
    _tell()
    for _ in range(MEASURED):
        client.get(URL)
    os._exit(0)


async def _asend(client: Any) -> NoReturn:
    for _ in range(WARM_UP):
        await client.get(URL)
    _tell()
    for _ in range(MEASURED):
        await client.get(URL)
    os._exit(0)


def _tell() -> None:
    """Let valgrind say what it has counted so far, as it does at the end of a process."""
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def instructions(library_name: str, flavour: str, cases: list[str]) -> dict[str, float]:
    counted = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command = [*counted, sys.executable, __file__, "--child", library_name, flavour, *cases]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    counts = [int(each.replace(",", "")) for each in re.findall(r"I\s+refs:\s+([\d,]+)", done.stderr)]
    if done.returncode or len(counts) != 2 * len(cases) + 1:  # the last is the parent's
        raise RuntimeError(f"{library_name}, {flavour} failed under valgrind:\n{done.stderr}")
    return {case: (counts[2 * at + 1] - counts[2 * at]) / MEASURED for at, case in enumerate(cases)}


def by_instructions(cells: dict[tuple[str, str], list[str]]) -> Costs:
    print("counting instructions: a minute or two", file=sys.stderr)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(KINDS, pool.map(lambda kind: instructions(*kind, cells[kind]), KINDS), strict=True))


# By the clock


def by_clock(cells: dict[tuple[str, str], list[str]], rounds: int = ROUNDS) -> Costs:
    costs: Costs = {}
    for kind in KINDS:
        clients = {case: lean_client(*kind, case) for case in cells[kind]}
        laps = asyncio.run(_async_laps(clients, rounds)) if kind[1] == "async" else _laps(clients, rounds)
        costs[kind] = {case: statistics.median(each[1:]) for case, each in laps.items()}  # the first warms up
    return costs


def _laps(clients: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    laps: dict[str, list[float]] = {case: [] for case in clients}
    for _ in range(rounds):
        for case, client in clients.items():
            started = time.perf_counter()
            for _ in range(PER_ROUND):
                client.get(URL)
            laps[case].append((time.perf_counter() - started) / PER_ROUND)
    return laps


async def _async_laps(clients: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    laps: dict[str, list[float]] = {case: [] for case in clients}
    for _ in range(rounds):
        for case, client in clients.items():
            started = time.perf_counter()
            for _ in range(PER_ROUND):
                await client.get(URL)
            laps[case].append((time.perf_counter() - started) / PER_ROUND)
    return laps


def name_of(host: str, flavour: str) -> str:
    return NAMES.get(host) or f"{host}.{'AsyncClient' if flavour == 'async' else 'Client'}"


def report(costs: Costs, *, counted: bool) -> Report:
    """The table: a row for each case, a column for each kind of client."""
    names = [name_of(*kind) for kind in costs]
    cases = list(dict.fromkeys(case for each in costs.values() for case in each))
    ratios = {case: [each[case] / each[FLOOR] if case in each else None for each in costs.values()] for case in cases}
    floors = [each[FLOOR] for each in costs.values()]
    unit = "instructions" if counted else "microseconds"
    shown = [f"{floor:,.0f}" if counted else f"{floor * 1e6:,.1f}" for floor in floors]
    how = "valgrind's count of instructions" if counted else "wall clock, medians of interleaved rounds"
    machines = [dict(zip(names, ratios[case], strict=True)) for case in cases]
    return Report(
        title=f"Cost of a request with a fresh token, as a ratio to one with a static header ({how})",
        columns=("auth", *names),
        rows=[(case, *("-" if one is None else f"{one:.3f}" for one in ratios[case])) for case in cases],
        notes=[
            f"floor, {unit} per request: {', '.join(map('{} {}'.format, names, shown))}",
            f"a difference below {0.005 if counted else 0.05} means nothing; a dash: not for that client",
        ],
        data={
            "measure": "instructions" if counted else "seconds",
            "floor": dict(zip(names, floors, strict=True)),
            "rows": [
                {"auth": case, "name": "tokenflow" if case == US else PEERS.get(case), **row}
                for case, row in zip(cases, machines, strict=True)
            ],
            "picture": ["httpx.AsyncClient", "httpx2.AsyncClient", *NAMES.values()],
        },
        bars=_bars(ratios, counted=counted),
    )


def _bars(ratios: dict[str, list[float | None]], *, counted: bool) -> list[Bar]:
    ours = [one for one in ratios.get(US, []) if one is not None]
    if not ours:
        return []
    peers = [one for case in PEERS for one in ratios.get(case, []) if one is not None]
    bar = BAR if counted else BAR_BY_CLOCK
    what = "cost of a request with a fresh token ÷ static header"
    return [Bar(what, f"≤ {bar:g}", span(ours, "{:.3f}"), max(ours) < bar + 0.005, peers=span(peers, "{:.3f}"))]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a request with a fresh token costs, over a static header.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--wall", action="store_true", help="by the clock, even where valgrind is there")
    parser.add_argument("--quick", action="store_true", help="by the clock, and few rounds")
    parser.add_argument("--child", nargs="+", metavar="LIB KIND CASE…", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    counted = not (args.wall or args.quick) and shutil.which("valgrind") is not None
    cells = contestants()
    costs = by_instructions(cells) if counted else by_clock(cells, QUICK if args.quick else ROUNDS)
    raise SystemExit(report(costs, counted=counted).show(as_json=args.json))


if __name__ == "__main__":
    main()
