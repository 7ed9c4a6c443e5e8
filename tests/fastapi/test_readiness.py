"""Readiness: what a service says to whoever decides whether it gets traffic."""

# No `from __future__ import annotations`: FastAPI reads those of routes, which name what is local to a test.

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from upstreams_rig import API, SECRET, Hands, World, behind

from httpx_tokenflow import BearerAuth, ConfigurationError, ReauthenticationRequired, SessionLogin, TokenAuth
from httpx_tokenflow.fastapi import Upstreams, readiness

HOUR = 3600.0
INVALID = httpx.Response(400, json={"error": "invalid_grant", "error_description": "words of the server"})


def down() -> httpx.ConnectError:
    return httpx.ConnectError("as.example is down")


class Stage:
    """A service with two upstreams, each with an authorization server and clocks of its own."""

    def __init__(self, required: Any = None) -> None:
        self.worlds = {"a": World(), "b": World()}
        self.hands = Hands()
        self.auths = {name: world.auth(policy=self.hands.policy) for name, world in self.worlds.items()}
        self.upstreams = Upstreams({"plain": httpx.AsyncClient}, {**self.auths, "key": BearerAuth("k")})
        self.app = FastAPI()
        endpoint = readiness(self.upstreams, required=required)
        self.app.add_api_route("/ready", endpoint, methods=["GET", "HEAD"], include_in_schema=False)

    async def ask(self) -> httpx.Response:
        async with behind(self.app) as client:
            return await client.get("/ready")

    @property
    def asked(self) -> int:
        return sum(len(world.requests) for world in self.worlds.values())

    def break_down(self, name: str, times: int = 50, fault: Any = down) -> None:
        self.worlds[name].faults = [fault() for _ in range(times)]

    def later(self, seconds: float) -> None:
        self.hands.ahead += seconds


@pytest.mark.asyncio
async def test_ready() -> None:
    """With all tokens at hand: 200, with what each is like; whoever has no `TokenAuth` has no say."""
    stage = Stage()
    async with stage.upstreams.lifespan(stage.app):
        answer = await stage.ask()
        async with behind(stage.app) as client:
            assert (await client.head("/ready")).status_code == 200
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert told["ready"] is True
    assert list(told["upstreams"]) == ["a", "b"]
    one = told["upstreams"]["a"]
    assert one.pop("expires_in") in {3599, 3600}
    assert one == {"ready": True, "state": "fresh", "last_error": None, "waiting": 0}


@pytest.mark.asyncio
async def test_the_answer_takes_no_io() -> None:
    """A probe of a service that is ready asks nobody, however old its tokens are."""
    stage = Stage()
    async with stage.upstreams.lifespan(stage.app):
        for _ in range(5):
            assert (await stage.ask()).status_code == 200
            stage.later(HOUR / 3)
    assert stage.asked == 2


@pytest.mark.asyncio
async def test_an_outage_while_tokens_are_good() -> None:
    """A service whose renewals fail is ready until its token has ended, and says what is wrong."""
    stage = Stage()
    async with stage.upstreams.lifespan(stage.app):
        stage.break_down("a")
        stage.later(HOUR - 30)
        assert await stage.auths["a"].awarm()
        answer = await stage.ask()
        assert answer.status_code == 200
        one = answer.json()["upstreams"]["a"]
        assert (one["ready"], one["state"], one["last_error"]) == (True, "backed off", "TokenEndpointUnavailable")
        stage.later(31)
        answer = await stage.ask()
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["ready"] is False
        assert answer.json()["upstreams"]["a"]["ready"] is False
        assert answer.json()["upstreams"]["b"]["ready"] is True


@pytest.mark.asyncio
async def test_what_nobody_has_used_for_long_is_ready() -> None:
    """A token that ended while there was no traffic, and that nobody failed to renew, does not take a service out."""
    stage = Stage()
    async with stage.upstreams.lifespan(stage.app):
        stage.later(2 * HOUR)
        answer = await stage.ask()
        assert (answer.status_code, answer.json()["upstreams"]["a"]["state"]) == (200, "missing")
        assert answer.json()["upstreams"]["a"]["expires_in"] is None


@pytest.mark.asyncio
async def test_a_service_without_traffic_comes_back() -> None:
    """Out of rotation nobody renews but the probe: once the pause is over, and the server is up, it is ready again."""
    stage = Stage()
    stage.break_down("a")
    async with stage.upstreams.lifespan(stage.app):
        assert (await stage.ask()).status_code == 503
        asked = stage.asked
        assert (await stage.ask()).status_code == 503
        assert stage.asked == asked  # while it pauses, nobody is asked
        stage.worlds["a"].faults.clear()
        stage.later(120)
        assert (await stage.ask()).status_code == 503  # and then it is renewed, aside
        assert stage.asked == asked + 1
        assert (await stage.ask()).status_code == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("probed", [True, False])
async def test_a_start_that_ran_out_of_patience_is_not_ready(*, probed: bool) -> None:
    """Who has never had a token, because the server does not answer at all, is not ready until there was one."""
    stage = Stage()
    stage.upstreams = Upstreams(auths=stage.auths, patience=0.02)
    stage.app.add_api_route("/ready-at-all", readiness(stage.upstreams))
    gate, answer = asyncio.Event(), stage.worlds["a"].answer

    async def slow(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return await answer(request)

    stage.worlds["a"].transport.handler = slow
    async with stage.upstreams.lifespan(stage.app), behind(stage.app) as client:
        probe = asyncio.create_task(client.get("/ready-at-all"))
        async with asyncio.timeout(5):
            while stage.auths["a"].status.waiting < 1:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
            gate.set()
            told = await probe
        assert (told.status_code, told.headers["Retry-After"]) == (503, "5")
        one = told.json()["upstreams"]["a"]
        assert (one["ready"], one["last_error"]) == (False, None)
        assert told.json()["upstreams"]["b"]["ready"] is True
        await stage.auths["a"].atoken()
        assert not probed or (await client.get("/ready-at-all")).status_code == 200
        stage.later(2 * HOUR)  # and now it is like any other that nobody has used for long
        assert (await client.get("/ready-at-all")).status_code == 200
    assert stage.asked == 2


@pytest.mark.asyncio
async def test_probes_ask_no_more_than_requests_would() -> None:
    """However often one probes in an outage, the pauses between token requests grow as they do without probes."""
    stage = Stage()
    stage.break_down("a", 2_000)
    async with stage.upstreams.lifespan(stage.app):
        asked = stage.asked
        for _ in range(300):
            stage.later(1.0)
            assert (await stage.ask()).status_code == 503
        assert 0 < stage.asked - asked <= 75


@pytest.mark.asyncio
async def test_a_probe_logs_nobody_in_again() -> None:
    """A session that was given up stays given up, however often somebody asks whether the service is ready."""
    logins: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        logins.append(request.url.path)
        return httpx.Response(200, json={"access_token": "session", "expires_in": HOUR, "token_type": "Bearer"})

    hands, client = Hands(), httpx.AsyncClient(transport=httpx.MockTransport(answer))
    grant = SessionLogin("https://as.example/login", credentials={"user": "svc", "password": SECRET})
    auth = TokenAuth(grant, client=client, policy=hands.policy, origins=(API,))
    stage = Stage()
    stage.upstreams = Upstreams(auths={"a": auth})
    stage.app.add_api_route("/ready-at-all", readiness(stage.upstreams))
    async with stage.upstreams.lifespan(stage.app), behind(stage.app) as probe:
        assert len(logins) == 1
        await auth.arevoke()
        logins.clear()
        with pytest.raises(ReauthenticationRequired):
            await auth.atoken()
        for _ in range(5):
            assert (await probe.get("/ready-at-all")).status_code == 503
            hands.ahead += 300.0
    assert logins == []


@pytest.mark.asyncio
async def test_no_flapping_while_the_probe_asks() -> None:
    """While the renewal of one probe is in the air, another is told what is known: that the last one failed."""
    stage = Stage()
    stage.break_down("a")
    gate, answer = asyncio.Event(), stage.worlds["a"].answer

    async def slow(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return await answer(request)

    async with stage.upstreams.lifespan(stage.app):
        stage.later(120)
        stage.worlds["a"].transport.handler = slow
        probe = asyncio.create_task(stage.ask())
        async with asyncio.timeout(5):
            while not stage.auths["a"].status.waiting:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
            second = asyncio.create_task(stage.ask())
            await asyncio.sleep(0.02)
            gate.set()
            assert (await probe).status_code == (await second).status_code == 503
            assert (await second).json()["upstreams"]["a"]["last_error"] == "TokenEndpointUnavailable"


@pytest.mark.asyncio
async def test_a_probe_does_not_wait_for_a_token() -> None:
    """The answer is sent before the token is fetched."""
    stage = Stage()
    stage.break_down("a", 6)
    sent: list[Any] = []
    async with stage.upstreams.lifespan(stage.app):
        stage.later(120)
        gate, asked = asyncio.Event(), stage.asked
        stage.worlds["a"].faults.clear()
        answer = stage.worlds["a"].answer

        async def slow(request: httpx.Request) -> httpx.Response:
            await gate.wait()
            return await answer(request)

        stage.worlds["a"].transport.handler = slow
        body_sent = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                body_sent.set()

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": "/ready", "headers": [], "query_string": b"", "root_path": ""}
        probe = asyncio.create_task(stage.app(scope, receive, send))
        async with asyncio.timeout(5):
            await body_sent.wait()
            assert sent[0]["status"] == 503
            assert stage.asked == asked
            gate.set()
            await probe
        assert (await stage.ask()).status_code == 200


@pytest.mark.asyncio
async def test_what_no_waiting_mends_is_not_ready_either() -> None:
    """A session of the service's own that is over takes it out, and the probe after it looks again."""
    stage = Stage()
    async with stage.upstreams.lifespan(stage.app):
        stage.later(2 * HOUR)
        stage.break_down("b", 1, lambda: INVALID)
        with pytest.raises(Exception, match="invalid_grant"):
            await stage.auths["b"].atoken()
        answer = await stage.ask()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["upstreams"]["b"]["last_error"] == "ReauthenticationRequired"
        stage.later(60)
        stage.break_down("b", 1, lambda: INVALID)
        assert (await stage.ask()).status_code == 503
        assert stage.worlds["b"].faults == []  # it has asked again
        assert (await stage.ask()).status_code == 503


@pytest.mark.asyncio
@pytest.mark.parametrize(("required", "status"), [(("b",), 200), ("b", 200), (("a",), 503), ((), 200), (None, 503)])
async def test_required(required: Any, status: int) -> None:
    """Those that the service can do without are told of, and do not decide."""
    stage = Stage(required)
    stage.break_down("a")
    async with stage.upstreams.lifespan(stage.app):
        answer = await stage.ask()
        assert answer.status_code == status
        assert answer.json()["upstreams"]["a"]["ready"] is False
        assert ("Retry-After" in answer.headers) == (status == 503)


def test_what_cannot_be() -> None:
    """A name that is not there is an error at once."""
    with pytest.raises(ConfigurationError, match="required= names c, d; the upstreams are plain, a, b, key"):
        Stage(("d", "a", "c"))
    for none in (None, Upstreams):
        with pytest.raises(ConfigurationError, match="readiness needs the Upstreams"):
            readiness(none)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_the_time_that_the_server_named() -> None:
    """Retry-After is what the authorization server said, where it said something."""
    stage = Stage()
    stage.break_down("a", fault=lambda: httpx.Response(503, headers={"Retry-After": "77"}))
    async with stage.upstreams.lifespan(stage.app):
        assert (await stage.ask()).headers["Retry-After"] == "77"


@pytest.mark.asyncio
async def test_nothing_of_the_inside() -> None:
    """No host, no client, no secret, no word of the server is in the answer."""
    stage = Stage()
    stage.break_down("a", fault=lambda: httpx.Response(503, json={"error_description": "words of the server"}))
    async with stage.upstreams.lifespan(stage.app):
        answer = await stage.ask()
    for secret in ("as.example", "svc", SECRET, "words", "for.service"):
        assert secret not in answer.text + str(answer.headers)


def test_plain_starlette() -> None:
    """It is a route of Starlette's too; and without the lifespan it says what is missing."""
    world = World()
    upstreams = Upstreams(auths={"a": world.auth()})
    app = Starlette(routes=[Route("/ready", readiness(upstreams))], lifespan=upstreams.lifespan)
    with TestClient(app) as client:
        assert client.get("/ready").status_code == 200
    with pytest.raises(ConfigurationError, match="not open"):
        TestClient(app).get("/ready")
