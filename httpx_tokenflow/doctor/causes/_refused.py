"""The credential is spelt right, is of the kind that is wanted, and is simply not the right one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._diagnosis import Cause, Certainty, Finding

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts
    from httpx_tokenflow.doctor._sent import Sent

__all__ = ["CAUSES"]

_BAD = (
    r"\b(?:invalid|incorrect|wrong|unknown|bad|expired|disabled|deactivated|revoked|inactive|deleted|unrecogni[sz]ed)\b"
)
_NOT = r"\b(?:not|no longer|isn'?t|doesn'?t)\b.{0,20}(?:found|valid|exist|active|recogni[sz]ed|correct|known|match)"
_KEY = r"\b(?:api.?)?keys?\b|\bapi.?token\b|\bsubscription\b"
_PASSWORD = r"\b(?:user ?names?|passwords?|login|credentials)\b"  # noqa: S105 - a pattern
_KEY_SCHEMES = frozenset({"apikey", "api-key", "key", "token", "ssws", "geniekey"})


def _says(about: str) -> str:
    """A pattern: `about`, and that it is no good, in this order or the other."""
    return rf"(?:{_BAD}.{{0,30}}(?:{about}))|(?:(?:{about}).{{0,30}}(?:{_BAD}|{_NOT}))"


_KEY_WORDS, _PASSWORD_WORDS, _ANY_WORDS = _says(_KEY), _says(_PASSWORD), _says(rf"{_KEY}|{_PASSWORD}")


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
        if sent is None or facts.status not in {401, 403}:
            return None
        words = facts.said(_KEY_WORDS if not _is_key(sent) else _ANY_WORDS)
        if words is not None and not re.search(r"missing|no api.?key|required|jwks?|sign", words, re.IGNORECASE):
            return self.found(Certainty.LIKELY, "the server does not accept the API key", [words])
        bare = facts.probe("bare")
        if not _is_key(sent) or facts.challenges or facts.status != 401 or bare is None or facts.last is None:
            return None
        if not bare.is_refused or bare.words == facts.last.words:
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
