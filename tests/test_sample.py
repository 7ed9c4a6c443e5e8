"""What `make test` leaves out is no kind of thing, but a combination."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sample

CLIENTS, STATUSES, MANY = ("sync", "async", "trio"), (301, 302, 307, 308), (object(), {}, [], 1.5)


class Item:
    """A test with these parameters, as pytest has it."""

    def __init__(self, folder: str, mark: tuple[Any, ...] | None = None, **params: Any) -> None:
        self.nodeid = f"tests/{folder}/test_x.py::test_x[{params}]"
        self.path = Path("tests") / folder / "test_x.py"
        self.callspec = SimpleNamespace(params=params)
        self.marks = {} if mark is None else {"sampled": SimpleNamespace(args=mark)}

    def get_closest_marker(self, name: str) -> Any:
        return self.marks.get(name)


def matrix(folder: str = "", mark: tuple[Any, ...] | None = None) -> list[Item]:
    return [Item(folder, mark, a=a, b=b, c=c) for a, b, c in product(CLIENTS, STATUSES, MANY)]


def kept(items: list[Any]) -> list[Any]:
    rest = sample.superfluous(items)
    return [item for item in items if item not in rest]


@pytest.mark.parametrize(("mark", "folder"), [((), ""), ((1,), "concurrency"), (None, "host"), (None, "integration")])
def test_each_value_is_in_the_sample(mark: tuple[Any, ...] | None, folder: str) -> None:
    """Of 48 combinations a handful is left, in which each value of each parameter occurs."""
    chosen = kept(matrix(folder, mark))
    assert 4 <= len(chosen) <= 6
    for name, number in (("a", 3), ("b", 4), ("c", 4)):
        assert len({id(item.callspec.params[name]) for item in chosen}) == number


@pytest.mark.parametrize(("mark", "folder"), [((2,), ""), (None, "concurrency")])
def test_each_pair_is_in_the_sample(mark: tuple[Any, ...] | None, folder: str) -> None:
    """With pairs, each two values of two parameters meet."""
    chosen = kept(matrix(folder, mark))
    assert 16 <= len(chosen) <= 24
    for one, other, number in (("a", "b", 12), ("a", "c", 12), ("b", "c", 16)):
        pairs = {(id(item.callspec.params[one]), id(item.callspec.params[other])) for item in chosen}
        assert len(pairs) == number


@pytest.mark.parametrize("folder", ["concurrency", "host", ""])
def test_a_single_parameter_keeps_all_its_values(folder: str) -> None:
    """Where there is nothing to combine, nothing is left out."""
    items = [Item(folder, a=value) for value in CLIENTS]
    assert kept(items) == items


def test_one_is_one() -> None:
    """`sampled(0)` leaves a single test, and never none."""
    assert len(kept(matrix("host", (0,)))) == 1


def test_elsewhere_nothing_is_left_out() -> None:
    """A test that is not marked, in any other folder, has all its combinations."""
    assert len(kept(matrix("stores"))) == 48
