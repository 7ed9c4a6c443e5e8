"""What acting for a caller and forwarding their token share: a guard in front, an end in sight, errors that are theirs.

Rules.

1. An error of an auth that carries a caller's credential says so (`TokenFlowError.of_caller`): only then is it the
   caller who can do something about it, by logging in again.
2. Nobody is served by a token that has ended, whatever leeway the guard gives: an authorization server would refuse it.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import BearerAuth, ConfigurationError, Token, TokenAuth, TokenFlowError
from httpx_tokenflow._auth import CredentialAuth
from httpx_tokenflow._extras import need_extra

from ._caller import Caller
from ._refusals import Reason, RefusedToken, challenge_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = ["CallersBearerAuth", "CallersTokenAuth", "check_caller", "signature_behind"]


@contextmanager
def _theirs() -> Iterator[None]:
    """An error that comes out of here is the caller's (rule 1)."""
    try:
        yield
    except TokenFlowError as error:
        error.of_caller = True
        raise


class _OfCaller(CredentialAuth):
    """An auth whose credential is a caller's."""

    def _talk(self, request: Any, held: Any, response: Any) -> Generator[Any, Any, None]:
        with _theirs():
            yield from super()._talk(request, held, response)


class CallersTokenAuth(_OfCaller, TokenAuth):
    """A `TokenAuth` whose tokens stand for whoever called."""

    def warm(self) -> bool:
        """As `TokenAuth.warm`."""
        with _theirs():
            return super().warm()

    async def awarm(self) -> bool:
        """As `TokenAuth.awarm`."""
        with _theirs():
            return await super().awarm()

    def token(self) -> Token:
        """As `TokenAuth.token`."""
        with _theirs():
            return super().token()

    async def atoken(self) -> Token:
        """As `TokenAuth.atoken`."""
        with _theirs():
            return await super().atoken()


class CallersBearerAuth(_OfCaller, BearerAuth):
    """A `BearerAuth` with the very token that came in."""


def signature_behind(guard: Callable[..., Any]) -> inspect.Signature:
    """What FastAPI is to read: a dependency that is given the `Caller` of `guard`.

    Raises:
        ConfigurationError: `guard` is none.
    """
    with need_extra("fastapi", "httpx_tokenflow.fastapi"):
        from fastapi import Depends
    if not callable(guard):
        raise ConfigurationError("guard must be a Guard, or another dependency that gives a Caller")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter("caller", kind, default=Depends(guard), annotation=Caller)])


def check_caller(caller: Any, now: float) -> Caller:
    """`caller`, if it is one whose token has not ended at `now` (rule 2).

    Raises:
        RefusedToken: it has: 401 invalid_token.
        ConfigurationError: the guard gave no Caller.
    """
    if not isinstance(caller, Caller):
        raise ConfigurationError(
            f"the guard gave no Caller but {type(caller).__name__}: nobody can be acted for who is not known"
        )
    if caller.expires_at is not None and caller.expires_at <= now:
        told = (("error", "invalid_token"), ("error_description", str(Reason.EXPIRED)))
        raise RefusedToken(Reason.EXPIRED, challenge_of(told))
    return caller
