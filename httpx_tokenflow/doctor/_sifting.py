"""No secret leaves the doctor: every text that it gives goes through a sieve.

Rules.

1. A secret is what was sent in a header field that is not known to be harmless, whole and in its parts; every value
   of a query from five characters on; user and password of a URL, what is behind a `;` in its path, and what looks
   random in it, in `Location` as well; every cookie that was received, unless it is a plain word; what the person
   gave as a secret; and whatever looks like a JWT.
2. It is hidden in any case of its letters, in the spellings of a form, a URL, JSON, HTML and Python, in base64 and
   hex; and of a long one every run of eight characters, so that what was cut or wrapped shows no piece. What is to
   be cut is sifted first all the same.
3. The claims of a token are no secret: they are what the doctor is for. Its signature is.
4. What comes from outside is sifted of all (`sift`). In sentences of ours (`sift_ours`) a secret that is a plain word
   is hidden only between quotes: else who has the password "password", or a server that names a cookie, could choose
   what is read. Names in our JSON, ids and titles are not sifted at all.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from html import escape
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlsplit, urlunsplit

from httpx_tokenflow._answers import forms_of

from ._sent import NOTHING, SCHEMES, basic, credentials_of, is_harmless, nearest_scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._facts import Exchange, Facts

__all__ = ["Sieve", "secrets_of_url", "without_secrets"]

_SHORT = 4  # characters: what is shorter cannot be told from the text around it
_LEAST_VALUE = 5  # characters of a query's value, or of a field that is not known
_LEAST_RECEIVED = 8  # characters of what a server chose
_CLEAR = 6  # characters: what is shorter is hidden in sentences of ours between quotes only
_RUN = 8  # characters of a long secret that are hidden wherever they are
_LONG = 16  # characters of a secret that is long
_RANDOM = 20  # characters of a path that may be a credential
_MOST = 64 * 1024  # characters of one secret whose runs are looked for
_PIECES = 40  # parts of one word
# Found from where a run of such characters begins, and each run looked at once: "ey-ey-ey-…" begins one everywhere.
_JWT = re.compile(
    r"(?<![A-Za-z0-9_-])(?>[A-Za-z0-9_-]*?(?=\bey))(ey[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){0,3})"
)
_WORD = re.compile(r"[A-Za-z]+(?:[-_. ][A-Za-z]+){0,2}|[\d.]{1,7}")
_OPENING = re.compile(r"(?<!\w)['\"]")
_CLOSING = re.compile(r"['\"](?!\w)")
_QUOTATION = 2000  # characters between quotes
_PATH_PART = re.compile(rf"[A-Za-z0-9_~%+=:.-]{{{_RANDOM},}}")
_AROUND = "\"'<>,;[](){}"
# Parameters of Authorization that say how, and not what (RFC 7616, RFC 9421, RFC 5849, AWS).
_HOW = re.compile(
    r"\bsignedheaders\s*=\s*[^,\s]*|\b(?:realm|algorithm|qop|uri|nc|charset|headers|credential|version|oauth_version|token_type"
    r"|oauth_signature_method|oauth_timestamp|grant_type|expires_in)\"?\s*[=:]\s*(?:\"[^\"]*\"|[^,;\s}]*)",
    re.IGNORECASE,
)
_KNOWN = frozenset(scheme.lower() for scheme in SCHEMES) | NOTHING
_FOLDED = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # as many characters as before


class Sieve:
    """Takes secrets out of texts.

    Args:
        secrets: what no text may show.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        kept = {one for one in secrets if len(one) >= _SHORT and not _is_known(one)}
        words = {one for one in kept if len(one) < _CLEAR or _is_word(one)}
        self._forms = _forms(kept - words)
        self._words = _forms(words)
        self._runs = frozenset(
            text[at : at + _RUN] for one in kept for text in _long(one) for at in range(len(text) - _RUN + 1)
        )

    @classmethod
    def of(cls, facts: Facts) -> Sieve:
        """The sieve for all that `facts` know."""
        secrets, public = set(facts.secrets), _public(facts)
        for exchange in facts.exchanges:
            secrets |= set(_of_exchange(exchange)) - public
        for sent in facts.credentials:  # the one that is carried among them
            secrets |= _parts(sent.raw)
        return cls(secrets)

    def sift(self, text: str) -> str:
        """`text`, which comes from outside, without secrets, and printable."""
        folded = text.translate(_FOLDED)
        spans = [*_found(self._forms, folded), *_found(self._words, folded), *self._runs_in(folded)]
        return _printable(_without(text, spans))

    def sift_ours(self, text: str) -> str:
        """A sentence of ours, in which something from outside is quoted, likewise (rule 4)."""
        folded = text.translate(_FOLDED)
        quoted = _quoted(text)
        words = [(begin + at, begin + to) for begin, end in quoted for at, to in _found(self._words, folded[begin:end])]
        runs = [
            (at, to)
            for at, to in self._runs_in(folded)
            if to - at >= 3 * _RUN or _is_mixed(folded[at:to]) or _is_in(quoted, at, to)
        ]
        return _printable(_without(text, [*_found(self._forms, folded), *words, *runs]))

    def _runs_in(self, folded: str) -> list[tuple[int, int]]:
        """Where pieces of long secrets are; pieces that overlap are one."""
        found: list[tuple[int, int]] = []
        for at in range(len(folded) - _RUN + 1) if self._runs else ():
            if folded[at : at + _RUN] in self._runs:
                if found and at <= found[-1][1]:
                    found[-1] = (found[-1][0], at + _RUN)
                else:
                    found.append((at, at + _RUN))
        return found


def _public(facts: Facts) -> set[str]:
    """No secret, whatever field, path or parameter has it as well: the hosts that are asked, and names in claims."""
    claims = facts.token.claims if facts.token is not None else {}
    told = [claims.get(name) for name in ("iss", "aud", "azp", "tid", "scope", "scp")]
    told += [facts.expected.issuer, facts.expected.audience, *facts.expected.scopes]
    flat = [one for some in told for one in (some if isinstance(some, list) else [some]) if isinstance(one, str)]
    hosts = [_host(one.url) for one in facts.exchanges if one.status]
    found = {word for one in flat for word in (one, *re.split(r"[\s/]+", one))}
    return found | {name for host in hosts for name in (host, host.rpartition(":")[0])}


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _found(forms: Iterable[str], folded: str) -> Iterator[tuple[int, int]]:
    for form in forms:
        at = folded.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = folded.find(form, at + len(form))


def _quoted(text: str) -> list[tuple[int, int]]:
    """What is between quotes: each begins where no word is before it, and ends where none is behind its like."""
    closing: dict[str, list[int]] = {"'": [], '"': []}
    for match in _CLOSING.finditer(text):
        closing[match[0]].append(match.start())
    for ends in closing.values():
        ends.reverse()  # the nearest is the last
    found, over = [], 0
    for match in _OPENING.finditer(text):
        if match.start() < over:
            continue
        begin, ends = match.end(), closing[match[0]]
        while ends and ends[-1] < begin:
            ends.pop()
        if ends and ends[-1] - begin <= _QUOTATION:
            found.append((begin, ends[-1]))
            over = ends[-1] + 1
    return found


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` with three asterisks for each of the spans, those of JWTs among them."""
    spans = sorted([*spans, *(match.span(1) for match in _JWT.finditer(text))])
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    bounds = [(0, 0), *joined, (len(text), len(text))]
    return "***".join(text[left[1] : right[0]] for left, right in pairwise(bounds))


def _is_in(quoted: list[tuple[int, int]], at: int, to: int) -> bool:
    behind = bisect_right(quoted, at, key=itemgetter(0))
    return behind > 0 and to <= quoted[behind - 1][1]


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def _is_known(text: str) -> bool:
    """A scheme, or a word for nothing, whatever is around it."""
    return text.strip().lower() in _KNOWN or text.strip(f"{_AROUND} ").lower() in _KNOWN


def _is_word(text: str) -> bool:
    """A word or three of a language, or a small number: our sentences have such."""
    return len(text) <= 2 * _RANDOM and _WORD.fullmatch(text) is not None


def _is_mixed(text: str) -> bool:
    return re.search(r"\d", text) is not None and re.search(r"[A-Za-z]", text) is not None


def _forms(secrets: Iterable[str]) -> tuple[str, ...]:
    """All spellings of the secrets, in lower case."""
    found = {form.translate(_FOLDED) for secret in secrets for form in _spellings(secret)}
    return tuple(form for form in found if len(form) >= _SHORT)


def _spellings(secret: str) -> Iterator[str]:
    for one in {secret, unquote(secret, errors="replace"), unquote_plus(secret, errors="replace")}:
        yield from forms_of(one)
        html = escape(one)
        yield from (html, escape(one, quote=False), html.replace("&#x27;", "&#39;"), html.replace("&quot;", "&#34;"))
        yield from (repr(one)[1:-1], json.dumps(one).replace("/", "\\/")[1:-1], one.replace('"', '\\"'))
    yield secret.rstrip("=")
    yield from _encoded(secret)


def _encoded(secret: str) -> Iterator[str]:
    raw = secret.encode("utf-8", "replace")
    yield base64.b64encode(raw).decode().rstrip("=")
    yield base64.urlsafe_b64encode(raw).decode().rstrip("=")
    yield raw.hex()


def _long(secret: str) -> Iterator[str]:
    """The spellings whose runs are hidden; a URL has too much in common with others, and so has a plain word."""
    if len(secret) < _LONG or _is_word(secret) or "://" in secret:
        return
    if re.search(r"[\s,;&]", secret) and len(secret.split()) < len(secret) / 4:
        return  # it is put together: the parts are secrets by themselves
    for text in (secret, *_encoded(secret)):
        yield text[:_MOST].translate(_FOLDED)


def _of_exchange(exchange: Exchange) -> Iterator[str]:
    """What is secret in a request and its answer (rule 1)."""
    yield from secrets_of_url(exchange.url)
    for sent in credentials_of(exchange.url, exchange.sent.pairs):
        yield from _parts(sent.raw)
    for name, value in exchange.sent:
        if name.lower() in {"referer", "origin"}:
            yield from secrets_of_url(value)
        elif not is_harmless(name):
            yield from (one for one in _parts(value) if len(one) >= _SHORT)
    received = [
        cookie.partition(";")[0].partition("=")[2].strip() for cookie in exchange.received.get_list("Set-Cookie")
    ]
    for location in exchange.received.get_list("Location"):
        received += secrets_of_url(location)
    yield from (one for one in received if len(one) >= _LEAST_RECEIVED and not (one.islower() and one.isalpha()))


def secrets_of_url(url: str, depth: int = 3) -> set[str]:
    """What is secret in a URL: user and password, the values of its query, and what looks random in its path."""
    try:
        parts = _split(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
        pairs += parse_qsl(parts.fragment, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return {url}
    values = {value or name for name, value in pairs if value or f"{name}=" not in url}
    values |= {raw.partition("=")[2] or raw for raw in parts.query.split("&") if not raw.endswith("=")}
    found: set[str] = set()
    for value in values:  # a URL in a URL, as a login page gets it, is one by itself
        plain = unquote(value, errors="replace")
        inner = depth > 0 and (plain.startswith("/") or "://" in plain)
        found |= secrets_of_url(plain, depth - 1) if inner else {value}
    for segment in parts.path.split("/"):
        plain, *behind = segment.split(";")
        found |= {one.partition("=")[2] or one for one in behind}
        found |= {one for one in _PATH_PART.findall(plain) if _is_mixed(one)}
        found |= _of_person(unquote(_userinfo(plain), errors="replace"))
    found |= {unquote(one, errors="replace") for one in found}
    if "@" in parts.netloc:
        found |= _of_person(unquote(parts.netloc.rpartition("@")[0], errors="replace"))
    return {one for one in found if len(one) >= _LEAST_VALUE or (len(one) == _SHORT and not one.isalpha())}


def without_secrets(url: str) -> str:
    """`url` as it may be shown: without user and password, values of its query, and what looks random in its path."""
    try:
        parts = _split(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return "a URL that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    named = {unquote_plus(one.partition("=")[0]) for one in parts.query.split("&") if "=" in one}
    query = "&".join(f"{_shown(name)}=…" if name in named else "…" for name, _ in pairs)
    path = "/".join(_shown(segment) for segment in parts.path.split("/"))
    return urlunsplit((parts.scheme, host, path, query, ""))


def _split(url: str) -> SplitResult:
    """`url` in its parts, also one of which the scheme was left out: `user:password@host`.

    Raises:
        ValueError: it cannot be read; or a password with `/`, `?` or `#` in it stands where host and port should.
    """
    begin, *_ = re.split(r"[/?#]", url, maxsplit=1)
    parts = urlsplit(f"//{url}" if _userinfo(begin) else url)
    if "@" in url:
        _ = parts.port  # raises for a port that is no number
    return parts


def _userinfo(segment: str) -> str:
    """User and password in a segment of a path: the URL has a slash too few, or a scheme that is none."""
    userinfo = segment.rpartition("@")[0]
    return userinfo if ":" in userinfo else ""


def _shown(segment: str) -> str:
    """A segment of a path, or a parameter's name."""
    plain, semicolon, _ = segment.partition(";")
    plain = plain.removeprefix(_userinfo(plain))
    return _PATH_PART.sub(lambda match: "…" if _is_mixed(match[0]) else match[0], plain) + (";…" if semicolon else "")


def _parts(value: str) -> set[str]:
    """A credential's parts that are secrets by themselves."""
    scheme, space, rest = value.strip().partition(" ")
    if _is_known(value) or _is_known(rest):
        return set()
    is_like = nearest_scheme(scheme) is not None or (_WORD.fullmatch(scheme) is not None and " " not in rest.strip())
    is_scheme = bool(space and rest.strip()) and is_like
    told = _HOW.sub(" ", rest if is_scheme else value)
    found = {value, value.strip(), rest.strip() if is_scheme else "", *_pieces(told)}
    access = re.search(r"\bcredential=([^/,;\s]+)", value, re.IGNORECASE)
    found |= {access[1]} if access else set()
    for word in list(found):
        decoded = basic(word.rstrip("=")) or ""
        if ":" in decoded:  # Basic, RFC 7617 §2; ApiKey, Elasticsearch
            found |= _of_person(decoded)
    return {one for one in found if len(one) > _SHORT or (len(one) == _SHORT and not one.isalpha())}


def _pieces(value: str) -> Iterator[str]:
    """Words, and what is behind `:` and `=` in them; names in front of these are none."""
    for word in re.split(r"[\s,;&]+", value):
        if not word.endswith(":"):  # a name, and what it names comes after it
            yield word.strip(_AROUND)
        pieces = re.split(r"[:=\"']+", word, maxsplit=_PIECES)
        yield from pieces[1:]
        yield from (pieces[0],) if _is_mixed(pieces[0]) and len(pieces[0]) >= _LEAST_RECEIVED else ()
        cut = re.search(r"[:=]", word)
        if cut is not None:
            yield word[cut.end() :].strip(_AROUND)
    for pair in value.split(";"):  # cookies, which may have blanks in them
        yield pair.partition("=")[2].strip()


def _of_person(userinfo: str) -> set[str]:
    """User and password; a user by itself is a secret where it is all there is, or looks like a key."""
    user, _, password = userinfo.partition(":")
    found = {userinfo, password}
    if not password or len(user) >= _LONG or (_is_mixed(user) and len(user) >= 2 * _LEAST_VALUE):
        found.add(user)
    return found
