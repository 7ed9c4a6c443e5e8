"""The grants: how a token is obtained (RFC 6749's word). One file per grant, pairs of build and read."""

from __future__ import annotations

from ._base import Grant
from ._client_credentials import ClientCredentials
from ._refresh_token import RefreshToken
from ._session_login import SessionLogin

__all__ = ["ClientCredentials", "Grant", "RefreshToken", "SessionLogin"]
