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
7. The time is an argument. Nothing here locks: the caller does.
"""

import secrets
from dataclasses import dataclass, field


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
    """What the server remembers of an access token."""

    serial: int
    subject: str
    client_id: str
    scope: str
    expires_at: float | None
    family: Family | None


@dataclass(frozen=True, slots=True)
class Issued:
    """What a token request brought; ``refresh_token`` is None when the client keeps the one that it has."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime: float | None
    scope: str


class Tokens:
    """Every token that this server ever issued."""

    def __init__(self, *, lifetime: float | None, rotate: bool, newest_only: bool) -> None:
        self.issued = 0
        self.families_revoked = 0
        self._lifetime = lifetime
        self._rotate = rotate
        self._newest_only = newest_only
        self._serial = 0
        self._expired_up_to = 0
        self._revoked_up_to = 0
        self._access: dict[str, Access] = {}
        self._families: dict[str, Family] = {}
        self._newest: dict[tuple[str, str], int] = {}

    def login(self, subject: str, client_id: str, scope: str, now: float) -> Issued:
        """Start a family, as an interactive login does."""
        refresh_token = _opaque("rt")
        family = Family(subject, client_id, scope, refresh_token)
        self._families[refresh_token] = family
        return self._issue(subject, client_id, scope, now, family, refresh_token)

    def client_credentials(self, client_id: str, scope: str, now: float) -> Issued:
        """Issue a token to the client itself (RFC 6749 §4.4)."""
        return self._issue(client_id, client_id, scope, now, None, None)

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
        return self._issue(family.subject, client_id, scope or family.scope, now, family, successor)

    def verify(self, access_token: str, now: float) -> Access:
        """Give back what the token stands for, or raise `Rejected` by rule 4."""
        access = self._access.get(access_token)
        if access is None:
            raise Rejected("invalid_token", "the access token is unknown")
        expired = access.expires_at is not None and now >= access.expires_at
        if expired or access.serial <= self._expired_up_to:
            raise Rejected("invalid_token", "the access token expired")
        if access.serial <= self._revoked_up_to or (access.family is not None and access.family.revoked):
            raise Rejected("invalid_token", "the access token was revoked")
        if self._newest_only and access.serial != self._newest[access.subject, access.client_id]:
            raise Rejected("invalid_token", "the access token was replaced by a newer one")
        return access

    def expire_all(self) -> None:
        """Let every access token so far be expired."""
        self._expired_up_to = self._serial

    def revoke_all(self) -> None:
        """Let every access token so far be revoked; the families live on."""
        self._revoked_up_to = self._serial

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

    def _issue(
        self,
        subject: str,
        client_id: str,
        scope: str,
        now: float,
        family: Family | None,
        refresh_token: str | None,
    ) -> Issued:
        self._serial += 1
        self.issued += 1
        access_token = _opaque("at")
        expires_at = None if self._lifetime is None else now + self._lifetime
        self._access[access_token] = Access(self._serial, subject, client_id, scope, expires_at, family)
        self._newest[subject, client_id] = self._serial
        return Issued(access_token, refresh_token, self._lifetime, scope)


def _opaque(prefix: str) -> str:
    return f"{prefix}-{secrets.token_urlsafe(24)}"
