"""What the server says: `App.handle` takes a request as plain data and gives back a `Reply`.

The rules:

1. ``POST /token``, ``POST /introspect`` and ``POST /revoke`` are the authorization server's: see `_oauth`.
2. ``/jwks`` has the keys (RFC 7517 §5). The metadata is where RFC 8414 §3.1 and OpenID Connect Discovery §4 look for
   it, whatever path the issuer has.
3. ``/api/…`` wants a bearer token. Without a credential the challenge names no error, with a bad one it says
   ``invalid_token`` (RFC 6750 §3.1).
4. ``/api-key/…`` wants a key, in ``X-API-Key`` or ``?api_key=``.
5. ``/session/…`` speaks plain JSON and no OAuth: see `_session`. Its access tokens are good for ``/api/…``, too, as
   bearer tokens or, without an ``Authorization`` field, as the cookie ``access``.
6. ``/redirect?to=URL&status=302``, ``/echo`` and ``/open/…`` want nothing. Anything else is 404.
7. Which endpoint a request is for is its path's to say, unless a test says so: then the path may be any.
8. No I/O, no lock and no clock: the time is an argument.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote

from ._oauth import AuthorizationServer
from ._reply import Reply, challenge, json_reply
from ._session import SESSION, Session, cookies_in
from ._state import Access, Rejected, Tokens

PATHS = {
    "token": "/token",
    "introspect": "/introspect",
    "revoke": "/revoke",
    "jwks": "/jwks",
    "metadata": "/.well-known/oauth-authorization-server",
    **{target: path for path, target in SESSION.items()},
}
"""Where each endpoint is; the API is everything below ``/api/`` and ``/api-key/``."""

_SESSION = frozenset(SESSION.values())
_POSTED = frozenset({"token", "introspect", "revoke"}) | _SESSION
_AT = {path: target for target, path in PATHS.items()}
_METADATA = (PATHS["metadata"], "/.well-known/openid-configuration")
_URL_PUNCTUATION = ":/?#[]@!$&'()*+,;=%~"
_API_KEY = Access(0, "api-key", "", "", None, None)


def endpoint_of(path: str) -> str | None:
    """Name the endpoint at a path: one of `PATHS`, ``"api"`` or, for the rest, None."""
    if path.startswith(("/api/", "/api-key/")):
        return "api"
    if path.startswith(_METADATA) or path.endswith(_METADATA):
        return "metadata"
    return _AT.get(path)


def is_counted(endpoint: str | None, method: str) -> bool:
    """Whether a request is for an endpoint, and not one that is turned away at its door."""
    return endpoint is not None and (endpoint not in _POSTED or method == "POST")


class App:
    """An authorization server, a JSON login, a protected API and some open routes."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        clients: Mapping[str, str],
        api_keys: set[str],
        accounts: Mapping[str, str],
        documents: Mapping[str, Callable[[], Mapping[str, Any]]],
    ) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._oauth = AuthorizationServer(tokens, clients)
        self._session = Session(tokens, accounts)
        self._documents = documents

    def handle(
        self,
        endpoint: str | None,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        now: float,
    ) -> Reply:
        """Answer one request; the names in ``headers`` are in lower case, ``now`` is in Unix seconds."""
        if endpoint == "api":
            if path.startswith("/api-key/"):
                return self._api_key(method, path, query, headers, body)
            return self._api(method, path, headers, body, now)
        if endpoint in _SESSION:
            return self._session.handle(method, PATHS[endpoint], query, headers, body, now)
        if endpoint is None:
            return _open(method, path, query, headers, body)
        if endpoint in self._documents:
            return json_reply(200, self._documents[endpoint]())
        return self._oauth.handle(endpoint, method, headers, body, now)

    def _api(self, method: str, path: str, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        scheme, _, credential = headers.get("authorization", "").partition(" ")
        if not scheme and (cookie := cookies_in(headers).get("access")):
            scheme, credential = "bearer", cookie
        if scheme.lower() != "bearer":
            return _unauthorized(challenge("Bearer", {"realm": "api"}))
        try:
            access = self._tokens.verify(credential.strip(), now)
        except Rejected as no:
            reason = {"error": no.error, "error_description": no.description}
            return _unauthorized(challenge("Bearer", {"realm": "api", **reason}), reason)
        return _resource(access, method, path, body)

    def _api_key(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
        key = headers.get("x-api-key") or parse_qs(query).get("api_key", [""])[0]
        if key not in self._api_keys:
            return _unauthorized(challenge("ApiKey", {"realm": "api"}))
        return _resource(_API_KEY, method, path, body)


def _open(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """Answer by rule 6."""
    if path == "/redirect":
        return _redirect(query)
    is_open = path.startswith("/open/")
    content = headers if path == "/echo" else {"path": path, "method": method, "received": len(body)}
    return json_reply(200 if is_open or path == "/echo" else 404, content)


def _unauthorized(www_authenticate: str, content: Mapping[str, str] | None = None) -> Reply:
    return json_reply(401, content or {}, ("www-authenticate", www_authenticate))


def _resource(access: Access, method: str, path: str, body: bytes) -> Reply:
    content = {"subject": access.subject, "client_id": access.client_id, "scope": access.scope}
    return json_reply(200, {**content, "path": path, "method": method, "received": len(body)})


def _redirect(query: str) -> Reply:
    wanted = dict(parse_qsl(query))
    status = wanted.get("status", "302")
    if "to" not in wanted or status not in {"301", "302", "303", "307", "308"}:
        return json_reply(400, {"error": "invalid_request"})
    return json_reply(int(status), {}, ("location", quote(wanted["to"], safe=_URL_PUNCTUATION)))
