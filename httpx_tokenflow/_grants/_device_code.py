"""The device authorization grant (RFC 8628): a person logs in on another device, by a short code.

Rules.

1. What the server says is shown to a person, so it is looked at first: a verification URI is https (or loopback) and
   printable, a user code is short and printable.
2. Polls are as far apart as the server says, 5 s if it does not; `slow_down` adds 5 s for good (§3.5). Where the
   server is not reached, or cannot answer now, each poll waits twice as long as the one before, until one is answered.
3. It ends with the code's own end, or with ours if that comes first; and with any other answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from httpx_tokenflow._answers import read_json, read_seconds
from httpx_tokenflow._attempt import called, unavailable
from httpx_tokenflow._errors import (
    ConfigurationError,
    ReauthenticationRequired,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._origins import is_loopback
from httpx_tokenflow._steps import Patience, Sleep

from ._session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Unpack

    from httpx_tokenflow._answers import ServerResponse
    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._metadata import Metadata
    from httpx_tokenflow._steps import Step

    from ._options import ClientOptions

__all__ = ["DeviceCode", "DevicePrompt"]

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL = 5.0  # seconds between two polls where the server does not say (RFC 8628 §3.2)
LEAST_INTERVAL = 1.0  # seconds, whatever the server says
SLOW_DOWN = 5.0  # seconds that `slow_down` adds (§3.5)
MAX_USER_CODE = 64  # characters; nobody types more
MAX_URI = 2048  # characters

_ENDED = frozenset({"expired_token", "access_denied"})


@dataclass(frozen=True, slots=True)
class DevicePrompt:
    """What a person needs to know to log in on another device (RFC 8628 §3.3). ``str()`` of it is a sentence to show.

    Attributes:
        user_code: what the person enters.
        verification_uri: where.
        verification_uri_complete: the same with the code in it, for a QR code or a link; None if there is none.
        expires_in: seconds that the person has.
        interval: seconds between two polls.
    """

    user_code: str = field(repr=False)
    verification_uri: str
    verification_uri_complete: str | None = field(repr=False)
    expires_in: float
    interval: float

    def __str__(self) -> str:
        return f"To log in, open {self.verification_uri} and enter {self.user_code}"


@dataclass(frozen=True, slots=True)
class _Device:
    """A device that waits for its person."""

    code: str = field(repr=False)
    prompt: DevicePrompt


class DeviceCode(Session):
    """A login on another device, for programs without a browser (RFC 8628); renewed by refresh tokens after that.

    The first request without a token starts it, once for everybody, as `TokenAuth.warm` does: `on_prompt` shows the
    person where to go and what to enter, and everybody waits until that has happened.

    Args:
        device_authorization_endpoint: the URL that issues device codes; https, or http to loopback.
        token_endpoint: the URL that issues tokens. Or else `issuer` instead of both.
        client_id: who the client is.
        subject: the program's name for the person whose session this is; names the tokens in a shared store.
        on_prompt: is given a `DevicePrompt`, and shows it to the person; sync or async. ``print`` will do.
        timeout: seconds that the person may take; less if the server says so. Default 600.
        **options: see `ClientOptions`; `extra` goes with the device authorization request, too. Of several resources
            the token is for the first; `TokenAuth.using` brings those for the others (RFC 8707 §2.2).

    Raises:
        ConfigurationError: an argument is missing or contradicts another.
        InvalidCredential: the secret has characters that no header can carry.
    """

    parameters: frozenset[str] = frozenset({"device_code"})

    def __init__(
        self,
        device_authorization_endpoint: str | None = None,
        token_endpoint: str | None = None,
        *,
        client_id: str,
        subject: str | None = None,
        on_prompt: Callable[[DevicePrompt], Any],
        timeout: float = 600.0,
        **options: Unpack[ClientOptions],
    ) -> None:
        endpoints = {"device_authorization_endpoint": device_authorization_endpoint, "token_endpoint": token_endpoint}
        super().__init__(endpoints, client_id, subject=subject, timeout=timeout, **options)
        if not callable(on_prompt):
            raise ConfigurationError("on_prompt= must be a callable that shows the person what it is given")
        self._on_prompt = on_prompt

    def _log_in(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """A login on another device."""
        budget = attempt.timeout
        server = yield from self._server.find(attempt)
        wanted, asked = self._wanted(attempt)
        form = [*self._who(server), *wanted, *self._extra.items()]
        device: _Device = yield from self._post(attempt, server, "device_authorization_endpoint", form, _read_device)
        seconds = min(device.prompt.expires_in, self.login_timeout)
        until = attempt.clock.monotonic() + seconds
        yield Patience(seconds + budget)
        yield from called(partial(self._on_prompt, device.prompt), "on_prompt", seconds)
        minted = yield from self._poll(attempt, server, device, until, budget)
        return minted.having(asked=asked)

    def _poll(
        self, attempt: Attempt, server: Metadata, device: _Device, until: float, budget: float
    ) -> Generator[Step, Any, Minted]:
        """The token, once the person has done what they were asked for (rule 2)."""
        now = attempt.clock.monotonic
        interval = pause = max(LEAST_INTERVAL, device.prompt.interval)
        while (left := until - now()) > 0:
            yield Sleep(min(pause, left))
            in_time = replace(attempt, deadline=now() + budget)
            try:
                return (yield from self._redeem(in_time, server, GRANT_TYPE, [("device_code", device.code)]))
            except Exception as error:  # noqa: BLE001 - whatever a transport raises
                interval, pause = _go_on(error, interval, pause)
        raise ReauthenticationRequired(
            "nobody has entered the code in time: start again with warm()", error="expired_token"
        )


def _go_on(error: Exception, interval: float, pause: float) -> tuple[float, float]:
    """After a poll that ended in `error`: the interval from now on, and the pause before the next poll.

    Raises:
        TokenFlowError: there will be no other.
    """
    if isinstance(error, TokenRequestError):
        if error.error == "slow_down":
            return interval + SLOW_DOWN, interval + SLOW_DOWN
        if error.error == "authorization_pending":
            return interval, interval
        raise _over(error) if error.error in _ENDED else error
    failure = error if isinstance(error, TokenFlowError) else unavailable(error)
    if isinstance(failure, TokenEndpointUnavailable) and failure.retryable:
        return interval, max(2 * pause, failure.retry_after or 0.0)
    raise failure


def _over(error: TokenRequestError) -> ReauthenticationRequired:
    """The end of a login on another device, as the server tells it (RFC 8628 §3.5)."""
    what = "refused" if error.error == "access_denied" else "did not enter the code in time"
    return ReauthenticationRequired(
        f"the person {what} ({error.error}): start again with warm()",
        status=error.status,
        error=error.error,
        error_description=error.error_description,
        error_uri=error.error_uri,
    )


def _read_device(response: ServerResponse, now: float, secrets: tuple[str, ...]) -> _Device:
    """What a device authorization endpoint answers (RFC 8628 §3.2), fit to be shown (rule 1)."""
    answer = read_json(response, now, secrets, what="the device authorization endpoint")
    code, user_code = answer.get("device_code"), answer.get("user_code")
    # Some servers say `verification_url`, from a draft.
    uri = answer.get("verification_uri", answer.get("verification_url"))
    complete = answer.get("verification_uri_complete")
    expires_in = read_seconds(answer.get("expires_in"))
    interval = read_seconds(answer.get("interval"))
    if not isinstance(code, str) or not code or expires_in is None:
        raise TokenRequestError("the server's answer has no device_code or no expires_in (RFC 8628 §3.2)")
    if not isinstance(user_code, str) or not user_code.isprintable() or not 0 < len(user_code) <= MAX_USER_CODE:
        raise TokenRequestError("the server's user_code is nothing that a person could enter, and is not shown")
    for name, value in (("verification_uri", uri), ("verification_uri_complete", complete)):
        if not (_is_safe(value) or (value is None and name == "verification_uri_complete")):
            raise TokenRequestError(
                f"the server's {name} is no https URL that a person could be sent to, and is not shown"
            )
    prompt = DevicePrompt(user_code, str(uri), complete, expires_in, INTERVAL if interval is None else interval)
    return _Device(code, prompt)


def _is_safe(uri: object) -> bool:
    """Whether a person may be sent there: https, or loopback; as it is shown, without tricks."""
    if not isinstance(uri, str) or not uri.isascii() or not uri.isprintable() or " " in uri or len(uri) > MAX_URI:
        return False
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
