"""Why a refusal stands: told in one sentence, once for each cause and interval, whoever asks how often."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import Counter

import httpx
import httpx2
import pytest

from httpx_tokenflow import APIKeyAuth, BearerAuth, RefreshToken, RenewalPolicy, Token, TokenAuth
from httpx_tokenflow._times import Clock
from httpx_tokenflow._verdicts import INTERVAL, MAX_KEPT, MAX_LOOKS, Look, Verdicts
from httpx_tokenflow.events import RefusalExplained, RequestRefused

API = "https://api.example/things"
SECRET = "s3cr3t-8f3a6c1e5b7d49f2a0c4"
EXPIRED = {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="The token expired"'}
LOOK = Look("client@as.example", "https://api.example", 401, "invalid_token")


class Time:
    """A clock that only moves by hand."""

    def __init__(self):
        self.now = 1_000_000.0
        self.policy = RenewalPolicy(clock=Clock(lambda: self.now, lambda: self.now))

    def move(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    return Time()


def client_of(answer, library=httpx):
    return library.Client(transport=library.MockTransport(answer))


class Heard(list):
    """A handler that keeps what it is told."""

    __hash__ = object.__hash__

    def __call__(self, event):
        self.append(event)

    def of(self, kind):
        return [event for event in self if type(event) is kind]


def bearer(heard):
    return BearerAuth(SECRET, on_event=heard)


def api_key(heard):
    return APIKeyAuth(SECRET, on_event=heard)


def in_query(heard):
    return APIKeyAuth(SECRET, query="appid", on_event=heard)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("make", [bearer, api_key, in_query])
def test_a_storm_of_refusals_is_explained_once(make, library, caplog):
    """Of a hundred refusals that stand each is told at DEBUG, and one is explained, as a warning without the secret."""
    caplog.set_level(logging.DEBUG, "httpx_tokenflow")
    heard = Heard()
    with client_of(lambda _: library.Response(401, headers=EXPIRED), library) as client:
        auth = make(heard)
        assert {client.get(API, auth=auth).status_code for _ in range(100)} == {401}
    assert len(heard.of(RequestRefused)) == 100
    (explained,) = heard.of(RefusalExplained)
    assert (explained.origin, explained.status, explained.error) == ("https://api.example", 401, "invalid_token")
    assert (explained.cause, explained.times) == ("token-expired", 1)
    assert explained.verdict in str(explained)
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [text for text in warnings if text.startswith(explained.source)] == [str(explained)]
    assert SECRET not in caplog.text + repr(heard) + str(explained)


@pytest.mark.parametrize("loop", ["asyncio", "threads"])
def test_it_is_told_again_after_an_interval_with_how_often(loop, time):
    """The same cause is told again after a minute, with how many refusals there were since."""
    heard = Heard()
    token = Token(SECRET, expires_at=time.now + 3600)
    grant = RefreshToken("https://as.example/token", client_id="c")
    auth = TokenAuth(grant, token=token, policy=time.policy, on_event=heard)

    def ask(times):
        if loop == "threads":
            with client_of(lambda _: httpx.Response(401, headers=EXPIRED)) as client:
                for _ in range(times):
                    client.get(API, auth=auth, extensions={"tokenflow": {"retry": False}})
            return

        async def many():
            transport = httpx.MockTransport(lambda _: httpx.Response(401, headers=EXPIRED))
            async with httpx.AsyncClient(transport=transport) as client:
                for _ in range(times):
                    await client.get(API, auth=auth, extensions={"tokenflow": {"retry": False}})

        asyncio.run(many())

    ask(5)
    for _ in range(10):
        time.move(INTERVAL / 10.5)
        ask(2)
    assert [one.times for one in heard.of(RefusalExplained)] == [1]
    time.move(INTERVAL)
    ask(3)
    assert [one.times for one in heard.of(RefusalExplained)] == [1, 25]
    assert "25 times since" in str(heard.of(RefusalExplained)[-1])


def test_another_cause_is_told_at_once(time):
    """What changes within the interval is told, though its refusals look alike: a second later at the latest."""
    heard = Heard()
    said = ["The token expired"]

    def answer(_):
        text = f'Bearer error="invalid_token", error_description="{said[0]}"'
        return httpx.Response(401, headers={"WWW-Authenticate": text})

    token = Token(SECRET, expires_at=time.now + 3600)
    auth = TokenAuth(
        RefreshToken("https://as.example/t", client_id="c"), token=token, policy=time.policy, on_event=heard
    )
    once = {"tokenflow": {"retry": False}}
    with client_of(answer) as client:
        client.get(API, auth=auth, extensions=once)
        said[0] = "The audience is invalid"
        client.get(API, auth=auth, extensions=once)
        time.move(1.0)
        client.get(API, auth=auth, extensions=once)
    assert [one.cause for one in heard.of(RefusalExplained)] == ["token-expired", "wrong-audience"]


def test_where_the_answer_does_not_say_the_doctor_is_named():
    """A refusal that says nothing is told as well, with where to go from here."""
    heard = Heard()
    with client_of(lambda _: httpx.Response(401, headers={"WWW-Authenticate": "Bearer"})) as client:
        client.get(API, auth=bearer(heard))
    (explained,) = heard.of(RefusalExplained)
    assert explained.cause is not None or "tokenflow doctor" in str(explained)


def test_what_is_mended_or_not_ours_is_not_explained():
    """No word about a 401 that a newer key has mended, nor about one of a request that the caller has signed."""
    heard = Heard()
    with client_of(lambda request: httpx.Response(200 if request.headers.get("X-API-Key") == "new" else 401)) as client:
        assert client.get(API, auth=APIKeyAuth(["old", "new"], on_event=heard)).status_code == 200
        assert client.get(API, auth=bearer(heard), headers={"Authorization": "Basic abc"}).status_code == 401
    assert heard.of(RefusalExplained) == []


def test_where_nobody_listens_nothing_is_looked_at():
    """A refusal that nobody would hear of costs no diagnosis, and a program without refusals loads no doctor."""
    code = """if True:
        import logging, sys, httpx, httpx_tokenflow
        logging.getLogger("httpx_tokenflow").setLevel(logging.ERROR)
        for status in 200, 401:
            client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(status)))
            assert client.get("https://api.example", auth=httpx_tokenflow.BearerAuth("x")).status_code == status
        assert "httpx_tokenflow.doctor" not in sys.modules
        logging.getLogger("httpx_tokenflow").setLevel(logging.WARNING)
        client.get("https://api.example", auth=httpx_tokenflow.BearerAuth("x"))
        assert "httpx_tokenflow.doctor" in sys.modules
    """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_refusals_that_look_alike_are_looked_at_once_a_second():
    """Of many that look alike one a second is looked at, also while the first look lasts; all of them count."""
    verdicts = Verdicts()
    assert [verdicts.count(LOOK, now) for now in (0.0, 0.0, 0.5)] == [True, False, False]
    assert verdicts.count(LOOK._replace(error=None), 0.5)
    assert verdicts.times(LOOK, "token-expired", 0.5) == 3
    assert verdicts.count(LOOK, 1.0)
    assert verdicts.times(LOOK, "token-expired", 1.0) == 0
    assert verdicts.count(LOOK, INTERVAL + 0.5)
    assert verdicts.times(LOOK, "token-expired", INTERVAL + 0.5) == 2


def test_a_few_a_second_are_looked_at_in_all():
    """However many APIs refuse at once, no more are looked at than a busy loop has time for; the others later."""
    verdicts = Verdicts()
    looks = [LOOK._replace(origin=number) for number in range(3 * MAX_LOOKS)]
    assert [verdicts.count(look, 0.0) for look in looks] == [True] * MAX_LOOKS + [False] * 2 * MAX_LOOKS
    assert [verdicts.count(look, 1.0) for look in looks[MAX_LOOKS:]] == [True] * MAX_LOOKS + [False] * MAX_LOOKS
    assert verdicts.times(looks[MAX_LOOKS], "token-expired", 1.0) == 2


def test_what_is_remembered_is_bounded_and_nothing_is_told_twice():
    """However many origins there are: what is known stays known, and what is new is not told while there is no room."""
    verdicts, now = Verdicts(), 0.0
    told = Counter()
    for round_ in range(2):
        for number in range(MAX_KEPT + 100):
            now = round_ * 30.0 + number * 0.01
            look = LOOK._replace(origin=number)
            if verdicts.count(look, now) and verdicts.times(look, "token-expired", now):
                told[number] += 1
    assert len(verdicts._told) <= MAX_KEPT
    assert len(verdicts._looks) <= MAX_KEPT
    assert set(told.values()) == {1}
    assert verdicts.count(LOOK._replace(origin="new"), now + 3 * INTERVAL)


def test_an_auth_for_each_request_says_it_once():
    """A program that makes an auth object for each request, or each user, is told once as well, with how many."""
    heard = Heard()
    with client_of(lambda _: httpx.Response(401, headers=EXPIRED)) as client:
        for _ in range(20):
            client.get(API, auth=bearer(heard))
    assert len(heard.of(RequestRefused)) == 20
    assert len(heard.of(RefusalExplained)) == 1


def test_what_the_program_has_brought_has_no_age():
    """Of a token that nobody has seen being issued it is not said that it is fresh."""
    heard = Heard()
    with client_of(
        lambda _: httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    ) as client:
        client.get(API, auth=bearer(heard))
        client.get(API, auth=api_key(heard))
    assert {one.cause for one in heard.of(RefusalExplained)} & {"fresh-token-refused"} == set()


def test_the_verdict_is_about_our_credential():
    """A cookie of the client's jar beside a sealed key is not what was refused."""
    heard = Heard()
    with client_of(lambda _: httpx.Response(401, json={"message": "Invalid API key"})) as client:
        client.cookies.set("lang", "en-us")
        client.get(API, auth=api_key(heard))
    (explained,) = heard.of(RefusalExplained)
    assert explained.cause == "wrong-api-key"
