"""The sandbox's JSON login: what SessionLogin is tested against must be right first."""

from __future__ import annotations

from http import cookiejar
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from httpx_tokenflow.testing import DropAfter, Sandbox, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = {"Content-Type": "application/json"}
GOOD = {"username": "user", "password": "password"}


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        yield client


def log_in(client: httpx.Client, **changes: str) -> httpx.Response:
    return client.post("/session/login", json={**GOOD, **changes})


def refresh(client: httpx.Client, token: str) -> httpx.Response:
    return client.post("/session/refresh", json={"refreshToken": token})


def call(client: httpx.Client, token: str) -> int:
    return client.get("/api/x", headers={"Authorization": f"Bearer {token}"}).status_code


def test_in_the_body(sandbox: Sandbox, client: httpx.Client) -> None:
    """Login, call, refresh, call, logout; nothing as OAuth has it, and nothing to be stored."""
    answer = log_in(client)
    first = answer.json()
    assert set(first) == {"ok", "accessToken", "refreshToken", "expiresIn"}
    assert (first["expiresIn"], answer.headers["cache-control"]) == (3600.0, "no-store")
    assert "set-cookie" not in answer.headers
    second = refresh(client, first["refreshToken"]).json()
    assert second["refreshToken"] != first["refreshToken"]
    assert [call(client, one["accessToken"]) for one in (first, second)] == [200, 200]
    bearer = {"Authorization": f"Bearer {second['accessToken']}"}
    assert client.post("/session/logout", json={}, headers=bearer).status_code == 204
    assert client.post("/session/logout", json={}, headers=bearer).status_code == 401
    assert [call(client, one["accessToken"]) for one in (first, second)] == [401, 401]
    assert refresh(client, second["refreshToken"]).status_code == 401
    assert (sandbox.session_logins, sandbox.session_refreshes, sandbox.session_logouts) == (1, 2, 2)
    assert (sandbox.tokens_issued, sandbox.families_revoked, sandbox.token_requests) == (2, 0, 0)


def test_reuse_is_detected(sandbox: Sandbox, client: httpx.Client) -> None:
    """A refresh token that is presented again ends the family, the winner's tokens included."""
    first = log_in(client).json()
    second = refresh(client, first["refreshToken"]).json()
    assert refresh(client, first["refreshToken"]).status_code == 401
    assert sandbox.families_revoked == 1
    assert call(client, second["accessToken"]) == 401


def test_without_rotation_and_without_a_lifetime() -> None:
    """A refresh leaves the refresh token out, and nobody says when a token ends."""
    sandbox = Sandbox(rotate=False, lifetime=None)
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        token = log_in(client).json()["refreshToken"]
        for _ in range(2):
            assert set(refresh(client, token).json()) == {"ok", "accessToken"}
        answer = client.post("/session/login?cookies=both", json=GOOD)
        assert "Max-Age" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("lifetime", [3600.0, 0.5])
def test_in_cookies(lifetime: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpOnly cookies in, the next ones out; the API takes the one; a logout deletes both."""
    monkeypatch.setattr(cookiejar, "time", SimpleNamespace(time=lambda: 1e9))  # the client's cookies do not end either
    sandbox = Sandbox(lifetime=lifetime, clock=lambda: 1e9)
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        answer = client.post("/session/login?cookies=both", json=GOOD)
        assert answer.json() == {"ok": True}
        access, refresh_cookie = answer.headers.get_list("set-cookie")
        assert access.startswith("access=at-")
        assert access.endswith(f"; Path=/; Max-Age={1 if lifetime == 0.5 else 3600}; HttpOnly; SameSite=Strict")
        assert refresh_cookie.startswith("refresh=rt-")
        assert refresh_cookie.endswith("; Path=/session; HttpOnly; SameSite=Strict")
        assert client.get("/api/x").json()["subject"] == "user"
        before = dict(client.cookies)
        assert client.post("/session/refresh?cookies=both", json={}).status_code == 200
        assert before.keys() == dict(client.cookies).keys() == {"access", "refresh"}
        assert not set(before.values()) & set(dict(client.cookies).values())
        assert client.post("/session/logout", json={}).status_code == 204
        assert dict(client.cookies) == {}
        assert client.get("/api/x").status_code == 401


def test_the_refresh_token_alone_in_a_cookie(client: httpx.Client) -> None:
    """As most do it: the access token in the body; without its cookie there is no refresh."""
    first = client.post("/session/login?cookies=refresh", json=GOOD).json()
    assert set(first) == {"ok", "accessToken", "expiresIn"}
    assert set(client.post("/session/refresh?cookies=refresh", json={}).json()) == set(first)
    client.cookies.clear()
    assert client.post("/session/refresh?cookies=refresh", json={}).status_code == 401


def test_the_authorization_field_wins(client: httpx.Client) -> None:
    """A cookie is looked at only where there is no such field (RFC 6750 §2: one method per request)."""
    client.post("/session/login?cookies=both", json=GOOD)
    assert [call(client, "wrong"), client.get("/api/x").status_code] == [401, 200]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": {**GOOD, "password": "wrong"}}, 401),
        ({"json": {**GOOD, "username": "nobody"}}, 401),
        ({"json": {}}, 401),
        ({"json": {"username": "user", "password": None}}, 401),
        ({"content": b'{"username": "user", "password": "\\ud800"}', "headers": JSON}, 401),
        ({"json": []}, 400),
        ({"content": b"{", "headers": JSON}, 400),
        ({"data": GOOD}, 400),
        ({}, 400),
    ],
)
def test_what_is_refused(client: httpx.Client, request_: dict[str, Any], status: int) -> None:
    """A login that is wrong is a 401, one that cannot be read a 400: with a message, and no token."""
    answer = client.post("/session/login", **request_)
    assert answer.status_code == status
    assert set(answer.json()) == {"message"}


def test_only_post(sandbox: Sandbox, client: httpx.Client) -> None:
    """Other methods are answered 405, and not counted."""
    assert [client.get(f"/session/{name}").status_code for name in ("login", "refresh", "logout")] == [405] * 3
    assert client.post("/session/other").status_code == 404
    assert sandbox.session_logins == sandbox.session_refreshes == sandbox.session_logouts == 0


def test_faults_and_counters(sandbox: Sandbox, client: httpx.Client) -> None:
    """Each of the three has its own script and its own counter."""
    sandbox.script(Status(503), on="login")
    sandbox.script(DropAfter(), on="refresh")
    sandbox.script(Status(418), on="logout")
    assert [log_in(client).status_code, log_in(client).status_code] == [503, 200]
    with pytest.raises(httpx.RemoteProtocolError):
        refresh(client, "x")
    assert client.post("/session/logout", json={}).status_code == 418
    assert (sandbox.session_logins, sandbox.session_refreshes, sandbox.session_logouts) == (2, 1, 1)
    sandbox.reset_counters()
    assert (sandbox.session_logins, sandbox.session_refreshes, sandbox.session_logouts) == (0, 0, 0)


def test_accounts_may_change(sandbox: Sandbox, client: httpx.Client) -> None:
    """A password that is changed counts at once; sessions go on."""
    token = log_in(client).json()["refreshToken"]
    sandbox.accounts["user"] = "n\u00e9w"
    assert [log_in(client).status_code, log_in(client, password="n\u00e9w").status_code] == [401, 200]
    assert refresh(client, token).status_code == 200
