"""Tokens for several resources from one session, whose refresh token rotates (RFC 8707, RFC 6749 §6)."""

from __future__ import annotations

import time

import pytest
from integration import byhand

from httpx_tokenflow import ClientCredentials, RefreshToken, Token, TokenAuth, TokenRequestError


@pytest.fixture
def session(rig, http, alice):
    """Alice's session, for both resources."""
    resources = [rig.api, rig.orders, rig.invoices]
    given = byhand.log_in(http, rig, alice, resource=resources)
    rig.reset()
    first = Token(given["access_token"], refresh_token=given["refresh_token"], expires_at=time.time() + 3600)
    client = rig.clients["basic"]
    grant = RefreshToken(issuer=rig.issuer, client_id=client.id, client_secret=client.secret, resource=rig.api)
    with TokenAuth(grant, token=first, verify=rig.trust) as auth:
        yield auth


def _client(hand, rig, url, auth):
    limits = hand.library.Limits(max_connections=None, keepalive_expiry=None)
    return hand.client(base_url=url, auth=auth, verify=rig.trust, timeout=30.0, limits=limits)


def test_each_resource_has_its_own_token(hand, rig, session):
    """The orders' token is opaque and of no use for the invoices, whose token is a JWT; the family lives."""
    orders, invoices = session.using(resource=rig.orders), session.using(resource=rig.invoices)
    for url, auth in [(rig.orders, orders), (rig.invoices, invoices), (rig.api, session)]:
        client = _client(hand, rig, url, auth)
        for _ in range(2):
            assert client.get("/x").status_code == 200
            rig.expire()
    assert invoices.token().access_token.count(".") == 2
    assert orders.token().access_token.count(".") == 0
    assert (rig.counters()["reused"], rig.counters()["revoked_families"]) == (0, 0)


@pytest.mark.sampled(0)
def test_all_at_once_and_nothing_is_reused(hand, rig, session):
    """Session and siblings renew at once, five times: one presentation at a time, 0 reuses, the family alive."""
    auths = [session, session.using(resource=rig.orders), session.using(resource=rig.invoices)]
    urls = [rig.api, rig.orders, rig.invoices]
    clients = [_client(hand, rig, url, auth) for url, auth in zip(urls, auths, strict=True)]
    for _ in range(5):
        rig.expire()
        started = [hand.start(client.raw.get, "/x") for client in clients for _ in range(10)]
        assert [getattr(one, "status_code", one) for one in hand.outcomes(started)] == [200] * 30
    counters = rig.counters()
    assert (counters["at_once"], counters["reused"], counters["revoked_families"]) == (1, 0, 0)


def test_siblings_of_a_program_in_its_own_name(hand, rig):
    """Client credentials: each sibling asks for its own token."""
    client = rig.clients["basic"]
    grant = ClientCredentials(issuer=rig.issuer, client_id=client.id, client_secret=client.secret, scope="read")
    with TokenAuth(grant, verify=rig.trust) as auth:
        for url in (rig.orders, rig.invoices):
            assert _client(hand, rig, url, auth.using(resource=url, scope="write")).get("/x").status_code == 200
        assert [one["params"]["scope"] for one in rig.log()] == ["write", "write"]


def test_what_the_server_does_not_allow(hand, rig, session):
    """A resource that the server does not know is an error that says so; the session's own token goes on.

    Its refresh token does not: oidc-provider retires it before it looks at the resource.
    """
    (error,) = _client(hand, rig, rig.orders, session.using(resource="https://nowhere.example")).together(
        1, "GET", "/x"
    )
    assert isinstance(error, TokenRequestError)
    assert error.error == "invalid_target"
    assert _client(hand, rig, rig.api, session).get("/x").status_code == 200
