"""The probes of an examination, sent: one client for each connection, no redirects, no cookies kept.

Rules.

1. What does not get an answer is a fact as well: the exchange says why, without the values that were sent.
2. HTTP/2 is spoken where the package h2 is installed and the server speaks it, so that what a connection remembers
   can be seen. The proxy variables of the environment are honoured, as the program's client would.
3. No more than the beginning of a body is read, and the whole examination ends with its patience.
"""

from __future__ import annotations

import importlib.util
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx

from httpx_tokenflow.doctor import Exchange, Facts, Fields, examine

if TYPE_CHECKING:
    from httpx_tokenflow.doctor import Probe, Question

__all__ = ["Prober"]

_BODY_LIMIT = 64 * 1024  # bytes


class Prober:
    """Sends probes.

    Args:
        timeout: seconds for each, the whole of it.
        verify: as httpx takes it: an SSL context, or True.
    """

    def __init__(self, *, timeout: float = 5.0, verify: Any = True) -> None:
        self.timeout = timeout
        self.verify = verify
        self.http2 = importlib.util.find_spec("h2") is not None

    def examine(self, question: Question) -> Facts:
        """Send what `question` leaves open, and return the facts."""
        began = time.monotonic()
        with ExitStack() as stack:
            clients: dict[str, httpx.Client] = {}
            talk = examine(question)
            answer: Exchange | None = None
            while True:
                try:
                    probe = talk.send(answer)  # type: ignore[arg-type]  # None begins it
                except StopIteration as done:
                    facts: Facts = done.value
                    return facts
                if probe.connection == "own" or probe.connection not in clients:
                    clients[probe.connection] = stack.enter_context(self._client())
                answer = self._send(clients[probe.connection], probe, began)

    def _client(self) -> httpx.Client:
        return httpx.Client(verify=self.verify, http2=self.http2, timeout=self.timeout, follow_redirects=False)

    def _send(self, client: httpx.Client, probe: Probe, began: float) -> Exchange:
        at = time.monotonic()
        client.cookies.clear()
        headers = list(probe.fields)
        content = None
        if probe.form:
            content = urlencode(probe.form).encode()
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        try:
            request = client.build_request(probe.method, probe.url, headers=headers, content=content)
            sent = Fields(request.headers.multi_items())
            response = client.send(request, stream=True)
            try:
                body = _beginning(response)
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Exchange(
                role=probe.role,
                method=probe.method,
                url=probe.url,
                sent=probe.fields,
                began=at - began,
                seconds=time.monotonic() - at,
                failure=_in_words(error),
            )
        return Exchange(
            role=probe.role,
            method=probe.method,
            url=str(request.url),
            sent=sent,
            status=response.status_code,
            received=Fields(response.headers.multi_items()),
            body=body,
            http_version=response.http_version,
            began=at - began,
            seconds=time.monotonic() - at,
        )


def _beginning(response: httpx.Response) -> str:
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) >= _BODY_LIMIT:
            break
    return body[:_BODY_LIMIT].decode("utf-8", "replace")


def _in_words(error: Exception) -> str:
    """Why there was no answer. httpx quotes a header value that it refuses to send: rule 1."""
    kind = type(error).__name__
    if isinstance(error, httpx.LocalProtocolError | ValueError) and not isinstance(error, httpx.InvalidURL):
        return f"{kind}: a header value cannot be sent as it is"
    return f"{kind}: {error}"
