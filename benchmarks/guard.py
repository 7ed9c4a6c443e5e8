"""What the guard costs: requests per second with it, over those of the same app without it.

    python benchmarks/guard.py [--json] [--quick]

Rules.

1. A number is a ratio to the floor, the same route without a guard; its requests carry the same token, which nobody
   looks at. The bar is 0.7 under uvicorn: RS256, the issuer's keys at hand, tokens remembered.
2. In memory the app is called as a server calls it: all that is left to measure is the app. Under uvicorn, in a process
   of its own, one connection after another is kept busy over loopback; both are what a service sees.
3. Medians of interleaved rounds, in memory by the processor's time: what the machine does beside falls on all alike.
   The route does nothing, which is the worst case for the guard; and a dependency that does nothing shows how much of
   it is FastAPI's own.
4. Without memory each request costs a signature; that is what a token costs that is new. What is refused, expired or
   signed by somebody else, is looked at each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import httpx
from _report import Bar, Report, span

ISSUER, AUDIENCE = "https://as.example.com", "https://api.example.com"
ROUNDS, PER_ROUND = 15, 150
SOCKET_ROUNDS, PER_SOCKET_ROUND, CONNECTIONS = 11, 100, 4
QUICK = 4  # rounds
LIFE = 300  # seconds after which the server ends by itself
BAR = 0.7


def keys() -> tuple[Any, dict[str, Any]]:
    """The issuer's key, and what it publishes."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from jwt.algorithms import RSAAlgorithm

    private = rsa.generate_private_key(65537, 2048)
    public = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
    del public["key_ops"]
    return private, {"keys": [{**public, "kid": "1"}]}


def tokens(private: Any) -> dict[str, str]:
    """A good token of the size that issuers make, and bad ones."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import rsa

    now = int(time.time())
    said = {
        "iss": ISSUER, "aud": [AUDIENCE, f"{ISSUER}/userinfo"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "iat": now,
        "exp": now + 3600, "azp": "my_client_id", "scope": "openid profile read:orders write:orders",
        "permissions": ["read:orders", "write:orders"], "jti": "b3d1b5c2-1d0c-4f0e-9d55-3c6ff9c7d1a1",
    }  # fmt: skip
    head = {"kid": "1", "typ": "at+jwt"}
    other = rsa.generate_private_key(65537, 2048)
    return {
        "good": jwt.encode(said, private, "RS256", head),
        "expired": jwt.encode({**said, "exp": now - 3600}, private, "RS256", head),
        "forged": jwt.encode(said, other, "RS256", head),
    }


def route(app: Any, dependency: Any) -> Any:
    """A route with nothing in it but, perhaps, a guard."""
    from fastapi import Depends

    if dependency is None:

        async def nothing() -> dict[str, str]:
            return {"orders": "none"}

        app.get("/")(nothing)
        return app

    async def guarded(caller: Any = Depends(dependency)) -> dict[str, str]:  # noqa: B008 - as FastAPI has it
        return {"orders": "none"}

    app.get("/")(guarded)
    return app


def apps(jwks: dict[str, Any]) -> dict[str, Any]:
    """The contenders, by what they are."""
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from httpx_tokenflow.fastapi import Guard, GuardMiddleware, JWTVerifier

    def guard(**how: Any) -> Guard:
        client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=jwks)))
        return Guard(JWTVerifier(ISSUER, AUDIENCE, jwks_uri=f"{ISSUER}/jwks", client=client, **how))

    async def nothing(_request: Any) -> JSONResponse:
        return JSONResponse({"orders": "none"})

    async def looks_at_nothing() -> None:
        return None

    plain = Starlette(routes=[Route("/", nothing)])
    return {
        "FastAPI": route(FastAPI(), None),
        "FastAPI, a dependency that does nothing": route(FastAPI(), looks_at_nothing),
        "FastAPI, guard": route(FastAPI(), guard()),
        "FastAPI, guard without memory": route(FastAPI(), guard(cache_size=0)),
        "FastAPI, middleware": GuardMiddleware(route(FastAPI(), None), guard()),
        "Starlette": plain,
        "Starlette, middleware": GuardMiddleware(plain, guard()),
        "Starlette, middleware without memory": GuardMiddleware(plain, guard(cache_size=0)),
    }


FLOOR_OF = {
    "FastAPI, a dependency that does nothing": "FastAPI",
    "FastAPI, guard": "FastAPI",
    "FastAPI, guard without memory": "FastAPI",
    "FastAPI, guard, refused: expired": "FastAPI",
    "FastAPI, guard, refused: forged": "FastAPI",
    "FastAPI, middleware": "FastAPI",
    "Starlette, middleware": "Starlette",
    "Starlette, middleware without memory": "Starlette",
}
REMEMBERS = ("FastAPI, guard", "FastAPI, middleware", "Starlette, middleware")


# In memory


def scope_of(token: str) -> dict[str, Any]:
    headers = [(b"host", b"api.example.com"), (b"accept", b"*/*"), (b"authorization", f"Bearer {token}".encode())]
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
        "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "", "headers": headers,
        "server": ("api.example.com", 443), "client": ("192.0.2.1", 1),
    }  # fmt: skip


async def call(app: Any, token: str, times: int, status: int) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != status:
            raise RuntimeError(f"{message['status']} and not {status}")

    for _ in range(times):
        await app({**scope_of(token), "state": {}}, receive, send)


async def in_memory(contenders: dict[str, Any], sent: dict[str, str], rounds: int) -> dict[str, float]:
    """Requests per second of each."""
    cases = {name: (app, sent["good"], 200) for name, app in contenders.items()}
    for kind in ("expired", "forged"):
        cases[f"FastAPI, guard, refused: {kind}"] = (contenders["FastAPI, guard"], sent[kind], 401)
    laps: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (app, token, status) in cases.items():
            started = time.process_time()
            await call(app, token, PER_ROUND, status)
            laps[name].append(PER_ROUND / (time.process_time() - started))
    return {name: statistics.median(each[1:]) for name, each in laps.items()}  # the first warms up


# Under uvicorn


def child(descriptor: int, jwks: str) -> None:
    """Serve all contenders in one process, each below a path of its own."""
    import uvicorn

    contenders = list(apps(json.loads(jwks)).values())

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            at, scope["path"], scope["raw_path"] = int(scope["path"][1:]), "/", b"/"
            await contenders[at](scope, receive, send)

    signal.alarm(LIFE)
    config = uvicorn.Config(dispatch, log_level="error", access_log=False, lifespan="off")
    uvicorn.Server(config).run([socket.socket(fileno=descriptor)])


async def busy(port: int, at: int, token: str, times: int) -> None:
    """One connection, one request after another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET /{at} HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for _ in range(times):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.partition(b"\r\n")[0].decode())
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()


async def under_uvicorn(names: list[str], port: int, token: str, rounds: int) -> dict[str, float]:
    """Requests per second of each."""
    laps: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for at, name in enumerate(names):
            started = time.perf_counter()
            await asyncio.gather(*(busy(port, at, token, PER_SOCKET_ROUND) for _ in range(CONNECTIONS)))
            laps[name].append(CONNECTIONS * PER_SOCKET_ROUND / (time.perf_counter() - started))
    return {name: statistics.median(each[1:]) for name, each in laps.items()}


def served(names: list[str], jwks: dict[str, Any], token: str, rounds: int) -> dict[str, float]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        os.set_inheritable(listener.fileno(), True)
        command = [sys.executable, __file__, "--child", str(listener.fileno()), json.dumps(jwks)]
        server = subprocess.Popen(command, pass_fds=[listener.fileno()])
        try:  # who connects before it is up waits in the backlog
            return asyncio.run(under_uvicorn(names, listener.getsockname()[1], token, rounds))
        finally:
            server.terminate()
            server.wait(10)


def report(memory: dict[str, float], sockets: dict[str, float]) -> Report:
    def ratio(rates: dict[str, float], name: str) -> float | None:
        return rates[name] / rates[FLOOR_OF[name]] if name in rates else None

    rows = {name: (ratio(memory, name), ratio(sockets, name)) for name in FLOOR_OF}
    floors = [
        f"{name}: {memory[name]:,.0f} in memory, {sockets[name]:,.0f} under uvicorn"
        for name in ("FastAPI", "Starlette")
    ]
    costs = {name: 1e6 / memory[name] - 1e6 / memory[FLOOR_OF[name]] for name in FLOOR_OF}
    return Report(
        title="Requests per second with the guard, as a ratio to the same app without it (RS256, keys at hand)",
        columns=("app", "in memory", "under uvicorn", "microseconds more"),
        rows=[
            (name, *("-" if one is None else f"{one:.2f}" for one in pair), f"{costs[name]:,.0f}")
            for name, pair in rows.items()
        ],
        notes=[
            f"floor, requests per second: {'; '.join(floors)}",
            f"the bar is {BAR} for a guard that remembers, under uvicorn; a difference below 0.05 means nothing",
        ],
        data={
            "rows": [{"app": name, "in memory": pair[0], "under uvicorn": pair[1]} for name, pair in rows.items()],
            "requests per second": {"in memory": memory, "under uvicorn": sockets},
        },
        bars=[_bar(rows)],
    )


def _bar(rows: dict[str, tuple[float | None, float | None]]) -> Bar:
    """Of the guards that remember, as a service sees it; no peer guards the like."""
    ratios = [one for name in REMEMBERS if (one := rows[name][1]) is not None]
    what = "requests per second with the guard ÷ without, under uvicorn"
    return Bar(what, f"≥ {BAR}", span(ratios), min(ratios) >= BAR)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the guard costs, over the same app without it.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--child", nargs=2, metavar=("FD", "JWKS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(int(args.child[0]), args.child[1])
        return
    private, jwks = keys()
    sent = tokens(private)
    contenders = apps(jwks)
    rounds, socket_rounds = (QUICK, QUICK) if args.quick else (ROUNDS, SOCKET_ROUNDS)
    memory = asyncio.run(in_memory(contenders, sent, rounds))
    sockets = served(list(contenders), jwks, sent["good"], socket_rounds)
    raise SystemExit(report(memory, sockets).show(as_json=args.json))


if __name__ == "__main__":
    main()
