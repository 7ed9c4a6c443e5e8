"""Where things are in the answers of a login that is no OAuth: paths into the JSON, and cookies.

Rules.

1. A place is a dotted path such as ``data.tokens.0.accessToken``, or ``cookie:NAME`` for a cookie that the answer sets.
   A place that the program names is the only one that is looked at; without one, the common spellings are, at the top
   and one level down.
2. What cannot be read counts as missing, never as "expired": lifetimes that are no numbers, times without an offset,
   and times that are over when the answer comes, for nobody issues such a token: it was no such time.
3. A time is reckoned by the clock of the server that wrote it, of which the answer's `Date` tells.
4. A cookie that the answer deletes is no token, unless the same answer sets it as well. Its value is kept as it is, in
   quotes or not: so it is sent back (RFC 6265 §5.2). One that no cookie should have (§4.1.1) is not.
5. Whatever a server sends, reading it raises nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from httpx_tokenflow._credentials import COOKIE_VALUE
from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._times import parse_date
from httpx_tokenflow._tokens import MAX_LIFETIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from httpx_tokenflow._answers import ServerResponse

__all__ = ["COOKIE", "FIELD_NAME", "Fields", "Found", "cookie_of"]

COOKIE = "cookie:"

_SPELLINGS = {
    "access_token": ("access_token", "accessToken", "token", "jwt", "access"),
    "refresh_token": ("refresh_token", "refreshToken", "refresh"),
    "expires_in": ("expires_in", "expiresIn"),
    "expires_in_ms": (),
    "expires_at": ("expires_at", "expiresAt", "expires", "exp"),
    "scope": ("scope",),
}
_WITHIN = ("", "data.", "tokens.", "result.")
_EXPIRY = frozenset({"expires_in", "expires_in_ms", "expires_at"})
_TOKENS = ("access_token", "refresh_token")
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110 §5.6.2: header fields and cookies
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # what a header field can carry
_MAX_SECONDS, _MAX_MILLISECONDS = 1e11, 1e14  # Unix times in the year 5138: what is more is written in other units


@dataclass(slots=True)
class Found:
    """What an answer has.

    Args:
        access_token: the access token, or None.
        refresh_token: the refresh token, or None.
        refresh_name: the name that it has in the body; empty if it came as a cookie.
        is_ended: the answer deletes the refresh token's cookie.
        lifetime: seconds that the access token has from now on, or None.
        scope: the scope, space-separated, or None.
    """

    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    refresh_name: str
    is_ended: bool
    lifetime: float | None
    scope: str | None


class Fields:
    """Where to look in an answer.

    Args:
        given: our names, each with the place, or several places in the order to look; None or a name left out: the
            common spellings. One that names an expiry leaves the common spellings of all three out.

    Raises:
        ConfigurationError: a name is none of ours, or a place is none.
    """

    def __init__(self, given: Mapping[str, str | Sequence[str]] | None) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise ConfigurationError('fields= must be a mapping, such as {"access_token": "data.accessToken"}')
        named = {name: _places(name, places) for name, places in (given or {}).items()}
        if unknown := sorted(map(str, named.keys() - _SPELLINGS.keys())):
            raise ConfigurationError(f"fields= has {', '.join(unknown)}, which is none of {', '.join(_SPELLINGS)}")
        silent = _EXPIRY if named.keys() & _EXPIRY else frozenset()
        self._places = {
            name: named.get(name, () if name in silent else _common(spellings))
            for name, spellings in _SPELLINGS.items()
        }
        self._named = named
        self.access_cookie, self.refresh_cookie = (cookie_of(self._places[name][0]) for name in _TOKENS)

    def identity(self) -> Mapping[str, Any]:
        """What the program has named, as data that JSON can hold."""
        return {name: list(places) for name, places in sorted(self._named.items())}

    def refresh_names(self) -> tuple[str, ...]:
        """The names that a refresh token may have in a body, the likeliest first."""
        names = [place.rpartition(".")[2] for place in self._places["refresh_token"]]
        return tuple(dict.fromkeys(names if "refresh_token" in self._named else ["refreshToken", *names]))

    def read(self, response: ServerResponse, body: Any, now: float) -> Found:
        """What `response` has, whose JSON is `body`; `now` is Unix seconds by our clock, when it was asked for."""
        date = parse_date(response.headers.get("date"))
        server_now = now if date is None else date
        cookies = _read_cookies(response.cookies, server_now)
        access, _ = self._token("access_token", body, cookies)
        refresh, name = self._token("refresh_token", body, cookies)
        lifetime = self._lifetime(body, server_now)
        if lifetime is None and self.access_cookie in cookies:
            lifetime = cookies[self.access_cookie].lifetime
        kept = cookies.get(self.refresh_cookie)
        return Found(access, refresh, name, kept is not None and not kept.value, lifetime, self._scope(body))

    def _token(self, name: str, body: Any, cookies: Mapping[str | None, _Cookie]) -> tuple[str | None, str]:
        """A token, and the name that it has in the body."""
        for place in self._places[name]:
            cookie = cookie_of(place)
            value = _at(body, place) if cookie is None else cookies.get(cookie, _NO_COOKIE).value
            # One that could not be sent back where it belongs is none (rules 2 and 4).
            if isinstance(value, str) and (_PLAIN if cookie is None else COOKIE_VALUE).fullmatch(value):
                return value, place.rpartition(".")[2] if cookie is None else ""
        return None, ""

    def _lifetime(self, body: Any, server_now: float) -> float | None:
        for name, unit in (("expires_in", 1.0), ("expires_in_ms", 1000.0)):
            for place in self._places[name]:
                if (number := _number(_at(body, place))) is not None:
                    return min(number / unit, MAX_LIFETIME)
        for place in self._places["expires_at"]:
            moment = _moment(_at(body, place))
            if moment is not None and moment > server_now:
                return min(moment - server_now, MAX_LIFETIME)
        return None

    def _scope(self, body: Any) -> str | None:
        for place in self._places["scope"]:
            value = _at(body, place)
            words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
            if scope := " ".join(word for word in words if isinstance(word, str)):
                return scope
        return None


def _common(spellings: Sequence[str]) -> tuple[str, ...]:
    return tuple(within + spelling for spelling in spellings for within in _WITHIN)


def _places(name: str, given: Any) -> tuple[str, ...]:
    places = tuple(given) if isinstance(given, list | tuple) else (given,)
    for place in places:
        if not isinstance(place, str) or not all(place.split(".")):
            raise ConfigurationError(
                f'fields={{"{name}": …}} must be a path such as "data.accessToken", or "cookie:NAME", or several'
            )
        cookie = cookie_of(place)
        if cookie is None:
            continue
        if name not in _TOKENS or not FIELD_NAME.fullmatch(cookie):
            raise ConfigurationError(f'fields={{"{name}": …}}: only a token can be a cookie, named as by RFC 6265 §4.1')
        if len(places) > 1:
            raise ConfigurationError(f'fields={{"{name}": …}}: a cookie must be the only place, for it is sent as one')
    if not places:
        raise ConfigurationError(f'fields={{"{name}": …}} is empty: name a place, or leave it out')
    return places


def cookie_of(place: str | None) -> str | None:
    """The name of the cookie that a place is; None if it is none."""
    return place.removeprefix(COOKIE) if place is not None and place.startswith(COOKIE) else None


def _at(body: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and part.isdecimal() and part.isascii() and len(part) < 10:
            body = body[int(part)] if int(part) < len(body) else None
        else:
            return None
    return body


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _moment(value: object) -> float | None:
    """Unix seconds by seconds, milliseconds or ISO 8601 with its offset (rule 2)."""
    number = _number(value)
    if number is not None:
        if number < _MAX_SECONDS:
            return number
        return number / 1000.0 if number < _MAX_MILLISECONDS else None
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.timestamp() if moment is not None and moment.tzinfo is not None else None


class _Cookie(NamedTuple):
    """A cookie that an answer sets; without a value, if the answer deletes it."""

    value: str
    lifetime: float | None


_NO_COOKIE = _Cookie("", None)


def _read_cookies(lines: Sequence[str], now: float) -> dict[str | None, _Cookie]:
    """The cookies in `Set-Cookie` fields by their names (RFC 6265 §5.2); `now` by the server's clock."""
    cookies: dict[str | None, _Cookie] = {}
    for line in lines:
        pair, *attributes = line.split(";")
        name, is_pair, value = (part.strip() for part in pair.partition("="))
        if not is_pair:
            continue
        said = {key.strip().lower(): what.strip() for key, _, what in (one.partition("=") for one in attributes)}
        lifetime = _number(said.get("max-age"))
        if lifetime is None and (expires := parse_date(said.get("expires"))) is not None:
            lifetime = expires - now
        lives = bool(value) and (lifetime is None or lifetime > 0)
        if lives:
            cookies[name] = _Cookie(value, None if lifetime is None else min(lifetime, MAX_LIFETIME))
        else:
            cookies.setdefault(name, _NO_COOKIE)
    return cookies
