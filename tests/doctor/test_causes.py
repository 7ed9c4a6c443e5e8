"""Every cause, on a server that has it, is named first; a healthy server has none."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path

import pytest
from doctor.rig import arguments_of, run, serve

from httpx_tokenflow.doctor.causes import CAUSES

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CASES = [case for name in MODULES for case in importlib.import_module(f"doctor.{name}").CASES]
HEALTHY = 24  # of the servers without a fault, so many in `make test`
FIELDS = {"id", "summary", "certainty", "evidence", "against", "remedy", "reference"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "TOKENFLOW_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOKENFLOW_CONFIG", str(tmp_path / "profiles.toml"))


def _sampled():
    """All cases; those that come after the first of their cause are slow, and of the healthy ones those after some."""
    seen = Counter()
    for case in CASES:
        seen[case.cause] += 1
        is_one_more = seen[case.cause] > (1 if case.cause else HEALTHY)
        yield pytest.param(case, id=case.id, marks=[pytest.mark.slow] if is_one_more else [])


@pytest.mark.parametrize("case", list(_sampled()))
def test_the_cause_is_named_first(case, capsys, monkeypatch):
    """The doctor names the cause that a server has before all others, exits with 1, and shows no secret."""
    with (case.serve or serve)(case.answer) as origin:
        arguments = arguments_of(case, origin)
        at = arguments.index("--") if "--" in arguments else len(arguments)
        arguments[at:at] = ["--json"]
        ended = run(["doctor", *arguments], capsys, monkeypatch, environment=case.environment, stdin=case.stdin)
    assert ended.stdout, ended.stderr
    named = [cause["id"] for cause in ended.causes]
    assert named[:1] == ([case.cause] if case.cause else []), ended.stdout
    assert ended.status == (bool(case.cause) if case.status is None else case.status)
    for cause in ended.causes:
        assert cause.keys() == FIELDS
        assert all([cause["summary"], cause["evidence"], cause["remedy"], cause["reference"]]), cause
    for secret in case.secrets:
        assert secret not in ended.stdout + ended.stderr


def test_every_cause_has_a_case():
    """No cause is in the list that no server here has."""
    assert {cause.id for cause in CAUSES} == {case.cause for case in CASES} - {""}


def test_the_causes_are_told_apart():
    """Each cause has an id of its own, and all four texts."""
    assert len({cause.id for cause in CAUSES}) == len(CAUSES)
    for cause in CAUSES:
        assert all([cause.id, cause.title, cause.remedy, cause.reference]), cause
