"""On behalf of: each caller by their own token, never by another's; bounded, and over when that is over."""

# No `from __future__ import annotations`: FastAPI reads those of routes, which name what is local to a test.

import asyncio
import gc
import hashlib
import random
import ssl
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI, Security
from fastapi.security import SecurityScopes
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route
from upstreams_rig import API, AS, ELSEWHERE, HASTY, SECRET, Hands, World, bearer, behind, caller, straw_guard

from httpx_tokenflow import (
    AuthorizationCode,
    ClientCredentials,
    ConfigurationError,
    DeviceCode,
    DPoP,
    JWTBearer,
    OriginNotAllowed,
    ReauthenticationRequired,
    RefreshToken,
    TokenAuth,
    TokenExchange,
    TokenRequestError,
)
from httpx_tokenflow._registry import _registry
from httpx_tokenflow.fastapi import Caller, Forwarding, Guard, OnBehalfOf
from httpx_tokenflow.stores import FileStore, MemoryStore


def behalf(world: World, make_grant: Any = None, guard: Any = straw_guard, **options: Any) -> OnBehalfOf:
    options = {"origins": (API,), "policy": HASTY, "client": httpx.AsyncClient(transport=world.transport), **options}
    return OnBehalfOf(guard, make_grant or world.exchange().for_subject, **options)


class Anybody:
    """A verifier that takes everybody for whom they say."""

    async def verify(self, token: str) -> Caller:
        return caller(token.removeprefix("in-"), token=token)


def service(world: World, on_behalf: OnBehalfOf) -> FastAPI:
    app, billing = FastAPI(), world.client()

    @app.get("/invoices")
    async def invoices(auth: Annotated[TokenAuth, Depends(on_behalf)]) -> Any:
        return (await billing.get("/invoices", auth=auth)).json()

    return app


def whom(token: str) -> str:
    """For whom an exchanged token is: ``for.in-ann.7``."""
    return token.split(".")[1]


@pytest.mark.asyncio
async def test_a_caller_is_acted_for() -> None:
    """The token that came in is exchanged once, for what the grant says, and the upstream is sent the other one."""
    world = World()
    async with behind(service(world, behalf(world))) as client:
        for _ in range(3):
            answer = await client.get("/invoices", headers=bearer("in-ann"))
            assert answer.json() == {"token": "for.in-ann.1"}
    (request,) = world.requests
    assert request["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert (request["subject_token"], request["audience"]) == ("in-ann", "billing")


@pytest.mark.asyncio
@pytest.mark.parametrize("given", ["function", "grant"])
async def test_entra(given: str) -> None:
    """The JWT bearer grant with `requested_token_use` does the same, given as it is or by its function."""
    world = World()
    extra = {"requested_token_use": "on_behalf_of"}
    grant = JWTBearer(AS, client_id="svc", client_secret=SECRET, extra=extra)
    on_behalf = behalf(world, grant if given == "grant" else grant.for_subject)
    auth = await on_behalf(caller("ann"))
    assert whom((await auth.atoken()).access_token) == "in-ann"
    assert world.requests[0]["requested_token_use"] == "on_behalf_of"
    assert world.requests[0]["assertion"] == "in-ann"


@pytest.mark.asyncio
async def test_another_token_of_the_same_person_is_another() -> None:
    """Two tokens of one person, who may be good for different things, are exchanged each for its own."""
    world = World()
    on_behalf = behalf(world)
    one = await on_behalf(caller("ann", token="ann-reads"))
    two = await on_behalf(caller("ann", token="ann-writes"))
    assert one is not two
    assert (await one.atoken()).access_token == "for.ann-reads.1"
    assert (await two.atoken()).access_token == "for.ann-writes.2"
    assert await on_behalf(caller("ann", token="ann-reads")) is one


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "make_grant",
    [
        lambda _: TokenExchange(AS, client_id="c", client_secret="s", subject_token="always-the-same"),
        lambda t: TokenExchange(AS, client_id="c", client_secret="s", subject_token=t, subject_key="the-user"),
        lambda t: TokenExchange(AS, client_id="c", client_secret="s", subject_token=lambda: t),
        lambda _: JWTBearer(AS, client_id="c", client_secret="s", assertion="always-the-same"),
        lambda _: ClientCredentials(AS, client_id="c", client_secret="s"),
    ],
)
async def test_a_grant_that_two_callers_would_share_is_refused(make_grant: Any) -> None:
    """A grant that is not this caller's alone is an error before anything is sent."""
    world = World()
    with pytest.raises(ConfigurationError, match="is not this caller's alone"):
        await behalf(world, make_grant)(caller("ann"))
    assert world.requests == []


@pytest.mark.asyncio
async def test_an_actor_and_a_name_by_the_hash() -> None:
    """An actor that a callable brings is fine, and so is a name of the subject that is the token's hash."""
    world = World()

    def make_grant(token: str) -> TokenExchange:
        key = hashlib.sha256(token.encode()).hexdigest()
        return world.exchange(subject_token=token, actor_token=lambda: "the-service", subject_key=key)

    auth = await behalf(world, make_grant)(caller("ann"))
    assert whom((await auth.atoken()).access_token) == "in-ann"
    assert world.requests[0]["actor_token"] == "the-service"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "grant",
    [
        AuthorizationCode("https://as.example/authorize", AS, client_id="c"),
        DeviceCode("https://as.example/device", AS, client_id="c", on_prompt=print),
        RefreshToken(AS, client_id="c"),
    ],
)
async def test_a_grant_that_needs_a_person_or_spends_is_refused(grant: Any) -> None:
    """No login starts on behalf of a request, and no refresh token is used up."""
    with pytest.raises(ConfigurationError, match="needs a person, or uses up"):
        await behalf(World(), lambda _: grant)(caller("ann"))


@pytest.mark.asyncio
async def test_what_cannot_be() -> None:
    """Bad arguments are errors at once; what is no grant, or no caller, when it comes."""
    world = World()
    with pytest.raises(ConfigurationError, match="origins is missing"):
        behalf(world, origins=None)
    with pytest.raises(ConfigurationError, match="origins is empty"):
        behalf(world, origins=())
    with pytest.raises(ConfigurationError, match="write a tuple"):
        behalf(world, origins=API)
    with pytest.raises(ConfigurationError, match="plain http"):
        behalf(world, origins=("http://billing.example",))
    with pytest.raises(ConfigurationError, match="make_grant must be a function"):
        behalf(world, "grant")
    with pytest.raises(ConfigurationError, match="guard must be a Guard"):
        behalf(world, guard="guard")
    with pytest.raises(ConfigurationError, match="limit must be"):
        behalf(world, limit=0)
    with pytest.raises(TypeError, match="origins"):
        OnBehalfOf(straw_guard, print)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="must return a grant, and not be async; not NoneType"):
        await behalf(world, lambda _: None)(caller("ann"))
    with pytest.raises(ConfigurationError, match="the guard gave no Caller but NoneType"):
        await behalf(world)(None)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_tokens_go_to_their_origins_alone() -> None:
    """An exchanged token goes nowhere but to the origins that were named."""
    world = World()
    auth = await behalf(world)(caller("ann"))
    with pytest.raises(OriginNotAllowed):
        await world.client().get(f"{ELSEWHERE}/x", auth=auth)
    assert world.api == []


# One exchange for all requests of one caller


@pytest.mark.asyncio
async def test_requests_of_one_caller_share_one_exchange() -> None:
    """A hundred requests at once, with one token, make one token request."""
    world = World(latency=0.02)
    async with behind(service(world, behalf(world))) as client:
        answers = await asyncio.gather(*[client.get("/invoices", headers=bearer("in-ann")) for _ in range(100)])
    assert {answer.json()["token"] for answer in answers} == {"for.in-ann.1"}
    assert len(world.requests) == 1


@pytest.mark.asyncio
async def test_an_auth_that_was_let_go_and_is_in_use_shares_with_its_successor() -> None:
    """Where somebody still has the auth of a caller who was pushed out, a given store joins it with the new one."""
    world = World()
    on_behalf = behalf(world, store=MemoryStore(), limit=2)
    ann = await on_behalf(caller("ann"))
    await ann.atoken()
    for name in ("bob", "cid", "dan"):
        await on_behalf(caller(name))
    again = await on_behalf(caller("ann"))
    assert again is not ann
    await again.atoken()
    assert len(world.requests) == 1


@pytest.mark.asyncio
async def test_replicas_share_one_exchange(tmp_path: Path) -> None:
    """Two services with a store in common, as two processes have, exchange a token once."""
    world = World(latency=0.02)
    one, two = (behalf(world, store=FileStore(tmp_path)) for _ in range(2))
    auths = [await one(caller("ann")), await two(caller("ann"))]
    assert auths[0]._source is not auths[1]._source
    tokens = await asyncio.gather(*[auth.atoken() for auth in auths])
    assert {token.access_token for token in tokens} == {"for.in-ann.1"}
    assert len(world.requests) == 1


# Never mixed


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("seed", "users"), [(0, 50), *(pytest.param(n, 200, marks=pytest.mark.slow) for n in range(8))]
)
async def test_users_are_never_mixed(seed: int, users: int) -> None:
    """In any order, with too little room, with tokens that end and requests that hang up: each gets their own token.

    And nothing is left in the air.
    """
    world, chance = World(lifetime=120.0), random.Random(seed)

    async def jitter(request: httpx.Request) -> httpx.Response:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        return await world.answer(request)

    transport = httpx.MockTransport(jitter)
    hands = Hands(wall_alone=True)
    on_behalf = behalf(
        world, client=httpx.AsyncClient(transport=transport), limit=chance.choice([1, 20, 500]), policy=hands.policy
    )
    app, billing, wrong, served = FastAPI(), httpx.AsyncClient(transport=transport), [], Counter[str]()

    @app.get("/")
    async def root(auth: Annotated[TokenAuth, Depends(on_behalf)]) -> Any:
        return (await billing.get(API, auth=auth)).json()

    async def one(client: httpx.AsyncClient, name: str) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        ends = f";{time.time() + chance.choice([300, 5000])}" if chance.random() < 0.5 else ""
        answer = await client.get("/", headers=bearer(f"in-{name}{ends}"))
        if answer.status_code == 200:
            served[name] += 1
            if whom(answer.json()["token"]) != f"in-{name}":
                wrong.append((name, answer.json()))
        else:
            assert answer.status_code == 401, answer.text

    async with behind(app) as client:
        names = [f"u{number}" for number in range(users)] * 2
        chance.shuffle(names)
        tasks = [asyncio.create_task(one(client, name)) for name in names]
        for task in chance.sample(tasks, users * 2 // 5):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
            hands.ahead += chance.choice([0, 0, 0, 40])
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in outcomes if type(one) not in {type(None), asyncio.CancelledError}] == []
        assert wrong == []
        hands.ahead = 0.0
        for name in sorted(set(names)):
            await one(client, name)
    assert wrong == []
    assert len(served) == users
    assert len(on_behalf._auths) <= on_behalf._limit


@pytest.mark.asyncio
async def test_a_caller_who_hangs_up_tears_nothing() -> None:
    """Where a request is given up in the middle of its exchange, that goes on, and the next request is served by it."""
    world = World(latency=0.02)
    async with behind(service(world, behalf(world))) as client:
        for number in range(20):
            with anyio.move_on_after(0.005):
                await client.get("/invoices", headers=bearer(f"in-{number}"))
        assert len(world.requests) == 20
        for number in range(20):
            assert (await client.get("/invoices", headers=bearer(f"in-{number}"))).status_code == 200
    assert world.issued == 20


# The end


@pytest.mark.asyncio
async def test_an_ended_caller_is_never_served() -> None:
    """Whatever the guard's leeway, from the very second of its end a token gets nothing, not what is at hand either."""
    world, hands = World(), Hands()
    on_behalf = behalf(world, policy=hands.policy)
    ann = caller("ann", ends=time.time() + 100)
    auth = await on_behalf(ann)
    await auth.atoken()
    hands.ahead = 100.1
    with pytest.raises(HTTPException) as caught:
        await on_behalf(ann)
    assert caught.value.status_code == 401
    fields = caught.value.headers or {}
    assert fields["WWW-Authenticate"] == 'Bearer error="invalid_token", error_description="the token has expired"'
    assert fields["Cache-Control"] == "no-store"
    assert len(world.requests) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [OnBehalfOf, Forwarding])
async def test_an_ended_caller_is_told_what_the_guard_would_say(kind: Any) -> None:
    """The challenge names the realm and the metadata of the guard, and is cut short at the very second of the end."""
    guard = Guard(Anybody(), realm="orders", resource_metadata="https://svc.example/meta")
    hands = Hands(stopped_at=1_000.0)
    options = {"policy": hands.policy} if kind is OnBehalfOf else {"clock": hands.clock}
    make_grant = (World().exchange(),) if kind is OnBehalfOf else ()
    dependency = kind(guard, *make_grant, origins=(API,), **options)
    await dependency(caller("ann", ends=1_000.1))
    with pytest.raises(HTTPException) as caught:
        await dependency(caller("ann", ends=1_000.0))
    assert (caught.value.headers or {})["WWW-Authenticate"] == (
        'Bearer realm="orders", error="invalid_token", error_description="the token has expired", '
        'resource_metadata="https://svc.example/meta"'
    )


@pytest.mark.asyncio
async def test_what_has_ended_is_swept() -> None:
    """The next request, whoever's, lets the auth go, and the token out of memory; what has not ended stays."""
    world, hands = World(), Hands()
    given = MemoryStore()
    on_behalf = behalf(world, policy=hands.policy, store=given)
    now = time.time()
    auths = {name: await on_behalf(caller(name, ends=now + ends)) for name, ends in (("ann", 100), ("bob", 200))}
    forever = await on_behalf(caller("cid"))
    for auth in (*auths.values(), forever):
        await auth.atoken()
    ann, store = weakref.ref(auths.pop("ann")), given._entries
    assert len(store) == 3
    hands.ahead = 100.0
    assert await on_behalf(caller("cid")) is forever
    del auth
    gc.collect()
    assert ann() is None
    assert len(store) == len(on_behalf._auths) == 2
    assert not any("for.in-ann" in entry.token.access_token for entry in store.values())
    hands.ahead = 200.0
    assert await on_behalf(caller("cid")) is forever
    assert len(store) == len(on_behalf._auths) == 1


@pytest.mark.asyncio
async def test_a_sweep_takes_a_little_at_a_time() -> None:
    """Where thousands end at once no single request pays for all of them, and soon all are gone."""
    world, hands = World(), Hands()
    on_behalf = behalf(world, policy=hands.policy)
    ends = time.time() + 100
    for number in range(200):
        await on_behalf(caller(f"u{number}", ends=ends))
    hands.ahead = 101.0
    left = []
    for _ in range(4):
        await on_behalf(caller("ann"))
        left.append(len(on_behalf._auths))
    assert left[0] > 100
    assert left[-1] == 1
    assert on_behalf._ends == []


@pytest.mark.asyncio
async def test_the_end_of_a_token_is_no_end_for_what_it_was_exchanged_for() -> None:
    """What a token was exchanged for is not renewed more often as the token's own end comes near."""
    world, hands = World(), Hands()
    on_behalf = behalf(world, policy=hands.policy)
    ann = caller("ann", ends=time.time() + 1000)
    for ahead in range(0, 1000, 10):
        hands.ahead = float(ahead)
        await (await on_behalf(ann)).atoken()
    assert len(world.requests) == 1


@pytest.mark.asyncio
async def test_a_logout_is_an_end() -> None:
    """`discard` lets go of a caller's auth and token at once, and of nobody else's."""
    world = World()
    on_behalf = behalf(world)
    ann, bob = caller("ann", ends=time.time() + 100), caller("bob", ends=time.time() + 100)
    for one in (ann, bob):
        await (await on_behalf(one)).atoken()
    on_behalf.discard(ann)
    assert len(on_behalf._auths) == 1
    await (await on_behalf(bob)).atoken()
    assert len(world.requests) == 2
    async with on_behalf:
        assert repr(on_behalf) == "<OnBehalfOf 1 callers, 10000 at most>"
    assert len(on_behalf._auths) == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("ends", [None, 1000.0])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("verb", ["discard", "adiscard"])
async def test_what_was_discarded_is_not_found_again(*, ends: float | None, given: bool, verb: str) -> None:
    """After a logout another request with the same token is another exchange, whoever still has the auth in hand."""
    world, store = World(), MemoryStore() if given else None
    on_behalf, ann = behalf(world, store=store), caller("ann", ends=None if ends is None else time.time() + ends)
    in_use = await on_behalf(ann)
    await in_use.atoken()
    if not given:
        await in_use.using(audience="x").atoken()
    if verb == "discard":
        on_behalf.discard(ann)
    else:
        assert not await on_behalf.adiscard(ann)  # this server has nobody to be told
    assert store is None or store._entries == {}
    world.requests.clear()
    await (await on_behalf(ann)).atoken()
    assert len(world.requests) == 1
    if not given:
        await (await on_behalf(ann)).using(audience="x").atoken()
        assert len(world.requests) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("given", [False, True])
async def test_a_logout_in_the_middle_of_an_exchange(*, given: bool) -> None:
    """What an exchange in the air brings after the logout is not found by the next request."""
    world, store = World(), MemoryStore() if given else None
    on_behalf, gate = behalf(world, store=store), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return await World.answer(world, request)

    world.transport.handler = slow
    flight = asyncio.create_task((await on_behalf(caller("ann"))).atoken())
    async with asyncio.timeout(5):
        while not (await on_behalf(caller("ann"))).status.waiting:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    on_behalf.discard(caller("ann"))
    gate.set()
    await flight  # by a second exchange, if need be
    assert store is None or all(one.token.access_token != "for.in-ann.1" for one in store._entries.values())
    assert (await (await on_behalf(caller("ann"))).atoken()).access_token == "for.in-ann.2"


@pytest.mark.asyncio
async def test_a_logout_out_of_a_store_of_files(tmp_path: Path) -> None:
    """`adiscard` takes what was exchanged out of any store; what others have there stays."""
    world = World()
    on_behalf = behalf(world, store=FileStore(tmp_path))
    for name in ("ann", "bob"):
        await (await on_behalf(caller(name))).atoken()
    await on_behalf.adiscard(caller("ann"))
    for name in ("ann", "bob"):
        await (await on_behalf(caller(name))).atoken()
    assert [request["subject_token"] for request in world.requests] == ["in-ann", "in-bob", "in-ann"]


@pytest.mark.asyncio
async def test_nothing_is_left_of_what_was_closed() -> None:
    """After the end a caller is exchanged anew, and what an exchange in the air was to bring has been waited for."""
    world = World(latency=0.05)
    async with behalf(world) as on_behalf:
        flight = asyncio.create_task((await on_behalf(caller("ann", ends=time.time() + 9))).atoken())
        async with asyncio.timeout(5):
            while not world.requests:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
    assert world.issued == 1
    assert on_behalf._ends == []
    await flight
    assert (await (await on_behalf(caller("ann"))).atoken()).access_token == "for.in-ann.2"


@pytest.mark.asyncio
async def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanges that hang hold the end up for a bounded time, all together."""
    monkeypatch.setattr("httpx_tokenflow.fastapi._on_behalf._CLOSING", 0.05)
    world = World(latency=60.0)
    on_behalf, flights = behalf(world), []
    for number in range(5):
        auth = await on_behalf(caller(f"u{number}"))
        flights.append(asyncio.create_task(auth.atoken()))
    while len(world.requests) < 5:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)
    async with asyncio.timeout(4):
        await on_behalf.aclose()
    assert len(on_behalf._auths) == 0
    for one in (*flights, *(asyncio.all_tasks() - {asyncio.current_task()})):
        one.cancel()
    await asyncio.gather(*flights, return_exceptions=True)


@pytest.mark.asyncio
async def test_many_tokens_through_little_room() -> None:
    """Any number of tokens leave no more behind than there is room for: auths, sources, entries, notes of ends."""
    world, limit = World(), 20
    on_behalf = behalf(world, limit=limit)
    sources, ends = len(_registry.sources), time.time() + 3600
    for number in range(1_000):
        auth = await on_behalf(caller(f"u{number}", ends=ends + number % 7))
        if number % 10 == 0:
            await auth.atoken()
    del auth
    gc.collect()
    assert len(on_behalf._auths) == limit
    assert len(_registry.sources) - sources <= limit
    assert len(on_behalf._ends) <= 2 * limit + 65


@pytest.mark.asyncio
async def test_no_token_stays_in_a_store_of_memory() -> None:
    """However many callers came and went: after their ends a `MemoryStore` that was given has nothing of theirs."""
    world, hands, store = World(lifetime=60), Hands(), MemoryStore()
    on_behalf = behalf(world, limit=2, store=store, policy=hands.policy)
    for number in range(200):
        await (await on_behalf(caller(f"u{number}", ends=time.time() + 600))).atoken()
    hands.ahead = 7200.0
    for _ in range(10):
        await on_behalf(caller("zed", ends=time.time() + 9000))
    assert len(store._entries) == 0


@pytest.mark.asyncio
async def test_what_lands_after_the_end_is_swept_too() -> None:
    """An exchange that is in the air at its caller's end is swept when it has landed."""
    world, hands, store = World(latency=0.05), Hands(), MemoryStore()
    on_behalf = behalf(world, store=store, policy=hands.policy)
    landing = asyncio.create_task((await on_behalf(caller("ann", ends=time.time() + 10))).atoken())
    await asyncio.sleep(0.01)
    hands.ahead = 11.0
    await on_behalf(caller("bob", ends=time.time() + 9000))
    await landing
    assert len(store._entries) == 1
    hands.ahead = 100.0
    await on_behalf(caller("bob", ends=time.time() + 9000))
    assert len(store._entries) == 0


@pytest.mark.asyncio
async def test_what_works_for_one_tenant_says_nothing_of_another() -> None:
    """Where `make_grant` asks in two ways, and one of them has worked, that says nothing of the other."""
    world = World()
    right, wrong = (
        TokenExchange(AS, client_id="svc", client_secret=SECRET, audience=audience) for audience in ("right", "wrong")
    )

    def make(token: str) -> TokenExchange:
        return (right if "ann" in token else wrong).for_subject(token)

    client = httpx.AsyncClient(transport=world.transport)
    on_behalf = OnBehalfOf(straw_guard, make, origins=(API,), policy=HASTY, client=client)
    await (await on_behalf(caller("ann"))).atoken()
    world.faults = [httpx.Response(400, json={"error": "invalid_request"})]
    with pytest.raises(TokenRequestError) as caught:
        await (await on_behalf(caller("bob"))).atoken()
    assert not isinstance(caught.value, ReauthenticationRequired)


@pytest.mark.asyncio
async def test_what_stays_is_still_swept_when_notes_are_forgotten() -> None:
    """Whoever is kept is still swept at their end, however many others came and went."""
    world, hands = World(), Hands()
    on_behalf = behalf(world, limit=5, policy=hands.policy)
    ends = time.time() + 50
    for number in range(300):
        await on_behalf(caller("ann", ends=ends))
        await on_behalf(caller(f"u{number}", ends=ends + 100))
    hands.ahead = 51.0
    await on_behalf(caller("bob"))
    assert not any(one.token == "in-ann" for one in on_behalf._auths._auths)


# Errors, and what FastAPI makes of it


@pytest.mark.asyncio
async def test_errors_say_that_they_are_the_callers() -> None:
    """Where the exchange is refused the error is the caller's, by a request, by `atoken()` and by a sibling."""
    world = World(refuses={"in-ann"})
    auth = await behalf(world)(caller("ann"))
    for use in (
        lambda: world.client().get("/", auth=auth),
        auth.atoken,
        auth.awarm,
        auth.using(scope="more").atoken,
        lambda: world.client().get("/", auth=auth.using(scope="other")),
    ):
        with pytest.raises(ReauthenticationRequired) as caught:
            await use()
        assert caught.value.of_caller
        assert not caught.value.again().of_caller
    own = world.auth()
    world.refuses.add("service")
    with pytest.raises(ReauthenticationRequired) as caught:
        await world.client().get("/", auth=own)
    assert not caught.value.of_caller


@pytest.mark.asyncio
async def test_the_end_of_a_session_in_other_words() -> None:
    """What becomes `ReauthenticationRequired` has the status, the code, the words and the request of what it was."""
    said = {"error": "invalid_token", "error_description": "gone"}
    auth = await behalf(World(faults=[httpx.Response(401, json=said)]))(caller("ann"))
    with pytest.raises(ReauthenticationRequired) as caught:
        await World().client().get("/", auth=auth)
    error = caught.value
    assert (error.status, error.error, error.error_description) == (401, "invalid_token", "gone")
    assert error.request.url == f"{API}/"
    assert error.of_caller
    assert isinstance(error.__cause__, TokenRequestError)
    assert str(error) == str(error.__cause__)


@pytest.mark.asyncio
async def test_what_has_worked_is_of_one_way_of_asking() -> None:
    """An exchange that worked says nothing of one for another audience; of the same one for others it does."""
    world = World()
    on_behalf = behalf(world)
    await (await on_behalf(caller("ann"))).atoken()

    async def asked(name: str, **choice: Any) -> type[Exception] | None:
        auth = await on_behalf(caller(name))
        world.faults = [httpx.Response(400, json={"error": "invalid_request"})]
        try:
            await (auth.using(**choice) if choice else auth).atoken()
        except TokenRequestError as error:
            return type(error).__mro__[1]
        return None

    assert await asked("bob") is ReauthenticationRequired
    assert await asked("bob", audience="x") is TokenRequestError
    assert await asked("cid", audience="x") is TokenRequestError
    world.faults.clear()
    await (await on_behalf(caller("dot"))).using(audience="x").atoken()
    assert await asked("eve", audience="x") is ReauthenticationRequired
    assert await asked("fay", audience="y") is TokenRequestError


def test_errors_of_the_sync_side_too() -> None:
    """The sync twins say the same."""
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json={"error": "invalid_grant"}))
    on_behalf = behalf(World(), client=httpx.Client(transport=transport))
    auth = asyncio.run(on_behalf(caller("ann")))
    for use in (auth.token, auth.warm, lambda: httpx.Client(transport=transport).get(API, auth=auth)):
        with pytest.raises(ReauthenticationRequired) as caught:
            use()
        assert caught.value.of_caller


@pytest.mark.asyncio
async def test_scopes_are_the_routes_to_say() -> None:
    """`Security(on_behalf, scopes=…)` hands the scopes on to the guard."""
    seen: list[list[str]] = []

    async def guard(scopes: SecurityScopes) -> Caller:
        seen.append(scopes.scopes)
        return caller("ann")

    on_behalf, app = behalf(World(), guard=guard), FastAPI()

    @app.get("/")
    async def root(auth: Annotated[TokenAuth, Security(on_behalf, scopes=["invoices"])]) -> str:
        return type(auth).__name__

    async with behind(app) as client:
        assert (await client.get("/")).status_code == 200
    assert seen == [["invoices"]]
    assert "caller" not in str(app.openapi())


@pytest.mark.asyncio
async def test_with_a_real_guard() -> None:
    """Behind a `Guard` a request with a good token is acted for, and one without is not."""

    world = World()
    async with behind(service(world, behalf(world, guard=Guard(Anybody())))) as client:
        assert (await client.get("/invoices", headers=bearer("in-ann"))).json() == {"token": "for.in-ann.1"}
        refused = await client.get("/invoices")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')


@pytest.mark.asyncio
async def test_overridden_in_tests() -> None:
    """A test overrides the guard, or the auth itself, as with any dependency."""
    world = World()
    on_behalf = behalf(world)
    app = service(world, on_behalf)
    async with behind(app) as client:
        app.dependency_overrides[straw_guard] = lambda: caller("bob")
        assert whom((await client.get("/invoices")).json()["token"]) == "in-bob"
        app.dependency_overrides = {on_behalf: lambda: httpx.BasicAuth("a", "b")}
        assert (await client.get("/invoices", headers=bearer("in-ann"))).status_code == 200
    assert world.api[-1].headers["authorization"].startswith("Basic ")


@pytest.mark.asyncio
async def test_plain_starlette() -> None:
    """Without FastAPI the guard is asked who called, and the auth is asked for in words."""

    world, guard = World(), Guard(Anybody())
    on_behalf, billing = behalf(world, guard=guard), world.client()

    async def root(request: Any) -> JSONResponse:
        auth = await on_behalf(await guard.check(request))
        return JSONResponse((await billing.get("/", auth=auth)).json())

    async with behind(Starlette(routes=[Route("/", root)])) as client:
        assert (await client.get("/", headers=bearer("in-ann"))).json() == {"token": "for.in-ann.1"}


@pytest.mark.asyncio
async def test_nothing_shows_a_token() -> None:
    """No repr has a token in it."""
    world = World()
    on_behalf = behalf(world, store=MemoryStore())
    auth = await on_behalf(caller("ann", token="s3cret-token", ends=time.time() + 9))
    await auth.atoken()
    for shown in (on_behalf, auth, on_behalf._auths, on_behalf._ends, list(on_behalf._auths._auths)):
        assert "s3cret-token" not in repr(shown)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"policy": 3}, "policy="),
        ({"on_event": "x"}, "on_event="),
        ({"store": MemoryStore}, "store="),
        ({"client": 5}, "client="),
        ({"verify": False}, "contradict"),
        ({"dpop": "x"}, "dpop="),
        ({"limit": True}, "limit"),
        ({"guard": Guard}, "guard must be"),
        ({"guard": "x"}, "guard must be"),
        ({"origins": ("x",)}, "origin"),
    ],
)
def test_arguments_are_looked_at_when_it_is_made(option: Any, why: str) -> None:
    """What cannot work is an error where it is written, not an answer to the first caller."""
    with pytest.raises(ConfigurationError, match=why):
        behalf(World(), **option)


@pytest.mark.asyncio
async def test_arguments_are_handed_on() -> None:
    """What an `OnBehalfOf` is given for its auths, each of them has: a handler, a key, and whom to trust."""
    told, proofs = list[Any](), list[str]()

    async def answer(request: httpx.Request) -> httpx.Response:
        proofs.append(request.headers.get("DPoP", ""))
        return httpx.Response(200, json={"access_token": "bound", "token_type": "DPoP", "expires_in": 60})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    on_behalf = behalf(World(), on_event=told.append, dpop=DPoP(), client=client)
    for name in ("ann", "bob"):
        await (await on_behalf(caller(name))).atoken()
    assert [type(event).__name__ for event in told].count("TokenObtained") == 2
    assert len(proofs) == 2
    assert all(proofs)
    context = ssl.create_default_context()
    auth = await behalf(World(), client=None, verify=context)(caller("ann"))
    assert auth._client._verify is context


@pytest.mark.asyncio
async def test_another_end_of_one_token_is_no_other_token() -> None:
    """Where two looks at one token tell two ends, as introspection may, there is still one exchange for it."""
    world = World()
    on_behalf = behalf(world)
    auths = [await on_behalf(caller("ann", ends=ends)) for ends in (None, time.time() + 50, time.time() + 99)]
    assert auths[0] is auths[1] is auths[2]


@pytest.mark.asyncio
async def test_what_ends_in_this_second_is_swept() -> None:
    """At the very second of its end a token is over, not a moment later."""
    hands = Hands(stopped_at=1_000.0)
    on_behalf = behalf(World(), policy=hands.policy)
    await on_behalf(caller("ann", ends=1_010.0))
    hands.ahead = 9.9
    await on_behalf(caller("bob"))
    assert len(on_behalf._auths) == 2
    hands.ahead = 10.0
    await on_behalf(caller("bob"))
    assert len(on_behalf._auths) == 1


@pytest.mark.asyncio
async def test_ends_are_looked_at_under_the_lock() -> None:
    """Loops in several threads sweep the same ends: who looks at the first of them holds the lock."""
    hands = Hands(stopped_at=1_000.0)
    on_behalf = behalf(World(), policy=hands.policy)
    looks: list[bool] = []

    class Watched(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            looks.append(on_behalf._lock.locked())
            return super().__getitem__(place)

    await on_behalf(caller("ann", ends=1_010.0))
    on_behalf._ends = Watched(on_behalf._ends)
    for _ in range(2):
        await on_behalf(caller("bob"))
        hands.ahead = 10.0
    assert len(on_behalf._auths) == 1
    assert looks
    assert all(looks)


@pytest.mark.asyncio
async def test_the_last_to_come_is_swept_too() -> None:
    """Whoever comes while the notes of those who left are forgotten is swept at their end like all others."""
    hands = Hands(stopped_at=1_000.0)
    on_behalf = behalf(World(), policy=hands.policy, limit=2)
    for number in range(69):  # the last of them is one too many
        await on_behalf(caller(f"u{number}", ends=1_010.0))
    assert len(on_behalf._ends) == 3
    hands.ahead = 10.0
    await on_behalf(caller("bob"))
    assert [one.token for one in on_behalf._auths._auths] == ["in-bob"]
    assert on_behalf._ends == []


@pytest.mark.asyncio
async def test_no_cookie_of_one_exchange_goes_with_the_next() -> None:
    """A session that the authorization server opens for one caller is not presented for another."""
    world, cookies = World(), list[str]()

    async def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie", ""))
        response = await world.answer(request)
        response.headers["Set-Cookie"] = "AUTH_SESSION=of-the-first; Path=/"
        return response

    on_behalf = behalf(world, client=httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    for name in ("ann", "bob"):
        await (await on_behalf(caller(name))).atoken()
    assert cookies == ["", ""]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_hundred_thousand_tokens() -> None:
    """A hundred thousand tokens through room for a thousand: no more than that is left."""
    world, limit = World(), 1_000
    on_behalf, ends, sources = behalf(world, limit=limit), time.time() + 3600, len(_registry.sources)
    for number in range(100_000):
        auth = await on_behalf(caller(f"u{number}", ends=ends))
        if number % 20 == 0:
            await auth.atoken()
    for number in range(limit):
        await (await on_behalf(caller(f"v{number}", ends=ends))).atoken()
    del auth
    gc.collect()
    assert len(on_behalf._auths) == limit
    assert len(_registry.sources) - sources <= limit
    assert len(on_behalf._ends) <= 2 * limit + 65
