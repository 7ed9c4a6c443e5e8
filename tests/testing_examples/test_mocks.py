"""The sandbox behind each mock: respx, pytest-httpx, pytest-httpx2 and MockTransport, for sync and async code."""

import httpx
import httpx2
import pytest

from httpx_tokenflow import ClientCredentials, TokenAuth
from httpx_tokenflow.testing import DropAfter, assert_token_requests

LOGIN, API = "https://login.example.com/oauth2/token", "https://api.example.com/orders"


@pytest.fixture
def auth(tokenflow_sandbox):
    secret = tokenflow_sandbox.clients["client"]
    return TokenAuth(ClientCredentials(LOGIN, client_id="client", client_secret=secret))


def order(client, sandbox):
    """A request, a 401 that nobody sees, and an answer of the token endpoint that is lost."""
    assert client.get(API).status_code == 200
    sandbox.revoke_access_tokens()
    sandbox.script(DropAfter())
    assert client.get(API).json()["subject"] == "client"
    assert_token_requests(sandbox, 3)


async def aorder(client, sandbox):
    """The same, async."""
    assert (await client.get(API)).status_code == 200
    sandbox.revoke_access_tokens()
    sandbox.script(DropAfter())
    assert (await client.get(API)).json()["subject"] == "client"
    assert_token_requests(sandbox, 3)


# respx


def test_respx(respx_mock, auth, tokenflow_sandbox):
    """Behind respx, for sync code."""
    respx_mock.post(LOGIN).mock(side_effect=tokenflow_sandbox.handler("token"))
    respx_mock.get(API).mock(side_effect=tokenflow_sandbox.handler("api"))
    with httpx.Client(auth=auth) as client:
        order(client, tokenflow_sandbox)


@pytest.mark.anyio
async def test_respx_async(respx_mock, auth, tokenflow_sandbox):
    """Behind respx, for async code."""
    respx_mock.post(LOGIN).mock(side_effect=tokenflow_sandbox.ahandler("token"))
    respx_mock.get(API).mock(side_effect=tokenflow_sandbox.ahandler("api"))
    async with httpx.AsyncClient(auth=auth) as client:
        await aorder(client, tokenflow_sandbox)


# pytest-httpx


def test_pytest_httpx(httpx_mock, auth, tokenflow_sandbox):
    """Behind pytest-httpx, for sync code."""
    httpx_mock.add_callback(tokenflow_sandbox.handler("token"), url=LOGIN, is_reusable=True)
    httpx_mock.add_callback(tokenflow_sandbox.handler("api"), url=API, is_reusable=True)
    with httpx.Client(auth=auth) as client:
        order(client, tokenflow_sandbox)


@pytest.mark.anyio
async def test_pytest_httpx_async(httpx_mock, auth, tokenflow_sandbox):
    """Behind pytest-httpx, for async code."""
    httpx_mock.add_callback(tokenflow_sandbox.ahandler("token"), url=LOGIN, is_reusable=True)
    httpx_mock.add_callback(tokenflow_sandbox.ahandler("api"), url=API, is_reusable=True)
    async with httpx.AsyncClient(auth=auth) as client:
        await aorder(client, tokenflow_sandbox)


# pytest-httpx2; the token endpoint goes through httpx2 as well, by client=


def test_pytest_httpx2(httpx2_mock, tokenflow_sandbox):
    """Behind pytest-httpx2, for sync code."""
    httpx2_mock.post(LOGIN).mock(side_effect=tokenflow_sandbox.handler("token"))
    httpx2_mock.get(API).mock(side_effect=tokenflow_sandbox.handler("api"))
    grant = ClientCredentials(LOGIN, client_id="client", client_secret=tokenflow_sandbox.clients["client"])
    with httpx2.Client() as tokens, httpx2.Client(auth=TokenAuth(grant, client=tokens)) as client:
        order(client, tokenflow_sandbox)


@pytest.mark.anyio
async def test_pytest_httpx2_async(httpx2_mock, tokenflow_sandbox):
    """Behind pytest-httpx2, for async code."""
    httpx2_mock.post(LOGIN).mock(side_effect=tokenflow_sandbox.ahandler("token"))
    httpx2_mock.get(API).mock(side_effect=tokenflow_sandbox.ahandler("api"))
    grant = ClientCredentials(LOGIN, client_id="client", client_secret=tokenflow_sandbox.clients["client"])
    async with httpx2.AsyncClient() as tokens, httpx2.AsyncClient(auth=TokenAuth(grant, client=tokens)) as client:
        await aorder(client, tokenflow_sandbox)


# MockTransport of either library


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_mock_transport(library, tokenflow_sandbox):
    """Behind MockTransport, for sync code."""
    grant = ClientCredentials(LOGIN, client_id="client", client_secret=tokenflow_sandbox.clients["client"])
    tokens = library.Client(transport=library.MockTransport(tokenflow_sandbox.handler("token")))
    api = library.MockTransport(tokenflow_sandbox.handler("api"))
    with tokens, library.Client(transport=api, auth=TokenAuth(grant, client=tokens)) as client:
        order(client, tokenflow_sandbox)


@pytest.mark.anyio
@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
async def test_mock_transport_async(library, tokenflow_sandbox):
    """Behind MockTransport, for async code."""
    grant = ClientCredentials(LOGIN, client_id="client", client_secret=tokenflow_sandbox.clients["client"])
    tokens = library.AsyncClient(transport=library.MockTransport(tokenflow_sandbox.ahandler("token")))
    api = library.MockTransport(tokenflow_sandbox.ahandler("api"))
    async with tokens, library.AsyncClient(transport=api, auth=TokenAuth(grant, client=tokens)) as client:
        await aorder(client, tokenflow_sandbox)
