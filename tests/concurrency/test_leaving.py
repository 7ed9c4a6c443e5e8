"""Leaving at work: a renewal in the air on a loop or a thread does not bring the session back."""

from __future__ import annotations

import httpx
import pytest
from concurrency.stage import DRIVERS, LOOPS, Stage, Window, asent, auntil, run, sent, start, until

from httpx_tokenflow import ReauthenticationRequired


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.usefixtures("impatience")
def test_a_renewal_in_the_air_does_not_bring_it_back(driver: str) -> None:
    """Whether it is over before the patience of leaving is, or long after: who waited is told, nothing is held."""
    stage = Stage("refresh", driver, "expired")
    client = stage.client()
    stage.gate.shut()
    if driver == "threads":
        waiting = start(sent, client, stage.api_url)
        until(lambda: stage.gate.reached)
        stage.auth.revoke()
        stage.gate.open()
        outcome = waiting.result(20)
        after = sent(client, stage.api_url)
    else:

        async def story() -> tuple[object, object]:
            import anyio

            answers: list[object] = []
            async with anyio.create_task_group() as tasks:

                async def one() -> None:
                    answers.append(await asent(client, stage.api_url))

                tasks.start_soon(one)
                await auntil(lambda: stage.gate.reached)
                await stage.auth.arevoke()
                stage.gate.open()
            return answers[0], await asent(client, stage.api_url)

        outcome, after = run(driver, story)
    assert isinstance(outcome, ReauthenticationRequired)
    assert isinstance(after, ReauthenticationRequired)
    assert stage.auth.status.expires_in is None
    assert stage.stored.is_mark


@pytest.mark.parametrize("driver", LOOPS)
def test_another_process_learns_of_it_in_the_middle_of_its_renewal(driver: str) -> None:
    """The renewal of one that shares the store saves nothing and holds nothing."""
    stage = Stage("refresh", driver, "expired")
    other = stage.make_auth(store=Window(stage.store))
    client = stage.client(other)

    async def story() -> object:
        import anyio

        answers: list[object] = []

        async def one() -> None:
            answers.append(await asent(client, stage.api_url))

        stage.gate.shut()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            await auntil(lambda: stage.gate.reached)
            await stage.auth.arevoke()
            stage.gate.open()
        return answers[0]

    assert isinstance(run(driver, story), ReauthenticationRequired)
    assert other._source.held is None
    assert stage.stored.is_mark


def test_a_callable_that_leaves_does_not_wait_for_itself() -> None:
    """Revoking from within the renewal, in the callable that is asked for a secret, takes no time and is final."""
    auths = []

    def secret() -> str:
        auths[0].revoke()
        return "secret"

    stage = Stage("client", "threads", "nothing", secret=secret)
    auths.append(stage.auth)
    with httpx.Client(transport=stage.sandbox.transport(), auth=stage.auth) as client:
        outcome = start(sent, client, stage.api_url).result(4)
    assert outcome == 200 or isinstance(outcome, Exception)
