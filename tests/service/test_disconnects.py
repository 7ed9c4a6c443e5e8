"""Clients that hang up in the middle: no token is lost by it, and nothing stays in the air."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from service.rig import WORKERS, Service, running

from httpx_tokenflow import BearerAuth

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = 10
LONGEST = 0.15  # seconds after which a client hangs up, at most


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running("hanging_up:app", lifetime=1.0, latency=0.05) as service:  # there are always renewals to be met
        yield service


async def _hang_up(service: Service, times: int) -> Counter[str]:
    """So many requests, of several at once, given up at any moment; what became of them."""
    random_ = random.Random(11)
    auths = [BearerAuth(service.token(f"user-{number}")) for number in range(USERS)]
    outcomes: Counter[str] = Counter()

    async def one(client: httpx.AsyncClient, number: int) -> None:
        path, auth = ("/me", auths[number % USERS]) if number % 2 else ("/shared", None)
        with suppress(TimeoutError):
            async with asyncio.timeout(random_.uniform(0.0, LONGEST)):
                answer = await client.get(path, auth=auth)
                outcomes[str(answer.status_code)] += 1
                return
        outcomes["hung up"] += 1

    async with httpx.AsyncClient(base_url=service.url, timeout=30.0) as client:
        for first in range(0, times, USERS):
            await asyncio.gather(*[one(client, number) for number in range(first, first + USERS)])
    return outcomes


async def _inside(client: httpx.AsyncClient) -> dict[int, dict[str, Any]]:
    """What is in the air in each worker."""
    found: dict[int, dict[str, Any]] = {}
    while len(found) < WORKERS:
        answer = (await client.get("/inside", headers={"Connection": "close"})).json()
        found[answer["worker"]] = answer
    return found


async def _when_clients_hang_up(service: Service, times: int) -> None:
    service.sandbox.reset_counters()
    outcomes = await _hang_up(service, times)
    assert outcomes["hung up"] >= times / 3, outcomes  # or nothing was seen
    assert set(outcomes) <= {"hung up", "200"}, outcomes
    assert service.sandbox.token_requests > USERS / 2  # and they met renewals
    async with httpx.AsyncClient(base_url=service.url, timeout=30.0) as client:
        until = time.monotonic() + 30.0
        while any(one["flights"] or one["waiting"] for one in (await _inside(client)).values()):
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        for number in range(USERS):
            answer = await client.get("/me", auth=BearerAuth(service.token(f"user-{number}")))
            assert answer.json()["upstream"] == f"user-{number}"
            assert (await client.get("/shared")).json()["upstream"] == "backend"
    assert service.sandbox.families_revoked == 0
    assert service.sandbox.is_alive(service.refresh_token)


@pytest.mark.asyncio
async def test_clients_that_hang_up(service: Service) -> None:
    """A hundred times, in the middle of renewals: no session is lost, nothing hangs, and the next ones are served."""
    await _when_clients_hang_up(service, 120)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_500_clients_that_hang_up(service: Service) -> None:
    """Five hundred times and more: likewise."""
    await _when_clients_hang_up(service, 1500)
