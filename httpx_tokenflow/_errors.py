"""The errors, drawn: one base, grouped by what the caller can do.

    TokenFlowError                      everything of ours
    ├─ ConfigurationError               ours to mend: an argument, an endpoint, a way of calling; never retried
    ├─ InvalidCredential                a credential that cannot go on the wire; nothing was sent
    ├─ OriginNotAllowed                 the request goes where the credential may not; nothing was sent
    ├─ TokenRequestError                the token endpoint said no (RFC 6749 §5.2)
    │  └─ ReauthenticationRequired      a person, or whoever holds the credential, must log in again
    ├─ TokenEndpointUnavailable         transient: try later; `.retry_after` where the server named a time
    ├─ StepUpRequired                   the API wants a stronger login (RFC 9470)
    └─ StoreError                       the store of tokens failed

Rules.

1. Every one of them is also caught by ``except httpx.HTTPError`` and ``except httpx2.HTTPError``, and
   `TokenEndpointUnavailable` by ``TransportError`` as well, so that retry layers see it. The two libraries share
   no base class and either may be missing, so the class that is raised gets their bases at the moment it is made,
   from those that are loaded by then (an ``except`` clause can only name what is loaded).
2. No secret: messages are ours, a server's words are bounded and scrubbed before they come here, and a pickle
   carries neither the request nor the response.
3. Errors belong below everything: this module imports nothing of ours.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

__all__ = [
    "ConfigurationError",
    "InvalidCredential",
    "OriginNotAllowed",
    "Outcome",
    "ReauthenticationRequired",
    "StepUpRequired",
    "StoreError",
    "TokenEndpointUnavailable",
    "TokenFlowError",
    "TokenRequestError",
]

Outcome = Literal["not sent", "answered", "unknown"]
"""How a token request ended: it never left, it was answered, or it left and no answer came."""


@functools.cache
def _joined(public: type[TokenFlowError], bases: tuple[type[Exception], ...]) -> type[TokenFlowError]:
    """`public` with the bases of the HTTP libraries: the same name, so that nobody sees the difference."""
    names = {"__module__": public.__module__, "__qualname__": public.__qualname__, "__doc__": public.__doc__}
    return type(public.__name__, (public, *bases), {**names, "_public": public})


class TokenFlowError(Exception):
    """Base of every error of `httpx_tokenflow`; also an ``HTTPError`` of httpx and of httpx2.

    Attributes:
        response: the answer of the API (a 401, say) that led here, or None. Its body has been read.
        request: the request of the caller, where one led here (httpx's own attribute).
        may_have_spent: a refresh token was presented, and the server may have retired it for nothing.
        of_caller: the credential was not the program's own but that of whoever called it (`httpx_tokenflow.fastapi`).
    """

    _caught_as: ClassVar[str] = "HTTPError"
    _public: ClassVar[type[TokenFlowError]]

    response: Any = None
    may_have_spent: bool = False
    of_caller: bool = False

    if TYPE_CHECKING:
        request: Any  # from httpx's own class, at run time

    def __new__(cls, *args: object, **_fields: object) -> Self:
        public = cls.__dict__.get("_public", cls)
        modules = (sys.modules.get("httpx"), sys.modules.get("httpx2"))
        # After httpx2.alias_httpx() both names are one module: once is enough.
        bases = dict.fromkeys(base for module in modules if (base := getattr(module, cls._caught_as, None)))
        return super().__new__(_joined(public, tuple(bases)), *args)  # type: ignore[return-value]  # a subclass of cls

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def again(self) -> Self:
        """The same facts in a fresh error: each waiter raises its own, from the shared cause."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update({name: value for name, value in self.__dict__.items() if name not in _OF_ONE_CALLER})
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name not in _OF_ONE_CALLER}
        return _rebuilt, (type(self).__dict__.get("_public", type(self)), self.args, state)


_OF_ONE_CALLER = frozenset({"response", "_request", "of_caller"})


def _rebuilt(public: type[TokenFlowError], args: tuple[object, ...], state: dict[str, Any]) -> TokenFlowError:
    error = public.__new__(public, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(TokenFlowError):
    """Something is set up in a way that cannot work; the message says what to do. Never retried."""


class InvalidCredential(TokenFlowError):
    """A credential that cannot go on the wire (empty, control or non-ASCII characters). Nothing was sent."""


class OriginNotAllowed(TokenFlowError):
    """The request goes to an origin at which this credential may not be used. Nothing was sent."""


class TokenRequestError(TokenFlowError):
    """The token endpoint said no (RFC 6749 §5.2). Nothing was forgotten.

    Attributes:
        status: HTTP status of the answer, or None.
        error: the error code, such as ``invalid_client``; None if the answer was no OAuth error.
        error_description: the server's words, bounded and scrubbed, or None.
        error_uri: where the server explains it, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error: str | None = None,
        error_description: str | None = None,
        error_uri: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.error_description = error_description
        self.error_uri = error_uri


class ReauthenticationRequired(TokenRequestError):
    """No grant that we hold works any more: somebody has to log in again (`invalid_grant`)."""


class TokenEndpointUnavailable(TokenFlowError):
    """The token endpoint could not be reached, or could not answer now. Tokens are kept; try later.

    Also a ``TransportError`` of httpx and httpx2.

    Attributes:
        retry_after: seconds that the server asked to wait, or None.
        outcome: "not sent", "answered", or "unknown" (it left and no answer came).
        status: HTTP status of the answer, or None.
        retryable: whether another attempt within the same renewal could help (not so for TLS, or a proxy's 407).
    """

    _caught_as = "TransportError"

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome,
        retry_after: float | None = None,
        status: int | None = None,
        retryable: bool = True,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.outcome = outcome
        self.may_have_spent: bool = outcome == "unknown"
        self.retry_after = retry_after
        self.status = status


class StepUpRequired(TokenFlowError):
    """The API accepts this token, but wants a stronger or fresher login (RFC 9470 §3).

    Attributes:
        acr_values: the authentication contexts asked for, or None.
        max_age: seconds since the login at most, or None.
        scope: the scope asked for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        acr_values: str | None = None,
        max_age: int | None = None,
        scope: str | None = None,
    ) -> None:
        super().__init__(message)
        self.acr_values = acr_values
        self.max_age = max_age
        self.scope = scope


class StoreError(TokenFlowError):
    """The store of tokens failed, and going on without it could cost the session."""


class BusyStore(StoreError):
    """Another holder has not let go of a lock: the same may work later."""


class DamagedEntry(StoreError):
    """What a store holds is no entry, or no longer one: it is of use to nobody."""
