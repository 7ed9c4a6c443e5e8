"""The authorization code grant as programs use it: by a browser on this machine, or in two halves for web backends.

`_grants/_authorization_code.py` has the order of events; here the halves get a driver.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ._attempt import Attempt, guarded
from ._drivers import LoopDriver, ThreadDriver
from ._errors import ConfigurationError
from ._grants import CodeGrant
from ._libraries import library_of
from ._lifecycle import RenewalPolicy
from ._sources import TokenSource
from ._token_client import TokenClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Mapping

    from ._dpop import DPoP
    from ._entries import Minted
    from ._steps import Step
    from ._tokens import Token

    _Half = Callable[[Attempt], Generator[Step, Any, Any]]

__all__ = ["AuthorizationCode"]

_D = TypeVar("_D", ThreadDriver, LoopDriver)

_POLICY = RenewalPolicy()  # for its budget, and its clock


class AuthorizationCode(CodeGrant):
    """A person logs in with a browser (RFC 6749 §4.1, with PKCE: RFC 7636); renewed by refresh tokens after that.

    On a person's own machine the first request without a token opens the browser, once for everybody, as
    `TokenAuth.warm` does, and everybody waits until the browser comes back to `redirect_uri` (RFC 8252 §7.3). In a web
    backend, whose `redirect_uri` is a page of its own, `start` says where to send the person and `finish` makes a token
    of where they came back to.

    Args:
        authorization_endpoint: the URL of the page at which people log in.
        token_endpoint: the URL that issues tokens; https, or http to loopback. Or else `issuer` instead of both.
        client_id: who the client is.
        subject: the program's name for the person whose session this is; names the tokens in a shared store.
        redirect_uri: where the browser comes back to. On 127.0.0.1, [::1] or localhost we listen there ourselves, while
            a login is under way; port 0, the default, is any that is free.
        open_browser: is given the URL, sync or async; None: `webbrowser.open`. If it returns False there is no browser.
            False: none is ever opened; for backends whose `redirect_uri` is on loopback while they are developed.
        timeout: seconds that the person may take. Default 300.
        authorization_extra: further parameters of the authorization request, such as ``{"prompt": "consent"}``.
        par: push the authorization request first (RFC 9126); None: where the server's metadata require it.
        **options: see `ClientOptions`. With ``openid`` in the scope the ID token that comes along is checked. Of
            several resources the token is for the first; `TokenAuth.using` brings those for the others (RFC 8707 §2.2).

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
        InvalidCredential: the secret has characters that no header can carry.
    """

    def start(
        self,
        *,
        authorization_extra: Mapping[str, str] | None = None,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        dpop: DPoP | None = None,
    ) -> tuple[str, str]:
        """Begin a login: where to send the person, and the state to keep until they come back.

        The state is a secret, made for this one login: keep it in the person's own session (or a signed, encrypted
        cookie), never in a URL, and take it out of there when they are back.

        Args:
            authorization_extra: further parameters for this login alone; after `StepUpRequired`, say, its `acr_values`
                and `max_age`.
            client: a client of httpx or httpx2 for the authorization server, as for `TokenAuth`.
            verify: as for `TokenAuth`.
            dpop: the key to which the tokens are to be bound (RFC 9449 §10), as for `TokenAuth`.

        Returns:
            The URL, and the state.

        Raises:
            ConfigurationError: there is no page to come back to, or the server has no authorization endpoint.
            TokenFlowError: the server refused, or was not reached.
        """
        found: tuple[str, str] = self._perform(partial(self._half, authorization_extra), client, verify, dpop)
        return found

    async def astart(
        self,
        *,
        authorization_extra: Mapping[str, str] | None = None,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        dpop: DPoP | None = None,
    ) -> tuple[str, str]:
        """As `start`."""
        half = partial(self._half, authorization_extra)
        found: tuple[str, str] = await self._aperform(half, client, verify, dpop)
        return found

    def finish(
        self,
        callback_url: str,
        state: str,
        *,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        dpop: DPoP | None = None,
    ) -> Token:
        """End a login: the token, for ``TokenAuth(…, token=…)`` or `TokenAuth.set_token`.

        Where the grant has several issuers, ``extra["issuer"]`` of the token says which of them issued it: its refresh
        token goes back there, and nowhere else.

        Args:
            callback_url: the URL to which the person came back, with its query.
            state: what `start` returned, from that person's session.
            client: as for `start`.
            verify: as for `start`.
            dpop: as for `start`, with the same key.

        Raises:
            ReauthenticationRequired: the person refused (`.error` is ``access_denied``), or the code has ended.
            TokenRequestError: this is no answer to that login (another state, no code, something twice), the server
                answered with an error, or the ID token is not for this login.
            ConfigurationError: somebody else answered (RFC 9207), or the state is of another grant.
            TokenEndpointUnavailable: the server was not reached; if the outcome is unknown, the person has to log in
                again, since a code serves once.
        """
        half = partial(self._finish, str(callback_url), state)
        minted: Minted = self._perform(half, client, verify, dpop)
        return minted.token

    async def afinish(
        self,
        callback_url: str,
        state: str,
        *,
        client: Any = None,
        verify: bool | ssl.SSLContext = True,
        dpop: DPoP | None = None,
    ) -> Token:
        """As `finish`."""
        half = partial(self._finish, str(callback_url), state)
        minted: Minted = await self._aperform(half, client, verify, dpop)
        return minted.token

    def _half(self, extra: Mapping[str, str] | None, attempt: Attempt) -> Generator[Step, Any, tuple[str, str]]:
        if urlsplit(self._redirect_uri).port == 0:
            raise ConfigurationError("start() needs redirect_uri= to have the port at which the program serves it")
        more = self._more(extra)
        server = yield from self._server.find(attempt)
        url, login = yield from self._begin(attempt, server, self._redirect_uri, more)
        return url, login.to_text()

    def _perform(self, half: _Half, client: Any, verify: Any, dpop: DPoP | None) -> Any:
        return self._driver(ThreadDriver, client, verify).run(guarded(half(_attempt(dpop))))

    async def _aperform(self, half: _Half, client: Any, verify: Any, dpop: DPoP | None) -> Any:
        return await self._driver(LoopDriver, client, verify).run(guarded(half(_attempt(dpop))))

    def _driver(self, kind: type[_D], client: Any, verify: Any) -> _D:
        tokens = TokenClient(client, verify, _POLICY, getattr(self.client_auth, "certificate", None))
        library = sys.modules["httpx"] if client is None else library_of(client)  # the package has imported it
        source = TokenSource(self.name, "", None, str)  # a driver has one; nothing is loaded or saved
        return kind(source, _POLICY, tokens, library)


def _attempt(dpop: DPoP | None) -> Attempt:
    if dpop is not None and dpop.identity() is None:
        raise ConfigurationError("a login in two halves needs a key that both of them know: DPoP(key)")
    clock = _POLICY.clock
    return Attempt(None, clock.monotonic() + _POLICY.budget, clock, dpop=dpop)
