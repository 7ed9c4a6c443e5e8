"""The probes of an examination, sent: one client for each connection, no redirects, no cookies kept.

Rules.

1. What does not get an answer is a fact as well, whatever was in the way: the exchange says why, without the values
   that were sent. A redirect is an answer, also where it leads nowhere that can be read.
2. HTTP/2 is spoken where the package h2 is installed and the server speaks it, so that what a connection remembers
   can be seen. The proxy variables of the environment are honoured, as the program's client would.
3. A server cannot hold the doctor: each probe has a limit for the whole of it, a body has a shorter one and is read
   at its beginning only, and the examination has one for all. An answer whose body does not end is an answer. A body
   is asked for as it is; one that comes compressed all the same is inflated once, and no further than it is read.
"""

from __future__ import annotations

import importlib.util
import time
import zlib
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
import httpx

from httpx_tokenflow.doctor import Exchange, Facts, Fields, examine
from httpx_tokenflow.doctor._front import UNSENDABLE

if TYPE_CHECKING:
    from httpx_tokenflow.doctor import Probe, Question

__all__ = ["Prober"]

_BODY_LIMIT = 64 * 1024  # bytes
_BODY_SECONDS = 0.5  # for what says why; a document to be read whole has the time of its probe
_ACCEPTED_SECONDS = 0.25  # for what says that all is well
_DOCUMENTS = frozenset({"resource metadata", "issuer metadata", "keys", "introspection"})
# What has no end, or nothing to read in it.
_UNREAD = ("text/event-stream", "image/", "video/", "audio/", "font/")
_UNREAD_IF_ACCEPTED = "application/octet-stream"  # as a refusal, it is text of a server that does not say so
_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}  # for zlib; some write deflate without its header


class Prober:
    """Sends probes.

    Args:
        timeout: seconds for each, the whole of it.
        patience: seconds for all of them.
        verify: as httpx takes it: an SSL context, or True.
    """

    def __init__(self, *, timeout: float = 5.0, patience: float = 20.0, verify: Any = True) -> None:
        self.timeout = timeout
        self.patience = patience
        self.verify = verify
        self.http2 = importlib.util.find_spec("h2") is not None

    def examine(self, question: Question) -> Facts:
        """Send what `question` leaves open, and return the facts. It runs an event loop of its own."""
        return anyio.run(self._examine, question)

    async def _examine(self, question: Question) -> Facts:
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            clients: dict[str, httpx.AsyncClient] = {}
            talk = examine(question)
            answer: Exchange | None = None
            while True:
                try:
                    probe = talk.send(answer)  # type: ignore[arg-type]  # None begins it
                except StopIteration as done:
                    facts: Facts = done.value
                    return facts
                at = time.monotonic() - began
                unsent = Exchange(role=probe.role, method=probe.method, url=probe.url, sent=probe.fields, began=at)
                try:
                    if probe.connection == "own" or probe.connection not in clients:
                        clients[probe.connection] = await stack.enter_async_context(self._client())
                    answer = await self._send(clients[probe.connection], probe, unsent, self.patience - at)
                except Exception as error:  # noqa: BLE001 - rule 1
                    answer = replace(unsent, failure=self._in_words(error, probe))
                answer = replace(answer, seconds=time.monotonic() - began - at)

    def _client(self) -> httpx.AsyncClient:
        if self.verify is True:
            self.verify = httpx.create_ssl_context()  # one for all: to read the certificates takes longer than a probe
        try:
            return httpx.AsyncClient(
                headers={"Accept-Encoding": "identity"},
                verify=self.verify,
                http2=self.http2,
                timeout=self.timeout,
                follow_redirects=False,
                event_hooks={"response": [_set_location_aside]},
            )
        except (ValueError, httpx.InvalidURL):
            raise _NoProxyError from None

    async def _send(self, client: httpx.AsyncClient, probe: Probe, unsent: Exchange, left: float) -> Exchange:
        client.cookies.clear()
        headers = list(probe.fields)
        content = None
        if probe.form:
            content = urlencode(probe.form).encode()
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        request = client.build_request(probe.method, probe.url, headers=headers, content=content)
        # httpx has a limit for each read, and a server that gives a byte a second keeps it.
        deadline = anyio.current_time() + left
        with anyio.fail_after(max(0.0, min(self.timeout, left))):
            response = await client.send(request, stream=True)
        try:
            seconds = _ACCEPTED_SECONDS if response.status_code < 300 else _BODY_SECONDS
            seconds = self.timeout if probe.role in _DOCUMENTS else seconds
            body = await _beginning(response, min(seconds, deadline - anyio.current_time()))
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        return replace(
            unsent,
            url=str(request.url),
            sent=Fields(response.request.headers.multi_items()),
            status=response.status_code,
            received=Fields(response.extensions[_FIELDS]),
            body=body,
            http_version=response.http_version,
        )

    def _in_words(self, error: Exception, probe: Probe) -> str:
        """Why there was no answer. httpx quotes a header value that it refuses to send: rule 1."""
        kind = type(error).__name__
        if isinstance(error, TimeoutError):
            return f"{kind}: no answer within {self.timeout:g} seconds"
        if isinstance(error, httpx.LocalProtocolError | ValueError):
            names = ", ".join(dict.fromkeys(name for name, value in probe.fields if not _is_sendable(value)))
            return f"{kind}: {UNSENDABLE} ({names})" if names else f"{kind}: the request cannot be sent as it is"
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL | ImportError | _NoProxyError):
            return f"{kind.strip('_')}: {error}"
        return kind  # nobody knows what it quotes


class _NoProxyError(Exception):
    def __str__(self) -> str:
        return "a variable of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) names no proxy that can be"


_FIELDS = "tokenflow_fields"


async def _set_location_aside(response: httpx.Response) -> None:
    """A Location that is not to be followed is read by httpx all the same; if it cannot be, that is no answer to it."""
    response.extensions[_FIELDS] = response.headers.multi_items()
    response.headers.pop("Location", None)


def _is_sendable(value: str) -> bool:
    """Whether a client writes that value of a header field (RFC 9110 §5.5)."""
    return value.isascii() and value == value.strip() and all(one.isprintable() or one == "\t" for one in value)


async def _beginning(response: httpx.Response, seconds: float) -> str | None:
    """The beginning of the body; None where it is nothing to read."""
    kind = response.headers.get("Content-Type", "").lower()
    if kind.startswith(_UNREAD) or (kind.startswith(_UNREAD_IF_ACCEPTED) and response.status_code < 400):
        return None
    body = b""
    with anyio.move_on_after(max(0.0, seconds)):
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= _BODY_LIMIT:
                    break
        except httpx.HTTPError:  # cut off: what came before is the answer still
            pass
    plain = _inflated(body, response.headers.get("Content-Encoding", "").strip().lower())
    return None if plain is None else plain[:_BODY_LIMIT].decode("utf-8", "replace")


def _inflated(body: bytes, coding: str) -> bytes | None:
    """The beginning of what was compressed; None where that cannot be told."""
    if coding in {"", "identity"} or not body:
        return body
    for window in _WINDOWS.get(coding, ()):
        try:
            return zlib.decompressobj(window).decompress(body, _BODY_LIMIT)
        except zlib.error:
            continue
    return None
