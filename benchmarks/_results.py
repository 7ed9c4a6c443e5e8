"""The page that `run.py` writes: what all benchmarks say in one table of ratios, then a section for each.

Rules.

1. What went wrong comes first: a script without a table, and a bar that does not hold, are never left out.
2. Ratios before absolute numbers. Versions and the machine's size stand at the top; no name of a machine, no path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from _comparison import compared

_NUMBER = re.compile(r"[-+]?[\d.,]+|-|")
_HEAD = """\
# Results

`make bench` wrote this page and the picture, {when}; all numbers of a table come from one run, with floor and peers.

* {size}
* {versions}

![What the benchmarks say, as bars](results.svg)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One script's turn.

    Args:
        name: the script's.
        when: it began.
        seconds: it took.
        status: it ended with; None: it was out of time.
        report: what it printed (`_report.Report`), or None.
        said: its last words on standard error, if there is no report.
    """

    name: str
    when: str
    seconds: float
    status: int | None
    report: dict[str, Any] | None
    said: str = ""

    @property
    def outcome(self) -> str:
        if self.status is None:
            return f"out of time after {self.seconds:.0f} s"
        if self.status == 1 and self.report and _broken(self.report):
            return "a counted bar does not hold"
        return "" if self.status == 0 and self.report else f"ended with status {self.status}"


def render(runs: list[Run], size: str) -> str:
    """The page."""
    versions: dict[str, str] = {}
    for run in runs:
        versions |= (run.report or {}).get("versions", {})
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    head = _HEAD.format(when=max(run.when for run in runs), size=size, versions=named)
    return "\n".join(
        [head, *_wrong(runs), *_beside(runs), *_said(runs), *(line for run in runs for line in _section(run))]
    )


def _broken(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [bar for bar in report.get("bars", []) if not bar["held"]]


def _wrong(runs: list[Run]) -> list[str]:
    lines = [f"* `{run.name}`: {run.outcome}{f' ({run.said})' if run.said else ''}" for run in runs if run.outcome]
    lines += [
        f"* `{run.name}`: {bar['what']}: {bar['ours']}, and our bar is {bar['bar']}"
        for run in runs
        for bar in _broken(run.report or {})
    ]
    return ["## What did not hold", "", *lines, ""] if lines else []


def _beside(runs: list[Run]) -> list[str]:
    """The peers, a line each."""
    columns, rows = compared({run.name: run.report for run in runs if run.report})
    return ["## Beside the others", "", *_table(columns, rows), ""] if rows else []


def _said(runs: list[Run]) -> list[str]:
    """All bars of all scripts."""
    bars = [bar for run in runs for bar in (run.report or {}).get("bars", [])]
    columns = ("what", "tokenflow", "bar", "peers", "held")
    rows = [(bar["what"], bar["ours"], bar["bar"], bar["peers"], "yes" if bar["held"] else "**no**") for bar in bars]
    return ["## What this says", "", *_table(columns, rows), ""]


def _section(run: Run) -> list[str]:
    if run.report is None:
        return [f"## {run.name}", "", f"No table: {run.outcome}.", ""]
    report = run.report
    ran = f"`benchmarks/{run.name}.py`, {run.when}, {run.seconds:.0f} s"
    title = f"## {report['title']}"
    return [title, "", *_table(report["columns"], report["rows"]), "", *report["notes"], "", f"({ran})", ""]


def _table(columns: Any, rows: Any) -> list[str]:
    """In Markdown; a column of numbers alone goes to the right."""
    right = [all(_NUMBER.fullmatch(row[at]) for row in rows) for at in range(len(columns))]
    rule = "|".join(" ---: " if one else " --- " for one in right)
    return [_line(columns), f"|{rule}|", *(_line(row) for row in rows)]


def _line(cells: Any) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
