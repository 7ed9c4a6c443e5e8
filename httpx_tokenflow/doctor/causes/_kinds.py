"""The token is of another kind than the API expects.

Rules.

1. What a token is, its own marks say: `typ` in the header (RFC 9068 §2.1, RFC 9449 §4.2) or among the claims
   (Keycloak), `token_use` (Amazon Cognito), and claims that only one kind has (`at_hash`, `nonce`).
2. Some APIs take ID tokens (Kubernetes, a Cognito authorizer): without the server's word that one was refused for being
   an ID token is likely and no more. A refresh token, a logout token, a proof are taken by none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._facts import origin
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._key_prefixes import PREFIXES, REFRESH
from ._reckoning import has_token, jwt_of, moment, sure
from ._words import MALFORMED, TYPE, said
from ._words import REFRESH as SAID_OF_REFRESH

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._readings import Reading

__all__ = ["CAUSES", "marks_of_another", "marks_of_id_token", "marks_of_refresh_token"]

_ACCESS = frozenset({"at+jwt", "application/at+jwt"})
_HASHES = ("at_hash", "c_hash", "s_hash", "nonce")
_PERSON = ("email", "name", "given_name", "nickname", "preferred_username", "picture", "email_verified", "sid")
_OTHERS = {
    "dpop+jwt": "a DPoP proof",
    "logout+jwt": "a logout token",
    "client-authentication+jwt": "a client assertion",
    "oauth-authz-req+jwt": "an authorization request",
    "secevent+jwt": "a security event token",
    "token-introspection+jwt": "an introspection response",
    "kb+jwt": "a key binding",
    "dc+sd-jwt": "a verifiable credential",
    "rt+jwt": "a refresh token",
}
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"


def _mark(token: Reading, *names: str) -> str:
    """The first of those marks that is there: of the header as "typ", of the claims by their names."""
    for name in names:
        if name == "typ" and isinstance(header := token.header.get("typ"), str) and header.lower() != "jwt":
            return header.lower()
        if text := token.text(name):
            return text.lower()
    return ""


class IdToken(Cause):
    """It tells a client who has logged in, and is not meant for an API."""

    id = "id-token"
    title = "An ID token was sent as an access token"
    remedy = "send access_token of the token endpoint's answer, not id_token"
    reference = "OpenID Connect Core §2, RFC 9068 §2.1, RFC 9700 §4.17"

    def look(self, facts: Facts) -> Finding | None:
        token = jwt_of(facts)
        if token is None:
            return None
        evidence = marks_of_id_token(token)
        if not evidence:
            return None
        words = said(facts, TYPE)
        what = f"the token is an ID token, which is for the client that logged in: {evidence[0]}"
        return self.found(sure(words) if words else Certainty.LIKELY, what, [*evidence, words])


def marks_of_id_token(token: Reading) -> list[str]:
    """Why it is an ID token, in words; nothing if it is an access token by its own word."""
    if _mark(token, "typ") in _ACCESS or token.text("token_use") == "access" or token.text("typ") == "Bearer":
        return []
    evidence = [f"its {name} is {text}" for name in ("typ", "token_use") if (text := token.text(name)) in {"ID", "id"}]
    if token.scopes and not evidence:
        return []
    evidence += [f"it has {name}, which only ID tokens have" for name in _HASHES if name in token.claims]
    audience, azp = token.texts("aud"), token.text("azp")
    if azp is not None and audience == (azp,) and any(name in token.claims for name in _PERSON):
        evidence.append(f"its aud and azp are both the client, {azp}")
    return evidence


class RefreshToken(Cause):
    """It is for the token endpoint only."""

    id = "refresh-token"
    title = "A refresh token was sent as an access token"
    remedy = (
        "send access_token of the token endpoint's answer; the refresh token goes to the token endpoint, and to "
        "nobody else"
    )
    reference = "RFC 6749 §1.5"

    def look(self, facts: Facts) -> Finding | None:
        token, words = facts.token, said(facts, SAID_OF_REFRESH) if has_token(facts) else None
        marks = [] if token is None else self._marks(facts, token)
        if not marks and words is None:
            return None
        what = f"the token is a refresh token: {marks[0] if marks else 'the server says so'}"
        return self.found(Certainty.CERTAIN, what, [*marks, words])

    def _marks(self, facts: Facts, token: Reading) -> list[str]:
        if token.kind != "opaque":
            return marks_of_refresh_token(token)
        value = "" if facts.credential is None else facts.credential.value.strip(" \"'")
        return [
            f"it begins with {row.text!r}, as {row.vendor}'s refresh tokens do"
            for row in PREFIXES
            if row.kind == REFRESH and value.startswith(row.text)
        ]


def marks_of_refresh_token(token: Reading) -> list[str]:
    """Why a JWT is a refresh token, in words."""
    return [
        f"its {name} is {text}"
        for name, kinds in _REFRESH_MARKS.items()
        if (text := _mark(token, name) if name == "typ" else (token.text(name) or "").lower()) in kinds
    ]


_REFRESH_MARKS = {
    "typ": {"refresh", "offline", "rt+jwt"},  # Keycloak
    "token_use": {"refresh"},
    "token_type": {"refresh"},  # djangorestframework-simplejwt
    "type": {"refresh", "refresh_token"},  # flask-jwt-extended
}


class WrongType(Cause):
    """It is a token of a third kind: a proof, an assertion, a logout token."""

    id = "wrong-token-type"
    title = "The token is of another type than an access token"
    remedy = "send access_token of the token endpoint's answer"
    reference = "RFC 9068 §4, RFC 8725 §3.11"

    def look(self, facts: Facts) -> Finding | None:
        token, words = jwt_of(facts), said(facts, TYPE) if has_token(facts) else None
        kind = None if token is None else marks_of_another(token)
        if kind is not None:
            return self.found(Certainty.CERTAIN, f"the token is {kind[0]}, no access token", [kind[1], words])
        if words is None:
            return None
        marks = [] if token is None else [f"its header's typ is {token.header.get('typ')!r}"[:100]]
        return self.found(Certainty.CERTAIN, "the server does not accept tokens of this type", [words, *marks])


def marks_of_another(token: Reading) -> tuple[str, str] | None:
    """What it is besides an access, ID or refresh token, and why, in words; None if nothing says so."""
    typ = _mark(token, "typ").removeprefix("application/")
    if typ in _OTHERS:
        return _OTHERS[typ], f"its typ is {typ}"
    events = token.claims.get("events")
    if isinstance(events, dict) and _LOGOUT in events:
        return _OTHERS["logout+jwt"], "it has the event of a logout (OpenID Connect Back-Channel Logout §2.4)"
    if typ == "logout":  # Keycloak
        return _OTHERS["logout+jwt"], "its typ is Logout"
    if {"htm", "htu", "jti"} <= token.claims.keys():
        return _OTHERS["dpop+jwt"], "it has htm and htu (RFC 9449 §4.2)"
    issuer, audience = token.text("iss"), token.texts("aud")
    at_server = [one for one in audience if one.rstrip("/").endswith(("/token", "/oauth2/token"))]
    if issuer is not None and issuer == token.text("sub") and at_server and not token.scopes:
        return _OTHERS[
            "client-authentication+jwt"
        ], f"its iss is its sub, and its aud the token endpoint {at_server[0]}"
    return None


class OpaqueForJwt(Cause):
    """The API reads tokens itself, and this one cannot be read."""

    id = "opaque-token-for-jwt"
    title = "An opaque token was sent where a JWT is expected"
    remedy = (
        "get a JWT for this API: with Auth0 the audience= of a registered API must be in the token request (without it "
        "one gets an opaque token for /userinfo); with others look how its access tokens are made"
    )
    reference = "RFC 9068 §2, and the custom of Auth0"

    def look(self, facts: Facts) -> Finding | None:
        token = facts.token
        if token is None or token.kind == "jwt" or not has_token(facts):
            return None
        words = said(facts, MALFORMED) or facts.said(
            r"\bjwt\b.{0,40}(?:expected|required|invalid)|(?:expected|requires?) an? jwt"
        )
        if token.kind == "opaque":
            what = f"the API expects a JWT, and the token is an opaque one ({token.shown.partition(', ')[2]})"
            evidence = [words, "it has not the form of a JWT: header, claims and signature between dots"]
            return None if words is None else self.found(Certainty.CERTAIN, what, evidence)
        algorithm = str(token.header.get("enc", ""))[:40]
        is_auth0 = token.header.get("alg") == "dir" and "iss" in token.header
        what = "the token is encrypted (JWE), and only its audience can read it"
        if words is None and not is_auth0:
            return self.found(Certainty.POSSIBLE, what, [f"its header says enc {algorithm}"])
        mark = (
            "its header has alg dir and iss: Auth0 makes such tokens where no audience was asked for"
            if is_auth0
            else None
        )
        return self.found(
            sure(words) if words else Certainty.LIKELY, what, [f"its header says enc {algorithm}", mark, words]
        )


class JwtForOpaque(Cause):
    """The API asks its authorization server, who does not know this token."""

    id = "jwt-for-opaque-token"
    title = "A JWT was sent where a token of the API's own server is expected"
    remedy = (
        "get the token from the authorization server that the API asks about tokens: it knows only those that it has "
        "issued"
    )
    reference = "RFC 7662 §2.2"

    def look(self, facts: Facts) -> Finding | None:
        token, asked = jwt_of(facts), facts.probe("introspection")
        if token is None:
            return None
        words = facts.said(
            r"\b(?:reference|opaque) tokens?\b|\bjwts?\b.{0,30}(?:not (?:supported|accepted|allowed)|unsupported)"
        )
        expires, issuer = moment(token, "exp"), token.text("iss")
        is_unknown = asked is not None and (facts.introspection or {}).get("active") is False
        if asked is not None and is_unknown and issuer is not None and (expires or 0) > facts.now:
            here = _origin(asked.url)
            if here is not None and _origin(issuer) not in {None, here} and facts.expected.issuer != issuer:
                what = f"the token is a JWT of {issuer[:200]}, and the API's authorization server does not know it"
                evidence = ["introspection says active: false", "by its exp it has not ended", words]
                return self.found(Certainty.CERTAIN, what, evidence)
        if words is None:
            return None
        return self.found(sure(words), "the server does not take JWTs, and the token is one", [words])


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        found = origin(url)
    except ValueError:
        return None
    return found if found[1] else None


CAUSES: tuple[Cause, ...] = (RefreshToken(), WrongType(), IdToken(), OpaqueForJwt(), JwtForOpaque())
