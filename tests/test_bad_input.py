"""Bad input: each kind has its own clear error; nothing is sent that should not be, nothing is kept, no secret quoted.

`MADE` is what is refused when an object is made, `ASKED` what goes wrong with the authorization server, `CALLBACKS`
what comes back from a login. Each row: what is done, the error's class, and a word that its text must have.
"""

from __future__ import annotations

import json
import socket
import traceback
from collections import Counter
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ClientSecretJWT,
    ClientSecretPost,
    ConfigurationError,
    DPoP,
    EnvSecret,
    FileSecret,
    InvalidCredential,
    JWTBearer,
    OriginNotAllowed,
    PrivateKeyJWT,
    ReauthenticationRequired,
    RefreshToken,
    RenewalPolicy,
    SessionLogin,
    TLSClientAuth,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenExchange,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._logins import AuthorizationCode
from httpx_tokenflow.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

ISSUER = "https://auth.example.com"
URL = f"{ISSUER}/token"
API = "https://api.example.com/orders"
S = "SENTINEL"


@cache
def keys() -> dict[str, str]:
    """Private keys in PEM, and one that is public."""
    made = {
        "RSA": rsa.generate_private_key(65537, 2048),
        "P-256": ec.generate_private_key(ec.SECP256R1()),
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    pem = {
        name: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        for name, key in made.items()
    }
    public = made["RSA"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {**pem, "public": public.decode()}


def grant(**options: Any) -> ClientCredentials:
    return ClientCredentials(**{"token_endpoint": URL, "client_id": "c", "client_secret": S} | options)


def found(**options: Any) -> ClientCredentials:
    """A grant by its issuer."""
    return grant(token_endpoint=None, issuer=ISSUER, **options)


def session(**options: Any) -> RefreshToken:
    return RefreshToken(URL, client_id="c", client_secret=S, **options)


class NoChoices:
    """A grant of the program's own, which has no scope to choose and nobody to ask."""

    spends = False

    def identity(self) -> dict[str, str]:
        return {}

    def obtain(self, attempt: Any) -> Any:
        raise AssertionError("nobody asks it")


def key(alg: str, name: str) -> Callable[[], Any]:
    return lambda: PrivateKeyJWT(keys()[name], alg=alg)


CONFIGURED = ConfigurationError
MADE: dict[str, tuple[Callable[[], Any], type[TokenFlowError], str]] = {
    # where
    "issuer and endpoint": (lambda: grant(issuer=ISSUER), CONFIGURED, "contradict"),
    "neither": (lambda: grant(token_endpoint=None), CONFIGURED, "issuer="),
    "an issuer with a query": (lambda: grant(token_endpoint=None, issuer=f"{ISSUER}?a=1"), CONFIGURED, "query"),
    "an issuer with a fragment": (lambda: grant(token_endpoint=None, issuer=f"{ISSUER}#a"), CONFIGURED, "fragment"),
    "an issuer over plain http": (
        lambda: grant(token_endpoint=None, issuer="http://auth.example.com"),
        CONFIGURED,
        "https",
    ),
    "no issuer among several": (lambda: grant(token_endpoint=None, issuer=()), CONFIGURED, "empty"),
    "an endpoint over plain http": (
        lambda: grant(token_endpoint="http://auth.example.com/token"),
        CONFIGURED,
        "must be https",
    ),
    "an endpoint with a user": (lambda: grant(token_endpoint=f"https://u:{S}@a.example/"), CONFIGURED, "user"),
    "an endpoint that is none": (lambda: grant(token_endpoint="auth.example.com/token"), CONFIGURED, "absolute"),
    "an endpoint with a newline": (lambda: grant(token_endpoint=f"{URL}\n"), CONFIGURED, "control"),
    "an endpoint with a port that is none": (
        lambda: grant(token_endpoint="https://auth.example.com:99999/"),
        CONFIGURED,
        "port",
    ),
    "a further endpoint over plain http": (
        lambda: grant(metadata={"revocation_endpoint": "http://auth.example.com/"}),
        CONFIGURED,
        "revocation_endpoint must be https",
    ),
    "metadata that are none": (lambda: grant(metadata="x"), CONFIGURED, "metadata="),
    # who
    "an empty client_id": (lambda: grant(client_id=""), CONFIGURED, "client_id is missing"),
    "a client_id with a newline": (lambda: grant(client_id="c\n"), CONFIGURED, "newline"),
    "a client_id that is a number": (lambda: grant(client_id=5), CONFIGURED, "string"),
    "a secret with a newline": (lambda: grant(client_secret=f"{S}\n"), InvalidCredential, "strip it"),
    "an empty secret": (lambda: grant(client_secret=""), InvalidCredential, "empty"),
    "no secret": (lambda: grant(client_secret=None), CONFIGURED, "client_secret="),
    "a secret that is bytes": (lambda: grant(client_secret=S.encode()), InvalidCredential, "string"),
    "a name as client_auth": (lambda: grant(client_auth="client_secret_post"), CONFIGURED, "ClientSecretPost()"),
    "a class as client_auth": (lambda: grant(client_auth=ClientSecretPost), CONFIGURED, "object"),
    "a key and a secret": (
        lambda: grant(client_auth=PrivateKeyJWT(keys()["RSA"])),
        CONFIGURED,
        "contradict",
    ),
    # with what key
    "RSA for ES256": (key("ES256", "RSA"), CONFIGURED, "ES256"),
    "P-256 for RS256": (key("RS256", "P-256"), CONFIGURED, "RS256"),
    "P-384 for ES256": (key("ES256", "P-384"), CONFIGURED, "ES256"),
    "Ed25519 for ES256": (key("ES256", "Ed25519"), CONFIGURED, "ES256"),
    "P-256 for EdDSA": (key("EdDSA", "P-256"), CONFIGURED, "EdDSA"),
    "RSA for HS256": (key("HS256", "RSA"), CONFIGURED, "alg"),
    "RSA for none": (key("none", "RSA"), CONFIGURED, "alg"),
    "a public key": (lambda: PrivateKeyJWT(keys()["public"]), CONFIGURED, "private"),
    "a secret for a key": (lambda: PrivateKeyJWT(S), CONFIGURED, "PEM"),
    "a JWK that is a secret": (lambda: PrivateKeyJWT({"kty": "oct", "k": S}), CONFIGURED, "key"),
    "an assertion by a key of the wrong type": (
        lambda: JWTBearer(URL, key=keys()["P-256"], alg="RS256", iss="i", sub="s"),
        CONFIGURED,
        "RS256",
    ),
    "a DPoP key of the wrong type": (lambda: DPoP(keys()["RSA"], alg="ES256"), CONFIGURED, "ES256"),
    "a DPoP key that is a secret": (lambda: DPoP(S), CONFIGURED, "PEM"),
    "a secret's JWT by an RSA algorithm": (lambda: ClientSecretJWT(alg="RS256"), CONFIGURED, "HS"),
    "a certificate that is not there": (lambda: TLSClientAuth("/nowhere", "/nowhere"), CONFIGURED, "/nowhere"),
    # for what
    "a scope that is a number": (lambda: grant(scope=5), CONFIGURED, "scope="),
    "a scope with a number in it": (lambda: grant(scope=["a", 5]), CONFIGURED, "scope="),
    "a scope with a newline": (lambda: grant(scope="a\nb"), CONFIGURED, "control"),
    "a resource that is a number": (lambda: grant(resource=5), CONFIGURED, "resource="),
    "an audience that is a list": (lambda: grant(audience=["a"]), CONFIGURED, "audience="),
    "extra that is no mapping": (lambda: grant(extra="a=b"), CONFIGURED, "extra="),
    "extra with a parameter of ours": (lambda: grant(extra={"grant_type": "x"}), CONFIGURED, "grant_type"),
    "extra with a number": (lambda: grant(extra={"a": 5}), CONFIGURED, "strings"),
    "a token type of its own": (lambda: grant(token_type="mac"), CONFIGURED, "Bearer"),
    "an empty subject token": (
        lambda: TokenExchange(URL, client_id="c", client_secret=S, subject_token=""),
        InvalidCredential,
        "subject_token",
    ),
    # in TokenAuth
    "no grant": (lambda: TokenAuth("client_credentials"), CONFIGURED, "needs a grant"),
    "a class for a grant": (lambda: TokenAuth(ClientCredentials), CONFIGURED, "needs a grant"),
    "the class for auth=": (lambda: httpx.get("https://api.example.com", auth=TokenAuth), CONFIGURED, "not the class"),
    "a scheme in the token": (lambda: BearerAuth("Bearer abc"), InvalidCredential, "give the token alone"),
    "a key for dpop=": (lambda: TokenAuth(grant(), dpop=S), CONFIGURED, "DPoP(key)"),
    "a class for dpop=": (lambda: TokenAuth(grant(), dpop=DPoP), CONFIGURED, "DPoP()"),
    "a string for token=": (lambda: TokenAuth(session(), token=S), CONFIGURED, "Token("),
    "a client of another kind": (lambda: TokenAuth(grant(), client=object()), CONFIGURED, "client="),
    "client= and verify=": (lambda: TokenAuth(grant(), client=httpx.Client(), verify=False), CONFIGURED, "verify="),
    "one origin, bare": (lambda: TokenAuth(grant(), origins="https://api.example.com"), CONFIGURED, "tuple"),
    "an origin over plain http": (lambda: TokenAuth(grant(), origins=["http://a.example"]), CONFIGURED, "http"),
    "an origin with a path": (lambda: TokenAuth(grant(), origins=["https://a.example/v1"]), CONFIGURED, "origin"),
    "an empty expectation": (lambda: TokenAuth(grant(), expect=""), CONFIGURED, "expect="),
    "a first token that is not as expected": (
        lambda: TokenAuth(session(), token=Token(f"sk_test_{S}"), expect="sk_live_"),
        InvalidCredential,
        "sk_live_",
    ),
    "choices where there are none": (lambda: TokenAuth(NoChoices()).using(scope="a"), CONFIGURED, "no scope"),
    "choices of an API's own login": (
        lambda: TokenAuth(SessionLogin("https://a.example/login", credentials={"u": "u", "p": S})).using(scope="a"),
        CONFIGURED,
        "no scope",
    ),
    "a number as the sibling's scope": (lambda: TokenAuth(grant()).using(scope=5), CONFIGURED, "scope="),
    "introspection by nobody": (lambda: TokenAuth(NoChoices()).introspect(S), CONFIGURED, "nobody to ask"),
    "introspection without an endpoint": (
        lambda: TokenAuth(grant()).introspect(S), CONFIGURED, "introspection_endpoint",
    ),
    "a string for set_token": (lambda: TokenAuth(session()).set_token(S), CONFIGURED, "Token("),
    "a token with a newline": (lambda: Token(f"{S}\n"), InvalidCredential, "strip it"),
    "a bearer token with a newline": (lambda: BearerAuth(f"{S}\n"), InvalidCredential, "strip it"),
    "a key beyond ASCII": (lambda: APIKeyAuth(f"{S}é"), InvalidCredential, "ASCII"),
}  # fmt: skip


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails."""

    def connect(*_args: Any) -> None:
        raise AssertionError("somebody has opened a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)


def told(error: BaseException) -> str:
    """All that anybody gets to see of an error: itself, its causes, its attributes."""
    return "".join(traceback.format_exception(error, limit=0)) + repr(vars(error))


@pytest.mark.parametrize("row", MADE)
@pytest.mark.usefixtures("offline")
def test_refused_when_it_is_made(row: str) -> None:
    """Early, by its own class, in words that say what to do; no secret is quoted, nothing is sent."""
    make, kind, word = MADE[row]
    with pytest.raises(kind) as caught:
        make()
    assert word in str(caught.value)
    assert isinstance(caught.value, TokenFlowError)
    assert S not in told(caught.value)


def test_a_certificate_and_a_client_contradict(tmp_path: Any) -> None:
    """A client that is given has its own TLS."""
    import trustme

    issued = trustme.CA().issue_cert("client.example")
    cert, pem = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(pem)
    proven = grant(client_secret=None, client_auth=TLSClientAuth(cert, pem))
    with httpx.Client() as client, pytest.raises(ConfigurationError, match="give it the certificate"):
        TokenAuth(proven, client=client)


# At work


class Net:
    """An authorization server and an API, in memory: what was asked of each, and with what."""

    def __init__(self, *answers: Any, **facts: Any) -> None:
        self.answers = list(answers)
        self.facts = {"issuer": ISSUER, "token_endpoint": URL, **facts}
        self.api: list[httpx.Request] = []
        self.seen: list[httpx.Request] = []
        self.store = MemoryStore()
        self.tokens = httpx.Client(transport=httpx.MockTransport(self._serve))
        self.web = httpx.Client(transport=httpx.MockTransport(self._work))

    def _serve(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if "/.well-known/" in request.url.path:
            return httpx.Response(200, json=self.facts)
        status, body, headers = (*self.answers[0], {}, {})[:3] if self.answers else (200, {"access_token": "at"}, {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(status, content=content, headers=headers)

    def _work(self, request: httpx.Request) -> httpx.Response:
        self.api.append(request)
        return httpx.Response(200)

    def auth(self, of: Any, **options: Any) -> TokenAuth:
        policy = RenewalPolicy(attempts=1, budget=5.0)
        return TokenAuth(of, **{"client": self.tokens, "store": self.store, "policy": policy} | options)

    def asked(self) -> Counter[str]:
        """How often each URL of the authorization server was asked."""
        return Counter(str(request.url) for request in self.seen)

    def secrets_at(self) -> set[str]:
        """The URLs to which anything secret was sent."""
        return {str(one.url) for one in self.seen if one.headers.get("authorization") or S.encode() in one.content}


def good(**claims: Any) -> tuple[int, dict[str, str]]:
    """A good answer; with claims, its access token is a JWT."""
    token = jwt.encode(claims, "x" * 32, "HS256") if claims else f"at-{S}"
    return 200, {"access_token": token}


ELSEWHERE = "https://evil.example/token"
WHERE = {"location": ELSEWHERE}

# what the server says, its metadata, the grant, further options of the auth; the error, a word; whether the secret went
# to the token endpoint
ASKED: dict[str, tuple[Any, dict[str, Any], Callable[[], Any], dict[str, Any], type[TokenFlowError], str, bool]] = {
    "metadata of another issuer": (
        good(), {"issuer": "https://b.example"}, found, {}, CONFIGURED, "to the letter", False,
    ),
    "metadata of an issuer with a slash": (
        good(), {"issuer": f"{ISSUER}/"}, found, {}, CONFIGURED, "to the letter", False,
    ),
    "metadata of nobody": (good(), {"issuer": None}, found, {}, CONFIGURED, "to the letter", False),
    "metadata without the endpoint": (good(), {"token_endpoint": None}, found, {}, CONFIGURED, "names no", False),
    "metadata with plain http": (
        good(), {"token_endpoint": "http://auth.example.com/"}, found, {}, CONFIGURED, "https", False,
    ),
    "metadata with plain http to loopback": (
        good(), {"token_endpoint": "http://127.0.0.1/token"}, found, {}, CONFIGURED, "https", False,
    ),
    "a redirect": ((302, {}, WHERE), {}, grant, {}, CONFIGURED, "redirect", True),
    "a redirect that keeps the method": ((307, {}, WHERE), {}, grant, {}, CONFIGURED, "final address", True),
    "a lasting redirect": ((308, {"access_token": "x"}, WHERE), {}, found, {}, CONFIGURED, "redirect", True),
    "no access_token": ((200, {"expires_in": 60}), {}, grant, {}, TokenRequestError, "without an access_token", True),
    "an empty access_token": ((200, {"access_token": ""}), {}, grant, {}, TokenRequestError, "access_token", True),
    "a number for a token": ((200, {"access_token": 5}), {}, grant, {}, TokenRequestError, "access_token", True),
    "a token with a line break": (
        (200, {"access_token": f"{S}\r\nX: y"}), {}, grant, {}, InvalidCredential, "access_token", True,
    ),
    "a list": ((200, ["a"]), {}, grant, {}, TokenEndpointUnavailable, "JSON object", True),
    "a page": ((200, b"<html>"), {}, grant, {}, TokenEndpointUnavailable, "JSON object", True),
    "an answer without end": ((200, b" " * (2 << 20)), {}, grant, {}, TokenEndpointUnavailable, "larger", True),
    "an error in a good answer": ((200, {"error": "nope"}), {}, grant, {}, TokenRequestError, "nope", True),
    "an echo of the secret": (
        (400, {"error": "invalid_client", "error_description": f"{S} is wrong"}), {}, grant, {},
        TokenRequestError, "is wrong", True,
    ),
    "a token of another type": (
        (200, {"access_token": "a", "token_type": "mac"}), {}, grant, {}, CONFIGURED, "token_type=", True,
    ),
    "a bound token that nobody asked for": (
        (200, {"access_token": "a", "token_type": "DPoP"}), {}, grant, {}, CONFIGURED, "dpop=", True,
    ),
    "a bearer token instead of a bound one": (
        (200, {"access_token": "a", "token_type": "Bearer"}), {}, grant, {"dpop": True}, CONFIGURED, "DPoP", True,
    ),
    "a token with another beginning": (good(), {}, grant, {"expect": "sk_live_"}, InvalidCredential, "sk_live_", True),
    "a token of another environment": (
        good(iss="https://test.example"), {}, grant, {"expect": {"iss": "https://prod.example"}},
        InvalidCredential, "prod.example", True,
    ),
    "a token that a predicate does not like": (
        good(), {}, grant, {"expect": lambda _: False}, InvalidCredential, "expect", True,
    ),
    "a session that has ended": (
        (400, {"error": "invalid_grant"}), {}, session, {"token": Token("old", refresh_token=S, expires_at=1.0)},
        ReauthenticationRequired, "invalid_grant", True,
    ),
    "no session at all": (good(), {}, session, {}, ReauthenticationRequired, "token=", False),
    "a secret that is not in the environment": (
        good(), {}, lambda: grant(client_secret=EnvSecret("SURELY_NOT_THERE")), {},
        TokenFlowError, "SURELY_NOT_THERE", False,
    ),
    "a secret whose file is not there": (
        good(), {}, lambda: grant(client_secret=FileSecret("/nowhere/secret")), {}, TokenFlowError, "/nowhere", False,
    ),
    "a callable that returns nothing": (
        good(), {}, lambda: grant(client_secret=lambda: None), {}, InvalidCredential, "callable", False,
    ),
    "a callable that raises": (
        good(), {}, lambda: grant(client_secret=partial(int, "no number")), {},
        TokenEndpointUnavailable, "ValueError", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ASKED)
def test_what_the_server_does_wrong(row: str) -> None:
    """The API gets nothing, the store holds no token that could serve, nobody but the server has seen the secret."""
    answer, facts, make, options, kind, word, is_sent = ASKED[row]
    net = Net(answer, **facts)
    options = options | ({"dpop": DPoP()} if options.get("dpop") else {})
    auth = net.auth(make(), **options)
    with pytest.raises(kind) as caught:
        net.web.get(API, auth=auth)
    assert word in str(caught.value)
    assert not net.api
    assert net.secrets_at() == ({URL} if is_sent else set())
    assert ELSEWHERE not in net.asked()
    assert all(entry.is_spent for entry in net.store._entries.values())
    error: BaseException | None = caught.value
    while error is not None:
        assert S not in told(error)
        error = error.__cause__
    assert auth.status.expires_in is None


def test_a_session_outlives_a_token_that_belongs_elsewhere() -> None:
    """The refresh token was rotated, and is kept; the access token with it never serves, and the next may be right."""
    net = Net((200, {"access_token": f"sk_test_{S}", "refresh_token": f"second-{S}", "expires_in": 3600}))
    first = Token("sk_live_old", refresh_token=f"first-{S}", expires_at=1.0)
    with pytest.raises(InvalidCredential) as caught:
        net.web.get(API, auth=net.auth(session(), token=first, expect="sk_live_"))
    assert not caught.value.may_have_spent
    assert not net.api
    net.answers = [(200, {"access_token": f"sk_live_{S}", "refresh_token": f"third-{S}", "expires_in": 3600})]
    again = net.auth(session(), token=first, expect="sk_live_")
    assert again.warm()
    assert net.web.get(API, auth=again).status_code == 200
    presented = [parse_qs(request.content.decode())["refresh_token"][0] for request in net.seen]
    assert presented == [f"first-{S}", f"second-{S}"]


def test_a_servers_token_that_begins_like_none() -> None:
    """What stands for no access token is looked at by nobody; a server's token is, even if it begins like that."""
    issued = Token.for_refresh("another").access_token
    net = Net((200, {"access_token": issued, "expires_in": 3600}))
    with pytest.raises(InvalidCredential):
        net.web.get(API, auth=net.auth(grant(), expect="sk_live_"))
    assert not net.api


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer "])
def test_a_callable_that_returns_the_scheme_as_well(scheme: str) -> None:
    """What would go out as "Bearer Bearer …" is an error that says so, without the token, and nothing is sent."""
    net = Net()
    with pytest.raises(InvalidCredential, match="give the token alone") as caught:
        net.web.get(API, auth=BearerAuth(lambda: f"{scheme}{S}"))
    assert S not in told(caught.value)
    assert not net.api


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_who_could_not_be_reached_is_named(library: str) -> None:
    """The host and port of a wrong URL are in the error, and nothing else of it."""
    lost = pytest.importorskip(library)

    def unreachable(request: Any) -> Any:
        raise lost.ConnectError("no such host")

    grant = ClientCredentials("https://auth.example.com:8443/secret-path", client_id="a", client_secret="b")
    client = lost.Client(transport=lost.MockTransport(unreachable))
    policy = RenewalPolicy(attempts=1)
    with (
        client,
        pytest.raises(TokenEndpointUnavailable, match=r"\(ConnectError at auth\.example\.com:8443\)") as caught,
    ):
        TokenAuth(grant, client=client, policy=policy).token()
    assert "secret-path" not in str(caught.value)


def test_what_a_store_holds_and_does_not_belong_here() -> None:
    """A token that others have left there does not serve, and does not stand in the way of one that does."""
    net = Net((200, {"access_token": f"sk_test_{S}", "expires_in": 3600}))
    assert net.auth(grant()).warm()
    net.answers = [(200, {"access_token": f"sk_live_{S}", "expires_in": 3600})]
    auth = net.auth(grant(client_id="c"), store=net.store, expect="sk_live_")
    assert net.web.get(API, auth=auth).status_code == 200
    assert net.api[0].headers["authorization"] == f"Bearer sk_live_{S}"


def test_what_is_left_of_a_session_is_not_taken_for_a_token() -> None:
    """After `revoke` the store says so, and what is expected of tokens is not expected of that."""
    net = Net((200, {"access_token": f"sk_live_{S}", "expires_in": 3600}))
    auth = net.auth(grant(), expect="sk_live_")
    assert net.web.get(API, auth=auth).status_code == 200
    auth.revoke()
    assert net.web.get(API, auth=auth).status_code == 200
    assert net.asked()[URL] == 2


def test_a_request_that_leaves_the_machine_in_the_clear() -> None:
    """Neither the API nor, for its sake, the token endpoint is asked."""
    net = Net()
    for url, options in (("http://api.example.com/", {}), ("https://b.example/", {"origins": ["https://a.example"]})):
        with pytest.raises(OriginNotAllowed):
            net.web.get(url, auth=net.auth(grant(), **options))
    assert not net.seen
    assert not net.api


def _login() -> AuthorizationCode:
    return AuthorizationCode(issuer=ISSUER, client_id="c", redirect_uri="https://app.example/callback")


CALLBACKS: dict[str, tuple[Callable[[dict[str, str]], str], type[TokenFlowError], str]] = {
    "another state": (lambda q: f"code={S}&iss={ISSUER}&state=x{q['state']}", TokenRequestError, "login"),
    "no state": (lambda q: f"code={S}&iss={ISSUER}", TokenRequestError, "login"),
    "another issuer": (lambda q: f"code={S}&state={q['state']}&iss=https://b.example", CONFIGURED, "RFC 9207"),
    "no issuer, where it is promised": (lambda q: f"code={S}&state={q['state']}", CONFIGURED, "RFC 9207"),
    "no code": (lambda q: f"state={q['state']}&iss={ISSUER}", TokenRequestError, "code"),
    "two codes": (lambda q: f"code={S}&code=b&state={q['state']}&iss={ISSUER}", TokenRequestError, "code"),
    "a refusal": (
        lambda q: f"error=access_denied&state={q['state']}&iss={ISSUER}", ReauthenticationRequired, "access_denied",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", CALLBACKS)
def test_a_callback_that_is_not_ours(row: str) -> None:
    """No code is redeemed, and none is quoted."""
    query, kind, word = CALLBACKS[row]
    net = Net(authorization_endpoint=f"{ISSUER}/auth", authorization_response_iss_parameter_supported=True)
    login = _login()
    url, state = login.start(client=net.tokens)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    with pytest.raises(kind) as caught:
        login.finish(f"https://app.example/callback?{query(asked)}", state, client=net.tokens)
    assert word in str(caught.value)
    assert S not in told(caught.value)
    assert asked["state"] not in told(caught.value)
    assert URL not in net.asked()
