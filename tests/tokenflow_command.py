"""The command `tokenflow` as a person runs it: in a home of its own, in a pipe or in a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from httpx_tokenflow.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = str(Path(sys.executable).with_name("tokenflow"))
PATIENCE = 60.0  # seconds; a loaded machine is slow, and this only guards against a hang
_IN_TERMINAL = "import os, sys; os.login_tty(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Home:
    """Somebody's home directory, with nothing in it; `said` is all that the command has ever said."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.config = folder / "config" / "tokenflow" / "profiles.toml"
        self.state = folder / "state" / "httpx_tokenflow"
        self.browsed = folder / "browsed"  # what the browser was asked to show
        browser = folder / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" >> "{self.browsed}"\n')
        browser.chmod(0o700)
        kept = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_START") if name in os.environ
        }
        self.environment = {
            **kept,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "BROWSER": f"{browser} %s",
            "PYTHONWARNINGS": "error",
            "COLUMNS": "100",
            **environment,
        }
        self.said: list[str] = []

    def profile(self, name: str = "default", **settings: Any) -> None:
        """Add a profile to the file."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        with self.config.open("a") as file:
            file.write("\n".join([f"[profiles.{name}]", *lines, "", ""]))

    def start(self, *arguments: str, **settings: Any) -> subprocess.Popen[str]:
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        return subprocess.Popen([COMMAND, *arguments], env=self.environment, text=True, **settings)

    def end(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        out, errors = process.communicate(timeout=PATIENCE)
        self.said += [out or "", errors or ""]
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def run(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run it, and wait for its end."""
        return self.end(self.start(*arguments, stdin=subprocess.DEVNULL, **settings))

    def token(self, *arguments: str) -> str:
        """What `tokenflow token` prints; it is not in `said`."""
        ended = self.run("token", *arguments)
        del self.said[-2:]
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.endswith("\n")
        assert ended.stdout.count("\n") == 1
        return ended.stdout[:-1]

    def status(self, name: str = "default") -> dict[str, Any]:
        """What `tokenflow status --json` says of a profile."""
        ended = self.run("status", "--json")
        assert ended.stderr == ""
        return next(one for one in json.loads(ended.stdout) if one["profile"] == name)

    def entries(self) -> list[Path]:
        return sorted(self.state.glob("*.entry"))

    def entry(self) -> dict[str, Any]:
        """The one entry of the store, as it is."""
        (path,) = self.entries()
        return json.loads(path.read_text())

    def age(self, seconds: float = 1e6) -> None:
        """Let the token of the one entry be that much older."""
        (path,) = self.entries()
        entry = json.loads(path.read_text())
        entry["issued_at"] -= seconds
        path.write_text(json.dumps(entry))

    def url(self) -> str:
        """The address that the browser was asked to show."""
        deadline = time.monotonic() + PATIENCE
        while not (self.browsed.exists() and self.browsed.read_text().endswith("\n")):
            assert time.monotonic() < deadline, "no browser was opened"
            time.sleep(0.02)
        (url,) = self.browsed.read_text().split()
        self.browsed.unlink()
        return url

    def log_in(self, person: Any, *arguments: str) -> str:
        """Run `tokenflow login` in a terminal, and have `person` log in where the browser is sent; what was said."""
        with self.terminal("login", *arguments) as terminal:
            person.visit(self.url())
            assert terminal.wait() == 0, terminal.text
        return terminal.text

    @contextmanager
    def terminal(self, *arguments: str) -> Iterator[Terminal]:
        """Run it in a terminal."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, str(theirs), COMMAND, *arguments],
            env={**self.environment, "TERM": "xterm-256color"}, pass_fds=[theirs], stdin=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        terminal = Terminal(process, ours)
        try:
            yield terminal
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            os.close(ours)
            self.said.append(terminal.text)


class Inside(Home):
    """The same, and the command runs in this process, which takes a tenth of the time."""

    def run(self, *arguments: str, **_settings: Any) -> subprocess.CompletedProcess[str]:
        out, errors, code = io.StringIO(), io.StringIO(), None
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.object(sys, "argv", ["tokenflow", *arguments]),
            redirect_stdout(out),
            redirect_stderr(errors),
        ):
            try:
                main()
            except SystemExit as end:
                code = end.code
        self.said += [out.getvalue(), errors.getvalue()]
        return subprocess.CompletedProcess(arguments, code or 0, out.getvalue(), errors.getvalue())

    def log_in(self, person: Any, *arguments: str) -> str:
        with mock.patch("webbrowser.open", person.browse):
            ended = self.run("login", *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr + ended.stdout


class Terminal:
    """A terminal in which it runs: what is on the screen, and keys to press."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self.raw = b""
        self._screen = screen

    @property
    def text(self) -> str:
        return _STYLE.sub("", self.raw.decode("utf-8", "replace")).replace("\r\n", "\n")

    def read_until(self, pattern: str) -> re.Match[str]:
        """Wait for `pattern` on the screen."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.text)) is None:
            assert self._read(deadline - time.monotonic()), f"it ended without {pattern!r}: {self.text}"
        return found

    def press(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def wait(self) -> int:
        """Its exit status, when it has ended and all has been read."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, seconds: float) -> bool:
        assert seconds > 0, f"it takes too long: {self.text}"
        if not select.select([self._screen], [], [], seconds)[0]:
            return True
        try:
            chunk = os.read(self._screen, 65_536)
        except OSError:  # Linux: nobody has the other end
            return False
        self.raw += chunk
        return bool(chunk)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
