"""The diagnosis: which causes the facts speak for, the most likely first.

Rules.

1. Each cause looks at the facts by itself and says how certain it is, what speaks for it, and what against.
2. The more certain comes first; of two that are as certain, the one that stands first in `causes.CAUSES`: what
   explains the other stands before it.
3. Where the request was not refused there is nothing to explain, and only causes that say so look (`when_accepted`).
4. A cause that raises is a defect of ours. It is logged, and the others go on: whoever asks has trouble enough.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._facts import Facts
    from ._sifting import Sieve

__all__ = ["Cause", "Certainty", "Diagnosis", "Finding", "diagnose"]

logger = logging.getLogger("httpx_tokenflow")

_LATER = frozenset({408, 425, 429})  # "not now" is no word about a credential


class Certainty(enum.IntEnum):
    """How sure a finding is."""

    POSSIBLE = 1
    """Nothing speaks against it."""
    LIKELY = 2
    """Something speaks for it that would be strange otherwise."""
    CERTAIN = 3
    """It was seen: nothing else explains the facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause that the facts speak for.

    Args:
        id: of the cause.
        summary: what is wrong here, in one sentence.
        certainty: how sure that is.
        evidence: what speaks for it.
        against: what speaks against it.
        remedy: what to do.
        reference: where it is written.
    """

    id: str
    summary: str
    certainty: Certainty
    evidence: tuple[str, ...]
    against: tuple[str, ...] = ()
    remedy: str
    reference: str

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON has it."""
        return {
            "id": self.id,
            "summary": self.summary,
            "certainty": self.certainty.name.lower(),
            "evidence": list(self.evidence),
            "against": list(self.against),
            "remedy": self.remedy,
            "reference": self.reference,
        }


class Cause:
    """One reason why a request is refused. A new one is a class with these four texts and a `look`.

    Attributes:
        id: its name, in lower case with hyphens; it never changes once published.
        title: what is wrong, for the table of causes.
        remedy: what to do.
        reference: where it is written: an RFC with its section, or whose custom it is.
        when_accepted: it looks even where the request was not refused.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    remedy: ClassVar[str]
    reference: ClassVar[str]
    when_accepted: ClassVar[bool] = False

    def look(self, facts: Facts) -> Finding | None:
        """What `facts` say about this cause; None if nothing speaks for it."""
        raise NotImplementedError

    def found(
        self,
        certainty: Certainty,
        summary: str,
        evidence: Iterable[str | None] = (),
        against: Iterable[str | None] = (),
        remedy: str | None = None,
    ) -> Finding:
        """A finding of this cause; what is None among the evidence is left out."""
        return Finding(
            id=self.id,
            summary=summary,
            certainty=certainty,
            evidence=tuple(text for text in evidence if text),
            against=tuple(text for text in against if text),
            remedy=remedy or self.remedy,
            reference=self.reference,
        )


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
        from .causes import CAUSES

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
