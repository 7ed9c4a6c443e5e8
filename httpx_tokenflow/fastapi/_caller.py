"""Whoever sent a request, as its token says."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - FastAPI reads the annotations
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request, as a token says that a guard has verified.

    Attributes:
        subject: whom the token stands for (RFC 7519 §4.1.2), as its issuer calls them: only with the issuer a name of
            one person. None: it does not say.
        client_id: the client that it was given to (RFC 9068 §2.2; `azp` where that is said instead), or None.
        issuer: who says all this, or None.
        scope: what it is good for.
        expires_at: Unix seconds at which it ends; None: it does not say.
        claims: all that it says, or all that the introspection endpoint answered.
        token: itself, to be exchanged for another; no repr shows it.
    """

    subject: str | None
    client_id: str | None
    issuer: str | None
    scope: frozenset[str]
    expires_at: float | None
    claims: Mapping[str, Any] = field(repr=False)
    token: str = field(repr=False)
