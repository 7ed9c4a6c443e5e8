"""Handlers: what may be one, and telling one what has happened."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from ._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .events import Event

__all__ = ["Joined", "checked", "is_same", "leaves", "tell_one"]

logger = logging.getLogger("httpx_tokenflow")


def tell_one(on_event: Callable[[Event], object], event: Event) -> None:
    """Tell it; what a handler raises is no affair of whoever tells."""
    try:
        on_event(event)
    except Exception:
        logger.exception("%s: on_event raised; nothing else is wrong", event.source)


def checked(on_event: Any, what: str = "on_event=") -> Callable[[Event], object]:
    """`on_event`, if it can be called, and that is all there is to do.

    Raises:
        ConfigurationError: it cannot, it is async, or it is a class of which no object has been made.
    """
    if isinstance(on_event, type) and "__call__" in dir(on_event):
        raise ConfigurationError(f"{what} is a class: give it one of its objects, {on_event.__name__}()")
    is_async = inspect.iscoroutinefunction(on_event) or inspect.iscoroutinefunction(type(on_event).__call__)
    if not callable(on_event) or is_async:
        raise ConfigurationError(f"{what} must be a callable, and not async: it is called, not awaited")
    handler: Callable[[Event], object] = on_event
    return handler


class Joined:
    """Several handlers that are one (`events.to_all`).

    Args:
        handlers: they; what is joined already is taken apart, so that each is there once.
    """

    def __init__(self, handlers: Iterable[Any]) -> None:
        self.leaves: list[Any] = []
        for handler in handlers:
            self.leaves += [one for one in leaves(handler) if not any(is_same(one, other) for other in self.leaves)]


def is_same(one: Any, other: Any) -> bool:
    """Whether they are one handler: they say that they are equal, and have a hash, that is to say for good.

    A method is made anew each time, and equal; two lists are equal only while both are empty.
    """
    return one is other or (type(one).__hash__ is not None and bool(one == other))


def leaves(on_event: Any) -> list[Any]:
    """The handlers that `on_event` is made of; itself, if it is not."""
    return on_event.leaves if isinstance(on_event, Joined) else [on_event]
