"""What all tests share."""

from __future__ import annotations

import gc
from collections import defaultdict
from itertools import combinations
from zlib import crc32

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


def pytest_collection_finish() -> None:
    """The garbage collector leaves alone what is there before the first test: thousands of tests, and no garbage.

    Or each `gc.collect()` of a test looks through all of it, a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """What is imported from now on may ask the garbage collector who refers to what, as hypothesis does."""
    gc.unfreeze()


SAMPLED = {"concurrency": 2, "host": 1, "integration": 1}  # folders whose tests are, unless they say how themselves


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the tests that are `sampled`, those are slow that the sample does without."""
    matrices: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if _sample_size(item) is not None and hasattr(item, "callspec") and not item.get_closest_marker("slow"):
            matrices[item.nodeid.partition("[")[0]].append(item)
    for matrix in matrices.values():
        for item in _superfluous(matrix, _sample_size(matrix[0])):
            item.add_marker(pytest.mark.slow)


def _sample_size(item: pytest.Item) -> int | None:
    mark = item.get_closest_marker("sampled")
    if mark is None:
        return SAMPLED.get(item.path.parent.name)
    return mark.args[0] if mark.args else 1


def _superfluous(matrix: list[pytest.Item], size: int) -> list[pytest.Item]:
    """All but a sample that has each value of each parameter; with `sampled(2)` each pair of values, with 0 just one.

    Which ones goes by their names: the same in each run and in each of xdist's workers.
    """
    size = min(size, len(matrix[0].callspec.params))
    has = {item: set(combinations(_values(item), size)) for item in matrix}
    missing = set().union(*has.values())
    rest = sorted(matrix, key=lambda item: crc32(item.nodeid.encode()))
    while missing:
        chosen = max(rest, key=lambda item: len(has[item] & missing))
        missing -= has[chosen]
        rest.remove(chosen)
    return rest


def _values(item: pytest.Item) -> list[tuple[str, object]]:
    """The values of its parameters, by name: something that is the same for the same value, and can be in a set."""
    params = sorted(item.callspec.params.items())
    return [(name, value if isinstance(value, str) else id(value)) for name, value in params]
