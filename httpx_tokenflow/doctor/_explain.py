"""Facts from what a program has in hand: a response, or an error of ours. No I/O."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import TokenEndpointUnavailable, TokenRequestError

from ._diagnosis import Diagnosis, diagnose
from ._facts import BODY_LIMIT, Exchange, Expected, Facts, Fields, Refusal
from ._readings import read_token

if TYPE_CHECKING:
    from ._sent import Sent

__all__ = ["explain", "reading_of", "refusal_of"]


def explain(
    what: Any,
    *,
    now: float | None = None,
    expected: Expected | None = None,
    token_age: float | None = None,
    carried: Sent | None = None,
) -> Diagnosis:
    """Why `what` was refused. It sends nothing, reads nothing, and does not raise.

    Args:
        what: a response of httpx or httpx2 (its redirects are looked at as well; its body only if it was read), an
            `Exchange`, a `TokenRequestError`, or a `TokenEndpointUnavailable`.
        now: Unix seconds at which the request was sent; None: a moment ago.
        expected: what the API expects of a token; None: nobody has said so.
        token_age: seconds since the token was issued, if that is known.
        carried: the credential that it is about, where the response's request no longer shows it, or shows others.
    """
    now = time.time() if now is None else now
    expected = expected or Expected()
    if isinstance(what, TokenRequestError | TokenEndpointUnavailable):
        return diagnose(Facts(now=now, expected=expected, refusal=refusal_of(what)))
    exchanges = (what,) if isinstance(what, Exchange) else _exchanges(what)
    facts = Facts(exchanges=exchanges, now=now, expected=expected, token_age=token_age, carried=carried)
    return diagnose(replace(facts, token=reading_of(facts.credential)))


def _exchanges(response: Any) -> tuple[Exchange, ...]:
    """A response, with the redirects before it."""
    history = [*getattr(response, "history", ()), response]
    return tuple(_exchange(one, "hop" if at else "asked") for at, one in enumerate(history))


def refusal_of(error: TokenRequestError | TokenEndpointUnavailable) -> Refusal:
    """What a token endpoint has said, by the error that it became."""
    return Refusal(
        status=getattr(error, "status", None),
        error=getattr(error, "error", None),
        description=getattr(error, "error_description", None),
        text=str(error),
    )


def reading_of(sent: Sent | None) -> Any:
    """What can be read of the token that was sent; None where no token was."""
    if sent is None or sent.place == "Cookie" or sent.is_scheme("Basic"):
        return None
    words = sent.value.strip(" \t\r\n\"'").split()  # white space of another kind leaves none
    return read_token(words[-1]) if words else None


def _exchange(response: Any, role: str) -> Exchange:
    try:
        request = response.request
    except RuntimeError:  # it was made by hand, without one
        request = None
    return Exchange(
        role=role,
        method=str(getattr(request, "method", "GET")),
        url=str(getattr(request, "url", "")),
        sent=Fields(_pairs(getattr(request, "headers", None))),
        status=int(response.status_code),
        received=Fields(_pairs(response.headers)),
        body=_body(response),
        http_version=_version(response),
    )


def _version(response: Any) -> str:
    told = getattr(response, "extensions", {}).get("http_version", b"")
    return told.decode("ascii", "replace") if isinstance(told, bytes) else ""


def _pairs(headers: Any) -> list[tuple[str, str]]:
    several = getattr(headers, "multi_items", None)
    pairs = several() if several is not None else getattr(headers, "items", list)()
    return [(str(name), str(value)) for name, value in pairs]


def _body(response: Any) -> str | None:
    """The body, if it was read: reading it is the caller's business."""
    content = getattr(response, "_content", None)
    return content[:BODY_LIMIT].decode("utf-8", "replace") if isinstance(content, bytes) else None
