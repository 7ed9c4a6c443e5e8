"""Who renews what, and who waits: bookkeeping, without I/O and without waiting. Which token counts is in `_holder.py`.

Rules.

1. A `TokenSource` belongs to a fingerprint and a store, not to an object (`_registry`).
2. At most one flight is in the air per source. Whoever needs its token joins it, and never leads another; whoever has
   one that is merely early goes on with that.
3. A late 401 for a token that is no longer the current one takes the current one: no flight. While a refused token is
   being replaced nobody takes it, and if that fails it is the current one again: it may serve elsewhere (failures F50).
4. What a flight brings counts only if nothing has changed from outside since it took off: a token set meanwhile
   stays, and what was given up does not come back (`generation`).
5. A flight lands exactly once, at once and without an await, whatever ends it: nobody waits for ever (failures F24).
   One whose loop has died is given up when its time is over.
6. The lock is held for a few lines of bookkeeping, never while anybody waits, nor while anybody is
   told of anything.
7. After a renewal has failed, who asks for a token in vain does no more than look into the store (failures F56).
8. What the store would not take is the only copy of a session: a flight aside tries it again, after 2 s, doubling to
   a minute, for as long as there are requests (failures F04).
"""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._breakers import Breaker, after_refusal, is_one_of_many
from ._errors import ReauthenticationRequired, TokenFlowError
from ._flights import Demand, Flight, Held, Ticket, land, torn
from ._holder import TokenHolder, Unsaved
from ._lifecycle import Pause, RenewalPolicy, State, Why, classify, pause_after, save_pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._entries import Entry
    from ._times import Clock
    from ._tokens import Token

__all__ = ["Status", "TokenSource"]

_NO_BREAKERS: dict[object, Breaker] = {}  # the one of all sources that need none: a process may have a hundred thousand


@dataclass(frozen=True, slots=True)
class Status:
    """How a token is doing, for a readiness probe.

    Attributes:
        state: "fresh", "early" (it is being renewed while requests go on), "due" (the next request renews first),
            "missing", or "backed off" (a renewal has just failed; see `expires_in` for whether there is a token).
        expires_in: seconds that the token at hand has left; None: there is none that has not ended.
        last_error: how the last renewal failed; None: it did not.
        waiting: how many requests wait for a renewal right now.
    """

    state: State
    expires_in: float | None
    last_error: TokenFlowError | None
    waiting: int


class TokenSource(TokenHolder):
    """Hands out a valid token for one fingerprint; owns its state and its flight.

    Args:
        name: what logs and reprs call it: client and server.
        fingerprint: its key in the store.
        store: where its tokens live.
        present: how a token is written on the wire.
        seed: a token that the program brought, used while the store holds none.
    """

    __slots__ = ("_flight", "_generation", "_siblings", "breakers", "declined", "denied", "kept", "left", "locks",
                 "logged_out", "orphans", "pause")  # fmt: skip

    def __init__(
        self,
        name: str,
        fingerprint: str,
        store: Any,
        present: Callable[[Token], str],
        seed: Entry | None = None,
    ) -> None:
        super().__init__(name, fingerprint, store, present, seed)
        self.pause: Pause | None = None  # after renewals that failed
        self.breakers: dict[object, Breaker] = _NO_BREAKERS  # by origin, where young tokens have been refused
        self.denied: tuple[Demand, Pause] | None = None  # what an API wanted of a token, and nobody could get
        self.declined: TokenFlowError | None = None  # how a person was asked in vain for what an API wanted
        self.left: str = ""  # the session that was given up last
        self.logged_out: bool = False  # somebody has logged out: nobody logs in again without being asked to
        self.locks: weakref.WeakKeyDictionary[Any, Any] | None = None  # event loop -> anyio lock
        self.kept: Any = None  # a lease that is held on to, while the store does not have the token
        self.orphans: tuple[Entry, ...] = ()  # what renewals have brought for a session that had been given up
        self._siblings: weakref.WeakSet[TokenSource] | None = None
        self._generation = 0
        self._flight: Flight | None = None

    def _after_fork(self) -> None:
        super()._after_fork()
        self._flight = None
        self.locks = self.kept = None

    def __repr__(self) -> str:
        held = "empty" if self.held is None else f"holds {self.held.stamp}"
        flight = self._flight
        return f"<TokenSource {self.name} {held}{f' | 1 renewing, {flight.waiting} waiting' if flight else ''}>"

    @property
    def flight(self) -> Flight | None:
        """The flight in the air, if there is one."""
        return self._flight

    def status(self, policy: RenewalPolicy) -> Status:
        """How it is doing."""
        clock, held, pause, flight = policy.clock, self.held, self.pause, self._flight
        age = held.age(clock) if held else 0.0
        return Status(
            classify(held.life if held else None, age, pause=pause, now=clock.monotonic()),
            held.life.end - age if held is not None and age < held.life.end else None,
            pause.error if pause else None,
            flight.waiting if flight else 0,
        )

    # flights

    def board(
        self, policy: RenewalPolicy, refused: Held | None = None, timeout: float = 0.0, demand: Demand | None = None
    ) -> Ticket:
        """The token to send, or the flight to wait for; and whether the caller has to fly it.

        Args:
            policy: the caller's, for the flight if the caller leads.
            refused: the token that was answered with a 401, if that is why.
            timeout: seconds that the request at hand may take.
            demand: what the API said to that, for the flight if the caller leads.
        """
        clock = policy.clock
        now = clock.monotonic()
        self._give_up_lost(now)
        with self._lock:
            flight = self._flight
            held = self.held
            is_refused = held is not None and refused is not None and held.stamp == refused.stamp
            life = None if held is None or is_refused else held.life
            age = 0.0 if held is None else held.age(clock)
            state = classify(life, age, pause=self.pause, now=now, timeout=timeout)
            usable = held if held is not None and life is not None and age < life.end else None
            if usable is not None and state in {State.FRESH, State.BACKED_OFF}:
                return self._board_to_save(policy, usable, now)
            if flight is not None:
                if state is State.EARLY:
                    return Ticket(usable)
                if is_refused:
                    self._ground(flight)
                return Ticket(None, flight)
            why = Why.REFUSED if refused is not None and state is State.MISSING else Why(state.value)
            replaces = _stamps(held, refused)
            self._flight = flight = Flight(self._generation, policy, why, replaces, demand)
            if is_refused:
                self._ground(flight)
            elif usable is not None:
                self.held = usable.looked_after(usable.life.due)
        return Ticket(usable if state is State.EARLY else None, flight, leads=True)

    def _board_to_save(self, policy: RenewalPolicy, usable: Held, now: float) -> Ticket:
        if self._flight is not None or self.unsaved is None or now < self.unsaved.again:
            return Ticket(usable)
        self._flight = flight = Flight(self._generation, policy, Why.UNSAVED, frozenset())
        return Ticket(usable, flight, leads=True)

    def _until_saved(self, held: Held, clock: Clock) -> Held:
        """`held`, to be looked after when what the store would not take is to be tried again (rule 8)."""
        if self.unsaved is None:
            return held
        wait = save_pause(self.unsaved.tries)
        self.unsaved = self.unsaved._replace(again=clock.monotonic() + wait, tries=self.unsaved.tries + 1)
        return held.looked_after(min(held.life.early, held.age(clock) + wait))

    def step_up(self, policy: RenewalPolicy, refused: Held, demand: Demand) -> Ticket:
        """As `board`, for a token that is good, and that an API wants more of than it has.

        Raises:
            TokenFlowError: nobody could get that a moment ago, or a person was asked in vain.
        """
        clock = policy.clock
        self._give_up_lost(clock.monotonic())
        with self._lock:
            held = self.held
            if (
                held is not None
                and held.stamp != refused.stamp
                and held.left(clock) > 0
                and demand.is_met_by(held.entry)
            ):
                return Ticket(held)
            if self._flight is not None:
                return Ticket(None, self._flight)
            if self.declined is not None:
                raise self.declined.again() from self.declined
            denied = self.denied
            if denied is not None and denied[0] == demand and clock.monotonic() < denied[1].until:
                raise denied[1].error.again() from denied[1].error
            replaces = _stamps(self.held, refused)
            self._flight = Flight(self._generation, policy, Why.STEP_UP, replaces, demand)
            return Ticket(None, self._flight, leads=True)

    def board_errand(self, policy: RenewalPolicy, errand: Any) -> tuple[Flight, bool]:
        """A flight in which the refresh token buys a token for a sibling, by its grant `errand`; or one to wait for."""
        self._give_up_lost(policy.clock.monotonic())
        with self._lock:
            if self._flight is not None:
                return self._flight, False
            self._flight = flight = Flight(self._generation, policy, Why.ERRAND, frozenset())
            flight.errand = errand
            return flight, True

    def _give_up_lost(self, now: float) -> None:
        """A flight whose time is over is in nobody's way (rule 5)."""
        lost = self._flight
        if lost is None or now < lost.deadline:
            return
        with self._lock:
            if lost is not self._flight:
                return
            self._flight = None
            self._generation += 1  # should it land after all, it has nothing to say
            self._unground(lost)
        land(lost, torn(), None)

    def is_outdated(self, flight: Flight) -> bool:
        """Whether things have changed from outside since `flight` took off."""
        return flight.generation != self._generation

    def land(self, flight: Flight, held: Held) -> None:
        """`flight` has brought `held`: the current token now, unless things have changed from outside (rule 4)."""
        with self._lock:
            if flight is self._flight:
                self._flight = None
            had = flight.grounded or self.held
            if flight.generation == self._generation:
                held = self._until_saved(held, flight.policy.clock)
                self._outlive(had, held)
                self.held, self.pause, self.logged_out = held, None, False
                self.denied = None if flight.why is Why.STEP_UP else self.denied
            else:
                if flight.minted and self.held is None and held.entry.session:
                    self.orphans = (*self.orphans, held.entry)
                flight.minted = False  # what it has brought is not what those who wait for it get
                self._unground(flight)
            current = self.held
        error = None if current else ReauthenticationRequired("the token was given up while it was renewed")
        land(flight, error, current)
        if flight.fell_back is not None:
            self.tell("SecretFellBack", logging.WARNING, what=flight.fell_back)
        is_news = had is None or had.stamp != held.stamp
        # Where nobody was asked and nothing has changed nothing was renewed: another try to save, say.
        if current is held and flight.why is not Why.ERRAND and (is_news or flight.minted):
            self.tell(
                "TokenObtained" if had is None else "TokenRenewed",
                # To have looked into a file in which nothing has changed is no news.
                logging.INFO if is_news else logging.DEBUG,
                minted=flight.minted,
                expires_in=held.left(flight.policy.clock),
                **flight.facts(),
            )

    def fail(self, flight: Flight, error: TokenFlowError) -> None:
        """`flight` has failed with `error`, which answers for a while instead of another flight."""
        policy = flight.policy
        now = policy.clock.monotonic()
        is_look, is_step_up = flight.why in _LOOKS, flight.why is Why.STEP_UP
        with self._lock:
            if flight is self._flight:
                self._flight = None
            counts = flight.generation == self._generation
            if counts:
                self._unground(flight)
            if counts and flight.declined and is_step_up:
                self.declined = error
            elif counts and flight.declined:
                self.logged_out = True
            error = self._paused(flight, error, now, counts=counts)
            # A token was set meanwhile: whoever waited is served with that.
            instead = None if counts else self.held
            pause, usable = self.denied[1] if is_step_up and self.denied else self.pause, self.usable(policy.clock)
            if usable is not None and pause is not None and not is_step_up:
                age = usable.age(policy.clock)
                usable = self.held = usable.looked_after(age + pause.early - now)
            elif usable is not None and flight.why is Why.UNSAVED:
                usable = self.held = self._until_saved(usable, policy.clock)
        land(flight, error, instead)
        if counts and not is_look and pause is not None:
            self.tell(
                "RenewalFailed",
                logging.WARNING,
                error=error,
                retry_in=(pause.early if flight.why is Why.EARLY else pause.until) - now,
                expires_in=None if usable is None else usable.left(policy.clock),
                **flight.facts(),
            )

    def _paused(self, flight: Flight, error: TokenFlowError, now: float, *, counts: bool) -> TokenFlowError:
        """Note when to try again after `flight` has failed with `error`. What those who wait are told."""
        policy, is_step_up = flight.policy, flight.why is Why.STEP_UP
        if flight.why in _LOOKS:
            return self.pause.error if self.pause is not None and flight.why is Why.BACKED_OFF else error
        if is_step_up and flight.demand is not None:
            before = self.denied[1] if self.denied is not None and self.denied[0] == flight.demand else None
            denied = pause_after(before, error, is_early=False, now=now, random=policy.random())
            self.denied = flight.demand, denied
        elif counts:
            self.pause = pause_after(
                self.pause,
                error,
                is_early=flight.why is Why.EARLY,
                now=now,
                random=policy.random(),
                is_login=flight.is_login_refused,
            )
        return error

    def abandon(self, flight: Flight, error: BaseException | None = None) -> None:
        """If `flight` is still up, it was torn (its loop closes, its thread was interrupted): wake everybody."""
        if flight.future.done():
            return
        with self._lock:
            if flight is self._flight:
                self._flight = None
            self._unground(flight)
            if self.held is not None:
                self.held = self.held.looked_after(self.held.life.early)
        cause = torn()
        cause.__cause__ = error
        land(flight, cause, None)

    def _ground(self, flight: Flight) -> None:
        if self.held is not None and flight.grounded is None:
            flight.grounded, self.held = self.held, self.held.refused()

    def _unground(self, flight: Flight) -> None:
        held, grounded = self.held, flight.grounded
        if held is not None and grounded is not None and held.stamp == grounded.stamp:
            self.held = grounded

    # changes from outside, and what renewals find out

    def adopt(self, held: Held, flight: Flight) -> None:
        """`flight` has found `held` in the store: due, but better than nothing, until it ends."""
        has_ended = held.left(flight.policy.clock) <= 0
        with self._lock:
            if self.held is None and not has_ended and flight.generation == self._generation:
                self.held = held

    def found_mark(self, flight: Flight) -> None:
        """`flight` has found in the store that the session was given up: who has it in memory is logged out as well."""
        with self._lock:
            if flight.generation != self._generation:
                return
            if self.held is not None:
                self.held, self.logged_out = None, True
                self.seed = None
                self._generation += 1
                flight.generation = self._generation  # it goes on, and may bring another session
        for sibling in self.siblings():
            if sibling.held is not None:
                sibling.leave()

    def keep_unsaved(self, flight: Flight, entry: Entry, replaces: str | None) -> None:
        """The store would not take what `flight` has brought, in the place of the entry with the stamp `replaces`."""
        with self._lock:
            if flight.generation == self._generation:
                self.unsaved = Unsaved(entry, replaces)

    def has_sibling(self, sibling: TokenSource) -> None:
        """What `sibling` holds is bought with the refresh token of this source."""
        with self._lock:
            if self._siblings is None:
                self._siblings = weakref.WeakSet()
            self._siblings.add(sibling)

    def siblings(self) -> list[TokenSource]:
        """Whose tokens are bought with the refresh token of this source, as far as this process knows."""
        with self._lock:
            return list(self._siblings or ())

    def replace(self, held: Held) -> None:
        """From outside: `held` is the current token from now on."""
        with self._lock:
            self._replace(held)

    def leave(self, since: int | None = None, mark: Unsaved | None = None) -> tuple[list[Entry], int]:
        """From outside: the session is given up. What there was of it, and the generation that begins.

        Args:
            since: once more, if nothing else has changed from outside since that generation began.
            mark: what the store should have taken in its place.
        """
        with self._lock:
            if since is not None and since != self._generation:
                return [], self._generation
            unsaved = self.unsaved.entry if self.unsaved is not None else None
            held = self.held.entry if self.held is not None else None
            had = [entry for entry in (held, unsaved, self.seed, *self.orphans) if entry is not None]
            self._replace(None)
            self.left = had[0].session if had else self.left
            self.seed: Entry | None = None
            self.logged_out, self.unsaved = True, mark
            return had, self._generation

    def _replace(self, held: Held | None) -> None:
        self._generation += 1
        self._outlive(self.held, held)
        self.held, self.unsaved, self.pause, self.breakers = held, None, None, _NO_BREAKERS
        self.denied, self.declined, self.logged_out, self.orphans = None, None, False, ()

    def forgive(self) -> None:
        """The next renewal need not wait, whatever has failed before, and may log in."""
        with self._lock:
            self.pause, self.denied, self.declined, self.logged_out = None, None, None, False

    # where young tokens are refused

    def is_of_use(self, held: Held, origin: object, clock: Clock) -> bool:
        """After `held` was refused by `origin`: whether another token could help there; counts the refusal."""
        token, age = (held.stamp, held.entry.issued_at), held.age(clock)
        if is_one_of_many(self.breakers, origin, token, age):
            return True
        with self._lock:
            is_current = self.held is None or self.held.stamp == held.stamp
            is_flying = self._flight is not None
            now = clock.monotonic()
            self.breakers, helps, opened = after_refusal(
                self.breakers, origin, token, age, now, is_current=is_current, is_flying=is_flying
            )
        if opened is not None:
            self.tell("BreakerOpened", logging.WARNING, origin=str(origin), seconds=opened)
        return helps

    def accepted(self, held: Held, origin: object) -> None:
        """`origin` has answered a request with `held`, and not with a 401."""
        with self._lock:
            breaker = self.breakers.get(origin)
            if breaker is None or self.held is None or self.held.stamp != held.stamp:
                return
            self.breakers = {other: one for other, one in self.breakers.items() if other != origin}
        if breaker.is_open:
            self.tell("BreakerClosed", logging.INFO, origin=str(origin))


_LOOKS = frozenset({Why.BACKED_OFF, Why.ERRAND, Why.UNSAVED})  # flights whose failure is none of a renewal


def _stamps(held: Held | None, refused: Held | None) -> frozenset[str]:
    """Of what a flight is not to bring again: this very pair; and the access token that was refused, in any pair."""
    return frozenset([*([] if held is None else [held.entry.stamp]), *([] if refused is None else [refused.stamp])])
