"""The `auth=` objects: where the heart meets httpx and httpx2.

Rules.

1. The fast path: a token is in memory, it is fresh, and nothing about the request is out of the ordinary. Then it costs
   one look at the clock and one header: no lock, no await, no generator but the one that httpx itself needs.
2. Everything else is `_flow.authorize`; here its steps are performed: `Send` and `Drain` with the host's request and
   response, the others by a driver.
3. The same object serves clients of both libraries. It is made from httpx's `Auth`, and says yes when somebody asks
   whether it is one of httpx2's as well. Whether httpx2 is imported, and when, is up to the program: it costs 40 ms.
4. The caller's own credential on a request wins: such a request goes out untouched, and its 401 is not ours.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

import httpx

from ._bodies import is_replayable
from ._credentials import InAuthorization, InHeader, InQuery, Origins, bearer
from ._drivers import LoopDriver, ThreadDriver
from ._errors import ConfigurationError, TokenFlowError
from ._flights import Held, TokenSource, source_for
from ._flow import authorize, current, keep, renew
from ._grants._callable import AskProgram
from ._lifecycle import RenewalPolicy
from ._steps import Answer, Drain, Read, Send, Step
from ._token_client import TokenClient, library_of
from ._tokens import MAX_LIFETIME, Entry, Token, check_credential, digest
from .stores import MemoryStore

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable

    import httpx2

    from ._credentials import Placement
    from ._flights import Flight
    from ._grants import Grant
    from ._steps import Renewing
    from .stores import AsyncStore, Store

    class _Base(httpx.Auth, httpx2.Auth):  # rule 3, as a type checker sees it
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...
        def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...
        def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]: ...
else:
    _Base = httpx.Auth

__all__ = ["APIKeyAuth", "BearerAuth", "TokenAuth"]

_D = TypeVar("_D", ThreadDriver, LoopDriver)

_WORTH_A_LOOK = frozenset({401, 403})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 §9.2.1


@functools.cache
def _of_both(kind: Any, other: Any) -> type:
    """`kind` as it would be with the `Auth` of httpx2 among its bases (rule 3)."""
    return type(kind.__name__, (kind, other), {"__module__": kind.__module__, "__doc__": kind.__doc__})


class _CredentialAuth(_Base):
    """What all `auth=` objects of ours do with a request."""

    _placement: Placement = InAuthorization()

    def __init__(
        self,
        source: TokenSource,
        grant: Grant | None,
        policy: RenewalPolicy,
        client: TokenClient,
        origins: Iterable[str] | None,
        should_renew: Callable[[Any], bool] | None = None,
    ) -> None:
        self._source = source
        self._grant = grant
        self._policy = policy
        self._now = policy.clock.monotonic
        self._origins = Origins(origins, httpx.URL)
        self._is_pinned = origins is not None
        self._passed = self._origins.passed
        self._known: set[type] = set()  # kinds of headers in which the fast path can look for the caller's own
        self._client = client
        self._should_renew = should_renew

    @property  # type: ignore[misc]  # typeshed has it as a plain attribute
    def __class__(self) -> Any:
        """Rule 3: where `isinstance` looks before it says no."""
        kind: Any = type(self)
        other = getattr(sys.modules.get("httpx2"), "Auth", None)
        return kind if other is None or issubclass(kind, other) else _of_both(kind, other)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source!r}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} is not pickled: it holds credentials and open connections; "
            "make one in each process, and let them share a store"
        )

    def _stamp(self, request: Any) -> Held | None:
        """The token that was put on `request`; None if one of the two is out of the ordinary (rule 1)."""
        held = self._source.held
        if held is None or self._now() >= held.fresh_until or "tokenflow" in request.extensions:
            return None
        url = request.url
        if (self._is_pinned or url.scheme != "https") and (url.scheme, url.raw_host, url.port) not in self._passed:
            return None
        headers = request.headers
        if type(headers) not in self._known:
            return None
        for field in headers._list:  # noqa: SLF001 - `in` would cost more than all the rest; see _has_own
            if field[1] == b"authorization":
                return None
        headers["Authorization"] = held.value
        return held

    def _has_own(self, request: Any) -> bool:
        """Whether the caller has put a credential on `request` (rule 4)."""
        kind: Any = type(request.headers)
        if kind in self._known:
            return any(field[1] == b"authorization" for field in request.headers._list)  # noqa: SLF001 - as in _stamp
        # Open the fast path for headers of this kind, if they keep their fields where it looks.
        if not self._placement.sealed and getattr(kind([("A", "b")]), "_list", None) == [(b"A", b"a", b"b")]:
            self._known.add(kind)
        return self._placement.is_on(request)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """The flow for `httpx.Client` and `httpx2.Client`."""
        held, response = self._stamp(request), None
        if held is not None:
            response = yield request
            if response.status_code not in _WORTH_A_LOOK and self._should_renew is None:
                return
        talk = self._talk(request, held, response)
        driver = ThreadDriver(self._source, self._policy, self._client, library_of(request))
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                asked = talk.send(answer) if error is None else talk.throw(error)
            except StopIteration:
                return
            answer = error = None
            if not isinstance(asked, Step):
                answer = yield asked
                continue
            try:
                answer = driver.perform(asked)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """The flow for `httpx.AsyncClient` and `httpx2.AsyncClient`."""
        held, response = self._stamp(request), None
        if held is not None:
            response = yield request
            if response.status_code not in _WORTH_A_LOOK and self._should_renew is None:
                return
        talk = self._talk(request, held, response)
        driver = LoopDriver(self._source, self._policy, self._client, library_of(request))
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                asked = talk.send(answer) if error is None else talk.throw(error)
            except StopIteration:
                return
            answer = error = None
            if not isinstance(asked, Step):
                answer = yield asked
                continue
            try:
                answer = await driver.perform(asked)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed

    def _talk(self, request: Any, held: Held | None, response: Any) -> Generator[Any, Any, None]:
        """Everything but the fast path: yields requests, for which it is sent responses, and steps for a driver."""
        try:
            if held is None and (not _option(request, "auth") or self._has_own(request)):
                yield request  # rule 4
                return
            self._origins.check(request.url)
            sending = _Sending(request, response)
            sent = None if held is None else (held, (yield from self._answer(sending, held)))
            lead = None if self._grant is None else self._lead
            flow = authorize(self._source, self._policy, lead, sending, sent)
            yield from self._follow(flow, sending)
        except TokenFlowError as error:
            error.request = request
            raise

    def _follow(self, flow: Generator[Step, Any, None], sending: _Sending) -> Generator[Any, Any, None]:
        """Do what `flow` says with the request."""
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration:
                return
            except TokenFlowError as failed:
                failed.response = sending.response
                raise
            answer = error = None
            try:
                if isinstance(step, Send):
                    yield from self._send(sending, step.held)
                    answer = yield from self._answer(sending, step.held)
                else:
                    answer = yield (Drain(sending.response) if isinstance(step, Drain) else step)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed

    def _send(self, sending: _Sending, held: Held) -> Generator[Any, Any, None]:
        """Send the request with `held`, and again where a redirect within the origin has lost a sealed credential."""
        while True:
            request = sending.request
            self._placement.put(request, held.value)
            try:
                sending.response = yield request
                sending.carried = self._placement.carries(request, held.value)
            finally:
                self._placement.take_off(request)
            hop = _next_hop(request, sending.response) if self._placement.sealed else None
            if hop is None:
                return
            yield Drain(sending.response)
            sending.request = hop

    def _answer(self, sending: _Sending, held: Held) -> Generator[Any, Any, Answer]:
        """The response as the flow sees it."""
        request, response = sending.request, sending.response
        if response.status_code not in _WORTH_A_LOOK and self._should_renew is None:
            return Answer(response.status_code)
        if self._placement.sealed:
            ours = sending.carried and response.request is request
        else:
            ours = self._placement.carries(response.request, held.value)
        if ours:
            # Where a redirect within the origin was followed, what comes next goes to where it led: what was sent
            # before may have been done (a POST that was answered with 303).
            sending.request = response.request
        expired = False
        if self._should_renew is not None:
            try:
                expired = bool(self._should_renew(response))
            except Exception as error:
                if type(error).__name__ != "ResponseNotRead":  # one class in each library
                    raise
                yield Read(response)
                expired = bool(self._should_renew(response))
        challenges = tuple(response.headers.get_list("WWW-Authenticate"))
        return Answer(response.status_code, challenges, ours=ours, expired=expired)

    def _lead(self, flight: Flight, refused: str | None = None) -> Renewing:
        assert self._grant is not None  # noqa: S101 - nobody leads without a grant
        return renew(flight, self._source, self._grant, self._policy, random.random, refused)


class _Sending:
    """A request on its way, and the last response to it; what the flow may want to know is looked up when it does."""

    __slots__ = ("carried", "request", "response")

    def __init__(self, request: Any, response: Any) -> None:
        self.request = request
        self.response = response
        self.carried = False  # it was our credential that went out, as far as the request itself can tell

    @property
    def replayable(self) -> bool:
        return is_replayable(self.request)

    @property
    def retry(self) -> bool:
        return _option(self.request, "retry")


def _option(request: Any, name: str) -> bool:
    """A switch in ``extensions={"tokenflow": {…}}`` of one request; on unless it is switched off."""
    options = request.extensions.get("tokenflow")
    if options is None:
        return True
    if not isinstance(options, dict) or options.keys() - {"auth", "retry"}:
        raise ConfigurationError('extensions["tokenflow"] takes {"auth": False} or {"retry": False}, nothing else')
    return bool(options.get(name, True))


def _origin(url: Any) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def _next_hop(request: Any, response: Any) -> Any:
    """The request that a redirect within the origin sent without the sealed credential; None: there is none to mend.

    Its answer is given up for one with the credential, unless it may already have done something.
    """
    following = None
    hop = response.request
    for answered in reversed(response.history):
        if hop is request:
            break
        following, hop = hop, answered.request
    if following is None or _origin(following.url) != _origin(request.url):
        return None
    return following if following.method in _SAFE or response.status_code >= 400 else None


class BearerAuth(_CredentialAuth):
    """A bearer token that the program has, or knows how to get (RFC 6750 §2.1).

    Args:
        token: the token, or a callable (sync or async) that returns it. A callable is asked before the first request
            and again after each 401, once for everybody who got one.
        origins: where it may go, such as ``("https://api.example.com",)``; None: any https origin, and loopback.

    Raises:
        InvalidCredential: the token is empty, or has characters that a header cannot carry.
        ConfigurationError: `origins` has something that is not an origin.
    """

    def __init__(self, token: str | Callable[[], Any], *, origins: Iterable[str] | None = None) -> None:
        super().__init__(*_simple(token, "token", _bearer_of), origins)


class APIKeyAuth(_CredentialAuth):
    """An API key, in a header or in the query.

    httpx passes all headers but `Authorization` on when a redirect leaves the origin. The key does not go along: it is
    sealed to the one request, and put on again where the redirect stays within the origin.

    Args:
        key: the key, or a callable (sync or async) that returns it, asked again after each 401.
        header: the field that carries it. Default ``X-API-Key``.
        prefix: goes before the key, literally, such as ``"ApiKey "``.
        query: the parameter that carries it instead of a header. It is kept out of httpx's log lines and taken off
            the request when the answer is there; servers and proxies may still log it.
        origins: where it may go, such as ``("https://api.example.com",)``; None: any https origin, and loopback.

    Raises:
        InvalidCredential: the key is empty, or has characters that a header cannot carry.
        ConfigurationError: `origins` has something that is not an origin, or the arguments contradict each other.
    """

    def __init__(
        self,
        key: str | Callable[[], Any],
        *,
        header: str = "X-API-Key",
        prefix: str = "",
        query: str | None = None,
        origins: Iterable[str] | None = None,
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
        super().__init__(*_simple(key, "key", lambda token: prefix + token.access_token), origins)


_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _bearer_of(token: Token) -> str:
    return bearer(token.access_token)


def _simple(
    given: str | Callable[[], Any], what: str, present: Callable[[Token], str]
) -> tuple[TokenSource, Grant | None, RenewalPolicy, TokenClient]:
    """The parts of an auth whose credential the program brings itself."""
    policy = RenewalPolicy()
    client = TokenClient(None, verify=True, policy=policy)
    source = TokenSource(what, what, MemoryStore(), present)
    if callable(given):
        return source, AskProgram(given, what), policy, client
    source.held = source.hold(Entry(Token(check_credential(given, what)), policy.clock.wall(), MAX_LIFETIME), policy)
    return source, None, policy, client


class TokenAuth(_CredentialAuth):
    """Makes HTTP 401 a non-event, for all clients of httpx and of httpx2, from any thread and event loop.

    It puts a token on each request, gets one before the first and the next before one expires, and when a server
    answers 401 all the same it renews once for everybody and sends the request again.

    Args:
        grant: how tokens are obtained.
        token: the first token, used while the store holds none. What the store holds wins; a new login is
            `set_token`.
        store: where tokens outlive this object; shared with others that have the same grant. None: a `MemoryStore`
            of its own.
        policy: when and how hard to renew.
        origins: where the credential may go, such as ``("https://api.example.com",)``; None: any https origin, and
            loopback.
        client: a client of httpx or httpx2, sync or async, for the token endpoint. It is used as it is, without its
            auth and without redirects, and never closed; a sync one serves async requests from a thread.
        verify: how our own client for the token endpoint verifies certificates: True, or an ``ssl.SSLContext``.
        should_renew: a predicate of the response, for APIs that say "expired" otherwise than by a 401. The body is
            read only if it asks for it.

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
    """

    def __init__(
        self,
        grant: Grant,
        *,
        token: Token | None = None,
        store: Store | AsyncStore | None = None,
        policy: RenewalPolicy | None = None,
        origins: Iterable[str] | None = None,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        should_renew: Callable[[Any], bool] | None = None,
    ) -> None:
        policy = policy or RenewalPolicy()
        _check_arguments(grant, token, store, policy, should_renew)
        seed = None if token is None else _entry_of(token, policy)
        name = getattr(grant, "name", type(grant).__name__)
        source = source_for(name, fingerprint(grant, token), store or MemoryStore(), _bearer_of, seed)
        super().__init__(source, grant, policy, TokenClient(client, verify, policy), origins, should_renew)

    def token(self) -> Token:
        """A token that is not due, for use elsewhere (gRPC, a websocket, a subprocess).

        Raises:
            TokenFlowError: there is none, and none is to be had now.
        """
        held: Held = self._driver(ThreadDriver).run(current(self._source, self._policy, self._lead))
        return held.entry.token

    async def atoken(self) -> Token:
        """As `token`."""
        held: Held = await self._driver(LoopDriver).run(current(self._source, self._policy, self._lead))
        return held.entry.token

    def set_token(self, token: Token) -> None:
        """Use `token`, which came from elsewhere, from now on: here, and wherever the store is shared.

        A renewal under way does not bring the old one back.

        Raises:
            ConfigurationError: it is not a Token.
            StoreError: the store failed; nothing has changed.
        """
        self._driver(ThreadDriver).run(keep(self._source, _entry_of(token, self._policy), self._policy))

    async def aset_token(self, token: Token) -> None:
        """As `set_token`."""
        flow = keep(self._source, _entry_of(token, self._policy), self._policy)
        await self._driver(LoopDriver).in_order(flow)

    def close(self) -> None:
        """Free what is ours; a later use opens it anew. A renewal in the air is waited for, 5 s at most."""
        self._driver(ThreadDriver).settle()
        self._client.close()

    async def aclose(self) -> None:
        """As `close`, and what is ours on this event loop."""
        await self._driver(LoopDriver).settle()
        await self._client.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def _driver(self, kind: type[_D]) -> _D:
        return kind(self._source, self._policy, self._client, httpx)


def fingerprint(grant: Grant, token: Token | None) -> str:
    """The hash of everything that makes two tokens different; of JSON, so that nothing runs together (F10 to F12)."""
    identity = {"version": 1, **grant.identity()}
    if grant.spends and identity.get("subject") is None and token is not None and token.refresh_token is not None:
        identity["session"] = digest(token.refresh_token)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _entry_of(token: Token, policy: RenewalPolicy) -> Entry:
    if not isinstance(token, Token):
        raise ConfigurationError(f"token must be a Token, not {type(token).__name__}: Token(access_token=…)")
    return Entry.of_login(token, policy.clock.wall())


def _check_arguments(grant: Any, token: Any, store: Any, policy: Any, should_renew: Any) -> None:
    if isinstance(grant, type) or not (callable(getattr(grant, "obtain", None)) and hasattr(grant, "spends")):
        raise ConfigurationError("TokenAuth needs a grant, such as ClientCredentials(…) or RefreshToken(…)")
    if store is not None and not (hasattr(store, "load") or hasattr(store, "aload")):
        raise ConfigurationError("store= has neither load nor aload: give one of httpx_tokenflow.stores")
    if not isinstance(policy, RenewalPolicy):
        raise ConfigurationError("policy= must be a RenewalPolicy")
    if should_renew is not None and not callable(should_renew):
        raise ConfigurationError("should_renew= must be a predicate of the response")
    if token is not None and not isinstance(token, Token):
        raise ConfigurationError("token= must be a Token: Token(access_token=…, refresh_token=…)")
