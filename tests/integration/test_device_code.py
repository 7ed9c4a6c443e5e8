"""Logins on another device against oidc-provider: slow polls, silence, a refusal, and a session that goes on."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest
from host.hands import SIX, Hand

from httpx_tokenflow import ClientSecretPost, DPoP, ReauthenticationRequired, TokenAuth
from httpx_tokenflow._grants import DeviceCode
from httpx_tokenflow._grants import _device_code as module

SCOPE = "openid offline_access read"


class Screen:
    """Where the code is shown; the person does what they want with it, in the background."""

    def __init__(self, action):
        self.prompts = []
        self._action = action
        self._threads = []

    def show(self, prompt):
        self.prompts.append(prompt)
        self._threads.append(threading.Thread(target=self._action, args=(prompt.verification_uri_complete,)))
        self._threads[-1].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for thread in self._threads:
            thread.join(20)


def _auth(rig, screen, name="public", *, dpop=None, **options):
    client = rig.clients[name]
    grant = DeviceCode(
        issuer=rig.issuer,
        client_id=client.id,
        client_secret=client.secret,
        scope=SCOPE,
        on_prompt=screen.show,
        **options,
    )
    return TokenAuth(grant, verify=rig.trust, dpop=dpop)


def _client(hand, rig, auth):
    limits = hand.library.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust, timeout=30.0, limits=limits)


def _statuses(answers):
    return [getattr(answer, "status_code", answer) for answer in answers]


@pytest.fixture
def fast(monkeypatch):
    """The rig enforces no interval: tests need not wait for it."""
    monkeypatch.setattr(module, "LEAST_INTERVAL", 0.1)
    monkeypatch.setattr(module, "SLOW_DOWN", 0.3)
    read = module._read_device

    def read_device(*args):
        device = read(*args)
        assert device.prompt.interval == 1.0
        object.__setattr__(device.prompt, "interval", 0.1)
        return device

    monkeypatch.setattr(module, "_read_device", read_device)


@pytest.mark.sampled(0)
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("kind", SIX)
def test_one_prompt_for_everybody(kind, rig, alice):
    """Twenty requests: one device code, one prompt, all served once the person has confirmed; then it goes on alone."""
    with ExitStack() as stack, Screen(alice.confirm) as screen, _auth(rig, screen) as auth:
        client = _client(Hand(*SIX[kind], stack), rig, auth)
        answers = client.together(20, "GET", "/x")
        assert _statuses(answers) == [200] * 20
        assert {answer.json()["token"]["sub"] for answer in answers} == {"alice"}
        assert len(screen.prompts) == 1
        for _ in range(3):
            rig.expire()
            assert _statuses(client.together(20, "GET", "/x")) == [200] * 20
        assert len(screen.prompts) == 1
        counters = rig.counters()
        assert counters["grants"]["refresh_token"] == {"200": 3}
        assert (counters["reused"], counters["revoked_families"]) == (0, 0)


@pytest.mark.sampled(0)
@pytest.mark.usefixtures("fast")
def test_slow_polls_and_silence(hand, rig, alice):
    """The server asks for patience, is out of order, loses a request: the polls go on, further and further apart."""
    confirmed = threading.Event()

    def confirm(url):
        time.sleep(0.2)
        alice.confirm(url)
        confirmed.set()

    rig.answer_next(400, {"error": "authorization_pending"})
    rig.answer_next(400, {"error": "slow_down"})
    rig.answer_next(503)
    with Screen(confirm) as screen, _auth(rig, screen, "basic") as auth:
        began = time.monotonic()
        assert _client(hand, rig, auth).get("/x").status_code == 200
        assert time.monotonic() - began >= 0.1 + 0.1 + 0.4 + 0.8
    assert confirmed.is_set()
    assert len(screen.prompts) == 1


@pytest.mark.usefixtures("fast")
def test_who_refuses(hand, rig, alice):
    """The person says no: everybody is told so."""
    with Screen(alice.deny) as screen, _auth(rig, screen) as auth:
        answers = _client(hand, rig, auth).together(5, "GET", "/x")
        assert all(isinstance(answer, ReauthenticationRequired) for answer in answers), answers
        assert answers[0].error == "access_denied"
        assert len(screen.prompts) == 1


@pytest.mark.usefixtures("fast")
def test_nobody_enters_the_code(hand, rig):
    """It ends when its time is over, however long the server would have waited."""
    with Screen(lambda _url: None) as screen, _auth(rig, screen, timeout=0.5) as auth:
        with pytest.raises(ReauthenticationRequired) as caught:
            _client(hand, rig, auth).get("/x")
        assert caught.value.error == "expired_token"


@pytest.mark.usefixtures("fast")
def test_bound_to_a_key(hand, rig, alice):
    """DPoP: the polls carry proofs, with the server's nonces; token and refresh token are bound."""
    with Screen(alice.confirm) as screen, _auth(rig, screen, "dpop-public", dpop=DPoP()) as auth:
        client = _client(hand, rig, auth)
        for _ in range(2):
            assert client.get("/x").status_code == 200
            rig.expire()
            rig.rotate_issuer_nonce()
        assert auth.token().token_type == "DPoP"


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("name", ["basic", "post", "special"])
def test_clients_that_prove_themselves(name, rig, alice):
    """Confidential clients may use devices, too."""
    way = ClientSecretPost() if rig.clients[name].method == "client_secret_post" else None
    with Screen(alice.confirm) as screen, _auth(rig, screen, name, client_auth=way) as auth:
        assert auth.warm()
