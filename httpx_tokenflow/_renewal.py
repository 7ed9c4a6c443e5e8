"""A renewal, and a token that comes from outside: generators without I/O that yield steps and are sent their answers.

    renew   one renewal; belongs to its flight, and nothing that happens to a request can tear it
    keep    a token that came from outside

Rules.

1. Load: somebody else may have renewed. Lease, and load again: somebody may have done so while we waited.
2. A refresh token that may rotate is marked as presented in the store before it is. One whose answer was lost is
   presented once more at most (also marked), by whoever finds it: then the session is lost, and we say so.
3. A token request that was not sent, or was answered with "not now", is tried again within one budget. One that left
   and was not answered is tried again only if that can cost nothing, that is, if it spends no refresh token. While
   there is a token that has not ended, one attempt is enough.
4. The answer is saved before it is used. A store that will not take it does not cost the token: it is kept here and
   the next renewal tries again.
5. `invalid_grant`: first look whether somebody else has renewed. Only then is the refresh token forgotten, and only
   if it is still the one that was presented. The access token is used until it ends, unless it was refused.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ._attempt import Attempt, unavailable
from ._errors import ReauthenticationRequired, StoreError, TokenEndpointUnavailable, TokenFlowError
from ._lifecycle import Why, backoff, life_of
from ._steps import Lease, Load, Release, Save, Sleep, Step
from ._tokens import Entry

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._flights import Flight, Held
    from ._grants import Grant
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._steps import Renewing

__all__ = ["keep", "renew"]

logger = logging.getLogger("httpx_tokenflow")

MAX_ROUNDS = 10  # of load and compare-and-set; a store that disagrees more often will never agree
LEASE_GRACE = 10.0  # seconds by which a lease outlives the budget of the work that it guards


def renew(flight: Flight, source: TokenSource, grant: Grant, policy: RenewalPolicy) -> Renewing:
    """One renewal: the token that it brings, ready to be used.

    Args:
        flight: whose renewal this is.
        source: whose token it renews.
        grant: how.
        policy: the numbers, and the clock.
    """
    entry, _ = yield from _load(source, grant)
    if entry is not None and _serves(entry, policy, flight):
        return source.hold(entry, policy)
    if entry is not None and entry.stamp not in flight.replaces:
        source.adopt(source.hold(entry, policy), flight)
    pause = source.pause
    if flight.why is Why.BACKED_OFF and pause is not None:
        raise pause.error.with_traceback(None)  # the very error: each who waits raises one of their own from it
    try:
        yield Lease(policy.budget + LEASE_GRACE)
    except StoreError:
        if grant.spends:
            raise
        _tell_store(source, "there is no lease to be had, and the renewal goes on without")
    try:
        entry = yield from _under_lease(flight, source, grant, policy)
    except Exception:
        yield from _release(source)
        raise
    yield from _release(source)
    return source.hold(entry, policy)


def _release(source: TokenSource) -> Generator[Step, Any, None]:
    try:
        yield Release()
    except StoreError:
        _tell_store(source, "the lease was not given back, and ends by itself")


def _under_lease(
    flight: Flight, source: TokenSource, grant: Grant, policy: RenewalPolicy
) -> Generator[Step, Any, Entry]:
    for _ in range(MAX_ROUNDS):
        entry, stored = yield from _load(source, grant)
        if entry is not None and _serves(entry, policy, flight):
            return entry
        if grant.spends and entry is not None and entry.token.refresh_token is not None:
            if not (yield from _mark(source, entry, stored)):
                continue  # somebody has logged in meanwhile: the store holds something else
            stored = entry.stamp
        try:
            new = yield from _attempts(flight, source, grant, policy, entry)
        except ReauthenticationRequired:
            newer, _ = yield from _load(source, grant)
            if entry is None or newer is None or newer.stamp == entry.stamp:
                yield from _forget(source, grant, policy, entry)
                raise
            continue  # somebody else has renewed (rule 5)
        except TokenFlowError as error:
            if grant.spends and entry is not None and not error.may_have_spent:
                yield from _unmark(source, entry)
            raise
        flight.minted = True
        return (yield from _save(flight, source, new, stored, policy))
    raise _never_agrees()


def _load(source: TokenSource, grant: Grant) -> Generator[Step, Any, tuple[Entry | None, str | None]]:
    """What to go by, and the stamp of what the store holds."""
    try:
        loaded: Entry | None = yield Load()
    except StoreError:
        if grant.spends:
            raise  # never risk presenting what somebody else has spent (design rule 9)
        _tell_store(source, "it cannot be read, and the renewal goes on without")
        loaded = None
    return source.newest(loaded), loaded.stamp if loaded else None


def _serves(entry: Entry, policy: RenewalPolicy, flight: Flight) -> bool:
    if entry.is_spent or entry.stamp in flight.replaces:
        return False
    return entry.age(policy.clock.wall()) < life_of(entry, policy, 0.0).due


def _mark(source: TokenSource, entry: Entry, stored: str | None) -> Generator[Step, Any, bool]:
    """Note in the store that the refresh token is about to be presented (rule 2); False: it holds another by now."""
    if entry.is_spent:
        raise ReauthenticationRequired(
            "the refresh token was refused, or the answers to two requests with it were lost: log in again"
        )
    saved: bool = yield Save(entry.marked(entry.presented + 1), stored)
    if saved:
        source.unsaved = None
    return saved


def _unmark(source: TokenSource, entry: Entry) -> Generator[Step, Any, None]:
    if entry.token.refresh_token is None:
        return  # nothing was marked
    try:
        yield Save(entry, entry.stamp)
    except StoreError:
        _tell_store(source, "it did not take back the note that the refresh token was presented")


def _forget(
    source: TokenSource, grant: Grant, policy: RenewalPolicy, presented: Entry | None
) -> Generator[Step, Any, None]:
    """Nobody is to present this refresh token again: leave that in the store, if it is still what the store holds."""
    if not grant.spends or presented is None or presented.token.refresh_token is None:
        return  # nothing was presented
    source.forget(presented.stamp, policy.clock)
    try:
        yield Save(presented.spent(), presented.stamp)
    except StoreError:
        _tell_store(source, "it was not told that a refresh token is of no more use")


def _attempts(
    flight: Flight, source: TokenSource, grant: Grant, policy: RenewalPolicy, presented: Entry | None
) -> Generator[Step, Any, Entry]:
    """Token requests until one brings a token, within one budget (rule 3)."""
    clock = policy.clock
    deadline = clock.monotonic() + policy.budget
    attempt = 0
    while True:
        attempt += 1
        sent_at, left = clock.wall(), deadline - clock.monotonic()
        # Where a lost answer may cost the session, the one answer gets all the time there is.
        timeout = left if grant.spends else left / (policy.attempts - attempt + 1)
        attempt_now = Attempt(presented, clock.monotonic() + timeout, clock)
        try:
            minted = yield from grant.obtain(attempt_now)
        except TokenEndpointUnavailable as error:
            failure = error
        except TokenFlowError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a transport or a callable of the program's raises
            failure = unavailable(error)
            failure.__cause__ = error
        else:
            flight.fell_back = minted.fell_back
            session = presented.session if presented is not None and grant.spends else ""
            return Entry(
                minted.token,
                sent_at,
                minted.lifetime,
                session=session,
                refresh_in=minted.refresh_in,
                skew=minted.skew,
                asked=minted.asked,
                issuer=minted.issuer,
                key=minted.key,
            )
        logger.debug("%s: attempt %d: %s (%s)", source.name, attempt, failure, failure.outcome)
        pause = backoff(attempt, policy.random()) if failure.retry_after is None else failure.retry_after
        hopeless = not failure.retryable or (grant.spends and failure.may_have_spent)
        # While there is a token that is good there is time, too: the next renewal is the next attempt.
        attempts = policy.attempts if source.usable(clock) is None else 1
        if hopeless or attempt >= attempts or pause >= deadline - clock.monotonic():
            raise failure
        yield Sleep(pause)


def _save(
    flight: Flight, source: TokenSource, entry: Entry, replaces: str | None, policy: RenewalPolicy
) -> Generator[Step, Any, Entry]:
    """Save before use (rule 4); what somebody else has published meanwhile wins."""
    try:
        saved = yield Save(entry, replaces)
        theirs: Entry | None = None if saved else (yield Load())
    except StoreError:
        source.unsaved = entry, replaces
        _tell_store(source, "it did not take the new token, which is kept in memory")
        return entry
    return theirs if theirs is not None and _serves(theirs, policy, flight) else entry


def _tell_store(source: TokenSource, consequence: str) -> None:
    source.tell("StoreFailed", logging.WARNING, consequence=consequence)


def keep(source: TokenSource, entry: Entry, policy: RenewalPolicy) -> Generator[Step, Any, Held]:
    """A token that came from outside: in the store and in memory, it is the one from now on."""
    held = source.hold(entry, policy)
    for _ in range(MAX_ROUNDS):
        loaded: Entry | None = yield Load()
        if (yield Save(entry, loaded.stamp if loaded else None)):
            source.replace(held)
            return held
    raise _never_agrees()


def _never_agrees() -> StoreError:
    return StoreError("the store holds something else each time it is asked to change: its compare-and-set is broken")
