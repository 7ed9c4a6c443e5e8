"""The credential is spelt right, is of the kind that is wanted, and is simply not the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._phrases import KEY, KEY_NOT_GOOD, key_no_good, no_good

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._sent import Sent

__all__ = ["CAUSES"]

_PASSWORD = r"\b(?:user ?names?|passwords?|login|credentials)\b"  # noqa: S105 - a pattern
_KEY_SCHEMES = frozenset({"apikey", "api-key", "key", "token", "ssws", "geniekey", "azureapimanagementkey"})
_PASSWORD_WORDS, _ANY_WORDS = no_good(_PASSWORD), key_no_good(rf"{KEY}|{_PASSWORD}")


def _wants(facts: Facts, scheme: str) -> bool:
    return any(challenge.is_scheme(scheme) for challenge in facts.challenges)


class WrongPassword(Cause):
    """Basic is wanted, Basic was sent and can be read, and it is refused: what it says is wrong (RFC 7617)."""

    id = "wrong-password"
    title = "User name or password is wrong"
    remedy = (
        "look whether both are of this server and environment, whether the password was changed, and whether an API "
        "token is wanted in its place (many do not take passwords over Basic)"
    )
    reference = "RFC 7617 §2"

    def look(self, facts: Facts) -> Finding | None:
        sent = facts.credential
        if sent is None or not sent.is_scheme("Basic") or facts.status not in {401, 403}:
            return None
        words = facts.said(_PASSWORD_WORDS)
        if facts.challenges and not _wants(facts, "Basic"):
            return None
        wanted = "the server wants Basic, and Basic was sent" if facts.challenges else None
        if words is None and wanted is None:
            return None
        return self.found(
            Certainty.LIKELY, "the user name or password in the Basic credential is not accepted", [words, wanted]
        )


class WrongKey(Cause):
    """An API key in a place where the server looks for it, and it is not one of its own, or no longer."""

    id = "wrong-api-key"
    title = "The API key is wrong, or has ended"
    remedy = (
        "compare its hash and length with the key that is shown where keys are managed; after a rotation look for the "
        "old one in variables and secrets; look whether the key is limited to addresses, sites or APIs"
    )
    reference = "RFC 9110 §15.5.2; custom of API keys"

    def look(self, facts: Facts) -> Finding | None:
        sent = facts.credential
        if sent is None or facts.last is None or not facts.last.is_refused or facts.status not in {400, 401, 403}:
            return None
        if facts.token is not None and facts.token.is_jwt:
            return None  # the key in the words is the one that it was signed with
        return self._by_words(facts, sent) or self._by_comparison(facts, sent)

    def _by_words(self, facts: Facts, sent: Sent) -> Finding | None:
        words = facts.said(_ANY_WORDS if _is_key(sent) else KEY_NOT_GOOD)
        if words is None:
            return None
        return self.found(Certainty.LIKELY, "the server does not accept the API key", [words])

    def _by_comparison(self, facts: Facts, sent: Sent) -> Finding | None:
        """What was read, and refused without a word of why."""
        bare, last = facts.probe("bare"), facts.last
        if not _is_key(sent) or facts.status != 401 or bare is None or last is None:
            return None
        if facts.challenges and all(one.scheme.lower() not in _KEY_SCHEMES for one in facts.challenges):
            return None
        if facts.said(r"\bOTP\b|two.?factor|\bsignature|\btimestamp|\bnonce\b") is not None:
            return None  # something else of the same request
        if not bare.is_refused or bare.words == last.words:
            return None  # whether it was looked at is the question then, and others ask it
        return self.found(
            Certainty.LIKELY,
            "the server does not accept the API key: it is wrong, has ended, or is of another environment",
            [f"the answer to a request without it is another one, so what is in {sent.place} was read"],
        )


def _is_key(sent: Sent) -> bool:
    if sent.place == "Authorization":
        return sent.scheme.lower() in _KEY_SCHEMES
    return sent.place not in {"Cookie", "URL"}


CAUSES: tuple[Cause, ...] = (WrongPassword(), WrongKey())
