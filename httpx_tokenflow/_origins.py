"""Where a credential may go: origins, and the endpoints of authorization servers.

A credential goes to the origins that it is bound to (RFC 9110 §11.5: a protection space cannot cross an origin).
Without `origins=` that is any https origin, and loopback; over plain http to loopback only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ._errors import ConfigurationError, OriginNotAllowed

__all__ = ["Origin", "Origins", "WireOrigin", "check_endpoint", "is_loopback", "origin_of", "parse_origin"]

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
            raise OriginNotAllowed(f"this credential may not go to {shown}: name that in origins= if it may")
        if scheme != "https" and not is_loopback(host):
            raise OriginNotAllowed(f"a credential does not go over plain {scheme} to {shown}: use https")
