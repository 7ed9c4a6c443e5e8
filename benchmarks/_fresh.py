"""Clients that have a fresh token, one of each contender and one of each floor: what `hot_path.py` sends with.

Rules.

1. A case makes a client of a host library, sync or async, or None where that contender does not serve it. The transport
   is in memory: a handler of one request. Whatever has `get(url)` is a client.
2. The token is there already, in the way that the contender's manual shows; nothing is ever fetched on the way, but by
   those who take a token from an endpoint alone: they do at the first request.
3. Requests and azure-core are hosts of their own: who lives there has the floor there, a static header.
"""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Handler = Callable[[Any], Any]
    Case = Callable[[Any, bool, Handler], Any]

URL = "https://api.example.com/orders"
ORIGIN = "https://api.example.com"
ISSUER = "https://as.example.com/tenant"  # msal wants a path
TOKEN_URL = "https://as.example.com/token"
JSON = {"content-type": "application/json"}


def client_of(library: ModuleType, is_async: bool, handler: Handler, **how: Any) -> Any:
    kind = library.AsyncClient if is_async else library.Client
    return kind(transport=library.MockTransport(handler), trust_env=False, **how)


def static_header(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return client_of(library, is_async, handler, headers={"Authorization": "Bearer good"})


def bare_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    class Bare(library.Auth):
        def sync_auth_flow(self, request):
            request.headers["Authorization"] = "Bearer good"
            yield request

        async def async_auth_flow(self, request):
            request.headers["Authorization"] = "Bearer good"
            yield request

    return client_of(library, is_async, handler, auth=Bare())


def token_auth(library: ModuleType, is_async: bool, handler: Handler, origins: tuple[str, ...] | None = None) -> Any:
    from httpx_tokenflow import ClientCredentials, Token, TokenAuth

    grant = ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret")
    auth = TokenAuth(grant, token=Token("good", expires_at=time.time() + 3600), origins=origins)
    auth.token()
    return client_of(library, is_async, handler, auth=auth)


def token_auth_pinned(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    return token_auth(library, is_async, handler, origins=(ORIGIN,))


def bearer_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from httpx_tokenflow import BearerAuth

    return client_of(library, is_async, handler, auth=BearerAuth("good"))


def api_key_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from httpx_tokenflow import APIKeyAuth

    return client_of(library, is_async, handler, auth=APIKeyAuth("good"))


def singleflight(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from singleflight_auth import AsyncSingleFlightAuth, SingleFlightAuth

    kind = AsyncSingleFlightAuth if is_async else SingleFlightAuth
    if not issubclass(kind, library.Auth):
        return None
    return client_of(library, is_async, handler, auth=kind(get_token=lambda: "good", refresh=_never))


def httpx_auth(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from httpx_auth import OAuth2ClientCredentials

    if not issubclass(OAuth2ClientCredentials, library.Auth):
        return None
    answer = b'{"access_token": "good", "token_type": "Bearer", "expires_in": 3600}'
    token_client = client_of(library, False, lambda _: library.Response(200, headers=JSON, content=answer))
    auth = OAuth2ClientCredentials(TOKEN_URL, client_id="client", client_secret="secret", client=token_client)
    return client_of(library, is_async, handler, auth=auth)  # the first request fills its cache


def authlib(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client

    kind: Any = AsyncOAuth2Client if is_async else OAuth2Client
    if not issubclass(kind, library.AsyncClient if is_async else library.Client):
        return None
    token = {"access_token": "good", "token_type": "Bearer", "expires_at": int(time.time()) + 3600}
    how = {"transport": library.MockTransport(handler), "trust_env": False, "token_endpoint": TOKEN_URL}
    return kind("client", "secret", token=token, grant_type="client_credentials", **how)


def authlib_host() -> str:
    """What the installed authlib builds on: httpx2 since 1.8, httpx before."""
    import httpx
    from authlib.integrations.httpx_client import OAuth2Client

    return "httpx" if issubclass(OAuth2Client, httpx.Client) else "httpx2"


def mcp(library: ModuleType, is_async: bool, handler: Handler) -> Any:
    import httpx2

    if library is not httpx2 or not is_async:
        return None
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
    from mcp.shared.auth import OAuthToken

    class Storage:
        async def get_tokens(self) -> Any:
            return OAuthToken(access_token="good", expires_in=3600)

    storage: Any = Storage()
    auth = ClientCredentialsOAuthProvider(f"{ORIGIN}/mcp", storage, "client", "secret", issuer=ISSUER)
    return client_of(library, is_async, handler, auth=auth)


def _never() -> str:
    raise AssertionError("the token is good: there is nothing to refresh")


CASES: dict[str, Case] = {
    "static header (floor)": static_header,
    "bare Auth: sets the header, checks nothing": bare_auth,
    "tokenflow TokenAuth": token_auth,
    "tokenflow TokenAuth, origins=": token_auth_pinned,
    "tokenflow BearerAuth": bearer_auth,
    "tokenflow APIKeyAuth": api_key_auth,
    "singleflight-auth": singleflight,
    "httpx-auth OAuth2ClientCredentials": httpx_auth,
    "authlib OAuth2Client": authlib,
    "mcp ClientCredentialsOAuthProvider": mcp,
}
FLOOR = next(iter(CASES))


# On requests, and on azure-core, which sends by requests


def session_of(handler: Handler, session: Any = None) -> Any:
    """A session whose transport is `handler`, which makes (status, content) of a prepared request."""
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPResponse

    class Wire(HTTPAdapter):
        def send(self, request: Any, *_: Any, **__: Any) -> Any:
            status, content = handler(request)
            body = HTTPResponse(io.BytesIO(content), status=status, headers=JSON, preload_content=False)
            return self.build_response(request, body)

    session = session or Session()
    session.trust_env = False
    session.mount("https://", Wire())
    return session


def requests_static(_library: Any, _is_async: bool, handler: Handler) -> Any:
    session = session_of(handler)
    session.headers["Authorization"] = "Bearer good"
    return session


def requests_oauth2client(_library: Any, _is_async: bool, handler: Handler) -> Any:
    from requests_oauth2client import BearerToken, OAuth2Client, OAuth2ClientCredentialsAuth

    session = session_of(handler)
    token = BearerToken("good", expires_in=3600)
    session.auth = OAuth2ClientCredentialsAuth(OAuth2Client(TOKEN_URL, ("client", "secret")), token=token)
    return session


def google_auth(_library: Any, _is_async: bool, handler: Handler) -> Any:
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2.credentials import Credentials

    expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)
    how = {"token_uri": TOKEN_URL, "client_id": "client", "client_secret": "secret"}
    credentials: Any = Credentials("good", refresh_token="rt", expiry=expiry, **how)
    return session_of(handler, AuthorizedSession(credentials))


class AzureClient:
    """A pipeline client with the policies that a client of a service has."""

    def __init__(self, handler: Handler, authentication: Any = None, **headers: str) -> None:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import HeadersPolicy, RedirectPolicy, RetryPolicy, UserAgentPolicy
        from azure.core.pipeline.transport import RequestsTransport
        from azure.core.rest import HttpRequest

        policies = [HeadersPolicy(headers), UserAgentPolicy(), RedirectPolicy(), RetryPolicy()]
        transport = RequestsTransport(session=session_of(handler), session_owner=False, use_env_settings=False)
        chosen = [*policies, authentication] if authentication else policies
        self._client: Any = PipelineClient(ORIGIN, transport=transport, policies=chosen)
        self._request = HttpRequest

    def get(self, url: str) -> Any:
        return self._client.send_request(self._request("GET", url))


def azure_static(_library: Any, _is_async: bool, handler: Handler) -> Any:
    return AzureClient(handler, Authorization="Bearer good")


def azure_msal(_library: Any, _is_async: bool, handler: Handler) -> Any:
    """Its policy, and the credential that the manual of azure-core asks for, made of msal."""
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy

    issued = b'{"access_token": "good", "token_type": "Bearer", "expires_in": 3600}'
    return AzureClient(handler, BearerTokenCredentialPolicy(MsalCredential(lambda _: (200, issued)), "api/.default"))


class MsalCredential:
    """What azure-core takes: tokens of an msal application, which asks `handler`."""

    def __init__(self, handler: Handler) -> None:
        import msal

        known = (
            f'{{"issuer": "{ISSUER}", "authorization_endpoint": "{ISSUER}/authorize", "token_endpoint": "{TOKEN_URL}"}}'
        )

        def answered(request: Any) -> tuple[int, bytes]:
            return handler(request) if request.method == "POST" else (200, known.encode())

        self._application = msal.ConfidentialClientApplication(
            "client", "secret", oidc_authority=ISSUER, http_client=session_of(answered)
        )

    def get_token_info(self, *scopes: str, **_: Any) -> Any:
        from azure.core.credentials import AccessTokenInfo

        answer = self._application.acquire_token_for_client(list(scopes))
        end = int(time.time()) + answer["expires_in"]
        # The policy adds up to a minute of jitter to when it renews; with this, none.
        return AccessTokenInfo(answer["access_token"], end, refresh_on=end)


ELSEWHERE: dict[str, dict[str, Case]] = {
    "requests": {
        FLOOR: requests_static,
        "requests-oauth2client OAuth2ClientCredentialsAuth": requests_oauth2client,
        "google-auth AuthorizedSession": google_auth,
    },
    "azure-core": {FLOOR: azure_static, "azure-core BearerTokenCredentialPolicy, msal": azure_msal},
}
