"""A steady stream of requests, and a token that is renewed in the middle of it: who waits, and for how long.

    python benchmarks/rollover.py [--json] [--seconds 6] [--repeat 5] [--latency 0.5]

Rules.

1. Each of a few callers sends, in turn, one request by the contender, whose token is renewed every two seconds, and one
   by its twin, whose token is not; half of the callers the other way round: so that whatever else the machine does
   hinders both. A number is the ratio of the two, over all repetitions.
2. A token request takes `--latency`; the API answers after a few milliseconds, in memory (`_server`).
3. The hand-written lock is what everybody writes first: look at the clock, and if the token ends soon, get another
   while the others wait. It renews at the same moments as we do.
"""

from __future__ import annotations

import argparse
import gc
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from _report import Report
from _server import API_URL, GOOD, TOKEN_URL, Server
from _storm import ASYNCIO, THREADS, TRIO

from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth

if TYPE_CHECKING:
    from collections.abc import Callable

CALLERS = 8
API_LATENCY = 0.004  # seconds
LIFETIME, EVERY = 60, 2.0  # seconds: a token lives so long, and is renewed after so long
US, BY_HAND = "httpx-tokenflow", "hand-written lock"
BAR = 1.1

NOTES = """\
{callers} callers, {seconds:g} s for each cell, {repeat} times; a token request takes {latency:g} s, the API {api:g} s.
waited: requests that took longer than half a token request, in all repetitions; its twin's, whose token is not renewed.
p50, p99, p99.9: over all repetitions, the ratio to the twin, and in brackets what that was in milliseconds.
Our bar: nobody waits on asyncio and trio, and p99.9 is {bar} times the twin's at most. In threads the one caller who
finds the token early renews it.
"""


class ByHand(httpx.Auth):
    """Rule 3."""

    def __init__(self, server: Server, *, is_async: bool) -> None:
        self._server = server
        self._client: Any = (httpx.AsyncClient if is_async else httpx.Client)(transport=server.transport(httpx))
        self._lock: Any = anyio.Lock() if is_async else threading.Lock()
        self._value, self._until = "", 0.0

    def _take(self, response: httpx.Response) -> None:
        self._value, self._until = f"Bearer {response.json()['access_token']}", time.monotonic() + EVERY

    def sync_auth_flow(self, request: Any) -> Any:
        with self._lock:
            if time.monotonic() >= self._until:
                self._take(self._client.post(TOKEN_URL, data={"grant_type": "client_credentials"}))
        request.headers["Authorization"] = self._value
        yield request

    async def async_auth_flow(self, request: Any) -> Any:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._take(await self._client.post(TOKEN_URL, data={"grant_type": "client_credentials"}))
        request.headers["Authorization"] = self._value
        yield request


class SlowApi(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The server, with an API that takes a moment."""

    def __init__(self, server: Server) -> None:
        self._inner = server.transport(httpx)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        time.sleep(API_LATENCY)
        return self._inner.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(API_LATENCY)
        return await self._inner.handle_async_request(request)


@dataclass
class Stream:
    """What one contender and its twin took, request by request, in seconds."""

    rolling: list[float] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)
    failed: int = 0
    token_requests: int = 0


def clients(contender: str, server: Server, kind: type[Any], *, is_async: bool) -> tuple[Any, Any]:
    """The contender's client and its twin's."""
    transport = SlowApi(server)
    if contender == BY_HAND:
        twin = {"headers": {"Authorization": f"Bearer {GOOD}"}}
        return kind(transport=transport, auth=ByHand(server, is_async=is_async)), kind(transport=transport, **twin)
    wire = kind(transport=server.transport(httpx))
    policies = RenewalPolicy(early_window=LIFETIME - EVERY, jitter=0.0), RenewalPolicy(early_window=0.0)
    return tuple(
        kind(transport=transport, auth=TokenAuth(_grant(name), client=wire, policy=policy))
        for name, policy in zip(("rolling", "steady"), policies, strict=True)
    )


def _grant(name: str) -> ClientCredentials:
    return ClientCredentials(TOKEN_URL, client_id=name, client_secret="secret")


def _pairs(both: tuple[Any, Any], stream: Stream) -> list[tuple[Any, list[float]]]:
    return list(zip(both, (stream.rolling, stream.steady), strict=True))


async def _stream_on_a_loop(contender: str, server: Server, seconds: float, stream: Stream) -> None:
    both = clients(contender, server, httpx.AsyncClient, is_async=True)
    for client in both:
        await client.get(API_URL)
    end = time.monotonic() + seconds

    async def call(order: int) -> None:
        while time.monotonic() < end:
            for client, took in _pairs(both, stream)[::order]:
                began = time.perf_counter()
                response = await client.get(API_URL)
                took.append(time.perf_counter() - began)
                stream.failed += response.status_code != 200

    async with anyio.create_task_group() as tasks:
        for number in range(CALLERS):
            tasks.start_soon(call, 1 if number % 2 else -1)


def _stream_in_threads(contender: str, server: Server, seconds: float, stream: Stream) -> None:
    both = clients(contender, server, httpx.Client, is_async=False)
    for client in both:
        client.get(API_URL)
    end = time.monotonic() + seconds

    def call(order: int) -> None:
        while time.monotonic() < end:
            for client, took in _pairs(both, stream)[::order]:
                began = time.perf_counter()
                response = client.get(API_URL)
                took.append(time.perf_counter() - began)
                stream.failed += response.status_code != 200

    threads = [threading.Thread(target=call, args=(1 if number % 2 else -1,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stream(contender: str, runtime: str, args: argparse.Namespace) -> Stream:
    """One stream."""
    done = Stream()
    gc.collect()
    gc.freeze()  # a full collection would stop the world for longer than an API takes
    server = Server(latency=args.latency, lifetime=LIFETIME)
    if runtime == THREADS:
        _stream_in_threads(contender, server, args.seconds, done)
    else:
        anyio.run(partial(_stream_on_a_loop, contender, server, args.seconds, done), backend=runtime)
    done.token_requests = server.token_requests
    return done


def _quantile(share: float) -> Callable[[list[float]], float]:
    return lambda took: sorted(took)[min(len(took) - 1, int(len(took) * share))]


QUANTILES = {"p50": _quantile(0.5), "p99": _quantile(0.99), "p99.9": _quantile(0.999)}


def _row(contender: str, runtime: str, streams: list[Stream], latency: float) -> dict[str, Any]:
    def waited(which: str) -> int:
        return sum(seconds > latency / 2 for one in streams for seconds in getattr(one, which))

    rolling, steady = ([took for one in streams for took in getattr(one, name)] for name in ("rolling", "steady"))
    quantiles = {name: quantile(steady) for name, quantile in QUANTILES.items()}
    ratios = {name: quantile(rolling) / quantiles[name] for name, quantile in QUANTILES.items()}
    return {
        "runtime": runtime,
        "contender": contender,
        "requests": sum(len(one.rolling) for one in streams),
        "token_requests": sum(one.token_requests for one in streams),
        "failed": sum(one.failed for one in streams),
        "waited": waited("rolling"),
        "twin_waited": waited("steady"),
        "ratios": ratios,
        "steady_ms": {name: seconds * 1000 for name, seconds in quantiles.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.5)
    args = parser.parse_args()
    rows = []
    for runtime in (ASYNCIO, TRIO, THREADS):
        streams: dict[str, list[Stream]] = {US: [], BY_HAND: []}
        for _ in range(args.repeat):
            for contender, done in streams.items():
                print(f"\r{runtime}, {contender} …", end="\033[K", file=sys.stderr)
                done.append(stream(contender, runtime, args))
        rows += [_row(contender, runtime, done, args.latency) for contender, done in streams.items()]
    print("\r", end="\033[K", file=sys.stderr)
    cells = [
        (
            row["runtime"],
            row["contender"],
            f"{row['requests']:,}",
            str(row["token_requests"]),
            str(row["failed"]),
            f"{row['waited']} ({row['twin_waited']})",
            *(f"{row['ratios'][name]:.2f} ({row['steady_ms'][name]:.1f})" for name in QUANTILES),
        )
        for row in rows
    ]
    columns = ("runtime", "contender", "requests", "token requests", "failed", "waited", *QUANTILES)
    note = NOTES.format(callers=CALLERS, api=API_LATENCY, bar=BAR, **vars(args))
    Report("A roll-over under steady load", columns, cells, note.splitlines(), {"rows": rows}).show(as_json=args.json)


if __name__ == "__main__":
    main()
