"""Token exchange (RFC 8693): somebody's token for another, to go on in their name or on their behalf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from httpx_tokenflow._errors import ConfigurationError

from ._base import TokenEndpoint
from ._given import GivenToken

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._client_auth import Client
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._steps import Step

    from ._options import ClientOptions

__all__ = ["TokenExchange"]

_TYPES = ("subject_token_type", "actor_token_type", "requested_token_type")
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no secret


class TokenExchange(TokenEndpoint):
    """A token for another service in exchange for one that is at hand (RFC 8693 §2.1).

    A backend exchanges the token that came with a request (the subject) and calls the next service on that person's
    behalf; with an actor the new token also says who does so. `audience`, `resource` and `scope` say for what.

    The answer's `issued_token_type` is in ``token.extra``; one that leaves it out, against §2.2.1, is taken all the
    same. A token of the type "N_A", which is none for an API, is an error, and never sent.

    Args:
        token_endpoint: the URL that issues tokens; https, or http to loopback. Or else `issuer`.
        client_id: who the client is.
        subject_token: for whom the token is to be; a string, or a callable (sync or async) asked at each request.
            None: `for_subject` says it, as for each caller of a service (`httpx_tokenflow.fastapi.OnBehalfOf`).
        subject_token_type: what it is (§3); an access token by default.
        actor_token: who acts in their place; a string, a callable, or None.
        actor_token_type: what that is; with an `actor_token`, an access token by default.
        requested_token_type: what to issue, or None for what the server thinks right.
        subject_key: the program's name for the subject (and for the actor, where a callable brings it), so that all
            who give it share the tokens, in other processes that share the store too. Without it a string counts by its
            hash, and a callable makes the tokens this object's own. A callable that returns now one person's token and
            now another's needs an object, or a key, for each of them.
        **options: see `ClientOptions`; except for `token_type`.

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
        InvalidCredential: a token or the secret has characters that no header can carry.
    """

    widens = True
    parameters: frozenset[str] = frozenset(
        {"subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type"}
    )

    def __init__(
        self,
        token_endpoint: str | None = None,
        *,
        client_id: str,
        subject_token: str | Callable[[], Any] | None = None,
        subject_token_type: str = _ACCESS_TOKEN,
        actor_token: str | Callable[[], Any] | None = None,
        actor_token_type: str | None = None,
        requested_token_type: str | None = None,
        subject_key: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__({"token_endpoint": token_endpoint}, client_id, **options)
        if options.get("token_type") is not None:
            raise ConfigurationError(
                "TokenExchange takes no token_type=: the answer says what was issued, and whether that is a token for "
                "an API at all (RFC 8693 §2.2.1)"
            )
        if actor_token is None and actor_token_type is not None:
            raise ConfigurationError("actor_token_type= says what actor_token= is: give that as well (RFC 8693 §2.1)")
        if subject_token is None and subject_key is not None:
            raise ConfigurationError("subject_key= says whose subject_token= it is: give that as well")
        self._subject = None if subject_token is None else GivenToken(subject_token, "subject_token", subject_key)
        actor_key = subject_key if callable(actor_token) else None
        self._actor = None if actor_token is None else GivenToken(actor_token, "actor_token", actor_key)
        if actor_token is not None and actor_token_type is None:
            actor_token_type = _ACCESS_TOKEN
        self._types = subject_token_type, actor_token_type, requested_token_type
        for name, given in self._typed():
            if not (isinstance(given, str) and given) and (given is not None or name == "subject_token_type"):
                raise ConfigurationError(f"{name}= must be a string, such as {_ACCESS_TOKEN!r} (RFC 8693 §3)")

    def for_subject(self, subject_token: str) -> Self:
        """The same for somebody's `subject_token`; all that are made so share what is known of the server.

        Raises:
            InvalidCredential: it has characters that no header can carry, or is empty.
        """
        return self._having(_subject=GivenToken(subject_token, "subject_token", None))

    def _whose(self) -> GivenToken:
        if self._subject is None:
            raise ConfigurationError("TokenExchange needs subject_token=, or for_subject(): for whom the token is")
        return self._subject

    def _typed(self) -> tuple[tuple[str, str | None], ...]:
        """What the tokens are, as parameters of the request."""
        return tuple(zip(_TYPES, self._types, strict=True))

    def identity(self) -> Mapping[str, Any]:
        """With subject and actor, by hash or name; and with the client's secret, as for client credentials."""
        return {
            **super().identity(),
            **dict(self._typed()),
            "subject": self._whose().identity,
            "actor": self._actor.identity if self._actor is not None else None,
            "client_secret": self._secret_identity(),
        }

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """A new token; what we hold does not matter."""
        grant_type = "urn:ietf:params:oauth:grant-type:token-exchange"
        return self._ask(attempt, grant_type, self._typed(), fresh=self._fresh)

    def _fresh(self, client: Client) -> Generator[Step, Any, tuple[tuple[str, str], ...]]:
        subject = ("subject_token", (yield from self._whose().read(client.timeout)))
        if self._actor is None:
            return (subject,)
        return subject, ("actor_token", (yield from self._actor.read(client.timeout)))
