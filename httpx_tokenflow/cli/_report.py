"""What came of the scenes, for people and for machines.

Rules.

1. All lines are shorter than 100 columns, and say the same without colour.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from httpx_tokenflow.events import SecretFellBack

from ._plot import ASCII, BLOCKS, ceiling, plot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._outcome import Outcome
    from ._scenes import Scene

__all__ = ["LEGEND", "WIDTH", "Result", "as_data", "as_details", "as_table", "conclusion"]

WIDTH = 99  # columns (rule 1)
LEGEND = """\
401s absorbed: answered by the API, and no caller failed for it. p50, p99: of those that got 200.
by hand: the usual httpx.Auth, a lock with a second look behind it and one retry on a 401 (with
the next key, where it has keys), as in httpx_tokenflow/cli/_handwritten.py. unanswered: still
waiting when the scene was called off. Where a token has to age the clocks are put forward;
latencies are real.
"""

_FIGURES = {"p50": 50.0, "p99": 99.0, "max": 100.0}  # in percent


@dataclass(frozen=True, slots=True)
class Result:
    """A scene, as ours and as the hand-written auth came out of it."""

    scene: Scene
    ours: Outcome
    by_hand: Outcome
    promised: tuple[int, int]
    broken: list[str]


def as_data(results: list[Result], seconds: float) -> dict[str, Any]:
    """Say it for machines."""
    return {
        "as_promised": not any(result.broken for result in results),
        "seconds": round(seconds, 1),
        "scenes": [
            {
                "title": result.scene.title,
                "promised_token_requests": list(result.promised),
                "broken_promises": result.broken,
                "ours": _outcome(result.ours),
                "by_hand": _outcome(result.by_hand),
            }
            for result in results
        ],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "requests": outcome.requests,
        "absorbed_401s": outcome.absorbed,
        "token_requests": outcome.token_requests,
        "turned_away": outcome.turned_away,
        "failed": outcome.failed,
        "errors": dict(outcome.errors),
        "unanswered": outcome.unanswered,
        "family_alive": outcome.family_alive,
        "p50_ms": _rounded(outcome.percentile(50)),
        "p99_ms": _rounded(outcome.percentile(99)),
        "max_ms": _rounded(outcome.percentile(100)),
        "told": dict(Counter(type(event).__name__ for event in outcome.told)),
        "seconds": round(outcome.seconds, 3),
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 2)


def as_table(results: list[Result]) -> Table:
    """Say it for people: two rows for each scene."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False)
    table.add_column("scene", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("requests", "401s\nabsorbed", "token\nrequests", "failed", "p50\nms", "p99\nms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what callers saw", overflow="fold")
    for number, result in enumerate(results, 1):
        first, second = result.scene.lines
        table.add_row(f"{number} {first}", Text("ours", "bold"), *_cells(result.ours))
        table.add_row(f"  {second}", "by hand", *_cells(result.by_hand), end_section=True)
    return table


def _cells(outcome: Outcome) -> list[Text]:
    saw = outcome.troubles or ["200"]
    if outcome.family_alive is not None:
        saw.append("login alive" if outcome.family_alive else "login revoked")
    is_bad = bool(outcome.failed or outcome.family_alive is False)
    return [
        Text(str(outcome.requests)),
        Text(str(outcome.absorbed)),
        Text(str(outcome.token_requests)),
        Text(str(outcome.failed), "red" if outcome.failed else ""),
        Text(_milliseconds(outcome.percentile(50))),
        Text(_milliseconds(outcome.percentile(99))),
        Text(_in_lines(saw), "red" if is_bad else "green"),
    ]


def _in_lines(words: list[str]) -> str:
    return ", ".join(words) if len(words) < 3 and len(", ".join(words)) <= 20 else "\n".join(words)


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def as_details(results: list[Result], *, ascii_only: bool = False) -> Iterator[str]:
    """What the table has no room for, in lines."""
    for number, result in enumerate(results, 1):
        ours, by_hand = result.ours, result.by_hand
        if ours.turned_away or by_hand.turned_away:
            away = f"ours {ours.turned_away}, by hand {by_hand.turned_away}"
            yield f"{number} token requests while the token endpoint was down: {away}"
            yield f"  failed requests: ours {ours.failed}, by hand {by_hand.failed}"
            yield ""
        if result.scene.drawn:
            yield f"{number} latency of each request, by the time at which it was sent"
            yield from _drawn(result, ASCII if ascii_only else BLOCKS)
        fallbacks = ours.told_of(SecretFellBack)
        if fallbacks:
            yield f"{number} told {len(fallbacks)} x: {fallbacks[0]}"
            yield ""


def _drawn(result: Result, levels: str) -> Iterator[str]:
    """Both sides, on one scale."""
    outcomes = {"ours": result.ours, "by hand": result.by_hand}
    top = ceiling(max((took for one in outcomes.values() for took in one.times), default=0.0))
    seconds = max((at for one in outcomes.values() for at, _ in one.course), default=1.0)
    for name, outcome in outcomes.items():
        figures = (f"{what} {_milliseconds(outcome.percentile(at))}" for what, at in _FIGURES.items())
        yield f"  {name}: {', '.join(figures)} ms"
        yield from plot(outcome.course, seconds=seconds, top=top, spans=outcome.renewals, levels=levels)
        yield ""


def conclusion(broken: list[str], seconds: float) -> Text:
    """Say whether it is as promised: the last lines."""
    if not broken:
        return Text(f"all as promised ({seconds:.0f} s)", "bold green")
    return Text("\n".join(broken), "bold red")
