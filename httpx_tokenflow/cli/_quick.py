"""What ``tokenflow token`` does, and a way to it without typer, which takes as long to load as all the rest.

Rules.

1. Standard output has the token and nothing else; without one it has nothing.
2. No browser, no question: where a person is needed, it says so and ends.
3. It is renewed under the lease of the store, so that any number of scripts may ask at once.
4. The short way knows the command's options as scripts write them. Whatever else is there, a mistake or a question, is
   for typer to answer.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ._plainly import heed, plainly, say
from ._profiles import load_profile

__all__ = ["try_token", "write_token"]

_VALUES = {"--profile": "profile", "-p": "profile", "--config": "config"}


def write_token(profile: str, config: Path | None, *, as_json: bool) -> None:
    """Write a valid token of `profile` to standard output.

    Raises:
        SystemExit: there is none; why, and what to do, has been said.
    """
    with plainly():
        found = load_profile(profile, config).token(on_event=heed, on_loss=say)
        text = found.access_token
        if as_json:
            names = ("access_token", "token_type", "expires_at", "scope")
            text = json.dumps({name: getattr(found, name) for name in names})
        sys.stdout.write(f"{text}\n")


def try_token(arguments: list[str]) -> bool:
    """Do what ``tokenflow token`` is to do with `arguments`; False: they are for typer (rule 4).

    Raises:
        SystemExit: as `write_token`.
    """
    found = _read(arguments)
    if found is None:
        return False
    profile = found.get("profile") or os.environ.get("TOKENFLOW_PROFILE") or "default"
    config = found.get("config")
    write_token(profile, None if config is None else Path(config), as_json="json" in found)
    return True


def _read(arguments: list[str]) -> dict[str, str] | None:
    """The options, if these are all that there is, and each is whole."""
    found: dict[str, str] = {}
    rest = iter(arguments)
    for one in rest:
        name, is_joined, value = one.partition("=")
        if one == "--json":
            found["json"] = ""
        elif name in _VALUES and (name.startswith("--") or not is_joined):
            given = value if is_joined else next(rest, "")
            if not given or given.startswith("-"):
                return None
            found[_VALUES[name]] = given
        else:
            return None
    return found
