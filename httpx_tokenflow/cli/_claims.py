"""What an ID token says of the person, for people to read; nothing is decided by it."""

from __future__ import annotations

__all__ = ["name_in"]

_NAMES = ("email", "preferred_username", "name", "sub")  # the first that is there
_MAX_NAME = 100  # characters


def name_in(id_token: str | None) -> str | None:
    """Who has logged in, as the server calls them; None, if it does not say."""
    if id_token is None:
        return None
    import jwt

    try:
        claims = jwt.decode(id_token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    found = (claims.get(name) for name in _NAMES)
    return next((one[:_MAX_NAME] for one in found if isinstance(one, str) and one), None)
