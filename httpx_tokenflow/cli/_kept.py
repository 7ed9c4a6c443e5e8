"""The grants behind a profile: those that keep a session going and never open one, and those that log somebody in.

What they are made of are the profile's settings, which have been checked (`_profile_file`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from httpx_tokenflow import (
    AuthorizationCode,
    ClientCredentials,
    ClientSecretBasic,
    ClientSecretPost,
    ConfigurationError,
    DeviceCode,
    EnvSecret,
    FileSecret,
    PrivateKeyJWT,
    TLSClientAuth,
    TokenFlowError,
)
from httpx_tokenflow._attempt import unavailable
from httpx_tokenflow._signing import read_kept_key

from ._profile_file import ENDPOINTS, GRANTS, expanded
from ._signals import HeldLogin

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._client_auth import Client, ClientAuth
    from httpx_tokenflow._steps import ServerRequest, Step

__all__ = ["Kept", "Login", "check_key", "kept_by", "login_by_code", "login_by_device"]


class _Ours:
    """Beside a grant: it is taken for the grant of a program, and remembers why the server did not revoke."""

    stands_for: str
    why_not = "it offers no revocation"

    def identity(self) -> Mapping[str, Any]:
        """That of the grant that a program would have, so that the session is the same."""
        identity: Mapping[str, Any] = super().identity()  # type: ignore[misc]  # of the grant beside it
        return {**identity, "grant": self.stands_for}

    def revoke(self, attempt: Attempt) -> Generator[Step, Any, bool]:
        """That of the grant."""
        try:
            agreed: bool = yield from super().revoke(attempt)  # type: ignore[misc]  # of the grant beside it
        except Exception as error:
            told = error if isinstance(error, TokenFlowError) else unavailable(error, "the authorization server")
            self.why_not = str(told)
            raise
        return agreed


class _Kept(_Ours):
    """A session that was opened by `tokenflow login`: renewed here, and never opened.

    Attributes:
        told: what whoever asks is told where there is none.
    """

    logs_in = False
    widens = False
    login_timeout: float
    told: str

    def _why_not(self) -> str:
        return self.told


class KeptCode(_Kept, AuthorizationCode):
    """By a browser."""

    stands_for = "AuthorizationCode"


class KeptDevice(_Kept, DeviceCode):
    """By a device code."""

    stands_for = "DeviceCode"


class KeptClient(_Ours, ClientCredentials):
    """No session at all: in the client's own name."""

    stands_for = "ClientCredentials"


class LoginByCode(HeldLogin, AuthorizationCode):
    """By a browser, as somebody logs in."""


class LoginByDevice(HeldLogin, DeviceCode):
    """By a device code, likewise."""


Kept: TypeAlias = KeptCode | KeptDevice | KeptClient
Login: TypeAlias = LoginByCode | LoginByDevice


def kept_by(settings: Mapping[str, Any], *, name: str, folder: Path, told: str) -> Kept:
    """What keeps the tokens of a profile going.

    Args:
        settings: of the profile.
        name: of the profile.
        folder: where its file is.
        told: what whoever asks is told where there is no session.
    """
    kind = settings.get("grant", GRANTS[0])
    if kind == "client_credentials":
        return KeptClient(**_arguments(settings, folder, "token_endpoint"))
    grant: KeptCode | KeptDevice
    who = _who(settings, name)
    if kind == "device_code":
        arguments = _arguments(settings, folder, "device_authorization_endpoint", "token_endpoint")
        grant = KeptDevice(on_prompt=_nobody, **who, **arguments)
        grant.login_timeout = 0.0
    else:
        arguments = _arguments(settings, folder, "authorization_endpoint", "token_endpoint")
        extra = settings.get("authorization_extra")
        grant = KeptCode(open_browser=False, authorization_extra=extra, **who, **arguments)
    grant.told = told
    return grant


def login_by_code(
    settings: Mapping[str, Any], open_browser: Callable[[str], Any] | None, *, name: str, folder: Path
) -> LoginByCode:
    """What logs somebody in by a browser on this machine."""
    more = {**_who(settings, name), **_those(settings, "timeout", "redirect_uri", "authorization_extra", "par")}
    if "redirect_port" in settings:
        more["redirect_uri"] = f"http://127.0.0.1:{settings['redirect_port']}/callback"
    arguments = _arguments(settings, folder, "authorization_endpoint", "token_endpoint")
    return LoginByCode(open_browser=open_browser, **more, **arguments)


def login_by_device(
    settings: Mapping[str, Any], on_prompt: Callable[[Any], Any] | None, *, name: str, folder: Path
) -> LoginByDevice:
    """What logs somebody in by a code for another device."""
    more = {**_who(settings, name), **_those(settings, "timeout")}
    arguments = _arguments(settings, folder, "device_authorization_endpoint", "token_endpoint")
    return LoginByDevice(on_prompt=on_prompt or _nobody, **more, **arguments)


def _nobody(_prompt: object) -> None:
    """Shows a prompt to nobody: for grants that ask no one."""


def _who(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"subject": settings.get("subject", name)}


def _those(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


def _arguments(settings: Mapping[str, Any], folder: Path, *endpoints: str) -> dict[str, Any]:
    """What all grants take, with these endpoints; others are what the server's metadata would say."""
    found = _those(settings, "issuer", "scope", "resource", "audience", "extra", "token_type", *endpoints)
    found["client_id"] = settings.get("client_id")
    if "client_secret_env" in settings:
        found["client_secret"] = EnvSecret(settings["client_secret_env"])
    if "client_auth" in settings:
        found["client_auth"] = _client_auth(settings, folder)
    if beside := _those(settings, *(name for name in ENDPOINTS if name not in endpoints)):
        found["metadata"] = beside
    return found


def _client_auth(settings: Mapping[str, Any], folder: Path) -> ClientAuth:
    """How the client proves itself; key and certificate are wanted to sign, and by nobody to forget a session."""
    way = settings["client_auth"]
    if way == "private_key_jwt":
        return PrivateKeyJWT(_key(settings, folder))
    if way == "tls_client_auth":
        files = _files(settings, folder)
        try:
            return TLSClientAuth(*files)
        except ConfigurationError as error:
            if settings.get("grant") == "client_credentials":
                raise  # its tokens have the certificate in their name: without it nobody knows which they are
            return _NoCertificate(str(error))
    return ClientSecretPost() if way == "client_secret_post" else ClientSecretBasic()


class _NoCertificate:
    """In the place of a certificate that proves nothing now: whose session it is does not depend on it."""

    method = TLSClientAuth.method
    needs_secret = False
    proof = None

    def __init__(self, why: str) -> None:
        self._why = why

    def identity(self) -> Mapping[str, Any]:
        """That of any certificate."""
        return {"method": self.method}

    def sign(self, request: ServerRequest, client: Client) -> Generator[Step, Any, ServerRequest]:  # noqa: ARG002
        """Nothing is sent without it."""
        yield from ()
        raise ConfigurationError(self._why)


def _files(settings: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    return folder / expanded(settings["cert_file"]), folder / expanded(settings["key_file"])


def _key(settings: Mapping[str, Any], folder: Path) -> FileSecret:
    return FileSecret(folder / expanded(settings["key_file"]))


def check_key(settings: Mapping[str, Any], folder: Path) -> None:
    """Nothing, if the client's private key, or its certificate, can be used: best before a person is asked to log in.

    Raises:
        ConfigurationError: it cannot; says why.
    """
    way = settings.get("client_auth")
    if way == "private_key_jwt":
        place = _key(settings, folder)
        read_kept_key(place, place(), what="the client's key")
    if way == "tls_client_auth":
        TLSClientAuth(*_files(settings, folder))
