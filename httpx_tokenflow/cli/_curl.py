"""A curl command line, read: what it would send, of which no body; nothing is run, and no file is read.

Rules.

1. It comes as the words that a shell has made of it, or as one text, pasted whole ("Copy as cURL (bash)" of a
   browser): then the words are made here, by the rules of a POSIX shell and with ``$'…'``.
2. What would change the credential, or where it goes, and is not understood is an error, as is every unknown option;
   what only changes what curl shows or how long it tries is passed over. No message quotes a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from httpx_tokenflow import ConfigurationError

from ._quoting import is_random
from ._shell import words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Curl", "parse_curl"]

# Long name: what it is for us. "value" and "flag" are passed over, with a value and without.
_LONG = {
    "request": "method", "header": "header", "user": "user", "cookie": "cookie", "url": "url", "user-agent": "agent",
    "referer": "referer", "oauth2-bearer": "bearer", "cacert": "cacert", "max-time": "timeout", "get": "get",
    "head": "head", "insecure": "insecure", "url-query": "query", "json": "json", "upload-file": "upload",
    "data-urlencode": "encoded", "data-raw": "raw",
    **dict.fromkeys(("data", "data-binary", "data-ascii", "form", "form-string"), "data"),
    **dict.fromkeys(
        ("compressed", "location", "silent", "show-error", "verbose", "include", "fail", "fail-with-body", "basic",
         "http1.0", "http1.1", "http2", "http2-prior-knowledge", "http3", "globoff", "no-buffer", "ipv4", "ipv6",
         "progress-bar", "remote-name", "remote-header-name", "tlsv1", "tlsv1.2", "tlsv1.3", "path-as-is", "raw",
         "tcp-nodelay", "keepalive", "styled-output", "progress-meter", "create-dirs", "disable", "trace-time", "alpn",
         "sessionid", "location-trusted", "junk-session-cookies", "compressed-ssh", "fail-early", "parallel",
         "no-clobber", "clobber", "ssl-no-revoke", "post301", "post302", "post303", "http0.9", "xattr", "remote-time"),
        "flag",
    ),
    **dict.fromkeys(
        ("output", "write-out", "connect-timeout", "retry", "retry-delay", "retry-max-time", "dump-header",
         "cookie-jar", "trace", "trace-ascii", "stderr", "limit-rate", "speed-limit", "speed-time", "max-redirs",
         "keepalive-time", "output-dir", "max-filesize", "proto", "proto-redir", "proto-default", "tls-max", "rate"),
        "value",
    ),
}  # fmt: skip
_REFUSED = {
    "proxy": "a proxy is taken from HTTPS_PROXY or HTTP_PROXY: set that",
    "cert": "a client certificate is not presented by the doctor",
    "key": "a client certificate is not presented by the doctor",
    "netrc": "a netrc file is not read: give the credential with -u",
    "config": "a file of options is not read: paste what is in it",
    "digest": "the doctor sends Basic only", "ntlm": "the doctor sends Basic only",
    "negotiate": "the doctor sends Basic only", "anyauth": "the doctor sends Basic only",
    "aws-sigv4": "the doctor does not sign requests",
    "resolve": "the doctor asks the host that is in the URL", "connect-to": "the doctor asks the host in the URL",
    "unix-socket": "the doctor asks the host in the URL", "next": "the doctor looks at one request",
}  # fmt: skip
_SHORT = {
    "X": "request", "H": "header", "u": "user", "b": "cookie", "A": "user-agent", "e": "referer", "d": "data",
    "F": "form", "T": "upload-file", "G": "get", "I": "head", "k": "insecure", "L": "location", "s": "silent",
    "S": "show-error", "v": "verbose", "i": "include", "f": "fail", "g": "globoff", "N": "no-buffer", "4": "ipv4",
    "6": "ipv6", "#": "progress-bar", "O": "remote-name", "J": "remote-header-name", "o": "output", "w": "write-out",
    "m": "max-time", "D": "dump-header", "c": "cookie-jar", "x": "proxy", "E": "cert", "n": "netrc", "K": "config",
    "0": "http1.0", "1": "tlsv1", "q": "disable", "j": "junk-session-cookies", "Z": "parallel", "R": "remote-time",
    ":": "next",
}  # fmt: skip
_OPTION = re.compile(r"-[A-Za-z0-9]|--[a-z][a-z0-9.-]{0,30}")  # what may be quoted; some put the secret there
_KEPT = {"method": "named", "user": "user", "cacert": "cacert", "upload": "upload"}
_FIELDS = {"agent": ("User-Agent", ""), "referer": ("Referer", ""), "bearer": ("Authorization", "Bearer ")}
_WITHOUT_VALUE = frozenset({"get", "head", "insecure", "flag"})


@dataclass(slots=True)
class Curl:
    """What a command line of curl asks for."""

    url: str = field(default="", repr=False)
    named: str | None = None
    fields: list[tuple[str, str]] = field(default_factory=list, repr=False)
    user: str | None = field(default=None, repr=False)
    data: list[str | None] = field(default_factory=list, repr=False)  # None: what is in a file
    query: list[str | None] = field(default_factory=list, repr=False)
    is_get: bool = False
    is_head: bool = False
    upload: str | None = field(default=None, repr=False)
    is_insecure: bool = False
    cacert: str | None = None
    timeout: float | None = None

    @property
    def method(self) -> str:
        """The one that curl would use."""
        if self.named is not None:
            return self.named
        if self.is_head:
            return "HEAD"
        return "PUT" if self.upload is not None else "POST" if self.has_body else "GET"

    @property
    def has_body(self) -> bool:
        """Whether it sends one."""
        return self.upload is not None or (bool(self.data) and not self.is_get)


def parse_curl(words: Sequence[str]) -> Curl:
    """What this command line asks for.

    Args:
        words: "curl" and its arguments; or one text that is the whole of it.

    Raises:
        ConfigurationError: it cannot be understood, or asks for what the doctor does not do.
    """
    found = words_of(words[0]) if len(words) == 1 else list(words)
    while found and found[0] in {"$", "%"}:
        del found[0]
    if not found or found[0].removesuffix(".exe") != "curl":
        raise ConfigurationError("this is no URL and no curl command line: that begins with the word curl")
    reader = _Reader(found[1:])
    curl = reader.read()
    if not curl.url:
        raise ConfigurationError("the curl command line has no URL")
    query = [*curl.query, *(curl.data if curl.is_get else ())]
    if any(one is None for one in query):
        raise ConfigurationError("the curl command line has -G with data from a file, which the doctor does not read")
    if query:
        bare, hash_, fragment = curl.url.partition("#")
        curl.url = f"{bare}{'&' if '?' in bare else '?'}{'&'.join(filter(None, query))}{hash_}{fragment}"
    return curl


class _Reader:
    """Goes through the words."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.at = 0
        self.cookies: list[str] = []
        self.curl = Curl()

    def read(self) -> Curl:
        is_over = False  # after "--" nothing is an option
        while self.at < len(self.words):
            word = self._next()
            if is_over or not word.startswith("-") or word == "-":
                self._url(word, "")
            elif word == "--":
                is_over = True
            elif word.startswith("--"):
                name, is_, value = word[2:].partition("=")
                self._option(name, f"--{name}", value if is_ else None)
            else:
                self._flags(word)
        if self.cookies:
            self.curl.fields.append(("Cookie", "; ".join(self.cookies)))
        return self.curl

    def _next(self) -> str:
        self.at += 1
        return self.words[self.at - 1]

    def _flags(self, word: str) -> None:
        """Short options in one word, of which the last may have its value there too."""
        for at, letter in enumerate(word[1:], 2):
            name = _SHORT.get(letter)
            if name is None:
                raise _unknown(f"-{letter}" if letter.isprintable() else "one")
            rest = word[at:] or None
            if _LONG.get(name) in _WITHOUT_VALUE:
                rest = None
            self._option(name, f"-{letter}", rest)
            if _LONG.get(name) not in _WITHOUT_VALUE:
                return

    def _option(self, name: str, spelt: str, value: str | None) -> None:
        if name in _REFUSED:
            raise ConfigurationError(f"the curl command line has {spelt}: {_REFUSED[name]}")
        is_off = name.startswith("no-") and name not in _LONG
        what = _LONG.get(name.removeprefix("no-") if is_off else name)
        if what is None or (is_off and what not in {"flag", "insecure"}):
            raise _unknown(spelt if _OPTION.fullmatch(spelt) and not is_random(name) else "one")
        if is_off:
            self.curl.is_insecure = self.curl.is_insecure and what != "insecure"
        elif what in _WITHOUT_VALUE:
            self._flag(what)
        else:
            if value is None and self.at >= len(self.words):
                raise ConfigurationError(f"the curl command line ends after {spelt}, which wants a value")
            self._value(what, self._next() if value is None else value, spelt)

    def _flag(self, what: str) -> None:
        curl = self.curl
        curl.is_get = curl.is_get or what == "get"
        curl.is_head = curl.is_head or what == "head"
        curl.is_insecure = curl.is_insecure or what == "insecure"

    def _value(self, what: str, value: str, spelt: str) -> None:
        """An option with a value: those that take more than to be kept have a method."""
        if what in _KEPT:
            setattr(self.curl, _KEPT[what], value)
        elif what in {"data", "json"}:
            self.curl.data.append(None if value.startswith("@") else value)
        elif what in {"encoded", "raw"}:
            self.curl.data.append(_encoded(value) if what == "encoded" else value)
        elif what == "query":
            self.curl.query.append(value[1:] if value.startswith("+") else _encoded(value))
        elif what in _FIELDS:
            name, before = _FIELDS[what]
            self.curl.fields.append((name, before + value))
        elif what != "value":
            {"header": self._header, "cookie": self._cookie, "url": self._url, "timeout": self._timeout}[what](
                value, spelt
            )
        if what == "json":
            self.curl.fields += [("Content-Type", "application/json"), ("Accept", "application/json")]

    def _url(self, url: str, _spelt: str) -> None:
        if self.curl.url:
            raise ConfigurationError("the curl command line has two URLs (or a value without quotes): give one")
        self.curl.url = url

    def _header(self, text: str, spelt: str) -> None:
        if text.startswith("@"):
            raise ConfigurationError(f"the curl command line has {spelt} with a file, which the doctor does not read")
        name, colon, value = text.partition(":")
        if not colon and text.endswith(";"):  # an empty one
            self.curl.fields.append((text[:-1], ""))
        elif not colon:
            raise ConfigurationError(f"the curl command line has {spelt} without a colon: write it as 'Name: value'")
        elif value.strip(" \t"):  # one without a value takes curl's own away
            # Blanks around it are none of the value's (RFC 9110 §5.5): curl sends them, and servers drop them.
            self.curl.fields.append((name, value.strip(" \t")))

    def _cookie(self, value: str, _spelt: str) -> None:
        if "=" not in value:
            raise ConfigurationError("the curl command line has cookies from a file, which is not read: paste them")
        self.cookies.append(value)

    def _timeout(self, value: str, spelt: str) -> None:
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 86_400:
            raise ConfigurationError(f"the curl command line has {spelt} without a number of seconds")
        self.curl.timeout = seconds


def _encoded(value: str) -> str | None:
    """As --data-urlencode has it: "content", "=content", or "name=content", of which the name stays; None: a file's."""
    name, is_, content = value.partition("=")
    if not is_:
        return None if "@" in value else _quoted(value)
    if "@" in name:
        return None
    return f"{name}={_quoted(content)}" if name else _quoted(content)


def _quoted(text: str) -> str:
    try:
        return quote(text, safe="", errors="surrogateescape")
    except UnicodeEncodeError:  # as in `basic`
        raise ConfigurationError("the curl command line has half a character in its data: paste it again") from None


def _unknown(spelt: str) -> ConfigurationError:
    return ConfigurationError(
        f"the curl command line has an option that the doctor does not know: {spelt}; leave it out"
    )
