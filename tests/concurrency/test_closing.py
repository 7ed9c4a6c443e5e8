"""Before the first request and after the last: warming up, closing, and the status in between."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest
from concurrency.stage import DRIVERS, KINDS, LIFETIME, LOOPS, Stage, Window, asent, auntil, run, sent, start, until

from httpx_tokenflow import (
    BearerAuth,
    ConfigurationError,
    ReauthenticationRequired,
    TokenEndpointUnavailable,
    TokenRequestError,
)
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import serve

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("no_pauses")

FRESH, EARLY, DUE = 100.0, 3200.0, 3545.0  # ages of a token of an hour


def warm(stage: Stage) -> bool:
    """`warm` or `awarm`, whichever the driver has."""
    warmed: bool = stage.auth.warm() if stage.driver == "threads" else run(stage.driver, stage.auth.awarm)
    return warmed


def close(stage: Stage) -> None:
    stage.auth.close() if stage.driver == "threads" else run(stage.driver, stage.auth.aclose)


# warm


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_warming_up_spares_the_first_request(driver: str, kind: str) -> None:
    """`warm` gets a token where there is none that is not due, and the requests after it use that one."""
    stage = Stage(kind, driver, need="expired")
    assert warm(stage) is True
    assert stage.sandbox.token_requests == 1
    assert warm(stage) is True  # there is one now
    assert stage.at_once(5) == [200] * 5
    assert stage.sandbox.token_requests == 1
    assert stage.sandbox.api_refused == 0
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_wrong_secret_is_told_at_once(driver: str) -> None:
    """`warm` with a secret that the server does not know raises, after one token request."""
    stage = Stage("client", driver, secret="wrong")
    with pytest.raises(TokenRequestError) as caught:
        warm(stage)
    assert caught.value.error == "invalid_client"
    assert stage.sandbox.token_requests == 1


def tls_failed(request: httpx.Request) -> None:
    raise httpx.ConnectError("no", request=request) from ssl.SSLCertVerificationError("no")


LASTING: dict[str, tuple[Callable[[httpx.Request], Any], type[Exception]]] = {
    "TLS": (tls_failed, TokenEndpointUnavailable),
    "407": (lambda _: httpx.Response(407), TokenEndpointUnavailable),
    "redirect": (lambda _: httpx.Response(307, headers={"Location": "https://elsewhere.example"}), ConfigurationError),
    "invalid_scope": (lambda _: httpx.Response(400, json={"error": "invalid_scope"}), TokenRequestError),
    "invalid_grant": (lambda _: httpx.Response(400, json={"error": "invalid_grant"}), ReauthenticationRequired),
}


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("fault", LASTING)
def test_what_does_not_pass_by_itself_is_raised(driver: str, fault: str) -> None:
    """`warm` raises whatever somebody has to mend, after one token request."""
    stage = Stage("client", driver)
    stage.gate.instead, error = LASTING[fault]
    with pytest.raises(error):
        warm(stage)
    assert stage.gate.reached == 1


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_is_tolerated(driver: str, kind: str) -> None:
    """`warm` during an outage returns False, and the requests that come after it renew by themselves."""
    stage = Stage(kind, driver, need="expired")
    stage.gate.instead = lambda _: httpx.Response(503)
    assert warm(stage) is False
    assert stage.gate.reached == 3
    stage.gate.instead = None
    stage.hands.move(1.01)
    assert stage.at_once(5) == [200] * 5
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_store_out_of_order_is_tolerated(driver: str) -> None:
    """`warm` with a store that fails, where nothing can be done without it, returns False and sends nothing."""

    class Failing(MemoryStore):
        failing = False

        def load(self, fingerprint: str) -> Any:
            if self.failing:
                raise OSError("no")
            return super().load(fingerprint)

    stage = Stage("refresh", driver, need="expired", store=(store := Failing()))
    store.failing = True
    assert warm(stage) is False
    assert stage.gate.reached == 0
    store.failing = False
    assert warm(stage) is True


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("asked", [None, "600"], ids=["our own pause", "Retry-After"])
def test_warming_up_ends_the_pause(driver: str, asked: str | None) -> None:
    """A renewal has failed, and its error answers for now: `warm` renews all the same, and ends that for all (F56)."""
    stage = Stage("refresh", driver, need="expired")
    stage.gate.instead = lambda _: httpx.Response(503, headers={"Retry-After": asked} if asked else {})
    stage.at_once(3)
    reached = stage.gate.reached
    stage.gate.instead = None
    assert all(isinstance(answer, TokenEndpointUnavailable) for answer in stage.at_once(3))
    assert stage.gate.reached == reached
    assert warm(stage) is True
    assert stage.gate.reached == reached + 1
    assert stage.auth.status.last_error is None
    assert stage.at_once(3) == [200] * 3
    assert stage.gate.reached == reached + 1
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_warming_up_with_a_good_token_during_an_outage(driver: str) -> None:
    """There is a token, due and not ended, and no other is to be had: `warm` says that there is one (F60)."""
    stage = Stage("refresh", driver, need=None)
    stage.hands.move(DUE)
    stage.gate.instead = lambda _: httpx.Response(503)
    assert warm(stage) is True
    assert stage.gate.reached == 1
    assert stage.at_once(3) == [200] * 3


@pytest.mark.parametrize("backend", LOOPS)
async def test_warming_up_joins_what_is_in_the_air(backend: str) -> None:
    """`awarm`, five times at once and together with requests: one token request for all (F48)."""
    stage = Stage("refresh", backend, need="expired")
    stage.gate.shut()
    outcomes: list[Any] = []

    async def note(function: Callable[..., Any], *args: Any) -> None:
        outcomes.append(await function(*args))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(note, stage.auth.awarm)
            tasks.start_soon(note, asent, stage.client(), stage.api_url)
        await auntil(lambda: stage.waiting() == 10)
        stage.gate.open()
    assert sorted(outcomes) == [True] * 5 + [200] * 5
    assert stage.sandbox.token_requests == 1


# close


@pytest.mark.parametrize("flies", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("closes", DRIVERS)
def test_closing_waits_for_what_is_in_the_air(flies: str, closes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The auth is closed, anywhere, while a renewal is in the air, anywhere: it waits until that has landed (F02)."""
    monkeypatch.setattr("httpx_tokenflow._drivers.CLOSING_PATIENCE", 1000.0)
    stage = Stage("refresh", "anywhere", need="expired")
    stage.gate.shut()
    request = start(stage_asks, stage, flies)
    until(lambda: stage.gate.reached == 1 and stage.flight is not None)
    flight = stage.flight
    before = len(flight.landings)
    stage.driver = closes
    closing = start(close, stage)
    until(lambda: flight.future._waiters or len(flight.landings) > before)
    assert not closing.done()
    stage.gate.open()
    closing.result(10)
    assert flight.future.done()
    assert request.result(10) == 200
    stage.check_session()


def stage_asks(stage: Stage, driver: str) -> Any:
    client = stage.client(driver=driver)
    return sent(client, stage.api_url) if driver == "threads" else run(driver, asent, client, stage.api_url)


@pytest.mark.parametrize("closes", DRIVERS)
def test_closing_does_not_wait_for_ever(closes: str, impatience: None) -> None:
    """The token endpoint does not answer: closing goes on without it, and what it brings later is not lost (F28)."""
    stage = Stage("refresh", "anywhere", need="expired")
    stage.gate.shut()
    request = start(stage_asks, stage, "threads")
    until(lambda: stage.gate.reached == 1)
    stage.driver = closes
    close(stage)
    assert stage.flight is not None
    stage.gate.open()
    assert request.result(10) == 200
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("backend", LOOPS)
async def test_closing_on_the_loop_that_flies(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync `close` on the loop that has to run the renewal does not wait for it, which would last for ever."""
    monkeypatch.setattr("httpx_tokenflow._drivers.CLOSING_PATIENCE", 1000.0)
    stage = Stage("refresh", backend, need="expired")
    stage.gate.shut()
    answers = []

    async def request() -> None:
        answers.append(await asent(stage.client(), stage.api_url))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await auntil(lambda: stage.gate.reached == 1)
        stage.auth.close()
        assert stage.flight is not None
        stage.gate.open()
    assert answers == [200]
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_was_closed_goes_on(driver: str) -> None:
    """`with` and `async with` end nothing for good; closed twice, the auth still serves the next request."""
    stage = Stage("refresh", driver, need="expired")

    async def on_a_loop(auth: Any) -> list[Any]:
        answers = []
        for _ in range(2):
            async with auth as same:
                assert same is auth
                answers.append(await asent(stage.client(auth), stage.api_url))
            await auth.aclose()
            stage.hands.move(LIFETIME)
        return answers

    def in_a_thread(auth: Any) -> list[Any]:
        answers = []
        for _ in range(2):
            with auth as same:
                assert same is auth
                answers.append(sent(stage.client(auth), stage.api_url))
            auth.close()
            stage.hands.move(LIFETIME)
        return answers

    with serve(stage.sandbox) as url:
        stage.token_url = f"{url}/token"
        auth = stage.make_auth(client=None)
        answers = in_a_thread(auth) if driver == "threads" else run(driver, on_a_loop, auth)
    assert answers == [200] * 2
    assert stage.sandbox.token_requests == 2


def test_a_client_that_was_given_is_not_closed() -> None:
    """Closing the auth leaves `client=` open: it belongs to the program."""
    stage = Stage("client", "threads")
    ours_not = stage.token_client()
    auth = stage.make_auth(client=ours_not)
    with auth:
        assert sent(stage.client(auth), stage.api_url) == 200
    assert not ours_not.is_closed


# status


@pytest.mark.parametrize(
    ("age", "state", "left"),
    [
        (None, "missing", None),
        (FRESH, "fresh", LIFETIME - FRESH),
        (EARLY, "early", LIFETIME - EARLY),
        (DUE, "due", LIFETIME - DUE),
        (LIFETIME, "missing", None),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_status_by_age(kind: str, age: float | None, state: str, left: float | None) -> None:
    """`status` says what is to be done about the token and how long it lives, and sends nothing for that."""
    stage = Stage(kind, "threads", need="nothing" if age is None else None)
    stage.hands.move(age or 0.0)
    status = stage.auth.status
    assert (status.state, status.expires_in, status.last_error, status.waiting) == (state, left, None, 0)
    assert stage.gate.reached == 0


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize(
    ("age", "state", "left"),
    [(EARLY, "backed off", LIFETIME - EARLY), (DUE, "backed off", LIFETIME - DUE), (LIFETIME, "backed off", None)],
)
def test_the_status_after_a_failure(driver: str, age: float, state: str, left: float | None) -> None:
    """After a renewal has failed `status` says so, with the error and what is left of the token; then it is over."""
    stage = Stage("refresh", driver, need=None)
    stage.hands.move(age)
    stage.gate.instead = lambda _: httpx.Response(503)
    stage.at_once(2)
    status = stage.auth.status
    assert (status.state, status.expires_in, status.waiting) == (state, left, 0)
    assert isinstance(status.last_error, TokenEndpointUnavailable)
    assert status.last_error.status == 503
    stage.hands.move(5.0)
    assert stage.auth.status.state != "backed off"
    assert stage.auth.status.last_error is status.last_error
    stage.gate.instead = None
    assert stage.at_once(1) == [200]
    assert stage.auth.status.state == "fresh"
    assert stage.auth.status.last_error is None


@pytest.mark.parametrize("backend", DRIVERS)
@pytest.mark.parametrize("need", ["expired", "refused"])
async def test_the_status_counts_who_waits(backend: str, need: str) -> None:
    """`status.waiting` is how many wait for the renewal in the air, and nobody when it is over.

    While a refused token is being replaced there is none.
    """
    stage = Stage("refresh", backend, need)
    stage.gate.shut()
    answers = []

    async def request() -> None:
        if backend == "threads":
            answers.append(await anyio.to_thread.run_sync(sent, stage.client(), stage.api_url))
        else:
            answers.append(await asent(stage.client(), stage.api_url))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(request)
        waiting = 5 if backend == "threads" else 6  # the thread that renews does not wait
        await auntil(lambda: stage.auth.status.waiting == waiting and stage.gate.reached == 1)
        assert (stage.auth.status.state, stage.auth.status.expires_in) == ("missing", None)
        assert f"{waiting} waiting" in repr(stage.auth)
        stage.gate.open()
    assert answers == [200] * 6
    assert stage.auth.status.waiting == 0
    assert (stage.auth.status.state, stage.auth.status.expires_in) == ("fresh", LIFETIME)


@pytest.mark.parametrize("backend", LOOPS)
async def test_the_status_does_not_count_who_has_left(backend: str) -> None:
    """Who waited and was cancelled is not among `status.waiting` any more."""
    stage = Stage("refresh", backend, need="expired")
    stage.gate.shut()
    scope = anyio.CancelScope()

    async def request() -> None:
        with scope:
            await stage.client().get(stage.api_url)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await auntil(lambda: stage.auth.status.waiting == 1)
        tasks.start_soon(asent, stage.client(), stage.api_url)
        await auntil(lambda: stage.auth.status.waiting == 2)
        scope.cancel()
        await auntil(lambda: stage.auth.status.waiting == 1)
        stage.gate.open()
    assert stage.sandbox.token_requests == 1


def test_the_status_of_who_shares_the_token() -> None:
    """Two auths that share a source share its status; another process that shares the store does not."""
    stage = Stage("client", "threads", need=None)
    assert stage.make_auth().status.state == "fresh"
    assert stage.make_auth(store=Window(stage.store)).status.state == "missing"
    assert not hasattr(BearerAuth("key"), "status")
