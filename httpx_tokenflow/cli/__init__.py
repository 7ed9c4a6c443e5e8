"""The command line: ``tokenflow``.

Each command is a module with a function of its name. They are three families, and start reading at the command:

    a session   _login, _token (_quick is what it does), _logout, _status. A profile is in _profiles, its file in
                _profile_file and _profile_writing, its grants in _kept; _settling: which profile and store a login has;
                _signals: what a signal may not tear; _claims: who has logged in
    why a 401   _doctor: what was asked in _asked (of a command line of curl: _curl, _shell) and _given, a token first
                in _fetching, the probes sent in _prober, told in _verdict. _inspect: a token by itself, in _token_words
    the demo    _demo: what is promised in _scenes, how it is played in _plays, by whom in _sides (_handwritten: what
                the library is compared with), measured in _stage; an _outcome is what comes of it, and _report says
                so, with a picture by _plot. The server has a process of its own (_server)

All of the first family speak by `_plainly`, and share the options of `_commands`; what any message may quote of what
somebody gave is in `_quoting`.

Rules.

1. typer and rich (the extra `cli`) and uvicorn (the extra `testing`) are imported inside functions: where one is
   missing, the answer is one line that says what to install.
2. Every command is a subcommand, also while there is only one.
3. What one command needs, another does not load: scripts call ``tokenflow token`` in every line.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from typing import Any

__all__ = ["main"]

_COMMANDS = {  # name: the module that it is in
    "demo": "_demo", "doctor": "_doctor", "login": "_login", "token": "_token", "logout": "_logout",
    "status": "_status", "inspect": "_inspect",
}  # fmt: skip
_EXTRAS = {
    "filelock": "cli", "keyring": "cli", "platformdirs": "cli", "rich": "cli", "tomlkit": "cli", "typer": "cli",
    "uvicorn": "cli,testing",
}  # fmt: skip


def main() -> None:
    """Run ``tokenflow``.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    try:
        if not _is_done(sys.argv[1:]):
            _app(sys.argv[1:])()
    except ModuleNotFoundError as missing:
        module = (missing.name or "").partition(".")[0]
        if module not in _EXTRAS:
            raise
        sys.exit(f"tokenflow: {module} is missing: pip install 'httpx-tokenflow[{_EXTRAS[module]}]'")
    except KeyboardInterrupt:  # while modules are loaded; the commands see to it themselves
        sys.exit(130)


def _is_done(arguments: list[str]) -> bool:
    """Whether it was the command that scripts call, and typer need not be loaded for it (rule 3)."""
    if arguments[:1] != ["token"]:
        return False
    from ._quick import try_token

    return try_token(arguments[1:])


def _app(arguments: list[str]) -> Any:
    import typer

    app = typer.Typer(name="tokenflow", no_args_is_help=True, pretty_exceptions_enable=False)

    @app.callback()  # rule 2
    def tokenflow(
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=_say_version, help="Show the version."
        ),
    ) -> None:
        """HTTP 401 is a non-event: the tools of httpx_tokenflow."""

    asked = _COMMANDS.keys() & set(arguments[:1]) or _COMMANDS  # rule 3; all of them for help and completion
    for name in asked:
        app.command(name)(getattr(importlib.import_module(f".{_COMMANDS[name]}", __name__), name))
    return app


def _say_version(wanted: bool) -> None:
    if wanted:
        print("tokenflow", metadata.version("httpx-tokenflow"))  # noqa: T201 - what is asked for
        raise SystemExit(0)
