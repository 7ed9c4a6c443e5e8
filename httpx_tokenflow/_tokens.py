"""Token. It is immutable and shows no secret: not in its repr, not through `dataclasses.asdict`, not in a pickle."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn, Self

from ._errors import ConfigurationError, InvalidCredential

__all__ = ["Token", "Unpickled", "check_credential", "digest"]

MAX_LIFETIME = 10 * 365 * 86_400.0  # seconds; a server that says 1e20 means "long", and floats must stay exact
_LATEST = 1e12  # Unix seconds, of some 30,000 years from now: more are milliseconds, or nonsense
_NONE_YET = "none-yet-for-"  # begins what stands for an access token where there is a refresh token alone

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def digest(text: str) -> str:
    """A short name for a secret, good for comparing and for logs, useless for anything else."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Unpickled:
    """Immutable, and so its own copy; never pickled."""

    __slots__ = ()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} is not pickled: a pickle would carry its secrets wherever it goes; "
            "use to_dict() and from_dict() where you mean to move it"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class Token(Unpickled):
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
        ConfigurationError: `expires_at` is no Unix time, or another field is not of its type.
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
        for name in ("token_type", "refresh_token", "scope", "id_token"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "token_type"):
                raise ConfigurationError(f"{name} must be a string, not {type(value).__name__}")
        if not isinstance(self.extra, Mapping):
            raise ConfigurationError(f"extra must be a mapping, not {type(self.extra).__name__}")
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)) if self.extra else _NOTHING)

    @classmethod
    def for_refresh(cls, refresh_token: str) -> Self:
        """A session of which the refresh token is all that one has: the first renewal buys its access token.

            auth = TokenAuth(RefreshToken(TOKEN_URL, client_id="app"), token=Token.for_refresh(refresh_token))

        Its `access_token` is none, says so, and has ended: it is never sent.

        Raises:
            InvalidCredential: `refresh_token` is empty, or has characters that no such token has.
        """
        check_credential(refresh_token, "refresh_token")
        return cls(_NONE_YET + digest(refresh_token), expires_at=0.0, refresh_token=refresh_token)

    @property
    def is_for_refresh(self) -> bool:
        """Whether it is a refresh token and no more (`for_refresh`); no server's token is, whatever it begins with."""
        return self.expires_at == 0.0 and self.access_token.startswith(_NONE_YET)

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
            ConfigurationError: another member is not of its type.
        """
        known = {name: data[name] for name in _FIELDS if data.get(name) is not None}
        return cls(**{"access_token": "", **known})


_FIELDS = tuple(item.name for item in dataclasses.fields(Token))
# dataclasses.asdict() and its friends in loggers and serialisers would spell every secret out: to_dict() is the
# explicit way, so Token stops being a dataclass to them.
del Token.__dataclass_fields__


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
