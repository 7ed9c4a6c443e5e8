"""What the benchmarks print: one aligned table with notes under it, or the same as JSON."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

_DISTRIBUTIONS = (
    "httpx", "httpx2", "httpx-tokenflow", "authlib", "httpx-auth", "msal-extensions", "redis", "singleflight-auth"
)  # fmt: skip
_NUMBER = re.compile(r"[\d.,]+|-")


@dataclass(frozen=True, slots=True)
class Report:
    """A table whose cells are text, what to say under it, and the same for machines."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]
    data: dict[str, Any] = field(default_factory=dict)

    def show(self, *, as_json: bool) -> None:
        if as_json:
            print(json.dumps({"title": self.title, "versions": versions(), "notes": self.notes, **self.data}, indent=2))
            return
        print(self.title, self._table(), sep="\n\n", end="\n\n")
        for note in (*self.notes, ", ".join(f"{name} {version}" for name, version in versions().items())):
            print(note)

    def _table(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        lines.insert(1, tuple("-" * width for width in widths))
        return "\n".join("  ".join(map(_aligned, line, widths)).rstrip() for line in lines)


def _aligned(cell: str, width: int) -> str:
    return cell.rjust(width) if _NUMBER.fullmatch(cell) else cell.ljust(width)


def versions() -> dict[str, str]:
    """What was measured, with what."""
    return {"Python": platform.python_version(), **{name: metadata.version(name) for name in _DISTRIBUTIONS}}
