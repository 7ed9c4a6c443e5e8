"""What a renewal has to do with the store: generators without I/O that yield steps and are sent their answers.

    load        what to go by
    lease       the right to renew, among processes; and `release`
    mark        a refresh token is about to be presented; `unmark`: it was not; `forget`: it is of no more use
    save        the new token, before it is used
    save_late   what the store would not take before; `save_unsaved`: before the program closes

Rules.

1. A lease is waited for as long as its holder may have it, and a login is under one that outlives it. It is a right
   until the work of a renewal would no longer be over before it ends, by either clock.
2. What is saved takes the place of another entry only if that is of the very pair that was presented.
3. A store that will not take a token does not cost it: it is kept here, and saved as soon as that works: tried again
   aside every few seconds while there are requests, before the next renewal, and when the program closes.
4. Where the store holds the mark of a session that was given up (`_outside.py`), who has the session in memory forgets
   it, and a renewal cannot bring it back: what it has brought it gives back to the server.
5. A store that fails is no reason to fail, where a token costs nothing but a request: such a renewal goes on without,
   and asks nothing more of a store that has failed it once. Where a refresh token is spent it is.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import ReauthenticationRequired, StoreError
from ._lifecycle import STORE_PATIENCE
from ._steps import Lease, LetGo, Load, Release, Save, Sleep

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._entries import Entry
    from ._flights import Flight
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._steps import Step
    from ._terms import Renewals
    from ._times import Clock

__all__ = [
    "MAX_ROUNDS", "Right", "fence", "forget", "give_up_on_lease", "lease", "load", "mark", "never_agrees", "release",
    "save", "save_late", "save_unsaved", "tell_store", "unmark",
]  # fmt: skip

MAX_ROUNDS = 10  # of load and compare-and-set; a store that disagrees more often will never agree
TAKEOVER = 1.0  # seconds within which somebody takes over when a lease has ended
SAVE_PAUSES = (0.25, 1.0)  # seconds before a token that cost a refresh token is offered to the store again
SAVE_PATIENCE = 2.0  # seconds after which it is not, for now: somebody waits for it


def load(flight: Flight, renewals: Renewals) -> Generator[Step, Any, tuple[Entry | None, Entry | None]]:
    """What to go by, and what the store holds."""
    source, loaded = renewals.source, None
    try:
        if not flight.without_store:
            loaded = yield Load()
    except StoreError as error:
        if renewals.grant.spends:
            raise  # never risk presenting what somebody else has spent (rule 5)
        _go_on_without(flight, source, error, "it cannot be read, and the renewal goes on without")
    entry = source.newest(loaded)
    if entry is not None and entry.is_mark:
        source.found_mark(flight)
    if entry is not None and source.is_in_vain(entry):
        entry = entry.marked(entry.presented - 1)
    return entry, loaded


class Right(NamedTuple):
    """The right to renew: until when it may be used, by both clocks, one of which stops while a machine sleeps."""

    until: float
    until_wall: float

    def is_good(self, clock: Clock) -> bool:
        """Whether what takes a renewal's budget would still be over before the lease is."""
        return clock.monotonic() <= self.until and clock.wall() <= self.until_wall


def lease(flight: Flight, renewals: Renewals, *, asks: bool) -> Generator[Step, Any, Right | None]:
    """The right to renew, for as long as a person may take if one is to be asked. None: look again first."""
    policy, spends = renewals.policy, renewals.grant.spends
    more = renewals.login_timeout if asks else 0.0
    seconds = policy.lease_seconds + more
    patience = seconds + TAKEOVER
    if flight.without_store:
        return Right(math.inf, math.inf)
    flight.last(patience)  # somebody may have died with it; or sits before a login, in another process
    try:
        leased = (yield Lease(seconds, patience)) is not False
    except StoreError as error:
        if spends:
            raise
        _go_on_without(flight, renewals.source, error, "there is no lease to be had, and the renewal goes on without")
        leased = True
    flight.last(policy.budget + more, anew=True)
    spare = seconds - policy.budget - more
    return Right(policy.clock.monotonic() + spare, policy.clock.wall() + spare) if leased else None


def give_up_on_lease(flight: Flight, renewals: Renewals) -> None:
    """Others have been first for too long: the renewal goes on without the lease, if it may (rule 5)."""
    error = StoreError("the lease to renew was not to be had: others renew all the time, or say that they do")
    if renewals.grant.spends:
        raise error
    _go_on_without(flight, renewals.source, error, "the renewal goes on without the lease")


def release(source: TokenSource) -> Generator[Step, Any, None]:
    """Give the lease back."""
    try:
        yield Release()
    except StoreError as error:
        tell_store(source, error, "the lease was not given back, and ends by itself")


def mark(source: TokenSource, marked: Entry, stored: Entry | None) -> Generator[Step, Any, bool]:
    """Note in the store that the refresh token is about to be presented; False: it holds another by now (rule 2)."""
    try:
        saved: bool = yield Save(marked, fence(stored))
    except StoreError:
        source.note_in_vain(marked)  # it may have been taken all the same, or will be
        raise
    if saved:
        source.unsaved = None
    return saved


def unmark(source: TokenSource, entry: Entry, marked: Entry) -> Generator[Step, Any, None]:
    """Take the note back: the refresh token was not presented."""
    source.note_in_vain(marked)
    try:
        yield Save(entry, marked.fence)
    except StoreError as error:
        tell_store(source, error, "it did not take back the note that the refresh token was presented")


def forget(source: TokenSource, policy: RenewalPolicy, marked: Entry) -> Generator[Step, Any, None]:
    """Nobody is to present this refresh token again: leave that in the store, if it is still what the store holds."""
    source.forget(marked.stamp, policy.clock)
    try:
        yield Save(marked.spent(), marked.fence)
    except StoreError as error:
        tell_store(source, error, "it was not told that a refresh token is of no more use")


def save(flight: Flight, renewals: Renewals, entry: Entry, stored: Entry | None) -> Generator[Step, Any, Entry]:
    """Save before use; what somebody else has published meanwhile wins (rule 2).

    Raises:
        ReauthenticationRequired: the session was given up meanwhile (rule 4).
    """
    source, spends = renewals.source, renewals.grant.spends
    theirs: Entry | None = stored
    presented = None if stored is None else stored.stamp
    flight.last(SAVE_PATIENCE + STORE_PATIENCE)
    pauses, patience = [*SAVE_PAUSES] if spends else [], renewals.policy.clock.monotonic() + SAVE_PATIENCE
    try:
        for _ in range(MAX_ROUNDS if not flight.without_store else 0):
            try:
                saved = yield Save(entry, fence(theirs))
            except StoreError:
                if not pauses or renewals.policy.clock.monotonic() > patience:
                    raise
                yield Sleep(pauses.pop(0))  # while the lease lasts nobody presents the old one again
                continue
            if saved:
                return entry
            theirs = yield Load()
            if theirs is not None and theirs.is_mark and renewals.is_of_session:
                source.found_mark(flight)
                yield from renewals.give_back(entry)
                raise ReauthenticationRequired("the session was given up while it was renewed")
            if theirs is not None and renewals.serves(theirs, flight):
                return theirs
            if theirs is not None and theirs.stamp != presented and spends:
                return entry  # another session: what it holds is not ours to replace
    except StoreError as error:
        tell_store(source, error, "it did not take the new token, which is kept in memory")
    source.keep_unsaved(flight, entry, presented)
    return entry


def save_late(source: TokenSource, entry: Entry | None, stored: Entry | None) -> Generator[Step, Any, None]:
    """Save what the store would not take before (rule 3); what it has taken from somebody else meanwhile wins."""
    try:
        if entry is None or not source.is_unsaved(entry) or (yield Save(entry, fence(stored))):
            source.unsaved = None
            if source.kept is not None:
                yield LetGo()
    except StoreError as error:
        tell_store(source, error, "it still does not take the token that is kept in memory")


def save_unsaved(source: TokenSource) -> Generator[Step, Any, None]:
    """What the store would not take, before the program closes."""
    unsaved = source.unsaved
    if unsaved is None or not (unsaved.entry.is_mark or unsaved.entry.token.refresh_token):
        return  # nothing that another token request would not bring
    try:
        loaded: Entry | None = yield Load()
    except StoreError as error:
        tell_store(source, error, "what it would not take is still in memory alone")
        return
    yield from save_late(source, source.newest(loaded), loaded)


def fence(stored: Entry | None) -> str | None:
    """What `Save` is to replace: the entry `stored`, or nothing."""
    return None if stored is None else stored.fence


def tell_store(source: TokenSource, error: StoreError, consequence: str) -> None:
    """Tell that the store has failed, where that is no reason to fail."""
    source.tell("StoreFailed", logging.WARNING, error=error, consequence=consequence)


def _go_on_without(flight: Flight, source: TokenSource, error: StoreError, consequence: str) -> None:
    flight.without_store = True  # rule 5
    tell_store(source, error, consequence)


def never_agrees() -> StoreError:
    """The error after `MAX_ROUNDS`."""
    return StoreError("the store holds something else each time it is asked to change: is its compare-and-set broken?")
