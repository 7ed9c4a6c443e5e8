"""What the library is compared with, as a competent engineer writes it in an afternoon.

`LockAndRefresh` has what the good ones have, and no more:

1. a lock around the refresh, an `asyncio.Lock` for async clients and a `threading.Lock` for sync ones,
2. a second look after the lock is acquired: somebody else may have refreshed meanwhile,
3. a client of its own for the token endpoint,
4. renewal a little before the token expires,
5. one retry on a 401.

`NextKey` is for keys: on a 401 the next one, unless another request has gone on to that already.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

__all__ = ["LockAndRefresh", "NextKey"]

_LEEWAY = 30.0  # seconds, at most a tenth of the lifetime


class LockAndRefresh(httpx.Auth):
    """Bearer tokens by client credentials, or by a refresh token where there is one.

    Args:
        token_url: the token endpoint.
        client_id: who the client is.
        client_secret: how it proves it.
        login: a token endpoint's answer to begin with; None: none.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        token_url: str,
        *,
        client_id: str,
        client_secret: str,
        login: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_url = token_url
        self._client_auth = (client_id, client_secret)
        self._access_token: str | None = None
        self._refresh_token: str | None = None
        self._clock = clock
        self._expires_at = 0.0
        self._tls = httpx.create_ssl_context()  # once: it takes longer than a token request
        self._lock = threading.Lock()
        self._async_lock = asyncio.Lock()
        if login is not None:
            self._keep(login)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put a token on the request; on a 401, another one."""
        token = self._usable() or self._refresh(None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {self._refresh(token)}"
            yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """As `sync_auth_flow`."""
        token = self._usable() or await self._arefresh(None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {await self._arefresh(token)}"
            yield request

    def _refresh(self, refused: str | None) -> str:
        with self._lock:
            token = self._usable()
            if token is not None and token != refused:
                return token  # somebody else has refreshed while we waited
            with httpx.Client(verify=self._tls) as client:
                response = client.post(self._token_url, data=self._form(), auth=self._client_auth)
            return self._keep(response.raise_for_status().json())

    async def _arefresh(self, refused: str | None) -> str:
        async with self._async_lock:
            token = self._usable()
            if token is not None and token != refused:
                return token
            async with httpx.AsyncClient(verify=self._tls) as client:
                response = await client.post(self._token_url, data=self._form(), auth=self._client_auth)
            return self._keep(response.raise_for_status().json())

    def _usable(self) -> str | None:
        return self._access_token if self._clock() < self._expires_at else None

    def _form(self) -> dict[str, str]:
        if self._refresh_token is None:
            return {"grant_type": "client_credentials"}
        return {"grant_type": "refresh_token", "refresh_token": self._refresh_token}

    def _keep(self, answer: dict[str, Any]) -> str:
        token: str = answer["access_token"]
        lifetime: float = answer.get("expires_in", 3600)
        self._access_token = token
        self._refresh_token = answer.get("refresh_token", self._refresh_token)
        self._expires_at = self._clock() + lifetime - min(_LEEWAY, lifetime / 10)
        return token


class NextKey(httpx.Auth):
    """API keys, in the order to try.

    Args:
        keys: the keys.
    """

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self._at = 0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put a key on the request; on a 401, the next one."""
        at = self._at
        request.headers["X-API-Key"] = self._keys[at]
        response = yield request
        if response.status_code == 401:
            if self._at == at:
                self._at = (at + 1) % len(self._keys)
            request.headers["X-API-Key"] = self._keys[self._at]
            yield request
