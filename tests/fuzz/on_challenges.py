"""`WWW-Authenticate`: any text is read, and nothing raises (`_challenges`, rule 1)."""

from __future__ import annotations

import string

from httpx_tokenflow._challenges import CHALLENGE_LIMIT, FIELD_LIMIT, Challenge, parse_challenges

from .draws import Draws, sure

WORDS = (
    "Bearer", "Basic", "DPoP", "Negotiate", " ", ", ", ",", "=", '"', "\\", '\\"', "realm", 'realm="a"', "error=",
    'error="invalid_token"', "scope", "max_age=", "max_age=3600", "resource_metadata=", "abc==", "a=b", "\t", ";",
    "'x'",
)  # fmt: skip
SEEDS = (
    b'\x01Bearer realm="api", error="invalid_token", error_description="a \\"b\\""',
    b'\x01Negotiate abc==, Basic realm=x\nDPoP algs="ES256"',
    b'\x01Bearer error="unclosed, Basic realm="x"',
    b'\x01Bearer max_age=99999999999999999999, max_age="12"',
    b"\x00\x05\x03\x00\x06\x08\x02\x0d",
)  # fmt: skip
TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
TEXTS = ("realm", "error", "error_description", "error_uri", "scope", "acr_values", "resource_metadata")


def check(data: bytes) -> None:
    """What is read has the form that it should, and reads the same when it is written by the grammar."""
    draws = Draws(data, words=WORDS)
    if draws.byte() & 1:
        fields = draws.rest().decode("latin-1").split("\n")
    else:
        fields = ["".join(draws.text() for _ in range(draws.number(12))) for _ in range(draws.number(3))]
    found = parse_challenges(fields)
    for one in found:
        _check_form(one)
    written = {text: one for one in found if len(text := _written(one)) <= FIELD_LIMIT}
    sure(parse_challenges(written) == tuple(written.values()), "what is written is not read back", written)
    if len(fields) > 1:
        alone = [one for field in fields for one in parse_challenges([field])]
        sure(found == tuple(alone)[:CHALLENGE_LIMIT], "a field is not read on its own", fields)


def _check_form(one: Challenge) -> None:
    sure(one.scheme and set(one.scheme) <= TOKEN, "a scheme is no token", one)
    sure(all(name and set(name) <= TOKEN and name == name.lower() for name in one.params), "a name is none", one)
    sure(all(isinstance(getattr(one, name), str | None) for name in TEXTS), "a member is no text", one)
    sure(one.max_age is None or 0 <= one.max_age < 10**10, "an age is none", one)


def _written(one: Challenge) -> str:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    params = [f"{name}={quoted(value)}" for name, value in one.params.items()]
    first = [one.token68] if one.token68 is not None else []
    return f"{one.scheme} {', '.join([*first, *params])}"


def _read(text: str) -> object:
    return [one.max_age for one in parse_challenges([text])]


READERS = {"one field": _read, "a field for each line": lambda text: parse_challenges(text.split("\n"))}
UNITS = (*WORDS, "a,", "a=,", 'a="', '"\\', "a ", "a b ", "=,", "a=b\n", "%41", "\n", 'a="b",', "a\\", ', "', "a  =")
NESTED = {}
