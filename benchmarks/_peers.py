"""The peers on httpx and httpx2, each set up in the way that its manual shows."""

from __future__ import annotations

import warnings
from typing import Any
from urllib.parse import parse_qs, urlsplit

from _server import API_URL, AS_URL, OLD, OLD_REFRESH_TOKEN, TOKEN_URL
from _setting import CREDENTIALS, NO_TOKEN, REFRESH, Setting


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
    how: dict[str, Any] = {"transport": setting.server.transport(setting.module), "trust_env": False}
    if setting.grant == CREDENTIALS:
        how["grant_type"] = "client_credentials"
    kind: Any = AsyncOAuth2Client if setting.is_async else OAuth2Client
    token = None if setting.case == NO_TOKEN else token
    return kind("client", "secret", token=token, token_endpoint=TOKEN_URL, **how)


def authlib_first(client: Any, setting: Setting) -> Any:
    """Without a token its client refuses to send: the program has to fetch the first one by hand."""
    return client.fetch_token() if setting.case == NO_TOKEN else None


def httpx_auth(setting: Setting) -> Any:
    from httpx_auth import OAuth2, OAuth2ClientCredentials, OAuth2ResourceOwnerPasswordCredentials

    OAuth2.token_cache.clear()  # it is one for the process
    auth: Any
    if setting.grant == CREDENTIALS:
        how = {"client_id": "client", "client_secret": "secret"}
        auth = OAuth2ClientCredentials(TOKEN_URL, client=setting.sync_client(), **how)
    else:  # the one grant of its own, beside those with a browser, that brings a refresh token
        person = {"username": "user", "password": "password"}
        auth = OAuth2ResourceOwnerPasswordCredentials(TOKEN_URL, client=setting.sync_client(), **person)
    if setting.case != NO_TOKEN:  # it takes tokens from an endpoint only
        lifetime = setting.lifetime or 1  # it takes 0 for no lifetime at all, and renews 30 s before the end
        with setting.server.before(lifetime), setting.sync_client(auth=auth) as client:
            client.get(API_URL)
    return setting.client(auth=auth)


class _Storage:
    """What mcp wants of a program: where tokens and the client's registration are kept."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.tokens = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


class _Person:
    """Who logs in, where mcp wants it: before, and not in the storm."""

    def __init__(self) -> None:
        self.is_there = True
        self._state = ""

    async def open_browser(self, url: str) -> None:
        if not self.is_there:
            raise RuntimeError("a person would have to log in again")
        self._state = parse_qs(urlsplit(url).query)["state"][0]

    async def come_back(self) -> Any:
        from mcp.shared.auth import AuthorizationCodeResult

        return AuthorizationCodeResult(code="code", state=self._state)


def mcp(setting: Setting) -> Any:
    """Its client; on an event loop a coroutine that makes it, for there is a token to be had before."""
    warnings.simplefilter("ignore")
    person = _Person()
    auth = _mcp_client_credentials() if setting.grant == CREDENTIALS else _mcp_login(person)
    client = setting.client(auth=auth)
    if not setting.is_async:
        return client

    async def used_before() -> Any:
        if setting.case != NO_TOKEN:
            with setting.server.before(setting.lifetime):
                await client.get(API_URL)
        person.is_there = False
        return client

    return used_before()


def _mcp_client_credentials() -> Any:
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

    who = {"client_id": "client", "client_secret": "secret"}
    return ClientCredentialsOAuthProvider(server_url=API_URL, storage=_Storage(None), issuer=AS_URL, **who)


def _mcp_login(person: _Person) -> Any:
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

    about: dict[str, Any] = {
        "redirect_uris": ["http://localhost:3030/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_basic",
    }
    registered = OAuthClientInformationFull(client_id="client", client_secret="secret", issuer=AS_URL, **about)
    return OAuthClientProvider(
        server_url=API_URL,
        client_metadata=OAuthClientMetadata(**about),
        storage=_Storage(registered),
        redirect_handler=person.open_browser,
        callback_handler=person.come_back,
    )
