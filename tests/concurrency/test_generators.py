"""httpx may close or drop the generator of a flow, from another task or thread: nothing is held, and nothing is lost.

Others do worse: a wrapper drives our flow by hand and forgets it.
"""

from __future__ import annotations

import gc
import threading
from contextlib import aclosing, closing, suppress
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from concurrency.stage import KINDS, LOOPS, Stage, asent, auntil, sent, start

from httpx_tokenflow import BearerAuth

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

# trio says so when an async generator is left to the garbage collector; that is what these tests do.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")


def refusal(request: httpx.Request) -> httpx.Response:
    return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}, request=request)


def check_free(stage: Stage) -> None:
    """Nothing is held: no flight, no lock."""
    source = stage.auth._source
    assert stage.flight is None
    assert not source._lock.locked()
    assert not any(lock.locked() for lock in (source.locks or {}).values())


async def advance(flow: AsyncGenerator[Any, Any], request: httpx.Request, yields: int) -> None:
    """Drive `flow` by hand to its first or second yield: the request with a token, and the request once more."""
    assert (await anext(flow)) is request
    if yields == 2:
        assert (await flow.asend(refusal(request))) is request
    assert request.headers["Authorization"].startswith("Bearer ")


async def drop(flow: list[Any]) -> None:
    flow.clear()
    gc.collect()


async def close_here(flow: list[Any]) -> None:
    await flow.pop().aclose()


async def close_in_another_task(flow: list[Any]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.pop().aclose)


async def close_when_cancelled(flow: list[Any]) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await flow.pop().aclose()


async def throw_in(flow: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        await flow.pop().athrow(ZeroDivisionError())


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("need", ["nothing", "expired", None])
@pytest.mark.parametrize("yields", [1, 2])
@pytest.mark.parametrize("end", [drop, close_here, close_in_another_task, close_when_cancelled, throw_in])
async def test_a_flow_may_end_at_any_yield(backend: str, need: str | None, yields: int, end: Any) -> None:
    """An async flow that is abandoned at a yield holds nothing, and the next request works at once (F22)."""
    stage = Stage("refresh", backend, need)
    request = httpx.Request("GET", stage.api_url)
    flow = [stage.auth.async_auth_flow(request)]
    await advance(flow[0], request, yields)
    check_free(stage)
    await end(flow)
    check_free(stage)
    posts = stage.sandbox.token_requests
    async with stage.client() as client:
        assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == posts
    await stage.auth.aset_token(stage.login())
    assert stage.sandbox.families_revoked == 0


@pytest.mark.parametrize("need", ["nothing", "expired", None])
@pytest.mark.parametrize("yields", [1, 2])
@pytest.mark.parametrize("end", ["dropped", "closed", "closed in another thread", "thrown into"])
def test_a_sync_flow_may_end_at_any_yield(need: str | None, yields: int, end: str) -> None:
    """A sync flow that is abandoned at a yield holds nothing, and the next request works at once (F22)."""
    stage = Stage("refresh", "threads", need)
    request = httpx.Request("GET", stage.api_url)
    flow: Any = stage.auth.sync_auth_flow(request)
    assert next(flow) is request
    if yields == 2:
        assert flow.send(refusal(request)) is request
    check_free(stage)
    if end == "closed":
        flow.close()
    elif end == "closed in another thread":
        start(flow.close).result(10)
    elif end == "thrown into":
        with pytest.raises(ZeroDivisionError):
            flow.throw(ZeroDivisionError())
    flow = None
    gc.collect()
    check_free(stage)
    posts = stage.sandbox.token_requests
    with stage.client() as client:
        assert sent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == posts
    stage.auth.set_token(stage.login())
    assert stage.sandbox.families_revoked == 0


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("need", ["nothing", "expired", "refused"])
async def test_a_flow_may_end_while_it_waits(backend: str, need: str) -> None:
    """A flow whose task is cancelled while it waits, and that is never closed, leaves the renewal alone (F22, F02)."""
    stage = Stage("refresh", backend, need)
    stage.gate.shut()
    request = httpx.Request("GET", stage.api_url)
    flows = [stage.auth.async_auth_flow(request)]
    async with anyio.create_task_group() as tasks:
        if need == "refused":
            await anext(flows[0])
            tasks.start_soon(flows[0].asend, refusal(request))
        else:
            tasks.start_soon(anext, flows[0])
        await auntil(lambda: stage.gate.reached == 1)
        tasks.cancel_scope.cancel()
    await drop(flows)
    assert stage.waiting() == 0
    stage.gate.open()
    await auntil(lambda: stage.flight is None)
    async with stage.client() as client:
        assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


class Careless(httpx.Auth):
    """A wrapper that drives an inner flow by hand, adds a header, and never closes it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        flow = self.inner.async_auth_flow(request)
        outgoing = await anext(flow)
        while True:
            outgoing.headers["X-Wrapped"] = "yes"
            response = yield outgoing
            try:
                outgoing = await flow.asend(response)
            except StopAsyncIteration:
                return

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        flow = self.inner.sync_auth_flow(request)
        outgoing = next(flow)
        while True:
            outgoing.headers["X-Wrapped"] = "yes"
            response = yield outgoing
            try:
                outgoing = flow.send(response)
            except StopIteration:
                return


class Careful(Careless):
    """As it should be done."""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async with aclosing(self.inner.async_auth_flow(request)) as flow:
            outgoing = await anext(flow)
            while True:
                response = yield outgoing
                try:
                    outgoing = await flow.asend(response)
                except StopAsyncIteration:
                    return

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        with closing(self.inner.sync_auth_flow(request)) as flow:
            yield from flow


@pytest.mark.parametrize("driver", [*LOOPS, "threads"])
@pytest.mark.parametrize("wrapper", [Careless, Careful])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need", ["nothing", "expired", "refused"])
def test_a_wrapper_is_as_good_as_what_it_wraps(driver: str, wrapper: Any, kind: str, need: str) -> None:
    """50 requests through an auth that drives ours by hand: one token request, no failure (F23)."""
    stage = Stage(kind, driver, need)
    with stage.held_until(waiting=49):
        assert stage.at_once(50, auths=[wrapper(stage.auth)]) == [200] * 50
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
@pytest.mark.parametrize("wrapper", [Careless, Careful])
@pytest.mark.parametrize("hold", ["token", "api", "second api"])
async def test_a_wrapper_that_is_cancelled_harms_nobody(backend: str, wrapper: Any, hold: str) -> None:
    """Requests through such a wrapper are cancelled, wherever they are: the next one works at once (F22, F23)."""
    stage = Stage("refresh", backend, need="refused")
    auth = wrapper(stage.auth)
    api_calls = 0
    stuck = anyio.Event()

    async def slow_api(request: httpx.Request) -> httpx.Response:
        nonlocal api_calls
        api_calls += 1
        renewed = request.headers["Authorization"] != f"Bearer {stage.first.access_token}"
        if hold == "api" or (hold == "second api" and renewed):
            stuck.set()
            await anyio.sleep_forever()
        return httpx.Response(200) if renewed else refusal(request)

    if hold == "token":
        stage.gate.shut()
    async with httpx.AsyncClient(transport=httpx.MockTransport(slow_api), auth=auth) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(client.get, stage.api_url)
            await (auntil(lambda: stage.waiting() == 10) if hold == "token" else stuck.wait())
            tasks.cancel_scope.cancel()
        if hold == "token":
            stage.gate.open()
        gc.collect()
        await auntil(lambda: stage.flight is None)
        check_free(stage)
    async with stage.client() as client:
        with anyio.fail_after(2):
            assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
async def test_a_hundred_abandoned_flows_leave_nothing(backend: str) -> None:
    """100 flows that are begun and dropped, in all sorts of places, leave no waiter and no lock behind (F22, F24)."""
    stage = Stage("refresh", backend, need="refused")
    flows = []
    for _ in range(100):
        request = httpx.Request("GET", stage.api_url)
        flows.append(stage.auth.async_auth_flow(request))
        await anext(flows[-1])
        if len(flows) % 3 == 0:
            with suppress(StopAsyncIteration):  # the breaker: all that this API is ever sent is refused
                await flows[-1].asend(refusal(request))
    await drop(flows)
    check_free(stage)
    async with stage.client() as client:
        assert await asent(client, stage.api_url) == 200
    assert stage.sandbox.token_requests <= 34
    assert stage.sandbox.families_revoked == 0


def test_a_dropped_flow_of_a_callable_asks_again() -> None:
    """`BearerAuth` asks its callable; a flow that is dropped right after that costs the next request nothing (F22)."""
    asked: list[int] = []
    lock = threading.Lock()

    def ask() -> str:
        with lock:
            asked.append(1)
            return f"token-{len(asked)}"

    auth = BearerAuth(ask)
    request = httpx.Request("GET", "https://api.example/x")
    flow: Any = auth.sync_auth_flow(request)
    next(flow)
    flow = None
    gc.collect()
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=request.headers["Authorization"]))
    with httpx.Client(transport=transport, auth=auth) as client:
        assert client.get("https://api.example/x").text == "Bearer token-1"
    assert len(asked) == 1
