"""Client authentication at the token endpoint: how the client proves itself (RFC 6749 §2.3).

Rules.

1. One method per request (RFC 6749 §2.3); without a secret the client only says who it is (§3.2.1).
2. Basic form-urlencodes id and secret before it base64s them (§2.3.1). Servers that take them raw exist:
   `ClientSecretBasic(raw=True)`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from ._steps import ServerRequest, Step

__all__ = ["Client", "ClientAuth", "ClientSecretBasic", "ClientSecretPost", "NoClientAuth"]


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends a request to an authorization server, as a client authentication needs to know it.

    Args:
        client_id: its identifier.
        secret: its secret; empty for methods that need none.
        issuer: the authorization server's identifier (RFC 8414 §2), or None if nobody has named it.
        token_endpoint: where tokens are issued.
        now: Unix seconds.
        timeout: seconds that there are for signing.
    """

    client_id: str
    secret: str = field(repr=False)
    issuer: str | None
    token_endpoint: str
    now: float
    timeout: float


class ClientAuth(Protocol):
    """Signs a request in the client's name."""

    @property
    def method(self) -> str:
        """Its name, after RFC 7591 §2 (`token_endpoint_auth_method`)."""

    @property
    def needs_secret(self) -> bool:
        """Whether it proves the client by a secret."""

    def identity(self) -> Mapping[str, Any]:
        """What makes the tokens of two clients different, as data that JSON can hold; part of the fingerprint."""

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        """`request` with the proof of who sends it: made anew for every attempt."""


@dataclass(frozen=True, slots=True)
class ClientSecretBasic:
    """`client_secret_basic`: id and secret in the Authorization header (RFC 6749 §2.3.1).

    Args:
        raw: do not form-urlencode them first, for servers that read them raw. Default False, as the RFC has it.
    """

    raw: bool = False
    needs_secret = True
    method = "client_secret_basic"

    def identity(self) -> Mapping[str, Any]:
        return {"method": self.method, "raw": self.raw}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        yield from ()
        pair = (client.client_id, client.secret)
        encoded = base64.b64encode(":".join(pair if self.raw else map(quote_plus, pair)).encode()).decode("ascii")
        return request.with_header("Authorization", f"Basic {encoded}")


@dataclass(frozen=True, slots=True)
class ClientSecretPost:
    """`client_secret_post`: id and secret in the body (RFC 6749 §2.3.1, not recommended there)."""

    method = "client_secret_post"
    needs_secret = True

    def identity(self) -> Mapping[str, Any]:
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        yield from ()
        return request.with_form(("client_id", client.client_id), ("client_secret", client.secret))


@dataclass(frozen=True, slots=True)
class NoClientAuth:
    """`none`: a public client says who it is and proves nothing (RFC 6749 §3.2.1)."""

    method = "none"
    needs_secret = False

    def identity(self) -> Mapping[str, Any]:
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        yield from ()
        return request.with_form(("client_id", client.client_id))
