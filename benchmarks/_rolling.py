"""Who renews a token in the middle of a stream, and the server that they all ask: what `rollover.py` measures.

Rules.

1. All is in memory: the token endpoint takes `latency`, the API `API_LATENCY`. Handlers stand behind the host library's
   own mock transport, or behind an adapter of requests.
2. Everybody renews `every` seconds: a token's lifetime is that and the contender's own margin. Who renews on a 401
   alone meets an API that refuses a token after so long.
3. Each is set up as its manual shows. The hand-written lock is what everybody writes first: look at the clock, and if
   the token ends soon, get another while the others wait.
4. A floor has a static header, which the API always takes.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from _fresh import AzureClient, MsalCredential, authlib_host, session_of

if TYPE_CHECKING:
    from collections.abc import Callable

API_URL = "https://api.example.com/orders"
ISSUER = "https://as.example.com"
TOKEN_URL = f"{ISSUER}/token"
API_LATENCY = 0.004  # seconds
OURS = 60  # seconds that our tokens live

_METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": TOKEN_URL,
    "response_types_supported": ["code"],
    "resource": API_URL,
    "authorization_servers": [ISSUER],
}


class Server:
    """A token endpoint and an API.

    Args:
        latency: seconds that a token request takes.
        lifetime: seconds that a token lives.
        refused_after: seconds after which the API refuses a token; None: never.
    """

    def __init__(self, latency: float, lifetime: int, refused_after: float | None = None) -> None:
        self.token_requests = 0
        self._latency, self._lifetime, self._refused_after = latency, lifetime, refused_after
        self._issued: dict[str, float] = {}  # and when
        self._lock = threading.Lock()

    def httpx(self, library: Any, *, is_async: bool) -> Any:
        def handler(request: Any) -> Any:
            status, content, takes = self._answer(request)
            time.sleep(takes)
            return library.Response(status, json=content)

        async def ahandler(request: Any) -> Any:
            status, content, takes = self._answer(request)
            await anyio.sleep(takes)
            return library.Response(status, json=content)

        return library.MockTransport(ahandler if is_async else handler)

    def on_requests(self, request: Any) -> tuple[int, bytes]:
        status, content, takes = self._answer(request)
        time.sleep(takes)
        return status, json.dumps(content).encode()

    def _answer(self, request: Any) -> tuple[int, dict[str, Any], float]:
        """Status, body, and how long it takes."""
        credential = request.headers.get("Authorization")
        if request.method == "POST":
            return 200, self._issue(), self._latency
        if "/.well-known/" in str(request.url):
            return 200, _METADATA, API_LATENCY
        return (200 if self._is_good(credential) else 401), {"orders": []}, API_LATENCY

    def _issue(self) -> dict[str, Any]:
        with self._lock:
            self.token_requests += 1
            name = f"at-{self.token_requests}"
        self._issued[f"Bearer {name}"] = time.monotonic() + self._latency
        return {"access_token": name, "token_type": "Bearer", "expires_in": self._lifetime}

    def _is_good(self, credential: str | None) -> bool:
        if credential == "Bearer good":
            return True
        if credential not in self._issued:
            return False
        return self._refused_after is None or time.monotonic() < self._issued[credential] + self._refused_after


# The floor


def floor(host: str, server: Server, *, is_async: bool) -> Any:
    if host == "azure-core":
        return AzureClient(server.on_requests, Authorization="Bearer good")
    if host == "requests":
        session = session_of(server.on_requests)
        session.headers["Authorization"] = "Bearer good"
        return session
    return _client(import_module(host), server, is_async=is_async, headers={"Authorization": "Bearer good"})


def _client(library: Any, server: Server, *, is_async: bool, **how: Any) -> Any:
    kind = library.AsyncClient if is_async else library.Client
    return kind(transport=server.httpx(library, is_async=is_async), trust_env=False, **how)


# Who renews


def tokenflow(server: Server, every: float, *, is_async: bool) -> Any:
    from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth

    grant = ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret")
    policy = RenewalPolicy(early_window=OURS - every, jitter=0.0)
    auth = TokenAuth(grant, client=_client(httpx, server, is_async=is_async), policy=policy)
    return _client(httpx, server, is_async=is_async, auth=auth)


class ByHand(httpx.Auth):
    """Rule 3."""

    def __init__(self, client: Any, every: float, *, is_async: bool) -> None:
        self._client, self._every = client, every
        self._lock: Any = anyio.Lock() if is_async else threading.Lock()
        self._value, self._until = "", 0.0

    def _take(self, response: httpx.Response) -> None:
        self._value, self._until = f"Bearer {response.json()['access_token']}", time.monotonic() + self._every

    def sync_auth_flow(self, request: Any) -> Any:
        with self._lock:
            if time.monotonic() >= self._until:
                self._take(self._client.post(TOKEN_URL, data={"grant_type": "client_credentials"}))
        request.headers["Authorization"] = self._value
        yield request

    async def async_auth_flow(self, request: Any) -> Any:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._take(await self._client.post(TOKEN_URL, data={"grant_type": "client_credentials"}))
        request.headers["Authorization"] = self._value
        yield request


def by_hand(server: Server, every: float, *, is_async: bool) -> Any:
    auth = ByHand(_client(httpx, server, is_async=is_async), every, is_async=is_async)
    return _client(httpx, server, is_async=is_async, auth=auth)


def singleflight(server: Server, every: float, *, is_async: bool) -> Any:
    from singleflight_auth import AsyncSingleFlightAuth, SingleFlightAuth

    store: dict[str, str | None] = {"access": None}
    separate = _client(httpx, server, is_async=is_async)
    form = {"grant_type": "client_credentials"}

    def refresh() -> Any:
        store["access"] = separate.post(TOKEN_URL, data=form).json()["access_token"]
        return store["access"]

    async def arefresh() -> Any:
        store["access"] = (await separate.post(TOKEN_URL, data=form)).json()["access_token"]
        return store["access"]

    how: Any = {"get_token": lambda: store["access"], "refresh": arefresh if is_async else refresh}
    auth = AsyncSingleFlightAuth(**how) if is_async else SingleFlightAuth(**how)
    return _client(httpx, server, is_async=is_async, auth=auth)


def httpx_auth(server: Server, every: float, *, is_async: bool) -> Any:
    from httpx_auth import OAuth2, OAuth2ClientCredentials

    OAuth2.token_cache.clear()  # it is one for the process
    token_client = _client(httpx, server, is_async=False)  # it takes a sync one alone
    auth = OAuth2ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret", client=token_client)
    return _client(httpx, server, is_async=is_async, auth=auth)


def authlib(server: Server, every: float, *, is_async: bool) -> Any:
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client

    kind: Any = AsyncOAuth2Client if is_async else OAuth2Client
    how = {"token_endpoint": TOKEN_URL, "grant_type": "client_credentials", "trust_env": False}
    transport = server.httpx(import_module(authlib_host()), is_async=is_async)
    ended = {"access_token": "before", "token_type": "Bearer", "expires_at": 1}  # or it refuses to send
    return kind("client", "secret", token=ended, transport=transport, **how)


def mcp(server: Server, every: float, *, is_async: bool) -> Any:
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

    class Storage:
        async def get_tokens(self) -> Any:
            return None

        async def set_tokens(self, tokens: Any) -> None: ...

    storage: Any = Storage()
    auth = ClientCredentialsOAuthProvider(API_URL, storage, "client", "secret", issuer=ISSUER)
    return _client(import_module("httpx2"), server, is_async=is_async, auth=auth)


def requests_oauth2client(server: Server, every: float, *, is_async: bool) -> Any:
    from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth

    session = session_of(server.on_requests)
    token_client = OAuth2Client(TOKEN_URL, ("client", "secret"), session=session_of(server.on_requests))
    session.auth = OAuth2ClientCredentialsAuth(token_client)
    return session


def google_auth(server: Server, every: float, *, is_async: bool) -> Any:
    from google.auth.transport.requests import AuthorizedSession, Request
    from google.oauth2.credentials import Credentials

    how = {"token_uri": TOKEN_URL, "client_id": "client", "client_secret": "secret"}
    credentials: Any = Credentials(None, refresh_token="rt", **how)
    request: Any = Request(session_of(server.on_requests))
    return session_of(server.on_requests, AuthorizedSession(credentials, auth_request=request))


def azure_core(server: Server, every: float, *, is_async: bool) -> Any:
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy

    policy: Any = BearerTokenCredentialPolicy(MsalCredential(server.on_requests), "api/.default")
    return AzureClient(server.on_requests, policy)


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who renews.

    Args:
        make: makes its client.
        host: what that is made of.
        margin: seconds before its end at which a token is renewed.
        on_401: it renews on a 401 alone.
        sync, is_async, trio: where it lives.
    """

    make: Callable[..., Any]
    host: str = "httpx"
    margin: int = 0
    on_401: bool = False
    sync: bool = True
    is_async: bool = True
    trio: bool = False


US, BY_HAND = "tokenflow", "hand-written lock"
CONTENDERS = {
    US: Contender(tokenflow, trio=True),
    BY_HAND: Contender(by_hand, trio=True),
    "singleflight-auth": Contender(singleflight, on_401=True),
    "authlib": Contender(authlib, host=authlib_host(), margin=60),
    "httpx-auth": Contender(httpx_auth, margin=30),
    "mcp": Contender(mcp, host="httpx2", sync=False),
    "requests-oauth2client": Contender(requests_oauth2client, host="requests", margin=20, is_async=False),
    "google-auth": Contender(google_auth, host="requests", margin=225, is_async=False),
    "azure-core, msal": Contender(azure_core, host="azure-core", is_async=False),
}


def server_for(name: str, latency: float, every: float) -> Server:
    """Rule 2."""
    contender = CONTENDERS[name]
    if name in {US, BY_HAND} or contender.on_401:
        return Server(latency, OURS if name == US else 3600, every if contender.on_401 else None)
    return Server(latency, contender.margin + int(every))
