"""APIs that want more of a token than it has: more scope, a stronger login, claims (RFC 6750 §3.1, RFC 9470)."""

from __future__ import annotations

from httpx_tokenflow import ClientCredentials, StepUpRequired, TokenAuth


def _auth(rig, **options):
    client = rig.clients["basic"]
    grant = ClientCredentials(issuer=rig.issuer, client_id=client.id, client_secret=client.secret, scope="read")
    return TokenAuth(grant, verify=rig.trust, **options)


def _client(hand, rig, auth):
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust, timeout=30.0)


def _scopes(rig):
    return [one["params"].get("scope") for one in rig.log()]


def test_more_scope_is_asked_for_once_and_kept(hand, rig):
    """A 403 with insufficient_scope leads to one token with the union of scopes; renewals go on with that."""
    with _auth(rig, step_up=True) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        assert client.get("/step-up").status_code == 200
        assert client.get("/x").status_code == 200
        rig.expire()
        assert client.get("/step-up").status_code == 200
        assert _scopes(rig) == ["read", "read admin", "read admin"]


def test_twenty_at_once_lead_to_one_request(hand, rig):
    """All who are told the same at once share one token request; others go on with the token at hand meanwhile."""
    with _auth(rig, step_up=True) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        assert [getattr(one, "status_code", one) for one in client.together(20, "GET", "/step-up")] == [200] * 20
        assert _scopes(rig) == ["read", "read admin"]


def test_nobody_asked_for_it(hand, rig):
    """Without step_up= the 403 is the caller's, and nothing is asked of the authorization server (F52)."""
    with _auth(rig) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/step-up").status_code == 403
        assert _scopes(rig) == ["read"]


def test_the_server_gives_no_more(hand, rig):
    """A scope that is refused: StepUpRequired says which, the token at hand stays, and nobody hammers the server."""
    with _auth(rig, step_up=True) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        rig.answer_next(400, {"error": "invalid_scope"}, count=2)
        for _ in range(3):
            (error,) = client.together(1, "GET", "/step-up")
            assert isinstance(error, StepUpRequired)
            assert (error.scope, error.response.status_code) == ("admin", 403)
        assert client.get("/x").status_code == 200
        assert len(rig.log()) == 2


def test_a_server_that_gives_less_than_was_asked_for(hand, rig):
    """A new token without the scope is tried once; the second 403 is the caller's."""
    with _auth(rig, step_up=True) as auth:
        client = _client(hand, rig, auth)
        token = auth.token()
        rig.answer_next(200, {"access_token": token.access_token, "token_type": "Bearer", "scope": "read"})
        assert client.get("/step-up").status_code == 403


def test_a_stronger_login_is_for_persons(hand, rig):
    """A program in its own name cannot log in otherwise: StepUpRequired says what is wanted (RFC 9470 §4)."""
    with _auth(rig, step_up=True) as auth:
        (error,) = _client(hand, rig, auth).together(1, "GET", "/strong")
        assert isinstance(error, StepUpRequired)
        assert error.acr_values == "phr"
        assert rig.counters()["token_requests"] == 1


def test_claims_are_asked_for_once(hand, rig):
    """What an API wants claimed leads to one more token request; its second 401 stands."""
    with _auth(rig) as auth:
        assert _client(hand, rig, auth).get("/claims").status_code == 401
        assert rig.counters()["token_requests"] == 2
