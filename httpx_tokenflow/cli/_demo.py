"""``tokenflow demo``: play the scenes, ours and by hand, and report what came of it.

Rules.

1. The exit code is 0 if everything was as promised of ours, 1 if not; the last lines say what was not.
2. ``--json`` writes the results to standard output, and nothing else.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from ._report import LEGEND, WIDTH, Result, as_data, as_details, as_table, conclusion
from ._scenes import SCENES, broken_promises, perform, promised
from ._server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["demo"]


def demo(
    requests: Annotated[int, typer.Option(min=40, help="How many requests a storm has.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Write the results as JSON, and nothing else.")] = False,
) -> None:
    """Play nine scenes against a server on loopback, beside the usual lock-and-refresh.

    A storm without a token, expiries in a stream, a storm of 401s, a leader that hangs up, a refresh token that
    rotates under all of it, threads, asyncio and trio at once, a token endpoint that is down for a while, a roll-over
    and its latencies, and a key that is retired. The exit code is 1 if ours is not as promised.
    """
    import uvicorn  # noqa: F401 - for the server's process; here, its absence can still be told to a person

    logging.getLogger("httpx_tokenflow").addHandler(logging.NullHandler())  # what is to be told, we tell
    begun = time.monotonic()
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    results = _play(requests, console, quiet=as_json)
    broken = [sentence for result in results for sentence in result.broken]
    if as_json:
        print(json.dumps(as_data(results, time.monotonic() - begun), indent=2))  # noqa: T201 - what is asked for
    else:
        console.print(as_table(results), "")
        for line in as_details(results, ascii_only=not console.encoding.startswith("utf")):
            console.print(line, markup=False)
        console.print(LEGEND)
        console.print(conclusion(broken, time.monotonic() - begun))
    raise typer.Exit(1 if broken else 0)


def _play(requests: int, console: Console, *, quiet: bool) -> list[Result]:
    results = []
    with Server() as server, _progress(console, quiet=quiet) as show:
        report = show("rehearsal: the first scene shall not pay for what is loaded on first use", 40)
        for side in SCENES[0].ours, SCENES[0].by_hand:
            perform(SCENES[0], side, server, asked=40, limit=10, report=report)
        for number, scene in enumerate(SCENES, 1):
            label, total = f"{number}/{len(SCENES)} {scene.title}", scene.requests(requests)
            report, limit = show(f"{label}: {scene.ours.name}", total), 20 + requests / 50
            ours = perform(scene, scene.ours, server, asked=requests, limit=limit, report=report)
            # One that hangs shall not keep us, and one that is only slow shall have its chance.
            report, limit = show(f"{label}: {scene.by_hand.name}", total), 3 + 1.5 * ours.seconds
            by_hand = perform(scene, scene.by_hand, server, asked=requests, limit=limit, report=report)
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
