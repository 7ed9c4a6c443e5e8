"""What a cause is, and what it finds: the words that all rooms of `causes` speak."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._facts import Facts

__all__ = ["Cause", "Certainty", "Finding"]


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
