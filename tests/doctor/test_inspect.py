"""`tokenflow inspect`: a token explained by itself."""

from __future__ import annotations

import json
import time

import pytest
from doctor.rig import run, signed, unsigned
from doctor.terminal import in_terminal
from hypothesis import given, settings
from hypothesis import strategies as st

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow.cli._inspect import _tokens_in
from httpx_tokenflow.cli._token_words import lines_of, seems, troubles
from httpx_tokenflow.doctor import read_token

NOW = 1_900_000_000.0
HOUR = 3600.0
OPAQUE = "opaque-8f3a6c1e5b7d49f2a0c4"


@pytest.fixture
def look(capsys, monkeypatch):
    def looked(*arguments, stdin=""):
        return run(["inspect", *arguments], capsys, monkeypatch, stdin=stdin)

    return looked


def made(header=None, **claims):
    return unsigned({"alg": "RS256"} | (header or {}), {"exp": time.time() + HOUR} | claims)


@pytest.mark.parametrize(
    "words", [("Bearer", OPAQUE), ("Authorization:", "Bearer", OPAQUE), ("-H", f"Authorization: Bearer {OPAQUE}")]
)
def test_a_line_without_quotes_is_joined(look, words):
    """What a shell has made several words of is read as one line, and no message quotes it."""
    ended = look("--json", "--", *words)
    assert ended.status == 0, ended.stderr
    assert [one["shown"] for one in json.loads(ended.stdout)] == [read_token(OPAQUE).shown]
    assert OPAQUE not in ended.stdout + ended.stderr


def test_several_words_that_are_no_token_are_not_quoted(look):
    """A message about what was pasted has nothing of it."""
    ended = look("some", OPAQUE, "words")
    assert (ended.status, ended.stdout) == (2, "")
    assert OPAQUE not in ended.stderr


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (made({"typ": "at+jwt"}), "an access token (RFC 9068"),
        (made({"typ": "application/at+jwt"}), "an access token (RFC 9068"),
        (made(nonce="x"), "an ID token"),
        (made(at_hash="x"), "an ID token"),
        (made(token_use="id"), "an ID token"),
        (made(token_use="access"), "an access token, as it says itself"),
        (made(typ="Bearer"), "an access token, as it says itself"),
        (made(typ="ID"), "an ID token"),
        (made(typ="Refresh"), "a refresh token"),
        (made(typ="Offline"), "a refresh token"),
        (made(scp="read"), "an access token, by its claims"),
        (made(azp="me"), "an access token, by its claims"),
        (made({"typ": "dpop+jwt"}), "a DPoP proof"),
        (made({"typ": "logout+jwt"}), "a logout token"),
        (made(iss="me", sub="me"), "a client's assertion"),
        (made(), "of which kind, it does not say"),
        ("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0.a.b.c.d", "an encrypted token"),
        (OPAQUE, "an opaque token"),
        ("ghp_" + "a1B2" * 9, "of GitHub (it begins with ghp_)"),
        ("sk_test_" + "a1B2" * 6, "for test (it begins with sk_test_)"),
    ],
)
def test_what_it_seems_to_be(look, token, says):
    """The first line says what the token seems to be, and the token itself is nowhere."""
    ended = look(token)
    assert says in " ".join(ended.stdout.split())
    assert ended.status == 0
    assert token not in ended.stdout
    assert "sha256:" in ended.stdout


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (made(exp=time.time() - 3 * HOUR - 30), "it has expired, 3 h"),
        (made(nbf=time.time() + HOUR), "it is not good yet"),
        (made(iat=time.time() + HOUR), "issued in the future"),
        (made({"alg": "none"}), "it is not signed"),
        (made(iat=time.time() - HOUR, exp=time.time() + 3 * 365 * 86_400), "it lives for 3.0 years"),
        (made(exp=(time.time() + HOUR) * 1000), "milliseconds"),
        (made(exp="tomorrow"), "its exp is no number"),
        (made(exp=True), "its exp is no number"),
        (made(exp=None), "it has no end"),
        (made(exp=1e400), "its exp is no number"),
        (made().rpartition(".")[0], "2 parts"),
        (made().rpartition(".")[0] + ".", "signature is empty"),
        (made().replace(".", ".!", 1), "cannot be decoded"),
        (unsigned({"typ": "JWT"}, {"exp": time.time() + HOUR}), "names no algorithm"),
        (f'"{made()}"', "quotes around it"),
        (f"{made()[:40]}\n{made()[40:]}", "broken by a space"),
        (f"\u200b{OPAQUE}", "U+200B"),
    ],
    ids=lambda text: "token" if len(text) > 40 else text,  # a token is another one in each of xdist's workers
)
def test_what_is_wrong_with_it(look, token, says):
    """Each problem is said, and the status is 1."""
    ended = look(token)
    assert says in " ".join(ended.stdout.split())
    assert "problem" in ended.stdout
    assert ended.status == 1


@pytest.mark.parametrize(
    "text",
    ["{}", "Bearer {}", "Authorization: Bearer {}", "authorization:DPoP {}\n", "-H 'Authorization: Bearer {}'", "{}\n"],
)
def test_whatever_was_pasted(look, text):
    """A token, a header line, an option of curl: each has the same token in it, from an argument and from a pipe."""
    token = made({"typ": "at+jwt"}, iss="https://issuer.example")
    for ended in (look("--json", "--", text.format(token)), look("-", "--json", stdin=text.format(token) + "\n")):
        (found,) = json.loads(ended.stdout)
        assert found["shown"] == read_token(token).shown
        assert found["claims"]["iss"] == "https://issuer.example"


def test_the_answer_of_a_token_endpoint(look):
    """Each token in it is explained under its name; the status is that of the worst."""
    answer = {
        "access_token": made({"typ": "at+jwt"}),
        "id_token": made(nonce="x", exp=time.time() - HOUR),
        "refresh_token": OPAQUE,
        "expires_in": 60,
    }
    ended = look(stdin=json.dumps(answer, indent=2))
    assert ended.status == 1
    for line in ("access_token: an access token", "id_token: an ID token", "refresh_token: an opaque token"):
        assert line in ended.stdout
    found = json.loads(look("--json", stdin=json.dumps(answer)).stdout)
    assert [one["name"] for one in found] == ["access_token", "id_token", "refresh_token"]
    for token in (answer["access_token"], answer["id_token"], OPAQUE):
        assert token not in ended.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("these are words", "no token in this"),
        ("{not json", "cannot be read"),
        ('{"error": "invalid_grant"}', "invalid_grant"),
        ("x" * 70_000, "more than"),
    ],
)
def test_what_is_no_token_ends_with_2(look, text, says):
    """It is one sentence on standard error, and nothing on standard output."""
    ended = look("-", stdin=text)
    assert (ended.status, ended.stdout) == (2, "")
    assert says in ended.stderr


def test_claims_are_explained_and_times_are_dates():
    """Registered claims have a meaning; a NumericDate is a date and how long it is off; all others are shown."""
    reading = read_token(
        unsigned({"alg": "RS256"}, {"exp": NOW + 300, "iat": NOW - 3 * HOUR, "scp": ["a", "b"], "x": {}})
    )
    lines = {line.name: (line.value, line.meaning) for line in lines_of(reading, NOW)}
    assert lines["exp"] == ("2030-03-17 17:51:40 UTC, in 5 min", "when it ends")
    assert lines["iat"][0].endswith("3 h ago")
    assert lines["scp"] == ("a, b", "what it allows")
    assert lines["x"] == ("{}", "")


def test_json_has_what_help_says(look):
    """Its keys are those of the docstring, and no signature is in it."""
    token = signed(scope="read")
    ended = look(token, "--json")
    (found,) = json.loads(ended.stdout)
    assert list(found) == ["name", "kind", "seems", "shown", "problems", "header", "claims"]
    assert (ended.status, found["problems"]) == (0, [])
    assert token.rpartition(".")[2] not in ended.stdout


def test_a_token_in_a_token_is_not_shown(look):
    """A claim that is a token itself is hidden, in a terminal and as JSON."""
    inner = signed(scope="read")
    for ended in (look(made(act={"token": inner}, raw=inner)), look(made(raw=inner), "--json")):
        assert ended.status == 0
        assert "***" in ended.stdout
        assert inner.partition(".")[0] not in ended.stdout


def test_in_a_terminal():
    """From a pipe, in colours, within 80 columns; and what a token says is never obeyed, nor taken for markup."""
    screen = in_terminal("inspect", stdin=signed(scope="[bold]x[/] \x1b[31m\x9b2J\u202e"))
    assert screen.status == 0
    assert screen.verdict == "an access token (RFC 9068, by its typ)"
    assert "[bold]x[/]" in screen.text
    assert not {char for char in screen.text if not char.isprintable()} - {"\n"}
    assert max(map(len, screen.text.split("\n"))) <= 80


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["exp", "nbf", "iat", "auth_time", "typ", "token_use", "scope", "scp", "iss", "sub", "aud", "cnf"]
)


@settings(max_examples=60)
@given(st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=6), st.dictionaries(NAMES, JSON, max_size=3))
def test_no_claim_stops_it(claims, header):
    """Whatever the claims and the header are, they are told, in one printable line each."""
    reading = read_token(unsigned({"alg": "RS256"} | header, claims))
    assert seems(reading)
    for text in (*troubles(reading, NOW), *(line.value for line in lines_of(reading, NOW))):
        assert text.isprintable()


@settings(max_examples=60)
@given(
    st.text(max_size=60) | st.lists(st.sampled_from(["Bearer ", "Authorization:", "{", "ey", ".", '"', " ", "\n", "a"]))
)
def test_whatever_is_pasted(text):
    """It is read, or refused with a sentence."""
    try:
        for one in _tokens_in("".join(text)):
            assert one.value
            one.problems(NOW)
    except ConfigurationError:
        pass
