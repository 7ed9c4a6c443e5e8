"""Who meets a storm, each set up in the way that its manual shows.

A contender makes one client, which all callers share. Whatever a running program would have done long before the storm
happens in here and is not measured; what it has to do because of the storm is `first`, and is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from _server import API_URL, GOOD, OLD, OLD_REFRESH_TOKEN, TOKEN_URL, Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

NO_TOKEN, EXPIRED, REFUSED = "no token", "expired", "every 401"
CREDENTIALS, REFRESH = "client credentials", "refresh token"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contender is put into."""

    case: str
    grant: str
    is_async: bool
    server: Server
    library: ModuleType

    @property
    def expires_at(self) -> int:
        """When the token that everybody holds at the start ends, or has ended."""
        return int(time.time()) + (3600 if self.case == REFUSED else -3600)

    def client(self, **how: Any) -> Any:
        """A client of the storm's kind."""
        kind = self.library.AsyncClient if self.is_async else self.library.Client
        return kind(transport=self.server.transport(self.library), trust_env=False, **how)

    def sync_client(self, **how: Any) -> Any:
        return self.library.Client(transport=self.server.transport(self.library), trust_env=False, **how)


def floor(setting: Setting) -> Any:
    """A static header; where it is refused, an auth that sends again with the good one and coordinates nothing."""
    if setting.case != REFUSED:
        return setting.client(headers={"Authorization": f"Bearer {GOOD}"})

    class SendTwice(setting.library.Auth):
        value = f"Bearer {OLD}"

        def sync_auth_flow(self, request):
            request.headers["Authorization"] = self.value
            response = yield request
            if response.status_code == 401:
                request.headers["Authorization"] = self.value = f"Bearer {GOOD}"
                yield request

        async def async_auth_flow(self, request):
            request.headers["Authorization"] = self.value
            response = yield request
            if response.status_code == 401:
                request.headers["Authorization"] = self.value = f"Bearer {GOOD}"
                yield request

    return setting.client(auth=SendTwice())


def tokenflow(setting: Setting) -> Any:
    from httpx_tokenflow import ClientCredentials, RefreshToken, Token, TokenAuth

    kind = ClientCredentials if setting.grant == CREDENTIALS else RefreshToken
    rt = OLD_REFRESH_TOKEN if setting.grant == REFRESH else None
    token = None if setting.case == NO_TOKEN else Token(OLD, expires_at=setting.expires_at, refresh_token=rt)
    grant = kind(TOKEN_URL, client_id="client", client_secret="secret")
    auth = TokenAuth(grant, token=token, client=setting.client())
    if setting.case == REFUSED:
        auth.token()  # in use for long: the token is in memory
    return setting.client(auth=auth)


def singleflight(setting: Setting) -> Any:
    from singleflight_auth import AsyncSingleFlightAuth, SingleFlightAuth

    store = {"access": None if setting.case == NO_TOKEN else OLD, "refresh": OLD_REFRESH_TOKEN}
    separate = setting.client(auth=("client", "secret"))

    def form() -> dict[str, Any]:
        if setting.grant == CREDENTIALS:
            return {"grant_type": "client_credentials"}
        return {"grant_type": "refresh_token", "refresh_token": store["refresh"]}

    def keep(response: Any) -> Any:
        answer = response.raise_for_status().json()
        store.update(access=answer["access_token"], refresh=answer.get("refresh_token"))
        return answer["access_token"]

    async def arefresh() -> Any:
        return keep(await separate.post(TOKEN_URL, data=form()))

    def refresh() -> Any:
        return keep(separate.post(TOKEN_URL, data=form()))

    def get_token() -> Any:
        return store["access"]

    if setting.is_async:
        return setting.client(auth=AsyncSingleFlightAuth(get_token=get_token, refresh=arefresh))
    return setting.client(auth=SingleFlightAuth(get_token=get_token, refresh=refresh))


def authlib(setting: Setting) -> Any:
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client

    token = {"access_token": OLD, "token_type": "Bearer", "expires_at": setting.expires_at}
    if setting.grant == REFRESH:
        token["refresh_token"] = OLD_REFRESH_TOKEN
    how: dict[str, Any] = {"transport": setting.server.transport(setting.library), "trust_env": False}
    if setting.grant == CREDENTIALS:
        how["grant_type"] = "client_credentials"
    kind: Any = AsyncOAuth2Client if setting.is_async else OAuth2Client
    token = None if setting.case == NO_TOKEN else token
    return kind("client", "secret", token=token, token_endpoint=TOKEN_URL, **how)


def authlib_first(client: Any, setting: Setting) -> Any:
    """Without a token its client refuses to send: the program has to fetch the first one by hand."""
    return client.fetch_token() if setting.case == NO_TOKEN else None


def httpx_auth(setting: Setting) -> Any:
    from httpx_auth import OAuth2

    OAuth2.token_cache.clear()  # it is one for the process
    if setting.case != NO_TOKEN:
        # It takes tokens from an endpoint only: from one that issues the old token.
        before = Server(latency=0, serial=0, lifetime=3600 if setting.case == REFUSED else 1)
        with replace(setting, server=before).sync_client(auth=_httpx_auth(setting, before)) as client:
            client.get(API_URL)
    return setting.client(auth=_httpx_auth(setting, setting.server))


def _httpx_auth(setting: Setting, server: Server) -> Any:
    from httpx_auth import OAuth2ClientCredentials, OAuth2ResourceOwnerPasswordCredentials

    token_client = replace(setting, server=server).sync_client()
    if setting.grant == CREDENTIALS:
        return OAuth2ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret", client=token_client)
    # The one grant of its own, beside those with a browser, that brings a refresh token.
    return OAuth2ResourceOwnerPasswordCredentials(TOKEN_URL, username="user", password="password", client=token_client)


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who meets a storm.

    Args:
        set_up: makes the client.
        library: what its client is made of.
        first: what it has to do itself because of the storm, before its callers may come.
        renews_on_401: if not, it gives the 401 back, whatever its grant.
        remarks: what to know of a row, by case or by grant.
    """

    set_up: Callable[[Setting], Any]
    library: str = "httpx"
    first: Callable[[Any, Setting], Any] = lambda _client, _setting: None
    renews_on_401: bool = True
    remarks: dict[str, str] = field(default_factory=dict)


def _authlib_library() -> str:
    """What the installed authlib builds on: httpx2 since 1.8, httpx before."""
    from authlib.integrations.httpx_client import OAuth2Client

    return "httpx" if issubclass(OAuth2Client, import_module("httpx").Client) else "httpx2"


FLOOR = "floor"
CONTENDERS = {
    FLOOR: Contender(floor),
    "tokenflow": Contender(tokenflow),
    "singleflight-auth": Contender(singleflight),
    "authlib": Contender(
        authlib,
        library=_authlib_library(),
        first=authlib_first,
        renews_on_401=False,
        remarks={NO_TOKEN: "the program calls fetch_token() itself, first"},
    ),
    "httpx-auth": Contender(httpx_auth, renews_on_401=False, remarks={REFRESH: "of a password grant"}),
}
