"""What every grant is, and what those at a token endpoint share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from httpx_tokenflow._client_auth import ClientAuth, ClientSecretBasic, NoClientAuth
from httpx_tokenflow._credentials import check_endpoint
from httpx_tokenflow._errors import ConfigurationError, TokenEndpointUnavailable, TokenFlowError, TokenRequestError
from httpx_tokenflow._steps import Call, Fetch, Step, TokenRequest
from httpx_tokenflow._tokens import Entry, Minted, TokenResponse, check_credential, digest, read_token_response

from ._keys import check_sequence

if TYPE_CHECKING:
    from httpx_tokenflow._times import Clock

__all__ = ["Grant", "Secret", "TokenEndpoint", "ask"]

Secret = str | Callable[[], Any] | Sequence[str]
"""A secret; or a callable (sync or async) that is asked for it at each renewal, and again if the server refuses what it
returned; or a sequence of secrets in the order to try: the one that works is tried first from then on."""


class Grant(Protocol):
    """How a token is obtained. A program can bring its own.

    Attributes:
        spends: each renewal presents the refresh token of the one before, which the server may retire by that. Such a
            token is presented once (design rule 6), and a store that fails closes the way instead of opening it.
    """

    spends: bool

    def identity(self) -> Mapping[str, Any]:
        """Everything that makes two tokens of this grant different, as data that JSON can hold."""

    def obtain(self, presented: Entry | None, *, timeout: float, clock: Clock) -> Generator[Step, Any, Minted]:
        """One attempt: yield steps, are sent their answers, return what was brought.

        Args:
            presented: what we hold so far, or None.
            timeout: seconds for this attempt, network and all.
            clock: for what needs the time.

        Raises:
            TokenFlowError: how it failed; any other exception from a step passes through as it is.
        """


class TokenEndpoint:
    """A client at a token endpoint: where, who, with what proof, and for what."""

    spends = False

    def __init__(
        self,
        token_endpoint: str | None,
        *,
        client_id: str,
        client_secret: Secret | None,
        client_auth: ClientAuth | None,
        scope: str | Iterable[str] | None,
        audience: str | None,
        resource: str | Iterable[str] | None,
        extra: Mapping[str, str] | None,
        token_type: str | None,
    ) -> None:
        self._url = check_endpoint(token_endpoint, "token_endpoint")
        if not client_id:
            raise ConfigurationError(
                "client_id is missing: give the identifier under which the server knows the client"
            )
        self._client_id = client_id
        self._secret, self._client_auth = _proof(client_secret, client_auth)
        self._scope = scope if isinstance(scope, str) or scope is None else " ".join(scope)
        self._audience = audience
        self._resource = (resource,) if isinstance(resource, str) else tuple(resource or ())
        self._extra = dict(extra or {})
        if token_type not in {None, "Bearer"}:
            raise ConfigurationError('token_type can only be "Bearer": the type to assume whatever the server says')
        self._token_type = token_type
        if taken := self._extra.keys() & {
            "grant_type",
            "client_id",
            "client_secret",
            "scope",
            "refresh_token",
        }:
            raise ConfigurationError(
                f"extra= has {', '.join(sorted(taken))}, which the grant sends itself (RFC 6749 §3.2: not repeated)"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client_id} at {self._url}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not pickled: it holds a secret; make one in each process")

    @property
    def name(self) -> str:
        """Client and server, for logs and reprs."""
        return f"{self._client_id}@{self._url.partition('://')[2].partition('/')[0]}"

    def identity(self) -> Mapping[str, Any]:
        """All that goes on the wire, and nothing that only opens the door to the same tokens."""
        return {
            "grant": type(self).__name__,
            "token_endpoint": self._url,
            "client_id": self._client_id,
            "client_auth": self._client_auth.method,
            "scope": self._scope,
            "audience": self._audience,
            "resource": list(self._resource),
            "extra": sorted(self._extra.items()),
            "token_type": self._token_type,
        }

    def _secret_identity(self) -> str | None:
        return digest(self._secret) if isinstance(self._secret, str) and self._secret else None

    def _ask(
        self,
        grant_type: str,
        fields: Iterable[tuple[str, str | None]],
        presented: Entry | None,
        timeout: float,
        clock: Clock,
    ) -> Generator[Step, Any, Minted]:
        """Build the request, have it fetched, read the answer; with the next secret, where one is refused."""
        pairs: list[tuple[str, str | None]] = [
            ("grant_type", grant_type),
            *fields,
            ("scope", self._scope),
            ("audience", self._audience),
            *(("resource", one) for one in self._resource),
            *self._extra.items(),
        ]
        # RFC 6749 §3.2: parameters without a value count as omitted.
        form = tuple((name, value) for name, value in pairs if value)
        hidden = [value for name, value in fields if name == "refresh_token" and value]
        deadline = clock.monotonic() + timeout
        tried: list[str] = []
        secret = yield from self._next_secret(tried, timeout)
        while True:
            tried.append(secret)
            request = self._client_auth.sign(TokenRequest(self._url, form), self._client_id, secret)
            sent_at = clock.wall()  # expiry is reckoned from here: the answer may have been long on its way
            response: TokenResponse = yield Fetch(request, max(0.0, deadline - clock.monotonic()))
            try:
                minted = read_token_response(
                    response,
                    now=sent_at,
                    secrets=(*tried, *hidden),
                    token_type=self._token_type,
                    previous=presented.token if presented is not None and self.spends else None,
                )
            except TokenRequestError as error:
                following = (yield from self._next_secret(tried, timeout)) if _is_about_the_client(error) else ""
                if following in {"", *tried}:
                    raise
                secret = following
            else:
                return self._keep(minted, tried)

    def _next_secret(self, tried: list[str], timeout: float) -> Generator[Step, Any, str]:
        """A secret that has not been tried yet; or, if there is none, an empty one or one that has."""
        if callable(self._secret):
            return (yield from ask(self._secret, "client_secret", timeout))
        secrets = (self._secret,) if isinstance(self._secret, str) else self._secret
        return next((secret for secret in secrets if secret not in tried), "")

    def _keep(self, minted: Minted, tried: list[str]) -> Minted:
        """`minted`; the secret that worked is the first to try from now on."""
        if len(tried) == 1:
            return minted
        if not isinstance(self._secret, str) and not callable(self._secret):
            self._secret = (tried[-1], *(secret for secret in self._secret if secret != tried[-1]))
        return replace(minted, fell_back="client_secret")


def _is_about_the_client(error: TokenRequestError) -> bool:
    """Whether the server did not believe that it is us (RFC 6749 §5.2): some say so by the status alone."""
    return error.error == "invalid_client" or (error.status == 401 and error.error != "invalid_grant")


def ask(function: Callable[[], Any], what: str, timeout: float) -> Generator[Step, Any, str]:
    """The credential that a callable of the program's returns.

    Raises:
        InvalidCredential: it cannot go on the wire.
        TokenEndpointUnavailable: the callable raised; what it raised is the cause.
    """
    try:
        value = yield Call(function, what, timeout)
    except TokenFlowError:
        raise
    except Exception as error:
        raise TokenEndpointUnavailable(
            f"the callable given as {what} raised {type(error).__name__}", outcome="not sent", retryable=False
        ) from error
    return check_credential(value, f"what the callable given as {what} returned")


def _proof(secret: Secret | None, given: ClientAuth | None) -> tuple[Secret, ClientAuth]:
    client_auth: ClientAuth = given or (NoClientAuth() if secret is None else ClientSecretBasic())
    if secret is None:
        if client_auth.needs_secret:
            raise ConfigurationError(f"{type(client_auth).__name__} needs client_secret=")
        return "", client_auth
    if not client_auth.needs_secret:
        raise ConfigurationError(f"client_secret= and {type(client_auth).__name__} contradict each other: keep one")
    if isinstance(secret, str):
        check_credential(secret, "client_secret")
    elif not callable(secret):
        secret = check_sequence(secret, "client_secret")
    return secret, client_auth
