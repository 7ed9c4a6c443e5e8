"""Who keeps the tokens of many tenants in one process, each as its manual shows: what `fingerprints.py` measures.

A set-up gives what adds a key with its token, and what puts a key's credential on a request.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from _fresh import ISSUER, TOKEN_URL, URL

if TYPE_CHECKING:
    from collections.abc import Callable

    Kept = Callable[[str, Any], None]
    Setup = Callable[[int], tuple[Callable[[str], None], Kept]]

TOKEN = "a" * 40
FLOOR, US = "floor: dict of header strings", "tokenflow, AuthCache and MemoryStore"


def _unused(request: Any) -> httpx.Response:
    raise AssertionError("every token is fresh")


def _flow_of(auths: Any) -> Kept:
    def put(key: str, request: Any) -> None:
        next(auths[key].sync_auth_flow(request))

    return put


def floor(count: int) -> tuple[Any, Kept]:
    kept: dict[str, str] = {}

    def add(key: str) -> None:
        kept[key] = f"Bearer {TOKEN}{key}"

    def put(key: str, request: Any) -> None:
        request.headers["Authorization"] = kept[key]

    return add, put


def tokenflow(count: int) -> tuple[Any, Kept]:
    from httpx_tokenflow import AuthCache, ClientCredentials, TokenAuth
    from httpx_tokenflow.stores import MemoryStore

    def issue(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"access_token": f"{TOKEN}{issue.key}", "expires_in": 3600})

    client, store = httpx.Client(transport=httpx.MockTransport(issue)), MemoryStore(limit=count + 10)
    auths: AuthCache[str] = AuthCache(
        lambda key: TokenAuth(
            ClientCredentials(TOKEN_URL, client_id=key, client_secret=f"secret of {key}"), store=store, client=client
        ),
        limit=count + 10,
    )

    def add(key: str) -> None:
        issue.key = key
        auths[key].token()

    return add, _flow_of(auths)


def singleflight(count: int) -> tuple[Any, Kept]:
    from singleflight_auth import SingleFlightAuth

    tokens: dict[str, str] = {}
    auths: dict[str, Any] = {}

    def add(key: str) -> None:
        tokens[key] = f"{TOKEN}{key}"
        auths[key] = SingleFlightAuth(get_token=lambda: tokens[key], refresh=lambda: tokens[key])

    return add, _flow_of(auths)


def httpx_auth(count: int) -> tuple[Any, Kept]:
    from httpx_auth import OAuth2, OAuth2ClientCredentials

    client = httpx.Client(transport=httpx.MockTransport(_unused))
    auths: dict[str, Any] = {}

    def add(key: str) -> None:
        auth = OAuth2ClientCredentials(TOKEN_URL, client_id=key, client_secret=f"secret of {key}", client=client)
        OAuth2.token_cache._add_access_token(auth.state, f"{TOKEN}{key}", 3600)
        auths[key] = auth

    return add, _flow_of(auths)


def authlib(count: int, **how: Any) -> tuple[Any, Kept]:
    from authlib.integrations.httpx_client import OAuth2Client

    clients: dict[str, Any] = {}

    def add(key: str) -> None:
        token = {"access_token": f"{TOKEN}{key}", "token_type": "Bearer", "expires_at": int(time.time()) + 3600}
        grant = {"token_endpoint": TOKEN_URL, "grant_type": "client_credentials"}
        clients[key] = OAuth2Client(key, f"secret of {key}", token=token, **grant, **how)

    def put(key: str, request: Any) -> None:
        client = clients[key]
        client.ensure_active_token(client.token)
        next(client.token_auth.auth_flow(request))

    return add, put


def authlib_shared(count: int) -> tuple[Any, Kept]:
    from importlib import import_module

    from _fresh import authlib_host

    library = import_module(authlib_host())
    return authlib(count, transport=library.MockTransport(_unused), trust_env=False)


def google_auth(count: int) -> tuple[Any, Kept]:
    from google.oauth2.credentials import Credentials

    credentials: dict[str, Any] = {}
    expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)

    def add(key: str) -> None:
        how = {"token_uri": TOKEN_URL, "client_id": key, "client_secret": f"secret of {key}"}
        credentials[key] = Credentials(f"{TOKEN}{key}", refresh_token=f"rt{key}", expiry=expiry, **how)

    def put(key: str, request: Any) -> None:
        credentials[key].before_request(None, "GET", URL, request.headers)

    return add, put


def msal(count: int) -> tuple[Any, Kept]:
    """One application with many scopes, whose tokens are in one TokenCache."""
    import msal
    from _fresh import session_of

    known = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": TOKEN_URL}
    issued = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}

    def answered(request: Any) -> tuple[int, bytes]:
        return 200, json.dumps(issued if request.method == "POST" else known).encode()

    cache = msal.TokenCache()
    application = msal.ConfidentialClientApplication(
        "client", "secret", oidc_authority=ISSUER, token_cache=cache, http_client=session_of(answered)
    )

    def add(key: str) -> None:
        if key == "last":
            application.acquire_token_for_client([key])
            return
        answer = {**issued, "access_token": f"{TOKEN}{key}"}
        asked = {"client_id": "client", "scope": [key], "token_endpoint": TOKEN_URL, "grant_type": "client_credentials"}
        cache.add({**asked, "environment": application.authority.instance, "response": answer})

    def put(key: str, request: Any) -> None:
        answer = application.acquire_token_for_client([key])
        request.headers["Authorization"] = f"Bearer {answer['access_token']}"

    return add, put


@dataclass(frozen=True, slots=True)
class Contender:
    """Who keeps tokens, and how many at most (rule 4)."""

    set_up: Setup
    most: int = 100_000


CONTENDERS = {
    FLOOR: Contender(floor),
    US: Contender(tokenflow),
    "singleflight-auth, an auth each": Contender(singleflight),
    "httpx-auth, an auth each": Contender(httpx_auth),
    "google-auth, credentials each": Contender(google_auth),
    "msal, a scope each": Contender(msal),
    "authlib, a client each": Contender(authlib, 50),
    "authlib, a client each, one transport": Contender(authlib_shared, 10_000),
}
