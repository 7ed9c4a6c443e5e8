"""Giving a session up: at the server, here, and in the store (RFC 7009); and asking about a token (RFC 7662)."""

from __future__ import annotations

import time

import pytest
from integration import byhand

from httpx_tokenflow import ClientCredentials, ReauthenticationRequired, RefreshToken, Token, TokenAuth
from httpx_tokenflow.stores import MemoryStore


@pytest.fixture
def first(rig, http, alice):
    """What the token endpoint gave when alice logged in."""
    given = byhand.log_in(http, rig, alice)
    rig.reset()
    return Token(given["access_token"], refresh_token=given["refresh_token"], expires_at=time.time() + 3600)


def _auth(rig, first, **options):
    client = rig.clients["basic"]
    grant = RefreshToken(issuer=rig.issuer, client_id=client.id, client_secret=client.secret, subject="alice")
    return TokenAuth(grant, token=first, verify=rig.trust, **options)


def _client(hand, rig, auth):
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust, timeout=30.0)


def _revoke(hand, auth):
    return hand.call(hand.either(auth, "revoke"))


def test_a_session_is_over_everywhere(hand, rig, http, first):
    """Both tokens are dead at the server, nothing is left here, and a request says that somebody has to log in."""
    store = MemoryStore()
    with _auth(rig, first, store=store) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        assert _revoke(hand, auth) is True
        (error,) = client.together(1, "GET", "/x")
        assert isinstance(error, ReauthenticationRequired)
        assert first.refresh_token not in repr([entry.token.to_dict() for entry in store._entries.values()])
    assert byhand.refresh(http, rig, "basic", first.refresh_token).status_code == 400
    assert http.get(f"{rig.api}/x", headers=byhand.bearer(first.access_token)).status_code == 401


def test_whoever_shares_the_store_learns_of_it(hand, rig, first):
    """Another object, as in another process, finds the mark when it renews, and does not bring the session back."""
    store = MemoryStore()
    with _auth(rig, first, store=store) as one:
        _client(hand, rig, one).get("/x")
        assert _revoke(hand, one) is True
    with _auth(rig, first, store=store) as other:
        (error,) = _client(hand, rig, other).together(1, "GET", "/x")
        assert isinstance(error, ReauthenticationRequired)
        assert rig.counters()["token_requests"] == 0


def test_a_renewal_under_way_does_not_bring_it_back(hand, rig, first):
    """It is waited for, what it brought is revoked as well, and those who waited are told."""
    with _auth(rig, first) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        rig.expire()
        rig.delay(0.5)
        waiting = hand.start(client.raw.get, "/x")
        until = time.monotonic() + 5
        while not auth._source.flight and time.monotonic() < until:
            time.sleep(0.01)
        assert _revoke(hand, auth) is True
        (error,) = hand.outcomes([waiting])
        assert isinstance(error, ReauthenticationRequired)
        (error,) = client.together(1, "GET", "/x")
        assert isinstance(error, ReauthenticationRequired)
        assert auth.status.expires_in is None


def test_it_is_over_here_whatever_the_server_says(hand, rig, first):
    """A server that is not reached: False, and the session is over here all the same."""
    with _auth(rig, first) as auth:
        rig.metadata(revocation_endpoint="http://127.0.0.1:9/")
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        assert _revoke(hand, auth) is False
        (error,) = client.together(1, "GET", "/x")
        assert isinstance(error, ReauthenticationRequired)


def test_client_credentials_simply_get_another_token(hand, rig):
    """The old one is dead at the server; the next request gets the next one."""
    client = rig.clients["basic"]
    grant = ClientCredentials(issuer=rig.issuer, client_id=client.id, client_secret=client.secret)
    with TokenAuth(grant, verify=rig.trust) as auth:
        api = _client(hand, rig, auth)
        assert api.get("/x").status_code == 200
        before = auth.token().access_token
        assert _revoke(hand, auth) is True
        assert hand.call(hand.either(auth, "introspect"), before) == {"active": False}
        assert api.get("/x").status_code == 200
        assert auth.token().access_token != before


def test_what_the_server_says_of_a_token(hand, rig, first):
    """Introspection of the token at hand, and of one that nobody has issued."""
    with _auth(rig, first) as auth:
        said = hand.call(hand.either(auth, "introspect"))
        assert (said["active"], said["client_id"]) == (True, "basic")
        assert hand.call(hand.either(auth, "introspect"), "nonsense") == {"active": False}
