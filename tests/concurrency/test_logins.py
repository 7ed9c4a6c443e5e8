"""Logins at work: one for everybody, out of reach of whoever hangs up."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from concurrency.stage import DRIVERS, LIFETIME, Stage, asent, auntil, run, start, until
from concurrency.test_cancellation import WAYS

from httpx_tokenflow import ReauthenticationRequired, StoreError, Token, TokenAuth
from httpx_tokenflow._drivers import LoopDriver
from httpx_tokenflow._entries import Minted
from httpx_tokenflow._steps import Call, Lease, Patience
from httpx_tokenflow.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Mapping


class Door:
    """A grant of a test: a person who opens when they are told to, or refuses."""

    spends = True
    logs_in = True
    login_timeout = 300.0
    name = "door"

    def __init__(self, login: Callable[[], Token], *, is_async: bool) -> None:
        self.login, self.is_async = login, is_async
        self.asked = 0
        self.is_open = False
        self.refuses = False

    def identity(self) -> Mapping[str, Any]:
        return {"subject": "somebody"}

    def obtain(self, attempt: Any) -> Generator[Any, Any, Minted]:
        if not attempt.may_log_in:
            raise ReauthenticationRequired("log in again")
        yield Patience(1000.0)  # longer than anybody could know before
        self.asked += 1
        yield Call(self.await_person if self.is_async else self.wait_for_person, "person", 300.0)
        if self.refuses:
            raise ReauthenticationRequired("no")
        return Minted(self.login(), LIFETIME)

    async def await_person(self) -> None:
        await auntil(lambda: self.is_open)

    def wait_for_person(self) -> None:
        until(lambda: self.is_open)


def make(driver: str) -> tuple[Stage, Door, Any]:
    stage = Stage("refresh", driver, "nothing")
    door = Door(stage.login, is_async=driver != "threads")
    auth = TokenAuth(door, store=stage.store, policy=stage.policy, client=stage.token_client())
    stage.auth = auth
    return stage, door, stage.client(auth)


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_login_for_fifty(driver: str) -> None:
    """Fifty requests at once, one person asked once, and nobody is lost when it takes longer than a renewal may."""
    stage, door, client = make(driver)

    def open_the_door() -> None:
        until(lambda: stage.waiting() >= 49 and door.asked == 1)  # whoever is asked has said how long it may take
        stage.hands.move(200.0)
        door.is_open = True

    opener = start(open_the_door)
    assert stage.at_once(50, [client]) == [200] * 50
    opener.result(20)
    assert door.asked == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_refusal_is_everybodys_and_nobody_asks_again(driver: str) -> None:
    """Fifty requests get the error; so does the next, at once."""
    stage, door, client = make(driver)
    door.refuses = door.is_open = True
    assert {type(one).__name__ for one in stage.at_once(50, [client])} == {"ReauthenticationRequired"}
    stage.hands.move(100.0)
    assert {type(one).__name__ for one in stage.at_once(5, [client])} == {"ReauthenticationRequired"}
    assert door.asked == 1


@pytest.mark.parametrize(("backend", "way"), WAYS)
async def test_the_leader_hangs_up_while_the_login_waits(backend: str, way: Any) -> None:
    """Cancelled in any way: the login goes on, the others are served, and nobody is asked twice."""
    stage, door, client = make(backend)
    cut, answers = anyio.Event(), []

    async def other() -> None:
        answers.append(await asent(client, stage.api_url))

    async with anyio.create_task_group() as tasks:

        async def lead() -> None:
            await way(lambda: client.get(stage.api_url), cut)
            for _ in range(10):
                tasks.start_soon(other)
            await auntil(lambda: stage.waiting() == 10)
            stage.hands.move(500.0)  # longer than any renewal, and its lease, may take
            tasks.start_soon(other)
            await auntil(lambda: stage.waiting() == 11)
            door.is_open = True

        tasks.start_soon(lead)
        await auntil(lambda: door.asked)
        cut.set()
    assert answers == [200] * 11
    assert door.asked == 1


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.usefixtures("impatience")
def test_leaving_does_not_wait_for_a_person(driver: str) -> None:
    """It takes its patience and no more; the login that ends afterwards opens nothing."""
    stage, door, client = make(driver)
    if driver == "threads":
        waiting = start(client.get, stage.api_url)
        until(lambda: door.asked)
        start(stage.auth.revoke).result(5)
        door.is_open = True
        assert isinstance(waiting.exception(20), ReauthenticationRequired)
    else:

        async def story() -> Any:
            answers = []

            async def one() -> None:
                answers.append(await asent(client, stage.api_url))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one)
                await auntil(lambda: door.asked)
                with anyio.fail_after(5):
                    await stage.auth.arevoke()
                door.is_open = True
            return answers[0]

        assert isinstance(run(driver, story), ReauthenticationRequired)
    assert stage.auth._source.held is None
    assert stage.stored.is_mark


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.usefixtures("impatience")
def test_a_token_that_is_set_does_not_wait_for_a_person(driver: str) -> None:
    """It serves whoever waits for the login, and the login does not replace it."""
    stage, door, client = make(driver)
    token = stage.login()
    if driver == "threads":
        waiting = start(client.get, stage.api_url)
        until(lambda: door.asked)
        start(stage.auth.set_token, token).result(5)
        door.is_open = True
        assert waiting.result(20).status_code == 200
    else:

        async def story() -> Any:
            answers = []

            async def one() -> None:
                answers.append(await asent(client, stage.api_url))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one)
                await auntil(lambda: door.asked)
                with anyio.fail_after(5):
                    await stage.auth.aset_token(token)
                door.is_open = True
            return answers

        assert run(driver, story) == [200]
    assert stage.auth._source.held.entry.token is token
    assert stage.stored.token is token


@pytest.mark.parametrize("backend", DRIVERS[:-1])
async def test_the_lease_of_a_login_is_waited_for(backend: str) -> None:
    """A lease may be waited for as long as the work under it may take, which is more than the budget of a renewal."""

    class Slow(MemoryStore):
        @asynccontextmanager
        async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncIterator[None]:
            await anyio.sleep(0.3)
            yield

    stage = Stage("refresh", backend, "nothing", store=Slow(), policy={"budget": 0.1})
    driver = stage.auth._driver(LoopDriver)
    async with AsyncExitStack() as leases:
        await driver.perform(Lease(50.0, 20.0), leases)
        with pytest.raises(StoreError):
            await driver.perform(Lease(50.0, -4.9), leases)
