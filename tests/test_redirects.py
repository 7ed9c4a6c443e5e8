"""Redirects: a credential stays on its origin, and arrives where a redirect stays on it (F15, F16, F20)."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    OriginNotAllowed,
    TokenAuth,
)
from httpx_tokenflow.testing import Refuse, Sandbox, Status, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

KEY = "SENTINEL-key"
LIBRARIES = [httpx, httpx2]


class Servers:
    """Two origins: the API, and somebody else."""

    def __init__(self, api: str, other: str, sandbox: Sandbox, others: Sandbox) -> None:
        self.api, self.other, self.sandbox, self.others = api, other, sandbox, others

    def auth(self, kind: str, **options: Any) -> Any:
        if kind == "token":
            return TokenAuth(
                ClientCredentials(f"{self.api}/token", client_id="client", client_secret="secret"), **options
            )
        return {
            "bearer": lambda: BearerAuth(KEY, **options),
            "header": lambda: APIKeyAuth(KEY, **options),
            "authorization": lambda: APIKeyAuth(KEY, header="Authorization", prefix="ApiKey ", **options),
            "query": lambda: APIKeyAuth(KEY, query="api_key", **options),
        }[kind]()

    def leaked(self) -> list[Any]:
        """What the other origin has seen of a credential."""
        return [
            seen
            for seen in self.others.seen
            if "authorization" in seen.headers or "SENTINEL" in f"{seen.headers}{seen.path}{seen.query}{seen.body!r}"
        ]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    sandbox, others = Sandbox(), Sandbox()
    sandbox.api_keys.add(KEY)
    with serve(sandbox) as api, serve(others) as other:
        yield Servers(api, other, sandbox, others)


@contextlib.asynccontextmanager
async def asking(library: Any, is_async: bool, auth: Any) -> AsyncIterator[Callable[[str, str], Awaitable[Any]]]:
    """A client of either kind that follows redirects, asked in one way."""
    if is_async:
        async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
            yield client.request
    else:
        with library.Client(auth=auth, follow_redirects=True) as client:

            async def ask(method: str, url: str) -> Any:
                return client.request(method, url)

            yield ask


@pytest.mark.sampled
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["token", "bearer", "header", "authorization", "query"])
async def test_no_credential_reaches_another_origin(servers: Servers, kind: str, library: Any, is_async: bool) -> None:
    """By no redirect, from no client, does the other origin see a credential (F15)."""
    auth = servers.auth(kind)
    by_name = servers.other.replace("127.0.0.1", "localhost")
    before = len(servers.others.seen)
    targets = [f"{servers.other}/echo", f"{by_name}/echo", f"{servers.api}/redirect?to={servers.other}/echo"]
    async with asking(library, is_async, auth) as ask:
        for status, target, method in itertools.product((301, 302, 303, 307, 308), targets, ("GET", "POST")):
            url = f"{servers.api}/redirect?status={status}&to={target}"
            assert (await ask(method, url)).status_code == 200
    assert len(servers.others.seen) - before >= 30
    assert servers.leaked() == []


@pytest.mark.sampled
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["token", "header", "query"])
async def test_within_the_origin_it_arrives(servers: Servers, kind: str, library: Any, is_async: bool) -> None:
    """A redirect that stays on the origin, also in two hops, ends where the caller is known."""
    auth = servers.auth(kind)
    path = "/api/x" if kind == "token" else "/api-key/x"
    once = f"{servers.api}{path}"
    targets = (once, f"{servers.api}/redirect?to={once}")
    async with asking(library, is_async, auth) as ask:
        for status, target, method in itertools.product((301, 302, 303, 307, 308), targets, ("GET", "POST")):
            response = await ask(method, f"{servers.api}/redirect?status={status}&to={target}")
            assert response.status_code == 200, (status, method)


def test_what_may_have_been_done_is_not_done_again(servers: Servers) -> None:
    """A redirected POST that went through without its sealed key is not sent again: it may have done something."""
    target = f"{servers.api}/open/order"
    with httpx.Client(auth=servers.auth("header"), follow_redirects=True) as client:
        assert client.post(f"{servers.api}/redirect?status=307&to={target}").status_code == 200
    assert [seen.method for seen in servers.sandbox.seen if seen.path == "/open/order"] == ["POST"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["token", "header"])
def test_somebody_elses_401_is_not_ours(servers: Servers, library: Any, kind: str) -> None:
    """A 401 of another origin, after a redirect, is given back: no renewal (F20)."""
    auth = servers.auth(kind)
    with library.Client(auth=auth, follow_redirects=True) as client:
        client.get(f"{servers.api}/open/x")
        before = servers.sandbox.token_requests
        servers.others.script(Refuse(), on="api")
        assert client.get(f"{servers.api}/redirect?to={servers.other}/api/x").status_code == 401
    assert servers.sandbox.token_requests == before
    assert servers.leaked() == []


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_endpoint_that_redirects_is_not_followed(library: Any, status: int) -> None:
    """The token request goes to the configured address, once, whatever the caller's client follows (F16)."""
    sandbox = Sandbox()
    with serve(sandbox) as base:
        # A redirect as a token endpoint: it answers POSTs with one.
        grant = ClientCredentials(f"{base}/redirect?status={status}&to={base}/token", client_id="c", client_secret="s")
        client = library.Client(auth=TokenAuth(grant), follow_redirects=True)
        with client, pytest.raises(ConfigurationError, match="redirect"):
            client.get(f"{base}/api/x")
    assert [seen.path for seen in sandbox.seen] == ["/redirect"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["token", "bearer", "header", "query"])
def test_nothing_is_sent_to_an_origin_that_is_not_allowed(servers: Servers, library: Any, kind: str) -> None:
    """Another origin than those in `origins=` is refused before anything is sent, also once tokens are there."""
    auth = servers.auth(kind, origins=(servers.api,))
    before = len(servers.others.seen)
    with library.Client(auth=auth) as client:
        for _ in range(2):
            with pytest.raises(OriginNotAllowed) as caught:
                client.get(f"{servers.other}/api/x")
            assert caught.value.request.url.path == "/api/x"
            assert client.get(f"{servers.api}/open/x").status_code == 200
        with pytest.raises(OriginNotAllowed):
            client.get("http://api.example.com/")
    assert len(servers.others.seen) == before


def test_a_503_of_the_api_is_the_callers(servers: Servers) -> None:
    """What is not about credentials is given back as it is."""
    servers.sandbox.script(Status(503), on="api")
    with httpx.Client(auth=servers.auth("token")) as client:
        assert client.get(f"{servers.api}/api/x").status_code == 503
