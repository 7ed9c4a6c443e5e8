"""The two sides of each scene, and what they are given: where the server is, a login, and what time it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import APIKeyAuth, ClientCredentials, Clock, RefreshToken, RenewalPolicy, Token, TokenAuth

from ._handwritten import LockAndRefresh, NextKey

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from httpx_tokenflow.events import Event

__all__ = ["HANDWRITTEN", "HANDWRITTEN_KEYS", "KEYS", "OURS", "OUR_KEYS", "Props", "Side", "Watch"]

CREDENTIALS: dict[str, Any] = {"client_id": "client", "client_secret": "secret"}  # which every sandbox knows
KEYS = ("old", "new")


class Watch:
    """The machine's clocks, which can be put forward: a scene need not wait for a token to age."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def put_forward(self, seconds: float) -> None:
        """Let so many seconds be gone."""
        self._ahead += seconds

    def monotonic(self) -> float:
        """Seconds, for durations."""
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        """Unix seconds."""
        return time.time() + self._ahead


@dataclass(frozen=True, slots=True)
class Props:
    """What an `auth=` is made with.

    Attributes:
        endpoint: the URL of the token endpoint.
        login: its answer to begin with; None: there is none.
        watch: what time it is.
        told: the events, as far as anybody tells them.
    """

    endpoint: str
    login: dict[str, Any] | None
    watch: Watch = field(default_factory=Watch)
    told: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Side:
    """One of those who are compared.

    Attributes:
        name: what the table calls it.
        make: an `auth=`.
        renews_at: an age, in seconds, at which it wants to renew a token of an hour.
    """

    name: str
    make: Callable[[Props], httpx.Auth]
    renews_at: float = 3600.0


def _ours(props: Props) -> httpx.Auth:
    policy = RenewalPolicy(clock=Clock(monotonic=props.watch.monotonic, wall=props.watch.wall))
    login, tell = props.login, props.told.append
    if login is None:
        return TokenAuth(ClientCredentials(props.endpoint, **CREDENTIALS), policy=policy, on_event=tell)
    token = Token(
        login["access_token"], expires_at=time.time() + login["expires_in"], refresh_token=login["refresh_token"]
    )
    return TokenAuth(RefreshToken(props.endpoint, **CREDENTIALS), token=token, policy=policy, on_event=tell)


def _handwritten(props: Props) -> httpx.Auth:
    return LockAndRefresh(props.endpoint, **CREDENTIALS, login=props.login, clock=props.watch.monotonic)


OURS = Side("ours", _ours, 3150)  # aside: from 2700 to 3120, at random, and until it is due at 3540
HANDWRITTEN = Side("by hand", _handwritten, 3571)  # from 3570
OUR_KEYS = Side("ours", lambda props: APIKeyAuth(KEYS, on_event=props.told.append))
HANDWRITTEN_KEYS = Side("by hand", lambda _props: NextKey(*KEYS))
