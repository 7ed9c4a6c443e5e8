"""``tokenflow demo``: play the scenes, ours and by hand, and say in one table what came of it.

Rules.

1. The exit code is 0 if everything was as promised of ours, 1 if not; the last lines say what was not.
2. ``--json`` writes the results to standard output, and nothing else.
3. All lines are shorter than 100 columns, and say the same without colour.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ._scenes import HANDWRITTEN, OURS, SCENES, Scene, broken_promises, perform, promised
from ._server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._stage import Outcome

__all__ = ["Result", "as_data", "as_table", "conclusion", "demo"]

WIDTH = 99  # columns (rule 3)
LEGEND = """\
401s absorbed: answered by the API, and no caller failed for it. p50, p99: of those that got 200.
by hand: the usual httpx.Auth, a lock with a second look behind it and one retry on a 401, as in
httpx_tokenflow/cli/_handwritten.py. unanswered: still waiting when the scene was called off.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """A scene, as ours and as the hand-written auth came out of it."""

    scene: Scene
    ours: Outcome
    by_hand: Outcome
    promised: tuple[int, int]
    broken: list[str]


def demo(
    requests: Annotated[int, typer.Option(min=40, help="How many requests a storm has.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Write the results as JSON, and nothing else.")] = False,
) -> None:
    """Play six scenes against a server on loopback, beside the usual lock-and-refresh.

    A storm without a token, expiries in a stream, a storm of 401s, a leader that hangs up, a refresh token that
    rotates under all of it, and threads, asyncio and trio at once. The exit code is 1 if ours is not as promised.
    """
    import uvicorn  # noqa: F401 - for the server's process; here, its absence can still be told to a person

    begun = time.monotonic()
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    results = _play(requests, console, quiet=as_json)
    broken = [sentence for result in results for sentence in result.broken]
    if as_json:
        print(json.dumps(as_data(results, time.monotonic() - begun), indent=2))  # noqa: T201 - what is asked for
    else:
        console.print(as_table(results), "", LEGEND, sep="\n")
        console.print(conclusion(broken, time.monotonic() - begun))
    raise typer.Exit(1 if broken else 0)


def _play(requests: int, console: Console, *, quiet: bool) -> list[Result]:
    results = []
    with Server() as server, _progress(console, quiet=quiet) as show:
        report = show("rehearsal: the first scene shall not pay for what is loaded on first use", 40)
        for side in OURS, HANDWRITTEN:
            perform(SCENES[0], side, server, asked=40, limit=10, report=report)
        for number, scene in enumerate(SCENES, 1):
            label, total = f"{number}/{len(SCENES)} {scene.title}", scene.requests(requests)
            report, limit = show(f"{label}: {OURS.name}", total), 20 + requests / 50
            ours = perform(scene, OURS, server, asked=requests, limit=limit, report=report)
            # One that hangs shall not keep us, and one that is only slow shall have its chance.
            report, limit = show(f"{label}: {HANDWRITTEN.name}", total), 4 + 2 * ours.seconds
            by_hand = perform(scene, HANDWRITTEN, server, asked=requests, limit=limit, report=report)
            broken = broken_promises(scene, ours, requests)
            results.append(Result(scene, ours, by_hand, promised(scene, ours, requests), broken))
    return results


@contextmanager
def _progress(console: Console, *, quiet: bool) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Show what is being played: a bar on a terminal, a line for each performance elsewhere."""
    if quiet or not console.is_terminal:

        def tell(label: str, _total: int) -> Callable[[int], None]:
            if not quiet:
                console.print(label)
            return lambda _answered: None

        yield tell
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True, refresh_per_second=5) as progress:
        task = progress.add_task("", visible=False)

        def bar(label: str, total: int) -> Callable[[int], None]:
            progress.reset(task, description=label, total=total, visible=True)
            return lambda answered: progress.update(task, completed=answered)

        yield bar


def as_data(results: list[Result], seconds: float) -> dict[str, Any]:
    """Say it for machines (rule 2)."""
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
        "failed": outcome.failed,
        "errors": dict(outcome.errors),
        "unanswered": outcome.unanswered,
        "family_alive": outcome.family_alive,
        "p50_ms": _rounded(outcome.percentile(50)),
        "p99_ms": _rounded(outcome.percentile(99)),
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


def conclusion(broken: list[str], seconds: float) -> Text:
    """Say whether it is as promised: the last lines."""
    if not broken:
        return Text(f"all as promised ({seconds:.0f} s)", "bold green")
    return Text("\n".join(broken), "bold red")
