"""The shape of the package: which module may import which, what importing it costs, what its surface is."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import httpx_tokenflow

PACKAGE = Path(httpx_tokenflow.__file__).parent

# From the bottom up: a module imports those before it, and no other.
ORDER = [
    "_errors",
    "_extras",
    "_libraries",
    "_forks",
    "_loops",
    "_times",
    "_tokens",
    "_entries",
    "_answers",
    "_challenges",
    "_origins",
    "_sealing",
    "_credentials",
    "_steps",
    "_attempt",
    "_metadata",
    "_secrets",
    "_signing",
    "_dpop",
    "_loopback",
    "_certificates",
    "_client_auth",
    "_grants",
    "grants",
    "_lifecycle",
    "_handlers",
    "events",
    "stores",
    "_flights",
    "_timing",
    "_breakers",
    "_telling",
    "doctor",
    "_verdicts",
    "_holder",
    "_sources",
    "_registry",
    "_terms",
    "_storing",
    "_outside",
    "_renewal",
    "_flow",
    "_siblings",
    "_bodies",
    "_token_client",
    "_leases",
    "_drivers",
    "_watching",
    "_logins",
    "_auth",
    "_simple_auth",
    "_token_auth",
    "_auth_cache",
    "__init__",
]
EDGES = {"testing", "cli", "fastapi", "instrumentation"}
CRYPTO = {"_signing", "stores"}  # that imports its extra where it is used
OF_STORES = {"redis", "filelock", "platformdirs", "keyring", "key_value"}  # likewise
OF_EDGES = {"trio", "typer", "rich", "uvicorn", "fastapi", "starlette", "prometheus_client", "opentelemetry"}
HTTP = {"_auth"}  # the only module of the core that imports an HTTP library when it is imported


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """What a module imports when it runs, at its top or later; not what only a type checker sees."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    package = ["httpx_tokenflow", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            found |= {f"{module}.{name.name}" if node.module is None else module for name in node.names}
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    """A module of the core imports only what lies below it; an edge imports the core, and nobody imports an edge."""
    room = _room(path)
    ours = {name.split(".")[1] for name in _imports(path) if name.startswith("httpx_tokenflow.")}
    ours -= {room}
    if room in EDGES:
        assert ours <= EDGES | set(ORDER)
        return
    assert room in ORDER, f"{room} has no place in the order yet"
    assert ours <= set(ORDER[: ORDER.index(room)]), f"{room} imports what lies above it"


def test_the_command_line_sees_the_doctor_by_its_front() -> None:
    """Of the doctor's modules an edge imports the package, its table of causes, and the one seam for front ends."""
    seams = {f"httpx_tokenflow.doctor{name}" for name in ("", "._front", ".causes")}
    for path in _modules():
        if _room(path) in EDGES:
            seen = {name for name in _imports(path) if name.startswith("httpx_tokenflow.doctor")}
            assert seen <= seams, path


def test_the_order_lists_what_is_there() -> None:
    """The order above has every room of the package, and no other."""
    assert {_room(path) for path in _modules()} == set(ORDER) | EDGES


def test_only_auth_imports_an_http_library() -> None:
    """httpx is imported in one place of the core; httpx2, and every extra, nowhere."""
    for path in _modules():
        if _room(path) in EDGES:
            continue
        top = {name.split(".")[0] for name in _imports(path)}
        assert "httpx2" not in top
        assert "httpx" not in top or _room(path) in HTTP, path
        assert not top & {
            "trio",
            "typer",
            "rich",
            "uvicorn",
            "fastapi",
            "starlette",
            "prometheus_client",
            "opentelemetry",
        }, path
        assert not top & OF_STORES or _room(path) == "stores", path
        assert "cryptography" not in top or _room(path) in CRYPTO, path


def _loaded(statement: str) -> set[str]:
    code = (
        "import sys, json; import httpx; before = set(sys.modules);"
        f"{statement}; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_no_edge() -> None:
    """`import httpx_tokenflow` loads httpx, anyio and the core: no extra, no httpx2, not even pyjwt."""
    loaded = {name.split(".")[0] for name in _loaded("import httpx_tokenflow")}
    assert not loaded & {"httpx2", "jwt", "trio", "typer", "rich", "uvicorn", "cryptography", "respx", "pytest"}
    assert not loaded & OF_STORES
    assert "httpx_tokenflow.testing" not in _loaded("import httpx_tokenflow")


def test_the_public_names_are_all_there() -> None:
    """`__all__` has every public name of the package, and each can be had."""
    public = {name for name, value in vars(httpx_tokenflow).items() if not name.startswith("_") and _is_ours(value)}
    assert set(httpx_tokenflow.__all__) == public
    assert sorted(httpx_tokenflow.__all__) == httpx_tokenflow.__all__


def _is_ours(value: object) -> bool:
    return isinstance(value, type) and value.__module__.startswith("httpx_tokenflow")


def test_public_things_have_docstrings() -> None:
    """Every public class says what it is."""
    for name in httpx_tokenflow.__all__:
        assert (getattr(httpx_tokenflow, name).__doc__ or "").strip(), name


def test_the_package_is_typed() -> None:
    """py.typed is shipped."""
    assert (PACKAGE / "py.typed").exists()
