"""`Sandbox`: the server as a test has it. What happens to a request is in `_arrivals`, what it is told in `_app`."""

import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from . import _asgi
from ._app import App
from ._arrivals import Arrivals, Counted, check_endpoint
from ._faults import Fault
from ._keys import KeyRing
from ._oauth import metadata, token_answer
from ._record import Record, Seen
from ._state import DEFAULT_AUDIENCE, Tokens, Wanted

_SOMEWHERE = "https://sandbox"


class Sandbox:
    """An authorization server and a protected API in one ASGI app.

    Use it in memory (`transport`), over real loopback HTTP (`serve`), or under any ASGI 3 server. Routes:

    * ``POST /token``: client credentials and refresh token (RFC 6749 §4.4 and §6), errors by §5.2. Clients
      authenticate by Basic, in the body or, when their secret is ``""``, not at all. A client-credentials
      answer has no refresh token; without rotation a refresh answer has none either (the client keeps the one
      that it has, §6). Also token exchange (RFC 8693) and JWT bearer on behalf of somebody: an access token of this
      server for another with the same subject. That is opaque, or a JWT when the request says so by
      ``requested_token_type=urn:ietf:params:oauth:token-type:jwt``.
    * ``POST /introspect`` (RFC 7662) and ``POST /revoke`` (RFC 7009), for clients as above.
    * ``/jwks``, ``/.well-known/oauth-authorization-server`` and ``/.well-known/openid-configuration``.
    * ``/api/…``, any method: 200 for a good bearer token, with JSON that names ``subject``, ``client_id``,
      ``scope``, ``path``, ``method`` and ``received``, the number of bytes in the body; otherwise 401 (RFC
      6750 §3).
    * ``/api-key/…``: the same for ``X-API-Key: key`` or ``?api_key=key``.
    * ``/redirect?to=URL&status=302``, ``/echo`` (the headers as JSON) and ``/open/…`` need no credential.
    * ``POST /session/login``, ``/session/refresh`` and ``/session/logout``: an API's own login in plain JSON, without
      OAuth. The login takes ``{"username": …, "password": …}`` and answers ``accessToken``, ``refreshToken`` and
      ``expiresIn``, as the refresh does for ``{"refreshToken": …}``; the logout takes the access token. With
      ``?cookies=refresh`` the refresh token comes, and is sent back, as the httpOnly cookie ``refresh`` instead; with
      ``?cookies=both`` the access token is the cookie ``access`` as well, and the body says nothing. Rotation and
      lifetime are those of the token endpoint; a refusal is a 401 with a ``message``.

    Every answer has a ``Date`` by the sandbox's clock; under a server other than that of `serve`, switch the
    server's own off. All methods may be called from any thread.

    Args:
        lifetime: seconds that an access token is good for; None: for ever, and the answer has no
            ``expires_in``.
        rotate: each refresh retires the refresh token presented, and presenting a retired one revokes its
            whole family (RFC 9700 §4.14.2).
        newest_only: the API refuses every token but the newest of its subject and client.
        clients: client id -> secret, ``""`` for a public client; ``{"client": "secret"}`` unless told.
        accounts: username -> password, for ``/session/login``; ``{"user": "password"}`` unless told.
        clock: gives Unix seconds.
        latency: seconds added to each answer of the token endpoint, and of ``/session/login`` and ``/session/refresh``;
            the request is processed on arrival.
        api_latency: seconds added to each answer of the API.
        issuer: what the server calls itself; None: its `url`.
        jwt_access_tokens: all access tokens are JWTs, as those of `mint`; that needs the extra ``crypto``.

    Attributes:
        url: where it is; `serve` says so, or whoever else serves it. ``"https://sandbox"`` to begin with, or the origin
            of the ``issuer``.
        clients: the clients, a dict that may be changed at any time, say to rotate a secret.
        accounts: the accounts, a dict that may be changed at any time.
        api_keys: the keys that ``/api-key/…`` accepts, a set that may be changed; ``{"key"}`` to begin with.
        token_requests: POSTs that reached ``/token``, also those that a fault dropped.
        session_logins: POSTs that reached ``/session/login``, as for `session_refreshes` and `session_logouts`.
        api_requests: requests that reached ``/api/…`` or ``/api-key/…``.
        api_refused: 401s that the API answered.
        jwks_requests: requests that reached ``/jwks``.
        metadata_requests: requests that reached the metadata at either place.
        introspections: POSTs that reached ``/introspect``.
        revocations: POSTs that reached ``/revoke``.
    """

    token_requests: Counted = Counted("token")
    session_logins: Counted = Counted("login")
    session_refreshes: Counted = Counted("refresh")
    session_logouts: Counted = Counted("logout")
    api_requests: Counted = Counted("api")
    api_refused: Counted = Counted("refused")
    jwks_requests: Counted = Counted("jwks")
    metadata_requests: Counted = Counted("metadata")
    introspections: Counted = Counted("introspect")
    revocations: Counted = Counted("revoke")

    def __init__(
        self,
        *,
        lifetime: float | None = 3600.0,
        rotate: bool = True,
        newest_only: bool = False,
        clients: Mapping[str, str] | None = None,
        accounts: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        latency: float = 0.0,
        api_latency: float = 0.0,
        issuer: str | None = None,
        jwt_access_tokens: bool = False,
    ) -> None:
        self.url: str = _SOMEWHERE if issuer is None else "{0.scheme}://{0.netloc}".format(urlsplit(issuer))
        self.clients: dict[str, str] = dict({"client": "secret"} if clients is None else clients)
        self.accounts: dict[str, str] = dict({"user": "password"} if accounts is None else accounts)
        self.api_keys: set[str] = {"key"}
        self._lock = threading.Lock()
        self._clock = clock
        self._issuer = issuer
        self._keys = KeyRing()
        self._tokens = Tokens(
            lifetime=lifetime,
            rotate=rotate,
            newest_only=newest_only,
            sign=self._keys.sign,
            issuer=lambda: self.issuer,
            signed=jwt_access_tokens,
        )
        app = App(
            self._tokens,
            clients=self.clients,
            api_keys=self.api_keys,
            accounts=self.accounts,
            documents={"jwks": self._keys.jwks, "metadata": lambda: metadata(self.issuer, self.url)},
        )
        waits: dict[str | None, float] = {**dict.fromkeys(("token", "login", "refresh"), latency), "api": api_latency}
        self._arrivals = Arrivals(app, clock, waits, self._lock)

    def __repr__(self) -> str:
        return (
            f"<Sandbox {self.token_requests} token requests, {self.tokens_issued} tokens issued, "
            f"{self.api_requests} API requests, {self.api_refused} refused>"
        )

    # What it saw

    def reset_counters(self) -> None:
        """Set all counters to zero and forget what was seen; tokens and scripts stay as they are."""
        with self._lock:
            self._arrivals.record = Record()
            self._tokens.issued = 0
            self._tokens.families_revoked = 0
            self._tokens.exchanges.clear()

    @property
    def issuer(self) -> str:
        """What the server calls itself: the ``iss`` of its tokens."""
        return self.url if self._issuer is None else self._issuer

    @property
    def exchanges(self) -> Counter[str]:
        """How often a subject's token was exchanged for another: a copy."""
        with self._lock:
            return self._tokens.exchanges.copy()

    @property
    def tokens_issued(self) -> int:
        """Access tokens issued so far, by the token endpoint, by ``/session/…``, by `login` and by `mint`."""
        return self._tokens.issued

    @property
    def families_revoked(self) -> int:
        """Families revoked so far, for a retired refresh token presented again or by `revoke_family`."""
        return self._tokens.families_revoked

    @property
    def seen(self) -> list[Seen]:
        """The requests in the order of their arrival: a copy, of the newest 10,000."""
        with self._lock:
            return list(self._arrivals.record.seen)

    # What a test arranges

    def login(self, subject: str = "user", *, client_id: str = "client", scope: str = "") -> dict[str, Any]:
        """Start a family of tokens, as an interactive login does; not counted as a token request.

        Args:
            subject: whom the tokens stand for.
            client_id: the client that may refresh them.
            scope: the scope granted, space-separated; empty: unnamed, and a refresh may ask for any.

        Returns:
            A token endpoint's answer: ``access_token``, ``refresh_token``, ``token_type``, and ``expires_in``
            and ``scope`` when there is something to say.

        Raises:
            ValueError: no such client.
        """
        if client_id not in self.clients:
            raise ValueError(f"no client {client_id!r} here: name one of {sorted(self.clients)}")
        now = self._clock()
        with self._lock:
            return token_answer(self._tokens.login(subject, client_id, scope, now))

    def mint(
        self,
        subject: str = "user",
        *,
        audience: str | tuple[str, ...] = DEFAULT_AUDIENCE,
        scope: str = "",
        client_id: str = "client",
        lifetime: float | None = None,
        **claims: Any,
    ) -> str:
        """Make a JWT access token (RFC 9068), as somebody sends it who calls your service; needs the extra ``crypto``.

        It is good at ``/api/…``, for introspection and as the subject of an exchange, too.

        Args:
            subject: whom it stands for, its ``sub``.
            audience: whom it is for, its ``aud``; a tuple becomes a list.
            scope: space-separated; empty: it has none.
            client_id: who has asked for it.
            lifetime: seconds, a negative number for one that has expired; None: as the server's other tokens.
            **claims: further claims, or others in place of these; one that is None is left out. With another ``iss``
                the token is not this server's any more.

        Raises:
            ConfigurationError: the extra ``crypto`` is not installed.
        """
        several = (audience,) if isinstance(audience, str) else audience
        wanted = Wanted(subject, client_id, scope, several, signed=True, lifetime=lifetime, claims=claims)
        now = self._clock()
        with self._lock:
            return self._tokens.issue(wanted, now).access_token

    def rotate_keys(self, *, keep_old: bool = True) -> None:
        """Sign with another key from now on; the first sandbox of a process to use a key makes it, for all.

        Args:
            keep_old: the JWKS still has the keys until now; otherwise the JWTs until now are revoked with them.
        """
        with self._lock:
            self._keys.rotate(keep_old=keep_old)
            if not keep_old:
                self._tokens.revoke_signed()

    def expire_access_tokens(self) -> None:
        """Refuse all access tokens issued so far, as expired."""
        with self._lock:
            self._tokens.expire_all()

    def revoke_access_tokens(self) -> None:
        """Refuse all access tokens issued so far, as revoked; their refresh tokens stay good."""
        with self._lock:
            self._tokens.revoke_all()

    def revoke_family(self, refresh_token: str) -> None:
        """Revoke a login: its refresh token, retired or not, and all its access tokens.

        Raises:
            ValueError: this server never issued that refresh token.
        """
        with self._lock:
            self._tokens.revoke_family(refresh_token)

    def is_alive(self, refresh_token: str) -> bool:
        """Whether this refresh token's family is known and not revoked; the token itself may be retired."""
        with self._lock:
            family = self._tokens.family(refresh_token)
            return family is not None and not family.revoked

    def script(self, *faults: Fault, on: str = "token") -> None:
        """Let things go wrong: each following request takes one fault, then all is normal again.

        Args:
            faults: in the order in which they happen, after those still waiting.
            on: ``"token"``, the token endpoint; ``"introspect"``, ``"revoke"``, ``"jwks"`` or ``"metadata"``;
                ``"login"``, ``"refresh"`` or ``"logout"`` of ``/session/``; or ``"api"``, everything under ``/api/``
                and ``/api-key/``.

        Raises:
            ValueError: ``on`` is something else.
        """
        self._arrivals.script(faults, on)

    @property
    def unused_faults(self) -> dict[str, list[Fault]]:
        """The scripted faults that have not happened yet, by endpoint; empty when all have."""
        return self._arrivals.unused()

    # How it is reached

    def transport(self, library: ModuleType | None = None) -> Any:
        """Make an in-memory transport: ``httpx.Client(transport=sandbox.transport())``.

        One object serves sync and async clients, on asyncio and trio. It reads a request's body as a network
        transport does, once; it drops connections by the library's ``RemoteProtocolError``, and a wait longer
        than the request's read timeout ends in its ``ReadTimeout``.

        Args:
            library: ``httpx``, or a module with the same classes, such as ``httpx2``; None: ``httpx``.

        Returns:
            An object that is a ``BaseTransport`` and an ``AsyncBaseTransport`` of that library.
        """
        from ._transport import transport_class

        if library is None:
            import httpx as library
        return transport_class(library)(self._arrivals)

    def handler(self, on: str | None = None) -> Callable[[Any], Any]:
        """Make a function that answers a request object: for who mocks an HTTP library, and sync code.

        It goes into ``respx.post(…).mock(side_effect=…)``, ``httpx_mock.add_callback(…)`` of pytest-httpx and
        pytest-httpx2, and ``MockTransport(…)`` of either library. It answers with that library's ``Response`` and fails
        with its exceptions. What is slow blocks the thread: in async code use `ahandler`.

        Args:
            on: the endpoint that it stands for, whatever the URL's path is, by its name as for `script`; None: the path
                says so.

        Raises:
            ValueError: ``on`` is something else.
        """
        from ._transport import answer

        if on is not None:
            check_endpoint(on)
        return lambda request: answer(self._arrivals, request, on)

    def ahandler(self, on: str | None = None) -> Callable[[Any], Awaitable[Any]]:
        """Make a coroutine function that answers a request object: as `handler`, for async code."""
        from ._transport import aanswer

        if on is not None:
            check_endpoint(on)

        async def answer(request: Any) -> Any:
            return await aanswer(self._arrivals, request, on)

        return answer

    async def __call__(self, scope: _asgi.Scope, receive: _asgi.Receive, send: _asgi.Send) -> None:
        """Serve one request as an ASGI 3 app, or the lifespan of the server.

        Raises:
            ConnectionAbortedError: a fault closes the connection, under a server other than that of `serve`.
            NotImplementedError: the scope is neither ``http`` nor ``lifespan``.
        """
        if scope["type"] == "lifespan":
            await _asgi.lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"no {scope['type']} here")
        method, path, query = scope["method"], scope["path"], scope["query_string"].decode("latin-1")
        headers = _asgi.lower(scope["headers"])
        body, whole = await _asgi.read_body(receive)
        if whole:
            delivery = self._arrivals.take(method, path, query, headers, body)
            await _asgi.carry(delivery, scope, receive, send)
        else:
            self._arrivals.broke_off(method, path, query, headers, body)
