"""Clients that prove themselves by assertion and by certificate, against a server that looks closely."""

from __future__ import annotations

import asyncio
import shutil

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from integration import byhand

from httpx_tokenflow import (
    ClientCredentials,
    ClientSecretJWT,
    ConfigurationError,
    FileSecret,
    PrivateKeyJWT,
    RefreshToken,
    RenewalPolicy,
    TLSClientAuth,
    Token,
    TokenAuth,
    TokenRequestError,
)

ALGS = ["ES256", "RS256", "EdDSA"]


def _auth(rig, name, method, *, by_issuer=True, trust=None, **options):
    client = rig.clients[name]
    place = {"issuer": rig.issuer} if by_issuer else {"token_endpoint": rig.endpoint()}
    grant = ClientCredentials(**place, client_id=client.id, client_auth=method, scope="read", **options)
    return TokenAuth(grant, verify=trust or rig.trust, policy=RenewalPolicy(attempts=2))


def _client(hand, rig, auth, **options):
    return hand.client(**{"base_url": rig.api, "auth": auth, "verify": rig.trust} | options)


def _prove(hand, rig, auth, name):
    """Three tokens, each for a request to the API; each by a token request of its own."""
    client = _client(hand, rig, auth)
    for _ in range(3):
        seen = client.get("/x").json()["token"]
        assert (seen["client_id"], seen["scope"]) == (rig.clients[name].id, "read")
        rig.expire()
    assert [(entry["status"], entry["scheme"], entry["client_id"]) for entry in rig.log()] == [(200, None, name)] * 3


# client_secret_jwt


@pytest.mark.parametrize("by_issuer", [True, False], ids=["issuer", "endpoint"])
def test_a_secret_signs(hand, rig, by_issuer):
    """`client_secret_jwt`: a new assertion each time, for the issuer or the token endpoint; the secret is not sent."""
    secret = rig.clients["secret-jwt"].secret
    with _auth(rig, "secret-jwt", ClientSecretJWT(), by_issuer=by_issuer, client_secret=secret) as auth:
        _prove(hand, rig, auth, "secret-jwt")
    assert secret not in str(rig.log())
    audiences = {claims["aud"] for claims in _assertions(rig)}
    assert audiences == {rig.issuer if by_issuer else rig.endpoint()}
    assert len({claims["jti"] for claims in _assertions(rig)}) == 3


def _assertions(rig, name="client_assertion"):
    return [jwt.decode(one["params"][name], options={"verify_signature": False}) for one in rig.log()]


def test_the_longer_hashes_want_longer_secrets(rig):
    """HS512 with a secret of less than 64 bytes is an error before anything is sent."""
    secret = rig.clients["secret-jwt"].secret
    with (
        _auth(rig, "secret-jwt", ClientSecretJWT("HS512"), client_secret=secret) as auth,
        pytest.raises(ConfigurationError, match="too short for HS512"),
    ):
        auth.token()
    assert rig.counters()["token_requests"] == 0


def test_another_secret_does_not_sign(rig):
    """The server checks the MAC: what proves the client is the secret."""
    secret = rig.clients["secret-jwt"].secret[::-1]
    with (
        _auth(rig, "secret-jwt", ClientSecretJWT(), client_secret=secret) as auth,
        pytest.raises(TokenRequestError) as refused,
    ):
        auth.token()
    assert refused.value.error == "invalid_client"


# private_key_jwt


@pytest.mark.parametrize("form", ["pem", "jwk", "file", "callable"])
@pytest.mark.parametrize("alg", ALGS)
def test_a_key_signs(hand, rig, alg, form, tmp_path):
    """`private_key_jwt` with each type of key: as PEM, as a JWK, in a file, and elsewhere, behind a callable."""
    with _auth(rig, "key-jwt", _method(hand, rig.keys[alg], form, tmp_path / "key.pem")) as auth:
        _prove(hand, rig, auth, "key-jwt")
    assert len({claims["jti"] for claims in _assertions(rig)}) == 3


def _method(hand, key, form, path):
    if form == "file":
        path.write_text(key.pem)
        return PrivateKeyJWT(FileSecret(path), kid=key.kid)
    if form == "pem":
        return PrivateKeyJWT(key.pem, kid=key.kid)
    if form == "jwk":
        return PrivateKeyJWT(key.jwk)
    algorithm = jwt.get_algorithm_by_name(key.alg)

    def sign(data):
        if key.alg == "ES256":  # in DER, as services have it
            return key.private.sign(data, ec.ECDSA(hashes.SHA256()))
        return algorithm.sign(data, key.private)

    async def asign(data):
        await asyncio.sleep(0)
        return sign(data)

    return PrivateKeyJWT(asign if hand.is_async else sign, alg=key.alg, kid=key.kid)


@pytest.mark.parametrize("audience", ["issuer", "token_endpoint", "explicit", "wrong"])
def test_the_audience_of_an_assertion(rig, audience):
    """Issuer and token endpoint are both taken; somebody else's name is not."""
    named = {"explicit": rig.issuer, "wrong": "https://other.example.com"}.get(audience, audience)
    with _auth(rig, "key-jwt", PrivateKeyJWT(rig.keys["ES256"].jwk, audience=named)) as auth:
        if audience == "wrong":
            with pytest.raises(TokenRequestError) as refused:
                auth.token()
            assert refused.value.error == "invalid_client"
        else:
            assert auth.token().access_token
    expected = {"token_endpoint": rig.endpoint(), "wrong": named}.get(audience, rig.issuer)
    assert _assertions(rig)[0]["aud"] == expected


def test_a_key_that_the_server_does_not_know(rig):
    """Another key under a known name is refused: the signature proves the client."""
    method = PrivateKeyJWT(rig.service.jwk, kid=rig.keys["ES256"].kid)
    with _auth(rig, "key-jwt", method) as auth, pytest.raises(TokenRequestError) as refused:
        auth.token()
    assert refused.value.error == "invalid_client"


def test_an_answer_that_was_lost(hand, rig):
    """The server has used that assertion up; the next attempt has another, and is served."""
    with _auth(rig, "key-jwt", PrivateKeyJWT(rig.keys["ES256"].jwk)) as auth:
        rig.lose_next()
        assert _client(hand, rig, auth).get("/x").status_code == 200
    assert rig.counters()["token_requests"] == 2
    assert len({claims["jti"] for claims in _assertions(rig)}) == 2


def test_a_session_renewed_by_a_key(hand, rig, http, alice):
    """The client's login was somebody else's business; a rotated refresh token is presented with an assertion."""
    client, key = rig.clients["key-jwt"], rig.keys["ES256"]
    form = _login_with_a_key(http, rig, alice, client, key)
    first = Token(form["access_token"], refresh_token=form["refresh_token"])
    grant = RefreshToken(issuer=rig.issuer, client_id=client.id, client_auth=PrivateKeyJWT(key.jwk), subject="alice")
    rig.expire()
    with TokenAuth(grant, token=first, verify=rig.trust) as auth:
        seen = _client(hand, rig, auth).get("/x").json()["token"]
    assert seen["sub"] == "alice"


def _login_with_a_key(http, rig, person, client, key):
    url, verifier, redirect = byhand.authorization_url(rig, "key-jwt")
    code = byhand.query(person.log_in(url))["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect,
        "code_verifier": verifier,
        "client_assertion_type": byhand.ASSERTION_TYPE,
        "client_assertion": key.sign(byhand.assertion_claims(client, rig.issuer)),
    }
    return http.post(rig.endpoint(), data=form).raise_for_status().json()


# tls_client_auth


@pytest.mark.parametrize("name", ["tls", "tls-self-signed"])
def test_a_certificate_proves_the_client(hand, rig, name):
    """RFC 8705: at the alias for mutual TLS; the token is good with the same certificate, and with no other."""
    own = (rig.client_cert, rig.client_key) if name == "tls" else (rig.self_signed_cert, rig.self_signed_key)
    with _auth(rig, name, TLSClientAuth(*own), trust=rig.tls()) as auth:
        client = _client(hand, rig, auth, base_url=rig.mtls_api, verify=rig.tls(*own))
        for _ in range(3):
            seen = client.get("/x").json()["token"]
            assert (seen["client_id"], seen["x5t"]) == (name, TLSClientAuth(*own).proof)
            rig.expire()
        assert rig.counters()["token_requests"] == 3

        bare = _client(hand, rig, auth, base_url=rig.mtls_api)
        assert bare.get("/x").status_code == 401
    assert rig.log()[0]["params"]["client_id"] == name


def test_a_certificate_is_asked_for_elsewhere_only(hand, rig):
    """RFC 8705 §5: a token endpoint that is named is taken as it is; this one, unlike its alias, sees none."""
    method = TLSClientAuth(rig.client_cert, rig.client_key)
    with (
        _auth(rig, "tls", method, by_issuer=False, trust=rig.tls()) as auth,
        pytest.raises(TokenRequestError) as refused,
    ):
        hand.call(hand.either(auth, "token"))
    assert refused.value.error == "invalid_client"


def test_somebody_elses_certificate(rig):
    """Vouched for by the same authority, and another's: refused."""
    method = TLSClientAuth(rig.other_cert, rig.other_key)
    with _auth(rig, "tls", method, trust=rig.tls()) as auth, pytest.raises(TokenRequestError) as refused:
        auth.token()
    assert refused.value.error == "invalid_client"


def test_a_certificate_that_is_renewed(hand, rig, tmp_path):
    """The files change while the program runs: the next token request shows the new one, and needs nothing else."""
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    shutil.copy(rig.other_cert, cert)
    shutil.copy(rig.other_key, key)
    with _auth(rig, "tls", TLSClientAuth(cert, key), trust=rig.tls()) as auth:
        with pytest.raises(TokenRequestError):
            hand.call(hand.either(auth, "warm"))
        shutil.copy(rig.client_cert, cert)
        shutil.copy(rig.client_key, key)
        hand.call(hand.either(auth, "warm"))
        client = _client(hand, rig, auth, base_url=rig.mtls_api, verify=rig.mutual_trust)
        expected = TLSClientAuth(rig.client_cert, rig.client_key).proof
        assert client.get("/x").json()["token"]["x5t"] == expected
