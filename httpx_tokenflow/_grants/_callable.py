"""A credential that the program itself knows how to get: asked for it again when it was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow._entries import Minted
from httpx_tokenflow._secrets import is_seconds
from httpx_tokenflow._tokens import MAX_LIFETIME, Token

from ._grant import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._steps import Step

__all__ = ["AskProgram"]


class AskProgram:
    """A callable, sync or async, that returns the credential: good until it is refused.

    One with a `max_age`, seconds, is asked again before that is over, aside (`FileSecret`).
    """

    spends = False
    issues = False

    def __init__(self, function: Callable[[], Any], what: str) -> None:
        self._function = function
        self._what = what

    def identity(self) -> Mapping[str, Any]:
        """By the callable itself: nobody knows what it would return."""
        return {"grant": "callable", "callable": id(self._function)}

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """Ask once."""
        credential = yield from ask(self._function, self._what, attempt.timeout)
        max_age = getattr(self._function, "max_age", None)
        return Minted(Token(credential), min(max_age, MAX_LIFETIME) if is_seconds(max_age) else MAX_LIFETIME)
