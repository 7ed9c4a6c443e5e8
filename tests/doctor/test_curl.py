"""A curl command line is read as curl would, or refused with a sentence."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow.cli._asked import asked_by
from httpx_tokenflow.cli._curl import parse_curl
from httpx_tokenflow.cli._shell import words_of

URL = "https://api.example.com/v1/things"
SECRET = "s3cret-8f3a6c1e5b7d"

# As a shell has it, or pasted whole; method, header fields, and what else is to be seen.
READ = [
    (f"curl {URL}", "GET", [], {}),
    (f"curl -X POST {URL}", "POST", [], {}),
    (f"curl -XDELETE {URL}", "DELETE", [], {}),
    (f"curl --request=PUT {URL}", "PUT", [], {}),
    (f"curl --request PATCH {URL}", "PATCH", [], {}),
    (f"curl {URL} -H 'Authorization: Bearer abc'", "GET", [("Authorization", "Bearer abc")], {}),
    (f"curl {URL} -H'X-API-Key:abc'", "GET", [("X-API-Key", "abc")], {}),
    (f"curl {URL} --header='X-API-Key:   abc  '", "GET", [("X-API-Key", "abc")], {}),
    (f'curl {URL} -H "X-A: say \\"hi\\" \\\\ \\n"', "GET", [("X-A", 'say "hi" \\ \\n')], {}),
    (f"curl {URL} -H 'Accept:'", "GET", [], {}),
    (f"curl {URL} -H 'X-Empty;'", "GET", [("X-Empty", "")], {}),
    (f"curl -u me:pass {URL}", "GET", [], {"user": "me:pass"}),
    (f"curl -ume:pass {URL}", "GET", [], {"user": "me:pass"}),
    (f"curl --user=me:pa:ss --basic {URL}", "GET", [], {"user": "me:pa:ss"}),
    (f"curl -b 'a=1; b=2' {URL}", "GET", [("Cookie", "a=1; b=2")], {}),
    (f"curl -b a=1 --cookie b=2 {URL}", "GET", [("Cookie", "a=1; b=2")], {}),
    (f"curl -d x=1 {URL}", "POST", [], {"has_body": True}),
    (f"curl --data-raw '{{}}' -X GET {URL}", "GET", [], {"has_body": True}),
    (f"curl --data-binary @file {URL}", "POST", [], {"has_body": True}),
    (f"curl --data-urlencode 'a=b c' {URL}", "POST", [], {}),
    (f"curl -F file=@x {URL}", "POST", [], {}),
    (f"curl -T x {URL}", "PUT", [], {"has_body": True}),
    (f"curl --json '{{}}' {URL}", "POST", [("Content-Type", "application/json"), ("Accept", "application/json")], {}),
    (f"curl -G -d a=1 -d b=2 {URL}", "GET", [], {"url": f"{URL}?a=1&b=2", "has_body": False}),
    (f"curl -G -d a=1 '{URL}?x=0#top'", "GET", [], {"url": f"{URL}?x=0&a=1#top"}),
    (f"curl --url-query a=1 -d b=2 {URL}", "POST", [], {"url": f"{URL}?a=1"}),
    (f"curl -G --data-urlencode 'q=a b&c' {URL}", "GET", [], {"url": f"{URL}?q=a%20b%26c"}),
    (f"curl -G --data-urlencode '=a=b' --data-urlencode 'ü/~' {URL}", "GET", [], {"url": f"{URL}?a%3Db&%C3%BC%2F~"}),
    (f"curl -G --data-raw @a {URL}", "GET", [], {"url": f"{URL}?@a"}),
    (f"curl --url-query 'q=a b' --url-query +r=%20 {URL}", "GET", [], {"url": f"{URL}?q=a%20b&r=%20"}),
    (f"curl -I {URL}", "HEAD", [], {}),
    (f"curl --head {URL}", "HEAD", [], {}),
    (f"curl -sSLk {URL}", "GET", [], {"is_insecure": True}),
    (f"curl -k --no-insecure {URL}", "GET", [], {"is_insecure": False}),
    (f"curl -sSXPOST {URL}", "POST", [], {}),
    (f"curl -vsS --compressed --http2 --no-progress-meter {URL}", "GET", [], {}),
    (f"curl -so /dev/null -w '%{{http_code}}' {URL}", "GET", [], {}),
    (f"curl --cacert ca.pem {URL}", "GET", [], {"cacert": "ca.pem"}),
    (f"curl -A me -e https://example.com {URL}", "GET", [("User-Agent", "me"), ("Referer", "https://example.com")], {}),
    (f"curl --oauth2-bearer abc {URL}", "GET", [("Authorization", "Bearer abc")], {}),
    (f"curl --url {URL}", "GET", [], {}),
    (f"curl -m 2.5 --connect-timeout 1 --retry 3 {URL}", "GET", [], {"timeout": 2.5}),
    (f"curl -s -- {URL}", "GET", [], {}),
    (f"curl.exe {URL}", "GET", [], {}),
    (f"$ curl {URL} | jq .", "GET", [], {}),
    (f"curl {URL} > out.json", "GET", [], {}),
    (f"curl '{URL}' \\\n  -H 'accept: */*' \\\r\n  -H 'origin: https://a.example' \\\n  --compressed", "GET",
     [("accept", "*/*"), ("origin", "https://a.example")], {}),
    (f"curl {URL} -H $'x-a: it\\'s \\u00e4 \\x41\\041'", "GET", [("x-a", "it's ä A!")], {}),
    (f'curl "{URL}" --data-raw $\'{{"a":"\\u0021\\n"}}\'', "POST", [], {"has_body": True}),
    (f"curl '{URL}?price=$5&x=1'", "GET", [], {"url": f"{URL}?price=$5&x=1"}),
]  # fmt: skip

# What is refused, and a word of why.
REFUSED = [
    ("curl", "no URL"),
    ("wget https://api.example.com", "no curl command line"),
    (f"curl {URL} {URL}", "two URLs"),
    (f"curl --frobnicate {URL}", "--frobnicate"),
    (f"curl -Q x {URL}", "-Q"),
    (f"curl {URL} -H", "wants a value"),
    (f"curl {URL} -H 'Bearer {SECRET}'", "without a colon"),
    (f"curl {URL} -H @{SECRET}", "does not read"),
    (f"curl {URL} -b {SECRET}", "cookies from a file"),
    (f"curl -G -d @{SECRET} {URL}", "data from a file"),
    (f"curl -x http://p:{SECRET}@proxy {URL}", "HTTPS_PROXY"),
    (f"curl --digest -u me:{SECRET} {URL}", "Basic only"),
    (f"curl -n {URL}", "netrc"),
    (f"curl -K {SECRET} {URL}", "paste what is in it"),
    (f"curl --cert {SECRET} {URL}", "client certificate"),
    (f"curl --aws-sigv4 aws:amz {URL}", "does not sign"),
    (f"curl {URL} --next {URL}", "one request"),
    (f"curl -m soon {URL}", "number of seconds"),
    (f"curl {URL}?a=1&b=2", "put the URL in quotes"),
    (f"curl {URL} -H 'Authorization: Bearer {SECRET}", "not closed"),
    (f'curl {URL} -H "Authorization: Bearer $TOKEN"', "have the shell do that"),
    (f'curl {URL} -H "Authorization: Bearer $(cat {SECRET})"', "have the shell do that"),
    (f'curl ^"{URL}^" ^\n -H ^"a: b^"', "bash"),
    (f"curl --no-header {URL}", "--no-header"),
]


@pytest.mark.parametrize(("line", "method", "fields", "more"), READ, ids=[line for line, *_ in READ])
def test_a_command_line_is_read_as_curl_would(line, method, fields, more):
    """URL, method, header fields and the rest are what curl would make of it."""
    curl = parse_curl([line])
    assert curl.method == method
    assert curl.fields == fields
    expected = {"url": URL} | more
    assert {name: getattr(curl, name) for name in expected} == expected


@pytest.mark.parametrize(("line", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_is_not_understood_is_refused(line, why):
    """What the doctor cannot do as curl would is an error that says so, and quotes no value."""
    with pytest.raises(ConfigurationError, match=why.replace("(", r"\(")) as refused:
        parse_curl([line])
    assert SECRET not in str(refused.value)


def test_words_that_a_shell_has_made_are_taken_as_they_are():
    """What comes as several arguments is not split again: quotes, dollars and line breaks stay in a value."""
    curl = parse_curl(["curl", URL, "-H", "Authorization: Bearer '$TOKEN'\n"])
    assert curl.fields == [("Authorization", "Bearer '$TOKEN'\n")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 'b c' \"d e\"f", ["a", "b c", "d ef"]),
        ("a\\ b '' \"\"", ["a b", "", ""]),
        ("a \\\n b", ["a", "b"]),
        ("a\\\nb", ["ab"]),
        ("$'a\\tb\\\\' '$x' \\$x $", ["a\tb\\", "$x", "$x", "$"]),
        ("a; b", ["a"]),
        ("", []),
    ],
)
def test_words_are_a_shell_s(text, words):
    """Quotes, backslashes and lines that go on are read as a POSIX shell reads them."""
    assert words_of(text) == words


PIECES = st.sampled_from(
    [
        "curl", "-", "--", "-H", "-X", "-d", "-b", "-u", "--data", "=", "'", '"', "$'", "\\", "\n", " ", "^", "$(", "&",
        "|", URL, "a: b", "\\u", "\\x4", "\\777", "\\Uffffffff", "-k", "--json", "--url", "http://", "@f",
        "\ud800", "-m", "\0",
    ]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=6), max_size=12))
def test_nothing_but_its_own_error_is_raised(pieces):
    """Whatever is pasted, as one text or as words, is read or refused with a sentence; the URL is checked as well."""
    for words in (["curl", *pieces], ["curl " + "".join(pieces)], ["".join(pieces)]):
        with mock.patch.object(sys, "stdin", io.StringIO("curl")), suppress(ConfigurationError):
            asked_by(words, method="GET")


@given(st.text(max_size=30))
def test_what_is_quoted_for_a_shell_comes_back(text):
    """A value in single quotes is what it was, whatever is in it but line ends and cmd.exe's escapes."""
    text = text.replace("'", "").replace("\r", "").replace("^", "")
    assert words_of(f"curl '{text}'") == ["curl", text]


@pytest.mark.parametrize("data", ["-d @file", "--data-urlencode @file", "--data-urlencode name@file", "--url-query @f"])
def test_a_query_from_a_file_is_not_read(data):
    """What -G would put into the URL from a file is not known, and is not left out in silence."""
    with pytest.raises(ConfigurationError, match="data from a file"):
        parse_curl([f"curl -G {data} {URL}"])


def test_no_repr_has_the_query():
    """A token in the URL of a pasted line is in no repr."""
    pasted = f"curl -G {URL} -d access_token={SECRET}"
    assert SECRET not in repr(parse_curl([pasted])) + repr(asked_by([pasted]))
