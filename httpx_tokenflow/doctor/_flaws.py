"""What crept into a credential on its way from where it is kept to the header field, and how it reads without.

Rules.

1. A flaw is named with its place, by number from 1, and the name of the character. The credential is not quoted.
2. What may be right is no flaw: parameters have quotes and commas (Digest, OAuth 1.0), a scheme that is not known may
   have any credential behind it, and a cookie is no business of ours.
3. The flaws that are found are taken out one after the other; what is left is `scheme` and `value`.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from httpx_tokenflow._answers import json_of

from ._placeholders import nothing_in
from ._sent import KEY_FIELDS, basic, canonical, is_key_field, is_misspelt, nearest_scheme

if TYPE_CHECKING:
    from ._sent import Sent

__all__ = ["Flaw", "Spelling", "spelling"]

LIMIT = 64 * 1024  # characters that are looked at
_SCHEME_LIMIT = 60  # characters, in which a scheme stands, with what is around it
_BREAKS = "\r\n\v\f\x85\u2028\u2029"
_QUOTES = {"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "«": '"', "»": '"', "´": "'"}  # noqa: RUF001 - what is pasted
_PAIRS = {'"': '"', "'": "'", "`": "`", "<": ">", "[": "]", "(": ")"}
_PARAMETERS = re.compile(r"[A-Za-z][A-Za-z0-9_*-]*\s*=\s*[^=\s]")
_ONE_WORD = frozenset({"", "bearer", "basic", "token", "apikey", "api-key", "key", "jwt", "dpop", "ssws", "oauth"})
_TAIL = re.compile(r"(?:[,;:)\]}\\]|[rn]\\)+")  # of a credential that is read from its end, in linear time
_NAMES = {"\t": "TABULATOR", "\r": "CARRIAGE RETURN", "\n": "LINE FEED", "\x85": "NEXT LINE", "\0": "NULL"}


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is amiss.

    Args:
        kind: the id of the cause that it is.
        text: what it is and where, in words.
        is_fatal: no server that keeps to the grammar can accept it.
    """

    kind: str
    text: str
    is_fatal: bool = True


@dataclass(slots=True)
class Spelling:
    """How a credential reads without its flaws.

    Args:
        place: where it was sent.
        text: what is still to be read.
        scheme: as its specification writes it, if it is one that is known; else as it was sent.
        value: the credential itself.
        flaws: what was taken out.
    """

    place: str
    text: str = field(repr=False)
    scheme: str = field(default="", repr=False)
    value: str = field(default="", repr=False)
    flaws: list[Flaw] = field(default_factory=list)

    def note(self, kind: str, text: str, *, fatal: bool = True) -> None:
        """Add a flaw; of one kind the first is enough."""
        if all(flaw.kind != kind for flaw in self.flaws):
            self.flaws.append(Flaw(kind, text, fatal))

    def flaw(self, kind: str) -> Flaw | None:
        """The flaw of that kind, if there is one."""
        return next((flaw for flaw in self.flaws if flaw.kind == kind), None)


def spelling(sent: Sent) -> Spelling:
    """Read what was sent, and take out its flaws."""
    read = Spelling(sent.place, sent.raw[:LIMIT])
    if sent.place in {"Cookie", "URL"}:
        read.scheme, read.value = sent.scheme, sent.value
        return read
    if nothing_in(sent) is not None:
        read.scheme, read.value = sent.scheme, sent.value
        return read
    _take_characters(read)
    _take_name(read)
    if sent.place == "Authorization" or _has_scheme(sent):
        _take_outer_quotes(read)
        _take_scheme(read)
    else:
        read.value, read.text = read.text, ""
    if read.scheme == "Basic":
        _take_basic(read)
    elif read.scheme.lower() in _ONE_WORD and not (_has_parameters(read) and read.scheme != "Bearer"):
        _take_value(read)
    return read


def _has_scheme(sent: Sent) -> bool:
    """A field that was meant to be Authorization, or one in its place that has a scheme (X-Authorization)."""
    is_like = sent.place.lower().endswith(("authorization", "auth")) and not sent.place.startswith("?")
    return is_misspelt(sent.place) or (is_like and canonical(sent.raw.lstrip().partition(" ")[0]) is not None)


def _called(char: str) -> str:
    name = _NAMES.get(char) or unicodedata.name(char, "a control character")
    return f"U+{ord(char):04X} {name}"


def _take_characters(read: Spelling) -> None:
    """Line breaks, invisible characters, and those that no header field may have."""
    text = read.text
    if text.isascii() and text.isprintable():
        return  # as nearly all are; the rest takes a millisecond for a JWT
    kept: list[str] = []
    end = len(text.rstrip())
    for at, char in enumerate(text, 1):
        category = unicodedata.category(char)
        if char in _BREAKS:
            tail = "it ends with a line break" if at > end else "it has a line break in it"
            read.note("line-break", f"{tail}: character {at} of {len(text)} is {_called(char)}")
            # What was wrapped goes together again; a scheme and what it is for do not.
            is_scheme = len(kept) <= _SCHEME_LIMIT and canonical("".join(kept).strip().strip("\"'"))
            kept.append(" " if is_scheme else "")
        elif category in {"Cf", "Cc", "Co", "Cn"} and char != "\t":
            read.note("invisible-character", f"character {at} of {len(text)} is {_called(char)}")
        elif category == "Zs" and char != " ":
            read.note("invisible-character", f"character {at} of {len(text)} is {_called(char)}, and no plain space")
            kept.append(" ")
        elif char in _QUOTES:
            read.note("quotes", f"character {at} of {len(text)} is {_called(char)}")
            kept.append(_QUOTES[char])
        else:
            if ord(char) > 126:
                read.note("non-ascii", f"character {at} of {len(text)} is {_called(char)}")
            kept.append(char)
    read.text = "".join(kept)


def _take_name(read: Spelling) -> None:
    """The name of the field once more, in its value."""
    name, colon, rest = read.text.strip().strip("\"'").partition(":")
    name = name.strip()
    is_known = name.lower() in {"authorization", "proxy-authorization"} | KEY_FIELDS
    if colon and (is_known or ("-" in name and is_key_field(name))):
        read.note("field-name-in-value", f"the value of {read.place} begins with {name}: once more")
        read.text = rest.lstrip()


def _take_outer_quotes(read: Spelling) -> None:
    """Quotes around scheme and credential; those around the credential alone come later."""
    text = read.text.strip(" \t")
    if len(text) > 1 and text[0] in "\"'`" and text[-1] == text[0]:
        read.note("quotes", f"the whole value of {read.place} is between two {_called(text[0])}")
        read.text = text[1:-1]


def _take_scheme(read: Spelling) -> None:
    text = read.text
    if text != text.strip(" \t"):
        end = "begins" if text[:1] in " \t" else "ends"
        read.note("extra-space", f"the value of {read.place} {end} with white space", fatal=False)
    words = text.strip(" \t")
    match = re.match(r"(\S+)([ \t]+)", words)
    if match is None:
        _take_sole_word(read, words)
        return
    word, space = match[1], match[2]
    if space != " ":
        _note_space(read, len(text) - len(text.lstrip(" \t")) + len(word), space)
    read.value = words[match.end() :]
    meant = nearest_scheme(word)
    read.scheme = meant or word
    if meant is not None and meant.lower() != word.lower():
        read.note("scheme-misspelt", f"the scheme is spelt {word!r}, and meant is {meant!r}")
    elif word != canonical(word) and meant is not None:
        read.note("scheme-case", f"the scheme is spelt {word!r}, and registered as {meant!r}", fatal=False)
    _take_more_schemes(read)


def _note_space(read: Spelling, at: int, space: str) -> None:
    if "\t" in space:
        text = f"character {at + 1 + space.index(chr(9))} is {_called(chr(9))}, where one space is to be"
    else:
        text = f"there are {len(space)} spaces between the scheme and the credential (characters {at + 1} to "
        text += f"{at + len(space)}), where one is to be"
    read.note("extra-space", text, fatal="\t" in space)


def _take_more_schemes(read: Spelling) -> None:
    """`Bearer Bearer x`: the second, and any further, is one too many."""
    while True:
        word, space, rest = read.value.partition(" ")
        known = canonical(word.strip("\"':"))
        if not space or known is None or not rest.strip():
            return
        read.note("doubled-scheme", f"after {read.scheme} there is {known} once more, and then the credential")
        read.scheme, read.value = known, rest.lstrip(" ")


def _take_sole_word(read: Spelling, word: str) -> None:
    """One word: a credential without a scheme, or both without a space between."""
    for mark in (":", "=", "-", "_", ""):
        for scheme in ("Bearer", "Basic"):
            glued = scheme + mark
            if word.lower().startswith(glued.lower()) and len(word) > len(glued) + 8:
                text = f"there is no space between {scheme} and the credential"
                read.note("scheme-misspelt", f"{text}{f', but {mark!r}' if mark else ''}")
                read.scheme, read.value = scheme, word[len(glued) :]
                return
    read.scheme, read.value = (canonical(word) or "", "") if canonical(word) else ("", word)


def _has_parameters(read: Spelling) -> bool:
    return _PARAMETERS.match(read.value) is not None


def _take_value(read: Spelling) -> None:
    """What is around the credential itself, and in it (RFC 6750 §2.1: letters, digits, and ``-._~+/=``)."""
    stripped = read.value.strip(" \t")
    if stripped != read.value:
        end = "begins" if read.value[:1] in (" ", "\t") else "ends"
        read.note("extra-space", f"the credential in {read.place} {end} with white space")
    read.value = stripped
    _take_answer(read)
    _take_quotes(read)
    tail = _TAIL.match(read.value[::-1])
    over = len(read.value) - (tail.end() if tail is not None else 0)
    if 0 < over < len(read.value) and read.place != "Cookie":
        names = ", ".join(_called(char) for char in read.value[over : over + 3])
        read.note("stray-characters", f"the credential ends with {names} (character {over + 1} of it)")
        read.value = read.value[:over]
        _take_quotes(read)
    if re.search(r"%[0-9A-Fa-f]{2}", read.value):
        at = read.value.index("%") + 1
        read.note("percent-encoded", f"character {at} of the credential is U+0025 PERCENT SIGN, and a code follows it")
        read.value = unquote(read.value)
    gap = re.search(r"[ \t]+", read.value)
    if gap is not None and not (read.place != "Authorization" and _is_prefixed(read.value)):
        read.note("extra-space", f"the credential has white space in it (character {gap.start() + 1} of it)")
        read.value = re.sub(r"[ \t]+", "", read.value)


def _is_prefixed(value: str) -> bool:
    """`X-API-Key: Key abc`: some want a scheme in front of the key in a field of its own as well."""
    word, _, rest = value.partition(" ")
    return canonical(word) is not None and rest != "" and rest.strip() == rest and " " not in rest and "\t" not in rest


def _take_answer(read: Spelling) -> None:
    """The whole answer of a token endpoint, or a parameter of a form, where its access token is to be."""
    token: object = None
    if read.value.startswith("{"):
        document = json_of(read.value)
        answer = document if isinstance(document, dict) else {}
        token = next((answer[name] for name in ("access_token", "accessToken", "token") if name in answer), None)
    elif re.match(r"(access_?token|token|api_?key|key)=[^=]", read.value, re.IGNORECASE):
        token = next((value for _, value in parse_qsl(read.value, max_num_fields=50)), None)
    if isinstance(token, str) and token:
        shape = "a JSON document" if read.value.startswith("{") else "the parameter of a form"
        read.note("pasted-answer", f"the credential is {shape} with the token in it")
        read.value = token


def _take_quotes(read: Spelling) -> None:
    text = read.value
    if re.fullmatch(r"b(['\"]).+\1", text):
        read.note("quotes", "the credential is between b' and ': bytes of Python, written out and not decoded")
        read.value = text[2:-1]
    elif len(text) > 2 and _PAIRS.get(text[0]) == text[-1]:
        read.note("quotes", f"the credential is between {_called(text[0])} and {_called(text[-1])}")
        read.value = text[1:-1]
    elif len(text) > 2 and (text[0] in "\"'`" or text[-1] in "\"'`"):
        end, char = ("begins", text[0]) if text[0] in "\"'`" else ("ends", text[-1])
        read.note("quotes", f"the credential {end} with {_called(char)}")
        read.value = text.strip("\"'`")


def _take_basic(read: Spelling) -> None:
    """User and password in base64 (RFC 7617 §2)."""
    value = read.value.strip(" \t\"'")
    if not value:
        read.value = value
        return
    if value != read.value:
        kind = "extra-space" if value == read.value.strip(" \t") else "quotes"
        read.note(kind, f"there is more than the credential after {read.scheme}", fatal=kind == "quotes")
    decoded = basic(value)
    if decoded is None and ":" in value:
        read.note("basic-malformed", "user and password are in clear text, with a colon, and not in base64")
        decoded = value
    elif decoded is None:
        read.note("basic-malformed", "what follows Basic is no base64")
        read.value = value
        return
    elif ":" not in decoded:
        read.note("basic-malformed", "what follows Basic is base64, and has no colon between user and password")
        read.value = value
        return
    _note_base64(read, value)
    mended = decoded.rstrip("\r\n")
    if mended != decoded:
        read.note("basic-malformed", "the password ends with a line break (echo adds one; echo -n and printf do not)")
    is_amiss = read.flaw("basic-malformed") is not None
    read.value = base64.b64encode(mended.encode("utf-8", "replace")).decode() if is_amiss else value


def _note_base64(read: Spelling, value: str) -> None:
    """The ways in which base64 that can be read is another than RFC 7617 has it."""
    if "-" in value or "_" in value:
        read.note("basic-malformed", "the base64 is that for URLs, with - and _, not the one of RFC 4648 §4")
    elif len(value) % 4 and basic(value) is not None:
        read.note("basic-malformed", "the = at the end of the base64 is missing")
    elif basic(value) is not None:
        try:
            base64.b64decode(value).decode()
        except (UnicodeDecodeError, ValueError):
            read.note("basic-malformed", "user and password are not in UTF-8", fatal=False)
