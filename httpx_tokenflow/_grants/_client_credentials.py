"""The client credentials grant (RFC 6749 §4.4): a program in its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from httpx_tokenflow._errors import ConfigurationError

from ._base import TokenEndpoint

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._steps import Step

    from ._options import ClientOptions

__all__ = ["ClientCredentials"]


class ClientCredentials(TokenEndpoint):
    """Server-to-server tokens: the client authenticates, and gets a token for itself (RFC 6749 §4.4).

    Args:
        token_endpoint: the URL that issues tokens; https, or http to loopback. Or else `issuer`.
        client_id: who the client is.
        **options: see `ClientOptions`. Without `client_secret` a `client_auth` has to prove the client in another way
            (§4.4.2: the client must authenticate).

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
        InvalidCredential: the secret has characters that no header can carry.
    """

    widens = True

    def __init__(self, token_endpoint: str | None = None, *, client_id: str, **options: Unpack[ClientOptions]) -> None:
        if options.get("client_secret") is None and options.get("client_auth") is None:
            raise ConfigurationError(
                "ClientCredentials needs client_secret= (or a client_auth= that proves the client in another way): "
                "RFC 6749 §4.4.2 has the client authenticate"
            )
        super().__init__({"token_endpoint": token_endpoint}, client_id, **options)

    def identity(self) -> Mapping[str, Any]:
        """With the secret, by hash: another secret may be another tenant's."""
        return {**super().identity(), "client_secret": self._secret_identity()}

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """A new token; what we hold does not matter."""
        return self._ask(attempt, "client_credentials", ())
