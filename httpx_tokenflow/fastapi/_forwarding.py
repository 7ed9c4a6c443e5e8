"""The token that came in, passed on as it is: for who has no other way, and says so.

Rules.

1. A token is for the audience that it names (RFC 9068 §4, RFC 8725 §3.9). A service that passes it on makes the next
   one accept what was not meant for it; whoever gets it there can come back with it and be taken for the caller (RFC
   9700 §2.3). The Model Context Protocol forbids it outright. `OnBehalfOf` is the way.
2. Where services are one audience by agreement, it is a choice made in words: the origins have to be named, and the
   token goes nowhere else, not by a redirect either.
3. It is never renewed: an upstream's 401 stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow import BearerAuth, Clock, ConfigurationError
from httpx_tokenflow._times import SYSTEM_CLOCK

from ._of_caller import CallersBearerAuth, check_caller, checked_origins, signature_behind

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Iterable

    from httpx_tokenflow.events import Event

    from ._caller import Caller

__all__ = ["Forwarding"]


class Forwarding:
    """A dependency that gives an auth with the very token that came in. Discouraged: see the rules of this module.

        forwarding = Forwarding(guard, origins=("https://reports.internal.example",))

        @app.get("/report")
        async def report(auth: Annotated[BearerAuth, Depends(forwarding)], reports: Reports) -> Any:
            return (await reports.get("/report", auth=auth)).raise_for_status().json()

    `reports` is a client that all share, such as that of `Upstreams.client`. A client of your own must keep no cookies:
    an upstream's session cookie would go with everybody's requests, and make each caller whoever came first
    (``client.cookies.jar.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))``).

    Args:
        guard: the dependency that gives the `Caller`, a `Guard`.
        origins: where the token may go: https, or loopback. There is no default.
        on_event: is told what happens (`httpx_tokenflow.events`).
        clock: says when a token has ended.

    Raises:
        ConfigurationError: an argument is missing or is none.
    """

    def __init__(
        self,
        guard: Callable[..., Any],
        *,
        origins: Iterable[str],
        on_event: Callable[[Event], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._origins = checked_origins(origins)
        if not isinstance(clock, Clock):
            raise ConfigurationError("clock= must be a Clock")
        BearerAuth("trial", origins=self._origins, on_event=on_event)  # what it says of them is said now
        self.__signature__: inspect.Signature = signature_behind(guard)
        self._guard = guard
        self._on_event = on_event
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Forwarding to {', '.join(self._origins)}>"

    async def __call__(self, caller: Caller) -> BearerAuth:
        """An auth for this request.

        Raises:
            RefusedToken: the caller's token has ended: 401 invalid_token.
            ConfigurationError: there is no Caller.
        """
        caller = check_caller(caller, self._clock.wall(), self._guard)
        return CallersBearerAuth(caller.token, origins=self._origins, on_event=self._on_event)
