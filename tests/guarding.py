"""What the tests of the guard share: an issuer in memory, tokens of any shape, time to advance, and bare ASGI."""

from __future__ import annotations

import functools
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import FastAPI, Security
from jwt import algorithms

from httpx_tokenflow._times import Clock
from httpx_tokenflow.fastapi import Caller, Guard, JWTVerifier

if TYPE_CHECKING:
    import anyio

ISSUER = "https://as.example"
AUDIENCE = "https://api.example"
KEPT = Path(__file__).with_name("guarding_keys.json")
NOW = 1_800_000_000.0
SIGNERS = algorithms.get_default_algorithms()


@functools.cache
def private_key(name: str) -> Any:
    """One key for each name, which begins with its kind. Those of RSA, dear to make, are kept: they guard nothing."""
    kind = name.partition("-")[0]
    if kind.startswith("rsa"):
        pem = json.loads(KEPT.read_text())[name].encode()
        return load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    curves = {"ec256": ec.SECP256R1, "ec384": ec.SECP384R1, "ec521": ec.SECP521R1}
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed" else ec.generate_private_key(curves[kind]())


def jwk(name: str, **members: Any) -> dict[str, Any]:
    """The public key of that name; a member that is None is left out."""
    kind = name.partition("-")[0]
    writer = {"rsa": algorithms.RSAAlgorithm, "ec": algorithms.ECAlgorithm}.get(kind[:3].rstrip("2345"))
    found = json.loads((writer or algorithms.OKPAlgorithm).to_jwk(private_key(name).public_key()))
    found.pop("key_ops", None)
    return {one: value for one, value in {"kid": name, **found, **members}.items() if value is not None}


def b64(data: bytes | str) -> str:
    return urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def as_json(value: Any) -> str:
    """`value` as JSON; a string is JSON already."""
    return value if isinstance(value, str) else json.dumps(value)


def sign(header: Any, payload: Any, key: str = "rsa-1", *, algorithm: str = "RS256", material: Any = None) -> str:
    """A token of any header and payload, with a good signature."""
    message = f"{b64(as_json(header))}.{b64(as_json(payload))}"
    material = private_key(key) if material is None else material
    return f"{message}.{b64(SIGNERS[algorithm].sign(message.encode(), material))}"


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; a change that is None leaves it out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "client_id": "web",
        "iat": NOW - 10,
        "exp": NOW + 600,
        "scope": "read write",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def header(**changes: Any) -> dict[str, Any]:
    """The header of a good token; a change that is None leaves it out."""
    good = {"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(**changes: Any) -> str:
    """A good token, but for `changes` of its claims."""
    return sign(header(), claims(**changes))


class Time:
    """Both clocks, to be advanced."""

    def __init__(self) -> None:
        self.now = NOW
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)


@dataclass
class Issuer:
    """An authorization server in memory.

    `keys` are published; `status` is what the key set is answered with; `gate`, if there is one, holds that answer.
    """

    url: str = ISSUER
    keys: list[Any] = field(default_factory=lambda: [jwk("rsa-1")])
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    gate: anyio.Event | None = None
    seen: list[str] = field(default_factory=list)
    answer: dict[str, Any] | str | None = None  # of the introspection endpoint; a string is JSON already

    @property
    def fetches(self) -> int:
        """How often the key set was asked for."""
        return self.seen.count("/jwks")

    async def handle(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == httpx.URL(self.url).host, "a request went somewhere else"
        assert "authorization" not in request.headers or request.url.path == "/introspect"
        self.seen.append(request.url.path)
        if request.url.path == "/.well-known/openid-configuration":
            places = {"jwks_uri": f"{self.url}/jwks", "introspection_endpoint": f"{self.url}/introspect"}
            facts = {"issuer": self.url, "token_endpoint": f"{self.url}/token", **places, **self.metadata}
            return httpx.Response(200, json=facts)
        if request.url.path not in {"/jwks", "/introspect"}:
            return httpx.Response(404)
        if self.gate is not None:
            await self.gate.wait()
        body = {"keys": self.keys} if request.url.path == "/jwks" else self.answer
        if isinstance(body, str):
            return httpx.Response(self.status, headers=self.headers, text=body)
        return httpx.Response(self.status, headers=self.headers, json=body)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def verifier(self, time: Time, **how: Any) -> JWTVerifier:
        how = {"audience": AUDIENCE, "client": self.client(), "clock": time.clock, **how}
        return JWTVerifier(self.url, **how)


def app_of(guard: Guard, *scopes: str) -> FastAPI:
    """An app with one guarded route, which answers with the caller's name."""
    app = FastAPI()

    async def who(caller: Caller = Security(guard, scopes=list(scopes))) -> dict[str, Any]:  # noqa: B008
        return {"sub": caller.subject}

    app.get("/")(who)
    return app


@dataclass(frozen=True)
class Reply:
    """What an app has answered."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes

    def field(self, name: str) -> str | None:
        found = [value.decode("ascii") for one, value in self.fields if one == name.encode()]
        assert len(found) <= 1, "a field is there twice"
        return found[0] if found else None

    @property
    def challenge(self) -> str | None:
        return self.field("www-authenticate")


def scope_of(
    *fields: bytes | str, path: str = "/", method: str = "GET", more: list[tuple[bytes, bytes]] | None = None
) -> dict[str, Any]:
    """The scope of a request with these Authorization fields."""
    headers = [(b"authorization", one if isinstance(one, bytes) else one.encode("latin-1")) for one in fields]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"api.example"), *headers, *(more or [])],
        "server": ("api.example", 443),
        "client": ("192.0.2.1", 1),
        "state": {},
    }


async def ask(app: Any, *fields: bytes | str, scope: dict[str, Any] | None = None, **how: Any) -> Reply:
    """What `app` answers to a GET with these Authorization fields; what it raises comes through."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope if scope is not None else scope_of(*fields, **how), receive, send)
    return Reply(sent[0]["status"], sent[0]["headers"], b"".join(one.get("body", b"") for one in sent[1:]))
