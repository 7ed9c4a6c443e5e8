"""A token in memory; one renewal in the air, and who waits for it. Bookkeeping, without I/O and without waiting."""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import TokenEndpointUnavailable, TokenFlowError
from ._forks import renew_after_fork
from ._lifecycle import ENDED, FLIGHT_GRACE, MAX_COVERED_SHARE, Life, RenewalPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._challenges import Challenge
    from ._entries import Entry, Minted
    from ._lifecycle import Why
    from ._times import Clock

__all__ = ["Demand", "Flight", "Held", "Ticket", "land", "torn"]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A token in memory, with what the fast path needs of it.

    Args:
        entry: the token and its times.
        field: what goes on the wire, as an `Authorization` field.
        stamp: which token it is, to an API: the access token alone.
        life: the ages at which it changes its state.
        born: monotonic seconds at which its age was zero.
        born_wall: Unix seconds at which its age was zero.
        look: the age at which somebody has to look after it.
        fresh_until: monotonic seconds up to which it may be sent without any thought.
        fresh_until_wall: Unix seconds up to which it may be sent without any thought.
    """

    entry: Entry
    field: tuple[bytes, bytes, bytes] = dataclasses.field(repr=False)
    stamp: str
    life: Life
    born: float
    born_wall: float
    look: float
    fresh_until: float
    fresh_until_wall: float

    @property
    def value(self) -> str:
        """What goes on the wire: not kept twice, since a token may have kilobytes."""
        return self.field[2].decode("ascii")

    def age(self, clock: Clock) -> float:
        """Seconds, by whichever clock says more."""
        return max(clock.monotonic() - self.born, clock.wall() - self.born_wall)

    def left(self, clock: Clock) -> float:
        """Seconds until it ends; negative once it has."""
        return self.life.end - self.age(clock)

    def looked_after(self, until: float) -> Held:
        """The same token, not to be looked after again before the age `until`, nor later than when it is due."""
        look = min(until, self.life.due)
        limit = min(look, self.life.end * (1 - MAX_COVERED_SHARE))
        return self.having(look=look, fresh_until=self.born + limit, fresh_until_wall=self.born_wall + limit)

    def refused(self) -> Held:
        """The same token, for nobody to take."""
        return self.having(life=ENDED, look=-math.inf, fresh_until=-math.inf)

    def having(self, **changes: Any) -> Held:
        """The same but for `changes`."""
        return Held(**{name: getattr(self, name) for name in _HELD} | changes)


_HELD = tuple(one.name for one in dataclasses.fields(Held))
# dataclasses.asdict() would spell out what goes on the wire, so Held stops being a dataclass to it.
del Held.__dataclass_fields__


class _Locks:
    """The one lock of all flights, which a forked child has anew: a storm makes many, and each holds it for a line."""

    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.counting = threading.Lock()  # guards the few fields of a flight that change while it is up


_locks = _Locks()


@dataclass(frozen=True, slots=True)
class Demand:
    """What an API wants of the next token; the same for all requests that it says the same to.

    Args:
        challenge: what it said.
        url: the request's.
    """

    challenge: Challenge
    url: object = dataclasses.field(compare=False)

    def is_met_by(self, entry: Entry) -> bool:
        """Whether `entry` may have it, as far as one can tell before the API has seen it."""
        if self.challenge.error != "insufficient_scope" or not self.challenge.scope:
            return True
        scope = f"{entry.token.scope or ''} {entry.asked or ''}"
        return set(self.challenge.scope.split()) <= set(scope.split())


_numbers = itertools.count(1)  # by which events tell one renewal of this process from another


class Flight:
    """One renewal in the air and everybody who waits for it."""

    __slots__ = ("asked", "began", "brought", "brought_along", "declined", "demand", "elsewhere", "endpoint_seconds",
                 "errand", "fell_back", "future", "generation", "grant", "grounded", "home", "is_login_refused",
                 "landings", "lasts", "minted", "number", "policy", "replaces", "requests", "store_seconds",
                 "wait_seconds", "waited", "waiting", "why", "without_store")  # fmt: skip

    def __init__(
        self,
        generation: int,
        policy: RenewalPolicy,
        why: Why,
        replaces: frozenset[str],
        demand: Demand | None = None,
    ) -> None:
        self.number: int = next(_numbers)
        self.generation: int = generation
        self.policy: RenewalPolicy = policy  # of the one who leads
        self.grant: str = ""  # what is asked for a token
        self.why: Why = why
        self.replaces: frozenset[str] = replaces  # stamps, of pairs or on the wire, of tokens not to bring again
        self.demand: Demand | None = demand  # what an API said of the token that is replaced
        self.errand: Any = None  # the grant of a sibling, for which the refresh token is to buy another access token
        self.brought_along: Minted | None = None  # and that token
        self.began: float = policy.clock.monotonic()
        self.elsewhere: Flight | None = None  # of another source: this one waits for it
        self.future: Future[Held] = Future()
        self.brought: Held | None = None  # what it landed with; the future says so too, under a lock
        self.home: Any = None  # the event loop that flies it; None: a thread
        self.landings: dict[Any, Any] = {}  # event loop -> the event that wakes who waits there
        self.grounded: Held | None = None  # the current token, as it was before it was refused
        self.minted: bool = False  # it brought a token from a grant, not one that somebody else had brought
        self.requests: int = 0  # token requests that it took
        self.endpoint_seconds: float = 0.0  # where its time went
        self.store_seconds: float = 0.0
        self.wait_seconds: float = 0.0
        self.fell_back: str | None = None  # what had to give way to the next of its sequence
        self.asked: bool = False  # a person was asked to log in
        self.declined: bool = False  # and has refused, or was not there
        self.is_login_refused: bool = False  # credentials that the program keeps were refused
        self.without_store: bool = False  # which has failed it once
        self.waiting: int = 0
        self.waited: int = 0  # in all
        self.lasts: float = -math.inf
        self.last(policy.budget)

    def last(self, seconds: float, *, anew: bool = False) -> None:
        """It may take `seconds` from now, at least; or, `anew`, no more than that."""
        until = self.policy.clock.monotonic() + seconds + FLIGHT_GRACE
        self.lasts = until if anew else max(self.lasts, until)

    @property
    def deadline(self) -> float:
        """Monotonic seconds; a flight that is still up then is lost. One that waits for another lasts as long."""
        other = self.elsewhere
        return self.lasts if other is None else max(self.lasts, other.deadline + FLIGHT_GRACE)

    def joined(self) -> _Joined:
        """One more waits, for as long as this lasts."""
        return _Joined(self)

    def facts(self) -> dict[str, Any]:
        """What there is to tell of it, however it has ended."""
        return {
            "renewal": self.number,
            "grant": self.grant,
            "why": self.why,
            "requests": self.requests,
            "seconds": self.policy.clock.monotonic() - self.began,
            "endpoint_seconds": self.endpoint_seconds,
            "store_seconds": self.store_seconds,
            "wait_seconds": self.wait_seconds,
            "waiting": self.waited,
        }

    def landing(
        self, loop: Any, make: Callable[[], Any], call_soon: Callable[[Any, Callable[[], object]], object]
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


class _Joined:
    """One who waits for a flight: a class of its own, since a storm has thousands."""

    __slots__ = ("_flight",)

    def __init__(self, flight: Flight) -> None:
        self._flight = flight

    def __enter__(self) -> None:
        with _locks.counting:
            self._flight.waiting += 1
            self._flight.waited += 1

    def __exit__(self, *_exc: object) -> None:
        with _locks.counting:
            self._flight.waiting -= 1


class Ticket(NamedTuple):
    """What whoever asks for a token is to do: send `held`, or else wait for `flight`; and fly it, if it is theirs."""

    held: Held | None
    flight: Flight | None = None
    leads: bool = False


def torn() -> TokenEndpointUnavailable:
    """The error of a flight that did not come back."""
    return TokenEndpointUnavailable(
        "the renewal was interrupted (its event loop or thread ended) and its outcome is unknown",
        outcome="unknown",
    )


def land(flight: Flight, error: TokenFlowError | None, held: Held | None) -> None:
    """End `flight`, once and for all, with a token or an error."""
    try:
        if held is not None:
            flight.brought = held
            flight.future.set_result(held)
        else:
            flight.future.set_exception(error or torn())
    except InvalidStateError:
        return  # it was over already: given up in one thread, and landing in another
