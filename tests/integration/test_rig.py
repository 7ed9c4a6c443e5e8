"""The rig itself, by hand and with plain httpx: what the other modules rest on."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import jwt
import pytest
from integration import byhand, clients
from integration.byhand import bearer, proof
from integration.clients import ACCESS_TOKEN, JWT_BEARER, TOKEN_EXCHANGE
from integration.rig import SERVER, node


@pytest.fixture(scope="module")
def key():
    """A key for DPoP."""
    return clients.make_key("ES256", "proof")


def _scopes(token):
    return set(token.get("scope", "").split())


# Where things are


def test_both_metadata_documents_say_the_same(rig, http):
    """RFC 8414 and OpenID agree, and name the endpoints that `rig.endpoint` names."""
    found = http.get(f"{rig.issuer}/.well-known/openid-configuration").json()
    assert found == http.get(f"{rig.issuer}/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == rig.issuer
    for name in ("token", "revocation", "introspection", "device_authorization", "pushed_authorization_request"):
        assert found[f"{name}_endpoint"] == rig.endpoint(name)
        assert found["mtls_endpoint_aliases"][f"{name}_endpoint"] == rig.endpoint(name).replace(rig.issuer, rig.mtls)
    assert found["authorization_endpoint"] == rig.endpoint("authorization")
    assert found["authorization_response_iss_parameter_supported"] is True
    assert len(found["token_endpoint_auth_methods_supported"]) == 7


def test_over_plain_http_the_metadata_are_those_of_another_issuer(rig, http):
    """`rig.plain` is the same server; who takes that address for the issuer must refuse (RFC 8414 §3.3)."""
    found = http.get(f"{rig.plain}/.well-known/openid-configuration").json()
    assert found["issuer"] == rig.issuer != rig.plain


def test_the_metadata_can_be_made_to_lie(rig, http):
    """`metadata` and `resource_metadata`: another issuer, an endpoint elsewhere; `reset` brings back the truth."""
    urls = [f"{rig.issuer}/.well-known/oauth-authorization-server", f"{rig.api}/.well-known/oauth-protected-resource"]
    rig.metadata(issuer="https://other.example")
    rig.resource_metadata(resource="https://other.example")
    found = [http.get(url).json() for url in urls]
    assert found[0]["issuer"] == found[1]["resource"] == "https://other.example"
    rig.reset()
    found = [http.get(url).json() for url in urls]
    assert [found[0]["issuer"], found[1]["resource"]] == [rig.issuer, rig.api]


def test_the_certificate_is_not_publicly_trusted(rig):
    """Without `verify=` there is no connection."""
    with httpx.Client() as stranger, pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        stranger.get(rig.issuer)


def test_no_address_of_a_registry_is_in_the_lock_file():
    """The lock file goes with any registry."""
    text = (SERVER / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert all(one["integrity"] for name, one in json.loads(text)["packages"].items() if name)


def test_the_servers_end_when_nobody_listens(rig):
    """Without a standard input the program ends by itself: it never outlives the tests."""
    command = [node(), SERVER / "server.mjs", rig.settings]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


# Client authentication


@pytest.mark.parametrize("name", ["basic", "post", "special", "special-post"])
def test_a_secret_proves_the_client(rig, http, name):
    """`client_secret_basic` and `client_secret_post`, with any characters that may be in an id and a secret."""
    token = byhand.client_credentials(http, rig, name, scope="read")
    answer = http.get(f"{rig.api}/x", headers=bearer(token["access_token"])).json()
    assert answer["token"]["client_id"] == rig.clients[name].id
    assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 3600, "read")


def test_a_wrong_secret_is_refused(rig, http):
    """401, and a challenge when Basic was used (RFC 6749 §5.2)."""
    refused = http.post(rig.endpoint(), auth=("basic", "wrong"), data={"grant_type": "client_credentials"})
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic ")


def _assert(http, rig, name, assertion):
    form = {"client_assertion_type": byhand.ASSERTION_TYPE, "client_assertion": assertion}
    return http.post(rig.endpoint(), data=form | {"grant_type": "client_credentials"})


def test_a_secret_signs_an_assertion_that_serves_once(rig, http):
    """`client_secret_jwt`; the same `jti` again is refused."""
    client = rig.clients["secret-jwt"]
    assertion = jwt.encode(byhand.assertion_claims(client, rig.issuer), client.secret, "HS256")
    assert _assert(http, rig, "secret-jwt", assertion).status_code == 200
    assert _assert(http, rig, "secret-jwt", assertion).json()["error"] == "invalid_client"
    assert rig.log()[-1]["detail"] == "client assertion tokens must only be used once"


@pytest.mark.parametrize("alg", ["ES256", "RS256", "EdDSA"])
@pytest.mark.parametrize("audience", ["issuer", "endpoint"])
def test_a_key_signs_an_assertion(rig, http, alg, audience):
    """`private_key_jwt`, for the issuer or the token endpoint as audience."""
    claims = byhand.assertion_claims(rig.clients["key-jwt"], rig.issuer if audience == "issuer" else rig.endpoint())
    assert _assert(http, rig, "key-jwt", rig.keys[alg].sign(claims)).status_code == 200


@pytest.mark.parametrize("wrong", [{"aud": "https://other.example"}, {"exp": 1}, {"sub": "basic"}])
def test_an_assertion_that_is_wrong_is_refused(rig, http, wrong):
    """Audience, expiry and subject are looked at."""
    claims = byhand.assertion_claims(rig.clients["key-jwt"], rig.issuer, **wrong)
    assert _assert(http, rig, "key-jwt", rig.keys["ES256"].sign(claims)).status_code == 401


@pytest.mark.parametrize("name", ["tls", "tls-self-signed"])
def test_a_certificate_proves_the_client_and_binds_the_token(rig, http, name):
    """`tls_client_auth` and its sister: the token is good with the certificate only (RFC 8705 §3)."""
    own = (rig.client_cert, rig.client_key) if name == "tls" else (rig.self_signed_cert, rig.self_signed_key)
    form = {"grant_type": "client_credentials", "client_id": name}
    assert http.post(f"{rig.mtls}/token", data=form).status_code == 401
    with httpx.Client(verify=rig.tls(rig.other_cert, rig.other_key)) as other:
        assert other.post(f"{rig.mtls}/token", data=form).status_code == 401
    with httpx.Client(verify=rig.tls(*own)) as mutual:
        token = mutual.post(f"{rig.mtls}/token", data=form).json()["access_token"]
        assert mutual.get(f"{rig.mtls_api}/x", headers=bearer(token)).status_code == 200
    refused = http.get(f"{rig.mtls_api}/x", headers=bearer(token))
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")
    assert http.get(f"{rig.api}/x", headers=bearer(token)).status_code == 401


def test_a_token_can_be_bound_to_a_certificate_that_proves_nothing_else(rig, http):
    """RFC 8705 §3 without §2: the client `bound` has a secret, and tokens bound to the certificate."""
    proven = byhand.prove(rig, rig.clients["bound"])
    with httpx.Client(verify=rig.mutual_trust) as mutual:
        token = mutual.post(f"{rig.mtls}/token", data={"grant_type": "client_credentials"}, **proven).json()
        assert mutual.get(f"{rig.mtls_api}/x", headers=bearer(token["access_token"])).status_code == 200
    refused = http.post(rig.endpoint(), data={"grant_type": "client_credentials"}, **proven)
    assert refused.json()["error"] == "invalid_grant"


# Logins


@pytest.mark.parametrize("name", ["basic", "public", "web"])
def test_a_login_by_code(rig, http, alice, name):
    """Code, PKCE, state and `iss`; tokens for the API and a refresh token."""
    token = byhand.log_in(http, rig, alice, name, scope="openid read write")
    answer = http.get(f"{rig.api}/x", headers=bearer(token["access_token"])).json()
    assert answer["token"]["sub"] == "alice"
    assert _scopes(token) == {"read", "write"}
    assert token["refresh_token"]
    assert jwt.decode(token["id_token"], options={"verify_signature": False})["iss"] == rig.issuer


def test_a_code_is_worth_nothing_without_its_verifier(rig, http, alice):
    """PKCE is looked at, and required."""
    url, _, redirect = byhand.authorization_url(rig, "public")
    code = byhand.query(alice.log_in(url))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": "x" * 43}
    assert byhand.post(http, rig, "public", **form).json()["error"] == "invalid_grant"
    refused = alice.log_in(byhand.authorization_url(rig, "public", code_challenge=[], code_challenge_method=[])[0])
    assert byhand.query(refused)["error"] == "invalid_request"


def test_a_person_can_refuse(rig, alice):
    """The callback says so, with state and issuer."""
    url, _, _ = byhand.authorization_url(rig, "public", state="mine")
    callback = byhand.query(alice.refuse(url))
    assert (callback["error"], callback["state"], callback["iss"]) == ("access_denied", "mine", rig.issuer)


class _Callback(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"You can close this page.")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("way", "what"), [("browse", "code"), ("browse_and_refuse", "error")])
def test_a_person_goes_where_the_redirect_leads(rig, alice, way, what):
    """`browse` stands in for `webbrowser.open`: it returns at once, and visits the loopback redirect in the end."""
    with HTTPServer(("127.0.0.1", 0), _Callback) as server:
        server.seen = []
        server.timeout = 20.0
        redirect = f"http://127.0.0.1:{server.server_port}/callback"
        url, _, _ = byhand.authorization_url(rig, "public", redirect_uri=redirect)
        assert getattr(alice, way)(url) is True
        server.handle_request()
    assert what in byhand.query(server.seen[0])


def test_a_pushed_authorization_request(rig, http, alice):
    """RFC 9126: the client `par` is not served without."""
    client = rig.clients["par"]
    refused = byhand.query(alice.log_in(byhand.authorization_url(rig, "par")[0]))
    assert refused["error"] == "invalid_request"
    redirect = client.redirect_uri.replace("127.0.0.1", "127.0.0.1:54321")
    verifier, parameters = byhand.authorization_parameters(client.id, redirect)
    pushed = byhand.post(http, rig, "par", endpoint="pushed_authorization_request", **parameters)
    assert pushed.status_code == 201
    url = f"{rig.endpoint('authorization')}?client_id=par&request_uri={pushed.json()['request_uri']}"
    code = byhand.query(alice.log_in(url))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
    assert byhand.post(http, rig, "par", **form).status_code == 200


def test_a_device_waits_for_its_person(rig, http, alice):
    """RFC 8628: pending until the person confirms, then tokens, once."""
    begun = byhand.device(http, rig, "public")
    assert begun["interval"] == 1
    assert byhand.poll(http, rig, "public", begun["device_code"]).json()["error"] == "authorization_pending"
    alice.confirm(begun["verification_uri_complete"])
    token = byhand.poll(http, rig, "public", begun["device_code"]).json()
    assert http.get(f"{rig.api}/x", headers=bearer(token["access_token"])).json()["token"]["sub"] == "alice"
    assert token["refresh_token"]
    assert byhand.poll(http, rig, "public", begun["device_code"]).json()["error"] == "invalid_grant"


def test_a_device_can_be_denied(rig, http, alice):
    """The person aborts."""
    begun = byhand.device(http, rig, "public")
    alice.deny(begun["verification_uri_complete"])
    assert byhand.poll(http, rig, "public", begun["device_code"]).json()["error"] == "access_denied"


def test_a_device_can_be_told_to_slow_down(rig, http, alice):
    """oidc-provider does not limit polls itself: the rig answers in its name when told to."""
    begun = byhand.device(http, rig, "public")
    rig.answer_next(400, {"error": "slow_down"})
    answers = [byhand.poll(http, rig, "public", begun["device_code"]).json()["error"] for _ in range(2)]
    assert answers == ["slow_down", "authorization_pending"]


# Sessions


def test_a_refresh_token_serves_once_and_its_reuse_ends_the_family(rig, http, alice):
    """Rotation, and reuse detection (RFC 9700 §4.14)."""
    first = byhand.log_in(http, rig, alice)
    second = byhand.refresh(http, rig, "basic", first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert http.get(f"{rig.api}/x", headers=bearer(second["access_token"])).status_code == 200
    assert rig.counters()["reused"] == rig.counters()["revoked_families"] == 0

    assert byhand.refresh(http, rig, "basic", first["refresh_token"]).json()["error"] == "invalid_grant"
    assert byhand.refresh(http, rig, "basic", second["refresh_token"]).json()["error"] == "invalid_grant"
    assert http.get(f"{rig.api}/x", headers=bearer(second["access_token"])).status_code == 401
    counters = rig.counters()
    assert (counters["reused"], counters["revoked_families"]) == (1, 1)
    assert counters["grants"] == {"authorization_code": {"200": 1}, "refresh_token": {"200": 1, "400": 2}}


def test_a_refresh_token_of_another_client_ends_nothing(rig, http, alice):
    """A wrong client learns nothing and breaks nothing."""
    token = byhand.log_in(http, rig, alice)
    assert byhand.refresh(http, rig, "post", token["refresh_token"]).status_code == 400
    assert byhand.refresh(http, rig, "basic", token["refresh_token"]).status_code == 200


@pytest.mark.parametrize("hint", ["refresh_token", "access_token"])
def test_revocation(rig, http, alice, hint):
    """RFC 7009: the token, and with the refresh token the session."""
    token = byhand.log_in(http, rig, alice)
    form = {"token": token[hint], "token_type_hint": hint}
    assert byhand.post(http, rig, "basic", endpoint="revocation", **form).status_code == 200
    assert http.get(f"{rig.api}/x", headers=bearer(token["access_token"])).status_code == 401
    assert byhand.refresh(http, rig, "basic", token["refresh_token"]).json()["error"] == "invalid_grant"
    assert rig.counters()["revoked_families"] == 0  # that was on purpose


def test_introspection(rig, http):
    """RFC 7662: active, and not any more once revoked."""
    token = byhand.client_credentials(http, rig, "basic", scope="read")["access_token"]
    found = byhand.post(http, rig, "post", endpoint="introspection", token=token).json()
    assert (found["active"], found["client_id"], found["scope"]) == (True, "basic", "read")
    byhand.post(http, rig, "basic", endpoint="revocation", token=token)
    assert byhand.post(http, rig, "post", endpoint="introspection", token=token).json() == {"active": False}


# Targets


def test_a_token_is_for_one_resource(rig, http):
    """RFC 8707: orders take opaque tokens of their own, invoices JWTs of their own; unknown targets are refused."""
    orders = byhand.client_credentials(http, rig, resource=rig.orders)["access_token"]
    invoices = byhand.client_credentials(http, rig, resource=rig.invoices)["access_token"]
    assert (orders.count("."), invoices.count(".")) == (0, 2)
    statuses = [
        http.get(f"{url}/1", headers=bearer(token)).status_code
        for url in (rig.orders, rig.invoices)
        for token in (orders, invoices)
    ]
    assert statuses == [200, 401, 401, 200]
    refused = byhand.post(http, rig, "basic", grant_type="client_credentials", resource="https://other.example/")
    assert refused.json()["error"] == "invalid_target"


def test_a_refresh_token_for_two_resources_is_exchanged_for_one_each(rig, http, alice):
    """RFC 8707 §2.2: tokens for a part of what was granted."""
    token = byhand.log_in(http, rig, alice, resource=[rig.orders, rig.invoices])
    for target in (rig.invoices, rig.orders):
        token = byhand.refresh(http, rig, "basic", token["refresh_token"], resource=target).json()
        assert http.get(f"{target}/1", headers=bearer(token["access_token"])).status_code == 200


def test_a_wider_scope_is_needed_for_some_things(rig, http):
    """RFC 6750 §3.1: 403, with the scope that would do."""
    narrow = byhand.client_credentials(http, rig, scope="read")["access_token"]
    refused = http.get(f"{rig.api}/step-up", headers=bearer(narrow))
    assert refused.status_code == 403
    assert 'error="insufficient_scope", scope="admin"' in refused.headers["www-authenticate"]
    wide = byhand.client_credentials(http, rig, scope="read admin")["access_token"]
    assert http.get(f"{rig.api}/step-up", headers=bearer(wide)).status_code == 200


def test_a_stronger_login_is_needed_for_some_things(rig, http, alice):
    """RFC 9470: 401, with the `acr_values` that would do, and a login with them does."""
    token = byhand.log_in(http, rig, alice)["access_token"]
    refused = http.get(f"{rig.api}/strong", headers=bearer(token))
    assert refused.status_code == 401
    assert 'error="insufficient_user_authentication", acr_values="phr"' in refused.headers["www-authenticate"]
    token = byhand.log_in(http, rig, alice, acr_values="phr", max_age="0")["access_token"]
    assert http.get(f"{rig.api}/strong", headers=bearer(token)).status_code == 200


def test_the_api_says_whom_it_trusts(rig, http):
    """RFC 9728: the challenge leads to the metadata, and these to the issuer."""
    for path in ("", "/orders"):
        challenge = http.get(f"{rig.api}{path}").headers["www-authenticate"]
        address = challenge.split('resource_metadata="')[1].split('"')[0]
        found = http.get(address).json()
        assert found["resource"] == f"{rig.api}{path}"
        assert found["authorization_servers"] == [rig.issuer]


# Grants that oidc-provider leaves to its users


def _exchange(http, rig, subject, **form):
    form = {"subject_token": subject, "subject_token_type": ACCESS_TOKEN} | form
    return byhand.post(http, rig, "basic", grant_type=TOKEN_EXCHANGE, **form)


def test_token_exchange(rig, http, alice):
    """RFC 8693: alice's token for one service becomes one for the next, in which the actor is named."""
    subject = byhand.log_in(http, rig, alice)["access_token"]
    actor = byhand.client_credentials(http, rig)["access_token"]
    answer = _exchange(
        http, rig, subject, actor_token=actor, actor_token_type=ACCESS_TOKEN, audience="invoices", scope="read"
    ).json()
    assert (answer["issued_token_type"], answer["token_type"]) == (ACCESS_TOKEN, "Bearer")
    found = http.get(f"{rig.invoices}/1", headers=bearer(answer["access_token"])).json()["token"]
    assert (found["sub"], found["act"], found["scope"]) == ("alice", {"sub": "basic"}, "read")


def test_token_exchange_refuses_what_it_should(rig, http, alice):
    """A token that is none, a scope that grows, a target that nobody knows."""
    subject = byhand.log_in(http, rig, alice)["access_token"]
    assert _exchange(http, rig, "made up").json()["error"] == "invalid_request"
    assert _exchange(http, rig, subject, scope="read admin").json()["error"] == "invalid_scope"
    assert _exchange(http, rig, subject, audience="nobody").json()["error"] == "invalid_target"
    assert byhand.post(http, rig, "public", grant_type=TOKEN_EXCHANGE).status_code == 400


def test_an_assertion_is_a_grant_once(rig, http):
    """RFC 7523 §2.1: signed by a known issuer, for this server, and not used before."""
    now = int(time.time())
    claims = {"iss": rig.service_issuer, "sub": "robot", "aud": rig.issuer, "exp": now + 60, "jti": "one"}
    form = {"grant_type": JWT_BEARER, "assertion": rig.service.sign(claims), "scope": "read"}
    token = byhand.post(http, rig, "basic", **form).json()["access_token"]
    assert http.get(f"{rig.api}/x", headers=bearer(token)).json()["token"]["sub"] == "robot"
    assert byhand.post(http, rig, "basic", **form).json()["error"] == "invalid_grant"
    for wrong in ({"iss": "https://other.example"}, {"aud": "https://other.example"}, {"exp": now - 60}):
        form["assertion"] = rig.service.sign(claims | {"jti": "two"} | wrong)
        assert byhand.post(http, rig, "basic", **form).json()["error"] == "invalid_grant"
    form["assertion"] = rig.keys["ES256"].sign(claims | {"jti": "three"})
    assert byhand.post(http, rig, "basic", **form).json()["error"] == "invalid_grant"


# DPoP


def _dpop_token(http, rig, key, name="dpop", nonce=None):
    headers = proof(key, "POST", rig.endpoint(), nonce=nonce)
    return byhand.post(http, rig, name, grant_type="client_credentials", headers=headers)


def _dpop_get(http, url, key, token, **claims):
    headers = {"Authorization": f"DPoP {token}"} | proof(key, "GET", url, token=token, **claims)
    return http.get(url, headers=headers)


def test_dpop_wants_a_nonce_at_the_authorization_server(rig, http, key):
    """RFC 9449 §8: 400 `use_dpop_nonce`, and again when the nonce has changed."""
    refused = _dpop_token(http, rig, key)
    assert (refused.status_code, refused.json()["error"]) == (400, "use_dpop_nonce")
    nonce = refused.headers["dpop-nonce"]
    assert _dpop_token(http, rig, key, nonce=nonce).json()["token_type"] == "DPoP"
    rig.rotate_issuer_nonce()
    refused = _dpop_token(http, rig, key, nonce=nonce)
    assert refused.json()["error"] == "use_dpop_nonce"
    assert refused.headers["dpop-nonce"] != nonce


def test_dpop_without_a_nonce_where_none_is_wanted_learns_one_on_success(rig, http, key):
    """RFC 9449 §8.2: the client `dpop-free` gets its nonce on a 200."""
    answer = _dpop_token(http, rig, key, "dpop-free")
    assert answer.status_code == 200
    assert answer.headers["dpop-nonce"]


def test_a_bound_client_gets_nothing_without_a_proof(rig, http):
    """`dpop_bound_access_tokens`."""
    assert byhand.post(http, rig, "dpop", grant_type="client_credentials").json()["error"] == "invalid_grant"


def test_the_api_checks_proofs_strictly(rig, http, key):
    """RFC 9449 §4.3, §7 and §9: scheme, method, address, token, age, key, nonce, and each proof once."""
    nonce = _dpop_token(http, rig, key).headers["dpop-nonce"]
    token = _dpop_token(http, rig, key, nonce=nonce).json()["access_token"]
    url = f"{rig.api}/x"
    refused = _dpop_get(http, url, key, token)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith('DPoP error="use_dpop_nonce"')
    nonce = refused.headers["dpop-nonce"]
    assert _dpop_get(http, url, key, token, nonce=nonce).status_code == 200

    wrong = {
        "htm": {"htm": "POST"},
        "htu": {"htu": f"{rig.api}/y"},
        "ath": {"ath": "x"},
        "iat": {"iat": int(time.time()) - 600},
        "jti": {"jti": "short"},
    }
    for name, claims in wrong.items():
        refused = _dpop_get(http, url, key, token, nonce=nonce, **claims)
        assert refused.json() == {"error": "invalid_dpop_proof", "error_description": f"wrong: {name}"}
    other = clients.make_key("ES256", "other")
    assert _dpop_get(http, url, other, token, nonce=nonce).json()["error_description"] == "wrong: key"
    once = [_dpop_get(http, url, key, token, nonce=nonce, jti="the same proof again").status_code for _ in range(2)]
    assert once == [200, 401]
    assert http.get(url, headers=bearer(token)).json()["error"] == "invalid_token"
    assert _dpop_get(http, f"{url}?a=b", key, token, nonce=nonce, htu=url).status_code == 200

    rig.rotate_nonce()
    assert _dpop_get(http, url, key, token, nonce=nonce).json()["error"] == "use_dpop_nonce"


def test_the_nonce_of_the_api_changes_all_the_time(rig, http, key):
    """A client that follows the newest nonce is never refused (RFC 9449 §8.2)."""
    token = _dpop_token(http, rig, key, "dpop-free").json()["access_token"]
    url = f"{rig.api}/x"
    nonces = [_dpop_get(http, url, key, token).headers["dpop-nonce"]]
    for _ in range(50):
        answer = _dpop_get(http, url, key, token, nonce=nonces[-1])
        assert answer.status_code == 200
        nonces.append(answer.headers["dpop-nonce"])
    assert len(set(nonces)) >= 3


def test_a_dpop_login_by_code_binds_the_refresh_token(rig, http, alice, key):
    """A public client's refresh token is good with its key only (RFC 9449 §5)."""
    nonce = _dpop_token(http, rig, key).headers["dpop-nonce"]

    def headers(which):
        return proof(which, "POST", rig.endpoint(), nonce=nonce)

    token = byhand.log_in(http, rig, alice, "dpop-public", headers=headers(key))
    other = clients.make_key("ES256", "other")
    refused = byhand.refresh(http, rig, "dpop-public", token["refresh_token"], headers=headers(other))
    assert refused.json()["error"] == "invalid_grant"
    assert byhand.refresh(http, rig, "dpop-public", token["refresh_token"], headers=headers(key)).status_code == 200


# The control channel


def test_expired_on_demand(rig, http):
    """`expire` ends all tokens issued so far, and no later one."""
    old = byhand.client_credentials(http, rig)["access_token"]
    jwt_ = byhand.client_credentials(http, rig, resource=rig.invoices)["access_token"]
    rig.expire()
    new = byhand.client_credentials(http, rig)["access_token"]
    statuses = [http.get(rig.invoices, headers=bearer(token)).status_code for token in (jwt_,)]
    statuses += [http.get(rig.api, headers=bearer(token)).status_code for token in (old, new)]
    assert statuses == [401, 401, 200]
    assert rig.counters()["api"] == {"401": 2, "200": 1}


def test_a_crowd_is_looked_at_together(rig, http):
    """`gather`: who comes first waits for the last."""
    token = byhand.client_credentials(http, rig)["access_token"]
    rig.gather(2)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(http.get, rig.api, headers=bearer(token))
        time.sleep(0.1)
        assert not first.done()
        assert http.get(rig.api, headers=bearer(token)).status_code == 200
        assert first.result(20).status_code == 200


def test_a_claims_challenge(rig, http):
    """Claims in base64, to be handed to whoever can log in again."""
    refused = http.get(f"{rig.api}/claims", headers=bearer(byhand.client_credentials(http, rig)["access_token"]))
    assert (refused.status_code, refused.json()["error"]) == (401, "insufficient_claims")
    assert "acrs" in json.loads(base64.b64decode(refused.json()["claims"]))["access_token"]


def test_short_tokens_expire_by_themselves(rig, http):
    """The client `short` has tokens of 2 s; `lifetime` gives everybody such ones."""
    short = byhand.client_credentials(http, rig, "short")
    rig.lifetime(1)
    shorter = byhand.client_credentials(http, rig)
    rig.lifetime(None)
    assert [one["expires_in"] for one in (short, shorter, byhand.client_credentials(http, rig))] == [2, 1, 3600]
    statuses = []
    for wait in (0.0, 2.1):
        time.sleep(wait)
        statuses += [http.get(rig.api, headers=bearer(short["access_token"])).status_code]
    assert statuses == [200, 401]


@pytest.mark.parametrize("processed", [True, False])
def test_an_answer_can_be_lost(rig, http, alice, processed):
    """`lose_next`: the connection ends; what was asked for has happened, or has not."""
    first = byhand.log_in(http, rig, alice)
    rig.lose_next(processed=processed)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        byhand.refresh(http, rig, "basic", first["refresh_token"])
    again = byhand.refresh(http, rig, "basic", first["refresh_token"])
    assert again.status_code == (400 if processed else 200)
    counters = rig.counters()
    assert (counters["lost"], counters["reused"]) == (1, 1 if processed else 0)


def test_an_answer_can_be_ordered(rig, http):
    """`answer_next`: 503, with Retry-After; and `delay` makes the next ones slow."""
    rig.answer_next(503, {"error": "temporarily_unavailable"}, headers={"Retry-After": "1"})
    refused = byhand.post(http, rig, "basic", grant_type="client_credentials")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    rig.delay(0.2)
    before = time.monotonic()
    byhand.client_credentials(http, rig)
    assert time.monotonic() - before >= 0.2
    assert rig.counters()["requests"] == {"/token": 2}
