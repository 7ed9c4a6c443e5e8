"""The clients that the authorization server knows, and their keys: made anew for each run.

`make` returns them; what each is for is in the docstring of `conftest.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"

GRANTS = ["authorization_code", "refresh_token", "client_credentials", DEVICE_CODE, TOKEN_EXCHANGE, JWT_BEARER]
PUBLIC_GRANTS = ["authorization_code", "refresh_token", DEVICE_CODE]

LOOPBACK = "http://127.0.0.1/callback"  # RFC 8252 §7.3: any port will do
WEB = "https://app.example/callback"

# oidc-provider takes no id and no secret with other characters than ASCII's printable ones (RFC 6749 App. A).
SPECIAL_ID = "sp:ec ial+id%2F/&~"
SPECIAL_SECRET = 'a b:c+d%20e/f&g=h?"i\\j#{k}|'


@dataclass(frozen=True)
class Key:
    """A private key in all spellings."""

    alg: str
    kid: str
    private: Any = field(repr=False)

    @property
    def pem(self) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def jwk(self) -> dict[str, Any]:
        """The private JWK."""
        return {**_jwk(self.private), "alg": self.alg, "kid": self.kid, "use": "sig"}

    @property
    def public_jwk(self) -> dict[str, Any]:
        return {**_jwk(self.private.public_key()), "alg": self.alg, "kid": self.kid, "use": "sig"}

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        """A JWT with these claims."""
        return jwt.encode(claims, self.private, self.alg, {"kid": self.kid, **headers})


def _jwk(key: Any) -> dict[str, Any]:
    kinds = {"RSA": RSAAlgorithm, "Ellip": ECAlgorithm, "EC": ECAlgorithm, "Ed": OKPAlgorithm}
    algorithm = next(kind for name, kind in kinds.items() if type(key).__name__.startswith(name))
    found = json.loads(algorithm.to_jwk(key))
    return {name: value for name, value in found.items() if name != "key_ops"}


def make_key(alg: str, kid: str) -> Key:
    """A new key for `alg`."""
    if alg.startswith("ES"):
        return Key(alg, kid, ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[alg]))
    if alg == "EdDSA":
        return Key(alg, kid, ed25519.Ed25519PrivateKey.generate())
    return Key(alg, kid, rsa.generate_private_key(65537, 2048))


@dataclass(frozen=True)
class Client:
    """One registered client: what a program would have been told about itself."""

    id: str
    secret: str | None = field(default=None, repr=False)
    method: str = "client_secret_basic"
    redirect_uri: str = LOOPBACK


@dataclass(frozen=True)
class Registry:
    """All clients, by their names, and what belongs to them."""

    by_name: dict[str, Client]
    keys: dict[str, Key]  # the keys of private_key_jwt, by algorithm
    service: Key  # signs assertions as the issuer `service_issuer` (JWT bearer)
    metadata: list[dict[str, Any]]

    service_issuer: str = "https://service.example"

    def settings(self) -> dict[str, Any]:
        """What the server must be told."""
        return {
            "clients": self.metadata,
            "nonce_clients": ["dpop", "dpop-public"],
            "assertion_issuers": {self.service_issuer: {"keys": [self.service.public_jwk]}},
        }


def make(certificate_jwk: dict[str, Any]) -> Registry:
    """The clients, with new keys; `certificate_jwk` is the key of the self-signed certificate."""
    keys = {alg: make_key(alg, f"{alg}-key") for alg in ("ES256", "RS256", "EdDSA")}
    jwks = {"keys": [key.public_jwk for key in keys.values()]}
    by_name: dict[str, Client] = {}
    metadata: list[dict[str, Any]] = []

    def add(name: str, method: str = "client_secret_basic", *, public: bool = False, **more: Any) -> None:
        client_id = more.pop("client_id", name)
        secret = more.pop("client_secret", f"the secret of {name}, long enough") if "secret" in method else None
        redirect = more.pop("redirect_uri", LOOPBACK)
        by_name[name] = Client(client_id, secret, method, redirect)
        metadata.append(
            {
                "client_id": client_id,
                **({"client_secret": secret} if secret else {}),
                "token_endpoint_auth_method": method,
                "application_type": "native" if redirect == LOOPBACK else "web",
                "redirect_uris": [redirect],
                "response_types": ["code"],
                "grant_types": PUBLIC_GRANTS if public else GRANTS,
                **more,
            }
        )

    bound = {"tls_client_certificate_bound_access_tokens": True}
    add("basic")
    add("post", "client_secret_post")
    add("secret-jwt", "client_secret_jwt")
    add("key-jwt", "private_key_jwt", jwks=jwks)
    add("tls", "tls_client_auth", tls_client_auth_san_dns="client.example", **bound)
    add("tls-self-signed", "self_signed_tls_client_auth", jwks={"keys": [certificate_jwk]}, **bound)
    add("public", "none", public=True)
    add("special", client_id=SPECIAL_ID, client_secret=SPECIAL_SECRET)
    add("special-post", "client_secret_post", client_id=f"{SPECIAL_ID} post", client_secret=SPECIAL_SECRET)
    add("web", redirect_uri=WEB)
    add("short", token_lifetime=2)
    add("par", require_pushed_authorization_requests=True)
    add("dpop", dpop_bound_access_tokens=True)
    add("dpop-public", "none", public=True, dpop_bound_access_tokens=True)
    add("dpop-free", dpop_bound_access_tokens=True)
    add("bound", **bound)
    return Registry(by_name, keys, make_key("ES256", "service-key"), metadata)
