"""What a token must say to be let in, whoever vouches for it: a signature, or an introspection endpoint.

Rules.

1. The issuer is the one that was named, to the letter; the audience is one of those that were named, where a token has
   one string or a list of strings (RFC 7519 §4.1). Anything of another type is refused, and nothing is converted.
2. A moment is a finite JSON number between 1970 and the year 9999: no boolean, no string, no milliseconds. `exp` is
   over at its second plus the leeway; `nbf` and `iat` may lie ahead by the leeway and no more.
3. A token that is bound to a key (`cnf`: RFC 9449 §6, RFC 8705 §3) is refused unless the program says that it may be
   used without proof: who holds a stolen one must not get in by calling it a bearer token (RFC 9449 §7.2).
4. What its issuer marks as something else is no access token, whatever its `typ` says: an ID token, a refresh token, a
   logout token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ConfigurationError

from ._caller import Caller
from ._refusals import InvalidToken, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Wanted", "as_names", "as_required", "as_seconds", "as_size"]

_LAST = 253_402_300_799  # Unix seconds: the year 9999 ends
_CLIENT = ("client_id", "azp", "appid")  # RFC 9068 §2.2, OpenID Connect, Entra ID

# Claim -> what it says in what is no access token; None: whatever it says (rule 4).
_MARKS: dict[str, frozenset[str] | None] = {
    "at_hash": None,  # an ID token (OpenID Connect Core §3.1.3.6)
    "c_hash": None,
    "events": None,  # a security event, or a logout token (RFC 8417 §2.2)
    "token_use": frozenset({"id", "refresh", "refresh_token"}),  # Cognito, Ory Hydra
    "typ": frozenset({"id", "refresh", "offline", "logout"}),  # Keycloak, whose access tokens say Bearer
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a token must say.

    Args:
        issuer: `iss`; None: whatever.
        audience: one of these in `aud`; empty: whatever.
        required: claims that must be there.
        leeway: seconds by which clocks may differ.
        bound_is_fine: rule 3 does not hold.
    """

    issuer: str | None
    audience: frozenset[str]
    required: frozenset[str]
    leeway: float
    bound_is_fine: bool

    def caller(self, claims: Mapping[str, Any], token: str, now: float) -> Caller:
        """Whoever `claims` are about.

        Raises:
            InvalidToken: they are not what is wanted, at `now` (Unix seconds).
        """
        self._check_times(claims, now)
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise InvalidToken(Reason.ISSUER if "iss" in claims else Reason.LACKING)
        self._check_audience(claims)
        if any(claims.get(name) is None for name in self.required):
            raise InvalidToken(Reason.LACKING)
        if "cnf" in claims and not self.bound_is_fine:
            raise InvalidToken(Reason.BOUND)
        _check_kind(claims)
        client = next((name for name in _CLIENT if name in claims), _CLIENT[0])
        return Caller(
            subject=_text(claims, "sub"),
            client_id=_text(claims, client),
            issuer=_text(claims, "iss"),
            scope=_scope(claims),
            expires_at=_moment(claims, "exp"),
            claims=claims,
            token=token,
        )

    def _check_times(self, claims: Mapping[str, Any], now: float) -> None:
        ends = _moment(claims, "exp")
        begins = [one for one in (_moment(claims, "nbf"), _moment(claims, "iat")) if one is not None]
        if ends is not None and now >= ends + self.leeway:
            raise InvalidToken(Reason.EXPIRED)
        if any(one > now + self.leeway for one in begins):
            raise InvalidToken(Reason.NOT_YET)

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        if not self.audience:
            return
        if claims.get("aud") is None:
            raise InvalidToken(Reason.LACKING)
        if self.audience.isdisjoint(_texts(claims["aud"])):
            raise InvalidToken(Reason.AUDIENCE)


def _check_kind(claims: Mapping[str, Any]) -> None:
    for name, other in _MARKS.items():
        if name in claims and (other is None or str(claims[name]).lower() in other):
            raise InvalidToken(Reason.KIND)


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    said = claims.get(name)
    if name not in claims:
        return None
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= _LAST:
        raise InvalidToken(Reason.MALFORMED)
    return float(said)


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    said = claims.get(name)
    if said is not None and not isinstance(said, str):
        raise InvalidToken(Reason.MALFORMED)
    return said


def _texts(said: object) -> list[str]:
    """A string, or a list of them (rule 1)."""
    found = [said] if isinstance(said, str) else said
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InvalidToken(Reason.MALFORMED)
    return found


def _scope(claims: Mapping[str, Any]) -> frozenset[str]:
    """`scope` (RFC 8693 §4.2), or `scp`, which is a list of words with some and a string with others."""
    if claims.get("scope") is not None:
        return _words(_text(claims, "scope") or "")
    said = claims.get("scp") or ""
    return _words(said) if isinstance(said, str) else frozenset(_texts(said)) - {""}


def _words(text: str) -> frozenset[str]:
    """The words of a scope: a space is between them, and nothing else is (RFC 6749 §3.3)."""
    return frozenset(text.split(" ")) - {""}


def as_names(given: Any, what: str) -> frozenset[str]:
    """`given`, a string or several, as a set.

    Raises:
        ConfigurationError: it is something else, or empty.
    """
    try:
        names: Iterable[Any] = [given] if isinstance(given, str) else list(given)
    except TypeError:
        names = [given]
    if not names or not all(isinstance(one, str) and one for one in names):
        raise ConfigurationError(f"{what} must be a string, or a sequence of strings, none of them empty")
    return frozenset(names)


def as_seconds(given: Any, what: str, *, least: float = 0.0) -> float:
    """`given` as a number of seconds.

    Raises:
        ConfigurationError: it is none, or too small.
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < least:
        raise ConfigurationError(f"{what} must be a number of seconds, {least:g} at least")
    return float(given)


def as_required(given: Any) -> frozenset[str]:
    """`given`, names of claims, perhaps none.

    Raises:
        ConfigurationError: it is something else.
    """
    return (
        frozenset() if isinstance(given, list | tuple | set | frozenset) and not given else as_names(given, "required=")
    )


def as_size(given: Any, what: str, *, least: int = 0) -> int:
    """`given` as a number of things.

    Raises:
        ConfigurationError: it is none, or too small.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise ConfigurationError(f"{what} must be a whole number, {least} at least")
    return given
