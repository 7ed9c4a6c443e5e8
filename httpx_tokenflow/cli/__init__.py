"""The command line: ``tokenflow demo``.

Start reading at `_demo`, the command and its table. What is played is in `_scenes`, how it is played and measured in
`_stage`; the server has a process of its own (`_server`), and what the library is compared with is `_handwritten`.

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
        if missing.name not in _EXTRAS:
            raise
        sys.exit(f"tokenflow: {missing.name} is missing: {_INSTALL}")


def _app() -> Any:
    import typer

    from ._demo import demo

    app = typer.Typer(name="tokenflow", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_tokenflow)  # rule 2
    app.command()(demo)
    return app


def _tokenflow() -> None:
    """HTTP 401 is a non-event: the tools of httpx_tokenflow."""
