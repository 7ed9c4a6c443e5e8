r"""Secrets where they do not belong: what to look for, and how to find it.

Rules.

1. A secret is what a sandbox issued or was sent: tokens, codes, assertions, client secrets, passwords, API keys, its
   private keys; and what the test adds. What is called ``code``, ``token`` or ``password`` is one where it is sent to
   an endpoint of OAuth or of ``/session/``: elsewhere it may be a voucher. Cookies of others are none of ours.
2. One of fewer than 8 characters is not looked for: it may be a word; nor is a default of the `Sandbox`, which is one.
   One of fewer than 12 is looked for as a whole, a longer one in parts as well: any 12 characters of it in a row are a
   leak.
3. It is looked for as it is, percent-encoded, in base64 (of either alphabet, wherever in a longer text it begins), in
   hexadecimal, and as Python and JSON write strings. Percent-encoding may have small letters, and JSON may write any
   character as ``\u002b`` or ``\/``: texts and secrets are brought into one form (`_even`) before they are compared.
4. The header of a JWT is no secret: it says the same in all of them.
5. What is reported says which kind of secret was where, and never what it is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote_plus

from httpx_tokenflow._answers import json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ._record import Seen
    from ._sandbox import Sandbox

LEAST = 8  # characters of a secret that is looked for
PART = 12  # characters of it that are a leak

_AROUND = 40  # characters of the text around a leak that are shown
_JWT = re.compile(r"eyJ[\w-]*\.([\w-]+\.[\w-]*)\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}\Z")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_JSON = re.compile(r"\\(?:u00([2-7][0-9A-Fa-f])|/)")
_KINDS = {
    "access_token": "an access token",
    "accessToken": "an access token",
    "refresh_token": "a refresh token",
    "refreshToken": "a refresh token",
    "id_token": "an ID token",
    "token": "a token",
    "subject_token": "a subject token",
    "actor_token": "an actor token",
    "assertion": "an assertion",
    "client_assertion": "a client assertion",
    "client_secret": "a client secret",
    "code": "an authorization code",
    "code_verifier": "a code verifier",
    "device_code": "a device code",
    "password": "a password",
    "api_key": "an API key",
}
_OF_A_PROTOCOL = frozenset({"code", "token", "password"})  # names that have other meanings elsewhere (rule 1)
_PROTOCOLS = frozenset({"token", "introspect", "revoke", "login", "refresh", "logout"})  # endpoints
_WORDS = frozenset({"secret", "password", "key"})  # what a sandbox has unless told (rule 2)
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi"})


def secrets_of(sandbox: Sandbox) -> dict[str | bytes, str]:
    """List what a sandbox issued or was sent, each with its kind (rule 1)."""
    found: dict[str | bytes, str] = {
        secret: f"the secret of client {name!r}" for name, secret in sandbox.clients.items()
    }
    found.update({password: f"the password of {name!r}" for name, password in sandbox.accounts.items()})
    found.update(dict.fromkeys(sandbox.api_keys, "an API key"))
    found.update(dict.fromkeys(sandbox._tokens.all_access(), "an access token"))  # noqa: SLF001 - the other half
    found.update(dict.fromkeys(sandbox._tokens.all_refresh(), "a refresh token"))  # noqa: SLF001 - likewise
    for private in sandbox._keys.private():  # noqa: SLF001 - likewise
        members = json.loads(private)
        for name in _PRIVATE & members.keys():
            found[members[name]] = found[base64.urlsafe_b64decode(members[name] + "==")] = "a private key"
    record = sandbox._arrivals.record  # noqa: SLF001 - likewise
    for body in list(record.told):
        found.update(_named(_members(body)))
    for seen in sandbox.seen:
        found.update(_sent(seen))
    return {secret: kind for secret, kind in found.items() if secret not in _WORDS}


def _sent(seen: Seen) -> dict[str, str]:
    """List the secrets of one request."""
    headers, text = seen.headers, seen.body.decode("utf-8", "replace")
    pairs = [*parse_qsl(seen.query), *parse_qsl(text), *_members(seen.body)]
    elsewhere = frozenset() if seen.endpoint in _PROTOCOLS else _OF_A_PROTOCOL
    found = _named((name, value) for name, value in pairs if name not in elsewhere)
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic" and _BASE64.match(credential):
        found[credential] = "Basic credentials"
        with suppress(binascii.Error):
            decoded = base64.b64decode(credential + "==").decode("utf-8", "replace")
            found[unquote_plus(decoded.partition(":")[2])] = "a client secret"
    elif credential:
        found[credential.strip()] = "a credential"
    for name in ("dpop", "x-api-key"):
        if name in headers:
            found[headers[name]] = "a DPoP proof" if name == "dpop" else "an API key"
    return found


def _members(body: bytes) -> list[tuple[str, Any]]:
    content = json_of(body)
    return list(content.items()) if isinstance(content, dict) else []


def _named(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    return {value: _KINDS[name] for name, value in pairs if name in _KINDS and isinstance(value, str)}


class Finder:
    """Finds secrets in texts.

    Args:
        secrets: each with its kind.
    """

    def __init__(self, secrets: Mapping[str | bytes, str]) -> None:
        self._parts: dict[str, str] = {}
        self._wholes: dict[str, str] = {}
        for secret, kind in secrets.items():
            for form, how in _forms(secret):
                self._add(_even(form), f"{kind} ({how})" if how else kind, whole=len(secret) < PART)

    def find(self, text: str) -> list[str]:
        """Describe each leak in `text`, with a little of the text around it, and itself cut out."""
        text = _even(text)
        spans = sorted(self._spans(text))
        merged: list[tuple[int, int, str]] = []
        for start, end, kind in spans:
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1]), merged[-1][2]
            else:
                merged.append((start, end, kind))
        return [f"{kind}: {_around(text, merged, number)}" for number, (_, _, kind) in enumerate(merged)]

    def _add(self, form: str, kind: str, *, whole: bool) -> None:
        if whole:
            self._wholes.setdefault(form, kind)
            return
        for start in range(len(form) - PART + 1):
            self._parts.setdefault(form[start : start + PART], kind)

    def _spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        if self._parts:
            for start in range(len(text) - PART + 1):
                kind = self._parts.get(text[start : start + PART])
                if kind is not None:
                    yield start, start + PART, kind
        for whole, kind in self._wholes.items():
            start = text.find(whole)
            while start >= 0:
                yield start, start + len(whole), kind
                start = text.find(whole, start + 1)


def _around(text: str, spans: list[tuple[int, int, str]], number: int) -> str:
    start, end, _ = spans[number]
    after_last = max(start - _AROUND, spans[number - 1][1] if number else 0)
    before_next = min(end + _AROUND, spans[number + 1][0] if number + 1 < len(spans) else len(text))
    return f"{text[after_last:start]}[here]{text[end:before_next]}".replace("\n", " ")


def _forms(secret: str | bytes) -> Iterator[tuple[str, str]]:
    """Write a secret in each way that rule 3 names, with the name of the way; bytes have no plain one."""
    if isinstance(secret, str):
        jwt = _JWT.match(secret)
        secret = jwt[1] if jwt else secret  # rule 4
        if len(secret) < LEAST:
            return
        yield from _written(secret)
        secret = secret.encode("utf-8", "surrogatepass")
    yield secret.hex(), "in hexadecimal"
    yield secret.hex().upper(), "in hexadecimal"
    for shift in range(3):
        # What comes before it shifts the groups of three bytes; the letters that it shares with others say nothing.
        encoded = base64.b64encode(b"\0" * shift + secret)
        first, last = (0, 2, 3)[shift], len(secret) + shift
        kept = encoded[first : last // 3 * 4 + (0, 1, 2)[last % 3]].decode()
        yield kept, "in base64"
        yield kept.translate(str.maketrans("+/", "-_")), "in base64"


def _written(secret: str) -> Iterator[tuple[str, str]]:
    """Write a secret as text."""
    yield secret, ""
    for written in {repr(secret)[1:-1], json.dumps(secret)[1:-1]} - {secret}:
        yield written, "escaped"
    percent = quote(secret, safe="")
    everything = "".join(f"%{byte:02X}" for byte in secret.encode("utf-8", "surrogatepass"))
    for written in {percent, percent.replace("%20", "+"), quote(secret), everything} - {secret}:
        yield written, "percent-encoded"


def _even(text: str) -> str:
    """Write percent-encoding in capitals, and what JSON need not escape as it is (rule 3)."""
    text = _PERCENT.sub(lambda found: found[0].upper(), text)
    return _JSON.sub(lambda found: chr(int(found[1] or "2f", 16)), text)


def texts_of(thing: Any) -> Iterator[tuple[str, str]]:
    """Give everything that a thing shows of itself, each with what it is."""
    if isinstance(thing, (bytes, bytearray, memoryview)):
        yield "bytes", bytes(thing).decode("utf-8", "replace")
    elif isinstance(thing, str):
        yield "text", thing
    elif isinstance(thing, BaseException):
        yield f"the traceback of {type(thing).__name__}", "".join(traceback.format_exception(thing))
        yield f"the attributes of {type(thing).__name__}", f"{thing!r} {thing} {vars(thing)} {thing.args}"
    else:
        yield f"the repr of {type(thing).__name__}", repr(thing)
        yield f"the str of {type(thing).__name__}", str(thing)
