"""Hostile input: what `tests/fuzz` throws at every reader, a little of it here; and each input that it has found.

The targets are the fuzzer's own (`tests/fuzz/on_*.py`), which make an input out of any bytes and say what must hold.
"""

from __future__ import annotations

import base64
import json
import sys
from contextlib import suppress
from functools import partial

import pytest
from fuzz import (
    on_answers,
    on_callbacks,
    on_challenges,
    on_diagnosis,
    on_doctor,
    on_entries,
    on_metadata,
)
from fuzz.draws import below, told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpx_tokenflow import ConfigurationError, StoreError, Token, TokenFlowError, TokenRequestError
from httpx_tokenflow._answers import MAX_HIDDEN, ServerResponse, read_refusal, read_token_response
from httpx_tokenflow._entries import Entry
from httpx_tokenflow.cli._asked import asked_by
from httpx_tokenflow.cli._inspect import _tokens_in
from httpx_tokenflow.doctor import read_token
from httpx_tokenflow.doctor._sifting import Sieve, secrets_of_url, without_secrets
from httpx_tokenflow.stores._codec import Codec

PARSERS = [on_challenges, on_answers, on_metadata, on_entries, on_callbacks, on_doctor]
TARGETS = [*PARSERS, on_diagnosis]
NAMES = [one.__name__.rpartition("_")[2] for one in TARGETS]
URL = "https://api.example/v1"

few = partial(settings, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
some_bytes = st.binary(max_size=60)


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_what_a_target_begins_with(target):
    """Whatever the fuzzer begins with is read, or refused by a documented error."""
    for seed in target.SEEDS:
        target.check(seed)


@pytest.mark.parametrize("target", PARSERS, ids=NAMES[:-1])
def test_any_bytes_are_read_or_refused(target):
    """Whatever the bytes are, a parser ends in a result that is what it should be, or in a documented error."""

    @few(max_examples=120)
    @given(some_bytes)
    def run(data: bytes) -> None:
        target.check(data)

    run()


@few(max_examples=15)
@given(some_bytes)
def test_anything_has_a_diagnosis(data):
    """Whatever the doctor looks at, it has a diagnosis without a secret in it."""
    on_diagnosis.check(data)


@few(max_examples=25)
@given(st.integers(0, 6), st.sampled_from(on_doctor.UNITS), st.sampled_from(["", "a", '"']), st.integers(1, 300))
def test_a_piece_over_and_over_is_read(at, unit, before, times):
    """A text of one piece over and over is read by each of the doctor's readers."""
    list(on_doctor.READERS.values())[at](before + unit * times)


@pytest.mark.parametrize("target", PARSERS, ids=NAMES[:-1])
def test_lists_in_lists_are_read_at_every_depth(target):
    """JSON that is as deep as Python just bears, and deeper, is read or refused by a documented error."""
    most = sys.getrecursionlimit()
    for reader in target.NESTED.values():
        for depth in (15, 100, 101, *range(most - 160, most, 12), 20 * most):
            reader("[" * depth + "]" * depth)


# What the fuzzers have found


def id_token_of(text: str) -> bytes:
    return json.dumps({"access_token": "a", "id_token": text}).encode()


DEEP = base64.urlsafe_b64encode(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}").decode().rstrip("=")


@pytest.mark.parametrize("text", ["\ud800", "a.\udcff.b", f"{DEEP}.{DEEP}.x", f"eyJhbGciOiJSUzI1NiJ9.{DEEP}.x"])
def test_an_id_token_that_cannot_be_read(text):
    """An ID token of half a surrogate pair, or of lists without end, is a `TokenRequestError` as any that is none."""
    world = on_callbacks.World([ServerResponse(200, {}, id_token_of(text))])
    callback = f"?code=a&state={on_callbacks._LOGIN.state}"
    with pytest.raises(TokenRequestError, match="cannot be read"):
        world.play(on_callbacks._GRANT._finish(callback, on_callbacks._STATE, world.attempt()))


def test_what_is_too_deep_to_be_stored():
    """What was parsed near the top of the stack, and is too deep for where it is stored, is a `StoreError`."""
    deep = json.loads("[" * 900 + "]" * 900)
    entry = Entry(Token("a", extra={"x": deep}), 0.0, None)
    with pytest.raises(StoreError, match="cannot be stored"):
        below(lambda: Codec().encode("f", entry), 200)


def test_an_answer_of_many_tokens_has_no_words():
    """Beside more tokens than can be looked for, what a server says is not told; a code that everybody knows is."""
    tokens = {f"token{at}": f"abcdefgh{at}" for at in range(MAX_HIDDEN + 1)}
    said = {"error": "invalid_grant", "error_description": "abcdefgh7 is over", "error_uri": "https://as.example"}
    told = read_refusal(ServerResponse(400, {}, json.dumps({**said, **tokens}).encode()), 0.0)
    assert (told.error, told.error_description, told.error_uri) == ("invalid_grant", None, None)


@pytest.mark.parametrize("status", [200, 400])
def test_a_token_in_a_list_is_not_told(status):
    """What is no JSON object may have tokens in it all the same: its content type is told without them."""
    answer = ServerResponse(status, {"content-type": "x/SENTINEL-1"}, b'[{"access_token": "SENTINEL-1"}]')
    with pytest.raises(TokenFlowError, match=r"\(x/\*\*\*\)") as caught:
        read_token_response(answer, now=0.0)
    assert "SENTINEL" not in told(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["curl", URL, "-u", "a:\ud800"],
        [f"curl {URL} -u $'a:\\ud800'"],
        ["curl", "-G", URL, "--data-urlencode", "\ud800x"],
    ],
)
def test_half_a_character_in_a_command_line(words):
    """Half a surrogate pair, which ``$'\\ud800'`` is, is refused with a sentence that does not quote it."""
    with pytest.raises(ConfigurationError, match="half a character") as caught:
        asked_by(words, method="GET")
    assert caught.value.__cause__ is None


def test_a_key_where_a_header_is_to_be():
    """A key with a colon in it, given as a header with what no header can have, is not quoted as its name."""
    with pytest.raises(ConfigurationError, match="a header of the curl command line has") as caught:
        asked_by(["curl", URL, "-H", "SENTINEL-8f3a6c1e5b7d:part\x1b"], method="GET")
    assert "SENTINEL" not in told(caught.value)


def test_bytes_that_are_no_text_are_sent_as_they_are():
    """What was no UTF-8 on the command line is percent-encoded as the bytes that it was."""
    assert asked_by(["curl", "-G", URL, "--data-urlencode", "a=\udcff"], method="GET").url == f"{URL}?a=%FF"


@pytest.mark.parametrize("depth", [99, 150, 500, 900])
def test_a_token_of_lists_in_lists_is_no_jwt(depth):
    """Claims so deep that they could not be shown are not read; those that no issuer exceeds are."""
    claims = base64.urlsafe_b64encode(b'{"x":' + b"[" * depth + b"]" * depth + b"}").decode().rstrip("=")
    reading = read_token(f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln")
    assert (reading.claims != {}) is (depth < 100)


@pytest.mark.parametrize(
    "url",
    [
        "https:/user:s3cret@api.example/v1", "http\x1d://user:s3cret@api.example", "//x/u:s3cret@y",
        "user:s3cret@api.example/v1", "user:s3cret@api.example?x", "https://user:s3cret/1@api.example",
        "https://user:s3cret#1@api.example",
    ],
)  # fmt: skip
def test_a_password_in_a_url_that_is_none(url):
    """A password is a secret also where it is no password by RFC 3986: a slash too few, no scheme, a `/` in it."""
    assert "s3cret" not in without_secrets(url)
    assert any("s3cret" in one for one in secrets_of_url(url))


@pytest.mark.parametrize(
    "text",
    [
        " " * 30_000 + "x",
        "authorization: a" + " " * 30_000 + "b",
        "-H " + " " * 30_000 + '"',
        "\n" * 30_000 + "authorization",
    ],
)
def test_blanks_without_end_are_inspected(text):
    """Tens of thousands of blanks, which took hours, are read at once."""
    with suppress(ConfigurationError):
        list(_tokens_in(text))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("Authorization: Bearer abc", "abc"),
        ("  -H 'Authorization: Bearer abc'  ", "abc"),
        ('-H "proxy-authorization :Basic abc" ', None),
        ("authorization:\n  abc  '  ", "abc"),
    ],
)
def test_a_pasted_line_is_read_as_before(line, value):
    """The name, the quotes and the blanks of a pasted header are no part of the token."""
    if value is None:
        with pytest.raises(ConfigurationError):
            list(_tokens_in(line))
    else:
        (found,) = _tokens_in(line)
        assert (found.value, found.around) == (value, ())


def test_what_looks_like_many_jwts_is_looked_at_once():
    """A claim of "ey-ey-ey-…" hides nothing and takes no time by the square; a JWT after a hyphen is hidden."""
    sieve = Sieve([])
    assert sieve.sift("ey-" * 20_000) == "ey-" * 20_000
    assert sieve.sift("x-eyJhbGciOiJ9.abc.def y") == "x-*** y"
