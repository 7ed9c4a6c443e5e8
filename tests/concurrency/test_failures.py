"""When the token endpoint, the store or a callable fails: everybody is answered in time, and no session is lost."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from concurrency.stage import (
    DRIVERS,
    KINDS,
    LIFETIME,
    LOOPS,
    Stage,
    Window,
    asent,
    at_once,
    auntil,
    run,
)

from httpx_tokenflow import (
    BearerAuth,
    ConfigurationError,
    ReauthenticationRequired,
    RenewalPolicy,
    StoreError,
    TokenEndpointUnavailable,
    TokenFlowError,
    _drivers,
)
from httpx_tokenflow._lifecycle import FLIGHT_GRACE, STORE_PATIENCE
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import Drip, DropAfter, DropBefore, Garbage, Silent, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.usefixtures("no_pauses")

PAUSE = 1.01  # seconds: a little more than the same error answers after a first failure
LONGEST_PAUSE = 30.0  # seconds for which it answers after many


def raising(error: Callable[[], BaseException]) -> Callable[[Any], None]:
    def instead(_: Any) -> None:
        raise error()

    return instead


def own_errors(answers: list[Any], kind: type[Exception] = TokenEndpointUnavailable) -> list[Any]:
    """That each is an error of this kind, an object of its own, from one shared cause."""
    assert [type(answer).__name__ for answer in answers] == [kind.__name__] * len(answers)
    assert len({id(answer) for answer in answers}) == len(answers)
    causes = {id(answer.__cause__) for answer in answers}
    assert len(causes) == 1
    assert answers[0].__cause__ is not None
    return answers


# F24, F55, F56: everybody hears of it, once, and it does not last

SENDS = [
    httpx.ConnectError("no"),
    httpx.ConnectTimeout("no"),
    httpx.PoolTimeout("no"),
    httpx.ReadTimeout("no"),
    httpx.ReadError("no"),
    httpx.RemoteProtocolError("no"),
    ValueError("no"),
    OSError("no"),
    KeyError("no"),
    RuntimeError("no"),
]


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", SENDS, ids=lambda error: type(error).__name__)
def test_whatever_a_send_raises_wakes_everybody(driver: str, kind: str, error: Exception) -> None:
    """The leader's send raises, whatever it is: nobody waits for ever, and a second later there is a new renewal (F24).

    Each gets an error of its own, from the shared cause, that says how the request ended (F03).
    """
    stage = Stage(kind, driver, need="expired")
    stage.gate.instead = raising(lambda: type(error)("no"))
    with stage.held_until(waiting=3):
        answers = own_errors(stage.at_once(4))
    not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    assert {answer.outcome for answer in answers} == {"not sent" if not_sent else "unknown"}
    # What may have spent a refresh token is not tried again by itself, nor is what no transport raises, a defect; all
    # else is, three times in all (F03).
    is_defect = isinstance(error, ValueError | KeyError | RuntimeError)
    assert stage.gate.reached == (1 if is_defect or (kind == "refresh" and not not_sent) else 3)
    if kind == "refresh":
        assert stage.stored.presented == (0 if not_sent else 1)
    stage.gate.instead = None
    stage.hands.move(PAUSE)
    assert stage.at_once(4) == [200] * 4
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.sampled
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need", ["expired", "refused"])
def test_an_outage_costs_three_token_requests_and_no_more(driver: str, kind: str, need: str) -> None:
    """The endpoint is down: 50 who wait and 50 who come get errors of their own, for three token requests (F55, F56).

    The error answers for a second only: then the next request renews.
    """
    stage = Stage(kind, driver, need)
    stage.gate.instead = lambda _: httpx.Response(503)
    with stage.held_until(waiting=49):
        first = own_errors(stage.at_once(50))
    assert stage.gate.reached == 3
    began = time.monotonic()
    second = own_errors(stage.at_once(50))
    assert time.monotonic() - began < 5
    assert first[0].__cause__ is second[0].__cause__
    assert stage.gate.reached == 3
    assert {answer.outcome for answer in first + second} == {"answered"}
    # A 401 that led here is on the error of the caller who got it, and on no other.
    led = [answer for answer in first if answer.response is not None]
    assert {answer.response.status_code for answer in led} == ({401} if need == "refused" else set())
    assert len({id(answer.response) for answer in led}) == len(led)
    stage.hands.move(PAUSE)
    stage.gate.instead = None
    assert stage.at_once(50) == [200] * 50
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.sampled
@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("silence", [Silent(), Drip(0.01)])
@pytest.mark.parametrize("patience", [300.0, None])
def test_an_endpoint_that_never_answers_costs_the_budget(driver: str, silence: Any, patience: float | None) -> None:
    """The token endpoint says nothing, or too slowly: all callers fail within the renewal's budget (F28).

    However long the callers themselves would wait.
    """
    stage = Stage("refresh", driver, policy={"budget": 0.4})
    stage.sandbox.script(silence)
    client = stage.client()
    client.timeout = httpx.Timeout(patience)
    began = time.monotonic()
    answers = own_errors(at_once(driver, [client] * 10, stage.api_url))
    assert time.monotonic() - began < 3
    assert {answer.outcome for answer in answers} == {"unknown"}
    assert stage.sandbox.token_requests == 1


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_all_attempts_share_one_budget(driver: str) -> None:
    """The token endpoint never answers, three times: that is one budget, not three (F28, F76)."""
    stage = Stage("client", driver)
    stage.policy = RenewalPolicy(budget=0.6)  # by the real clocks
    stage.auth = stage.make_auth()
    stage.sandbox.script(*[Silent()] * 9)
    patience: list[float] = []
    stage.gate.instead = lambda request: patience.append(request.extensions["timeout"]["read"])
    own_errors(stage.at_once(10))
    assert len(patience) > 1
    assert sum(patience) <= 0.65


# F03, F04, F05, F06, F07, F08: the refresh token


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_lost_answer_is_asked_for_once_more(driver: str) -> None:
    """The server rotates and its answer is lost: the refresh token is presented twice, then the session is over (F03).

    No request after that presents anything; a new login ends it.
    """
    stage = Stage("refresh", driver, need="expired")
    stage.sandbox.script(DropAfter())
    assert {answer.outcome for answer in own_errors(stage.at_once(5))} == {"unknown"}
    assert stage.sandbox.token_requests == 1
    for _ in range(3):
        stage.hands.move(PAUSE)
        own_errors(stage.at_once(5), ReauthenticationRequired)
    assert stage.sandbox.token_requests == 2
    assert max(stage.presented().values()) == 2
    stage.auth = stage.make_auth(store=Window(stage.store))  # another process, with the token of the first login
    own_errors(stage.at_once(5), ReauthenticationRequired)
    assert stage.sandbox.token_requests == 2
    if driver == "threads":
        stage.auth.set_token(stage.login())
    else:
        run(driver, stage.auth.aset_token, stage.login())
    assert stage.at_once(5) == [200] * 5


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_an_answer_that_never_was_costs_nothing(driver: str) -> None:
    """The connection breaks before the server has rotated: presented once more, the refresh token works (F03)."""
    stage = Stage("refresh", driver, need="expired")
    stage.sandbox.script(DropBefore())
    own_errors(stage.at_once(5))
    assert stage.stored.presented == 1
    stage.hands.move(PAUSE)
    assert stage.at_once(5) == [200] * 5
    assert stage.sandbox.token_requests == 2
    assert stage.stored.presented == 0
    assert stage.sandbox.families_revoked == 0


HARMLESS: dict[str, Any] = {
    "connect": httpx.ConnectError("no"),
    "500": httpx.Response(500),
    "503": httpx.Response(503, json={"error": "temporarily_unavailable"}),
    "429": httpx.Response(429),
    "html": httpx.Response(502, html="<h1>no</h1>"),
    "invalid_client": httpx.Response(401, json={"error": "invalid_client"}),
    "unauthorized_client": httpx.Response(400, json={"error": "unauthorized_client"}),
    "invalid_scope": httpx.Response(400, json={"error": "invalid_scope"}),
    "403": httpx.Response(403, text="no"),
    "redirect": httpx.Response(307, headers={"Location": "https://elsewhere.example"}),
}


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("fault", HARMLESS)
def test_no_failure_but_invalid_grant_costs_the_session(driver: str, fault: str) -> None:
    """Five renewals in a row fail, otherwise than by `invalid_grant`: nothing is forgotten, the sixth works (F07).

    The server has said no, or was never reached: the refresh token is as good as before, and no mark stays on it.
    """
    stage = Stage("refresh", driver, need="expired")

    def fail(_: httpx.Request) -> httpx.Response:
        what = HARMLESS[fault]
        if isinstance(what, Exception):
            raise what
        return httpx.Response(what.status_code, headers=what.headers, content=what.content)

    for _ in range(5):
        stage.gate.instead = fail
        answers = stage.at_once(3)
        assert not any(isinstance(answer, ReauthenticationRequired) for answer in answers), answers
        assert all(isinstance(answer, TokenFlowError) for answer in answers), answers
        stage.hands.move(LONGEST_PAUSE)
    assert stage.stored.token.refresh_token == stage.first.refresh_token
    assert stage.stored.presented == 0
    stage.gate.instead = None
    assert stage.at_once(3) == [200] * 3
    stage.check_session()


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_garbage_counts_as_a_lost_answer(driver: str) -> None:
    """A 200 with garbage may have rotated: it is not asked again by itself, and no more than once after that (F03)."""
    stage = Stage("refresh", driver, need="expired")
    stage.sandbox.script(Garbage())
    own_errors(stage.at_once(3))
    assert stage.sandbox.token_requests == 1
    assert stage.stored.presented == 1
    stage.hands.move(PAUSE)
    own_errors(stage.at_once(3), ReauthenticationRequired)
    assert stage.sandbox.token_requests == 2


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_an_answer_without_a_refresh_token_keeps_the_old_one(driver: str) -> None:
    """A server that does not rotate sends none: three renewals in a row present the first one (F05)."""
    stage = Stage("refresh", driver, need="expired", rotate=False)
    for _ in range(3):
        assert stage.at_once(5) == [200] * 5
        assert stage.stored.token.refresh_token == stage.first.refresh_token
        stage.hands.move(LIFETIME)
    assert stage.presented() == {stage.first.refresh_token: 3}


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_each_process_goes_on_from_the_store(driver: str) -> None:
    """Three processes, one after the other, each begun with the first token: each renews what the last stored (F06)."""
    stage = Stage("refresh", driver, need="expired")
    for _ in range(3):
        stage.auth = stage.make_auth(store=Window(stage.store))
        assert stage.at_once(5) == [200] * 5
        stage.hands.move(LIFETIME)
    assert stage.sandbox.token_requests == 3
    stage.check_session()


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_the_loser_of_a_race_takes_the_winners_token(driver: str) -> None:
    """A refresh token is refused because another process has renewed meanwhile: its pair is used, and stays (F08)."""
    stage = Stage("refresh", driver, need="expired")
    winner = stage.make_auth(store=Window(stage.store), client=httpx.Client(transport=stage.sandbox.transport()))
    newer = stage.login()

    def race(_: httpx.Request) -> httpx.Response:
        if not stage.gate.reached:
            winner.set_token(newer)
        return httpx.Response(400, json={"error": "invalid_grant"})

    stage.gate.instead = race
    assert stage.at_once(5) == [200] * 5
    assert stage.gate.reached == 1
    assert stage.stored.token is newer
    assert stage.auth._source.held.entry.token is newer


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs has failed after 0.2 s."""
    monkeypatch.setattr(_drivers, "STORE_PATIENCE", 0.2)


class FailingStore(MemoryStore):
    """A store that fails or hangs in one verb, while told to; counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.verb, self.how, self.spared = "", "raises", 0
        self.failed = 0

    def _is_hit(self, verb: str) -> bool:
        if verb == self.verb:
            self.spared -= 1
            self.failed += self.spared < 0
        return verb == self.verb and self.spared < 0

    def _fail(self, verb: str) -> None:
        if self._is_hit(verb):
            raise OSError("the store is out of order")

    async def _afail(self, verb: str) -> None:
        if self._is_hit(verb):
            if self.how == "hangs":
                await anyio.sleep_forever()
            raise OSError("the store is out of order")

    def load(self, fingerprint: str) -> Any:
        self._fail("load")
        return super().load(fingerprint)

    def save(self, fingerprint: str, entry: Any, *, replaces: str | None) -> bool:
        self._fail("save")
        return super().save(fingerprint, entry, replaces=replaces)

    @contextmanager
    def lease(self, fingerprint: str, seconds: float, patience: float) -> Iterator[None]:
        self._fail("lease")
        yield
        self._fail("release")

    async def aload(self, fingerprint: str) -> Any:
        await self._afail("load")
        return MemoryStore.load(self, fingerprint)

    async def asave(self, fingerprint: str, entry: Any, *, replaces: str | None) -> bool:
        await self._afail("save")
        return MemoryStore.save(self, fingerprint, entry, replaces=replaces)

    @asynccontextmanager
    async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncIterator[None]:
        await self._afail("lease")
        yield
        await self._afail("release")


# Seconds: what hangs is waited for, so it is not long; where nothing does, a loaded machine has time enough.
BRIEF = {"hangs": {"budget": 0.2, "lease": 1.2}, "raises": {"budget": 10.0, "lease": 11.0}}
BROKEN = [(driver, "raises") for driver in ("asyncio", "trio", "threads")] + [("asyncio", "hangs"), ("trio", "hangs")]


@pytest.mark.sampled
@pytest.mark.parametrize(("driver", "how"), BROKEN)
@pytest.mark.parametrize("verb", ["load", "lease", "save", "release"])
def test_client_credentials_do_without_a_store(driver: str, how: str, verb: str) -> None:
    """A store that fails or hangs is no outage for client credentials: they renew without it (F77)."""
    store = FailingStore()
    stage = Stage("client", driver, need="expired", store=store, policy=BRIEF[how])
    store.verb, store.how = verb, how
    for _ in range(2):
        assert stage.at_once(10) == [200] * 10
        stage.hands.move(LIFETIME)
    assert store.failed
    assert stage.sandbox.token_requests == 2


@pytest.mark.sampled
@pytest.mark.parametrize(("driver", "how"), BROKEN)
@pytest.mark.parametrize("verb", ["load", "lease", "save"])
def test_a_refresh_token_is_not_presented_without_its_store(driver: str, how: str, verb: str) -> None:
    """A store that fails or hangs before anything was presented stops a renewal: nothing is sent (F77).

    Each waiter gets a StoreError of its own; once the store is back, all is as before.
    """
    store = FailingStore()
    stage = Stage("refresh", driver, need="expired", store=store, policy=BRIEF[how])
    store.verb, store.how = verb, how
    own_errors(stage.at_once(10), StoreError)
    assert stage.sandbox.token_requests == 0
    store.verb = ""
    stage.hands.move(PAUSE)
    assert stage.at_once(10) == [200] * 10
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.sampled
@pytest.mark.parametrize(("driver", "how"), BROKEN)
@pytest.mark.parametrize("verb", ["save", "release"])
def test_a_store_that_fails_after_the_rotation_costs_nothing(driver: str, how: str, verb: str) -> None:
    """The server has rotated and the store fails: the pair is kept and used, and stored before the next one (F04).

    The retired refresh token is never presented again.
    """
    store = FailingStore()
    stage = Stage("refresh", driver, need="expired", store=store, policy={"budget": 0.2, "lease": 1.2})
    store.verb, store.how = verb, how
    store.spared = 1 if verb == "save" else 0  # the first is the mark
    assert stage.at_once(10) == [200] * 10
    assert store.failed == (3 if verb == "save" else 1)  # offered again, while the lease lasts
    assert stage.sandbox.token_requests == 1
    store.verb = ""
    stage.hands.move(LIFETIME)
    assert stage.at_once(10) == [200] * 10
    assert stage.sandbox.token_requests == 2
    assert stage.stored.stamp == stage.auth._source.held.entry.stamp
    stage.check_session()


class NeverAgrees(MemoryStore):
    """A store whose compare-and-set never finds what its load has just shown: a replica that lags behind, say."""

    def __init__(self) -> None:
        super().__init__()
        self.lags = False
        self.saves = 0

    def save(self, fingerprint: str, entry: Any, *, replaces: str | None) -> bool:
        if not self.lags:
            return super().save(fingerprint, entry, replaces=replaces)
        self.saves += 1
        if self.saves > 1_000:
            raise RuntimeError("enough")  # so that a test that fails does not go on for ever
        return False


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_never_agrees_is_not_asked_for_ever(driver: str, kind: str) -> None:
    """A store that refuses each write ends a renewal, and a login, instead of keeping it busy for ever (F28, F77)."""
    store = NeverAgrees()
    stage = Stage(kind, driver, need="expired", store=store)
    store.lags = True
    answers = stage.at_once(3)
    if kind == "client":
        assert answers == [200] * 3
    else:
        own_errors(answers, StoreError)
        assert stage.sandbox.token_requests == 0
    login = stage.login()
    with pytest.raises(StoreError):
        stage.auth.set_token(login)
    assert store.saves < 100
    store.lags = False
    stage.hands.move(PAUSE)
    assert stage.at_once(3) == [200] * 3


# F57, F60 and a 401 elsewhere: what still works goes on


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_retry_after_is_waited_for(driver: str) -> None:
    """`Retry-After: 120` that does not fit into the budget: no token request before that, one after it (F57)."""
    stage = Stage("refresh", driver, need="expired")
    stage.sandbox.script(Status(429, retry_after=120))
    answers = own_errors(stage.at_once(5))
    assert {answer.retry_after for answer in answers} == {120}
    for _ in range(3):
        stage.hands.move(39)
        own_errors(stage.at_once(5))
    assert stage.sandbox.token_requests == 1
    stage.hands.move(4)
    assert stage.at_once(5) == [200] * 5
    assert stage.sandbox.token_requests == 2
    assert stage.sandbox.families_revoked == 0


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_login_ends_the_pause(driver: str) -> None:
    """While a failure answers for itself, a token that is set, here or in the store, is used at once (F56)."""
    stage = Stage("refresh", driver, need="expired")
    stage.gate.instead = lambda _: httpx.Response(503, headers={"Retry-After": "600"})
    own_errors(stage.at_once(3))
    if driver == "threads":
        stage.auth.set_token(stage.login())
    else:
        run(driver, stage.auth.aset_token, stage.login())
    assert stage.at_once(3) == [200] * 3
    assert stage.gate.reached == 1


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_token_that_one_api_refuses_serves_the_others(driver: str) -> None:
    """One API refuses a token and the renewal fails: where the token is still good it goes on to be used (F60, F50)."""
    stage = Stage("client", driver, need=None)
    stage.gate.instead = lambda _: httpx.Response(503)
    picky = httpx.MockTransport(lambda request: httpx.Response(401))
    own_errors(stage.at_once(5, [stage.client(transport=picky)]))
    assert stage.gate.reached == 3
    assert stage.at_once(5) == [200] * 5
    assert stage.gate.reached == 3


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_token_is_not_left_on_the_ground(driver: str) -> None:
    """A refused token's renewal dies with its loop, and the next one fails: the token still serves elsewhere (F60).

    It is as good as it was; only one API has refused it.
    """
    stage = Stage("client", "anywhere", need=None, policy={"budget": 2.0})
    stage.gate.shut()
    picky = httpx.MockTransport(lambda request: httpx.Response(401))
    loop = asyncio.new_event_loop()

    async def stop_in_the_middle() -> None:
        task.append(asyncio.ensure_future(asent(stage.client(driver="asyncio", transport=picky), stage.api_url)))
        await auntil(lambda: stage.gate.reached == 1)

    task: list[Any] = []
    loop.run_until_complete(stop_in_the_middle())
    stage.hands.move(2.0 + STORE_PATIENCE + FLIGHT_GRACE)
    stage.gate.instead = lambda _: httpx.Response(503)
    stage.gate.open()
    stage.driver = driver
    own_errors(stage.at_once(5, [stage.client(transport=picky)]))
    assert stage.at_once(5) == [200] * 5
    loop.run_until_complete(asyncio.wait_for(asyncio.gather(*task), 5))
    loop.close()


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_token_that_is_due_serves_through_an_outage(driver: str) -> None:
    """The endpoint is down 50 s before the token's end: the token is used to its end (F60)."""
    stage = Stage("client", driver, need=None)
    stage.hands.move(LIFETIME - 50)
    stage.gate.instead = lambda _: httpx.Response(503)
    assert stage.at_once(5) == [200] * 5


# F29: whoever is asked for a credential asks back


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_the_api_client_may_be_the_token_client(driver: str) -> None:
    """`client=` is the very client that has the auth: token requests go out without it, and it works (F29)."""
    stage = Stage("refresh", driver, need="refused")
    client = stage.client(transport=stage.gate)
    client.auth = stage.make_auth(client=client)
    assert at_once(driver, [client] * 20, stage.api_url) == [200] * 20
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.sampled
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("auth_kind", ["bearer", "client secret"])
def test_a_callable_may_not_use_the_auth_that_asks(driver: str, auth_kind: str) -> None:
    """A callable that sends a request through the auth that asks it gets an error that says so, not a dead lock (F29).

    So do those who wait for what it should return, and once it is mended the auth works.
    """
    stage = Stage("client", driver, need="nothing")
    broken = True

    def ask() -> str:
        if broken:
            stage.client(auth).get(stage.api_url)
        return good

    async def aask() -> str:
        if broken:
            await stage.client(auth).get(stage.api_url)
        return good

    function: Any = ask if driver == "threads" else aask
    if auth_kind == "bearer":
        good = stage.first.access_token
        auth: Any = BearerAuth(function)
    else:
        good = "secret"
        auth = stage.make_auth(grant=stage.grant(client_secret=function))
    began = time.monotonic()
    answers = stage.at_once(4, auths=[auth])
    assert time.monotonic() - began < 5
    own_errors(answers, ConfigurationError)
    assert "auth" in str(answers[0])
    broken = False
    if auth_kind == "bearer":
        time.sleep(PAUSE)  # BearerAuth takes no clock
    stage.hands.move(PAUSE)
    assert stage.at_once(4, auths=[auth]) == [200] * 4


@pytest.mark.parametrize("driver", LOOPS)
def test_a_task_begun_by_a_callable_may_use_the_auth(driver: str) -> None:
    """A callable that starts a task on the side: that task, later, is a caller like any other (F29, F24)."""
    stage = Stage("client", driver, need="nothing")
    answers = []

    async def main() -> None:
        due = anyio.Event()

        async def on_the_side() -> None:
            await due.wait()
            answers.append(await asent(client, stage.api_url))

        async def secret() -> str:
            if not tasks_begun:
                tasks_begun.append(1)
                tasks.start_soon(on_the_side)
            return "secret"

        tasks_begun: list[int] = []
        auth = stage.make_auth(grant=stage.grant(client_secret=secret))
        client = stage.client(auth)
        async with anyio.create_task_group() as tasks:
            answers.append(await asent(client, stage.api_url))
            stage.hands.move(LIFETIME)
            due.set()
        with anyio.move_on_after(2):
            answers.append(await asent(client, stage.api_url))

    run(driver, main)
    assert answers == [200, 200, 200]
    assert stage.sandbox.token_requests == 2


@pytest.mark.parametrize("kind", ["bearer", "client", "refresh"])
def test_an_async_callable_is_no_use_to_threads(kind: str) -> None:
    """An async callable behind a sync client is an error that says so, each time, and costs no session."""
    stage = Stage("refresh" if kind == "refresh" else "client", "threads", need="expired")

    async def secret() -> str:
        return "secret"

    auth: Any = BearerAuth(secret) if kind == "bearer" else stage.make_auth(grant=stage.grant(client_secret=secret))
    if kind == "bearer":
        own_errors(stage.at_once(3, auths=[auth]), ConfigurationError)
        return
    stage.auth = auth
    for _ in range(3):
        answers = own_errors(stage.at_once(3), ConfigurationError)
        assert "async" in str(answers[0])
        stage.hands.move(LONGEST_PAUSE)
    stage.driver = "asyncio"
    stage.auth = stage.make_auth(grant=stage.grant(client_secret=secret))
    assert stage.at_once(3) == [200] * 3
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_callable_that_raises_is_an_outage_of_its_own(driver: str, kind: str) -> None:
    """The callable for the secret raises: each waiter gets an error of their own, and no session is lost (F24)."""
    broken = True

    def secret() -> str:
        if broken:
            raise LookupError("the vault is closed")
        return "secret"

    stage = Stage(kind, driver, need="expired", secret=secret)
    for _ in range(3):
        answers = own_errors(stage.at_once(5))
        assert {answer.outcome for answer in answers} == {"not sent"}
        stage.hands.move(LONGEST_PAUSE)
    broken = False
    assert stage.at_once(5) == [200] * 5
    stage.check_session()


@pytest.mark.parametrize("driver", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_callable_that_hangs_is_over_with_the_budget(driver: str, kind: str) -> None:
    """The callable for the secret hangs, once: all who wait are answered within the budget, and the next works (F28).

    Budget means all of a renewal, so a vault that does not answer counts as the endpoint would.
    """
    hanging = True

    async def secret() -> str:
        if hanging:
            await anyio.sleep_forever()
        return "secret"

    stage = Stage(kind, driver, need="expired", secret=secret, policy={"budget": 0.3})

    async def main() -> None:
        nonlocal hanging
        client, answers = stage.client(), []

        async def request() -> None:
            answers.append(await asent(client, stage.api_url))

        with anyio.move_on_after(1.5):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(request)
        assert [type(answer).__name__ for answer in answers] == ["TokenEndpointUnavailable"] * 5
        hanging = False
        stage.hands.move(60)
        with anyio.fail_after(3):
            assert await asent(client, stage.api_url) == 200

    run(driver, main)


@pytest.mark.parametrize("driver", LOOPS)
def test_a_renewal_that_hangs_is_not_for_ever(driver: str) -> None:
    """A renewal that hangs is given up when its time is over: the next request on that loop renews (F24)."""
    hanging = True

    async def secret() -> str:
        if hanging:
            await anyio.sleep_forever()
        return "secret"

    stage = Stage("client", driver, need="expired", secret=secret, policy={"budget": 0.3})

    async def main() -> None:
        nonlocal hanging
        client, answers = stage.client(), []
        async with anyio.create_task_group() as tasks:

            async def request() -> None:
                answers.append(await asent(client, stage.api_url))

            tasks.start_soon(request)
            await auntil(lambda: stage.waiting() == 1)
            await anyio.wait_all_tasks_blocked()
            hanging = False
            stage.hands.move(60)
            with anyio.move_on_after(1):
                await request()
            tasks.cancel_scope.cancel()
        assert answers[-1:] == [200]

    run(driver, main)
