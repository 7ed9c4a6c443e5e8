"""What cannot be read is said so, by scenario and key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance.scenario import ScenarioError, load

TOP = Path(__file__).parents[2]
GOOD: dict[str, Any] = {"name": "mine", "rule": "§0", "given": {}, "steps": [{"send": 1, "gets": 200}], "expect": {}}


def write(directory: Path, *scenarios: Any) -> Path:
    (directory / "strangers.json").write_text(json.dumps(scenarios), "utf-8")
    return directory


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gives": {}}, "scenario 'mine' in strangers.json: unknown key 'gives'"),
        ({"given": {"grnat": "bearer"}}, "scenario 'mine' in strangers.json, given: unknown key 'grnat'"),
        ({"given": {"grant": "password"}}, "scenario 'mine' in strangers.json, given: unknown grant 'password'"),
        ({"given": {"policy": {"atempts": 1}}}, "given.policy: unknown key 'atempts'; known: due_window, "),
        ({"given": {"token": {"live": 1}}}, "given.token: unknown key 'live'"),
        ({"given": {"server": {"pai": {}}}}, "given.server: unknown key 'pai'"),
        ({"given": {"server": {"token_endpoint": [{"stauts": 503}]}}}, "token_endpoint: unknown key 'stauts'"),
        (
            {"steps": [{"send": 1}, {"send": 1, "get": 200}]},
            "scenario 'mine' in strangers.json, step 2: unknown key 'get'",
        ),
        ({"steps": [{"sned": 1}]}, "step 1: a step has one of send, .*; this one has 'sned'"),
        ({"steps": [{"send": 1, "pass": 1}]}, "step 1: a step has one of send, .*; this one has 'send', 'pass'"),
        ({"steps": [{"server": {"ap": {}}}]}, "step 1, server: unknown key 'ap'"),
        ({"steps": [{"status": {"stat": "fresh"}}]}, "step 1, status: unknown key 'stat'"),
        ({"steps": [{"set_token": "T1"}]}, "step 1, set_token: 'T1' is not an object"),
        ({"expect": {"event": []}}, "scenario 'mine' in strangers.json, expect: unknown key 'event'"),
    ],
)
def test_an_unknown_key_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    """And the scenario that has it."""
    with pytest.raises(ScenarioError, match=message):
        load([write(tmp_path, GOOD | wrong)])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """All parts of a scenario have to be there."""
    with pytest.raises(ScenarioError, match="expect, steps is missing"):
        load([write(tmp_path, {key: GOOD[key] for key in ("name", "rule", "given")})])


def test_a_name_is_one_scenarios(tmp_path: Path) -> None:
    """Or nobody would know which one failed."""
    with pytest.raises(ScenarioError, match="two scenarios have one name: mine"):
        load([write(tmp_path, GOOD, GOOD)])


def test_what_is_not_json_is_named(tmp_path: Path) -> None:
    """By its file; and so is a directory that is none."""
    (tmp_path / "strangers.json").write_text("{", "utf-8")
    with pytest.raises(ScenarioError, match=r"strangers\.json is not JSON"):
        load([tmp_path])
    with pytest.raises(ScenarioError, match="is not a directory"):
        load([tmp_path / "elsewhere"])


def test_scenarios_of_others_are_played(tmp_path: Path) -> None:
    """`pytest --scenarios=DIR` plays them with all kinds of clients, and tells what does not hold."""
    wrong = {"name": "wrong", "steps": [{"send": 1, "gets": 401}]}
    told = pytest_with(write(tmp_path, GOOD, GOOD | wrong))
    assert "6 failed, 6 passed" in told
    assert "gets: [200], expected [401]" in told
    assert "in step 1 of 'wrong': {'send': 1, 'gets': 401}" in told


@pytest.mark.slow
def test_scenarios_of_others_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """An error of the collection, in one line."""
    told = pytest_with(write(tmp_path, GOOD | {"expect": {"evnts": []}}))
    assert "scenario 'mine' in strangers.json, expect: unknown key 'evnts'" in told


def pytest_with(directory: Path) -> str:
    """What pytest prints, called from the repository's top."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/conformance/test_scenarios.py"]
    command += [f"--scenarios={directory}", "-k", "strangers"]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False).stdout
