"""The examples of the README and the guide, as they stand there: against the real server, or the sandbox."""

from __future__ import annotations

import ast
import asyncio
import base64
import os
import re

import httpx
import httpx2
import pytest
from documents import example
from valkey_server import ValkeyServer

from httpx_tokenflow.testing import Sandbox, Status, serve

SERVER = "https://auth.example.com"
MOST_LINES = 12


def _example(word):
    """The one example with that word in it, and its lines of code."""
    found = example(word)
    return found, [line for line in found.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.fixture
def play(rig, monkeypatch):
    """Run an example: its server is ours, and so is what it leaves open."""
    monkeypatch.setenv("SSL_CERT_FILE", rig.ca)  # httpx's own way to trust a private CA

    def run(word, changes, names):
        text, lines = _example(word)
        assert len(lines) <= MOST_LINES
        for old, new in {**changes, SERVER: rig.issuer}.items():
            assert old in text or old == SERVER
            text = text.replace(old, new)
        code = compile(text, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = {"httpx": httpx, "httpx2": httpx2, **names}
        awaitable = eval(code, found)
        if awaitable is not None:
            asyncio.run(awaitable)
        return found

    return run


def _check(rig, auth):
    with auth, httpx.Client(base_url=rig.api, auth=auth, verify=rig.trust) as client:
        assert client.get("/x").status_code == 200


def test_the_first_example(rig, play, monkeypatch):
    """A few lines, and the same object with the other clients, of both libraries."""
    client, trust = rig.clients["basic"], {"trust": rig.trust}
    monkeypatch.setenv("ORDERS_SECRET", client.secret)
    served = {"https://api.example.com": rig.api, "auth=auth)": "auth=auth, verify=trust)"}
    changes = {
        f"{SERVER}/oauth/token": f"{rig.issuer}/token",
        '"orders"': repr(client.id),
        'scope="orders:read"': f"resource={rig.orders!r}",
        **served,
    }
    first = play('EnvSecret("ORDERS_SECRET")', changes, trust)
    second = play("with httpx2.Client", served, {"auth": first["auth"], **trust})
    assert [one["response"].status_code for one in (first, second)] == [200, 200]
    assert {one["response"].request.headers["Authorization"] for one in (first, second)} == {
        f"Bearer {first['auth'].token().access_token}"
    }


def test_a_key_instead_of_a_secret(rig, play):
    """private_key_jwt."""
    client, key = rig.clients["key-jwt"], rig.keys["ES256"]
    found = play(
        "PrivateKeyJWT(PRIVATE_KEY", {'"orders"': repr(client.id), "2026-11": key.kid}, {"PRIVATE_KEY": key.pem}
    )
    _check(rig, found["auth"])


def test_a_person_at_a_browser(rig, play, alice, monkeypatch):
    """Authorization code with PKCE, with a browser that is not one."""
    monkeypatch.setattr("webbrowser.open", alice.browse)
    found = play('client_id="desk", scope=', {'"desk"': '"public"', "orders:read": "read"}, {})
    _check(rig, found["auth"])


def test_a_web_backend(rig, play, alice):
    """The two halves; the person comes back in between."""
    client = rig.clients["web"]
    changes = {
        '"web"': repr(client.id),
        "https://app.example/callback": client.redirect_uri,
        "token = await": "callback_url = log_in(url)\ntoken = await",
        "openid offline_access": "openid offline_access read",
    }
    names = {"SECRET": client.secret, "log_in": alice.log_in, "user_id": "alice"}
    _check(rig, play("login.astart()", changes, names)["auth"])


def test_a_device_without_a_browser(rig, play, alice):
    """The person confirms when they are shown where."""

    def show(text):
        uri, code = re.search(r"to (\S+) and enter (\S+)", text).groups()
        alice.confirm(f"{uri}?user_code={code}")

    found = play("on_prompt(prompt)", {'"tv"': '"public"'}, {"print": show})
    _check(rig, found["auth"])


def test_an_api_with_a_login_of_its_own(monkeypatch):
    """The AuthService of the articles."""
    text, lines = _example("SessionLogin(")
    assert len(lines) <= MOST_LINES
    sandbox = Sandbox()
    with serve(sandbox) as url:
        found = {"ask_for_password": lambda: {"username": "user", "password": "password"}}
        before, _, last = text.replace("https://api.example.com", url).rpartition("auth.revoke()")
        exec(before, found)
        auth = found["auth"]
        assert found["is_authenticated"]
        with httpx.Client(base_url=url, auth=auth) as client:
            assert client.get("/api/x").status_code == 200
            exec(f"auth.revoke(){last}", found)
            assert auth.status.expires_in is None
    assert (sandbox.session_logins, sandbox.session_logouts) == (1, 1)


def test_production():
    """The start of a program: an answer; and where the token endpoint is down, what the server says of when."""
    text, lines = _example("wait_for(")
    assert len(lines) <= MOST_LINES
    sandbox, waits = Sandbox(), []
    with serve(sandbox) as url:
        for old, new in {"https://api.example.com": f"{url}/api", '"orders"': '"client"', SERVER: url}.items():
            text = text.replace(old, new)
        found = {"SECRET": "secret", "wait_for": waits.append}
        exec(text, found)
        assert (found["response"].status_code, waits) == (200, [])
        sandbox.script(*[Status(503, retry_after=7)] * 3)
        exec(text, found)
        assert waits == [pytest.approx(7, abs=1.5)]


def test_tokens_that_outlive_the_process(rig, play):
    """A fleet's store: the example's, on a real Valkey, with keys."""
    client = rig.clients["basic"]
    keys = {"NEW_KEY": base64.urlsafe_b64encode(os.urandom(32)), "OLD_KEY": base64.urlsafe_b64encode(os.urandom(32))}
    with ValkeyServer() as valkey:
        changes = {'"orders"': repr(client.id), "redis://localhost:6379/0": valkey.url}
        _check(rig, play("RedisStore(", changes, {"SECRET": client.secret, **keys})["auth"])
        assert valkey.contents().count(b"tokenflow1.") == 1


def test_a_hundred_thousand_tenants():
    """AuthCache, with one client for all of them."""
    text, lines = _example("AuthCache(")
    assert len(lines) <= MOST_LINES
    sandbox = Sandbox()
    with serve(sandbox) as url, httpx.Client(base_url=f"{url}/api") as client:
        found = {"TOKEN_URL": f"{url}/token", "secret_of": lambda tenant: "secret", "client": client}
        exec(text.replace('"acme"', '"client"'), found)
        assert found["response"].status_code == 200
    assert len(found["auths"]) == 1
