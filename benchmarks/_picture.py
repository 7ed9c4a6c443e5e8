"""The picture of the results: panels of horizontal bars, as SVG, from what the scripts printed in the same run.

Rules.

1. A panel asks one question and has a bar for each contender, ours first. What was not measured has no bar.
2. Readable on light and on dark: text in the reader's colour scheme, bars in colours that both show, and no background.
3. Every label has room: names are cut, panels grow with their bars, numbers stand to the right of the longest bar.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Reports = dict[str, dict[str, Any]]

WIDTH, MARGIN, GAP = 880, 12, 28
PANEL = (WIDTH - 2 * MARGIN - GAP) // 2
NAMES, NUMBERS, BAR = 164, 56, 14  # pixels: for names, for numbers, the height of a bar
ROW, HEAD, FOOT = 21, 48, 22
LONGEST = 21  # characters of a name

_STYLE = """\
text { font-family: sans-serif; font-size: 12px; fill: #1f2328; }
.title { font-size: 13px; font-weight: bold; }
.small { font-size: 11px; fill: #59636e; }
.ours { fill: #1a7f37; }
.peer { fill: #8c959f; }
.floor { stroke: #59636e; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9198a1; }
  .ours { fill: #3fb950; }
  .peer { fill: #6e7681; }
  .floor { stroke: #9198a1; }
}"""


@dataclass(frozen=True, slots=True)
class Panel:
    """A question and its answers.

    Args:
        title: the question.
        under: how it was asked.
        bars: name, number, and how that is shown; no number, no bar.
        log: whether ten times as much is as long again.
        floor: where the floor is, if it has a place.
    """

    title: str
    under: str
    bars: list[tuple[str, float | None, str]]
    log: bool = False
    floor: float | None = None

    @property
    def height(self) -> int:
        return HEAD + ROW * len(self.bars) + FOOT

    def length(self, number: float) -> float:
        """Share of the room for a bar."""
        most = max([self.floor or 0.0, *(number for _, number, _ in self.bars if number is not None)])
        if not self.log:
            return number / most if most else 0.0
        return math.log10(number + 1) / math.log10(most + 1) if most else 0.0


def draw(reports: Reports) -> str:
    """The picture; of reports that are not there, or that say it otherwise, it has no panel."""
    panels = list(_panels(reports))
    lines, top = [], MARGIN
    for at in range(0, len(panels), 2):
        pair = panels[at : at + 2]
        for column, panel in enumerate(pair):
            lines += _panel(panel, MARGIN + column * (PANEL + GAP), top)
        top += max(panel.height for panel in pair)
    size = f'width="{WIDTH}" height="{top + MARGIN}" viewBox="0 0 {WIDTH} {top + MARGIN}"'
    said = escape("; ".join(panel.title for panel in panels))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{said}">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *lines, "</svg>", ""])


def _panel(panel: Panel, left: int, top: int) -> Iterator[str]:
    start, room = left + NAMES, PANEL - NAMES - NUMBERS
    line = 0.0 if panel.floor is None else panel.length(panel.floor) * room  # no number is crossed out by it
    yield _text(left, top + 14, panel.title, "title")
    yield _text(left, top + 31, panel.under, "small")
    for at, (name, number, shown) in enumerate(panel.bars):
        middle = top + HEAD + ROW * at + ROW // 2
        yield _text(start - 8, middle + 4, name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…", anchor="end")
        long = 0.0 if number is None else max(1.5, panel.length(number) * room)
        if number is not None:
            which = "ours" if name.startswith("tokenflow") else "peer"
            bar = f'width="{long:.1f}" height="{BAR}" rx="2" class="{which}"'
            yield f'<rect x="{start}" y="{middle - BAR // 2}" {bar}/>'
        yield _text(start + max(long, line) + 6, middle + 4, shown)
    if panel.floor is not None:
        x, low = start + line, top + HEAD + ROW * len(panel.bars)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + HEAD - 4}" y2="{low + 2}" class="floor"/>'


def _text(x: float, y: float, text: str, which: str = "", anchor: str = "start") -> str:
    kind = f' class="{which}"' if which else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


# What is asked


def _panels(reports: Reports) -> Iterator[Panel]:
    asked: list[tuple[str, Callable[[dict[str, Any]], list[Panel]]]] = [
        ("hot_path", _hot_path),
        ("rollover", _rollover),
        ("storms", _storms),
    ]
    for name, panels in asked:
        if name in reports:
            yield from (panel for panel in panels(reports[name]["data"]) if panel.bars)


def _ours_first(bars: list[tuple[str, float | None, str]]) -> list[tuple[str, float | None, str]]:
    return sorted(bars, key=lambda bar: (not bar[0].startswith("tokenflow"), bar[1] is None, bar[1] or 0.0))


def _hot_path(data: dict[str, Any]) -> list[Panel]:
    """Each contender on the first kind of client that it serves, of those in the picture."""
    bars: list[tuple[str, float | None, str]] = []
    for row in data["rows"]:
        found = [row[kind] for kind in data["picture"] if row.get(kind) is not None]
        if found and row["name"]:
            bars.append((row["name"], found[0], f"{found[0]:.2f}"))
    under = "instructions" if data["measure"] == "instructions" else "time"
    title = "Cost of a request with a fresh token"
    return [Panel(title, f"{under}; the same client, static header = 1 (dashes)", _ours_first(bars), floor=1.0)]


def _rollover(data: dict[str, Any]) -> list[Panel]:
    bars: list[tuple[str, float | None, str]] = []
    for row in data["rows"]:
        if row["runtime"] == data["pictured"]:
            ratio = row["ratios"]["p99.9"]
            bars.append((row["contender"], ratio, f"{ratio:,.1f}" if ratio < 100 else f"{ratio:,.0f}"))
    under = f"p99.9; static header = 1 (dashes); a renewal takes {data['latency']:g} s"
    return [Panel("Latency while a token is renewed", under, _ours_first(bars), floor=1.0)]


def _storms(data: dict[str, Any]) -> list[Panel]:
    """Of the storm of 401s that is nearest to 1,000 callers, by each one's worst grant; on asyncio, else in threads."""
    rows = [row for row in data["rows"] if row["case"] == "every 401" and not row["contender"].startswith("floor")]
    if not rows:
        return []
    tasks = min((row["tasks"] for row in rows), key=lambda each: abs(each - 1000))
    on_loops = {row["contender"] for row in rows if row["runtime"] == "asyncio"}
    requests: dict[str, float | None] = {}
    failed: dict[str, int] = {}
    for row in rows:
        name, seen = row["contender"], row["token_requests"]
        runs = row["runtime"] == "asyncio" if name in on_loops else "threads" in row["runtime"]
        if runs and row["tasks"] == tasks:
            requests[name] = None if seen is None else max(seen, requests.get(name) or 0)
            failed[name] = max(row["failed"], failed.get(name, 0))
    made = [(name, seen, "no end" if seen is None else f"{seen:,}") for name, seen in requests.items()]
    lost: list[tuple[str, float | None, str]] = [(name, count, f"{count:,}") for name, count in failed.items()]
    who, how = f"{tasks:,} callers who meet a 401", "asyncio, or else threads"
    return [
        Panel(
            f"Token requests for {who}", f"1 is right; 0: gives the 401 back; log; {how}", _ours_first(made), log=True
        ),
        Panel(f"Failed requests of {who}", f"in the same storm; {how}", _ours_first(lost)),
    ]
