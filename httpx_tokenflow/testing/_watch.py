"""Watching what a test says, for secrets: its log at DEBUG, its warnings, its output, and what it hands over.

Rules.

1. Every logger is heard at DEBUG while the watch lasts, whatever is configured meanwhile; afterwards all is as before
   (see `_hearing`).
2. What is heard is kept as text and looked at in the end: only then all secrets are known.
3. A log record counts with its traceback and with what `extra=` put into it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ._checks import told
from ._hearing import Listener, leave, listen
from ._leaks import LEAST, Finder, secrets_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._sandbox import Sandbox

_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LeakWatch:
    """Hears what a test says, and knows the secrets of its sandboxes.

    From `start` to `stop` it hears the log records of every logger from DEBUG on, whatever their levels and handlers
    are, with the values of ``extra=`` and tracebacks, and every warning that is shown or recorded (``pytest.warns``).
    What a program prints is heard by the fixture ``tokenflow_leaks``, with what the test takes by
    ``capsys.readouterr()``; else hand it to `check`. It does not hear other processes, beside what they print, nor
    warnings that a filter ignores.

    Args:
        sandbox: the server, which knows what it issued and what it was sent.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandboxes = [sandbox]
        self._added: dict[str | bytes, str] = {}
        self._heard: list[tuple[str, str]] = []
        self._ignored: tuple[str, ...] = ()
        self._handler = _Handler(self._hear_record)
        self._listener = Listener(self._handler.emit, self._hear_warning)

    def __repr__(self) -> str:
        return f"<LeakWatch {len(self._sandboxes)} sandboxes, {len(self._heard)} texts>"

    def watch(self, sandbox: Sandbox) -> None:
        """Look for the secrets of another sandbox as well."""
        self._sandboxes.append(sandbox)

    def add(self, *secrets: str) -> None:
        """Look for these as well: secrets that no sandbox knows of.

        Raises:
            ValueError: one of them is too short to be told from a word.
        """
        if any(len(secret) < LEAST for secret in secrets):
            raise ValueError(f"a secret to look for has {LEAST} characters at least: a shorter one may be a word")
        self._added |= dict.fromkeys(secrets, "a secret of the test's")

    def ignore(self, *loggers: str) -> None:
        """Pass over what these loggers and those below them say, such as ``"hpack"``, which logs header fields."""
        self._ignored += loggers

    def look_at(self, *things: Any) -> None:
        """Look at these as well, in the end: texts and bytes, exceptions, and the repr and str of anything else."""
        for thing in things:
            self._heard.extend(texts_of(thing))

    def check(self, *things: Any) -> None:
        """Fail now if a secret can be read in one of these things or in what was heard until now.

        Raises:
            AssertionError: there is one. It says what was where, not the secret.
        """
        __tracebackhide__ = True
        self.look_at(*things)
        problem = self.problem()
        if problem is not None:
            raise AssertionError(problem)

    def problem(self) -> str | None:
        """Tell of the leaks in what was heard since this was last asked; None: there is none."""
        heard, self._heard = self._heard, []
        secrets: dict[str | bytes, str] = {**self._added}
        for sandbox in self._sandboxes:
            secrets |= secrets_of(sandbox)
        finder = Finder(secrets)
        leaks = [f"{where}: {leak}" for where, text in dict.fromkeys(heard) for leak in finder.find(text)]
        return told(leaks) if leaks else None

    def hear(self, where: str, text: str) -> None:
        """Look at a text as well, in the end."""
        self._heard.append((where, text))

    def start(self) -> None:
        """Begin to listen."""
        listen(self._listener)

    def stop(self) -> None:
        """Listen no more."""
        leave(self._listener)

    def _hear_record(self, record: logging.LogRecord) -> None:
        if record.name.startswith(tuple(f"{name}." for name in self._ignored)) or record.name in self._ignored:
            return
        extra = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        text = self._handler.format(record) + (f" {extra}" if extra else "")
        self._heard.append((f"the log of {record.name!r} at {record.levelname}", text))

    def _hear_warning(self, text: str, category: type[Warning]) -> None:
        self._heard.append((f"a {category.__name__}", text))


class _Handler(logging.Handler):
    """Hands each record on."""

    def __init__(self, hear: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.DEBUG)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._hear(record)
        except Exception:  # noqa: BLE001 - as any handler: a record that cannot be written is no failure of the program
            self.handleError(record)
