"""The page and the picture that `make bench` writes, of made-up reports."""

import importlib
import re
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"
PEERS = (
    "singleflight-auth",
    "authlib",
    "httpx-auth",
    "mcp",
    "requests-oauth2client",
    "google-auth",
    "azure-core, msal",
)


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the benchmarks; none of them stays."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def report_of(**more):
    bar = {"what": "cost ÷ floor", "bar": "≤ 1", "ours": "0.98", "held": True, "counted": True, "peers": "1.01 to 1.3"}
    return {
        "title": "What it costs",
        "columns": ["auth", "ratio"],
        "rows": [["tokenflow", "0.98"], ["a|b", "1.30"]],
        "notes": ["A note."],
        "versions": {"Python": "3.11.7", "httpx": "0.28.1", "authlib": "1.9"},
        "bars": [bar],
        "data": {},
        **more,
    }


def run_of(module, name="hot_path", status=0, report=None, said=""):
    when = "2026-01-02 03:04 UTC"
    return module("_results").Run(name, when, 12.3, status, report, said)


def page_of(module, *runs):
    return module("_results").render(list(runs), "2 cores, 4.0 GiB of memory, Linux on x86_64; load at the start: 0.1")


def test_the_page_names_when_the_machine_and_all_versions(module):
    """Whoever reads a number finds with what it was measured, and on how large a machine."""
    page = page_of(module, run_of(module, report=report_of()))
    for said in ("2026-01-02 03:04 UTC", "2 cores, 4.0 GiB of memory", "httpx 0.28.1", "authlib 1.9", "results.svg"):
        assert said in page


def test_ratios_come_before_the_tables(module):
    """What all benchmarks say of us and of the peers stands above every table of one of them."""
    page = page_of(module, run_of(module, report=report_of()))
    first, table = page.index("| cost ÷ floor | 0.98 | ≤ 1 | 1.01 to 1.3 | yes |"), page.index("## What it costs")
    assert first < table
    assert "| tokenflow | 0.98 |\n| a\\|b | 1.30 |" in page[table:]
    assert "A note." in page[table:]
    assert "What did not hold" not in page


def test_a_bar_that_does_not_hold_is_on_top_of_the_page(module):
    """A claim that this run does not bear out is told before those that it does."""
    broken = report_of(bars=[{**report_of()["bars"][0], "ours": "1.20", "held": False}])
    page = page_of(module, run_of(module, status=1, report=broken))
    assert page.index("## What did not hold") < page.index("## What this says")
    assert "* `hot_path`: a counted bar does not hold" in page
    assert "* `hot_path`: cost ÷ floor: 1.20, and our bar is ≤ 1" in page
    assert "| **no** |" in page


@pytest.mark.parametrize(
    ("status", "told"), [(None, "out of time after 12 s"), (3, "ended with status 3"), (0, "ended with status 0")]
)
def test_a_script_without_a_table_is_told(module, status, told):
    """A script that failed, was out of time, or printed nothing is on the page, with its last words."""
    page = page_of(module, run_of(module, report=report_of()), run_of(module, "storms", status, said="Error: no"))
    assert f"* `storms`: {told} (Error: no)" in page
    assert f"## storms\n\nNo table: {told}." in page


@pytest.mark.parametrize(("counted", "held", "status"), [(True, False, 1), (False, False, 0), (True, True, 0)])
def test_only_a_counted_bar_ends_a_script_with_status_1(module, capsys, counted, held, status):
    """Counts are right or wrong; times and bytes that miss their bar are told, and no more."""
    ours = module("_report")
    bar = ours.Bar("token requests", "1", "2", held, counted)
    assert ours.Report("title", ("a",), [("1",)], [], {}, [bar]).show(as_json=False) == status
    assert ("NOT HELD: token requests: 2 (bar: 1)" in capsys.readouterr().out) is not held


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("import time; print('{}'); time.sleep(60)", None, ""),
        ("import sys; sys.exit('ValueError: no /some/where/of/mine.py')", 1, "ValueError: no …/mine.py"),
        ("import sys; sys.stderr.write(chr(13) + 'at work' + chr(27) + '[K')", 0, "at work"),
        ("import json; print(json.dumps(dict(title='t', columns=[], rows=[], notes=[])))", 0, ""),
    ],
)
def test_a_script_ends_in_time_and_is_kept_as_it_ended(module, monkeypatch, tmp_path, script, status, said):
    """However a script ends, the run goes on and knows how; no path of the machine is among its last words."""
    run = module("run")
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "LIMITS", {"one": 0.3 if status is None else 60.0})
    tmp_path.joinpath("one.py").write_text(script)
    done = run.measure("one", quick=True)
    assert (done.status, done.said if status is not None else "") == (status, said)
    assert (done.report is not None) is ("title" in script)


# The picture


def picture_of(module):
    rows = [("TokenAuth", "tokenflow", 0.9), ("BearerAuth", None, 0.97)]
    rows += [(name, name, 1.0 + number / 3) for number, name in enumerate(PEERS)]
    hot = [{"auth": auth, "name": name, "requests.Session": ratio} for auth, name, ratio in rows]
    storm = [
        {
            "case": "every 401",
            "runtime": "100 threads" if name == "google-auth" else "asyncio",
            "contender": name,
            "tasks": tasks,
            "token_requests": None if name == "mcp" else count,
            "failed": count,
        }
        for tasks in (100, 1000, 5000)
        for name, count in (("tokenflow", 1), ("floor, httpx", 0), *((peer, tasks) for peer in PEERS))
    ]
    rolling = [
        {"runtime": runtime, "contender": name, "ratios": {"p99.9": 1.02 if name == "tokenflow" else 1234.5}}
        for runtime in ("asyncio", "threads")
        for name in ("tokenflow", "hand-written lock", *PEERS)
    ]
    reports = {
        "hot_path": {"rows": hot, "measure": "instructions", "picture": ["httpx.AsyncClient", "requests.Session"]},
        "storms": {"rows": storm, "settings": {}},
        "rollover": {"rows": rolling, "pictured": "asyncio", "latency": 0.3},
    }
    return module("_picture").draw({name: report_of(data=data) for name, data in reports.items()})


def box_of(text):
    """A generous one: of a sans-serif face, letters are narrower than this."""
    size = {"title": 13, "small": 11}.get(text.get("class"), 12)
    wide, x, y = 0.6 * size * len(text.text), float(text.get("x")), float(text.get("y"))
    left = x - wide if text.get("text-anchor") == "end" else x
    return left, y - size, left + wide, y


def test_the_picture_has_a_bar_for_everybody_and_is_xml(module):
    """The picture is well-formed, as wide as a page, and shows us and each peer in each panel."""
    root = ET.fromstring(picture_of(module))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert int(root.get("width")) <= 900
    assert texts.count("tokenflow") == 4
    for name in PEERS:
        assert texts.count(name) == 4
    assert "no end" in texts
    assert "Token requests for 1,000 callers who meet a 401" in texts
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text


def test_no_label_lies_upon_another(module):
    """Every label has room, and stays within the picture."""
    root = ET.fromstring(picture_of(module))
    boxes = {text: box_of(text) for text in root.iter(f"{SVG}text")}
    for left, top, right, bottom in boxes.values():
        assert left >= 0
        assert top >= 0
        assert right <= int(root.get("width"))
        assert bottom <= int(root.get("height"))
    for one, other in combinations(boxes, 2):
        a, b = boxes[one], boxes[other]
        over = a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        assert not over, (one.text, other.text)


def test_no_label_lies_upon_a_bar(module):
    """A number stands beside its bar, not on it, and the line of the floor goes through none."""
    root = ET.fromstring(picture_of(module))
    bars = [[float(bar.get(key)) for key in ("x", "y", "width", "height")] for bar in root.iter(f"{SVG}rect")]
    assert len(bars) >= 4 * len(PEERS)
    for text in root.iter(f"{SVG}text"):
        left, top, right, bottom = box_of(text)
        for x, y, wide, high in bars:
            assert not (left < x + wide and x < right and top < y + high and y < bottom), text.text
        for line in root.iter(f"{SVG}line"):
            x, above, below = (float(line.get(key)) for key in ("x1", "y1", "y2"))
            assert not (left < x < right and top < below and above < bottom), text.text


def test_what_was_not_measured_has_no_panel(module):
    """A run of one benchmark alone still makes a picture."""
    assert not list(ET.fromstring(module("_picture").draw({})).iter(f"{SVG}rect"))


def test_every_script_of_the_run_is_there_and_takes_the_options_of_it(module):
    """What `run.py` names exists, and says itself that it takes --json and --quick."""
    for name in module("run").LIMITS:
        source = BENCHMARKS.joinpath(f"{name}.py").read_text()
        assert re.search(r"\"--json\"", source), name
        assert re.search(r"\"--quick\"", source), name


def storm_of(contender, runtime, case, **more):
    row = {"contender": contender, "runtime": runtime, "case": case, "grant": "refresh token", "tasks": 1000}
    return {**row, "token_requests": 1, "failed": 0, **more}


def reports_of(storms, cancelled, outages):
    """The three reports that the table of the peers is made of."""
    row = {"runtime": "asyncio", "grant": "refresh token", "cancelled": "the first", "others": 99, "note": ""}
    return {
        "storms": {"data": {"rows": storms}},
        "cancellation": {"data": {"rows": [{**row, **one} for one in cancelled]}},
        "outage": {"data": {"rows": outages}},
    }


def test_the_peers_are_compared_by_their_worst(module):
    """Of the grants the worst counts, who fails is told, and what a peer has no client for is a dash."""
    storms = [
        storm_of("tokenflow", "asyncio", "expired"),
        storm_of("tokenflow", "50 threads", "expired"),
        storm_of("tokenflow", "asyncio", "every 401"),
        storm_of("authlib", "50 threads", "expired", token_requests=51),
        storm_of("authlib", "50 threads", "expired", token_requests=2, failed=1000),
        storm_of("authlib", "asyncio", "every 401", token_requests=0, failed=1000),
        storm_of("mcp", "asyncio", "expired", token_requests=None, failed=7),
        storm_of("mcp", "asyncio", "expired", tasks=5000, token_requests=3),
    ]
    cancelled = [
        {"contender": "tokenflow", "failed": 0, "session": "kept"},
        {"contender": "authlib", "failed": 99, "session": "lost"},
        {"contender": "httpx-auth", "failed": 0, "session": "kept", "note": "the loop stands still"},
    ]
    outages = [
        {"contender": "tokenflow", "failed": 0, "of": 895},
        {"contender": "authlib", "failed": 5, "of": 895},
        {"contender": "authlib", "failed": 55, "of": 890},
        {"contender": "mcp", "failed": None, "of": None},
    ]
    _, rows = module("_comparison").compared(reports_of(storms, cancelled, outages))
    lines = {row[0].strip("*"): row[2:] for row in rows}
    assert lines["tokenflow"] == ("1", "1", "1", "nobody fails", "0 of 895")
    assert lines["authlib"] == ("-", "51; all fail", "all fail", "all fail, session lost", "55 of 890")
    assert lines["mcp"] == ("no end; 7 fail", "-", "-", "-", "-")
    assert lines["httpx-auth"] == ("-", "-", "-", "the loop stands still", "-")


def test_without_all_three_reports_nobody_is_compared(module):
    """Half a table of the peers is none."""
    reports = reports_of([], [], [])
    del reports["outage"]
    assert module("_comparison").compared(reports)[1] == []


def test_the_readme_has_the_table_of_the_results():
    """What the README says of the peers is what the last run has counted."""
    page = BENCHMARKS.joinpath("RESULTS.md").read_text("utf-8")
    (section,) = re.findall(r"^## Beside the others\n\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    assert section in BENCHMARKS.parent.joinpath("README.md").read_text("utf-8")
