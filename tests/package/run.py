"""Build the sdist and the wheel, look at them, and try the wheel where there is nothing else.

    make package

Rules.

1. The wheel is built from the sdist: what somebody else builds from it is the same.
2. What is in them is what is under version control, no file more and none less.
3. The wheel is tried in environments made for the occasion, from an empty directory, by an interpreter that heeds no
   variable: alone (`smoke.py`), and with all extras (`smoke_all.py`).
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DIST = ROOT / "dist"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
NAME = f"httpx_tokenflow-{VERSION}"
PLUGIN = "httpx_tokenflow/testing/plugin/"  # whose files lie beside the package in the wheel
CORE = {"anyio", "certifi", "h11", "httpcore", "httpx", "httpx-tokenflow", "idna", "pip", "pyjwt", "typing-extensions"}


def main() -> None:
    """Build, look, try."""
    wheel, sdist = build()
    for path in (wheel, sdist):
        step(f"{path.name}: {path.stat().st_size / 1024:,.0f} KiB")
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    run(str(Path(sys.executable).with_name("check-wheel-contents")), str(wheel))
    look_at_the_sdist(sdist)
    look_at_the_wheel(wheel)
    step("twine, check-wheel-contents and git agree with what is in them")
    with tempfile.TemporaryDirectory() as folder:
        try_alone(wheel, Path(folder))
        try_with_all(wheel, Path(folder))


def build() -> tuple[Path, Path]:
    """Both anew, and no others beside them that somebody could upload."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT))
    wheel, sdist = DIST / f"{NAME}-py3-none-any.whl", DIST / f"{NAME}.tar.gz"
    same("dist", {path.name for path in DIST.iterdir()}, {wheel.name, sdist.name})
    return wheel, sdist


# What is in them


def tracked(*paths: str) -> set[str]:
    """The files under version control there that are still there."""
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def look_at_the_sdist(sdist: Path) -> None:
    """Package, tests, benchmarks, and what one needs to run them."""
    with tarfile.open(sdist) as archive:
        found = {member.name.removeprefix(f"{NAME}/") for member in archive.getmembers() if member.isfile()}
    wanted = tracked(*PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    assert {"Makefile", "CHANGELOG.md", "tests/package/run.py", "benchmarks/storms.py"} <= wanted
    same("the sdist", found, wanted | {"pyproject.toml", ".gitignore", "PKG-INFO"})


def look_at_the_wheel(wheel: Path) -> None:
    """The package, the plugin beside it, the licence, the command, and a version that is the project's."""
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
        entries = archive.read(f"{NAME}.dist-info/entry_points.txt").decode()
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    about.add(f"{NAME}.dist-info/licenses/LICENSE")
    package = {name.removeprefix(PLUGIN) for name in tracked("httpx_tokenflow")}
    assert {"httpx_tokenflow/py.typed", "pytest_tokenflow.py"} <= package
    assert {
        f"httpx_tokenflow/instrumentation/dashboards/{name}" for name in ("tokenflow.json", "alerts.yml")
    } <= package
    same("the wheel", found, package | about)
    assert f"\nVersion: {VERSION}\n" in metadata
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(VERSION)}\b", changes, re.MULTILINE), f"CHANGELOG.md has nothing of {VERSION}"
    parser = configparser.ConfigParser()
    parser.read_string(entries)
    wanted = {
        "console_scripts": {"tokenflow": "httpx_tokenflow.cli:main"},
        "pytest11": {"tokenflow": "pytest_tokenflow"},
    }
    assert {section: dict(parser[section]) for section in parser.sections()} == wanted, entries


def same(what: str, found: set[str], wanted: set[str]) -> None:
    """No file is missing, and none is there that nobody wants."""
    assert found == wanted, f"{what}: missing {sorted(wanted - found)}, strays {sorted(found - wanted)}"


# How it works


def try_alone(wheel: Path, folder: Path) -> None:
    """Without any extra: what it brings along, and `smoke.py`."""
    python = environment(folder / "alone", str(wheel))
    lines = run(python, "-m", "pip", "list", "--format=freeze").splitlines()
    installed = {re.split("==| @ ", line)[0].lower().replace("_", "-") for line in lines}
    assert installed - {"setuptools"} <= CORE, f"it brings along more than it says: {installed - CORE}"
    run(python, "-I", str(copied(HERE / "smoke.py", folder / "empty")), cwd=folder / "empty")
    step(f"it works alone, with {', '.join(sorted(installed))}")


def try_with_all(wheel: Path, folder: Path) -> None:
    """With all extras: `smoke_all.py`."""
    python = environment(folder / "all", f"{wheel}[all]", "pytest")
    run(python, "-I", str(copied(HERE / "smoke_all.py", folder / "empty_all")), cwd=folder / "empty_all")
    step("it works with all extras: the command, the demo, the pytest plugin")
    searched = {**os.environ, "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"}
    pyright = str(Path(sys.executable).with_name("basedpyright"))
    run(pyright, "--verifytypes", "httpx_tokenflow", "--ignoreexternal", cwd=folder / "empty_all", env=searched)
    step("the types of whatever is public are complete (basedpyright --verifytypes)")


def environment(folder: Path, *requirements: str) -> str:
    """A new virtual environment with nothing but `requirements` in it; its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = str(folder / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    return python


def copied(file: Path, folder: Path) -> Path:
    """A copy of `file` in an empty directory, where nothing of the checkout can be imported."""
    folder.mkdir()
    return shutil.copy(file, folder / file.name)


def run(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """What a command says; if it fails, that is shown, and all is over."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(command)} has failed: {done.returncode}")
    return done.stdout


def step(text: str) -> None:
    """Say what is done."""
    print(text, flush=True)  # noqa: T201 - a program that reports


if __name__ == "__main__":
    main()
