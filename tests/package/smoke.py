"""The wheel alone, in an environment that has nothing but what it depends on.

    python -I smoke.py

Started by `run.py`, from an empty directory. Silent if all is well.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

import httpx

import httpx_tokenflow
from httpx_tokenflow import ClientCredentials, ConfigurationError, TokenAuth

if TYPE_CHECKING:
    from collections.abc import Callable

# The modules of the extras, which nobody has asked for here.
EDGES = ("cryptography", "fastapi", "filelock", "httpx2", "keyring", "opentelemetry", "prometheus_client", "redis",
         "rich", "starlette", "trio", "typer", "uvicorn")  # fmt: skip

minted: list[str] = []
refused: list[str] = []


def token_endpoint(request: httpx.Request) -> httpx.Response:
    """A new token for each request."""
    minted.append(f"token-{len(minted) + 1}")
    return httpx.Response(200, json={"access_token": minted[-1], "token_type": "Bearer", "expires_in": 3600})


def api(request: httpx.Request) -> httpx.Response:
    """It refuses the first token, which somebody has revoked."""
    shown = request.headers["authorization"].removeprefix("Bearer ")
    if shown == "token-1":
        refused.append(shown)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    return httpx.Response(200, json={"token": shown})


def new_auth(client: httpx.Client | httpx.AsyncClient) -> TokenAuth:
    """Client credentials, whose tokens come through `client`."""
    grant = ClientCredentials("https://auth.example.com/token", client_id="orders", client_secret="secret")
    return TokenAuth(grant, client=client)


def in_a_thread() -> list[int]:
    """Two requests, one after the other."""
    auth = new_auth(httpx.Client(transport=httpx.MockTransport(token_endpoint)))
    with httpx.Client(transport=httpx.MockTransport(api), auth=auth) as client:
        return [client.get("https://api.example.com/orders").status_code for _ in range(2)]


async def on_an_event_loop() -> list[int]:
    """Ten requests at once."""
    auth = new_auth(httpx.AsyncClient(transport=httpx.MockTransport(token_endpoint)))
    async with httpx.AsyncClient(transport=httpx.MockTransport(api), auth=auth) as client:
        answers = await asyncio.gather(*[client.get("https://api.example.com/orders") for _ in range(10)])
        return [answer.status_code for answer in answers]


def check_that_it_is_the_wheel() -> None:
    """What is imported is what was installed, with its types and its plugin beside it, and nothing more."""
    installed = metadata.distribution("httpx-tokenflow")
    assert str(installed.locate_file("httpx_tokenflow/__init__.py")) == httpx_tokenflow.__file__
    assert "site-packages" in httpx_tokenflow.__file__, httpx_tokenflow.__file__
    assert [name for name in EDGES if find_spec(name)] == [], "this environment is not empty"
    assert find_spec("pytest_tokenflow")


def check_a_401() -> None:
    """A 401 costs one renewal, in a thread and on an event loop, for one request and for ten at once."""
    assert in_a_thread() == [200, 200]
    assert (len(minted), len(refused)) == (2, 1)
    minted.clear()
    refused.clear()
    assert asyncio.run(on_an_event_loop()) == [200] * 10
    assert len(minted) == 2, minted
    assert refused


def check_what_is_missing() -> None:
    """Whoever uses an extra that is not there is told which one to install."""
    for use, extra in ((use_fastapi, "fastapi"), (use_a_file, "file"), (use_prometheus, "prometheus")):
        assert f"pip install 'httpx-tokenflow[{extra}]'" in refusal(use)


def refusal(use: Callable[[], None]) -> str:
    """What somebody is told who uses something that is not there."""
    try:
        use()
    except ConfigurationError as told:
        return str(told)
    return "it works without its extra"


def use_fastapi() -> None:
    """`[fastapi]`."""
    import httpx_tokenflow.fastapi  # noqa: F401


def use_a_file() -> None:
    """`[file]`."""
    from httpx_tokenflow.stores import FileStore

    FileStore()


def use_prometheus() -> None:
    """`[prometheus]`."""
    from httpx_tokenflow.instrumentation import PrometheusMetrics

    PrometheusMetrics()


check_that_it_is_the_wheel()
check_a_401()
assert not {*EDGES} & {*sys.modules}
check_what_is_missing()
