"""Credentials that nobody sees who only copies or prints: sealed header fields, and URLs that show less than they say.

Rules.

1. httpx strips `Authorization` when a redirect leaves the origin, and nothing else. A credential in a header of its
   own is therefore *sealed* to the one request that it was put on: whoever copies the headers (a redirect does)
   gets a copy without it. See `seal`.
2. A credential in the query is on the wire and nowhere else: the URL does not show it, to hooks, logs or errors.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["seal", "unseal", "veil"]


def veil(url: Any, shown: str) -> Any:
    """`url` (of httpx or httpx2) as it goes on the wire, which shows itself, to logs and errors, as `shown`."""
    kind: Any = type(url)
    veiled = _veiled_kind(kind)(url)
    veiled.shown = shown
    return veiled


@functools.cache
def _veiled_kind(kind: Any) -> Any:
    class Veiled(kind):  # type: ignore[misc]  # the library is known at run time only
        shown = ""

        def __str__(self) -> str:
            return self.shown

        def __repr__(self) -> str:
            return repr(kind(self.shown))

    return Veiled


class _Sealed:
    """What sealed headers of either library are."""

    def unsealed(self) -> Any:
        """A copy, without the sealed field."""


def unseal(request: Any, *names: str) -> None:
    """Take the fields `names`, which were sealed, off `request`."""
    if isinstance(headers := request.headers, _Sealed):
        request.headers = headers.unsealed()
        return
    for name in names:  # a hook has put other headers in place
        headers.pop(name, None)


def seal(headers: Any, fields: Mapping[str, str]) -> Any:
    """`headers` (of httpx or httpx2) with fields that copies go without.

    Raises:
        ConfigurationError: this version of the library copies headers in another way than we know, so that the field
            could leak; we would rather not send it.
    """
    kind: Any = type(headers)
    return _sealed_kind(kind)(headers, fields)


@functools.cache
def _sealed_kind(kind: Any) -> Any:  # noqa: C901 - a class whose base is known at run time only
    """A subclass of the library's `Headers`: all that reads sees the field, what copies does not.

    A copy takes the base class's own list. So that one holds the headers without the field, and every reading method
    answers from a second, complete set. That a copy is as bare as it should be is checked here, once.
    """

    class Sealed(_Sealed, kind):  # type: ignore[misc]  # the library is known at run time only
        def unsealed(self) -> Any:
            return kind(self)

        def __init__(self, headers: Any, fields: Mapping[str, str]) -> None:
            self._complete = kind(headers)
            for name, value in fields.items():
                self._complete[name] = value
            super().__init__(headers)

        @property
        def raw(self) -> Any:
            return self._complete.raw

        def __setitem__(self, key: str, value: str) -> None:
            super().__setitem__(key, value)
            self._complete[key] = value

        def __delitem__(self, key: str) -> None:
            del self._complete[key]
            if key in kind(self):
                super().__delitem__(key)

        def update(self, headers: Any = None) -> None:
            for key, value in kind(headers).items():
                self[key] = value

        def __repr__(self) -> str:
            return repr(kind(self))

    def reading(method: str) -> Any:
        def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self._complete, method)(*args, **kwargs)

        return read

    for method in (
        "keys",
        "values",
        "items",
        "multi_items",
        "get_list",
        "__getitem__",
        "__contains__",
        "__len__",
    ):
        setattr(Sealed, method, reading(method))
    if "a" in kind(Sealed(kind(), {"a": "b"})):
        raise ConfigurationError(
            f"this version of {kind.__module__.partition('.')[0]} would carry a header along on a redirect to another "
            'origin: use header="Authorization", and tell the authors of httpx_tokenflow'
        )
    return Sealed
