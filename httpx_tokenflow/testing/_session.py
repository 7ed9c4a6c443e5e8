"""An API's own login in plain JSON, without OAuth: ``/session/login``, ``/session/refresh`` and ``/session/logout``.

The rules:

1. What goes in is a POST of a JSON object; what is wrong with it is a 400, and what is refused a 401, each with a
   ``message`` and nothing that OAuth knows.
2. ``?cookies=refresh`` has the refresh token travel as an httpOnly cookie, ``?cookies=both`` the access token as well;
   a logout deletes both.
3. A login starts a family, a refresh retires the token presented, and presenting a retired one revokes the family, all
   as at the token endpoint (`_state`); without rotation a refresh brings an access token alone.
4. A logout takes an access token that is good, and ends its family.
"""

import hmac
import math
from collections.abc import Mapping
from typing import Any

from httpx_tokenflow._answers import json_of

from ._reply import Reply, json_reply
from ._state import Issued, Rejected, Tokens

SESSION = {"/session/login": "login", "/session/refresh": "refresh", "/session/logout": "logout"}

_CLIENT = "session"
_COOKIE = "HttpOnly; SameSite=Strict"
_PATHS = {"access": "/", "refresh": "/session"}
_NO_STORE = ("cache-control", "no-store")


class Session:
    """Logs in, refreshes and logs out."""

    def __init__(self, tokens: Tokens, accounts: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._accounts = accounts

    def handle(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        """Answer one request, as `App.handle` does."""
        if method != "POST":
            return json_reply(405, {"message": "POST only"}, ("allow", "POST"))
        cookies = query.removeprefix("cookies=") if query in {"cookies=refresh", "cookies=both"} else ""
        given = _json(headers, body)
        if given is None:
            return json_reply(400, {"message": "the body must be a JSON object"}, _NO_STORE)
        try:
            if path == "/session/logout":
                return self._logout(headers, now)
            if path == "/session/login":
                return _answer(self._login(given, now), cookies)
            return _answer(self._refresh(given, headers, cookies, now), cookies)
        except Rejected as no:
            return json_reply(401, {"message": no.description}, _NO_STORE)

    def _login(self, given: Mapping[str, Any], now: float) -> Issued:
        username, password = str(given.get("username")), str(given.get("password"))
        expected = self._accounts.get(username)
        if expected is None or not hmac.compare_digest(expected.encode(), password.encode("utf-8", "replace")):
            raise Rejected("", "the username or the password is wrong")
        return self._tokens.login(username, _CLIENT, "", now)

    def _refresh(self, given: Mapping[str, Any], headers: Mapping[str, str], cookies: str, now: float) -> Issued:
        token = cookies_in(headers).get("refresh") if cookies else given.get("refreshToken")
        return self._tokens.refresh(str(token), _CLIENT, "", now)

    def _logout(self, headers: Mapping[str, str], now: float) -> Reply:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = cookies_in(headers).get("access", "")
        self._tokens.end(self._tokens.verify(token.strip(), now))
        return Reply(204, tuple(_cookie(name, "", 0) for name in _PATHS))


def cookies_in(headers: Mapping[str, str]) -> dict[str, str]:
    """Read the Cookie field of a request (RFC 6265 §4.2)."""
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs}


def _answer(issued: Issued, cookies: str) -> Reply:
    """Write what was issued as such APIs do (rule 2)."""
    lifetime = issued.lifetime
    content: dict[str, Any] = {"ok": True}
    headers = [_NO_STORE]
    if cookies == "both":
        headers.append(_cookie("access", issued.access_token, lifetime))
    else:
        content |= {"accessToken": issued.access_token} | ({} if lifetime is None else {"expiresIn": lifetime})
    if issued.refresh_token is not None and cookies:
        headers.append(_cookie("refresh", issued.refresh_token, None))
    elif issued.refresh_token is not None:
        content["refreshToken"] = issued.refresh_token
    return json_reply(200, content, *headers)


def _cookie(name: str, value: str, max_age: float | None) -> tuple[str, str]:
    age = "" if max_age is None else f"; Max-Age={math.ceil(max_age)}"
    return "set-cookie", f"{name}={value}; Path={_PATHS[name]}{age}; {_COOKIE}"


def _json(headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return None
    given = json_of(body)
    return given if isinstance(given, dict) else None
