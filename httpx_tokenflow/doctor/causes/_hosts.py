"""What the name of a host says of its environment.

Rules.

1. A word between dots, hyphens and slashes counts (staging, uat, …); a part of a word does not.
2. The last two labels of a host say nothing (example.test, dev.to), but where a hyphen parts them (example-dev.com).
3. On a loopback or private address, or a name that is not public, nothing is concluded.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ENVIRONMENTS", "environment_of", "environment_of_host", "host_of", "is_public", "is_under"]

_WORDS = {
    "development": ("dev", "develop", "development"),
    "test": ("test", "testing", "tst"),
    "staging": ("staging", "stage", "stg"),
    "qa": ("qa",),
    "acceptance": ("uat", "acceptance"),
    "sandbox": ("sandbox", "sbx", "sbox", "sandbx"),
    "preproduction": ("preprod", "preproduction"),
    "preview": ("preview", "oktapreview"),
    "production": ("prod", "production", "prd"),
}
ENVIRONMENTS = {word: name for name, words in _WORDS.items() for word in words}


def host_of(url: str) -> str:
    """The host of a URL, in small letters; empty if it cannot be read."""
    try:
        return (urlsplit(url).hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


def is_public(host: str) -> bool:
    """Whether it is a name that could be anybody's: no address, and not this machine or network."""
    if "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".svc", ".test", ".invalid")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def is_under(host: str, names: Iterable[str]) -> bool:
    """Whether the host is one of those, or under one."""
    return any(host == name or host.endswith(f".{name}") for name in names)


def _environment(words: Iterable[str]) -> str | None:
    return next((ENVIRONMENTS[word] for word in words if word in ENVIRONMENTS), None)


def _words_of_host(host: str) -> list[str]:
    """The words of its labels; the last two labels only where a hyphen parts them."""
    labels = host.split(".")
    words = [word for label in labels[:-2] for word in re.split(r"[-_]", label)]
    own = re.split(r"[-_]", labels[-2]) if len(labels) > 1 else []
    return words + (own if len(own) > 1 or own == ["oktapreview"] else [])


def environment_of_host(host: str) -> str | None:
    """The environment that a host is named after; None if it is after none."""
    return _environment(_words_of_host(host))


def environment_of(text: str) -> str | None:
    """What an issuer, an audience or a URL says of its environment: by its host, then by its path."""
    host = host_of(text) if text.lower().startswith(("http:", "https:")) else ""
    if host and not is_public(host):
        return None
    rest = text.lower().partition("://")[2].partition("/")[2] if "://" in text and host else text.lower()
    return environment_of_host(host) or _environment(re.split(r"[^a-z0-9]+", rest[:500]))
