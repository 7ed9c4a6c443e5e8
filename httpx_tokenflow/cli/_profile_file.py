"""The file that has the profiles: where it is, how it is read, and what may be in it; `_profile_writing` changes it.

Rules.

1. No secret is in the file, and no key: `client_secret_env` names the environment variable that has the one, `key_file`
   the file that has the other. A relative path counts from where the file with the profiles is.
2. A key that nobody knows is an error, since a misspelt one would otherwise be left out in silence. So is a value of
   another kind. The error names file, profile and key; or the option that it came by.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow._origins import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "BOM",
    "CLIENT_AUTHS",
    "ENDPOINTS",
    "GRANTS",
    "STORES",
    "check_name",
    "check_options",
    "check_settings",
    "config_path",
    "expanded",
    "own_path",
    "read_config",
    "read_text",
    "shown",
]

GRANTS = ("authorization_code", "device_code", "client_credentials")
STORES = ("keyring", "file")
CLIENT_AUTHS = ("client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth")
_MAX_SHOWN = 60  # characters of what somebody wrote, in an error

ENDPOINTS = (
    "authorization_endpoint", "token_endpoint", "device_authorization_endpoint", "revocation_endpoint",
    "introspection_endpoint",
)  # fmt: skip
BOM = "\ufeff"  # what some editors on Windows put before a text
_TEXT, _TEXTS, _URIS, _SECONDS, _PORT, _FLAG, _PAIRS, _VARIABLE, _FILE = (
    "a string that is not empty, on one line", "a string that is not empty, on one line, or a list of such",
    "an absolute URI without a fragment (RFC 8707 §2), or a list of such", "a number of seconds", "a port, 0 to 65535",
    "true or false", "a table of strings that are not empty, on one line", "the name of an environment variable",
    "the path of a file",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of a variable; whoever writes the secret there does not see it quoted
_KEY = re.compile(r"\s*M[A-Za-z0-9+/=]{50,}\s*\Z")  # the inside of a PEM: base64, and keys begin with the same byte
_EVERYBODYS = {
    "grant": _TEXT, "store": _TEXT, "issuer": _TEXT, "client_id": _TEXT, "client_secret_env": _VARIABLE,
    "client_auth": _TEXT, "key_file": _FILE, "cert_file": _FILE, "scope": _TEXTS, "resource": _URIS, "audience": _TEXT,
    "extra": _PAIRS, "token_type": _TEXT, "token_endpoint": _TEXT, "revocation_endpoint": _TEXT,
    "introspection_endpoint": _TEXT,
}  # fmt: skip
_OF_LOGINS = {
    "subject": _TEXT, "authorization_endpoint": _TEXT, "device_authorization_endpoint": _TEXT, "redirect_uri": _TEXT,
    "redirect_port": _PORT, "timeout": _SECONDS, "authorization_extra": _PAIRS, "par": _FLAG,
}  # fmt: skip
_CHOICES = {"grant": GRANTS, "store": STORES, "client_auth": CLIENT_AUTHS}
_FILES_OF = {"private_key_jwt": ("key_file",), "tls_client_auth": ("cert_file", "key_file")}
_ELSEWHERE = {
    "client_secret": "put the secret into an environment variable, and its name here, as client_secret_env",
    **dict.fromkeys(
        ("key", "private_key", "client_key", "jwk"),
        "put the key into a file of its own, and the path of that here, as key_file",
    ),
}
"""What is never in the file (rule 1), and what is there instead."""


def config_path(given: Path | None = None) -> Path:
    """The file that has the profiles: `given`, what TOKENFLOW_CONFIG names, or the one in the user's directory."""
    named = given or os.environ.get("TOKENFLOW_CONFIG")
    if not named:
        return own_path()
    return expanded(named).absolute()


def expanded(path: str | Path) -> Path:
    """`path` with the home directory that a ~ stands for.

    Raises:
        ConfigurationError: nobody knows which that is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"nobody knows whose home directory that is, in {shown(str(path))}: set HOME, or write it in full"
        ) from None


def own_path() -> Path:
    """The file in the user's configuration directory.

    Raises:
        ConfigurationError: the user has no home directory.
    """
    import platformdirs

    from httpx_tokenflow.stores._file_locks import in_home

    return in_home(platformdirs.user_config_path, "tokenflow") / "profiles.toml"


def read_config(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The profiles of a file as they are written; none, if it is not there.

    Raises:
        ConfigurationError: it cannot be read, is no TOML, or has something else in it.
    """
    try:
        found = tomllib.loads(read_text(path).removeprefix(BOM))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {' '.join(str(error).split())}") from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{path} has a number of too many digits, or lists too deep in one another") from None
    for name in sorted(found.keys() - {"profiles"}):
        raise ConfigurationError(f"{path} has {shown(name)} at its top: a profile is a table [profiles.NAME]")
    profiles = found.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
        raise ConfigurationError(f"{path}: a profile is a table [profiles.NAME], with keys such as issuer in it")
    return profiles


def read_text(path: Path) -> str:
    """The text of the file, as it is; empty, if it is not there."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no TOML: it is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error


def check_name(name: str) -> None:
    """Nothing, if a profile can have that name.

    Raises:
        ConfigurationError: nobody could type it.
    """
    if not name or name.startswith("-") or not name.isprintable():
        raise ConfigurationError(
            f"{shown(name)} cannot be a profile's name: it must be printable and not empty, and not begin with a dash"
        )


def check_options(options: Mapping[str, Any]) -> None:
    """Nothing, if each of the options of `tokenflow login` is of its kind."""
    for key, value in options.items():
        _check_value(f"option --{key.replace('_', '-')}", key, value, {**_EVERYBODYS, **_OF_LOGINS}[key])


def _check_value(what: str, key: str, value: Any, kind: str) -> None:
    if not _IS[kind](value):
        raise ConfigurationError(f"{what} must be {kind}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ConfigurationError(f"{what} must be one of {shown(*_CHOICES[key])}{_meant(value, key)}")


def check_settings(where: str, settings: Mapping[str, Any]) -> None:
    """Nothing, if every key is one of a profile's, and every value one of its kind (rule 2)."""
    for key in sorted(_ELSEWHERE.keys() & settings.keys()):
        raise ConfigurationError(f"{where}: {key} does not belong into this file: {_ELSEWHERE[key]}")
    is_for_client = settings.get("grant") == "client_credentials"
    allowed = _EVERYBODYS if is_for_client else {**_EVERYBODYS, **_OF_LOGINS}
    for key, value in settings.items():
        if key not in allowed:
            raise ConfigurationError(f"{where}: {_unknown(key, allowed)}")
        _check_value(f"{where}: {key}", key, value, allowed[key])
    _check_files(where, settings)
    named = [name for name in ENDPOINTS if name in settings]
    if "issuer" in settings and named:
        raise ConfigurationError(
            f"{where}: issuer and {', '.join(named)} contradict each other: issuer discovers the endpoints"
        )
    if "redirect_uri" in settings and "redirect_port" in settings:
        raise ConfigurationError(f"{where}: redirect_uri and redirect_port contradict each other: keep one")
    if "redirect_uri" in settings and not _is_here(settings["redirect_uri"]):
        raise ConfigurationError(
            f"{where}: redirect_uri must be on this machine, such as http://127.0.0.1:8400/callback: "
            "the browser comes back to it"
        )


def _check_files(where: str, settings: Mapping[str, Any]) -> None:
    """Nothing, if the files that the client's authentication wants are named, and no others."""
    way = settings.get("client_auth")
    needed = _FILES_OF.get(str(way), ())
    for key in needed:
        if key not in settings:
            raise ConfigurationError(f'{where}: client_auth = "{way}" needs {key}: the path of a PEM file')
    for key in ("key_file", "cert_file"):
        if key in settings and key not in needed:
            ways = " or ".join(f'"{one}"' for one, keys in _FILES_OF.items() if key in keys)
            raise ConfigurationError(f"{where}: {key} is for client_auth = {ways}")


def _unknown(key: str, allowed: Mapping[str, str]) -> str:
    said = f"{shown(key)} is no key of a profile"
    if key in _OF_LOGINS:
        return f'{key} is for logins, and nobody logs in with grant = "client_credentials": remove it'
    close = difflib.get_close_matches(key, allowed, 1)
    meant = f": did you mean {close[0]}? Allowed are" if close else ": allowed are"
    return f"{said}{meant} {', '.join(allowed)}"


def _meant(value: str, key: str) -> str:
    close = difflib.get_close_matches(value, _CHOICES[key], 1)
    return f": did you mean {shown(close[0])}?" if close else ""


def shown(*names: object) -> str:
    """What somebody wrote, as an error can show it."""
    return ", ".join(f"{name!r:.{_MAX_SHOWN}}" for name in names)


def _is_here(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and is_loopback(parts.hostname or "")
    except ValueError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _is_path(value: Any) -> bool:
    """Not the key itself, which an error about the file would quote."""
    return _is_text(value) and not value.lstrip().startswith("{") and "-----" not in value and not _KEY.match(value)


def _is_uri(value: Any) -> bool:
    try:
        return _is_text(value) and " " not in value and "#" not in value and bool(_after_scheme(value))
    except ValueError:
        return False


def _after_scheme(uri: str) -> str:
    parts = urlsplit(uri)
    return parts.netloc or parts.path if parts.scheme else ""


def _are(is_one: Callable[[Any], bool], value: Any) -> bool:
    return is_one(value) or (isinstance(value, list) and bool(value) and all(map(is_one, value)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


_IS: dict[str, Callable[[Any], bool]] = {
    _TEXT: _is_text,
    _TEXTS: lambda value: _are(_is_text, value),
    _URIS: lambda value: _are(_is_uri, value),
    _SECONDS: lambda value: _is_number(value) and value > 0,
    _PORT: lambda value: _is_number(value) and isinstance(value, int) and 0 <= value <= 65_535,
    _FLAG: lambda value: isinstance(value, bool),
    _VARIABLE: lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
    _FILE: _is_path,
    _PAIRS: lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
}
