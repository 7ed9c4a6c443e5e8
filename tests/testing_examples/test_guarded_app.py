"""A FastAPI app behind a guard, tested with tokens of a sandbox; and what it calls on its callers' behalf."""

from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Security

from httpx_tokenflow import RenewalPolicy, TokenAuth, TokenExchange
from httpx_tokenflow.fastapi import Caller, Guard, JWTVerifier

UPSTREAM = "https://sandbox/api/profile"


def make_app(sandbox, clock):
    """The program: it verifies who calls, and asks an upstream on their behalf."""
    outside = httpx.AsyncClient(transport=sandbox.transport())  # in production the default: no client= at all
    verifier = JWTVerifier(sandbox.issuer, "orders", client=outside, clock=clock, leeway=0.0)
    guard = Guard(verifier)
    app = FastAPI()

    @app.get("/me")
    async def me(caller: Annotated[Caller, Security(guard, scopes=["read"])]) -> dict[str, str]:
        grant = TokenExchange(
            "https://sandbox/token",
            client_id="client",
            client_secret=sandbox.clients["client"],
            subject_token=caller.token,
        )
        auth = TokenAuth(grant, client=outside, policy=RenewalPolicy(clock=clock))
        async with httpx.AsyncClient(transport=sandbox.transport(), auth=auth) as upstream:
            return {"caller": caller.subject, "upstream": (await upstream.get(UPSTREAM)).json()["subject"]}

    return app


@pytest.fixture
def app(tokenflow_sandbox, tokenflow_clock, tokenflow_leaks):
    return make_app(tokenflow_sandbox, tokenflow_clock.clock)


def ask(app, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://us", headers=headers)


@pytest.mark.anyio
async def test_callers_are_who_they_are(app, tokenflow_sandbox):
    """Each caller is let in as themselves, and the upstream is asked in their name, once for each."""
    for name in ("ann", "bob"):
        async with ask(app, tokenflow_sandbox.mint(name, audience="orders", scope="read")) as client:
            assert (await client.get("/me")).json() == {"caller": name, "upstream": name}
    assert tokenflow_sandbox.exchanges == {"ann": 1, "bob": 1}
    assert tokenflow_sandbox.jwks_requests == 1


@pytest.mark.anyio
async def test_others_stay_outside(app, tokenflow_sandbox, tokenflow_clock):
    """No token, one for somebody else, one without the scope and one that has ended are refused, each in its way."""
    tokens = [
        None,
        tokenflow_sandbox.mint(audience="billing", scope="read"),
        tokenflow_sandbox.mint(audience="orders"),
        tokenflow_sandbox.mint(audience="orders", scope="read", lifetime=60),
    ]
    tokenflow_clock.advance(61)
    statuses = []
    for token in tokens:
        async with ask(app, token) as client:
            statuses.append((await client.get("/me")).status_code)
    assert statuses == [401, 401, 403, 401]
    assert tokenflow_sandbox.exchanges == {}


@pytest.mark.anyio
async def test_keys_rotate(app, tokenflow_sandbox, tokenflow_clock):
    """A token signed with a new key is let in once the guard may ask for the keys again."""
    async with ask(app, tokenflow_sandbox.mint(audience="orders", scope="read")) as client:
        assert (await client.get("/me")).status_code == 200
    tokenflow_sandbox.rotate_keys()
    tokenflow_clock.advance(60)
    async with ask(app, tokenflow_sandbox.mint(audience="orders", scope="read")) as client:
        assert (await client.get("/me")).status_code == 200
    assert tokenflow_sandbox.jwks_requests == 2
