"""What a guard says to whoever it does not let in.

Rules.

1. Nothing sent, or another scheme: 401 and a challenge without `error` (RFC 6750 §3.1: a client that did not know is
   told how, not what is wrong). A request that is malformed: 400 invalid_request. A token that is no good: 401
   invalid_token. A good one with too little scope: 403 insufficient_scope, and the scope that is wanted.
2. Words come from `Reason` and from here, never out of a token: nothing that was sent comes back, in a field, a body or
   a log line.
3. Where a token cannot be verified now that is nobody's fault: 503 with Retry-After. A 401 would have every client in
   the world renew a good token.
4. They are Starlette's own HTTPException, so that they work without any handler, and with whatever handler there is.
   No cache keeps them (RFC 9111 §5.2.2.5).
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

from httpx_tokenflow._extras import need_extra

with need_extra("fastapi", "httpx_tokenflow.fastapi"):
    from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BadCredential", "InsufficientScope", "InvalidToken", "MissingToken", "Reason", "Refusal", "RefusedToken",
    "Unverifiable", "challenge_of",
]  # fmt: skip

RETRY_AFTER = 5.0  # seconds, where nobody has named a time
MOST_RETRY_AFTER = 300.0  # seconds: who asks for more is asked sooner


class Reason(enum.StrEnum):
    """Why a token is no good: all that a guard ever says of one (rule 2)."""

    MALFORMED = "the token is malformed"
    TOO_LARGE = "the token is too large"
    ALGORITHM = "the token's signing algorithm is not allowed"
    KIND = "the token is not an access token"
    KEY = "the token is signed with an unknown key"
    SIGNATURE = "the token's signature is not valid"
    EXPIRED = "the token has expired"
    NOT_YET = "the token is not valid yet"
    ISSUER = "the token is from another issuer"
    AUDIENCE = "the token is for another audience"
    LACKING = "the token lacks a claim that is needed"
    BOUND = "the token is bound to a key, and no proof is verified here"
    INACTIVE = "the token is not active"


class InvalidToken(Exception):  # noqa: N818 - as InvalidCredential: it says what is the case
    """A verifier's verdict: this token is no good. A guard answers it with 401 invalid_token (RFC 6750 §3.1).

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Refusal(HTTPException):
    """Whoever sent this request is not let in: base of all that a guard answers.

    Attributes:
        status_code: of the answer.
        detail: why, in words of ours.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, challenge: str | None = None) -> None:
        headers = {"Cache-Control": "no-store"}
        if challenge is not None:
            headers["WWW-Authenticate"] = challenge
        super().__init__(status, detail, headers)


class MissingToken(Refusal):
    """401: there is no bearer token on the request."""

    def __init__(self, challenge: str) -> None:
        super().__init__(401, "a bearer token is needed", challenge)


class BadCredential(Refusal):
    """400 invalid_request: the Authorization field cannot be read, or there are several."""

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(400, detail, challenge)


class RefusedToken(Refusal):
    """401 invalid_token: the token is no good.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Reason, challenge: str) -> None:
        super().__init__(401, str(reason), challenge)
        self.reason = reason


class InsufficientScope(Refusal):
    """403 insufficient_scope: the token is good, for something else (RFC 6750 §3.1)."""

    def __init__(self, challenge: str) -> None:
        super().__init__(403, "the token's scope does not cover this", challenge)


class Unverifiable(Refusal):
    """503: tokens cannot be verified now (rule 3)."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__(503, "tokens cannot be verified now")
        seconds = min(max(RETRY_AFTER if retry_after is None else retry_after, 1.0), MOST_RETRY_AFTER)
        self.headers = {**(self.headers or {}), "Retry-After": str(math.ceil(seconds))}


def challenge_of(parameters: Iterable[tuple[str, str | None]]) -> str:
    """A challenge of the scheme Bearer (RFC 9110 §11.6.1); what is None is left out."""
    shown = (f'{name}="{_quotable(value)}"' for name, value in parameters if value is not None)
    return f"Bearer {', '.join(shown)}"


def _quotable(value: str) -> str:
    """`value` as it stands within quotes (RFC 9110 §5.6.4): nothing that is in it ends the string, or the field."""
    plain = "".join(one for one in value if " " <= one <= "~")
    return plain.replace("\\", "\\\\").replace('"', '\\"')
