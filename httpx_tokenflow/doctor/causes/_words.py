"""What servers say when they refuse a token: the words of real products, as data, by what they mean.

Rules.

1. Words are a reason only where they give one. "Invalid or expired" and RFC 6750's own "expired, revoked, malformed,
   or invalid for other reasons" give several, so they give none.
2. A pattern is looked for in each text by itself, in any case; `but` names what the same words mean elsewhere.
3. A product's code (IDX10223, TokenExpired) stands beside its words: one may come without the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts

__all__ = [
    "ALGORITHM", "AUDIENCE", "CLIENT", "DISABLED", "EXPIRED", "GENERAL", "ISSUER", "KEY", "MALFORMED", "NOT_YET",
    "REFRESH", "REVOKED", "SCOPE", "SIGNATURE", "SKEWED", "TYPE", "Words", "said",
]  # fmt: skip

_LIMIT = 500  # characters of a text that are searched
_SEVERAL = re.compile(
    r"(?:invalid|malformed|revoked|missing|incorrect|bad|unknown)\W{1,3}or\W{1,3}(?:\w+\W{1,3}){0,2}expired"
    r"|(?:invalid|malformed|revoked),.{0,30}\bexpired"
    r"|expired\W{1,3}(?:or\W{1,3})?(?:\w+\W{1,3}){0,4}(?:invalid|revoked|malformed|yet valid|incorrect|inactive)"
    r"|invalid_or_expired",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Words:
    """What several products say of one cause.

    Args:
        pattern: their words.
        but: what such words mean elsewhere.
    """

    pattern: re.Pattern[str]
    but: re.Pattern[str] | None = None

    def are_in(self, text: str) -> bool:
        """Whether `text` says it, and nothing else."""
        text = text[:_LIMIT]
        if self.but is not None and self.but.search(text):
            return False
        return self.pattern.search(text) is not None


def said(facts: Facts, words: Words) -> str | None:
    """Where the server says it, as a piece of evidence; texts that give several reasons give none (rule 1)."""
    if facts.last is None:
        return None
    for where, text in facts.last.words:
        if words.are_in(text) and (words is GENERAL or not _SEVERAL.search(text[:_LIMIT])):
            return f"{where} says {facts.quoted(text)}"
    return None


def _words(*patterns: str, but: str | None = None) -> Words:
    joined = re.compile("|".join(patterns), re.IGNORECASE)
    return Words(joined, None if but is None else re.compile(but, re.IGNORECASE))


SKEWED = _words(
    r"RequestTimeTooSkewed|difference between the request time and",  # AWS S3
    r"signature expired:|signature not yet current",  # AWS Signature Version 4
    r"clock.?skew|time.?skew|request.?(?:time|timestamp|date).{0,40}(?:too|skew|old|future|range|window)",
)

EXPIRED = _words(
    r"expired",  # nearly everybody, in words or as a code: token_expired, ExpiredAuthenticationToken
    r"expiry UTC time",  # Azure Resource Manager
    r"IDX10223|lifetime validation failed",  # Microsoft.IdentityModel
    r'"exp" claim timestamp',  # jose, and Auth0's express-oauth2-jwt-bearer
    r"TIME_CONSTRAINT_FAILURE",  # Google Cloud Endpoints
    r"token is not active",  # Keycloak
    but=r"(?:refresh.?token|password|certificate|subscription|licen[cs]e|trial|secret|nonce|proof|account|plan|code|api.?key)"
    r"[\W_]+(?:has |is |was |have )?(?:been )?expired|expired\W+api.?key|signature expired:|not yet (?:valid|current)",
)

NOT_YET = _words(
    r"not yet valid|not valid yet|not valid before",  # PyJWT, golang-jwt, Kong, Envoy, ASP.NET
    r"IDX10222",
    r'"(?:nbf|iat)" claim timestamp',  # jose
    r"jwt not active",  # jsonwebtoken
    r"jwt used before|used before issued|not be accepted before|issued in the future|immature",  # Spring, Go, jjwt
    r"\b(?:iat|issued at)\b.{0,60}(?:past|future|ahead)",
)

MALFORMED = _words(
    r"malformed",  # jsonwebtoken, Spring, go-oidc
    r"not well.?formed|IDX12741|IDX14100|IDX12709|IDX10000|compacttoken parsing failed",  # Microsoft
    r"(?:not enough|number of|three|wrong number of) segments",  # PyJWT, golang-jwt, AWS API Gateway
    r"invalid compact jw|must contain exactly 2 period|missing dot delimiter|expected to have 3 parts",  # Java, jose
    r"two dots and 3 sections|jwt (?:header|payload) is an invalid|jwt is not in the form",  # Envoy, Istio
    r"(?:could not|cannot|can't) be (?:decoded|parsed)|unable to (?:decode|parse)",
    r"(?:error|failed) (?:decoding|parsing)",
    r"invalid (?:header|payload|crypto) padding|invalid header string|bad token; invalid json|unrecognizable token",
    r"not a (?:valid |well-formed )?(?:jwt|json web token|jws)|must be (?:a )?(?:jwt|jws)|invalid jwt (?:format|token)",
    r"invalid jwt serialization|invalid token format",
    but=r"malformed (?:authorization|auth|header|request|url)|header (?:is|was) malformed|signing key|\bkid\b",
)

AUDIENCE = _words(
    r"\baudiences?\b|\baud\b",  # nobody speaks of it but to refuse it
    r"TokenAudience|IDX10214|IDX10208|IDX10206",
)

ISSUER = _words(
    r"\bissuers?\b|\biss\b",
    r"TokenTenant|IDX10205|IDX10204|IDX10211|issued by a different provider",
    but=r"jwks|local issuer|certificate|\bkeys?\b|\bkid\b",
)

CLIENT = _words(
    r"\bazp\b|authorized party|\bappid\b",
    r"\bclient(?:.?id)?\b.{0,30}\bnot (?:allowed|permitted|authorized|accepted)",
)

SCOPE = _words(
    r"insufficient.?scope|insufficient authentication scopes|SCOPE_INSUFFICIENT",  # RFC 6750, Google
    r"scopes? (?:does|do) not match|missing.{0,30}\bscopes?\b|required.{0,20}\bscopes?\b",
    r"\b(?:lacks?|without|not (?:have|granted|contain)|doesn't have|no)\b.{0,40}\bscopes?\b",
    r"\bscopes?\b.{0,40}(?:required|missing|insufficient|needed)",
    r"higher privileges than provided|does not allow you to access the requested resource",  # RFC 6750 §3.1, WSO2
    r"claim value mismatch: (?:scp|scope|roles)|IDW10201|expected any of:",  # Azure API Management, Auth0
    but=r"\b(?:cluster|namespace) scope\b",  # Kubernetes: where a role is good, and no scope of a token
)

TYPE = _words(
    r"only (?:non-refresh|access|refresh) tokens|not an? access.?token",  # flask-jwt-extended
    r"(?:wrong|invalid|unexpected|incorrect) (?:token.?)?type\b",
    r"token.?type.{0,40}(?:invalid|not allowed|mismatch|wrong)",
    r"\btyp\b.{0,40}(?:not allowed|invalid|value|unexpected)|unexpected [\"']typ[\"']",  # Spring, jose
    r"\btoken_use\b|not valid for any token type|IDX10257",  # Cognito, djangorestframework-simplejwt
    r"\bid.?tokens?\b.{0,40}(?:\bnot\b|cannot|instead|can't)|(?:expected|requires?) an? access.?token",
)

REFRESH = _words(
    r"refresh.?tokens?.{0,40}(?:not allowed|cannot|can't|used as|instead)|only non-refresh tokens",
    r"(?:is|was|looks like) a refresh.?token",
)

KEY = _words(
    r"signature key was not found|IDX10500|IDX10501|IDX10503",  # ASP.NET
    r"no matching key|no applicable key|doesn't have key to match",  # Spring, jose, Envoy
    r"(?:unable to|could not|cannot|can't|didn't|failed to) (?:find|match|get).{0,40}\bkey",  # PyJWT, AWS, Keycloak
    r"(?:didn't|did not) find publickey|no credentials found for given 'kid'",  # Keycloak, Kong
    r"(?:unknown|invalid|unrecogni[sz]ed|no|missing) ['\"]?kid\b|\bkid\b.{0,40}(?:not found|unknown|invalid|mismatch)",
    r"^key (?:id )?not found|\bunknown (?:public |signing )?key\b|\bpublic key.{0,40}not (?:found|known)",
    r"signing key.{0,40}not (?:found|known)|jwks?.{0,40}(?:does not|doesn't) (?:contain|have)",
)

ALGORITHM = _words(
    r"another algorithm expected|signing method .{0,20}is invalid|IDX10696|IDX10634",
    r"(?:invalid|unsupported|unexpected|wrong|disallowed) (?:signing |signature |jws )?(?:algorithm|signing method)",
    r"\balg\b.{0,60}(?:not (?:allowed|supported|valid)|invalid|unexpected)|algorithm.{0,30}not (?:allowed|supported)",
    r"unsigned (?:jwts?|claims|plain)|signature is required",  # jjwt, jsonwebtoken
    but=r"no matching key|key to match",
)

SIGNATURE = _words(
    r"(?:invalid|bad|wrong) (?:jwt |token )?signature|BAD_SIGNATURE|crypto/rsa: verification error|IDX10511",
    r"signature.{0,40}(?:invalid|not valid|fail|mismatch|incorrect|not match)|resulted invalid when verified",
    r"jwt verification fails|failed to verify signature|token verification failed",  # Envoy, go-oidc, Keycloak
    but=r"signature key was not found|IDX1050[013]|no matching key|\bkid\b|request signature we calculated",
)

REVOKED = _words(
    r"revoked|black.?list|deny.?list|block.?list|invalidated",
    r"no longer (?:valid|active)|isn't active|stale token|logged out|signed out",  # Spring, Keycloak
    r"session (?:is |was |has )?(?:not active|ended|been ended|terminated|closed|not found)|user session not found",
    but=r"certificate",
)

DISABLED = _words(
    r"\b(?:user|account|owner)\b.{0,30}(?:disabled|suspended|locked|inactive|deactivated|blocked|closed)",
    r"\b(?:user|account|owner)\b.{0,30}(?:deleted|not found)",
    r"(?:disabled|suspended|locked|inactive|deactivated|blocked) (?:user|account)|account_inactive|user_inactive",
    but=r"session not found|user session",
)

GENERAL = _words(
    r"bad credentials",  # GitHub
    r"invalid authentication credentials|invalid.{0,20}\b(?:token|credentials)\b|invalid_or_expired",  # Google, Okta
    r"(?:token|credentials)\b.{0,20}\b(?:is|are|was|were) (?:invalid|not valid|not recogni[sz]ed|unknown|incorrect)",
    r"expired, revoked, malformed",  # RFC 6750 §3.1
    r"^invalid_token$|InvalidAccessToken|invalid_auth\b|session expired or invalid",  # Apigee, Slack, Salesforce
)
