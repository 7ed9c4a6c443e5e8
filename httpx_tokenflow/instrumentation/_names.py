"""Labels that cannot grow without bound, whatever happens (rule 2 of `_measures`)."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from httpx_tokenflow._errors import TokenEndpointUnavailable, TokenFlowError, TokenRequestError
from httpx_tokenflow._forks import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_NAMES", "NO_SERVER", "OTHER", "OTHER_ERROR", "Names", "cause_of", "code_of", "error_of", "server_of"]

MAX_NAMES = 100  # of one kind, for each process
MAX_LENGTH = 128  # characters of a name

OTHER = "other"
OTHER_ERROR = "_OTHER"  # OpenTelemetry's, for error.type

_T = TypeVar("_T")

Server = tuple[str, int]
NO_SERVER: Server = (OTHER, 0)

_DEFAULT_PORTS = {"http": 80, "https": 443}

_OF_CHALLENGES = frozenset({
    "invalid_request", "invalid_token", "insufficient_scope",  # RFC 6750 §3.1
    "insufficient_user_authentication",  # RFC 9470 §3
    "invalid_dpop_proof", "use_dpop_nonce",  # RFC 9449 §7.1, §9
})  # fmt: skip
_OF_TOKEN_REQUESTS = frozenset({
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope",  # RFC 6749 §5.2
    "access_denied", "server_error", "temporarily_unavailable", "unsupported_response_type",  # RFC 6749 §4.1.2.1
    "authorization_pending", "slow_down", "expired_token",  # RFC 8628 §3.5
    "invalid_target",  # RFC 8707 §2
    "invalid_dpop_proof", "use_dpop_nonce",  # RFC 9449 §5, §8
    "unsupported_token_type",  # RFC 7009 §2.2.1
    "interaction_required", "login_required", "account_selection_required", "consent_required",  # OpenID Core §3.1.2.6
})  # fmt: skip


class Names:
    """The names of each kind that have come first; those that come later are one and the same."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str]] = {}
        self._servers: dict[str, Server] = {}
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # held for a line; a collection in it may come upon a __del__ that tells

    def name(self, kind: str, name: str) -> str:
        """`name`, if it is among the first of its kind."""
        known = self._known.get(kind) or self._known.setdefault(kind, {})
        return known.get(name) or self._admitted(known, name, _clean, OTHER)

    def server(self, origin: str) -> Server:
        """The address and the port of `origin`, if it is among the first."""
        return self._servers.get(origin) or self._admitted(self._servers, origin, server_of, NO_SERVER)

    def _admitted(self, known: dict[str, _T], name: str, clean: Callable[[str], _T], other: _T) -> _T:
        with self._lock:
            return other if len(known) >= MAX_NAMES else known.setdefault(name, clean(name))


def _clean(name: str) -> str:
    """`name`, bounded, and fit for a line of text."""
    return "".join(one if one.isprintable() else "?" for one in str(name)[:MAX_LENGTH]) or OTHER


def server_of(origin: str) -> Server:
    """The address and the port of `origin`, as `RequestDone` has it: nothing else that a URL may have."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return NO_SERVER
    return (_clean(host), port) if host else NO_SERVER


def code_of(status: int, code: str | None) -> str:
    """Why an API refused: the code of its challenge, if an RFC has it; without one the status."""
    if code is None:
        return str(status) if 100 <= status <= 599 else OTHER_ERROR
    return code if code in _OF_CHALLENGES else OTHER_ERROR


def error_of(error: BaseException) -> str:
    """How something of ours failed: the server's code, if an RFC has it, or the kind of error."""
    code = error.error if isinstance(error, TokenRequestError) else None
    if code is not None:
        return code if code in _OF_TOKEN_REQUESTS else OTHER_ERROR
    if isinstance(error, TokenEndpointUnavailable) and error.status is not None and 100 <= error.status <= 599:
        return str(error.status)
    name = type(error).__name__
    return name if isinstance(error, TokenFlowError) and name in _errors() else OTHER_ERROR


@functools.cache
def _errors() -> frozenset[str]:
    from httpx_tokenflow import _errors as errors

    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, TokenFlowError)]
    return frozenset(one.__name__ for one in kinds)


@functools.cache
def _causes() -> frozenset[str]:
    from httpx_tokenflow.doctor.causes import CAUSES  # 10 ms, the first time that a refusal is explained

    return frozenset(cause.id for cause in CAUSES)


def cause_of(cause: str | None) -> str:
    """The cause of a refusal, from the doctor's table."""
    if cause is None:
        return "unknown"
    return cause if cause in _causes() else OTHER
