"""The credential belongs to another environment than the API: test and production, staging.

Rules.

1. What a key says by its prefix is in `_keys`; what a host says by its name, in `_hosts`.
2. What is expected decides, where somebody has said so. Names alone are compared within one house: an issuer may serve
   several environments, and the tenants of a service are named as they like.
3. A token that was made for this very host (aud) is of its environment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._hosts import ENVIRONMENTS, environment_of, environment_of_host, host_of, is_public
from ._keys import CAUSES as KEYS

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts

__all__ = ["CAUSES"]

_CLAIMS = ("env", "environment", "stage")


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
        host = host_of(facts.last.url) if facts.last is not None else ""
        if not is_public(host) or facts.token is None:
            return None
        here = environment_of_host(host)
        claims = [("iss", facts.token.text("iss")), *(("aud", one) for one in facts.token.texts("aud"))]
        if any(text is not None and host_of(text) == host for claim, text in claims if claim == "aud"):
            return None  # it was made for this very host
        for claim, text in claims:
            there = environment_of(text) if text is not None else None
            certainty = _certainty_of(facts, here, there, is_kin=_is_kin(host, host_of(text or "")), claim=claim)
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
        host, token = host_of(facts.last.url) if facts.last is not None else "", facts.token
        if token is None or not is_public(host):
            return None
        here = environment_of_host(host)
        for claim in _CLAIMS:
            there = ENVIRONMENTS.get((token.text(claim) or "").lower())
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
    return " ".join(word for word in words if word and word not in ENVIRONMENTS)


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


CAUSES: tuple[Cause, ...] = (*KEYS, WrongEnvironment())
