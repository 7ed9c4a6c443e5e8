"""Credentials that the program brings itself: a bearer token, an API key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ._auth import CredentialAuth
from ._credentials import InHeader, InQuery, bearer
from ._entries import Entry
from ._errors import ConfigurationError, InvalidCredential
from ._forks import renew_after_fork
from ._grants._callable import AskProgram
from ._grants._keys import KeysInTurn, check_sequence
from ._lifecycle import RenewalPolicy
from ._sources import TokenSource
from ._terms import Renewals
from ._token_client import TokenClient
from ._tokens import MAX_LIFETIME, Token, check_credential
from .stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._secrets import Expect
    from .events import Event

__all__ = ["APIKeyAuth", "BearerAuth"]

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BearerAuth(CredentialAuth):
    """A bearer token that the program has, or knows how to get (RFC 6750 §2.1).

    Args:
        token: the token, or a callable (sync or async) that returns it. A callable is asked before the first request
            and again after each 401, once for everybody who got one.
        origins: where it may go, such as ``("https://api.example.com",)``; None: any https origin, and loopback.
        expect: what it must be, so that one that belongs elsewhere is not sent: a prefix, a mapping of JWT claims
            (read, not verified), or a predicate.
        on_event: is told what happens (`httpx_tokenflow.events`).

    Raises:
        InvalidCredential: the token is not what is expected, is empty, or has characters that a header cannot carry.
        ConfigurationError: `origins` has something that is not an origin.
    """

    def __init__(
        self,
        token: str | Callable[[], Any],
        *,
        origins: Iterable[str] | None = None,
        expect: Expect | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if not callable(token):
            _alone(check_credential(token, "token"))
        super().__init__(*_simple(token, "token", _bearer_of, expect), origins, on_event)


def _alone(token: str) -> str:
    """`token`, if it comes without its scheme, which is put before it."""
    if token.lower().startswith("bearer "):
        raise InvalidCredential('token begins with "Bearer ": give the token alone, the scheme is put before it')
    return token


class APIKeyAuth(CredentialAuth):
    """An API key, in a header or in the query.

    httpx passes all headers but `Authorization` on when a redirect leaves the origin. The key does not go along: it is
    sealed to the one request, and put on again where the redirect stays within the origin.

    Args:
        key: the key; or a callable (sync or async) that returns it, asked again after each 401; or a sequence of keys
            in the order to try: after a 401 on one, the next is tried once, and kept.
        header: the field that carries it. Default ``X-API-Key``.
        prefix: goes before the key, literally, such as ``"ApiKey "``.
        query: the parameter that carries it instead of a header. It is kept out of httpx's log lines and taken off
            the request when the answer is there; servers and proxies may still log it.
        origins: where it may go, such as ``("https://api.example.com",)``; None: any https origin, and loopback.
        expect: what it must be, so that one that belongs elsewhere is not sent, such as the prefix ``"sk_live_"``.
        on_event: is told what happens (`httpx_tokenflow.events`).

    Raises:
        InvalidCredential: the key is not what is expected, is empty, or has characters that a header cannot carry.
        ConfigurationError: `origins` has something that is not an origin, or the arguments contradict each other.
    """

    def __init__(
        self,
        key: str | Callable[[], Any] | Sequence[str],
        *,
        header: str = "X-API-Key",
        prefix: str = "",
        query: str | None = None,
        origins: Iterable[str] | None = None,
        expect: Expect | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if query is not None and (header != "X-API-Key" or prefix):
            raise ConfigurationError("query= puts the key into the URL: it goes with neither header= nor prefix=")
        if not _FIELD_NAME.fullmatch(header):
            raise ConfigurationError("header= is not the name of a header field (RFC 9110 §5.1)")
        if not (prefix.isascii() and (prefix + ".").isprintable()):
            raise ConfigurationError("prefix= has control or non-ASCII characters, which a header cannot carry")
        if query is not None:
            self._placement = InQuery(query)
        elif header.lower() != "authorization":
            self._placement = InHeader(header)
        super().__init__(*_simple(key, "key", lambda token: prefix + token.access_token, expect), origins, on_event)


def _bearer_of(token: Token) -> str:
    return bearer(_alone(token.access_token))


def _simple(
    given: str | Callable[[], Any] | Sequence[str], what: str, present: Callable[[Token], str], expect: Expect | None
) -> tuple[TokenSource, Renewals | None, RenewalPolicy, TokenClient]:
    """The parts of an auth whose credential the program brings itself."""
    policy = RenewalPolicy()
    client = TokenClient(None, verify=True, policy=policy)
    source = TokenSource(what, what, MemoryStore(), present)
    renew_after_fork(source)
    source.expect(expect)
    if callable(given):
        return source, Renewals(source, AskProgram(given, what), policy), policy, client
    keys = (check_credential(given, what),) if isinstance(given, str) else check_sequence(given, what)
    source.held = source.hold(Entry(Token(keys[0]), policy.clock.wall(), MAX_LIFETIME), policy)
    renewals = Renewals(source, KeysInTurn(keys, what), policy) if len(keys) > 1 else None
    return source, renewals, policy, client
