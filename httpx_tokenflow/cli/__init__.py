"""The command line: ``tokenflow demo``.

Start reading at `_demo`, the command. What is promised is in `_scenes`, how it is played in `_plays`, and by whom in
`_sides`; `_handwritten` is what the library is compared with. `_stage` measures, an `_outcome` is what comes of it, and
`_report` says so, with a picture by `_plot`. The server has a process of its own (`_server`).

Rules.

1. typer and rich (the extra `cli`) and uvicorn (the extra `testing`) are imported inside functions: where one is
   missing, the answer is one line that says what to install.
2. Every command is a subcommand, also while there is only one.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["main"]

_EXTRAS = frozenset({"rich", "typer", "uvicorn"})
_INSTALL = "pip install 'httpx-tokenflow[cli,testing]'"


def main() -> None:
    """Run ``tokenflow``.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    try:
        _app()()
    except ModuleNotFoundError as missing:
        extra = (missing.name or "").partition(".")[0]
        if extra not in _EXTRAS:
            raise
        sys.exit(f"tokenflow: {extra} is missing: {_INSTALL}")


def _app() -> Any:
    import typer

    from ._demo import demo

    app = typer.Typer(name="tokenflow", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_tokenflow)  # rule 2
    app.command()(demo)
    return app


def _tokenflow() -> None:
    """HTTP 401 is a non-event: the tools of httpx_tokenflow."""
