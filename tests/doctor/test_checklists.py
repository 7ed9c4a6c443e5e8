"""What four articles on 401 tell a person to check, and which cause of the doctor's it is (or which command shows it).

The items are in words of our own. One that no machine can check from outside has no cause, and says why.
"""

from __future__ import annotations

import pytest

from httpx_tokenflow.doctor.causes import CAUSES

AXIOS = {  # "Fix 401 Unauthorized Error in Axios"
    "is there a token in the storage? (also: not saved after login)": ("no-credential", "placeholder-credential"),
    "has the token expired?": ("token-expired",),
    "is the Authorization field formed as it should be?": (
        "extra-space", "quotes", "line-break", "scheme-missing", "doubled-scheme", "stray-characters",
    ),
    "is the Bearer prefix there, where one is wanted?": ("scheme-missing", "bearer-expected"),
    "is the token sent with the request at all?": (
        "no-credential", "redirect-lost-credential", "authorization-stripped",
    ),
    "does it work from a tool, with the same token?": (),  # the doctor is that tool: exit status 0
    "do cookies have to go along (withCredentials)?": ("cookie-missing",),
    "does the backend's CORS allow credentials?": (
        "cors-credentials", "cors-origin", "cors-headers", "cors-preflight", "cors-methods",
    ),
    "does the endpoint want another kind of authentication?": (
        "basic-expected", "api-key-expected", "dpop-expected", "digest-expected", "negotiate-expected",
        "other-scheme-expected",
    ),
    "does the backend's middleware work?": ("no-difference", "wrong-signature", "200-means-401", "403-means-401"),
    "user name or password wrong": ("wrong-password",),
    "403 is not 401": ("forbidden", "403-means-401", "401-means-403"),
}  # fmt: skip

SHORT = {  # "HTTP 401 Unauthorized"
    "the token or API key is missing": ("no-credential", "empty-credential"),
    "a JWT or session token has expired": ("token-expired",),
    "the credentials are invalid or damaged": ("token-malformed", "basic-malformed", "wrong-signature"),
    "the API key or secret is wrong": ("wrong-api-key", "wrong-password", "token-client-authentication"),
    "the token is not in the right field, or not formed right": (
        "api-key-expected",
        "bearer-expected",
        "scheme-missing",
    ),
    "the session has timed out": ("session-over", "login-page"),
    "the OAuth token was revoked": ("token-revoked", "token-not-known"),
    "the server does not say what it wants (it MUST)": ("no-challenge", "malformed-challenge"),
    "403: known, and not allowed": ("forbidden", "missing-scope"),
}

LONG = {  # "HTTP 401 Unauthorized — Why Your API Request Lacks Valid Authentication"
    "look at WWW-Authenticate for the scheme and the error": (
        "no-challenge", "malformed-challenge", "basic-expected", "bearer-expected",
    ),
    "exactly one space, exactly that prefix": ("extra-space", "scheme-missing", "scheme-misspelt"),
    "lower case where a server wants Bearer": ("scheme-case",),
    "decode the JWT: exp in the past": ("token-expired",),
    "decode the JWT: aud is another API's": ("wrong-audience",),
    "decode the JWT: iss is another server's": ("wrong-issuer", "wrong-environment"),
    "the key is the environment's: development or production": (
        "test-key-on-production", "live-key-on-test", "wrong-environment",
    ),
    "environment variables are not set in a new deployment": ("placeholder-credential", "empty-credential"),
    "a private key with a public prefix, or of the browser's kind": ("publishable-key",),
    "compare character by character: quotes, newline, invisible characters": (
        "quotes", "line-break", "invisible-character", "non-ascii", "extra-space",
    ),
    "works elsewhere with the same credential": (),  # the doctor sends it: exit status 0
    "a key was rotated, and the old one is still in use": ("wrong-api-key", "unknown-key", "token-revoked"),
    "code that leaves the header out under some condition": ("no-credential",),
    "clock skew between client and server": ("our-clock", "server-clock", "token-not-yet-valid"),
    "HTTP/2: the connection remembers an authentication": ("connection-bound",),
    "a proxy, CDN or gateway strips or changes Authorization": (
        "authorization-stripped", "authorization-rewritten", "underscore-in-field-name",
    ),
    "a proxy wants authentication of its own": ("proxy-authentication", "captive-portal"),
    "PKCE: the verifier does not match the challenge": ("token-pkce",),
    "a JWT signed with a development secret": ("wrong-signature", "unknown-key", "wrong-environment"),
    "a token that was refreshed is refused all the same": ("fresh-token-refused", "account-disabled"),
    "the refresh token has ended": ("token-grant-ended",),
    "malformed JWT": ("token-malformed", "opaque-token-for-jwt"),
    "store tokens where scripts cannot read them; rotate keys": (),  # not to be seen from outside
}  # fmt: skip

URGENT = {  # "Error with code 401: Urgent Fix Guide"
    "Authorization is missing or malformed": ("no-credential", "scheme-missing", "extra-space"),
    "the token has expired, or was revoked": ("token-expired", "token-revoked"),
    "the token lacks the scope": ("missing-scope", "token-scope"),
    "clock drift": ("our-clock", "server-clock"),
    "wrong audience or issuer": ("wrong-audience", "wrong-issuer"),
    "wrong kind of token: a refresh token, an ID token": ("refresh-token", "id-token", "wrong-token-type"),
    "the OAuth client is not set up right: secret, redirect URI": (
        "token-client-authentication", "token-redirect-uri", "token-client-not-allowed", "token-grant-type",
    ),
    "a gateway refuses the method of authentication, or is misrouted": ("gateway-answered", "blocked-on-the-way"),
    "a gateway strips Authorization by policy": ("authorization-stripped",),
    "invalid signature; the keys (JWKS) are not current": ("wrong-signature", "unknown-key", "wrong-algorithm"),
    "several identity providers": ("wrong-issuer", "jwt-for-opaque-token"),
    "single sign-on: is the session active, does the redirect bring a token": ("login-page", "session-over"),
    "401 after a login that worked: the session, or a revocation": ("cookie-missing", "session-over", "token-revoked"),
    "an outage of the identity provider": ("token-endpoint-failing",),
    "a fresh token, the smallest scope: does it still happen": ("fresh-token-refused", "missing-scope"),
    "CORS that looks like a 401": ("cors-preflight", "cors-headers", "cors-credentials"),
    "read the server's log": (),  # not to be seen from outside
}  # fmt: skip

ITEMS = [
    pytest.param(causes, id=f"{name}: {item}")
    for name, items in {"axios": AXIOS, "short": SHORT, "long": LONG, "urgent": URGENT}.items()
    for item, causes in items.items()
    if causes
]


@pytest.mark.parametrize("causes", ITEMS)
def test_what_the_articles_check_the_doctor_finds(causes):
    """Every item of the checklists is a cause of the doctor's, each of which is found on a server (test_causes.py)."""
    assert set(causes) <= {cause.id for cause in CAUSES}
