"""TokenAuth: tokens by a grant, for all clients of httpx and of httpx2."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from ._attempt import guarded
from ._auth import CredentialAuth
from ._credentials import InCookie, bearer, cookie_value
from ._dpop import DPoP, InDPoP
from ._drivers import LoopDriver, ThreadDriver
from ._entries import Entry
from ._errors import ConfigurationError, StoreError, TokenEndpointUnavailable
from ._flow import current
from ._lifecycle import RenewalPolicy
from ._outside import keep, leave
from ._registry import source_for
from ._siblings import Errand
from ._storing import save_unsaved
from ._terms import Renewals
from ._token_client import TokenClient
from ._tokens import Token, check_credential
from .stores import MemoryStore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterable

    from ._flights import Held
    from ._grants import Grant
    from ._secrets import Expect
    from ._sources import Status
    from ._steps import Step
    from .events import Event
    from .stores import AsyncStore, Store

__all__ = ["TokenAuth", "fingerprint"]

_BEARER = frozenset({"bearer", "bearertoken", ""})
_DPOP = _BEARER | {"dpop"}
_POLICY = RenewalPolicy()  # for all who give none
_DEFAULT: tuple[Iterable[str] | None, Expect | None] = (None, None)  # origins= and expect= of all who give neither


class TokenAuth(CredentialAuth):
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
            loopback; but a token that is a cookie goes to where it is from alone (RFC 6265 §5.4).
        dpop: binds tokens to a key, which every request proves to have (RFC 9449); None: bearer tokens.
        client: a client of httpx or httpx2, sync or async, for the token endpoint. It is used as it is, without its
            auth and without redirects, and never closed; a sync one serves async requests from a thread.
        verify: how our own client for the token endpoint verifies certificates: True, or an ``ssl.SSLContext``, into
            which `TLSClientAuth` loads its certificate.
        expect: what every token must be, so that one that belongs elsewhere is not sent: a prefix, a mapping of JWT
            claims such as ``{"iss": "https://prod.example.com"}`` (read, not verified), or a predicate.
        should_renew: a predicate of the response, for APIs that say "expired" otherwise than by a 401. The body is
            read only if it asks for it.
        step_up: where an API answers `insufficient_scope` and says which scope it wants (RFC 6750 §3.1), ask for a
            token with that as well, once, and use it from then on. Default False: the answer is the caller's.
        on_event: is told what happens (`httpx_tokenflow.events`), at once and where it happens: be quick, or hand
            over to a queue. What it raises is logged and breaks nothing.

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
        InvalidCredential: `token` is not what is expected.
    """

    def __init__(
        self,
        grant: Grant,
        *,
        token: Token | None = None,
        store: Store | AsyncStore | None = None,
        policy: RenewalPolicy | None = None,
        origins: Iterable[str] | None = None,
        dpop: DPoP | None = None,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        expect: Expect | None = None,
        should_renew: Callable[[Any], bool] | None = None,
        step_up: bool = False,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        policy = policy or _POLICY
        origins = tuple(origins) if isinstance(origins, Iterator) else origins
        _check_arguments(grant, token, store, policy, should_renew)
        if dpop is not None and not isinstance(dpop, DPoP):
            raise ConfigurationError("dpop= must be a DPoP: DPoP() or DPoP(key)")
        origins = getattr(grant, "origins", None) if origins is None else origins
        store = store if store is not None else MemoryStore()
        self._kinds = _BEARER if dpop is None else _DPOP
        seed = None if token is None else _entry_of(token, policy, self._kinds)
        name = getattr(grant, "name", type(grant).__name__)
        cookie = getattr(grant, "cookie", None)
        if cookie is not None:
            self._placement = InCookie(cookie)
        elif dpop is not None:
            self._placement = InDPoP(dpop, policy.clock)
        present = _cookie_of if cookie is not None else _bearer_of if dpop is None else _dpop_of
        source = source_for(name, fingerprint(grant, token, dpop), store, present, seed)
        source.expect(expect)
        self._own = Renewals(source, grant, policy, dpop, step_up)
        certificate = getattr(getattr(grant, "client_auth", None), "certificate", None)
        tokens = client if isinstance(client, TokenClient) else TokenClient.of(client, verify, policy, certificate)
        super().__init__(source, self._own, policy, tokens, origins, on_event, should_renew)
        self._given = _DEFAULT if origins is None and expect is None else (origins, expect)

    def using(
        self,
        *,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
    ) -> TokenAuth:
        """A sibling with a token of its own, for another scope, audience or resource (RFC 8707).

        It shares the store, the client and the settings; what is not given stays as it is. A session (a refresh token,
        a login) is shared as well: its refresh token buys the sibling's access tokens, where the server allows it.

        Raises:
            ConfigurationError: the grant has no such choice.
        """
        vary = getattr(self._own.grant, "using", None)
        if vary is None:
            raise ConfigurationError(f"{type(self._own.grant).__name__} knows no scope, audience or resource to choose")
        grant = vary(scope=scope, audience=audience, resource=resource)
        own, (origins, expect) = self._own, self._given
        sibling = object.__new__(type(self))  # whatever the constructor of a program's own class wants
        vars(sibling).update(vars(self))
        TokenAuth.__init__(
            sibling,
            Errand(own, grant) if own.grant.spends else grant,
            store=self._source.store,
            policy=self._policy,
            origins=origins,
            dpop=own.dpop,
            client=self._client,
            expect=expect,
            should_renew=self._should_renew,
            step_up=own.widens,
            on_event=getattr(self, "_on_event", None),
        )
        return sibling

    @property
    def status(self) -> Status:
        """How the token is doing, for a readiness probe: `.state`, `.expires_in`, `.last_error`, `.waiting`. No I/O."""
        return self._source.status(self._policy)

    def warm(self) -> bool:
        """Get a token now, if there is none that is not due, so that the first request need not wait.

        What failed a moment ago does not hold it up.

        Returns:
            Whether there is a token that has not ended. False: the token endpoint, or the store, is out of order for
            now; requests will try again.

        Raises:
            TokenFlowError: something is wrong that will not pass by itself, such as a wrong secret.
        """
        self._source.forgive()
        try:
            self._driver(ThreadDriver).run(current(self._own))
        except (TokenEndpointUnavailable, StoreError) as error:
            return self._has_token_despite(error)
        return True

    async def awarm(self) -> bool:
        """As `warm`."""
        self._source.forgive()
        try:
            await self._driver(LoopDriver).run(current(self._own))
        except (TokenEndpointUnavailable, StoreError) as error:
            return self._has_token_despite(error)
        return True

    def _has_token_despite(self, error: TokenEndpointUnavailable | StoreError) -> bool:
        """Whether there is a token to go on with; what will not pass by itself is raised."""
        if isinstance(error, TokenEndpointUnavailable) and not error.retryable:
            raise error
        return self._source.usable(self._policy.clock) is not None

    def token(self) -> Token:
        """A token that is not due, for use elsewhere (gRPC, a websocket, a subprocess).

        Raises:
            TokenFlowError: there is none, and none is to be had now.
        """
        held: Held = self._driver(ThreadDriver).run(current(self._own))
        return held.entry.token

    async def atoken(self) -> Token:
        """As `token`."""
        held: Held = await self._driver(LoopDriver).run(current(self._own))
        return held.entry.token

    def set_token(self, token: Token) -> None:
        """Use `token`, which came from elsewhere, from now on: here, and wherever the store is shared.

        A renewal under way does not bring the old one back.

        Raises:
            ConfigurationError: it is not a Token.
            StoreError: the store failed; nothing has changed.
        """
        self._driver(ThreadDriver).run(keep(self._source, _entry_of(token, self._policy, self._kinds), self._policy))

    async def aset_token(self, token: Token) -> None:
        """As `set_token`."""
        flow = keep(self._source, _entry_of(token, self._policy, self._kinds), self._policy)
        await self._driver(LoopDriver).in_order(flow)

    def revoke(self) -> bool:
        """Give the session up: forgotten here and in the store at once, and revoked at the server (RFC 7009).

        Whatever the server says it is over here, and a renewal under way does not bring it back. After that a grant
        that logs somebody in does so again only after `warm` or `set_token`; a request raises
        `ReauthenticationRequired`. Client credentials simply get a new token.

        Returns:
            Whether the server agreed; False if it refused, was not reached, or has no way to be told.
        """
        agreed: bool = self._driver(ThreadDriver).run(leave(self._own))
        return agreed

    async def arevoke(self) -> bool:
        """As `revoke`."""
        agreed: bool = await self._driver(LoopDriver).run(leave(self._own))
        return agreed

    def introspect(self, token: str | None = None) -> dict[str, Any]:
        """What the authorization server says of a token (RFC 7662): "active", and whatever else it tells this client.

        Args:
            token: the token; None: the access token at hand, got if there is none.

        Raises:
            ConfigurationError: the grant has no authorization server, or that has no introspection endpoint.
            TokenFlowError: the server refused, or was not reached.
        """
        answer: dict[str, Any] = self._driver(ThreadDriver).run(self._introspection(token))
        return answer

    async def aintrospect(self, token: str | None = None) -> dict[str, Any]:
        """As `introspect`."""
        answer: dict[str, Any] = await self._driver(LoopDriver).run(self._introspection(token))
        return answer

    def _introspection(self, token: str | None) -> Generator[Step, Any, dict[str, Any]]:
        introspect = getattr(self._own.grant, "introspect", None)
        if introspect is None:
            raise ConfigurationError(f"{type(self._own.grant).__name__} has nobody to ask about a token")
        held = self._source.held
        if token is None:
            held = yield from current(self._own)
            token = held.entry.token.access_token
        attempt = self._own.attempt(None if held is None else held.entry, self._policy.budget)
        asking: Generator[Step, Any, dict[str, Any]] = introspect(attempt, token)
        return (yield from guarded(asking))

    def close(self) -> None:
        """Wait for a renewal in the air, 5 s at most, and save what the store would not take before.

        Nothing else of ours is left open, and a later use goes on as before. The store, which others may share, is the
        program's to close.
        """
        driver = self._driver(ThreadDriver)
        driver.settle()
        driver.run(save_unsaved(self._source))

    async def aclose(self) -> None:
        """As `close`."""
        driver = self._driver(LoopDriver)
        await driver.settle()
        await driver.run(save_unsaved(self._source))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def _bearer_of(token: Token) -> str:
    return bearer(token.access_token)


def _dpop_of(token: Token) -> str:
    return f"DPoP {check_credential(token.access_token, 'the token')}"


def _cookie_of(token: Token) -> str:
    return cookie_value(token.access_token)


def fingerprint(grant: Grant, token: Token | None, dpop: DPoP | None = None) -> str:
    """The hash of everything that makes two tokens different; of JSON, so that nothing runs together (F10 to F12)."""
    identity = {"version": 1, **grant.identity()}
    if dpop is not None:
        identity["dpop"] = dpop.identity() or "a key of its own"
    if grant.spends and identity.get("subject") is None and token is not None:
        identity["session"] = token.session
    try:
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    except TypeError as error:
        raise ConfigurationError(f"{type(grant).__name__}.identity() has something that JSON cannot hold") from error


def _entry_of(token: Token, policy: RenewalPolicy, kinds: frozenset[str]) -> Entry:
    if not isinstance(token, Token):
        raise ConfigurationError(f"token must be a Token, not {type(token).__name__}: Token(access_token=…)")
    if str(token.token_type).lower() not in kinds:
        # RFC 6749 §7.1; and a token that is bound to a key is not to be shown as one that is not (RFC 9449 §7.1).
        hint = "give dpop=" if str(token.token_type).lower() == "dpop" else "it is sent as a bearer token"
        raise ConfigurationError(f"token= is of type {token.token_type!r}, which is not how it would be sent: {hint}")
    return Entry.of_login(token, policy.clock.wall())


def _has_side(store: Any, prefix: str) -> bool:
    return all(callable(getattr(store, f"{prefix}{verb}", None)) for verb in ("load", "save", "delete", "lease"))


def _check_arguments(grant: Any, token: Any, store: Any, policy: Any, should_renew: Any) -> None:
    if isinstance(grant, type) or not (callable(getattr(grant, "obtain", None)) and hasattr(grant, "spends")):
        raise ConfigurationError(
            "TokenAuth needs a grant, such as ClientCredentials(…) or RefreshToken(…); and auth= needs an object, "
            "TokenAuth(grant), not the class"
        )
    if store is not None and (isinstance(store, type) or not any(_has_side(store, prefix) for prefix in ("", "a"))):
        raise ConfigurationError(
            "store= needs load, save, delete and lease, or aload, asave, adelete and alease: give one of "
            "httpx_tokenflow.stores, an object and not its class"
        )
    if not isinstance(policy, RenewalPolicy):
        raise ConfigurationError("policy= must be a RenewalPolicy")
    if should_renew is not None and not callable(should_renew):
        raise ConfigurationError("should_renew= must be a predicate of the response")
    if token is not None and not isinstance(token, Token):
        raise ConfigurationError("token= must be a Token: Token(access_token=…, refresh_token=…)")
