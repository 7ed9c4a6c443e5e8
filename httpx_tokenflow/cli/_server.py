"""The embedded server in a process of its own: it shares neither an interpreter lock nor a core with who is measured.

Measured on two cores: a thousand requests take a third longer when the server is a thread beside the callers.
"""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

from httpx_tokenflow.testing import Sandbox, Slow, serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

    from httpx_tokenflow.testing._asgi import Receive, Scope, Send

__all__ = ["Remote", "Server", "Service"]

_STOP_WITHIN = 5.0  # seconds


class Service(Sandbox):
    """A sandbox whose token endpoint can be down.

    Attributes:
        turned_away: token requests that found it down; they are counted in `token_requests` too.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.turned_away = 0
        self._is_down = False

    def set_down(self, is_down: bool) -> None:
        """Go down, or come back."""
        self._is_down = is_down

    def token_requests_at(self) -> list[float]:
        """When the token requests that were not turned away arrived, in Unix seconds."""
        return [seen.at for seen in self.seen if seen.path == "/token"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, unless it is turned away."""
        if not (self._is_down and scope.get("path") == "/token"):
            await super().__call__(scope, receive, send)
            return
        self.token_requests += 1
        self.turned_away += 1
        await receive()
        await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


class Remote:
    """A `Service` in the other process: its methods and its counters, as far as the demo needs them.

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
        self._ask("script", Slow(seconds))

    def go_down(self) -> None:
        """From now on, the token endpoint answers 503 to everybody."""
        self._ask("set_down", True)

    def come_back(self) -> None:
        """The token endpoint is as it was."""
        self._ask("set_down", False)

    def accept_key(self, key: str) -> None:
        """The API accepts this key too."""
        self._ask("api_keys.add", key)

    def retire_key(self, key: str) -> None:
        """The API accepts this key no more."""
        self._ask("api_keys.discard", key)

    def is_alive(self, refresh_token: str) -> bool:
        """Whether this refresh token's family is not revoked."""
        return bool(self._ask("is_alive", refresh_token))

    def token_requests(self) -> int:
        """POSTs that reached the token endpoint."""
        return int(self._ask("token_requests"))

    def turned_away(self) -> int:
        """Those of them that found it down."""
        return int(self._ask("turned_away"))

    def token_requests_at(self) -> list[float]:
        """When the others arrived, in Unix seconds."""
        return list(self._ask("token_requests_at"))

    def tokens_issued(self) -> int:
        """Access tokens that it has brought."""
        return int(self._ask("tokens_issued"))

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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for us, and reaches the whole group
    try:
        while True:
            sandbox = Service(**pipe.recv())
            with serve(sandbox) as url:
                pipe.send(url)
                while (order := pipe.recv()) is not None:
                    name, args = order
                    value = attrgetter(name)(sandbox)
                    pipe.send(value(*args) if callable(value) else value)
    except EOFError:
        return
