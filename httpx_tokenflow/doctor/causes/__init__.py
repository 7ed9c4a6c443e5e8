"""The causes, in the order in which they are named where they are as certain: what explains others comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    _absent,
    _browsers,
    _claims,
    _clocks,
    _conduct,
    _connections,
    _endpoint,
    _environments,
    _kinds,
    _limits,
    _proxies,
    _redirects,
    _refused,
    _revoked,
    _schemes,
    _signatures,
    _spelling,
)

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._findings import Cause

__all__ = ["CAUSES", "table"]

CAUSES: tuple[Cause, ...] = (
    *_endpoint.CAUSES,
    *_redirects.CAUSES,
    *_proxies.CAUSES,
    *_limits.CAUSES,
    *_absent.CAUSES,
    *_spelling.CAUSES,
    *_schemes.CAUSES,
    *_environments.CAUSES,
    *_clocks.CAUSES,
    *_claims.CAUSES,
    *_kinds.CAUSES,
    *_signatures.CAUSES,
    *_revoked.CAUSES,
    *_refused.CAUSES,
    *_browsers.CAUSES,
    *_connections.CAUSES,
    *_conduct.CAUSES,
)


def table() -> str:
    """The causes as a table in Markdown, for the documents; what to do is said where one is found."""
    rows = [f"| `{cause.id}` | {cause.title} | {cause.reference} |" for cause in CAUSES]
    return "\n".join(["| id | cause | where it is written |", "| --- | --- | --- |", *rows])
