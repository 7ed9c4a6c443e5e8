"""One `auth=` object for httpx and httpx2 that makes HTTP 401 a non-event.

Where to start reading: `_flow.py`. It has the order of events, written once and without I/O: the life of a request and
the life of a renewal. `_flights.py` says who renews and who waits, `_drivers.py` performs what the flow asks for, on
threads or on an event loop, and `_auth.py` meets the HTTP library. Below them lies plain data.
"""

from __future__ import annotations

# what goes into auth=
from ._auth import APIKeyAuth, BearerAuth, TokenAuth

# client authentication
from ._client_auth import ClientSecretBasic, ClientSecretPost

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
from ._grants import ClientCredentials, RefreshToken

# the numbers
from ._lifecycle import RenewalPolicy

# tokens
from ._tokens import Token

__all__ = [
    "APIKeyAuth",
    "BearerAuth",
    "ClientCredentials",
    "ClientSecretBasic",
    "ClientSecretPost",
    "ConfigurationError",
    "InvalidCredential",
    "OriginNotAllowed",
    "ReauthenticationRequired",
    "RefreshToken",
    "RenewalPolicy",
    "StepUpRequired",
    "StoreError",
    "Token",
    "TokenAuth",
    "TokenEndpointUnavailable",
    "TokenFlowError",
    "TokenRequestError",
]
