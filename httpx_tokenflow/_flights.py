"""Who renews what, and who waits: bookkeeping, without I/O and without waiting.

Rules.

1. A `TokenSource` belongs to a fingerprint and a store, not to an object: any two `TokenAuth` whose tokens could be
   exchanged for one another, and that share a store, share the source and so its flight.
2. At most one flight is in the air per source. Whoever asks while it is joins it, and never leads another.
3. A late 401 for a token that is no longer the current one takes the current one: no flight. While a refused token is
   being replaced nobody takes it, and if that fails it is the current one again: it may serve elsewhere (failures F50).
4. What a flight brings counts only if nothing has changed from outside since it took off: a token set meanwhile
   stays, and what was given up does not come back (`generation`).
5. A flight lands exactly once, at once and without an await, whatever ends it: nobody waits for ever (failures F24).
   One whose loop has died is given up when its time is over.
6. The lock is held for a few lines of bookkeeping, never while anybody waits (design rule 10).
"""

from __future__ import annotations

import math
import threading
import weakref
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ._errors import ReauthenticationRequired, TokenEndpointUnavailable, TokenFlowError
from ._forks import renew_after_fork
from ._lifecycle import FLIGHT_GRACE, RenewalPolicy, due_at, pause_after_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._tokens import Entry, Token

__all__ = ["Flight", "Held", "TokenSource", "source_for"]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A token in memory, with what the fast path needs of it.

    Args:
        entry: the token and its times.
        value: what goes on the wire.
        stamp: which token it is.
        fresh_until: monotonic seconds at which it is due.
    """

    entry: Entry
    value: str = field(repr=False)
    stamp: str
    fresh_until: float


class _Locks:
    """The locks that belong to no source."""

    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.sources = threading.Lock()  # guards the table of sources
        self.counting = threading.Lock()  # guards the few fields of a flight that change while it is up


_locks = _Locks()


class Flight:
    """One renewal in the air and everybody who waits for it."""

    __slots__ = ("brought", "deadline", "future", "generation", "grounded", "home", "landings", "minted", "waiting")

    def __init__(self, generation: int, deadline: float) -> None:
        self.generation = generation
        self.deadline = deadline  # monotonic seconds; a flight that is still up then is lost
        self.future: Future[Held] = Future()
        self.brought: Held | None = None  # what it landed with; the future says so too, under a lock
        self.home: Any = None  # the event loop that flies it; None: a thread
        self.landings: dict[Any, Any] = {}  # event loop -> the event that wakes who waits there
        self.grounded: Held | None = None  # the current token, as it was before this flight was to replace it
        self.minted = False  # it brought a token from a grant, not one that somebody else had brought
        self.waiting = 0

    def enter(self) -> None:
        """One more waits; `leave` when that is over."""
        with _locks.counting:
            self.waiting += 1

    def leave(self) -> None:
        """One fewer waits."""
        with _locks.counting:
            self.waiting -= 1

    def landing(
        self, loop: Any, make: Callable[[], Any], call_soon: Callable[[Any, Callable[[], object]], None]
    ) -> Any:
        """The event that wakes all who wait on `loop`: one for each loop, set through the loop itself."""
        with _locks.counting:
            event = self.landings.get(loop)
            if event is not None:
                return event
            event = self.landings[loop] = make()
        self.future.add_done_callback(lambda _: call_soon(loop, event.set))
        return event

    def __repr__(self) -> str:
        return f"<Flight {'landed' if self.future.done() else 'in the air'}, {self.waiting} waiting>"


class TokenSource:
    """Hands out a valid token for one fingerprint; owns its state and its flight.

    Args:
        name: client and server, for logs and reprs.
        fingerprint: the hash of everything that makes two tokens different.
        store: where its tokens outlive it.
        present: turns a token into what goes on the wire.
        seed: the token that the program brought, used while the store holds none.
    """

    __slots__ = ("__weakref__", "_failure", "_flight", "_generation", "_lock", "fingerprint", "held", "locks", "name",
                 "present", "seed", "store", "unsaved")  # fmt: skip

    def __init__(
        self,
        name: str,
        fingerprint: str,
        store: Any,
        present: Callable[[Token], str],
        seed: Entry | None = None,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.store = store
        self.present = present
        self.seed = seed
        self.held: Held | None = None
        self.unsaved: tuple[Entry, str | None] | None = None  # an entry that the store would not take, and for what
        self.locks: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # event loop -> anyio lock
        self._generation = 0
        self._flight: Flight | None = None
        self._failure: tuple[TokenFlowError, float] | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._flight = None
        self.locks = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        held = "empty" if self.held is None else f"holds {self.held.stamp}"
        flight = self._flight
        return f"<TokenSource {self.name} {held}{f' | 1 renewing, {flight.waiting} waiting' if flight else ''}>"

    @property
    def flight(self) -> Flight | None:
        """The flight in the air, if there is one."""
        return self._flight

    def hold(self, entry: Entry, policy: RenewalPolicy) -> Held:
        """`entry` as it is held in memory: ready for the wire, its end on the monotonic clock."""
        remaining = due_at(entry, policy) - policy.clock.wall()
        return Held(entry, self.present(entry.token), entry.stamp, policy.clock.monotonic() + remaining)

    def newer(self, refused: Held, now: float) -> Held | None:
        """What is held, if it is fresh and another token than `refused` (rule 3)."""
        held = self.held
        return held if held is not None and held.stamp != refused.stamp and now < held.fresh_until else None

    def board(self, policy: RenewalPolicy, refused: Held | None = None) -> Held | tuple[Flight, bool]:
        """The token to use, or the flight to wait for and whether the caller has to fly it.

        Args:
            policy: the caller's, for the flight if the caller leads.
            refused: the token that was answered with a 401, if that is why.

        Raises:
            TokenFlowError: a renewal has just failed; the same error answers for a while.
        """
        now = policy.clock.monotonic()
        with self._lock:
            held = self.held
            if held is not None and now < held.fresh_until and (refused is None or held.stamp != refused.stamp):
                return held
            flight = self._flight
            if flight is not None and now < flight.deadline:
                return flight, False
            if self._failure is not None and now < self._failure[1]:
                cause = self._failure[0]
                raise cause.again() from cause
            if flight is not None:
                self._generation += 1  # given up: should it land after all, it has nothing to say
            self._flight = ours = Flight(self._generation, now + policy.budget + FLIGHT_GRACE)
            if held is not None and refused is not None:
                ours.grounded, self.held = held, replace(held, fresh_until=-math.inf)
        if flight is not None:
            _land(flight, lost(), None)
        return ours, True

    def land(self, flight: Flight, held: Held) -> None:
        """`flight` has brought `held`: the current token now, unless things have changed from outside (rule 4)."""
        with self._lock:
            if flight is self._flight:
                self._flight = None
            if flight.generation == self._generation:
                self.held, self._failure = held, None
            current = self.held
        error = None if current else ReauthenticationRequired("the token was given up while it was renewed")
        _land(flight, error, current)

    def fail(self, flight: Flight, error: TokenFlowError, policy: RenewalPolicy) -> None:
        """`flight` has failed with `error`, which answers for a while instead of another flight."""
        pause = pause_after_failure(getattr(error, "retry_after", None))
        with self._lock:
            if flight is self._flight:
                self._flight = None
            if flight.generation == self._generation:
                self._failure = error, policy.clock.monotonic() + pause
                self._unground(flight)
                instead = None
            else:
                instead = self.held  # a token was set meanwhile: whoever waited is served with that
        _land(flight, error, instead)

    def abandon(self, flight: Flight, error: BaseException | None = None) -> None:
        """If `flight` is still up, it was torn (its loop closes, its thread was interrupted): wake everybody."""
        if flight.future.done():
            return
        with self._lock:
            if flight is self._flight:
                self._flight = None
            self._unground(flight)
        cause = lost()
        cause.__cause__ = error
        _land(flight, cause, None)

    def _unground(self, flight: Flight) -> None:
        held, grounded = self.held, flight.grounded
        if held is not None and grounded is not None and held.stamp == grounded.stamp:
            self.held = grounded

    def replace(self, held: Held | None) -> None:
        """From outside: `held` is the current token from now on; None: none is."""
        with self._lock:
            self._generation += 1
            self.held, self.unsaved, self._failure = held, None, None
            if held is None:
                self.seed = None

    def forget(self, stamp: str) -> None:
        """The token `stamp` can no longer be renewed: it is not kept, unless it is another one by now."""
        with self._lock:
            if self.held is not None and self.held.stamp == stamp:
                self.held = None
            if self.seed is not None and self.seed.stamp == stamp:
                self.seed = None

    def newest(self, loaded: Entry | None) -> Entry | None:
        """What to go by: the store's entry, unless memory knows better.

        Memory knows better if it has the successor of what is stored, which the store would not take; or if what is
        stored is spent, and the program came with a token of another login.
        """
        if self.unsaved is not None and self.unsaved[1] == (loaded.stamp if loaded else None):
            return self.unsaved[0]
        if loaded is None:
            return self.held.entry if self.held else self.seed
        if loaded.is_spent and self.seed is not None and self.seed.session != loaded.session:
            return self.seed
        return loaded


def lost() -> TokenEndpointUnavailable:
    """The error of a flight that did not come back."""
    return TokenEndpointUnavailable(
        "the renewal was interrupted (its event loop or thread ended) and its outcome is unknown",
        outcome="unknown",
    )


def _land(flight: Flight, error: TokenFlowError | None, held: Held | None) -> None:
    try:
        if held is not None:
            flight.brought = held
            flight.future.set_result(held)
        else:
            flight.future.set_exception(error or lost())
    except InvalidStateError:
        return  # it was over already: given up in one thread, and landing in another


_sources: weakref.WeakValueDictionary[tuple[int, str], TokenSource] = weakref.WeakValueDictionary()


def source_for(
    name: str, fingerprint: str, store: Any, present: Callable[[Token], str], seed: Entry | None = None
) -> TokenSource:
    """The source of `fingerprint` in `store`: one for all who ask (rule 1), for as long as somebody uses it."""
    # A source keeps its store alive, so the id is its own for as long as the key is here.
    key = (id(store), fingerprint)
    with _locks.sources:
        source = _sources.get(key)
        if source is None:
            source = _sources[key] = TokenSource(name, fingerprint, store, present, seed)
        elif source.seed is None:
            source.seed = seed
        return source
