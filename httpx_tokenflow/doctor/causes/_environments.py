"""The credential belongs to another environment than the API: test and production, staging.

Rules.

1. A key says by its prefix whose it is, and whether it is for tests; the rows are in `_key_prefixes`.
2. A host says by its name where it belongs (sandbox, staging, …). Its last two labels say nothing (example.test), a
   host without such a word may be anything, and on a loopback or private address nothing is concluded.
3. Many vendors have one host for test and live. There only the server's words count.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from httpx_tokenflow.doctor._diagnosis import Cause, Certainty, Finding
from httpx_tokenflow.doctor._flaws import basic, nothing_in, spelling

from ._key_prefixes import HOSTS, PREFIXES, PUBLIC, REFRESH, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._sent import Sent

    from ._key_prefixes import Prefix

__all__ = ["CAUSES"]

_WORDS = {
    "development": ("dev", "develop", "development"),
    "test": ("test", "testing", "tst"),
    "staging": ("staging", "stage", "stg"),
    "qa": ("qa",),
    "acceptance": ("uat", "acc", "acceptance"),
    "sandbox": ("sandbox", "sbx", "sbox", "sandbx"),
    "preproduction": ("preprod", "preproduction"),
    "preview": ("preview", "oktapreview"),
    "production": ("prod", "production", "prd"),
}
_ENVIRONMENTS = {word: name for name, words in _WORDS.items() for word in words}
_MODES = (
    r"(live|test|sandbox|production).?(mode|key|environment|credential|account)|livemode|wrong environment|"
    r"(different|another|other|invalid|this) environment"
)
_CLAIMS = ("env", "environment", "stage")


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


def _is_public(host: str) -> bool:
    """Whether it is a name that could be anybody's: no address, and not this machine or network."""
    if "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".svc", ".test", ".invalid")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _is_under(host: str, names: Iterable[str]) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in names)


def _environment(words: Iterable[str]) -> str | None:
    return next((_ENVIRONMENTS[word] for word in words if word in _ENVIRONMENTS), None)


def _words_of_host(host: str) -> list[str]:
    """The words of its labels; the last two labels only where a hyphen parts them."""
    labels = host.split(".")
    words = [word for label in labels[:-2] for word in re.split(r"[-_]", label)]
    own = re.split(r"[-_]", labels[-2]) if len(labels) > 1 else []
    return words + (own if len(own) > 1 or own == ["oktapreview"] else [])


def environment_of(text: str) -> str | None:
    """What an issuer, an audience or a URL says of its environment: by its host, then by its path."""
    host = _host(text) if text.lower().startswith(("http:", "https:")) else ""
    if host and not _is_public(host):
        return None
    rest = text.lower().partition("://")[2].partition("/")[2] if "://" in text and host else text.lower()
    return _environment(_words_of_host(host)) or _environment(re.split(r"[^a-z0-9]+", rest[:500]))


def _mode_of(host: str) -> tuple[str | None, bool]:
    """Test, live, both or None, and whether that is known of this host and not only of its name."""
    known = max((row for row in HOSTS if _is_under(host, [row.name])), key=lambda row: len(row.name), default=None)
    if known is not None:
        return known.mode, True
    if not _is_public(host):
        return None, False
    environment = _environment(_words_of_host(host))
    return (None if environment is None else "live" if environment == "production" else "test"), False


@dataclass(frozen=True, slots=True)
class _Key:
    """A credential that has a vendor's prefix, and where it was sent."""

    sent: Sent
    row: Prefix
    host: str

    @property
    def name(self) -> str:
        mode = f" {self.row.mode}" if self.row.mode else ""
        return f"the{mode} key ({self.row.text}…, {self.row.vendor})"


def _key(facts: Facts) -> _Key | None:
    """The key that was sent, and refused."""
    last = facts.last
    if last is None or not last.is_refused:
        return None
    for sent in facts.credentials:
        if sent.place == "Cookie" or nothing_in(sent) is not None:
            continue
        read = spelling(sent)
        values = (basic(read.value) or "").split(":", 1) if read.scheme == "Basic" else [read.value]
        for value in values:
            rows = [row for row in PREFIXES if value.startswith(row.text) and len(value) > len(row.text) + 7]
            if rows:
                return _Key(sent, max(rows, key=lambda row: len(row.text)), _host(last.url))
    return None


class _WrongMode(Cause):
    """A key of one mode, on a server of the other."""

    mode: ClassVar[str] = ""
    other: ClassVar[str] = ""

    def look(self, facts: Facts) -> Finding | None:
        key = _key(facts)
        if key is None or key.row.mode != self.mode:
            return None
        found, is_known = _mode_of(key.host)
        said = facts.said(_MODES)
        certainty = self._certainty(key, found, is_known=is_known, is_said=said is not None)
        if certainty is None:
            return None
        where = f"the {self.other} environment" if found != "both" else "an account in the other mode"
        return self.found(
            certainty,
            f"{key.name} was sent to {where} ({key.host})",
            [
                f"a key that begins with {key.row.text} is a {self.mode} key ({key.row.vendor})",
                f"{key.host} is {self.other}" if found == self.other and is_known else None,
                f"the name of {key.host} says that it is {self.other}"
                if found == self.other and not is_known
                else None,
                said,
            ],
            [f"the name of {key.host} does not say what it is" if found is None else None],
        )

    def _certainty(self, key: _Key, found: str | None, *, is_known: bool, is_said: bool) -> Certainty | None:
        if found == self.mode:
            return None
        if is_said or (found == self.other and is_known and _is_under(key.host, key.row.hosts)):
            return Certainty.CERTAIN
        if found == self.other:
            return Certainty.LIKELY
        is_open = found is None and self.mode == "test" and _is_public(key.host)
        return Certainty.POSSIBLE if is_open and not _is_under(key.host, key.row.hosts) else None


class TestKey(_WrongMode):
    id = "test-key-on-production"
    title = "A test key was sent to production"
    remedy = (
        "use the live key here: keep both under names that say which they are (DEV_…, PROD_…), and let the program "
        "check the prefix when it starts"
    )
    reference = "custom: the vendor's documents on test and live keys"
    mode, other = "test", "live"


class LiveKey(_WrongMode):
    id = "live-key-on-test"
    title = "A live key was sent to a test environment"
    remedy = "use the test key here, or the live host; a live key has no business in a test: look who has it"
    reference = "custom: the vendor's documents on test and live keys"
    mode, other = "live", "test"


class PublishableKey(Cause):
    """A key that is meant for browsers."""

    id = "publishable-key"
    title = "A publishable key was sent where the secret one is wanted"
    remedy = (
        "use the secret key (sk_…), and only on a server; the publishable one is for pages (NEXT_PUBLIC_…) and does "
        "less"
    )
    reference = "custom: the vendor's documents on publishable and secret keys"

    def look(self, facts: Facts) -> Finding | None:
        key = _key(facts)
        if key is None or key.row.kind != PUBLIC:
            return None
        said = facts.said(r"publishable|public (api )?key|secret (api )?key")
        return self.found(
            Certainty.CERTAIN if said is not None else Certainty.LIKELY,
            f"a publishable key ({key.row.text}…, {key.row.vendor}) was sent to {key.host}, which refuses it",
            [f"a key that begins with {key.row.text} is for browsers, and may do little", said],
        )


class OtherSecret(Cause):
    """A webhook's secret, or a client's."""

    id = "secret-for-something-else"
    title = "A secret that is no key was sent as one"
    remedy = (
        "use the API key or access token: this secret signs webhooks, or authenticates a client at the token endpoint"
    )
    reference = "custom: the vendor's documents on its prefixes"

    def look(self, facts: Facts) -> Finding | None:
        key = _key(facts)
        if key is None or key.row.kind in {PUBLIC, SECRET, REFRESH}:  # refresh tokens: _kinds
            return None
        return self.found(
            Certainty.CERTAIN,
            f"{key.row.kind} ({key.row.text}…, {key.row.vendor}) was sent as a key",
            [f"what begins with {key.row.text} is {key.row.kind}, and no API takes it in a request"],
        )


class ForeignKey(Cause):
    """A key of one vendor, sent to another."""

    id = "foreign-key"
    title = "The key is another vendor's"
    remedy = "send the key of this API; and revoke the one that was sent, since somebody else has it now"
    reference = "custom: the vendors' documents on their prefixes"

    def look(self, facts: Facts) -> Finding | None:
        key = _key(facts)
        if key is None or not key.row.hosts or _is_under(key.host, key.row.hosts) or not _is_public(key.host):
            return None
        names = {name.split(".")[-2][:3] if "git" in name else name.split(".")[-2] for name in key.row.hosts}
        if any(name in key.host for name in names):
            return None  # a host of theirs, or of somebody who runs their product
        others = {row.vendor for row in PREFIXES if _is_under(key.host, row.hosts)}
        if not others and key.row.is_common:
            return None if key.row.mode else self._found(key, Certainty.POSSIBLE, None)
        owner = next(iter(sorted(others)), None)
        return self._found(key, Certainty.CERTAIN if owner is not None else Certainty.LIKELY, owner)

    def _found(self, key: _Key, certainty: Certainty, owner: str | None) -> Finding:
        against = f"{key.row.vendor} may run on {key.host}, or somebody else has the same prefix"
        return self.found(
            certainty,
            f"a key of {key.row.vendor} ({key.row.text}…) was sent to {owner or 'somebody else'} ({key.host})",
            [
                f"keys that begin with {key.row.text} are {key.row.vendor}'s, for {', '.join(key.row.hosts[:3])}",
                f"{key.host} is a host of {owner}" if owner is not None else None,
            ],
            [against if certainty == Certainty.POSSIBLE else None],
        )


class SecretInBrowser(Cause):
    """A secret key, sent from a page."""

    id = "secret-key-in-browser"
    title = "A secret key was sent from a browser"
    remedy = (
        "let a server of yours send it: some APIs refuse secret keys from pages, and whoever opens the page can read "
        "it; take NEXT_PUBLIC_ off the variable's name, and revoke the key"
    )
    reference = "custom: the vendors' documents; OWASP API Security Top 10, API2:2023"

    def look(self, facts: Facts) -> Finding | None:
        key = _key(facts)
        told = facts.browser_origin or (facts.asked.sent.get("Origin") if facts.asked is not None else None)
        if key is None or told is None or key.row.kind != SECRET:
            return None
        said = facts.said(r"browser|client.?side|cors|\borigin\b|server.?side")
        return self.found(
            Certainty.CERTAIN if said is not None else Certainty.POSSIBLE,
            f"{key.name} is a secret, and was sent from a page of {_host(told) or 'a browser'}",
            [f"the request comes from a page of {_host(told) or 'a browser'}, and carries a secret key", said],
        )


class WrongEnvironment(Cause):
    """A JWT of one environment, at an API of another."""

    id = "wrong-environment"
    title = "The token was issued in another environment"
    remedy = (
        "get the token from the issuer of this environment: look at the issuer's URL, the client id and the API's URL"
        " together"
    )
    reference = "RFC 9068 §4"

    def look(self, facts: Facts) -> Finding | None:
        last, token = facts.last, facts.token
        if last is None or not last.is_refused or token is None or not token.is_jwt:
            return None
        return self._as_expected(facts) or self._by_names(facts) or self._by_claim(facts)

    def _as_expected(self, facts: Facts) -> Finding | None:
        """What was expected and what the token has differ in the name of an environment, and in nothing else."""
        token, expected = facts.token, facts.expected
        if token is None:
            return None
        pairs = [("iss", token.text("iss"), expected.issuer)]
        audiences = token.texts("aud")
        if expected.audience is not None and expected.audience not in audiences:
            pairs += [("aud", one, expected.audience) for one in audiences]
        for claim, has, wants in pairs:
            if has is None or wants is None or has.rstrip("/") == wants.rstrip("/"):
                continue
            ours, theirs = environment_of(has), environment_of(wants)
            if ours != theirs and _bare(has) == _bare(wants):
                return self.found(
                    Certainty.CERTAIN,
                    f"the token is of {ours or 'the environment without a name'}, and the API is of "
                    f"{theirs or 'that without a name'}: its {claim} is {has[:200]}, and {wants[:200]} is expected",
                    [
                        f"{claim} is {has[:200]}",
                        f"{facts.expected.whence}: {wants[:200]}",
                        facts.said(r"issuer|audience|\biss\b"),
                    ],
                )
        return None

    def _by_names(self, facts: Facts) -> Finding | None:
        host = _host(facts.last.url) if facts.last is not None else ""
        if not _is_public(host) or facts.token is None:
            return None
        here = _environment(_words_of_host(host))
        claims = [("iss", facts.token.text("iss")), *(("aud", one) for one in facts.token.texts("aud"))]
        if any(text is not None and _host(text) == host for claim, text in claims if claim == "aud"):
            return None  # it was made for this very host
        for claim, text in claims:
            there = environment_of(text) if text is not None else None
            certainty = _certainty_of(facts, here, there, is_kin=_is_kin(host, _host(text or "")), claim=claim)
            if certainty is not None and text is not None:
                return self.found(
                    certainty,
                    f"the token is of {there or 'another environment'}, by its {claim} {text[:200]}, and {host} is of "
                    f"{here or 'production, or has no name for it'}",
                    [
                        f"{claim} is {text[:200]}",
                        f"the API is {host}",
                        facts.said(r"issuer|audience|\biss\b|environment"),
                    ],
                )
        return None

    def _by_claim(self, facts: Facts) -> Finding | None:
        host, token = _host(facts.last.url) if facts.last is not None else "", facts.token
        if token is None or not _is_public(host):
            return None
        here = _environment(_words_of_host(host))
        for claim in _CLAIMS:
            there = _environment([(token.text(claim) or "").lower()])
            if there is not None and there != (here or "production"):
                return self._of_claim(claim, there, host, here)
        livemode = token.claims.get("livemode")
        if livemode is False and here in {None, "production"}:
            return self._of_claim("livemode", "test", host, here)
        if livemode is True and here not in {None, "production"}:
            return self._of_claim("livemode", "production", host, here)
        return None

    def _of_claim(self, claim: str, there: str, host: str, here: str | None) -> Finding:
        return self.found(
            Certainty.LIKELY,
            f"the token is of {there}, by its claim {claim}, and {host} is of {here or 'production, by its name'}",
            [f"the claim {claim} says {there}", f"the API is {host}"],
        )


def _bare(text: str) -> str:
    """An issuer or an audience without the words for environments."""
    words = re.split(r"[^a-z0-9]+", text.lower())
    return " ".join(word for word in words if word and word not in _ENVIRONMENTS)


def _is_kin(one: str, other: str) -> bool:
    """Whether two hosts are of one house: the last two labels are the same, but for the environment's name."""
    ours, theirs = ([_bare(label) for label in host.split(".")[-2:]] for host in (one, other))
    return len(ours) == 2 and ours == theirs and len(ours[0]) > 3


def _certainty_of(facts: Facts, here: str | None, there: str | None, *, is_kin: bool, claim: str) -> Certainty | None:
    if here == there or (here == "production" and there is None) or (there == "production" and here is None):
        return None
    said = facts.said(r"issuer|\biss\b|environment" if claim == "iss" else r"audience|\baud\b|environment") is not None
    if here is not None and there is not None:
        return Certainty.LIKELY if is_kin or said else Certainty.POSSIBLE
    if there is not None:
        return Certainty.LIKELY if is_kin or said else None
    return Certainty.POSSIBLE if is_kin and said else None


CAUSES: tuple[Cause, ...] = (
    OtherSecret(),
    PublishableKey(),
    ForeignKey(),
    TestKey(),
    LiveKey(),
    SecretInBrowser(),
    WrongEnvironment(),
)
