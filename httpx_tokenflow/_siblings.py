"""Siblings: further tokens, for another scope, audience or resource, from one and the same session.

Rules.

1. A session has one refresh token, and whoever presents it may get it rotated: so it is presented in a flight of the
   session itself, one at a time with its renewals, under its lease and with its marks. The session keeps its own access
   token and the newest refresh token; the sibling gets the other access token.
2. To its sibling a failure is a failure; the session goes on as if nothing had been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import TokenEndpointUnavailable, TokenFlowError
from ._flow import current
from ._renewal import lead
from ._steps import Elsewhere, Wait

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from ._attempt import Attempt
    from ._entries import Minted
    from ._grants import Grant
    from ._steps import Step
    from ._terms import Renewals

__all__ = ["Errand"]


class Errand:
    """A grant that buys its tokens with the refresh token of a session (RFC 6749 §6, RFC 8707 §2.2).

    Args:
        session: how the session's own token is renewed.
        grant: the session's grant, for what the sibling wants.
    """

    spends = False

    def __init__(self, session: Renewals, grant: Any) -> None:
        self.sibling_of = session
        self._grant = grant

    @property
    def name(self) -> str:
        """Client and server, for logs and reprs."""
        name: str = self._grant.name
        return name

    @property
    def errand_of(self) -> type[Any]:
        """What events name it after."""
        return type(self._grant)

    @property
    def client_auth(self) -> Any:
        """How the client proves itself."""
        return getattr(self._grant, "client_auth", None)

    def identity(self) -> Mapping[str, Any]:
        """Whose session, and what for."""
        return {"session": self.sibling_of.source.fingerprint, **self._grant.identity()}

    def using(self, **changes: Any) -> Grant:
        """As the grant's own."""
        return Errand(self.sibling_of, self._grant.using(**changes))

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:  # noqa: ARG002 - the session has its own
        """One access token, by a flight of the session."""
        minted: Minted = yield Elsewhere(self.sibling_of.source, self._run())
        return minted

    def _run(self) -> Generator[Step, Any, Minted]:
        session = self.sibling_of
        source, policy = session.source, session.policy
        yield from current(session)  # there has to be a session
        while True:
            flight, leads = source.board_errand(policy, self._grant)
            try:
                yield Wait(flight, lead(flight, session) if leads else None)
            except TokenFlowError as error:
                if not leads:
                    continue  # it was about something else
                if isinstance(error, TokenEndpointUnavailable) and error.may_have_spent:
                    error.retryable = False  # the next time may be the last for the session: not in the same breath
                raise
            if leads and flight.brought_along is not None:
                return flight.brought_along

    def revoke(self, attempt: Attempt) -> Generator[Step, Any, bool]:
        """Give the access token back; the session stays."""
        agreed: bool = yield from self._grant.revoke(attempt)
        return agreed

    def introspect(self, attempt: Attempt, token: str) -> Generator[Step, Any, dict[str, Any]]:
        """What the server says of `token`."""
        answer: dict[str, Any] = yield from self._grant.introspect(attempt, token)
        return answer
