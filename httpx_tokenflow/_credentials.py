"""What goes on a request, and how it is put there and taken off: one placement for each.

A credential that httpx would pass on when a redirect leaves the origin, that is, any but `Authorization` and cookies,
is sealed to the one request (`_sealing.py`), and put on again where the redirect stays within the origin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from ._errors import InvalidCredential
from ._sealing import seal, unseal, veil
from ._tokens import check_credential

if TYPE_CHECKING:
    from ._entries import Entry

__all__ = [
    "COOKIE_VALUE", "InAuthorization", "InCookie", "InHeader", "InQuery", "Placement", "Presented", "as_field",
    "bearer", "cookie_value",
]  # fmt: skip

COOKIE_VALUE = re.compile(r'[!#-+\--:<-\[\]-~]+|"(?:[ !#-:<-\[\]-~]|\\[ -:<-~])+"')
"""RFC 6265 §4.1.1: cookie-octets; in quotes also what servers quote for: a space, a comma, and what is escaped."""


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

    @property
    def place(self) -> str:
        """Where that is: a field, or "?" and a parameter of the query."""

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
    place = "Authorization"

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
    """In a header field of its own, sealed to the one request."""

    name: str
    sealed = True

    @property
    def place(self) -> str:
        return self.name

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
    """In a cookie, beside those of the request, sealed to the one request: httpx makes cookies anew on a redirect.

    A cookie of that name that is there already is replaced: an API that sets it with each answer has put it into the
    jar of the caller's client, where it would outlive the session that it is of. Whoever wants to send their own says
    ``extensions={"tokenflow": {"auth": False}}``.
    """

    name: str
    sealed = True
    place = "Cookie"

    def is_on(self, request: Any) -> bool:  # noqa: ARG002 - nobody can tell the caller's own from the jar's
        return False

    def put(self, request: Any, held: Presented) -> None:
        others = [one for one in _cookies_of(request) if one.partition("=")[0].strip() != self.name]
        request.headers = seal(request.headers, {"Cookie": "; ".join([*others, self._pair(held)])})

    def carries(self, request: Any, held: Presented) -> bool:
        return self._pair(held) in _cookies_of(request)

    def take_off(self, request: Any) -> None:
        unseal(request)

    def _pair(self, held: Presented) -> str:
        return f"{self.name}={held.value}"


def _cookies_of(request: Any) -> list[str]:
    fields = request.headers.get_list("Cookie")
    return [one.strip() for field in fields for one in field.split(";") if one.strip()]


@dataclass(frozen=True, slots=True)
class InQuery(_Deaf):
    """In a parameter of the URL's query. Where a redirect goes, the server's `Location` decides: not with this."""

    name: str
    sealed = True

    @property
    def place(self) -> str:
        return f"?{self.name}"

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


def bearer(access_token: str) -> str:
    """The value of an `Authorization` field with a bearer token (RFC 6750 §2.1)."""
    return f"Bearer {check_credential(access_token, 'the token')}"


def cookie_value(token: str, what: str = "the token") -> str:
    """`token` as the value of a cookie (RFC 6265 §4.1.1), as it is: in quotes, if it came in quotes.

    Raises:
        InvalidCredential: it would end there, or be read as more than one cookie. The message never quotes it.
    """
    if not COOKIE_VALUE.fullmatch(check_credential(token, what)):
        raise InvalidCredential(
            f"{what} has characters that a cookie cannot carry (RFC 6265 §4.1.1: no semicolon, comma, backslash, quote "
            "or space): it must be written as the server sets it"
        )
    return token
