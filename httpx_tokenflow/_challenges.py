"""`WWW-Authenticate`, read by the grammar of RFC 9110 §11 and with patience for what servers really send.

Rules.

1. Nothing raises, whatever the text. What cannot be read is skipped up to the next comma outside quotes, and
   reading goes on there: a malformed challenge does not hide the one that follows.
2. At the start of a list element, a word followed by `=` is a parameter of the challenge before it; any other
   word is a scheme and begins a challenge. Parameters before any scheme belong to nobody. Every field is read
   on its own.
3. After a scheme, what fits token68 and fills its list element is token68: by RFC 9110 §11.2, the `realm=` of
   `Bearer realm=` too.
4. A quote opens a string only where a word or a value can begin; one that is never closed runs to the end of
   the field. An apostrophe is an ordinary character of a token (RFC 9110 §5.6.2): it stays in the value.
5. Tolerated beyond the grammar: a missing comma between parameters, an empty value, an unquoted value of any
   characters but white space and commas (URLs, mostly), parameters after `scheme,` or after token68.
6. The first of two parameters of one name wins. RFC 9110 §11.2 forbids the second, so it is a mistake or was
   added on the way, and neither may replace what the server said first.
7. The work is linear in the text, and bounded: `FIELD_LIMIT` characters of each field and `CHALLENGE_LIMIT`
   challenges of a response are read. The rest is ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Challenge", "parse_challenges"]

FIELD_LIMIT = 16 * 1024
CHALLENGE_LIMIT = 64

_MAX_AGE_DIGITS = 10  # three centuries; more is no age, and int() refuses thousands of digits

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")  # RFC 9110 §5.6.2
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+")  # RFC 9110 §11.2
_PADDING = re.compile("=+")
_SPACE = re.compile(r"[ \t]+")  # OWS and BWS, RFC 9110 §5.6.3
_BETWEEN = re.compile(r"[ \t,]+")  # empty list elements count for nothing, RFC 9110 §5.6.1.2
_VALUE = re.compile(r"[^ \t,]+")
_GARBAGE = re.compile(r"[ \t=]+|[^ \t,=]+")
_QUOTED = re.compile(r'(?:[^"\\]+|\\.?)+', re.DOTALL)  # what is between the quotes, RFC 9110 §5.6.4
_QUOTED_PAIR = re.compile(r"\\(.?)", re.DOTALL)

# What is behind a word. The empty string is what a cursor sees at the end.
_ELEMENT_END = frozenset({",", ""})
_WORD_END = _ELEMENT_END | {" ", "\t"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """One parsed challenge of a WWW-Authenticate field (RFC 9110 §11.6.1).

    `scheme` is as the server spelt it; the names in `params` are lower-cased.
    """

    scheme: str
    params: Mapping[str, str]
    token68: str | None = None

    def is_scheme(self, scheme: str) -> bool:
        """Whether this is a challenge of that scheme, in any spelling (RFC 9110 §11.1)."""
        return self.scheme.lower() == scheme.lower()

    @property
    def realm(self) -> str | None:
        """The protection space (RFC 9110 §11.5)."""
        return self.params.get("realm")

    @property
    def error(self) -> str | None:
        """Why the request was refused (RFC 6750 §3.1)."""
        return self.params.get("error")

    @property
    def error_description(self) -> str | None:
        """The same for a developer's eyes (RFC 6750 §3)."""
        return self.params.get("error_description")

    @property
    def error_uri(self) -> str | None:
        """A page that explains the error (RFC 6750 §3)."""
        return self.params.get("error_uri")

    @property
    def scope(self) -> str | None:
        """The scope that the request needs, space-separated (RFC 6750 §3)."""
        return self.params.get("scope")

    @property
    def acr_values(self) -> str | None:
        """The authentication context classes wanted, in order of preference (RFC 9470 §3)."""
        return self.params.get("acr_values")

    @property
    def max_age(self) -> int | None:
        """How many seconds ago the last login may be (RFC 9470 §3); None if it cannot be read."""
        digits = self.params.get("max_age", "")
        readable = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_AGE_DIGITS
        return int(digits) if readable else None

    @property
    def resource_metadata(self) -> str | None:
        """Where the protected resource's metadata is (RFC 9728 §5.1)."""
        return self.params.get("resource_metadata")


def parse_challenges(fields: Iterable[str]) -> tuple[Challenge, ...]:
    """Read the challenges of all `WWW-Authenticate` fields of one response, in order."""
    found: list[Challenge] = []
    # A lone str would be read character by character, each a scheme: take it for the one field that it is.
    for field in (fields,) if isinstance(fields, str) else fields:
        _read_field(_Cursor(field[:FIELD_LIMIT]), found)
        if len(found) >= CHALLENGE_LIMIT:
            break
    return tuple(found[:CHALLENGE_LIMIT])


class _Cursor:
    """A place in a text. Readers step back over one word at most, which keeps the work linear."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> str:
        """Read what fits; else read nothing."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]


def _read_field(cursor: _Cursor, found: list[Challenge]) -> None:
    params: dict[str, str] = {}  # nobody's, until there is a scheme
    cursor.take(_BETWEEN)
    while cursor.peek():
        if scheme := _read_scheme(cursor):
            params = {}
            found.append(Challenge(scheme, MappingProxyType(params), _read_token68(cursor)))
        while name := _read_name(cursor):
            params.setdefault(name, _read_value(cursor))
        _skip_garbage(cursor)
        cursor.take(_BETWEEN)


def _read_scheme(cursor: _Cursor) -> str:
    """Read a word that stands alone, and the space after it; else read nothing."""
    start = cursor.at
    word = cursor.take(_TOKEN)
    alone = cursor.peek() in _WORD_END
    cursor.take(_SPACE)
    if alone and cursor.peek() != "=":
        return word
    cursor.at = start
    return ""


def _read_token68(cursor: _Cursor) -> str | None:
    """Read token68 if it is all that is left of the list element; else read nothing."""
    start = cursor.at
    word = cursor.take(_TOKEN68)
    padding = cursor.take(_PADDING)
    cursor.take(_SPACE)
    if word and cursor.peek() in _ELEMENT_END:
        return word + padding
    cursor.at = start
    return None


def _read_name(cursor: _Cursor) -> str:
    """Read a parameter's name and its `=`, with bad white space around the name; else read nothing."""
    start = cursor.at
    cursor.take(_SPACE)
    name = cursor.take(_TOKEN)
    cursor.take(_SPACE)
    if name and cursor.peek() == "=":
        cursor.at += 1
        return name.lower()  # RFC 9110 §11.2: names are matched in any spelling
    cursor.at = start
    return ""


def _read_value(cursor: _Cursor) -> str:
    cursor.take(_SPACE)
    return _read_quoted(cursor) if cursor.peek() == '"' else cursor.take(_VALUE)


def _read_quoted(cursor: _Cursor) -> str:
    """Read a quoted-string and resolve its quoted pairs (RFC 9110 §5.6.4)."""
    cursor.at += 1
    text = cursor.take(_QUOTED)
    cursor.at += 1
    return _QUOTED_PAIR.sub(r"\1", text)


def _skip_garbage(cursor: _Cursor) -> None:
    """Go on to the next comma, past those within quotes: they separate nothing."""
    while (char := cursor.peek()) not in _ELEMENT_END:
        if char == '"':
            _read_quoted(cursor)
        else:
            cursor.take(_GARBAGE)
