"""What has become of each mutant, kept from run to run: a file with a line for each end, the last one of a name counts.

Rules.

1. A mutant that was killed is not tried again: it is taken over, and the table says how many were.
2. All else is tried again, for there may be new tests. So a run that was stopped goes on where it was.
3. A name goes for all mutants that have it: it is taken over only if each of them was killed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from running import Fate

if TYPE_CHECKING:
    from pathlib import Path

    from mutants import Mutant

__all__ = ["Ledger"]

_OVER = {"killed", "hung", "not made"}


class Ledger:
    """The file, or nothing if there is none."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.ends: dict[str, list[tuple[str, str]]] = defaultdict(list)  # name -> end and killer of each
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                name, end, killer = json.loads(line)
                if end not in _OVER:
                    self.ends[name].clear()
                else:
                    self.ends[name].append((end, killer))

    def taken_over(self, mutants: list[Mutant]) -> list[Fate]:
        """The ends of those that are not tried again."""
        alike = Counter(mutant.name for mutant in mutants)
        fates = []
        for mutant in mutants:
            ends = self.ends.get(mutant.name, [])
            if len(ends) >= alike[mutant.name]:
                fates.append(Fate(mutant, *ends[0]))
        return fates

    def write(self, fate: Fate) -> None:
        """Keep the end of one."""
        if self.path is not None:
            with self.path.open("a") as out:
                out.write(json.dumps([fate.mutant.name, fate.end, fate.killer]) + "\n")
