"""``tokenflow inspect``: a token explained by itself. Nothing is sent, and nothing is verified.

Rules.

1. Whatever was pasted is taken: a token, a whole `Authorization` line, the JSON of a token endpoint's answer. What was
   around the token is said, since a program may send it along.
2. The token is shown as a hash and its length; its claims are shown, its signature never.
3. The exit status is 0 where nothing is wrong with it, 1 where something is, 2 where there is no token to read.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow.doctor import Reading, read_token
from httpx_tokenflow.doctor._front import Sieve

from ._asked import from_input
from ._doctor import looking
from ._token_words import lines_of, printable, seems, troubles
from ._verdict import console, section, sifted, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

__all__ = ["inspect"]

_LIMIT = 64 * 1024  # characters
# Possessive: of many blanks there is one way to read them, and not a way for each.
_LINE = re.compile(r"\s*+(?:-H\s*+)?+[\"']?+\s*+(?:proxy-)?authorization\s*+:\s*+", re.IGNORECASE)
_SCHEME = re.compile(r"\s*(bearer|dpop|token|apikey|jwt|oauth)\s+(?=\S)", re.IGNORECASE)
_AROUND = " \t\r\n\"'`,;“”‘’"  # noqa: RUF001 - what people paste
_TOKENS = ("access_token", "id_token", "refresh_token")  # of a token endpoint's answer (RFC 6749 §5.1)


@dataclass(frozen=True, slots=True)
class _Found:
    """One token, read."""

    name: str
    value: str = field(repr=False)
    reading: Reading
    around: tuple[str, ...] = ()

    def problems(self, now: float) -> list[str]:
        """What is wrong with it."""
        return [*self.around, *troubles(self.reading, now)]

    def to_dict(self, now: float) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "kind": self.reading.kind,
            "seems": seems(self.reading, self.value),
            "shown": self.reading.shown,
            "problems": self.problems(now),
            "header": self.reading.header,
            "claims": self.reading.claims,
        }


def inspect(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="TOKEN", help="The token; - or none for standard input.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: a list of tokens.")] = False,
) -> None:
    """Explain a token by itself: what it is, what is in it, what is wrong with it.

    It takes a token, a whole "Authorization: Bearer …" line, or the JSON that a
    token endpoint answered with. It sends nothing, and verifies no signature.

    $ tokenflow inspect "$TOKEN"

    $ tokenflow token | tokenflow inspect

    The exit status is 0 if nothing is wrong with it, 1 if something is, 2 if
    there is no token.

    --json has a list of {"name", "kind", "seems", "shown", "problems", "header",
    "claims"}, one for each token.
    """
    status = 2
    with looking():
        # Without quotes, a shell makes several words of "Bearer …": typer would quote them, and they are the secret.
        text = from_input("the token") if not words or words == ["-"] else " ".join(words)
        found, now = list(_tokens_in(text)), time.time()
        status = 1 if any(one.problems(now) for one in found) else 0
        if as_json:
            shown = [sifted(one.to_dict(now), _sieve(found).sift_ours) for one in found]
            print(json.dumps(shown, indent=2))  # noqa: T201 - what is asked for
        else:
            with console() as to:
                _show(found, now, to)
    raise typer.Exit(status)


def _tokens_in(text: str) -> Iterator[_Found]:
    """The tokens in what was pasted (rule 1)."""
    if not text.strip():
        raise ConfigurationError("there is no token: it is empty")
    if len(text) > _LIMIT:
        raise ConfigurationError(f"this is no token: it has more than {_LIMIT} characters")
    if text.lstrip().startswith("{"):
        yield from _in_answer(text)
        return
    line = _LINE.match(text)
    bare = _after(line, text) if line else text
    scheme = _SCHEME.match(bare)
    if scheme:
        bare = bare[scheme.end() :]
    value = bare.strip(_AROUND)
    around = [] if value == bare else [_around(bare, value)]
    if not value or (" " in value and not value.startswith("ey")):
        raise ConfigurationError("there is no token in this: one is a word without spaces")
    whole = "".join(value.split())
    if whole != value:
        around.append("it is broken by a space or a line break: a token is one word")
    if bad := [one for one in whole if not (one.isascii() and one.isprintable())]:
        around.append(f"it has characters that no token has: {', '.join(sorted({f'U+{ord(one):04X}' for one in bad}))}")
    yield _Found("token", whole, read_token(whole), tuple(around))


def _after(name: re.Match[str], line: str) -> str:
    """The value in a header's line, without the quote that closes the line."""
    value = line[name.end() :].rstrip()
    return value[:-1].rstrip() if value.endswith(('"', "'")) else value


def _around(bare: str, value: str) -> str:
    begin, _, end = bare.partition(value) if value else (bare, "", "")
    what = "quotes" if set("\"'`“”‘’") & set(begin + end) else "white space or punctuation"  # noqa: RUF001 - likewise
    return f"there is {what} around it, which is no part of it: does your program send that along?"


def _in_answer(text: str) -> Iterator[_Found]:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigurationError("this begins as JSON, and cannot be read as such") from None
    values = {name: answer.get(name) for name in _TOKENS}
    if not any(isinstance(value, str) and value for value in values.values()):
        told = answer.get("error")
        more = f"; it is an error: {printable(told, 100)}" if isinstance(told, str) else ""
        raise ConfigurationError(f"this JSON has none of {', '.join(_TOKENS)} in it{more}")
    for name, value in values.items():
        if isinstance(value, str) and value:
            yield _Found(name, value, read_token(value))


def _show(found: list[_Found], now: float, to: Console) -> None:
    from rich.text import Text

    sieve = _sieve(found)

    def clean(text: str) -> str:
        return printable(sieve.sift_ours(text), 2000)

    for at, one in enumerate(found):
        if at:
            to.print()
        problems = one.problems(now)
        name = "" if one.name == "token" else f"{one.name}: "
        style = "bold red" if problems else "bold green"
        to.print(Text(clean(f"{name}{seems(one.reading, one.value)}"), style=style), soft_wrap=not to.is_terminal)
        to.print(table_of([*(("problem", clean(problem)) for problem in problems), ("hash", one.reading.shown)]))
        if one.reading.header or one.reading.claims:
            section(to, "What is in it (not verified)")
            rows = [(clean(line.name), clean(line.value), clean(line.meaning)) for line in lines_of(one.reading, now)]
            to.print(table_of(rows))


def _sieve(found: list[_Found]) -> Sieve:
    """Hides the tokens, whole, and their signatures."""
    values = {one.value for one in found}
    return Sieve(frozenset(values | {value.rpartition(".")[2] for value in values if "." in value}))
