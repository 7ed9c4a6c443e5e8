"""The sandbox itself: what everything else is tested against must be right first."""

import asyncio
import base64
import contextlib
import importlib.util
import json
import socket
import ssl
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote_plus

import anyio
import httpx
import httpx2
import pytest
import trustme

from httpx_tokenflow import ConfigurationError, testing
from httpx_tokenflow.testing import (
    Answer,
    Drip,
    DropAfter,
    DropBefore,
    Endless,
    Garbage,
    Html,
    Refuse,
    Sandbox,
    Silent,
    Slow,
    Status,
    Truncated,
    serve,
)

SECRET = ("client", "secret")


class Stage:
    """One app for one server; each test puts its own sandbox on it."""

    def __init__(self):
        self.sandbox = Sandbox()
        self.left = threading.Event()

    async def __call__(self, scope, receive, send):
        try:
            await self.sandbox(scope, receive, send)
        finally:
            self.left.set()


@pytest.fixture(scope="module")
def stage():
    stage = Stage()
    with serve(stage) as stage.url:
        yield stage


@pytest.fixture(params=["memory", "loopback"])
def reach(request):
    """A function that opens a client for a sandbox, in memory or over loopback."""
    if request.param == "memory":
        return lambda sandbox, **options: httpx.Client(
            transport=sandbox.transport(), base_url="http://sandbox", **options
        )
    stage = request.getfixturevalue("stage")

    def over_loopback(sandbox, **options):
        stage.sandbox = sandbox
        stage.left.clear()
        return httpx.Client(base_url=stage.url, **options)

    return over_loopback


@pytest.fixture
def sandbox():
    return Sandbox()


@pytest.fixture
def client(sandbox, reach):
    with reach(sandbox) as client:
        yield client


@pytest.fixture
def memory(sandbox):
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox") as client:
        yield client


def renew(client, refresh_token, *, auth=SECRET, **more):
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **more}
    return client.post("/token", data=form, auth=auth)


def fetch(client, *, auth=SECRET, **more):
    return client.post("/token", data={"grant_type": "client_credentials", **more}, auth=auth)


def ask(client, token, path="/api/x"):
    return client.get(path, headers={"Authorization": f"Bearer {token}"})


# Tokens


def test_refresh_rotates(sandbox, client):
    """A refresh brings a new pair, and the API takes both the old and the new access token."""
    first = sandbox.login("ann", scope="read write")
    second = renew(client, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"].startswith("at-")
    assert second["refresh_token"].startswith("rt-")
    assert (second["token_type"], second["expires_in"], second["scope"]) == ("Bearer", 3600, "read write")
    assert ask(client, first["access_token"]).status_code == 200
    assert ask(client, second["access_token"]).json() == {
        "subject": "ann",
        "client_id": "client",
        "scope": "read write",
        "path": "/api/x",
        "method": "GET",
        "received": 0,
    }


def test_reuse_revokes_the_family(sandbox, client):
    """Presenting a retired refresh token kills every token of its family, and of no other."""
    first, other = sandbox.login(), sandbox.login()
    second = renew(client, first["refresh_token"]).json()
    assert sandbox.is_alive(first["refresh_token"])
    for _ in range(2):
        reused = renew(client, first["refresh_token"])
        assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert not sandbox.is_alive(second["refresh_token"])
    assert renew(client, second["refresh_token"]).json()["error"] == "invalid_grant"
    assert "revoked" in ask(client, second["access_token"]).headers["www-authenticate"]
    assert ask(client, other["access_token"]).status_code == 200
    assert sandbox.families_revoked == 1


def test_without_rotation_the_refresh_token_stays(memory, reach):
    """Without rotation the answer has no refresh token, and the first one works again and again."""
    sandbox = Sandbox(rotate=False)
    first = sandbox.login()
    with reach(sandbox) as client:
        answers = [renew(client, first["refresh_token"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert not any("refresh_token" in answer.json() for answer in answers)


def test_refusal_retires_nothing(memory):
    """A refresh refused for its client or its scope leaves the refresh token as good as it was."""
    sandbox = Sandbox(clients={"a": "1", "b": "2"})
    token = sandbox.login(client_id="a", scope="read write")["refresh_token"]
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox") as client:
        assert renew(client, token, auth=("b", "2")).json()["error"] == "invalid_grant"
        assert renew(client, token, auth=("a", "1"), scope="admin").json()["error"] == "invalid_scope"
        assert renew(client, "rt-unknown", auth=("a", "1")).json()["error"] == "invalid_grant"
        narrowed = renew(client, token, auth=("a", "1"), scope="read")
    assert (narrowed.status_code, narrowed.json()["scope"]) == (200, "read")
    assert sandbox.families_revoked == 0


def test_a_login_without_scope_bounds_nothing(sandbox, memory):
    """A refresh may ask for any scope when the login named none."""
    token = sandbox.login()["refresh_token"]
    assert renew(memory, token, scope="read").json()["scope"] == "read"


def test_revoke_family(sandbox, memory):
    """A family can be revoked by hand, by any of its refresh tokens, and counts once."""
    first = sandbox.login()
    second = renew(memory, first["refresh_token"]).json()
    sandbox.revoke_family(first["refresh_token"])
    sandbox.revoke_family(second["refresh_token"])
    assert not sandbox.is_alive(second["refresh_token"])
    assert ask(memory, second["access_token"]).status_code == 401
    assert sandbox.families_revoked == 1


def test_access_tokens_expire_by_the_clock():
    """An access token is good up to its lifetime and no longer; each answer tells the server's time."""
    now = 1_000_000_000.0
    sandbox = Sandbox(lifetime=0.5, clock=lambda: now)
    token = sandbox.login()
    assert token["expires_in"] == 0.5
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox") as client:
        good = ask(client, token["access_token"])
        now += 0.5
        bad = ask(client, token["access_token"])
    assert (good.status_code, bad.status_code) == (200, 401)
    assert 'error_description="the access token expired"' in bad.headers["www-authenticate"]
    assert good.headers["date"] == "Sun, 09 Sep 2001 01:46:40 GMT"


def test_no_lifetime_means_no_expires_in():
    """Without a lifetime the answer has no expires_in and the token lives on."""
    now = 0.0
    sandbox = Sandbox(lifetime=None, clock=lambda: now)
    token = sandbox.login()
    now = 1e9
    assert "expires_in" not in token
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox") as client:
        assert ask(client, token["access_token"]).status_code == 200


@pytest.mark.parametrize(("end", "reason"), [("expire", "expired"), ("revoke", "revoked")])
def test_all_tokens_so_far_can_be_ended(sandbox, memory, end, reason):
    """All access tokens so far are refused with their reason; refresh tokens and later ones are good."""
    first = sandbox.login()
    getattr(sandbox, f"{end}_access_tokens")()
    refused = ask(memory, first["access_token"])
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == (
        f'Bearer realm="api", error="invalid_token", error_description="the access token '
        f'{"was " if end == "revoke" else ""}{reason}"'
    )
    second = renew(memory, first["refresh_token"]).json()
    assert ask(memory, second["access_token"]).status_code == 200


def test_newest_only(memory):
    """With newest_only each new token replaces the one before, per subject and client."""
    sandbox = Sandbox(newest_only=True)
    first, other = sandbox.login("ann"), sandbox.login("bob")
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox") as client:
        second = renew(client, first["refresh_token"]).json()
        statuses = [ask(client, token["access_token"]).status_code for token in (first, second, other)]
    assert statuses == [401, 200, 200]


# The token endpoint


def test_client_credentials(sandbox, client):
    """Client credentials bring a token for the client itself, its scope echoed, and no refresh token."""
    answer = fetch(client, scope="read")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert ask(client, answer.json()["access_token"]).json()["subject"] == "client"


def basic(client_id, secret):
    encoded = base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@pytest.mark.parametrize("secret", ["a+b c%", "ä:/&=", "plain"])
def test_basic_is_form_urlencoded(reach, secret):
    """Basic credentials are form-urlencoded inside the base64, whatever characters they have."""
    sandbox = Sandbox(clients={"1PpG/Q 1": secret})
    form = {"grant_type": "client_credentials"}
    with reach(sandbox) as client:
        right = client.post("/token", data=form, headers=basic("1PpG/Q 1", secret))
        wrong = client.post("/token", data=form, headers=basic("1PpG/Q 1", secret + " "))
        in_body = client.post("/token", data={**form, "client_id": "1PpG/Q 1", "client_secret": secret})
    assert (right.status_code, wrong.status_code, in_body.status_code) == (200, 401, 200)


def test_public_client():
    """A client without a secret refreshes by its id alone, and gets no client credentials."""
    sandbox = Sandbox(clients={"app": ""})
    token = sandbox.login(client_id="app")["refresh_token"]
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox") as client:
        assert renew(client, token, auth=None, client_id="app").status_code == 200
        assert fetch(client, auth=None, client_id="app").json()["error"] == "unauthorized_client"


@pytest.mark.parametrize(
    ("headers", "body", "status", "error"),
    [
        (basic("client", "wrong"), "grant_type=client_credentials", 401, "invalid_client"),
        (basic("nobody", "secret"), "grant_type=client_credentials", 401, "invalid_client"),
        ({"Authorization": "Basic !!!"}, "grant_type=client_credentials", 401, "invalid_client"),
        ({"Authorization": "Bearer at-1"}, "grant_type=client_credentials", 401, "invalid_client"),
        ({}, "grant_type=client_credentials", 401, "invalid_client"),
        ({}, "grant_type=client_credentials&client_id=client", 401, "invalid_client"),
        (basic("client", "secret"), "grant_type=password", 400, "unsupported_grant_type"),
        (basic("client", "secret"), "scope=x", 400, "invalid_request"),
        (basic("client", "secret"), "grant_type=refresh_token&refresh_token=", 400, "invalid_request"),
        (basic("client", "secret"), "grant_type=client_credentials&scope=a&scope=b", 400, "invalid_request"),
        (basic("client", "secret"), "grant_type=client_credentials&client_secret=s", 400, "invalid_request"),
        (basic("client", "secret"), "grant_type=client_credentials&client_id=b", 400, "invalid_request"),
        (basic("client", "secret"), "grant_type=client_credentials&scope=%22", 400, "invalid_scope"),
        (
            {**basic("client", "secret"), "Content-Type": "application/json"},
            '{"grant_type": "client_credentials"}',
            400,
            "invalid_request",
        ),
    ],
)
def test_token_errors(memory, sandbox, headers, body, status, error):
    """A wrong token request gets the error of RFC 6749 §5.2, never to be stored, and no token."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    answer = memory.post("/token", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("www-authenticate") == ('Basic realm="token"' if status == 401 else None)
    assert (sandbox.token_requests, sandbox.tokens_issued) == (1, 0)


def test_token_wants_post(sandbox, memory):
    """A token request by another method than POST is refused and not counted."""
    answer = memory.get("/token")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert sandbox.token_requests == 0


def test_clients_may_change(sandbox, memory):
    """A secret rotated while the server runs counts from the next request on."""
    sandbox.clients["client"] = "second"
    assert fetch(memory).status_code == 401
    assert fetch(memory, auth=("client", "second")).status_code == 200


# The API and the other routes


@pytest.mark.parametrize(
    ("authorization", "names_error"),
    [(None, False), ("Basic eDp5", False), ("bearer", True), ("Bearer x", True)],
)
def test_challenge(memory, sandbox, authorization, names_error):
    """The challenge names an error only when a bearer credential was sent (RFC 6750 §3.1)."""
    answer = memory.get("/api/x", headers={} if authorization is None else {"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="api"')
    assert ('error="invalid_token"' in answer.headers["www-authenticate"]) is names_error
    assert (sandbox.api_requests, sandbox.api_refused) == (1, 1)


def test_two_credentials_are_no_credential(sandbox, memory):
    """A request with two Authorization fields is refused, even if one of them is good."""
    good = f"Bearer {sandbox.login()['access_token']}"
    answer = memory.get("/api/x", headers=[("Authorization", good), ("Authorization", good)])
    assert answer.status_code == 401
    assert sandbox.seen[0].headers["authorization"] == f"{good}, {good}"


def test_any_method_with_a_body(sandbox, client):
    """The API takes any method and tells how many bytes came; the record has them."""
    token = sandbox.login()["access_token"]
    answer = client.request("PATCH", "/api/ä b?q=1", content=b"12345", headers={"Authorization": f"Bearer {token}"})
    assert (answer.json()["method"], answer.json()["path"], answer.json()["received"]) == (
        "PATCH",
        "/api/ä b",
        5,
    )
    seen = sandbox.seen[-1]
    assert (seen.method, seen.path, seen.query, seen.body, seen.status) == (
        "PATCH",
        "/api/ä b",
        "q=1",
        b"12345",
        200,
    )


def test_head_has_no_body(client):
    """A HEAD request gets the headers of the answer and no body."""
    for path in ("/api/x", "/open/x"):
        answer = client.head(path)
        assert (answer.content, answer.headers["content-type"]) == (b"", "application/json")
        assert int(answer.headers["content-length"]) > 0


def test_a_chunked_body_arrives_whole(sandbox, client):
    """A body that comes in pieces is counted as one."""
    token = sandbox.login()["access_token"]
    answer = client.post(
        "/api/x", content=iter([b"x" * 70_000, b"y" * 70_000]), headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.json()["received"] == 140_000


def test_api_key(sandbox, client):
    """An API key is taken from the header or the query."""
    assert client.get("/api-key/x", headers={"X-API-Key": "key"}).status_code == 200
    assert client.get("/api-key/x?api_key=key").status_code == 200
    refused = client.get("/api-key/x", headers={"X-API-Key": "other"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'ApiKey realm="api"')
    assert (sandbox.api_requests, sandbox.api_refused) == (3, 1)


def test_redirect(client):
    """A redirect goes anywhere, with any status that redirects, and cannot break the header."""
    answer = client.get("/redirect", params={"to": "https://other.example/a?b=c%20d", "status": "307"})
    assert (answer.status_code, answer.headers["location"]) == (307, "https://other.example/a?b=c%20d")
    assert client.get("/redirect?to=/open/x").status_code == 302
    assert client.get("/redirect?to=/open/x", follow_redirects=True).json()["path"] == "/open/x"
    assert client.get("/redirect?to=/a%0d%0ab").headers["location"] == "/a%0D%0Ab"
    assert client.get("/redirect").status_code == 400
    assert client.get("/redirect?to=/&status=200").status_code == 400


def test_open_routes(sandbox, client):
    """The open routes ask for nothing and are counted nowhere; what does not exist is 404."""
    assert client.get("/echo", headers={"X-Y": "z"}).json()["x-y"] == "z"
    assert client.post("/open/x", content=b"123").json() == {
        "path": "/open/x",
        "method": "POST",
        "received": 3,
    }
    assert client.get("/nowhere").status_code == 404
    assert (sandbox.token_requests, sandbox.api_requests, len(sandbox.seen)) == (0, 0, 3)


# Faults


def test_slow_is_processed(sandbox, client):
    """A slow answer comes in the end; if the client gives up before, its token was rotated all the same."""
    sandbox.script(Slow(0.01), Slow(5))
    first = sandbox.login()
    second = renew(client, first["refresh_token"]).json()
    client.timeout = httpx.Timeout(5, read=0.05)
    with pytest.raises(httpx.ReadTimeout):
        renew(client, second["refresh_token"])
    client.timeout = 5
    assert renew(client, second["refresh_token"]).json()["error"] == "invalid_grant"
    assert sandbox.token_requests == 3


@pytest.mark.parametrize(
    ("fault", "content", "kind"),
    [
        (Status(503), b"", "text/plain; charset=utf-8"),
        (Status(429, retry_after=7, error="slow_down"), b'{"error": "slow_down"}', "application/json"),
        (Status(400, body={"a": 1}), b'{"a": 1}', "application/json"),
        (Status(500, body="sorry"), b"sorry", "text/plain; charset=utf-8"),
        (Status(500, body=b"\xff"), b"\xff", "text/plain; charset=utf-8"),
    ],
)
def test_status(sandbox, client, fault, content, kind):
    """A scripted status comes with its body and Retry-After, and nothing is processed."""
    sandbox.script(fault)
    answer = fetch(client)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (fault.code, content, kind)
    assert answer.headers.get("retry-after") == (None if fault.retry_after is None else "7")
    assert (sandbox.token_requests, sandbox.tokens_issued) == (1, 0)
    assert fetch(client).status_code == 200


def test_drop_before(sandbox, client):
    """The connection closes without a byte and the refresh token is as good as before."""
    token = sandbox.login()["refresh_token"]
    sandbox.script(DropBefore())
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        renew(client, token)
    assert (sandbox.token_requests, sandbox.seen[-1].status) == (1, None)
    assert renew(client, token).status_code == 200


def test_drop_after(sandbox, client):
    """The connection closes without a byte and the refresh token is spent."""
    token = sandbox.login()["refresh_token"]
    sandbox.script(DropAfter())
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        renew(client, token)
    assert sandbox.is_alive(token)
    assert renew(client, token).json()["error"] == "invalid_grant"
    assert not sandbox.is_alive(token)


def test_silent(sandbox, client):
    """No answer comes, however long one waits: a timeout or a closed connection."""
    sandbox.script(Silent(0.01), Silent())
    with pytest.raises(httpx.RemoteProtocolError):
        fetch(client)
    client.timeout = httpx.Timeout(5, read=0.05)
    with pytest.raises(httpx.ReadTimeout):
        fetch(client)
    assert (sandbox.token_requests, sandbox.tokens_issued) == (2, 0)


def test_html(sandbox, client):
    """A gateway's page is HTML with its status, and nothing is processed."""
    sandbox.script(Html(), Html(status=200))
    answers = [fetch(client), fetch(client)]
    assert [answer.status_code for answer in answers] == [502, 200]
    assert {answer.headers["content-type"] for answer in answers} == {"text/html"}
    assert sandbox.tokens_issued == 0


def test_garbage(sandbox, client):
    """Garbage is a 200 that cannot be read, and the token is spent."""
    sandbox.script(Garbage())
    answer = fetch(client)
    assert (answer.status_code, sandbox.tokens_issued) == (200, 1)
    with pytest.raises(ValueError):
        answer.json()


def test_truncated(sandbox, client):
    """A truncated answer breaks off in its body, and the token is spent."""
    sandbox.script(Truncated())
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        fetch(client)
    assert (sandbox.tokens_issued, sandbox.seen[-1].status) == (1, 200)


def test_drip(sandbox, client):
    """A dripping answer comes whole in the end, byte by byte, and no read timeout sees it."""
    sandbox.script(Drip(0.001))
    client.timeout = httpx.Timeout(5, read=1)
    form = {"grant_type": "client_credentials"}
    with client.stream("POST", "/token", data=form, auth=SECRET) as answer:
        body = b"".join(answer.iter_bytes(1))
    assert json.loads(body)["token_type"] == "Bearer"


def test_drip_meets_a_read_timeout(sandbox, client):
    """A pause between two bytes that is longer than the read timeout ends the answer."""
    sandbox.script(Drip(5))
    client.timeout = httpx.Timeout(5, read=0.05)
    with pytest.raises(httpx.ReadTimeout):
        fetch(client)


def test_endless(sandbox, client):
    """An endless 401 goes on and on, with its challenge, until the client hangs up."""
    sandbox.script(Endless(), on="api")
    with client.stream("GET", "/api/x") as answer:
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="api"')
        assert len(next(answer.iter_raw(100_000))) == 100_000
    assert sandbox.api_refused == 1


@pytest.mark.parametrize("fault", [Endless(), Silent(), Slow(60), Drip(60)], ids=repr)
def test_the_server_notices_a_client_that_left(stage, fault):
    """The server gives up an answer that takes long when the client hangs up."""
    stage.sandbox = Sandbox()
    stage.sandbox.script(fault)
    stage.left.clear()
    with httpx.Client(base_url=stage.url, timeout=httpx.Timeout(5, read=0.05)) as client:
        with (
            contextlib.suppress(httpx.ReadTimeout),
            client.stream("POST", "/token", data={"grant_type": "x"}) as answer,
        ):
            next(answer.iter_raw(100_000))
        assert stage.left.wait(5)


def test_refuse(sandbox, client):
    """The API refuses a good token with any challenge, and then accepts it again."""
    token = sandbox.login()["access_token"]
    sandbox.script(
        Refuse(),
        Refuse("insufficient_scope", params={"scope": 'a "b"\\'}, status=403),
        Refuse(None, scheme="DPoP"),
        on="api",
    )
    answers = [ask(client, token) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 403, 401, 200]
    assert [answer.headers.get("www-authenticate") for answer in answers] == [
        'Bearer error="invalid_token"',
        'Bearer error="insufficient_scope", scope="a \\"b\\"\\\\"',
        "DPoP",
        None,
    ]
    assert (sandbox.api_requests, sandbox.api_refused) == (4, 2)


def test_answer(sandbox, client):
    """A literal answer goes out as it is, and no token is issued."""
    sandbox.script(Answer({"access_token": "literal", "expires_in": "soon"}), Answer({"ok": False}, status=201))
    assert fetch(client).json() == {"access_token": "literal", "expires_in": "soon"}
    assert fetch(client).status_code == 201
    assert sandbox.tokens_issued == 0


def test_scripts_are_apart(sandbox, memory):
    """A script for the token endpoint leaves the API alone, and the other way round."""
    sandbox.script(Status(500))
    sandbox.script(Status(418), on="api")
    sandbox.script(Status(501))
    assert memory.get("/open/x").status_code == 200
    assert [memory.get("/api/x").status_code for _ in range(2)] == [418, 401]
    assert [fetch(memory).status_code for _ in range(3)] == [500, 501, 200]


def test_latency_adds_to_faults():
    """Latency comes on top of what a fault does, and a request is processed on arrival."""
    sandbox = Sandbox(latency=5, api_latency=0.01)
    token = sandbox.login()
    sandbox.script(DropAfter())
    transport = sandbox.transport()
    with httpx.Client(transport=transport, base_url="http://sandbox", timeout=0.02) as client:
        assert ask(client, token["access_token"]).status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            renew(client, token["refresh_token"])
        sandbox.script(Truncated(), on="api")
        with pytest.raises(httpx.RemoteProtocolError):
            ask(client, token["access_token"])
    assert sandbox.tokens_issued == 2


# Counters, record, misuse


def test_reset_counters(sandbox, memory):
    """Resetting sets every counter to zero, forgets the record and keeps the tokens."""
    token = sandbox.login()
    fetch(memory)
    memory.get("/api/x")
    sandbox.revoke_family(sandbox.login()["refresh_token"])
    assert sandbox.tokens_issued == 3
    assert repr(sandbox) == "<Sandbox 1 token requests, 3 tokens issued, 1 API requests, 1 refused>"
    sandbox.reset_counters()
    assert repr(sandbox) == "<Sandbox 0 token requests, 0 tokens issued, 0 API requests, 0 refused>"
    assert (sandbox.families_revoked, sandbox.seen) == (0, [])
    assert ask(memory, token["access_token"]).status_code == 200


def test_no_repr_shows_a_secret():
    """Neither the sandbox nor its record nor a fault shows a token or a secret."""
    sandbox = Sandbox(clients={"client": "hush"})
    with httpx.Client(transport=sandbox.transport(), base_url="http://sandbox") as client:
        refresh_token = sandbox.login()["refresh_token"]
        renew(client, refresh_token, auth=("client", "hush"))
        client.get("/api-key/x?api_key=hush")
    shown = repr([sandbox, sandbox.seen, Answer({"access_token": "hush"}), Status(200, body="hush")])
    assert "hush" not in shown
    assert refresh_token not in shown


def test_misuse(sandbox):
    """A name that does not exist is an error at once, and it shows no token."""
    with pytest.raises(ValueError, match="no client 'other' here: name one of \\['client'\\]"):
        sandbox.login(client_id="other")
    with pytest.raises(ValueError, match='"token" or "api"'):
        sandbox.script(DropAfter(), on="tokens")
    with pytest.raises(ValueError, match="never issued that refresh token"):
        sandbox.revoke_family("rt-1")
    assert not sandbox.is_alive("rt-1")


def test_threads():
    """Twenty threads that refresh twenty families lose no count and revoke no family."""
    sandbox = Sandbox()
    transport = sandbox.transport()

    def live(number):
        token = sandbox.login(f"user {number}")
        with httpx.Client(transport=transport, base_url="http://sandbox") as client:
            for _ in range(20):
                token = renew(client, token["refresh_token"]).json()
                assert ask(client, token["access_token"]).json()["subject"] == f"user {number}"

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(live, range(20)))
    assert (sandbox.token_requests, sandbox.tokens_issued, sandbox.api_requests) == (400, 420, 400)
    assert (sandbox.api_refused, sandbox.families_revoked, len(sandbox.seen)) == (0, 0, 800)


# The in-memory transport


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_transport_serves_all_clients(sandbox, library, backend):
    """One transport serves the sync and the async client of its library, with that library's errors."""
    transport = sandbox.transport(library)
    assert isinstance(transport, library.BaseTransport)
    assert isinstance(transport, library.AsyncBaseTransport)
    token = sandbox.login()["access_token"]
    sandbox.script(DropBefore(), Truncated(), Slow(5), DropBefore())

    async def asynchronously():
        async with library.AsyncClient(transport=transport, base_url="http://sandbox", timeout=0.05) as client:
            for error in (library.RemoteProtocolError, library.RemoteProtocolError, library.ReadTimeout):
                with pytest.raises(error):
                    await client.post("/token", content=b"x")
            sandbox.script(Drip(0.0001), Slow(0.01), on="api")
            for _ in range(3):
                answer = await client.get("/api/x", headers={"Authorization": f"Bearer {token}"})
                assert answer.json()["path"] == "/api/x"

    anyio.run(asynchronously, backend=backend)
    with library.Client(transport=transport, base_url="http://sandbox") as client:
        with pytest.raises(library.RemoteProtocolError):
            client.post("/token")
        assert ask(client, token).status_code == 200


def test_a_body_is_read_once(sandbox, memory):
    """A body that cannot be replayed fails on the second send, as it does on a network."""
    request = memory.build_request("POST", "/open/x", content=(chunk for chunk in [b"1", b"2"]))
    assert memory.send(request).json()["received"] == 2
    with pytest.raises(httpx.StreamConsumed):
        memory.send(request)


@pytest.mark.parametrize(("declared", "word"), [("3", "much"), ("5", "little")])
def test_a_body_must_be_as_long_as_declared(memory, declared, word):
    """A body of another length than its header says fails, as it does on a network."""
    with pytest.raises(httpx.LocalProtocolError, match=f"Too {word} data for declared Content-Length"):
        memory.post("/open/x", content=iter([b"1234"]), headers={"Content-Length": declared})


# ASGI and real HTTP


def drive(app, *messages, into=None, **more):
    """Call an ASGI app by hand; what it sends comes back."""
    scope = {"type": "http", "method": "POST", "path": "/token", "query_string": b"", "headers": [], **more}
    incoming, sent = iter(messages), [] if into is None else into

    async def receive():
        return next(incoming, None) or await anyio.sleep_forever()

    async def send(message):
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent


@pytest.mark.parametrize(("fault", "sent"), [(DropBefore(), 0), (DropAfter(), 0), (Truncated(), 2)], ids=repr)
def test_other_servers_get_an_exception(sandbox, fault, sent):
    """Under a server that cannot close a connection without an answer, a drop is an exception."""
    sandbox.script(fault)
    messages = []
    with pytest.raises(ConnectionAbortedError, match="only `serve`"):
        drive(sandbox, {"type": "http.request"}, into=messages)
    assert (len(messages), sandbox.token_requests) == (sent, 1)


def test_a_late_answer_needs_no_special_server(sandbox):
    """A fault that closes no connection works under any server."""
    sandbox.script(Slow(0.001))
    sent = drive(sandbox, {"type": "http.request"})
    assert [message.get("status", message.get("more_body")) for message in sent] == [400, True, None]


def test_a_client_that_left_is_no_exception(sandbox):
    """When the client hangs up first, nothing is left to drop, whatever the server; other messages change nothing."""
    sandbox.script(Silent())
    assert drive(sandbox, {"type": "http.request"}, {"type": "http.request"}, {"type": "http.disconnect"}) == []


def test_a_broken_body_is_seen_and_not_processed(sandbox):
    """A request whose body breaks off is in the record with what came, not counted, and takes no fault."""
    sandbox.script(Status(500))
    part = {"type": "http.request", "body": b"grant_", "more_body": True}
    assert drive(sandbox, part, {"type": "http.disconnect"}) == []
    (seen,) = sandbox.seen
    assert (seen.body, seen.status, sandbox.token_requests) == (b"grant_", None, 0)
    assert drive(sandbox, {"type": "http.request"})[0]["status"] == 500


def test_lifespan_and_others(sandbox):
    """The lifespan protocol is answered; websockets are refused."""
    sent = drive(sandbox, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, type="lifespan")
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    with pytest.raises(NotImplementedError, match="no websocket here"):
        drive(sandbox, type="websocket")


def test_a_hundred_at_once(stage):
    """A hundred concurrent requests on as many connections are all served."""
    stage.sandbox = sandbox = Sandbox(api_latency=0.05)
    token = sandbox.login()["access_token"]

    async def storm():
        async with httpx.AsyncClient(base_url=stage.url, timeout=30) as client:
            headers = {"Authorization": f"Bearer {token}"}
            answers = await asyncio.gather(*[client.get("/api/x", headers=headers) for _ in range(100)])
        assert [answer.status_code for answer in answers] == [200] * 100
        assert sandbox.api_requests == 100

    asyncio.run(storm())


def test_async_drops_over_loopback(stage):
    """An async client sees a dropped connection as the sync one does."""
    stage.sandbox = sandbox = Sandbox()
    sandbox.script(DropBefore(), Truncated())

    async def main():
        async with httpx.AsyncClient(base_url=stage.url) as client:
            for _ in range(2):
                with pytest.raises(httpx.RemoteProtocolError):
                    await fetch(client)
            assert (await fetch(client)).status_code == 200

    anyio.run(main)


def test_serve_ends(sandbox):
    """When the block ends, the thread is gone, the port is closed, and a request under way is cut off."""
    outcomes = []

    def wait_for_ever(url):
        sandbox.script(Silent())
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{url}/token", timeout=30)
        outcomes.append("cut off")

    with serve(sandbox) as url:
        port = httpx.URL(url).port
        assert f"serve:{port}" in {thread.name for thread in threading.enumerate()}
        waiting = threading.Thread(target=wait_for_ever, args=(url,))
        waiting.start()
        while not sandbox.token_requests:
            threading.Event().wait(0.01)
    waiting.join(5)
    assert outcomes == ["cut off"]
    assert f"serve:{port}" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_serve_ends_on_an_exception(sandbox):
    """An exception in the block ends the server and comes through."""
    with pytest.raises(ZeroDivisionError), serve(sandbox) as url:
        raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_serve_over_tls(sandbox, tmp_path):
    """With a certificate it is https, and dropping works there too."""
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    sandbox.script(DropBefore(), Truncated())
    with serve(sandbox, certfile=pem) as url, httpx.Client(base_url=url, verify=trust) as client:
        assert url.startswith("https://127.0.0.1:")
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                fetch(client)
        assert fetch(client).status_code == 200


def test_a_wrong_certificate_fails_at_once(sandbox, tmp_path):
    """A certificate that does not exist is an exception of the caller's."""
    with pytest.raises(FileNotFoundError), serve(sandbox, certfile=tmp_path / "none.pem"):
        raise AssertionError


def has_ipv6():
    bound = False
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        bound = True
    return bound


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")
def test_serve_on_ipv6(sandbox):
    """On an IPv6 address the URL has its brackets."""
    with serve(sandbox, host="::1") as url:
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/open/x").status_code == 200


def test_a_failing_lifespan(caplog):
    """An app whose lifespan fails never serves, and the caller is told."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="lifespan failed"), serve(app):
        raise AssertionError
    assert "no database" in caplog.text


def test_a_server_that_cannot_stop(sandbox, monkeypatch):
    """A blocked event loop is reported when the block ends, not waited for."""
    free = threading.Event()
    blocked = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] == "http":
            blocked.set()
            free.wait(5)
        await sandbox(scope, receive, send)

    def block(url):
        with contextlib.suppress(httpx.ReadTimeout):
            httpx.get(f"{url}/open/x", timeout=0.05)
        assert blocked.wait(5)

    monkeypatch.setattr("httpx_tokenflow.testing._serve._STOP_WITHIN", 0.05)
    with pytest.raises(RuntimeError, match="did not stop in"), serve(app) as url:
        block(url)
    free.set()
    for thread in threading.enumerate():
        if thread.name.startswith("serve:") and url.endswith(thread.name.removeprefix("serve:")):
            thread.join(5)


def test_serve_is_quiet(sandbox, caplog, capfd):
    """Requests, dropped connections and the end of the server leave no trace in the logs."""
    caplog.set_level("DEBUG")
    sandbox.script(DropBefore(), Truncated())
    with serve(sandbox) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                fetch(client)
        fetch(client)
    noise = [record for record in caplog.records if record.levelname != "DEBUG" and record.name != "httpx"]
    assert noise == []
    assert capfd.readouterr() == ("", "")


def test_serve_names_the_extra(sandbox, monkeypatch):
    """Without uvicorn the error says which extra to install, as for every other extra."""
    monkeypatch.delitem(sys.modules, "httpx_tokenflow.testing._uvicorn", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigurationError, match=r"^serve\(\) needs the extra testing.*\[testing\]'$"), serve(sandbox):
        raise AssertionError


def test_importing_is_cheap():
    """Importing the package imports no server, and of its own accord no HTTP client."""
    code = (
        "import sys, types\n"
        "package = types.ModuleType('httpx_tokenflow'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['httpx_tokenflow'] = package\n"
        "import httpx_tokenflow.testing\n"
        "print(sorted({'httpx', 'httpx2', 'uvicorn', 'asyncio'} & set(sys.modules)))"
    )
    root = importlib.util.find_spec("httpx_tokenflow").submodule_search_locations[0]
    run = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_all_is_complete():
    """What the package exports is what its __all__ says."""
    public = {
        name
        for name, value in vars(testing).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public == set(testing.__all__)
