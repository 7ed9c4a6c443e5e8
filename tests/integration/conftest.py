"""Servers that we did not write: panva's certified `oidc-provider` and an API, in Node, on loopback.

`make test` installs them (or `make oidc-provider` alone); `pytest tests/integration` runs the tests. Each pytest worker
has servers of its own, which start in less than a second and end with it.

The fixture `rig`

    .issuer                    the issuer; also the base URL of the authorization server (TLS, private CA)
    .endpoint("token")         an endpoint's URL, for those who do without discovery: token, authorization, revocation,
                               introspection, device_authorization, pushed_authorization_request, jwks, userinfo
    .mtls                      the same server where certificates are asked for (`mtls_endpoint_aliases`)
    .plain                     the same server over plain http: its metadata name another issuer
    .api, .mtls_api            base URLs of the API, without and with client certificates
    .orders, .invoices         its two resources of their own: opaque tokens, JWTs (RFC 9068); `.api` is the default one
    .trust                     an SSLContext that trusts the private CA and nothing else: `verify=rig.trust`
    .mutual_trust              the same, with the certificate of the client `tls`; .tls(cert, key) with any
    .ca                        path of the CA's certificate
    .client_cert, .client_key  paths: the certificate of the client `tls`
    .self_signed_cert, _key    of `tls-self-signed`;  .other_cert, .other_key  of somebody else
    .clients[name]             .id .secret .method .redirect_uri, see below
    .keys[alg]                 the keys of `key-jwt` (ES256, RS256, EdDSA): .pem .jwk .public_jwk .kid .sign(claims)
    .service, .service_issuer  key and issuer of assertions for the grant JWT bearer; any `sub`
    .person("alice")           somebody with a browser, see person.py; the fixture `alice` is one

    .counters()                token_requests, at_once, grants, errors, reused, revoked_families, lost, api_requests,
                               api, requests (server/ledger.mjs)
    .log()                     each token request: grant_type, params, scheme, dpop, client_id, status, error, detail
    .expire()                  the API refuses all tokens issued so far
    .gather(number)            the next requests to the API are looked at when so many are there: a storm
    .metadata(issuer="…")      the authorization server's metadata say this instead; .resource_metadata(…): the API's
    .lifetime(seconds)         of all tokens issued from now on; None: as registered
    .lose_next(count)          the next token requests are processed, their answers lost; processed=False: not even that
    .answer_next(400, {...})   the next token requests are answered with this
    .delay(seconds)            each token request takes longer
    .rotate_nonce()            the API takes no DPoP nonce of before; it has a new one every 20 requests in any case
    .rotate_issuer_nonce()     neither does the authorization server
    .reset()                   all this back to the beginning; every test begins with it. Tokens and sessions stay.

The clients. Redirects go to 127.0.0.1, any port, path /callback, unless said otherwise; tokens live one hour.

    basic, post                client_secret_basic, client_secret_post: every grant
    secret-jwt, key-jwt        client_secret_jwt (HS256), private_key_jwt
    tls, tls-self-signed       tls_client_auth (SAN client.example), self_signed_tls_client_auth: tokens bound to it
    public                     none: code, refresh token, device
    special, special-post      space, colon, plus, percent, slash and more in id and secret
    web                        like `basic`, with the redirect URI `clients.WEB`
    short                      like `basic`, tokens live 2 s
    par                        like `basic`, does not log in without a pushed authorization request
    dpop, dpop-public          tokens bound to a DPoP key, nonces required at the authorization server
    dpop-free                  bound, nonces given but not required there
    bound                      client_secret_basic, tokens bound to a certificate

What holds for all: PKCE S256 is required; refresh tokens are given to every login, rotate always, and reuse ends the
family; scopes are openid, offline_access, read, write, admin. Whoever logs in is who they say; `nobody` has no account.

Paths of the API: /step-up is for the scope `admin` (403), /strong for a login with acr_values=phr (RFC 9470), /claims
(insufficient_claims) and /never for nobody; all else answers 200 with what it saw:
`{"method", "path", "body", "token": {"sub", "client_id", "scope", "aud", …}}`.

Token exchange (subject and actor; audience `orders` or `invoices`, or a resource) and JWT bearer are no part of
oidc-provider: server/grants.mjs. Nor are `interval` and slow_down of the device flow: it is 1 s, and not enforced.
"""

from __future__ import annotations

from contextlib import ExitStack

import httpx
import pytest
from host.hands import FOUR, Hand
from integration.rig import running


@pytest.fixture(scope="session")
def _rig(tmp_path_factory):
    with running(tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture
def rig(_rig):
    """The servers, with counters at zero and nothing ordered."""
    _rig.reset()
    return _rig


@pytest.fixture
def http(_rig):
    """A plain client that trusts the servers: for what a test does by hand."""
    with httpx.Client(verify=_rig.trust, timeout=20.0) as client:
        yield client


@pytest.fixture
def alice(_rig):
    """A person with a browser of her own."""
    with _rig.person() as person:
        yield person


@pytest.fixture(params=FOUR)
def hand(request):
    """Each of the four clients."""
    with ExitStack() as stack:
        yield Hand(*FOUR[request.param], stack)
