"""Forwarding: the very token that came in, to the origins that were named, and nowhere else."""

# No `from __future__ import annotations`: FastAPI reads those of routes, which name what is local to a test.

import time
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from upstreams_rig import API, ELSEWHERE, Hands, World, bearer, behind, caller, straw_guard

from httpx_tokenflow import BearerAuth, ConfigurationError, OriginNotAllowed, StepUpRequired
from httpx_tokenflow.fastapi import Forwarding


@pytest.mark.asyncio
async def test_a_token_is_passed_on_as_it_is() -> None:
    """The upstream is sent the token of the request at hand; each request its own."""
    world, forwarding, app = World(), Forwarding(straw_guard, origins=(API,)), FastAPI()
    reports = world.client()

    @app.get("/")
    async def root(auth: Annotated[BearerAuth, Depends(forwarding)]) -> Any:
        return (await reports.get("/report", auth=auth)).json()

    async with behind(app) as client:
        for name in ("in-ann", "in-bob"):
            assert (await client.get("/", headers=bearer(name))).json() == {"token": name}
        assert (await client.get("/")).status_code == 401
    assert world.requests == []


@pytest.mark.asyncio
async def test_a_401_stands() -> None:
    """It is not renewed and not sent again: the upstream's 401 comes back."""
    world = World(api_faults=[httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})])
    auth = await Forwarding(straw_guard, origins=(API,))(caller("ann"))
    assert (await world.client().get("/", auth=auth)).status_code == 401
    assert (len(world.api), world.requests) == (1, [])


@pytest.mark.asyncio
async def test_it_goes_nowhere_else() -> None:
    """Another origin is refused before anything is sent; a redirect that leads there takes nothing along."""
    world = World(api_faults=[httpx.Response(302, headers={"Location": f"{ELSEWHERE}/x"})])
    auth = await Forwarding(straw_guard, origins=(API,))(caller("ann"))
    with pytest.raises(OriginNotAllowed):
        await world.client().get(f"{ELSEWHERE}/x", auth=auth)
    assert world.api == []
    await world.client(follow_redirects=True).get("/", auth=auth)
    assert [str(request.url) for request in world.api] == [f"{API}/", f"{ELSEWHERE}/x"]
    assert "authorization" not in world.api[1].headers


@pytest.mark.asyncio
async def test_a_stronger_login_is_the_callers_to_do() -> None:
    """Where the upstream wants a stronger login the error says that it is the caller's."""
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="gold"'
    world = World(api_faults=[httpx.Response(401, headers={"WWW-Authenticate": challenge})])
    auth = await Forwarding(straw_guard, origins=(API,))(caller("ann"))
    with pytest.raises(StepUpRequired) as caught:
        await world.client().get("/", auth=auth)
    assert caught.value.of_caller


@pytest.mark.asyncio
async def test_an_ended_token_is_not_passed_on() -> None:
    """A token that has ended is refused here, with the 401 that its caller needs."""
    hands = Hands()
    forwarding, ann = Forwarding(straw_guard, origins=(API,), clock=hands.clock), caller("ann", ends=time.time() + 10)
    await forwarding(ann)
    hands.ahead = 10.1
    with pytest.raises(HTTPException) as caught:
        await forwarding(ann)
    assert caught.value.status_code == 401


@pytest.mark.parametrize(
    ("origins", "why"),
    [
        (None, "origins is missing"),
        ((), "origins is empty"),
        (API, "write a tuple"),
        (("http://reports.example",), "plain http"),
        (("https://reports.example/path",), "is not an origin"),
        (("*",), "is not an origin"),
    ],
)
def test_origins_are_a_choice_in_words(origins: Any, why: str) -> None:
    """Without origins, or with what is none, there is no forwarding."""
    with pytest.raises(ConfigurationError, match=why):
        Forwarding(straw_guard, origins=origins)


@pytest.mark.parametrize(
    ("option", "why"),
    [({"on_event": "x"}, "on_event="), ({"clock": time.time}, "clock="), ({"guard": None}, "guard must be")],
)
def test_arguments_are_looked_at_when_it_is_made(option: Any, why: str) -> None:
    """What cannot work is an error where it is written, not an answer to the first caller."""
    with pytest.raises(ConfigurationError, match=why):
        Forwarding(**{"guard": straw_guard, "origins": (API,), **option})


@pytest.mark.asyncio
async def test_a_handler_is_told() -> None:
    """`on_event` is told what becomes of the token that was passed on."""
    told: list[Any] = []
    world = World(api_faults=[httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})])
    auth = await Forwarding(straw_guard, origins=(API,), on_event=told.append)(caller("ann"))
    await world.client().get("/", auth=auth)
    assert [type(event).__name__ for event in told][:1] == ["RequestRefused"]


def test_loopback_will_do() -> None:
    """A sidecar on the same machine may be reached by plain http; a repr says where tokens go, and shows none."""
    assert repr(Forwarding(straw_guard, origins=("http://127.0.0.1:8000",))) == "<Forwarding to http://127.0.0.1:8000>"
    with pytest.raises(TypeError, match="origins"):
        Forwarding(straw_guard)  # type: ignore[call-arg]
