"""Keys that the program has, in the order to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow._entries import Minted
from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._tokens import MAX_LIFETIME, Token, check_credential

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._steps import Step

__all__ = ["KeysInTurn", "check_sequence"]


class KeysInTurn:
    """Each key is good until it is refused; then it is the next one's turn, and after the last the first one's."""

    spends = False
    issues = False

    def __init__(self, keys: Sequence[str], what: str) -> None:
        self._keys = keys
        self._what = what

    def identity(self) -> Mapping[str, Any]:
        """By the object itself: its tokens are of no use to anybody else."""
        return {"grant": "keys", "keys": id(self)}

    def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
        """The key after the one that we hold."""
        yield from ()
        presented = attempt.presented
        held = self._keys.index(presented.token.access_token) if presented is not None else -1
        following = self._keys[(held + 1) % len(self._keys)]
        return Minted(Token(following), MAX_LIFETIME, fell_back=self._what)


def check_sequence(given: Iterable[str], what: str) -> Sequence[str]:
    """The secrets in `given`, each of them once.

    Raises:
        ConfigurationError: there is none.
        InvalidCredential: one of them cannot go on the wire.
    """
    if not isinstance(given, list | tuple):
        check_credential(given, what)  # it is no string either: say so
    secrets = tuple(dict.fromkeys(check_credential(one, f"{what}[{at}]") for at, one in enumerate(given)))
    if not secrets:
        raise ConfigurationError(f"{what} is an empty sequence: give at least one")
    return secrets
