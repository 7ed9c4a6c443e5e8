"""A grant that a program brings itself, by way of `httpx_tokenflow.grants`: in threads, on asyncio and on trio."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections import deque
from contextlib import ExitStack
from typing import Any

import pytest
from host.hands import SIX, Hand

import httpx_tokenflow
from httpx_tokenflow import (
    ConfigurationError,
    InvalidCredential,
    ReauthenticationRequired,
    RenewalPolicy,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
    grants,
)
from httpx_tokenflow.grants import Call, Fetch, Minted, ServerRequest, Sleep, Token, Work, read_json, read_seconds
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import serve

KEY = "SENTINEL-key"
QUICK = RenewalPolicy(budget=5.0, attempts=1)


class Desk:
    """An API that gives tickets out for a key, in words of its own; /api wants the newest ticket."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bodies: list[Any] = []
        self.answers: deque[tuple[int, Any]] = deque()
        self.tickets = 0
        self.api_requests = 0
        self.lifetime: Any = 3600
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        with self.lock:
            status, answer = self._answer(scope["path"], headers, body)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        await send(start)
        await send({"type": "http.response.body", "body": content})

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        if path == "/api":
            self.api_requests += 1
            good = self.tickets and headers.get("authorization") == f"Bearer SENTINEL-ticket-{self.tickets}"
            return (200, {"ok": True}) if good else (401, {"error": "who are you?"})
        self.bodies.append(json.loads(body))
        if self.answers:
            return self.answers.popleft()
        self.tickets += 1
        return 200, {
            "ticket": f"SENTINEL-ticket-{self.tickets}",
            "validFor": self.lifetime,
            "next": f"SENTINEL-next-{self.tickets}",
        }

    def expire(self) -> None:
        """The newest ticket is no good any more."""
        with self.lock:
            self.tickets += 1


@pytest.fixture
def desk() -> Any:
    desk = Desk()
    with serve(desk) as desk.url:
        yield desk


@pytest.fixture(params=SIX)
def hand(request: pytest.FixtureRequest) -> Any:
    """Threads, asyncio and trio, with both libraries."""
    with ExitStack() as stack:
        yield Hand(*SIX[request.param], stack)


def _example() -> str:
    """The code in the docstring of `httpx_tokenflow.grants`."""
    text = inspect.cleandoc(grants.__doc__ or "")
    begin, end = text.index("    import os"), text.index("\nThe steps.")
    return textwrap.dedent(text[begin:end]).strip()


def _made(desk: Desk) -> TokenAuth:
    """The `auth` of the example, for the desk of the test."""
    code = _example().replace("https://desk.example.com/tickets", f"{desk.url}/tickets")
    names: dict[str, Any] = {}
    exec(compile(code, "grants.py", "exec"), names)
    return names["auth"]


@pytest.fixture
def auth(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DESK_KEY", KEY)
    with _made(desk) as auth:
        yield auth


def test_the_example_is_short() -> None:
    """Twenty lines at most, imports and all, and it needs nothing but public names."""
    code = _example()
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    assert {name for name in names if "tokenflow" in str(name)} == {"httpx_tokenflow", "httpx_tokenflow.grants"}


def test_the_example_works(hand: Any, desk: Desk, auth: TokenAuth) -> None:
    """Twenty at once: one ticket; after a 401, one more, for everybody; the key is on the wire and nowhere else."""
    client = hand.client(auth=auth)
    assert {answer.status_code for answer in client.together(20, "GET", f"{desk.url}/api")} == {200}
    assert desk.bodies == [{"account": "orders", "key": KEY}]
    desk.expire()
    assert {answer.status_code for answer in client.together(20, "GET", f"{desk.url}/api")} == {200}
    assert len(desk.bodies) == 2
    assert "SENTINEL" not in f"{auth!r} {auth.status!r}"


@pytest.mark.parametrize(
    ("said", "seconds"), [(600, 600), ("600", 600), ("600.0", 600), ("for long", 3600), (None, 3600)]
)
def test_what_the_desk_says_of_time_counts(desk: Desk, auth: TokenAuth, said: Any, seconds: float) -> None:
    """However it is written; what cannot be read is the policy's default lifetime."""
    desk.lifetime = said
    auth.warm()
    assert seconds - 5 < auth.status.expires_in <= seconds


def test_a_ticket_that_serves_once(hand: Any, desk: Desk, auth: TokenAuth) -> None:
    """Without a lifetime each request has a ticket of its own, and no 401."""
    desk.lifetime = 0
    client = hand.client(auth=auth)
    assert [client.get(f"{desk.url}/api").status_code for _ in range(3)] == [200] * 3
    assert (len(desk.bodies), desk.api_requests) == (3, 3)


@pytest.mark.parametrize(
    ("answer", "kind", "word"),
    [
        ((403, {"error": "no such account"}), TokenRequestError, "no such account"),
        ((403, {"error": f"the key {KEY} is unknown"}), TokenRequestError, "is unknown"),
        ((200, {"error": "closed"}), TokenRequestError, "closed"),
        ((200, {}), InvalidCredential, "empty"),
        ((200, {"ticket": None}), InvalidCredential, "NoneType"),
        ((200, {"ticket": "a\nb"}), InvalidCredential, "control"),
        ((200, b"<html>"), TokenEndpointUnavailable, "JSON"),
        ((503, {}), TokenEndpointUnavailable, "503"),
        ((302, {}), ConfigurationError, "redirect"),
    ],
)
def test_what_the_desk_may_say_instead(
    desk: Desk, auth: TokenAuth, answer: Any, kind: type[TokenFlowError], word: str
) -> None:
    """Each has its own error by the readers of the public door; nothing is sent to the API, and no key is quoted."""
    desk.answers.extend([answer] * 3)
    with ExitStack() as stack, pytest.raises(kind, match=word) as caught:
        Hand(*SIX["httpx-sync"], stack).client(auth=auth).get(f"{desk.url}/api")
    assert desk.api_requests == 0
    assert "SENTINEL" not in str(caught.value)


class Everything:
    """A grant that uses every step, and presents what it was given before: the desk rotates."""

    spends = True
    logs_in = True

    def __init__(self, url: str, key: Any) -> None:
        self.url, self.key = url, key
        self.seen: list[Any] = []

    def identity(self) -> dict[str, str]:
        return {"grant": "everything", "url": self.url, "subject": "ann"}

    def obtain(self, attempt: grants.Attempt) -> Any:
        presented = attempt.presented
        before = presented.token.refresh_token if presented is not None and not presented.is_spent else None
        yield Sleep(0.01)
        key = yield Call(self.key, "key", attempt.timeout)
        self.seen.append((yield Work(threading.get_ident)))
        sent_at = attempt.clock.wall()
        body = {"key": key, "next": before}
        answer = read_json((yield Fetch(ServerRequest(self.url, json=body), attempt.timeout)), sent_at, secrets=[key])
        token = Token(answer["ticket"], refresh_token=answer["next"])
        return Minted(token, lifetime=read_seconds(answer["validFor"]))


def test_every_step_and_a_token_that_rotates(hand: Any, desk: Desk) -> None:
    """All the steps are performed on threads and on both loops; what is presented is what came last, once each."""
    grant = Everything(f"{desk.url}/tickets", (lambda: KEY) if not hand.is_async else _async_key)
    store = MemoryStore()
    auth = TokenAuth(grant, store=store, policy=QUICK)
    client = hand.client(auth=auth)
    for _ in range(3):
        assert {answer.status_code for answer in client.together(8, "GET", f"{desk.url}/api")} == {200}
        desk.expire()
    assert [body["next"] for body in desk.bodies] == [None, "SENTINEL-next-1", "SENTINEL-next-3"]
    assert len(grant.seen) == 3
    (entry,) = store._entries.values()
    assert entry.presented == 0
    hand.call(hand.either(auth, "close"))


async def _async_key() -> str:
    return KEY


def test_a_session_that_is_over(hand: Any, desk: Desk) -> None:
    """`invalid_grant` from a desk: the session is over, and a grant that logs in opens another at once."""
    grant = Everything(f"{desk.url}/tickets", lambda: KEY)
    auth = TokenAuth(grant, policy=QUICK)
    client = hand.client(auth=auth)
    client.get(f"{desk.url}/api")
    desk.expire()
    desk.answers.append((400, {"error": "invalid_grant"}))
    assert client.get(f"{desk.url}/api").status_code == 200
    assert [body["next"] for body in desk.bodies] == [None, "SENTINEL-next-1", None]
    hand.call(hand.either(auth, "close"))


def test_a_session_that_is_over_for_good(desk: Desk) -> None:
    """A grant that opens none says so by the flag: then somebody has to, and the desk is not asked again and again."""
    grant = Everything(f"{desk.url}/tickets", lambda: KEY)
    grant.logs_in = False
    with TokenAuth(grant, policy=QUICK) as auth, ExitStack() as stack:
        client = Hand(*SIX["httpx-sync"], stack).client(auth=auth)
        client.get(f"{desk.url}/api")
        desk.expire()
        desk.answers.append((400, {"error": "invalid_grant"}))
        for _ in range(3):
            with pytest.raises(ReauthenticationRequired):
                client.get(f"{desk.url}/api")
        assert len(desk.bodies) == 2


def test_the_door_is_a_door_and_no_more() -> None:
    """Every name is there; none is made here; `import httpx_tokenflow` does not open it."""
    assert sorted(grants.__all__) == grants.__all__
    for name in grants.__all__:
        thing = getattr(grants, name)
        assert getattr(thing, "__module__", "").startswith("httpx_tokenflow._"), name
        assert (thing.__doc__ or "").strip(), name
    code = "import sys, httpx_tokenflow; print('httpx_tokenflow.grants' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "False"
    assert not hasattr(httpx_tokenflow, "DeskTicket")


@pytest.mark.parametrize("missing", ["spends", "obtain"])
def test_half_a_grant_is_refused(missing: str) -> None:
    """What lacks a part is no grant, and that is said when the auth is made."""
    parts = {"spends": False, "identity": lambda self: {}, "obtain": lambda self, attempt: iter(())}
    del parts[missing]
    with pytest.raises(ConfigurationError, match="needs a grant"):
        TokenAuth(type("Half", (), parts)())
