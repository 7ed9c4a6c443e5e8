"""What is known: plain data about a request that was refused, from a response in hand or from an examination.

Rules.

1. Facts are made once and changed by nobody. What was sent is kept, secrets included, since causes look at its
   spelling; so no repr shows it, and no text leaves the doctor that was not sifted (`_sifting`).
2. What is not known is None or empty. A cause does not conclude anything from what was not looked at.
3. The clock is a fact.
4. What is read of them is read once (so these classes have no slots): a hundred causes look at the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from httpx_tokenflow._answers import json_of
from httpx_tokenflow._challenges import Challenge, parse_challenges

from ._phrases import is_refused_in_words
from ._sent import Sent, credentials_of
from ._sifting import Sieve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ._readings import Reading

__all__ = ["SAID_BY_API", "UNSENDABLE", "Exchange", "Expected", "Facts", "Fields", "Refusal", "origin"]

BODY_LIMIT = 16 * 1024  # characters of a body that are looked at
_QUOTED = 200  # characters of a text that are shown

UNSENDABLE = "a header value cannot be sent as it is"
"""In an exchange's failure: the client itself refused a value, and nothing was sent."""

# What says "your credential is not good enough": 419 Laravel, 440 IIS, 498 ArcGIS, 511 RFC 6585 §6.
REFUSING = frozenset({401, 403, 407, 419, 440, 498, 511})
_PORTS = {"http": 80, "https": 443}
# Members of a JSON body that tell of an error. Of single products: errorSummary Okta, fault and faultstring Apigee,
# Message and errorMessage Amazon, exp and nbf Kong, messages djangorestframework-simplejwt, category HubSpot,
# root_cause and additional_unsuccessful_credentials Elasticsearch, error_chain Cloudflare.
_TELLING = (
    "error_description", "message", "error", "detail", "title", "description", "reason", "code", "msg", "errors",
    "errorSummary", "error_summary", "fault", "faultstring", "Message", "errorMessage", "messages", "errorCode",
    "errorcode", "error_code", "category", "details", "attributes", "exp", "nbf",
    "additional_unsuccessful_credentials", "root_cause", "error_chain",
)  # fmt: skip


# Of an XML document that tells of an error: Amazon S3, Azure Storage, SOAP.
_XML = re.compile(
    r"(?i)<(?:[\w-]{1,20}:)?(?:code|message|faultcode|faultstring|error_description)(?:\s[^<>]{0,100})?>([^<]{1,500})</"
)


class Fields:
    """Header fields, in order; names are found in any spelling. A repr shows names, not values."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs: tuple[tuple[str, str], ...] = tuple(pairs)

    def __repr__(self) -> str:
        return f"<Fields {', '.join(name for name, _ in self.pairs)}>"

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def get_list(self, name: str) -> list[str]:
        """The values of all fields of that name."""
        return [value for own, value in self.pairs if own.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the first field of that name."""
        return next(iter(self.get_list(name)), None)

    def without(self, *names: str) -> Fields:
        """The others."""
        gone = {name.lower() for name in names}
        return Fields(pair for pair in self.pairs if pair[0].lower() not in gone)

    def having(self, *pairs: tuple[str, str]) -> Fields:
        """These as well."""
        return Fields((*self.pairs, *pairs))


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request and its answer.

    Args:
        role: what the request was for: "asked", or the name of a probe (see `_probes`).
        method: of the request.
        url: of the request.
        sent: its header fields, as far as they are known.
        status: of the answer; 0 where there was none.
        received: its header fields.
        body: the beginning of its body; None where it was not read.
        http_version: "HTTP/1.1", "HTTP/2"; empty where it is not known.
        began: seconds from the beginning of the examination to the request.
        seconds: that the exchange took.
        failure: why there was no answer, in words; None where there was one.
    """

    role: str = "asked"
    method: str = "GET"
    url: str = field(default="", repr=False)
    sent: Fields = field(default=Fields())
    status: int = 0
    received: Fields = field(default=Fields())
    body: str | None = field(default=None, repr=False)
    http_version: str = ""
    began: float = 0.0
    seconds: float = 0.0
    failure: str | None = None

    @cached_property
    def challenges(self) -> tuple[Challenge, ...]:
        """What the answer asks for (RFC 9110 §11.6.1)."""
        return parse_challenges(self.received.get_list("WWW-Authenticate"))

    @property
    def is_accepted(self) -> bool:
        """The answer is one that a request with a good credential gets."""
        return 200 <= self.status < 300 or self.status == 304

    @property
    def is_refused(self) -> bool:
        """The answer says that the credential is not good enough, or was not understood (RFC 6750 §3.1)."""
        if self.status == 400:
            return bool(self.challenges) or is_refused_in_words(text for _, text in self.words)
        return self.status in REFUSING

    @property
    def location(self) -> str | None:
        """Where a redirect leads, as an absolute URL; None if it is none, or leads nowhere that can be read."""
        told = self.received.get("Location")
        if not 300 <= self.status < 400 or told is None:
            return None
        try:
            return urljoin(self.url, told)
        except ValueError:
            return None

    @cached_property
    def document(self) -> Any:
        """The body, if it is JSON; else None."""
        return json_of(self.body or "")

    @cached_property
    def is_html(self) -> bool:
        """The body is a page for people."""
        kind = (self.received.get("Content-Type") or "").lower()
        return "html" in kind or (self.body or "").lstrip()[:15].lower().startswith(("<!doctype html", "<html"))

    @property
    def date(self) -> str | None:
        """What the server's clock showed (RFC 9110 §6.6.1)."""
        return self.received.get("Date")

    @cached_property
    def words(self) -> list[tuple[str, str]]:
        """What the server says in words about its answer, each with where it says it."""
        said = [
            (f"the {challenge.scheme} challenge", text)
            for challenge in self.challenges
            for text in (challenge.error, challenge.error_description)
            if text
        ]
        grpc = self.received.get("grpc-message")  # percent-encoded, as gRPC over HTTP/2 has it
        said += [("the grpc-message field", unquote(grpc[:2000]))] if grpc else []
        if self.is_html:
            return [*said, *_lines_of_page(self.body or "")]
        return [*said, *(("the body", text) for text in _telling(self.document, self.body))]


def _telling(document: Any, body: str | None) -> list[str]:
    """The words in a JSON body that tell of an error, or the whole of a short plain one."""
    if document is None:
        told = _XML.findall(body[:BODY_LIMIT]) if body and body.lstrip().startswith("<") else []
        if told:
            return [" ".join(unescape(text).split()) for text in told[:10]]
        return [body.strip()] if body and body.strip() and len(body) <= 500 else []
    found: list[str] = []
    queue = [document]
    if isinstance(document, dict) and isinstance(document.get("data"), dict):
        queue.append(document["data"])  # JSend, WordPress and others put the whole error in there
    while queue and len(found) < 20:
        value = queue.pop(0)
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            queue += [value[name] for name in _TELLING if name in value]
        elif isinstance(value, list):
            queue += value[:5]
    return found


def _lines_of_page(page: str) -> list[tuple[str, str]]:
    """A page's title, headings and first line of a trace; and, as its text, its first paragraphs."""
    page = page[:BODY_LIMIT]
    lines = re.findall(r"(?is)<(?:title|h1|h2)[^>]{0,200}>(.{0,300}?)</", page)[:5]
    lines += re.findall(r"(?is)<pre(?:\s[^>]{0,200})?>\s{0,20}([^\n]{0,300}?)(?:<br|</|\n)", page)[:2]  # Express
    text = re.findall(r"(?is)<p(?:\s[^>]{0,200})?>(.{0,300}?)</p", page)[:3]
    told = [*(("the page", one) for one in lines), *(("the page's text", one) for one in text)]
    return [(where, " ".join(unescape(re.sub(r"<[^>]*>", " ", one)).split()) or "-") for where, one in told]


SAID_BY_API = "the API's metadata says so (RFC 9728)"
"""In `Expected.whence`: nobody else has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the API expects of a token, as far as somebody has said so.

    Args:
        issuer: who issues its tokens: from the person, or from the API's metadata (RFC 9728).
        audience: for whom they are to be.
        scopes: what they are to allow.
        whence: who says so, in words.
    """

    issuer: str | None = None
    audience: str | None = None
    scopes: frozenset[str] = frozenset()
    whence: str = "it was asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How an authorization server has refused to issue a token (RFC 6749 §5.2).

    Args:
        status: of its answer; None where there was none.
        error: the code.
        description: its words.
        text: the whole as a sentence of ours.
        grant_type: what was asked with, if it is known.
    """

    status: int | None = None
    error: str | None = None
    description: str | None = None
    text: str = ""
    grant_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known.

    Args:
        exchanges: what was sent and answered, in order; the first is the request as it was asked for.
        now: Unix seconds by our clock when that was sent.
        token: what was read of the token that it carried; None where there was none that can be read.
        token_age: seconds since that token was issued, if we know it.
        expected: what the API expects of a token.
        issuer_metadata: the document of the issuer (RFC 8414), if it was read.
        jwks: its keys (RFC 7517), if they were read.
        introspection: what it says about the token (RFC 7662), if it was asked.
        refusal: how no token was issued, if one was asked for.
        browser_origin: the origin of the page that a browser would send this from (CORS), if somebody has said so.
        carried: the credential that this is about, where the exchange no longer shows it, or shows others.
        secrets: what no text may show, over what can be told from the exchanges.
    """

    exchanges: tuple[Exchange, ...] = ()
    now: float = 0.0
    token: Reading | None = None
    token_age: float | None = None
    expected: Expected = field(default=Expected())
    issuer_metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    jwks: Mapping[str, Any] | None = field(default=None, repr=False)
    introspection: Mapping[str, Any] | None = field(default=None, repr=False)
    refusal: Refusal | None = None
    browser_origin: str | None = None
    carried: Sent | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def asked(self) -> Exchange | None:
        """The request as it was asked for; None where only a token was asked for."""
        return self.exchanges[0] if self.exchanges else None

    @cached_property
    def last(self) -> Exchange | None:
        """The last of the request and the redirects that were followed for it: its answer is what the caller got."""
        return next((one for one in reversed(self.exchanges) if one.role in {"asked", "hop"}), None)

    def probe(self, role: str) -> Exchange | None:
        """The probe of that name that was answered, if it was sent."""
        return next((one for one in self.exchanges if one.role == role and one.status), None)

    @cached_property
    def credentials(self) -> tuple[Sent, ...]:
        """The credentials that the request carried, wherever they were; the one that this is about is the first."""
        shown = () if self.asked is None else credentials_of(self.asked.url, self.asked.sent.pairs)
        about = self.carried
        if about is None:
            return shown
        return (about, *(one for one in shown if (one.place.lower(), one.raw) != (about.place.lower(), about.raw)))

    @cached_property
    def credential(self) -> Sent | None:
        """The one that this is about: the one in `Authorization`, where nobody says; else the first."""
        if self.carried is not None:
            return self.carried
        every = self.credentials
        return next((one for one in every if one.place == "Authorization"), every[0] if every else None)

    @property
    def status(self) -> int:
        """Of the answer that the caller got; 0 where there was none."""
        return 0 if self.last is None else self.last.status

    @property
    def challenges(self) -> tuple[Challenge, ...]:
        """Of the answer that the caller got."""
        return () if self.last is None else self.last.challenges

    def said(self, pattern: str) -> str | None:
        """Where the server says what fits `pattern` (a regular expression, in any case), as a piece of evidence."""
        if self.last is None:
            return None
        for where, text in self.last.words:
            if re.search(pattern, text, re.IGNORECASE):
                return f"{where} says {self.quoted(text)}"
        return None

    @cached_property
    def sieve(self) -> Sieve:
        """Takes out of texts what they must not show."""
        return Sieve.of(self)

    def quoted(self, text: str, most: int = _QUOTED) -> str:
        """A text from outside between quotes, as evidence may show it: without secrets, and then cut.

        Args:
            text: as it came.
            most: characters that are shown.
        """
        return repr(self.sieve.sift(text[:BODY_LIMIT])[:most])


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of `url` (RFC 6454 §4); what cannot be read is an origin of its own."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", url, None
    return parts.scheme.lower(), (parts.hostname or "").lower(), port or _PORTS.get(parts.scheme.lower())
