"""One attempt to get a token: what a grant may go by, and what a request that failed means."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ._errors import TokenEndpointUnavailable, TokenFlowError
from ._steps import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._challenges import Challenge
    from ._dpop import DPoP
    from ._entries import Entry
    from ._steps import Step
    from ._times import Clock

__all__ = ["Attempt", "called", "guarded", "unavailable"]

_T = TypeVar("_T")

_NOT_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError", "ProxyError"}
)

_TRANSPORT = _NOT_SENT | {
    "HTTPError", "InvalidURL", "OSError", "ReadError", "ReadTimeout", "RemoteProtocolError", "StreamError",
    "TimeoutError", "WriteError", "WriteTimeout",
}  # fmt: skip


_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
# In the names that OpenSSL has for reasons, and alerts.
_STAYING = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a grant may go by when it gets a token.

    Args:
        presented: the token that we hold so far, with its times, or None.
        deadline: monotonic seconds at which the attempt has to be over, network and all.
        clock: for what needs the time.
        challenge: what an API answered, where it asked for another token than the one that it got, or None.
        url: the URL of the request that got `challenge`; empty if there is none.
        dpop: what binds tokens to a key (RFC 9449), or None.
        may_log_in: a person, or stored credentials, may be asked to open a new session.
    """

    presented: Entry | None
    deadline: float
    clock: Clock
    challenge: Challenge | None = None
    url: str = ""
    dpop: DPoP | None = None
    may_log_in: bool = True

    @property
    def timeout(self) -> float:
        """Seconds that are left."""
        return max(0.0, self.deadline - self.clock.monotonic())


def called(function: Callable[[], Any], what: str, timeout: float) -> Generator[Step, Any, Any]:
    """What a callable of the program's returns.

    Raises:
        TokenEndpointUnavailable: the callable raised; what it raised is the cause.
    """
    try:
        return (yield Call(function, what, timeout))
    except TokenFlowError:
        raise
    except Exception as error:
        raise TokenEndpointUnavailable(
            f"the callable given as {what} raised {type(error).__name__}", outcome="not sent", retryable=False
        ) from error


def guarded(flow: Generator[Step, Any, _T]) -> Generator[Step, Any, _T]:
    """`flow`, whose failures are errors of ours, whatever a transport raises."""
    try:
        return (yield from flow)
    except TokenFlowError:
        raise
    except Exception as error:
        raise unavailable(error, "the authorization server") from error


def unavailable(error: Exception, what: str = "the token endpoint", *, sent: bool = True) -> TokenEndpointUnavailable:
    """What a failed send means, told by the names of its classes: httpx and httpx2 share the names and nothing else.

    Args:
        error: what the library raised.
        what: who could not be reached, for the message.
        sent: False where the request presents nothing, so that it is as good as not sent whatever became of it.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ConnectError" in names and _is_about_certificates(error):
        return TokenEndpointUnavailable(
            f"the TLS connection to {what} failed: check its certificate, or pass verify=",
            outcome="not sent",
            retryable=False,
        )
    if "ProxyError" in names:
        return TokenEndpointUnavailable(f"the proxy on the way to {what} refused", outcome="not sent", retryable=False)
    if not names & _TRANSPORT:
        return TokenEndpointUnavailable(
            f"asking {what} ended in {type(error).__name__}, which no transport raises: see the cause",
            outcome="unknown" if sent else "not sent",
            retryable=False,
        )
    return TokenEndpointUnavailable(
        f"{what} could not be reached, or did not answer ({type(error).__name__}{_where(error)})",
        outcome="unknown" if sent and not names & _NOT_SENT else "not sent",
    )


def _where(error: Exception) -> str:
    """The host and port that were asked, where the library says so: a wrong URL is seen at once."""
    with suppress(Exception):  # httpx raises where an error has no request
        host: bytes = error.request.url.netloc  # type: ignore[attr-defined]  # an error of httpx has one
        return f" at {host.decode('ascii')}"
    return ""


def _is_about_certificates(error: BaseException) -> bool:
    """Whether an error came of TLS that no waiting mends; causes may go in a circle, as those that respx raises do."""
    passed: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is one for one in passed):
        if isinstance(cause, ssl.SSLError):
            return _stays(cause)
        passed.append(cause)
        cause = cause.__cause__ or cause.__context__
    return False


def _stays(error: ssl.SSLError) -> bool:
    """Whether an error of TLS is there to stay.

    A balancer whose backends are down hangs up in the middle of a handshake, sends `internal_error`, or answers in
    plain HTTP: that is an outage like any other.
    """
    if isinstance(error, _CUT_OFF):
        return False
    reason = getattr(error, "reason", None)
    return not reason or any(word in reason for word in _STAYING)
