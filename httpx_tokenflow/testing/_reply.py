"""Answers as plain data: status, headers and body, and how they reach the client.

A `Reply` is what the server says. A `Delivery` is how it gets across: at once, late, byte by byte, cut short,
without end, or not at all. Both are pure; whoever carries a delivery (`_asgi`, `_transport`) sleeps, sends
and hangs up.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Literal

_FILLER = b"x" * 8192
_FILLER_PAUSE = 0.001  # seconds: an endless body must not starve the loop that sends it


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its status, its headers without length and date, and its body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one answer reaches the client.

    Attributes:
        reply: what is said; None closes the connection without a byte.
        wait: seconds before the first byte, or before the connection closes.
        pause: seconds between the single bytes of the body; 0 sends it in one piece.
        ending: ``"whole"``; ``"cut"``: the length promises the whole body, half of it comes, the connection
            closes; ``"endless"``: filler until the client hangs up.
        at: the server's time in Unix seconds, for the Date field.
    """

    reply: Reply | None
    wait: float = 0.0
    pause: float = 0.0
    ending: Literal["whole", "cut", "endless"] = "whole"
    at: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether the answer goes out whole, in one piece and at once."""
        return self.reply is not None and not self.wait and not self.pause and self.ending == "whole"

    def head(self, reply: Reply) -> list[tuple[bytes, bytes]]:
        """List the header fields of the answer, with its date and, if it has one, its length."""
        fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in reply.headers]
        fields.append((b"date", _http_date(int(self.at))))
        if self.ending != "endless":
            fields.append((b"content-length", b"%d" % len(reply.body)))
        return fields

    def pieces(self, reply: Reply) -> Iterator[bytes | float]:
        """Yield the body piece by piece, and between the pieces the seconds to sleep."""
        while self.ending == "endless":
            yield _FILLER
            yield _FILLER_PAUSE
        body = reply.body[: len(reply.body) // 2] if self.ending == "cut" else reply.body
        if not self.pause:
            yield body
            return
        for position in range(len(body)):
            if position:
                yield self.pause
            yield body[position : position + 1]


def json_reply(status: int, content: Mapping[str, Any], *headers: tuple[str, str]) -> Reply:
    """Say something in JSON."""
    return Reply(status, (("content-type", "application/json"), *headers), json.dumps(content).encode())


def challenge(scheme: str, params: Mapping[str, str]) -> str:
    """Write one challenge of a WWW-Authenticate field, its values as quoted strings (RFC 9110 §11.6.1)."""
    return f"{scheme} {', '.join(f'{name}={_quoted(value)}' for name, value in params.items())}".rstrip()


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=16)
def _http_date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")
