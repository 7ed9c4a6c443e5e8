"""On behalf of: the token that came in, exchanged for one that upstream APIs take.

Rules.

1. The key is the incoming token itself. Another token of the same person may be good for more, or for less, so no two
   share anything: what a grant says of itself has to have the token's SHA-256 in it, as the `identity()` of ours has
   where they are given a string; a grant that would be the same for two callers is refused before it is used.
2. Nobody is served without an incoming token that is good now. What it was exchanged for may live longer, but there is
   no way to it but through the guard. So the end of the one is no end for the other: a cap would make renewals more and
   more frequent while the end comes near, and keep nobody out.
3. What has ended goes: each request sweeps away a few of what ended before it, the auth and, out of a `MemoryStore`,
   the token. From another store it goes when that forgets it, which a `FileStore` never does by itself.
4. No more than `limit` are kept. Beyond that the one that was used least recently goes, and is exchanged again when it
   comes back, unless a store that was given still has it. Whoever has an auth in hand goes on with it.
5. Requests of one caller share one exchange, and replicas that share a store do too. It is not torn where one of them,
   or all, hang up.
6. Without a store that was given, a caller's tokens live in their auth, and nowhere else: whatever lets go of the one
   lets go of the others, those of `using`, and what an exchange in the air has yet to bring.
7. A grant that needs a person, or that uses up a refresh token, has no place here.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import anyio

from httpx_tokenflow import AuthCache, ConfigurationError, RenewalPolicy, TokenAuth
from httpx_tokenflow._forks import renew_after_fork
from httpx_tokenflow.stores import MemoryStore

from ._cookies import keep_no_cookies
from ._of_caller import CallersTokenAuth, Worked, check_caller, checked_origins, signature_behind

if TYPE_CHECKING:
    import inspect
    import ssl
    from collections.abc import Callable, Iterable

    from httpx_tokenflow import DPoP
    from httpx_tokenflow._grants import Grant
    from httpx_tokenflow._sources import TokenSource
    from httpx_tokenflow.events import Event
    from httpx_tokenflow.stores import AsyncStore, Store

    from ._caller import Caller

__all__ = ["OnBehalfOf"]

_SWEPT = 64  # by one request, of which each brings in no more than one
_CLOSING = 10.0  # seconds; what is late lands by itself, and nothing here is the only copy of a session


class OnBehalfOf:
    """A dependency that gives a `TokenAuth` for whoever sent the request, by the token that they sent (RFC 8693).

        exchange = TokenExchange(TOKEN_URL, client_id="orders", client_secret=SECRET, audience="billing")
        on_behalf = OnBehalfOf(guard, exchange.for_subject, origins=("https://billing.example.com",))

        @app.get("/invoices")
        async def invoices(auth: Annotated[TokenAuth, Depends(on_behalf)], billing: Billing) -> Any:
            return (await billing.get("/invoices", auth=auth)).raise_for_status().json()

    `billing` is a client that all share, such as that of `Upstreams.client`. A client of your own must keep no cookies:
    an upstream's session cookie would go with everybody's requests, and make each caller whoever came first
    (``client.cookies.jar.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))``).

    With Entra ID the grant is
    ``JWTBearer(TOKEN_URL, client_id=…, client_secret=…, scope=…, extra={"requested_token_use": "on_behalf_of"})``.
    Which scope the incoming token needs is for the route to say: ``Security(on_behalf, scopes=["invoices"])``. Without
    FastAPI: ``auth = await on_behalf(caller)``. In a lifespan: ``async with upstreams.lifespan(app), on_behalf:``.

    Args:
        guard: the dependency that gives the `Caller`, a `Guard`.
        make_grant: makes the grant of an incoming token, such as `TokenExchange.for_subject` or
            `JWTBearer.for_subject`; or an object that has that. Not async, and quick.
        origins: where the tokens may go, such as ``("https://billing.example.com",)``. They are other people's: there
            is no default.
        store: where they live, shared with replicas; best one that forgets, such as a `RedisStore`: a `FileStore` keeps
            the file of each token that has ended, and a `MemoryStore` needs a `limit` for what `using` brings. None: in
            memory, for `limit` callers at most.
        limit: how many callers' auths are kept at most. Default 10,000.
        policy: as for `TokenAuth`; its clock says when an incoming token has ended.
        client: as for `TokenAuth`; it keeps no cookies from then on, or those of one caller's exchange would go with
            the next one's.
        verify: as for `TokenAuth`.
        on_event: as for `TokenAuth`; told of all of them.
        dpop: as for `TokenAuth`.

    Raises:
        ConfigurationError: an argument is missing or is none; later, as an answer to a request: `make_grant` gave what
            is no grant for a caller (rules 1 and 7).
    """

    def __init__(
        self,
        guard: Callable[..., Any],
        make_grant: Callable[[str], Grant] | Any,
        *,
        origins: Iterable[str],
        store: Store | AsyncStore | None = None,
        limit: int = 10_000,
        policy: RenewalPolicy | None = None,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        on_event: Callable[[Event], object] | None = None,
        dpop: DPoP | None = None,
    ) -> None:
        make_grant = getattr(make_grant, "for_subject", make_grant)
        if not callable(make_grant):
            raise ConfigurationError(
                "make_grant must be a function of a token that returns a grant, or have for_subject()"
            )
        self._origins = checked_origins(origins)
        self.__signature__: inspect.Signature = signature_behind(guard)
        self._guard = guard
        self._make_grant = make_grant
        self._policy = policy or RenewalPolicy()
        self._auths = AuthCache(self._make, limit=limit)
        # What TokenAuth says of its arguments is said now, not to the first caller.
        TokenAuth(_Trial(), store=store, policy=self._policy, origins=self._origins, dpop=dpop, client=client,
                  verify=verify, on_event=on_event)  # fmt: skip
        self._limit = limit
        self._store = store
        if client is not None:
            keep_no_cookies(client)
        self._worked = Worked()
        self._client, self._verify, self._dpop, self._on_event = client, verify, dpop, on_event
        self._ends: list[_End] = []  # a heap
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # for the heap

    def __repr__(self) -> str:
        return f"<OnBehalfOf {len(self._auths)} callers, {self._limit} at most>"

    async def __call__(self, caller: Caller) -> TokenAuth:
        """The auth of `caller`.

        Raises:
            RefusedToken: their token has ended: 401 invalid_token.
            ConfigurationError: there is no Caller, or no grant for them.
        """
        now = self._policy.clock.wall()
        self._sweep(now)
        caller = check_caller(caller, now, self._guard)
        return self._auths[_Incoming(caller.token, caller.expires_at)]

    def discard(self, caller: Caller) -> None:
        """Let go of what `caller`'s token was exchanged for, at a logout: another request with it is another exchange.

        A request that is under way may still be served, and where it waits for an exchange it makes one more: with a
        `store=` what that brings is found by the next one. In a store that is no `MemoryStore` all stays until it ends:
        `adiscard` takes it out of there.
        """
        self._discard(_Incoming(caller.token, caller.expires_at))

    async def adiscard(self, caller: Caller) -> bool:
        """As `discard`, out of any store, and revoked at the server, where the grant can (RFC 7009).

        What `TokenAuth.using` brought is not looked for in a store that was given.

        Returns:
            Whether the server agreed, as `TokenAuth.revoke`.

        Raises:
            ConfigurationError: `make_grant` gave what is no grant for a caller.
        """
        incoming = _Incoming(caller.token, caller.expires_at)
        auth = self._auths[incoming]
        self._auths.discard(incoming)
        agreed = await auth.arevoke()
        self._discard(incoming)
        return agreed

    def _discard(self, incoming: _Incoming) -> None:
        self._auths.discard(incoming)
        if self._store is not None:
            self._forget(self._built(incoming)._source)  # noqa: SLF001 - the one that all auths of this caller share

    def _forget(self, source: TokenSource) -> None:
        """Forget what `source` has, and what it is about to get."""
        flight = source.flight
        source.leave()
        self._delete(source.fingerprint)
        if flight is not None:  # it saves first, and lands then
            flight.future.add_done_callback(lambda _: self._forget(source))

    async def aclose(self) -> None:
        """Wait for exchanges in the air, 10 s at most for all, and let all auths go; a later use makes them anew."""
        with anyio.move_on_after(_CLOSING):
            await self._auths.aclose()
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            self._delete(end.fingerprint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def _make(self, incoming: _Incoming) -> TokenAuth:
        """The auth of a token that is seen for the first time."""
        auth = self._built(incoming)
        if incoming.expires_at is not None:
            fingerprint = auth._source.fingerprint  # noqa: SLF001 - to reckon it again would cost as much as the rest
            self._note(_End(incoming.expires_at, incoming.digest, incoming, fingerprint))
        return auth

    def _built(self, incoming: _Incoming) -> TokenAuth:
        grant = self._make_grant(incoming.token)
        said = _checked_identity(grant, incoming)
        return CallersTokenAuth(
            grant,
            store=self._store,
            policy=self._policy,
            origins=self._origins,
            dpop=self._dpop,
            client=self._client,
            verify=self._verify,
            on_event=self._on_event,
            worked=self._worked,
            # One that `make_grant` has chosen otherwise may be wrong by itself.
            way=said.replace(incoming.digest, ""),
        )

    def _note(self, end: _End) -> None:
        """Have `end` swept in time; and what is kept no more, forgotten."""
        gone: list[_End] = []
        with self._lock:
            heapq.heappush(self._ends, end)
            if len(self._ends) > 2 * self._limit + _SWEPT:
                kept = {one.incoming: one for one in self._ends if one.incoming in self._auths or one is end}
                gone = [one for one in self._ends if one.incoming not in kept]
                self._ends = list(kept.values())
                heapq.heapify(self._ends)
        for one in gone:
            self._delete(one.fingerprint)

    def _sweep(self, now: float) -> None:
        """Let go of what has ended (rule 3)."""
        over: list[_End] = []
        with self._lock:
            while self._ends and self._ends[0].at <= now and len(over) < _SWEPT:
                over.append(heapq.heappop(self._ends))
        for end in over:
            self._auths.discard(end.incoming)
            if not self._delete(end.fingerprint) and not end.is_late:
                with self._lock:  # its exchange may be in the air: once more, when that is over
                    heapq.heappush(self._ends, end._replace(at=now + self._policy.budget, is_late=True))

    def _delete(self, fingerprint: str) -> bool:
        """Delete it from a `MemoryStore` that was given; False: it is not there, and may be yet to come."""
        store = self._store
        if not isinstance(store, MemoryStore):
            return True
        entry = store.load(fingerprint)
        return entry is not None and store.delete(fingerprint, fence=entry.fence)


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A token that came in; the same as another only if it is that very token (rule 1)."""

    token: str = field(repr=False)
    expires_at: float | None = field(compare=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.token.encode()).hexdigest()


class _Trial:
    """A grant that is never asked, to try arguments with."""

    spends = False

    def identity(self) -> dict[str, Any]:
        return {"trial": True}

    def obtain(self, attempt: Any) -> Any:
        raise NotImplementedError


class _End(NamedTuple):
    """When a caller's auth is to go; the digest decides where two end at once."""

    at: float
    digest: str
    incoming: _Incoming
    fingerprint: str
    is_late: bool = False


def _checked_identity(grant: Any, incoming: _Incoming) -> str:
    """What `grant` says of itself, if it is one for this caller alone, and needs nothing but the token (rules 1, 7)."""
    if not callable(getattr(grant, "obtain", None)) or not callable(getattr(grant, "identity", None)):
        raise ConfigurationError(f"make_grant must return a grant, and not be async; not {type(grant).__name__}")
    name = type(grant).__name__
    if getattr(grant, "spends", False) or getattr(grant, "logs_in", False):
        raise ConfigurationError(
            f"{name} needs a person, or uses up a refresh token: on behalf of a caller goes TokenExchange or JWTBearer"
        )
    # A lookup in text, since what is in an identity, and where, is the grant's own business.
    said = json.dumps(grant.identity(), default=str)
    if incoming.digest not in said:
        raise ConfigurationError(
            f"the {name} that make_grant returned is not this caller's alone: hand the token that it is given on as a "
            "string (subject_token=, assertion=), and leave subject_key= out; a grant of your own has to have the "
            "token's SHA-256 (hex) in its identity()"
        )
    return said
