"""The peers that are not on httpx: on requests, and on the pipeline of azure-core. Each as its manual shows."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import trio
from _server import API_URL, AS_URL, OLD, OLD_REFRESH_TOKEN, TOKEN_URL
from _setting import CREDENTIALS, NO_TOKEN, REFRESH, Setting
from _wires import azure_transport

SCOPE = "orders"


# requests


def requests_oauth2client(setting: Setting) -> Any:
    from requests_oauth2client import BearerToken, OAuth2AccessTokenAuth, OAuth2Client, OAuth2ClientCredentialsAuth

    client = OAuth2Client(TOKEN_URL, client_id="client", client_secret="secret", session=setting.session())
    rt = OLD_REFRESH_TOKEN if setting.grant == REFRESH else None
    ends = datetime.fromtimestamp(setting.expires_at, UTC)
    token = None if setting.case == NO_TOKEN else BearerToken(OLD, expires_at=ends, refresh_token=rt)
    session = setting.session()
    kind = OAuth2ClientCredentialsAuth if setting.grant == CREDENTIALS else OAuth2AccessTokenAuth
    session.auth = kind(client, token=token, scope=SCOPE) if setting.grant == CREDENTIALS else kind(client, token)
    return session


def google(setting: Setting) -> Any:
    from google.auth.transport.requests import AuthorizedSession, Request
    from google.oauth2.credentials import Credentials

    def handler(request: Any, scopes: Any = None) -> tuple[str, datetime]:
        """What its manual has for tokens that come from elsewhere."""
        del scopes
        form = {"content-type": "application/x-www-form-urlencoded"}
        response = request(TOKEN_URL, method="POST", headers=form, body="grant_type=client_credentials")
        if response.status != 200:
            raise RuntimeError(f"token endpoint: {response.status}")
        answer = json.loads(response.data)
        return answer["access_token"], _naive(datetime.now(UTC) + timedelta(seconds=answer["expires_in"]))

    how: dict[str, Any] = {"refresh_handler": handler}
    if setting.grant == REFRESH:
        how = {"client_id": "client", "client_secret": "secret", "token_uri": TOKEN_URL}
        how["refresh_token"] = OLD_REFRESH_TOKEN
    token = None if setting.case == NO_TOKEN else OLD
    ends = None if token is None else _naive(datetime.fromtimestamp(setting.expires_at, UTC))
    credentials = Credentials(token, expiry=ends, **how)
    return setting.session(AuthorizedSession(credentials, auth_request=Request(setting.session())))


def _naive(when: datetime) -> datetime:
    """Its times are in UTC, and do not say so."""
    return when.replace(tzinfo=None)


# azure-core


class AzureClient:
    """A pipeline as azure-core's manual puts it together, with `get` as the others have it."""

    def __init__(self, setting: Setting, authentication: Any) -> None:
        from azure.core import AsyncPipelineClient, PipelineClient
        from azure.core.pipeline import policies
        from azure.core.rest import HttpRequest

        retry = policies.AsyncRetryPolicy() if setting.is_async else policies.RetryPolicy()
        line = [policies.HeadersPolicy(), policies.UserAgentPolicy(), retry, authentication]
        kind = AsyncPipelineClient if setting.is_async else PipelineClient
        self._request = HttpRequest
        self._client = kind(
            API_URL, transport=azure_transport(setting.server, is_async=setting.is_async), policies=line
        )

    def get(self, url: str) -> Any:
        """The response, or a coroutine of it."""
        return self._client.send_request(self._request("GET", url))


def azure(setting: Setting) -> Any:
    """Its policy, with a credential that msal serves; on an event loop from a thread, for msal has no other way."""
    from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy, BearerTokenCredentialPolicy

    credential = _MsalCredential(setting)
    if setting.is_async:
        policy: Any = AsyncBearerTokenCredentialPolicy(_InThread(credential), SCOPE)
    else:
        policy = BearerTokenCredentialPolicy(credential, SCOPE)
    client = AzureClient(setting, policy)
    if setting.case == NO_TOKEN:
        return client
    if not setting.is_async:
        with setting.server.before(setting.lifetime):
            client.get(API_URL)
        return client

    async def used_before() -> Any:
        with setting.server.before(setting.lifetime):
            await client.get(API_URL)
        return client

    return used_before()


class _MsalCredential:
    """A `TokenCredential` of azure-core."""

    def __init__(self, setting: Setting) -> None:
        from msal import ConfidentialClientApplication

        how = {"oidc_authority": AS_URL, "http_client": setting.session()}
        self._app = ConfidentialClientApplication("client", client_credential="secret", **how)
        self._refresh_token = OLD_REFRESH_TOKEN if setting.grant == REFRESH else None

    def get_token(self, *scopes: str, **_: Any) -> Any:
        from azure.core.credentials import AccessToken

        if self._refresh_token is None:
            answer = self._app.acquire_token_for_client(list(scopes))
        else:
            answer = self._app.acquire_token_by_refresh_token(self._refresh_token, list(scopes))
            self._refresh_token = answer.get("refresh_token", self._refresh_token)
        if "access_token" not in answer:
            raise RuntimeError(f"msal: {answer.get('error')}")
        return AccessToken(answer["access_token"], int(time.time()) + int(answer["expires_in"]))


class _InThread:
    """An `AsyncTokenCredential` of one that has to do with threads."""

    def __init__(self, inner: _MsalCredential) -> None:
        self._inner = inner

    async def get_token(self, *scopes: str, **_: Any) -> Any:
        if trio.lowlevel.in_trio_run():
            return await trio.to_thread.run_sync(self._inner.get_token, *scopes)
        return await asyncio.to_thread(self._inner.get_token, *scopes)

    async def close(self) -> None: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *_: object) -> None: ...
