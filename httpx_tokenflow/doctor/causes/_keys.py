"""Keys whose prefix says whose they are and what for: test and live, for pages, for webhooks, of another vendor.

Rules.

1. The rows are data, in `_key_prefixes`; what hosts say by their names is in `_environments`.
2. Many vendors have one host for test and live. There only the server's words count.
3. These causes are part of the room `_environments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._flaws import spelling
from httpx_tokenflow.doctor._placeholders import nothing_in
from httpx_tokenflow.doctor._sent import basic

from ._hosts import environment_of_host, host_of, is_public, is_under
from ._key_prefixes import HOSTS, PREFIXES, PUBLIC, REFRESH, SECRET

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._sent import Sent

    from ._key_prefixes import Prefix

__all__ = ["CAUSES"]

_MODES = (
    r"(live|test|sandbox|production).?(mode|key|environment|credential|account)|livemode|wrong environment|"
    r"(different|another|other|invalid|this) environment"
)


def _mode_of(host: str) -> tuple[str | None, bool]:
    """Test, live, both or None, and whether that is known of this host and not only of its name."""
    known = max((row for row in HOSTS if is_under(host, [row.name])), key=lambda row: len(row.name), default=None)
    if known is not None:
        return known.mode, True
    if not is_public(host):
        return None, False
    environment = environment_of_host(host)
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
                return _Key(sent, max(rows, key=lambda row: len(row.text)), host_of(last.url))
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
        if is_said or (found == self.other and is_known and is_under(key.host, key.row.hosts)):
            return Certainty.CERTAIN
        if found == self.other:
            return Certainty.LIKELY
        is_open = found is None and self.mode == "test" and is_public(key.host)
        return Certainty.POSSIBLE if is_open and not is_under(key.host, key.row.hosts) else None


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
        if key is None or not key.row.hosts or is_under(key.host, key.row.hosts) or not is_public(key.host):
            return None
        names = {name.split(".")[-2][:3] if "git" in name else name.split(".")[-2] for name in key.row.hosts}
        if any(name in key.host for name in names):
            return None  # a host of theirs, or of somebody who runs their product
        others = {row.vendor for row in PREFIXES if is_under(key.host, row.hosts)}
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
            f"{key.name} is a secret, and was sent from a page of {host_of(told) or 'a browser'}",
            [f"the request comes from a page of {host_of(told) or 'a browser'}, and carries a secret key", said],
        )


CAUSES: tuple[Cause, ...] = (
    OtherSecret(),
    PublishableKey(),
    ForeignKey(),
    TestKey(),
    LiveKey(),
    SecretInBrowser(),
)
