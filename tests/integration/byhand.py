"""OAuth done by hand: what a test needs to prove the rig, or to get a session that the package then goes on with."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from integration.clients import DEVICE_CODE

if TYPE_CHECKING:
    import httpx
    from integration.clients import Client, Key
    from integration.person import Person
    from integration.rig import Rig

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PORT = 54321  # of a loopback redirect that nobody listens to


def prove(rig: Rig, client: Client) -> dict[str, Any]:
    """Keyword arguments for httpx's `post` that prove the client; not for those with a key or a certificate."""
    if client.method == "client_secret_basic":
        pair = ":".join(quote_plus(part) for part in (client.id, client.secret or ""))
        return {"headers": {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}}
    if client.method == "client_secret_post":
        return {"data": {"client_id": client.id, "client_secret": client.secret}}
    return {"data": {"client_id": client.id}}


def assertion_claims(client: Client, audience: str, **other: Any) -> dict[str, Any]:
    """What a client says in its assertion (RFC 7523 §3)."""
    now = int(time.time())
    return {
        "iss": client.id,
        "sub": client.id,
        "aud": audience,
        "iat": now,
        "exp": now + 60,
        "jti": secrets.token_urlsafe(16),
        **other,
    }


def post(http: httpx.Client, rig: Rig, name: str, *, endpoint: str = "token", headers: Any = None, **form: Any) -> Any:
    """A request to the authorization server in the name of a client; the answer, whatever it is."""
    given = prove(rig, rig.clients[name])
    return http.post(
        rig.endpoint(endpoint),
        data=given.get("data", {}) | form,
        headers=given.get("headers", {}) | (headers or {}),
    )


def client_credentials(http: httpx.Client, rig: Rig, name: str = "basic", **form: Any) -> dict[str, Any]:
    """A token for the client itself."""
    return _good(post(http, rig, name, grant_type="client_credentials", **form))


def authorization_url(rig: Rig, name: str, **more: Any) -> tuple[str, str, str]:
    """Where the person is sent, the PKCE verifier, and the redirect URI."""
    client = rig.clients[name]
    redirect = client.redirect_uri.replace("127.0.0.1", f"127.0.0.1:{PORT}")
    verifier, parameters = authorization_parameters(client.id, redirect, **more)
    return f"{rig.endpoint('authorization')}?{urlencode(parameters, doseq=True)}", verifier, redirect


def authorization_parameters(client_id: str, redirect: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """The PKCE verifier, and the parameters of an authorization request."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return verifier, {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect,
        "scope": "openid offline_access read",
        "state": secrets.token_urlsafe(16),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **more,
    }


def query(url: str) -> dict[str, str]:
    """The parameters of a callback URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def log_in(
    http: httpx.Client, rig: Rig, person: Person, name: str = "basic", *, headers: Any = None, **more: Any
) -> dict[str, Any]:
    """The answer of the token endpoint to a login by authorization code."""
    url, verifier, redirect = authorization_url(rig, name, **more)
    callback = query(person.log_in(url))
    assert callback["iss"] == rig.issuer
    form = {"code": callback["code"], "redirect_uri": redirect, "code_verifier": verifier}
    return _good(post(http, rig, name, grant_type="authorization_code", headers=headers, **form))


def refresh(http: httpx.Client, rig: Rig, name: str, refresh_token: str, **form: Any) -> Any:
    """The answer to a refresh token."""
    return post(http, rig, name, grant_type="refresh_token", refresh_token=refresh_token, **form)


def device(http: httpx.Client, rig: Rig, name: str, **form: Any) -> dict[str, Any]:
    """The beginning of a device's login."""
    return _good(post(http, rig, name, endpoint="device_authorization", scope="openid offline_access read", **form))


def poll(http: httpx.Client, rig: Rig, name: str, device_code: str) -> Any:
    """Ask whether the person has confirmed."""
    return post(http, rig, name, grant_type=DEVICE_CODE, device_code=device_code)


def proof(
    key: Key, method: str, url: str, *, nonce: str | None = None, token: str | None = None, **claims: Any
) -> dict[str, str]:
    """The header with a DPoP proof (RFC 9449 §4.2)."""
    public = {name: value for name, value in key.public_jwk.items() if name in {"kty", "crv", "x", "y", "n", "e"}}
    payload = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": int(time.time())}
    if nonce is not None:
        payload["nonce"] = nonce
    if token is not None:
        payload["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
    return {"DPoP": key.sign(payload | claims, typ="dpop+jwt", jwk=public)}


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": f"Bearer {token}"}


def _good(response: Any) -> dict[str, Any]:
    assert response.status_code in {200, 201}, response.text
    return response.json()
