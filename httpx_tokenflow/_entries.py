"""Entry, what a store keeps of a token; and Minted, what a grant has just brought.

Rules.

1. An entry carries what another process, with another clock, needs to judge the token: when it was issued, and for how
   long.
2. `stamp` names the pair of tokens, `wire_stamp` what an API sees of it, and `fence` the entry as it is, with the notes
   on it: what compare-and-set compares. Two who find one entry, and each note that they present its refresh token,
   would both be right by the stamp; by the fence one of them is late.
3. Neither shows a secret, not even to `dataclasses.asdict`. `to_dict` is for stores, and spells everything out.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ._errors import DamagedEntry, StoreError, TokenFlowError
from ._tokens import Token, Unpickled, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "Minted"]

LEAST_LIFETIME = 1.0  # seconds that a token from outside must have left to be used
MAX_PRESENTATIONS = 2  # of one refresh token: once, and once more if the answer was lost
VERSION = 1  # of what `Entry.to_dict` writes
_REFUSED = "refused "  # begins the note of what a server has refused
_GIVEN_UP = "given-up "  # no token begins like that: it could not go into a header
_KEPT_AFTER_END = 60.0  # seconds for which what has ended is kept: clocks differ
_KEPT_UNKNOWN = 86_400.0  # seconds for which a token is kept whose server does not say how long it lives
_KEPT_SPENT = 30 * 86_400.0  # seconds for which word is kept of a session that is over


@dataclass(frozen=True, slots=True)
class Entry(Unpickled):
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
        note: names the note of its presentation, among those that others make of the same.
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
    note: str = field(default="", compare=False)

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

    @classmethod
    def mark(cls, now: float, session: str) -> Self:
        """What is left of a session that was given up: no token, and word of it to everybody who shares the store."""
        token = Token(_GIVEN_UP + os.urandom(8).hex())  # each mark is another, to compare-and-set
        return cls(token, now, 0.0, presented=MAX_PRESENTATIONS, session=session)

    def having(self, **changes: Any) -> Self:
        """The same entry but for `changes`."""
        return type(self)(**{name: getattr(self, name) for name in _ENTRY} | changes)

    def marked(self, presented: int) -> Self:
        """The same token with another count of presentations, in a note of its own."""
        return self.having(presented=presented, note=_new_note())

    def spent(self) -> Self:
        """The same token, refused and of no more use: what is left in the store tells everybody who shares it."""
        return self.having(presented=MAX_PRESENTATIONS, note=f"{_REFUSED}{_new_note()}")

    def age(self, now: float) -> float:
        """Seconds since it was issued; none, if whoever wrote it has a clock that is ahead of ours."""
        return max(0.0, now - self.issued_at)

    @property
    def stamp(self) -> str:
        """Names the pair of tokens, not the notes on it."""
        return digest(f"{self.token.access_token} {self.token.refresh_token or ''}")

    @property
    def wire_stamp(self) -> str:
        """Names what an API sees of it: the access token alone."""
        return digest(self.token.access_token)

    @property
    def fence(self) -> str:
        """Names the entry as it is, with the notes on it: what compare-and-set compares (rule 2)."""
        return digest(f"{self.stamp} {self.presented} {self.note}")

    @property
    def is_spent(self) -> bool:
        """Its refresh token buys nothing any more: it was refused, or its answer was lost once too often."""
        return self.presented >= MAX_PRESENTATIONS

    @property
    def is_refused(self) -> bool:
        """Whether the server has said so; or else it is answers that were lost."""
        return self.note.startswith(_REFUSED)

    @property
    def is_mark(self) -> bool:
        """Whether it is no token, but what is left of one that was given up."""
        return self.token.access_token.startswith(_GIVEN_UP)

    def kept_for(self, now: float) -> float | None:
        """Seconds for which it is of use in a store, from `now`; None: until something else takes its place.

        A refresh token may be good for months, and nobody says for how many: losing it would cost the session.
        """
        if self.is_spent:
            return _KEPT_SPENT
        if self.token.refresh_token is not None:
            return None
        if self.lifetime is None:
            return _KEPT_UNKNOWN
        return max(0.0, self.lifetime - self.age(now)) + _KEPT_AFTER_END

    def to_dict(self) -> dict[str, Any]:
        """All of it, secrets included, as plain data that JSON can hold: for stores."""
        plain = {name: getattr(self, name) for name in _ENTRY} | {"token": self.token.to_dict()}
        return {"version": VERSION, **{name: value for name, value in plain.items() if value is not None}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The entry that `to_dict` wrote; unknown members are ignored.

        Raises:
            DamagedEntry: it is damaged.
            StoreError: it was written by a version that means something else by it.
        """
        version = data.get("version")
        if version != VERSION:
            raise StoreError(
                f"an entry of the store has version {version!r:.20}, and this httpx_tokenflow reads {VERSION}: "
                "upgrade what shares the store together, or give each its own"
            )
        try:
            known = {name: _CHECKS[name](data[name]) for name in _ENTRY if data.get(name) is not None}
            return cls(**{"lifetime": None, **known})
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError, TokenFlowError) as error:
            raise DamagedEntry(f"an entry of the store is damaged ({type(error).__name__}): delete it") from None


def _new_note() -> str:
    return os.urandom(4).hex()


def _token(value: Any) -> Token:
    for name in ("token_type", "refresh_token", "scope", "id_token"):
        _text(value.get(name, ""))
    return Token.from_dict(value)


def _seconds(value: Any) -> float:
    seconds = float(value)
    if isinstance(value, str | bool) or not math.isfinite(seconds):
        raise ValueError
    return seconds


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError
    return value


_CHECKS: dict[str, Any] = {
    "token": _token, "issued_at": _seconds, "lifetime": _seconds, "presented": _count, "session": _text,
    "refresh_in": _seconds, "skew": _seconds, "asked": _text, "issuer": _text, "key": _text,
    "note": _text,
}  # fmt: skip
_ENTRY = tuple(_CHECKS)


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
        return self.having(token=alone), session.having(token=rotated, presented=0, note="")

    def having(self, **changes: Any) -> Self:
        """The same but for `changes`."""
        return type(self)(**{name: getattr(self, name) for name in _MINTED} | changes)


_MINTED = tuple(one.name for one in dataclasses.fields(Minted))
# dataclasses.asdict() would spell the key out (rule 3), so they stop being dataclasses to it.
del Entry.__dataclass_fields__
del Minted.__dataclass_fields__
