"""Faults: what can go wrong between a request and its answer, each as a small value to put into a script.

The rules:

1. A fault either lets the server process the request or it does not. That is the difference between "try
   again" and "the refresh token may be spent", so each fault says which it is.
2. A fault decides what happens, as a `Delivery`; it sleeps and sends nothing itself.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._reply import Delivery, Reply, challenge, json_reply


@dataclass(frozen=True, slots=True)
class Fault(ABC):
    """What happens to one request; the base of all faults."""

    @abstractmethod
    def apply(self, process: Callable[[], Reply], /) -> Delivery:
        """Decide what the client gets; ``process()`` does the server's work and gives its proper answer."""


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """Processed, and the answer comes late.

    Attributes:
        seconds: how late.
    """

    seconds: float

    def apply(self, process: Callable[[], Reply], /) -> Delivery:
        """Process, and wait."""
        return Delivery(process(), wait=self.seconds)


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """Not processed: answered with a status of your choice.

    Attributes:
        code: the status.
        retry_after: the Retry-After field, in seconds or as an HTTP date (RFC 9110 §10.2.3); None: no such
            field.
        error: an error code for a JSON body (RFC 6749 §5.2); None: none.
        body: another body: text, bytes, or a mapping that becomes JSON; None: only what ``error`` asks for.
    """

    code: int
    retry_after: float | str | None = None
    error: str | None = None
    body: str | bytes | Mapping[str, Any] | None = field(default=None, repr=False)

    def apply(self, _process: Callable[[], Reply], /) -> Delivery:
        """Answer without the server."""
        body = self.body
        if body is None and self.error is not None:
            body = {"error": self.error}
        kind = "application/json" if isinstance(body, Mapping) else "text/plain; charset=utf-8"
        headers = [("content-type", kind), ("cache-control", "no-store")]
        if self.retry_after is not None:
            headers.append(("retry-after", str(self.retry_after)))
        return Delivery(Reply(self.code, tuple(headers), _encoded(body)))


@dataclass(frozen=True, slots=True)
class DropBefore(Fault):
    """Not processed: the connection is closed without an answer."""

    def apply(self, _process: Callable[[], Reply], /) -> Delivery:
        """Hang up."""
        return Delivery(None)


@dataclass(frozen=True, slots=True)
class DropAfter(Fault):
    """Processed, the token rotated; then the connection is closed without an answer."""

    def apply(self, process: Callable[[], Reply], /) -> Delivery:
        """Process, and hang up."""
        process()
        return Delivery(None)


@dataclass(frozen=True, slots=True)
class Silent(Fault):
    """Not processed: no answer at all for a while, then the connection is closed.

    Attributes:
        seconds: how long the client is left waiting; an hour unless told.
    """

    seconds: float = 3600.0

    def apply(self, _process: Callable[[], Reply], /) -> Delivery:
        """Say nothing, and hang up."""
        return Delivery(None, wait=self.seconds)


@dataclass(frozen=True, slots=True)
class Html(Fault):
    """Not processed: an HTML page, as a gateway shows it.

    Attributes:
        status: its status.
    """

    status: int = 502

    def apply(self, _process: Callable[[], Reply], /) -> Delivery:
        """Answer as a gateway."""
        page = f"<!doctype html><title>{self.status}</title><h1>The server is having a bad day</h1>"
        return Delivery(Reply(self.status, (("content-type", "text/html"),), page.encode()))


@dataclass(frozen=True, slots=True)
class Garbage(Fault):
    """Processed, and answered 200 with a body that calls itself JSON and is none."""

    def apply(self, process: Callable[[], Reply], /) -> Delivery:
        """Process, and mumble."""
        process()
        return Delivery(Reply(200, (("content-type", "application/json"),), b"\xff{not json"))


@dataclass(frozen=True, slots=True)
class Truncated(Fault):
    """Processed; the length promises the whole answer, half of it comes, then the connection is closed."""

    def apply(self, process: Callable[[], Reply], /) -> Delivery:
        """Process, and stop in the middle."""
        return Delivery(process(), ending="cut")


@dataclass(frozen=True, slots=True)
class Drip(Fault):
    """Processed; the body of the answer comes byte by byte.

    Attributes:
        seconds_between: the pause between two bytes.
    """

    seconds_between: float

    def apply(self, process: Callable[[], Reply], /) -> Delivery:
        """Process, and drip."""
        return Delivery(process(), pause=self.seconds_between)


@dataclass(frozen=True, slots=True)
class Endless(Fault):
    """Processed; the proper answer's status and headers, then a body of filler until the client hangs up."""

    def apply(self, process: Callable[[], Reply], /) -> Delivery:
        """Process, and never come to an end."""
        return Delivery(process(), ending="endless")


@dataclass(frozen=True, slots=True)
class Refuse(Fault):
    """Not processed: the API refuses with a challenge of your choice (RFC 6750 §3); for ``on="api"``.

    Attributes:
        error: the challenge's ``error``; None: none.
        scheme: its scheme.
        params: its other parameters, in this order; they are sent as quoted strings.
        status: 401 unless told, or 403 as for ``insufficient_scope``.
    """

    error: str | None = "invalid_token"
    scheme: str = "Bearer"
    params: Mapping[str, str] = field(default_factory=dict)
    status: int = 401

    def apply(self, _process: Callable[[], Reply], /) -> Delivery:
        """Answer with the challenge."""
        reason = {} if self.error is None else {"error": self.error}
        field_value = challenge(self.scheme, {**reason, **self.params})
        return Delivery(json_reply(self.status, reason, ("www-authenticate", field_value)))


@dataclass(frozen=True, slots=True)
class Answer(Fault):
    """Not processed: a literal JSON answer of the token endpoint. The API does not know the tokens in it.

    Attributes:
        body: the JSON object, as it is.
        status: its status.
    """

    body: Mapping[str, Any] = field(repr=False)
    status: int = 200

    def apply(self, _process: Callable[[], Reply], /) -> Delivery:
        """Answer with the body given."""
        return Delivery(json_reply(self.status, self.body, ("cache-control", "no-store")))


def _encoded(body: str | bytes | Mapping[str, Any] | None) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()
