"""The embedded server in a process of its own: it shares neither an interpreter lock nor a core with who is measured.

Measured on two cores: a thousand requests take a third longer when the server is a thread beside the callers.
"""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

__all__ = ["Remote", "Server"]

_STOP_WITHIN = 5.0  # seconds


class Remote:
    """A `Sandbox` in the other process: its methods and its counters, as far as the demo needs them.

    Args:
        url: where it is served.
        pipe: how it is told what to do.
    """

    def __init__(self, url: str, pipe: Connection[Any, Any]) -> None:
        self.url = url
        self._pipe = pipe

    def login(self) -> dict[str, Any]:
        """Start a family of tokens."""
        answer: dict[str, Any] = self._ask("login")
        return answer

    def revoke_access_tokens(self) -> None:
        """Refuse all access tokens issued so far; their refresh tokens stay good."""
        self._ask("revoke_access_tokens")

    def slow_down(self, seconds: float) -> None:
        """Let the next answer of the token endpoint, which rotates at once, take that much longer."""
        from httpx_tokenflow.testing import Slow

        self._ask("script", Slow(seconds))

    def is_alive(self, refresh_token: str) -> bool:
        """Whether this refresh token's family is not revoked."""
        return bool(self._ask("is_alive", refresh_token))

    def token_requests(self) -> int:
        """POSTs that reached the token endpoint."""
        return int(self._ask("token_requests"))

    def api_refused(self) -> int:
        """401s that the API answered."""
        return int(self._ask("api_refused"))

    def _ask(self, name: str, *args: object) -> Any:
        self._pipe.send((name, args))
        return self._pipe.recv()


class Server:
    """The other process, for as long as a ``with`` block lasts; it serves one sandbox after the other."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would inherit our threads' locks
        self._pipe, self._theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve_all, args=(self._theirs,), daemon=True, name="tokenflow-server")

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._pipe.close()
        self._process.join(_STOP_WITHIN)
        if self._process.is_alive():
            self._process.kill()

    @contextmanager
    def sandbox(self, settings: Mapping[str, Any]) -> Iterator[Remote]:
        """Serve a new sandbox for as long as a ``with`` block lasts.

        Args:
            settings: the sandbox's arguments.

        Yields:
            The sandbox.
        """
        self._pipe.send(dict(settings))
        yield Remote(self._pipe.recv(), self._pipe)
        self._pipe.send(None)


def _serve_all(pipe: Connection[Any, Any]) -> None:
    """The life of the other process: it ends when our end of the pipe is closed."""
    from httpx_tokenflow.testing import Sandbox, serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for us, and reaches the whole group
    try:
        while True:
            sandbox = Sandbox(**pipe.recv())
            with serve(sandbox) as url:
                pipe.send(url)
                while (order := pipe.recv()) is not None:
                    name, args = order
                    value = getattr(sandbox, name)
                    pipe.send(value(*args) if callable(value) else value)
    except EOFError:
        return
