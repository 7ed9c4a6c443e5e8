"""Many at once: one renewal for all who need it, none for those who do not, and nobody gets another's token."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from concurrency.stage import (
    DRIVERS,
    KINDS,
    ORIGIN,
    STORM_PATIENCE,
    Gate,
    Stage,
    at_once,
    meanwhile,
    sent,
    start,
    until,
)

from httpx_tokenflow import BearerAuth, ClientCredentials, ClientSecretPost, RefreshToken, Token, TokenAuth
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import Refuse, Sandbox, serve

NEEDS = ["nothing", "expired", "refused"]
FAST_STORM = ("asyncio", "refresh", "expired")
STORMS = [
    pytest.param(*storm, marks=() if storm == FAST_STORM else pytest.mark.slow)
    for storm in itertools.product(("asyncio", "uvloop", "trio"), KINDS, NEEDS)
]


@pytest.mark.parametrize(("driver", "kind", "need"), STORMS)
def test_five_thousand_tasks_cost_one_token_request(driver: str, kind: str, need: str) -> None:
    """5,000 tasks that need a renewal at the same time make one token request, and none of them fails (F01, F48)."""
    if driver == "uvloop":
        pytest.importorskip("uvloop")
    stage = Stage(kind, driver, need)
    answers = stage.at_once(5_000, within=STORM_PATIENCE)
    assert answers == [200] * 5_000
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need", NEEDS)
def test_a_hundred_threads_cost_one_token_request(kind: str, need: str) -> None:
    """100 threads that need a renewal at the same time make one token request, and none of them fails (F01, F48)."""
    stage = Stage(kind, "threads", need)
    assert stage.at_once(100) == [200] * 100
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("newest_only", [False, True])
def test_loops_and_threads_at_once_cost_one_token_request(need: str, newest_only: bool) -> None:
    """Two asyncio loops, a trio run and 50 threads share one auth: one token request, no failure (F01, F31, F36).

    Nothing is passed for `client=`: each loop and the threads use a connection of their own to the token endpoint. Half
    of the threads use httpx2 (F84).
    """
    stage = Stage("refresh", "anywhere", need, newest_only=newest_only, latency=0.1)
    together = threading.Barrier(53)

    def thread(library: Any) -> Any:
        client = library.Client(transport=stage.sandbox.transport(library), auth=auth)
        together.wait(10)
        return sent(client, stage.api_url)

    def loop(backend: str) -> list[Any]:
        together.wait(10)
        client = httpx.AsyncClient(transport=stage.sandbox.transport(), auth=auth)
        return at_once(backend, [client] * 50, stage.api_url)

    with serve(stage.sandbox) as url:
        stage.token_url = f"{url}/token"
        auth = stage.make_auth(client=None)
        if need != "nothing":
            auth.set_token(stage.first)
        loops = [start(loop, backend) for backend in ("asyncio", "asyncio", "trio")]
        threads = [start(thread, library) for library in (httpx, httpx2) for _ in range(25)]
        answers = [answer for one in loops for answer in one.result(20)] + [one.result(20) for one in threads]
        auth.close()
    assert answers == [200] * 200
    assert stage.sandbox.token_requests == 1
    assert stage.sandbox.families_revoked == 0
    assert stage.sandbox.is_alive(stage.first.refresh_token)


SHARED = ["one client", "two clients", "ten clients", "two auths on one store"]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("shared", SHARED)
def test_whoever_shares_a_token_shares_its_renewal(driver: str, kind: str, need: str, shared: str) -> None:
    """50 requests through one client, several clients, or two auths on one store: one token request (F01, F48)."""
    stage = Stage(kind, driver, need)
    auths = [stage.auth, stage.make_auth()] if "auths" in shared else [stage.auth]
    number = {"one client": 1, "ten clients": 10}.get(shared, 2)
    clients = [stage.client(auths[i % len(auths)]) for i in range(number)]
    with stage.held_until(waiting=49):
        answers = stage.at_once(50, clients)
    assert answers == [200] * 50
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("need", ["nothing", "expired"])
def test_tokens_for_use_elsewhere_share_the_renewal(driver: str, need: str) -> None:
    """`token()` and `atoken()` wait for the same renewal as requests do, and get the same token (F01, F48)."""
    stage = Stage("refresh", driver, need)

    class Tokens:
        """A client whose answers are tokens."""

        def get(self, _: str) -> Any:
            if driver == "threads":
                return httpx.Response(200, text=stage.auth.token().access_token)
            return self.aget()

        async def aget(self) -> httpx.Response:
            return httpx.Response(200, text=(await stage.auth.atoken()).access_token)

    with stage.held_until(waiting=49):
        assert stage.at_once(50, [stage.client(), Tokens()]) == [200] * 50
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_callable_is_asked_once_for_all(driver: str) -> None:
    """`BearerAuth` asks its callable once for 50 requests, and once more for the 50 that were refused (F48)."""
    stage = Stage("client", driver, need="refused")
    tokens = [stage.first.access_token, stage.login().access_token]
    asked: list[str] = []

    def ask() -> str:
        asked.append(tokens[len(asked)])
        return asked[-1]

    async def aask() -> str:
        await anyio.sleep(0.01)
        return ask()

    auth = BearerAuth(ask if driver == "threads" else aask)
    assert stage.at_once(50, auths=[auth]) == [200] * 50
    assert asked == tokens
    assert stage.at_once(50, auths=[auth]) == [200] * 50
    assert asked == tokens


class Counting(MemoryStore):
    """A store that counts how often it is read."""

    loads = 0

    def load(self, fingerprint: str) -> Any:
        self.loads += 1
        return super().load(fingerprint)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_late_401_takes_the_newer_token(driver: str, kind: str) -> None:
    """A 401 that comes when the refused token has been replaced already costs no token request (F50).

    Nor does it ask the store: what is in memory will do.
    """
    store = Counting()
    stage = Stage(kind, driver, "refused", store=store)
    late, early = Gate(stage.sandbox.transport()), Gate(stage.sandbox.transport())
    late.shut()
    early.shut()

    def conduct() -> None:
        until(lambda: late.reached == 1)  # refused, but the caller does not know yet
        early.open()
        until(lambda: any(seen.path == "/api/thing" and seen.status == 200 for seen in stage.sandbox.seen))
        store.loads = 0
        late.open()

    with meanwhile(conduct):
        answers = stage.at_once(2, [stage.client(transport=late), stage.client(transport=early)])
    assert answers == [200, 200]
    assert stage.sandbox.token_requests == 1
    assert stage.sandbox.api_requests == 4
    assert store.loads == 0
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
def test_good_tokens_do_not_queue(driver: str) -> None:
    """Requests with a good token are under way all at once: nothing is held while one is (F21, F32)."""
    stage = Stage("client", driver, need=None)
    api = Gate(stage.sandbox.transport())
    api.shut()

    def conduct() -> None:
        until(lambda: api.reached == 20)
        api.open()

    with meanwhile(conduct):
        answers = stage.at_once(20, [stage.client(transport=api)])
    assert answers == [200] * 20
    assert stage.sandbox.token_requests == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_requests_under_way_do_not_stop_a_renewal(driver: str) -> None:
    """A request that waits for its answer, however long, holds up nobody who has to renew (F21)."""
    stage = Stage("refresh", driver, need=None)
    slow, other = Gate(stage.sandbox.transport()), Gate(stage.sandbox.transport())
    slow.shut()
    other.instead = lambda _: None if stage.sandbox.token_requests else httpx.Response(401)

    def conduct() -> None:
        until(lambda: sum(seen.status == 200 for seen in stage.sandbox.seen if seen.path != "/token") == 6)
        slow.open()

    with meanwhile(conduct), stage.held_until(waiting=4):
        answers = stage.at_once(6, [stage.client(transport=slow), *[stage.client(transport=other)] * 5])
    assert answers == [200] * 6
    assert stage.sandbox.token_requests == 1
    stage.check_session()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("through", ["a client of its own", "the API client"])
def test_401s_do_not_fill_the_pool(driver: str, through: str) -> None:
    """Four times as many 401s as the pool has connections leave room for the token request and its waiters (F26)."""
    sandbox = Sandbox(latency=0.1)
    options = {
        "limits": httpx.Limits(max_connections=3),
        "timeout": httpx.Timeout(10.0, pool=1.0),
        # httpcore 1.0.9 closes idle connections under the feet of other threads ("Bad file descriptor"), with no auth
        # at all; a connection that is never idle is safe.
        "headers": {"Connection": "close"},
    }
    with serve(sandbox) as url:
        client = httpx.Client(**options) if driver == "threads" else httpx.AsyncClient(**options)
        grant = ClientCredentials(f"{url}/token", client_id="client", client_secret="secret")
        given = client if through == "the API client" else None
        auth = TokenAuth(grant, client=given, token=Token(sandbox.login()["access_token"]))
        client.auth = auth
        sandbox.revoke_access_tokens()
        answers = at_once(driver, [client] * 12, f"{url}/api/thing", close=True)
        auth.close()
    assert answers == [200] * 12
    assert sandbox.token_requests == 1


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_401_to_the_new_token_is_given_back(driver: str, kind: str) -> None:
    """Where the API refuses whatever it gets: two sends, one token request, and the 401 is given back (F49)."""
    stage = Stage(kind, driver, need=None)
    stage.sandbox.script(*[Refuse()] * 10, on="api")
    assert stage.at_once(1) == [401]
    assert stage.sandbox.api_requests == 2
    assert stage.sandbox.token_requests == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_api_that_always_refuses_costs_no_more_tokens(driver: str) -> None:
    """50 at once, and 50 more just after, at an API that refuses everything: two token requests in all (F49)."""
    stage = Stage("client", driver, need=None)
    stage.sandbox.script(*[Refuse()] * 1_000, on="api")
    with stage.held_until(waiting=49):
        assert stage.at_once(50) == [401] * 50
    assert stage.at_once(50) == [401] * 50
    assert stage.sandbox.token_requests <= 2
    assert stage.sandbox.api_requests <= 300


class Mint:
    """An authorization server that says what it was asked for, and an API that notes which tokens came."""

    def __init__(self) -> None:
        self.minted: dict[str, tuple[Any, ...]] = {}
        self.came: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/api/"):
            self.came.append((request.url.path, request.headers["authorization"].removeprefix("Bearer ")))
            return httpx.Response(200)
        with self._lock:
            token = f"token-{len(self.minted)}"
            self.minted[token] = (str(request.url), request.headers.get("authorization"), request.content)
        return httpx.Response(200, json={"access_token": token, "expires_in": 3600, "token_type": "Bearer"})


CLIENT = {"client_id": "a", "client_secret": "s", "scope": "read", "audience": "x", "resource": "https://r.example"}
DIFFERENT = {
    "token_endpoint": {"token_endpoint": "https://as.example/tenant-2/token"},
    "client_id": {"client_id": "b"},
    "client_secret": {"client_secret": "t"},
    "client_auth": {"client_auth": ClientSecretPost()},
    "scope": {"scope": "write"},
    "no scope": {"scope": None},
    "scopes run together": {"scope": "re ad"},
    "audience": {"audience": "y"},
    "resource": {"resource": "https://other.example"},
    "resources": {"resource": ("https://r.example", "https://other.example")},
    "extra": {"extra": {"tenant": "1"}},
}
SESSIONS = {
    "subject": {"subject": "bob"},
    "token_endpoint": DIFFERENT["token_endpoint"],
    "client_id": DIFFERENT["client_id"],
    "scope": DIFFERENT["scope"],
    "audience": DIFFERENT["audience"],
    "resource": DIFFERENT["resource"],
    "extra": DIFFERENT["extra"],
}
PAIRS = [
    *(pytest.param("client", change, id=f"client-{name}") for name, change in DIFFERENT.items()),
    *(pytest.param("refresh", change, id=f"refresh-{name}") for name, change in SESSIONS.items()),
    pytest.param("client", None, id="client-identical"),
    pytest.param("refresh", None, id="refresh-identical"),
    pytest.param("refresh", {"subject": None}, id="refresh-by token"),
]


@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize(("kind", "change"), PAIRS)
def test_only_identical_auths_share(driver: str, kind: str, change: dict[str, Any] | None) -> None:
    """Two auths on one store share a token if nothing on the wire differs, and never otherwise (F10, F11, F12)."""
    mint, store = Mint(), MemoryStore()
    transport = httpx.MockTransport(mint)
    client_class: Any = httpx.Client if driver == "threads" else httpx.AsyncClient
    clients = []
    for number, different in enumerate(({}, change or {})):
        options = {"token_endpoint": "https://as.example/token"} | CLIENT
        token = None
        if kind == "refresh":
            options |= {"subject": "alice"}
            token = Token("old", refresh_token=f"rt-{number if change else 0}", expires_at=0)
        grant = (ClientCredentials if kind == "client" else RefreshToken)(**(options | different))
        auth = TokenAuth(grant, store=store, token=token, client=client_class(transport=transport))
        clients.append(client_class(transport=transport, auth=auth, base_url=f"{ORIGIN}/api/{number}"))
    assert at_once(driver, clients * 10, "/thing") == [200] * 20
    used = [{token for path, token in mint.came if path == f"/api/{number}/thing"} for number in range(2)]
    assert [len(tokens) for tokens in used] == [1, 1]
    assert (used[0] == used[1]) is (change is None)
    assert len(mint.minted) == (1 if change is None else 2)


@pytest.mark.parametrize("driver", DRIVERS)
def test_users_are_never_mixed(driver: str) -> None:
    """100 interleaved requests of two people on one store: nobody is ever taken for the other (F14)."""
    sandbox, store = Sandbox(), MemoryStore()
    transport = sandbox.transport()
    client_class: Any = httpx.Client if driver == "threads" else httpx.AsyncClient
    clients = []
    for subject in ("alice", "bob"):
        login = sandbox.login(subject)
        grant = RefreshToken(f"{ORIGIN}/token", client_id="client", client_secret="secret", subject=subject)
        token = Token(login["access_token"], refresh_token=login["refresh_token"])
        auth = TokenAuth(grant, token=token, store=store, client=client_class(transport=transport))
        clients.append(client_class(transport=transport, auth=auth, base_url=f"{ORIGIN}/api/{subject}"))
    sandbox.revoke_access_tokens()
    assert at_once(driver, clients * 50, "/thing") == [200] * 100
    assert sandbox.token_requests == 2
    good = {(seen.path, seen.headers["authorization"]) for seen in sandbox.seen if seen.path != "/token"}
    good -= {(seen.path, seen.headers["authorization"]) for seen in sandbox.seen if seen.status == 401}
    with httpx.Client(transport=transport, base_url=ORIGIN) as anybody:
        for path, credential in good:
            owner = anybody.get("/api/whoami", headers={"Authorization": credential}).json()["subject"]
            assert path == f"/api/{owner}/thing"
    assert len(good) == 2
