"""What the program hands over to have it go on in somebody's name: their token, or what it calls them."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._tokens import check_credential

from ._grant import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from httpx_tokenflow._steps import Step

__all__ = ["GivenToken", "as_name"]


def as_name(given: Any, what: str) -> str | None:
    """What the program calls somebody, or None: not empty, since two whom it calls nothing would share their tokens."""
    if given is None or (isinstance(given, str) and given):
        return given
    raise ConfigurationError(f"{what}= must be a string that is not empty; leave it out where there is none")


class GivenToken:
    """A token as it is, or a callable (sync or async) that is asked for it at each request.

    Args:
        given: the one or the other.
        what: what it was given as, for messages.
        subject_key: the program's name for whose token it is, or None.

    Raises:
        InvalidCredential: it cannot go on the wire.
        ConfigurationError: `subject_key` names nobody.
    """

    __slots__ = ("_given", "_key", "_own", "_what")

    def __init__(self, given: str | Callable[[], Any], what: str, subject_key: str | None) -> None:
        self._given = given
        self._what = what
        if not callable(given):
            check_credential(given, what)
        self._key = as_name(subject_key, "subject_key")
        # Not its id(): that may be another's tomorrow, or in another process that shares the store.
        self._own = secrets.token_hex(16) if callable(given) and subject_key is None else ""

    def __repr__(self) -> str:
        return f"<GivenToken {self._what}>"

    @property
    def identity(self) -> Mapping[str, str]:
        """Whose token it is, as data that JSON can hold."""
        if self._key is not None:
            return {"key": self._key}
        if callable(self._given):
            return {"own": self._own}
        return {"hash": hashlib.sha256(self._given.encode()).hexdigest()}

    def read(self, timeout: float) -> Generator[Step, Any, str]:
        """The token; an async callable has `timeout` seconds.

        Raises:
            InvalidCredential: what the callable returned cannot go on the wire.
            TokenEndpointUnavailable: the callable raised; what it raised is the cause.
        """
        return (yield from ask(self._given, self._what, timeout)) if callable(self._given) else self._given
