"""A session by a plain JSON login: for APIs that speak no OAuth.

Rules.

1. A refresh token is presented as it came: under the name that it had in the body, or as the cookie that it was; to
   `refresh_url` and `logout_url` alone.
2. A session that cannot be refreshed is opened anew with the credentials, if that is allowed (`Attempt.may_log_in`).
   A refusal of the refresh is reported first: somebody else may have renewed.
3. A login that was lost on its way costs nothing and may be tried again; a refresh may have retired its token.
4. These endpoints speak no OAuth errors. A status says what it is: 5xx, 408, 425 and 429 are "not now", any other
   4xx is a no, and so is a 2xx without a token whose body has an `error` or a `success` that is false.
5. What is said of a refusal is bounded, and what we sent is taken out of it.
6. An access token that is a cookie goes to the origin of `login_url`, as from a browser (RFC 6265 §5.4), unless the
   program says otherwise.
7. An access token that comes with its scheme before it ("Bearer eyJ…") is taken without: the scheme goes out once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from httpx_tokenflow._answers import json_of, read_refusal, tokens_in
from httpx_tokenflow._attempt import called, unavailable
from httpx_tokenflow._credentials import cookie_value
from httpx_tokenflow._entries import Minted
from httpx_tokenflow._errors import (
    ConfigurationError,
    InvalidCredential,
    ReauthenticationRequired,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._origins import check_endpoint
from httpx_tokenflow._steps import Fetch, ServerRequest, Step
from httpx_tokenflow._times import parse_date
from httpx_tokenflow._tokens import Token, check_credential, digest

from ._fields import COOKIE, FIELD_NAME, Fields, cookie_of

if TYPE_CHECKING:
    from httpx_tokenflow._answers import ServerResponse
    from httpx_tokenflow._attempt import Attempt

    from ._fields import Found

__all__ = ["SessionLogin"]

Credentials = Mapping[str, Any] | Callable[[], Any]
"""What the login's body has; a callable (sync or async) instead, or in it, is asked at each login."""

_BEARER = "bearer"
_AS = "refresh_token_as"  # where a token remembers the name that its refresh token has in a body
_OURS = frozenset({"authorization", "cookie", "content-type", "content-length", "host"})
_REFUSALS = frozenset({400, 401, 403, 410, 422, 423})  # of a login: others are about its address or its form
_ROUNDS = 100_000  # of a hash that a person's password goes through: 25 ms, once


class SessionLogin:
    """Logs in, refreshes and logs out at JSON endpoints, for APIs that speak no OAuth.

    The first request without a session logs in, once for everybody. With `refresh_url` and a refresh token the session
    is refreshed, whether or not the server rotates the token; when that is refused, or without it, the session is
    opened anew with the credentials.

    Args:
        login_url: where the credentials are POSTed as JSON; https, or http to loopback, as all three.
        credentials: the members of the login's body, such as ``{"email": …, "password": …}``; a value may be a
            callable. Or a callable that returns all of them. Callables (sync or async) are asked at each login.
        refresh_url: where a refresh token is POSTed for new tokens. None: the session is opened anew instead.
        logout_url: where the session is given up: a POST with the access token and, if there is one, the refresh token.
        fields: where things are in the answers, if not under one of their common names at the top or in ``data``,
            ``tokens`` or ``result``: our names ``access_token``, ``refresh_token``, ``expires_in`` (seconds),
            ``expires_in_ms``, ``expires_at`` (Unix seconds, milliseconds, or ISO 8601 with its offset) and ``scope``,
            each with a path such as ``"data.tokens.0.accessToken"``, or several in the order to look. A token may be
            ``"cookie:NAME"``, a cookie that the answer sets; an access token of that kind is presented as that cookie,
            in the place of one of that name in the client's jar, and without `origins=` to the origin of `login_url`
            alone.
        refresh_as: how the refresh token is presented: the name of a member of the JSON body, ``"cookie:NAME"``, or
            ``"bearer"`` for ``Authorization: Bearer``. None: as it came.
        subject: the program's name for whose session this is. Without it the credentials stand in, by hash; where
            something comes from a callable the session is this object's alone, and nobody else shares it, not even
            through a store.
        headers: what goes along with each of these requests, such as a CSRF header or the key of a gateway.

    Raises:
        ConfigurationError: an argument is missing or contradicts another, or an endpoint is plain http.
        InvalidCredential: a header has characters that it cannot carry.
    """

    logs_in = True
    login_timeout: float = 0.0  # nobody is waited for
    widens = False

    def __init__(
        self,
        login_url: str,
        *,
        credentials: Credentials,
        refresh_url: str | None = None,
        logout_url: str | None = None,
        fields: Mapping[str, str | Sequence[str]] | None = None,
        refresh_as: str | None = None,
        subject: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._login_url = check_endpoint(login_url, "login_url")
        self._refresh_url = None if refresh_url is None else check_endpoint(refresh_url, "refresh_url")
        self._logout_url = None if logout_url is None else check_endpoint(logout_url, "logout_url")
        self._credentials = _checked(credentials)
        self._fields = Fields(fields)
        if refresh_as is not None and not FIELD_NAME.fullmatch(cookie_of(refresh_as) or refresh_as):
            raise ConfigurationError('refresh_as= must be the name of a member, "cookie:NAME", or "bearer"')
        self._refresh_as = refresh_as
        if subject == "":
            raise ConfigurationError("subject= is empty: whoever has none would share one session")
        self._subject = subject
        # Stands for callables. Not their id(): that may be another's tomorrow, or in a process that shares the store.
        self._own = os.urandom(16).hex()
        if headers is not None and not isinstance(headers, Mapping):
            raise ConfigurationError("headers= must be a mapping of names to values")
        self._headers = tuple(_header(name, value) for name, value in (headers or {}).items())
        self.spends: bool = refresh_url is not None

    def __repr__(self) -> str:
        return f"<SessionLogin {self.name}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("SessionLogin is not pickled: it holds credentials; make one in each process")

    @property
    def name(self) -> str:
        """Where the session is; whose it is need not be in a log."""
        return urlsplit(self._login_url).netloc

    @property
    def cookie(self) -> str | None:
        """The name of the cookie as which the access token is presented; None: it is a bearer token."""
        return self._fields.access_cookie

    @property
    def origins(self) -> tuple[str, ...] | None:
        """Where the access token may go if the program does not say: a cookie, to whom it is from; None: no limit."""
        if self.cookie is None:
            return None
        parts = urlsplit(self._login_url)
        return (f"{parts.scheme}://{parts.netloc}",)

    def identity(self) -> Mapping[str, Any]:
        """With the person, or the credentials that stand in; without where it only ends."""
        return {
            "grant": type(self).__name__,
            "login_url": self._login_url,
            "refresh_url": self._refresh_url,
            "fields": self._fields.identity(),
            "refresh_as": self._refresh_as,
            "headers": digest(json.dumps(self._headers)),
            "subject": self._subject,
            "credentials": None if self._subject is not None else self._credentials_identity,
        }

    @functools.cached_property
    def _credentials_identity(self) -> str:
        def named(value: object) -> object:
            return self._own if callable(value) else value

        given = self._credentials
        plain = named(given) if callable(given) else {name: named(value) for name, value in given.items()}
        # A slow hash: a fingerprint is no secret, and a person's password could be guessed from a fast one.
        text = json.dumps(plain, sort_keys=True).encode()
        return hashlib.pbkdf2_hmac("sha256", text, self._login_url.encode(), _ROUNDS, 16).hex()

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """The next token: by the refresh token that we hold, or else by a login (rule 2).

        Raises:
            ReauthenticationRequired: the refresh, or the login, was refused; or a login is not allowed now.
            TokenRequestError: an endpoint is not what it should be, or its answer has no access token.
            TokenEndpointUnavailable: there is no answer to be had now.
        """
        held = attempt.presented
        if self._refresh_url is not None and held is not None and held.token.refresh_token and not held.is_spent:
            return self._refresh(attempt, self._refresh_url, held.token)
        if not attempt.may_log_in:
            raise ReauthenticationRequired("there is no session any more: log in again with auth.warm()")
        return self._log_in(attempt)

    def _log_in(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        body = yield from self._ask_credentials(attempt)
        request = ServerRequest(self._login_url, json=body, headers=self._headers)
        response, sent_at = yield from _fetch(request, attempt, "the login endpoint", spends=False)
        return self._read(response, sent_at, self._hidden(attempt, body), None)

    def _refresh(self, attempt: Attempt, url: str, token: Token) -> Generator[Step, Any, Minted]:
        body, headers = self._with_refresh_token(token)
        request = ServerRequest(url, json=body, headers=(*self._headers, *headers))
        response, sent_at = yield from _fetch(request, attempt, "the refresh endpoint", spends=True)
        try:
            return self._read(response, sent_at, self._hidden(attempt), token)
        except TokenFlowError as error:
            error.may_have_spent = 200 <= response.status < 300 or error.may_have_spent
            raise

    def revoke(self, attempt: Attempt) -> Generator[Step, Any, bool]:
        """Log out at the server.

        Returns:
            Whether it agreed, or knows of no session any more (401); False, too, if there is nowhere to ask.
        """
        if self._logout_url is None or attempt.presented is None:
            return False
        token = attempt.presented.token
        body, headers = self._with_refresh_token(token)
        cookies = [value for name, value in headers if name == "Cookie"]
        if token.is_for_refresh:
            sent = dict(headers)
        elif self.cookie is None:
            sent = {"Authorization": f"Bearer {token.access_token}"}
        else:
            sent, cookies = {}, [f"{self.cookie}={cookie_value(token.access_token)}", *cookies]
        if cookies:
            sent["Cookie"] = "; ".join(cookies)
        request = ServerRequest(self._logout_url, json=body, headers=(*self._headers, *sent.items()))
        response, now = yield from _fetch(request, attempt, "the logout endpoint", spends=False)
        if not (200 <= response.status < 300 or response.status == 401):
            raise _refused(response, json_of(response.body), now, self._hidden(attempt), "the logout endpoint")
        return True

    def _with_refresh_token(self, token: Token) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
        """The body and the headers that present the refresh token (rule 1)."""
        if not token.refresh_token:
            return {}, ()
        value, where = check_credential(token.refresh_token, "the refresh token"), self._refresh_as
        if where is None and self._fields.refresh_cookie is not None:
            where = COOKIE + self._fields.refresh_cookie
        if (cookie := cookie_of(where)) is not None:
            return {}, (("Cookie", f"{cookie}={cookie_value(value, 'the refresh token')}"),)
        if where == _BEARER:
            return {}, (("Authorization", f"Bearer {value}"),)
        names = self._fields.refresh_names()
        kept = token.extra.get(_AS)
        return {where or (kept if kept in names else names[0]): value}, ()

    def _ask_credentials(self, attempt: Attempt) -> Generator[Step, Any, dict[str, Any]]:
        given = self._credentials
        if callable(given):
            answer = yield from called(given, "credentials", attempt.timeout)
            if not isinstance(answer, Mapping) or not answer or not _is_json(dict(answer)):
                raise InvalidCredential("the callable given as credentials must return a mapping that JSON can hold")
            return dict(answer)
        body = dict(given)
        for name, value in given.items():
            if callable(value):
                body[name] = yield from called(value, f"credentials[{name!r}]", attempt.timeout)
        if not _is_json(body):
            raise InvalidCredential("a callable in credentials returned something that JSON cannot hold")
        return body

    def _hidden(self, attempt: Attempt, sent: Any = None) -> tuple[str, ...]:
        """What no error may quote: all that we know and have sent."""
        given = None if callable(self._credentials) else self._credentials
        token = attempt.presented.token if attempt.presented is not None else None
        tokens = [token.access_token, token.refresh_token] if token is not None else []
        return tuple(_leaves([given, sent, *tokens, *dict(self._headers).values()]))

    def _read(
        self, response: ServerResponse, sent_at: float, secrets: tuple[str, ...], previous: Token | None
    ) -> Minted:
        """The token in an answer, or the error that it means (rule 4); `previous` was presented for it."""
        body = json_of(response.body)
        found = self._fields.read(response, body, sent_at)
        if not 200 <= response.status < 300 or found.access_token is None:
            raise self._refusal(response, body, sent_at, secrets, is_login=previous is None)
        lifetime, date = found.lifetime, parse_date(response.headers.get("date"))
        refresh_token, extra = _kept(found, previous)
        token = Token(
            found.access_token if self.cookie is not None else _without_scheme(found.access_token),
            token_type="Bearer" if self.cookie is None else "Cookie",
            expires_at=None if lifetime is None else sent_at + lifetime,
            refresh_token=refresh_token,
            scope=found.scope or (previous.scope if previous is not None else None),
            extra=extra,
        )
        return Minted(token, lifetime, skew=0.0 if date is None else date - sent_at)

    def _refusal(
        self, response: ServerResponse, body: Any, now: float, secrets: tuple[str, ...], *, is_login: bool
    ) -> TokenFlowError:
        status, what = response.status, "login" if is_login else "refresh"
        told = _refused(response, body, now, secrets, f"the {what} endpoint")
        if not isinstance(told, TokenRequestError):
            return told
        is_success = 200 <= status < 300
        if is_success and not isinstance(body, dict | list) and self.cookie is None:
            return TokenEndpointUnavailable(
                f"the {what} endpoint answered {status} with something that is no JSON object",
                outcome="answered" if is_login else "unknown",
                status=status,
            )
        if is_success and not _says_no(body):  # its words are not quoted: one of them may be the token
            where = "name its place in fields="
            if self.cookie is not None:
                where = f"it set no cookie {self.cookie}, or one that is none by RFC 6265 §4.1.1; {where}"
            return TokenRequestError(
                f"the {what} endpoint answered {status} without an access token: {where}", status=status
            )
        facts: dict[str, Any] = {
            "status": status,
            "error": told.error,
            "error_description": told.error_description,
        }
        words = ", ".join(filter(None, (told.error, told.error_description)))
        said = f"{status}{f' ({words})' if words else ''}"
        if not is_login:
            return ReauthenticationRequired(f"the refresh was refused with {said}: log in again", **facts)
        if is_success or status in _REFUSALS:
            return ReauthenticationRequired(
                f"the login was refused with {said}: check credentials=, their values and the names that the "
                "endpoint gives them",
                **facts,
            )
        return TokenRequestError(f"the login endpoint answered {said}: check login_url= and headers=", **facts)


def _checked(given: Any) -> Credentials:
    """The credentials as they are now, whatever happens to the mapping later."""
    if callable(given):
        checked: Credentials = given
        return checked
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError('credentials= must be a mapping, such as {"email": …, "password": …}, or a callable')
    plain = {name: value for name, value in given.items() if not callable(value)}
    if not all(isinstance(name, str) for name in given) or not _is_json(plain):
        raise ConfigurationError("credentials= has something that JSON cannot hold")
    return {**dict(given), **json.loads(json.dumps(plain))}


def _is_json(value: object) -> bool:
    """Whether it can be sent: text that is no UTF-8 is found here, where no error quotes it."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _leaves(value: object) -> Generator[str, None, None]:
    """Every text and number in `value`: what no error may quote."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def _header(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not FIELD_NAME.fullmatch(name):
        raise ConfigurationError("headers= has a name that is not the name of a header field (RFC 9110 §5.1)")
    if name.lower() in _OURS:
        raise ConfigurationError(f"headers= has {name}, which the grant sends itself")
    return name, check_credential(value, f"headers[{name!r}]")


def _fetch(
    request: ServerRequest, attempt: Attempt, what: str, *, spends: bool
) -> Generator[Step, Any, tuple[ServerResponse, float]]:
    """The answer, and Unix seconds at which the request was sent."""
    sent_at = attempt.clock.wall()
    try:
        response: ServerResponse = yield Fetch(request, attempt.timeout)
    except TokenFlowError:
        raise
    except Exception as error:
        raise unavailable(error, what, sent=spends) from error
    return response, sent_at


def _kept(found: Found, previous: Token | None) -> tuple[str | None, dict[str, str]]:
    """The refresh token from now on, and the note on the name that it has in a body (rule 1, failures F05)."""
    if found.refresh_token is not None:
        return found.refresh_token, {_AS: found.refresh_name} if found.refresh_name else {}
    if previous is None or found.is_ended:
        return None, {}
    return previous.refresh_token, dict(previous.extra)


def _without_scheme(token: str) -> str:
    """`token` alone: some APIs answer with the whole value of the field, which would go out with its scheme twice."""
    scheme, _, rest = token.partition(" ")
    return rest.strip() or token if scheme.lower() == _BEARER else token


def _says_no(body: Any) -> bool:
    """Whether a body without a token says that there is none to be had."""
    if not isinstance(body, dict):
        return False
    return bool(body.get("error") or body.get("errors")) or body.get("success") is False or body.get("ok") is False


def _refused(response: ServerResponse, found: Any, now: float, secrets: tuple[str, ...], what: str) -> TokenFlowError:
    """What the answer, with `found` in it, means: as if a token endpoint had given it (RFC 6749 §5.2)."""
    body = found if isinstance(found, dict) else {}
    error = body.get("error")
    inner = error if isinstance(error, dict) else {}
    words = [body.get("error_description"), body.get("message"), body.get("detail"), inner.get("message")]
    said = {
        "error": error if isinstance(error, str) else inner.get("code"),
        "error_description": next((one for one in words if isinstance(one, str) and one), None),
    }
    in_oauth_words = replace(response, body=json.dumps(said).encode())
    return read_refusal(in_oauth_words, now, (*secrets, *tokens_in(found)), what=what)
