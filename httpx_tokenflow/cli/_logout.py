"""``tokenflow logout``: give a session up, here and at the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow import StoreError
from httpx_tokenflow._errors import DamagedEntry
from httpx_tokenflow.events import StoreFailed

from ._commands import ConfigFile, ProfileName  # noqa: TC001 - typer reads them
from ._plainly import in_words, plain, plainly
from ._profiles import load_profile

if TYPE_CHECKING:
    from httpx_tokenflow.events import Event

    from ._profiles import Profile

__all__ = ["logout"]


def logout(profile: ProfileName = "default", config: ConfigFile = None) -> None:
    """Log out: forget the session here, and have the server revoke it (RFC 7009).

    It is forgotten here whatever the server says, and the profile stays in its file. Says whether the server agreed,
    and if not, why. A request to the server takes 30 seconds at most.

    Log out before you change issuer, client, scope, resource, audience or subject in the file: a session belongs to
    these, and the one of before would stay where it is, alive.

    $ tokenflow logout

    $ tokenflow logout --profile work
    """
    with plainly():
        told = _leave(load_profile(profile, config))
        print(told)  # noqa: T201 - what is asked for


def _leave(profile: Profile) -> str:
    try:
        if profile.stored() is None:
            return f"Nobody is logged in with the profile {profile.name}."
    except DamagedEntry as error:
        profile.discard()
        what = str(error).removesuffix(": delete it")
        return f"Forgotten here (profile {profile.name}), and could not be revoked: {what}."
    failed: list[StoreFailed] = []

    def heed(event: Event) -> None:
        if isinstance(event, StoreFailed):
            failed.append(event)

    why_not = profile.leave(on_event=heed)
    if failed:
        told = f"Nor did the server revoke it: {why_not}" if why_not else "The server has revoked it"
        raise StoreError(f"the session could not be forgotten: {failed[0].error}. {told}")
    left = f"Logged out of {profile.server} (profile {profile.name})"
    if why_not is None:
        return f"{left}: the session is forgotten here, and the server has revoked it."
    return (
        f"{left}: the session is forgotten here. The server did not revoke it: {plain(in_words(why_not))}. "
        "Whoever has a copy of the tokens can use them until they end."
    )
