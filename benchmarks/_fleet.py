"""One process of a fleet, and the authorization server that counts what comes from all of them.

The server is real HTTP on loopback. The API is in each process, and as lean as can be: it refuses the tokens up to the
number that it is told, and answers all others with 200; nothing of it is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from _fresh import authlib_host

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ISSUER = "https://as.example.com/tenant"  # of whom who has to discover the server believes that it is
API_URL = "https://api.example.com/orders"
CANARY = "canary5c1f0e7d"  # in every token: what to look for where no token should be readable
CREDENTIALS, REFRESH = "client credentials", "rotating refresh token"


class Authority:
    """A token endpoint; a retired refresh token ends its family.

    Attributes:
        requests: so far.
        serial: of the last token.
        alive: whether the family is.
        lifetime: seconds that tokens live.
        held: while it is set, requests wait, and come to nothing.
        reached: one of them is here.
    """

    def __init__(self) -> None:
        self.requests, self.serial, self.alive, self.lifetime = 0, 0, True, 3600
        self.held, self.reached = threading.Event(), threading.Event()
        self._refresh = ""
        self._lock = threading.Lock()

    def login(self) -> dict[str, Any]:
        with self._lock:
            self.alive = True
            return self._issue(rotates=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope["type"] == "http"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if self.held.is_set():  # it is never processed
            self.reached.set()
            status, answer = 503, {}
            while self.held.is_set():  # noqa: ASYNC110 - another thread lets go
                await asyncio.sleep(0.01)
        else:
            status, answer = self._answer(dict(parse_qsl(body.decode())))
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.requests += 1
            if form.get("grant_type") != "refresh_token":
                self.alive = True
                return 200, self._issue(rotates=form.get("grant_type") == "password")
            self.alive = self.alive and form["refresh_token"] == self._refresh
            return (200, self._issue(rotates=True)) if self.alive else (400, {"error": "invalid_grant"})

    def _issue(self, *, rotates: bool) -> dict[str, Any]:
        self.serial += 1
        answer = {"access_token": f"at-{self.serial}-{CANARY}", "token_type": "Bearer", "expires_in": self.lifetime}
        if rotates:
            self._refresh = answer["refresh_token"] = f"rt-{self.serial}-{CANARY}"
        return answer


@dataclass(frozen=True, slots=True)
class Setting:
    """What a process is to be.

    Args:
        contender: a function of `CONTENDERS`.
        grant: how it gets its tokens.
        token_url: the authority's.
        place: of what the processes share: a URL, a directory, a file.
        token: the login that all processes have, or None.
        keys: that encrypt what they share.
        budget: seconds for one renewal.
    """

    contender: str
    grant: str
    token_url: str
    place: str
    token: dict[str, Any] | None = None
    keys: tuple[str, ...] = ()
    budget: float = 30.0


@dataclass
class Api:
    """The API, as a transport of either library; what is for the authority goes to the network."""

    refused: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    def status(self, authorization: str | None) -> int:
        return 200 if authorization and int(authorization.split("-")[1]) > self.refused else 401

    def transport(self, library: Any) -> Any:
        api, network = self, library.AsyncHTTPTransport()

        class Route(library.AsyncBaseTransport):
            async def handle_async_request(self, request: Any) -> Any:
                if request.url.host == "127.0.0.1":
                    return await network.handle_async_request(request)
                return library.Response(api.status(request.headers.get("Authorization")), content=b"{}")

        return Route()


# Who shares tokens: each makes what sends one request; a process has one, and all its tasks share that.


def tokenflow(setting: Setting, api: Api) -> Any:
    import httpx

    from httpx_tokenflow import ClientCredentials, RefreshToken, RenewalPolicy, Token, TokenAuth

    kind: Any = ClientCredentials if setting.grant == CREDENTIALS else RefreshToken
    options: dict[str, Any] = {} if setting.grant == CREDENTIALS else {"subject": "alice"}
    grant = kind(setting.token_url, client_id="client", client_secret="secret", **options)
    token = None
    if setting.token is not None:
        expires_at = time.time() + setting.token["expires_in"]
        token = Token(
            setting.token["access_token"], refresh_token=setting.token["refresh_token"], expires_at=expires_at
        )
    policy = RenewalPolicy(budget=setting.budget)
    auth = TokenAuth(grant, token=token, store=store_of(setting), policy=policy)
    return httpx.AsyncClient(transport=api.transport(httpx), auth=auth).get


def store_of(setting: Setting) -> Any:
    from httpx_tokenflow.stores import FileStore, MemoryStore, RedisStore

    if setting.place.startswith("redis:"):
        return RedisStore(setting.place, keys=setting.keys)
    return FileStore(setting.place, keys=setting.keys) if setting.place else MemoryStore()


def authlib(setting: Setting, api: Api) -> Any:
    """With its `update_token` hook, which saves to a file that each process reads when it starts."""
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    path = Path(setting.place, "authlib.json")

    async def save(token: dict[str, Any], **_: Any) -> None:
        path.write_text(json.dumps(token))  # noqa: ASYNC240 - as in its manual

    how = {"grant_type": "client_credentials"} if setting.grant == CREDENTIALS else {}
    token = json.loads(path.read_text()) if path.exists() else setting.token
    if token is not None and "expires_at" not in token:
        token = {**token, "expires_at": int(time.time()) + token["expires_in"]}
    client: Any = AsyncOAuth2Client(
        "client",
        "secret",
        token=token,
        token_endpoint=setting.token_url,
        update_token=save,
        transport=api.transport(import_module(authlib_host())),
        **how,
    )

    async def get(url: str) -> Any:
        if client.token is None:  # it refuses to send without: the program has to fetch the first one by hand
            await save(await client.fetch_token())
        return await client.get(url)

    return get


def httpx_auth(setting: Setting, api: Api) -> Any:
    import httpx
    from httpx_auth import (
        JsonTokenFileCache,
        OAuth2,
        OAuth2ClientCredentials,
        OAuth2ResourceOwnerPasswordCredentials,
    )

    OAuth2.token_cache = JsonTokenFileCache(Path(setting.place, "httpx_auth.json"))
    if setting.grant == CREDENTIALS:
        auth: Any = OAuth2ClientCredentials(setting.token_url, client_id="client", client_secret="secret")
    else:  # the one grant of its own, beside those with a browser, that brings a refresh token
        auth = OAuth2ResourceOwnerPasswordCredentials(setting.token_url, username="user", password="password")
    return httpx.AsyncClient(transport=api.transport(httpx), auth=auth).get


def msal(setting: Setting, api: Api) -> Any:
    """Microsoft's, for any OpenID provider; its discovery is answered here."""
    import msal
    import requests
    from msal_extensions import FilePersistence, PersistedTokenCache

    class Http:
        """As its `http_client=` has to be."""

        def __init__(self) -> None:
            self._session = requests.Session()

        def get(self, url: str, **_: Any) -> Any:
            facts = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize"}
            response = requests.Response()
            response.status_code = 200
            response._content = json.dumps({**facts, "token_endpoint": f"{ISSUER}/token"}).encode()
            return response

        def post(self, url: str, **how: Any) -> Any:
            return self._session.post(setting.token_url, data=how.get("data"), headers=how.get("headers"))

        def close(self) -> None:
            self._session.close()

    cache = PersistedTokenCache(FilePersistence(str(Path(setting.place, "msal.json"))))
    app = msal.ConfidentialClientApplication(
        "client", "secret", oidc_authority=ISSUER, token_cache=cache, http_client=Http()
    )
    threads = ThreadPoolExecutor(20)  # it is sync: its tasks are threads

    def send() -> Any:
        answer = app.acquire_token_for_client(scopes=["api"])
        return api.status(f"Bearer {answer['access_token']}")

    async def get(_: str) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, send)

    return get


CONTENDERS = {"tokenflow": tokenflow, "authlib": authlib, "httpx-auth": httpx_auth, "msal-extensions": msal}
# Seconds before its end at which each of them holds a token for over; tokenflow renews on the API's 401 as well.
MARGINS = {"tokenflow": 0, "authlib": 60, "httpx-auth": 30, "msal-extensions": 300}


def live(setting: Setting, pipe: Connection) -> None:
    """Be such a process: for each (tasks, refused) from `pipe`, send so many requests at once; count the answers."""
    api = Api()

    async def one(get: Any) -> str:
        try:
            answer = await get(API_URL)
            return str(getattr(answer, "status_code", answer))
        except Exception as error:  # noqa: BLE001 - whatever it raises is a failure to report
            return type(error).__name__

    async def serve() -> None:
        get = CONTENDERS[setting.contender](setting, api)
        while (order := await asyncio.to_thread(pipe.recv)) is not None:
            tasks, api.refused = order
            pipe.send(Counter(await asyncio.gather(*(one(get) for _ in range(tasks)))))

    import logging

    logging.getLogger().addHandler(logging.NullHandler())  # no warnings among the lines of the table
    asyncio.run(serve())
    os._exit(0)
