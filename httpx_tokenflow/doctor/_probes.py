"""What is examined, and the probes for it: each says what it would send, by what is known so far. No I/O.

Rules.

1. They read: GET, HEAD, OPTIONS, or the method that the person has named. The only POST is the introspection of the
   token (RFC 7662), at an endpoint that the person has allowed.
2. Nothing goes to another origin than those the person has named: the URL's, the issuer's, an endpoint's. A redirect
   is followed within its origin only, and without the user and password that it may have; a `jwks_uri` elsewhere is
   not read, and what a token claims to be its issuer is not visited.
3. The credential goes to the URL's origin: as it was asked for, on each redirect within the origin, once more as it is
   to be spelt (`_mending`), and where it was accepted, twice more as it was. The token itself, if it is one in
   `Authorization`, goes to the introspection endpoint as well; a cookie, a password, or a key that its scheme gives
   away does not. Documents are read, and preflights sent, without it. Where a page's origin is named, what a browser
   would send from there says so (`Origin`), for many servers add what CORS needs only then.
4. A probe that the question has no use for is None; one whose URL only an answer will tell has none yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus, urlsplit

from . import _mending
from ._facts import Expected, Fields, Refusal, origin
from ._preflights import asked_fields
from ._readings import read_token
from ._sent import basic, credentials_of, is_key_field, is_misspelt, nearest_scheme

if TYPE_CHECKING:
    from ._facts import Facts
    from ._sent import Sent

__all__ = [
    "Probe", "Question", "again", "anew", "asked", "bare", "hop", "introspection", "issuer_metadata", "keys", "mended",
    "preflight", "resource_metadata",
]  # fmt: skip

_CREDENTIAL_FIELDS = frozenset({"authorization", "cookie", "dpop"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_SIMPLE = frozenset({"GET", "HEAD", "POST"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be examined.

    Args:
        url: of the API.
        method: of the request.
        fields: its header fields, the credential among them.
        origin: of the page that a browser would send it from (CORS); None: no browser sends it.
        expected: what the API expects of a token, as far as the person says.
        issuer: whose documents may be read; None: nobody's.
        jwks_uri: where its keys are, if not where its metadata says.
        introspection: the endpoint to ask about the token, and the client's authentication there as header fields
            (RFC 7662 §2.1); None: it is not asked.
        token_age: seconds since the token was issued, if that is known.
        refusal: how no token was issued, if one was asked for.
        secrets: what no text may show.
        now: Unix seconds.
    """

    url: str = field(repr=False)
    method: str = "GET"
    fields: Fields = field(default=Fields())
    origin: str | None = None
    expected: Expected = field(default=Expected())
    issuer: str | None = None
    jwks_uri: str | None = None
    introspection: tuple[str, Fields] | None = field(default=None, repr=False)
    token_age: float | None = None
    refusal: Refusal | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    now: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One request to send.

    Args:
        role: what it is for; the exchange that answers it has the same.
        why: the same in words.
        method: GET, HEAD, OPTIONS; POST for an introspection.
        url: where it goes; in a plan, empty where only an answer will tell.
        fields: its header fields.
        form: its body, as a form.
        connection: "first": the one of the request as asked; "second": another one; "own": one of its own.
        condition: in a plan: when it is sent.
    """

    role: str
    why: str
    method: str = "GET"
    url: str = field(default="", repr=False)
    fields: Fields = field(default=Fields())
    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    connection: str = "own"
    condition: str = "always"

    @property
    def has_credential(self) -> bool:
        """The credential goes along."""
        return bool(self.form) or bool(credentials_of(self.url, self.fields.pairs))


def asked(question: Question, _facts: Facts) -> Probe:
    return Probe(
        role="asked",
        why="the request as it was asked for",
        method=question.method,
        url=question.url,
        fields=_fields(question),
        connection="first",
    )


def hop(question: Question, facts: Facts) -> Probe:
    """Within the origin only (rule 2)."""
    leads = facts.last.location if facts.last is not None and facts.last.method in _READING else None
    leads = _without_person(leads) if leads is not None and origin(leads) == origin(question.url) else ""
    is_new = all(exchange.url != leads for exchange in facts.exchanges)
    return Probe(
        role="hop",
        why="where the redirect leads, with the credential",
        method=_probing(question),
        url=leads if is_new else "",
        fields=_fields(question),
        connection="first",
    )


def _without_person(url: str) -> str:
    """`url` without user and password, which would be sent in place of the credential; empty if it cannot be asked."""
    if not url.isprintable():
        return ""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def bare(question: Question, facts: Facts) -> Probe | None:
    if not credentials_of(question.url, question.fields.pairs):
        return None
    return Probe(
        role="bare",
        why="what somebody without a credential is told",
        method=_probing(question),
        url=_without_query_credentials(_reached(question, facts)),
        fields=_without_credentials(_fields(question)),
        connection="second",
    )


def mended(question: Question, facts: Facts) -> Probe | None:
    if not credentials_of(question.url, question.fields.pairs):
        return None
    fields, place = _mending.mended(facts), "" if facts.credential is None else facts.credential.place
    # What else was sent stays: a gateway may want a key of its own beside the token.
    return Probe(
        role="mended",
        why="the same credential, spelt as the server wants it",
        method=_probing(question),
        url=_without_query_credentials(_reached(question, facts)) if fields is not None else "",
        fields=_fields(question).without("authorization", place).having(*(fields or ())),
    )


def again(question: Question, facts: Facts) -> Probe | None:
    """On the connection of `bare`, after it."""
    why = "whether the connection remembers who was refused on it"
    return _repeated(question, facts, "again", why, connection="second")


def anew(question: Question, facts: Facts) -> Probe | None:
    """The same once more on a connection of its own: it tells a connection that remembers from a token for one use."""
    return _repeated(question, facts, "anew", "whether a new connection forgets who was refused", connection="own")


def _repeated(question: Question, facts: Facts, role: str, why: str, *, connection: str) -> Probe | None:
    """The request as it was, with its credential."""
    if not credentials_of(question.url, question.fields.pairs):
        return None
    return Probe(
        role=role,
        why=why,
        method=_probing(question),
        url=_reached(question, facts),
        fields=_fields(question),
        connection=connection,
    )


def preflight(question: Question, _facts: Facts) -> Probe | None:
    if question.origin is None:
        return None
    unsafe = asked_fields(question.fields)
    if not unsafe and question.method in _SIMPLE:
        return None  # a browser does not ask
    asking = [("Access-Control-Request-Headers", ", ".join(unsafe))] if unsafe else []
    fields = Fields([("Origin", question.origin), ("Access-Control-Request-Method", question.method), *asking])
    why = "what a browser asks before it sends the request"
    url = _without_query_credentials(question.url)  # rule 3: a server that wants it there should not want it here
    return Probe(role="preflight", why=why, method="OPTIONS", url=url, fields=fields)


def resource_metadata(question: Question, facts: Facts) -> Probe:
    told = next((one.resource_metadata for one in facts.challenges if one.resource_metadata), "")
    here = told if origin(told) == origin(question.url) else ""  # rule 2
    return Probe(role="resource metadata", why="what the API says of itself (RFC 9728)", url=here)


def issuer_metadata(question: Question, _facts: Facts) -> Probe | None:
    if question.issuer is None or question.jwks_uri is not None:
        return None
    return Probe(
        role="issuer metadata",
        why="where the issuer's keys are, and what it signs with (OpenID Connect Discovery §4)",
        url=question.issuer.rstrip("/") + "/.well-known/openid-configuration",
    )


def keys(question: Question, facts: Facts) -> Probe | None:
    if question.jwks_uri is None and question.issuer is None:
        return None
    told = question.jwks_uri or (facts.issuer_metadata or {}).get("jwks_uri")
    named = {origin(one) for one in (question.url, question.issuer, question.jwks_uri) if one}
    url = told if isinstance(told, str) and origin(told) in named else ""  # rule 2
    return Probe(role="keys", why="the issuer's keys (RFC 7517)", url=url)


def introspection(question: Question, _facts: Facts) -> Probe | None:
    sent = credentials_of(question.url, question.fields.pairs)
    token = next((one.value.strip() for one in sent if _is_token(one)), "")
    if question.introspection is None or not token:
        return None
    endpoint, fields = question.introspection
    return Probe(
        role="introspection",
        why="what the issuer says about the token (RFC 7662)",
        method="POST",
        url=endpoint,
        fields=fields,
        form=(("token", token), ("token_type_hint", "access_token")),
    )


def _is_token(sent: Sent) -> bool:
    """An access token in `Authorization`: what else a request carries is for the API alone (rule 3)."""
    value, scheme = sent.value.strip(), sent.scheme.lower()
    if sent.place.lower() != "authorization" or scheme == "basic" or any(map(_is_person, value.split())):
        return False
    return not scheme or nearest_scheme(scheme) in {"Bearer", "DPoP"} or read_token(value).is_jwt


def _is_person(value: str) -> bool:
    """User and password, whatever the scheme is called; what is decoded from a token is hardly ever printable."""
    decoded = basic(value) or ""
    return ":" in value or (":" in decoded and decoded.isprintable())


def _reached(question: Question, facts: Facts) -> str:
    """Where the request has got to: redirects within the origin are followed once."""
    return question.url if facts.last is None else facts.last.url


def _probing(question: Question) -> str:
    """The method of the probes beside the request itself: a POST is not sent twice."""
    return question.method if question.method in _READING else "GET"


def _fields(question: Question) -> Fields:
    """The fields of the request, with the origin of the page that a browser would send it from (Fetch §3.2)."""
    if question.origin is None or question.fields.get("Origin") is not None:
        return question.fields
    return question.fields.having(("Origin", question.origin))


def _without_credentials(fields: Fields) -> Fields:
    return Fields((name, value) for name, value in fields if not _is_credential_field(name))


def _is_credential_field(name: str) -> bool:
    return name.lower() in _CREDENTIAL_FIELDS or is_key_field(name) or is_misspelt(name)


def _without_query_credentials(url: str) -> str:
    """The URL without a token or key in its query, and without user and password."""
    places = {one.place for one in credentials_of(url, ())}
    if not places:
        return url
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if f"?{unquote_plus(pair.partition('=')[0])}" not in places]
    return parts._replace(query="&".join(kept), netloc=parts.netloc.rpartition("@")[2]).geturl()
