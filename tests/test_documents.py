"""The README is one page, what it points to is there, and each failure that others shipped has a test."""

from __future__ import annotations

import ast
import re
from importlib import import_module

import pytest
from documents import EXAMPLES, GUIDE, README, ROOT, TEXTS

from httpx_tokenflow import TokenAuth

MOST_LINES = 125


def test_the_readme_is_a_page():
    """Who is tired reads one page."""
    assert len(TEXTS["README.md"].splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", [README, *GUIDE], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """What a page points to beside it exists."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXTS[page.name]) + re.findall(
        r'(?:src|href)="([^"]+)"', TEXTS[page.name]
    )
    missing = {link for link in links if "://" not in link and not page.parent.joinpath(link).exists()}
    assert missing == set()


def test_every_page_of_the_guide_can_be_found():
    """The README points to each."""
    assert [page.name for page in GUIDE if f"({page.relative_to(ROOT).as_posix()})" not in TEXTS["README.md"]] == []


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.strip().splitlines()[-1][:40])
def test_every_example_can_be_read(text):
    """Each is Python, and each name that it imports from us is there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("httpx_tokenflow"):
            module = import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names)


def test_every_option_that_is_named_exists():
    """`using`, `dpop=`, `step_up=`, `expect=`, `revoke`, `introspect`: what the pages name can be had."""
    text = "".join(TEXTS.values())
    named = set(re.findall(r"TokenAuth\(…, (\w+)=", text)) | set(re.findall(r"auth\.(\w+)\(", text))
    arguments = TokenAuth.__init__.__kwdefaults__
    assert {name for name in named if name not in arguments and not hasattr(TokenAuth, name)} == set()


FAILURE = re.compile(r"\bF[0-9]{2}\b")


def test_each_failure_of_others_has_a_test():
    """The list has a line for each number that is cited, and each line is cited by a test."""
    listed = re.findall(r"^\* (F[0-9]{2}) ", ROOT.joinpath("tests", "FAILURES.md").read_text("utf-8"), re.MULTILINE)
    tests = {number for path in ROOT.glob("tests/**/*.py") for number in FAILURE.findall(path.read_text("utf-8"))}
    package = {
        number for path in ROOT.glob("httpx_tokenflow/*.py") for number in FAILURE.findall(path.read_text("utf-8"))
    }
    assert len(listed) == len(set(listed))
    assert tests == set(listed)
    assert package <= set(listed)
