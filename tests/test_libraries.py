"""One object for two libraries, whichever of them is there, and under whatever name (F82 to F86)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import httpx2
import pytest
import respx

from httpx_tokenflow import ClientCredentials, TokenAuth, TokenEndpointUnavailable
from httpx_tokenflow.testing import DropBefore, Sandbox, serve

URL = "https://as.example/token"


def grant(url: str = URL) -> ClientCredentials:
    return ClientCredentials(url, client_id="client", client_secret="secret")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.anyio
async def test_one_object_on_all_four_clients() -> None:
    """The very same object authenticates sync and async clients of both libraries, with one token (F82)."""
    sandbox = Sandbox()
    auth = TokenAuth(grant(), client=httpx.Client(transport=sandbox.transport(httpx)))
    for library in (httpx, httpx2):
        async with library.AsyncClient(transport=sandbox.transport(library), auth=auth) as client:
            assert (await client.get("https://api.example.com/api/x")).status_code == 200
        with library.Client(transport=sandbox.transport(library)) as client:
            assert client.get("https://api.example.com/api/x", auth=auth).status_code == 200
    assert sandbox.token_requests == 1


def test_httpx2_may_be_imported_after_the_object_was_made() -> None:
    """The order of imports does not matter."""
    code = """
import sys
from httpx_tokenflow import BearerAuth
auth = BearerAuth("t")
assert "httpx2" not in sys.modules
import httpx, httpx2
answer = lambda library: library.MockTransport(lambda r: library.Response(200, text=r.headers["authorization"]))
for library in (httpx2, httpx, httpx2):
    print(library.Client(auth=auth, transport=answer(library)).get("https://a.example").text)
"""
    assert python(code).split("\n") == ["Bearer t"] * 3


def test_after_alias_httpx_there_is_one_library() -> None:
    """`httpx2.alias_httpx()` makes the two bases one: nothing of ours has it twice (F83)."""
    code = """
import httpx2
httpx2.alias_httpx()
import httpx
from httpx_tokenflow import BearerAuth, StoreError, TokenEndpointUnavailable
assert httpx.Auth is httpx2.Auth
transport = httpx.MockTransport(lambda r: httpx.Response(200, text=r.headers["authorization"]))
print(httpx.Client(auth=BearerAuth("t"), transport=transport).get("https://a.example").text)
try:
    raise TokenEndpointUnavailable("x", outcome="not sent")
except httpx.TransportError as error:
    print(type(error).__name__)
"""
    assert python(code).split("\n") == ["Bearer t", "TokenEndpointUnavailable"]


def test_without_httpx2_there_is_httpx() -> None:
    """httpx2 is optional (F83)."""
    code = """
import sys
sys.modules["httpx2"] = None
import httpx
from httpx_tokenflow import BearerAuth, StoreError
transport = httpx.MockTransport(lambda r: httpx.Response(200, text=r.headers["authorization"]))
print(httpx.Client(auth=BearerAuth("t"), transport=transport).get("https://a.example").text)
assert isinstance(BearerAuth("t"), httpx.Auth) and isinstance(StoreError("x"), httpx.HTTPError)
"""
    assert python(code) == "Bearer t"


@pytest.mark.parametrize("using", ["httpcore", "httpcore2"])
def test_respx_sees_the_token_request_too(using: str) -> None:
    """The token request goes through the library of the request that leads, and so through its mocks (F85)."""
    library: Any = {"httpcore": httpx, "httpcore2": httpx2}[using]
    with respx.mock(using=using) as router:
        token = router.post(URL).mock(httpx.Response(200, json={"access_token": "t", "expires_in": 60}))
        api = router.get("https://api.example.com/x").mock(httpx.Response(200))
        with library.Client(auth=TokenAuth(grant())) as client:
            assert client.get("https://api.example.com/x").status_code == 200
    assert token.call_count == api.call_count == 1
    assert api.calls.last.request.headers["authorization"] == "Bearer t"


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_an_outage_has_the_librarys_own_error_as_its_cause(library: Any) -> None:
    """Our error says what it means, is caught as the library's, and has what was raised behind it (F28, F86)."""
    sandbox = Sandbox()
    with serve(sandbox) as base, library.Client(base_url=base, auth=TokenAuth(grant(f"{base}/token"))) as client:
        sandbox.script(*[DropBefore()] * 3)
        with pytest.raises(library.TransportError) as caught:
            client.get("/api/x")
        error = caught.value
        assert isinstance(error, TokenEndpointUnavailable)
        assert error.request.url.path == "/api/x"
        cause = error.__cause__.__cause__
        assert isinstance(cause, library.RemoteProtocolError)


@pytest.mark.anyio
async def test_a_client_of_either_kind_for_the_token_endpoint() -> None:
    """`client=` may be sync or async, of either library, for requests of the other; it is never closed by us (F81)."""
    sandbox = Sandbox()
    for library in (httpx, httpx2):
        for kind in (library.Client, library.AsyncClient):
            own = kind(transport=sandbox.transport(library), headers={"X-Own": "1"})
            auth = TokenAuth(grant(), client=own)
            async with httpx.AsyncClient(transport=sandbox.transport(), auth=auth) as client:
                assert (await client.get("https://api.example.com/api/x")).status_code == 200
            await auth.aclose()
            assert not own.is_closed
    assert [seen.headers.get("x-own") for seen in sandbox.seen if seen.path == "/token"] == ["1"] * 4
