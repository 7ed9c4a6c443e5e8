"""A program in its own name: client credentials, with each client and with what an id and a secret may hold."""

from __future__ import annotations

import pytest

from httpx_tokenflow import (
    ClientCredentials,
    ClientSecretBasic,
    ClientSecretPost,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenRequestError,
)


def _auth(rig, name, **options):
    client = rig.clients[name]
    proof = ClientSecretPost() if client.method == "client_secret_post" else None
    arguments = {"client_id": client.id, "client_secret": client.secret, "client_auth": proof} | options
    return TokenAuth(ClientCredentials(rig.endpoint(), **arguments), verify=rig.trust)


def _client(hand, rig, auth):
    return hand.client(base_url=rig.api, auth=auth, verify=rig.trust)


@pytest.mark.parametrize("name", ["basic", "post", "special", "special-post"])
def test_a_token_for_the_client_itself(hand, rig, name):
    """By Basic and in the body, with every character that the server allows in an id and a secret."""
    with _auth(rig, name, scope=["read", "write"]) as auth:
        seen = _client(hand, rig, auth).get("/x").json()["token"]
        assert (seen["client_id"], seen["scope"]) == (rig.clients[name].id, "read write")
        assert rig.log()[0]["scheme"] == (None if name.endswith("post") else "Basic")
        assert rig.counters()["token_requests"] == 1


def test_raw_basic_is_refused_where_it_differs(hand, rig):
    """This server reads Basic as the RFC has it: raw, a secret with a percent sign is another one."""
    with _auth(rig, "special", client_auth=ClientSecretBasic(raw=True)) as auth:
        with pytest.raises(TokenRequestError) as refused:
            _client(hand, rig, auth).get("/x")
        assert refused.value.error in {"invalid_client", "invalid_request"}


def test_the_second_secret_when_the_first_has_ended(hand, rig):
    """A sequence of secrets: the next one is tried once, and kept."""
    with _auth(rig, "basic", client_secret=["of yesterday", rig.clients["basic"].secret]) as auth:
        client = _client(hand, rig, auth)
        assert client.get("/x").status_code == 200
        rig.expire()
        assert client.get("/x").status_code == 200
        assert [entry["status"] for entry in rig.log()] == [401, 200, 200]


def test_a_wrong_secret_is_ours_to_mend(hand, rig):
    """The token endpoint's 401 is an error of its own, and is not taken for the API's."""
    with _auth(rig, "basic", client_secret="wrong") as auth:
        with pytest.raises(TokenRequestError) as refused:
            _client(hand, rig, auth).get("/x")
        assert (refused.value.status, refused.value.error) == (401, "invalid_client")
        counters = rig.counters()
        assert (counters["token_requests"], counters["api_requests"]) == (1, 0)


@pytest.mark.sampled(0)
def test_one_token_for_a_crowd_and_one_for_each_expiry(hand, rig):
    """Twenty at once, three times, each time refused: one token request each time."""
    with _auth(rig, "basic") as auth:
        client = _client(hand, rig, auth)
        auth.warm()
        for _ in range(3):
            rig.expire()
            rig.gather(20)
            assert {answer.status_code for answer in client.together(20, "GET", "/x")} == {200}
        assert rig.counters()["grants"] == {"client_credentials": {"200": 4}}
        assert rig.counters()["at_once"] == 1


def test_a_lost_answer_costs_nothing(hand, rig):
    """Client credentials spend nothing: the request is sent again at once, and nobody notices."""
    rig.lose_next()
    with _auth(rig, "basic") as auth:
        assert _client(hand, rig, auth).get("/x").status_code == 200
        assert rig.counters()["grants"] == {"client_credentials": {"200": 2}}


@pytest.mark.parametrize("target", ["orders", "invoices"])
def test_a_token_for_one_resource(hand, rig, target):
    """RFC 8707: opaque or a JWT, the API takes it where it belongs and nowhere else."""
    url = getattr(rig, target)
    with _auth(rig, "basic", resource=url) as auth:
        client = _client(hand, rig, auth)
        assert client.get(f"{url}/1").json()["token"]["aud"] == url
        other = rig.invoices if target == "orders" else rig.orders
        assert client.get(f"{other}/1").status_code == 401
        assert rig.counters()["token_requests"] == 2  # the refused one was worth one new token, and no more


def test_a_resource_that_nobody_knows(hand, rig):
    """`invalid_target` is the server's word, and ours to mend."""
    with _auth(rig, "basic", resource="https://other.example/") as auth:
        with pytest.raises(TokenRequestError) as refused:
            _client(hand, rig, auth).get("/x")
        assert refused.value.error == "invalid_target"


def test_an_api_that_never_agrees(hand, rig):
    """A 401 in spite of a new token is given back."""
    with _auth(rig, "basic") as auth:
        assert _client(hand, rig, auth).get("/never").status_code == 401
        assert rig.counters()["token_requests"] == 2


def test_a_certificate_that_nobody_trusts(hand, rig):
    """Without `verify=` the token endpoint's certificate is refused, and nothing is sent."""
    client = rig.clients["basic"]
    grant = ClientCredentials(rig.endpoint(), client_id=client.id, client_secret=client.secret)
    with TokenAuth(grant) as auth:
        with pytest.raises(TokenEndpointUnavailable, match="TLS"):
            _client(hand, rig, auth).get("/x")
        assert rig.counters()["token_requests"] == 0
