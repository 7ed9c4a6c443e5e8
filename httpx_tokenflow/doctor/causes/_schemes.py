"""The credential was sent in another way than the API expects.

Rules.

1. A challenge in the refusal of a credential says what is taken (RFC 9110 §11.6.1); a scheme that is not among those
   was sent in vain. Where several are taken, one that was sent is enough.
2. Some products challenge with Basic, and take Bearer as well (Jenkins, Spring, registries). So a challenge alone is
   likely; certain is what the probe `mended` has shown.
3. A server that says that the key is wrong, or the session over, has read what was sent: its words go before a
   challenge of another scheme.
4. A credential that is spelt amiss, is empty or is none belongs to `_spelling` and `_absent`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from httpx_tokenflow.doctor._comparing import is_same_as_bare
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._flaws import spelling
from httpx_tokenflow.doctor._mending import field_wanted, trial
from httpx_tokenflow.doctor._phrases import KEY_NOT_GOOD, NOT_GOOD
from httpx_tokenflow.doctor._placeholders import nothing_in
from httpx_tokenflow.doctor._sent import canonical

from ._bindings import CAUSES as BINDINGS
from ._hosts import host_of, is_under
from ._known import TAKE_BEARER
from ._spelling import is_asked

if TYPE_CHECKING:
    from httpx_tokenflow._challenges import Challenge
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._mending import Trial

__all__ = ["CAUSES"]

_TO_BROWSERS = frozenset({"cookie", "session", "formbased", "interactive", "saml", "none"})
_BY_NEGOTIATION = frozenset({"negotiate", "ntlm", "kerberos"})
# Written in place of Basic, so that browsers do not open their window.
_OTHERWISE = {"xbasic": "basic", "x-basic": "basic", "xmlhttprequest": "basic", "x-digest": "digest"}
_AWS = (
    r"aws4-hmac|missing authentication token|not a valid key=value pair|authorization header requires|"
    r"invalid key=value pair|incompletesignature|signaturedoesnotmatch|missingauthenticationtoken|"
    r"unsupported authorization type|security token included in the request"
)


_SESSION_OVER = r"\bsession\b.{0,20}\b(?:expired|invalid|timed out|ended)\b|\b(?:token|jwt)\b.{0,20}\bexpired\b"
_TOKEN_NOT_GOOD = rf"^(?=.*\btoken).*?(?:{NOT_GOOD})"


def _wanted(facts: Facts) -> dict[str, str]:
    """The schemes that the server takes, as it spells them, by their names in small letters."""
    bare = facts.probe("bare")
    told: tuple[Challenge, ...] = facts.challenges or (bare.challenges if bare is not None else ())
    kept = [one.scheme for one in told if canonical(one.scheme) or one.params]
    schemes = {_OTHERWISE.get(scheme.lower(), scheme.lower()): scheme for scheme in kept}
    return {name: scheme for name, scheme in schemes.items() if name not in _TO_BROWSERS}


def _sent_as(facts: Facts) -> str | None:
    """How a credential was sent: its scheme, or the field it was in; None where that is not the question."""
    sent = facts.credential
    if sent is None or sent.place == "Cookie" or not is_asked(facts) or nothing_in(sent) is not None:
        return None
    if sent.place in {"Authorization", "URL"}:
        read = spelling(sent)
        return read.scheme if read.value and read.scheme else None
    return sent.place if sent.value.strip() else None


def _in_words(way: str) -> str:
    if canonical(way) is not None:
        return f"as {way}"
    return f"in the query ({way[1:]}=)" if way.startswith("?") else f"in {way}"


def _was_read(facts: Facts, way: str) -> bool:
    """The server speaks of the key or the token as one that it has read (rule 3)."""
    if is_same_as_bare(facts):
        return facts.said(_SESSION_OVER) is not None
    is_token = way.lower() == "bearer" and facts.said(_TOKEN_NOT_GOOD) is not None
    return is_token or any(facts.said(words) is not None for words in (KEY_NOT_GOOD, _SESSION_OVER))


class _Expected(Cause):
    """The server takes `scheme`, and got another."""

    scheme: ClassVar[str] = ""

    def look(self, facts: Facts) -> Finding | None:
        way = _sent_as(facts)
        if way is None or way.lower() == self.scheme:
            return None
        tried = trial(facts)
        is_proved = tried is not None and tried.is_accepted and tried.sent.is_scheme(self.scheme)
        told = self._told(facts, way)
        if not is_proved and (told is None or _was_read(facts, way)):
            return None
        name = canonical(self.scheme) or self.scheme
        return self.found(
            Certainty.CERTAIN if is_proved else Certainty.LIKELY,
            f"the credential was sent {_in_words(way)}, and the server wants {name}",
            [told, _proof(tried, name) if is_proved else None, facts.said(rf"\b{self.scheme}\b")],
            [
                None
                if is_proved or tried is None
                else f"sent as {name}, it was refused as well ({tried.exchange.status})"
            ],
        )

    def _told(self, facts: Facts, way: str) -> str | None:
        """How the server says that it wants this scheme, and not what it got."""
        wanted = _wanted(facts)
        if self.scheme in wanted and way.lower() not in wanted:
            return f"the server's challenge names {', '.join(wanted.values())}, and not {way}"
        return None


def _proof(tried: Trial | None, name: str) -> str | None:
    return None if tried is None else f"the same credential, sent as {name}, was accepted ({tried.exchange.status})"


def _disproof(tried: Trial | None, name: str) -> str | None:
    if tried is None or tried.is_accepted or not tried.sent.is_scheme(name):
        return None
    return f"sent as {name}, it was refused as well ({tried.exchange.status})"


class BearerExpected(_Expected):
    """Basic, a key in a field of its own, or a token in the query, where Bearer is wanted."""

    id = "bearer-expected"
    title = "The server wants Bearer"
    remedy = (
        "send the access token in Authorization: Bearer <token>; user and password, or a key, are exchanged for one "
        "first"
    )
    reference = "RFC 6750 §2.1"
    scheme = "bearer"

    def _told(self, facts: Facts, way: str) -> str | None:
        told, wanted = super()._told(facts, way), _wanted(facts)
        if told is not None or wanted or field_wanted(facts) is not None or way == "DPoP":
            return told
        return facts.said(r"\bbearer (access )?(token|auth|scheme|prefix)|authorization: ?bearer|\bno bearer")


class BasicExpected(_Expected):
    """A token where user and password are wanted."""

    id = "basic-expected"
    title = "The server wants Basic"
    remedy = "send user and password: auth=(user, password) in httpx, curl -u; for many APIs the key is one of the two"
    reference = "RFC 7617 §2"
    scheme = "basic"

    def _told(self, facts: Facts, way: str) -> str | None:
        wanted = _wanted(facts)
        if way == "Bearer" and facts.asked is not None and is_under(host_of(facts.asked.url), TAKE_BEARER):
            return None
        if wanted and set(wanted) - {"basic"} - _BY_NEGOTIATION - {"digest"}:
            return None  # there is another way, and somebody else names it
        told = super()._told(facts, way)
        return told or (None if wanted else facts.said(r"\bbasic auth|http basic\b"))


class DigestExpected(_Expected):
    """RFC 7616: an answer to a nonce of the server."""

    id = "digest-expected"
    title = "The server wants Digest"
    remedy = "use httpx.DigestAuth(user, password), or curl --digest: each request is an answer to the server's nonce"
    reference = "RFC 7616 §3.4"
    scheme = "digest"

    def _told(self, facts: Facts, way: str) -> str | None:
        return super()._told(facts, way) if set(_wanted(facts)) <= {"digest"} | _BY_NEGOTIATION else None


class NegotiateExpected(_Expected):
    """Kerberos or NTLM, which know a connection, not a request."""

    id = "negotiate-expected"
    title = "The server wants Negotiate or NTLM"
    remedy = (
        "use a client for Kerberos or NTLM (httpx-gssapi, curl --negotiate, curl --ntlm), over HTTP/1.1 and a "
        "connection that is kept, past proxies that share connections"
    )
    reference = "RFC 4559 §4"
    scheme = "negotiate"

    def _told(self, facts: Facts, way: str) -> str | None:
        wanted = _wanted(facts)
        if not wanted or not set(wanted) <= _BY_NEGOTIATION or way.lower() in _BY_NEGOTIATION:
            return None
        return f"the server's challenge names {', '.join(wanted.values())}, and not {way}"


class SignatureExpected(Cause):
    """AWS Signature Version 4: the request is signed, and no token is sent."""

    id = "signature-expected"
    title = "The server wants a signed request (AWS SigV4)"
    remedy = (
        "sign the request (botocore's SigV4Auth, curl --aws-sigv4); where the API takes a token, look at stage and "
        "path: API Gateway says the same of a path that it does not have"
    )
    reference = "custom: AWS Signature Version 4, AWS General Reference"

    def look(self, facts: Facts) -> Finding | None:
        way, last = _sent_as(facts), facts.last
        if last is None or not is_asked(facts) or (way or "").upper().startswith("AWS"):
            return None
        if way is None and facts.credential is None:
            return None  # nothing at all was sent: that comes first
        kind = last.received.get("x-amzn-ErrorType") or ""
        said = facts.said(_AWS)
        named = next((name for name in _wanted(facts).values() if name.lower().startswith("aws")), None)
        if said is None and named is None and "MissingAuthenticationToken" not in kind and "Signature" not in kind:
            return None
        return self.found(
            Certainty.LIKELY,
            f"the server wants a request signed for AWS, and got a credential {_in_words(way or 'Authorization')}",
            [
                said,
                f"the answer's x-amzn-ErrorType is {kind[:80]}" if kind else None,
                f"it names {named}" if named else None,
            ],
        )


class ApiKeyExpected(Cause):
    """A key is wanted in a field of its own, or in the query."""

    id = "api-key-expected"
    title = "The server wants the key in another field"
    remedy = "send the key in the field that the server names, alone and without a scheme"
    reference = "custom: OpenAPI's apiKey security scheme; X-API-Key and its kin are in no RFC"

    def look(self, facts: Facts) -> Finding | None:
        sent, way = facts.credential, _way_of_key(facts)
        if sent is None or way is None:
            return None
        tried, name = trial(facts), field_wanted(facts)
        proved = tried if tried is not None and tried.is_accepted and tried.sent.place != sent.place else None
        if proved is not None and proved.sent.place != "Authorization":
            name = proved.sent.place
        elif proved is not None or (name is None and not way.startswith("?")):
            in_query = None if proved is not None else facts.said(_IN_QUERY)
            return None if in_query is None else self._in_query(way, in_query)
        if name is None or any(one.place.lower() == name.lower() for one in facts.credentials):
            return None
        return self._found(facts, way, name, tried if proved is None else None, proved)

    def _found(self, facts: Facts, way: str, name: str, refused: Trial | None, proved: Trial | None) -> Finding:
        said = facts.said(name.replace("-", ".?") + r"|api.?key|subscription key")
        is_sure = proved is not None
        return self.found(
            Certainty.CERTAIN if is_sure else Certainty.LIKELY if said is not None else Certainty.POSSIBLE,
            f"the credential was sent {_in_words(way)}, and the server wants it in {name}",
            [
                said,
                f"the same credential in {name} was accepted ({proved.exchange.status})"
                if proved is not None
                else None,
                f"the server names the field {name} when it refuses" if said is None and proved is None else None,
            ],
            [f"in {name} it was refused as well ({refused.exchange.status})" if refused is not None else None],
        )

    def _in_query(self, way: str, said: str) -> Finding:
        summary = f"the credential was sent {_in_words(way)}, and the server wants a key in the query"
        return self.found(
            Certainty.LIKELY, summary, [said], remedy="send the key as the parameter that the server names"
        )


_IN_QUERY = r"api.?key.{0,40}(query|url|\bparam)|(query|url) (string|param).{0,40}key|\bappid\b|[?&]\w*key="


def _way_of_key(facts: Facts) -> str | None:
    """As `_sent_as`, and also where Authorization has a key alone."""
    sent = facts.credential
    is_alone = sent is not None and sent.place == "Authorization" and is_asked(facts) and not spelling(sent).scheme
    if is_alone and sent is not None and nothing_in(sent) is None and sent.value.strip():
        return "Authorization"
    return _sent_as(facts)


class OtherScheme(Cause):
    """A scheme of the house: Token (Django), ApiKey (Elasticsearch), SSWS (Okta), GenieKey (Opsgenie)."""

    id = "other-scheme-expected"
    title = "The server wants another scheme"
    remedy = "write the scheme that the server's challenge names in front of the credential"
    reference = "RFC 9110 §11.6.1"
    _NAMED = frozenset({"bearer", "basic", "digest", "dpop"}) | _BY_NEGOTIATION

    def look(self, facts: Facts) -> Finding | None:
        way, wanted, tried = _sent_as(facts), _wanted(facts), trial(facts)
        if way is None or not wanted or way.lower() in wanted:
            return None
        others = {name: scheme for name, scheme in wanted.items() if name not in self._NAMED}
        if (
            len(others) < len(wanted)
            or any(name.startswith("aws") for name in wanted)
            or field_wanted(facts) is not None
        ):
            return None
        name = next(iter(others.values()))
        is_proved = tried is not None and tried.is_accepted and tried.sent.is_scheme(name)
        if not is_proved and _was_read(facts, way):
            return None
        return self.found(
            Certainty.CERTAIN if is_proved else Certainty.LIKELY,
            f"the credential was sent {_in_words(way)}, and the server wants {name}",
            [f"the server's challenge names {', '.join(wanted.values())}", _proof(tried, name) if is_proved else None],
            [_disproof(tried, name)],
        )


CAUSES: tuple[Cause, ...] = (
    *BINDINGS,
    SignatureExpected(),
    ApiKeyExpected(),
    BearerExpected(),
    BasicExpected(),
    DigestExpected(),
    NegotiateExpected(),
    OtherScheme(),
)
