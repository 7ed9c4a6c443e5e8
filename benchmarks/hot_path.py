"""What a request with a fresh token costs, over the same request with a static header.

    python benchmarks/hot_path.py [--json] [--wall]

Rules.

1. A number is a ratio to the floor: a client of the same kind whose `Authorization` header was written down by hand.
2. Where valgrind is there, cost is instructions per request, which a busy machine does not change. Each case has a
   process, forked where all imports and set-up are done: it sends 100 requests, has valgrind tell the count so far and
   sends 200 more. Elsewhere, and with `--wall`, cost is the median of interleaved rounds by the clock.
3. The transport is the library's own MockTransport with one small answer: all that is left to measure is the client.
4. Every contender has its token already, in the way that its manual shows, and is seen to send it before it is
   measured. A dash: that library does not serve that client.
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

from _report import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Handler = Callable[[Any], Any]
    Case = Callable[[ModuleType, bool, Handler], Any]

URL = "https://api.example.com/orders"
ORIGIN = "https://api.example.com"
TOKEN_URL = "https://as.example.com/token"
WARM_UP, MEASURED = 100, 200
ROUNDS, PER_ROUND = 41, 100
JSON = {"content-type": "application/json"}

KINDS = [("httpx", "sync"), ("httpx", "async"), ("httpx2", "sync"), ("httpx2", "async")]


def client_of(library: ModuleType, is_async: bool, handler: Handler, **how: Any) -> Any:
    kind = library.AsyncClient if is_async else library.Client
    return kind(transport=library.MockTransport(handler), trust_env=False, **how)


# The contenders: each makes a client that has its token, or None if it does not serve that library.


def static_header(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return client_of(library, is_async, handler, headers={"Authorization": "Bearer good"})


def bare_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    class Bare(library.Auth):
        def sync_auth_flow(self, request):
            request.headers["Authorization"] = "Bearer good"
            yield request

        async def async_auth_flow(self, request):
            request.headers["Authorization"] = "Bearer good"
            yield request

    return client_of(library, is_async, handler, auth=Bare())


def token_auth(library: ModuleType, is_async: bool, handler: Handler, origins: tuple[str, ...] | None = None) -> Any:
    from httpx_tokenflow import ClientCredentials, Token, TokenAuth

    grant = ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret")
    auth = TokenAuth(grant, token=Token("good", expires_at=time.time() + 3600), origins=origins)
    auth.token()
    return client_of(library, is_async, handler, auth=auth)


def token_auth_pinned(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return token_auth(library, is_async, handler, origins=(ORIGIN,))


def bearer_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from httpx_tokenflow import BearerAuth

    return client_of(library, is_async, handler, auth=BearerAuth("good"))


def api_key_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from httpx_tokenflow import APIKeyAuth

    return client_of(library, is_async, handler, auth=APIKeyAuth("good"))


def singleflight(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from singleflight_auth import AsyncSingleFlightAuth, SingleFlightAuth

    kind = AsyncSingleFlightAuth if is_async else SingleFlightAuth
    if not issubclass(kind, library.Auth):
        return None
    return client_of(library, is_async, handler, auth=kind(get_token=lambda: "good", refresh=_never))


def httpx_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from httpx_auth import OAuth2ClientCredentials

    if not issubclass(OAuth2ClientCredentials, library.Auth):
        return None
    answer = b'{"access_token": "good", "token_type": "Bearer", "expires_in": 3600}'
    token_client = client_of(library, False, lambda _: library.Response(200, headers=JSON, content=answer))
    auth = OAuth2ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret", client=token_client)
    return client_of(library, is_async, handler, auth=auth)  # the first request fills its cache


def authlib(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client

    kind: Any = AsyncOAuth2Client if is_async else OAuth2Client
    if not issubclass(kind, library.AsyncClient if is_async else library.Client):
        return None
    token = {"access_token": "good", "token_type": "Bearer", "expires_at": int(time.time()) + 3600}
    how = {"transport": library.MockTransport(handler), "trust_env": False, "token_endpoint": TOKEN_URL}
    return kind("client", "secret", token=token, grant_type="client_credentials", **how)


def _never() -> str:
    raise AssertionError("the token is good: there is nothing to refresh")


CASES: dict[str, Case] = {
    "static header (floor)": static_header,
    "bare Auth: sets the header, checks nothing": bare_auth,
    "tokenflow TokenAuth": token_auth,
    "tokenflow TokenAuth, origins=": token_auth_pinned,
    "tokenflow BearerAuth": bearer_auth,
    "tokenflow APIKeyAuth": api_key_auth,
    "singleflight-auth": singleflight,
    "httpx-auth OAuth2ClientCredentials": httpx_auth,
    "authlib OAuth2Client": authlib,
}
FLOOR = next(iter(CASES))
Costs = dict[tuple[str, str], dict[str, float]]


def contestants() -> dict[tuple[str, str], list[str]]:
    """Which cases there are for each kind of client; each is seen to send its credential."""
    found: dict[tuple[str, str], list[str]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        library = importlib.import_module(kind[0])

        def strict(request: Any, library: ModuleType = library) -> Any:
            sent = {request.headers.get("authorization"), request.headers.get("x-api-key")} & {"Bearer good", "good"}
            return library.Response(200 if sent else 401, headers=JSON, content=b"{}")

        for name, case in CASES.items():
            client = case(library, kind[1] == "async", strict)
            if client is None:
                continue
            response = asyncio.run(client.get(URL)) if kind[1] == "async" else client.get(URL)
            if response.status_code != 200:
                raise RuntimeError(f"{name} sent no credential with {library.__name__}, {kind[1]}")
            found[kind].append(name)
    return found


def lean_client(library_name: str, flavour: str, case: str) -> Any:
    library = importlib.import_module(library_name)
    answer = b'{"orders": []}'
    return CASES[case](library, flavour == "async", lambda _: library.Response(200, headers=JSON, content=answer))


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
    print("counting instructions: about a minute", file=sys.stderr)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(KINDS, pool.map(lambda kind: instructions(*kind, cells[kind]), KINDS), strict=True))


# By the clock


def by_clock(cells: dict[tuple[str, str], list[str]]) -> Costs:
    costs: Costs = {}
    for kind in KINDS:
        clients = {case: lean_client(*kind, case) for case in cells[kind]}
        laps = asyncio.run(_async_laps(clients)) if kind[1] == "async" else _laps(clients)
        costs[kind] = {case: statistics.median(each[1:]) for case, each in laps.items()}  # the first warms up
    return costs


def _laps(clients: dict[str, Any]) -> dict[str, list[float]]:
    laps: dict[str, list[float]] = {case: [] for case in clients}
    for _ in range(ROUNDS):
        for case, client in clients.items():
            started = time.perf_counter()
            for _ in range(PER_ROUND):
                client.get(URL)
            laps[case].append((time.perf_counter() - started) / PER_ROUND)
    return laps


async def _async_laps(clients: dict[str, Any]) -> dict[str, list[float]]:
    laps: dict[str, list[float]] = {case: [] for case in clients}
    for _ in range(ROUNDS):
        for case, client in clients.items():
            started = time.perf_counter()
            for _ in range(PER_ROUND):
                await client.get(URL)
            laps[case].append((time.perf_counter() - started) / PER_ROUND)
    return laps


def report(costs: Costs, *, counted: bool) -> Report:
    """The table: a row for each case, a column for each kind of client."""
    names = [f"{library}.{'AsyncClient' if flavour == 'async' else 'Client'}" for library, flavour in KINDS]
    ratios = {case: [each[case] / each[FLOOR] if case in each else None for each in costs.values()] for case in CASES}
    floors = [each[FLOOR] for each in costs.values()]
    unit = "instructions" if counted else "microseconds"
    shown = [f"{floor:,.0f}" if counted else f"{floor * 1e6:,.1f}" for floor in floors]
    how = "valgrind's count of instructions" if counted else f"wall clock, medians of {ROUNDS - 1} interleaved rounds"
    return Report(
        title=f"Cost of a request with a fresh token, as a ratio to one with a static header ({how})",
        columns=("auth", *names),
        rows=[(case, *("-" if one is None else f"{one:.3f}" for one in ratios[case])) for case in CASES],
        notes=[
            f"floor, {unit} per request: {', '.join(map('{} {}'.format, names, shown))}",
            f"a difference below {0.005 if counted else 0.05} means nothing; a dash: not for that client",
        ],
        data={
            "measure": "instructions" if counted else "seconds",
            "floor": dict(zip(names, floors, strict=True)),
            "rows": [{"auth": case, **dict(zip(names, ratios[case], strict=True))} for case in CASES],
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What a request with a fresh token costs, over a static header.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--wall", action="store_true", help="by the clock, even where valgrind is there")
    parser.add_argument("--child", nargs="+", metavar="LIB KIND CASE…", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    counted = not args.wall and shutil.which("valgrind") is not None
    cells = contestants()
    costs = by_instructions(cells) if counted else by_clock(cells)
    report(costs, counted=counted).show(as_json=args.json)


if __name__ == "__main__":
    main()
