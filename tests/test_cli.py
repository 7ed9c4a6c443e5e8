from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace

import anyio
import httpx
import pytest
from rich.console import Console

from httpx_tokenflow.cli import main
from httpx_tokenflow.cli._outcome import Outcome
from httpx_tokenflow.cli._plot import ASCII, BLOCKS, ceiling, plot
from httpx_tokenflow.cli._report import LEGEND, Result, as_data, as_details, as_table, conclusion
from httpx_tokenflow.cli._scenes import SCENES, broken_promises, promised
from httpx_tokenflow.cli._sides import Side, Watch
from httpx_tokenflow.cli._stage import Stage
from httpx_tokenflow.events import SecretFellBack, Waited, Why

STORM = SCENES[2]
OUTAGE, ROLL_OVER, KEY_RETIRED = SCENES[6:]
WAITED = Waited(source="", renewal=1, leads=True, seconds=1, why=Why.DUE, served=True)
FELL_BACK = SecretFellBack(source="key", what="key")
AS_PROMISED = Outcome(
    requests=1000,
    refused=1000,
    token_requests=1,
    errors={},
    seconds=2.5,
    family_alive=True,
    times=tuple(number / 1000 for number in range(1000)),
)
AT_ITS_WORST = replace(
    AS_PROMISED,
    refused=10_000,
    token_requests=99_999,
    errors=Counter({"RemoteProtocolError": 300, "HTTPStatusError": 200, "401": 100, "RuntimeError": 100}),
    family_alive=False,
    times=(99.9,) * 100,
)


def run(*args, code="from httpx_tokenflow.cli import main; main()", **settings):
    command = [sys.executable, "-W", "error", "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **settings)


@pytest.fixture(scope="module")
def demo():
    return run("demo", "--json", "--requests", "40")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--help"], "demo"),
        (["demo", "--help"], "--requests"),
        (["--version"], f"tokenflow {metadata.version('httpx-tokenflow')}\n"),
    ],
)
def test_help(monkeypatch, capsys, args, says):
    """Help says what there is, a command's what it takes, and the version is the installed one."""
    monkeypatch.setattr(sys, "argv", ["tokenflow", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert says in capsys.readouterr().out


def test_demo_is_as_promised(demo):
    """The demo, with real connections, ends as promised, says so in JSON, and says nothing else."""
    assert (demo.returncode, demo.stderr) == (0, "")
    data = json.loads(demo.stdout)
    assert data["as_promised"]
    assert [scene["broken_promises"] for scene in data["scenes"]] == [[]] * 9


def test_ours_absorbs_what_there_is(demo):
    """In each scene all of ours get their answer, no login is lost, and the scenes with one renewal have one."""
    ours = [scene["ours"] for scene in json.loads(demo.stdout)["scenes"]]
    assert [scene["failed"] for scene in ours] == [0] * 9
    assert [scene["family_alive"] for scene in ours] == [None, None, True, True, True, True, None, None, None]
    assert [ours[number]["token_requests"] for number in (0, 2, 3, 5, 7, 8)] == [1, 1, 1, 1, 2, 0]
    assert ours[2]["absorbed_401s"] == 40
    assert ours[8]["absorbed_401s"] > 0
    assert ours[8]["told"]["SecretFellBack"] == 1


def test_an_outage_is_noticed_by_nobody(demo):
    """While no token is to be had ours asks a few times and nobody fails; by hand each request asks, and fails."""
    outage = json.loads(demo.stdout)["scenes"][6]
    ours, by_hand = outage["ours"], outage["by_hand"]
    assert ours["failed"] == 0
    assert 1 <= ours["turned_away"] == ours["token_requests"] - 2
    assert ours["told"]["TokenRenewed"] == 1
    assert by_hand["failed"] == by_hand["turned_away"] > 0


def test_nobody_waits_for_a_roll_over(demo):
    """The roll-over is a renewal aside: nobody waited for it, on however slow a machine; by hand somebody did."""
    roll_over = json.loads(demo.stdout)["scenes"][7]
    assert roll_over["ours"]["told"] == {"TokenRenewed": 1}
    assert roll_over["by_hand"]["token_requests"] == 2
    assert roll_over["by_hand"]["max_ms"] > 200


def test_by_hand_is_no_straw_man(demo):
    """The auth by hand does as well as ours in the plain scenes, and loses the login when its leader hangs up."""
    by_hand = [scene["by_hand"] for scene in json.loads(demo.stdout)["scenes"]]
    assert [by_hand[number]["failed"] for number in (0, 1, 2, 7, 8)] == [0, 0, 0, 0, 0]
    assert [by_hand[number]["token_requests"] for number in (0, 2)] == [1, 1]
    assert by_hand[3]["failed"] == by_hand[3]["requests"] == 20
    assert not by_hand[3]["family_alive"]


@pytest.mark.parametrize(("module", "extras"), [("typer", "cli"), ("rich", "cli"), ("uvicorn", "cli,testing")])
def test_missing_extra(module, extras):
    """Where an extra is not installed, one line says which, and what to do."""
    ended = run(
        "demo", code=f"import sys; sys.modules['{module}'] = None; from httpx_tokenflow.cli import main; main()"
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"tokenflow: {module} is missing: pip install 'httpx-tokenflow[{extras}]'\n"


def test_our_own_missing_module_is_a_defect(monkeypatch):
    """Of a module that no extra brings, the traceback is shown."""

    def broken(_arguments):
        raise ModuleNotFoundError("No module named 'ours'", name="ours")

    monkeypatch.setattr("httpx_tokenflow.cli._app", broken)
    with pytest.raises(ModuleNotFoundError):
        main()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"token_requests": 2}, "2 token requests, where 1 are promised"),
        ({"times": (0.1,) * 999}, "1 requests failed (1 unanswered)"),
        ({"times": (0.1,) * 998, "errors": {"ReadTimeout": 2}}, "2 requests failed (2 x ReadTimeout)"),
        ({"family_alive": False}, "the refresh token was revoked"),
    ],
)
def test_broken_promises(change, says):
    """Whatever is not as promised is said in a sentence that names the scene."""
    (sentence,) = broken_promises(STORM, replace(AS_PROMISED, **change), 1000)
    assert sentence.startswith(STORM.title)
    assert says in sentence
    assert conclusion([sentence], 1).plain == sentence


@pytest.mark.parametrize(
    ("scene", "change", "says"),
    [
        (KEY_RETIRED, {"token_requests": 0}, "SecretFellBack was told 0 times, where 1 are promised"),
        (KEY_RETIRED, {"token_requests": 0, "told": (FELL_BACK,) * 2}, "SecretFellBack was told 2 times"),
        (KEY_RETIRED, {"token_requests": 1, "told": (FELL_BACK,)}, "1 token requests, where 0 are promised"),
        (OUTAGE, {"token_requests": 2}, "2 token requests, where 3 to 14 are promised"),
        (
            ROLL_OVER,
            {
                "token_requests": 2,
                "told": (WAITED,),
            },
            "Waited",
        ),
    ],
)
def test_events_are_promised_too(scene, change, says):
    """A scene whose point is an event says so if it was not told, or too often; and how many token requests it has."""
    assert any(says in sentence for sentence in broken_promises(scene, replace(AS_PROMISED, **change), 1000))


def test_kept_promises():
    """If all is as promised, that is what the last line says."""
    assert broken_promises(STORM, AS_PROMISED, 1000) == []
    assert conclusion([], 31.4).plain == "all as promised (31 s)"


@pytest.mark.parametrize("seconds", [2.6, 7.5])
def test_expiries_are_counted_in_the_time_that_it_took(seconds):
    """On a slow machine a stream sees more tokens expire, and then more token requests are as promised."""
    fewest, most = promised(SCENES[1], replace(AS_PROMISED, seconds=seconds), 1000)
    assert fewest <= 1 + seconds // (0.8 * 0.5 * 2.6) <= most
    assert most - fewest == 2


@pytest.mark.parametrize(("token_requests", "code"), [(1, 0), (7, 1)])
def test_exit_code(monkeypatch, capsys, token_requests, code):
    """A promise that was not kept is the exit code of the demo."""
    outcome = replace(AS_PROMISED, token_requests=token_requests)
    monkeypatch.setattr("httpx_tokenflow.cli._demo.perform", lambda *_args, **_settings: outcome)
    monkeypatch.setattr("httpx_tokenflow.cli._demo.SCENES", (STORM,))
    monkeypatch.setattr(sys, "argv", ["tokenflow", "demo"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert ("7 token requests, where 1 are promised" if code else "all as promised") in last


def test_percentiles():
    """A percentile is the time within which that part of the requests was answered."""
    assert AS_PROMISED.percentile(50) == 500
    assert AS_PROMISED.percentile(99) == 990
    assert replace(AS_PROMISED, times=()).percentile(50) is None


@pytest.mark.parametrize("outcome", [AS_PROMISED, AT_ITS_WORST])
def test_width(outcome):
    """The table is less than 100 columns wide, whatever is in it, and says the same without colour."""
    results = [Result(scene, outcome, outcome, (1, 1), []) for scene in SCENES]
    console = Console(width=99, no_color=True, record=True, file=io.StringIO())
    console.print(as_table(results))
    text = console.export_text()
    assert max(map(len, text.splitlines())) < 100
    assert all(line in text for scene in SCENES for line in scene.lines)
    assert all(word in text for trouble in outcome.troubles for word in trouble.split())
    assert ("login alive" if outcome.family_alive else "login revoked") in text


@pytest.mark.parametrize("ascii_only", [False, True])
def test_details(ascii_only):
    """Below the table: an outage in figures, the latencies drawn, a fallback; each line of less than 100 columns."""
    ours = replace(AS_PROMISED, turned_away=6, told=(FELL_BACK,), course=((0.1, 0.002), (1.0, 0.003)))
    by_hand = replace(AT_ITS_WORST, turned_away=12_345, course=((0.5, 99.9),), renewals=((0.5, 0.9),))
    lines = list(as_details([Result(ROLL_OVER, ours, by_hand, (2, 2), [])], ascii_only=ascii_only))
    text = "\n".join(lines)
    assert "token requests while the token endpoint was down: ours 6, by hand 12345" in text
    assert "ours: p50 500, p99 990, max 999 ms" in text
    assert f"told 1 x: {FELL_BACK}" in text
    assert text.isascii() == ascii_only
    assert max(map(len, [*lines, *LEGEND.splitlines()])) < 100


def test_nothing_to_add():
    """A scene of which the table says it all has no details."""
    assert list(as_details([Result(STORM, AS_PROMISED, AT_ITS_WORST, (1, 1), [])])) == []


def test_plot():
    """A column is as high as the slowest request sent in it, and empty without any; a mark is where the renewal was."""
    course = [(0.0, 0.001), (1.0, 0.4), (1.05, 0.1), (2.0, 0.21), (3.9, 0.1)]
    assert plot(course, seconds=4.0, top=0.4, spans=[(1.0, 1.9)], columns=16, rows=4) == [
        " 400 ms|    █",
        "       |    █   ▁",
        "       |    █   █",
        "   0 ms|▁   █   █      █",
        "       +----====--------",
        "        0 s        4.0 s",
    ]


def test_plot_names_its_mark():
    """Where there is room the mark has its name below it, and it never runs into the end of the axis."""
    axis, labels = plot([], seconds=1.0, top=1.0, spans=[(0.25, 0.6)], columns=40)[-2:]
    assert axis.index("=") == labels.index("renewal")
    assert labels.endswith(" 1.0 s")
    for begin in range(100):
        axis, labels = plot([], seconds=1.0, top=1.0, spans=[(begin / 100, 1.0)], columns=40)[-2:]
        assert len(axis) == len(labels) == 48
        assert labels.startswith("        0 s ")
        assert labels.endswith(" 1.0 s")


@pytest.mark.parametrize("levels", [BLOCKS, ASCII])
def test_plot_keeps_to_its_size(levels):
    """What is higher than the picture, or later, is at its edge; it is never wider or higher than was asked for."""
    lines = plot([(-1.0, 0.0), (99.0, 99.0)], seconds=1.0, top=0.05, columns=60, rows=8, levels=levels)
    assert len(lines) == 8 + 2
    assert {len(line) for line in lines[:-1]} == {68}
    assert [line[-1] for line in lines[:8]] == [levels[-1]] * 8
    assert lines[7][8] == levels[1]


@pytest.mark.parametrize(("slowest", "top"), [(0.0, 0.05), (0.05, 0.05), (0.051, 0.1), (0.42, 0.45)])
def test_the_top_of_a_plot_is_round(slowest, top):
    """The scale ends at a round number, not below the slowest request."""
    assert ceiling(slowest) == pytest.approx(top)


def test_a_watch_is_put_forward():
    """Both clocks are ahead by what has been put forward, and go on."""
    watch = Watch()
    before = watch.monotonic(), watch.wall()
    watch.put_forward(100)
    assert watch.monotonic() - before[0] >= 100
    assert watch.wall() - before[1] >= 99  # the machine's own may be set back


def test_what_was_unanswered_is_told_apart():
    """Failures are exceptions, 401s that a caller saw, and callers who still waited."""
    assert (AT_ITS_WORST.failed, AT_ITS_WORST.unanswered, AT_ITS_WORST.absorbed) == (900, 200, 9100)
    (scene,) = as_data([Result(STORM, AS_PROMISED, AT_ITS_WORST, (1, 1), [])], 1)["scenes"]
    assert scene["by_hand"]["unanswered"] == 200


@pytest.fixture
def stage():
    """A stage on which nobody is ever answered."""
    server = SimpleNamespace(url="http://127.0.0.1:1")
    nobody = Side("nobody", lambda _props: httpx.Auth())
    return Stage(server, nobody, requests=1, seconds=1, limit=0.2, report=lambda _answered: None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_hangs_on_a_loop_is_called_off(stage, backend):
    """A part that hangs on an event loop ends when the scene is over its limit."""
    stage.on_a_loop(lambda _client: anyio.sleep_forever(), backend)
    assert len(stage.tally) == 0


def test_what_hangs_in_a_thread_is_left_alone(stage):
    """A part that hangs in a thread does not keep the scene from ending at its limit."""
    never = threading.Event()
    assert not stage.in_threads([never.wait])
    never.set()


def test_what_callers_saw_is_counted_by_name(stage):
    """An exception is counted by its name, from a sync client as from an async one."""
    with stage.client() as client:
        stage.ask(client)
    stage.on_a_loop(stage.aask)
    assert stage.in_threads([int])
    assert stage.tally.errors == ["ConnectError", "ConnectError"]
