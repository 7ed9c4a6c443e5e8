"""What tests of the service side share: an authorization server and an API in memory, callers, a guard of straw."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
from fastapi import Header, HTTPException

from httpx_tokenflow import ClientCredentials, Clock, RenewalPolicy, TokenAuth, TokenExchange
from httpx_tokenflow.fastapi._caller import Caller

AS = "https://as.example/token"
API = "https://billing.example"
ELSEWHERE = "https://elsewhere.example"
SECRET = "the-secret-of-the-service"


@dataclass
class World:
    """An authorization server at as.example, whose tokens say whom they are for, and APIs everywhere else."""

    lifetime: float = 3600.0
    latency: float = 0.0
    requests: list[dict[str, str]] = field(default_factory=list)  # of the token endpoint
    api: list[httpx.Request] = field(default_factory=list)
    faults: list[Any] = field(default_factory=list)  # answers of the token endpoint, or exceptions, in turn
    api_faults: list[Any] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)  # subject tokens
    issued: int = 0

    def __post_init__(self) -> None:
        self.transport = httpx.MockTransport(self.answer)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        is_token = str(request.url) == AS
        if is_token:
            self.requests.append({name: one[0] for name, one in parse_qs(request.content.decode()).items()})
        else:
            self.api.append(request)
        faults = self.faults if is_token else self.api_faults
        fault = faults.pop(0) if faults else None
        if self.latency and is_token:
            await asyncio.sleep(self.latency)
        if isinstance(fault, BaseException):
            raise fault
        if fault is not None:
            return fault
        return self._token(self.requests[-1], request) if is_token else self._resource(request)

    def _token(self, form: dict[str, str], request: httpx.Request) -> httpx.Response:
        subject = parse_qs(request.content.decode())
        whom = subject.get("subject_token", subject.get("assertion", ["service"]))[0]
        if whom in self.refuses:
            return httpx.Response(400, json={"error": "invalid_grant", "error_description": "words of the server"})
        self.issued += 1
        token = {"access_token": f"for.{whom}.{self.issued}", "token_type": "Bearer", "expires_in": self.lifetime}
        return httpx.Response(200, json=token)

    def _resource(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"token": request.headers.get("authorization", "")[7:]})

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self.transport, base_url=API, **options)

    def auth(self, **options: Any) -> TokenAuth:
        grant = ClientCredentials(AS, client_id="svc", client_secret=SECRET)
        return TokenAuth(grant, client=httpx.AsyncClient(transport=self.transport), **{"policy": HASTY, **options})

    def exchange(self, **options: Any) -> TokenExchange:
        return TokenExchange(AS, client_id="svc", client_secret=SECRET, audience="billing", **options)


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


@dataclass
class Hands:
    """Clocks to be set; or the wall clock alone, where what is in the air is not to be late."""

    ahead: float = 0.0
    wall_alone: bool = False
    stopped_at: float | None = None  # Unix seconds

    @property
    def clock(self) -> Clock:
        def monotonic() -> float:
            return time.monotonic() + (0.0 if self.wall_alone else self.ahead)

        def wall() -> float:
            return (time.time() if self.stopped_at is None else self.stopped_at) + self.ahead

        return Clock(monotonic, wall, asleep=_at_once)

    @property
    def policy(self) -> RenewalPolicy:
        return RenewalPolicy(clock=self.clock, jitter=0)


HASTY = RenewalPolicy(clock=Clock(asleep=_at_once))


def caller(name: str, *, ends: float | None = None, token: str | None = None) -> Caller:
    return Caller(name, "spa", "https://as.example", frozenset(), ends, {}, token or f"in-{name}")


async def straw_guard(authorization: str = Header("")) -> Caller:
    """Anybody is whom they say: ``Bearer in-ann[;end]``."""
    token, _, ends = authorization[7:].partition(";")
    if not token:
        raise HTTPException(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
    return caller(token.removeprefix("in-"), ends=float(ends) if ends else None, token=token)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def behind(app: Any) -> httpx.AsyncClient:
    """A client of the service, without a network."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="https://svc.example"
    )
