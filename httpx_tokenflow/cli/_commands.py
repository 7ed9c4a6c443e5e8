"""The options that the commands of a session share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._profiles import profile_names

__all__ = ["PROFILE", "ConfigFile", "ProfileName", "complete"]


def complete(context: typer.Context, incomplete: str) -> list[str]:
    """The names of the profiles, for the shell; none, where the file cannot be read."""
    try:
        given = context.params.get("config")
        return [name for name in profile_names(given and Path(given)) if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - whoever presses tab wants no error
        return []


PROFILE = typer.Option(
    "--profile",
    "-p",
    envvar="TOKENFLOW_PROFILE",
    autocompletion=complete,
    help="Which profile of the file.",
)
ProfileName = Annotated[str, PROFILE]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="TOKENFLOW_CONFIG",
        metavar="FILE",
        help="The file with the profiles; else tokenflow/profiles.toml in your configuration directory.",
    ),
]
