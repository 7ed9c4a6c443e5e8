"""What the doctor hides, and what it does not: secrets in what was sent, cut, spelt otherwise, and our own words."""

from __future__ import annotations

import base64
import json
import re
import time
from html import escape

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpx_tokenflow.doctor import Question, examine, explain
from httpx_tokenflow.doctor._facts import Exchange, Facts, Fields
from httpx_tokenflow.doctor._flaws import spelling
from httpx_tokenflow.doctor._sent import Sent, credentials_of
from httpx_tokenflow.doctor._sifting import Sieve, _quoted, without_secrets

SECRET = "Zq9-hunter-SECRETvalue-7731"
LONG = "Q7" + "k3JdPz" * 60
SAYS = "authentication required, invalid token: "


def told(fields: list[tuple[str, str]], echo: str, url: str = "https://api.example/v1", **received: str) -> str:
    """All that is explained of a request whose credential the server gives back, and its words as evidence has them."""
    answer = httpx.Response(
        401, json={"message": SAYS + echo}, headers=received, request=httpx.Request("GET", url, headers=fields)
    )
    diagnosis = explain(answer)
    return f"{json.dumps(diagnosis.to_dict(), ensure_ascii=False)} {diagnosis.facts.said('authentication')}"


def facts_of(fields: list[tuple[str, str]], url: str = "https://api.example/v1", **received: str) -> Facts:
    one = Exchange(url=url, sent=Fields(fields), status=401, received=Fields(received.items()))
    return Facts(exchanges=(one,))


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "X-Acme-Secret", "X-Authorization", "Authentication", "AccessKey", "Fastly-Key", "Token",
        "CB-ACCESS-SIGN", "apiSecretAccessKey", "Proxy-Authorization", "X-Jwt-Assertion", "X-Made-Up", "Cookie",
    ],
)  # fmt: skip
def test_any_field_may_carry_a_secret(name):
    """The value of a field that is not known to be harmless is not shown when the server repeats it."""
    assert "hunter" not in told([(name, SECRET)], SECRET)


@pytest.mark.parametrize(
    "value",
    [
        f"ApiKey id:{SECRET}",
        "ApiKey " + base64.b64encode(f"id:{SECRET}".encode()).decode(),
        f'Token token="{SECRET}"',
        f'OAuth oauth_consumer_key="u",oauth_signature="{SECRET}"',
        f'Digest username="u", realm="api", response="{SECRET}"',
        f"AWS4-HMAC-SHA256 Credential=AKIA/x,SignedHeaders=host,Signature={SECRET}",
        f'Bearer {{"access_token":"{SECRET}","token_type":"bearer"}}',
        "Basic " + base64.b64encode(f"{SECRET}:".encode()).decode(),
    ],
)
def test_the_parts_of_a_credential_are_secrets(value):
    """What stands in a credential behind a name, a colon or a quote is not shown by itself."""
    assert "hunter" not in told([("Authorization", value)], SECRET)


@pytest.mark.parametrize(
    ("password", "echo"),
    [
        (SECRET, SECRET.upper()),
        (SECRET, base64.b64encode(SECRET.encode()).decode()),
        (SECRET, SECRET.encode().hex()),
        (SECRET, base64.b64encode(f"bob:{SECRET}".encode()).decode().rstrip("=")),
        ('p"q<r~s&41-tail', escape('p"q<r~s&41-tail')),
        ('p"q<r~s&41-tail', 'p"q<r~s&41-tail'),
        ("8a1Z", "8a1Z"),
        ("hunter22", base64.b64encode(b"hunter22").decode()),
        ("hunter22", b"hunter22".hex()),
        (SECRET, SECRET[:-1]),
        (SECRET, SECRET[:14] + "..."),
        (LONG, LONG[:76] + "\n" + LONG[76:152]),
    ],
)
def test_a_secret_is_known_in_any_spelling(password, echo):
    """Other letters, base64, hex, HTML, a short one, or a piece of it: none is shown."""
    basic = base64.b64encode(f"bob:{password}".encode()).decode()
    shown = told([("Authorization", f"Basic {basic}")], echo)
    assert SAYS in shown
    assert echo[:8].strip() not in shown


@pytest.mark.parametrize("before", [0, 150, 190])
def test_what_is_cut_is_sifted_first(before):
    """A long credential that does not fit into what is quoted shows no piece of seven characters either."""
    facts = facts_of([("Authorization", f"Bearer {LONG}")])
    shown = facts.quoted("x " * (before // 2) + LONG)
    assert "***" in shown
    assert all(LONG[at : at + 4] not in shown for at in range(len(LONG) - 3))


def test_said_is_sifted_before_it_is_cut():
    """The words that a cause quotes end with the mask, and not with the beginning of a credential."""
    body = json.dumps({"message": SAYS + "x" * (197 - len(SAYS)) + LONG})
    one = Exchange(sent=Fields([("Authorization", f"Bearer {LONG}")]), status=401, body=body)
    said = Facts(exchanges=(one,)).said("authentication required")
    assert said is not None
    assert said.endswith("x***'")


@pytest.mark.parametrize(
    "url",
    [
        f"https://api.example/bot{SECRET}/getMe",
        f"https://api.example/x?{SECRET}",
        f"https://api.example/x;jsessionid={SECRET}",
        f"https://api.example/x?deploy={SECRET}",
        f"https://{SECRET}:x@api.example/",
        f"https://api.example/x?a=1#access_token={SECRET}",
    ],
)
def test_secrets_in_urls(url):
    """Wherever in a URL it is, a secret is neither shown with the URL nor in words that repeat it, sent or received."""
    assert "hunter" not in without_secrets(url)
    assert "hunter" not in told([("Accept", "*/*")], SECRET, url)
    assert "hunter" not in Sieve.of(facts_of([], Location=url)).sift(f"moved: {SECRET}")


@settings(max_examples=300, deadline=None)
@given(st.text("a'\" \n=", max_size=30))
def test_what_is_between_quotes(text):
    """What is found in linear time is what a pattern finds that looks again behind each quote."""
    pattern = re.compile(r"(?<!\w)(['\"])(.*?)\1(?!\w)", re.DOTALL)
    assert _quoted(text) == [match.span(2) for match in pattern.finditer(text)]


def test_urls_are_shown_as_far_as_they_may_be():
    """Paths, names of parameters and hosts stay; a parameter without a value of its own is three dots."""
    assert (
        without_secrets("https://a:b@api.example/v1/users?page=2&SECRETVALUE")
        == "https://api.example/v1/users?page=…&…"
    )
    assert without_secrets("https://api.example/x;v=1/y#top") == "https://api.example/x;…/y"
    assert without_secrets("https://api.example/.well-known/openid-configuration").endswith("/openid-configuration")


def test_a_password_that_is_a_word_hides_nothing_of_ours():
    """With the password "password" ids, titles and our sentences are whole, and the server's word is hidden."""
    facts = facts_of([("Authorization", "Basic " + base64.b64encode(b"bob:password").decode())])
    assert facts.sieve.sift_ours("the user name or password is not accepted") == (
        "the user name or password is not accepted"
    )
    assert facts.sieve.sift_ours("the body says 'no password'") == "the body says 'no ***'"
    assert facts.sieve.sift("no password") == "no ***"
    shown = told([("Authorization", "Basic Ym9iOnBhc3N3b3Jk")], "", **{"WWW-Authenticate": 'Basic realm="x"'})
    assert "wrong-password" in shown


def test_a_server_does_not_choose_what_is_hidden():
    """A cookie that is a word, or short, is no secret; a long one is."""
    sieve = Sieve.of(facts_of([], **{"Set-Cookie": "a=causes; Path=/"}))
    assert sieve.sift("the causes") == "the causes"
    assert Sieve.of(facts_of([], **{"Set-Cookie": f"a={SECRET}; Path=/"})).sift(f"not {SECRET}") == "not ***"


def test_our_own_words_are_not_hidden_for_a_run():
    """A credential that is made of words hides runs of them in the words of others only."""
    sieve = Sieve(["my-authorization-token-for-tests-1"])
    assert sieve.sift_ours("Authorization has a token") == "Authorization has a token"
    assert sieve.sift("bad my-authorizati") == "bad ***"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Bearer ", "Bearer stands alone"),
        ("Bearer [object Object]", "the value is '[object Object]'"),
        ("'undefined'", "the value is 'undefined'"),
        (f"X-API-Key: {SECRET}", "the value begins with X-API-Key: once more"),
        (f"Acme {SECRET}", "Acme realm"),
        ("AWS4-HMAC-SHA256 Credential=AKIA/x,SignedHeaders=host;x-amz-date,Signature=8f3a6c1e5b7d", "no x-amz-date"),
    ],
)
def test_what_is_around_a_credential_is_none(value, text):
    """Schemes, names, words for nothing and names of fields that are signed are shown, also in words of others."""
    assert Sieve.of(facts_of([("Authorization", value)])).sift(text) == text


def test_where_a_login_page_leads_back_is_no_secret():
    """A path or a URL in a query is not hidden wherever it is; what is secret in it is."""
    sieve = Sieve.of(facts_of([], Location=f"/login?next=/v1/things%3Fcode%3D{SECRET}"))
    assert sieve.sift(f"https://api.example/v1/things {SECRET}") == "https://api.example/v1/things ***"


def test_harmless_values_are_shown():
    """What a browser or HTTP itself sends is no secret."""
    fields = [("Accept", "application/json"), ("User-Agent", "python-httpx/0.28"), ("X-Request-Id", "8f3a6c1e5b7d")]
    assert "application/json python-httpx/0.28 8f3a6c1e5b7d" in told(
        fields, "application/json python-httpx/0.28 8f3a6c1e5b7d"
    )


def test_a_repr_shows_no_credential():
    """A credential without a scheme whose first word looks like one is not in the repr."""
    sent = credentials_of("", [("Authorization", f"{SECRET} x")])[0]
    assert SECRET not in repr(sent) + repr(spelling(sent))
    assert repr(Sent("Authorization", "Bearer x", "Bearer", "x")) == "<Sent in Authorization, Bearer>"


def test_a_long_text_is_sifted_in_time():
    """Texts and secrets of many kilobytes end; the bound only catches a hang."""
    sieve = Sieve([LONG * 50, "a" * 20_000])
    assert sieve.sift("b" * 16_000 + "a" * 16_000) == "b" * 16_000 + "***"


def certainty_of(url: str, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    answer = httpx.Response(
        401, headers={"WWW-Authenticate": "Bearer"}, request=httpx.Request("GET", url, headers=fields)
    )
    return [(one.id, one.certainty.name) for one in explain(answer).findings][:1]


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("https://api.example/v1", ("X-Made-Up", SECRET)),
        (f"https://api.example/v1?{SECRET}", ("Accept", "*/*")),
        (f"https://api.example/v1?deploy={SECRET}", ("Accept", "*/*")),
        (f"https://api.example/bot{SECRET}/getMe", ("Accept", "*/*")),
    ],
)
def test_what_may_be_a_credential_leaves_a_doubt(url, field):
    """That nothing was sent is only likely where a field, a parameter or a path is there that may be a credential."""
    assert certainty_of(url, [field]) == [("no-credential", "LIKELY")]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/v1?page=2&fields=name,address&since=2026-01-01T00:00:00Z",
        "https://api.example/v1/3fa85f64-5717-4562-b3fc-2c963f66afa6?flag",
        "https://api.example/v1?page_token=abc&callback=https://app.example/done",
    ],
)
def test_what_is_harmless_leaves_none(url):
    """That nothing was sent is certain where all that was sent is known to be something else."""
    assert certainty_of(url, [("X-Request-Id", "8f3a6c1e5b7d49f2")]) == [("no-credential", "CERTAIN")]


@pytest.mark.parametrize(
    ("url", "field"),
    [
        *(
            ("https://api.example/v1", name)
            for name in ("AccessKey", "Fastly-Key", "CB-ACCESS-KEY", "X-Authorization", "Authorisation", "X-Session-Id")
        ),
        *(
            (f"https://api.example/v1?{name}=8f3a6c1e", "Accept")
            for name in (
                "appid", "private_token", "code", "subscription-key", "hapikey", "X-Amz-Signature", "sig", "Signature",
            )
        ),
    ],
)  # fmt: skip
def test_credentials_of_many_names(url, field):
    """What products call their key, token or signature is a credential: nobody is told that none was sent."""
    assert [one.value for one in credentials_of(url, [(field, "8f3a6c1e")])] == ["8f3a6c1e"]
    assert certainty_of(url, [(field, "8f3a6c1e")])[0][0] != "no-credential"


def test_bare_has_none_of_them():
    """The probe without a credential leaves out fields and parameters of any such name, and keeps the others."""
    fields = Fields([("AccessKey", SECRET), ("Autorization", SECRET), ("X-Session-Id", SECRET), ("X-Acme", "a")])
    question = Question(url="https://api.example/v1?appid=8f3a6c1e&X-Amz-Signature=8f3a6c1e&page=2", fields=fields)
    steps = examine(question)
    next(steps)
    bare = steps.send(Exchange(url=question.url, sent=fields, status=401))
    assert (bare.role, bare.url, bare.fields.pairs) == ("bare", "https://api.example/v1?page=2", (("X-Acme", "a"),))


def test_line_feeds_by_the_thousand_are_read_in_time():
    """A credential that is line feeds is read in linear time; the bound only catches a hang."""
    began = time.monotonic()
    read = spelling(credentials_of("", [("Authorization", "Bearer x" + "\n" * 60_000 + "y")])[0])
    assert (read.value, read.flaw("line-break") is not None) == ("xy", True)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_password_is_hidden_however_it_was_encoded(encoding):
    """The password of a Basic credential is not told where the server says it back, in UTF-8 or in Latin-1."""
    credential = base64.b64encode(f"müller:{SECRET}".encode(encoding)).decode()
    request = httpx.Request("GET", "https://api.example/x", headers={"Authorization": f"Basic {credential}"})
    asked = {"WWW-Authenticate": 'Basic realm="x"'}
    told = explain(httpx.Response(401, headers=asked, json={"message": f"invalid password {SECRET}"}, request=request))
    assert told.first.id == "wrong-password"
    assert SECRET not in json.dumps(told.to_dict())
