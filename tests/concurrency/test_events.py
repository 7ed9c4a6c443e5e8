"""Events: each when it should come, with the right numbers and no secret; and what a bad handler cannot break."""

from __future__ import annotations

import copy
import dataclasses
import gc
import logging
import pickle
import threading
from typing import Any

import httpx
import pytest
from concurrency.stage import DRIVERS, KINDS, LIFETIME, ORIGIN, Stage, Window, sent, start, until

from httpx_tokenflow import (
    APIKeyAuth,
    ConfigurationError,
    ReauthenticationRequired,
    StoreError,
    TokenEndpointUnavailable,
)
from httpx_tokenflow.events import (
    BreakerClosed,
    BreakerOpened,
    Event,
    RefusalExplained,
    RenewalFailed,
    RequestRefused,
    SecretFellBack,
    StoreFailed,
    TokenObtained,
    TokenRenewed,
    Waited,
    Why,
    to_all,
)
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import Status

pytestmark = pytest.mark.usefixtures("no_pauses")

SOURCE = "client@sandbox.example"
EARLY, DUE = 3200.0, 3545.0  # ages of a token of an hour
CROWD = 4


class Heard(list[Any]):
    """A handler that keeps what it is told."""

    __hash__ = object.__hash__

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self if type(event) is kind]


def listening(stage: Stage) -> Heard:
    """Whatever the stage's auth tells from now on."""
    heard = Heard()
    stage.auth = stage.make_auth(on_event=heard)
    return heard


def in_state(age: float, kind: str, driver: str, **options: Any) -> tuple[Stage, Heard]:
    stage = Stage(kind, driver, need=None, **options)
    stage.hands.move(age)
    return stage, listening(stage)


# Renewals


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_first_token_and_the_next(driver: str, kind: str) -> None:
    """`TokenObtained` for the first token of a process and `TokenRenewed` for the next, once for all who waited.

    With what it took, and with how many waited and for how long; each of them tells `Waited` on its own.
    """
    stage = Stage(kind, driver)
    heard = listening(stage)
    for number, event in enumerate((TokenObtained, TokenRenewed), start=1):
        stage.gate.shut()
        flown = start(stage.at_once, CROWD)
        waiting = CROWD - (driver == "threads")  # the thread that renews is busy, it does not wait
        until(lambda: stage.waiting() == waiting and stage.gate.reached == number)  # noqa: B023 - called here
        stage.hands.move(2.0)
        stage.gate.open()
        assert flown.result(10) == [200] * CROWD
        (told,) = heard.of(event)
        assert [told] == [
            event(
                source=SOURCE,
                renewal=told.renewal,
                grant=told.grant,
                why=Why.MISSING,
                minted=True,
                requests=1,
                expires_in=LIFETIME - 2.0,
                seconds=2.0,
                endpoint_seconds=2.0,
                store_seconds=0.0,
                wait_seconds=0.0,
                waiting=waiting,
            )
        ]
        waited = heard.of(Waited)
        assert sorted(one.leads for one in waited) == [False] * (CROWD - 1) + [True]
        same = {"source": SOURCE, "renewal": told.renewal, "seconds": 2.0, "why": Why.MISSING, "served": True}
        assert waited == [Waited(leads=one.leads, **same) for one in waited]
        assert len(heard) == 1 + CROWD
        heard.clear()
        stage.hands.move(LIFETIME)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("age", "why"), [(EARLY, Why.EARLY), (DUE, Why.DUE), (LIFETIME, Why.MISSING), (0.0, Why.REFUSED)]
)
def test_why_a_token_was_renewed(driver: str, age: float, why: Why) -> None:
    """`TokenRenewed` says why: it was early, due or had ended, or an API refused it."""
    stage, heard = in_state(age, "refresh", driver)
    if why is Why.REFUSED:
        stage.sandbox.revoke_access_tokens()
    assert stage.at_once(1) == [200]
    (renewed,) = heard.of(TokenRenewed)
    assert (renewed.why, renewed.requests, renewed.minted, renewed.expires_in) == (why, 1, True, LIFETIME)
    assert [waited.why for waited in heard.of(Waited)] == ([] if why is Why.EARLY else [why])


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_token_that_somebody_else_had_renewed(driver: str) -> None:
    """Another process has renewed: `TokenRenewed` says that it came from the store, for no token request."""
    stage, heard = in_state(LIFETIME, "refresh", driver)
    other = stage.make_auth(store=Window(stage.store))
    assert stage.at_once(1, auths=[other]) == [200]
    assert heard == []  # that was the other process's
    assert stage.at_once(1) == [200]
    (renewed,) = heard.of(TokenRenewed)
    assert (renewed.minted, renewed.requests) == (False, 0)
    assert "from the store" in str(renewed)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("age", "why", "retry_in", "expires_in", "served"),
    [
        (EARLY, Why.EARLY, 5.0, LIFETIME - EARLY, None),
        (DUE, Why.DUE, 1.0, LIFETIME - DUE, True),
        (LIFETIME, Why.MISSING, 1.0, None, False),
        (0.0, Why.REFUSED, 1.0, LIFETIME, False),
    ],
)
def test_a_renewal_that_fails(
    driver: str, age: float, why: Why, retry_in: float, expires_in: float | None, served: bool | None
) -> None:
    """`RenewalFailed` once, with the error, how often was asked, when the next may be tried and what is left.

    Who waited is told apart by whether there was a token to go on with.
    """
    stage = Stage("refresh", driver, need=None)
    heard = Heard()
    auth = stage.make_auth(on_event=heard)  # shares the source of `stage.auth`
    stage.hands.move(age)
    if why is Why.REFUSED:
        stage.sandbox.revoke_access_tokens()
    stage.gate.instead = lambda _: httpx.Response(503)
    for _ in range(2):  # the second hears of the pause, and that is no failure of its own
        stage.at_once(1, auths=[auth])
    (failed,) = heard.of(RenewalFailed)
    assert isinstance(failed.error, TokenEndpointUnavailable)
    requests = 1 if why in {Why.EARLY, Why.DUE} else 3  # where there is a token that is good there is time
    assert (failed.why, failed.requests, failed.retry_in, failed.expires_in) == (why, requests, retry_in, expires_in)
    first = [(waited.why, waited.served) for waited in heard.of(Waited)][:1]
    assert first == ([] if served is None else [(why, served)])
    assert heard.of(Waited)[1:] == []  # the second did not wait


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_wait_for_the_store_while_renewals_pause(driver: str) -> None:
    """Who gets the error of a renewal before at once tells no wait; who waits for the store does."""

    class Slow(MemoryStore):
        seconds = 0.0

        def load(self, fingerprint: str) -> Any:
            if self.seconds:
                stage.hands.move(self.seconds)
            return super().load(fingerprint)

    stage = Stage("client", driver, need="expired", store=(store := Slow()), policy={"attempts": 1, "jitter": 0.0})
    heard = listening(stage)
    stage.gate.instead = lambda _: httpx.Response(503)
    assert 200 not in stage.at_once(1)
    heard.clear()
    for seconds, told in ((0.0, []), (0.2, [(Why.BACKED_OFF, 0.2, False)])):
        store.seconds = seconds
        assert 200 not in stage.at_once(1)
        assert [(one.why, pytest.approx(one.seconds), one.served) for one in heard.of(Waited)] == told


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("serves", [True, False])
def test_a_wait_for_a_stronger_token(driver: str, serves: bool) -> None:
    """A request that waits for a token that can do more tells that, and what came of it."""
    stage = Stage("client", driver, need=None)
    heard = Heard()
    auth = stage.make_auth(on_event=heard, step_up=True)
    challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="write"'}
    answers = [httpx.Response(200), httpx.Response(403, headers=challenge)]
    api = httpx.MockTransport(lambda _: answers.pop())
    if not serves:
        stage.gate.instead = lambda _: httpx.Response(400, json={"error": "invalid_scope"})
    got = stage.at_once(1, [stage.client(auth, transport=api)])
    assert (got == [200]) == serves
    (waited,) = heard.of(Waited)
    (renewed,) = [event for event in heard if isinstance(event, TokenObtained | RenewalFailed)]
    assert (waited.why, waited.leads, waited.served) == (Why.STEP_UP, True, serves)
    assert waited.renewal == renewed.renewal


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_another_try_to_save_is_no_renewal(driver: str) -> None:
    """The store is down for a while: one renewal is told, and each try to save it in vain is a failure of the store."""
    stage = Stage("client", driver, need="expired", store=(store := Failing()))
    heard = listening(stage)
    store.fails = "save"
    for _ in range(5):
        assert stage.at_once(1) == [200]
        stage.hands.move(61.0)
    assert len(heard.of(TokenRenewed)) == 1
    assert len(heard.of(StoreFailed)) == 5


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_session_that_is_over_is_told(driver: str) -> None:
    """`RenewalFailed` says that somebody has to log in again, while there is a token left."""
    stage, heard = in_state(EARLY, "refresh", driver)
    stage.gate.instead = lambda _: httpx.Response(400, json={"error": "invalid_grant"})
    assert stage.at_once(1) == [200]
    (failed,) = heard.of(RenewalFailed)
    assert isinstance(failed.error, ReauthenticationRequired)
    assert (failed.requests, failed.expires_in) == (1, LIFETIME - EARLY)


# Requests that are refused


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_refusal_that_is_mended(driver: str) -> None:
    """`RequestRefused` once for each that was refused, with what the API said; it does not stand."""
    stage, heard = in_state(0.0, "client", driver)
    stage.sandbox.revoke_access_tokens()
    assert stage.at_once(1) == [200]
    expected = RequestRefused(source=SOURCE, origin=ORIGIN, status=401, error="invalid_token", scope=None, stands=False)
    assert heard.of(RequestRefused) == [expected]


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_refusal_that_stands(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """`RequestRefused` for what no token would mend, with the scope that is missing; and why it stands is a warning."""
    caplog.set_level(logging.DEBUG, "httpx_tokenflow")
    stage, heard = in_state(0.0, "client", driver)
    challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="write"'}
    api = httpx.MockTransport(lambda _: httpx.Response(403, headers=challenge))
    assert stage.at_once(1, [stage.client(transport=api)]) == [403]
    expected = RequestRefused(
        source=SOURCE, origin=ORIGIN, status=403, error="insufficient_scope", scope="write", stands=True
    )
    explained = heard[-1]
    assert heard == [expected, explained]
    assert isinstance(explained, RefusalExplained)
    assert [(one.levelno, one.getMessage()) for one in caplog.records if one.name == "httpx_tokenflow"] == [
        (logging.DEBUG, str(expected)),
        (logging.WARNING, str(explained)),
    ]


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_the_breaker_opens_and_closes(driver: str) -> None:
    """`BreakerOpened` at the second young token that an origin refuses, `BreakerClosed` when it accepts one again.

    No token is minted for it meanwhile; after the pause one is, to see; if that is refused as well the pause doubles.
    """
    stage, heard = in_state(0.0, "client", driver)
    stage.sandbox.script(*[Status(401)] * 7, on="api")
    assert stage.at_once(1) == [401]
    assert heard.of(BreakerOpened) == [BreakerOpened(source=SOURCE, origin=ORIGIN, seconds=1.0)]
    assert [one.stands for one in heard.of(RequestRefused)] == [False, True]
    for _ in range(3):
        assert stage.at_once(1) == [401]
    assert stage.sandbox.token_requests == 1
    stage.hands.move(1.0)
    assert stage.at_once(1) == [401]
    assert stage.sandbox.token_requests == 2
    assert [one.seconds for one in heard.of(BreakerOpened)] == [1.0, 2.0]
    assert heard.of(BreakerClosed) == []
    assert stage.at_once(1) == [200]
    assert heard.of(BreakerClosed) == [BreakerClosed(source=SOURCE, origin=ORIGIN)]
    assert stage.at_once(1) == [200]
    assert len(heard.of(BreakerClosed)) == 1


# Secrets and stores


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_that_falls_back(driver: str, kind: str) -> None:
    """`SecretFellBack` when the next secret had to take over; it stays in use, so that is told once."""
    stage = Stage(kind, driver, need="expired", secret=["retired", "secret"])
    heard = listening(stage)
    for requests in (2, 1):
        assert stage.at_once(2) == [200] * 2
        assert [renewed.requests for renewed in heard if isinstance(renewed, TokenObtained)][-1] == requests
        stage.hands.move(LIFETIME)
    assert heard.of(SecretFellBack) == [SecretFellBack(source=SOURCE, what="client_secret")]


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_key_that_falls_back(driver: str) -> None:
    """`SecretFellBack` when an API key was refused and the next one of the sequence is used."""
    stage, heard = Stage("client", driver), Heard()
    auth = APIKeyAuth(["retired", "key"], on_event=heard)
    stage.api_url = f"{ORIGIN}/api-key/thing"
    assert stage.at_once(2, [stage.client(auth)]) == [200] * 2
    assert stage.at_once(2, [stage.client(auth)]) == [200] * 2
    assert heard.of(SecretFellBack) == [SecretFellBack(source="key", what="key")]


class Failing(MemoryStore):
    """A store one of whose verbs fails."""

    fails = ""

    def load(self, fingerprint: str) -> Any:
        if self.fails == "load":
            raise OSError("no")
        return super().load(fingerprint)

    def save(self, fingerprint: str, entry: Any, *, replaces: str | None) -> bool:
        # The second of a renewal that marks first; the only one of another.
        if self.fails == "save" and entry.presented == 0:
            raise OSError("no")
        return super().save(fingerprint, entry, replaces=replaces)

    def lease(self, fingerprint: str, seconds: float, patience: float) -> Any:
        if self.fails == "lease":
            raise OSError("no")
        return super().lease(fingerprint, seconds, patience)


@pytest.mark.sampled
@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize(("kind", "verb", "says"), [
    ("client", "load", "cannot be read"),
    ("client", "lease", "no lease"),
    ("client", "save", "kept in memory"),
    ("refresh", "save", "kept in memory"),
])  # fmt: skip
def test_a_store_that_fails_is_told(driver: str, kind: str, verb: str, says: str) -> None:
    """`StoreFailed` says what was done without the store, and the request is served."""
    stage = Stage(kind, driver, need="expired", store=(store := Failing()))
    heard = listening(stage)
    store.fails = verb
    assert stage.at_once(1) == [200]
    told = heard.of(StoreFailed)
    assert says in str(told[0])
    assert all(one.source == SOURCE for one in told)


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_a_store_without_which_nothing_is_done(driver: str) -> None:
    """A refresh token that may rotate is not presented without the store: that is a `RenewalFailed`."""
    stage = Stage("refresh", driver, need="expired", store=(store := Failing()))
    heard = listening(stage)
    store.fails = "load"
    (error,) = stage.at_once(1)
    assert isinstance(error, StoreError)
    (failed,) = heard.of(RenewalFailed)
    assert isinstance(failed.error, StoreError)
    assert failed.requests == 0


# No secret


def everything_happens(stage: Stage, store: Failing) -> None:
    """One after the other, whatever an auth can tell of."""
    assert stage.at_once(3) == [200] * 3
    stage.hands.move(EARLY)
    stage.gate.instead = lambda request: httpx.Response(
        400, json={"error": "invalid_scope", "error_description": f"we got {request.content!r} {dict(request.headers)}"}
    )
    assert stage.at_once(3) == [200] * 3
    stage.hands.move(LIFETIME)
    assert 200 not in stage.at_once(3)
    stage.gate.instead = None
    stage.hands.move(30.0)
    store.fails = "save"
    assert stage.at_once(3) == [200] * 3
    store.fails = ""
    stage.sandbox.revoke_access_tokens()
    assert stage.at_once(3) == [200] * 3
    assert stage.sandbox.families_revoked == 0


def one_after_the_other_is_refused(stage: Stage) -> None:
    """What opens the breaker, and closes it."""
    stage.sandbox.script(*[Status(401)] * 2, on="api")
    assert stage.at_once(1) == [401]
    assert stage.at_once(1) == [200]


@pytest.mark.sampled
@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_event_has_a_secret_in_it(driver: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """No token, refresh token or client secret is in any event, however it is written down, nor in the log (F19)."""
    caplog.set_level(logging.DEBUG, "httpx_tokenflow")
    secrets_ = ["s3cr3t-retired", "s3cr3t-in-use"]
    store = Failing()
    stage = Stage(kind, driver, secret=secrets_, store=store, clients={"client": "s3cr3t-in-use"})
    heard = listening(stage)
    everything_happens(stage, store)
    one_after_the_other_is_refused(stage)
    seen = {type(event) for event in heard}
    assert seen >= {RenewalFailed, RequestRefused, SecretFellBack, StoreFailed, TokenRenewed, Waited, BreakerOpened}
    hidden = {*secrets_, stage.first.access_token, stage.first.refresh_token or "s3cr3t"}
    hidden |= {one.headers["authorization"].split()[1] for one in stage.sandbox.seen if "authorization" in one.headers}
    hidden |= set(stage.presented())
    assert len(hidden) >= 8
    written = [message for one in caplog.records for message in (one.getMessage(), repr(one.args), one.exc_text or "")]
    for event in heard:
        assert event.source == SOURCE
        assert copy.copy(event) == event
        written += [str(event), repr(event), repr(dataclasses.asdict(event)), repr(pickle.loads(pickle.dumps(event)))]
        written += [pickle.dumps(event).decode("latin-1")]
    written += [repr(stage.auth), repr(stage.auth.status), repr(dataclasses.asdict(stage.auth.status))]
    for secret in hidden:
        assert [text for text in written if secret in text] == []


# Handlers that misbehave


@pytest.mark.sampled
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_raises_breaks_nothing(driver: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """`on_event` raises each time: all goes as ever, it is told each time, and each time that is logged."""
    store = Failing()
    stage = Stage(kind, driver, secret=["retired", "secret"], store=store)
    heard = Heard()

    def on_event(event: Event) -> None:
        heard.append(event)
        raise LookupError("a defect of the program's")

    stage.auth = stage.make_auth(on_event=on_event)
    everything_happens(stage, store)
    one_after_the_other_is_refused(stage)
    assert len({type(event) for event in heard}) >= 7
    assert sum("on_event raised" in one.getMessage() for one in caplog.records) == len(heard)
    assert stage.flight is None
    assert stage.waiting() == 0


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("lands", [True, False])
def test_a_slow_handler_holds_nobody_else_up(driver: str, lands: bool) -> None:
    """`on_event` is slow to hear how a renewal ended: who waited elsewhere has been served before, and who comes is.

    It is told when all is over, and outside any lock.
    """
    stage = Stage("client", "anywhere", need="expired", policy={"attempts": 1})
    stage.gate.instead = None if lands else lambda _: httpx.Response(503)
    told, released = threading.Event(), threading.Event()

    def on_event(event: Event) -> None:
        if isinstance(event, TokenRenewed | RenewalFailed):
            told.set()
            assert released.wait(30)

    stage.auth = stage.make_auth(on_event=on_event)
    stage.driver = driver
    stage.auth.set_token(stage.login(-1.0))
    stage.gate.shut()
    leader = start(stage.at_once, 1)
    until(lambda: stage.gate.reached == 1)
    stage.driver = "threads"
    waiters = [start(sent, stage.client(), stage.api_url) for _ in range(CROWD)]
    until(lambda: stage.waiting() >= CROWD)
    stage.gate.open()
    answers = [waiter.result(10) for waiter in waiters]
    assert told.wait(10)
    answers.append(sent(stage.client(), stage.api_url))
    assert stage.auth.status.last_error is None or not lands
    assert not leader.done()
    released.set()
    (answer,) = leader.result(10)
    assert [one == 200 for one in [*answers, answer]] == [lands] * (CROWD + 2)


@pytest.mark.sampled
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_uses_the_auth(driver: str, kind: str) -> None:
    """`on_event` looks at the auth that tells it, and asks it for a token: that neither hangs nor goes round."""
    store = Failing()
    stage = Stage(kind, driver, secret=["retired", "secret"], store=store)
    heard = Heard()

    def on_event(event: Event) -> None:
        heard.append(event)
        assert repr(stage.auth)
        assert stage.auth.status.waiting >= 0
        if type(event) in {TokenRenewed, TokenObtained, RenewalFailed} and len(heard) < 1000:
            outcome.append(sent(stage.client(driver="threads"), stage.api_url))

    outcome: list[Any] = []
    stage.auth = stage.make_auth(on_event=on_event, client=httpx.Client(transport=stage.gate))
    everything_happens(stage, store)
    assert 200 in outcome
    assert len(heard) < 200
    assert stage.flight is None


def test_a_handler_that_is_none() -> None:
    """Async, not to be called, or a class instead of an object of it: an error when it is given, joined or not."""
    stage = Stage("client", "threads")

    async def on_event(event: Event) -> None:
        """Never awaited."""

    class Hears:
        every_request = True

        def __call__(self, event: Event) -> None:
            """Never called: nobody has made an object."""

    for handler, word in ((on_event, "async"), ("not callable", "callable"), (None, "callable"), (Hears, "class")):
        with pytest.raises(ConfigurationError, match=word):
            to_all(print, handler)  # type: ignore[arg-type]  # that is the point
        if handler is not None:
            with pytest.raises(ConfigurationError, match=f"on_event= .*{word}"):
                stage.make_auth(on_event=handler)


# Who hears


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_who_shares_a_token_hears_of_it(driver: str) -> None:
    """Auths that share a source: one handler of several hears once, each of several handlers hears."""

    class Program:
        def __init__(self) -> None:
            self.heard = Heard()

        def hear(self, event: Event) -> None:
            self.heard(event)

    stage = Stage("client", driver, need="expired")
    shared, own, program = Heard(), Heard(), Program()
    handlers = [shared, shared, own, program.hear, program.hear]  # the last two are equal and not the same object
    auths = [stage.make_auth(on_event=handler) for handler in handlers]
    assert len({id(auth._source) for auth in auths}) == 1
    assert stage.at_once(1, auths=auths[:1]) == [200]
    assert [type(event) for event in shared] == [TokenRenewed, Waited]
    assert shared == own == program.heard


def test_who_shares_a_token_and_joins_handlers() -> None:
    """A handler alone for one auth, and joined with others for another that shares its token, hears once."""
    stage = Stage("client", "threads", need="expired")
    shared, own = Heard(), Heard()
    handlers = [shared, to_all(shared, own), to_all(own, to_all(shared, shared))]
    auths = [stage.make_auth(on_event=handler) for handler in handlers]
    assert stage.at_once(1, auths=auths[:1]) == [200]
    assert [type(event) for event in shared] == [type(event) for event in own] == [TokenRenewed, Waited]


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_who_is_gone_hears_nothing(driver: str) -> None:
    """An auth is collected: its handler hears no more, while others that share the source do; it is not kept alive."""
    stage = Stage("client", driver, need="expired")
    gone, stays = Heard(), Heard()
    auths = [stage.make_auth(on_event=gone), stage.make_auth(on_event=stays)]
    assert stage.at_once(1, auths=auths[:1]) == [200]
    assert gone == stays != []
    told = len(gone)
    del auths[0]
    gc.collect()
    stage.hands.move(LIFETIME)
    assert stage.at_once(1, auths=auths) == [200]
    assert len(gone) == told < len(stays)
    assert len(stage.auth._source._listeners) == 1


def test_equal_handlers_of_two_objects_are_two() -> None:
    """Objects that share a token each have their handler told, also where handlers are equal, as empty lists are."""

    class Listed(list[Any]):
        __call__ = list.append

    stage = Stage("client", "threads")
    heard = [Listed(), Listed()]
    auths = [stage.make_auth(on_event=one) for one in heard]
    assert stage.at_once(1, auths=auths[:1]) == [200]
    assert [[type(event) for event in one] for one in heard] == [[TokenObtained, Waited]] * 2
