"""Test support: an authorization server and a protected API, in memory or on loopback, with faults on demand.

A `Sandbox` is both. The pytest plugin, which is there as soon as the package is installed, has one as a fixture, with a
clock to advance and a watch for leaks. It stands behind respx, pytest-httpx, pytest-httpx2 or any ``MockTransport``, or
has a transport of its own (`Sandbox.transport`), or a port (`serve`, ``tokenflow_server``; the extra ``testing``).

    import asyncio, httpx, pytest
    from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth
    from httpx_tokenflow.testing import Status, assert_token_requests

    LOGIN, ORDERS = "https://login.example.com/oauth2/token", "https://api.example.com/orders"

    @pytest.fixture
    def client(tokenflow_sandbox, tokenflow_clock, tokenflow_leaks, respx_mock):
        respx_mock.post(LOGIN).mock(side_effect=tokenflow_sandbox.ahandler("token"))
        respx_mock.get(ORDERS).mock(side_effect=tokenflow_sandbox.ahandler("api"))
        secret = tokenflow_sandbox.clients["client"]
        grant = ClientCredentials(LOGIN, client_id="client", client_secret=secret)
        return httpx.AsyncClient(auth=TokenAuth(grant, policy=RenewalPolicy(clock=tokenflow_clock.clock)))

    @pytest.mark.asyncio
    async def test_fifty_at_once(client, tokenflow_sandbox):
        await asyncio.gather(*[client.get(ORDERS) for _ in range(50)])
        assert_token_requests(tokenflow_sandbox, 1)

    @pytest.mark.asyncio
    async def test_a_401_is_a_non_event(client, tokenflow_sandbox):
        await client.get(ORDERS)
        tokenflow_sandbox.revoke_access_tokens()
        assert (await client.get(ORDERS)).status_code == 200
        assert_token_requests(tokenflow_sandbox, 2)

    @pytest.mark.asyncio
    @pytest.mark.tokenflow(lifetime=3600)  # options of the Sandbox
    async def test_an_outage_is_tolerated(client, tokenflow_sandbox, tokenflow_clock):
        await client.get(ORDERS)
        tokenflow_clock.advance(3200)  # a token is wanted, and the present one is still good
        tokenflow_sandbox.script(Status(503))
        assert (await client.get(ORDERS)).status_code == 200
        async with asyncio.timeout(10):
            while tokenflow_sandbox.unused_faults:  # the renewal goes on aside
                await asyncio.sleep(0)
        assert (await client.get(ORDERS)).status_code == 200
        assert_token_requests(tokenflow_sandbox, 2)

Each test fails, too, if a token or a secret can be read in its log at DEBUG, its warnings or its output
(``tokenflow_leaks``), or if a scripted fault never happened.

For a service that checks tokens the sandbox signs some: ``sandbox.mint("ann", audience="orders", scope="read")``, and a
``JWTVerifier(sandbox.issuer, "orders", client=httpx.AsyncClient(transport=sandbox.transport()))`` finds its keys.

Start reading at `_sandbox`. The state machine is in `_state`, what the server says in `_app` and `_oauth`, what can go
wrong in `_faults`; none of these does any I/O. Deliveries (`_reply`) are carried by `_asgi` and `_transport`. The
plugin, in `plugin`, is installed as ``pytest_tokenflow`` beside the package; what it gives is in `_fixtures`.
"""

from ._checks import assert_faults_used, assert_nothing_leaked, assert_token_requests
from ._clock import ManualClock
from ._faults import (
    Answer,
    Drip,
    DropAfter,
    DropBefore,
    Endless,
    Fault,
    Garbage,
    Html,
    Refuse,
    Silent,
    Slow,
    Status,
    Truncated,
)
from ._record import Seen
from ._sandbox import Sandbox
from ._serve import serve
from ._watch import LeakWatch

__all__ = [
    "Answer",
    "Drip",
    "DropAfter",
    "DropBefore",
    "Endless",
    "Fault",
    "Garbage",
    "Html",
    "LeakWatch",
    "ManualClock",
    "Refuse",
    "Sandbox",
    "Seen",
    "Silent",
    "Slow",
    "Status",
    "Truncated",
    "assert_faults_used",
    "assert_nothing_leaked",
    "assert_token_requests",
    "serve",
]
