"""The example: a backend with a guard at its front, which calls an upstream API on behalf of whoever calls it.

    ISSUER=… UPSTREAM=… REDIS=… uvicorn --app-dir tests/service backend:app --workers 2

Whoever comes with an access token for the audience "backend" and the scope "read" gets their own data from the
upstream: the token that came in is exchanged for one that the upstream takes (RFC 8693), once for each of them,
whatever they ask at once, and in whichever worker: the workers share a store. What the service needs for itself it has
from a session of its own, whose refresh token rotates.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Security
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio import Redis

from httpx_tokenflow import RefreshToken, Token, TokenAuth, TokenExchange
from httpx_tokenflow.fastapi import Caller, Guard, JWTVerifier, OnBehalfOf, Upstreams, install_problems, readiness
from httpx_tokenflow.instrumentation import PrometheusMetrics
from httpx_tokenflow.stores import RedisStore

ISSUER, UPSTREAM = os.environ["ISSUER"], os.environ["UPSTREAM"]
SERVER = {"issuer": ISSUER, "client_id": "client", "client_secret": "secret"}

redis = Redis.from_url(os.environ["REDIS"])
store = RedisStore(redis, timeout=5.0)  # seconds: a worker that is very busy is no outage of Redis
metrics = PrometheusMetrics()

guard = Guard(JWTVerifier(ISSUER, "backend"), scopes=["read"])
on_behalf = OnBehalfOf(
    guard, TokenExchange(audience="upstream", **SERVER), origins=(UPSTREAM,), store=store, on_event=metrics
)
session = TokenAuth(
    RefreshToken(subject="backend", **SERVER),
    token=Token.for_refresh(os.environ["REFRESH_TOKEN"]),
    origins=(UPSTREAM,),
    store=store,
    on_event=metrics,
)
upstreams = Upstreams(
    clients={
        # One pool for all callers; whose credential goes along is said with each request.
        "upstream": lambda: httpx.AsyncClient(base_url=UPSTREAM, timeout=30.0),
    },
    auths={"session": session},
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with upstreams.lifespan(app), on_behalf:
        yield
    await redis.aclose()


app = FastAPI(lifespan=lifespan)
install_problems(app, guard=guard)

Upstream = Annotated[httpx.AsyncClient, Depends(upstreams.client("upstream"))]


@app.get("/me")
async def me(
    caller: Annotated[Caller, Security(guard)],
    auth: Annotated[TokenAuth, Depends(on_behalf)],
    upstream: Upstream,
) -> dict[str, Any]:
    """What the upstream has for whoever calls."""
    answer = await upstream.get("/api/me", auth=auth)
    theirs = answer.raise_for_status().json()
    return {"caller": caller.subject, "upstream": theirs["subject"], "worker": os.getpid()}


@app.get("/shared")
async def shared(auth: Annotated[TokenAuth, Depends(upstreams.auth("session"))], upstream: Upstream) -> dict[str, Any]:
    """What the upstream has for the service itself."""
    answer = await upstream.get("/api/shared", auth=auth)
    return {"upstream": answer.raise_for_status().json()["subject"], "worker": os.getpid()}


app.add_route("/ready", readiness(upstreams))


@app.get("/metrics")
async def scrape() -> Response:
    """Of this worker alone; with PROMETHEUS_MULTIPROC_DIR of all of them."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@app.get("/worker")
async def worker() -> dict[str, int]:
    """Which process this is."""
    return {"worker": os.getpid()}
