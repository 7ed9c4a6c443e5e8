"""What an ID token says of the person, for people to read; nothing is decided by it."""

from __future__ import annotations

from typing import Any

__all__ = ["are_two_persons", "name_in"]

_NAMES = ("email", "preferred_username", "name", "sub")  # the first that is there
_MAX_NAME = 100  # characters


def name_in(id_token: str | None) -> str | None:
    """Who has logged in, as the server calls them; None, if it does not say."""
    claims = _claims_in(id_token)
    found = (claims.get(name) for name in _NAMES)
    return next((one[:_MAX_NAME] for one in found if isinstance(one, str) and one), None)


def are_two_persons(one: str | None, other: str | None) -> bool:
    """Whether two ID tokens of one server name each a person, and not the same (OpenID Connect Core §2)."""
    subjects = [_claims_in(token).get("sub") for token in (one, other)]
    return all(isinstance(subject, str) and subject for subject in subjects) and subjects[0] != subjects[1]


def _claims_in(id_token: str | None) -> dict[str, Any]:
    if id_token is None:
        return {}
    import jwt

    try:
        claims: dict[str, Any] = jwt.decode(id_token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}
    return claims
