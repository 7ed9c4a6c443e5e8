"""The refresh token grant (RFC 6749 §6): a session that somebody has opened before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ReauthenticationRequired

from ._base import Secret, TokenEndpoint

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from httpx_tokenflow._client_auth import ClientAuth
    from httpx_tokenflow._steps import Step
    from httpx_tokenflow._times import Clock
    from httpx_tokenflow._tokens import Entry, Minted

__all__ = ["RefreshToken"]


class RefreshToken(TokenEndpoint):
    """Renews with a refresh token, whether or not the server rotates it (RFC 6749 §6, RFC 9700 §4.14).

    The first token comes from ``TokenAuth(…, token=Token(…, refresh_token="…"))`` or from the store.

    Args:
        token_endpoint: the URL that issues tokens; https, or http to loopback.
        client_id: who the client is.
        client_secret: a string; or a callable (sync or async) asked at each renewal; or a sequence of strings in the
            order to try: after `invalid_client` the next is tried once, and kept if it works. None for a public client.
        client_auth: how to prove it; `ClientSecretBasic()` by default, nothing for a public client.
        subject: the program's name for the person whose session this is. Without it the refresh token given as
            ``token=`` stands in, by hash.
        scope: the scope to ask for; it must not grow (§6).
        audience: for servers that take one.
        resource: one or several resource indicators (RFC 8707).
        extra: further parameters of the token request.
        token_type: "Bearer" to present the token as one whatever type the server calls it.

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
        client_secret: Secret | None = None,
        client_auth: ClientAuth | None = None,
        subject: str | None = None,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        extra: Mapping[str, str] | None = None,
        token_type: str | None = None,
    ) -> None:
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
        self._subject = subject

    def identity(self) -> Mapping[str, Any]:
        """With the person, and without the secret: the session outlives it."""
        return {**super().identity(), "subject": self._subject}

    def obtain(self, presented: Entry | None, *, timeout: float, clock: Clock) -> Generator[Step, Any, Minted]:
        """The next token for the refresh token that we hold."""
        if presented is None or presented.token.refresh_token is None:
            raise ReauthenticationRequired(
                "there is no refresh token to renew with: give TokenAuth token=Token(…, refresh_token=…), "
                "or call set_token() after a login"
            )
        fields = (("refresh_token", presented.token.refresh_token),)
        return self._ask("refresh_token", fields, presented, timeout, clock)
