"""Mutants: one small change each, to the text of one module.

Rules.

1. mutmut's operators say what is changed: a number, a name of a thing, a comparison, an argument, an assignment. Three
   more of ours: a statement that is a call, a yield or a raise is left out; a condition is forced, either way.
2. Not changed: annotations, decorators, docstrings, assertions, `__all__`, `__slots__`, imports, the members of an
   enum; and what is written for people, that is, strings with a blank in them.
3. A mutant has a name that does not depend on line numbers: the function, and what its lines say before and after.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import libcst as cst
from libcst import matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Mutant", "Source"]

_LISTS = m.Assign(targets=[m.AssignTarget(target=m.Name("__all__") | m.Name("__slots__"))])
_ENUM = m.ClassDef(bases=[m.Arg(value=m.Attribute(value=m.Name("enum")))])
_TYPES_ONLY = m.If(test=m.Name("TYPE_CHECKING"))
_UNTOUCHED = m.OneOf(
    m.Annotation(), m.Decorator(), m.Import(), m.ImportFrom(), m.Assert(), m.Del(), _LISTS, _ENUM, _TYPES_ONLY
)
_DEED = m.Raise() | m.Expr(value=m.Call() | m.Yield() | m.Await())
_WORDS = m.ConcatenatedString() | m.FormattedString()
_COMMENT = re.compile(r"\s+#.*$")


@dataclass(frozen=True, eq=False)
class Mutant:
    """One change.

    Args:
        source: the module that is changed.
        where: the function it is in, or the class; empty: the module.
        function: the function whose code is changed; None: what is changed is done when the module is imported.
        lines: of the statement that is changed, first and last.
        node: what is changed.
        change: what it is changed to.
    """

    source: Source
    where: str
    function: cst.FunctionDef | None
    lines: tuple[int, int]
    node: cst.CSTNode
    change: cst.CSTNode

    def text(self, *, is_changed: bool = True) -> str:
        """The function that is changed, in its class; or the module."""
        part: Any = self.function or self.source.tree
        if is_changed:
            part = part.deep_replace(self.node, self.change)
        if self.function is None:
            return part.code
        for name in reversed(self.where.split(".")[:-1]):
            part = cst.ClassDef(cst.Name(name), cst.IndentedBlock([part]))
        return cst.Module([part]).code

    @cached_property
    def name(self) -> str:
        """How the list of what is explained calls it (rule 3)."""
        texts = [self.text(is_changed=False), self.text()]
        lines = [[_COMMENT.sub("", line).strip() for line in text.splitlines()] for text in texts]
        diff = list(difflib.ndiff(*lines))
        before, after = (" ".join(line[2:] for line in diff if line.startswith(sign)) for sign in "-+")
        return f"{self.source.name}.{self.where}: {before}  -->  {after}"


class Source:
    """A module of the package, and its mutants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        wrapper = MetadataWrapper(cst.parse_module(path.read_text()))
        self.tree = wrapper.module
        finder = _Finder(self, wrapper.resolve(PositionProvider))
        self.tree.visit(finder)
        self.mutants = finder.found
        self._functions = finder.functions
        self._lines = path.read_text().splitlines()

    def key(self, line: int) -> tuple[str, str, str]:
        """A line by what it says, and where: good for as long as that is so."""
        where = next((name for name, (first, last) in self._functions.items() if first <= line <= last), "")
        return self.name, where, self._lines[line - 1].strip()

    def users_of(self, mutant: Mutant) -> set[int]:
        """The lines here that name what is made at import: the constant, or the class."""
        names = [mutant.where.split(".")[0]] if mutant.where else _assigned(mutant)
        used = re.compile(rf"\b({'|'.join(names)})\b")
        return {number for number, line in enumerate(self._lines, 1) if used.search(line)}


class _Finder(cst.CSTVisitor):
    """Goes through a module and finds what can be changed."""

    def __init__(self, source: Source, positions: Any) -> None:
        super().__init__()
        self.source = source
        self.positions = positions
        self.found: list[Mutant] = []
        self.names: list[str] = []  # of the classes around, and of the function
        self.function: cst.FunctionDef | None = None  # the outermost one around
        self.head: cst.Parameters | None = None  # its defaults are no code of the function
        self.functions: dict[str, tuple[int, int]] = {}  # their first and last lines
        self.spans: list[tuple[int, int]] = []  # of the statements around

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, _UNTOUCHED) or (isinstance(node, cst.FormattedString) and " " in _code(node)):
            return False
        if isinstance(node, cst.ClassDef | cst.FunctionDef) and self.function is None:
            self.names.append(node.name.value)
            if isinstance(node, cst.FunctionDef):
                self.function = node
                span = self.positions[node]
                self.functions[".".join(self.names)] = span.start.line, span.end.line
        if self.function is not None and node is self.function.params:
            self.head = node
        if isinstance(node, cst.BaseStatement | cst.BaseSmallStatement):
            self.spans.append(self._span(node))
        function = None if self.head else self.function
        for change in _changes(node):
            self.found.append(Mutant(self.source, ".".join(self.names), function, self.spans[-1], node, change))
        return True

    def on_leave(self, node: cst.CSTNode) -> None:
        if m.matches(node, _UNTOUCHED):
            return
        if node is self.function:
            self.function = None
            self.names.pop()
        elif isinstance(node, cst.ClassDef) and self.function is None:
            self.names.pop()
        if node is self.head:
            self.head = None
        if isinstance(node, cst.BaseStatement | cst.BaseSmallStatement):
            self.spans.pop()

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        """The lines of a statement; of one with a body, those before the body."""
        span = self.positions[node]
        body = getattr(node, "body", None)
        end = self.positions[body].start.line if isinstance(body, cst.BaseSuite) else span.end.line
        return span.start.line, end


def _assigned(mutant: Mutant) -> list[str]:
    """The names that the statement gives a value to."""
    lines = mutant.source.path.read_text().splitlines()[mutant.lines[0] - 1 : mutant.lines[1]]
    return list(re.findall(r"\w+", "\n".join(lines).partition("=")[0].partition(":")[0]))


def _changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.SimpleString):
        if " " not in node.value:
            yield from list(operator_string(node))[:1]  # another word; in capitals it would be the same again
        return
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from (change for change in operator(node) if not _is_dull(node, change))
    if m.matches(node, _DEED):
        yield cst.Pass()
    if isinstance(node, cst.If):
        test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        for operator, value in ((cst.And(), "False"), (cst.Or(), "True")):
            yield node.with_changes(test=cst.BooleanOperation(test, operator, cst.Name(value)))


def _is_dull(node: cst.CSTNode, change: cst.CSTNode) -> bool:
    """An argument changed that is written for people; a positional one left out, or None for one that has a name."""
    if not (isinstance(node, cst.Call) and isinstance(change, cst.Call)):
        return False
    is_left_out = len(change.args) < len(node.args)
    gone = [one for one in node.args if not any(one is other for other in change.args)]
    return any(_is_words(one.value) or is_left_out is (one.keyword is None and not one.star) for one in gone)


def _code(node: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(node)


def _is_words(node: cst.CSTNode) -> bool:
    return m.matches(node, _WORDS) or (isinstance(node, cst.SimpleString) and " " in node.value)
