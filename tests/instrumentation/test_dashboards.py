"""The dashboard and the alerts: they are what they say, speak of measures that exist, and are in the wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from httpx_tokenflow import instrumentation
from httpx_tokenflow.instrumentation import MEASURES, alerts, dashboard

ROOT = Path(instrumentation.__file__).parents[2]
OF_PROMETHEUS = {"job", "instance", "le"}  # labels that are there without us
WORDS = {
    "sum", "min", "max", "count", "avg", "by", "without", "on", "ignoring", "rate", "increase", "time", "vector", "or",
    "and", "unless", "bool", "histogram_quantile", "label_values", "group_left", "offset", "max_over_time", "clamp_min",
}  # fmt: skip

KNOWN: dict[str, set[str]] = {}
for _one in MEASURES:
    _names = [_one.prometheus_name]
    if _one.kind == "histogram":
        _names = [f"{_one.prometheus_name}_{part}" for part in ("bucket", "sum", "count")]
    KNOWN |= {name: set(_one.prometheus_labels) for name in _names}


def panels() -> list[Any]:
    return [panel for panel in json.loads(dashboard())["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, str]]:
    """The alerts, of the few lines of YAML that they are made of: `key: value`, and text in single quotes."""
    found: list[dict[str, str]] = []
    for line in alerts().splitlines():
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        assert line.startswith("#") or colon, line
        if key == "alert":
            found.append({})
        if found and value.strip():
            text = value.strip()
            is_quoted = text.startswith("'")
            assert not is_quoted or (text.endswith("'") and "'" not in text[1:-1]), line
            assert is_quoted or re.fullmatch(r"\w+", text), line
            found[-1][key] = text.strip("'")
    return found


def expressions() -> list[str]:
    of_panels = [target["expr"] for panel in panels() for target in panel["targets"]]
    variables = [one["definition"] for one in json.loads(dashboard())["templating"]["list"] if "definition" in one]
    return [*of_panels, *variables, *[rule["expr"] for rule in rules()]]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\btokenflow_\w+", re.sub(r"\{[^}]*\}|\bby ?\([^)]*\)|\bon ?\([^)]*\)", "", expression))) - {
        label for labels in KNOWN.values() for label in labels
    }


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_speaks_of_what_there_is(expression: str) -> None:
    """Each metric is one of ours, each label of a matcher or of an aggregation is one that its metrics have."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    for opening, closing in ("()", "{}", "[]"):
        assert plain.count(opening) == plain.count(closing)
    metrics = metrics_in(plain)
    assert metrics
    assert metrics <= set(KNOWN)
    for metric, matchers in re.findall(r"(\w+)\{([^}]*)\}", plain):
        for matcher in matchers.split(","):
            label = re.fullmatch(r'\s*(\w+)(=~|=|!=|!~)""\s*', matcher)
            assert label
            assert label[1] in KNOWN[metric] | OF_PROMETHEUS
    common = set.intersection(*[KNOWN[metric] for metric in metrics])
    for _, labels in re.findall(r"\b(by|on) ?\(([^)]*)\)", plain):
        assert {label.strip() for label in labels.split(",")} <= common | OF_PROMETHEUS
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) ?\([^)]*\)", " ", plain)
    assert set(re.findall(r"\b[a-z]\w*", bare)) <= WORDS | set(KNOWN) | {"job", "tokenflow_source"}


@pytest.mark.parametrize("expression", expressions())
def test_each_metric_is_asked_as_what_it_is(expression: str) -> None:
    """Of a counter or a histogram the growth is asked, never of a gauge; a quantile is of buckets, by `le`.

    A series that was not there a while ago has no growth yet, and counts as it is.
    """
    expression = re.sub(
        r"(tokenflow_\w+(?:\{[^}]*\})?) unless \1 offset (?:\d+[mh]|\$__rate_interval)", "NEW", expression
    )
    for measure in MEASURES:
        for found in re.finditer(
            rf"\b{measure.prometheus_name}(_bucket|_sum|_count)?\b(?:\{{[^}}]*\}})?(\[?)", expression
        ):
            before = expression[: found.start()]
            if "label_values(" in before:
                continue
            assert bool(found[2]) == (measure.kind != "gauge")
            assert before.endswith(("rate(", "increase(")) == (measure.kind != "gauge")
            assert (found[1] == "_bucket") == ("histogram_quantile" in before)
    if "histogram_quantile" in expression:
        assert re.search(r"by \(le[,)]", expression)


@pytest.mark.parametrize("text", [*expressions(), alerts()])
def test_values_of_labels_are_those_that_are_told(text: str) -> None:
    """An outcome or a result that an expression asks for is one that the translation tells."""
    told = {"accepted", "absorbed", "refused", "failed", "broken", "minted", "found"}
    assert set(re.findall(r'tokenflow_(?:outcome|result)="(\w+)"', text)) <= told


def test_every_measure_is_on_the_dashboard() -> None:
    """There is a panel for each row of the table."""
    shown = set().union(*[metrics_in(target["expr"]) for panel in panels() for target in panel["targets"]])
    for measure in MEASURES:
        assert {measure.prometheus_name, f"{measure.prometheus_name}_bucket"} & shown, measure.name


def test_the_dashboard_is_one() -> None:
    """It has what Grafana wants of a dashboard, its data source is a variable, and no panel lies on another."""
    board = json.loads(dashboard())
    assert board["title"] == "httpx_tokenflow"
    assert board["schemaVersion"] >= 36
    names = [one["name"] for one in board["templating"]["list"]]
    assert names == ["datasource", "job", "source"]
    assert board["templating"]["list"][0]["type"] == "datasource"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert all(0 <= x < 24 for x, _ in mine)
        assert not mine & cells
        cells |= mine
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith((".", ";"))
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*names, "__rate_interval"}
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels <= set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))


def test_the_alerts_are_some() -> None:
    """Each alert has an expression, a time, a severity and words for who is woken, with labels that are there."""
    assert [rule["alert"] for rule in rules()] == [
        "TokenflowPersistent401s", "TokenflowRenewalsFail", "TokenflowNoToken", "TokenflowStoreOutage",
        "TokenflowBreakerOpen",
    ]  # fmt: skip
    assert [rule["for"] for rule in rules()] == ["5m", "1m", "2m", "5m", "3m"]
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "severity", "summary", "description"}
        assert rule["severity"] in {"critical", "warning"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        labels = set(re.findall(r"\$labels\.(\w+)", rule["summary"] + rule["description"]))
        assert labels <= set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        assert labels


def test_the_alerts_are_laid_out_as_prometheus_wants() -> None:
    """Two blanks more for what lies below, and no tab: the file is YAML of the plainest kind."""
    depths = {"groups": 0, "name": 2, "rules": 4, "alert": 6, "expr": 8, "for": 8, "labels": 8, "severity": 10}
    depths |= {"annotations": 8, "summary": 10, "description": 10}
    for line in alerts().splitlines()[1:]:
        assert "\t" not in line
        key = line.strip().removeprefix("- ").partition(":")[0]
        assert len(line) - len(line.lstrip()) == depths[key], line
        assert line.lstrip().startswith("- ") == (key in {"name", "alert"})


def test_names_in_words_are_on_the_dashboard() -> None:
    """A panel that an alert's words name is there."""
    titles = {panel["title"] for panel in panels()}
    named = set(re.findall(r'panel "([^"]+)"', alerts()))
    assert named
    assert named <= titles


@pytest.mark.parametrize("panel", [one for one in panels() if "increase(" in one["targets"][0]["expr"]],
                         ids=lambda one: one["title"])  # fmt: skip
def test_what_has_happened_once_is_on_the_dashboard(panel: Any) -> None:
    """What is seldom counted begins at 1, which is no growth: its panel shows a series that is new as it is."""
    assert " unless " in panel["targets"][0]["expr"]


@pytest.mark.slow
def test_rules_and_panels_say_what_they_should(tmp_path: Path) -> None:
    """Prometheus's own `promtool` has the alerts fire, and the panels show, what `promtool.yml` says, and no more."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on the PATH: it comes with Prometheus, not from PyPI")
    (tmp_path / "alerts.yml").write_text(alerts())
    text = (Path(__file__).parent / "promtool.yml").read_text()
    for panel in panels():
        expression = panel["targets"][0]["expr"].replace("$__rate_interval", "2m")
        text = text.replace(f"'PANEL {panel['title']}'", json.dumps(re.sub(r'"\$\w+"', '".*"', expression)))
    assert "PANEL" not in text
    (tmp_path / "tests.yml").write_text(text)
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "tests.yml"]):
        done = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_shipped() -> None:
    """Both files lie in the package, of which the wheel and the source archive have everything."""
    folder = Path(instrumentation.__file__).parent / "dashboards"
    assert {path.name for path in folder.iterdir()} == {"tokenflow.json", "alerts.yml"}
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert "httpx_tokenflow" in hatch["targets"]["sdist"]["include"]
    wheel = hatch["targets"].get("wheel", {})  # by default it has the whole package
    assert "httpx_tokenflow" in wheel.get("only-include", ["httpx_tokenflow"])
    assert "exclude" not in wheel
    assert "exclude" not in hatch
