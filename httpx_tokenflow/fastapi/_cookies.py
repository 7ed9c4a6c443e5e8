"""Cookies that servers set, and that a client which many callers share is not to keep.

A client of httpx keeps what any answer sets, and sends it with every request from then on. Where the requests are of
different callers, a session cookie that came with the answer to one of them makes all others that caller: the upstream
looks at the cookie, not at the token.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

__all__ = ["keep_no_cookies"]


class _KeepsNone(DefaultCookiePolicy):
    """Takes none from an answer; those that the program has given its client are the program's own, and are sent."""

    def set_ok(self, cookie: Any, request: Any) -> bool:  # noqa: ARG002 - of the library
        return False


def keep_no_cookies(client: Any) -> None:
    """Have `client`, of httpx or httpx2, keep no cookie of an answer from now on."""
    client.cookies.jar.set_policy(_KeepsNone())
