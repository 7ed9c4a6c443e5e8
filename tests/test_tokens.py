"""Token, entries, and the reading of a token endpoint's answer."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpx_tokenflow import (
    ConfigurationError,
    InvalidCredential,
    ReauthenticationRequired,
    Token,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse, read_token_response
from httpx_tokenflow._credentials import cookie_value
from httpx_tokenflow._entries import Entry, Minted
from httpx_tokenflow._times import parse_retry_after
from httpx_tokenflow._tokens import MAX_LIFETIME, digest

SECRETS = {"access_token": "SENTINEL-at", "refresh_token": "SENTINEL-rt", "id_token": "SENTINEL-id"}
NOW = 1_000_000.0


def answer(body: object, status: int = 200, **headers: str) -> ServerResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ServerResponse(status, {"content-type": "application/json", **headers}, raw)


def read(body: object, status: int = 200, **options: object) -> Minted:
    return read_token_response(answer(body, status), now=NOW, **options)


def test_a_token_shows_no_secret() -> None:
    """Neither repr nor str nor asdict nor a pickle of a Token has a secret in it (F19)."""
    token = Token(**SECRETS, extra={"more": "SENTINEL-extra"})
    assert "SENTINEL" not in repr(token) + str(token) + repr(Entry(token, 1.0, 2.0)) + repr(Minted(token, 1.0))
    with pytest.raises(TypeError):
        dataclasses.asdict(token)
    with pytest.raises(TypeError, match="to_dict"):
        pickle.dumps(token)


def test_a_refresh_token_alone_is_a_token_too() -> None:
    """`for_refresh` makes a token that has ended, whose access token is none; each login has one of its own."""
    token, other = Token.for_refresh("SENTINEL-rt"), Token.for_refresh("another")
    assert token.refresh_token == "SENTINEL-rt"
    assert token.is_for_refresh
    assert not Token("a", refresh_token="SENTINEL-rt").is_for_refresh
    assert not Token(token.access_token, expires_at=1e9, refresh_token="SENTINEL-rt").is_for_refresh
    assert "SENTINEL" not in token.access_token + repr(token)
    assert token.access_token != other.access_token
    assert cookie_value(token.access_token), "it can be held as any other, whatever it would be sent as"
    assert token.session == Token("a", refresh_token="SENTINEL-rt").session
    assert Token.from_dict(json.loads(json.dumps(token.to_dict()))) == token
    assert Entry.of_login(token, 0.0).lifetime == 0.0


def test_a_refresh_token_alone_that_a_store_has_kept() -> None:
    """What stands for its access token is what stores have kept it as: other words would make old entries tokens."""
    assert Token("none-yet-for-0123456789abcdef", expires_at=0.0, refresh_token="rt").is_for_refresh


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("token_type", None), ("token_type", 5), ("refresh_token", 5), ("scope", ["a"]), ("id_token", b"x"), ("extra", 5)],
)
def test_a_field_of_another_type(field: str, wrong: object) -> None:
    """What is no text, or no mapping, is refused at once and by name, however it comes; None is as good as left out."""
    with pytest.raises(ConfigurationError, match=f"^{field} must be a (string|mapping), not {type(wrong).__name__}$"):
        Token("at", **{field: wrong})
    if wrong is not None:
        with pytest.raises(ConfigurationError, match=f"^{field} must"):
            Token.from_dict({"access_token": "at", field: wrong})


@pytest.mark.parametrize("given", [None, "", " rt", "rt\n"])
def test_a_refresh_token_that_is_none(given: object) -> None:
    """A refresh token that was not there where it was read from is refused at once."""
    with pytest.raises(InvalidCredential, match="refresh_token"):
        Token.for_refresh(given)


def test_a_token_is_immutable_and_compares_by_value() -> None:
    """A Token is a value: it compares and hashes as one, cannot be changed, and copies are itself."""
    token = Token("a", extra={"x": 1})
    assert token == Token("a", extra={"x": 1})
    assert hash(token) == hash(Token("a"))
    assert copy.copy(token) is token
    assert copy.deepcopy(token) is token
    with pytest.raises(AttributeError):
        token.scope = "more"
    with pytest.raises(TypeError):
        token.extra["x"] = 2


def test_to_dict_and_back() -> None:
    """to_dict has everything, as data that JSON can hold; from_dict reads it, and ignores what it does not know."""
    token = Token(**SECRETS, expires_at=5.0, scope="a b", extra={"tenant": "t"})
    data = json.loads(json.dumps(token.to_dict()))
    assert Token.from_dict({**data, "unknown": 1}) == token
    assert Token("a").to_dict() == {"access_token": "a", "token_type": "Bearer"}
    with pytest.raises(InvalidCredential):
        Token.from_dict({})


def test_another_refresh_token_and_nothing_else() -> None:
    """A token with another refresh token, or with none, is the same one in all the rest."""
    token = Token(**SECRETS, expires_at=5.0, scope="a b", extra={"tenant": "t"})
    other = token.with_refresh_token("another")
    assert other.to_dict() == {**token.to_dict(), "refresh_token": "another"}
    assert "refresh_token" not in token.with_refresh_token(None).to_dict()


@pytest.mark.parametrize("wrong", ["1767225600", True, False, float("nan"), float("inf"), 1e12, -1e12, [5.0]])
def test_an_end_that_is_no_unix_time(wrong: object) -> None:
    """`expires_at` is a number of seconds within reason, or the error says what it must be."""
    with pytest.raises(ConfigurationError, match="expires_at must be Unix seconds"):
        Token("a", expires_at=wrong)
    assert Token("a", expires_at=1e12 - 1).expires_at == 1e12 - 1


@pytest.mark.parametrize("text", ["", "a", "\ud800", "\U0001f511"])
def test_each_text_has_a_short_name(text: str) -> None:
    """Whatever a secret consists of, its name is sixteen hexadecimal digits, which another secret does not have."""
    assert len(digest(text)) == 16
    assert int(digest(text), 16) != int(digest(text + "b"), 16)


def test_an_error_says_which_credential_it_is_about() -> None:
    """The error begins with the name of the field that is wrong."""
    with pytest.raises(InvalidCredential, match=r"^access_token "):
        Token("")
    with pytest.raises(InvalidCredential, match=r"^refresh_token "):
        Token.for_refresh("")


@pytest.mark.parametrize("bad", ["", " a", "a\n", "a\r\nX: y", "t\u00e9", "a\x00", None, 7])
def test_a_credential_that_cannot_go_on_the_wire(bad: object) -> None:
    """An empty, spaced, non-ASCII or control character credential is refused at once and not quoted (F17, F72)."""
    with pytest.raises(InvalidCredential) as caught:
        Token(bad)
    assert not bad or repr(bad) not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "lifetime"),
    [
        (3600, 3600),
        ("3600", 3600),
        ("3600.0", 3600),
        (3600.7, 3600.7),
        (0, 0),
        (-5, -5),
        (1e20, MAX_LIFETIME),
        ("1e13", MAX_LIFETIME),
        (10**400, None),
        (True, None),
        (None, None),
        ("soon", None),
        ("NaN", None),
        ("inf", None),
        ([], None),
    ],
)
def test_lifetimes_however_they_are_written(written: object, lifetime: float | None) -> None:
    """A lifetime is read however it was written; what cannot be read counts as missing (F62, F63, F64)."""
    minted = read({"access_token": "a", "expires_in": written})
    assert minted.lifetime == lifetime
    assert minted.token.expires_at == (None if lifetime is None else NOW + lifetime)


@pytest.mark.parametrize("spelt", ["Bearer", "bearer", "BEARER", "BearerToken", "", None])
def test_bearer_in_any_spelling(spelt: str | None) -> None:
    """A bearer token is Bearer however the server spells it (F68)."""
    assert read({"access_token": "a", "token_type": spelt}).token.token_type == "Bearer"


@pytest.mark.parametrize("kind", ["mac", "DPoP", "N_A", "bot"])
def test_other_types_are_errors(kind: str) -> None:
    """A token of a type that we cannot present is an error, unless the grant says that it is Bearer (F68)."""
    with pytest.raises(ConfigurationError, match=kind):
        read({"access_token": "a", "token_type": kind})
    assert read({"access_token": "a", "token_type": kind}, token_type="Bearer").token.token_type == "Bearer"


@pytest.mark.parametrize(
    ("written", "scope"),
    [("a b", "a b"), (["a", "b"], "a b"), ("a,b", "a b"), ("a,x b", "a,x b"), ("", None), (None, None), (5, None)],
)
def test_scope_however_it_is_written(written: object, scope: str | None) -> None:
    """The granted scope is one string, separated by spaces."""
    assert read({"access_token": "a", "scope": written}).token.scope == scope


def test_what_the_answer_leaves_out_is_kept() -> None:
    """An answer without a refresh token keeps the one that was presented (F05, RFC 6749 §6)."""
    previous = Token("old", refresh_token="rt", scope="a")
    assert read({"access_token": "new"}, previous=previous).token == Token("new", refresh_token="rt", scope="a")
    assert read({"access_token": "n", "refresh_token": "rt2"}, previous=previous).token.refresh_token == "rt2"
    assert read({"access_token": "n", "refresh_token": ""}, previous=previous).token.refresh_token == "rt"


def test_unknown_members_are_kept_aside() -> None:
    """What has no field of its own is in `extra` (RFC 6749 §5.1: ignored, not lost)."""
    assert read({"access_token": "a", "token_type": "bearer", "tenant": "t"}).token.extra == {"tenant": "t"}


@pytest.mark.parametrize(
    ("response", "kind", "facts"),
    [
        (answer({"error": "invalid_grant"}, 400), ReauthenticationRequired, {"error": "invalid_grant", "status": 400}),
        (answer({"error": "invalid_client"}, 401), TokenRequestError, {"error": "invalid_client"}),
        (answer({"error": "bad_verification_code"}, 200), TokenRequestError, {"error": "bad_verification_code"}),
        (answer({}, 200), TokenRequestError, {"error": None, "status": 200}),
        (answer({"access_token": ""}, 200), TokenRequestError, {}),
        (answer({"access_token": 5}, 200), TokenRequestError, {}),
        (answer(b"<html>", 403), TokenRequestError, {"error": None, "status": 403}),
        (answer(b"<html>", 200), TokenEndpointUnavailable, {"outcome": "unknown"}),
        (answer(b"[1]", 200), TokenEndpointUnavailable, {"outcome": "unknown"}),
        (answer(b"[" * 100_000, 200), TokenEndpointUnavailable, {"outcome": "unknown"}),
        (answer(b"<html>", 502), TokenEndpointUnavailable, {"outcome": "answered", "status": 502}),
        (answer({}, 429, **{"retry-after": "7"}), TokenEndpointUnavailable, {"retry_after": 7.0}),
        (answer({"error": "temporarily_unavailable"}, 400), TokenEndpointUnavailable, {"outcome": "answered"}),
        (answer({}, 407), TokenEndpointUnavailable, {"retryable": False}),
        (answer({}, 302, location="https://evil.example"), ConfigurationError, {}),
    ],
)
def test_every_other_answer_is_one_error(response: ServerResponse, kind: type[Exception], facts: dict) -> None:
    """An answer without a token means exactly one error, with the facts on it (F65, F67, F16)."""
    with pytest.raises(TokenFlowError) as caught:
        read_token_response(response, now=NOW)
    assert isinstance(caught.value, kind)
    assert kind is ReauthenticationRequired or not isinstance(caught.value, ReauthenticationRequired)
    assert {name: getattr(caught.value, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("response", "remedy"),
    [
        (answer(b"<html>", 404), "check its URL"),
        (answer(b"<html>", 405), "check its URL"),
        (answer(b"<html>", 200), "check its URL"),
        (answer({"accessToken": "a"}, 200), "fields="),
        (answer({"error": "invalid_client"}, 401), "client_auth=ClientSecretPost()"),
    ],
)
def test_the_usual_mistakes_are_told_with_their_remedy(response: ServerResponse, remedy: str) -> None:
    """A wrong URL, and a client that is not recognised: the error says what to look at."""
    with pytest.raises(TokenFlowError, match=re.escape(remedy)):
        read_token_response(response, now=NOW)


def test_what_the_server_says_is_bounded_and_scrubbed() -> None:
    """error_description is quoted without control characters, without our secrets, and not at length (F19)."""
    told = "no\x1b[2J " + "rt-SENTINEL " + "x" * 10_000
    with pytest.raises(TokenRequestError) as caught:
        read_token_response(
            answer({"error": "invalid_request", "error_description": told}, 400), now=NOW, secrets=["rt-SENTINEL"]
        )
    text = str(caught.value) + str(caught.value.error_description)
    assert "SENTINEL" not in text
    assert text.isprintable()
    assert len(caught.value.error_description) <= 200


@given(
    st.binary(max_size=300)
    | st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.floats()).map(
        lambda value: json.dumps(value).encode()
    ),
    st.integers(100, 599),
)
def test_no_answer_raises_anything_else(body: bytes, status: int) -> None:
    """Whatever an endpoint answers, it is a token or an error of ours."""
    with contextlib.suppress(TokenFlowError):
        read_token_response(ServerResponse(status, {}, body), now=NOW)


@given(st.fixed_dictionaries({"access_token": st.text(), "expires_in": st.floats() | st.text() | st.integers()}))
def test_no_token_answer_raises_anything_else(body: dict) -> None:
    """The same for answers that look like a token."""
    with contextlib.suppress(TokenFlowError):
        read(body)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("1e9", 3600.0),
        ("inf", 3600.0),
        ("-5", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 70.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 -0000", 70.0),
        ("Thu, 99 Foo 99999 00:01:40 GMT", None),
    ],
)
def test_retry_after_in_every_form(value: str | None, seconds: float | None) -> None:
    """Retry-After is seconds or a date, within bounds; garbage is no wish at all (F57)."""
    assert parse_retry_after(value, now=30.0) == seconds


@given(st.text())
def test_retry_after_never_raises(value: str) -> None:
    """No Retry-After raises, and none is out of bounds."""
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= 3600


def test_stamps_name_tokens_not_notes() -> None:
    """A stamp changes with either token, and not with what is noted about them."""
    entry = Entry(Token("a", refresh_token="r"), 1.0, 2.0)
    assert entry.stamp == entry.marked(1).stamp == Entry(Token("a", refresh_token="r"), 9.0, None).stamp
    assert len({entry.stamp, Entry(Token("b", refresh_token="r"), 1, 2).stamp, Entry(Token("a"), 1, 2).stamp}) == 3
    assert not entry.marked(1).is_spent
    assert entry.spent().is_spent


def test_a_code_is_read_even_if_the_secret_is_a_part_of_it() -> None:
    """Scrubbing is for words: `invalid_client` is no echo of the secret "a", nor is it another error without it."""
    answer = ServerResponse(400, {}, b'{"error": "invalid_client", "error_description": "a bad one"}')
    with pytest.raises(TokenRequestError) as caught:
        read_token_response(answer, now=0.0, secrets=["a"])
    assert caught.value.error == "invalid_client"
    assert "a" not in (caught.value.error_description or "")


@pytest.mark.parametrize(
    ("left", "lifetime"), [(None, None), (600.0, 600.0), (1.0, 1.0), (0.1, 0.0), (0.0, 0.0), (-5, 0.0)]
)
def test_what_is_left_of_a_token_from_outside(left: float | None, lifetime: float | None) -> None:
    """Its lifetime is what is left when it is first seen; less than a second is nothing (F59)."""
    token = Token("a", expires_at=None if left is None else 1000.0 + left)
    assert Entry.of_login(token, 1000.0).lifetime == lifetime
