"""The words that a shell makes of a text: what was pasted whole, instead of given to a shell.

The rules are a POSIX shell's, with ``$'…'`` as bash has it (and browsers write it). Nothing is put in: no variable, no
command, no file name.
"""

from __future__ import annotations

import re

from httpx_tokenflow import ConfigurationError

__all__ = ["words_of"]

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
_CODE = re.compile(r"x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|([0-7]{1,3})")
_EXPANDED = re.compile(r"\$[A-Za-z_{(]|`")
_UNQUOTED = re.compile(r"[^\s'\"\\$`|&;<>]+")


def words_of(text: str) -> list[str]:
    """The words that a shell makes of `text`, up to where a pipe or a redirection begins.

    Raises:
        ConfigurationError: a quote is not closed, or the shell would put something in (`$NAME`) that is not known here.
    """
    text = text.replace("\r\n", "\n").strip()
    if re.search(r"\s\^(\s*\n|\")", text):
        raise ConfigurationError('this is a command line for cmd.exe: take "Copy as cURL (bash)"')
    words: list[str] = []
    at, word = 0, None
    while at < len(text):
        char = text[at]
        if char in " \t\n":
            if word is not None:
                words.append(word)
            at, word = at + 1, None
        elif char in "|;<>\0":
            break
        elif char == "&":
            raise ConfigurationError("an & without quotes ends a command in a shell: put the URL in quotes")
        else:
            piece, at = _piece(text, at)
            word = word if piece is None else (word or "") + piece
    return words if word is None else [*words, word]


def _piece(text: str, at: int) -> tuple[str | None, int]:
    """One piece of a word, quoted or not, and where it ends; None for a line that goes on."""
    char = text[at]
    if char == "\\":
        return (None, at + 2) if text[at + 1 : at + 2] in {"\n", ""} else (text[at + 1], at + 2)
    if char == "'":
        end = _closing(text, "'", at + 1)
        return text[at + 1 : end], end + 1
    if text.startswith("$'", at):
        return _ansi(text, at + 2)
    if char == '"':
        return _double(text, at + 1)
    _check_expanded(text, at)
    if char in "$`":
        return char, at + 1
    found = _UNQUOTED.match(text, at)
    return (text[at], at + 1) if found is None else (found[0], found.end())


def _closing(text: str, quote: str, at: int) -> int:
    end = text.find(quote, at)
    if end < 0:
        raise ConfigurationError("the curl command line has a quote that is not closed")
    return end


def _double(text: str, at: int) -> tuple[str, int]:
    """What is in double quotes: a backslash is one, except before a few."""
    found: list[str] = []
    while True:
        char = text[at : at + 1]
        if not char:
            raise ConfigurationError("the curl command line has a quote that is not closed")
        if char == '"':
            return "".join(found), at + 1
        if char == "\\" and text[at + 1 : at + 2] in {"\\", '"', "$", "`", "\n"}:
            found.append(text[at + 1].replace("\n", ""))
            at += 2
            continue
        _check_expanded(text, at)
        found.append(char)
        at += 1


def _ansi(text: str, at: int) -> tuple[str, int]:
    """What is in ``$'…'``, with its escapes."""
    found: list[str] = []
    while True:
        char = text[at : at + 1]
        if not char:
            raise ConfigurationError("the curl command line has a quote that is not closed")
        if char == "'":
            return "".join(found), at + 1
        if char != "\\":
            found.append(char)
            at += 1
            continue
        code = _CODE.match(text, at + 1)
        if code is None:
            found.append(_ESCAPES.get(text[at + 1 : at + 2], text[at + 1 : at + 2]))
            at += 2
        else:
            number = int(next(one for one in code.groups() if one), 8 if code[4] else 16)
            found.append(chr(number) if number < 0x110000 else "�")
            at = code.end()


def _check_expanded(text: str, at: int) -> None:
    if _EXPANDED.match(text, at):
        raise ConfigurationError(
            "the curl command line has something that a shell would put in ($NAME, $(…)): have the shell do that, with "
            "tokenflow doctor -- curl …"
        )
