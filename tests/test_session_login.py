"""SessionLogin: what goes to a plain JSON login, what is read from its answers, and a session's life end to end."""

from __future__ import annotations

import itertools
import json
import re
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import anyio
import httpx
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpx_tokenflow import (
    ConfigurationError,
    InvalidCredential,
    OriginNotAllowed,
    ReauthenticationRequired,
    RenewalPolicy,
    StoreError,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse, read_json, read_nothing, read_refusal, read_token_response
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._entries import Entry, Minted
from httpx_tokenflow._grants import SessionLogin, _session_login
from httpx_tokenflow._grants._fields import Fields
from httpx_tokenflow._steps import Call, Fetch, ServerRequest
from httpx_tokenflow._times import Clock
from httpx_tokenflow._token_auth import fingerprint
from httpx_tokenflow._tokens import MAX_LIFETIME
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import DropAfter, DropBefore, Garbage, Html, Sandbox, Status, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGIN, REFRESH, LOGOUT = (f"https://api.example.com/{name}" for name in ("login", "refresh", "logout"))
NOW = 1_800_000_000.0
CLOCK = Clock(monotonic=lambda: 0.0, wall=lambda: NOW)
CREDENTIALS = {"email": "ann@example.com", "password": 'SENTINEL pass"wörd'}
ROUNDS = _session_login._ROUNDS
HELD = Entry(Token("old-access", refresh_token="old-refresh", scope="a b", expires_at=NOW), NOW, 60.0)


@pytest.fixture(autouse=True)
def _hashed_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes guessing slow would make the tests slow: a hundred thousand rounds for each session."""
    monkeypatch.setattr(_session_login, "_ROUNDS", 10)


def session(**options: Any) -> SessionLogin:
    return SessionLogin(
        **{"login_url": LOGIN, "credentials": CREDENTIALS, "refresh_url": REFRESH, "logout_url": LOGOUT, **options}
    )


def attempt(entry: Entry | None = None, *, may_log_in: bool = True) -> Attempt:
    return Attempt(entry, 5.0, CLOCK, may_log_in=may_log_in)


def said(body: Any = None, status: int = 200, cookies: tuple[str, ...] = (), **headers: str) -> ServerResponse:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ServerResponse(status, {"date": formatdate(NOW, usegmt=True), **named}, content, cookies)


def drive(flow: Any, *answers: Any) -> tuple[list[ServerRequest], Any]:
    """The requests of a flow whose steps are answered like this, and what it returns."""
    requests: list[ServerRequest] = []
    left = iter(answers)
    try:
        step = next(flow)
        while True:
            if isinstance(step, Call):
                step = flow.send(step.function())
                continue
            assert isinstance(step, Fetch)
            requests.append(step.request)
            answer = next(left)
            step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as end:
        return requests, end.value


def minted(answer: ServerResponse, entry: Entry | None = None, **options: Any) -> Minted:
    """What one answer brings."""
    return drive(session(**options).obtain(attempt(entry)), answer)[1]


def asked(entry: Entry | None = None, **options: Any) -> ServerRequest:
    """The request that a renewal begins with."""
    flow = session(**options).obtain(attempt(entry))
    step = next(flow)
    while isinstance(step, Call):
        step = flow.send(step.function())
    assert isinstance(step, Fetch)
    return step.request


# ── which request it is ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_login_sends_the_credentials_as_json() -> None:
    """Without a session the credentials are POSTed, and what goes along goes along."""
    request = asked(headers={"X-CSRF": "1"})
    assert (request.url, request.method, request.json, request.form) == (LOGIN, "POST", CREDENTIALS, ())
    assert request.headers == (("X-CSRF", "1"),)
    assert "SENTINEL" not in repr(request)


def test_a_session_is_refreshed_while_it_can_be() -> None:
    """With a refresh token that is good for something it is presented, and the credentials stay where they are."""
    request = asked(HELD, headers={"X-CSRF": "1"})
    assert (request.url, request.json) == (REFRESH, {"refreshToken": "old-refresh"})
    assert request.headers == (("X-CSRF", "1"),)


@pytest.mark.parametrize(
    ("entry", "options"),
    [
        (None, {}),
        (Entry(Token("a"), NOW, 60.0), {}),
        (HELD.spent(), {}),
        (HELD, {"refresh_url": None}),
    ],
    ids=["nothing", "no refresh token", "spent", "no refresh_url"],
)
def test_where_there_is_nothing_to_refresh_it_logs_in(entry: Entry | None, options: dict[str, Any]) -> None:
    """A login, if it is allowed; else an error that says what to do, and nothing is sent."""
    assert asked(entry, **options).url == LOGIN
    with pytest.raises(ReauthenticationRequired, match=r"auth\.warm\(\)"):
        next(session(**options).obtain(attempt(entry, may_log_in=False)))


def test_a_refresh_needs_no_leave_to_log_in() -> None:
    """Where no login is allowed, a session can still be refreshed."""
    assert drive(session().obtain(attempt(HELD, may_log_in=False)), said({"token": "t"}))[0][0].url == REFRESH


@pytest.mark.parametrize(
    ("answer", "alone"),
    [
        ("Bearer eyJ", "eyJ"),
        ("bearer  eyJ", "eyJ"),
        ("BEARER eyJ", "eyJ"),
        ("Bearer", "Bearer"),
        ("Bearers eyJ", "Bearers eyJ"),
        ("Token eyJ", "Token eyJ"),
    ],
)
def test_a_token_that_comes_with_its_scheme(answer: str, alone: str) -> None:
    """The scheme that is put before it anyhow is taken off, by a login as by a refresh, and nothing else is."""
    assert minted(said({"token": answer})).token.access_token == alone
    assert minted(said({"token": answer}), HELD).token.access_token == alone


def test_a_cookie_that_begins_like_a_scheme() -> None:
    """A token that is presented as a cookie goes back to the server as it came."""
    got = minted(said(cookies=('sid="Bearer eyJ"',)), fields={"access_token": "cookie:sid"})
    assert got.token.access_token == '"Bearer eyJ"'


def test_what_the_renewal_goes_by() -> None:
    """It can log in, waits for nobody, and spends refresh tokens only if it has somewhere to present them."""
    grant = session()
    assert (grant.logs_in, grant.login_timeout, grant.spends, grant.widens) == (True, 0.0, True, False)
    assert not session(refresh_url=None).spends
    assert (grant.cookie, session(fields={"access_token": "cookie:sid"}).cookie) == (None, "sid")


@pytest.mark.parametrize(
    ("options", "body", "headers"),
    [
        ({}, {"refreshToken": "old-refresh"}, ()),
        ({"fields": {"refresh_token": "tokens.rt"}}, {"rt": "old-refresh"}, ()),
        ({"refresh_as": "token"}, {"token": "old-refresh"}, ()),
        ({"fields": {"refresh_token": "cookie:rt"}}, {}, (("Cookie", "rt=old-refresh"),)),
        ({"fields": {"refresh_token": "cookie:rt"}, "refresh_as": "token"}, {"token": "old-refresh"}, ()),
        ({"refresh_as": "cookie:rt"}, {}, (("Cookie", "rt=old-refresh"),)),
        ({"refresh_as": "bearer"}, {}, (("Authorization", "Bearer old-refresh"),)),
    ],
)
def test_how_a_refresh_token_is_presented(options: dict[str, Any], body: Any, headers: Any) -> None:
    """As it came, or as the program says: a member of the body, a cookie, a bearer token."""
    request = asked(HELD, **options)
    assert (request.json, request.headers) == (body, headers)


@pytest.mark.parametrize("name", ["refresh_token", "refreshToken", "refresh"])
def test_a_refresh_token_goes_back_under_the_name_it_came_with(name: str) -> None:
    """The spelling of the login is that of the refresh, also after a stay in a store and a refresh in between."""
    token = minted(said({"token": "t", name: "r1"})).token
    token = minted(said({"token": "t2"}), Entry(Token.from_dict(token.to_dict()), NOW, 60.0)).token
    assert asked(Entry(token, NOW, 60.0)).json == {name: "r1"}


def test_what_a_store_says_of_the_name_is_not_believed_blindly() -> None:
    """A name that this grant does not know is not sent."""
    entry = Entry(Token("a", refresh_token="r", extra={"refresh_token_as": "evil"}), NOW, 60.0)
    assert asked(entry).json == {"refreshToken": "r"}


def test_a_refresh_token_that_could_not_be_sent_is_not() -> None:
    """One from outside with something in it that no header and no JSON could carry is refused, and not quoted."""
    for token in ("r\n", "r\ud800"):
        with pytest.raises(InvalidCredential, match="the refresh token") as caught:
            asked(Entry(Token("a", refresh_token=token), NOW, 60.0))
        assert token not in str(caught.value)


# ── the credentials ────────────────────────────────────────────────────────────────────────────────────────────────


def test_credentials_from_callables() -> None:
    """One for all of them, or one for a value: asked at each login, and not before."""
    numbers = itertools.count()
    grant = session(credentials=lambda: {"code": next(numbers)})
    sent = [drive(grant.obtain(attempt()), said({"token": "t"}))[0][0].json for _ in range(2)]
    assert sent == [{"code": 0}, {"code": 1}]
    assert asked(credentials={"user": "ann", "password": lambda: "pässword"}).json == {
        "user": "ann",
        "password": "pässword",
    }


def test_a_callable_that_fails_is_the_cause() -> None:
    """What it raises does not get into our text; an error of ours passes as it is."""
    for credentials in (dict, {"password": str}):
        for raised, kind in ((LookupError("SENTINEL"), TokenEndpointUnavailable), (StoreError("x"), StoreError)):
            flow = session(credentials=credentials).obtain(attempt())
            next(flow)
            with pytest.raises(kind) as caught:
                flow.throw(raised)
            assert "SENTINEL" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, {}, "SENTINEL", ["SENTINEL"], {"a": "SENTINEL\ud800"}, {"a": float("nan")}])
def test_what_a_callable_returns_is_checked(answer: Any) -> None:
    """Nothing is sent of what JSON cannot hold, and none of it is quoted, not even by a cause."""
    with pytest.raises(InvalidCredential) as caught:
        asked(credentials=lambda: answer)
    assert "SENTINEL" not in "".join(traceback.format_exception(caught.value))
    if isinstance(answer, dict) and answer:
        with pytest.raises(InvalidCredential):
            asked(credentials={"user": "ann", "password": lambda: answer["a"]})


def test_credentials_are_those_of_the_moment() -> None:
    """A mapping that the program changes later changes nothing here: neither what is sent nor whose session it is."""
    credentials = {"user": "ann", "more": {"tenant": "x"}}
    grant = session(credentials=credentials)
    before = fingerprint(grant, None)
    credentials["more"]["tenant"] = "y"  # type: ignore[index]
    request, _ = drive(grant.obtain(attempt()), said({"token": "t"}))
    assert request[0].json == {"user": "ann", "more": {"tenant": "x"}}
    assert fingerprint(grant, None) == before == fingerprint(session(credentials=request[0].json), None)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"login_url": None}, ConfigurationError),
        ({"login_url": "http://api.example.com/login"}, ConfigurationError),
        ({"refresh_url": "http://api.example.com/refresh"}, ConfigurationError),
        ({"logout_url": "/logout"}, ConfigurationError),
        ({"credentials": {}}, ConfigurationError),
        ({"credentials": None}, ConfigurationError),
        ({"credentials": "SENTINEL"}, ConfigurationError),
        ({"credentials": {"a": b"SENTINEL"}}, ConfigurationError),
        ({"credentials": {"a": "SENTINEL\udc00"}}, ConfigurationError),
        ({"credentials": {"a": [lambda: "x"]}}, ConfigurationError),
        ({"credentials": {1: "SENTINEL"}}, ConfigurationError),
        ({"fields": {"accessToken": "token"}}, ConfigurationError),
        ({"fields": {"access_token": ""}}, ConfigurationError),
        ({"fields": {"access_token": "data..token"}}, ConfigurationError),
        ({"fields": {"access_token": []}}, ConfigurationError),
        ({"fields": {"access_token": None}}, ConfigurationError),
        ({"fields": {"access_token": "cookie:"}}, ConfigurationError),
        ({"fields": {"access_token": "cookie:a;b"}}, ConfigurationError),
        ({"fields": {"access_token": ["cookie:a", "token"]}}, ConfigurationError),
        ({"fields": {"expires_in": "cookie:a"}}, ConfigurationError),
        ({"fields": "token"}, ConfigurationError),
        ({"refresh_as": ""}, ConfigurationError),
        ({"refresh_as": "cookie:"}, ConfigurationError),
        ({"refresh_as": "cookie:a=b"}, ConfigurationError),
        ({"subject": ""}, ConfigurationError),
        ({"headers": {"Authorization": "SENTINEL"}}, ConfigurationError),
        ({"headers": {"Cookie": "SENTINEL"}}, ConfigurationError),
        ({"headers": {"no name": "x"}}, ConfigurationError),
        ({"headers": "SENTINEL"}, ConfigurationError),
        ({"headers": {"X-Key": "SENTINEL\n"}}, InvalidCredential),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], kind: type[Exception]) -> None:
    """Bad arguments are errors at construction, which quote none of them."""
    with pytest.raises(kind) as caught:
        session(**options)
    assert "SENTINEL" not in "".join(traceback.format_exception(caught.value))


# ── whose session it is ────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_that_makes_a_difference() -> None:
    """Two grants that differ in what goes on the wire, or in whose session it is, never share a token (F10 to F14)."""
    different: list[dict[str, Any]] = [
        {},
        {"login_url": "https://other.example.com/login"},
        {"refresh_url": None},
        {"credentials": {"email": "bob@example.com", "password": "x"}},
        {"credentials": {**CREDENTIALS, "password": "x"}},
        {"credentials": lambda: CREDENTIALS},
        {"credentials": lambda: {**CREDENTIALS}},
        {"credentials": {**CREDENTIALS, "password": lambda: CREDENTIALS["password"]}},
        {"fields": {"access_token": "cookie:a"}},
        {"refresh_as": "bearer"},
        {"headers": {"X-Tenant": "a"}},
        {"headers": {"X-Tenant": "b"}},
        {"subject": "ann"},
        {"subject": "bob"},
    ]
    grants = [session(**options) for options in different]
    assert len({fingerprint(grant, None) for grant in grants}) == len(different)
    for grant in grants:
        assert "SENTINEL" not in json.dumps(grant.identity())


def test_a_callable_is_nobody_elses() -> None:
    """Each grant is known by itself, not by where its callable is, another's place tomorrow; a subject is shared."""

    def ask() -> Any:
        return CREDENTIALS

    for credentials in (ask, {**CREDENTIALS, "password": ask}):
        grant = session(credentials=credentials)
        assert fingerprint(grant, None) == fingerprint(grant, None)
        assert fingerprint(grant, None) != fingerprint(session(credentials=credentials), None)
        shared = session(credentials=credentials, subject="ann")
        assert fingerprint(shared, None) == fingerprint(session(subject="ann"), None)


def test_what_makes_no_difference() -> None:
    """The same credentials in another order; with a subject, whatever opens the door; where it is given up."""
    turned = dict(reversed(CREDENTIALS.items()))
    assert fingerprint(session(credentials=turned), None) == fingerprint(session(), None)
    assert fingerprint(session(logout_url=None), None) == fingerprint(session(), None)
    changed = session(subject="ann", credentials={"password": "new"})
    assert fingerprint(changed, None) == fingerprint(session(subject="ann", credentials=dict), None)


def test_a_repr_shows_where_and_no_more() -> None:
    """Neither a repr nor a pickle has a credential in it, nor the person's name."""
    assert repr(session(subject="ann")) == "<SessionLogin api.example.com>"
    with pytest.raises(TypeError, match="not pickled"):
        session().__reduce_ex__(2)


# ── what is read ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("within", [None, "data", "tokens", "result"])
@pytest.mark.parametrize("access", ["access_token", "accessToken", "token", "jwt", "access"])
def test_common_spellings(access: str, within: str | None) -> None:
    """The usual names are found without being told, at the top and one level down."""
    facts = {access: "a", "refreshToken": "r", "expiresIn": 60, "scope": "x y"}
    got = minted(said({"user": {"id": 7}, **facts} if within is None else {"user": {"id": 7}, within: facts}))
    assert (got.token.access_token, got.token.refresh_token, got.token.scope, got.lifetime) == ("a", "r", "x y", 60.0)
    assert (got.token.token_type, got.token.expires_at, got.skew) == ("Bearer", NOW + 60.0, 0.0)


EXPRESS = {
    "access_token": ("tokens.access.token", "access.token"),
    "refresh_token": ("tokens.refresh.token", "refresh.token"),
    "expires_at": ("tokens.access.expires", "access.expires"),
}


@pytest.mark.parametrize(
    ("fields", "body", "expected"),
    [
        ({"access_token": "a.b.0.c"}, {"a": {"b": [{"c": "x"}]}, "token": "no"}, ("x", None, None)),
        ({"access_token": "0.t"}, [{"t": "x"}], ("x", None, None)),
        ({"access_token": "t.0"}, {"t": {"0": "x"}}, ("x", None, None)),
        ({"access_token": "key", "refresh_token": "r"}, {"key": "x", "refreshToken": "no"}, ("x", None, None)),
        ({"expires_in_ms": "data.expires"}, {"data": {"access_token": "x", "expires": 900000}}, ("x", None, 900.0)),
        ({"expires_in_ms": "ms"}, {"token": "x", "ms": 604_800_000, "expiresIn": 5}, ("x", None, 604_800.0)),
        ({"expires_at": "ends"}, {"token": "x", "expires_in": 5, "ends": NOW + 30}, ("x", None, 30.0)),
        (EXPRESS, {"tokens": {"access": {"token": "x", "expires": NOW + 9}, "refresh": {"token": "r"}}}, ("x", "r", 9)),
        (EXPRESS, {"access": {"token": "x", "expires": NOW + 60}, "refresh": {"token": "r"}}, ("x", "r", 60.0)),
    ],
)  # fmt: skip
def test_places_that_are_named(fields: dict[str, Any], body: Any, expected: tuple[Any, ...]) -> None:
    """A path is followed through objects and lists, the first of several that leads somewhere; it alone counts."""
    got = minted(said(body), fields=fields)
    assert (got.token.access_token, got.token.refresh_token, got.lifetime) == expected


@pytest.mark.parametrize(
    "body", [{"a": ["x"]}, {"a": []}, {"a": "x"}, {"a": None}, {"a": {"b": "x"}}, [], [["x"]], {"a.1": "x"}]
)
def test_a_path_that_leads_nowhere(body: Any) -> None:
    """Whatever is there instead: an error that says what to name, and none of Python's."""
    with pytest.raises(TokenRequestError, match="name its place in fields="):
        minted(said(body), fields={"access_token": "a.1"})


@pytest.mark.parametrize(
    ("facts", "lifetime"),
    [
        ({}, None),
        ({"expires_in": 3600}, 3600.0),
        ({"expiresIn": "3600.5"}, 3600.5),
        ({"expires_in": 0}, 0.0),
        ({"expires_in": None}, None),
        ({"expires_in": True}, None),
        ({"expires_in": "1h"}, None),
        ({"expires_in": "nan"}, None),
        ({"expires_in": 1e300}, MAX_LIFETIME),
        ({"expires_in": 10**400}, None),
        ({"expires_in": "9" * 5000}, None),
        ({"expires_in": [60]}, None),
        ({"expires_in": "soon", "expires_at": NOW + 60}, 60.0),
        ({"expires_in": 5, "expires_at": NOW + 60}, 5.0),
        ({"expires_at": NOW + 60}, 60.0),
        ({"expires": str(int(NOW + 60))}, 60.0),
        ({"exp": (NOW + 60) * 1000}, 60.0),
        ({"expiresAt": "2027-01-15T08:01:00Z"}, 60.0),
        ({"expiresAt": "2027-01-15T08:01:00.250Z"}, 60.25),
        ({"expiresAt": " 2027-01-15 10:01:00+02:00 "}, 60.0),
        ({"expiresAt": "2027-01-15T08:01:00"}, None),
        ({"expiresAt": "2027-01-15"}, None),
        ({"expiresAt": "tomorrow"}, None),
        ({"expiresAt": "9999-12-31T23:59:59-23:59"}, MAX_LIFETIME),
        ({"expiresAt": "0001-01-01T00:00:00+23:59"}, None),
        ({"expires_at": NOW - 60}, None),
        ({"expires_at": NOW}, None),
        ({"expires_at": 900_000}, None),
        ({"expires_at": NOW * 1e6}, None),
        ({"expires_at": -1}, None),
        ({"expires_at": True}, None),
        ({"expires_at": float("nan")}, None),
        ({"expires_at": 9e10}, MAX_LIFETIME),
    ],
)
def test_lifetimes(facts: dict[str, Any], lifetime: float | None) -> None:
    """Seconds, Unix times in seconds or milliseconds, ISO 8601; what cannot be read is missing, and never "expired"."""
    got = minted(said({"token": "x", **facts}))
    assert got.lifetime == lifetime
    assert got.token.expires_at == (None if lifetime is None else NOW + lifetime)


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
def test_a_time_is_reckoned_by_the_clock_that_wrote_it(skew: float) -> None:
    """A clock that is an hour off costs nothing, where the server says what time it has (F74)."""
    date = formatdate(NOW + skew, usegmt=True)
    got = minted(said({"token": "x", "expiresAt": NOW + skew + 60}, date=date))
    assert (got.lifetime, got.skew, got.token.expires_at) == (60.0, skew, NOW + 60.0)
    cookie = f"c=x; Expires={formatdate(NOW + skew + 60, usegmt=True)}"
    got = minted(said(cookies=(cookie,), date=date), fields={"access_token": "cookie:c"})
    assert got.lifetime == 60.0


def test_without_a_date_our_own_clock_has_to_do() -> None:
    """A server that does not say what time it has is taken to have ours."""
    response = ServerResponse(200, {}, json.dumps({"token": "x", "exp": NOW + 60}).encode())
    got = minted(response)
    assert (got.lifetime, got.skew) == (60.0, 0.0)


def test_a_refresh_keeps_what_its_answer_leaves_out() -> None:
    """The refresh token and the scope stay as they were (F05); what comes replaces them (F06)."""
    kept = minted(said({"accessToken": "new"}), HELD).token
    assert (kept.access_token, kept.refresh_token, kept.scope) == ("new", "old-refresh", "a b")
    token = minted(said({"accessToken": "new", "refreshToken": "next", "scope": ["c", "d", 5]}), HELD).token
    assert (token.refresh_token, token.scope) == ("next", "c d")


def test_a_login_keeps_nothing_of_the_session_before() -> None:
    """A new session has its own refresh token, or none."""
    token = minted(said({"accessToken": "new"}), HELD.spent()).token
    assert (token.refresh_token, token.scope) == (None, None)


COOKIES = {"access_token": "cookie:sid", "refresh_token": "cookie:rt"}


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        (("sid=a; Max-Age=60; HttpOnly",), ("a", None, 60.0)),
        (("sid=a", "rt=r; Path=/auth; HttpOnly; Max-Age=1000"), ("a", "r", None)),
        (("sid=a; max-age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",), ("a", None, 60.0)),
        ((f"sid=a; Expires={formatdate(NOW + 90, usegmt=True)}",), ("a", None, 90.0)),
        (("sid=a; Max-Age=soon; Expires=never",), ("a", None, None)),
        (('sid="a b"; Secure', "rt=x=y=="), ('"a b"', "x=y==", None)),
        (("sid=a", "rt=; Max-Age=0"), ("a", None, None)),
        (("sid=a", "rt=gone; Max-Age=0"), ("a", None, None)),
        (("sid=a", "rt=gone; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), ("a", None, None)),
        (("sid=a", "rt=; Path=/old; Max-Age=0", "rt=new"), ("a", "new", None)),
        (("sid=a", "rt=new", "rt=; Path=/old; Max-Age=0"), ("a", "new", None)),
        (("sid=old", "sid=a"), ("a", None, None)),
        (("sid=a", "SID=b", "rt", "=r", ""), ("a", None, None)),
        (("sid=a", "rt=\u00e9"), ("a", None, None)),
    ],
)  # fmt: skip
def test_tokens_in_cookies(cookies: tuple[str, ...], expected: tuple[Any, ...]) -> None:
    """Their values as they are, their age, and the one that lives, whatever else is deleted."""
    for body in (b"", b"OK", {"user": "ann"}):
        got = minted(said(body, cookies=cookies), fields=COOKIES)
        assert (got.token.access_token, got.token.refresh_token, got.lifetime) == expected
        assert got.token.token_type == "Cookie"


def test_the_body_says_more_of_a_lifetime_than_the_cookie() -> None:
    """A cookie may outlive the token in it."""
    got = minted(said({"expiresIn": 60}, cookies=("sid=a; Max-Age=9999",)), fields=COOKIES)
    assert got.lifetime == 60.0


def test_a_refresh_that_deletes_the_refresh_cookie_ends_it() -> None:
    """Not sent is kept, deleted is gone: the next renewal logs in."""
    kept = minted(said(cookies=("sid=new",)), HELD, fields=COOKIES).token
    gone = minted(said(cookies=("sid=new", "rt=; Max-Age=0")), HELD, fields=COOKIES).token
    assert (kept.refresh_token, gone.refresh_token) == ("old-refresh", None)
    garbled = minted(said(cookies=("sid=new", "rt", ";rt=")), HELD, fields=COOKIES).token
    assert garbled.refresh_token == "old-refresh"


def test_a_refresh_cookie_goes_back_as_it_came() -> None:
    """Value and quotes, in the Cookie field of the refresh alone."""
    fields = {"refresh_token": "cookie:rt"}
    token = minted(said({"token": "t"}, cookies=('rt="a=b"; HttpOnly',)), fields=fields).token
    assert asked(Entry(token, NOW, 60.0), fields=fields).headers == (("Cookie", 'rt="a=b"'),)


@pytest.mark.parametrize("value", ["a b", "a,b", 'a"b', "a\\b"])
def test_a_cookie_that_no_cookie_should_have(value: str) -> None:
    """It could not be sent back: an access token of that kind is missing, a refresh token is none."""
    with pytest.raises(TokenRequestError, match="it set no cookie sid") as caught:
        minted(said(cookies=(f"sid={value}",)), fields=COOKIES)
    assert value not in str(caught.value)
    assert minted(said(cookies=("sid=a", f"rt={value}")), fields=COOKIES).token.refresh_token is None


def test_a_token_from_outside_that_would_be_two_cookies() -> None:
    """Neither a refresh nor a logout presents it."""
    for token in (Token("a", refresh_token="SENTINEL; admin=1"), Token("SENTINEL; admin=1")):
        entry, grant = Entry(token, NOW, 60.0), session(fields=COOKIES)
        flows = [grant.revoke(attempt(entry)), *([grant.obtain(attempt(entry))] if token.refresh_token else [])]
        for flow in flows:
            with pytest.raises(InvalidCredential, match="RFC 6265") as caught:
                next(flow)
            assert "SENTINEL" not in str(caught.value)


# ── what a refusal means ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("entry", "answer", "kind"),
    [
        *((HELD, said({"message": "no"}, status), ReauthenticationRequired) for status in (400, 401, 403, 404, 422)),
        (HELD, said({"success": False}), ReauthenticationRequired),
        (HELD, said({"error": "session expired"}), ReauthenticationRequired),
        (HELD, said({"error": {"code": "x", "message": "y"}}), ReauthenticationRequired),
        *((None, said({"message": "no"}, status), ReauthenticationRequired) for status in (400, 401, 403, 422, 423)),
        (None, said({"ok": False}), ReauthenticationRequired),
        (None, said({"errors": ["no"]}), ReauthenticationRequired),
        *((None, said({"message": "no"}, status), TokenRequestError) for status in (404, 405, 415)),
        *((entry, said({}), TokenRequestError) for entry in (None, HELD)),
        *((entry, said({"token": ""}), TokenRequestError) for entry in (None, HELD)),
        *((entry, said({"token": "a\nb"}), TokenRequestError) for entry in (None, HELD)),
        *((entry, said({"token": {"access": "x"}}), TokenRequestError) for entry in (None, HELD)),
        *((entry, said(b"<html>", 302), ConfigurationError) for entry in (None, HELD)),
        *(
            (entry, said(b"busy", status), TokenEndpointUnavailable)
            for entry in (None, HELD)
            for status in (407, 408, 425, 429, 500, 502, 503)
        ),
        *(
            (entry, said(body), TokenEndpointUnavailable)
            for entry in (None, HELD)
            for body in (b"", b"<html>", b"\xff{", b"5", b'"token"', b"[" * 100_000)
        ),
    ],
)
def test_what_an_answer_means(entry: Entry | None, answer: ServerResponse, kind: type[TokenFlowError]) -> None:
    """Each answer without a token is one error of ours, told by the status first."""
    with pytest.raises(kind) as caught:
        minted(answer, entry)
    assert isinstance(caught.value, kind)
    assert isinstance(caught.value, ReauthenticationRequired) == (kind is ReauthenticationRequired)
    if not isinstance(caught.value, ConfigurationError):
        assert caught.value.status == answer.status
    was_taken = entry is not None and answer.status == 200
    assert caught.value.may_have_spent == was_taken, "a refresh whose answer is unclear may have retired its token"


def test_a_refusal_says_what_the_server_said() -> None:
    """Its words are quoted, bounded and without anything that we sent, whatever part of another it is."""
    echo = f"wrong password {CREDENTIALS['password']} for {CREDENTIALS['email']}: {json.dumps(CREDENTIALS)}"
    with pytest.raises(ReauthenticationRequired, match="the login was refused with 401") as caught:
        minted(said({"message": echo + "x" * 500}, 401))
    assert (caught.value.status, caught.value.error) == (401, None)
    assert "(wrong password " in str(caught.value)
    assert "check credentials=" in str(caught.value)
    assert len(caught.value.error_description) == 200
    assert "SENTINEL" not in str(vars(caught.value)) + str(caught.value)
    with pytest.raises(ReauthenticationRequired) as caught:
        minted(said({"error": {"code": "E7", "message": "expired old-refresh"}}, 401), HELD)
    assert (caught.value.error, caught.value.error_description.split()[0]) == ("E7", "expired")
    assert "old-refresh" not in str(caught.value) + str(vars(caught.value))
    with pytest.raises(ReauthenticationRequired) as caught:
        minted(said({"message": f"no: {CREDENTIALS['password']}"}, 401), HELD)
    assert "SENTINEL" not in str(caught.value) + str(vars(caught.value)), "not sent this time, but known all the same"
    nested = {"a": "secret", "b": ["secret-and-more", 123456]}
    with pytest.raises(ReauthenticationRequired) as caught:
        minted(said({"detail": "got secret-and-more, 123456 no"}, 400), credentials=nested)
    assert not {"secret", "and-more", "123456"} & set(re.findall(r"[a-z-]+|\d+", caught.value.error_description))


def test_what_may_be_a_token_is_not_quoted() -> None:
    """An answer whose token is elsewhere than we look shows nothing of itself; nor does one that echoes a header."""
    with pytest.raises(TokenRequestError, match="fields=") as caught:
        minted(said({"message": "SENTINEL", "detail": "SENTINEL"}))
    assert "SENTINEL" not in str(caught.value) + str(vars(caught.value))
    with pytest.raises(ReauthenticationRequired) as caught:
        minted(said({"message": "no such key: SENTINEL"}, 403), headers={"X-Key": "SENTINEL"})
    assert caught.value.error_description.startswith("no such key:")
    assert "SENTINEL" not in str(caught.value) + str(vars(caught.value))


@pytest.mark.parametrize("status", [302, 407, 503])
def test_an_error_says_which_endpoint_it_was(status: int) -> None:
    """Login, refresh and logout are three, and none of them is the token endpoint."""
    flows = {
        "login": session().obtain(attempt()),
        "refresh": session().obtain(attempt(HELD)),
        "logout": session().revoke(attempt(HELD)),
    }
    for name, flow in flows.items():
        with pytest.raises(TokenFlowError, match=f"the {name} endpoint") as caught:
            drive(flow, said(b"", status))
        assert "token endpoint" not in str(caught.value)


def test_a_reader_is_told_whose_answer_it_is() -> None:
    """Who answered is in each error of all three; without a word it is the token endpoint."""
    for status in (200, 302, 400, 407, 503):
        for read in (read_json, read_nothing)[: 1 if status == 200 else 2]:
            for what, options in (("the token endpoint", {}), ("the PAR endpoint", {"what": "the PAR endpoint"})):
                with pytest.raises(TokenFlowError, match=f"{what} (answered|refused|wants)"):
                    read(said(b"", status), NOW, **options)
        assert "the PAR endpoint" in str(read_refusal(said(b"", status), NOW, what="the PAR endpoint"))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": "invalid_grant"}, "invalid_grant"),
        ({"error": "bad_refresh_token", "error_description": "incorrect or expired"}, "bad_refresh_token"),  # GitHub
        ({"ok": False, "error": "invalid_refresh_token"}, "invalid_refresh_token"),  # Slack
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_session_that_has_ended_in_other_words(body: dict[str, Any], error: str, status: int) -> None:
    """GitHub and Slack say 200 and a word of their own for `invalid_grant`: somebody has to log in again."""
    with pytest.raises(ReauthenticationRequired) as caught:
        read_token_response(said(body, status), now=NOW, secrets=["refresh_token"])
    assert (caught.value.error, caught.value.status) == (error, status)


SECRET = 'a b/c+"ü\\'


@pytest.mark.parametrize(
    "echo",
    [SECRET, quote_plus(SECRET), quote(SECRET), quote(SECRET, safe=""), json.dumps(SECRET)[1:-1],
     json.dumps(SECRET, ensure_ascii=False)[1:-1]],
)  # fmt: skip
def test_no_form_of_a_secret_is_quoted(echo: str) -> None:
    """As it is, as a form or a URL has it, as JSON has it; and the longest first, for one may be a part of another."""
    for secrets in ([SECRET, "a"], ["a", SECRET]):
        error = read_refusal(said({"error": "x", "error_description": f"no: <{echo}>"}, 400), NOW, secrets)
        assert isinstance(error, TokenRequestError)
        assert error.error_description == "no: <***>"
    read_refusal(said({"error": "x"}, 400), NOW, ["\ud800", ""])  # and one that is no text breaks nothing


def test_retry_after_is_heeded() -> None:
    """Seconds, and dates by the server's own clock."""
    for value in ("120", formatdate(NOW + 120, usegmt=True)):
        with pytest.raises(TokenEndpointUnavailable) as caught:
            minted(said(b"", 429, retry_after=value))
        assert caught.value.retry_after == 120.0


@pytest.mark.parametrize(
    ("entry", "name", "outcome"),
    [
        (None, "ReadTimeout", "not sent"),
        (None, "ConnectError", "not sent"),
        (HELD, "ReadTimeout", "unknown"),
        (HELD, "ConnectError", "not sent"),
    ],
)
def test_what_was_lost_on_its_way(entry: Entry | None, name: str, outcome: str) -> None:
    """A login that was lost costs nothing; a refresh may have retired its token (F03)."""
    lost = type(name, (Exception,), {})("SENTINEL")
    with pytest.raises(TokenEndpointUnavailable, match="the login" if entry is None else "the refresh") as caught:
        drive(session().obtain(attempt(entry)), lost)
    assert (caught.value.outcome, caught.value.may_have_spent) == (outcome, outcome == "unknown")
    assert "SENTINEL" not in str(caught.value)


def test_an_error_of_ours_passes_as_it_is() -> None:
    """What a driver says of a wrong use is no failure of the network."""
    with pytest.raises(ConfigurationError, match="async client"):
        drive(session().obtain(attempt()), ConfigurationError("async client"))


# ── logging out ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "body", "headers"),
    [
        ({}, {"refreshToken": "old-refresh"}, {"Authorization": "Bearer old-access"}),
        ({"refresh_as": "bearer"}, {}, {"Authorization": "Bearer old-access"}),
        (
            {"fields": {"refresh_token": "cookie:rt"}},
            {},
            {"Authorization": "Bearer old-access", "Cookie": "rt=old-refresh"},
        ),
        ({"fields": COOKIES}, {}, {"Cookie": "sid=old-access; rt=old-refresh"}),
        ({"fields": {"access_token": "cookie:sid"}}, {"refreshToken": "old-refresh"}, {"Cookie": "sid=old-access"}),
    ],
)
def test_a_logout_presents_both_tokens(options: dict[str, Any], body: Any, headers: dict[str, str]) -> None:
    """Each in its own way, in one request, beside what goes along with all of them."""
    grant = session(headers={"X-CSRF": "1"}, **options)
    requests, agreed = drive(grant.revoke(attempt(HELD)), said(None, 204))
    assert agreed is True
    assert (requests[0].url, requests[0].json) == (LOGOUT, body)
    assert len(requests[0].headers) == len(headers) + 1
    assert dict(requests[0].headers) == {"X-CSRF": "1", **headers}


@pytest.mark.parametrize(
    ("options", "body", "headers"),
    [
        ({}, {"refreshToken": "old-refresh"}, {}),
        ({"refresh_as": "bearer"}, {}, {"Authorization": "Bearer old-refresh"}),
        ({"fields": COOKIES}, {}, {"Cookie": "rt=old-refresh"}),
    ],
)
def test_a_logout_without_an_access_token(options: dict[str, Any], body: Any, headers: dict[str, str]) -> None:
    """Of a session of which there is a refresh token alone nothing else is presented."""
    held = Entry.of_login(Token.for_refresh("old-refresh"), NOW)
    requests, _ = drive(session(**options).revoke(attempt(held)), said(None, 204))
    assert (requests[0].json, dict(requests[0].headers)) == (body, headers)


def test_what_a_logout_means() -> None:
    """2xx and 401 are agreement; without an endpoint, or a session, there is nobody to ask; the rest is an error."""
    for status in (200, 204, 401):
        assert drive(session().revoke(attempt(HELD)), said(b"bye", status))[1] is True
    requests, agreed = drive(session().revoke(attempt(Entry(Token("a"), NOW, 60.0))), said())
    assert (agreed, requests[0].json, requests[0].headers) == (True, {}, (("Authorization", "Bearer a"),))
    assert drive(session(logout_url=None).revoke(attempt(HELD))) == ([], False)
    assert drive(session().revoke(attempt())) == ([], False)
    for answer, kind in (
        (said({"message": "old-access"}, 403), TokenRequestError),
        (said({"message": "it was old-access-2", "token": "old-access-2"}, 403), TokenRequestError),
        (said([{"token": "new-access"}], 403, content_type="new-access"), TokenRequestError),
        (said(b"", 503), TokenEndpointUnavailable),
        (said(b"", 302), ConfigurationError),
        (type("ReadTimeout", (Exception,), {})("old-access"), TokenEndpointUnavailable),
    ):
        with pytest.raises(kind) as caught:
            drive(session().revoke(attempt(HELD)), answer)
        assert "access" not in str(caught.value).replace("access token", "")


# ── whatever a server sends ────────────────────────────────────────────────────────────────────────────────────────

SECRETS = ("SENTINEL-password", "SENTINEL-refresh", "SENTINEL-access")
WORDS = st.one_of(
    st.sampled_from([*SECRETS, "access_token", "data", "", "1" * 400, "\ud800", "é", "a\nb", "2027-01-15T08:01:00Z"]),
    st.text(max_size=8),
    st.builds("{} {}".format, st.text(max_size=3), st.sampled_from(SECRETS)),
)
NAMES = st.sampled_from(
    ["access_token", "token", "refreshToken", "expires_in", "expires_at", "exp", "scope", "data", "tokens", "error",
     "message", "detail", "success", "ok", "code", "errors"]
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)
BODIES = st.one_of(st.binary(max_size=40), VALUES.map(lambda value: json.dumps(value).encode()))
COOKIE_LINES = st.one_of(
    WORDS,
    st.builds(
        "{}={}; {}={}; {}".format,
        st.sampled_from(["sid", "rt", ""]),
        WORDS,
        st.sampled_from(["Max-Age", "expires", "x"]),
        WORDS,
        WORDS,
    ),
)


@settings(max_examples=400, deadline=None)
@given(
    body=BODIES,
    status=st.one_of(st.sampled_from([200, 201, 204, 400, 401]), st.integers(200, 599)),
    cookies=st.lists(COOKIE_LINES, max_size=4),
    date=st.one_of(st.none(), WORDS),
    retry_after=st.one_of(st.none(), WORDS),
    is_refresh=st.booleans(),
    fields=st.sampled_from([None, COOKIES, {"access_token": "data.0.token", "expires_at": "exp"}]),
)
def test_whatever_a_server_sends(
    body: bytes, status: int, cookies: list[str], date: Any, retry_after: Any, *, is_refresh: bool, fields: Any
) -> None:
    """It ends in a token that can be used, or in one error of ours without any secret in it."""
    headers = {name: value for name, value in {"date": date, "retry-after": retry_after}.items() if value is not None}
    entry = Entry(Token("SENTINEL-access", refresh_token="SENTINEL-refresh"), NOW, 60.0) if is_refresh else None
    grant = session(credentials={"user": "ann", "password": "SENTINEL-password"}, subject="ann", fields=fields)
    known = SECRETS if is_refresh else SECRETS[:1]
    response = ServerResponse(status, headers, body, tuple(cookies))
    try:
        got = drive(grant.obtain(attempt(entry)), response)[1]
    except TokenFlowError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
        assert not [secret for secret in known if secret in shown]
        return
    assert got.lifetime is None or 0 <= got.lifetime <= MAX_LIFETIME or "expires_in" in body.decode("latin-1")
    assert got.token.access_token.isprintable()
    shown = repr(got).replace(repr(got.token.scope), "")
    assert not [secret for secret in known if secret in shown]
    next(grant.obtain(attempt(Entry(got.token, NOW, got.lifetime))))  # and what came can be sent back


# ── end to end ─────────────────────────────────────────────────────────────────────────────────────────────────────

MODES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "body": ("", None),
    "refresh cookie": ("?cookies=refresh", {"refresh_token": "cookie:refresh"}),
    "cookies": ("?cookies=both", {"access_token": "cookie:access", "refresh_token": "cookie:refresh"}),
}


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(accounts={"ann": "SENTINEL"})


@pytest.fixture
def base(sandbox: Sandbox) -> Iterator[str]:
    with serve(sandbox) as url:
        yield url


def auth_for(base: str, mode: str = "body", *, policy: RenewalPolicy | None = None, **options: Any) -> TokenAuth:
    query, fields = MODES[mode]
    urls = {f"{name}_url": f"{base}/session/{name}{query}" for name in ("login", "refresh", "logout")}
    store = options.pop("store", None)
    given = {**urls, "credentials": {"username": "ann", "password": "SENTINEL"}, "fields": fields, **options}
    return TokenAuth(SessionLogin(**given), policy=policy, store=store)


LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2])


@pytest.mark.sampled(0)
@LIBRARIES
@pytest.mark.parametrize("mode", MODES)
def test_a_session_in_threads(sandbox: Sandbox, base: str, library: Any, mode: str) -> None:
    """Fifty requests at once log in once; fifty that are refused refresh once, ten times over; logout is the end."""
    auth = auth_for(base, mode)
    with library.Client(base_url=base, auth=auth, timeout=20) as client, ThreadPoolExecutor(50) as pool:
        for _ in range(4):
            statuses = list(pool.map(lambda _: client.get("/api/x").status_code, range(50)))
            assert statuses == [200] * 50
            sandbox.expire_access_tokens()
        assert (sandbox.session_logins, sandbox.session_refreshes, sandbox.families_revoked) == (1, 3, 0)
        auth.revoke()
        assert sandbox.session_logouts == 1
        assert dict(client.cookies) == {}
    assert "SENTINEL" not in repr(auth)


@pytest.mark.sampled
@LIBRARIES
@pytest.mark.parametrize("mode", MODES)
def test_a_session_on_a_loop(sandbox: Sandbox, base: str, library: Any, mode: str, anyio_backend: str) -> None:
    """The same on asyncio and on trio."""
    auth = auth_for(base, mode)

    async def main() -> None:
        statuses: list[int] = []
        async with library.AsyncClient(base_url=base, auth=auth, timeout=20) as client:

            async def one() -> None:
                statuses.append((await client.get("/api/x")).status_code)

            for _ in range(4):
                async with anyio.create_task_group() as tasks:
                    for _ in range(50):
                        tasks.start_soon(one)
                sandbox.expire_access_tokens()
            await auth.arevoke()
        assert statuses == [200] * 200

    anyio.run(main, backend=anyio_backend)
    counts = sandbox.session_logins, sandbox.session_refreshes, sandbox.session_logouts, sandbox.families_revoked
    assert counts == (1, 3, 1, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_refresh_that_is_refused_leads_to_one_login(sandbox: Sandbox, base: str, mode: str) -> None:
    """Whose session was ended at the server logs in again, once for everybody."""
    auth = auth_for(base, mode)
    with httpx.Client(base_url=base, auth=auth, timeout=20) as client, ThreadPoolExecutor(20) as pool:
        client.get("/api/x")
        sandbox.revoke_family(auth.token().refresh_token or "")
        statuses = list(pool.map(lambda _: client.get("/api/x").status_code, range(20)))
    assert statuses == [200] * 20
    assert (sandbox.session_logins, sandbox.session_refreshes) == (2, 1)


def test_without_rotation_the_refresh_token_is_kept(base: str, sandbox: Sandbox) -> None:
    """An answer without one leaves the one that there is (F05)."""
    other = Sandbox(accounts={"ann": "SENTINEL"}, rotate=False)
    with serve(other) as url, httpx.Client(base_url=url, auth=auth_for(url)) as client:
        for _ in range(4):
            assert client.get("/api/x").status_code == 200
            other.expire_access_tokens()
    assert (other.session_logins, other.session_refreshes) == (1, 3)


def test_without_a_refresh_url_it_logs_in_again(base: str, sandbox: Sandbox) -> None:
    """Credentials alone keep a session going."""
    with httpx.Client(base_url=base, auth=auth_for(base, refresh_url=None)) as client:
        for _ in range(3):
            assert client.get("/api/x").status_code == 200
            sandbox.expire_access_tokens()
    assert (sandbox.session_logins, sandbox.session_refreshes) == (3, 0)


@LIBRARIES
def test_a_login_that_is_refused_is_an_error_once(sandbox: Sandbox, base: str, library: Any) -> None:
    """Fifty at once and fifty after them share one refusal: nobody hammers a server with a wrong password (F55)."""
    auth = auth_for(base, credentials={"username": "ann", "password": "SENTINEL-wrong"})
    shown: list[str] = []
    lock = threading.Lock()

    def ask(_number: int) -> None:
        with pytest.raises(ReauthenticationRequired, match="the login was refused with 401") as caught:
            client.get("/api/x")
        with lock:
            shown.append("".join(traceback.format_exception(caught.value)))
        assert caught.value.status == 401

    with library.Client(base_url=base, auth=auth, timeout=20) as client, ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
        list(pool.map(ask, range(50)))
    assert len(shown) == 100
    assert sandbox.session_logins == 1
    assert "SENTINEL-wrong" not in "".join(shown)


@pytest.mark.parametrize(
    "fault", [Status(503), Status(429, retry_after=0), Html(), Garbage(), DropBefore(), DropAfter()], ids=repr
)
def test_a_login_that_fails_for_now_is_tried_again(sandbox: Sandbox, base: str, fault: Any) -> None:
    """An outage of a moment, even an answer that was lost, goes unseen."""
    sandbox.script(fault, on="login")
    with httpx.Client(base_url=base, auth=auth_for(base)) as client:
        assert client.get("/api/x").status_code == 200
    assert sandbox.session_logins == 2


@pytest.mark.parametrize("fault", [DropAfter(), Garbage()], ids=repr)
def test_a_refresh_whose_answer_was_lost_ends_in_a_login_at_last(sandbox: Sandbox, base: str, fault: Any) -> None:
    """The token is presented once more, as anybody's, and then the credentials open another session."""
    auth = auth_for(base, policy=RenewalPolicy(budget=5.0))
    with httpx.Client(base_url=base, auth=auth) as client:
        client.get("/api/x")
        sandbox.expire_access_tokens()
        sandbox.script(fault, on="refresh")
        with pytest.raises(TokenEndpointUnavailable):
            client.get("/api/x")
        assert auth.warm()
        assert client.get("/api/x").status_code == 200
    assert (sandbox.session_logins, sandbox.session_refreshes) == (2, 2)


def test_a_session_outlives_the_process_in_a_store(sandbox: Sandbox, base: str) -> None:
    """Another process with the same credentials goes on with the session, and refreshes it as it came."""
    store = MemoryStore()
    for number in range(3):
        auth = auth_for(base, "cookies", store=store)
        with httpx.Client(base_url=base, auth=auth) as client:
            assert client.get("/api/x").status_code == 200
            sandbox.expire_access_tokens()
        assert (sandbox.session_logins, sandbox.session_refreshes) == (1, number)


def test_a_password_goes_through_a_slow_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fingerprint is no secret: whoever has one pays for each guess with a hundred thousand rounds."""
    monkeypatch.setattr(_session_login, "_ROUNDS", ROUNDS)
    rounds: list[int] = []

    def pbkdf2_hmac(*arguments: Any) -> bytes:
        rounds.append(arguments[3])
        return b""

    monkeypatch.setattr("hashlib.pbkdf2_hmac", pbkdf2_hmac)
    fingerprint(session(), None)
    assert rounds == [100_000]


def test_nobody_is_served_with_the_session_of_another(sandbox: Sandbox, base: str) -> None:
    """Two people, one store, and callables at the same place in memory: each has a session of their own (F14)."""
    sandbox.accounts["bob"] = "SENTINEL"
    who, store = "", MemoryStore()

    def ask() -> dict[str, str]:
        return {"username": who, "password": "SENTINEL"}

    for who in ("ann", "bob"):
        with httpx.Client(base_url=base, auth=auth_for(base, credentials=ask, store=store)) as client:
            assert client.get("/api/x").json()["subject"] == who
    assert sandbox.session_logins == 2


@LIBRARIES
def test_credentials_from_an_async_callable(sandbox: Sandbox, base: str, library: Any, anyio_backend: str) -> None:
    """A vault that is asked on the loop, once for everybody; a sync client says that it cannot ask it."""
    asked: list[int] = []

    async def vault() -> dict[str, str]:
        await anyio.sleep(0.01)
        asked.append(1)
        return {"username": "ann", "password": "SENTINEL"}

    auth = auth_for(base, credentials=vault)

    async def main() -> None:
        async with library.AsyncClient(base_url=base, auth=auth, timeout=20) as client:

            async def one() -> None:
                assert (await client.get("/api/x")).status_code == 200

            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(one)

    anyio.run(main, backend=anyio_backend)
    assert (len(asked), sandbox.session_logins) == (1, 1)
    refusal = pytest.raises(ConfigurationError, match="async")
    with library.Client(base_url=base, auth=auth_for(base, credentials=vault)) as client, refusal:
        client.get("/api/x")
    assert sandbox.session_logins == 1


def test_credentials_never_follow_a_redirect(sandbox: Sandbox, base: str) -> None:
    """A login endpoint that has moved is an error that says so; nothing goes where it points (F16)."""
    elsewhere = Sandbox(accounts={"ann": "SENTINEL"})
    with serve(elsewhere) as other:
        url = f"{base}/redirect?status=307&to={other}/session/login"
        refusal = pytest.raises(ConfigurationError, match="redirect")
        auth = auth_for(base, login_url=url)
        with httpx.Client(base_url=base, auth=auth, follow_redirects=True) as client, refusal:
            client.get("/api/x")
    assert elsewhere.seen == []
    assert [seen.path for seen in sandbox.seen] == ["/redirect"]


def test_the_service_of_the_articles(sandbox: Sandbox, base: str) -> None:
    """Login, refresh, logout, isAuthenticated and getAccessToken, as the README has them."""
    auth = auth_for(base)
    assert auth.status.expires_in is None  # isAuthenticated: no
    assert auth.warm()  # login
    assert auth.status.expires_in is not None
    token = auth.token().access_token  # getAccessToken
    with httpx.Client(base_url=base, auth=auth) as api:
        sandbox.expire_access_tokens()
        assert api.get("/api/profile").json()["subject"] == "ann"  # refresh: by itself
        assert auth.token().access_token != token
        auth.revoke()  # logout
        assert auth.status.expires_in is None
        with pytest.raises(ReauthenticationRequired):
            api.get("/api/profile")
        assert auth.warm()
        assert api.get("/api/profile").status_code == 200
    assert (sandbox.session_logins, sandbox.session_refreshes, sandbox.session_logouts) == (2, 1, 1)


class Rolling:
    """An API whose session is a cookie that it sets anew with each answer; its login is in the same place."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.logins = 0
        self.good: set[str] = set()
        self.seen: list[tuple[str, str | None]] = []

    def __call__(self, request: Any) -> Any:
        if request.url.path == "/login":
            self.logins += 1
            self.good = {f"sid=S{self.logins}"}
            return self.library.Response(200, json={}, headers={"Set-Cookie": f"sid=S{self.logins}; Path=/"})
        cookie = request.headers.get("Cookie")
        self.seen.append((request.url.host, cookie))
        ours = self.good & set((cookie or "").split("; "))
        status = 401 if not ours else 307 if request.url.path == "/moved" else 200
        headers = {"Set-Cookie": f"{next(iter(ours))}; Path=/"} if status == 200 else {}
        return self.library.Response(status, headers={**headers, "Location": "/x"})

    def auth(self, **options: Any) -> TokenAuth:
        grant = SessionLogin(LOGIN, credentials={"user": "ann"}, fields={"access_token": "cookie:sid"})
        return TokenAuth(grant, client=self.library.Client(transport=self.library.MockTransport(self)), **options)

    def client(self) -> Any:
        return self.library.Client(transport=self.library.MockTransport(self), follow_redirects=True)


API = "https://api.example.com/x"


@LIBRARIES
def test_an_api_that_sets_the_cookie_itself(library: Any) -> None:
    """What is in the caller's jar stands in nobody's way: renewals go on, and a logout is one."""
    api = Rolling(library)
    auth = api.auth()
    with api.client() as client:
        client.cookies.set("mine", "1", domain="api.example.com")
        assert client.get(API, auth=auth).status_code == 200
        assert client.cookies["sid"] == "S1"
        api.good.clear()  # the session ends at the server
        assert client.get(API, auth=auth).status_code == 200
        assert [cookie for _, cookie in api.seen] == [f"mine=1; sid={sid}" for sid in ("S1", "S1", "S2")]
        client.cookies.set("sid", "S1", domain="api.example.com")
        assert client.get("https://api.example.com/moved", auth=auth).status_code == 200, "a redirect takes the jar's"
        auth.revoke()
        api.seen.clear()
        with pytest.raises(ReauthenticationRequired):
            client.get(API, auth=auth)
        assert api.seen == []
        client.get(API, auth=auth, extensions={"tokenflow": {"auth": False}})
        assert "sid=S2" in str(api.seen), "the caller's jar is the caller's"
        assert auth.warm()
        assert client.get(API, auth=auth).status_code == 200
        assert api.seen[1:] == [("api.example.com", "mine=1; sid=S3")]
    assert api.logins == 3


def test_where_a_cookie_may_go() -> None:
    """To the origin that it is from, as from a browser; a bearer token, wherever `origins=` says."""
    cookie = {"access_token": "cookie:sid"}
    assert session(fields=cookie).origins == ("https://api.example.com",)
    assert session(fields=cookie, login_url="http://[::1]:8000/a?b").origins == ("http://[::1]:8000",)
    assert session().origins is session(fields={"refresh_token": "cookie:rt"}).origins is None


@LIBRARIES
def test_a_cookie_goes_to_nobody_else(library: Any) -> None:
    """Without `origins=` to the origin of the login alone; with it, to those that it names (F15)."""
    api = Rolling(library)
    with api.client() as client:
        for url in ("https://evil.example.net/x", "https://api.example.com:8443/x"):
            with pytest.raises(OriginNotAllowed):
                client.get(url, auth=api.auth())
        assert api.seen == []
        assert client.get("https://API.example.com:443/x", auth=api.auth()).status_code == 200
        other = api.auth(origins=("https://www.example.com",))
        assert client.get("https://www.example.com/x", auth=other).status_code == 200
        with pytest.raises(OriginNotAllowed):
            client.get(API, auth=other)


@LIBRARIES
def test_a_token_that_would_be_two_cookies_is_not_sent(library: Any) -> None:
    """Neither as the first token nor by `set_token`, which changes nothing (RFC 6265 §4.1.1)."""
    api, store = Rolling(library), MemoryStore()
    auth = api.auth(store=store)
    with api.client() as client:
        client.get(API, auth=auth)
        before = auth.token()
        with pytest.raises(InvalidCredential, match="cookie") as caught:
            auth.set_token(Token("SENTINEL; admin=1"))
        assert "SENTINEL" not in str(caught.value)
        assert auth.token() == before
        with pytest.raises(InvalidCredential):
            client.get(API, auth=api.auth(token=Token("SENTINEL; admin=1")))
    assert "SENTINEL" not in str(api.seen)


def test_fields_are_plain_data() -> None:
    """What is read of an answer shows no token in its repr."""
    found = Fields(None).read(said({"token": "SENTINEL"}, cookies=("a=SENTINEL",)), {"token": "SENTINEL"}, NOW)
    assert found.access_token == "SENTINEL"
    assert "SENTINEL" not in repr(found)
