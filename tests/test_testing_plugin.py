"""The pytest plugin, as its users have it: their tests are run, all of them in one process, and what became of them."""

import importlib.metadata
import os
import re
import subprocess
import sys
import textwrap
from xml.etree import ElementTree as ET

import pytest

from httpx_tokenflow import testing

INI = "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
QUICK = ["-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:cacheprovider"]

OPTIONS = """
import httpx
import pytest
from httpx_tokenflow.testing import ManualClock, Sandbox

pytestmark = pytest.mark.tokenflow(lifetime=10, rotate=False)
seen = set()

@pytest.mark.tokenflow(lifetime=20)
def test_options(tokenflow_sandbox):
    answer = tokenflow_sandbox.login()
    assert answer["expires_in"] == 20
    with httpx.Client(transport=tokenflow_sandbox.transport(), base_url=tokenflow_sandbox.url) as client:
        form = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
        auth = ("client", tokenflow_sandbox.clients["client"])
        assert "refresh_token" not in client.post("/token", data=form, auth=auth).json()

def test_clock(tokenflow_sandbox, tokenflow_clock):
    assert isinstance(tokenflow_clock, ManualClock)
    token = tokenflow_sandbox.login()["access_token"]
    with httpx.Client(transport=tokenflow_sandbox.transport(), base_url=tokenflow_sandbox.url) as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get("/api/x", headers=headers).status_code == 200
        tokenflow_clock.advance(10)
        assert client.get("/api/x", headers=headers).status_code == 401

def test_server(tokenflow_server, tokenflow_sandbox, tokenflow_clock):
    assert tokenflow_server is tokenflow_sandbox
    assert tokenflow_server.url.startswith("http://127.0.0.1:")
    assert httpx.get(tokenflow_server.url + "/open/x").status_code == 200
    facts = httpx.get(tokenflow_server.url + "/.well-known/openid-configuration").json()
    assert facts["issuer"] == tokenflow_server.url

@pytest.mark.parametrize("number", range(3))
def test_secrets_of_their_own(tokenflow_sandbox, number):
    (key,) = tokenflow_sandbox.api_keys
    made = {tokenflow_sandbox.clients["client"], tokenflow_sandbox.accounts["user"], key}
    assert len(made) == 3
    assert min(map(len, made)) > 20
    assert not made & seen
    seen.update(made)
    with httpx.Client(transport=tokenflow_sandbox.transport(), base_url=tokenflow_sandbox.url) as client:
        assert client.get("/api-key/x", headers={"X-API-Key": key}).status_code == 200

@pytest.mark.tokenflow(clients={"a": "b"})
def test_clients(tokenflow_sandbox):
    assert tokenflow_sandbox.clients == {"a": "b"}
"""

WRONG = """
import pytest

@pytest.mark.tokenflow(life=5)
def test_unknown(tokenflow_sandbox): ...

@pytest.mark.tokenflow(60)
def test_nameless(tokenflow_sandbox): ...
"""

FAULTS = """
import httpx
import pytest
from httpx_tokenflow.testing import Status

def test_unused(tokenflow_sandbox):
    tokenflow_sandbox.script(Status(503), on="jwks")

def test_used(tokenflow_sandbox):
    tokenflow_sandbox.script(Status(503))
    httpx.Client(transport=tokenflow_sandbox.transport()).post("https://sandbox/token")

@pytest.mark.tokenflow(all_faults_used=False)
def test_may(tokenflow_sandbox):
    tokenflow_sandbox.script(Status(503))

def test_own_reason(tokenflow_sandbox):
    tokenflow_sandbox.script(Status(503), on="metadata")
    assert 1 == 2

def test_skipped(tokenflow_sandbox):
    tokenflow_sandbox.script(Status(503))
    pytest.skip()
"""

LEAKS = """
import logging
import sys
import warnings
import pytest

def secret(sandbox):
    return sandbox.clients["client"]

def test_log(tokenflow_leaks, tokenflow_sandbox):
    logging.getLogger("app").debug("log %s", secret(tokenflow_sandbox)[2:20])

def test_out(tokenflow_leaks, tokenflow_sandbox):
    print("out", tokenflow_sandbox.login()["access_token"])

def test_err(tokenflow_leaks, tokenflow_sandbox):
    print("err", tokenflow_sandbox.mint(), file=sys.stderr)

@pytest.mark.filterwarnings("default")
def test_warning(tokenflow_leaks, tokenflow_sandbox):
    warnings.warn("warned " + secret(tokenflow_sandbox))

@pytest.fixture
def closing(tokenflow_leaks, tokenflow_sandbox):
    yield
    logging.getLogger("app").info("closing %s", secret(tokenflow_sandbox))

def test_teardown(closing): ...

def test_checked(tokenflow_leaks, tokenflow_sandbox):
    with pytest.raises(AssertionError):
        tokenflow_leaks.check(ValueError(secret(tokenflow_sandbox)))

def test_fine(tokenflow_leaks, tokenflow_sandbox):
    logging.getLogger("app").debug("the client_secret is a secret of client")
    print(tokenflow_sandbox, tokenflow_leaks)

def test_another_reason(tokenflow_leaks, tokenflow_sandbox):
    assert 1 == 2

def test_taken(tokenflow_leaks, tokenflow_sandbox, capsys):
    print("taken", secret(tokenflow_sandbox))
    capsys.readouterr()

def test_taken_as_bytes(tokenflow_leaks, tokenflow_sandbox, capfdbinary):
    print("taken", secret(tokenflow_sandbox), flush=True)
    capfdbinary.readouterr()

def test_expected_warning(tokenflow_leaks, tokenflow_sandbox):
    with pytest.warns(UserWarning):
        warnings.warn("expected " + secret(tokenflow_sandbox))

def test_not_watched(tokenflow_sandbox, capsys):
    print(secret(tokenflow_sandbox))
    capsys.readouterr()
    logging.getLogger("app").debug("log %s", secret(tokenflow_sandbox))
"""

SUBTESTS = """
import unittest
import httpx
import pytest
from httpx_tokenflow.testing import Status

def use(sandbox):
    httpx.Client(transport=sandbox.transport()).post("https://sandbox/token")

def test_healthy(tokenflow_sandbox, tokenflow_leaks, subtests):
    tokenflow_sandbox.script(Status(503), Status(503))
    for number in range(2):
        with subtests.test(number=number):
            use(tokenflow_sandbox)

def test_unused(tokenflow_sandbox, subtests):
    tokenflow_sandbox.script(Status(503), Status(503))
    with subtests.test():
        use(tokenflow_sandbox)

def test_printed_in_one(tokenflow_sandbox, tokenflow_leaks, subtests):
    with subtests.test():
        print(tokenflow_sandbox.clients["client"])

@pytest.mark.usefixtures("tokenflow_leaks")
class TestUnits(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def have(self, tokenflow_sandbox):
        self.sandbox = tokenflow_sandbox

    def test_healthy(self):
        self.sandbox.script(Status(503), Status(503))
        for number in range(2):
            with self.subTest(number=number):
                use(self.sandbox)

    def test_unused(self):
        self.sandbox.script(Status(503))

    def test_own_reason(self):
        self.sandbox.script(Status(503))
        assert 1 == 2
"""

EXPECTED = """
import pytest

@pytest.mark.xfail(strict=True)
def test_leak(tokenflow_sandbox, tokenflow_leaks):
    print(tokenflow_sandbox.clients["client"])

@pytest.mark.xfail(strict=True)
def test_none(tokenflow_sandbox, tokenflow_leaks): ...
"""

# What pytest-rerunfailures does, for the tests of one module.
AGAIN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if item.path.name != "test_again.py":
        return None
    for _ in range(2):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""

AGAIN_TESTS = """
import logging
import httpx
import pytest
from httpx_tokenflow.testing import Status

runs = []

def test_passes(tokenflow_sandbox, tokenflow_leaks):
    tokenflow_sandbox.script(Status(503))
    runs.append(1)
    if len(runs) == 1:
        logging.getLogger("app").info(tokenflow_sandbox.clients["client"])
        assert 1 == 2
    httpx.Client(transport=tokenflow_sandbox.transport()).post("https://sandbox/token")

def test_leaks_again(tokenflow_sandbox, tokenflow_leaks):
    logging.getLogger("app").info(tokenflow_sandbox.clients["client"])

@pytest.fixture
def started(tokenflow_sandbox):
    runs.append(2)
    if runs.count(2) == 1:
        tokenflow_sandbox.script(Status(503))
        assert 1 == 2

def test_starts(started): ...
"""

(STORY,) = re.findall(r"(?ms)^    import .*?(?=^\S)", testing.__doc__)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of each test above: a word, and what was said of it."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "pytest.ini").write_text(INI)
    (folder / "conftest.py").write_text(AGAIN)
    modules = {"options": OPTIONS, "wrong": WRONG, "faults": FAULTS, "leaks": LEAKS, "story": textwrap.dedent(STORY)}
    modules |= {"subtests": SUBTESTS, "expected": EXPECTED, "again": AGAIN_TESTS}
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "--strict-markers", "--strict-config", "--junitxml=out.xml", *QUICK]
    done = subprocess.run([*command, "."], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (folder / "out.xml").exists(), done.stdout + done.stderr
    found = {}
    for case in ET.parse(folder / "out.xml").iter("testcase"):
        name = f"{case.get('classname').removeprefix('test_')}:{case.get('name').removeprefix('test_')}"
        verdicts = [
            (part.tag, f"{part.get('message')} {part.text}") for part in case if part.tag in {"failure", "error"}
        ]
        skipped = [("skipped", "")] if case.find("skipped") is not None else []
        found[name] = (verdicts or skipped or [("passed", "")])[-1]
    return found


def verdicts(outcomes, module):
    return {name.partition(":")[2]: verdict for name, (verdict, _) in outcomes.items() if name.startswith(f"{module}:")}


def test_fixtures(outcomes):
    """Sandbox, server and clock are there, of one test, with options of the markers, the closest first."""
    found = verdicts(outcomes, "options")
    assert set(found.values()) == {"passed"}, outcomes
    assert len(found) == 7


def test_wrong_options(outcomes):
    """An option that does not exist, or has no name, is an error that says what there is."""
    assert set(verdicts(outcomes, "wrong").values()) == {"error"}
    assert "takes all_faults_used= and what Sandbox takes:" in outcomes["wrong:unknown"][1]
    assert "'life'" in outcomes["wrong:unknown"][1]
    assert "takes options by name, such as lifetime=60" in outcomes["wrong:nameless"][1]


def test_faults_that_never_happen(outcomes):
    """A fault that never happened fails a test that passed, unless it may; one that failed keeps its reason."""
    assert verdicts(outcomes, "faults") == {
        "unused": "failure",
        "used": "passed",
        "may": "passed",
        "own_reason": "failure",
        "skipped": "skipped",
    }
    assert 'on="jwks": Status(code=503' in outcomes["faults:unused"][1]
    assert "assert 1 == 2" in outcomes["faults:own_reason"][1]
    assert "have not happened" not in outcomes["faults:own_reason"][1]


def test_leaks(outcomes):
    """A secret in log, warning, output or at teardown fails a test that passed; the reason shows none of it."""
    told = {
        "log": "the log of 'app' at DEBUG: the secret of client 'client': log [here]",
        "out": "the captured output: an access token: out [here]",
        "err": "the captured output: an access token: ",
        "warning": "a UserWarning: the secret of client 'client': warned [here]",
        "teardown": "the log of 'app' at INFO: the secret of client 'client': closing [here]",
        "taken": "the captured output: the secret of client 'client': taken [here]",
        "taken_as_bytes": "the captured output: the secret of client 'client': taken [here]",
        "expected_warning": "a UserWarning: the secret of client 'client': expected [here]",
        "another_reason": "assert 1 == 2",
    }
    passed = {"checked", "fine", "not_watched"}
    words = {name: "error" if name == "teardown" else "failure" for name in told} | dict.fromkeys(passed, "passed")
    assert verdicts(outcomes, "leaks") == words
    for name, text in told.items():
        assert text in outcomes[f"leaks:{name}"][1]
    assert "does not belong" not in outcomes["leaks:another_reason"][1]


def test_subtests(outcomes):
    """Subtests use up what the test scripted; what is wrong in the end, and what one of them prints, fails the test."""
    found = {name: verdict for name, (verdict, _) in outcomes.items() if name.startswith("subtests")}
    assert found == {
        "subtests:healthy": "passed",
        "subtests:unused": "failure",
        "subtests:printed_in_one": "failure",
        "subtests.TestUnits:healthy": "passed",
        "subtests.TestUnits:unused": "failure",
        "subtests.TestUnits:own_reason": "failure",
    }, outcomes
    assert 'on="token": Status(code=503' in outcomes["subtests:unused"][1]
    assert "the captured output" in outcomes["subtests:printed_in_one"][1]
    assert "have not happened" in outcomes["subtests.TestUnits:unused"][1]
    assert "have not happened" not in outcomes["subtests.TestUnits:own_reason"][1]


def test_expected_to_fail(outcomes):
    """A test that is expected to fail may do so by a leak, and must do so by something."""
    assert verdicts(outcomes, "expected") == {"leak": "skipped", "none": "failure"}, outcomes


def test_run_again(outcomes):
    """A test that is run again is judged by its last run."""
    assert verdicts(outcomes, "again") == {
        "passes": "passed",
        "leaks_again": "failure",
        "starts": "passed",
    }, outcomes


def test_the_story_that_is_told(outcomes):
    """The example in the docstring of `httpx_tokenflow.testing` is a test module of its own, and its tests pass."""
    assert verdicts(outcomes, "story") == dict.fromkeys(
        ("fifty_at_once", "a_401_is_a_non_event", "an_outage_is_tolerated"), "passed"
    ), outcomes
    assert len(STORY.splitlines()) <= 45


def run_small(tmp_path, text, *options, alone):
    """Start pytest from Python, with our plugin and no other if `alone`, and give back all that it said."""
    code = (
        "import sys, pytest; had = set(sys.modules); import pytest_tokenflow; "
        "print('new', sorted(set(sys.modules) - had)); pytest.main(sys.argv[1:]); "
        "print('loaded', 'httpx_tokenflow' in sys.modules)"
    )
    (tmp_path / "test_small.py").write_text(text)
    command = [sys.executable, "-c", code, "test_small.py", *QUICK, *options]
    environment = os.environ | ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if alone else {})
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120, env=environment
    ).stdout


def test_who_does_not_ask_has_nothing_of_it(tmp_path):
    """The plugin is one small module, and tests that use no fixture of it run without the package being imported."""
    said = run_small(tmp_path, "def test_one(): ...\n", "-p", "pytest_tokenflow", alone=True)
    assert "new ['pytest_tokenflow']" in said
    assert "1 passed" in said
    assert "loaded False" in said


@pytest.mark.slow
def test_it_can_be_left_out(tmp_path):
    """Without the plugin there are no fixtures."""
    text = "def test_one(): ...\ndef test_two(tokenflow_sandbox): ...\n"
    said = run_small(tmp_path, text, "-p", "no:tokenflow", alone=False)
    assert re.search(r"1 passed,.* 1 error", said), said
    assert "loaded False" in said


def test_the_plugin_is_announced():
    """pytest finds the plugin by its entry point, whose name is the one for `-p no:`."""
    (found,) = [one for one in importlib.metadata.entry_points(group="pytest11") if one.name == "tokenflow"]
    assert found.value == "pytest_tokenflow"
