"""Signals that come while `tokenflow` is at work: a session survives them, and nothing else holds them up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time

import pytest
from tokenflow_command import COMMAND, PATIENCE, Home

from httpx_tokenflow import Token
from httpx_tokenflow._entries import Entry
from httpx_tokenflow.cli._profiles import load_profile
from httpx_tokenflow.cli._signals import Stopped, heeding_signals, held, hold
from httpx_tokenflow.stores import FileStore
from httpx_tokenflow.testing import Sandbox, Slow, serve

SLOW = 0.7  # seconds that the token endpoint takes


@pytest.fixture
def server():
    """A sandbox that also revokes, slowly: `revoked` says how often."""
    sandbox = Sandbox(clients={"me": "secret"})
    sandbox.revoked = 0

    async def app(scope, receive, send):
        if scope.get("path") != "/revocation":
            await sandbox(scope, receive, send)
            return
        await asyncio.sleep(SLOW)
        sandbox.revoked += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with serve(app) as url:
        sandbox.url = url
        yield sandbox


@pytest.fixture
def home(server, tmp_path):
    """A home in which somebody has logged in, and whose token has ended."""
    home = Home(tmp_path, SECRET="secret")
    endpoints = {f"{name}_endpoint": f"{server.url}/{name}" for name in ("authorization", "token", "revocation")}
    home.profile(client_id="me", client_secret_env="SECRET", store="file", **endpoints)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        entry = Entry(
            Token("old", refresh_token=server.login(client_id="me")["refresh_token"]), time.time() - 1e6, 3600.0
        )
        FileStore().save(load_profile("default", home.config).fingerprint, entry, replaces=None)
    return home


def _until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_costs_no_session(home, server, number, code):
    """A signal while the refresh token is at the server ends the command, unheard, once the answer has been kept."""
    server.script(Slow(SLOW))
    process = home.start("token")
    _until(lambda: server.token_requests)
    process.send_signal(number)
    ended = home.end(process)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1), ended
    assert home.token() == home.entry()["token"]["access_token"] != "old"
    assert server.token_requests == 1


@pytest.mark.slow
def test_a_logout_is_not_torn(home, server):
    """A signal while the server revokes ends the logout once the server has answered."""
    process = home.start("logout")
    _until(lambda: "refresh_token" not in home.entry()["token"])
    process.send_signal(signal.SIGTERM)
    assert home.end(process).returncode == 143
    assert server.revoked == 2  # the refresh token, and the access token


def test_who_waits_for_the_lease_goes_at_once(home):
    """Who waits for another's renewal has nothing to lose, and ends at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home.folder / "state"))
        key = load_profile("default", home.config).fingerprint
        with FileStore().lease(key, 40.0, 1.0):
            process = home.start("token")
            time.sleep(1.0)  # nothing can be seen of it; and a signal that comes too early ends it all the same
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
    assert process.returncode in {143, -signal.SIGTERM}
    assert time.monotonic() - begun < 20


def test_what_is_ignored_stays_ignored():
    """A signal that is ignored, as under nohup, is not heeded; the others are what they were afterwards."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heeding_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def _term(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def test_when_a_signal_ends_it(monkeypatch):
    """Outside a hold a signal ends it at once, in a hold at its end; a second Ctrl-C at once, if it is meant."""
    done = []

    def in_hold(*signals):
        with held():
            for number in signals:
                _term(number)
            done.append(len(signals))

    def held_for_good():
        hold()
        _term()
        done.append("held for good")

    works = (_term, lambda: in_hold(signal.SIGTERM), held_for_good, lambda: in_hold(signal.SIGTERM, signal.SIGINT))
    for work in works:
        with pytest.raises(Stopped), heeding_signals():
            work()
    with heeding_signals():
        in_hold()  # nothing is left of what was
    with pytest.raises(Stopped), heeding_signals():
        in_hold(signal.SIGTERM, signal.SIGTERM)  # as `timeout` does
    monkeypatch.setattr("httpx_tokenflow.cli._signals.APART", 0.0)
    with pytest.raises(Stopped), heeding_signals():
        in_hold(signal.SIGINT, signal.SIGINT)
    in_hold()  # nor has whoever goes on without the rules to do with it
    assert done == [1, "held for good", 2, 0, 2, 0]


@pytest.mark.slow
def test_timeout_of_the_shell(home, server):
    """`timeout 1 tokenflow token` costs no session either."""
    server.script(Slow(2.0))
    subprocess.run(["timeout", "1", COMMAND, "token"], env=home.environment, capture_output=True, check=False)
    assert server.token_requests <= 1
    assert home.token() != "old"
