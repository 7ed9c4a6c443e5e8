"""Hostile input out of plain bytes: whoever chooses the bytes (a fuzzer, hypothesis, a file) chooses the input.

The first bytes say what is made, the rest what it is made of, so that a small change of the bytes is a small change of
the input. JSON is written here as text, since much of what is hostile no JSON writer would write: a number of 5,000
digits, one name twice, NaN, half a surrogate pair, lists in lists without end.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

SECRET = "SENTINEL-8f3a6c1e5b7d"  # what we hold or have sent: no error may tell it

TEXTS = (
    "", " ", "a", "0", "-1", "\0", "\r\n", "\t", "\x7f", "\x85", "\u2028", "\ud800", "\udcff", "\ufeff", "\U0010ffff",
    "ä",
    "=", ",", ";", '"', "'", "\\", "&", "?", "#", "@", ":", "/", "//", "[", "]", "{}", "..", "%41", "%", "%zz", "+",
    "<b>",
    "http://", "https://as.example", "https://[::1", "https://a.example:99999999999", "https://\u2100.example",
    "http://127.0.0.1/", "null", "NaN", "1e999", "9" * 400, "x" * 100, SECRET, "Bearer", "DPoP", "N_A",
    "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 99 Foo 99999999 99:99:99 +9999999", "2026-11-21T17:00:00+99:99",
)  # fmt: skip
SCALARS = (
    "null", "true", "false", "0", "-0", "1", "-1", "3600", "1e400", "-1e400", "1e308", "1E-400", "NaN", "Infinity",
    "-Infinity", "1.5", "9" * 4300, "9" * 4301, "1" + "0" * 400, '""', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"',
    '"\\u202e"', "[]", "{}", "[[]]", '{"": null}', "1800000000", "1800000000000",
)  # fmt: skip

DEPTHS = (1, 2, 3, 14, 15, 16, 17, 40, 100, 1200)  # all of them, up to what Python bears, are for `growth`


class Draws:
    """What is drawn from `data`; when that is used up, the first of everything.

    Args:
        data: any bytes.
        names: names of members that mean something where the JSON goes.
        words: texts that mean something there.
    """

    def __init__(self, data: bytes, names: Sequence[str] = (), words: Sequence[str] = ()) -> None:
        self._data = data
        self._at = 0
        self._names = names or TEXTS
        self._words = (*words, *TEXTS)

    def byte(self) -> int:
        """One byte; 0 at the end."""
        at, self._at = self._at, self._at + 1
        return self._data[at] if at < len(self._data) else 0

    def number(self, most: int) -> int:
        """0 to `most`, which is less than 65,536."""
        return (self.byte() if most < 256 else self.byte() << 8 | self.byte()) % (most + 1)

    def pick(self, several: Sequence[T]) -> T:
        """One of them."""
        return several[self.number(len(several) - 1)]

    def bytes(self, most: int = 64) -> bytes:
        """So many of the next bytes, as they are."""
        size = self.number(most)
        at, self._at = self._at, self._at + size
        return self._data[at : at + size]

    def rest(self) -> bytes:
        """All that is left, as it is."""
        at, self._at = self._at, len(self._data)
        return self._data[at:]

    def text(self) -> str:
        """A text: one that means something, several of these, or any characters."""
        kind = self.number(7)
        if kind < 4:
            return self.pick(self._words)
        if kind == 4:
            return "".join(self.pick(self._words) for _ in range(self.number(6)))
        if kind == 5:
            return self.pick(self._words)[:20] * self.number(40)
        raw = self.bytes()
        return raw.decode("latin-1") if kind == 6 else raw.decode("utf-8", "surrogateescape")

    def line(self) -> str:
        """A text that a header field can have, as a client reads it."""
        return self.text().encode("utf-8", "surrogatepass").decode("latin-1").translate({0: " ", 10: " ", 13: " "})

    def maybe(self, value: T) -> T | None:
        """`value`, or None."""
        return value if self.byte() & 1 else None

    def json(self, depth: int = 3) -> str:
        """The text of a JSON value, or of what was meant to be one."""
        kind = self.number(9) if depth else self.number(3)
        if kind < 2:
            return self.pick(SCALARS)
        if kind < 4:
            return json.dumps(self.text())
        if kind == 4:
            deep = self.pick(DEPTHS)
            return "[" * deep + self.pick(SCALARS) + "]" * deep
        if kind == 5:
            return f"[{','.join(self.json(depth - 1) for _ in range(self.number(4)))}]"
        return self.object(depth - 1)

    def object(self, depth: int = 3) -> str:
        """The text of a JSON object; a name may be there twice."""
        members = (f"{json.dumps(self.name())}:{self.json(depth)}" for _ in range(self.number(8)))
        return "{" + ",".join(members) + "}"

    def name(self) -> str:
        """Of a member, one that means something mostly."""
        return self.pick(self._names) if self.byte() % 8 else self.text()

    def body(self) -> bytes:
        """Of an answer: JSON mostly, in UTF-8 and other ways of writing it; or any bytes."""
        kind = self.number(9)
        if kind == 0:
            return self.rest()
        if kind == 1:
            return self.json().encode(self.pick(("utf-16", "utf-32", "utf-8-sig", "utf-16-be")), "surrogatepass")
        text = self.object() if kind < 9 else self.json()
        return text.encode("utf-8", "surrogatepass")


def below(function: Callable[[], T], frames: int = 60) -> T:
    """What `function` returns, called from further down: what was parsed up here may be too deep for it."""
    return function() if frames == 0 else below(function, frames - 1)


def told(error: BaseException) -> str:
    """All that an error tells of itself, and of its causes, to whoever shows or logs it."""
    found: list[str] = []
    one: BaseException | None = error
    while one is not None:
        found += [str(one), repr(one), repr(vars(one))]
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return " ".join(found)


def sure(is_so: object, what: str, *shown: Any) -> None:
    """What must hold, in optimised programs as well."""
    if not is_so:
        raise AssertionError(f"{what}: {', '.join(f'{one!r:.300}' for one in shown)}")
