"""The credential was sent, and is spelt in a way that nobody accepts.

Rules.

1. What is amiss is told by `_flaws`; that it is the reason, only by the probe `mended`: the same credential without it.
2. Accepted without it: certain. Refused in the same way without it: it is not the reason, or not the only one; where
   the grammar forbids it, it is to be mended all the same, and is likely.
3. What cannot be sent at all is certain: there was no answer.
4. A scheme in another case, and more than one space, are right (RFC 9110 §11.1 and §11.4): only the probe, or what
   the server says, makes them a cause.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from httpx_tokenflow.doctor._facts import UNSENDABLE
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._flaws import spelling
from httpx_tokenflow.doctor._mending import Trial, trial
from httpx_tokenflow.doctor._placeholders import nothing_in
from httpx_tokenflow.doctor._readings import read_token

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._flaws import Flaw, Spelling
    from httpx_tokenflow.doctor._sent import Sent

__all__ = ["CAUSES"]

_FORMAT = (
    r"format|malformed|invalid (authorization )?header|must "
    r"(start|begin)|scheme|prefix|expected.{0,20}bearer|unsupported auth"
)


def is_unsent(facts: Facts) -> bool:
    """The request could not be sent as it was: the client itself refuses its header value."""
    return facts.status == 0 and UNSENDABLE in ((facts.last.failure or "") if facts.last is not None else "")


def is_asked(facts: Facts) -> bool:
    """Somebody has refused the credential, or could not even send it. A server that is down refuses nothing."""
    return facts.last is not None and (facts.last.is_refused or is_unsent(facts))


def _of_trial(tried: Trial) -> str:
    answer = f"{tried.exchange.status}"
    if tried.is_accepted:
        return f"spelt as {tried.sent.scheme or 'a plain value'} and one credential, it was accepted ({answer})"
    return f"the same credential without it was refused as well ({answer})"


class Misspelt(Cause):
    """A flaw in the spelling; the kind is the id of the cause."""

    what: ClassVar[str] = ""

    def look(self, facts: Facts) -> Finding | None:
        if not is_asked(facts):
            return None
        for sent in _in_order(facts):
            flaw = spelling(sent).flaw(self.id)
            if flaw is not None:
                return self._of(facts, sent, flaw)
        return None

    def _of(self, facts: Facts, sent: Sent, flaw: Flaw) -> Finding | None:
        tried = trial(facts)
        if tried is not None and tried.sent.place != sent.place:
            tried = None  # the other field tells nothing of the spelling in this one
        certainty = self._certainty(facts, sent, flaw, tried)
        if certainty is None:
            return None
        is_against = tried is not None and not tried.is_accepted
        where = "" if sent.place in flaw.text else f" in {sent.place}"
        return self.found(
            certainty,
            f"{self.what}{where}: {flaw.text}",
            [
                flaw.text,
                "the client cannot even send it: it may not be in a header field" if is_unsent(facts) else None,
                _of_trial(tried) if tried is not None and tried.is_accepted else None,
                "the same credential without it gets another answer" if tried is not None and tried.is_other else None,
                facts.said(_FORMAT),
            ],
            [_of_trial(tried) if is_against and tried is not None else None],
        )

    def _certainty(self, facts: Facts, sent: Sent, flaw: Flaw, tried: Trial | None) -> Certainty | None:
        if is_unsent(facts):
            return Certainty.CERTAIN if _cannot_be_sent(sent, flaw) else Certainty.LIKELY
        if tried is not None and tried.is_accepted:
            return Certainty.CERTAIN
        if flaw.is_fatal:
            return Certainty.LIKELY
        said = facts.said(_FORMAT) is not None
        if tried is not None:
            return Certainty.POSSIBLE if tried.is_other or said else None
        return Certainty.LIKELY if said else Certainty.POSSIBLE


def _in_order(facts: Facts) -> list[Sent]:
    """What was sent, that in `Authorization` first; without cookies, and without what is none."""
    several = [one for one in facts.credentials if one.place != "Cookie" and nothing_in(one) is None]
    return sorted(several, key=lambda one: one.place != "Authorization")


def _cannot_be_sent(sent: Sent, flaw: Flaw) -> bool:
    """Whether it is this flaw that no client sends: line breaks, NUL, white space at an end, what is not ASCII."""
    if flaw.kind == "line-break":
        return True
    if flaw.kind == "extra-space":
        return sent.raw != sent.raw.strip(" \t")
    return any(ord(char) > 126 or char == "\0" for char in sent.raw)


class LineBreak(Misspelt):
    id = "line-break"
    title = "The credential has a line break in it"
    what = "the credential has a line break in it"
    remedy = (
        "strip what is read from a file, a variable or a command (token.strip()); base64 is to be written in "
        "one line (base64 -w0)"
    )
    reference = "RFC 9110 §5.5"


class InvisibleCharacter(Misspelt):
    id = "invisible-character"
    title = "The credential has an invisible character in it"
    what = "there is an invisible character"
    remedy = (
        "it was pasted along: copy the token from where it was issued, as plain text, or type the place anew; "
        "save the file without a BOM"
    )
    reference = "RFC 9110 §5.5"


class Quotes(Misspelt):
    id = "quotes"
    title = "The credential has quotes around it"
    what = "there are quotes or brackets around the credential"
    remedy = (
        "take them off: the value of a variable in a .env file or a Docker --env-file keeps its quotes, and "
        "JSON and repr() add them"
    )
    reference = "RFC 6750 §2.1"


class NonAscii(Misspelt):
    id = "non-ascii"
    title = "The credential has a character that is not ASCII"
    what = "there is a character that no token has"
    remedy = (
        "copy the token anew, as plain text: a word processor or a chat has changed a character, or has cut "
        "it off with an ellipsis"
    )
    reference = "RFC 9110 §5.5"


class FieldName(Misspelt):
    id = "field-name-in-value"
    title = "The name of the field is in its value once more"
    what = "the field's name is in its value once more"
    remedy = "the value begins with the scheme: take the name and its colon out of the value"
    reference = "RFC 9110 §11.6.2"


class PastedAnswer(Misspelt):
    id = "pasted-answer"
    title = "More than the token was pasted"
    what = "more than the token was sent"
    remedy = 'send only the value of access_token out of the token endpoint\'s answer (response.json()["access_token"])'
    reference = "RFC 6749 §5.1"


class DoubledScheme(Misspelt):
    id = "doubled-scheme"
    title = "The scheme is there twice"
    what = "the scheme is there twice"
    remedy = "the variable has the scheme in it already, or two places in the program add it: let one do so"
    reference = "RFC 6750 §2.1"


class PercentEncoded(Misspelt):
    id = "percent-encoded"
    title = "The credential is percent-encoded"
    what = "the credential is encoded as for a URL"
    remedy = "decode it once (urllib.parse.unquote): it was taken out of a URL or a form as it was there"
    reference = "RFC 6750 §2.1"


class StrayCharacters(Misspelt):
    id = "stray-characters"
    title = "Punctuation marks follow the credential"
    what = "there is a punctuation mark too many"
    remedy = (
        "cut off what was copied along from a line of code or JSON, or was written as an escape that nobody resolved"
    )
    reference = "RFC 6750 §2.1"


class SchemeMisspelt(Misspelt):
    id = "scheme-misspelt"
    title = "The scheme is misspelt"
    what = "the scheme is misspelt"
    remedy = "write the scheme's name, one space, then the credential: Authorization: Bearer <token>"
    reference = "RFC 9110 §11.4"


class ExtraSpace(Misspelt):
    id = "extra-space"
    title = "White space too many"
    what = "there is white space too many"
    remedy = "leave one plain space between scheme and credential, and none elsewhere (token.strip())"
    reference = "RFC 9110 §11.4"


class BasicMalformed(Misspelt):
    id = "basic-malformed"
    title = "The Basic credential is malformed"
    what = "the Basic credential is malformed"
    remedy = "send base64 of user:password in UTF-8: let httpx do it (auth=(user, password)), or curl -u"
    reference = "RFC 7617 §2"


class SchemeCase(Misspelt):
    id = "scheme-case"
    title = "The server wants the scheme in one spelling only"
    what = "the server tells small letters from capitals"
    remedy = "spell it as registered (Bearer, Basic); and tell the API's people that any case is right"
    reference = "RFC 9110 §11.1"

    def _certainty(self, facts: Facts, sent: Sent, _flaw: Flaw, tried: Trial | None) -> Certainty | None:
        read = spelling(sent)
        if any(other.kind != self.id for other in read.flaws):
            return None  # whatever the probe says, it says of the other
        if tried is not None:
            is_only_case = tried.sent.raw.lower() == sent.raw.lower()
            return Certainty.CERTAIN if tried.is_accepted and is_only_case else None
        names_it = facts.said(rf"\b{re.escape(read.scheme)}\b") is not None and facts.said(_FORMAT) is not None
        return Certainty.LIKELY if names_it else None


class SchemeMissing(Cause):
    """A token alone in `Authorization`."""

    id = "scheme-missing"
    title = "The scheme is missing"
    remedy = "write the scheme in front of the token: Authorization: Bearer <token>"
    reference = "RFC 6750 §2.1"

    def look(self, facts: Facts) -> Finding | None:
        sent = facts.credential
        if sent is None or sent.place != "Authorization" or not is_asked(facts) or nothing_in(sent) is not None:
            return None
        read = spelling(sent)
        if read.scheme or not read.value or (is_unsent(facts) and trial(facts) is None):
            return None
        tried = trial(facts)
        if tried is not None and (tried.sent.place != sent.place or not tried.sent.scheme):
            return None
        certainty = self._certainty(facts, read, tried)
        if certainty is None:
            return None
        scheme = tried.sent.scheme if tried is not None else "Bearer"
        return self.found(
            certainty,
            f"Authorization has the credential alone, without a scheme ({scheme}) in front of it",
            [
                f"the value of Authorization is one word of {len(read.value)} characters",
                "it is a JWT" if _is_jwt(read) else None,
                f"with {scheme} in front of it, it was accepted ({tried.exchange.status})"
                if tried is not None and tried.is_accepted
                else None,
                _challenged(facts),
                facts.said(_FORMAT),
            ],
            [_of_trial(tried) if tried is not None and not tried.is_accepted else None],
        )

    def _certainty(self, facts: Facts, read: Spelling, tried: Trial | None) -> Certainty | None:
        if tried is not None and tried.is_accepted:
            return Certainty.CERTAIN
        speaks = _is_jwt(read) or _challenged(facts) is not None or facts.said(_FORMAT + r"|bearer") is not None
        if tried is not None and not tried.is_other:
            return Certainty.LIKELY if _challenged(facts) is not None else Certainty.POSSIBLE if speaks else None
        return Certainty.LIKELY if speaks else Certainty.POSSIBLE


def _is_jwt(read: Spelling) -> bool:
    return read_token(read.value).kind != "opaque"


def _challenged(facts: Facts) -> str | None:
    bearer = any(challenge.is_scheme("Bearer") for challenge in facts.challenges)
    return "the server's challenge names Bearer" if bearer else None


class TwoCredentials(Cause):
    """Two `Authorization` fields, or one and `access_token` in the query."""

    id = "two-credentials"
    title = "Two credentials were sent at once"
    remedy = (
        "send one, in Authorization: look for a default header of the client, a session or a proxy that adds the other"
    )
    reference = "RFC 6750 §2"

    def look(self, facts: Facts) -> Finding | None:
        ways = [one.place for one in facts.credentials if one.place in {"Authorization", "?access_token"}]
        listed = _is_list(facts.credential)
        if not is_asked(facts) or (len(ways) < 2 and not listed):
            return None
        where = "one after the other in one Authorization field" if listed else _places(ways)
        tried = trial(facts)
        said = facts.said(r"more than one|multiple|several|only one|exactly one|duplicate|invalid_request")
        is_sure = (tried is not None and tried.is_accepted) or said is not None
        refused = tried is not None and not tried.is_accepted and not tried.is_other and said is None
        return self.found(
            Certainty.CERTAIN if is_sure else Certainty.POSSIBLE if refused else Certainty.LIKELY,
            f"two credentials were sent at once: {where}",
            [
                f"two credentials: {where}",
                f"with one of them it was accepted ({tried.exchange.status})"
                if tried is not None and tried.is_accepted
                else None,
                said,
            ],
            [f"with one of them it was refused as well ({tried.exchange.status})" if refused and tried else None],
        )


def _places(ways: list[str]) -> str:
    count = ways.count("Authorization")
    if "?access_token" in ways:
        return "in Authorization, and as access_token in the query"
    return f"in {count} Authorization fields"


def _is_list(sent: Sent | None) -> bool:
    """`Bearer x, Basic y`: what somebody between has joined (RFC 9110 §5.3)."""
    return sent is not None and bool(re.match(r"(?i)\s*(bearer|basic)\s+[^\s,]+\s*,\s*(bearer|basic)\s+\S", sent.raw))


CAUSES: tuple[Cause, ...] = (
    LineBreak(),
    InvisibleCharacter(),
    Quotes(),
    NonAscii(),
    FieldName(),
    PastedAnswer(),
    TwoCredentials(),
    DoubledScheme(),
    SchemeMisspelt(),
    SchemeMissing(),
    PercentEncoded(),
    StrayCharacters(),
    ExtraSpace(),
    BasicMalformed(),
    SchemeCase(),
)
