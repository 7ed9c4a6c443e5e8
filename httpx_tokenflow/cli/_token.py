"""``tokenflow token``: a valid access token, for scripts.

Rules.

1. Standard output has the token and nothing else; without one it has nothing.
2. No browser, no question: where a person is needed, it says so and ends.
3. It is renewed under the lease of the store, so that any number of scripts may ask at once.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ._commands import ConfigFile, ProfileName, heed, plainly, say
from ._profiles import load_profile

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

    Any number of scripts may ask at once: one renews, the others wait for it.

    $ curl -H "Authorization: Bearer $(tokenflow token)" https://api.example.com/me

    $ tokenflow token --profile work --json
    """
    with plainly():
        found = load_profile(profile, config).token(on_event=heed, on_loss=say)
        text = found.access_token
        if as_json:
            facts = {"access_token": text, "token_type": found.token_type}
            more = {"expires_at": found.expires_at, "scope": found.scope}
            text = json.dumps(facts | {name: value for name, value in more.items() if value is not None})
        sys.stdout.write(f"{text}\n")
