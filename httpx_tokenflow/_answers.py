"""Reading what an authorization server answers.

Rules.

1. Be lenient in what is read (RFC 6749 §5.1 says "ignore unrecognised members"; servers write lifetimes as strings,
   scopes as lists, types in any spelling) and exact in what is kept.
2. A lifetime that cannot be read counts as missing, never as "expired" and never as "for ever".
3. An answer ends in a `Minted`, or in exactly one error of ours; its body never gets into the error's text. What
   the server says in `error_description` is bounded, and the secrets that we have or sent, and the tokens in the
   answer itself, are taken out of it, as they are and as a form or JSON writes them: some servers echo them, or the
   request that they were in.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from ._entries import Minted
from ._errors import (
    ConfigurationError,
    ReauthenticationRequired,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from ._times import parse_date, parse_retry_after
from ._tokens import MAX_LIFETIME, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ServerResponse",
    "forms_of",
    "is_shallow",
    "json_of",
    "read_json",
    "read_nothing",
    "read_refusal",
    "read_seconds",
    "read_token_response",
    "tokens_in",
    "words",
]

MAX_DESCRIPTION = 200  # characters of a server's words that an error may quote
MAX_HIDDEN = 100  # secrets to be taken out of a text; to look for thousands would take seconds
MIN_TOKEN = 8  # characters; a shorter one is no secret, and hiding it would spoil words that have it in them

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_TRANSIENT_ERROR = frozenset({"temporarily_unavailable", "server_error"})
_ENDED = frozenset({"invalid_grant", "bad_refresh_token", "invalid_refresh_token"})  # RFC 6749 §5.2; GitHub; Slack
_CODES = frozenset(
    {
        "access_denied", "authorization_pending", "consent_required", "expired_token", "interaction_required",
        "invalid_client", "invalid_dpop_proof", "invalid_request", "invalid_scope", "invalid_target", "login_required",
        "server_error", "slow_down", "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
        "use_dpop_nonce",
    }
) | _ENDED  # fmt: skip
_BEARER = frozenset({"", "bearer", "bearertoken"})


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
        ReauthenticationRequired: `invalid_grant`, or what GitHub and Slack say instead.
        TokenRequestError: any other refusal.
        ConfigurationError: a redirect, or a token type that cannot be presented.
    """
    hidden = tuple(secrets)
    body = read_json(response, now, hidden)
    date = parse_date(response.headers.get("date"))
    try:
        hidden = (*hidden, *tokens_in(body))
        minted = _minted(body, hidden, now=now, token_type=token_type, previous=previous, is_bound=is_bound)
    except TokenFlowError as error:
        error.may_have_spent = True
        raise
    return minted if date is None else minted.having(skew=date - now)


def read_json(
    response: ServerResponse, now: float, secrets: Iterable[str] = (), *, what: str = "the token endpoint"
) -> dict[str, Any]:
    """The JSON object in an authorization server's answer, or the error that it means (as `read_token_response`).

    Args:
        response: the answer.
        now: Unix seconds at which the request was sent.
        secrets: what must not be echoed in an error.
        what: who has answered, for the error.
    """
    found, hidden = json_of(response.body), tuple(secrets)
    body = found if isinstance(found, dict) else None
    if not 200 <= response.status < 300 or (body is not None and body.get("error") and not body.get("access_token")):
        raise read_refusal(response, now, hidden, what=what)
    if body is None:
        kind = _content_type(response, (*hidden, *tokens_in(found)))
        raise TokenEndpointUnavailable(
            f"{what} answered {response.status} with something that is not a JSON object ({kind}): check its URL",
            outcome="unknown",
            status=response.status,
        )
    return body


def read_nothing(
    response: ServerResponse, now: float, secrets: Iterable[str] = (), *, what: str = "the token endpoint"
) -> None:
    """Nothing, where the answer says no more than yes (RFC 7009 §2.2); or the error that it means."""
    if not 200 <= response.status < 300:
        raise read_refusal(response, now, secrets, what=what)


def read_refusal(
    response: ServerResponse, now: float, secrets: Iterable[str] = (), *, what: str = "the token endpoint"
) -> TokenEndpointUnavailable | TokenRequestError | ConfigurationError:
    """What an answer means that is none of the good ones (RFC 6749 §5.2)."""
    date = parse_date(response.headers.get("date"))
    found = json_of(response.body)
    body = found if isinstance(found, dict) else {}
    hidden = (*secrets, *tokens_in(found))
    return _refusal(response, body, now=now if date is None else date, hidden=hidden, what=what)


def _minted(
    body: dict[str, Any],
    hidden: tuple[str, ...],
    *,
    now: float,
    token_type: str | None,
    previous: Token | None,
    is_bound: bool,
) -> Minted:
    if not isinstance(body.get("access_token"), str) or not body["access_token"]:
        raise TokenRequestError(
            "the token endpoint answered without an access_token: check its URL; where the token has another name, "
            "SessionLogin(…, fields=…) says which",
            status=200,
        )
    lifetime, refresh_in = read_seconds(body.pop("expires_in", None)), read_seconds(body.pop("refresh_in", None))
    refresh_token, id_token = body.pop("refresh_token", None), body.pop("id_token", None)
    token = Token(
        access_token=body.pop("access_token"),
        token_type=token_type or _read_token_type(body.get("token_type"), hidden, is_bound=is_bound),
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


def _read_token_type(value: object, hidden: tuple[str, ...], *, is_bound: bool) -> str:
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
    raise ConfigurationError(f"the token endpoint issued a token of type {_quoted(spelt, hidden)}, not Bearer: {hint}")


def _read_scope(value: object) -> str | None:
    if isinstance(value, list):
        return " ".join(item for item in value if isinstance(item, str)) or None
    if not isinstance(value, str):
        return None
    # Some servers separate by commas; a space anywhere means that commas belong to the names (RFC 6749 §3.3).
    return (" ".join(value.split()) if " " in value else " ".join(value.replace(",", " ").split())) or None


def _refusal(
    response: ServerResponse, body: dict[str, Any], *, now: float, hidden: tuple[str, ...], what: str
) -> TokenEndpointUnavailable | TokenRequestError | ConfigurationError:
    status = response.status
    code = body.get("error")
    # A code that everybody knows is no secret, even if the secret happens to be a part of it.
    error = code if isinstance(code, str) and code in _CODES else words(code, hidden)
    if 300 <= status < 400:
        return ConfigurationError(
            f"{what} answered with a redirect ({status}), which is not followed: "
            "it would hand the credentials on; configure the endpoint's final address"
        )
    if status == 407:
        return TokenEndpointUnavailable(
            f"the proxy on the way to {what} wants authentication (407)",
            outcome="not sent",
            status=status,
            retryable=False,
        )
    if status >= 500 or status in _TRANSIENT_STATUS or error in _TRANSIENT_ERROR:
        return TokenEndpointUnavailable(
            f"{what} answered {status}{f' ({error})' if error else ''}",
            outcome="answered",
            retry_after=parse_retry_after(response.headers.get("retry-after"), now=now),
            status=status,
        )
    description = words(body.get("error_description"), hidden)
    told = (
        f": {error}{f' ({description})' if description else ''}" if error else f" ({_content_type(response, hidden)})"
    )
    kind = ReauthenticationRequired if error in _ENDED else TokenRequestError
    return kind(
        f"{what} refused with {status}{told}{_remedy(status, error)}",
        status=status,
        error=error,
        error_description=description,
        error_uri=words(body.get("error_uri"), hidden),
    )


def _remedy(status: int, error: str | None) -> str:
    """What to look at, for the two mistakes that are made most: a wrong URL, and a client that is not recognised."""
    if error == "invalid_client":
        return ": check client_id and its secret or key; some servers want client_auth=ClientSecretPost()"
    return ": check its URL" if error is None and status in {404, 405} else ""


def json_of(body: bytes | str) -> Any:
    """The JSON that was sent; None if it is none, or goes too deep."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def is_shallow(value: object, most: int) -> bool:
    """Whether JSON that was read goes no deeper than `most` levels: whoever goes through it goes as deep."""
    level = [value]
    for _ in range(most):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [child for children in inner for child in children]
        if not level:
            return True
    return False


def tokens_in(body: object) -> tuple[str, ...]:
    """The tokens in an answer, wherever they are, by their names: what its other words must not tell."""
    found: list[str] = []
    rest = [body]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += [value for value in one.values() if isinstance(value, dict | list)]
            found += [value for name, value in one.items() if isinstance(value, str) and _is_token(name, value)]
        elif isinstance(one, list):
            rest += one
    return tuple(found)


def _is_token(name: str, value: str) -> bool:
    is_named = "token" in name.lower() and not name.lower().endswith(("type", "endpoint", "hint"))
    return is_named and len(value) >= MIN_TOKEN


def words(value: object, secrets: tuple[str, ...]) -> str | None:
    """A server's words, printable, without `secrets`, and not too many; none beside hundreds of tokens (rule 3)."""
    if not isinstance(value, str) or not value or len(secrets) > MAX_HIDDEN:
        return None
    forms = {form for secret in secrets if secret for form in forms_of(secret)}
    for form in sorted(forms, key=len, reverse=True):  # one secret may be a part of another
        value = value.replace(form, "***")
    text = re.sub(r"[^\x20-\x7e]+", " ", value).strip()
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def forms_of(secret: str) -> Iterable[str]:
    """`secret` as it is, and as a form, a URL and JSON would write it."""
    yield secret
    yield quote_plus(secret, errors="replace")
    yield quote(secret, errors="replace")
    yield quote(secret, safe="", errors="replace")
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]


def _quoted(text: str, hidden: tuple[str, ...]) -> str:
    return repr(words(text, hidden) or "")


def _content_type(response: ServerResponse, hidden: tuple[str, ...]) -> str:
    return words(response.headers.get("content-type"), hidden) or "no content type"
