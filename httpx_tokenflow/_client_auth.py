"""Client authentication at the token endpoint: how the client proves itself (RFC 6749 §2.3).

Rules.

1. One method per request (RFC 6749 §2.3); without a secret the client only says who it is (§3.2.1).
2. Basic form-urlencodes id and secret before it base64s them (§2.3.1). Servers that take them raw exist:
   `ClientSecretBasic(raw=True)`.
3. An assertion serves once (RFC 7523 §3): each attempt has a new one, with a name of 128 random bits.
4. Tokens belong to who asked for them, so key and certificate are in the fingerprint of grants that ask in the client's
   own name, as a secret is (`proof`). A session outlives them all.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote_plus

from ._certificates import CertificateFiles
from ._errors import ConfigurationError
from ._signing import join, read_signer, signing_input

if TYPE_CHECKING:
    import os
    from collections.abc import Generator

    from ._signing import GivenKey
    from ._steps import ServerRequest, Step

__all__ = [
    "BACKDATED",
    "LIFETIME",
    "Client",
    "ClientAuth",
    "ClientSecretBasic",
    "ClientSecretJWT",
    "ClientSecretPost",
    "NoClientAuth",
    "PrivateKeyJWT",
    "TLSClientAuth",
    "assertion_claims",
    "audience_of",
]  # fmt: skip

LIFETIME = 60.0  # seconds that an assertion is good for; Keycloak takes no more, and it is used at once
BACKDATED = 10  # seconds by which it begins in the past

_HASHES = {"HS256": ("sha256", 32), "HS384": ("sha384", 48), "HS512": ("sha512", 64)}  # with their sizes in bytes


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends a request to an authorization server, as a client authentication needs to know it.

    Args:
        client_id: its identifier.
        secret: its secret; empty for methods that need none.
        issuer: the authorization server's identifier (RFC 8414 §2), or None if nobody has named it.
        token_endpoint: where tokens are issued.
        now: Unix seconds.
        timeout: seconds that there are for signing.
    """

    client_id: str
    secret: str = field(repr=False)
    issuer: str | None
    token_endpoint: str
    now: float
    timeout: float


class ClientAuth(Protocol):
    """Signs a request in the client's name."""

    @property
    def method(self) -> str:
        """Its name, after RFC 7591 §2 (`token_endpoint_auth_method`)."""

    @property
    def needs_secret(self) -> bool:
        """Whether it proves the client by a secret."""

    @property
    def proof(self) -> str | None:
        """Names the key or certificate that it proves the client by, without giving it away; None if it has none."""

    def identity(self) -> Mapping[str, Any]:
        """What makes the tokens of two clients different, as data that JSON can hold; part of the fingerprint."""

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        """`request` with the proof of who sends it: made anew for every attempt."""


@dataclass(frozen=True, slots=True)
class ClientSecretBasic:
    """`client_secret_basic`: id and secret in the Authorization header (RFC 6749 §2.3.1).

    Args:
        raw: do not form-urlencode them first, for servers that read them raw. Default False, as the RFC has it.
    """

    raw: bool = False
    method = "client_secret_basic"
    needs_secret = True
    proof = None

    def identity(self) -> Mapping[str, Any]:
        return {"method": self.method, "raw": self.raw}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        yield from ()
        pair = (client.client_id, client.secret)
        encoded = base64.b64encode(":".join(pair if self.raw else map(quote_plus, pair)).encode()).decode("ascii")
        return request.with_header("Authorization", f"Basic {encoded}")


@dataclass(frozen=True, slots=True)
class ClientSecretPost:
    """`client_secret_post`: id and secret in the body (RFC 6749 §2.3.1, not recommended there)."""

    method = "client_secret_post"
    needs_secret = True
    proof = None

    def identity(self) -> Mapping[str, Any]:
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        yield from ()
        return request.with_form(("client_id", client.client_id), ("client_secret", client.secret))


@dataclass(frozen=True, slots=True)
class NoClientAuth:
    """`none`: a public client says who it is and proves nothing (RFC 6749 §3.2.1)."""

    method = "none"
    needs_secret = False
    proof = None

    def identity(self) -> Mapping[str, Any]:
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        yield from ()
        return request.with_form(("client_id", client.client_id)) if client.client_id else request


@dataclass(frozen=True, slots=True)
class ClientSecretJWT:
    """`client_secret_jwt`: an assertion that the secret signs, which itself never goes over the wire (RFC 7523 §2.2).

    RFC 7518 §3.2 asks for a secret at least as long as the hash (32, 48, 64 bytes). Some servers refuse a shorter one
    without saying why, and whoever sees an assertion could guess it at leisure: it is refused here, with a reason.

    Args:
        alg: "HS256" (the default), "HS384" or "HS512".

    Raises:
        ConfigurationError: there is no such algorithm.
    """

    alg: str = "HS256"
    method = "client_secret_jwt"
    needs_secret = True
    proof = None

    def __post_init__(self) -> None:
        if self.alg not in tuple(_HASHES):
            raise ConfigurationError(f"ClientSecretJWT's alg must be one of {', '.join(_HASHES)}")

    def identity(self) -> Mapping[str, Any]:
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        yield from ()
        name, least = _HASHES[self.alg]
        secret = client.secret.encode()
        if len(secret) < least:
            raise ConfigurationError(
                f"client_secret is too short for {self.alg}, which wants {least} bytes (RFC 7518 §3.2): "
                "take a smaller HS…, have a longer one issued, or use ClientSecretBasic"
            )
        claims = assertion_claims(client.client_id, client.client_id, audience_of(None, client), client.now)
        data = signing_input(self.alg, {"typ": "JWT"}, claims)
        return _with_assertion(request, client, join(data, hmac.digest(secret, data, name)))


class PrivateKeyJWT:
    """`private_key_jwt`: an assertion that a private key signs (RFC 7523 §2.2, §3). Needs the extra `crypto`.

    Each attempt has an assertion of its own, good for a minute: servers take each but once.

    Args:
        key: PEM text or a private JWK; or `FileSecret` or `EnvSecret`, where one of them is: read each time; or a
            callable (sync or async) that gets bytes and returns their signature, for a key in a KMS, for which the
            extra is not needed. ECDSA signatures may be in DER. On an event loop give an async one: a sync one would
            stop the loop.
        kid: the name by which the server knows the key; None: the JWK's own.
        alg: how it signs; None: as the JWK says, or the key's type has it (RSA: RS256, P-256: ES256, Ed25519: EdDSA).
            Needed for a callable.
        audience: who the assertion is for: "issuer", "token_endpoint", "endpoint" (the URL of the request at hand, as
            Okta wants it), or whatever the server wants. None: the issuer where it is known, or else the token
            endpoint.
        headers: further members of the assertion's header, such as ``{"x5t#S256": …}``, by which Microsoft Entra knows
            a certificate.

    Raises:
        ConfigurationError: the key cannot sign, or the extra is not installed; the message says what to do.
    """

    __slots__ = ("_audience", "_headers", "_signer")
    method = "private_key_jwt"
    needs_secret = False

    def __init__(
        self,
        key: GivenKey,
        *,
        kid: str | None = None,
        alg: str | None = None,
        audience: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        given: Any = audience, headers or {}
        if audience is not None and not (isinstance(given[0], str) and audience):
            raise ConfigurationError("PrivateKeyJWT's audience must be a string")
        if not isinstance(given[1], Mapping) or given[1].keys() & {"alg", "kid", "typ"}:
            raise ConfigurationError("PrivateKeyJWT's headers must be a mapping, without alg, kid and typ")
        self._signer = read_signer(key, alg=alg, kid=kid, what="PrivateKeyJWT's key")
        self._audience = audience
        self._headers = dict(headers or {})

    def __repr__(self) -> str:
        return f"<PrivateKeyJWT {self.proof or self._signer.alg or 'with a key that is read each time'}>"

    @property
    def proof(self) -> str | None:
        """The key: its thumbprint; or its name, if it is elsewhere and has one."""
        return self._signer.proof

    def identity(self) -> Mapping[str, Any]:
        """Another key opens the door to the same sessions."""
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        """`request` with a new assertion."""
        audience = request.url if self._audience == "endpoint" else audience_of(self._audience, client)
        claims = assertion_claims(client.client_id, client.client_id, audience, client.now)
        signing = self._signer.sign(claims, client.timeout, headers=self._headers)
        return _with_assertion(request, client, (yield from signing))


class TLSClientAuth:
    """`tls_client_auth` and `self_signed_tls_client_auth`: a certificate in the TLS handshake (RFC 8705 §2).

    The server may bind tokens to the certificate (§3). Then the client of the API has to present it as well:
    ``context.load_cert_chain(cert, key)`` on the ``verify=`` of that client.

    Args:
        cert: path of the certificate in PEM, the client's own first, then its chain.
        key: path of its private key in PEM.
        password: of the key, where it is encrypted.

    Both files are read again when they have changed.

    Raises:
        ConfigurationError: a file cannot be read, the key is another certificate's, the certificate has expired.
    """

    __slots__ = ("certificate",)
    method = "tls_client_auth"
    needs_secret = False

    def __init__(
        self, cert: str | os.PathLike[str], key: str | os.PathLike[str], *, password: str | bytes | None = None
    ) -> None:
        self.certificate: CertificateFiles = CertificateFiles(cert, key, password)

    def __repr__(self) -> str:
        return f"<TLSClientAuth {self.proof}>"

    @property
    def proof(self) -> str:
        """The certificate, by its thumbprint: tokens may be bound to it."""
        return self.certificate.thumbprint

    def identity(self) -> Mapping[str, Any]:
        """Another certificate opens the door to the same sessions."""
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:
        """`request` with the identifier (§2); the proof is in the handshake."""
        yield from ()
        return request.with_form(("client_id", client.client_id))


def assertion_claims(iss: str, sub: str | None, aud: str, now: float, lifetime: float = LIFETIME) -> dict[str, Any]:
    """What every assertion says (RFC 7523 §3): from whom, about whom, for whom, when; and a name of its own.

    It begins a little in the past, for a server whose clock is behind ours.
    """
    start = int(now) - BACKDATED
    return {
        "iss": iss,
        **({} if sub is None else {"sub": sub}),
        "aud": aud,
        "jti": secrets.token_urlsafe(16),
        "iat": start,
        "exp": start + int(lifetime),
    }


def audience_of(given: str | None, client: Client) -> str:
    """Who an assertion is for (RFC 7523 §3).

    Args:
        given: "issuer", "token_endpoint", or any other name; None: the issuer, if it is known, or the token endpoint.
        client: who sends it.

    Raises:
        ConfigurationError: the issuer is wanted and not known.
    """
    if given == "issuer" and client.issuer is None:
        raise ConfigurationError(
            'the audience "issuer" is not known where endpoints are named: give issuer=, or the identifier itself'
        )
    if given in {None, "issuer"}:
        return client.issuer or client.token_endpoint
    return client.token_endpoint if given == "token_endpoint" else given


def _with_assertion(request: ServerRequest, client: Client, assertion: str) -> ServerRequest:
    """`request` with an assertion, and with the identifier, which many servers want beside it (RFC 7521 §4.2)."""
    return request.with_form(
        ("client_id", client.client_id),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
    )
