"""The JWT bearer grant (RFC 7523 §2.1): a signed statement buys a token, and nobody has to be asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack

from httpx_tokenflow._client_auth import BACKDATED, LIFETIME, assertion_claims, audience_of
from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._signing import read_signer

from ._base import TokenEndpoint
from ._given import GivenToken

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._client_auth import Client
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._signing import GivenKey, Signer
    from httpx_tokenflow._steps import Step

    from ._options import ClientOptions

__all__ = ["JWTBearer"]

_MADE = frozenset({"iss", "sub", "aud", "jti", "iat", "exp"})  # members of an assertion that `claims=` cannot have


class JWTBearer(TokenEndpoint):
    """A token for an assertion: for service accounts, and for who has a token of another issuer (RFC 7523 §2.1).

    With `key` it signs the assertion itself, a new one for each request; that needs the extra `crypto`, unless the key
    is a callable. With `assertion` somebody else has signed it: the token that Kubernetes or a CI system gives to a
    workload, or that of a person on whose behalf the program goes on.

    Args:
        token_endpoint: the URL that issues tokens; https, or http to loopback. Or else `issuer`.
        key: PEM text, a private JWK, where one of them is, or a callable that signs, as for `PrivateKeyJWT`.
        iss: who makes the statement, such as the address of a service account. Needed with `key`.
        sub: whom it is about. None: `iss` itself; empty: it says nothing of that, as Google would have it where the
            service account acts for nobody.
        aud: who it is for: "issuer", "token_endpoint", or whatever the server wants; Google wants its token endpoint,
            "https://oauth2.googleapis.com/token". None: the issuer where it is known, or else the token endpoint.
        alg: how the key signs; None: as for `PrivateKeyJWT`.
        kid: the name by which the server knows the key; None: the JWK's own.
        claims: further members of the assertion. The scope goes into it as well as into the request, unless it is one
            of these: Google looks for it there, and others pass it over (RFC 7519 §4).
        lifetime: seconds that an assertion is good for. None: 60.
        assertion: instead of `key` and all that goes with it, the assertion itself; or a callable (sync or async) that
            is asked for it at each request. Where neither is given, `for_subject` says it, as for each caller of a
            service (`httpx_tokenflow.fastapi.OnBehalfOf`).
        subject_key: names whose assertion it is, so that grants elsewhere, in other processes that share the store
            too, share the tokens. Without it an assertion counts by its hash, and a callable makes the tokens this
            object's own.
        client_id: who the client is, where the server wants to know (RFC 7521 §4.1).
        **options: see `ClientOptions`. Without `client_secret` and `client_auth` no client is authenticated.

    Raises:
        ConfigurationError: an argument is missing or contradicts another, or the key cannot sign.
        InvalidCredential: the secret or the assertion has characters that no header can carry.
    """

    widens = True
    needs_client_id = False
    parameters: frozenset[str] = frozenset({"assertion"})

    def __init__(
        self,
        token_endpoint: str | None = None,
        *,
        key: GivenKey | None = None,
        iss: str | None = None,
        sub: str | None = None,
        aud: str | None = None,
        alg: str | None = None,
        kid: str | None = None,
        claims: Mapping[str, Any] | None = None,
        lifetime: float | None = None,
        assertion: str | Callable[[], Any] | None = None,
        subject_key: str | None = None,
        client_id: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__({"token_endpoint": token_endpoint}, client_id, **options)
        ours = {"iss": iss, "sub": sub, "aud": aud, "alg": alg, "kid": kid, "claims": claims, "lifetime": lifetime}
        if key is not None and assertion is not None:
            raise ConfigurationError("JWTBearer needs key= to sign assertions with, or assertion= instead: one of them")
        if key is None and (extra := [f"{name}=" for name, value in ours.items() if value is not None]):
            raise ConfigurationError(
                f"{', '.join(extra)} cannot get into a ready assertion=: leave it out, or give key= to sign one"
            )
        if assertion is None and subject_key is not None:
            raise ConfigurationError("subject_key= is for assertion=: with key= it is sub= that says whose tokens")
        self._assertion: GivenToken | _Statement | None = None
        if assertion is not None:
            self._assertion = GivenToken(assertion, "assertion", subject_key)
        elif key is not None:
            if not iss:
                raise ConfigurationError("iss is missing: who makes the statement, such as a service account's address")
            for name, value in {"iss": iss, "sub": sub, "aud": aud}.items():
                if not (value is None or isinstance(value, str)):
                    raise ConfigurationError(f"{name}= must be a string")
            signer = read_signer(key, alg=alg, kid=kid, what="JWTBearer's key")
            about = (iss if sub is None else sub) or None
            self._assertion = _Statement(signer, iss, about, aud, _checked(claims), _seconds(lifetime))

    @property
    def name(self) -> str:
        """Who asks where, for logs and reprs."""
        who = self._client_id or (self._assertion.iss if isinstance(self._assertion, _Statement) else "assertion")
        return f"{who}@{self._server.host}"

    def identity(self) -> Mapping[str, Any]:
        """With what the assertion says and who signs it; and with the client's secret, as for client credentials."""
        assertion = self._stated().identity
        return {**super().identity(), "assertion": assertion, "client_secret": self._secret_identity()}

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """A new token; what we hold does not matter."""
        fresh = partial(self._fresh, self._widened(attempt) or self._scope)
        return self._ask(attempt, "urn:ietf:params:oauth:grant-type:jwt-bearer", (), fresh=fresh)

    def _fresh(self, scope: str | None, client: Client) -> Generator[Step, Any, tuple[tuple[str, str], ...]]:
        assertion = self._stated()
        if isinstance(assertion, GivenToken):
            return (("assertion", (yield from assertion.read(client.timeout))),)
        return (("assertion", (yield from assertion.sign(scope, client))),)

    def for_subject(self, assertion: str) -> Self:
        """The same with somebody's `assertion`; all that are made so share what is known of the server.

        Raises:
            ConfigurationError: this one signs its own.
            InvalidCredential: it has characters that no header can carry, or is empty.
        """
        if isinstance(self._assertion, _Statement):
            raise ConfigurationError("JWTBearer signs its own assertions with key=: leave that out for for_subject()")
        return self._having(_assertion=GivenToken(assertion, "assertion", None))

    def _stated(self) -> GivenToken | _Statement:
        if self._assertion is None:
            raise ConfigurationError("JWTBearer needs key= to sign assertions with, or assertion=, or for_subject()")
        return self._assertion


@dataclass(frozen=True, slots=True)
class _Statement:
    """What the assertions say that we sign."""

    signer: Signer
    iss: str
    sub: str | None
    aud: str | None
    claims: Mapping[str, Any]
    lifetime: float

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its meaning: not its times, nor where it goes."""
        return {"iss": self.iss, "sub": self.sub, "aud": self.aud, "claims": self.claims, "key": self.signer.proof}

    def sign(self, scope: str | None, client: Client) -> Generator[Step, Any, str]:
        """An assertion, made for one request."""
        made = assertion_claims(self.iss, self.sub, audience_of(self.aud, client), client.now, self.lifetime)
        asked = {} if scope is None else {"scope": scope}
        return (yield from self.signer.sign({**asked, **self.claims, **made}, client.timeout))


def _checked(claims: Any) -> Mapping[str, Any]:
    if claims is None:
        return {}
    if not isinstance(claims, Mapping):
        raise ConfigurationError("claims= must be a mapping, of further members of the assertion")
    if taken := claims.keys() & _MADE:
        raise ConfigurationError(f"claims= has {', '.join(sorted(taken))}, which the grant says itself")
    try:
        found: Mapping[str, Any] = json.loads(json.dumps(dict(claims), allow_nan=False))
    except (TypeError, ValueError):
        raise ConfigurationError("claims= has something that JSON cannot hold") from None
    return found


def _seconds(lifetime: Any) -> float:
    if lifetime is None:
        return LIFETIME
    if not (isinstance(lifetime, int | float) and math.isfinite(lifetime) and lifetime > BACKDATED):
        raise ConfigurationError(
            f"lifetime must be a number, more than {BACKDATED} seconds: assertions begin so far in the past"
        )
    return float(lifetime)
