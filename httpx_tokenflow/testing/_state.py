"""The state of an authorization server as a machine without I/O: issue, refresh, rotate, revoke, verify.

The rules:

1. A login starts a *family*: one refresh token, its successors and every access token that they brought.
   Client credentials bring an access token without a family (RFC 6749 §4.4.3).
2. With rotation each refresh retires the refresh token presented. Presenting a retired one reads as theft and
   revokes the family, the winner's tokens included (RFC 9700 §4.14.2).
3. What is refused changes nothing: the wrong client or too wide a scope retires no refresh token.
4. An access token is refused once it is expired, revoked, of a revoked family or, with ``newest_only``, when
   its subject and client hold a newer one. The reason given is the first of these that holds.
5. A refresh may narrow the scope of the login, never widen it (RFC 6749 §6); a login that names no scope sets
   no bound.
6. Serial numbers order the tokens, so "all tokens so far" is one number and costs nothing to say.
7. A token is known by its text, a JWT as any other: one that was tampered with is unknown. What is minted with another
   ``iss`` is another server's and unknown, too. A JWT's times are whole seconds (its end is rounded up), and count.
8. An exchange (RFC 8693, RFC 7523) wants a subject token that the API would take, and brings a token of its own, which
   outlives it. It is for the same subject, and names the client that asked.
9. The time is an argument. Nothing here locks: the caller does.
"""

import math
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_AUDIENCE = "api"


class Rejected(Exception):  # noqa: N818 - an answer of the protocol, not a failure of the program
    """The server says no: an error code of RFC 6749 §5.2 or RFC 6750 §3.1, and why."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error, description)
        self.error = error
        self.description = description


@dataclass(slots=True)
class Family:
    """One login and everything that grew from it."""

    subject: str
    client_id: str
    scope: str
    current: str = field(repr=False)
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """What the server remembers of an access token; ``claims`` are those of RFC 9068 §2.2, also for an opaque one."""

    serial: int
    subject: str
    client_id: str
    scope: str
    expires_at: float | None
    family: Family | None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a token is to say.

    Attributes:
        subject: whom it stands for.
        client_id: who has asked for it.
        scope: space-separated; empty: unnamed.
        audience: whom it is for; empty: unnamed, which in a JWT is ``DEFAULT_AUDIENCE``.
        signed: whether it is a JWT; None: as the server's other tokens.
        lifetime: seconds; None: as the server's other tokens.
        claims: further claims, or others in place of ours; one that is None is left out.
    """

    subject: str
    client_id: str
    scope: str = ""
    audience: tuple[str, ...] = ()
    signed: bool | None = None
    lifetime: float | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """What a token request brought; ``refresh_token`` is None when the client keeps the one that it has."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime: float | None
    scope: str


class Tokens:
    """Every token that this server ever issued."""

    def __init__(
        self,
        *,
        lifetime: float | None,
        rotate: bool,
        newest_only: bool,
        sign: Callable[[Mapping[str, Any]], str],
        issuer: Callable[[], str],
        signed: bool = False,
    ) -> None:
        self.issued = 0
        self.families_revoked = 0
        self.exchanges: Counter[str] = Counter()
        self._lifetime = lifetime
        self._rotate = rotate
        self._newest_only = newest_only
        self._sign = sign
        self._issuer = issuer
        self._signed = signed
        self._serial = 0
        self._expired_up_to = 0
        self._revoked_up_to = 0
        self._revoked: set[int] = set()
        self._access: dict[str, Access] = {}
        self._elsewhere: list[str] = []
        self._families: dict[str, Family] = {}
        self._newest: dict[tuple[str, str, str], int] = {}

    def login(self, subject: str, client_id: str, scope: str, now: float) -> Issued:
        """Start a family, as an interactive login does."""
        refresh_token = _opaque("rt")
        family = Family(subject, client_id, scope, refresh_token)
        self._families[refresh_token] = family
        return self.issue(Wanted(subject, client_id, scope), now, family, refresh_token)

    def exchange(self, subject: Access, wanted: Wanted, now: float) -> Issued:
        """Issue what is wanted in exchange for a token that was verified, by rule 8."""
        self.exchanges[subject.subject] += 1
        return self.issue(wanted, now)

    def refresh(self, refresh_token: str, client_id: str, scope: str, now: float) -> Issued:
        """Renew (RFC 6749 §6), by rules 2, 3 and 5."""
        family = self._families.get(refresh_token)
        if family is None or family.client_id != client_id:
            raise Rejected("invalid_grant", "the refresh token is unknown or belongs to another client")
        if family.revoked:
            raise Rejected("invalid_grant", "the refresh token was revoked")
        if refresh_token != family.current:
            self._revoke(family)
            raise Rejected("invalid_grant", "the refresh token was used before; its family is revoked")
        if family.scope and not set(scope.split()) <= set(family.scope.split()):
            raise Rejected("invalid_scope", "the scope goes beyond what was granted")
        successor = self._rotated(family) if self._rotate else None
        return self.issue(Wanted(family.subject, client_id, scope or family.scope), now, family, successor)

    def verify(self, access_token: str, now: float) -> Access:
        """Give back what the token stands for, or raise `Rejected` by rule 4."""
        access = self._access.get(access_token)
        if access is None:
            raise Rejected("invalid_token", "the access token is unknown")
        expired = access.expires_at is not None and now >= access.expires_at
        if expired or access.serial <= self._expired_up_to:
            raise Rejected("invalid_token", "the access token expired")
        revoked = access.serial <= self._revoked_up_to or access.serial in self._revoked
        if revoked or (access.family is not None and access.family.revoked):
            raise Rejected("invalid_token", "the access token was revoked")
        if self._newest_only and access.serial != self._newest[_holder(access)]:
            raise Rejected("invalid_token", "the access token was replaced by a newer one")
        return access

    def expire_all(self) -> None:
        """Let every access token so far be expired."""
        self._expired_up_to = self._serial

    def revoke_all(self) -> None:
        """Let every access token so far be revoked; the families live on."""
        self._revoked_up_to = self._serial

    def revoke_signed(self) -> None:
        """Let every JWT so far be revoked: the keys that signed them are gone."""
        self._revoked |= {access.serial for access in self._access.values() if access.signed}

    def revoke(self, token: str, client_id: str) -> None:
        """Revoke a token at its owner's wish (RFC 7009 §2.1): a login by its refresh token, or one access token."""
        found = self._families.get(token) or self._access.get(token)
        if found is None:
            return
        if found.client_id != client_id:
            raise Rejected("invalid_grant", "the token belongs to another client")
        if isinstance(found, Family):
            found.revoked = True
        else:
            self._revoked.add(found.serial)

    def all_access(self) -> list[str]:
        """List every access token, however it ended."""
        return [*self._access, *self._elsewhere]

    def all_refresh(self) -> list[str]:
        """List every refresh token, retired or not."""
        return list(self._families)

    def family(self, refresh_token: str) -> Family | None:
        """Find the family of a refresh token, retired or not."""
        return self._families.get(refresh_token)

    def revoke_family(self, refresh_token: str) -> None:
        """Revoke the family of a refresh token, or raise `ValueError` when there is none."""
        family = self._families.get(refresh_token)
        if family is None:
            raise ValueError("this server never issued that refresh token")
        self._revoke(family)

    def end(self, access: Access) -> None:
        """Give up the login of an access token, at its owner's wish: no family that had to be revoked."""
        if access.family is not None:
            access.family.revoked = True

    def _revoke(self, family: Family) -> None:
        if not family.revoked:
            family.revoked = True
            self.families_revoked += 1

    def _rotated(self, family: Family) -> str:
        family.current = _opaque("rt")
        self._families[family.current] = family
        return family.current

    def issue(
        self, wanted: Wanted, now: float, family: Family | None = None, refresh_token: str | None = None
    ) -> Issued:
        """Issue an access token."""
        self._serial += 1
        self.issued += 1
        signed = self._signed if wanted.signed is None else wanted.signed
        lifetime = self._lifetime if wanted.lifetime is None else wanted.lifetime
        claims = self._claims(wanted, now, lifetime, signed=signed)
        access_token = self._sign(claims) if signed else _opaque("at")
        subject, expires_at = str(claims.get("sub", "")), claims.get("exp")
        client_id, scope = str(claims.get("client_id", "")), str(claims.get("scope", ""))
        access = Access(self._serial, subject, client_id, scope, expires_at, family, claims, signed)
        if claims.get("iss") == self._issuer():
            self._access[access_token] = access
            self._newest[_holder(access)] = self._serial
        else:
            self._elsewhere.append(access_token)
        return Issued(access_token, refresh_token, lifetime, wanted.scope)

    def _claims(self, wanted: Wanted, now: float, lifetime: float | None, *, signed: bool) -> dict[str, Any]:
        """List what the token says (RFC 9068 §2.2)."""
        audience = wanted.audience or ((DEFAULT_AUDIENCE,) if signed else ())
        ends = None if lifetime is None else now + lifetime
        claims: dict[str, Any] = {
            "iss": self._issuer(),
            "sub": wanted.subject,
            "aud": (audience[0] if len(audience) == 1 else list(audience)) if audience else None,
            "client_id": wanted.client_id,
            "iat": math.floor(now) if signed else now,
            "exp": math.ceil(ends) if signed and ends is not None else ends,
            "jti": _opaque("jti"),
            "scope": wanted.scope or None,
        }
        return {name: value for name, value in {**claims, **wanted.claims}.items() if value is not None}


def _holder(access: Access) -> tuple[str, str, str]:
    """Name those who hold one newest token: the same subject, client and audience."""
    return access.subject, access.client_id, str(access.claims.get("aud", ""))


def _opaque(prefix: str) -> str:
    return f"{prefix}-{secrets.token_urlsafe(24)}"
