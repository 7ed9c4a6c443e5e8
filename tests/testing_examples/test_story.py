"""A program and the tests of it: fifty at once, a 401, an outage; and nothing leaks."""

import asyncio

import httpx
import pytest
import respx

from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth
from httpx_tokenflow.testing import Status, assert_token_requests

LOGIN, API = "https://login.example.com/oauth2/token", "https://api.example.com"

# The program


def make_client(secret, clock):
    """What is tested: any code that uses TokenAuth."""
    grant = ClientCredentials(LOGIN, client_id="client", client_secret=secret)
    return httpx.AsyncClient(base_url=API, auth=TokenAuth(grant, policy=RenewalPolicy(clock=clock)))


async def orders(client, number):
    response = await client.get(f"/orders/{number}")
    return response.raise_for_status().json()


# Its tests


@pytest.fixture
def client(tokenflow_sandbox, tokenflow_clock, tokenflow_leaks):
    with respx.mock() as router:
        router.post(LOGIN).mock(side_effect=tokenflow_sandbox.ahandler("token"))
        router.get(url__startswith=API).mock(side_effect=tokenflow_sandbox.ahandler("api"))
        yield make_client(tokenflow_sandbox.clients["client"], tokenflow_clock.clock)


@pytest.mark.asyncio
async def test_fifty_at_once(client, tokenflow_sandbox):
    """Fifty requests at once without a token make one token request."""
    await asyncio.gather(*[orders(client, number) for number in range(50)])
    assert_token_requests(tokenflow_sandbox, 1)


@pytest.mark.asyncio
async def test_a_401_is_a_non_event(client, tokenflow_sandbox):
    """When the API refuses a token, another is fetched, and nobody is told."""
    await orders(client, 1)
    tokenflow_sandbox.revoke_access_tokens()
    assert (await orders(client, 2))["path"] == "/orders/2"
    assert_token_requests(tokenflow_sandbox, 2)
    assert tokenflow_sandbox.api_refused == 1


@pytest.mark.asyncio
@pytest.mark.tokenflow(lifetime=3600)
async def test_an_outage_is_tolerated(client, tokenflow_sandbox, tokenflow_clock):
    """While a token is still good, an outage of the server that renews it is not seen."""
    await orders(client, 1)
    tokenflow_clock.advance(3200)  # early: another token is wanted, the present one is still good
    tokenflow_sandbox.script(Status(503))
    await orders(client, 2)
    async with asyncio.timeout(10):
        while tokenflow_sandbox.unused_faults:  # noqa: ASYNC110 - the renewal goes on aside
            await asyncio.sleep(0)
    await orders(client, 3)
    assert_token_requests(tokenflow_sandbox, 2)
    assert tokenflow_sandbox.api_refused == 0
