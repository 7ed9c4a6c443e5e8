"""The client for the authorization server.

Rules.

1. Token requests, and all others to an authorization server, never go through the client of the request that needs
   them: its hooks, cookies, redirects, history and pool are not for secrets (failures F16, F18, F26). They go through a
   client of our own, which keeps no cookies, or through the one that the program gave for this; never with an `auth`,
   never following a redirect.
2. One time limit over all of a request, whatever the server does, and a bound on the answer's size. The library's own
   timeouts hold for each read alone, so a sync request works in a thread of its own, which is given up when it is late:
   a thread cannot be stopped, but our own client is closed under it.
3. Our own keeps no connection open. Renewals are minutes apart, servers give idle connections up sooner, and a token
   request on a connection that has just been given up ends with the outcome unknown, the worst of the three.
4. So our own lives for one request: it is nobody else's to close, and there is none among 100,000 idle tenants. What is
   dear is the trust in the world's authorities (40 ms, half a megabyte): all share that.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
import weakref
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from ._answers import ServerResponse
from ._bodies import unpacked
from ._errors import ConfigurationError, TokenEndpointUnavailable
from ._forks import renew_after_fork
from ._libraries import library_of
from ._loops import begin

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from ._lifecycle import RenewalPolicy
    from ._steps import ServerRequest

__all__ = ["TokenClient"]

_T = TypeVar("_T")
_Key = tuple[str, str, str | None, str | None]


class Certificate(Protocol):
    """A client's certificate, which may change while the program runs."""

    def load(self, context: ssl.SSLContext) -> None:
        """Have `context` present it, as it is now."""


MAX_RESPONSE = 1 << 20  # bytes of a token endpoint's answer

LATE = 0.3  # seconds by which our limit comes after the library's own, whose error says more

_BARE: dict[str, Any] = {"auth": None, "follow_redirects": False}  # rule 1


class TokenClient:
    """Sends requests to an authorization server: through the program's client, or through our own.

    Args:
        client: an httpx or httpx2 client, sync or async, used as it is and never closed; None for our own.
        verify: how our own verifies certificates: True, or an ``ssl.SSLContext``.
        policy: for `connect_timeout`.
        certificate: the client's own, for mutual TLS (RFC 8705 §2); or None.
    """

    __slots__ = ("__weakref__", "_certificate", "_client", "_connect_timeout", "_is_async", "_verify")

    def __init__(self, client: Any, verify: Any, policy: RenewalPolicy, certificate: Certificate | None = None) -> None:
        if client is not None and verify is not True:
            raise ConfigurationError("verify= and client= contradict each other: that client has its own TLS")
        if client is not None and certificate is not None:
            raise ConfigurationError(
                "TLSClientAuth and client= contradict each other: that client has its own TLS; give it the certificate"
            )
        if client is not None and not callable(getattr(client, "build_request", None)):
            raise ConfigurationError("client= must be a client of httpx or httpx2")
        self._client = client
        self._is_async = client is not None and isinstance(client, library_of(client).AsyncClient)
        self._verify = verify
        self._certificate = certificate
        self._connect_timeout = policy.connect_timeout

    @classmethod
    def of(cls, client: Any, verify: Any, policy: RenewalPolicy, certificate: Certificate | None) -> TokenClient:
        """One for all who give the same."""
        # It keeps what it was given alive, so the ids are their own for as long as it is here.
        key = id(client), id(verify), policy.connect_timeout, id(certificate)
        found = _clients.get(key)
        if found is None:
            found = _clients[key] = cls(client, verify, policy, certificate)
        return found

    def send(self, request: ServerRequest, timeout: float, library: ModuleType) -> ServerResponse:
        """Send `request` and read the answer, in `timeout` seconds; raises what the library raises."""
        if self._client is not None:
            if self._is_async:
                raise ConfigurationError(
                    "client= is an async client, and this is a sync use: give TokenAuth a sync client"
                )
            return _within(timeout + LATE, self._exchange, self._client, request, timeout)
        scheme = _scheme_of(request)
        with library.Client(**_ours(library, scheme, self._tls(library, scheme))) as client:
            return _within(timeout + LATE, self._exchange, client, request, timeout)

    def _exchange(self, client: Any, request: ServerRequest, timeout: float) -> ServerResponse:
        deadline = time.monotonic() + timeout
        response = client.send(self._build(client, request, timeout), stream=True, **_BARE)
        body = _Bounded()
        try:
            if response.is_stream_consumed:  # by a transport that answers from memory
                body.add(response.content, is_plain=True)
            else:
                for chunk in response.iter_raw():
                    body.add(chunk)
                    if time.monotonic() > deadline:
                        raise TimeoutError
        finally:
            response.close()
        return _plain(response, body)

    async def asend(self, request: ServerRequest, timeout: float, library: ModuleType) -> ServerResponse:  # noqa: ASYNC109
        """As `send`; a sync client works in a thread, so that the loop does not stop."""
        if self._client is not None:
            return await self._aexchange(self._client, request, timeout)
        scheme = _scheme_of(request)
        if self._certificate is not None or (self._verify is True and not _trust.has(library, scheme)):
            # Reading the certificates of the world takes 40 ms, in which no loop should stand still.
            tls = await _in_thread(self._tls, library, scheme)
        else:
            tls = self._tls(library, scheme)
        async with library.AsyncClient(**_ours(library, scheme, tls)) as client:
            return await self._aexchange(client, request, timeout)

    async def _aexchange(self, client: Any, request: ServerRequest, timeout: float) -> ServerResponse:  # noqa: ASYNC109
        with anyio.fail_after(timeout + LATE):
            if self._client is not None and not self._is_async:
                return await _in_thread(self._exchange, client, request, timeout)
            response = await client.send(self._build(client, request, timeout), stream=True, **_BARE)
            body = _Bounded()
            try:
                if response.is_stream_consumed:
                    body.add(response.content, is_plain=True)
                else:
                    async for chunk in response.aiter_raw():
                        body.add(chunk)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
            return _plain(response, body)

    def _tls(self, library: ModuleType, scheme: str) -> Any:
        """Whom our own clients trust, and what they present."""
        context = _trust.of(library, scheme, self._certificate) if self._verify is True else self._verify
        if self._certificate is not None:
            self._certificate.load(context)
        return context

    def _build(self, client: Any, request: ServerRequest, timeout: float) -> Any:
        connect = min(self._connect_timeout, timeout)
        content = {"json": request.json} if request.json is not None else {"data": _form(request)}
        return client.build_request(
            request.method,
            request.url,
            **(content if request.method == "POST" else {}),
            headers=[("Accept", "application/json"), ("Accept-Encoding", "identity"), *request.headers],
            timeout=library_of(client).Timeout(timeout, connect=connect),
        )


_clients: weakref.WeakValueDictionary[tuple[int, int, float, int], TokenClient] = weakref.WeakValueDictionary()


class _Trust:
    """The SSL contexts of all who verify as their library does; each certificate has its own."""

    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._everybodys: dict[_Key, ssl.SSLContext] = {}
        self._by_certificate: weakref.WeakKeyDictionary[Certificate, dict[_Key, ssl.SSLContext]]
        self._by_certificate = weakref.WeakKeyDictionary()

    def has(self, library: ModuleType, scheme: str) -> bool:
        """Whether it is at hand for who has no certificate."""
        return _key(library, scheme) in self._everybodys

    def of(self, library: ModuleType, scheme: str, certificate: Certificate | None) -> ssl.SSLContext:
        """The one for `certificate`; over plain http, to loopback, nobody has to be trusted, and nobody is."""
        key = _key(library, scheme)
        with self._lock:
            known = self._everybodys if certificate is None else self._by_certificate.setdefault(certificate, {})
            if key not in known:
                is_plain = scheme == "http"
                known[key] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else library.create_ssl_context()
            return known[key]


_trust = _Trust()


class _Bounded:
    """A body that grows no larger than an honest token endpoint's answer."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.is_plain = False  # without the content coding of the wire

    def add(self, chunk: bytes, *, is_plain: bool = False) -> None:
        self.is_plain = is_plain
        self.size += len(chunk)
        if self.size > MAX_RESPONSE:
            raise _too_much(f"is larger than {MAX_RESPONSE} bytes")
        self.chunks.append(chunk)


def _within(seconds: float, function: Callable[..., _T], *arguments: Any) -> _T:
    """What `function` returns, in a thread of its own; `TimeoutError` if it is late."""
    try:
        future = begin(function, *arguments)
    except RuntimeError:  # no more threads to be had
        return function(*arguments)
    return future.result(seconds)


async def _in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    import anyio.to_thread  # 4 ms that only those pay who come here

    # With a limiter of its own: the default one may be used up by threads that wait for this very renewal.
    limiter = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True, limiter=limiter)


def _key(library: ModuleType, scheme: str) -> _Key:
    """What an SSL context of the library's depends on: it heeds the environment, as OpenSSL does."""
    return library.__name__, scheme, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")


def _scheme_of(request: ServerRequest) -> str:
    return request.url.partition(":")[0]


def _ours(library: ModuleType, scheme: str, tls: Any) -> dict[str, Any]:
    """How our own clients are made (rules 1 and 3); what is for this machine alone goes through no proxy."""
    limits = library.Limits(max_connections=None, max_keepalive_connections=0)
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    trusts = scheme != "http"
    return {"verify": tls, "limits": limits, "follow_redirects": False, "cookies": jar, "trust_env": trusts}


def _plain(response: Any, body: _Bounded) -> ServerResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    cookies = tuple(response.headers.get_list("Set-Cookie"))
    content: bytes | None = b"".join(body.chunks)
    coding = headers.get("content-encoding", "").strip().lower()
    if content and not body.is_plain and coding not in {"", "identity"}:
        content = unpacked(content, coding, MAX_RESPONSE)
    if content is None:
        raise _too_much(f"is {coding[:20]!r}-coded, or more than {MAX_RESPONSE} bytes when it is unpacked")
    return ServerResponse(response.status_code, headers, content, cookies)


def _too_much(what: str) -> TokenEndpointUnavailable:
    return TokenEndpointUnavailable(f"the token endpoint's answer {what}", outcome="unknown", retryable=False)


def _form(request: ServerRequest) -> dict[str, Any]:
    """The form as httpx takes it: a name that repeats (`resource`, RFC 8707 §2) has a list."""
    form: dict[str, Any] = {}
    for name, value in request.form:
        form.setdefault(name, []).append(value)
    return form
