"""What goes on a request, and where it may go.

Rules.

1. A credential goes to the origins that it is bound to (RFC 9110 §11.5: a protection space cannot cross an origin).
   Without `origins=` that is any https origin, and loopback; over plain http to loopback only.
2. httpx strips `Authorization` when a redirect leaves the origin, and nothing else. A credential in a header of its
   own is therefore *sealed* to the one request that it was put on: whoever copies the headers (a redirect does)
   gets a copy without it. See `seal`.
3. A credential in the query is on the wire and nowhere else: the URL does not show it, to hooks, logs or errors, and
   once the answer is there it is taken out.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

from ._errors import ConfigurationError, OriginNotAllowed
from ._tokens import check_credential

if TYPE_CHECKING:
    from ._tokens import Entry

__all__ = [
    "InAuthorization",
    "InCookie",
    "InHeader",
    "InQuery",
    "Origin",
    "Origins",
    "Placement",
    "Presented",
    "check_endpoint",
    "seal",
    "unseal",
]

Origin = tuple[str, str, int | None]
"""Scheme, host (lower case, as on the wire) and port (None: the scheme's own)."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_HOST = re.compile(r"[^a-z0-9._:-]")


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1 and `localhost`: what never leaves the machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_origin(text: Any, parse: Callable[[str], Any]) -> Origin:
    """The origin that `text` names, such as ``https://api.example.com`` or ``http://127.0.0.1:8000``.

    Raises:
        ConfigurationError: it is not an origin, or one over plain http to another machine.
    """
    try:
        url = parse(text)
        scheme, host, port = origin = _origin(url)
        is_origin = scheme in _DEFAULT_PORTS and host and not _NO_HOST.search(host) and url.raw_path in {b"", b"/"}
        is_origin = is_origin and not url.userinfo and not url.fragment and (port is None or port < 65536)
    except Exception:  # noqa: BLE001 - whatever a URL class thinks of what is none
        is_origin = False
    if not is_origin:
        raise ConfigurationError(
            f"{_shown(text)} is not an origin: write scheme, host and, if it is not the usual one, the port, "
            'such as "https://api.example.com"'
        )
    if scheme == "http" and not is_loopback(host):
        raise ConfigurationError(f"{text!r} is plain http: a credential goes over https, or http to loopback")
    return origin


def _origin(url: Any) -> Origin:
    """The origin of a URL of httpx or httpx2, with its host in one spelling."""
    host = url.raw_host.decode("ascii").lower()
    with contextlib.suppress(ValueError):
        host = ipaddress.ip_address(host).compressed
    # The handshake of a websocket, which httpx2 can send, is an HTTP request.
    return {"wss": "https", "ws": "http"}.get(url.scheme, url.scheme), host, url.port


def _shown(text: object) -> str:
    return repr(text) if isinstance(text, str) and "@" not in text else "what was given"


def check_endpoint(url: str | None, what: str) -> str:
    """`url` if credentials may be sent to it: https, or http to loopback; no user, no fragment.

    Raises:
        ConfigurationError: it is missing, no URL, plain http to another machine, or has a user or a fragment in it.
    """
    if not url:
        raise ConfigurationError(f"{what} is missing: give the URL at which the server issues tokens")
    try:
        parts = urlsplit(str(url))
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ConfigurationError(f'{what} must be an absolute URL such as "https://auth.example.com/token"')
    if parts.username is not None or parts.fragment:
        raise ConfigurationError(f"{what} must have neither user nor fragment in it (RFC 6749 §3.2)")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(f"{what} must be https (RFC 6749 §3.2): plain http is for loopback only")
    return url


class WireOrigin(NamedTuple):
    """An origin as a URL of httpx has it at hand; the port is None where it is the scheme's own."""

    scheme: str
    host: bytes
    port: int | None

    def __str__(self) -> str:
        host = self.host.decode("ascii", "replace")
        bracketed = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{bracketed}" + ("" if self.port is None else f":{self.port}")


def origin_of(url: Any) -> WireOrigin:
    """The origin of `url`, of httpx or of httpx2, without any work."""
    return WireOrigin(url.scheme, url.raw_host, url.port)


class Origins:
    """Where a credential may go; remembers what it has let through, so that the next request costs one lookup."""

    __slots__ = ("_allowed", "passed")

    _MOST_REMEMBERED = 1024  # distinct origins remembered; more are checked each time

    def __init__(self, origins: Iterable[str] | None, parse: Callable[[str], Any]) -> None:
        if origins is not None and (isinstance(origins, str) or not isinstance(origins, Iterable)):
            raise ConfigurationError("origins must be a sequence of origins: write a tuple, even around a single one")
        self._allowed = None if origins is None else frozenset(parse_origin(origin, parse) for origin in origins)
        if self._allowed is not None and not self._allowed:
            raise ConfigurationError("origins is empty: no request could ever go out; name one, or leave it out")
        self.passed: set[tuple[str, bytes, int | None]] = set()

    def check(self, url: Any) -> None:
        """Let a request to `url` (of httpx or httpx2) pass.

        Raises:
            OriginNotAllowed: the credential may not go there.
        """
        origin = (url.scheme, url.raw_host, url.port)
        if origin in self.passed:
            return
        self._decide(*_origin(url))
        if len(self.passed) < self._MOST_REMEMBERED:
            self.passed.add(origin)

    def _decide(self, scheme: str, host: str, port: int | None) -> None:
        shown = f"{scheme}://{host}{'' if port is None else f':{port}'}"
        if self._allowed is not None and (scheme, host, port) not in self._allowed:
            raise OriginNotAllowed(f"this credential may not go to {shown}: it is bound to its origins=")
        if scheme != "https" and not is_loopback(host):
            raise OriginNotAllowed(f"a credential does not go over plain {scheme} to {shown}: use https")


class Presented(Protocol):
    """A token that is ready for the wire."""

    @property
    def value(self) -> str:
        """As it is written there."""

    @property
    def entry(self) -> Entry:
        """What is known of it."""


class Placement(Protocol):
    """Puts a credential on a request, and takes it off where that is needed."""

    sealed: bool  # a copy of the request goes without it, even to the same origin

    def is_on(self, request: Any) -> bool:
        """Whether the caller has put a credential there already."""

    def put(self, request: Any, held: Presented) -> None:
        """Put `held` on `request`."""

    def carries(self, request: Any, held: Presented) -> bool:
        """Whether it is still `held` that is there: a hook may have put its own."""

    def take_off(self, request: Any) -> None:
        """After the answer: leave nothing that a log or a history would show."""

    def heed(self, response: Any) -> bool:
        """What the answer says of the next credential; whether it says anything."""


def as_field(value: str) -> tuple[bytes, bytes, bytes]:
    """The `Authorization` field as httpx keeps it among a request's headers: name, name to compare, value."""
    return b"Authorization", b"authorization", value.encode("ascii")


class _Deaf:
    """A placement for which answers have nothing to say."""

    __slots__ = ()

    def heed(self, response: Any) -> bool:  # noqa: ARG002 - the protocol
        return False


class InAuthorization(_Deaf):
    """In the `Authorization` field, which httpx strips when a redirect leaves the origin."""

    __slots__ = ()
    sealed = False

    def is_on(self, request: Any) -> bool:
        return "authorization" in request.headers

    def put(self, request: Any, held: Presented) -> None:
        request.headers["Authorization"] = held.value

    def carries(self, request: Any, held: Presented) -> bool:
        return bool(request.headers.get("Authorization") == held.value)

    def take_off(self, request: Any) -> None:
        """Nothing to do: httpx masks this field."""


@dataclass(frozen=True, slots=True)
class InHeader(_Deaf):
    """In a header field of its own, sealed to the one request (rule 2)."""

    name: str
    sealed = True

    def is_on(self, request: Any) -> bool:
        return self.name in request.headers

    def put(self, request: Any, held: Presented) -> None:
        request.headers = seal(request.headers, {self.name: held.value})

    def carries(self, request: Any, held: Presented) -> bool:
        return bool(request.headers.get(self.name) == held.value)

    def take_off(self, request: Any) -> None:
        unseal(request, self.name)


@dataclass(frozen=True, slots=True)
class InCookie(_Deaf):
    """In a cookie, beside those of the request, sealed to the one request: httpx makes cookies anew on a redirect."""

    name: str
    sealed = True

    def is_on(self, request: Any) -> bool:
        return any(one.partition("=")[0].strip() == self.name for one in _cookies_of(request))

    def put(self, request: Any, held: Presented) -> None:
        request.headers = seal(request.headers, {"Cookie": "; ".join([*_cookies_of(request), self._pair(held)])})

    def carries(self, request: Any, held: Presented) -> bool:
        return self._pair(held) in _cookies_of(request)

    def take_off(self, request: Any) -> None:
        if isinstance(headers := request.headers, _Sealed):
            request.headers = headers.unsealed()

    def _pair(self, held: Presented) -> str:
        return f"{self.name}={held.value}"


def _cookies_of(request: Any) -> list[str]:
    return [one.strip() for one in request.headers.get("Cookie", "").split(";") if one.strip()]


@dataclass(frozen=True, slots=True)
class InQuery(_Deaf):
    """In a parameter of the URL's query. Where a redirect goes, the server's `Location` decides: not with this."""

    name: str
    sealed = True

    def is_on(self, request: Any) -> bool:
        return self.name in request.url.params

    def put(self, request: Any, held: Presented) -> None:
        own = urlencode({self.name: held.value}).encode("ascii")
        query = b"&".join(filter(None, (request.url.query, own)))
        request.url = veil(request.url.copy_with(query=query), str(request.url))

    def carries(self, request: Any, held: Presented) -> bool:
        return bool(request.url.params.get(self.name) == held.value)

    def take_off(self, request: Any) -> None:
        others = request.url.query.rpartition(urlencode({self.name: ""}).encode("ascii"))[0]
        request.url = request.url.copy_with(query=others.removesuffix(b"&") or None)


def veil(url: Any, shown: str) -> Any:
    """`url` (of httpx or httpx2) as it goes on the wire, which shows itself, to logs and errors, as `shown`."""
    kind: Any = type(url)
    veiled = _veiled_kind(kind)(url)
    veiled.shown = shown
    return veiled


@functools.cache
def _veiled_kind(kind: Any) -> Any:
    class Veiled(kind):  # type: ignore[misc]  # the library is known at run time only
        shown = ""

        def __str__(self) -> str:
            return self.shown

        def __repr__(self) -> str:
            return repr(kind(self.shown))

    return Veiled


class _Sealed:
    """What sealed headers of either library are."""

    def unsealed(self) -> Any:
        """A copy, without the sealed field."""


def unseal(request: Any, *names: str) -> None:
    """Take the fields `names`, which were sealed, off `request`."""
    if isinstance(headers := request.headers, _Sealed):
        request.headers = headers.unsealed()
        return
    for name in names:  # a hook has put other headers in place
        headers.pop(name, None)


def seal(headers: Any, fields: Mapping[str, str]) -> Any:
    """`headers` (of httpx or httpx2) with fields that copies go without.

    Raises:
        ConfigurationError: this version of the library copies headers in another way than we know, so that the field
            could leak; we would rather not send it.
    """
    kind: Any = type(headers)
    return _sealed_kind(kind)(headers, fields)


@functools.cache
def _sealed_kind(kind: Any) -> Any:  # noqa: C901 - a class whose base is known at run time only
    """A subclass of the library's `Headers`: all that reads sees the field, what copies does not.

    A copy takes the base class's own list. So that one holds the headers without the field, and every reading method
    answers from a second, complete set. That a copy is as bare as it should be is checked here, once.
    """

    class Sealed(_Sealed, kind):  # type: ignore[misc]  # the library is known at run time only
        def unsealed(self) -> Any:
            return kind(self)

        def __init__(self, headers: Any, fields: Mapping[str, str]) -> None:
            self._complete = kind(headers)
            for name, value in fields.items():
                self._complete[name] = value
            super().__init__(headers)

        @property
        def raw(self) -> Any:
            return self._complete.raw

        def __setitem__(self, key: str, value: str) -> None:
            super().__setitem__(key, value)
            self._complete[key] = value

        def __delitem__(self, key: str) -> None:
            del self._complete[key]
            if key in kind(self):
                super().__delitem__(key)

        def update(self, headers: Any = None) -> None:
            for key, value in kind(headers).items():
                self[key] = value

        def __repr__(self) -> str:
            return repr(kind(self))

    def reading(method: str) -> Any:
        def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self._complete, method)(*args, **kwargs)

        return read

    for method in (
        "keys",
        "values",
        "items",
        "multi_items",
        "get_list",
        "__getitem__",
        "__contains__",
        "__len__",
    ):
        setattr(Sealed, method, reading(method))
    if "a" in kind(Sealed(kind(), {"a": "b"})):
        raise ConfigurationError(
            f"this version of {kind.__module__.partition('.')[0]} would carry a header along on a redirect to another "
            'origin: use header="Authorization", and tell the authors of httpx_tokenflow'
        )
    return Sealed


def bearer(access_token: str) -> str:
    """The value of an `Authorization` field with a bearer token (RFC 6750 §2.1)."""
    return f"Bearer {check_credential(access_token, 'the token')}"
