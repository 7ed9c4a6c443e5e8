"""What the sandbox is to a service: JWTs and their keys, metadata, exchanges, introspection, revocation."""

import httpx
import jwt
import pytest

from httpx_tokenflow import ClientCredentials, JWTBearer, RefreshToken, Token, TokenAuth, TokenExchange
from httpx_tokenflow.testing import DropAfter, Sandbox, Status, serve

SECRET = ("client", "secret")
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"


class Time:
    now = 1_000_000_000.25

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def sandbox(time):
    return Sandbox(clock=time, clients={"client": "secret", "other": "else", "app": ""})


@pytest.fixture(params=["memory", "loopback"])
def client(request, sandbox):
    if request.param == "memory":
        with httpx.Client(transport=sandbox.transport(), base_url=sandbox.url) as client:
            yield client
    else:
        with serve(sandbox) as url, httpx.Client(base_url=url) as client:
            yield client


@pytest.fixture
def memory(sandbox):
    with httpx.Client(transport=sandbox.transport(), base_url=sandbox.url) as client:
        yield client


def ask(client, token):
    return client.get("/api/x", headers={"Authorization": f"Bearer {token}"})


def exchange(client, token, *, auth=SECRET, **more):
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **more}
    return client.post("/token", data=form, auth=auth)


def on_behalf_of(client, token, **more):
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "requested_token_use": "on_behalf_of",
        "assertion": token,
        **more,
    }
    return client.post("/token", data=form, auth=SECRET)


def introspect(client, token, *, auth=SECRET):
    return client.post("/introspect", data={"token": token}, auth=auth)


def verified(client, token, **options):
    """What a resource server reads out of a JWT, with the keys that the server's metadata names."""
    facts = client.get("/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(client.get(httpx.URL(facts["jwks_uri"]).path).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    options = {"algorithms": ["RS256"], "issuer": facts["issuer"], "audience": "api", **options}
    return jwt.decode(token, key, options={"verify_exp": False, "verify_iat": False}, **options)


# JWTs and their keys


def test_a_minted_token_is_what_rfc_9068_says(sandbox, client):
    """A minted JWT has the type and the claims of RFC 9068 §2, and the keys that the metadata names verify it."""
    token = sandbox.mint("ann", audience="orders", scope="read write", client_id="spa", lifetime=60, roles=["x"])
    claims = verified(client, token, audience="orders")
    assert jwt.get_unverified_header(token).keys() == {"alg", "typ", "kid"}
    assert (jwt.get_unverified_header(token)["alg"], jwt.get_unverified_header(token)["typ"]) == ("RS256", "at+jwt")
    assert len(claims.pop("jti")) > 20
    assert claims == {
        "iss": sandbox.issuer,
        "aud": "orders",
        "sub": "ann",
        "client_id": "spa",
        "iat": 1_000_000_000,
        "exp": 1_000_000_061,
        "scope": "read write",
        "roles": ["x"],
    }
    assert (sandbox.jwks_requests, sandbox.metadata_requests, sandbox.tokens_issued) == (1, 1, 1)


def test_a_minted_token_is_good_at_the_api(sandbox, client, time):
    """The API takes a minted JWT until its `exp`, and not when one letter of it is another."""
    token = sandbox.mint("ann", client_id="spa", lifetime=10)
    assert ask(client, token).json()["subject"] == "ann"
    head, _, signature = token.rpartition(".")
    assert ask(client, f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}").status_code == 401
    time.now += 10.75
    assert "expired" in ask(client, token).headers["www-authenticate"]


def test_claims_can_be_others(sandbox, memory):
    """A claim given to `mint` stands in place of ours, None leaves it out, and another `iss` is another server's."""
    claims = verified(memory, sandbox.mint(audience=("api", "b"), jti=None, nbf=5, sub="bob"))
    assert (claims["aud"], claims["nbf"], claims["sub"], "jti" in claims) == (["api", "b"], 5, "bob", False)
    assert ask(memory, sandbox.mint(sub="bob")).json()["subject"] == "bob"
    assert ask(memory, sandbox.mint(exp=5)).status_code == 401
    assert ask(memory, sandbox.mint(lifetime=-5)).status_code == 401
    assert ask(memory, sandbox.mint(iss="https://elsewhere")).status_code == 401


def test_keys_rotate(sandbox, memory):
    """After a rotation the new key signs; the JWKS keeps the old one, or drops it and the JWTs so far are dead."""
    opaque, first = sandbox.login()["access_token"], sandbox.mint()
    sandbox.rotate_keys()
    second = sandbox.mint()
    assert len(memory.get("/jwks").json()["keys"]) == 2
    assert jwt.get_unverified_header(first)["kid"] != jwt.get_unverified_header(second)["kid"]
    assert verified(memory, first)["sub"] == verified(memory, second)["sub"] == "user"
    sandbox.rotate_keys(keep_old=False)
    (key,) = memory.get("/jwks").json()["keys"]
    assert key.keys() == {"kty", "n", "e", "kid", "alg", "use"}  # and no private one
    assert [ask(memory, token).status_code for token in (opaque, first, second, sandbox.mint())] == [200, 401, 401, 200]
    with pytest.raises(KeyError):
        verified(memory, first)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"])
def test_metadata(sandbox, client, path):
    """The metadata names the issuer and the endpoints, all of them at the server's own address."""
    facts = client.get(path).json()
    assert facts["issuer"] == sandbox.issuer == sandbox.url == str(client.base_url).rstrip("/")
    for name in ("token", "introspection", "revocation"):
        answer = client.post(facts[f"{name}_endpoint"], data={}, auth=SECRET)
        assert answer.json()["error"] == "invalid_request"
    assert client.get(facts["jwks_uri"]).status_code == 200
    assert (sandbox.metadata_requests, sandbox.jwks_requests) == (1, 1)


def test_an_issuer_of_its_own():
    """An issuer given is kept when the sandbox is served, and found below its path; the endpoints are where it is."""
    sandbox = Sandbox(issuer="https://login.example.com/tenant")
    assert sandbox.url == "https://login.example.com"
    with serve(sandbox) as url:
        for path in ("/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"):
            facts = httpx.get(f"{url}{path}").json()
            assert (facts["issuer"], facts["jwks_uri"]) == ("https://login.example.com/tenant", f"{url}/jwks")
    assert jwt.decode(sandbox.mint(), options={"verify_signature": False})["iss"] == "https://login.example.com/tenant"


@pytest.mark.parametrize("on", ["jwks", "metadata", "introspect", "revoke"])
def test_faults_of_a_service(sandbox, client, on):
    """A fault happens at the endpoint that it was scripted for, once, and nowhere else."""
    paths = {"jwks": "/jwks", "metadata": "/.well-known/openid-configuration"}
    method, path = ("GET", paths[on]) if on in paths else ("POST", f"/{on}")
    sandbox.script(Status(503), on=on)
    assert client.get("/open/x").status_code == 200
    assert client.post("/token").status_code == 400
    answers = [client.request(method, path, data={"token": "x"} if method == "POST" else None, auth=SECRET)]
    answers.append(client.request(method, path, data={"token": "x"} if method == "POST" else None, auth=SECRET))
    assert [answer.status_code for answer in answers] == [503, 200]


def test_all_tokens_can_be_jwts(memory):
    """With jwt_access_tokens the token endpoint and a login bring JWTs, for the audience that was asked for."""
    sandbox = Sandbox(jwt_access_tokens=True)
    login = sandbox.login("ann")
    with httpx.Client(transport=sandbox.transport(), base_url=sandbox.url) as client:
        form = {"grant_type": "client_credentials"}
        fetched = client.post("/token", data={**form, "resource": "https://x", "audience": "b"}, auth=SECRET).json()
        plain = client.post("/token", data=form, auth=SECRET).json()
        form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
        renewed = client.post("/token", data=form, auth=SECRET).json()
        assert verified(client, login["access_token"])["sub"] == "ann"
        assert verified(client, renewed["access_token"])["sub"] == "ann"
        assert verified(client, plain["access_token"])["aud"] == "api"
        assert sorted(verified(client, fetched["access_token"], audience="b")["aud"]) == ["b", "https://x"]
        assert ask(client, fetched["access_token"]).json()["subject"] == "client"
    assert fetched["expires_in"] == 3600


# Exchanges


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
@pytest.mark.parametrize("ask_for", [exchange, on_behalf_of])
def test_an_exchange_keeps_the_subject(sandbox, client, kind, ask_for):
    """A token exchanged is another, for the same subject, names the client that asked, and is counted by subject."""
    for name in ("ann", "bob", "ann"):
        login = sandbox.login(name, client_id="app", scope="read")
        token = sandbox.mint(name, client_id="app", scope="read") if kind == "jwt" else login["access_token"]
        answer = ask_for(client, token, audience="orders")
        assert answer.status_code == 200
        assert answer.json().get("issued_token_type") == (ACCESS_TOKEN if ask_for is exchange else None)
        assert answer.json()["access_token"].startswith("at-")
        facts = ask(client, answer.json()["access_token"]).json()
        assert (facts["subject"], facts["client_id"], facts["scope"]) == (name, "client", "read")
        assert introspect(client, answer.json()["access_token"]).json()["aud"] == "orders"
    assert sandbox.exchanges == {"ann": 2, "bob": 1}
    sandbox.reset_counters()
    assert sandbox.exchanges == {}


def test_an_exchange_for_a_jwt(sandbox, memory):
    """A JWT that is asked for says subject, client, audience, scope, and who acts, and who acted before."""
    user, actor = sandbox.mint("ann", scope="read write"), sandbox.login("service")["access_token"]
    more = {"requested_token_type": JWT, "audience": "orders", "scope": "write"}
    acting = {"actor_token": actor, "actor_token_type": ACCESS_TOKEN}
    first = exchange(memory, user, subject_token_type=JWT, **more, **acting).json()
    second = exchange(memory, first["access_token"], **more, actor_token=sandbox.mint("next"), actor_token_type=JWT)
    assert first["issued_token_type"] == JWT
    claims = verified(memory, first["access_token"], audience="orders")
    assert (claims["sub"], claims["client_id"], claims["scope"]) == ("ann", "client", "write")
    assert claims["act"] == {"sub": "service"}
    acts = verified(memory, second.json()["access_token"], audience="orders")["act"]
    assert acts == {"sub": "next", "act": {"sub": "service"}}


def bad_subjects(sandbox):
    """Subject tokens that must not be taken, each with why."""
    sandbox.revoke_access_tokens()
    revoked = sandbox.login()
    sandbox.revoke_family(revoked["refresh_token"])
    return {
        "at-unknown": "unknown",
        sandbox.login()["refresh_token"]: "unknown",
        sandbox.mint(lifetime=-1): "expired",
        sandbox.mint(iss="https://elsewhere"): "unknown",
        Sandbox().mint("ann"): "unknown",
        sandbox.mint("ann")[:-2]: "unknown",
        revoked["access_token"]: "revoked",
    }


@pytest.mark.parametrize(
    ("ask_for", "error"), [(exchange, "invalid_request"), (on_behalf_of, "invalid_grant")], ids=["8693", "7523"]
)
def test_a_bad_subject_is_refused(sandbox, memory, ask_for, error):
    """A subject token that the API would not take is refused (RFC 8693 §2.2.2, RFC 7521 §4.1.1), and not counted."""
    for token, why in bad_subjects(sandbox).items():
        answer = ask_for(memory, token)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert why in answer.json()["error_description"]
    assert sandbox.exchanges == {}
    assert sandbox.token_requests == 7


def test_a_wrong_exchange_is_refused(sandbox, memory):
    """An exchange of a wrong type, by a public client, or without what it needs is refused."""
    token = sandbox.login()["access_token"]
    wrong = [
        exchange(memory, token, subject_token_type="urn:ietf:params:oauth:token-type:refresh_token"),
        exchange(memory, token, requested_token_type="urn:ietf:params:oauth:token-type:saml2"),
        exchange(memory, token, actor_token=token),
        exchange(memory, token, actor_token_type=ACCESS_TOKEN),
        exchange(memory, token, actor_token="at-unknown", actor_token_type=ACCESS_TOKEN),
        exchange(memory, "", subject_token_type=""),
        exchange(memory, token, auth=None, client_id="app"),
        exchange(memory, token, auth=("client", "wrong")),
        on_behalf_of(memory, token, requested_token_use="other"),
        on_behalf_of(memory, ""),
    ]
    errors = ["invalid_request"] * 6 + ["unauthorized_client", "invalid_client"] + ["invalid_request"] * 2
    assert [answer.json()["error"] for answer in wrong] == errors
    assert sandbox.exchanges == {}


def test_the_scope_of_an_exchange(sandbox, memory):
    """An exchange may narrow the subject token's scope, never widen it; a token that names none sets no bound."""
    scopes = [("read write", "read"), ("read", "read write"), ("", "admin")]
    answers = [exchange(memory, sandbox.mint("ann", scope=had), scope=wanted).json() for had, wanted in scopes]
    found = [answer.get("scope") or answer["error"] for answer in answers]
    assert found == ["read", "invalid_scope", "admin"]
    assert on_behalf_of(memory, sandbox.mint("ann", scope="read"), scope="downstream").status_code == 200
    assert sandbox.exchanges == {"ann": 3}


def test_an_exchange_lost_is_counted(sandbox, memory):
    """A fault that loses the answer does not undo the exchange."""
    sandbox.script(DropAfter())
    with pytest.raises(httpx.RemoteProtocolError):
        exchange(memory, sandbox.mint("ann"))
    assert sandbox.exchanges == {"ann": 1}


def test_our_grants_can_exchange(sandbox):
    """TokenExchange and JWTBearer are served, by discovery, over loopback."""
    with serve(sandbox) as url:
        options = {"issuer": url, "client_id": "client", "client_secret": "secret"}
        extra = {"requested_token_use": "on_behalf_of"}
        grants = [
            TokenExchange(subject_token=sandbox.mint("ann"), audience="orders", **options),
            JWTBearer(assertion=sandbox.mint("bob"), extra=extra, **options),
            ClientCredentials(**options),
        ]
        subjects = []
        for grant in grants:
            with TokenAuth(grant) as auth, httpx.Client(auth=auth) as client:
                subjects.append(client.get(f"{url}/api/x").json()["subject"])
    assert subjects == ["ann", "bob", "client"]
    assert sandbox.exchanges == {"ann": 1, "bob": 1}


# Introspection and revocation


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_introspection(sandbox, client, time, kind):
    """Introspection tells what a good token says (RFC 7662 §2.2), and of a bad one that it is not active, no more."""
    login = sandbox.login("ann", scope="read")
    token = sandbox.mint("ann", scope="read") if kind == "jwt" else login["access_token"]
    facts = introspect(client, token).json()
    assert facts["active"] is True
    assert (facts["sub"], facts["client_id"], facts["scope"], facts["iss"]) == ("ann", "client", "read", sandbox.issuer)
    assert facts["exp"] >= time.now + 3600
    assert facts["token_type"] == "Bearer"
    assert (type(facts["exp"]), type(facts["iat"])) == (int, int)
    assert facts["iat"] <= time.now
    time.now += 3601
    assert introspect(client, token).json() == introspect(client, "x").json() == {"active": False}
    assert sandbox.introspections == 3


def test_introspection_of_a_refresh_token(sandbox, memory):
    """A refresh token is active until it is retired or revoked."""
    first = sandbox.login("ann")["refresh_token"]
    assert introspect(memory, first).json() == {"active": True, "sub": "ann", "client_id": "client"}
    form = {"grant_type": "refresh_token", "refresh_token": first}
    second = memory.post("/token", data=form, auth=SECRET).json()["refresh_token"]
    assert [introspect(memory, token).json()["active"] for token in (first, second)] == [False, True]
    sandbox.revoke_family(second)
    assert introspect(memory, second).json() == {"active": False}


@pytest.mark.parametrize("auth", [None, ("client", "wrong"), ("app", "")])
def test_introspection_is_for_clients(sandbox, memory, auth):
    """Nobody is told anything of a token without a client's secret."""
    answer = introspect(memory, sandbox.mint(), auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert memory.get("/introspect").status_code == 405
    assert sandbox.introspections == 1


def test_revocation(sandbox, client):
    """A revoked access token is refused, and a revoked refresh token takes its login along; an unknown one is fine."""
    first, second, minted = sandbox.login(), sandbox.login(), sandbox.mint()
    revoked = [first["access_token"], second["refresh_token"], minted, "unknown"]
    for token in revoked:
        assert client.post("/revoke", data={"token": token}, auth=SECRET).status_code == 200
    tokens = [first["access_token"], second["access_token"], minted]
    assert ["revoked" in ask(client, token).headers["www-authenticate"] for token in tokens] == [True] * 3
    assert (sandbox.is_alive(first["refresh_token"]), sandbox.is_alive(second["refresh_token"])) == (True, False)
    assert (sandbox.revocations, sandbox.families_revoked) == (4, 0)


def test_revocation_is_the_clients_own(sandbox, memory):
    """A client cannot revoke what another was given, nor without its secret."""
    token = sandbox.login()
    for value in (token["access_token"], token["refresh_token"]):
        answer = memory.post("/revoke", data={"token": value}, auth=("other", "else"))
        assert answer.json()["error"] == "invalid_grant"
    assert memory.post("/revoke", data={"token": token["refresh_token"]}).status_code == 401
    assert ask(memory, token["access_token"]).status_code == 200


def test_our_auth_can_revoke(sandbox):
    """`TokenAuth.revoke` finds the endpoint in the metadata, and the login is over."""
    login = sandbox.login()
    token = Token(login["access_token"], refresh_token=login["refresh_token"])
    with serve(sandbox) as url:
        grant = RefreshToken(issuer=url, client_id="client", client_secret="secret")
        with TokenAuth(grant, token=token) as auth:
            auth.revoke()
    assert not sandbox.is_alive(login["refresh_token"])
    assert sandbox.revocations == 2


def test_nothing_new_shows_a_secret(sandbox):
    """Neither the sandbox nor its parts show a token in their repr."""
    token = sandbox.mint()
    parts = [sandbox, vars(sandbox), vars(sandbox._keys), list(sandbox._tokens._access.values())]
    assert token not in repr(parts)
    assert jwt.decode(token, options={"verify_signature": False})["jti"] not in repr(parts)


def test_counters_can_be_counted_up(sandbox, memory):
    """Who answers in the sandbox's place may count for it, and it goes on from there."""
    sandbox.token_requests += 2
    memory.post("/token")
    assert sandbox.token_requests == 3
