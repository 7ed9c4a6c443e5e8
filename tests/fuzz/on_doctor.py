"""What people paste to the doctor, or keep in files: command lines of curl, tokens, answers, URLs, profiles."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import PurePosixPath
from typing import Any
from unittest import mock

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow.cli._asked import asked_by, is_random
from httpx_tokenflow.cli._claims import are_two_persons, name_in
from httpx_tokenflow.cli._inspect import _sieve, _tokens_in
from httpx_tokenflow.cli._profile_file import check_name, check_settings, read_config
from httpx_tokenflow.cli._shell import words_of
from httpx_tokenflow.cli._token_words import lines_of, printable
from httpx_tokenflow.cli._verdict import sifted
from httpx_tokenflow.doctor import read_token
from httpx_tokenflow.doctor._sifting import secrets_of_url, without_secrets

from .draws import SECRET, Draws, below, sure, told
from .flows import NOW

URL = "https://api.example/v1/things"
NAMES = (
    "iss", "aud", "exp", "nbf", "iat", "scope", "scp", "typ", "token_use", "azp", "client_id", "nonce", "at_hash",
    "cnf",
    "events", "permissions", "sub", "jti", "auth_time", "acr", "roles", "alg", "kid", "jwk", "enc", "email", "name",
    "access_token", "id_token", "refresh_token", "error", "error_description", "message", "detail", "errors", "keys",
    "preferred_username", "updated_at", "amr", "livemode", "environment",
)  # fmt: skip
WORDS = (
    "curl ", "-H ", "'", '"', "\\", "$'", "--data-urlencode ", "-G ", "-u ", "a:b ", "--url ", "-X ", "POST ", "\n",
    "&",
    "--json ", "-m ", "-b ", "Authorization: ", "Bearer ", "Basic ", "eyJhbGciOiJSUzI1NiJ9.", "eyJ", ".", URL, "-d ",
    "--",
    "\\x41", "\\ud83d", "WWW-Authenticate", 'Bearer error="invalid_token", error_description="expired"', "1.1 varnish",
    "Location", "Set-Cookie", "a=b; Path=/", "<html><title>x</title>", "text/html", "application/json",
    "sk_test_4eC39H",
    "https://user:pass@api.example/v1?token=abcdef1234567890", "jwt expired", "invalid_client", "{", "Invalid audience",
)  # fmt: skip
SEEDS = (
    b"\x00\x00curl 'https://api.example/v1' -H 'Authorization: Bearer abc' --data-urlencode 'a=b' -G",
    b"\x01\x00\x00\x05\x02\x01\x18\x02\x02",
    b"\x02\x01Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.c2ln",
    b'\x02\x01{"access_token": "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.c2ln", "id_token": "x"}',
    b'\x03\x01{"alg":"RS256","typ":"at+jwt"}',
    b"\x04\x01https://user:pass@api.example/v1/eyJhbGci;x=y?token=abcdef1234567890&next=https%3A%2F%2Fa%3Fcode%3Dx#f",
    b'\x05[profiles.a]\ngrant = "client_credentials"\nissuer = "https://as.example"\nclient_id = "c"\nscope = ["a"]\n',
)  # fmt: skip


def check(data: bytes) -> None:
    """What is pasted is read, or refused with a sentence; nothing that is shown has a secret in it."""
    draws = Draws(data, NAMES, WORDS)
    kind = draws.number(6)
    (_check_line, _check_words, _check_pasted, _check_jwt, _check_url, _check_profile, _check_names)[kind](draws)


def _text(draws: Draws) -> str:
    if draws.byte() & 1:
        return draws.rest().decode("utf-8", "surrogateescape")
    return "".join(draws.text() for _ in range(draws.number(10)))


def _check_line(draws: Draws) -> None:
    text = _text(draws)
    for words in ([text], [f"curl {URL} {text}"], ["curl", text, URL]):
        _ask(words)


def _check_words(draws: Draws) -> None:
    options = (
        "-H",
        "-u",
        "-G",
        "-d",
        "--data-urlencode",
        "--url-query",
        "-b",
        "-m",
        "--json",
        "-X",
        "--url",
        "--",
        "-k",
    )
    words = ["curl", *(draws.pick(options) if draws.byte() & 1 else draws.text() for _ in range(draws.number(8)))]
    _ask(words)
    _ask([URL, *words[2:3]], headers=words[1:], cookies=words[:1], user=draws.maybe(draws.text()))


def _ask(words: list[str], **more: Any) -> None:
    stdin = io.StringIO("curl")
    try:
        with mock.patch.object(sys, "stdin", stdin):
            asked = asked_by(words, method="GET", **more)
    except ConfigurationError as error:
        sure(SECRET not in told(error), "an error quotes what was pasted", told(error), words)
        return
    sure(asked.url.isprintable() and " " not in asked.url, "a URL is none", asked.url)
    sure(asked.origin is None or asked.has_credential in {True, False}, "it is not told", asked)
    sure(asked.may_have_credential in {True, False}, "it is not told", asked)
    sure(
        SECRET not in repr(asked) or any(SECRET in str(one) for one in (asked.method, asked.cacert, asked.remarks)),
        "a repr",
    )


def _check_pasted(draws: Draws) -> None:
    _inspect(_text(draws))


def _inspect(text: str) -> str:
    """As `tokenflow inspect` does, in both forms."""
    try:
        found = list(_tokens_in(text))
    except ConfigurationError as error:
        sure(
            SECRET not in told(error).replace(printable(text, 400), ""), "an error quotes what was pasted", told(error)
        )
        return str(error)
    return below(lambda: _shown(found))


def _shown(found: list[Any]) -> str:
    sieve = _sieve(found)
    shown = json.dumps([sifted(one.to_dict(NOW), sieve.sift_ours) for one in found], indent=2)
    for one in found:
        lines = [*lines_of(one.reading, NOW)]
        for line in lines:
            sure(line.name.isprintable() and line.value.isprintable(), "a terminal would obey it", line)
        shown += "".join(printable(sieve.sift_ours(line.value), 2000) for line in lines)
        sure(one.value != SECRET or SECRET not in shown, "a token is shown", shown)
    return shown


def _check_jwt(draws: Draws) -> None:
    parts = [draws.body() if draws.byte() & 1 else b'{"alg":"RS256"}' for _ in range(draws.number(3) + 1)]
    token = ".".join(base64.urlsafe_b64encode(one).decode().rstrip("=") for one in (*parts, b"signature"))
    token = token[: draws.number(4096)] if draws.byte() % 8 == 7 else token
    reading = read_token(token)
    sure(reading.kind in {"jwt", "jwe", "opaque"}, "a kind is none", reading.kind)
    sure(len(token) < 20 or token not in repr(reading), "a reading shows the token", reading)
    _inspect(token)
    name = name_in(token)
    sure(name is None or 0 < len(name) <= 100, "a name is none", name)
    sure(not are_two_persons(token, token), "one is two", token)


def _check_url(draws: Draws) -> None:
    url = _text(draws)
    shown = without_secrets(url)
    sure(isinstance(shown, str) and "user:pass@" not in shown, "a password is shown", shown)
    sure(all(isinstance(one, str) for one in secrets_of_url(url)), "a secret is no text", url)


class _File(PurePosixPath):
    """A file that is in memory."""

    text = b""

    def read_bytes(self) -> bytes:
        return self.text


def _check_profile(draws: Draws) -> None:
    _profile(draws.rest())


def _profile(text: bytes) -> object:
    path: Any = _File("profiles.toml")
    path.__class__ = type("_This", (_File,), {"text": text, "__slots__": ()})
    try:
        for name, settings in read_config(path).items():
            check_name(name)
            check_settings(f"profile {name}", settings)
    except ConfigurationError as error:
        return str(error)
    return None


def _check_names(draws: Draws) -> None:
    """A claim of two ID tokens, and words that may be keys."""
    one, other = draws.text(), draws.text()
    sure(are_two_persons(one, other) in {True, False} and name_in(one) is None, "what is no token names somebody", one)
    sure(is_random(one) in {True, False}, "it is not told", one)


def _line(text: str) -> object:
    found: list[object] = []
    for line in (
        text,
        f"curl {URL} {text}",
        f"curl {URL} -H '{text}'",
        f'curl {URL} -H "a: {text}"',
        f"curl -G {URL} -d $'{text}'",
    ):
        try:
            found += [words_of(line), asked_by([line], method="GET")]
        except ConfigurationError as error:
            found.append(str(error))
    return found


def _claims(text: str) -> object:
    claims = base64.urlsafe_b64encode(json.dumps({"name": text, "aud": [text], "scope": text}).encode()).decode()
    token = f"eyJhbGciOiJSUzI1NiJ9.{claims.rstrip('=')}.c2ln"
    return _inspect(token), name_in(token)


def _nested_claim(text: str) -> object:
    claims = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    token = f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln"
    return _inspect(token), name_in(token), are_two_persons(token, token)


READERS = {
    "a command line": _line,
    "what is inspected": _inspect,
    "a line that is inspected": lambda text: _inspect(f"authorization: {text}"),
    "a JSON that is inspected": lambda text: _inspect(json.dumps({"access_token": text, "error": text})),
    "claims": _claims,
    "a URL": lambda text: (without_secrets(text), secrets_of_url(text), secrets_of_url(f"{URL}?{text}")),
    "a word": is_random,
}
UNITS = (
    *WORDS[:32], " ", "a", "A1", "'a'", '"a"', "a'b'", "ey-", "ey", "ey.", "\t", "\n", " ^", "=", "&", "a=b&",
    "a=b; ", ";", ",",
    "a,", "realm=", "realm ", "%41", "%", "/", "//", "://", "http://", "[", '{"a":', "<p>", "<h1>", "<", ">", "<pre ",
    "&amp;",
    "-", "--", "authorization", "authorization ", "authorization:", "bearer ", "credential=", "$", "`", "ä", "0", "'",
    "\\'",
    "a1b2c3d4e5f6g7h8 ", "aaaa1,", "expired ", "token ", "key=", "a: ", "\u202e", "\x00", "' '", "signedheaders=",
)  # fmt: skip
NESTED = {
    "what is inspected": _inspect,
    "a JSON that is inspected": lambda text: _inspect(f'{{"access_token":{text},"id_token":"x"}}'),
    "a claim": lambda text: _nested_claim(f'{{"x":{text},"aud":{text}}}'),
    "claims": _nested_claim,
    "a profile": lambda text: _profile(f"[profiles.a]\nscope = {text}".encode()),
}
