"""Whoever sent a request, as its token says.

Rules.

1. What a route returns is sent out, so the token is no field: whatever writes a dataclass down, as FastAPI does with
   what a route returns, or ``dataclasses.asdict``, has all but the token. A copy has it, and so has a pickle;
   ``dataclasses.replace`` wants ``token=caller.token``, and a class that inherits from it the constructor of this one.
2. It comes from a guard: a route whose parameter is a bare ``caller: Caller`` would have it from the request's body.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - FastAPI reads the annotations
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Caller", "copied"]


class _Holder:
    """A place that no dataclass knows of (rule 1)."""

    __slots__ = ("_token",)
    _token: str


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Caller(_Holder):
    """Whoever sent a request, as a token says that a guard has verified.

    It can be a member of a set, or a key: two are the same if all is, and the hash leaves the claims out.

    Attributes:
        subject: whom the token stands for (RFC 7519 §4.1.2), as its issuer calls them: only with the issuer a name of
            one person. None: it does not say.
        client_id: the client that it was given to (RFC 9068 §2.2; `azp` where that is said instead), or None.
        issuer: who says all this, or None.
        scope: what it is good for.
        expires_at: Unix seconds at which it ends; None: it does not say.
        claims: all that it says, or all that the introspection endpoint answered.
    """

    subject: str | None
    client_id: str | None
    issuer: str | None
    scope: frozenset[str]
    expires_at: float | None
    claims: Mapping[str, Any] = field(repr=False)

    def __init__(
        self,
        subject: str | None,
        client_id: str | None,
        issuer: str | None,
        scope: frozenset[str],
        expires_at: float | None,
        claims: Mapping[str, Any],
        token: str,
    ) -> None:
        put = object.__setattr__
        put(self, "subject", subject)
        put(self, "client_id", client_id)
        put(self, "issuer", issuer)
        put(self, "scope", scope)
        put(self, "expires_at", expires_at)
        put(self, "claims", claims)
        put(self, "_token", token)

    @property
    def token(self) -> str:
        """The token itself, to be exchanged for another: no repr shows it, and it is no field (``_caller``, rule 1)."""
        return self._token

    def _all(self) -> tuple[Any, ...]:
        known = (self.subject, self.client_id, self.issuer, self.scope, self.expires_at)
        return (*known, self.claims, self._token)

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Caller) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.issuer, self.subject, self.client_id, self.expires_at, self._token))

    def __reduce__(self) -> tuple[type[Caller], tuple[Any, ...]]:
        return type(self), self._all()


def copied(caller: Caller) -> Caller:
    """`caller` with claims of their own, for one that is remembered: a request may do with them what it likes."""
    known = (caller.subject, caller.client_id, caller.issuer, caller.scope, caller.expires_at)
    return Caller(*known, _copied(caller.claims), caller.token)


def _copied(value: Any) -> Any:
    """JSON, copied."""
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value
