"""What logins share: a session that a person opens, and that refresh tokens keep going.

Rules.

1. While there is a refresh token that may be presented, it is (RFC 6749 §6); a person is asked only where there is
   none, or where an API wants a login of another kind: more scope (RFC 6750 §3.1), or a stronger or fresher one
   (RFC 9470 §4). Whoever may not ask a person says so.
2. The time that a person takes is not the network's: what was left for that before is there again afterwards.
3. Once a person has been asked, nothing that fails may lead to their being asked again in the same breath: no error of
   a login is one after which a renewal tries again.
4. Nothing of a login is kept in the grant: any number of them may be under way.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import (
    ConfigurationError,
    ReauthenticationRequired,
    TokenRequestError,
)

from ._base import TokenEndpoint, claims_of
from ._given import as_name

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Unpack

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Entry, Minted
    from httpx_tokenflow._metadata import Metadata
    from httpx_tokenflow._steps import Step
    from httpx_tokenflow._tokens import Token

    from ._options import ClientOptions

__all__ = ["PERSON_WANTED", "Pairs", "Session", "after", "why_ended"]

MAX_TIMEOUT = 86_400.0  # seconds; nobody sits before a login for longer

Pairs = list[tuple[str, str | None]]

# A refresh token will not do: the server wants to see the person (OpenID Connect Core §3.1.2.6).
PERSON_WANTED = frozenset({"interaction_required", "login_required", "consent_required", "account_selection_required"})


class Session(TokenEndpoint):
    """A login, and the refresh tokens after it."""

    spends = True
    logs_in: bool = True
    widens: bool = True

    def __init__(
        self,
        endpoints: Mapping[str, str | None],
        client_id: str,
        *,
        subject: str | None,
        timeout: float,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(endpoints, client_id, **options)
        given: Any = timeout
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= MAX_TIMEOUT:
            raise ConfigurationError(f"timeout= must be a number of seconds, more than 0 and {MAX_TIMEOUT:g} at most")
        self._subject = as_name(subject, "subject")
        self.login_timeout: float = float(timeout)
        self._opened_for = self._scope, self._audience, self._resource

    def identity(self) -> Mapping[str, Any]:
        """With the person, and without the secret: the session outlives it."""
        return {**super().identity(), "subject": self._subject}

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """The next token for the refresh token that we hold; without one, a login (rule 1)."""
        presented = attempt.presented
        refresh_token = presented.token.refresh_token if presented is not None and not presented.is_spent else None
        if presented is not None and refresh_token is not None and not _is_for_a_person(attempt):
            try:
                return (yield from self._refresh(attempt, presented, refresh_token))
            except TokenRequestError as error:
                if error.error not in PERSON_WANTED or not attempt.may_log_in:
                    raise
        if not attempt.may_log_in:
            ended = "" if _is_for_a_person(attempt) else why_ended(presented)
            raise ReauthenticationRequired(f"{self._why_not()}{ended}")
        return (yield from self._log_in(attempt))

    def _why_not(self) -> str:
        return "somebody has to log in again: call warm(), which starts a login, or set_token() after one"

    @abstractmethod
    def _log_in(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """A login, with all that belongs to it."""

    def _wanted(self, attempt: Attempt) -> tuple[Pairs, str | None]:
        """What is asked for: the parameters, and the scope if it is another than the grant's own."""
        asked = self._widened(attempt)
        challenge = attempt.challenge
        max_age = challenge.max_age if challenge is not None else None
        pairs: Pairs = [
            ("scope", asked or self._scope),
            ("audience", self._audience),
            *(("resource", one) for one in self._resource),
            ("acr_values", challenge.acr_values if challenge is not None else None),
            ("max_age", str(max_age) if max_age is not None else None),
            ("claims", claims_of(challenge)),
        ]
        return pairs, asked

    def _who(self, server: Metadata) -> Pairs:
        """Who asks, at an endpoint that wants that in the form even if the header says so (RFC 9126 §2.1)."""
        return [("client_id", self._client_id)] if self._choose(server).method == "client_secret_basic" else []

    def _refresh(self, attempt: Attempt, presented: Entry, refresh_token: str) -> Generator[Step, Any, Minted]:
        """The session goes on, with the scope that it has: what was granted, not what was asked for (RFC 6749 §6).

        A part of it (`using`) says which part.
        """
        server = yield from self._server.find(attempt)
        scope, audience, _ = self._opened_for
        pairs: Pairs = [
            ("refresh_token", refresh_token),
            ("scope", self._scope if self._scope != scope else None),
            ("audience", self._audience if self._audience != audience else None),
            ("claims", claims_of(attempt.challenge)),
        ]
        minted = yield from self._redeem(attempt, server, "refresh_token", pairs, previous=presented.token)
        return minted.having(asked=presented.asked)

    def _redeem(
        self, attempt: Attempt, server: Metadata, grant_type: str, pairs: Pairs, *, previous: Token | None = None
    ) -> Generator[Step, Any, Minted]:
        """The token for what a login, or the token before, has brought: for the first resource of the session.

        The others are for `using`: a token should be good for one (RFC 8707 §2.2), and some servers issue no other.
        """
        resources = self._resource[:1] if self._resource == self._opened_for[2] else self._resource
        fields = [("grant_type", grant_type), *pairs, *(("resource", one) for one in resources), *self._extra.items()]
        # A new session has nothing to do with the key of the one before.
        attempt = attempt if previous is not None else replace(attempt, presented=None)
        return self._mint(attempt, server, fields, previous=previous)


def _is_for_a_person(attempt: Attempt) -> bool:
    """Whether an API wants what no refresh token can bring (rule 1)."""
    challenge = attempt.challenge
    if challenge is None:
        return False
    if challenge.error == "insufficient_scope":
        return bool(challenge.scope)
    return challenge.error == "insufficient_user_authentication"


def why_ended(entry: Entry | None) -> str:
    """Why the session of `entry` cannot go on, if it never could."""
    if entry is None or entry.is_mark or entry.token.refresh_token is not None:
        return ""
    return (
        ". The server issued no refresh token: ask for offline_access in scope= (AuthorizationCode at Google: "
        "authorization_extra={'access_type': 'offline', 'prompt': 'consent'})"
    )


def after(attempt: Attempt, person: float) -> Attempt:
    """`attempt` after a person took `person` seconds (rule 2)."""
    return replace(attempt, deadline=attempt.deadline + person)
