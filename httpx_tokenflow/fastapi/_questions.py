"""Questions to a server about one token each: no more at a time than it bears, and none that nobody waits for.

Rules.

1. One question per token at a time, for everybody who has sent it, and `MOST_AT_ONCE` in all.
2. Tokens are easy to make up, so what waits for a turn is bounded: `MOST_WAITING`, and whoever comes beyond that is
   told at once. A question that the last of those who waited for it has left before its turn, or that was given up, is
   dropped; one that was sent goes on, and its answer is of use to the next.
3. After a failure no question is sent for a while (`_pauses`), nor one that waits for its turn. A 400 is no failure:
   it is about the one token, and who makes that up would keep all others out.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import anyio

from httpx_tokenflow._errors import TokenEndpointUnavailable, TokenFlowError
from httpx_tokenflow._forks import renew_after_fork
from httpx_tokenflow._loops import call_soon, running_loop

from ._once import Once, late
from ._pauses import Pauses

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from httpx_tokenflow._times import Clock

__all__ = ["Questions"]

MOST_AT_ONCE = 20  # questions
MOST_WAITING = 200  # for their turn
MOST_PAUSE = 30.0  # seconds after failures
PATIENCE = 35.0  # seconds for which anybody waits for an answer: the budget of a question, and its turn

_WHAT = "introspecting a token"
_T = TypeVar("_T")


@dataclass(slots=True)
class _Turns:
    """The turns on one event loop.

    Args:
        free: those that are left.
        waiting: how many questions wait for one.
    """

    free: anyio.Semaphore
    waiting: int = 0


@dataclass(slots=True, eq=False)
class _Question(Generic[_T]):
    """One question.

    Args:
        name: of the token.
        until: monotonic seconds; then it is given up.
        loop: where it is asked.
        turns: those that it waits for.
        wait: what it waits in.
        people: how many wait for the answer.
        has_turn: whether it waits for its turn no more.
        once: the work.
    """

    name: bytes
    until: float
    loop: Any
    turns: _Turns
    wait: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    people: int = 0
    has_turn: bool = False
    once: Once[_T] = field(init=False)


class Questions(Generic[_T]):
    """Questions that share their turns.

    Args:
        ask: asks about a token, by its name and itself.
        clock: for patience and pauses.
    """

    def __init__(self, ask: Callable[[bytes, str], Awaitable[_T]], clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self._pauses = Pauses(MOST_PAUSE, clock)
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # guards the bookkeeping, never waiting
        self._open: dict[bytes, _Question[_T]] = {}
        self._turns: WeakKeyDictionary[Any, _Turns] = WeakKeyDictionary()

    async def answer(self, name: bytes, token: str) -> _T:
        """The answer to the question about this token, which may be under way already.

        Raises:
            TokenFlowError: there is none to be had now.
        """
        question = self._joined(name, token)
        try:
            return await question.once.result()
        finally:
            self._left(question)

    def _joined(self, name: bytes, token: str) -> _Question[_T]:
        now, loop, lost = self._clock.monotonic(), running_loop(), None
        with self._lock:
            question = self._open.get(name)
            if question is not None and (question.once.is_over or now >= question.until):
                self._forget(question)
                lost = question
        if lost is not None:
            self._drop(lost)
        with self._lock:
            question = self._open.get(name)
            is_new = question is None
            if question is None:
                question = self._made(name, token, now, loop)
            question.people += 1
        if is_new:
            question.once.begin(partial(self._over, question))
        return question

    def _made(self, name: bytes, token: str, now: float, loop: Any) -> _Question[_T]:
        """A new question, in line (rules 2 and 3)."""
        turns = self._turns.get(loop)
        if turns is None:
            turns = self._turns[loop] = _Turns(anyio.Semaphore(MOST_AT_ONCE))
        if self._pauses.is_on:
            raise self._pauses.error(_WHAT)
        if turns.waiting >= MOST_WAITING + turns.free.value:  # some are about to have their turn
            raise TokenEndpointUnavailable("too many tokens wait to be introspected", outcome="not sent")
        question: _Question[_T] = _Question(name, now + PATIENCE, loop, turns)
        question.once = Once(partial(self._asked, question, token), _WHAT, PATIENCE)
        turns.waiting += 1
        self._open[name] = question
        return question

    def _left(self, question: _Question[_T]) -> None:
        """One of those who waited for it is gone: if that was the last, and it has no turn yet, so is it (rule 2)."""
        with self._lock:
            question.people -= 1
            if question.people or question.has_turn:
                return
            self._forget(question)
        self._drop(question)

    def _drop(self, question: _Question[_T]) -> None:
        question.once.give_up()
        call_soon(question.loop, question.wait.cancel)

    def _over(self, question: _Question[_T]) -> None:
        with self._lock:
            self._forget(question)

    def _forget(self, question: _Question[_T]) -> None:
        """It is in line, and under way, no more; however often that is said. To be called with the lock held."""
        if not question.has_turn:
            question.has_turn = True
            question.turns.waiting -= 1
        if self._open.get(question.name) is question:
            del self._open[question.name]

    async def _asked(self, question: _Question[_T], token: str) -> _T:
        free, is_mine = question.turns.free, False
        try:
            with question.wait:
                await free.acquire()
                is_mine = True
            with self._lock:
                if not is_mine or question.has_turn:  # it was dropped
                    raise late(_WHAT)
                question.has_turn = True
                question.turns.waiting -= 1
            if self._pauses.is_on:
                raise self._pauses.error(_WHAT)
            return await self._sent(question.name, token)
        finally:
            if is_mine:
                free.release()

    async def _sent(self, name: bytes, token: str) -> _T:
        row = self._pauses.row
        try:
            answer = await self._ask(name, token)
        except TokenFlowError as error:
            if getattr(error, "status", None) != 400:
                self._pauses.failed(error, row, "tokens that are not remembered cannot be introspected")
            raise
        self._pauses.over()
        return answer
