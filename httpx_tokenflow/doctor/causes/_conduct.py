"""The server refuses in a way that misleads: the wrong status, or no word of what it wants.

Rules.

1. These are named where nothing better is found: they stand last, and what is wrong with an answer is not yet why it
   was given.
2. A 404 that hides a 403 is the server's right (RFC 9110 §15.5.4), and looks like any other: it is left alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from httpx_tokenflow.doctor._comparing import is_same_as_bare, says
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._gateways import answered_by
from httpx_tokenflow.doctor._phrases import NOT_ALLOWED, NOT_GOOD, NOTHING_SENT

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts

__all__ = ["CAUSES"]

_WORDS_OF_401 = f"{NOT_GOOD}|{NOTHING_SENT}|\\bunauthenticated\\b"
# Words of a 403 that are at home on a 401 as well: they count only where the same is not said without a credential.
_RBAC = r"^\W*rbac: access denied"
_VAGUE = r"\baccess (is |was )?denied\b|\bforbidden\b|\baccess_denied\b"
# What GraphQL servers, Slack and others put into a 200.
_CODES_OF_401 = frozenset(
    {
        "unauthenticated", "unauthorized", "invalid_auth", "not_authed", "token_expired", "token_revoked",
        "invalid_token", "invalidauthenticationtoken", "auth_not_authenticated", "401",
        "missing_scope", "account_inactive", "not_allowed_token_type", "no_permission", "org_login_required",  # Slack
    }
)  # fmt: skip
# Members of a body that is an error and nothing else: a record has others.
_OF_AN_ERROR = frozenset(
    {
        "code", "data", "detail", "details", "docs", "documentation_url", "error", "error_code", "error_description",
        "errorcode", "errors", "instance", "message", "messages", "msg", "name", "needed", "ok", "path", "provided",
        "reason", "request_id", "requestid", "response_metadata", "result", "status", "status_code", "statuscode",
        "success", "timestamp", "title", "trace_id", "traceid", "type", "warning",
    }
)  # fmt: skip
_UNAUTHENTICATED = rf"{NOT_GOOD}|{NOTHING_SENT}|\bunauth|\bnot auth"
_PARAMETER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ \t]*(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|\"(?:[^\"\\]|\\.)*\")"
_SCHEME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_ELEMENT = re.compile(rf"(?:{_SCHEME}(?:[ ]+(?:{_PARAMETER}|[A-Za-z0-9._~+/-]+=*))?|{_PARAMETER})?")
_FIRST = re.compile(rf"{_SCHEME}(?:[ ]|$)")
_UNPARTED = re.compile(rf"{_SCHEME}(?:[ ]+{_PARAMETER}){{2,}}")
_NO_COMMAS = "there are no commas between its parameters"
_FIELD_LIMIT = 4096  # characters of a field that are looked at


class NotAllowed(Cause):
    """The credential was accepted, and is not enough."""

    id = "forbidden"
    title = "The credential is good, and does not allow this (a real 403)"
    remedy = "have whoever owns the resource grant the account or the client what it lacks; another token does not help"
    reference = "RFC 9110 §15.5.4"

    def look(self, facts: Facts) -> Finding | None:
        last, bare = facts.last, facts.probe("bare")
        if last is None or last.status != 403 or not facts.credentials or says(last, _WORDS_OF_401):
            return None
        rbac = facts.said(_RBAC)
        if rbac is not None:  # Envoy says so to everybody whom no rule lets in, with a credential and without
            return self.found(Certainty.LIKELY, "no rule of the gateway lets this caller do this (403)", [rbac])
        if is_same_as_bare(facts) or answered_by(last) is not None:
            return None
        asks_first = bare is not None and bare.status == 401
        said = facts.said(NOT_ALLOWED)
        return self.found(
            Certainty.LIKELY if asks_first or said else Certainty.POSSIBLE,
            "the server knows who asks, and does not allow it (403)",
            [
                "with the credential 403, without it 401: the credential makes the difference" if asks_first else None,
                said,
                "the answer is 403" if not asks_first and said is None else None,
            ],
        )


class Says403(Cause):
    """A client that renews on 401 never will."""

    id = "403-means-401"
    title = "The server says 403 and means 401: the credential is missing, expired or not accepted"
    remedy = (
        "have the client renew on it as well: TokenAuth(…, should_renew=lambda response: response.status_code == 403); "
        "the server should answer 401 with WWW-Authenticate"
    )
    reference = "RFC 9110 §15.5.2, §15.5.4"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.status != 403:
            return None
        said = facts.said(_WORDS_OF_401)
        error = next((one.error for one in facts.challenges if one.error == "invalid_token"), None)
        alike = is_same_as_bare(facts)
        if not said and not error and not (alike and facts.credentials):
            return None
        return self.found(
            Certainty.LIKELY if said or error else Certainty.POSSIBLE,
            "the answer is 403, and says what a 401 says: the credential is not accepted"
            if said or error
            else "the answer is 403 with the credential and without it alike: it is not accepted, or nobody is",
            [
                said,
                f"the challenge has the error {error}" if error else None,
                "without the credential the server says 403 too, in the same words" if alike else None,
            ],
            ["the server would say the same of an address or a client that it does not let in"]
            if not (said or error)
            else [],
        )


class Says401(Cause):
    """A client renews in vain."""

    id = "401-means-403"
    title = "The server says 401 and means 403: the credential is good, and not enough"
    remedy = (
        "a new token does not help: have the account or the client granted what it lacks; the server should answer "
        "403, or clients renew in vain"
    )
    reference = "RFC 9110 §15.5.2, §15.5.4; RFC 6750 §3.1 (insufficient_scope)"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.status != 401 or not facts.credentials or is_same_as_bare(facts):
            return None
        is_scope = any(one.error == "insufficient_scope" for one in facts.challenges)
        said = facts.said(f"{NOT_ALLOWED}|{_VAGUE}" if is_same_as_bare(facts) is False else NOT_ALLOWED)
        if not is_scope and (said is None or says(last, f"{NOT_GOOD}|{NOTHING_SENT}")):
            return None
        return self.found(
            Certainty.LIKELY,
            "the answer is 401, and says what a 403 says: the credential is accepted, and does not allow this",
            [
                "the challenge has the error insufficient_scope" if is_scope else None,
                said,
                "without the credential it says something else" if is_same_as_bare(facts) is False else None,
            ],
        )


class Says200(Cause):
    """The status is 200, and the refusal is in the body."""

    id = "200-means-401"
    title = "The server says 200 and refuses in the body"
    remedy = (
        "have the client look at the body: TokenAuth(…, should_renew=lambda response: …); it is the custom of GraphQL "
        "and of Slack, and no client that goes by the status sees it"
    )
    reference = "RFC 9110 §15.3.1; custom of GraphQL over HTTP"
    when_accepted = True

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.status != 200:
            return None
        code = _code_of_401(last.document)
        if code is None:
            return None
        return self.found(
            Certainty.LIKELY,
            f"the status is 200, and the body refuses the request: {code!r}",
            [f"the body has the code {code!r}", facts.said(_WORDS_OF_401)],
        )


class GatewayAnswered(Cause):
    """The refusal is a gateway's, so the API's own log does not have it."""

    id = "gateway-answered"
    title = "A gateway or web server in front of the API has refused the request itself"
    remedy = "look at its configuration and its log for what it checks: the API's own log does not have the request"
    reference = "custom of the product; RFC 9110 §3.7"

    def look(self, facts: Facts) -> Finding | None:
        gateway = answered_by(facts.last)
        if gateway is None or gateway.blocks:
            return None
        return self.found(
            Certainty.LIKELY,
            f"{gateway.name} has refused the request itself with {facts.status}: the API has not seen it",
            [f"the answer is {gateway.name}'s own, by its fields or its page"],
            remedy=f"{self.remedy}; {gateway.remedy}" if gateway.remedy else None,
        )


class BadChallenge(Cause):
    """What a client cannot read, it cannot follow."""

    id = "malformed-challenge"
    title = "WWW-Authenticate cannot be read"
    remedy = (
        'have the server write it as RFC 9110 says: a scheme, then name="value" pairs between commas, in plain ASCII'
    )
    reference = "RFC 9110 §11.2, §11.6.1"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.status != 401:
            return None
        wrong = next((why for value in last.received.get_list("WWW-Authenticate") if (why := _wrong_with(value))), None)
        if wrong is None:
            return None
        # Azure's App Service writes its parameters without commas, and its clients read that.
        return self.found(
            Certainty.POSSIBLE if wrong == _NO_COMMAS else Certainty.LIKELY,
            f"WWW-Authenticate is malformed, so that no client can go by it: {wrong}",
            [wrong, f"it begins with {facts.quoted(last.received.get('WWW-Authenticate') or '', 60)}"],
        )


class NoChallenge(Cause):
    """A 401 must say what it wants. That is no reason why it is one, so whatever else is possible comes first."""

    id = "no-challenge"
    title = "The 401 has no WWW-Authenticate, so nobody can tell what the server wants"
    remedy = (
        "have the server send it (a MUST); until then look into the API's documents for the scheme, and into its log"
    )
    reference = "RFC 9110 §15.5.2"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.status != 401:
            return None
        if any(value.strip() for value in last.received.get_list("WWW-Authenticate")):
            return None
        return self.found(
            Certainty.POSSIBLE,
            "the 401 has no WWW-Authenticate: it does not say what it wants, nor what is wrong with what was sent",
            [
                "the field is missing, and a 401 must have it",
                "the answer is the same without the credential" if is_same_as_bare(facts) else None,
            ],
        )


class NoDifference(Cause):
    """Nothing shows that the server has seen the credential."""

    id = "no-difference"
    title = "The answer is the same with and without the credential"
    remedy = (
        "look into the API's log whether the credential arrives; if not, something on the way drops it, and if it "
        "does, the log says what is wrong with it"
    )
    reference = "RFC 6750 §3.1: a refused token should get an error, a missing one none"

    def look(self, facts: Facts) -> Finding | None:
        if not facts.credentials or facts.last is None or not facts.last.is_refused or not is_same_as_bare(facts):
            return None
        if any(one.error for one in facts.challenges):
            return None
        return self.found(
            Certainty.POSSIBLE,
            f"the answer ({facts.status}) is the same with the credential and without it, and says no reason",
            ["status, challenges and words are the same in both"],
        )


def _code_of_401(document: Any) -> str | None:
    """The code by which a body refuses: GraphQL's extensions, Slack's error, a status in the body."""
    if not isinstance(document, dict):
        return None
    errors = document.get("errors")
    for one in errors[:5] if isinstance(errors, list) and not document.get("data") else ():
        extensions = one.get("extensions") if isinstance(one, dict) else None
        code = extensions.get("code") if isinstance(extensions, dict) else None
        if isinstance(code, str) and code.lower() in _CODES_OF_401:
            return code
    if any(name.lower() not in _OF_AN_ERROR for name in document) or document.get("data") or document.get("result"):
        return None  # a record that has been asked for: an entry of a log, a page of documents
    error = document.get("error")
    is_refusal = document.get("ok") is False or document.get("success") is False
    if is_refusal and isinstance(error, str) and error.lower() in _CODES_OF_401:
        return error
    told = next((document[name] for name in ("statusCode", "status_code", "status", "code") if name in document), None)
    words = [
        value for value in (document.get(name) for name in ("message", "error", "detail")) if isinstance(value, str)
    ]
    if told not in (401, "401") or not any(re.search(_UNAUTHENTICATED, one, re.IGNORECASE) for one in words):
        return None  # a status alone may well be what was asked for
    return "401"


def _wrong_with(value: str) -> str | None:
    """Why `value` is no list of challenges, in words; None if it is one (RFC 9110 §11.6.1)."""
    value = value[:_FIELD_LIMIT].strip()
    if not value.isascii():
        return "it has characters that are not ASCII: quotes that a word processor makes, mostly"
    if not value or value.startswith(("{", "[")):
        return "it is JSON" if value else None  # an empty one is none at all
    elements = re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"]|")+', value)
    if not _FIRST.match(value.lstrip(", \t")):
        return "it does not begin with a scheme"
    if _UNPARTED.fullmatch(value):
        return _NO_COMMAS
    bad = next((one for one in elements if not _ELEMENT.fullmatch(one.strip())), "")
    if bad.count('"') % 2:
        return "a quote is never closed"
    return "a part of it is neither a scheme nor name=value" if bad else None


CAUSES: tuple[Cause, ...] = (
    NotAllowed(),
    Says403(),
    Says401(),
    Says200(),
    GatewayAnswered(),
    BadChallenge(),
    NoChallenge(),
    NoDifference(),
)
