"""What one of 100,000 idle tenants costs: bytes, and what it takes to look one up."""

from __future__ import annotations

import base64
import gc
import random
import statistics
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, ACCESS_TOKEN = 100, "a" * 40
TOKEN_URL, API_URL = "https://as.example.com/token", "https://api.example.com/orders"


def tokenflow(key: str, shared: dict[str, Any]) -> Any:
    from httpx_tokenflow import ClientCredentials, TokenAuth
    from httpx_tokenflow.stores import MemoryStore

    if not shared:
        shared |= {"store": MemoryStore(), "client": httpx.Client(transport=httpx.MockTransport(_issue))}
    grant = ClientCredentials(TOKEN_URL, client_id=key, client_secret=key)
    auth = TokenAuth(grant, **shared)
    auth.token()
    return auth


def _issue(request: httpx.Request) -> httpx.Response:
    name, _ = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().split(":")
    return httpx.Response(200, json={"access_token": f"{ACCESS_TOKEN}{name}", "expires_in": 3600})


def authlib(key: str, shared: dict[str, Any]) -> Any:
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    token = {"access_token": f"{ACCESS_TOKEN}{key}", "token_type": "Bearer", "expires_at": time.time() + 3600}
    how = {"token_endpoint": TOKEN_URL, "grant_type": "client_credentials"}
    return AsyncOAuth2Client(key, f"secret of {key}", token=token, **how)


MAKERS: dict[str, tuple[Callable[[str, dict[str, Any]], Any], int]] = {
    "tokenflow": (tokenflow, 5_000),
    "authlib": (authlib, 20),
}


def traced(contender: str) -> float:
    """Bytes for each of many, over the token's own."""
    make, count = MAKERS[contender]
    shared: dict[str, Any] = {}
    first = [make(f"warm-{number}", shared) for number in range(3)]
    keys = [f"tenant-{number}" for number in range(count)]  # the program's, as their secrets are
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = [make(key, shared) for key in keys]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(first) + len(kept) == count + 3
    return (after - before) / count - len(ACCESS_TOKEN) - len("tenant-1234")


def many(count: int) -> dict[str, float]:
    """Of `count` tokenflow auths in a cache: resident bytes, microseconds to make one; lookups, over a small cache's.

    Of the same few keys, which shows whether anything is searched; and of all of them, at random, which a processor's
    caches do not hold: so slow is memory, and a bare dict of so many shows the like.
    """
    from httpx_tokenflow._auth_cache import AuthCache

    shared: dict[str, Any] = {}
    few = AuthCache(lambda key: tokenflow(key, {}), limit=FEW)
    everybody = AuthCache(lambda key: tokenflow(key, shared), limit=count)
    keys = [f"tenant-{number}" for number in range(count)]
    tokenflow("warm", {})
    gc.collect()
    gc.freeze()
    resident, began = _resident(), time.perf_counter()
    for key in keys:
        everybody[key]
    took = time.perf_counter() - began
    gc.collect()
    resident = _resident() - resident
    gc.freeze()
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=b"{}"))) as client:
        for auths, some in ((few, keys[:FEW]), (everybody, keys)):
            for key in some:  # each has been in use
                request = client.build_request("GET", API_URL)
                next(auths[key].sync_auth_flow(request))
        cases = ((few, keys[:FEW]), (everybody, keys[:FEW]), (everybody, keys))
        laps = [[_lap(client, auths, some) for auths, some in cases] for _ in range(11)]
    return {
        "resident": resident / count - len(ACCESS_TOKEN) - len("tenant-12345"),
        "make": took / count * 1e6,
        "lookup": statistics.median(same / small for (small, _), (same, _), _ in laps[1:]),
        "random": statistics.median(large / small for (small, _), _, (large, _) in laps[1:]),
        "request": statistics.median(large / small for (_, small), _, (_, large) in laps[1:]),
        "lookup_us": statistics.median(small for (small, _), _, _ in laps[1:]) * 1e6,
    }


def _lap(client: Any, auths: Any, keys: list[str], count: int = 1000) -> tuple[float, float]:
    """Seconds for a lookup with a look at the token; and for a whole request."""
    asked = random.choices(keys, k=count)
    request = client.build_request("GET", API_URL)
    began = time.perf_counter()
    for key in asked:
        next(auths[key].sync_auth_flow(request))
        del request.headers["Authorization"]
    looked = time.perf_counter()
    for key in asked:
        client.get(API_URL, auth=auths[key])
    return (looked - began) / count, (time.perf_counter() - looked) / count


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
