"""A renewal: the order of its events, in generators without I/O that yield steps and are sent their answers.

    lead    the renewal that a flight needs, timed
    renew   one renewal; belongs to its flight, and nothing that happens to a request can tear it

Rules.

1. Load: somebody else may have renewed. Lease, and load again: somebody may have done so while we waited. One that has
   stood still, so that its lease might end before its work, asks for it again.
2. A refresh token that may rotate is marked as presented in the store before it is. One whose answer was lost is
   presented once more at most (also marked), by whoever finds it: then the session is lost, and we say so.
3. A token request that was not sent, or was answered with "not now", is tried again within one budget. One that left
   and was not answered is tried again only if that can cost nothing, that is, if it spends no refresh token. While
   there is a token that has not ended, one attempt is enough.
4. The answer is saved before it is used. Where the store will not take it (`_storing.py`) the lease is kept for as long
   as it lasts, so that meanwhile nobody presents once more what the store still shows.
5. `invalid_grant`: first look whether somebody else has renewed. Only then is the refresh token forgotten, and only
   if it is still the one that was presented. The access token is used until it ends, unless it was refused.
6. A grant that can open a session does so where there is none, or none that can be renewed; a person is asked only when
   the token is due, once, and under a lease that outlives the login: who has refused, or was not there, is not asked
   again before the program says so.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from ._attempt import unavailable
from ._entries import Entry
from ._errors import ReauthenticationRequired, TokenEndpointUnavailable, TokenFlowError
from ._lifecycle import Why, backoff
from ._steps import Keep, LetGo, Sleep
from ._storing import (
    MAX_ROUNDS,
    forget,
    give_up_on_lease,
    lease,
    load,
    mark,
    never_agrees,
    release,
    save,
    save_late,
    unmark,
)
from ._timing import timed

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._entries import Minted
    from ._flights import Flight
    from ._steps import Renewing, Step
    from ._storing import Right
    from ._terms import Renewals

__all__ = ["lead", "renew"]

logger = logging.getLogger("httpx_tokenflow")

NEWS_PAUSE = 0.1  # seconds at most between word of a change that is of no use and asking for the lease again


def lead(flight: Flight, renewals: Renewals) -> Renewing:
    """The renewal that `flight` needs."""
    flight.grant = getattr(renewals.grant, "errand_of", type(renewals.grant)).__name__
    return timed(flight, renew(flight, renewals))


def renew(flight: Flight, renewals: Renewals) -> Renewing:
    """One renewal: the token that it brings, ready to be used."""
    source, policy = renewals.source, renewals.policy
    entry, stored = yield from load(flight, renewals)
    if source.unsaved is not None and not flight.without_store:
        if renewals.is_of_session or flight.why is Why.UNSAVED:
            yield from save_late(source, entry, stored)
        else:
            source.unsaved = None  # another takes its place, and nothing is lost with it
    if entry is not None and renewals.serves(entry, flight):
        return source.hold(entry, policy)
    held = source.held
    if flight.why is Why.UNSAVED and held is not None and held.age(policy.clock) < held.life.due:
        return held
    if entry is not None and source.is_expected(entry) and not flight.replaces & {entry.stamp, entry.wire_stamp}:
        source.adopt(source.hold(entry, policy), flight)
    pause = source.pause
    if flight.why is Why.BACKED_OFF and pause is not None:
        raise pause.error.with_traceback(None)  # the very error: each who waits raises one of their own from it
    if source.kept is not None:
        yield LetGo()  # or else we would wait for ourselves
    try:
        entry = yield from _under_lease(flight, renewals, asks=_asks_person(entry, flight, renewals))
    except Exception as error:
        flight.declined = flight.asked and isinstance(error, ReauthenticationRequired)  # rule 6
        yield from release(source)
        raise
    if source.unsaved is not None and renewals.grant.spends:
        yield Keep(policy.lease_seconds)  # who looks into the store finds the old refresh token there (rule 4)
    else:
        yield from release(source)
    return source.hold(entry, policy)


def _can_refresh(entry: Entry | None, flight: Flight) -> bool:
    """Whether the session of `entry` can go on."""
    is_good = entry is not None and entry.token.refresh_token is not None and not entry.is_spent
    return is_good and flight.why is not Why.STEP_UP


def _asks_person(entry: Entry | None, flight: Flight, renewals: Renewals) -> bool:
    return renewals.login_timeout > 0 and renewals.may_log_in(flight) and not _can_refresh(entry, flight)


def _under_lease(flight: Flight, renewals: Renewals, *, asks: bool) -> Generator[Step, Any, Entry]:
    """What to go on with: what somebody else has brought before the lease was ours, or what we bring under it."""
    source, policy = renewals.source, renewals.policy
    lost: str | None = None  # the stamp of what was refused under this very lease
    right = yield from lease(flight, renewals, asks=asks)
    rounds, weary = 0, math.inf
    while rounds < MAX_ROUNDS:
        entry, stored = yield from load(flight, renewals)
        if entry is not None and renewals.serves(entry, flight):
            return entry
        if entry is not None and entry.stamp == lost:
            entry = entry.spent()
        will_ask = asks or _asks_person(entry, flight, renewals)
        if right is not None and right.is_good(policy.clock) and will_ask == asks:
            rounds += 1
            new, refused = yield from _mint(flight, renewals, right, entry, stored)
            if new is not None:
                return new
            lost = refused or lost
            continue
        rounds += right is not None
        if right is None:  # others have been first, and may be again
            now = policy.clock.monotonic()
            weary = min(weary, now + policy.lease_seconds)
            if now > weary:
                give_up_on_lease(flight, renewals)
            yield Sleep(NEWS_PAUSE * policy.random())
        asks = will_ask  # the lease has to outlive the login
        yield from release(source)
        right = yield from lease(flight, renewals, asks=asks)
    raise never_agrees()


def _mint(
    flight: Flight, renewals: Renewals, right: Right, entry: Entry | None, stored: Entry | None
) -> Generator[Step, Any, tuple[Entry | None, str | None]]:
    """One round under the lease: the new token; None: look again, and not at what has this stamp, if there is one."""
    source, grant, policy = renewals.source, renewals.grant, renewals.policy
    if entry is not None and entry.is_spent and entry.token.refresh_token is not None and not renewals.logs_in:
        raise ReauthenticationRequired(
            "the refresh token was refused, or the answers to two requests with it were lost: log in again"
        )
    marked: Entry | None = None
    if grant.spends and entry is not None and _can_refresh(entry, flight):
        marked = entry.marked(entry.presented + 1)
        if not (yield from mark(source, marked, stored)):
            return None, None  # somebody has logged in meanwhile, or our lease has lapsed: the store holds another
        if not right.is_good(policy.clock):
            yield from unmark(source, entry, marked)
            return None, None
    flight.last(policy.budget)
    try:
        new = yield from _attempts(flight, renewals, entry)
    except ReauthenticationRequired as error:
        return None, (yield from _refused(flight, renewals, entry, marked, error))
    except TokenFlowError as error:
        if marked is not None and entry is not None and not error.may_have_spent:
            yield from unmark(source, entry, marked)
        raise
    flight.minted = True
    if not grant.spends:
        source.check(new)  # what belongs elsewhere is not even kept; a session is, since it goes on
    return (yield from save(flight, renewals, new, marked or stored)), None


def _refused(
    flight: Flight, renewals: Renewals, entry: Entry | None, marked: Entry | None, error: ReauthenticationRequired
) -> Generator[Step, Any, str | None]:
    """What to go on with: None, if somebody else has renewed (rule 5); the stamp of what is lost, if one may log in.

    Raises:
        ReauthenticationRequired: there is no other way: `error`.
    """
    source, policy = renewals.source, renewals.policy
    newer, _ = yield from load(flight, renewals)
    is_newer = newer is not None and (entry is None or newer.stamp != entry.stamp)
    was_login = marked is None or flight.asked
    if newer is not None and is_newer and (not was_login or renewals.serves(newer, flight)):
        return None
    if marked is not None:
        yield from forget(source, policy, marked)
    if was_login or entry is None or not renewals.may_log_in(flight):
        flight.is_login_refused = was_login and not flight.asked and renewals.may_log_in(flight)
        raise error
    logger.debug("%s: %s; a new session is opened", source.name, error)
    return entry.stamp


def _attempts(flight: Flight, renewals: Renewals, presented: Entry | None) -> Generator[Step, Any, Entry]:
    """Token requests until one brings a token, within one budget (rule 3)."""
    source, grant, policy = renewals.source, renewals.grant, renewals.policy
    clock = policy.clock
    deadline = clock.monotonic() + policy.budget
    attempt = 0
    while True:
        attempt += 1
        sent_at, left = clock.wall(), deadline - clock.monotonic()
        # Where a lost answer may cost the session, the one answer gets all the time there is.
        timeout = left if grant.spends else left / (policy.attempts - attempt + 1)
        try:
            attempting = renewals.attempt(presented, timeout, flight)
            minted = yield from (flight.errand or grant).obtain(attempting)
        except TokenEndpointUnavailable as error:
            failure = error
        except TokenFlowError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a transport or a callable of the program's raises
            failure = unavailable(error)
            failure.__cause__ = error
        else:
            return _entry_of(minted, sent_at, presented, flight, spends=grant.spends)
        logger.debug("%s: attempt %d: %s (%s)", source.name, attempt, failure, failure.outcome)
        pause = backoff(attempt, policy.random()) if failure.retry_after is None else failure.retry_after
        hopeless = not failure.retryable or (grant.spends and failure.may_have_spent)
        # While there is a token that is good there is time, too: the next renewal is the next attempt.
        attempts = policy.attempts if source.usable(clock) is None else 1
        if hopeless or attempt >= attempts or pause >= deadline - clock.monotonic():
            raise failure
        yield Sleep(pause)


def _entry_of(minted: Minted, sent_at: float, presented: Entry | None, flight: Flight, *, spends: bool) -> Entry:
    """What a store keeps of `minted`; of what an errand has brought, the session's part."""
    flight.fell_back = minted.fell_back
    if flight.errand is not None and presented is not None:
        flight.brought_along, following = minted.parted(presented)
        return following
    session = minted.token.session if spends else ""
    if spends and presented is not None and _can_refresh(presented, flight):
        session = presented.session
    return Entry(
        minted.token,
        sent_at if minted.sent_at is None else minted.sent_at,
        minted.lifetime,
        session=session,
        refresh_in=minted.refresh_in,
        skew=minted.skew,
        asked=minted.asked,
        issuer=minted.issuer,
        key=minted.key,
    )
