"""What is in a token, in words: the claims and what they mean, times as people say them, what the token seems to be.

Rules.

1. Nothing is verified, and nothing is decided by it but what a person is shown (RFC 9068 §6).
2. What comes from a token is shown without control characters, and not without end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from httpx_tokenflow.doctor._front import PREFIXES, marks_of_another, marks_of_id_token, marks_of_refresh_token

from ._plainly import lasting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx_tokenflow.doctor import Reading

__all__ = ["Line", "ago", "lines_of", "printable", "seems", "troubles", "vendor_of"]

_LONG = 400  # characters of a value
_YEAR = 365 * 86_400.0
_SLACK = 60.0  # seconds by which clocks may differ
_MILLISECONDS = 1e11  # a NumericDate beyond this is in the year 5138, or in milliseconds
_TIMES = frozenset({"exp", "nbf", "iat", "auth_time", "updated_at", "rat"})

_HEADER = {
    "alg": "how it is signed", "typ": "what it is", "kid": "the key that it is signed with",
    "enc": "how it is encrypted", "cty": "what is inside", "jku": "where its keys are said to be",
    "x5t": "the certificate it is signed with",
    "x5c": "the certificate itself", "jwk": "the key itself",
}  # fmt: skip
_CLAIMS = {
    "iss": "who issued it", "sub": "whom it is about", "aud": "for which API it is", "exp": "when it ends",
    "nbf": "from when it is good", "iat": "when it was issued", "jti": "its own name",  # RFC 7519 §4.1
    "scope": "what it allows", "client_id": "which client asked for it", "roles": "roles", "groups": "groups",
    "entitlements": "entitlements", "auth_time": "when the person logged in", "acr": "how strongly they logged in",
    "amr": "how they logged in",  # RFC 9068 §2.2
    "nonce": "ties it to a login: ID tokens have it", "at_hash": "the access token beside it: ID tokens have it",
    "c_hash": "the code beside it: ID tokens have it", "azp": "to which client it was issued", "sid": "the session",
    "email": "e-mail address", "email_verified": "whether that was checked", "name": "name",
    "given_name": "first name", "family_name": "last name", "preferred_username": "login name",
    "updated_at": "when the profile was changed",  # OpenID Connect Core §2, §5.1
    "cnf": "the key it is bound to: the holder must prove to have that", "act": "who acts for the subject",
    "may_act": "who may act for the subject", "authorization_details": "what it allows, in detail",
    "scp": "what it allows", "permissions": "what it allows", "token_use": "access or id (Cognito)",
    "cid": "which client asked for it (Okta)", "uid": "the user (Okta)",
    "tid": "the tenant (Entra ID)", "oid": "the user or service (Entra ID)",
    "appid": "which client asked for it (Entra ID)",
    "appidacr": "how the client proved itself (Entra ID)", "azpacr": "how the client proved itself (Entra ID)",
    "ver": "which kind of token (Entra ID)", "wids": "directory roles (Entra ID)", "idtyp": "app or user (Entra ID)",
    "upn": "login name (Entra ID)", "unique_name": "login name (Entra ID)", "aio": "for Entra ID itself",
    "rh": "for Entra ID itself", "uti": "its own name (Entra ID)", "xms_tcdt": "for Entra ID itself",
    "cognito:groups": "groups (Cognito)", "cognito:username": "login name (Cognito)",
    "origin_jti": "the login it comes from (Cognito)", "event_id": "the login event (Cognito)",
    "username": "login name", "realm_access": "roles in the realm (Keycloak)",
    "resource_access": "roles for each API (Keycloak)", "session_state": "the session (Keycloak)",
    "typ": "which kind of token (Keycloak)", "allowed-origins": "pages that may use it (Keycloak)",
    "gty": "by which grant (Auth0)", "org_id": "the organisation (Auth0)", "htm": "the method of a DPoP proof",
    "htu": "the URL of a DPoP proof", "ath": "the token that a DPoP proof is for", "events": "what happened",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One field of a token: its name, its value in words, and what it means, as far as it is known."""

    name: str
    value: str
    meaning: str = ""


def printable(text: object, most: int = _LONG) -> str:
    """`text` on one line, without what a terminal would obey (rule 2)."""
    shown = "".join(one if one.isprintable() else " " if one in "\r\n\t" else "�" for one in str(text)[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def ago(seconds: float, now: float) -> str:
    """A moment as people say it: "in 5 min", "3 h ago"."""
    apart = seconds - now
    if abs(apart) >= _YEAR:
        years = abs(apart) / _YEAR
        return f"in {years:.1f} years" if apart > 0 else f"{years:.1f} years ago"
    return f"in {lasting(apart)}" if apart > 0 else f"{lasting(-apart)} ago"


def _moment(seconds: float, now: float) -> str:
    if seconds >= _MILLISECONDS:
        return f"{seconds:.0f}, which is no date: milliseconds instead of seconds?"
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}, which is no date"
    return f"{date:%Y-%m-%d %H:%M:%S} UTC, {ago(seconds, now)}"


def lines_of(reading: Reading, now: float) -> Iterator[Line]:
    """The header and the claims, the registered ones first."""
    for name, value in reading.header.items():
        yield Line(printable(name, 40), _value(value), _HEADER.get(name, "a field of its header"))
    known = [name for name in _CLAIMS if name in reading.claims]
    for name in [*known, *(name for name in reading.claims if name not in _CLAIMS)]:
        seconds = reading.seconds(name) if name in _TIMES else None
        value = _value(reading.claims[name]) if seconds is None else _moment(seconds, now)
        yield Line(printable(name, 40), value, _CLAIMS.get(name, ""))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return printable(", ".join(value))
    return printable(json.dumps(value, ensure_ascii=False))


def seems(reading: Reading, value: str = "") -> str:
    """What the token seems to be, by what it says of itself."""
    if reading.kind == "jwe":
        return "an encrypted token (JWE, RFC 7516), which only its audience can read"
    if reading.kind == "opaque":
        vendor = vendor_of(value)
        return vendor or "an opaque token: what it allows is known to its issuer alone (RFC 7662 asks there)"
    if reading.problems:
        return "a JWT that is malformed"
    return _by_header(reading) or _by_marks(reading) or _by_claims(reading)


def _by_header(reading: Reading) -> str | None:
    told = reading.header.get("typ")
    typ = told.lower().removeprefix("application/") if isinstance(told, str) else ""
    return {
        "at+jwt": "an access token (RFC 9068, by its typ)",
        "dpop+jwt": "a DPoP proof (RFC 9449), which is no token",
        "logout+jwt": "a logout token (OpenID Connect Back-Channel Logout), which opens nothing",
        "secevent+jwt": "a security event (RFC 8417), which opens nothing",
        "oauth-authz-req+jwt": "an authorization request (RFC 9101), which opens nothing",
        "token-introspection+jwt": "an introspection response (RFC 9701), which opens nothing",
    }.get(typ)


def _by_marks(reading: Reading) -> str | None:
    """What the doctor takes it for, if it is no access token."""
    if marks_of_id_token(reading):
        return "an ID token: for the client that the person logged in to, not for an API (OpenID Connect Core §2)"
    if marks_of_refresh_token(reading):
        return "a refresh token: for the token endpoint alone, never for an API (RFC 6749 §1.5)"
    if another := marks_of_another(reading):
        return f"{another[0]}, which opens nothing: {another[1]}"
    return None


def _by_claims(reading: Reading) -> str:
    claims = reading.claims
    if reading.text("token_use") == "access" or reading.text("typ") == "Bearer":
        return "an access token, as it says itself"
    if reading.scopes or any(name in claims for name in ("roles", "azp", "client_id", "cid", "appid")):
        return "an access token, by its claims"
    if claims.get("iss") is not None and claims.get("iss") == claims.get("sub"):
        return "a client's assertion (RFC 7523), or an access token of a service for itself"
    return "a JWT; of which kind, it does not say"


def vendor_of(value: str) -> str | None:
    """Whose key this is, by how it begins: the longest beginning that is known."""
    known = max((one for one in PREFIXES if value.startswith(one.text)), key=lambda one: len(one.text), default=None)
    if known is None:
        return None
    what = known.kind or "a key"
    mode = f", for {known.mode}" if known.mode else ""
    return f"{what} of {known.vendor}{mode} (it begins with {known.text})"


def troubles(reading: Reading, now: float) -> list[str]:
    """What is wrong with the token, by itself."""
    if reading.kind != "jwt":
        return []
    found = list(reading.problems)
    if reading.problems:
        return found
    if str(reading.header.get("alg")).lower() == "none":
        found.append("it is not signed (alg none): everybody can make such a token (RFC 8725 §3.2)")
    return [*found, *_of_times(reading, now)]


def _of_times(reading: Reading, now: float) -> Iterator[str]:
    claims = reading.claims
    exp, nbf, iat = (reading.seconds(name) for name in ("exp", "nbf", "iat"))
    for name, value in (("exp", exp), ("nbf", nbf), ("iat", iat)):
        if value is None and claims.get(name) is not None:
            yield f"its {name} is no number of seconds (RFC 7519 §2)"
        elif value is not None and value >= _MILLISECONDS:
            yield f"its {name} seems to be in milliseconds, not seconds (RFC 7519 §2)"
            return
    if exp is None and claims.get("exp") is None:
        yield "it has no end (no exp): who has it, has it for good"
    if exp is not None and exp <= now:
        yield f"it has expired, {ago(exp, now)}"
    if nbf is not None and nbf > now + _SLACK:
        yield f"it is not good yet: {ago(nbf, now)} it will be (nbf)"
    if iat is not None and iat > now + _SLACK:
        yield f"it was issued in the future ({ago(iat, now)}): a clock is wrong"
    begin = nbf if iat is None else iat
    if exp is not None and begin is not None and exp - begin > _YEAR:
        yield f"it lives for {(exp - begin) / _YEAR:.1f} years: who finds it has it for long (RFC 9700 §2.2)"
