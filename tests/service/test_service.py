"""The example service: nobody fails, nobody gets another's data, no token is paid for twice, and none is lost."""

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
    from collections.abc import Callable, Iterator

PER_ROLLOVER = 5  # requests of each user, between two rollovers
USERS = 10  # who hang up
LONGEST = 0.15  # seconds after which they do, at most


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running("hanging_up:app") as service:
        yield service


async def _round(service: Service, users: list[str], auth_of: Callable[[str], Any]) -> list[tuple[str, httpx.Response]]:
    """Each user's requests, two at once and then one after the other; each has a client and an auth of their own."""
    random_, trust = random.Random(7), httpx.create_ssl_context()

    async def requests_of(user: str) -> list[tuple[str, httpx.Response]]:
        await asyncio.sleep(random_.random() / 10)
        async with httpx.AsyncClient(
            base_url=service.url, auth=auth_of(user), timeout=60.0, verify=trust, trust_env=False
        ) as client:
            first = await asyncio.gather(client.get("/me"), client.get("/me"))
            return [(user, one) for one in [*first, *[await client.get("/me") for _ in range(PER_ROLLOVER - 2)]]]

    return [one for answers in await asyncio.gather(*map(requests_of, users)) for one in answers]


def _check(answers: list[tuple[str, httpx.Response]]) -> set[int]:
    """Nobody failed, and each answer names the user it was given for. The workers that answered."""
    assert Counter(answer.status_code for _, answer in answers) == {200: len(answers)}
    found = [(user, answer.json()) for user, answer in answers]
    assert [
        (user, it["caller"], it["upstream"]) for user, it in found if {it["caller"], it["upstream"]} != {user}
    ] == []
    return {it["worker"] for _, it in found}


async def _under_load(service: Service, count: int) -> None:
    users = [f"user-{count}-{number}" for number in range(count)]
    tokens = {user: service.token(user) for user in users}
    workers: set[int] = set()

    def of_before(user: str) -> BearerAuth:
        return BearerAuth(tokens[user])

    def has_ended(user: str) -> BearerAuth:
        """One whose token has ended: the guard's 401 has them come back with another."""
        return BearerAuth(iter([service.token(user, lifetime=-100), tokens[user]]).__next__)

    for rollovers in range(1, 5):
        if rollovers == 3:
            tokens = {user: service.token(user) for user in users}  # everybody has logged in again
        elif rollovers > 1:
            service.upstream.roll_over()
        workers |= _check(await _round(service, users, has_ended if rollovers == 4 else of_before))
        exchanges = service.sandbox.exchanges
        assert {user: exchanges[user] for user in users} == dict.fromkeys(users, rollovers)
    assert len(workers) == WORKERS


@pytest.mark.asyncio
async def test_users_at_once_across_rollovers(service: Service) -> None:
    """Ten users: all are served, as themselves, by both workers; one exchange each for each rollover."""
    await _under_load(service, 10)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_200_users_at_once_across_rollovers(service: Service) -> None:
    """Two hundred users with 20 requests each: none fails, none is mixed up, one exchange per user and rollover."""
    await _under_load(service, 200)


# Clients that hang up in the middle


async def _hang_up(service: Service, times: int) -> Counter[str]:
    """Requests, of several at once, until so many were given up, at any moment; what became of all of them."""
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
        while outcomes["hung up"] < times:
            await asyncio.gather(*[one(client, number) for number in range(USERS)])
    return outcomes


async def _inside(client: httpx.AsyncClient) -> dict[int, dict[str, Any]]:
    """What is in the air in each worker."""
    found: dict[int, dict[str, Any]] = {}
    while len(found) < WORKERS:
        answer = (await client.get("/inside", headers={"Connection": "close"})).json()
        found[answer["worker"]] = answer
    return found


async def _when_clients_hang_up(service: Service, times: int) -> None:
    async with httpx.AsyncClient(base_url=service.url) as client:
        (await client.get("/shared")).raise_for_status()
    service.sandbox.reset_counters()
    service.upstream.roll_over()  # and so the service's own session is renewed in the middle
    with service.short_tokens():  # there are always renewals to be met
        outcomes = await _hang_up(service, times)
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
    """Forty times, in the middle of renewals: no session is lost, nothing hangs, and the next ones are served."""
    await _when_clients_hang_up(service, 40)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_500_clients_that_hang_up(service: Service) -> None:
    """Five hundred times: likewise."""
    await _when_clients_hang_up(service, 500)
