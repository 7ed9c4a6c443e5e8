"""``tokenflow token``: a valid access token, for scripts; its options and its help. `_quick` is what it does."""

from __future__ import annotations

from typing import Annotated

import typer

from ._commands import ConfigFile, ProfileName  # noqa: TC001 - typer reads them
from ._quick import write_token

__all__ = ["token"]


def token(
    profile: ProfileName = "default",
    config: ConfigFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON, with token_type, expires_at (Unix seconds) and scope.")
    ] = False,
) -> None:
    """Print a valid access token, for scripts; renew it first if it is about to end.

    Nobody is asked anything: without a session it ends with status 1, and says how to log in.
    Status 75 is for what may work later: the server is not reached, or another is renewing.

    Any number of scripts may ask at once: one renews, the others wait for it. A renewal takes
    30 seconds at most, and another's is waited for 41 seconds at most. A signal (Ctrl-C, timeout)
    while one is at the server ends the command once its answer is kept; a second Ctrl-C at once.

    $ token=$(tokenflow token) && curl -H "Authorization: Bearer $token" https://api.example.com/me

    $ tokenflow token --profile work --json
    """
    write_token(profile, config, as_json=as_json)
