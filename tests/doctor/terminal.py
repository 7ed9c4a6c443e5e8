"""`tokenflow` as a person runs it: the real command in a real terminal of 80 columns, and all that it writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("tokenflow")
STYLE = re.compile(r"\x1b\[[0-9;]*m")  # what rich writes: colours and weights, and no other sequence


@dataclass(frozen=True)
class Screen:
    """What was written to the terminal, and the exit status."""

    raw: str
    status: int
    seconds: float

    @property
    def text(self) -> str:
        """Without colours."""
        return STYLE.sub("", self.raw).replace("\r\n", "\n")

    @property
    def verdict(self) -> str:
        """The first line, whole: it may have been wrapped. What comes under it is indented."""
        lines = self.text.split("\n")
        end = next((at for at, line in enumerate(lines) if not line.strip() or line.startswith(" ")), len(lines))
        return " ".join(line.strip() for line in lines[:end])


def in_terminal(
    *arguments, environment=None, typed=None, stdin=None, columns=80, limit=60.0, interrupt_when=None
) -> Screen:
    """Run the command.

    `typed` is a prompt and what is typed when it is there; `stdin` comes through a pipe instead of the terminal; and
    once `interrupt_when` is true there is a Ctrl-C.
    """
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    own = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TERM": "xterm-256color"}
    environment = (
        own | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ} | dict(environment or {})
    )
    began = time.monotonic()
    process = subprocess.Popen(
        [str(COMMAND), *arguments],
        stdin=side if stdin is None else subprocess.PIPE,
        stdout=side,
        stderr=side,
        env=environment,
        start_new_session=True,
    )
    os.close(side)
    if stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(stdin.encode("utf-8", "surrogateescape"))
            process.stdin.close()
    written = b""
    try:
        while time.monotonic() - began < limit:
            if interrupt_when is not None and interrupt_when():
                os.kill(process.pid, signal.SIGINT)
                interrupt_when = None
            if typed is not None and typed[0].encode() in written:
                os.write(main, typed[1].encode())
                typed = None
            if not select.select([main], [], [], 0.05)[0]:
                continue
            try:
                chunk = os.read(main, 65536)
            except OSError:  # Linux: nobody writes any more
                break
            if not chunk:
                break
            written += chunk
        status = process.wait(timeout=max(1.0, limit - (time.monotonic() - began)))
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        os.close(main)
    return Screen(written.decode("utf-8", "replace"), status, time.monotonic() - began)
