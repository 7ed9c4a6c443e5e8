"""Logins by code against oidc-provider: by a browser on this machine, and in two halves; from each of the clients."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import anyio
import httpx
import jwt
import pytest
from host.hands import SIX, Hand
from integration import byhand
from integration.clients import WEB

from httpx_tokenflow import (
    ClientSecretJWT,
    ClientSecretPost,
    ConfigurationError,
    DPoP,
    ReauthenticationRequired,
    RenewalPolicy,
    StepUpRequired,
    TokenAuth,
    TokenRequestError,
)
from httpx_tokenflow._logins import AuthorizationCode

SCOPE = "openid offline_access read"


@pytest.fixture
def sync_hand():
    """A sync client, where another would not do otherwise."""
    with ExitStack() as stack:
        yield Hand(httpx, None, stack)


def _grant(rig, person, name="public", **options):
    client = rig.clients[name]
    given = {
        "issuer": rig.issuer,
        "client_id": client.id,
        "client_secret": client.secret,
        "scope": SCOPE,
        "authorization_extra": {"prompt": "consent"},  # without it oidc-provider gives no refresh token
        "open_browser": person.browse,
        "timeout": 20.0,
    }
    return AuthorizationCode(**given | options)


def _client(hand, rig, auth):
    limits = hand.library.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust, timeout=30.0, limits=limits)


def _statuses(answers):
    return [getattr(answer, "status_code", answer) for answer in answers]


def _grants(rig):
    return [one["grant_type"] for one in rig.log()]


@pytest.mark.parametrize("kind", SIX)
def test_twenty_requests_open_one_browser(kind, rig, alice):
    """Login, consent, the code exchanged with its verifier: once for everybody; and all are who logged in."""
    opened = []

    def browse(url):
        opened.append(url)
        return alice.browse(url)

    with ExitStack() as stack, TokenAuth(_grant(rig, alice, open_browser=browse), verify=rig.trust) as auth:
        client = _client(Hand(*SIX[kind], stack), rig, auth)
        answers = client.together(20, "GET", "/x")
        assert _statuses(answers) == [200] * 20
        assert {answer.json()["token"]["sub"] for answer in answers} == {"alice"}
        assert len(opened) == 1
        assert _grants(rig) == ["authorization_code"]
        id_token = jwt.decode(auth.token().id_token, options={"verify_signature": False})
        assert id_token["iss"] == rig.issuer


@pytest.mark.sampled(0)
def test_a_session_over_ten_expiries(hand, rig, http, alice):
    """Twenty at once are refused, ten times: one rotating renewal each, nobody is asked, and the family lives."""
    with TokenAuth(_grant(rig, alice, "basic"), verify=rig.trust) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        for _ in range(10):
            rig.expire()
            assert _statuses(client.together(20, "GET", "/x")) == [200] * 20
        assert _grants(rig) == ["authorization_code"] + ["refresh_token"] * 10
        assert all("scope" not in one["params"] for one in rig.log())
        counters = rig.counters()
        assert (counters["at_once"], counters["reused"], counters["revoked_families"]) == (1, 0, 0)
        assert byhand.refresh(http, rig, "basic", auth.token().refresh_token).status_code == 200


def test_a_session_that_the_server_has_ended(sync_hand, rig, http, alice):
    """The refresh token is refused: one new login, and everybody goes on."""
    with TokenAuth(_grant(rig, alice, "basic"), verify=rig.trust) as auth:
        client = _client(sync_hand, rig, auth)
        assert client.get("/x").status_code == 200
        spent = auth.token().refresh_token
        assert byhand.refresh(http, rig, "basic", spent).status_code == 200  # behind our back: ours is reuse now
        rig.expire()
        assert _statuses(client.together(5, "GET", "/x")) == [200] * 5
        assert _grants(rig).count("authorization_code") == 2


@pytest.mark.parametrize("name", ["post", "special", "special-post", "secret-jwt"])
def test_clients_that_prove_themselves(name, sync_hand, rig, alice):
    """A confidential client: in the body, with special characters, by a signed assertion; PKCE all the same."""
    ways = {"client_secret_post": ClientSecretPost(), "client_secret_jwt": ClientSecretJWT()}
    way = ways.get(rig.clients[name].method)
    grant = _grant(rig, alice, name, client_auth=way, par=True)
    with TokenAuth(grant, verify=rig.trust) as auth:
        assert _client(sync_hand, rig, auth).get("/x").status_code == 200


def test_a_client_that_has_to_push(hand, rig, alice):
    """RFC 9126: without pushing the server refuses, and says so; with it the browser carries a reference only."""
    with TokenAuth(_grant(rig, alice, "par"), verify=rig.trust) as auth:
        client = _client(hand, rig, auth)
        with pytest.raises(TokenRequestError) as caught:
            client.get("/x")
        assert caught.value.error == "invalid_request"
    seen = []

    def browse(url):
        seen.append(byhand.query(url))
        return alice.browse(url)

    with TokenAuth(_grant(rig, alice, "par", par=True, open_browser=browse), verify=rig.trust) as auth:
        assert _client(hand, rig, auth).get("/x").status_code == 200
    assert [set(one) for one in seen] == [{"client_id", "request_uri"}]


def test_who_refuses(hand, rig, alice):
    """The person says no: everybody is told, and nobody is asked again before the program says so."""
    with TokenAuth(_grant(rig, alice, open_browser=alice.browse_and_refuse), verify=rig.trust) as auth:
        client = _client(hand, rig, auth)
        answers = client.together(5, "GET", "/x")
        assert all(isinstance(answer, ReauthenticationRequired) for answer in answers), answers
        assert answers[0].error == "access_denied"
        with pytest.raises(ReauthenticationRequired):
            client.get("/x")
    assert _grants(rig) == []


def test_bound_to_a_key(hand, rig, alice):
    """DPoP: the code, the token and the refresh token of a public client are bound to a key, nonces and all."""
    with TokenAuth(_grant(rig, alice, "dpop-public"), verify=rig.trust, dpop=DPoP()) as auth:
        client = _client(hand, rig, auth)
        for _ in range(3):
            answer = client.get("/x")
            assert answer.status_code == 200, answer.text
            rig.expire()
            rig.rotate_nonce()
            rig.rotate_issuer_nonce()
        assert auth.token().token_type == "DPoP"


def test_a_stronger_login(hand, rig, alice):
    """RFC 9470 §4: the API wants another way to log in, and gets it by a new authorization request; once for all."""
    with TokenAuth(_grant(rig, alice, authorization_extra={"prompt": "login consent"}), verify=rig.trust) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        assert _statuses(client.together(5, "GET", "/strong")) == [200] * 5
        assert client.get("/x").status_code == 200
    assert _grants(rig) == ["authorization_code"] * 2


def test_more_scope(hand, rig, alice):
    """RFC 6750 §3.1: a person consents to what is missing; the session goes on with that, and later logins as well."""
    with TokenAuth(_grant(rig, alice), verify=rig.trust, step_up=True) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        assert client.get("/step-up").status_code == 200
        rig.expire()
        assert client.get("/step-up").status_code == 200
    assert _grants(rig) == ["authorization_code", "authorization_code", "refresh_token"]


def test_tokens_for_several_resources(sync_hand, rig, alice):
    """One login for three resources; each has a token of its own by the same refresh token, and the family lives."""
    grant = _grant(rig, alice, resource=[rig.api, rig.orders, rig.invoices])
    with TokenAuth(grant, verify=rig.trust) as auth:
        for _ in range(2):
            for url, part in [
                (rig.api, auth),
                *((url, auth.using(resource=url)) for url in (rig.orders, rig.invoices)),
            ]:
                client = sync_hand.client(base_url=url, auth=part, verify=rig.trust, timeout=30.0)
                assert client.get("/x").status_code == 200
            rig.expire()
    assert len(alice._threads) == 1
    assert (rig.counters()["reused"], rig.counters()["revoked_families"]) == (0, 0)


def test_tokens_that_end(sync_hand, rig, alice):
    """Tokens of two seconds: renewed as they end, by refresh tokens."""
    policy = RenewalPolicy(due_window=0.0, early_window=0.0)
    with TokenAuth(_grant(rig, alice, "short"), verify=rig.trust, policy=policy) as auth:
        client = _client(sync_hand, rig, auth)
        assert client.get("/x").status_code == 200
        anyio.run(anyio.sleep, 2.2)
        assert client.get("/x").status_code == 200
    assert _grants(rig) == ["authorization_code", "refresh_token"]


def test_a_code_whose_answer_is_lost(sync_hand, rig, alice):
    """The server took the code, and the answer never came: no second request with it, and no second login by itself."""
    rig.lose_next()
    with TokenAuth(_grant(rig, alice), verify=rig.trust) as auth:
        with pytest.raises(httpx.TransportError) as caught:
            _client(sync_hand, rig, auth).get("/x")
        assert caught.value.outcome == "unknown"
    assert rig.counters()["lost"] == 1
    assert len(alice._threads) == 1


def test_not_now(sync_hand, rig, alice):
    """The token endpoint is busy for a moment: the code is presented again, nobody logs in twice."""
    rig.answer_next(503)
    with TokenAuth(_grant(rig, alice), verify=rig.trust) as auth:
        assert _client(sync_hand, rig, auth).get("/x").status_code == 200
    assert len(alice._threads) == 1


def test_by_endpoints(sync_hand, rig, alice):
    """Without discovery: two endpoints are enough."""
    named = {"issuer": None, "authorization_endpoint": rig.endpoint("authorization"), "token_endpoint": rig.endpoint()}
    with TokenAuth(_grant(rig, alice, **named), verify=rig.trust) as auth:
        assert _client(sync_hand, rig, auth).get("/x").status_code == 200


# In two halves


class Halves:
    """start() and finish() of a backend, or their async twins; with a TLS context of its own."""

    def __init__(self, rig, *, is_async):
        self.rig, self.is_async = rig, is_async

    def start(self, grant, **options):
        if self.is_async:
            return asyncio.run(grant.astart(verify=self.rig.trust, **options))
        return grant.start(verify=self.rig.trust, **options)

    def finish(self, grant, url, state, **options):
        if self.is_async:
            return asyncio.run(grant.afinish(url, state, verify=self.rig.trust, **options))
        return grant.finish(url, state, verify=self.rig.trust, **options)


@pytest.fixture(params=["sync", "async"])
def halves(rig, request):
    return Halves(rig, is_async=request.param == "async")


@pytest.fixture
def web(rig, alice):
    return _grant(rig, alice, "web", redirect_uri=WEB)


def test_a_backend(halves, rig, alice, web, sync_hand):
    """Start, the person logs in, finish: a token for requests, that is refreshed; a stronger login by another start."""
    url, state = halves.start(web)
    token = halves.finish(web, alice.log_in(url), state)
    with TokenAuth(web, token=token, verify=rig.trust) as auth:
        client = _client(sync_hand, rig, auth)
        assert client.get("/x").json()["token"]["sub"] == "alice"
        rig.expire()
        assert client.get("/x").status_code == 200
        with pytest.raises(StepUpRequired) as caught:
            client.get("/strong")
        wanted = {"acr_values": caught.value.acr_values, "max_age": str(caught.value.max_age)}
        url, state = halves.start(web, authorization_extra=wanted | {"prompt": "login consent"})
        auth.set_token(halves.finish(web, alice.log_in(url), state))
        assert client.get("/strong").status_code == 200


def test_a_backend_that_pushes(halves, rig, alice, sync_hand):
    """With a pushed request, by a loopback page that somebody else serves."""
    grant = _grant(rig, alice, "par", redirect_uri=f"http://127.0.0.1:{byhand.PORT}/callback", par=True)
    url, state = halves.start(grant)
    token = halves.finish(grant, alice.log_in(url), state)
    with TokenAuth(grant, token=token, verify=rig.trust) as auth:
        assert _client(sync_hand, rig, auth).get("/x").status_code == 200


def test_a_backend_and_a_person_who_refuses(halves, alice, web):
    """Not now, says the person: it can be told from everything else."""
    url, state = halves.start(web)
    with pytest.raises(ReauthenticationRequired) as caught:
        halves.finish(web, alice.refuse(url), state)
    assert caught.value.error == "access_denied"


def test_bad_callbacks(halves, rig, alice, web):
    """Another state, another issuer, no issuer, something twice, no code: each its own error, and nothing is sent."""
    url, state = halves.start(web)
    good = alice.log_in(url)
    issuer = httpx.QueryParams({"iss": rig.issuer})
    code = httpx.QueryParams({"code": byhand.query(good)["code"]})
    other = alice.log_in(halves.start(web)[0])
    for callback, kind, match in (
        (other, TokenRequestError, "state"),
        (good.replace(str(issuer), "iss=https%3A%2F%2Fevil.example"), ConfigurationError, "9207"),
        (good.replace(f"&{issuer}", ""), ConfigurationError, "9207"),
        (f"{good}&code=x", TokenRequestError, "more than one code"),
        (good.replace(f"{code}", "x=y"), TokenRequestError, "neither a code nor an error"),
    ):
        assert callback != good
        with pytest.raises(kind, match=match):
            halves.finish(web, callback, state)
    assert _grants(rig) == []
    assert halves.finish(web, good, state).access_token
    with pytest.raises(ReauthenticationRequired) as caught:
        halves.finish(web, good, state)
    assert caught.value.error == "invalid_grant"


def test_the_wrong_issuer(halves, rig, alice):
    """The same server under another name is another issuer (RFC 8414 §3.3): nobody is sent there."""
    grant = _grant(rig, alice, "web", redirect_uri=WEB, issuer=rig.plain)
    with pytest.raises(ConfigurationError, match="8414"):
        halves.start(grant)
