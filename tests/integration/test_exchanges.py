"""Token exchange and JWT bearer, against a server that takes each assertion once and looks at what it is given."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time

import jwt
import pytest
from integration import byhand

from httpx_tokenflow import (
    ClientCredentials,
    DPoP,
    JWTBearer,
    ReauthenticationRequired,
    RenewalPolicy,
    TokenAuth,
    TokenExchange,
    TokenRequestError,
)

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


@pytest.fixture
def subject(rig, http, alice):
    """Alice's token, as it comes to a backend."""
    return byhand.log_in(http, rig, alice)["access_token"]


def _auth(rig, kind, client="basic", dpop=None, **options):
    known = rig.clients[client]
    grant = kind(issuer=rig.issuer, client_id=known.id, client_secret=known.secret, **options)
    return TokenAuth(grant, verify=rig.trust, policy=RenewalPolicy(attempts=2), dpop=dpop)


def _client(hand, rig, auth):
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust)


def _asked(hand, values):
    """A callable that returns one after the other: async for async clients."""
    values = iter(values)

    async def areturn():
        await asyncio.sleep(0)
        return next(values)

    return areturn if hand.is_async else lambda: next(values)


# Token exchange (RFC 8693)


def test_on_behalf_of_a_person(hand, rig, http, subject):
    """Alice's token for one service becomes one for the next; it says for whom, and by whom."""
    actor = byhand.client_credentials(http, rig)["access_token"]
    rig.reset()
    with _auth(rig, TokenExchange, subject_token=subject, actor_token=actor, audience="invoices", scope="read") as auth:
        client = _client(hand, rig, auth)
        seen = client.get("/invoices/1").json()["token"]
        assert (seen["sub"], seen["act"], seen["scope"]) == ("alice", {"sub": "basic"}, "read")
        assert client.get("/invoices/2").status_code == 200
        rig.expire()
        assert client.get("/invoices/3").status_code == 200
        assert hand.call(hand.either(auth, "token")).extra["issued_token_type"] == ACCESS_TOKEN
    assert [entry["status"] for entry in rig.log()] == [200, 200]


def test_without_an_actor_the_person_is_impersonated(hand, rig, subject):
    """The new token says nothing of who asked for it."""
    with _auth(rig, TokenExchange, subject_token=subject, resource=rig.orders) as auth:
        seen = _client(hand, rig, auth).get("/orders").json()["token"]
    assert seen["sub"] == "alice"
    assert "act" not in seen


def test_tokens_from_callables(hand, rig, http, subject):
    """Asked for each exchange, so that what has ended meanwhile does not matter."""
    actors = (byhand.client_credentials(http, rig)["access_token"] for _ in itertools.count())
    options = {"subject_token": _asked(hand, itertools.repeat(subject)), "actor_token": _asked(hand, actors)}
    rig.reset()
    with _auth(rig, TokenExchange, audience="invoices", **options) as auth:
        client = _client(hand, rig, auth)
        for _ in range(2):
            assert client.get("/invoices").json()["token"]["act"] == {"sub": "basic"}
            rig.expire()
    exchanges = [one["params"] for one in rig.log() if "subject_token" in one["params"]]
    assert len(exchanges) == len({one["actor_token"] for one in exchanges}) == 2


def test_each_audience_has_its_own(hand, rig, subject):
    """`.using(audience=…)` asks for another token, and keeps both."""
    rig.reset()
    with _auth(rig, TokenExchange, subject_token=subject, audience="invoices") as auth:
        client = _client(hand, rig, auth)
        for _ in range(2):
            assert client.get("/invoices").status_code == 200
            assert client.get("/orders", auth=auth.using(audience="orders")).status_code == 200
    assert rig.counters()["token_requests"] == 2


def test_two_people_do_not_share(hand, rig, http, subject):
    """Each subject has its own tokens, also in one store."""
    with rig.person("bob") as bob:
        other = byhand.log_in(http, rig, bob)["access_token"]
    found = []
    for token in (subject, other):
        with _auth(rig, TokenExchange, subject_token=token) as auth:
            found.append(_client(hand, rig, auth).get("/x").json()["token"]["sub"])
    assert found == ["alice", "bob"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"subject_token": "made up"}, "invalid_request"),
        ({"scope": "read admin"}, "invalid_scope"),
        ({"audience": "nobody"}, "invalid_target"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
    ],
)
def test_refusals(rig, subject, options, code):
    """A token that is none, a scope that grows, a target that nobody knows, a type that is not issued."""
    with (
        _auth(rig, TokenExchange, **{"subject_token": subject, **options}) as auth,
        pytest.raises(TokenRequestError) as refused,
    ):
        auth.token()
    assert refused.value.error == code
    assert subject not in str(refused.value)


def test_the_token_of_another_auth(rig, http):
    """A service exchanges its own token, which an auth of its own keeps fresh."""
    with _auth(rig, ClientCredentials) as own:
        options = {"subject_token": lambda: own.token().access_token, "audience": "orders"}
        with _auth(rig, TokenExchange, **options) as auth:
            assert http.get(rig.orders, auth=auth).json()["token"]["sub"] == "basic"


# JWT bearer (RFC 7523)


@pytest.mark.parametrize("form", ["pem", "jwk", "callable"])
def test_a_service_account(hand, rig, form):
    """A new statement for each token: signed by PEM, by JWK, and by somebody else who has the key."""
    key = rig.service
    given = {"pem": key.pem, "jwk": key.jwk, "callable": None}[form]
    if given is None:
        algorithm = jwt.get_algorithm_by_name(key.alg)

        async def asign(data):
            await asyncio.sleep(0)
            return algorithm.sign(data, key.private)

        given = asign if hand.is_async else lambda data: algorithm.sign(data, key.private)
    options = {"key": given, "alg": key.alg, "kid": key.kid, "iss": rig.service_issuer, "sub": "robot", "scope": "read"}
    with _auth(rig, JWTBearer, **options) as auth:
        client = _client(hand, rig, auth)
        for _ in range(3):
            seen = client.get("/x").json()["token"]
            assert (seen["sub"], seen["scope"]) == ("robot", "read")
            rig.expire()
    statements = [jwt.decode(one["params"]["assertion"], options={"verify_signature": False}) for one in rig.log()]
    assert len({one["jti"] for one in statements}) == 3
    assert {(one["aud"], one["scope"]) for one in statements} == {(rig.issuer, "read")}


def test_a_nonce_in_between(hand, rig):
    """The server takes the assertion, and only then wants a DPoP nonce: sent again, it is another assertion."""
    options = {"key": rig.service.jwk, "iss": rig.service_issuer, "sub": "robot"}
    with _auth(rig, JWTBearer, "dpop", DPoP(), **options) as auth:
        seen = _client(hand, rig, auth).get("/x").json()["token"]
        assert (seen["sub"], seen["scheme"]) == ("robot", "DPoP")
    assert [entry["error"] for entry in rig.log()] == ["use_dpop_nonce", None]


def test_an_answer_that_was_lost(hand, rig):
    """What it stated was used up; it states it anew."""
    options = {"key": rig.service.jwk, "iss": rig.service_issuer, "sub": "robot"}
    with _auth(rig, JWTBearer, **options) as auth:
        rig.lose_next()
        assert _client(hand, rig, auth).get("/x").status_code == 200
    assert rig.counters()["token_requests"] == 2


def _statement(rig):
    now = int(time.time())
    claims = {"iss": rig.service_issuer, "sub": "job", "aud": rig.issuer, "exp": now + 60}
    return rig.service.sign(claims | {"jti": secrets.token_urlsafe(16)})


def test_a_workload_with_a_token_of_its_own(hand, rig):
    """An assertion that somebody else has signed, asked for each time."""
    with _auth(rig, JWTBearer, assertion=_asked(hand, (_statement(rig) for _ in itertools.count()))) as auth:
        client = _client(hand, rig, auth)
        for _ in range(2):
            assert client.get("/x").json()["token"]["sub"] == "job"
            rig.expire()
    assert rig.counters()["token_requests"] == 2


def test_an_assertion_that_is_used_up(rig):
    """As a string it serves once; after that somebody has to bring another."""
    with _auth(rig, JWTBearer, assertion=_statement(rig)) as auth:
        assert auth.token().access_token
    with _auth(rig, JWTBearer, assertion="made.up.assertion") as auth, pytest.raises(ReauthenticationRequired):
        auth.token()


@pytest.mark.parametrize("wrong", [{"iss": "https://other.example"}, {"aud": "https://other.example"}, {"key": None}])
def test_statements_that_are_not_believed(rig, wrong):
    """From somebody that the server does not know, for another server, signed with another key."""
    if "key" in wrong:
        wrong = {"key": rig.keys["ES256"].jwk, "kid": rig.service.kid}
    options = {"key": rig.service.jwk, "iss": rig.service_issuer, "sub": "robot", **wrong}
    with _auth(rig, JWTBearer, **options) as auth, pytest.raises(ReauthenticationRequired) as refused:
        auth.token()
    assert refused.value.error == "invalid_grant"
