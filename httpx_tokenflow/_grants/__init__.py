"""The grants: how a token is obtained (RFC 6749's word). One file per grant, pairs of build and read."""

from __future__ import annotations

from ._authorization_code import CodeGrant
from ._client_credentials import ClientCredentials
from ._device_code import DeviceCode, DevicePrompt
from ._grant import Grant
from ._jwt_bearer import JWTBearer
from ._refresh_token import RefreshToken
from ._session_login import SessionLogin
from ._token_exchange import TokenExchange

__all__ = [
    "ClientCredentials", "CodeGrant", "DeviceCode", "DevicePrompt", "Grant", "JWTBearer", "RefreshToken",
    "SessionLogin", "TokenExchange",
]  # fmt: skip
