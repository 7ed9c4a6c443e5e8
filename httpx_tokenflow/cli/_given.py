"""What is given to the doctor beside the request: whom to trust, secrets, endpoints, a profile; read and checked.

Rules.

1. A secret comes from an environment variable, standard input, a prompt or an option; no message has it.
2. What cannot be is one sentence that names the option.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote_plus, urlsplit
from urllib.request import getproxies

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow._origins import is_loopback
from httpx_tokenflow.doctor import Expected, Fields
from httpx_tokenflow.doctor._front import origin, without_secrets

from ._asked import as_basic, from_input, parsed_url
from ._quoting import is_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ._asked import Asked
    from ._fetching import Wanted
    from ._profiles import Profile

__all__ = [
    "check_resource",
    "endpoint_of",
    "expected_of",
    "introspection_at",
    "profile_of",
    "queried",
    "secret_of",
    "trust",
    "wanted_by",
]

_LONG = 16  # characters of a query's value that may be a secret


def trust(asked: Asked, cacert: Path | None, named: Iterable[str | None]) -> Any:
    """Whom to trust: one context for all connections, as making one takes longer than all the rest."""
    import ssl

    import httpx

    if asked.is_insecure and cacert is None:
        return False
    file = str(cacert) if cacert is not None else asked.cacert
    if file is None:
        # Nothing goes to another origin than those that are named: where none is https, nobody has to be trusted.
        is_plain = not any(url and url.startswith("https:") for url in named) and not getproxies()
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else httpx.create_ssl_context()

    try:
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ConfigurationError("--cacert: the file has no certificates in PEM") from None
    except OSError as error:
        raise ConfigurationError(f"--cacert: the file cannot be read: {error.strerror}") from None


def profile_of(name: str | None, config: Path | None) -> Profile | None:
    """The profile of that name, if one was named."""
    if name is None:
        return None
    from ._profile_file import config_path, read_config
    from ._profiles import load_profile

    path = config_path(config)
    if name not in read_config(path) and not is_name(name):
        raise ConfigurationError(f"--profile: there is no profile of that name in {path}")
    return load_profile(name, config)


def check_resource(known: Profile, url: str) -> None:
    """Nothing, if the profile's tokens may go to `url`: its `resource` is the API that they are for (RFC 8707).

    Raises:
        ConfigurationError: that is at another origin.
    """
    said = known.settings.get("resource") or ()
    urls = [one for one in ([said] if isinstance(said, str) else said) if one.startswith(("https://", "http://"))]
    if urls and origin(url) not in map(origin, urls):
        raise ConfigurationError(
            f"the tokens of this profile are for {', '.join(map(without_secrets, urls))}, and the URL is at another "
            f'origin: to send one there all the same, give it: --token "$({known.how_to("token")})"'
        )


def expected_of(known: Profile | None, issuer: str | None, audience: str | None, scope: str | None) -> Expected:
    """What the options say; and where they say nothing, what the profile does."""
    if known is None:
        return Expected(issuer=issuer, audience=audience, scopes=frozenset((scope or "").split()))
    from ._fetching import expected_by

    said = expected_by(known)
    own = issuer or audience or scope
    return Expected(
        issuer=issuer or said.issuer,
        audience=audience or said.audience,
        scopes=said.scopes if scope is None else frozenset(scope.split()),
        whence="it was asked for" if own else said.whence,
    )


def wanted_by(
    endpoint: str,
    grant: str,
    client_id: str | None,
    secret: str | None,
    form: dict[str, str | None],
    scope: str | None,
    audience: str | None,
    resources: Any,
) -> Wanted:
    """The token request that the options ask for."""
    from ._fetching import Wanted, checked_wanted

    if client_id is None:
        raise ConfigurationError("--token-endpoint needs --client-id: who asks for the token")
    if secret is None and grant == "client_credentials":
        secret = _prompted()
    names = {"refresh_token": ("refresh_token",), "authorization_code": ("code", "redirect_uri", "code_verifier")}
    pairs = [(name, form[name]) for name in names.get(grant, ())]
    return checked_wanted(
        Wanted(
            endpoint=endpoint,
            grant=grant,
            client_id=client_id,
            client_secret=secret,
            parameters=tuple((name, value) for name, value in pairs if value),
            scope=scope,
            audience=audience,
            resources=tuple(resources),
        )
    )


def secret_of(option: str | None, variable: str | None, what: str) -> str | None:
    """A secret, from an option, standard input or an environment variable."""
    if option is not None and variable is not None:
        raise ConfigurationError(f"{what} and {what}-env are two of one thing: give one")
    if variable is None:
        return from_input(f"{what} -") if option == "-" else option
    value = os.environ.get(variable)
    if not value:
        state = "empty" if value == "" else "not set"
        named = f" {variable}" if is_name(variable) else ""
        raise ConfigurationError(f"{what}-env: the environment variable{named} is {state}")
    return value


def _prompted() -> str | None:
    if not sys.stdin.isatty():
        return None
    import getpass

    return getpass.getpass("The client's secret: ") or None


def introspection_at(endpoint: str | None, client_id: str | None, secret: str | None) -> tuple[str, Fields] | None:
    """The endpoint to ask about the token, and the client's authentication there."""
    if endpoint is None:
        return None
    if client_id is not None and secret is None:
        raise ConfigurationError("--introspection-endpoint needs the client's secret: --client-secret-env NAME")
    pairs = [("Accept", "application/json")]
    if client_id is not None and secret is not None:  # RFC 6749 §2.3.1: both are form-encoded first
        pairs.append(("Authorization", as_basic(quote_plus(client_id), quote_plus(secret))))
    bare = str(endpoint_of(endpoint, "--introspection-endpoint"))
    parts = urlsplit(bare)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            "--introspection-endpoint must be https (RFC 7662 §4): plain http is for loopback only"
        )
    return bare, Fields(pairs)


def endpoint_of(url: str | None, what: str) -> str | None:
    """A URL of the authorization server's, if it was given, and can be one."""
    if url is None:
        return None
    bare, userinfo = parsed_url(url, what)
    if userinfo is not None:
        raise ConfigurationError(f"{what} has a user or a password in it: leave it out")
    return bare


def queried(url: str) -> list[str]:
    """The values of a URL's query that are long enough to be secrets."""
    try:
        pairs = parse_qsl(urlsplit(url).query, max_num_fields=200)
    except ValueError:
        return []
    return [value for _, value in pairs if len(value) >= _LONG and "://" not in value]
