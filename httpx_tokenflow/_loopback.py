"""The loopback redirect of RFC 8252 §7.3: where a browser hands over the answer to a login.

Rules.

1. Loopback only, one path, GET only; everything else is not found. Nothing of what a browser sent is ever shown.
2. Whoever is on this machine, any web page included, can send requests here. So an answer counts only if it is the one
   that was waited for; any other gets a page that says so, and the waiting goes on.
3. Connections are served as they speak: one that is opened and says nothing (browsers do that) stops no other. There
   are so many at most, each has so many bytes and seconds.
4. It serves in a thread of its own, for which the end of the program does not wait. It ends when the answer is there,
   at the deadline, or when it is closed from wherever, and leaves nothing open.
"""

from __future__ import annotations

import contextlib
import html
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ._errors import ConfigurationError
from ._loops import begin

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

__all__ = ["Closed", "Listener", "Stray"]

MAX_REQUEST = 64 * 1024  # bytes of a request's head: a code may be long, and all cookies of 127.0.0.1 come along
MAX_CONNECTIONS = 32  # at once
READ_TIMEOUT = 10.0  # seconds that a connection has to say what it wants
SEND_TIMEOUT = 1.0  # seconds that a browser has to take the page
TICK = 0.2  # seconds after which `close` is noticed

_HEAD = (
    "HTTP/1.1 {status}\r\n"
    "Content-Type: text/html; charset=utf-8\r\n"
    "Content-Length: {length}\r\n"
    "Cache-Control: no-store\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Connection: close\r\n"
    "\r\n"
)
_PAGE = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n'
    "<title>{title}</title>\n<h1>{title}</h1>\n<p>{text}</p>\n</html>\n"
)


class Stray(Exception):  # noqa: N818 - not an error of whoever waits
    """What came is not the answer that is waited for; says why, to whoever sent it."""


class Closed(Exception):  # noqa: N818 - likewise
    """It was closed while somebody waited."""


@dataclass(slots=True, eq=False)
class _Connection:
    """A browser, as far as it has spoken."""

    socket: socket.socket
    until: float
    heard: bytearray = field(default_factory=bytearray)


class Listener:
    """Waits for a browser to come to a loopback address; good for one answer.

    Args:
        redirect_uri: where; port 0 stands for any that is free.

    Attributes:
        redirect_uri: where it listens, with the port that it has got.

    Raises:
        ConfigurationError: nobody can listen there.
    """

    def __init__(self, redirect_uri: str) -> None:
        parts = urlsplit(redirect_uri)
        host = parts.hostname or ""
        self._path = parts.path or "/"
        self._is_over = False
        self._brought: Future[str] | None = None
        try:
            self._doors = _listen(host, parts.port if parts.port is not None else 80)
        except OSError as error:
            raise ConfigurationError(
                f"nobody can listen at redirect_uri= ({host}, port {parts.port}: {error.strerror or 'refused'}): "
                "another login may be under way there; choose another port, or 0 for any that is free"
            ) from error
        port = self._doors[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.redirect_uri = parts._replace(netloc=f"{shown}:{port}").geturl()

    def serve(self, judge: Callable[[str], str | None], seconds: float) -> None:
        """Begin to serve, in a thread of its own: who opens the browser may wait until it is closed again.

        Args:
            judge: is given the path and query of what came; returns None if all is well, or what is wrong, for the page
                that the person sees. Either way it is the answer.
            seconds: how long at most.
        """
        self._brought = begin(self._run, judge, time.monotonic() + seconds)

    def wait(self) -> str:
        """The path and query of the answer; once that is known, or nobody wants to know any more, it is over.

        Raises:
            TimeoutError: nobody came.
            Closed: `close` was called meanwhile, or before.
        """
        if self._brought is None:
            raise Closed
        try:
            return self._brought.result()
        finally:
            self.close()

    def close(self) -> None:
        """End it, from wherever; the thread finds out within a moment."""
        self._is_over = True
        if self._brought is None:
            self._shut()

    def _shut(self) -> None:
        for door in self._doors:
            door.close()

    def _run(self, judge: Callable[[str], str | None], deadline: float) -> str:
        try:
            with selectors.DefaultSelector() as selector:
                return self._serve(selector, judge, deadline)
        finally:
            self._shut()

    def _serve(self, selector: selectors.BaseSelector, judge: Callable[[str], str | None], deadline: float) -> str:
        guests: dict[socket.socket, _Connection] = {}
        for door in self._doors:
            selector.register(door, selectors.EVENT_READ)
        try:
            while (now := time.monotonic()) < deadline:
                if self._is_over:
                    raise Closed
                ready = {key.fileobj for key, _ in selector.select(min(TICK, deadline - now))}
                for guest, connection in list(guests.items()):
                    target = _hear(connection) if guest in ready else None if now < connection.until else ""
                    if target is None:
                        continue
                    selector.unregister(guest)
                    del guests[guest]
                    if self._answer(guest, target, judge):
                        return target
                for new in filter(None, (_welcome(door) for door in self._doors if door in ready)):
                    guests[new] = _Connection(new, now + READ_TIMEOUT)
                    selector.register(new, selectors.EVENT_READ)
                for oldest in list(guests)[:-MAX_CONNECTIONS]:
                    selector.unregister(oldest)
                    guests.pop(oldest).socket.close()
        finally:
            for guest in guests:
                guest.close()
        raise TimeoutError

    def _answer(self, guest: socket.socket, target: str, judge: Callable[[str], str | None]) -> bool:
        """Say something to a browser that has spoken, and close. Whether it brought the answer."""
        with guest:
            if not target:
                return False
            if target.partition("?")[0] != self._path:
                _say(guest, "404 Not Found", "There is nothing here", "This address serves a login, and nothing else.")
                return False
            try:
                wrong = judge(target)
            except Stray as stray:
                _say(guest, "400 Bad Request", "This is not the login that was waited for", str(stray))
                return False
            if wrong is None:
                _say(guest, "200 OK", "You can close this page", "The program goes on from here.")
            else:
                _say(guest, "400 Bad Request", "That did not work", f"{wrong}. You can close this page.")
            return True


def _listen(host: str, port: int) -> list[socket.socket]:
    if host == "::1":
        return [_door(host, port)]
    doors = [_door("127.0.0.1", port)]
    if host == "localhost":  # which of the two addresses a browser takes is up to it (RFC 8252 §8.3)
        # Without IPv6, or if somebody has that port there, browsers try the other one.
        with contextlib.suppress(OSError):
            doors.append(_door("::1", doors[0].getsockname()[1]))
    return doors


def _door(address: str, port: int) -> socket.socket:
    door = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    door.setblocking(False)  # who knocked may be gone by the time that we open
    return door


def _welcome(door: socket.socket) -> socket.socket | None:
    try:
        guest, _ = door.accept()
    except OSError:  # gone already
        return None
    guest.setblocking(False)
    return guest


def _hear(connection: _Connection) -> str | None:
    """Path and query, once a browser has said what it wants; empty if that is nothing; None: it goes on."""
    try:
        more = connection.socket.recv(8192)
    except BlockingIOError:
        return None
    except OSError:
        return ""
    connection.heard += more
    if b"\r\n\r\n" not in connection.heard:
        return None if more and len(connection.heard) <= MAX_REQUEST else ""
    words = connection.heard.partition(b"\r\n")[0].decode("latin-1").split(" ")
    is_request = len(words) == 3 and words[1].startswith("/") and words[2].startswith("HTTP/1.")
    if not is_request:
        return ""
    return words[1] if words[0] == "GET" else "*"


def _say(guest: socket.socket, status: str, title: str, text: str) -> None:
    body = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
    with contextlib.suppress(OSError):  # a browser that has gone: what it brought counts all the same
        guest.settimeout(SEND_TIMEOUT)
        guest.sendall(_HEAD.format(status=status, length=len(body)).encode("ascii") + body)
        guest.shutdown(socket.SHUT_WR)
