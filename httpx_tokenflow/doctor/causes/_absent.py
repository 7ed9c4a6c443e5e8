"""Nothing that could be accepted was sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from httpx_tokenflow.doctor._comparing import is_same_as_bare
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._mending import trial
from httpx_tokenflow.doctor._phrases import WANTS_COOKIE
from httpx_tokenflow.doctor._placeholders import nothing_in
from httpx_tokenflow.doctor._sent import canonical, is_harmless, is_misspelt
from httpx_tokenflow.doctor._sifting import without_secrets

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts
    from httpx_tokenflow.doctor._sent import Sent

__all__ = ["CAUSES"]

_MISSING = (
    r"missing|required|requires|not (provided|found|present|supplied|set)|no "
    r"(auth|token|api|credential|bearer|jwt)|without"
)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _wanted(facts: Facts) -> str:
    schemes = ", ".join(dict.fromkeys(challenge.scheme for challenge in facts.challenges))
    return f", and the server wants {schemes}" if schemes else ""


def _unknown(asked: Exchange) -> list[str]:
    """Where else a credential may be: unknown fields and parameters, and what looks random in the path (Telegram)."""
    found = [f"the field {name}" for name, _ in asked.sent if not is_harmless(name)]
    try:
        parts = urlsplit(asked.url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return found
    for name, value in pairs:
        if not value and not is_harmless("?", name):
            found.append("a parameter without a name")
        elif not is_harmless(f"?{name}", value):
            found.append(f"the parameter {name}")
    path = without_secrets(_UUID.sub("", f"https://host{parts.path}"))
    return [*found, "what looks random in its path"] if "…" in path else found


def _is_empty(sent: Sent) -> bool:
    text = sent.raw.strip().strip("\"':")
    if sent.place == "Cookie":
        return False
    if sent.place != "Authorization":
        return not text
    if sent.is_scheme("Basic") and sent.value.strip() == "Og==":  # ":": neither user nor password
        return True
    return not text or (canonical(text) is not None and text.lower() not in {"negotiate", "ntlm"})


class NoCredential(Cause):
    """Neither `Authorization` nor any other field or parameter that credentials are in."""

    id = "no-credential"
    title = "No credential was sent"
    remedy = (
        "send one: auth=TokenAuth(…) on the client, or --token here; look whether the variable it is in is set where "
        "the program runs, and whether every path through the code sets the header"
    )
    reference = "RFC 9110 §15.5.2"

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        # Without any field it is the request that is not known; 407 is the proxy's.
        if last is None or not last.is_refused or last.status == 407 or facts.credentials:
            return None
        said = facts.said(_MISSING)
        if facts.asked is None or not facts.asked.sent.pairs:
            return None
        # Where it is a cookie that the server misses, `CookieMissing` says so, and goes first.
        is_sure = (last.status == 401 or bool(facts.challenges) or said is not None) and facts.said(
            WANTS_COOKIE
        ) is None
        unknown = _unknown(facts.asked)
        may_be = f"it has {', '.join(unknown[:5])}: that may be one" if unknown else None
        return self.found(
            Certainty.CERTAIN if is_sure and not unknown else Certainty.LIKELY,
            f"no credential was sent{_wanted(facts)}",
            ["the request has no Authorization field, no API key, no cookie", said],
            [None if is_sure or said else f"the answer is {last.status}, and says nothing of a credential", may_be],
        )


class FieldNameMisspelt(Cause):
    """`Authorisation`, `Autorization`, `Authentication`: a field that no server looks at."""

    id = "field-name-misspelt"
    title = "The name of the field is misspelt"
    remedy = "call the field Authorization, with z: servers do not look at others"
    reference = "RFC 9110 §11.6.2"

    def look(self, facts: Facts) -> Finding | None:
        last, every = facts.last, facts.credentials
        if last is None or last.status == 407 or not (last.is_refused or last.status == 0):
            return None
        sent = next((one for one in every if is_misspelt(one.place) and one.raw.strip()), None)
        if sent is None or any(one.place == "Authorization" for one in every):
            return None
        tried = trial(facts)
        tried = tried if tried is not None and tried.sent.place == "Authorization" else None
        if is_same_as_bare(facts) is False and (tried is None or not tried.is_accepted):
            return None  # it was read in the field where it was
        is_proved = tried is not None and tried.is_accepted
        is_alone = len(every) == 1 and tried is None and sent.place.lower() != "authentication"
        answer = "" if tried is None else f"({tried.exchange.status})"
        return self.found(
            Certainty.CERTAIN if is_proved or is_alone else Certainty.LIKELY,
            f"the credential was sent in the field {sent.place}, and meant is Authorization",
            [
                f"the request has the field {sent.place}, and no field Authorization",
                f"the same credential in Authorization was accepted {answer}" if is_proved else None,
            ],
            [f"in Authorization it was refused as well {answer}" if tried is not None and not is_proved else None],
        )


class EmptyCredential(Cause):
    """The field is there, and nothing is in it; or the scheme stands alone."""

    id = "empty-credential"
    title = "The credential is empty"
    remedy = (
        "the variable that it comes from is empty or not set: look at the environment and the secrets of this "
        "deployment, and whether the login that fills it has happened"
    )
    reference = "RFC 9110 §11.6.2"

    def look(self, facts: Facts) -> Finding | None:
        if any(not _is_empty(sent) for sent in facts.credentials):
            return None
        sent = facts.credential
        if sent is None:
            return None
        scheme = canonical(sent.raw.strip().strip("\"':"))
        if sent.is_scheme("Basic") and sent.value.strip():
            what = "Basic was sent with neither user nor password"
        elif scheme is not None and sent.place == "Authorization":
            what = f"{scheme} stands alone in Authorization, without a credential"
        else:
            what = f"{sent.place} was sent, and is empty"
        return self.found(Certainty.CERTAIN, f"{what}{_wanted(facts)}", [what, facts.said(_MISSING)])


class Placeholder(Cause):
    """`undefined`, `null`, `${TOKEN}`, `YOUR_TOKEN`, the example of a specification."""

    id = "placeholder-credential"
    title = "A placeholder was sent in place of a credential"
    remedy = (
        "the variable is not set, or its value was not put in: set it where the program runs (in a browser's bundle "
        "only NEXT_PUBLIC_, VITE_ or REACT_APP_ variables exist, and no secret belongs there); stop when it is empty"
    )
    reference = "custom: what programming languages, templates and documents write for no value"

    def look(self, facts: Facts) -> Finding | None:
        found = [(sent, nothing_in(sent)) for sent in facts.credentials if sent.place != "Cookie"]
        held = [(sent, what) for sent, what in found if what is not None]
        if not held or len(held) < len(found):
            return None
        sent, (what, is_sure) = held[0]
        return self.found(
            Certainty.CERTAIN if is_sure else Certainty.LIKELY,
            f"{sent.place} has a placeholder in place of a credential: {what}",
            [f"{what} ({len(sent.raw)} characters in {sent.place})"],
        )


CAUSES: tuple[Cause, ...] = (NoCredential(), FieldNameMisspelt(), EmptyCredential(), Placeholder())
