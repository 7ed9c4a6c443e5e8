"""``tokenflow logout``: give a session up, here and at the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow import StoreError
from httpx_tokenflow.events import StoreFailed

from ._commands import ConfigFile, ProfileName  # noqa: TC001 - typer reads them
from ._plainly import plainly
from ._profiles import load_profile
from ._signals import held

if TYPE_CHECKING:
    from httpx_tokenflow.events import Event

    from ._profiles import Profile

__all__ = ["logout"]


def logout(profile: ProfileName = "default", config: ConfigFile = None) -> None:
    """Log out: forget the session here, and have the server revoke it (RFC 7009).

    It is forgotten here whatever the server says, and the profile stays in its file. Says whether the server agreed.

    $ tokenflow logout

    $ tokenflow logout --profile work
    """
    with plainly():
        print(_leave(load_profile(profile, config)))  # noqa: T201 - what is asked for


def _leave(profile: Profile) -> str:
    if profile.stored() is None:
        return f"Nobody is logged in with the profile {profile.name}."
    failed: list[StoreFailed] = []

    def heed(event: Event) -> None:
        if isinstance(event, StoreFailed):
            failed.append(event)

    with profile.auth(on_event=heed) as auth, held():
        agreed = auth.revoke()
    if failed:
        told = "The server has revoked it" if agreed else "Nor did the server revoke it"
        raise StoreError(f"the session could not be forgotten: {failed[0].error}. {told}")
    left = f"Logged out of {profile.server} (profile {profile.name})"
    if agreed:
        return f"{left}: the session is forgotten here, and the server has revoked it."
    return (
        f"{left}: the session is forgotten here. The server did not revoke it: it was not reached, refused, or offers "
        "no revocation. Whoever has a copy of the tokens can use them until they end."
    )
