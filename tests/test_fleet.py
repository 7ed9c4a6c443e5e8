"""Simulated time: what a fleet, a short-lived token and a server that always refuses cost the token endpoint."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import httpx
import pytest

from httpx_tokenflow import ClientCredentials, Clock, RenewalPolicy, TokenAuth, TokenEndpointUnavailable

API = "https://api.example/orders"
HOUR = 3600.0


class Time:
    """A clock that moves when it is told to, and when somebody sleeps by it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Server:
    """A token endpoint and an API, and when they were asked."""

    def __init__(self, time: Time, lifetime: float) -> None:
        self.time = time
        self.lifetime = lifetime
        self.token_requests: list[float] = []
        self.is_down = self.refuses = False
        self.good = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            is_good = request.headers["Authorization"] == f"Bearer {self.good}" and not self.refuses
            return httpx.Response(200 if is_good else 401)
        self.token_requests.append(self.time.now)
        if self.is_down:
            return httpx.Response(503)
        self.good = f"at-{len(self.token_requests)}"
        return httpx.Response(200, json={"access_token": self.good, "expires_in": self.lifetime})

    def auth(self, **policy: Any) -> TokenAuth:
        """An auth object of a process of its own."""
        return TokenAuth(
            ClientCredentials("https://as.example/token", client_id="c", client_secret="s"),
            client=httpx.Client(transport=httpx.MockTransport(self)),
            policy=RenewalPolicy(clock=self.time.clock, **policy),
        )

    def client(self, **policy: Any) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self), auth=self.auth(**policy))


@pytest.mark.parametrize(
    ("seed", "hours"), [(0, 12), *[pytest.param(seed, 24, marks=pytest.mark.slow) for seed in range(3)]]
)
def test_a_fleet_that_started_at_once_does_not_renew_at_once(seed: int, hours: int) -> None:
    """50 processes, each with a stream of requests, tokens of an hour, for a long day: no second sees more than three.

    Without jitter all 50 would renew within one second, every 45 minutes.
    """
    dice = random.Random(seed)
    time = Time()
    server = Server(time, HOUR)
    start = time.now
    fleet = [server.auth(random=dice.random) for _ in range(50)]
    for auth in fleet:
        auth.token()
    assert len(server.token_requests) == 50
    while time.now < start + hours * HOUR:
        # The next of them that has to look after its token; its stream of requests has one in that very second.
        following = min(fleet, key=lambda auth: auth._source.held.born + auth._source.held.look)
        time.now = max(time.now, following._source.held.born + following._source.held.look) + 0.001
        following.token()
    renewals = Counter(int(at - start) for at in server.token_requests[50:])
    assert max(renewals.values()) <= 3
    assert 50 * hours < len(server.token_requests) < 50 * hours * 1.5


@pytest.mark.parametrize(
    "lifetime", [1, 60, 3600, *[pytest.param(lifetime, marks=pytest.mark.slow) for lifetime in (5, 30, 300)]]
)
def test_token_requests_per_lifetime(lifetime: int) -> None:
    """Whatever the lifetime, a steady stream costs no more than one and a half token requests for each (F58)."""
    time = Time()
    server = Server(time, lifetime)
    lifetimes, requests_per_lifetime = 20, 100
    with server.client() as client:
        for _ in range(lifetimes * requests_per_lifetime):
            assert client.get(API).status_code == 200
            time.now += lifetime / requests_per_lifetime
    assert lifetimes * 0.9 <= len(server.token_requests) <= lifetimes * 1.5


@pytest.mark.sampled(0)
@pytest.mark.parametrize("timeout", [5.0, 100.0, 1000.0])
def test_long_timeouts_do_not_cost_more(timeout: float) -> None:
    """A request that may outlast the token renews first, within the same bounds."""
    for lifetime in (1, 5, 30, 300, 3600):
        time = Time()
        server = Server(time, lifetime)
        with server.client() as client:
            for _ in range(500):
                client.get(API, timeout=timeout)
                time.now += lifetime / 50
        assert len(server.token_requests) <= 15


def test_a_server_that_refuses_every_token() -> None:
    """1,000 requests within a minute: all of them get their 401, for ten token requests at most (F49)."""
    time = Time()
    server = Server(time, HOUR)
    server.refuses = True
    with server.client() as client:
        for _ in range(1000):
            assert client.get(API).status_code == 401
            time.now += 0.06
        assert 4 <= len(server.token_requests) <= 10
        server.refuses = False
        time.now += 60
        assert client.get(API).status_code == 200


def test_an_outage_while_the_token_is_valid() -> None:
    """The token endpoint is down from the first minute to the last second: nobody fails, and it is not hammered."""
    time = Time()
    server = Server(time, HOUR)
    with server.client() as client:
        assert client.get(API).status_code == 200
        server.is_down = True
        end = time.now + HOUR - 5
        while time.now < end:
            assert client.get(API).status_code == 200
            time.now += 1
        # Nothing before it is early; then 5 s doubling to 5 min, and 1 s doubling to 30 s when it is due; three each.
        assert 9 <= len(server.token_requests) - 1 <= 60
        server.is_down = False
        time.now += 300
        assert client.get(API).status_code == 200


def test_an_outage_without_a_token() -> None:
    """The endpoint is down and there is no token: ten requests a second cost a few token requests a minute."""
    time = Time()
    server = Server(time, HOUR)
    server.is_down = True
    with server.client() as client:
        for number in range(3600):
            with pytest.raises(TokenEndpointUnavailable):
                client.get(API)
            if number == 10:
                assert len(server.token_requests) <= 3
            time.now += 0.1
        assert len(server.token_requests) <= 3 * (5 + 360 / 15 + 1)
