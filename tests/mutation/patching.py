"""Makes a mutant of the package as it is in memory, in a process that is for nothing else.

A function gets other code: whoever has it, has the mutant, be it a method of a NamedTuple, a property or a generator.
What is done at import is done again beside: constants, defaults of functions and of fields are taken over from there.
"""

from __future__ import annotations

import ast
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mutants import Mutant

__all__ = ["PACKAGE", "NotMade", "apply", "watch"]

PACKAGE = "httpx_tokenflow"
_FUTURE = "from __future__ import annotations\n"
_MISSING = object()


class NotMade(Exception):  # noqa: N818 - said by name
    """The change changes nothing here."""


def apply(mutant: Mutant) -> None:
    """Make the mutant; raises what its import raises."""
    module = sys.modules[f"{PACKAGE}.{mutant.source.name}"]
    if mutant.function is not None:
        code = _code_in(compile(_FUTURE + mutant.text(), module.__file__, "exec"), mutant.where)
        function = _function(module, mutant.where)
        if (function.__code__.co_code, function.__code__.co_consts) == (code.co_code, code.co_consts) and (
            function.__code__.co_names == code.co_names
        ):
            raise NotMade
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a generator that yields no more is none
            function.__code__ = code
        return
    beside = types.ModuleType(module.__name__)
    beside.__dict__.update(__file__=module.__file__, __package__=PACKAGE)
    registered = sys.modules[module.__name__]
    sys.modules[module.__name__] = beside
    try:
        exec(compile(mutant.text(), module.__file__, "exec"), beside.__dict__)
    finally:
        sys.modules[module.__name__] = registered
    _take_over(module, beside)


def watch(path: Path, hits: set[tuple[str, int]]) -> None:
    """From now on each statement in the functions of a module says that it is reached."""
    module = sys.modules[f"{PACKAGE}.{path.stem}"]
    assert path.samefile(module.__file__), "what is tested is another package"
    vars(module)["_mutation_hits"] = hits
    tree = ast.fix_missing_locations(_Watching(path.stem).visit(ast.parse(path.read_text())))
    code = compile(tree, str(path), "exec")
    for part in tree.body:
        for one in part.body if isinstance(part, ast.ClassDef) else [part]:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                where = one.name if one is part else f"{part.name}.{one.name}"
                _function(module, where).__code__ = _code_in(code, where)


class _Watching(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_inside = False

    def visit(self, node: ast.AST) -> Any:
        was, self.is_inside = self.is_inside, self.is_inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        node = super().generic_visit(node)
        if self.is_inside:
            for part in ("body", "orelse", "finalbody"):
                if isinstance(statements := getattr(node, part, None), list):
                    setattr(node, part, [new for old in statements for new in (self._hit(old), old)])
        self.is_inside = was
        return node

    def _hit(self, statement: ast.stmt) -> ast.stmt:
        return ast.parse(f"_mutation_hits.add(({self.name!r}, {statement.lineno}))").body[0]


def _code_in(code: types.CodeType, where: str) -> types.CodeType:
    for name in where.split("."):
        code = next(one for one in code.co_consts if isinstance(one, types.CodeType) and one.co_name == name)
    return code


def _function(module: types.ModuleType, where: str) -> Any:
    found: Any = module
    for name in where.split("."):
        found = vars(found)[name]
    return _plain(found)


def _plain(found: Any) -> Any:
    """The function that a descriptor or a decorator has."""
    for attribute in ("fget", "__func__", "__wrapped__"):
        found = getattr(found, attribute, None) or found
    return found


def _take_over(module: types.ModuleType, beside: types.ModuleType) -> None:
    """What differs now: wherever it is known by its name, in the tests too."""
    for name, old, new in _differences(vars(module), vars(beside)):
        for other in list(sys.modules.values()):
            if getattr(other, "__dict__", {}).get(name, _MISSING) is old:
                setattr(other, name, new)
    for old, new in _functions(vars(module), vars(beside)):
        old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
        if new.__code__.co_filename == "<string>":  # made by dataclasses, from the fields
            old.__code__ = new.__code__


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name, value in new.items():
        if name.startswith("__") or isinstance(value, type | types.FunctionType | types.ModuleType):
            continue
        was = old.get(name)
        if was != value and _shown(was) != _shown(value):
            yield name, was, value


def _shown(value: Any) -> str:
    return repr(value).partition(" at 0x")[0]


def _functions(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    for name, value in new.items():
        was, is_now = _plain(old.get(name)), _plain(value)
        if isinstance(value, type) and isinstance(was, type) and value.__module__ == new.get("__name__"):
            yield from _functions(dict(vars(was)), dict(vars(value)))
        elif isinstance(is_now, types.FunctionType) and isinstance(was, types.FunctionType) and was is not is_now:
            yield was, is_now
