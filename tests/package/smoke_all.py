"""The wheel with all its extras: the command, the demo, and the pytest plugin.

    python -I smoke_all.py

Started by `run.py`, from an empty directory. Silent if all is well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import httpx_tokenflow
import httpx_tokenflow.fastapi
import httpx_tokenflow.instrumentation
import httpx_tokenflow.stores
import httpx_tokenflow.testing

COMMAND = str(Path(sys.executable).with_name("tokenflow"))

TEST = """
import httpx
from httpx_tokenflow import ClientCredentials, TokenAuth

def test_a_401_is_a_non_event(tokenflow_sandbox, tokenflow_leaks):
    transport = tokenflow_sandbox.transport()
    grant = ClientCredentials(
        "https://sandbox/token", client_id="client", client_secret=tokenflow_sandbox.clients["client"]
    )
    auth = TokenAuth(grant, client=httpx.Client(transport=transport))
    with httpx.Client(transport=transport, base_url="https://sandbox", auth=auth) as client:
        assert client.get("/api/x").status_code == 200
        tokenflow_sandbox.revoke_access_tokens()
        assert client.get("/api/x").status_code == 200
    assert tokenflow_sandbox.token_requests == 2
"""


def said(*command: str) -> str:
    """What a command says that has to work."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_the_command() -> None:
    """It knows its version, explains itself, and plays its scenes; the exit status is 1 if one is not as promised."""
    assert said(COMMAND, "--version").strip() == f"tokenflow {metadata.version('httpx-tokenflow')}"
    assert "--token" in said(COMMAND, "doctor", "--help")
    assert json.loads(said(COMMAND, "demo", "--requests", "40", "--json"))


def check_the_plugin() -> None:
    """Its fixtures are there as soon as it is installed, in a directory that knows nothing of it."""
    Path("test_smoke.py").write_text(TEST, encoding="utf-8")
    assert "1 passed" in said(sys.executable, "-I", "-m", "pytest", "-q", "-W", "error", "test_smoke.py")


def check_that_all_is_there() -> None:
    """Whatever is public can be imported, also what is imported when it is first named; the dashboards come along."""
    for part in ("", ".stores", ".fastapi", ".instrumentation", ".testing"):
        module = sys.modules[f"httpx_tokenflow{part}"]
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert json.loads(httpx_tokenflow.instrumentation.dashboard())["panels"]
    assert "groups:" in httpx_tokenflow.instrumentation.alerts()


check_that_all_is_there()
check_the_command()
check_the_plugin()
