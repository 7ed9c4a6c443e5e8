"""DPoP with nonces at both servers (RFC 9449), from all four clients."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from host.hands import FOUR, Hand
from integration import byhand

from httpx_tokenflow import ClientCredentials, ConfigurationError, DPoP, RefreshToken, Token, TokenAuth
from httpx_tokenflow.stores import MemoryStore


def _auth(rig, name="dpop", dpop=None, **options):
    client = rig.clients[name]
    grant = ClientCredentials(issuer=rig.issuer, client_id=client.id, client_secret=client.secret)
    return TokenAuth(grant, **{"dpop": dpop or DPoP(), "verify": rig.trust} | options)


def _client(hand, rig, auth, **options):
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust, timeout=30.0, **options)


def test_a_bound_token_with_nonces_at_both_servers(hand, rig):
    """Each server's first answer asks for a nonce, and gets it: two token requests, two sends, then one each."""
    with _auth(rig) as auth:
        client = _client(hand, rig, auth)
        answers = [client.get("/x") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5
        counters = rig.counters()
        assert counters["token_requests"] == 2  # the first is told to come with a nonce
        assert counters["api_requests"] == 6
        assert "authorization" not in answers[0].request.headers
        assert "dpop" not in answers[0].request.headers


@pytest.mark.parametrize("alg", ["ES256", "RS256", "EdDSA"])
def test_with_a_key_of_the_program_s(rig, alg):
    """A key that is given signs the proofs, of each kind, PEM and JWK."""
    for key in (rig.keys[alg].pem, rig.keys[alg].jwk):
        with ExitStack() as stack, _auth(rig, dpop=DPoP(key)) as auth:
            client = _client(Hand(*FOUR["httpx-sync"], stack), rig, auth)
            assert client.get("/x").status_code == 200


def test_a_nonce_that_changes_mid_run(hand, rig):
    """The API changes its nonce every 20 requests and when told to; nobody sees any of it."""
    with _auth(rig) as auth:
        client = _client(hand, rig, auth)
        for _ in range(3):
            assert {client.get("/x").status_code for _ in range(15)} == {200}
            rig.rotate_nonce()
        rig.rotate_issuer_nonce()
        rig.expire()
        assert client.get("/x").status_code == 200


def test_many_at_once_across_expiries(hand, rig):
    """Nine at once, six times, with all tokens and nonces refused in between: all 200.

    Not more at once: this API forgets a nonce after 20 requests, whoever has just been told it.
    """
    with _auth(rig) as auth:
        client = _client(hand, rig, auth)
        for _ in range(6):
            assert [getattr(a, "status_code", a) for a in client.together(9, "GET", "/x")] == [200] * 9
            rig.expire()
            rig.rotate_nonce()
        assert rig.counters()["at_once"] == 1


def test_a_body_goes_along_with_each_proof(hand, rig):
    """A POST is sent again with its nonce, body and all; every method and URL has its own proof."""
    with _auth(rig) as auth:
        client = _client(hand, rig, auth)
        for method, path in [("POST", "/a?b=c"), ("PUT", "/a%20b"), ("DELETE", "/d")]:
            answer = client.request(method, path, content=b"body" if method != "DELETE" else b"")
            assert (answer.status_code, answer.json()["method"]) == (200, method)
            assert answer.json()["body"] == ("body" if method != "DELETE" else "")


def test_a_bound_refresh_token_of_a_public_client(hand, rig, http, alice):
    """A public client's refresh token is bound to the key: a key kept with the token renews it, also elsewhere."""
    signs, client = rig.keys["ES256"], rig.clients["dpop-public"]
    form = {"grant_type": "refresh_token", "refresh_token": "none"}
    refused = byhand.post(http, rig, client.id, headers=byhand.proof(signs, "POST", rig.endpoint()), **form)
    proof = byhand.proof(signs, "POST", rig.endpoint(), nonce=refused.headers["DPoP-Nonce"])
    given = byhand.log_in(http, rig, alice, client.id, headers=proof)
    key = DPoP(signs.pem)
    first = Token(
        given["access_token"], token_type="DPoP", refresh_token=given["refresh_token"], expires_at=time.time() + 3600
    )
    rig.reset()
    grant = RefreshToken(issuer=rig.issuer, client_id=client.id)
    with TokenAuth(grant, token=first, dpop=key, verify=rig.trust) as auth:
        api = _client(hand, rig, auth)
        for _ in range(3):
            assert api.get("/x").status_code == 200
            rig.expire()
        assert rig.counters()["revoked_families"] == 0


def test_a_key_made_for_the_occasion_is_kept_with_the_token(rig):
    """Another object, with a key of its own, finds the token and its key in the store, and can use both."""
    store = MemoryStore()
    with ExitStack() as stack, _auth(rig, store=store) as one, _auth(rig, store=store) as other:
        hand = Hand(*FOUR["httpx-sync"], stack)
        assert _client(hand, rig, one).get("/x").status_code == 200
        asked = rig.counters()["token_requests"]
        assert _client(hand, rig, other).get("/x").status_code == 200
        assert rig.counters()["token_requests"] == asked


def test_a_server_that_ignores_the_proof(rig):
    """A bearer token instead of a bound one is refused: ConfigurationError, nothing is sent to the API."""
    with _auth(rig, "basic") as auth, ExitStack() as stack:
        rig.answer_next(200, {"access_token": "a", "token_type": "Bearer"})
        with pytest.raises(ConfigurationError, match="does not support DPoP"):
            _client(Hand(*FOUR["httpx-sync"], stack), rig, auth).get("/x")
        assert rig.counters()["api_requests"] == 0
