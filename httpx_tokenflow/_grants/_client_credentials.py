"""The client credentials grant (RFC 6749 §4.4): a program in its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ConfigurationError

from ._base import Secret, TokenEndpoint

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from httpx_tokenflow._client_auth import ClientAuth
    from httpx_tokenflow._steps import Step
    from httpx_tokenflow._times import Clock
    from httpx_tokenflow._tokens import Entry, Minted

__all__ = ["ClientCredentials"]


class ClientCredentials(TokenEndpoint):
    """Server-to-server tokens: the client authenticates, and gets a token for itself (RFC 6749 §4.4).

    Args:
        token_endpoint: the URL that issues tokens; https, or http to loopback.
        client_id: who the client is.
        client_secret: a string; or a callable (sync or async) asked at each renewal; or a sequence of strings in the
            order to try: after `invalid_client` the next is tried once, and kept if it works. None only with a
            `client_auth` that needs no secret (§4.4.2: the client must authenticate).
        client_auth: how to prove it; `ClientSecretBasic()` by default.
        scope: the scope to ask for, a string or several.
        audience: for servers that take one.
        resource: one or several resource indicators (RFC 8707).
        extra: further parameters of the token request.
        token_type: "Bearer" to present the token as one whatever type the server calls it.

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
        InvalidCredential: the secret has characters that no header can carry.
    """

    def __init__(
        self,
        token_endpoint: str | None = None,
        *,
        client_id: str,
        client_secret: Secret | None = None,
        client_auth: ClientAuth | None = None,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        extra: Mapping[str, str] | None = None,
        token_type: str | None = None,
    ) -> None:
        if client_secret is None and client_auth is None:
            raise ConfigurationError(
                "ClientCredentials needs client_secret= (or a client_auth= that proves the client in another way): "
                "RFC 6749 §4.4.2 has the client authenticate"
            )
        super().__init__(
            token_endpoint,
            client_id=client_id,
            client_secret=client_secret,
            client_auth=client_auth,
            scope=scope,
            audience=audience,
            resource=resource,
            extra=extra,
            token_type=token_type,
        )

    def identity(self) -> Mapping[str, Any]:
        """With the secret, by hash: another secret may be another tenant's."""
        return {**super().identity(), "client_secret": self._secret_identity()}

    def obtain(self, presented: Entry | None, *, timeout: float, clock: Clock) -> Generator[Step, Any, Minted]:
        """A new token; what we hold does not matter."""
        return self._ask("client_credentials", (), presented, timeout, clock)
