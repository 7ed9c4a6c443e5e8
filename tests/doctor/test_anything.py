"""Malformed input of every kind: the doctor never raises, and never shows a secret."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from doctor.rig import unsigned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpx_tokenflow import TokenEndpointUnavailable, TokenRequestError
from httpx_tokenflow.doctor import Exchange, Expected, Facts, Fields, Refusal, diagnose, explain, read_token
from httpx_tokenflow.doctor._explain import reading_of
from httpx_tokenflow.doctor._sifting import without_secrets
from httpx_tokenflow.doctor.causes import CAUSES

SECRET = "s3cr3t-8f3a6c1e5b7d49f2a0c4"
SLOWER = settings(max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names_of_claims = st.sampled_from(
    ["iss", "aud", "exp", "nbf", "iat", "scope", "scp", "typ", "token_use", "azp", "client_id", "nonce", "at_hash",
     "cnf", "events", "permissions", "env", "environment", "livemode", "sub", "jti", "auth_time", "acr", "scopes",
     "roles"]
)  # fmt: skip
of_claims = (
    anything
    | st.sampled_from(["https://as.example", "https://staging.example", "ID", "Refresh", "refresh", "id", "", "a b"])
    | st.floats(0, 4e9)
)
claims = st.dictionaries(names_of_claims, of_claims, max_size=8)
headers_of_tokens = st.fixed_dictionaries(
    {"alg": anything | st.sampled_from(["RS256", "HS256", "none", "ES256"])},
    optional={"typ": anything | st.sampled_from(["JWT", "at+jwt", "dpop+jwt"]), "kid": anything, "jku": anything},
)
jwts = st.builds(unsigned, headers_of_tokens, claims)
cut = st.tuples(jwts, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
tokens = st.one_of(
    jwts, cut, st.text(max_size=60), st.just(SECRET), st.sampled_from(["", "null", "sk_test_4eC39HqLyjWDarjtT1"])
)
schemes = st.sampled_from(
    ["Bearer ", "bearer  ", "Bearer Bearer ", "Basic ", "DPoP ", "", "Token ", '"Bearer ', "ApiKey "]
)
credentials = st.builds(lambda scheme, token: scheme + token, schemes, tokens)
names = st.sampled_from(
    ["Authorization", "X-API-Key", "Cookie", "Origin", "WWW-Authenticate", "Date", "Server", "Via", "Location", "Age",
     "Content-Type", "Set-Cookie", "Access-Control-Allow-Origin", "Access-Control-Allow-Headers", "Proxy-Authenticate",
     "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods", "x-amzn-errortype", "CF-Ray", "DPoP-Nonce"]
)  # fmt: skip
values = st.one_of(
    st.text(max_size=60),
    credentials,
    st.sampled_from(
        ['Bearer error="invalid_token", error_description="expired"', "Bearer", "Basic realm=x", "DPoP algs=ES256", "*",
         "Thu, 01 Jan 1970 00:00:00 GMT", "Sat, 21 Nov 2026 17:00:00 GMT", "https://elsewhere.example/login", "/", "//",
         "http://[", "cloudflare", "1.1 varnish", "text/html", "authorization", "application/json"]
    ),
)  # fmt: skip
fields = st.lists(st.tuples(names | st.text(max_size=12), values), max_size=6).map(Fields)
carrying = st.builds(lambda more, raw: more.having(("Authorization", raw)), fields, credentials) | fields
bodies = st.one_of(
    st.none(),
    st.text(max_size=200),
    st.builds(json.dumps, anything),
    st.builds(
        lambda name, text: json.dumps({name: text}),
        st.sampled_from(["error", "message", "error_description", "detail", "errors", "keys"]),
        anything | st.sampled_from(["jwt expired", "invalid_client", "invalid_grant", "Invalid audience", "no token"]),
    ),
    st.text(max_size=40).map(lambda text: f"<html><title>{text}</title><form><input type=password>"),
)
urls = st.one_of(
    st.sampled_from(
        ["https://api.example/v1", "http://api.example/v1/", "https://user:pw@api.example", "https://api.example?token=x",
         "http://[::1", "", "//", "https://api.example:99999/", "https://api.sandbox.example/", "https://api.stripe.com/v1"]
    ),
    st.text(max_size=40),
)  # fmt: skip
roles = st.sampled_from(["hop", "bare", "mended", "again", "preflight", "resource metadata", "keys", "introspection"])


def exchanges_as(role):
    return st.builds(
        Exchange,
        role=role,
        method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", ""]),
        url=urls,
        sent=carrying,
        status=st.sampled_from(
            [0, 200, 204, 301, 302, 304, 307, 400, 401, 403, 404, 407, 419, 429, 500, 503, 511, 999]
        ),
        received=fields,
        body=bodies,
        failure=st.none() | st.text(max_size=30),
    )


expectations = st.builds(
    Expected,
    issuer=st.none() | st.text(max_size=20) | st.just("https://as.example"),
    audience=st.none() | st.text(max_size=20),
    scopes=st.frozensets(st.text(max_size=8), max_size=3),
)
documents = st.none() | st.dictionaries(
    st.sampled_from(["keys", "issuer", "jwks_uri", "active", "scope", "aud", "id_token_signing_alg_values_supported"]),
    anything | st.lists(st.dictionaries(st.sampled_from(["kid", "kty", "alg", "use", "n", "e"]), anything), max_size=3),
)
refusals = st.none() | st.builds(
    Refusal,
    status=st.none() | st.integers(),
    error=st.none() | st.text(max_size=12) | st.sampled_from(["invalid_client", "invalid_grant", "invalid_scope"]),
    description=st.none() | st.text(max_size=40) | st.just("AADSTS50011: the redirect URI"),
    text=st.text(max_size=40),
)


@st.composite
def any_facts(draw):
    asked = draw(exchanges_as(st.just("asked")) | st.none())
    probes = draw(st.lists(exchanges_as(roles), max_size=4)) if asked is not None else []
    facts = Facts(
        exchanges=(asked, *probes) if asked is not None else (),
        now=draw(st.sampled_from([0.0, 1.8e9, 1e18]) | st.floats(0, 4e9)),
        token_age=draw(st.none() | st.floats(0, 1e9)),
        expected=draw(expectations),
        issuer_metadata=draw(documents),
        jwks=draw(documents),
        introspection=draw(documents),
        refusal=draw(refusals),
        browser_origin=draw(st.none() | st.text(max_size=20)),
    )
    token = reading_of(facts.credential)
    return replace(facts, token=token)


def check(facts):
    for cause in CAUSES:
        cause.look(facts)
    diagnosis = diagnose(facts)
    told = json.dumps(diagnosis.to_dict()) + str(diagnosis) + repr(diagnosis)
    if any(SECRET in sent.raw for sent in facts.credentials):
        assert SECRET not in told
    assert all(ord(char) >= 32 for finding in diagnosis.findings for char in finding.summary)


@QUICK
@given(any_facts())
def test_no_cause_raises_and_no_secret_is_told(facts):
    """Whatever headers, tokens, bodies, documents and times are: each cause looks at them, and none shows a secret."""
    check(facts)


@pytest.mark.slow
@SLOWER
@given(any_facts())
def test_no_cause_raises_at_length(facts):
    """The same for very many."""
    check(facts)


@QUICK
@given(st.one_of(tokens, st.binary(max_size=80).map(lambda raw: raw.decode("latin-1"))))
def test_any_text_is_read_as_a_token(text):
    """Whatever the text is, it is read, and the reading does not show it."""
    reading = read_token(text)
    assert reading.kind in {"jwt", "jwe", "opaque"}
    assert len(text) < 20 or text not in repr(reading)


@QUICK
@given(urls)
def test_any_url_can_be_shown(url):
    """Whatever the URL is, what is shown of it has no value of its query."""
    assert "pw@" not in without_secrets(url)


@QUICK
@given(
    st.sampled_from([200, 302, 400, 401, 403, 407, 500]),
    st.lists(st.tuples(names, values.filter(lambda text: text.isascii() and text.isprintable())), max_size=5),
    st.binary(max_size=100),
    st.booleans(),
)
def test_any_response_is_explained(status, received, body, streamed):
    """Whatever the response is, read or not, with a request or without, `explain` has a sentence for it."""
    content = iter([body]) if streamed else body
    response = httpx.Response(status, headers=received, content=content)
    assert str(explain(response))
    response.request = httpx.Request("GET", "https://api.example", headers={"Authorization": f"Bearer {SECRET}"})
    assert SECRET not in str(explain(response).to_dict())


@QUICK
@given(st.integers(0, 999), st.none() | st.text(max_size=30), st.none() | st.text(max_size=60))
def test_any_refusal_of_a_token_is_explained(status, error, description):
    """Whatever a token endpoint says, `explain` has a sentence for the error that it became."""
    refused = TokenRequestError("the token endpoint refused", status=status, error=error, error_description=description)
    assert str(explain(refused))
    assert str(explain(TokenEndpointUnavailable("the token endpoint is away", outcome="not sent")))
