"""Each scenario, with each kind of client: sync ones in threads, async ones on asyncio and on trio, of both libraries.

`pytest --scenarios=DIR` plays the JSON files of other directories as well; `scenario.py` has their language. (With a
space instead of the sign, pytest takes a DIR outside the repository for the place to look for its settings.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from conformance.hands import HANDS
from conformance.runner import play
from conformance.scenario import ScenarioError, load

HERE = Path(__file__).parent
LIBRARIES = {"httpx": httpx, "httpx2": httpx2}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each scenario and each kind of client."""
    if "scenario" not in metafunc.fixturenames:
        return
    directories = [Path(directory) for directory in metafunc.config.getoption("scenarios")]
    try:
        scenarios = load([HERE, *directories])
    except ScenarioError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    metafunc.parametrize("scenario", [_parameter(scenario) for scenario in scenarios])


def _parameter(scenario: dict[str, Any]) -> Any:
    marks = [pytest.mark.xfail(reason=scenario["xfail"])] if "xfail" in scenario else []
    return pytest.param(scenario, id=f"{scenario['file']}: {scenario['name']}", marks=marks)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", HANDS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_scenario(scenario: dict[str, Any], library: str, way: str) -> None:
    """What the scenario says."""
    play(scenario, LIBRARIES[library], way)
