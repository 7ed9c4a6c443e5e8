"""The grants behind a profile: those that keep a session going and never open one, and those that log somebody in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow import AuthorizationCode, ClientCredentials, DeviceCode, TokenFlowError
from httpx_tokenflow._attempt import unavailable

from ._signals import HeldLogin

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._steps import Step

__all__ = ["KeptClient", "KeptCode", "KeptDevice", "LoginByCode", "LoginByDevice"]


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
