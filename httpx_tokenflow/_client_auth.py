"""Client authentication at the token endpoint: how the client proves itself (RFC 6749 §2.3).

Rules.

1. One method per request (RFC 6749 §2.3); without a secret the client only says who it is (§3.2.1).
2. Basic form-urlencodes id and secret before it base64s them (§2.3.1). Servers that take them raw exist:
   `ClientSecretBasic(raw=True)`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from ._steps import TokenRequest

__all__ = ["ClientAuth", "ClientSecretBasic", "ClientSecretPost", "NoClientAuth"]


class ClientAuth(Protocol):
    """Signs a token request in the client's name."""

    @property
    def method(self) -> str:
        """Its name, after RFC 7591 §2 (`token_endpoint_auth_method`); part of the fingerprint."""

    @property
    def needs_secret(self) -> bool:
        """Whether it proves the client by a secret."""

    def sign(self, request: TokenRequest, client_id: str, secret: str) -> TokenRequest:
        """`request` with the proof of who sends it; `secret` is empty for methods that need none."""


@dataclass(frozen=True, slots=True)
class ClientSecretBasic:
    """`client_secret_basic`: id and secret in the Authorization header (RFC 6749 §2.3.1).

    Args:
        raw: do not form-urlencode them first, for servers that read them raw. Default False, as the RFC has it.
    """

    raw: bool = False
    needs_secret = True

    @property
    def method(self) -> str:
        return "client_secret_basic raw" if self.raw else "client_secret_basic"

    def sign(self, request: TokenRequest, client_id: str, secret: str) -> TokenRequest:
        pair = (client_id, secret) if self.raw else (quote_plus(client_id), quote_plus(secret))
        encoded = base64.b64encode(":".join(pair).encode()).decode("ascii")
        return request.with_header("Authorization", f"Basic {encoded}")


@dataclass(frozen=True, slots=True)
class ClientSecretPost:
    """`client_secret_post`: id and secret in the body (RFC 6749 §2.3.1, not recommended there)."""

    method = "client_secret_post"
    needs_secret = True

    def sign(self, request: TokenRequest, client_id: str, secret: str) -> TokenRequest:
        return request.with_form(("client_id", client_id), ("client_secret", secret))


@dataclass(frozen=True, slots=True)
class NoClientAuth:
    """`none`: a public client says who it is and proves nothing (RFC 6749 §3.2.1)."""

    method = "none"
    needs_secret = False

    def sign(self, request: TokenRequest, client_id: str, secret: str) -> TokenRequest:  # noqa: ARG002 - the protocol
        return request.with_form(("client_id", client_id))
