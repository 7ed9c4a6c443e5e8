"""Of a test with many parameters `make test` has a sample, and `make proof` all combinations.

Rules. (1) With `pytest.mark.sampled` each value of each parameter is in the sample; with `sampled(2)` each pair of
values; with `sampled(0)` there is just one test. (2) In the folders below that holds for each test that does not say
how itself. (3) A sample is never empty. (4) Which ones are in it goes by their names: the same ones in each run, and in
each of xdist's workers.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    import pytest

FOLDERS = {"concurrency": 2, "host": 1, "integration": 1}


def superfluous(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests that the samples do without."""
    matrices: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if size_for(item) is not None and hasattr(item, "callspec") and not item.get_closest_marker("slow"):
            matrices[item.nodeid.partition("[")[0]].append(item)
    return [item for matrix in matrices.values() for item in rest_of(matrix, size_for(matrix[0]))]


def size_for(item: pytest.Item) -> int | None:
    """How many values have to meet in the sample; None: the test is not sampled."""
    mark = item.get_closest_marker("sampled")
    if mark is None:
        return FOLDERS.get(item.path.parent.name)
    return mark.args[0] if mark.args else 1


def rest_of(matrix: list[pytest.Item], size: int) -> list[pytest.Item]:
    """All combinations of one test's parameters but a sample."""
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
