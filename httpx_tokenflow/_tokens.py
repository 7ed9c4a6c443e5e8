"""Token, and the entry that a store keeps of it.

A Token is immutable and shows no secret: not in its repr, not through `dataclasses.asdict`, not in a pickle.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ._errors import ConfigurationError, InvalidCredential

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "Minted", "Token", "check_credential", "digest"]

MAX_LIFETIME = 10 * 365 * 86_400.0  # seconds; a server that says 1e20 means "long", and floats must stay exact
LEAST_LIFETIME = 1.0  # seconds that a token from outside must have left to be used
MAX_PRESENTATIONS = 2  # of one refresh token: once, and once more if the answer was lost
_LATEST = 1e12  # Unix seconds, of some 30,000 years from now: more are milliseconds, or nonsense
_GIVEN_UP = "given-up"


def digest(text: str) -> str:
    """A short name for a secret, good for comparing and for logs, useless for anything else."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Token:
    """An access token with what came with it. Immutable; its repr shows no secret.

    Args:
        access_token: the credential itself; opaque to us (RFC 9068 §6).
        token_type: how it is presented, "Bearer" by default.
        expires_at: Unix seconds at which it ends, or None if nobody said.
        refresh_token: what buys the next one (RFC 6749 §6), or None.
        scope: the scope that was granted, space-separated, or None.
        id_token: an OpenID Connect ID token that came along, or None.
        extra: members of the token endpoint's answer that have no field of their own.

    Raises:
        InvalidCredential: `access_token` is empty or could not go into a header.
        ConfigurationError: `expires_at` is no Unix time.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - a scheme, no secret
    expires_at: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    id_token: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        check_credential(self.access_token, "access_token")
        is_number = isinstance(self.expires_at, int | float) and not isinstance(self.expires_at, bool)
        if self.expires_at is not None and not (is_number and abs(self.expires_at) < _LATEST):
            raise ConfigurationError("expires_at must be Unix seconds, a number such as 1767225600; or None")
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))

    @property
    def session(self) -> str:
        """Names the login that this is the first token of; no secret."""
        return digest(self.refresh_token or self.access_token)

    def with_refresh_token(self, refresh_token: str | None) -> Self:
        """The same token with another refresh token."""
        return self.from_dict({**self.to_dict(), "refresh_token": refresh_token})

    def to_dict(self) -> dict[str, Any]:
        """All of it, secrets included, as plain data that JSON can hold: the explicit way to keep a token."""
        plain = {name: getattr(self, name) for name in _FIELDS} | {"extra": dict(self.extra)}
        return {name: value for name, value in plain.items() if value not in (None, {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The token that `to_dict` wrote; unknown members are ignored.

        Raises:
            InvalidCredential: there is no usable `access_token` in it.
        """
        known = {name: data[name] for name in _FIELDS if data.get(name) is not None}
        return cls(**{"access_token": "", **known})

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(
            "a Token is not pickled: a pickle would carry its secrets wherever it goes; "
            "use Token.to_dict() and Token.from_dict() where you mean to move it"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


_FIELDS = tuple(item.name for item in dataclasses.fields(Token))
# dataclasses.asdict() and its friends in loggers and serialisers would spell every secret out: to_dict() is the
# explicit way, so Token stops being a dataclass to them (rule 4).
del Token.__dataclass_fields__


@dataclass(frozen=True, slots=True)
class Entry:
    """A token as a store keeps it: with what another clock needs to judge it.

    Args:
        token: the token.
        issued_at: Unix seconds at which the request for it was sent.
        lifetime: seconds from then on, or None if nobody said.
        presented: how often its refresh token has been presented without an answer that we know of.
        session: names the login that it descends from, through however many renewals.
        refresh_in: seconds after which the server would have it renewed, or None.
        skew: seconds by which the server's clock was ahead of ours when it was issued.
        asked: the scope that was asked for, where an API wanted a wider one than the grant's own, or None.
        issuer: the authorization server that issued it, where the API had to say which it is, or None.
        key: the private key that it is bound to, as a JWK in JSON, where it was made for the occasion, or None.
    """

    token: Token
    issued_at: float
    lifetime: float | None
    presented: int = 0
    session: str = ""
    refresh_in: float | None = None
    skew: float = 0.0
    asked: str | None = None
    issuer: str | None = None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of_login(cls, token: Token, now: float) -> Self:
        """`token` as it comes from outside and is first seen at `now`: its lifetime is what is left of it.

        Less than a second is nothing: it would end on its way (failures F59).
        """
        left = None if token.expires_at is None else token.expires_at - now
        lifetime = 0.0 if left is not None and left < LEAST_LIFETIME else left
        issuer = token.extra.get("issuer")  # as a login has left it there
        known = issuer if isinstance(issuer, str) else None
        return cls(token, now, lifetime, session=token.session, issuer=known)

    def age(self, now: float) -> float:
        """Seconds since it was issued; none, if whoever wrote it has a clock that is ahead of ours."""
        return max(0.0, now - self.issued_at)

    @property
    def stamp(self) -> str:
        """Names the pair of tokens, not the notes on it: what compare-and-set compares."""
        return digest(f"{self.token.access_token} {self.token.refresh_token or ''}")

    @property
    def wire_stamp(self) -> str:
        """Names what an API sees of it: the access token alone."""
        return digest(self.token.access_token)

    @property
    def is_spent(self) -> bool:
        """Its refresh token buys nothing any more: it was refused, or its answer was lost once too often."""
        return self.presented >= MAX_PRESENTATIONS

    def marked(self, presented: int) -> Entry:
        """The same token with another count of presentations."""
        return dataclasses.replace(self, presented=presented)

    @classmethod
    def mark(cls, now: float, session: str) -> Self:
        """What is left of a session that was given up: no token, and word of it to everybody who shares the store."""
        return cls(Token(_GIVEN_UP), now, 0.0, presented=MAX_PRESENTATIONS, session=session)

    @property
    def is_mark(self) -> bool:
        """Whether it is no token, but what is left of one that was given up."""
        return self.token.access_token == _GIVEN_UP

    def spent(self) -> Entry:
        """The same token, of no more use: what is left in the store tells everybody who shares it."""
        return self.marked(MAX_PRESENTATIONS)


@dataclass(frozen=True, slots=True)
class Minted:
    """A token that a grant has just brought.

    Args:
        token: the token.
        lifetime: seconds since the request was sent, or None if the answer does not say.
        refresh_in: seconds after which the server would have it renewed, or None.
        skew: seconds by which the server's clock is ahead of ours.
        fell_back: what had to give way to the next of its sequence ("client_secret", "key"), or None.
        asked: as in `Entry`.
        issuer: as in `Entry`.
        key: as in `Entry`.
        sent_at: Unix seconds at which the request for it was sent; None: when the grant was asked for it.
    """

    token: Token
    lifetime: float | None
    refresh_in: float | None = None
    skew: float = 0.0
    fell_back: str | None = None
    asked: str | None = None
    issuer: str | None = None
    key: str | None = field(default=None, repr=False)
    sent_at: float | None = None

    def parted(self, session: Entry) -> tuple[Minted, Entry]:
        """The access token alone; and `session` with the refresh token that came along, where it was rotated."""
        rotated = session.token.with_refresh_token(self.token.refresh_token)
        alone = self.token.with_refresh_token(None)
        return dataclasses.replace(self, token=alone), dataclasses.replace(session, token=rotated, presented=0)


def check_credential(value: object, what: str) -> str:
    """`value` if it can go into a header field as it is.

    Raises:
        InvalidCredential: it is not a string, is empty, or has characters other than visible ASCII and inner
            spaces. The message never quotes it.
    """
    if not isinstance(value, str):
        raise InvalidCredential(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise InvalidCredential(f"{what} is empty: check where it is read from")
    if value != value.strip():
        raise InvalidCredential(f"{what} begins or ends with white space (a newline from a file?): strip it first")
    if not (value.isascii() and value.isprintable()):
        raise InvalidCredential(f"{what} has control or non-ASCII characters, which a header cannot carry")
    return value
