"""What a browser asks beforehand: the fields of a request that a page's script has set, and may not set unasked (CORS).

Rules.

1. What the browser sets itself is not asked for, as a "Copy as cURL" has all of it: the forbidden names of the Fetch
   standard, client hints, and what its cache and its developer tools add.
2. Safelisted values are not asked for (the Fetch standard, CORS-safelisted request-header).
3. Where a script and the browser may both have set a field, it was the browser: a false alarm is worse.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["asked_fields"]

_OF_BROWSER = frozenset(
    {
        # forbidden names, and those of the connection that HTTP/2 writes otherwise
        "accept-charset", "accept-encoding", "access-control-request-headers", "access-control-request-method",
        "access-control-request-private-network", "connection", "content-length", "cookie", "cookie2", "date", "dnt",
        "expect", "host", "keep-alive", "origin", "referer", "set-cookie", "te", "trailer", "transfer-encoding",
        "upgrade", "via", ":authority", ":method", ":path", ":scheme",
        # what browsers add, as their cache, their developer tools and the person's settings will have it
        "alt-used", "cache-control", "if-modified-since", "if-none-match", "pragma", "priority", "purpose",
        "save-data", "upgrade-insecure-requests", "user-agent", "x-client-data",
        # client hints (RFC 8942)
        "device-memory", "downlink", "dpr", "ect", "rtt", "viewport-width", "width",
        # safelisted
        "accept", "accept-language", "content-language",
    }
)  # fmt: skip
_OF_BROWSER_ALL = ("sec-", "proxy-")
_SIMPLE_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
_SIMPLE_RANGE = re.compile(r"bytes=\d+-\d*")


def asked_fields(fields: Iterable[tuple[str, str]]) -> list[str]:
    """The names that a preflight asks for (`Access-Control-Request-Headers`), in lower case and in order."""
    return sorted({name.lower() for name, value in fields if not _is_free(name.lower(), value)})


def _is_free(name: str, value: str) -> bool:
    if name in _OF_BROWSER or name.startswith(_OF_BROWSER_ALL):
        return True
    if name == "content-type":
        return value.partition(";")[0].strip().lower() in _SIMPLE_TYPES
    return name == "range" and _SIMPLE_RANGE.fullmatch(value.strip()) is not None
