from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import anyio
import httpx
import pytest
from rich.console import Console

from httpx_tokenflow.cli import main
from httpx_tokenflow.cli._demo import Result, as_data, as_table, conclusion
from httpx_tokenflow.cli._scenes import SCENES, broken_promises, promised
from httpx_tokenflow.cli._stage import Outcome, Stage

STORM = SCENES[2]
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


@pytest.mark.parametrize(("args", "says"), [(["--help"], "demo"), (["demo", "--help"], "--requests")])
def test_help(monkeypatch, capsys, args, says):
    """Help says what there is, and demo is a subcommand although it is the only one."""
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
    assert [scene["broken_promises"] for scene in data["scenes"]] == [[]] * 6


def test_ours_absorbs_what_there_is(demo):
    """In each scene all of ours get their answer, no login is lost, and the scenes with one renewal have one."""
    ours = [scene["ours"] for scene in json.loads(demo.stdout)["scenes"]]
    assert [scene["failed"] for scene in ours] == [0] * 6
    assert [scene["family_alive"] for scene in ours] == [None, None, True, True, True, True]
    assert [ours[number]["token_requests"] for number in (0, 2, 3, 5)] == [1, 1, 1, 1]
    assert ours[2]["absorbed_401s"] == 40


def test_by_hand_is_no_straw_man(demo):
    """The auth by hand does as well as ours in the plain scenes, and loses the login when its leader hangs up."""
    by_hand = [scene["by_hand"] for scene in json.loads(demo.stdout)["scenes"]]
    assert [by_hand[number]["failed"] for number in (0, 1, 2)] == [0, 0, 0]
    assert [by_hand[number]["token_requests"] for number in (0, 2)] == [1, 1]
    assert by_hand[3]["failed"] == by_hand[3]["requests"] == 20
    assert not by_hand[3]["family_alive"]


@pytest.mark.parametrize("extra", ["typer", "rich", "uvicorn"])
def test_missing_extra(extra):
    """Where an extra is not installed, one line says which, and what to do."""
    ended = run("demo", code=f"import sys; sys.modules['{extra}'] = None; from httpx_tokenflow.cli import main; main()")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == f"tokenflow: {extra} is missing: pip install 'httpx-tokenflow[cli,testing]'\n"


def test_our_own_missing_module_is_a_defect(monkeypatch):
    """Of a module that no extra brings, the traceback is shown."""

    def broken():
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


def test_kept_promises():
    """If all is as promised, that is what the last line says."""
    assert broken_promises(STORM, AS_PROMISED, 1000) == []
    assert conclusion([], 31.4).plain == "all as promised (31 s)"


@pytest.mark.parametrize("seconds", [3.6, 7.5])
def test_expiries_are_counted_in_the_time_that_it_took(seconds):
    """On a slow machine a stream sees more tokens expire, and then more token requests are as promised."""
    fewest, most = promised(SCENES[1], replace(AS_PROMISED, seconds=seconds), 1000)
    assert fewest <= 1 + seconds // (0.8 * 0.4 * 3.6) <= most
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


def test_what_was_unanswered_is_told_apart():
    """Failures are exceptions, 401s that a caller saw, and callers who still waited."""
    assert (AT_ITS_WORST.failed, AT_ITS_WORST.unanswered, AT_ITS_WORST.absorbed) == (900, 200, 9100)
    (scene,) = as_data([Result(STORM, AS_PROMISED, AT_ITS_WORST, (1, 1), [])], 1)["scenes"]
    assert scene["by_hand"]["unanswered"] == 200


@pytest.fixture
def stage():
    """A stage on which nobody is ever answered."""
    server = SimpleNamespace(url="http://127.0.0.1:1")
    return Stage(server, httpx.Auth(), requests=1, seconds=1, limit=0.2, report=lambda _answered: None)


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
