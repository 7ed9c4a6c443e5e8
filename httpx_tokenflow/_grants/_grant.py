"""What every grant is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from httpx_tokenflow._attempt import called
from httpx_tokenflow._tokens import check_credential

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._steps import Step

__all__ = ["Grant", "ask"]


class Grant(Protocol):
    """How a token is obtained. A program can bring its own.

    What else it may have: `name`, for logs; `logs_in`, True if it can open a session where there is none, and
    `login_timeout`, seconds that a person may take for that; `widens`, True if it can ask for more scope than before
    (RFC 6750 §3.1); `issues`, False if what it brings was issued before, nobody knows when; `revoke(attempt)`, a
    generator that gives the session up at the server and returns whether the server agreed.

    Attributes:
        spends: each renewal presents the refresh token of the one before, which the server may retire by that. Such a
            token is presented once, and a store that fails closes the way instead of opening it.
    """

    spends: bool

    def identity(self) -> Mapping[str, Any]:
        """Everything that makes two tokens of this grant different, as data that JSON can hold."""

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """One attempt: yield steps, are sent their answers, return what was brought.

        Raises:
            TokenFlowError: how it failed; any other exception from a step passes through as it is.
        """


def ask(function: Callable[[], Any], what: str, timeout: float) -> Generator[Step, Any, str]:
    """The credential that a callable of the program's returns.

    Raises:
        InvalidCredential: it cannot go on the wire.
        TokenEndpointUnavailable: the callable raised; what it raised is the cause.
    """
    value = yield from called(function, what, timeout)
    return check_credential(value, f"what the callable given as {what} returned")
