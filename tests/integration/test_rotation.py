"""A refresh token that rotates, and a server that ends the family at its reuse: nothing that happens at once reuses it.

What is lost on the way is told from what was not sent, and costs the session only where nothing else can be done.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from host.hands import FOUR, Hand
from integration import byhand

from httpx_tokenflow import ReauthenticationRequired, RefreshToken, Token, TokenAuth, TokenEndpointUnavailable

EXPIRIES = 10
CROWD = {"httpx-sync": 25, "httpx-async": 25, "httpx2-sync": 75, "httpx2-async": 75}  # 200; httpx's pool is slow


@pytest.fixture
def hand(request):
    """One of the four clients."""
    with ExitStack() as stack:
        yield Hand(*FOUR[request.param], stack)


@pytest.fixture
def session(rig, http, alice):
    """What the token endpoint said when alice logged in; the counters are at zero again."""
    given = byhand.log_in(http, rig, alice)
    rig.reset()
    return given


def _auth(rig, session, **options):
    """Alice's session goes on in the package."""
    client = rig.clients["basic"]
    first = Token(
        session["access_token"],
        refresh_token=session["refresh_token"],
        expires_at=time.time() + session["expires_in"],
    )
    grant = RefreshToken(rig.endpoint(), client_id=client.id, client_secret=client.secret)
    return TokenAuth(grant, **{"token": first, "verify": rig.trust} | options)


def _client(hand, rig, auth):
    # A connection for each, and none is closed meanwhile: httpcore 1.0.9 races over idle ones when threads share it.
    limits = hand.library.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust, timeout=30.0, limits=limits)


def _check_family(rig, http, auth, renewals):
    """So many renewals, none of them reused a refresh token, and the family lives: the last refresh token is good."""
    counters = rig.counters()
    assert counters["grants"] == {"refresh_token": {"200": renewals}}
    assert (counters["at_once"], counters["reused"], counters["revoked_families"]) == (1, 0, 0)
    last = auth.token().refresh_token
    assert byhand.refresh(http, rig, "basic", last).status_code == 200


@pytest.mark.sampled(0)
@pytest.mark.parametrize("hand", FOUR, indirect=True)
def test_two_hundred_requests_across_ten_expiries(hand, rig, http, session):
    """Each client by itself: twenty at once are refused, ten times; each time one renewal serves them all."""
    with _auth(rig, session) as auth:
        client = _client(hand, rig, auth)
        for _ in range(EXPIRIES):
            rig.expire()
            rig.gather(20)
            assert [getattr(answer, "status_code", answer) for answer in client.together(20, "GET", "/x")] == [200] * 20
        _check_family(rig, http, auth, EXPIRIES)


@pytest.mark.slow
def test_two_hundred_at_once_on_all_clients_across_ten_expiries(rig, http, session):
    """200 at once, by threads and tasks, of httpx and httpx2, on one `auth=`: all are refused at once, ten times."""
    with ExitStack() as stack, _auth(rig, session) as auth:
        crowd = []
        for kind, number in CROWD.items():
            hand = Hand(*FOUR[kind], stack)
            crowd += [(hand, _client(hand, rig, auth))] * number
        rig.delay(0.02)  # so that those who come late find a renewal under way
        for _ in range(EXPIRIES):
            rig.expire()
            rig.gather(200)
            started = [(hand, client.start("GET", "/x")) for hand, client in crowd]
            answers = [answer for hand, future in started for answer in hand.outcomes([future])]
            assert [getattr(answer, "status_code", answer) for answer in answers] == [200] * 200
        assert rig.counters()["api"] == {"401": 2000, "200": 2000}
        _check_family(rig, http, auth, EXPIRIES)


@pytest.mark.slow
def test_tokens_that_end_by_themselves(rig, http, session):
    """Tokens of two seconds, used by all clients for three: whoever comes too late for one does not notice."""
    rig.lifetime(2)  # oidc-provider reckons in whole seconds: some end after little more than one
    ended = Token("ended", refresh_token=session["refresh_token"], expires_at=1)
    with ExitStack() as stack, _auth(rig, session, token=ended) as auth:
        hands = [Hand(*kind, stack) for kind in FOUR.values()]
        clients = [(hand, _client(hand, rig, auth)) for hand in hands]
        end = time.monotonic() + 3
        while time.monotonic() < end:
            started = [(hand, client.start("GET", "/x")) for hand, client in clients]
            assert {hand.wait(future).status_code for hand, future in started} == {200}
        renewals = rig.counters()["token_requests"]
        assert renewals >= 2
        _check_family(rig, http, auth, renewals)


@pytest.mark.parametrize("hand", FOUR, indirect=True)
def test_an_answer_that_was_lost_ends_the_session_and_says_so(hand, rig, session):
    """The server has rotated, nobody knows: the token is presented once more, in vain, and then nobody tries again."""
    with _auth(rig, session) as auth:
        client = _client(hand, rig, auth)
        rig.expire()
        rig.lose_next()
        with pytest.raises(TokenEndpointUnavailable) as unknown:
            client.get("/x")
        assert unknown.value.outcome == "unknown"
        assert rig.counters()["token_requests"] == 1

        auth.warm()  # there is no waiting for the next attempt
        for _ in range(3):
            with pytest.raises(ReauthenticationRequired):
                client.get("/x")
        counters = rig.counters()
        assert counters["grants"]["refresh_token"] == {"400": 1, "200": 1}
        assert (counters["lost"], counters["reused"], counters["revoked_families"]) == (1, 1, 1)


@pytest.mark.parametrize("hand", FOUR, indirect=True)
def test_a_request_that_was_not_processed_costs_nothing(hand, rig, http, session):
    """The same to see from here, but the server never saw it: presented once more, the token is good."""
    with _auth(rig, session) as auth:
        client = _client(hand, rig, auth)
        rig.expire()
        rig.lose_next(processed=False)
        with pytest.raises(TokenEndpointUnavailable):
            client.get("/x")
        auth.warm()  # there is no waiting for the next attempt
        assert client.get("/x").status_code == 200
        counters = rig.counters()
        assert (counters["lost"], counters["reused"]) == (1, 0)
        assert byhand.refresh(http, rig, "basic", auth.token().refresh_token).status_code == 200


def test_not_now_costs_nothing(rig, http, session):
    """503 with Retry-After is no verdict on the refresh token: it is presented again, and is good."""
    with ExitStack() as stack, _auth(rig, session) as auth:
        client = _client(Hand(*FOUR["httpx-async"], stack), rig, auth)
        rig.expire()
        rig.answer_next(503, {"error": "temporarily_unavailable"}, headers={"Retry-After": "0"})
        assert client.get("/x").status_code == 200
        assert [entry["status"] for entry in rig.log()] == [503, 200]
        assert byhand.refresh(http, rig, "basic", auth.token().refresh_token).status_code == 200


def test_a_family_that_somebody_else_has_ended_is_given_up(rig, http, session):
    """Another program reuses an old refresh token: then a person must log in again, and we say so."""
    newest = byhand.refresh(http, rig, "basic", session["refresh_token"]).json()
    with ExitStack() as stack, _auth(rig, newest) as auth:
        client = _client(Hand(*FOUR["httpx-sync"], stack), rig, auth)
        assert client.get("/x").status_code == 200
        byhand.refresh(http, rig, "basic", session["refresh_token"])
        with pytest.raises(ReauthenticationRequired) as refused:
            client.get("/x")
        assert (refused.value.error, refused.value.status) == ("invalid_grant", 400)
        assert rig.counters()["reused"] == 1  # theirs, not ours
