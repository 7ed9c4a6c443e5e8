"""No token was issued: the token endpoint itself refuses, or fails.

Rules.

1. What is looked at is the refusal of a token request; or the answer to the request itself, where that is the JSON
   error of a token endpoint (RFC 6749 §5.2): a code that only token endpoints have, or a path that says so.
2. The code decides, and the words where the code is used for several things: `invalid_grant` also for PKCE and for the
   redirect URI, Microsoft Entra ID's AADSTS numbers for everything.
3. One refusal is one cause: the first of the list that fits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from httpx_tokenflow.doctor._facts import Refusal
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._known import ENTRA

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts

__all__ = ["CAUSES", "topic_of"]

_OWN_CODES = frozenset(
    {
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
    }
)
_BY_CODE = {
    "invalid_client": "client",
    "unauthorized_client": "not allowed",
    "unsupported_grant_type": "grant type",
    "invalid_scope": "scope",
    "invalid_target": "target",
    "invalid_resource": "target",
    "redirect_uri_mismatch": "redirect",  # Google, GitHub
    "bad_verification_code": "grant",  # GitHub
    "incorrect_client_credentials": "client",  # GitHub
    "bad_client_secret": "client",  # Slack, as those that follow
    "invalid_client_id": "client",
    "bad_redirect_uri": "redirect",
    "invalid_code": "grant",
    "code_already_used": "grant",
    "invalid_refresh_token": "grant",
    "token_expired": "grant",
    "consent_required": "consent",
    "interaction_required": "login",
    "login_required": "login",
    "mfa_required": "login",  # Auth0
    "account_selection_required": "login",
    "access_denied": "not allowed",
    "invalid_grant": "grant",
    "expired_token": "grant",
    "invalid_request": "request",
}
_BY_WORDS = (
    ("time", r"iat and exp|short-lived token|valid time range|clock|\bexp claim|assertion.{0,20}expired"),
    ("pkce", r"pkce|code.?(?:verifier|challenge)"),
    ("redirect", r"redirect.?ur[il]|reply.?(?:url|address)|callback url"),
    ("target", r"\baudience\b|\bresource\b|service not found|invalid_target"),
    ("account", r"(?:user|account)\b.{0,30}(?:disabled|suspended|locked|inactive|deactivated|blocked|not found)"),
    ("grant type", r"\bgrant.?type"),
    ("client", r"client.?(?:secret|assertion|authentication|credentials)|invalid client|unknown client|^unauthorized$"),
    ("password", r"(?:invalid|wrong|incorrect) (?:user(?:name)?|email|password|resource owner)|user credentials"),
    ("scope", r"\bscopes?\b"),
)
# What each code may also be used for, by the words.
_TOPICS_OF = {
    "invalid_grant": {"time", "pkce", "redirect", "account", "password", "client"},
    "invalid_request": {"pkce", "redirect", "target", "client", "scope", "grant type"},
    "access_denied": {"client", "target", "account", "scope"},  # Auth0 says "Unauthorized", and that is all
    "invalid_client": {"time", "account"},
    "unauthorized_client": {"client", "grant type"},  # Keycloak says "Invalid client secret" with it
}
_AADSTS = re.compile(r"AADSTS(\d{4,8})")


def refusal_in(facts: Facts) -> Refusal | None:
    """How a token was refused (rule 1)."""
    if facts.refusal is not None:
        return facts.refusal
    last = facts.last
    document = None if last is None or not 400 <= last.status < 500 else last.document
    if last is None or not isinstance(document, dict):
        return None
    error, description = document.get("error"), document.get("error_description")
    try:
        is_token_path = re.search(r"/(?:token|access_token|oauth2?/v\d+/token)/?$", urlsplit(last.url).path) is not None
    except ValueError:
        is_token_path = False
    if not isinstance(error, str) or not (error in _OWN_CODES or (is_token_path and error in _BY_CODE)):
        return None
    if any(challenge.is_scheme("Bearer") or challenge.is_scheme("DPoP") for challenge in last.challenges):
        return None  # an API that borrows the code
    words = description[:500] if isinstance(description, str) else None
    text = f"{error}{f' ({words})' if words else ''}"
    return Refusal(
        status=last.status,
        error=error,
        description=words,
        text=f"the token endpoint refused with {last.status}: {text}",
    )


def topic_of(refusal: Refusal) -> str:
    """What a refusal is about (rule 2)."""
    words = f"{refusal.description or ''}" or ("" if refusal.error else refusal.text)
    number = _AADSTS.search(words)
    if number is not None and number[1] in ENTRA:
        return ENTRA[number[1]]
    if not refusal.error:
        return "failing"
    may_be = _TOPICS_OF.get(refusal.error, set())
    for topic, pattern in _BY_WORDS:
        if topic in may_be and re.search(pattern, words, re.IGNORECASE):
            return topic
    return _BY_CODE.get(refusal.error, "request")


class _Refused(Cause):
    """A refusal about one topic."""

    when_accepted = True  # a token endpoint says 400, which is no refusal of a credential
    topics: ClassVar[frozenset[str]]
    what: ClassVar[str] = ""

    def look(self, facts: Facts) -> Finding | None:
        refusal = refusal_in(facts)
        if refusal is None or topic_of(refusal) not in self.topics:
            return None
        said = f": {refusal.description}" if refusal.description else f" ({refusal.error})" if refusal.error else ""
        evidence = [refusal.text or said or self.what, _asked_with(refusal)]
        return self.found(Certainty.CERTAIN, f"{self.what}{facts.sieve.sift(said)[:200]}", evidence)


class Client(_Refused):
    """The client is not known, or does not prove who it is."""

    id = "token-client-authentication"
    title = "The token endpoint does not accept the client's authentication"
    remedy = (
        "compare client id, secret (its value, not its id) and tenant with the registration, and the method "
        "(client_auth=): Basic, form, or a signed assertion; secrets expire"
    )
    reference = "RFC 6749 §5.2 (invalid_client), §2.3.1"
    topics = frozenset({"client"})
    what = "the token endpoint does not accept the client's authentication"


class AssertionTime(_Refused):
    """The assertion that the request carries is too old, or of the future."""

    id = "token-assertion-time"
    title = "The times of the assertion are refused"
    remedy = "set this machine's clock by NTP, make the assertion anew for every request, and let it live for minutes"
    reference = "RFC 7523 §3 (exp, nbf, iat)"
    topics = frozenset({"time"})
    what = "the authorization server refuses the times of the assertion: made too long ago, or by a clock that is off"


class NotAllowed(_Refused):
    """The client is known, and may not do this."""

    id = "token-client-not-allowed"
    title = "The client may not ask for this token"
    remedy = "have the grant, and the API, allowed for this client in its registration at the authorization server"
    reference = "RFC 6749 §5.2 (unauthorized_client)"
    topics = frozenset({"not allowed"})
    what = "the client may not ask for this token"


class Scope(_Refused):
    """A scope is asked for that there is not, or that the client may not have."""

    id = "token-scope"
    title = "The token endpoint refuses the scope"
    remedy = (
        "ask for scopes that the server knows and this client may have; Entra ID wants <resource>/.default with "
        "client credentials"
    )
    reference = "RFC 6749 §5.2 (invalid_scope), §3.3"
    topics = frozenset({"scope"})
    what = "the token endpoint refuses the scope that was asked for"


class Pkce(_Refused):
    """Challenge and verifier do not belong together, or one is missing."""

    id = "token-pkce"
    title = "PKCE fails at the token endpoint"
    remedy = (
        "send the code_verifier whose S256 hash was the code_challenge of this very login: keep both in one place "
        "until the code comes, and begin one login at a time"
    )
    reference = "RFC 7636 §4.6"
    topics = frozenset({"pkce"})
    what = "PKCE fails: the code_verifier does not fit the code_challenge of the login, or one is missing"


class RedirectUri(_Refused):
    """The redirect URI is not the registered one, or not that of the login."""

    id = "token-redirect-uri"
    title = "The redirect URI does not match"
    remedy = (
        "register the redirect URI exactly as it is sent (scheme, host, port, path, slash at the end), and send the "
        "same in the login and at the token endpoint"
    )
    reference = "RFC 6749 §4.1.3, RFC 9700 §4.1.3"
    topics = frozenset({"redirect"})
    what = "the redirect URI is not the registered one, or not that of the login"


class Consent(_Refused):
    """A person has to agree first."""

    id = "token-consent"
    title = "Nobody has consented to what the client asks for"
    remedy = (
        "have a user log in and consent, or an administrator consent for all, to the permissions that the client asks"
        " for"
    )
    reference = "OpenID Connect Core §3.1.2.6 (consent_required)"
    topics = frozenset({"consent"})
    what = "nobody has consented to what the client asks for"


class Login(_Refused):
    """A person has to log in anew, or more strongly."""

    id = "token-login-needed"
    title = "The authorization server wants a person to log in"
    remedy = (
        "log in again (tokenflow login): a second factor, a policy or a fresh login is asked for, and no renewal can "
        "give it"
    )
    reference = "OpenID Connect Core §3.1.2.6 (interaction_required), RFC 9470"
    topics = frozenset({"login"})
    what = "the authorization server wants a person to log in"


class Account(_Refused):
    """The account is locked, or its password is wrong."""

    id = "token-account"
    title = "The account is refused: locked, unknown, or a wrong password"
    remedy = "have the account and its password looked at, at the authorization server; no other request will help"
    reference = "RFC 6749 §5.2 (invalid_grant), §4.3"
    topics = frozenset({"account", "password"})
    what = "the account is refused"


class Target(_Refused):
    """The audience or resource is none that the server knows."""

    id = "token-target"
    title = "The authorization server does not know the audience or resource"
    remedy = (
        "name the API as it is registered: audience= (Auth0) or resource= (RFC 8707), letter for letter, in the same "
        "tenant"
    )
    reference = "RFC 8707 §2 (invalid_target)"
    topics = frozenset({"target"})
    what = "the authorization server does not issue tokens for that audience or resource"


class GrantType(_Refused):
    """The way in which the token is asked for is not offered, or not to this client."""

    id = "token-grant-type"
    title = "The grant is not offered"
    remedy = (
        "use a grant that the server offers (grant_types_supported in its metadata), and allow it in the client's "
        "registration"
    )
    reference = "RFC 6749 §5.2 (unsupported_grant_type)"
    topics = frozenset({"grant type"})
    what = "the token endpoint does not offer that grant to this client"


class Grant(_Refused):
    """The refresh token or code is not good any more."""

    id = "token-grant-ended"
    title = "The refresh token or the code has ended"
    remedy = (
        "log in again; a refresh token that rotates may be used once, so let one process renew and the others share "
        "its store; a code is good once, and for a minute"
    )
    reference = "RFC 6749 §5.2 (invalid_grant), RFC 9700 §4.14"
    topics = frozenset({"grant"})
    what = "the refresh token or code has ended, was revoked, or was used before"


class Request(_Refused):
    """Anything else that it says."""

    id = "token-request-refused"
    title = "The token endpoint finds fault with the request"
    remedy = "read what it says, and compare the request's parameters with the server's documents"
    reference = "RFC 6749 §5.2 (invalid_request)"
    topics = frozenset({"request"})
    what = "the token endpoint finds fault with the request"


class Failing(_Refused):
    """It cannot be reached, or answers with something else than an answer."""

    id = "token-endpoint-failing"
    title = "The token endpoint fails, or is somewhere else"
    remedy = (
        "compare the endpoint's URL with token_endpoint in the server's metadata, look whether a proxy or firewall "
        "answers, and try later if it is the server's fault"
    )
    reference = "RFC 6749 §3.2 and §5.1, RFC 8414 §2"
    topics = frozenset({"failing"})

    def look(self, facts: Facts) -> Finding | None:
        refusal = refusal_in(facts)
        if refusal is None or topic_of(refusal) != "failing":
            return None
        status = refusal.status
        if status is None:
            what = "the token endpoint could not be reached"
        elif status == 407:
            what = "a proxy on the way to the token endpoint wants authentication (407)"
        elif status in {404, 405}:
            what = f"there is no token endpoint at that URL ({status})"
        elif status >= 500 or status == 429:
            what = f"the token endpoint cannot answer now ({status})"
        else:
            what = f"what answers at the token endpoint's URL is no token endpoint ({status})"
        return self.found(Certainty.CERTAIN, what, [refusal.text or what, _asked_with(refusal)])


def _asked_with(refusal: Refusal) -> str | None:
    return f"it was asked with {refusal.grant_type}" if refusal.grant_type else None


CAUSES: tuple[Cause, ...] = (
    AssertionTime(), Client(), Pkce(), RedirectUri(), Scope(), Target(), Consent(), Login(), Account(), GrantType(),
    NotAllowed(), Grant(), Failing(), Request(),
)  # fmt: skip
