"""The authorization code grant (RFC 6749 §4.1) with PKCE (RFC 7636), as generators without I/O.

    _begin    the address to which a person is sent, and what belongs to that one login
    _read     the code in the answer, if it is the answer to that login
    _end      the token for the code
    _log_in   all three, with a browser on this machine
    _finish   the last two, for a program that has sent the person itself

Rules.

1. Each login has a state, a verifier and a nonce of its own, 256 bits each. An answer with another state is not looked
   at any further (RFC 6749 §10.12); then comes who it is from (RFC 9207 §2.4), and only then what it says.
2. PKCE is always used, and always S256 (RFC 7636 §4.2). With `openid` in the scope there is a nonce as well. An ID
   token that comes along must be for this login, from this server and for this client; its signature is not looked at,
   since it came from the token endpoint itself, over TLS (OpenID Connect Core §3.1.3.7, point 6).
3. A code serves once: an exchange whose answer was lost is not tried again; one that was not sent, or was answered with
   "not now", is.
4. Neither code nor state nor verifier is in any error, nor on any page.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from httpx_tokenflow._answers import ServerResponse, read_json, read_refusal
from httpx_tokenflow._attempt import called, unavailable
from httpx_tokenflow._errors import (
    ConfigurationError,
    ReauthenticationRequired,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._origins import is_loopback
from httpx_tokenflow._signing import base64url
from httpx_tokenflow._steps import Patience, Sleep, Work
from httpx_tokenflow._tokens import Token, digest

from ._session import PERSON_WANTED, Session, after

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Unpack

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._entries import Minted
    from httpx_tokenflow._metadata import Metadata
    from httpx_tokenflow._steps import Step

    from ._options import ClientOptions
    from ._session import Pairs

__all__ = ["CodeGrant", "Login"]

EXCHANGES = 3  # of one code, as long as the server has not taken it
PAUSE = 1.0  # seconds between them, unless the server asks for more
MAX_FIELDS = 100  # of a callback's query

_OURS = frozenset(
    {
        "response_type", "response_mode", "client_id", "client_secret", "redirect_uri", "scope", "state", "nonce",
        "code_challenge", "code_challenge_method", "audience", "resource", "dpop_jkt", "request", "request_uri",
    }
)  # fmt: skip
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_ANSWER = frozenset({"state", "iss", "error", "error_description", "error_uri", "code"})
_STATE_VERSION = 1
_SECRET_LENGTH = 43  # characters of 256 bits in base64url


@dataclass(frozen=True, slots=True)
class Login:
    """What belongs to one login, from its beginning to its end.

    Args:
        state: ties the answer to it.
        verifier: ties the code to it (RFC 7636 §4.1).
        nonce: ties the ID token to it; empty if none is asked for.
        redirect_uri: where the answer goes.
        issuer: the authorization server's identifier, if that is known.
        grant: names the client and the server for which it was begun.
        asked: the scope that was asked for, where that is another than the grant's own.
    """

    state: str = field(repr=False)
    verifier: str = field(repr=False)
    nonce: str = field(repr=False)
    redirect_uri: str
    issuer: str | None
    grant: str
    asked: str | None

    def to_text(self) -> str:
        """For the program to keep."""
        text = json.dumps({"version": _STATE_VERSION, **asdict(self)}, separators=(",", ":"))
        return base64url(text.encode())

    @classmethod
    def from_text(cls, text: str) -> Login:
        """What `to_text` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        try:
            facts = json.loads(base64.urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}"))
            version = facts.pop("version")
            login = cls(**facts)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            version, login = None, None
        if login is None or version != _STATE_VERSION or not login.is_whole:
            raise ConfigurationError(
                "state= is not what start() returned: keep that, as it is, in the person's session until the callback"
            )
        return login

    @property
    def is_whole(self) -> bool:
        """Whether its members are what `_begin` makes of them."""
        said = [self.state, self.verifier, self.nonce, self.redirect_uri, self.grant]
        maybe = [one for one in (self.issuer, self.asked) if one is not None]
        is_text = all(isinstance(one, str) for one in (*said, *maybe))
        return is_text and len(self.state) == len(self.verifier) == _SECRET_LENGTH


class CodeGrant(Session):
    """See `AuthorizationCode`, which adds the two halves for web backends."""

    parameters: frozenset[str] = frozenset({"code", "redirect_uri", "code_verifier"})

    def __init__(
        self,
        authorization_endpoint: str | None = None,
        token_endpoint: str | None = None,
        *,
        client_id: str,
        subject: str | None = None,
        redirect_uri: str = "http://127.0.0.1:0/callback",
        open_browser: Callable[[str], Any] | Literal[False] | None = None,
        timeout: float = 300.0,
        authorization_extra: Mapping[str, str] | None = None,
        par: bool | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        endpoints = {"authorization_endpoint": authorization_endpoint, "token_endpoint": token_endpoint}
        super().__init__(endpoints, client_id, subject=subject, timeout=timeout, **options)
        self._redirect_uri = _check_redirect_uri(redirect_uri)
        if not (open_browser is None or open_browser is False or callable(open_browser)):
            raise ConfigurationError("open_browser= must be a callable that is given the URL; or False: none is opened")
        self._open_browser = open_browser or None
        self._authorization_extra: dict[str, str] = {}
        self._authorization_extra = self._more(authorization_extra)
        self._par = par
        if open_browser is False or not _is_ours(redirect_uri):
            # Nobody is sent there from here: for requests this is a session that was opened elsewhere.
            self.logs_in = self.widens = False
            self.login_timeout: float = 0.0

    def identity(self) -> Mapping[str, Any]:
        """With what the authorization request says beyond the token request."""
        return {**super().identity(), "authorization_extra": sorted(self._authorization_extra.items())}

    def _more(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        """The further parameters of an authorization request, these included."""
        given: Any = extra if extra is not None else {}
        if not isinstance(given, Mapping) or not all(isinstance(one, str) for pair in given.items() for one in pair):
            raise ConfigurationError("authorization_extra= must be a mapping of strings to strings")
        if taken := given.keys() & _OURS:
            raise ConfigurationError(
                f"authorization_extra= has {', '.join(sorted(taken))}, which the grant sends itself, or cannot have"
            )
        return {**self._authorization_extra, **given}

    def _why_not(self) -> str:
        if self.logs_in:
            return super()._why_not()
        return (
            "somebody has to log in: by start() and finish(), since no browser is opened here; "
            "the token then goes into TokenAuth(…, token=…) or set_token()"
        )

    def _log_in(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """A login through a browser on this machine."""
        if not self.logs_in:
            raise ReauthenticationRequired(self._why_not())
        from httpx_tokenflow._loopback import Closed, Listener  # 4 ms that only those pay who come here

        clock = attempt.clock
        listener = Listener(self._redirect_uri)
        try:
            server = yield from self._server.find(attempt)
            url, login = yield from self._begin(attempt, server, listener.redirect_uri, self._authorization_extra)
            yield Patience(self.login_timeout + attempt.timeout)
            began = clock.monotonic()
            listener.serve(partial(self._judge, server, login), self.login_timeout)
            yield from self._open(url)
            try:
                callback = yield Work(listener.wait)
            except (TimeoutError, Closed):
                raise ReauthenticationRequired(
                    f"nobody has logged in within {self.login_timeout:g} seconds: start again with warm()"
                ) from None
        finally:
            listener.close()
        attempt = after(attempt, clock.monotonic() - began)
        return (yield from self._end(attempt, server, login, self._read(server, login, _parse(callback))))

    def _open(self, url: str) -> Generator[Step, Any, None]:
        if self._open_browser is None:
            import webbrowser

            opened = yield Work(partial(webbrowser.open, url))
        else:
            opened = yield from called(partial(self._open_browser, url), "open_browser", self.login_timeout)
        if opened is False:
            raise ConfigurationError(
                "no browser can be opened here: give open_browser= a callable that shows the URL to the person, "
                "or use DeviceCode"
            )

    def _judge(self, server: Metadata, login: Login, callback: str) -> str | None:
        """What is wrong with an answer, in words for the person."""
        from httpx_tokenflow._loopback import Stray

        if not _is_answer_to(login, callback):
            raise Stray("It is the answer to another one: go back to the page that was opened last.")
        try:
            self._read(server, login, _parse(callback))
        except TokenFlowError as error:
            return str(error)
        return None

    def _begin(
        self,
        attempt: Attempt,
        server: Metadata,
        redirect_uri: str,
        extra: Mapping[str, str],
    ) -> Generator[Step, Any, tuple[str, Login]]:
        """Where to send the person (RFC 6749 §4.1.1), and what belongs to that login."""
        endpoint = server.endpoint("authorization_endpoint")
        wanted, asked = self._wanted(attempt)
        is_openid = "openid" in (asked or self._scope or "").split()
        login = Login(
            state=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32) if is_openid else "",
            redirect_uri=redirect_uri,
            issuer=server.told,
            grant=self._digest(),
            asked=asked,
        )
        challenge = base64url(hashlib.sha256(login.verifier.encode()).digest())
        said = {name for name, value in wanted if value}
        pairs: Pairs = [
            ("response_type", "code"),
            ("redirect_uri", redirect_uri),
            *wanted,
            ("state", login.state),
            ("nonce", login.nonce),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
            ("dpop_jkt", attempt.dpop.thumbprint if attempt.dpop is not None else None),
            *((name, value) for name, value in extra.items() if name not in said),
        ]
        if self._par if self._par is not None else server.says("require_pushed_authorization_requests"):
            pairs = [("request_uri", (yield from self._push(attempt, server, pairs, (login.state, login.nonce))))]
        query = urlencode([("client_id", self._client_id), *((name, value) for name, value in pairs if value)])
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{query}", login

    def _push(
        self, attempt: Attempt, server: Metadata, pairs: Pairs, hidden: tuple[str, ...]
    ) -> Generator[Step, Any, str]:
        """Push an authorization request: what stands for it from now on (RFC 9126 §2)."""
        endpoint = "pushed_authorization_request_endpoint"
        return (yield from self._post(attempt, server, endpoint, [*self._who(server), *pairs], _read_pushed, hidden))

    def _finish(self, callback: str, state: str, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """The token, by what `_begin` left and by where the browser came back to."""
        login = Login.from_text(state)
        if login.grant != self._digest():
            raise ConfigurationError(
                "this login was begun for another client, or at another server: finish it with the grant that began it"
            )
        answer = _parse(callback)
        _check_state(login, answer)
        server = yield from self._server.find(attempt, login.issuer)
        minted = yield from self._end(attempt, server, login, self._read(server, login, answer))
        if minted.issuer is None:
            return minted
        token = minted.token  # which leaves this process without its entry: it says itself who issued it
        extra = {**token.extra, "issuer": minted.issuer}
        return minted.having(token=Token.from_dict({**token.to_dict(), "extra": extra}))

    def _digest(self) -> str:
        return digest(json.dumps([self._server.identity(), self._client_id], sort_keys=True))

    def _read(self, server: Metadata, login: Login, answer: Mapping[str, str]) -> str:
        """The code in the answer to `login` (RFC 6749 §4.1.2), in the order of rule 1.

        Raises:
            ReauthenticationRequired: the person refused, or the server wants to see one.
            TokenRequestError: the server answered with another error, or this is no answer to this login.
            ConfigurationError: another server answered.
        """
        _check_state(login, answer)
        issuer = answer.get("iss")
        if issuer is None and server.says("authorization_response_iss_parameter_supported"):
            raise ConfigurationError(
                f"the callback does not say who it is from, although {server.told} always says so "
                "(RFC 9207 §2.4): it may be from somebody else"
            )
        if issuer is None and len(self._server.allowed) > 1:
            raise ConfigurationError(
                "the callback does not say who it is from, and with several issuers it may be from another than "
                f"{server.told}, where this login was begun (RFC 9700 §4.4): have a grant for each of them, with one "
                "issuer= and a redirect_uri= of its own"
            )
        if issuer is not None and server.told is not None and issuer != server.told:
            raise ConfigurationError(
                f"the callback is from somebody else than {server.told}, where this login was begun (RFC 9207 §2.4)"
            )
        if answer.get("error"):
            raise _refusal(answer, (login.state, login.verifier, answer.get("code", "")))
        if not answer.get("code"):
            raise TokenRequestError("the callback has neither a code nor an error in it (RFC 6749 §4.1.2)")
        return answer["code"]

    def _end(self, attempt: Attempt, server: Metadata, login: Login, code: str) -> Generator[Step, Any, Minted]:
        """The token for the code (RFC 6749 §4.1.3)."""
        pairs: Pairs = [("code", code), ("redirect_uri", login.redirect_uri), ("code_verifier", login.verifier)]
        for left in reversed(range(EXCHANGES)):
            try:
                minted: Minted = yield from self._redeem(attempt, server, "authorization_code", pairs)
            except TokenFlowError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - whatever a transport raises
                failure = unavailable(error)
                failure.__cause__ = error
            else:
                _check_id_token(minted.token.id_token, login, self._client_id)
                return minted.having(asked=login.asked)
            failure.may_have_spent = False  # no refresh token is at stake
            if not isinstance(failure, TokenEndpointUnavailable):
                raise failure
            pause = PAUSE if failure.retry_after is None else failure.retry_after
            if not left or not failure.retryable or failure.outcome == "unknown" or pause >= attempt.timeout:
                failure.retryable = False
                raise failure
            yield Sleep(pause)
        raise AssertionError("the last turn returns or raises")


def _is_answer_to(login: Login, callback: str) -> bool:
    """Whether the state of `login` is in what came, whatever else is."""
    return any(name == "state" and _is_same(value, login.state) for name, value in _pairs(callback))


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _check_state(login: Login, answer: Mapping[str, str]) -> None:
    if not _is_same(answer.get("state", ""), login.state):
        raise TokenRequestError(
            "the callback's state is not that of this login: it is the answer to another one, or forged "
            "(RFC 6749 §10.12); start again"
        )


def _pairs(callback: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(callback).query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return []  # no URL at all: then there is no state in it either


def _parse(callback: str) -> dict[str, str]:
    """The parameters of an authorization response (RFC 6749 §4.1.2); each of them is there once (§3.1)."""
    answer: dict[str, str] = {}
    for name, value in _pairs(callback):
        if name in _ANSWER and name in answer:
            raise TokenRequestError(f"the callback has more than one {name} in it (RFC 6749 §3.1)")
        if name in _ANSWER:
            answer[name] = value
    return answer


def _refusal(answer: Mapping[str, str], hidden: tuple[str, ...]) -> TokenRequestError:
    """What an error in the callback means (RFC 6749 §4.1.2.1); in the server's words, bounded and scrubbed."""
    told = read_refusal(ServerResponse(400, {}, json.dumps(dict(answer)).encode()), 0.0, hidden)
    # Those that are no TokenRequestError are two that everybody knows: "not now", in so many words.
    code = told.error if isinstance(told, TokenRequestError) else answer["error"]
    description = told.error_description if isinstance(told, TokenRequestError) else None
    kind = ReauthenticationRequired if code == "access_denied" or code in PERSON_WANTED else TokenRequestError
    return kind(
        f"the login failed: {code}{f' ({description})' if description else ''}",
        error=code,
        error_description=description,
        error_uri=told.error_uri if isinstance(told, TokenRequestError) else None,
    )


def _check_id_token(id_token: str | None, login: Login, client_id: str) -> None:
    """An ID token that came along is for this login (OpenID Connect Core §3.1.3.7, points 2, 3 and 11)."""
    if not login.nonce or id_token is None:
        return
    import jwt

    try:
        claims = jwt.decode(id_token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):  # half a surrogate pair; lists too deep in one another
        raise TokenRequestError("the ID token that came with the token cannot be read") from None
    nonce, audience = claims.get("nonce"), claims.get("aud")
    right = {
        "nonce": isinstance(nonce, str) and _is_same(nonce, login.nonce),
        "iss": login.issuer is None or claims.get("iss") == login.issuer,
        "aud": audience == client_id or (isinstance(audience, list) and client_id in audience),
    }
    if not all(right.values()):
        wrong = " and ".join(name for name, is_right in right.items() if not is_right)
        raise TokenRequestError(
            f"the ID token that came with the token is not for this login: see its {wrong} "
            "(OpenID Connect Core §3.1.3.7)"
        )


def _read_pushed(response: ServerResponse, now: float, secrets: tuple[str, ...]) -> str:
    """What stands for an authorization request that was pushed (RFC 9126 §2.2)."""
    request_uri = read_json(response, now, secrets, what="the pushed authorization request endpoint").get("request_uri")
    if not isinstance(request_uri, str) or not request_uri:
        raise TokenRequestError("the server took a pushed authorization request and gave no request_uri for it")
    return request_uri


def _is_ours(redirect_uri: str) -> bool:
    """Whether a browser that is sent there arrives at this machine (RFC 8252 §7.3)."""
    parts = urlsplit(redirect_uri)
    return parts.scheme == "http" and parts.hostname in _LOOPBACK


def _check_redirect_uri(redirect_uri: str) -> str:
    """`redirect_uri` if an answer may go there (RFC 6749 §3.1.2, RFC 8252 §7)."""
    try:
        parts = urlsplit(redirect_uri)
        is_absolute = bool(parts.scheme) and (parts.scheme not in {"http", "https"} or bool(parts.hostname))
        is_plain = redirect_uri.isascii() and redirect_uri.isprintable() and " " not in redirect_uri
        is_good = is_absolute and is_plain and parts.port != -1 and not parts.fragment and parts.username is None
    except (ValueError, AttributeError, TypeError):
        is_good = False
    if not is_good:
        raise ConfigurationError(
            "redirect_uri= must be an absolute URL without user and fragment, such as "
            '"https://app.example.com/callback"'
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigurationError("redirect_uri= must be https, or http to loopback: a code comes back to it")
    return redirect_uri
