"""What the authorization server says: its token endpoint, introspection, revocation, and what it tells of itself.

The rules:

1. ``POST /token`` (RFC 6749 §3.2): client credentials, refresh token, token exchange and, on behalf of somebody, JWT
   bearer. Errors by §5.2; no answer may be stored (§5.1).
2. Client credentials (§4.4) and exchanges are for confidential clients.
3. A token exchange (RFC 8693) takes an access token or a JWT for its subject and its actor, and gives an access token;
   a JWT when that is asked for. What is wrong with a subject token is an ``invalid_request`` there (§2.2.2). A scope
   beyond that of the subject token is an ``invalid_scope``; one that names no scope sets no bound.
4. JWT bearer (RFC 7523 §2.1) is for ``requested_token_use=on_behalf_of`` only, its assertion an access token of this
   server. What is wrong with that is an ``invalid_grant`` (RFC 7521 §4.1.1).
5. ``POST /introspect`` (RFC 7662) tells a confidential client what a token says, its times in whole seconds (§2.2, its
   end rounded up); what is not good is "not active".
6. ``POST /revoke`` (RFC 7009): a token of the client's; an unknown one is gone already.
7. Each endpoint is named after the server's own address, whatever its issuer is called.
"""

import math
from collections.abc import Mapping
from typing import Any

from ._clients import client_of, read_form
from ._keys import ALG
from ._reply import Reply, challenge, json_reply
from ._state import Issued, Rejected, Tokens, Wanted

NO_STORE = (("cache-control", "no-store"), ("pragma", "no-cache"))

_BASIC = ("www-authenticate", challenge("Basic", {"realm": "token"}))
_NQCHAR = frozenset(map(chr, range(0x21, 0x7F))) - {'"', "\\"}
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no secret
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_GRANTS = ["client_credentials", "refresh_token", _EXCHANGE, _JWT_BEARER]
_METHODS = ["client_secret_basic", "client_secret_post", "none"]


class AuthorizationServer:
    """The endpoints that speak OAuth."""

    def __init__(self, tokens: Tokens, clients: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._clients = clients

    def handle(self, target: str, method: str, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        """Answer a request for ``"token"``, ``"introspect"`` or ``"revoke"``."""
        if method != "POST":
            return json_reply(405, {"error": "invalid_request"}, ("allow", "POST"))
        try:
            form, audience = read_form(headers, body)
            client_id = client_of(self._clients, headers, form)
            if target == "introspect":
                return json_reply(200, self._introspect(client_id, form, now), *NO_STORE)
            if target == "revoke":
                self._tokens.revoke(_needed(form, "token"), client_id)
                return json_reply(200, {}, *NO_STORE)
            return json_reply(200, self._grant(client_id, form, audience, now), *NO_STORE)
        except Rejected as no:
            content = {"error": no.error, "error_description": no.description}
            if no.error == "invalid_client":
                return json_reply(401, content, _BASIC, *NO_STORE)
            return json_reply(400, content, *NO_STORE)

    def _grant(self, client_id: str, form: Mapping[str, str], audience: tuple[str, ...], now: float) -> dict[str, Any]:
        scope = form.get("scope", "")
        if not _NQCHAR.issuperset(scope.replace(" ", "")):  # RFC 6749 §3.3
            raise Rejected("invalid_scope", "the scope is malformed")
        match form.get("grant_type"):
            case "refresh_token":
                refresh_token = _needed(form, "refresh_token")
                return token_answer(self._tokens.refresh(refresh_token, client_id, scope, now))
            case "client_credentials":
                self._need_secret(client_id)
                return token_answer(self._tokens.issue(Wanted(client_id, client_id, scope, audience), now))
            case grant_type if grant_type == _EXCHANGE:
                return self._exchange(client_id, form, audience, now)
            case grant_type if grant_type == _JWT_BEARER:
                return self._on_behalf_of(client_id, form, audience, now)
            case None:
                raise Rejected("invalid_request", "a required parameter is missing: grant_type")
        raise Rejected("unsupported_grant_type", f"this server knows {', '.join(_GRANTS)}")

    def _exchange(
        self, client_id: str, form: Mapping[str, str], audience: tuple[str, ...], now: float
    ) -> dict[str, Any]:
        """By rule 3; who acts is named in the ``act`` of the new token, and whoever acted before inside of that."""
        self._need_secret(client_id)
        requested = form.get("requested_token_type")
        if requested not in {None, _ACCESS_TOKEN, _JWT}:
            raise Rejected("invalid_request", "this server issues access tokens and JWTs")
        if "actor_token_type" in form and "actor_token" not in form:
            raise Rejected("invalid_request", "there is an actor_token_type and no actor_token")  # RFC 8693 §2.1
        try:
            subject = self._tokens.verify(_typed(form, "subject_token"), now)
            actor = self._tokens.verify(_typed(form, "actor_token"), now) if "actor_token" in form else None
        except Rejected as no:
            raise Rejected("invalid_request", no.description) from None
        if subject.scope and not set(form.get("scope", "").split()) <= set(subject.scope.split()):
            raise Rejected("invalid_scope", "the scope goes beyond that of the subject token")
        before = {"act": subject.claims["act"]} if "act" in subject.claims else {}
        claims = before if actor is None else {"act": {"sub": actor.subject, **before}}
        scope, signed = form.get("scope") or subject.scope, True if requested == _JWT else None
        wanted = Wanted(subject.subject, client_id, scope, audience, signed, claims=claims)
        issued = self._tokens.exchange(subject, wanted, now)
        return token_answer(issued) | {"issued_token_type": requested or _ACCESS_TOKEN}

    def _on_behalf_of(
        self, client_id: str, form: Mapping[str, str], audience: tuple[str, ...], now: float
    ) -> dict[str, Any]:
        """By rule 4."""
        self._need_secret(client_id)
        if form.get("requested_token_use") != "on_behalf_of":
            raise Rejected("invalid_request", "requested_token_use must be on_behalf_of")
        try:
            subject = self._tokens.verify(_needed(form, "assertion"), now)
        except Rejected as no:
            raise Rejected("invalid_grant" if no.error == "invalid_token" else no.error, no.description) from None
        wanted = Wanted(subject.subject, client_id, form.get("scope") or subject.scope, audience)
        return token_answer(self._tokens.exchange(subject, wanted, now))

    def _introspect(self, client_id: str, form: Mapping[str, str], now: float) -> dict[str, Any]:
        """By rule 5."""
        if not self._clients[client_id]:
            raise Rejected("invalid_client", "introspection is for confidential clients")
        token = _needed(form, "token")
        family = self._tokens.family(token)
        if family is not None:
            facts = {"sub": family.subject, "client_id": family.client_id, "scope": family.scope or None}
            active = not family.revoked and token == family.current
        else:
            try:
                facts, active = _facts(self._tokens.verify(token, now).claims), True
            except Rejected:
                active = False
        return {"active": True, **{name: fact for name, fact in facts.items() if fact}} if active else {"active": False}

    def _need_secret(self, client_id: str) -> None:
        if not self._clients[client_id]:
            raise Rejected("unauthorized_client", "this grant is for confidential clients")


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


def metadata(issuer: str, address: str) -> dict[str, Any]:
    """Write the server's metadata (RFC 8414 §2, OpenID Connect Discovery §3), by rule 7."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{address}/authorize",
        "token_endpoint": f"{address}/token",
        "jwks_uri": f"{address}/jwks",
        "introspection_endpoint": f"{address}/introspect",
        "revocation_endpoint": f"{address}/revoke",
        "grant_types_supported": _GRANTS,
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALG],
        "token_endpoint_auth_methods_supported": _METHODS,
        "introspection_endpoint_auth_methods_supported": _METHODS[:2],
        "revocation_endpoint_auth_methods_supported": _METHODS,
    }


def _facts(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what a token says as introspection does, by rule 5."""
    whole = {name: math.ceil(claims[name]) for name in ("exp", "iat", "nbf") if isinstance(claims.get(name), float)}
    if "iat" in whole:
        whole["iat"] = math.floor(claims["iat"])
    return {**claims, **whole, "token_type": "Bearer"}


def _needed(form: Mapping[str, str], name: str) -> str:
    if name not in form:
        raise Rejected("invalid_request", f"a required parameter is missing: {name}")
    return form[name]


def _typed(form: Mapping[str, str], name: str) -> str:
    """Read a token of an exchange, which comes with its type (RFC 8693 §2.1)."""
    token = _needed(form, name)
    if _needed(form, f"{name}_type") not in {_ACCESS_TOKEN, _JWT}:
        raise Rejected("invalid_request", f"this server takes access tokens and JWTs as {name}")
    return token
