"""The arguments that grants at an authorization server have in common, and the checking of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

from httpx_tokenflow._client_auth import ClientSecretBasic, NoClientAuth
from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._tokens import check_credential

from ._keys import check_sequence

if TYPE_CHECKING:
    from httpx_tokenflow._client_auth import ClientAuth

__all__ = ["ClientOptions", "Secret", "as_audience", "as_extra", "as_proof", "as_resources", "as_scope", "is_text"]

# What most have, of which one is enough for all.
_BASIC, _NO_PROOF = ClientSecretBasic(), NoClientAuth()
_NONE: Mapping[str, str] = MappingProxyType({})

Secret = str | Callable[[], Any] | Sequence[str]
"""A secret; or a callable (sync or async) that is asked for it at each renewal, and again if the server refuses what it
returned; or a sequence of secrets in the order to try: the one that works is tried first from then on."""


class ClientOptions(TypedDict, total=False):
    """What all grants at an authorization server take, beside their own.

    Attributes:
        issuer: the authorization server's identifier, from which its endpoints are discovered (RFC 8414, OpenID
            Connect); or several, of which the API's own metadata names one (RFC 9728). Instead of endpoints.
        metadata: with endpoints, what the server's metadata document would say beside them, such as
            ``{"revocation_endpoint": "https://…"}``.
        client_secret: a string; or a callable (sync or async) asked at each renewal; or a sequence of strings in the
            order to try: after `invalid_client` the next is tried once, and kept if it works. None where a
            `client_auth` needs none, and for a public client.
        client_auth: how the client proves itself. With a secret `ClientSecretBasic()`, or `ClientSecretPost()` where
            the server's metadata offers that alone; without one nothing is proven.
        scope: the scope to ask for, a string or several.
        audience: for servers that take one.
        resource: one or several resource indicators (RFC 8707).
        extra: further parameters of the token request.
        token_type: "Bearer" to present the token as one whatever type the server calls it.
    """

    issuer: str | Iterable[str] | None
    metadata: Mapping[str, Any] | None
    client_secret: Secret | None
    client_auth: ClientAuth | None
    scope: str | Iterable[str] | None
    audience: str | None
    resource: str | Iterable[str] | None
    extra: Mapping[str, str] | None
    token_type: str | None


def as_proof(secret: Secret | None, given: ClientAuth | None) -> tuple[Secret, ClientAuth]:
    """The secret, empty if there is none, and how the client proves itself."""
    if given is not None and (isinstance(given, type) or not hasattr(given, "sign")):
        raise ConfigurationError("client_auth= must be an object such as ClientSecretPost()")
    client_auth: ClientAuth = given or (_NO_PROOF if secret is None else _BASIC)
    if secret is None:
        if client_auth.needs_secret:
            raise ConfigurationError(f"{type(client_auth).__name__} needs client_secret=")
        return "", client_auth
    if not client_auth.needs_secret:
        raise ConfigurationError(f"client_secret= and {type(client_auth).__name__} contradict each other: keep one")
    if isinstance(secret, str):
        check_credential(secret, "client_secret")
    elif not callable(secret):
        secret = list(check_sequence(secret, "client_secret"))  # a list: the order changes
    return secret, client_auth


def as_scope(given: str | Iterable[str] | None) -> str | None:
    """A scope as it is written on the wire (RFC 6749 §3.3)."""
    return None if given is None else " ".join(_strings(given, "scope"))


def as_resources(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Resource indicators (RFC 8707 §2)."""
    return _strings(given or (), "resource")


def _strings(given: Any, name: str) -> tuple[str, ...]:
    several = (given,) if isinstance(given, str) else given
    found = tuple(several) if isinstance(several, Iterable) else (None,)
    if not all(isinstance(one, str) and one.isprintable() for one in found):
        raise ConfigurationError(f"{name}= must be a string or several, without control characters")
    return found


def as_audience(given: str | None) -> str | None:
    """An audience, or None."""
    if given and not is_text(given):
        raise ConfigurationError("audience= must be a string, without control characters")
    return given


def as_extra(given: Any) -> Mapping[str, str]:
    """Further parameters of a request."""
    found = given or _NONE
    if not isinstance(found, Mapping) or not all(isinstance(one, str) for pair in found.items() for one in pair):
        raise ConfigurationError("extra= must be a mapping of strings to strings")
    return dict(found) if found else _NONE


def is_text(value: Any) -> bool:
    """Whether it is a printable string, without white space around it."""
    return isinstance(value, str) and value.isprintable() and value == value.strip()
