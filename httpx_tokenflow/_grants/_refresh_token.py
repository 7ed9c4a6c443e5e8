"""The refresh token grant (RFC 6749 §6): a session that somebody has opened before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from httpx_tokenflow._errors import ReauthenticationRequired

from ._base import TokenEndpoint
from ._given import as_name

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._steps import Step

    from ._options import ClientOptions

__all__ = ["RefreshToken"]


class RefreshToken(TokenEndpoint):
    """Renews with a refresh token, whether or not the server rotates it (RFC 6749 §6, RFC 9700 §4.14).

    The first token comes from ``TokenAuth(…, token=Token(…, refresh_token="…"))`` or from the store; where there is
    no access token yet, from ``token=Token.for_refresh("…")``.

    Args:
        token_endpoint: the URL that issues tokens; https, or http to loopback. Or else `issuer`.
        client_id: who the client is.
        subject: the program's name for the person whose session this is. Without it the refresh token given as
            ``token=`` stands in, by hash.
        **options: see `ClientOptions`. The scope must not grow (§6).

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
        InvalidCredential: the secret has characters that no header can carry.
    """

    spends = True

    def __init__(
        self,
        token_endpoint: str | None = None,
        *,
        client_id: str,
        subject: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__({"token_endpoint": token_endpoint}, client_id, **options)
        self._subject = as_name(subject, "subject")

    def identity(self) -> Mapping[str, Any]:
        """With the person, and without the secret: the session outlives it."""
        return {**super().identity(), "subject": self._subject}

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """The next token for the refresh token that we hold."""
        refresh_token = attempt.presented.token.refresh_token if attempt.presented is not None else None
        if refresh_token is None:
            raise ReauthenticationRequired(
                "there is no refresh token to renew with: give TokenAuth token=Token.for_refresh(…), "
                "or call set_token() after a login"
            )
        return self._ask(attempt, "refresh_token", (("refresh_token", refresh_token),), keeps=True)
