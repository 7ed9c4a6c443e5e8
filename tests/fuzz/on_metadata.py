"""Documents of servers and issuers, and tokens that a guard is sent: metadata, key sets, JWTs, `Authorization`."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

from httpx_tokenflow import AuthorizationCode, ClientCredentials, Token, TokenFlowError
from httpx_tokenflow._challenges import Challenge
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._metadata import Metadata, Server
from httpx_tokenflow.fastapi._claims import Wanted
from httpx_tokenflow.fastapi._guard import _BEARER, _SCHEME
from httpx_tokenflow.fastapi._jws import MOST_DEPTH, Signed, as_object
from httpx_tokenflow.fastapi._keys import ASYMMETRIC, MOST_KEYS, KeySet, read_keys
from httpx_tokenflow.fastapi._refusals import InvalidToken

from .draws import SECRET, Draws, below, sure, told
from .flows import NOW, World, answer

ISSUER, OTHER = "https://as.example/tenant", "https://other.example"
API = "https://api.example/v1/things"
NAMES = (
    "issuer", "token_endpoint", "authorization_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri",
    "mtls_endpoint_aliases", "token_endpoint_auth_methods_supported", "code_challenge_methods_supported",
    "authorization_response_iss_parameter_supported", "require_pushed_authorization_requests", "resource",
    "pushed_authorization_request_endpoint", "authorization_servers",
    "token_endpoint_auth_signing_alg_values_supported",
    "dpop_signing_alg_values_supported", "keys", "kty", "kid", "use", "key_ops", "alg", "crv", "n", "e", "x", "y", "d",
    "k", "x5c", "typ", "crit", "iss", "aud", "exp", "nbf", "iat", "sub", "scope", "scp", "cnf", "client_id",
    "token_use",
)  # fmt: skip
WORDS = (
    ISSUER, OTHER, ISSUER + "/", "https://as.example/token", "http://as.example/token", API, "https://api.example",
    "https://api.example/.well-known/oauth-protected-resource/v1/things", "https://login.example/{tenantid}/v2.0",
    "client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", "none", "S256", "RSA", "EC",
    "OKP",
    "P-256", "Ed25519", "RS256", "ES256", "EdDSA", "sig", "enc", "AQAB", "verify", "at+jwt", "JWT", "HS256",
    "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "https://user@as.example/", "https://as.example/#f", "https://as.example:0",
)  # fmt: skip
_FACTS = b'{"issuer":"https://as.example/tenant","token_endpoint":"https://as.example/token"}'
SEEDS = (
    b"\x00\x00\x01\x00\x00\x00\x00\x00\x00" + _FACTS,
    b"\x01\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00" + _FACTS,
    b'\x03{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","use":"sig"}]}',
    b"\x04\x00eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2FzLmV4YW1wbGUifQ.c2ln",
    b'\x05\x00{"iss":"https://as.example/tenant","aud":["a"],"exp":1900000000,"sub":"x","scope":"a b"}',
    b"\x06Bearer abc.def-ghi==",
)  # fmt: skip
_ALGORITHMS = frozenset(ASYMMETRIC)
_TYPES = frozenset({"at+jwt", "jwt", None})
_WANTED = Wanted(ISSUER, frozenset({"a"}), frozenset({"exp"}), 30.0, bound_is_fine=False)
_LENIENT = Wanted(None, frozenset(), frozenset(), 30.0, bound_is_fine=True)
_ENTRY = Entry(Token("old", refresh_token="r"), NOW, 60.0)


def check(data: bytes) -> None:
    """A document is used as it should be, or is an error of ours; a token is read, or is `InvalidToken`."""
    draws = Draws(data, NAMES, WORDS)
    kind = draws.number(6)
    (_check_grant, _check_resource, _check_facts, _check_keys, _check_token, _check_claims, _check_field)[kind](draws)


def _check_grant(draws: Draws) -> None:
    """A grant that discovers its server: nothing goes elsewhere than where a credential may."""
    proof: dict[str, Any] = {"issuer": ISSUER, "client_id": "c", "client_secret": SECRET}
    is_login = draws.byte() & 1
    answers = [answer(draws) for _ in range(draws.number(2) + 1)]
    world = World(answers)
    grant: Any = ClientCredentials(**proof)
    flow = grant.obtain(world.attempt())
    if is_login:
        grant = AuthorizationCode(**proof, redirect_uri="https://app.example/callback", open_browser=False)
        flow = grant._half({}, world.attempt())
    try:
        found = world.play(flow)
    except TokenFlowError as error:
        told(error)  # metadata are asked for without a secret: they can tell none that their server did not know
    else:
        url = found[0] if is_login else "https://as.example"
        sure(url.startswith("https://") and url.isprintable(), "a person is sent elsewhere", url)
    for request in world.requests:
        parts = urlsplit(request.url)
        sure(parts.scheme == "https" and parts.hostname, "a request goes over http", request.url)
        sure(request.url.isprintable() and " " not in request.url, "a URL is none", request.url)
        sure(
            request.method == "POST" or (not request.form and not request.headers),
            "a document is sent what it needs not",
        )


def _check_resource(draws: Draws) -> None:
    """An API says who issues its tokens: it chooses among those that the program has named, and no other."""
    server = Server(issuer=(ISSUER, OTHER), endpoints={"token_endpoint": None})
    url = (
        draws.pick((WORDS[7], "https://api.example/.well-known/oauth-protected-resource"))
        if draws.byte() % 4
        else draws.line()
    )
    challenge = Challenge("Bearer", {"resource_metadata": url})
    presented = _ENTRY.having(issuer=draws.maybe(ISSUER)) if draws.byte() & 1 else None
    world = World([answer(draws) for _ in range(3)])
    try:
        found = world.play(server.find(world.attempt(challenge=challenge, presented=presented, url=API)))
    except TokenFlowError as error:
        sure(str(error), "an error says nothing")
        found = None
    sure(found is None or found.issuer in {ISSUER, OTHER}, "another issuer was chosen", found)
    hosts = {urlsplit(one.url).hostname for one in world.requests}
    sure(hosts <= {"as.example", "other.example", "api.example"}, "somebody else was asked", hosts)


def _check_facts(draws: Draws) -> None:
    """What is read of a document, whatever is in it."""
    facts = _object(draws)
    for issuer in (None, ISSUER, "http://127.0.0.1:8000"):
        server = Metadata(issuer, facts)
        name = draws.name()
        sure(isinstance(server.says(name), bool) and isinstance(server.has(name), bool), "it says what is no answer")
        sure(all(isinstance(one, str) for one in server.names(name)), "a word is none", server.names(name))
        try:
            url = server.endpoint(name, mtls=bool(draws.byte() & 1))
        except TokenFlowError:
            continue
        sure(issuer is None or url.startswith(("https://", "http://", "HTTP")), "an endpoint is none", url)
        sure(url.isprintable() and " " not in url, "an endpoint is none", url)


def _check_keys(draws: Draws) -> None:
    found = _object(draws).get("keys") if draws.byte() & 1 else [_object(draws)]
    listed = found if isinstance(found, list) else []
    keys = read_keys(listed)
    sure(len(keys) <= MOST_KEYS, "too many keys", len(keys))
    sure(all(one.algorithms and one.algorithms <= _ALGORITHMS for one in keys), "a key is for nothing", keys)
    several = KeySet(keys, named=True)
    for one in keys:
        sure(one in several.candidates(one.kid, min(one.algorithms)) or len(keys) > 8, "a key is not found", one)


def _check_token(draws: Draws) -> None:
    parts = [_base64(draws) for _ in range(3)] if draws.byte() & 1 else []
    token = ".".join(parts) if parts else draws.rest().decode("latin-1")
    try:
        signed = Signed.read(token, _ALGORITHMS, _TYPES)
    except InvalidToken as error:
        sure(len(token) < 20 or token not in told(error), "a refusal shows the token", token)
        return
    sure(signed.algorithm in _ALGORITHMS, "an algorithm is none that is allowed", signed.algorithm)
    sure(token not in repr(signed), "a repr shows the token", signed)
    _check_caller(signed.payload)


def _base64(draws: Draws) -> str:
    head = b'{"alg":"RS256"}' if draws.byte() & 1 else draws.body()
    return base64.urlsafe_b64encode(head).decode().rstrip("=")


def _check_claims(draws: Draws) -> None:
    _check_caller(draws.rest() if draws.byte() & 1 else draws.object().encode("utf-8", "surrogatepass"))


def _check_caller(payload: bytes) -> None:
    for wanted in (_WANTED, _LENIENT):
        try:
            claims = as_object(payload)
            caller = wanted.caller(claims, SECRET, NOW)
        except InvalidToken:
            continue
        sure(SECRET not in repr(caller) or SECRET.encode() in payload, "a repr shows the token", caller)
        text = json.dumps(claims, ensure_ascii=False)
        text.encode()
        sure(text.replace("{", "[").count("[" * (MOST_DEPTH + 2)) == 0 or '"' in text, "it is too deep", text)
        sure(all(isinstance(one, str) for one in caller.scope), "a scope is none", caller.scope)


def _check_field(draws: Draws) -> None:
    """What a guard reads in `Authorization`."""
    field = draws.rest()
    found = _BEARER.fullmatch(field)
    if found is not None:
        sure(found[1].decode("ascii").isprintable(), "a token is none", field)
    sure(_SCHEME.match(field) is not None, "there is always a scheme, if an empty one", field)


def _object(draws: Draws) -> dict[str, Any]:
    try:
        found = json.loads(draws.body())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _document(text: str) -> object:
    world = World([])
    try:
        return world.play(_served(text, world))
    except TokenFlowError as error:
        return str(error)


def _served(text: str, world: World) -> Any:
    from httpx_tokenflow._answers import ServerResponse

    world._answers = iter([ServerResponse(200, {}, text.encode())] * 3)
    return Server(issuer=ISSUER, endpoints={"token_endpoint": None}).find(world.attempt())


def _endpoint(text: str) -> object:
    found = []
    for url in (text, f"https://{text}", f"https://as.example/{text}"):
        try:
            found.append(Metadata(ISSUER, {"token_endpoint": url}).endpoint("token_endpoint"))
        except TokenFlowError as error:
            found.append(str(error))
    return found


def _token(text: str) -> object:
    head = base64.urlsafe_b64encode(b'{"alg":"RS256"}').decode().rstrip("=")
    for token in (
        text,
        f"{head}.{text}.c2ln",
        f"{head}.{base64.urlsafe_b64encode(text.encode()).decode().rstrip('=')}.x",
    ):
        try:
            _check_caller(Signed.read(token, _ALGORITHMS, _TYPES).payload)
        except InvalidToken:
            continue
    return _BEARER.fullmatch(f"Bearer {text}".encode()), _BEARER.fullmatch(text.encode()), _SCHEME.match(text.encode())


def _key(text: str) -> object:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return below(lambda: read_keys([found]))


READERS = {
    "a document": _document,
    "an endpoint": _endpoint,
    "a key": lambda text: read_keys(
        [{"kty": "RSA", "n": text, "e": text}, {"kty": "EC", "crv": "P-256", "x": text, "y": "x"}]
    ),
    "many keys": lambda text: read_keys([{"kty": one, "kid": text} for one in text]),
    "a token": _token,
    "claims": lambda text: _check_caller(json.dumps({"scope": text, "aud": [text], "exp": 1e10}).encode()),
}
UNITS = (
    *WORDS[:12],
    "a",
    "A",
    "/",
    ".",
    ":",
    "@",
    "%41",
    "?",
    "#",
    "[",
    '{"a":',
    '"',
    "\\",
    "ä",
    "9",
    "=",
    "A.",
    " ",
    "AQAB",
    "xn--",
    "-",
)
NESTED = {
    "a document": _document,
    "an issuer": lambda text: _document(f'{{"issuer":{text}}}'),
    "claims": lambda text: _check_caller(text.encode()),
    "a claim": lambda text: _check_caller(f'{{"x":{text},"aud":{text}}}'.encode()),
    "a key": lambda text: _key(f'{{"kty":{text},"n":{text}}}'),
}
