"""The example service under load: nobody fails, nobody gets another's data, nobody pays for a token twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from service.rig import WORKERS, Service, running

from httpx_tokenflow import BearerAuth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PER_ROLLOVER = 5  # requests of each user, between two rollovers


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as service:
        yield service


async def _round(service: Service, users: list[str], auth_of: Callable[[str], Any]) -> list[tuple[str, httpx.Response]]:
    """Each user's requests, all at once; each user has an auth of their own, and they share one client."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=service.url, timeout=60.0, limits=limits) as client:

        async def ask(user: str, auth: Any) -> tuple[str, httpx.Response]:
            return user, await client.get("/me", auth=auth)

        auths = {user: auth_of(user) for user in users}
        wanted = [(user, auth) for user, auth in auths.items() for _ in range(PER_ROLLOVER)]
        random.Random(7).shuffle(wanted)
        return await asyncio.gather(*[ask(user, auth) for user, auth in wanted])


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
    """Twenty users: all are served, as themselves, by both workers; one exchange each for each rollover."""
    await _under_load(service, 20)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_200_users_at_once_across_rollovers(service: Service) -> None:
    """Two hundred users with 20 requests each: none fails, none is mixed up, one exchange per user and rollover."""
    await _under_load(service, 200)
