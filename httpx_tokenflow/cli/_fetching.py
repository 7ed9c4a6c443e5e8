"""A token to look with, got first: from a profile, or from a token endpoint that is named.

Rules.

1. It is one request, by the client of the grants, whose answer is read as theirs: how it is refused is a fact for the
   diagnosis (`Refusal`), and no error.
2. Of a profile nobody logs in; its session is renewed under the lease, and stays what it is.
3. What is sent to the token endpoint goes to no one else, and all of it that is a secret is in `Fetched.secrets`.
"""

from __future__ import annotations

import secrets as randomness
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import (
    ConfigurationError,
    RenewalPolicy,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._grants._base import TokenEndpoint
from httpx_tokenflow.doctor import Expected
from httpx_tokenflow.doctor._front import refusal_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Mapping

    from httpx_tokenflow import Token
    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._steps import Step
    from httpx_tokenflow.doctor import Refusal

    from ._profiles import Profile

__all__ = ["GRANTS", "Fetched", "Wanted", "expected_by", "fetch", "fetch_by"]

GRANTS = ("client_credentials", "refresh_token", "authorization_code")
# Scopes that are for the login, and in no access token.
_OF_LOGIN = frozenset({"openid", "offline_access", "profile", "email", "address", "phone"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a token endpoint.

    Args:
        endpoint: its URL.
        grant: one of `GRANTS`.
        client_id: who asks.
        client_secret: how they prove it; None: not at all.
        parameters: those of the grant alone.
        scope: to ask for; None: none.
        audience: likewise.
        resources: the APIs that the token is for (RFC 8707).
    """

    endpoint: str
    grant: str = GRANTS[0]
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    scope: str | None = None
    audience: str | None = None
    resources: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no text may show."""
        hidden = [value for name, value in self.parameters if name != "redirect_uri"]
        return tuple(one for one in (self.client_secret, *hidden) if one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A token, or how there is none.

    Args:
        authorization: the value of the header field; None where there is no token.
        age: seconds since it was issued, if that is known.
        refusal: why there is none.
        seconds: that it took.
        source: where it is from, in words.
        secrets: what no text may show.
    """

    authorization: str | None = field(default=None, repr=False)
    age: float | None = None
    refusal: Refusal | None = None
    seconds: float = 0.0
    source: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        refused = None if self.refusal is None else self.refusal.error or self.refusal.text
        return {"source": self.source, "seconds": round(self.seconds, 3), "refused": refused}


class _Once(TokenEndpoint):
    """One token request with parameters that are given as they are."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(
            {"token_endpoint": wanted.endpoint},
            wanted.client_id,
            client_secret=wanted.client_secret,
            scope=wanted.scope,
            audience=wanted.audience,
            resource=wanted.resources,
        )
        self._wanted = wanted
        self._own = randomness.token_hex(16)

    def identity(self) -> Mapping[str, Any]:
        """Nobody else's."""
        return {**super().identity(), "own": self._own}

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """The token that the endpoint answers with."""
        return self._ask(attempt, self._wanted.grant, self._wanted.parameters)


def fetch(wanted: Wanted, *, timeout: float, verify: bool | ssl.SSLContext = True) -> Fetched:
    """Ask the token endpoint, once.

    Args:
        wanted: what is asked.
        timeout: seconds for it.
        verify: as httpx takes it.

    Raises:
        ConfigurationError: something is set up in a way that cannot work.
    """
    policy = RenewalPolicy(budget=timeout, attempts=1, early_window=0.0, connect_timeout=timeout)
    source = f"the token endpoint, {wanted.endpoint}"

    def ask() -> tuple[Token, float]:
        with TokenAuth(_Once(wanted), policy=policy, verify=verify) as auth:
            return auth.token(), 0.0

    found = _tried(ask, source)
    refusal = None if found.refusal is None else replace(found.refusal, grant_type=wanted.grant)
    return replace(found, refusal=refusal, secrets=(*found.secrets, *wanted.secrets))


def fetch_by(profile: Profile) -> Fetched:
    """The token of a profile, renewed if need be.

    Raises:
        TokenFlowError: nobody is logged in, or the store fails.
    """

    def ask() -> tuple[Token, float | None]:
        token = profile.token()
        entry = profile.stored()
        return token, None if entry is None else max(0.0, entry.age(time.time()))

    return _tried(ask, f"the profile {profile.name}")


def _tried(ask: Any, source: str) -> Fetched:
    began = time.monotonic()
    try:
        token, age = ask()
    except (TokenRequestError, TokenEndpointUnavailable) as error:
        if isinstance(error, TokenRequestError) and error.status is None:
            raise  # no server has said so: there is a sentence that says what to do
        return Fetched(refusal=refusal_of(error), source=source, seconds=time.monotonic() - began)
    secrets = tuple(one for one in (token.access_token, token.refresh_token, token.id_token) if one)
    return Fetched(
        authorization=f"{token.token_type} {token.access_token}", age=age, source=source, secrets=secrets,
        seconds=time.monotonic() - began,
    )  # fmt: skip


def expected_by(profile: Profile) -> Expected:
    """What a profile lets one expect of its tokens."""
    said = profile.settings
    resource = said.get("resource")
    several = [resource] if isinstance(resource, str) else resource or []
    scope = said.get("scope") or ""
    words = scope.split() if isinstance(scope, str) else scope
    issuer = said.get("issuer")
    return Expected(
        issuer=str(issuer) if issuer else None,
        audience=said.get("audience") or (several[0] if len(several) == 1 else None),
        scopes=frozenset(words) - _OF_LOGIN,
        whence=f"the profile {profile.name} says so",
    )


def checked_wanted(wanted: Wanted) -> Wanted:
    """`wanted`, if it has all that its grant needs.

    Raises:
        ConfigurationError: something is missing.
    """
    given = dict(wanted.parameters)
    missing = None
    if wanted.grant not in GRANTS:
        missing = f"--grant is one of {', '.join(GRANTS)}"
    elif wanted.grant == "client_credentials" and wanted.client_secret is None:
        missing = "client_credentials needs the client's secret: --client-secret-env NAME"
    elif wanted.grant == "refresh_token" and not given.get("refresh_token"):
        missing = "refresh_token needs one: --refresh-token-env NAME, or --refresh-token - for standard input"
    elif wanted.grant == "authorization_code" and not given.get("code"):
        missing = "authorization_code needs --code, and --redirect-uri and --code-verifier as the login had them"
    if missing is not None:
        raise ConfigurationError(missing)
    try:
        _Once(wanted)
    except TokenFlowError as error:
        raise ConfigurationError(f"the token request cannot be made: {error}") from None
    return wanted
