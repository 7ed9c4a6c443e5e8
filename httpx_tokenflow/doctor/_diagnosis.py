"""The diagnosis: which causes the facts speak for, the most likely first.

Rules.

1. Each cause looks at the facts by itself and says how certain it is, what speaks for it, and what against.
2. The more certain comes first; of two that are as certain, the one that stands first in `causes.CAUSES`: what
   explains the other stands before it.
3. Where the request was not refused there is nothing to explain, and only causes that say so look (`when_accepted`).
4. A cause that raises is a defect of ours. It is logged, and the others go on: whoever asks has trouble enough.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._facts import Facts
    from ._findings import Cause, Finding
    from ._sifting import Sieve

__all__ = ["Diagnosis", "diagnose"]

logger = logging.getLogger("httpx_tokenflow")

_LATER = frozenset({408, 425, 429})  # "not now" is no word about a credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why a request was refused. As a string: the first cause in a sentence.

    Args:
        findings: the causes that the facts speak for, the most likely first; none where all is well.
        facts: what it rests on.
    """

    findings: tuple[Finding, ...]
    facts: Facts = field(repr=False)

    @property
    def first(self) -> Finding | None:
        """The most likely cause; None if there is none."""
        return self.findings[0] if self.findings else None

    @property
    def is_healthy(self) -> bool:
        """The request was answered, and not refused, and nothing else was found."""
        return not self.findings and is_answered(self.facts) and not is_refused(self.facts)

    def __str__(self) -> str:
        if self.first is not None:
            return self.first.summary
        if self.is_healthy:
            return "the credential was not refused"
        return "no cause was found" if is_answered(self.facts) else "there was no answer"

    def to_dict(self) -> dict[str, Any]:
        """The causes as JSON has them."""
        return {"causes": [finding.to_dict() for finding in self.findings]}


def is_answered(facts: Facts) -> bool:
    """Whether there is an answer that says anything about a credential: a failing server does not."""
    return (0 < facts.status < 500 and facts.status not in _LATER) or facts.status == 511


def is_refused(facts: Facts) -> bool:
    """Whether the credential was refused, or never got to whoever decides."""
    return facts.last is None or facts.last.is_refused or facts.refusal is not None or not is_answered(facts)


def diagnose(facts: Facts, causes: Iterable[Cause] | None = None) -> Diagnosis:
    """Rank what `facts` speak for.

    Args:
        facts: what is known.
        causes: what to look for; None: all that there are.
    """
    if causes is None:
        from .causes import CAUSES  # 10 ms, the first time that something is refused

        causes = CAUSES
    refused, sieve = is_refused(facts), facts.sieve
    found: list[Finding] = []
    for cause in causes:
        if not (refused or cause.when_accepted):
            continue
        try:
            finding = cause.look(facts)
        except Exception:
            logger.exception("the doctor's cause %s cannot deal with these facts: that is a defect", cause.id)
            continue
        if finding is not None:
            found.append(_sifted(finding, sieve, cause.remedy))
    return Diagnosis(findings=tuple(sorted(found, key=lambda one: -one.certainty)), facts=facts)


def _sifted(finding: Finding, sieve: Sieve, remedy: str) -> Finding:
    """What is said of this request; ids, references, and the remedy of every such finding are ours alone."""
    return replace(
        finding,
        summary=" ".join(sieve.sift_ours(finding.summary).split()),  # one line, for logs
        evidence=tuple(map(sieve.sift_ours, finding.evidence)),
        against=tuple(map(sieve.sift_ours, finding.against)),
        remedy=finding.remedy if finding.remedy == remedy else sieve.sift_ours(finding.remedy),
    )
