"""Who meets a storm: the floors, one for each HTTP library, ourselves, and the peers (`_peers`, `_peers_elsewhere`)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from _peers import authlib, authlib_first, httpx_auth, mcp, singleflight
from _peers_elsewhere import AzureClient, azure, google, requests_oauth2client
from _server import GOOD, OLD, OLD_REFRESH_TOKEN, TOKEN_URL
from _setting import ASYNCIO, AZURE, CREDENTIALS, NO_TOKEN, REFRESH, REFUSED, THREADS, TRIO, Contender, Setting


def floor(setting: Setting) -> Any:
    """A static header; where it is refused, what sends again with the good one and coordinates nothing."""
    if setting.library == AZURE:
        return _azure_floor(setting)
    if setting.library == "requests":
        return _requests_floor(setting)
    if setting.case != REFUSED:
        return setting.client(headers={"Authorization": f"Bearer {GOOD}"})

    class SendTwice(setting.module.Auth):
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


def _requests_floor(setting: Setting) -> Any:
    class SendTwice(setting.module.Session):
        def request(self, method, url, **how):
            response = super().request(method, url, **how)
            if response.status_code == 401:
                self.headers["Authorization"] = f"Bearer {GOOD}"
                response = super().request(method, url, **how)
            return response

    session = setting.session(SendTwice() if setting.case == REFUSED else None)
    session.headers["Authorization"] = f"Bearer {OLD if setting.case == REFUSED else GOOD}"
    return session


def _azure_floor(setting: Setting) -> Any:
    from azure.core.pipeline.policies import AsyncHTTPPolicy, HTTPPolicy

    value = f"Bearer {OLD if setting.case == REFUSED else GOOD}"

    class SendTwice(HTTPPolicy):
        def send(self, request):
            request.http_request.headers["Authorization"] = value
            response = self.next.send(request)
            if response.http_response.status_code == 401:
                request.http_request.headers["Authorization"] = f"Bearer {GOOD}"
                response = self.next.send(request)
            return response

    class AsyncSendTwice(AsyncHTTPPolicy):
        async def send(self, request):
            request.http_request.headers["Authorization"] = value
            response = await self.next.send(request)
            if response.http_response.status_code == 401:
                request.http_request.headers["Authorization"] = f"Bearer {GOOD}"
                response = await self.next.send(request)
            return response

    return AzureClient(setting, AsyncSendTwice() if setting.is_async else SendTwice())


def tokenflow(setting: Setting) -> Any:
    from httpx_tokenflow import ClientCredentials, RefreshToken, Token, TokenAuth

    kind = ClientCredentials if setting.grant == CREDENTIALS else RefreshToken
    rt = OLD_REFRESH_TOKEN if setting.grant == REFRESH else None
    token = None if setting.case == NO_TOKEN else Token(OLD, expires_at=setting.expires_at, refresh_token=rt)
    grant = kind(TOKEN_URL, client_id="client", client_secret="secret")
    auth = TokenAuth(grant, token=token, client=setting.client())
    if setting.lifetime and token is not None:
        auth.token()  # in use for long: the token is in memory
    return setting.client(auth=auth)


def _authlib_library() -> str:
    """What the installed authlib builds on: httpx2 since 1.8, httpx before."""
    from authlib.integrations.httpx_client import OAuth2Client

    return "httpx" if issubclass(OAuth2Client, import_module("httpx").Client) else "httpx2"


def _mcp_library() -> str:
    """What the installed mcp builds on: httpx2 since 2, httpx before."""
    from mcp.client.auth import OAuthClientProvider

    return "httpx" if issubclass(OAuthClientProvider, import_module("httpx").Auth) else "httpx2"


FLOOR, US = "floor", "tokenflow"
CONTENDERS = {
    FLOOR: Contender(floor),
    US: Contender(tokenflow),
    "singleflight-auth": Contender(singleflight),
    "authlib": Contender(
        authlib,
        library=_authlib_library(),
        first=authlib_first,
        renews_on_401=False,
        remarks={NO_TOKEN: "the program calls fetch_token() itself, first"},
    ),
    "httpx-auth": Contender(httpx_auth, renews_on_401=False, remarks={REFRESH: "of a password grant"}),
    "mcp": Contender(
        mcp,
        library=_mcp_library(),
        one_at_a_time=True,
        remarks={
            ASYNCIO: "one request at a time, whatever its token",
            TRIO: "one request at a time, whatever its token",
            THREADS: "does nothing on a client for threads",
        },
    ),
    "azure-core, msal": Contender(azure, library=AZURE, renews_on_401=False),
    "google-auth": Contender(
        google,
        library="requests",
        sync_only=True,
        remarks={CREDENTIALS: "by a refresh_handler", REFRESH: "Google's own do not rotate"},
    ),
    "requests-oauth2client": Contender(requests_oauth2client, library="requests", sync_only=True, renews_on_401=False),
}
PEERS = [name for name in CONTENDERS if name not in {FLOOR, US}]
