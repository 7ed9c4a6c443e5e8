"""One `auth=` object for httpx and httpx2 that makes HTTP 401 a non-event.

Where to start reading: `_flow.py`, which has the order of events in the life of a request, and `_renewal.py`, which has
that of a renewal; both are written once and without I/O. Beside them `_storing.py` has what a renewal has to do with
the store, and `_outside.py` what comes from outside. `_lifecycle.py` draws the states of a token over time.
`_sources.py` says who renews and who waits, `_holder.py` which token counts, `_drivers.py` performs what the flow asks
for, on threads or on an event loop, and `_auth.py` meets the HTTP library. Below them lies plain data.
"""

from __future__ import annotations

# one auth for each of many tenants or users
from ._auth_cache import AuthCache

# client authentication
from ._client_auth import ClientSecretBasic, ClientSecretJWT, ClientSecretPost, PrivateKeyJWT, TLSClientAuth

# tokens that are of use only to who holds a key
from ._dpop import DPoP

# what can go wrong
from ._errors import (
    ConfigurationError,
    InvalidCredential,
    OriginNotAllowed,
    ReauthenticationRequired,
    StepUpRequired,
    StoreError,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)

# grants
from ._grants import ClientCredentials, DeviceCode, DevicePrompt, JWTBearer, RefreshToken, SessionLogin, TokenExchange

# the numbers, and the states of a token
from ._lifecycle import RenewalPolicy, State
from ._logins import AuthorizationCode

# secrets from where they live
from ._secrets import EnvSecret, FileSecret

# what goes into auth=
from ._simple_auth import APIKeyAuth, BearerAuth
from ._sources import Status
from ._times import Clock
from ._token_auth import TokenAuth

# tokens
from ._tokens import Token

__all__ = [
    "APIKeyAuth",
    "AuthCache",
    "AuthorizationCode",
    "BearerAuth",
    "ClientCredentials",
    "ClientSecretBasic",
    "ClientSecretJWT",
    "ClientSecretPost",
    "Clock",
    "ConfigurationError",
    "DPoP",
    "DeviceCode",
    "DevicePrompt",
    "EnvSecret",
    "FileSecret",
    "InvalidCredential",
    "JWTBearer",
    "OriginNotAllowed",
    "PrivateKeyJWT",
    "ReauthenticationRequired",
    "RefreshToken",
    "RenewalPolicy",
    "SessionLogin",
    "State",
    "Status",
    "StepUpRequired",
    "StoreError",
    "TLSClientAuth",
    "Token",
    "TokenAuth",
    "TokenEndpointUnavailable",
    "TokenExchange",
    "TokenFlowError",
    "TokenRequestError",
]
