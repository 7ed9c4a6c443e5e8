"""What the server says: `App.handle` takes a request as plain data and gives back a `Reply`.

The rules:

1. ``POST /token`` (RFC 6749 §3.2): client credentials and refresh token. A parameter sent twice is an error,
   an empty one counts as omitted, an unknown one is ignored. Errors by §5.2; no answer may be stored (§5.1).
2. A client proves itself in one way only (§2.3): by Basic with form-urlencoded id and secret, in the body,
   or, as a public client, by its id alone (§3.2.1). Client credentials are for confidential clients (§4.4).
3. ``/api/…`` wants a bearer token. Without a credential the challenge names no error, with a bad one it says
   ``invalid_token`` (RFC 6750 §3.1).
4. ``/api-key/…`` wants a key, in ``X-API-Key`` or ``?api_key=``.
5. ``/session/…`` speaks plain JSON and no OAuth: see `_session`. Its access tokens are good for ``/api/…``, too, as
   bearer tokens or, without an ``Authorization`` field, as the cookie ``access``.
6. ``/redirect?to=URL&status=302``, ``/echo`` and ``/open/…`` want nothing. Anything else is 404.
7. No I/O, no lock and no clock: the time is an argument.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote_plus

from ._reply import Reply, challenge, json_reply
from ._session import SESSION, Session, cookies_in
from ._state import Access, Issued, Rejected, Tokens

_NO_STORE = (("cache-control", "no-store"), ("pragma", "no-cache"))
_BASIC = ("www-authenticate", challenge("Basic", {"realm": "token"}))
_URL_PUNCTUATION = ":/?#[]@!$&'()*+,;=%~"
_API_KEY = Access(0, "api-key", "", "", None, None)
_NQCHAR = frozenset(map(chr, range(0x21, 0x7F))) - {'"', "\\"}


def target_of(method: str, path: str) -> str | None:
    """Name the endpoint that a request is for: ``"token"``, ``"api"``, one of a session's or, for the rest, None."""
    if path.startswith(("/api/", "/api-key/")):
        return "api"
    if method == "POST" and path in SESSION:
        return SESSION[path]
    return "token" if path == "/token" and method == "POST" else None


class App:
    """An authorization server's token endpoint, a JSON login, a protected API and some open routes."""

    def __init__(
        self, tokens: Tokens, *, clients: Mapping[str, str], api_keys: set[str], accounts: Mapping[str, str]
    ) -> None:
        self._tokens = tokens
        self._clients = clients
        self._api_keys = api_keys
        self._session = Session(tokens, accounts)

    def handle(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        """Answer one request; the names in ``headers`` are in lower case, ``now`` is in Unix seconds."""
        if path.startswith("/api/"):
            return self._api(method, path, headers, body, now)
        if path.startswith("/api-key/"):
            return self._api_key(method, path, query, headers, body)
        if path == "/token":
            return self._token(method, headers, body, now)
        if path in SESSION:
            return self._session.handle(method, path, query, headers, body, now)
        if path == "/redirect":
            return _redirect(query)
        is_open = path.startswith("/open/")
        content = headers if path == "/echo" else {"path": path, "method": method, "received": len(body)}
        return json_reply(200 if is_open or path == "/echo" else 404, content)

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

    def _token(self, method: str, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        if method != "POST":
            return json_reply(405, {"error": "invalid_request"}, ("allow", "POST"))
        try:
            form = _form(headers, body)
            client_id = self._client(headers, form)
            return json_reply(200, token_answer(self._grant(client_id, form, now)), *_NO_STORE)
        except Rejected as no:
            content = {"error": no.error, "error_description": no.description}
            if no.error == "invalid_client":
                return json_reply(401, content, _BASIC, *_NO_STORE)
            return json_reply(400, content, *_NO_STORE)

    def _grant(self, client_id: str, form: Mapping[str, str], now: float) -> Issued:
        scope = form.get("scope", "")
        if not _NQCHAR.issuperset(scope.replace(" ", "")):  # RFC 6749 §3.3
            raise Rejected("invalid_scope", "the scope is malformed")
        match form.get("grant_type"):
            case "refresh_token" if "refresh_token" in form:
                return self._tokens.refresh(form["refresh_token"], client_id, scope, now)
            case "client_credentials" if self._clients[client_id]:
                return self._tokens.client_credentials(client_id, scope, now)
            case "client_credentials":
                raise Rejected("unauthorized_client", "client credentials are for confidential clients")
            case "refresh_token" | None:
                raise Rejected("invalid_request", "a required parameter is missing")
        raise Rejected("unsupported_grant_type", "this server knows client_credentials and refresh_token")

    def _client(self, headers: Mapping[str, str], form: Mapping[str, str]) -> str:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if "authorization" in headers:
            basic_id, basic_secret = _basic(headers["authorization"])
            if secret or client_id not in {"", basic_id}:
                raise Rejected("invalid_request", "more than one client authentication")
            client_id, secret = basic_id, basic_secret
        expected = self._clients.get(client_id)
        if expected is None or not hmac.compare_digest(expected.encode(), secret.encode()):
            raise Rejected("invalid_client", "the client is unknown or its secret is wrong")
        return client_id


def token_answer(issued: Issued) -> dict[str, Any]:
    """Write what was issued as a token endpoint does (RFC 6749 §5.1)."""
    answer: dict[str, Any] = {"access_token": issued.access_token, "token_type": "Bearer"}
    if issued.lifetime is not None:
        answer["expires_in"] = int(issued.lifetime) if issued.lifetime % 1 == 0 else issued.lifetime
    if issued.refresh_token is not None:
        answer["refresh_token"] = issued.refresh_token
    if issued.scope:
        answer["scope"] = issued.scope
    return answer


def _form(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Read a form by rule 1."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise Rejected("invalid_request", "the body must be application/x-www-form-urlencoded")
    pairs = parse_qsl(body.decode("utf-8", "replace"))
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Rejected("invalid_request", "a parameter was sent twice")
    return form


def _basic(authorization: str) -> tuple[str, str]:
    """Read id and secret from Basic credentials, form-urlencoded inside the base64 (RFC 6749 §2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    if scheme.lower() != "basic" or ":" not in decoded:
        raise Rejected("invalid_client", "the client authentication cannot be read")
    client_id, _, secret = decoded.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


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
