"""What a person has asked the doctor to look at: the request, from options or from a curl command line.

Rules.

1. A credential is sent as it was given: it is not mended on the way, since that may be the very cause. Left out are
   what belongs to a connection or to a body (a remark says so), the blanks after the colon of a header field, which are
   none of its value, those at both its ends in a command line of curl, and one line feed at the end of standard
   input, which `echo` adds.
2. What cannot be understood is one sentence that says what to do. It names the option, and never quotes a value.
3. There is one `Authorization` at most, whatever it was given as; but several header fields of that name are sent.
4. The token of the environment goes out only for a URL by itself: not with a command line that was pasted, and not
   beside anything that may be a credential. Nobody has typed it here, and nobody may have thought of it.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from httpx_tokenflow import ConfigurationError
from httpx_tokenflow.doctor._front import credentials_of

from ._quoting import is_name, is_random

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "READING",
    "TOKEN_VARIABLE",
    "Asked",
    "as_basic",
    "asked_by",
    "checked_origin",
    "from_input",
    "parsed_url",
    "token_of",
]

TOKEN_VARIABLE = "TOKENFLOW_TOKEN"  # noqa: S105 - the name of a variable
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")  # RFC 9110 §5.6.2, in lower case
_CURL = re.compile(r"\s*(?:[$%]\s+)?curl(?:\.exe)?(?:\s|$)")
_SECRET_NAME = re.compile(
    r"auth|key|token|secret|session|cookie|passw|pwd|pass$|credential|jwt|signature|assertion|ticket|hmac|otp|nonce"
    r"|^(sig|sid|code|pin|user|login)$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"accept(-.*)?|access-control-.*|cache-control|content-.*|date|dnt|forwarded|host|if-.*|idempotency-key|origin|pragma"
    r"|priority|range|referer|sec-.*|trace.*|user-agent|via|x-forwarded-.*|.*(request|correlation|trace)-?id"
)
# What belongs to a connection, to a body that is not sent, or to a coding that may not be known here.
_NOT_SENT = frozenset(
    {
        "accept-encoding", "connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request as it was asked for.

    Args:
        url: of the API, without user and password.
        method: of the request.
        fields: its header fields.
        secrets: what was given as a secret.
        remarks: what a person should know about how it is sent.
        is_insecure: certificates are not verified.
        cacert: a file with the certificates to trust.
        timeout: seconds for each probe, if a command line says so.
        is_pasted: it is a command line of curl.
    """

    url: str = field(repr=False)
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    remarks: tuple[str, ...] = ()
    is_insecure: bool = False
    cacert: str | None = None
    timeout: float | None = None
    is_pasted: bool = False

    @property
    def has_credential(self) -> bool:
        """Whether it carries one already."""
        return bool(credentials_of(self.url, self.fields))

    @property
    def may_have_credential(self) -> bool:
        """Whether something in it may be one, by its name, or as it is long and looks random."""
        query = parse_qsl(urlsplit(self.url).query, keep_blank_values=True)
        fields = ((name, value) for name, value in self.fields if not _HARMLESS.fullmatch(name.lower()))
        return any(_SECRET_NAME.search(name) or is_random(value) for name, value in (*query, *fields))

    @property
    def has_authorization(self) -> bool:
        """Whether it has that header field."""
        return any(name.lower() == "authorization" for name, _ in self.fields)

    @property
    def origin(self) -> str | None:
        """The origin of the page that a browser sent it from, as it says itself; None where that is the URL's own."""
        told = next((value.strip() for name, value in self.fields if name.lower() == "origin"), None)
        parts = urlsplit(self.url)
        return told if told and told != f"{parts.scheme}://{parts.netloc}" else None

    def having(self, *pairs: tuple[str, str], secrets: Iterable[str] = (), remarks: Iterable[str] = ()) -> Asked:
        """The same with these fields as well."""
        return replace(
            self,
            fields=(*self.fields, *pairs),
            secrets=(*self.secrets, *secrets),
            remarks=(*self.remarks, *remarks),
        )


def asked_by(
    words: Sequence[str],
    *,
    headers: Sequence[str] = (),
    cookies: Sequence[str] = (),
    user: str | None = None,
    method: str | None = None,
) -> Asked:
    """The request that the arguments ask for: a URL, or a command line of curl; and the options beside it.

    Raises:
        ConfigurationError: it cannot be understood, or would change something and nobody has said so.
    """
    if not words:
        raise ConfigurationError("there is nothing to look at: give a URL, or a curl command line after --")
    is_curl = words[0] == "-" or _CURL.match(words[0]) is not None
    if not is_curl and len(words) > 1:
        raise ConfigurationError("give one URL, or a whole curl command line after --")
    asked = _by_curl(words, method) if is_curl else _by_url(words[0], method)
    pairs = [_field(text, f"header {at}") for at, text in enumerate(headers, 1)]
    pairs += [("Cookie", "; ".join(cookies))] if cookies else []
    # The coding of a body is a person's to choose: the prober reads what it knows of them.
    pairs, remarks = _without_connection(pairs, _NOT_SENT - {"accept-encoding"})
    asked = asked.having(*_checked(pairs, "an option"), remarks=remarks)
    return asked if user is None else _with_basic(asked, user, "--user")


def _by_url(url: str, method: str | None) -> Asked:
    bare, userinfo = parsed_url(url)
    asked = Asked(url=bare, method=_method(method or "GET"))
    return asked if userinfo is None else _with_basic(asked, userinfo, "the URL")


def _by_curl(words: Sequence[str], method: str | None) -> Asked:
    from ._curl import parse_curl

    words = (from_input("the curl command line"), *words[1:]) if words[0] == "-" else words
    curl = parse_curl(words)
    bare, userinfo = parsed_url(curl.url)
    named = _method(method or curl.method)
    if named not in READING and method is None:
        raise ConfigurationError(
            f"this is a {named}, and the doctor only reads: add --method GET to look with that, or --method {named} to "
            "send it, without its body"
        )
    pairs, remarks = _without_connection(curl.fields, _NOT_SENT)
    remarks += ["its body is not sent"] if curl.has_body else []
    remarks += ["certificates are not verified, as curl was told (-k)"] if curl.is_insecure else []
    asked = Asked(
        url=bare, method=named, fields=_checked(pairs, "the curl command line"), remarks=tuple(remarks),
        is_insecure=curl.is_insecure, cacert=curl.cacert, timeout=curl.timeout, is_pasted=True,
    )  # fmt: skip
    for credential, whence in ((curl.user, "curl's -u"), (userinfo, "the URL")):
        asked = asked if credential is None else _with_basic(asked, credential, whence)
    return asked


def _without_connection(pairs: list[tuple[str, str]], gone: frozenset[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The fields of the request, without those that are not sent; and a remark on these."""
    told = dict.fromkeys(name for name, _ in pairs if name.lower() in gone)
    kept = [(name, value) for name, value in pairs if name.lower() not in gone]
    return kept, [f"not sent, as they belong to a connection or to a body: {', '.join(told)}"] if told else []


def parsed_url(url: str, what: str = "the URL") -> tuple[str, str | None]:
    """`url` without the user and password that it may have, and these.

    Raises:
        ConfigurationError: it is none that a request can go to.
    """
    if not url.isprintable() or " " in url:
        raise ConfigurationError(f"{what} has a space, a line break or another character that no URL has")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is read here
    except ValueError:
        raise ConfigurationError(f"{what} cannot be read: its host or its port is malformed") from None
    if parts.scheme not in {"http", "https"}:
        scheme = parts.scheme if url.startswith(f"{parts.scheme}://") else ""
        how = f"{scheme!r} is none that the doctor speaks" if scheme else "it has none"
        raise ConfigurationError(f"{what} needs a scheme, https:// or http://: {how}")
    if not parts.hostname:
        raise ConfigurationError(f"{what} has no host")
    userinfo, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=host, fragment="").geturl(), unquote(userinfo) if at else None


def checked_origin(origin: str) -> str:
    """`origin` as a browser would write it (RFC 6454 §6.1): without a slash at the end.

    Raises:
        ConfigurationError: it is no origin.
    """
    if origin == "null":
        return origin
    bare, userinfo = parsed_url(origin, "--origin")
    parts = urlsplit(bare)
    if userinfo is not None or parts.path not in {"", "/"} or parts.query:
        raise ConfigurationError("--origin is a scheme, a host and perhaps a port, as in https://app.example.com")
    return f"{parts.scheme}://{parts.netloc}"


def _method(method: str) -> str:
    if not method.isascii() or not method.isalpha():
        raise ConfigurationError("the method must be a word, such as GET")
    return method.upper()


def _field(text: str, what: str) -> tuple[str, str]:
    """A header field as curl takes it; blanks after the colon are none of the value's (RFC 9110 §5.5)."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigurationError(f"{what} has no colon: write it as 'Name: value'")
    return name, value.lstrip(" \t")


def _checked(pairs: Iterable[tuple[str, str]], whence: str) -> tuple[tuple[str, str], ...]:
    """The fields, if they can be sent; a credential is sent as it is, or it is the finding that it cannot be."""
    for name, value in (found := tuple(pairs)):
        if not name or not set(name.lower()) <= _NAME:
            raise ConfigurationError(f"{whence} has a header whose name no header can have (RFC 9110 §5.1)")
        if any(not (one.isprintable() or one == "\t") for one in value) and not credentials_of("", [(name, value)]):
            which = f"the header {name}" if is_name(name) else f"a header of {whence}"
            raise ConfigurationError(f"{which} has a line break or another control character in its value")
    return found


def _with_basic(asked: Asked, userinfo: str, whence: str) -> Asked:
    if asked.has_authorization:
        raise ConfigurationError(f"there are two credentials for Authorization, one of them from {whence}: give one")
    name, colon, password = userinfo.partition(":")
    if not colon and whence != "the URL":
        password = _prompted(f"Password of {name}")
    return asked.having(("Authorization", as_basic(name, password)), secrets=(password,))


def as_basic(name: str, password: str) -> str:
    """A Basic credential (RFC 7617 §2), in UTF-8."""
    try:
        text = f"{name}:{password}".encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which a line for a shell can have; the error would quote it
        raise ConfigurationError("the user or the password has half a character in it: type it again") from None
    return f"Basic {base64.b64encode(text).decode()}"


def _prompted(what: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigurationError("--user needs a password: write it as NAME:PASSWORD")
    import getpass

    return getpass.getpass(f"{what}: ")


def from_input(what: str) -> str:
    """All of standard input, less one line feed at its end (rule 1).

    Raises:
        ConfigurationError: there is nothing.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigurationError(f"{what} is to come from standard input, and nothing is piped into it")
    raw = getattr(sys.stdin, "buffer", None)
    text = sys.stdin.read() if raw is None else raw.read().decode("utf-8", "surrogateescape")
    text = text.removesuffix("\n")
    if not text:
        raise ConfigurationError(f"{what} is to come from standard input, and that is empty")
    return text


def token_of(option: str | None, asked: Asked) -> tuple[str | None, str | None]:
    """The token that was given, and a remark on where it came from, or why it stays here; None where none was.

    Raises:
        ConfigurationError: it is given twice.
    """
    if option is None:
        text = os.environ.get(TOKEN_VARIABLE)
        if not text or asked.has_credential:
            return None, None
        if asked.is_pasted or asked.may_have_credential:
            beside = "a pasted command line" if asked.is_pasted else "what may be a credential"
            return (
                None,
                f'{TOKEN_VARIABLE} is not sent beside {beside}: if it is to be, add --token "${TOKEN_VARIABLE}"',
            )
        return text, f"the token is the one in {TOKEN_VARIABLE}"
    if asked.has_authorization:
        raise ConfigurationError("there are two credentials for Authorization, one of them --token: give one")
    return (from_input("--token -") if option == "-" else option), None
