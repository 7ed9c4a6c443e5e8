"""Token, the entry that a store keeps of it, and the reading of a token endpoint's answer.

Rules.

1. Be lenient in what is read (RFC 6749 §5.1 says "ignore unrecognised members"; servers write lifetimes as strings,
   scopes as lists, types in any spelling) and exact in what is kept.
2. A lifetime that cannot be read counts as missing, never as "expired" and never as "for ever".
3. An answer ends in a `Minted`, or in exactly one error of ours; its body never gets into the error's text. What
   the server says in `error_description` is bounded, and the secrets that we sent are taken out of it: some
   servers echo them.
4. A Token is immutable and shows no secret: not in its repr, not through `dataclasses.asdict`, not in a pickle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ._errors import (
    ConfigurationError,
    InvalidCredential,
    ReauthenticationRequired,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from ._times import parse_date, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Entry", "Minted", "ServerResponse", "Token", "check_credential", "digest", "read_json", "read_nothing",
    "read_refusal", "read_token_response",
]  # fmt: skip

MAX_LIFETIME = 10 * 365 * 86_400.0  # seconds; a server that says 1e20 means "long", and floats must stay exact
LEAST_LIFETIME = 1.0  # seconds that a token from outside must have left to be used
MAX_PRESENTATIONS = 2  # of one refresh token: once, and once more if the answer was lost
_GIVEN_UP = "given-up"
MAX_DESCRIPTION = 200  # characters of a server's words that an error may quote

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_TRANSIENT_ERROR = frozenset({"temporarily_unavailable", "server_error"})
_CODES = frozenset(
    {
        "access_denied", "authorization_pending", "consent_required", "expired_token", "interaction_required",
        "invalid_client", "invalid_dpop_proof", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target",
        "login_required", "server_error", "slow_down", "temporarily_unavailable", "unauthorized_client",
        "unsupported_grant_type", "use_dpop_nonce",
    }
)  # fmt: skip
_BEARER = frozenset({"", "bearer", "bearertoken"})


def digest(text: str) -> str:
    """A short name for a secret, good for comparing and for logs, useless for anything else."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Token:
    """An access token with what came with it. Immutable; its repr shows no secret.

    Args:
        access_token: the credential itself; opaque to us (RFC 9068 §6).
        token_type: how it is presented, "Bearer" by default.
        expires_at: Unix seconds at which it ends, or None if nobody said.
        refresh_token: what buys the next one (RFC 6749 §6), or None.
        scope: the scope that was granted, space-separated, or None.
        id_token: an OpenID Connect ID token that came along, or None.
        extra: members of the token endpoint's answer that have no field of their own.

    Raises:
        InvalidCredential: `access_token` is empty or could not go into a header.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - a scheme, no secret
    expires_at: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    id_token: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        check_credential(self.access_token, "access_token")
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))

    @property
    def session(self) -> str:
        """Names the login that this is the first token of; no secret."""
        return digest(self.refresh_token or self.access_token)

    def with_refresh_token(self, refresh_token: str | None) -> Self:
        """The same token with another refresh token."""
        return self.from_dict({**self.to_dict(), "refresh_token": refresh_token})

    def to_dict(self) -> dict[str, Any]:
        """All of it, secrets included, as plain data that JSON can hold: the explicit way to keep a token."""
        plain = {name: getattr(self, name) for name in _FIELDS} | {"extra": dict(self.extra)}
        return {name: value for name, value in plain.items() if value not in (None, {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The token that `to_dict` wrote; unknown members are ignored.

        Raises:
            InvalidCredential: there is no usable `access_token` in it.
        """
        known = {name: data[name] for name in _FIELDS if data.get(name) is not None}
        return cls(**{"access_token": "", **known})

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(
            "a Token is not pickled: a pickle would carry its secrets wherever it goes; "
            "use Token.to_dict() and Token.from_dict() where you mean to move it"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


_FIELDS = tuple(item.name for item in dataclasses.fields(Token))
# dataclasses.asdict() and its friends in loggers and serialisers would spell every secret out: to_dict() is the
# explicit way, so Token stops being a dataclass to them (rule 4).
del Token.__dataclass_fields__


@dataclass(frozen=True, slots=True)
class Entry:
    """A token as a store keeps it: with what another clock needs to judge it.

    Args:
        token: the token.
        issued_at: Unix seconds at which the request for it was sent.
        lifetime: seconds from then on, or None if nobody said.
        presented: how often its refresh token has been presented without an answer that we know of.
        session: names the login that it descends from, through however many renewals.
        refresh_in: seconds after which the server would have it renewed, or None.
        skew: seconds by which the server's clock was ahead of ours when it was issued.
        asked: the scope that was asked for, where an API wanted a wider one than the grant's own, or None.
        issuer: the authorization server that issued it, where the API had to say which it is, or None.
        key: the private key that it is bound to, as a JWK in JSON, where it was made for the occasion, or None.
    """

    token: Token
    issued_at: float
    lifetime: float | None
    presented: int = 0
    session: str = ""
    refresh_in: float | None = None
    skew: float = 0.0
    asked: str | None = None
    issuer: str | None = None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of_login(cls, token: Token, now: float) -> Self:
        """`token` as it comes from outside and is first seen at `now`: its lifetime is what is left of it.

        Less than a second is nothing: it would end on its way (failures F59).
        """
        left = None if token.expires_at is None else token.expires_at - now
        lifetime = 0.0 if left is not None and left < LEAST_LIFETIME else left
        return cls(token, now, lifetime, session=token.session)

    def age(self, now: float) -> float:
        """Seconds since it was issued; none, if whoever wrote it has a clock that is ahead of ours."""
        return max(0.0, now - self.issued_at)

    @property
    def stamp(self) -> str:
        """Names the pair of tokens, not the notes on it: what compare-and-set compares."""
        return digest(f"{self.token.access_token} {self.token.refresh_token or ''}")

    @property
    def wire_stamp(self) -> str:
        """Names what an API sees of it: the access token alone."""
        return digest(self.token.access_token)

    @property
    def is_spent(self) -> bool:
        """Its refresh token buys nothing any more: it was refused, or its answer was lost once too often."""
        return self.presented >= MAX_PRESENTATIONS

    def marked(self, presented: int) -> Entry:
        """The same token with another count of presentations."""
        return dataclasses.replace(self, presented=presented)

    @classmethod
    def mark(cls, now: float, session: str) -> Self:
        """What is left of a session that was given up: no token, and word of it to everybody who shares the store."""
        return cls(Token(_GIVEN_UP), now, 0.0, presented=MAX_PRESENTATIONS, session=session)

    @property
    def is_mark(self) -> bool:
        """Whether it is no token, but what is left of one that was given up."""
        return self.token.access_token == _GIVEN_UP

    def spent(self) -> Entry:
        """The same token, of no more use: what is left in the store tells everybody who shares it."""
        return self.marked(MAX_PRESENTATIONS)


@dataclass(frozen=True, slots=True)
class Minted:
    """A token that a grant has just brought.

    Args:
        token: the token.
        lifetime: seconds since the request was sent, or None if the answer does not say.
        refresh_in: seconds after which the server would have it renewed, or None.
        skew: seconds by which the server's clock is ahead of ours.
        fell_back: what had to give way to the next of its sequence ("client_secret", "key"), or None.
        asked: as in `Entry`.
        issuer: as in `Entry`.
        key: as in `Entry`.
        sent_at: Unix seconds at which the request for it was sent; None: when the grant was asked for it.
    """

    token: Token
    lifetime: float | None
    refresh_in: float | None = None
    skew: float = 0.0
    fell_back: str | None = None
    asked: str | None = None
    issuer: str | None = None
    key: str | None = field(default=None, repr=False)
    sent_at: float | None = None

    def parted(self, session: Entry) -> tuple[Minted, Entry]:
        """The access token alone; and `session` with the refresh token that came along, where it was rotated."""
        rotated = session.token.with_refresh_token(self.token.refresh_token)
        alone = self.token.with_refresh_token(None)
        return dataclasses.replace(self, token=alone), dataclasses.replace(session, token=rotated, presented=0)


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """An authorization server's answer as plain data.

    Args:
        status: the HTTP status.
        headers: its header fields, names in lower case.
        body: all of it.
        cookies: the values of its `Set-Cookie` fields.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    cookies: tuple[str, ...] = field(default=(), repr=False)


def check_credential(value: object, what: str) -> str:
    """`value` if it can go into a header field as it is.

    Raises:
        InvalidCredential: it is not a string, is empty, or has characters other than visible ASCII and inner
            spaces. The message never quotes it.
    """
    if not isinstance(value, str):
        raise InvalidCredential(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise InvalidCredential(f"{what} is empty: check where it is read from")
    if value != value.strip():
        raise InvalidCredential(f"{what} begins or ends with white space (a newline from a file?): strip it first")
    if not (value.isascii() and value.isprintable()):
        raise InvalidCredential(f"{what} has control or non-ASCII characters, which a header cannot carry")
    return value


def read_token_response(
    response: ServerResponse,
    *,
    now: float,
    secrets: Iterable[str] = (),
    token_type: str | None = None,
    previous: Token | None = None,
    is_bound: bool = False,
) -> Minted:
    """The token in a token endpoint's answer (RFC 6749 §5.1), or the error that it means (§5.2).

    Args:
        response: the answer.
        now: Unix seconds at which the request was sent.
        secrets: what must not be echoed in an error.
        token_type: the type to assume whatever the answer says; None to go by the answer.
        previous: the token whose refresh token was presented: what the answer leaves out is kept (§6).
        is_bound: a token bound to a key was asked for (RFC 9449 §5), and no other will do.

    Raises:
        TokenEndpointUnavailable: the endpoint could not answer properly now.
        ReauthenticationRequired: `invalid_grant`.
        TokenRequestError: any other refusal.
        ConfigurationError: a redirect, or a token type that cannot be presented.
    """
    body = read_json(response, now, secrets)
    date = parse_date(response.headers.get("date"))
    try:
        minted = _minted(body, now=now, token_type=token_type, previous=previous, is_bound=is_bound)
    except TokenFlowError as error:
        error.may_have_spent = True
        raise
    return minted if date is None else dataclasses.replace(minted, skew=date - now)


def read_json(response: ServerResponse, now: float, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object in an authorization server's answer, or the error that it means (as `read_token_response`)."""
    body = _json_object(response.body)
    if not 200 <= response.status < 300 or (body is not None and body.get("error") and not body.get("access_token")):
        raise read_refusal(response, now, secrets)
    if body is None:
        raise TokenEndpointUnavailable(
            f"the token endpoint answered {response.status} with something that is not a JSON object "
            f"({_content_type(response)})",
            outcome="unknown",
            status=response.status,
        )
    return body


def read_nothing(response: ServerResponse, now: float, secrets: Iterable[str] = ()) -> None:
    """Nothing, where the answer says no more than yes (RFC 7009 §2.2); or the error that it means."""
    if not 200 <= response.status < 300:
        raise read_refusal(response, now, secrets)


def read_refusal(
    response: ServerResponse, now: float, secrets: Iterable[str] = ()
) -> TokenEndpointUnavailable | TokenRequestError | ConfigurationError:
    """What an answer means that is none of the good ones (RFC 6749 §5.2)."""
    date = parse_date(response.headers.get("date"))
    return _refusal(response, _json_object(response.body) or {}, now=now if date is None else date, secrets=secrets)


def _minted(
    body: dict[str, Any], *, now: float, token_type: str | None, previous: Token | None, is_bound: bool
) -> Minted:
    if not isinstance(body.get("access_token"), str) or not body["access_token"]:
        raise TokenRequestError("the token endpoint answered without an access_token", status=200)
    lifetime, refresh_in = read_seconds(body.pop("expires_in", None)), read_seconds(body.pop("refresh_in", None))
    refresh_token, id_token = body.pop("refresh_token", None), body.pop("id_token", None)
    token = Token(
        access_token=body.pop("access_token"),
        token_type=token_type or _read_token_type(body.get("token_type"), is_bound=is_bound),
        expires_at=None if lifetime is None else now + lifetime,
        refresh_token=(refresh_token if isinstance(refresh_token, str) and refresh_token else None)
        or (previous.refresh_token if previous else None),
        scope=_read_scope(body.pop("scope", None)) or (previous.scope if previous else None),
        id_token=id_token if isinstance(id_token, str) else None,
        extra={name: value for name, value in body.items() if name != "token_type"},
    )
    return Minted(token, lifetime, refresh_in, sent_at=now)


def read_seconds(value: object) -> float | None:
    """A lifetime in seconds however it was written: 3600, "3600", "3600.0"; None if it cannot be read (rule 2)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return min(seconds, MAX_LIFETIME) if math.isfinite(seconds) else None


def _read_token_type(value: object, *, is_bound: bool) -> str:
    spelt = value.strip() if isinstance(value, str) else ""
    if spelt.lower() == "dpop" and is_bound:
        return "DPoP"
    if spelt.lower() in _BEARER and is_bound:
        raise ConfigurationError(
            "the token endpoint issued a bearer token although a proof went along: the server does not support DPoP "
            "for this client; register the client for it, or leave dpop= out"
        )
    if spelt.lower() in _BEARER:
        return "Bearer"
    if spelt.upper() == "N_A":
        raise ConfigurationError(
            "the token endpoint issued a token that is none for an API (token_type N_A, RFC 8693 §2.2.1), and it is "
            "not sent as one: say with requested_token_type= what to issue"
        )
    # RFC 6749 §7.1: a client must not use a token of a type that it does not understand.
    hint = "give TokenAuth dpop=" if spelt.lower() == "dpop" else 'if the server means Bearer, say token_type="Bearer"'
    raise ConfigurationError(f"the token endpoint issued a token of type {_quoted(spelt)}, not Bearer: {hint}")


def _read_scope(value: object) -> str | None:
    if isinstance(value, list):
        return " ".join(item for item in value if isinstance(item, str)) or None
    if not isinstance(value, str):
        return None
    # Some servers separate by commas; a space anywhere means that commas belong to the names (RFC 6749 §3.3).
    return (" ".join(value.split()) if " " in value else " ".join(value.replace(",", " ").split())) or None


def _refusal(
    response: ServerResponse, body: dict[str, Any], *, now: float, secrets: Iterable[str]
) -> TokenEndpointUnavailable | TokenRequestError | ConfigurationError:
    status = response.status
    hidden = tuple(secrets)
    code = body.get("error")
    # A code that everybody knows is no secret, even if the secret happens to be a part of it.
    error = code if isinstance(code, str) and code in _CODES else _words(code, hidden)
    if 300 <= status < 400:
        return ConfigurationError(
            f"the token endpoint answered with a redirect ({status}), which is not followed: "
            "it would hand the credentials on; configure the endpoint's final address"
        )
    if status == 407:
        return TokenEndpointUnavailable(
            "the proxy on the way to the token endpoint wants authentication (407)",
            outcome="not sent",
            status=status,
            retryable=False,
        )
    if status >= 500 or status in _TRANSIENT_STATUS or error in _TRANSIENT_ERROR:
        return TokenEndpointUnavailable(
            f"the token endpoint answered {status}{f' ({error})' if error else ''}",
            outcome="answered",
            retry_after=parse_retry_after(response.headers.get("retry-after"), now=now),
            status=status,
        )
    description = _words(body.get("error_description"), hidden)
    told = f": {error}{f' ({description})' if description else ''}" if error else f" ({_content_type(response)})"
    kind = ReauthenticationRequired if error == "invalid_grant" else TokenRequestError
    return kind(
        f"the token endpoint refused with {status}{told}",
        status=status,
        error=error,
        error_description=description,
        error_uri=_words(body.get("error_uri"), hidden),
    )


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _words(value: object, secrets: tuple[str, ...]) -> str | None:
    """A server's words, printable, without the secrets that we sent, and not too many (rule 3)."""
    if not isinstance(value, str) or not value:
        return None
    for secret in secrets:
        if secret:
            value = value.replace(secret, "***")
    text = re.sub(r"[^\x20-\x7e]+", " ", value).strip()
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def _quoted(text: str) -> str:
    return repr(_words(text, ()) or "")


def _content_type(response: ServerResponse) -> str:
    return _words(response.headers.get("content-type"), ()) or "no content type"
