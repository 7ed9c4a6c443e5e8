"""What acting for a caller and forwarding their token share: a guard in front, an end in sight, errors that are theirs.

Rules.

1. An error of an auth that carries a caller's credential says so (`TokenFlowError.of_caller`): only then is it the
   caller who can do something about it, by logging in again.
2. Some servers say `invalid_token`, `interaction_required` or `login_required` of a token that was to be exchanged,
   where RFC 6749 §5.2 has `invalid_grant`: all of them end the caller's session (`ReauthenticationRequired`).
3. RFC 8693 §2.2.2 has a server say `invalid_request` of such a token, which it also says of a request that is set up
   wrongly. It is about the token where the same exchange has worked before in this process, for this caller or for
   another. Before that it stays what it is, or else a mistake of ours would send everybody to log in.
4. Nobody is served by a token that has ended, whatever leeway the guard gives: an authorization server would not take
   it.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

import httpx

from httpx_tokenflow import (
    BearerAuth,
    ConfigurationError,
    ReauthenticationRequired,
    Token,
    TokenAuth,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._extras import need_extra
from httpx_tokenflow._origins import Origins

from ._caller import Caller
from ._guard import Guard
from ._refusals import Reason, RefusedToken, challenge_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = ["CallersBearerAuth", "CallersTokenAuth", "Worked", "check_caller", "checked_origins", "signature_behind"]

_OVER = frozenset({"invalid_token", "interaction_required", "login_required"})  # rule 2
_MOST = 1_000  # ways of asking that are remembered: a program has a few

_Way = tuple[str, ...]  # how a grant asks, whoever for; then what `TokenAuth.using` was given, one after the other


class Worked:
    """Which exchanges have worked in this process, so that the request as such is right (rule 3)."""

    def __init__(self) -> None:
        self._ways: set[_Way] = set()

    def note(self, way: _Way) -> None:
        """The exchange in this way has worked."""
        if way not in self._ways and len(self._ways) < _MOST:
            self._ways.add(way)

    def __contains__(self, way: _Way) -> bool:
        return way in self._ways


@contextmanager
def _theirs(*, has_worked: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """An error that comes out of here is the caller's (rule 1), and may be the end of their session."""
    try:
        yield
    except TokenFlowError as error:
        over = _as_over(error, has_worked)
        over.of_caller = True
        if over is error:
            raise
        raise over from error


def _as_over(error: TokenFlowError, has_worked: Callable[[], bool]) -> TokenFlowError:
    """`error`; or the end of a session, if that is what the server means (rules 2 and 3)."""
    if not isinstance(error, TokenRequestError) or isinstance(error, ReauthenticationRequired):
        return error
    if error.error not in _OVER and not (error.error == "invalid_request" and has_worked()):
        return error
    over = ReauthenticationRequired(str(error))
    over.__dict__.update(error.__dict__)  # status, error and words; the request and the response
    return over


class CallersTokenAuth(TokenAuth):
    """A `TokenAuth` whose tokens stand for whoever called.

    Args:
        worked: what has worked before, for all callers.
        way: how the grant asks, but for whose token it is.
        arguments: as for `TokenAuth`.
    """

    def __init__(self, *arguments: Any, worked: Worked | None = None, way: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._worked = Worked() if worked is None else worked
        self._way: _Way = (way,)

    def _has_worked(self) -> bool:
        return self._source.held is not None or self._way in self._worked

    @contextmanager
    def _noting(self) -> Iterator[None]:
        with _theirs(has_worked=self._has_worked):
            yield
            if self._source.held is not None:
                self._worked.note(self._way)

    def _talk(self, request: Any, held: Any, response: Any) -> Generator[Any, Any, None]:
        with self._noting():
            yield from super()._talk(request, held, response)

    def using(self, **choice: Any) -> Self:
        """As `TokenAuth.using`."""
        sibling = cast("Self", super().using(**choice))
        sibling._way = (*self._way, repr(sorted(choice.items())))  # noqa: SLF001 - it is one of us
        return sibling

    def warm(self) -> bool:
        """As `TokenAuth.warm`."""
        with self._noting():
            return super().warm()

    async def awarm(self) -> bool:
        """As `TokenAuth.awarm`."""
        with self._noting():
            return await super().awarm()

    def token(self) -> Token:
        """As `TokenAuth.token`."""
        with self._noting():
            return super().token()

    async def atoken(self) -> Token:
        """As `TokenAuth.atoken`."""
        with self._noting():
            return await super().atoken()


class CallersBearerAuth(BearerAuth):
    """A `BearerAuth` with the very token that came in."""

    def _talk(self, request: Any, held: Any, response: Any) -> Generator[Any, Any, None]:
        with _theirs():
            yield from super()._talk(request, held, response)


def checked_origins(given: Any) -> tuple[str, ...]:
    """Where the tokens of other people may go.

    Raises:
        ConfigurationError: nobody has said so, or there can be no such origin.
    """
    if given is None:
        raise ConfigurationError("origins is missing: say where the tokens of other people may go")
    origins = given if isinstance(given, str) else tuple(given)
    Origins(origins, httpx.URL)  # which refuses a string by itself, too
    return tuple(origins)


def signature_behind(guard: Any) -> inspect.Signature:
    """What FastAPI is to read: a dependency that is given the `Caller` of `guard`.

    Raises:
        ConfigurationError: `guard` is none.
    """
    with need_extra("fastapi", "httpx_tokenflow.fastapi"):
        from fastapi import Depends
    if not callable(guard) or guard is Guard:
        raise ConfigurationError("guard must be a Guard, or another dependency that gives a Caller")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter("caller", kind, default=Depends(guard), annotation=Caller)])


def check_caller(caller: Any, now: float, guard: Any) -> Caller:
    """`caller`, if it is one whose token has not ended at `now` (rule 4); refused as `guard` refuses.

    Raises:
        RefusedToken: it has: 401 invalid_token.
        ConfigurationError: the guard gave no Caller.
    """
    if not isinstance(caller, Caller):
        raise ConfigurationError(
            f"the guard gave no Caller but {type(caller).__name__}: nobody can be acted for who is not known"
        )
    if caller.expires_at is not None and caller.expires_at <= now:
        told = (
            ("realm", getattr(guard, "realm", None)),
            ("error", "invalid_token"),
            ("error_description", str(Reason.EXPIRED)),
            ("resource_metadata", getattr(guard, "resource_metadata", None)),
        )
        raise RefusedToken(Reason.EXPIRED, challenge_of(told))
    return caller
