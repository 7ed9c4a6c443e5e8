"""What all tests share."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest --scenarios=DIR` (tests/conformance)."""
    parser.addoption(
        "--scenarios",
        action="append",
        default=[],
        metavar="DIR",
        help="play the scenarios in the JSON files of this directory as well; may be given several times",
    )


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param
