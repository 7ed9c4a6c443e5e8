"""Transports to the server in memory, one for each HTTP library: each says in its library's words what the server said.

The server is called directly, with the path, the `Authorization` field, and the body. That is all it looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from _server import Server

JSON = {"content-type": "application/json"}


class NotReachedError(Exception):
    """There is no connection to the token endpoint to be had."""


class NotAnsweredError(Exception):
    """The client has waited for the token endpoint as long as it wants to, or the server has hung up."""


class _HttpxWire:
    """Mixed with the transport classes of httpx or httpx2."""

    def __init__(self, server: Server, library: ModuleType) -> None:
        self._server = server
        self._library = library

    def handle_request(self, request: Any) -> Any:
        if request.method == "GET":
            status, content = self._server.get(request.url.path, request.headers.get("Authorization"))
        else:
            try:
                status, content = self._server.post(request.read(), _timeout(request))
            except (NotReachedError, NotAnsweredError) as error:
                raise self._said(error, request) from error
        return self._library.Response(status, headers=JSON, content=content)

    async def handle_async_request(self, request: Any) -> Any:
        if request.method == "GET":
            status, content = await self._server.aget(request.url.path, request.headers.get("Authorization"))
        else:
            try:
                status, content = await self._server.apost(await request.aread(), _timeout(request))
            except (NotReachedError, NotAnsweredError) as error:
                raise self._said(error, request) from error
        return self._library.Response(status, headers=JSON, content=content)

    def _said(self, error: Exception, request: Any) -> Exception:
        kind = self._library.ConnectError if isinstance(error, NotReachedError) else self._library.ReadTimeout
        return kind("the token endpoint is down", request=request)


def _timeout(request: Any) -> float | None:
    """None, if it waits for ever: as do requests that an auth flow made without its client."""
    return request.extensions.get("timeout", {}).get("read")


def _httpx(server: Server, library: ModuleType) -> Any:
    return type("Wire", (_HttpxWire, library.BaseTransport, library.AsyncBaseTransport), {})(server, library)


def _requests(server: Server, library: ModuleType) -> Any:
    class Adapter(library.adapters.BaseAdapter):
        def send(self, request: Any, stream: Any = False, timeout: Any = None, **_: Any) -> Any:
            if request.method == "GET":
                status, content = server.get(request.path_url, request.headers.get("Authorization"))
            else:
                body = request.body.encode() if isinstance(request.body, str) else request.body
                try:
                    status, content = server.post(body, timeout[1] if isinstance(timeout, tuple) else timeout)
                except NotReachedError as error:
                    raise library.ConnectionError(request=request) from error
                except NotAnsweredError as error:
                    raise library.ReadTimeout(request=request) from error
            response = library.Response()
            response.status_code, response._content, response.url = status, content, request.url
            response.headers.update(JSON)
            response.request, response.encoding = request, "utf-8"
            return response

        def close(self) -> None:
            """There is nothing to close."""

    return Adapter()


def azure_transport(server: Server, *, is_async: bool) -> Any:
    """A transport of azure-core, for the API: its credential goes to the token endpoint by a client of its own."""
    from azure.core.pipeline.transport import AsyncHttpTransport, HttpTransport
    from azure.core.rest._http_response_impl import HttpResponseImpl
    from azure.core.rest._http_response_impl_async import AsyncHttpResponseImpl

    def made(kind: Any, request: Any, status: int, content: bytes) -> Any:
        head = {"status_code": status, "reason": "", "content_type": "application/json", "headers": dict(JSON)}
        response = kind(request=request, internal_response=None, stream_download_generator=None, **head)
        response._content, response._is_closed = content, True  # read already
        return response

    class Transport(HttpTransport):
        def send(self, request: Any, **_: Any) -> Any:
            return made(HttpResponseImpl, request, *server.get(request.url, request.headers.get("Authorization")))

        def open(self) -> None: ...
        def close(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    class AsyncTransport(AsyncHttpTransport):
        async def send(self, request: Any, **_: Any) -> Any:
            answer = await server.aget(request.url, request.headers.get("Authorization"))
            return made(AsyncHttpResponseImpl, request, *answer)

        async def open(self) -> None: ...
        async def close(self) -> None: ...
        async def __aexit__(self, *_: object) -> None: ...

    return AsyncTransport() if is_async else Transport()


WIRES: dict[str, Callable[[Server, ModuleType], Any]] = {"httpx": _httpx, "httpx2": _httpx, "requests": _requests}
