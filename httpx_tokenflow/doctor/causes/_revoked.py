"""The token looks good, and is refused all the same.

Rules.

1. What the issuer says when it is asked (RFC 7662 §2.2) is certain. `active: false` has many reasons; an `exp` that has
   passed is named by `_claims`, and a JWT of another issuer by `_kinds`.
2. Of an opaque token nothing can be read. That it was ended is possible where the server says invalid_token, or its own
   words for it, and gives no reason; of a token that was issued a moment ago it is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._reckoning import SLACK, ahead, has_token, jwt_of, lasting, moment, sure
from ._words import (
    ALGORITHM,
    AUDIENCE,
    DISABLED,
    EXPIRED,
    GENERAL,
    ISSUER,
    KEY,
    MALFORMED,
    NOT_YET,
    REVOKED,
    SCOPE,
    SIGNATURE,
    TYPE,
    said,
)

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts

__all__ = ["CAUSES"]

_REASONS = (
    EXPIRED, NOT_YET, MALFORMED, AUDIENCE, ISSUER, SCOPE, TYPE, KEY, ALGORITHM, SIGNATURE, REVOKED, DISABLED,
)  # fmt: skip


def _is_for_a_reason(facts: Facts) -> bool:
    return any(said(facts, words) is not None for words in _REASONS)


def _age(facts: Facts) -> float | None:
    """Seconds since the token was issued: as we know it, or by `iat` and the server's clock."""
    if facts.token_age is not None:
        return max(0.0, facts.token_age)
    issued = moment(jwt_of(facts), "iat")
    if issued is None or facts.now <= 0:
        return None
    age = facts.now + (ahead(facts) or 0.0) - issued
    return max(0.0, age) if age > -5 else None


class Disabled(Cause):
    """The account behind the token, or the client, is locked."""

    id = "account-disabled"
    title = "The account is disabled, or gone"
    remedy = (
        "have the account enabled again at the issuer, or log in with another; a new token for the same account will "
        "not help"
    )
    reference = "RFC 6750 §3.1 (invalid_token)"

    def look(self, facts: Facts) -> Finding | None:
        words = said(facts, DISABLED)
        if words is None:
            return None
        return self.found(Certainty.CERTAIN, "the account behind the credential is disabled, or gone", [words])


class Revoked(Cause):
    """It was ended before its time: by a logout, a new password, an administrator."""

    id = "token-revoked"
    title = "The token was revoked, or its session has ended"
    remedy = (
        "log in again and get a new token; look who ends it: a logout, a changed password, a second login, an "
        "administrator"
    )
    reference = "RFC 7009 §2, RFC 7662 §2.2"

    def look(self, facts: Facts) -> Finding | None:
        words = said(facts, REVOKED) if has_token(facts) else None
        active = (facts.introspection or {}).get("active")
        expires = moment(jwt_of(facts), "exp")
        if active is False and not (expires is not None and expires <= facts.now):
            left = None if expires is None else f"by its exp it would have {lasting(expires - facts.now)} left"
            what = "the issuer says that the token is not active: it was revoked, or its session has ended"
            return self.found(Certainty.CERTAIN, what, ["introspection says active: false", left, words])
        if words is None:
            return None
        against = "introspection says active: true" if active is True else None
        return self.found(
            sure(words, against),
            "the server says that the token was revoked, or its session has ended",
            [words],
            [against],
        )


class Fresh(Cause):
    """It was issued a moment ago, so neither its age nor a revocation explains the refusal."""

    id = "fresh-token-refused"
    title = "A token that was just issued is refused"
    remedy = (
        "renewing will not help: compare aud, iss and scope with what the API is configured for, have its copy of the"
        " JWKS read anew, and look whether a proxy changes Authorization"
    )
    reference = "RFC 9110 §15.5.2, RFC 6750 §3.1"

    def look(self, facts: Facts) -> Finding | None:
        age = _age(facts)
        if age is None or age >= SLACK or not has_token(facts) or _is_for_a_reason(facts):
            return None
        if facts.status not in {401, 403, 419, 440, 498, 400}:
            return None
        token = jwt_of(facts)
        shown = (
            []
            if token is None
            else [f"its {name} is {', '.join(token.texts(name))[:200]}" for name in ("iss", "aud") if token.texts(name)]
        )
        what = (
            f"the token was issued {lasting(age)} ago and is refused at once: neither its age nor a revocation is why"
        )
        whence = "so it was issued" if facts.token_age is not None else "so its iat says"
        against = "an opaque token tells nothing about itself" if token is None else None
        return self.found(
            Certainty.POSSIBLE, what, [f"{lasting(age)} old, {whence}", *shown, facts.said("invalid_token")], [against]
        )


class Unknown(Cause):
    """An opaque token, refused without a reason."""

    id = "token-not-known"
    title = "The server does not know the token, and does not say why"
    remedy = (
        "get a new token and try again: this one has ended or was revoked, or it is of another environment or account"
    )
    reference = "RFC 6750 §3.1 (invalid_token)"

    def look(self, facts: Facts) -> Finding | None:
        token = facts.token
        if token is None or token.kind != "opaque" or not has_token(facts) or _is_for_a_reason(facts):
            return None
        words, age = said(facts, GENERAL), _age(facts)
        if words is None or (age is not None and age < SLACK):
            return None
        what = "the server does not know the token: it has ended, was revoked, or was never one of its own"
        return self.found(Certainty.POSSIBLE, what, [words, "the token is opaque: nothing can be read of it"])


CAUSES: tuple[Cause, ...] = (Disabled(), Revoked(), Fresh(), Unknown())
