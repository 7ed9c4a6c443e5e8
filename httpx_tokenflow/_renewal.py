"""A renewal, and what comes from outside: generators without I/O that yield steps and are sent their answers.

    renew   one renewal; belongs to its flight, and nothing that happens to a request can tear it
    keep    a token that came from outside
    leave   the session is given up

Rules.

1. Load: somebody else may have renewed. Lease, and load again: somebody may have done so while we waited. A lease is
   waited for as long as its holder may have it. One that has stood still, so that its lease might end before its work,
   asks for it again.
2. A refresh token that may rotate is marked as presented in the store before it is. One whose answer was lost is
   presented once more at most (also marked), by whoever finds it: then the session is lost, and we say so.
3. A token request that was not sent, or was answered with "not now", is tried again within one budget. One that left
   and was not answered is tried again only if that can cost nothing, that is, if it spends no refresh token. While
   there is a token that has not ended, one attempt is enough.
4. The answer is saved before it is used; over another entry only if that is of the very pair that was presented. A
   store that will not take it does not cost the token: it is kept here, and saved as soon as that works: tried again
   aside every few seconds while there are requests, before the next renewal, and when the program closes. For as long
   as a lease lasts the lease is kept, so that meanwhile nobody presents once more what the store still shows.
5. `invalid_grant`: first look whether somebody else has renewed. Only then is the refresh token forgotten, and only
   if it is still the one that was presented. The access token is used until it ends, unless it was refused.
6. A grant that can open a session does so where there is none, or none that can be renewed; a person is asked only when
   the token is due, once, and under a lease that outlives the login: who has refused, or was not there, is not asked
   again before the program says so.
7. What is given up leaves a mark in the store, without any token in it. A renewal under way, here or elsewhere, that
   finds the mark cannot bring the session back: what it has brought it gives back to the server. Whoever has the
   session in memory, and finds the mark, forgets it. What siblings have bought with it goes as well. A grant that
   spends no refresh token has no session: what is given up is deleted, and nobody need know.
8. A store that fails is no reason to fail, where a token costs nothing but a request: such a renewal goes on without,
   and asks nothing more of a store that has failed it once. Where a refresh token is spent it is.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ._attempt import Attempt, unavailable
from ._entries import Entry
from ._errors import ReauthenticationRequired, StoreError, TokenEndpointUnavailable, TokenFlowError
from ._holder import Unsaved
from ._lifecycle import STORE_PATIENCE, Why, backoff, life_of
from ._steps import Delete, Elsewhere, Keep, Lease, LetGo, Load, Release, Save, Settle, Sleep, Step
from ._timing import timed

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._challenges import Challenge
    from ._dpop import DPoP
    from ._entries import Minted
    from ._flights import Flight, Held
    from ._grants import Grant
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._steps import Renewing
    from ._times import Clock

__all__ = ["Renewals", "guarded", "keep", "leave", "renew", "save_unsaved"]

_T = TypeVar("_T")

logger = logging.getLogger("httpx_tokenflow")

MAX_ROUNDS = 10  # of load and compare-and-set; a store that disagrees more often will never agree
TAKEOVER = 1.0  # seconds within which somebody takes over when a lease has ended
NEWS_PAUSE = 0.1  # seconds at most between word of a change that is of no use and asking for the lease again
SAVE_PAUSES = (0.25, 1.0)  # seconds before a token that cost a refresh token is offered to the store again
SAVE_PATIENCE = 2.0  # seconds after which it is not, for now: somebody waits for it


@dataclass(frozen=True, slots=True)
class Renewals:
    """How the tokens of a source are renewed.

    Args:
        source: whose tokens.
        grant: how they are obtained.
        policy: the numbers, and the clock.
        dpop: what binds them to a key, or None.
        widens: an API's `insufficient_scope` may lead to a token with more scope.
    """

    source: TokenSource
    grant: Grant
    policy: RenewalPolicy
    dpop: DPoP | None = None
    widens: bool = False

    def __post_init__(self) -> None:
        sibling_of = getattr(self.grant, "sibling_of", None)
        if sibling_of is not None:
            sibling_of.source.has_sibling(self.source)

    @property
    def logs_in(self) -> bool:
        """Whether the grant can open a session where there is none."""
        return getattr(self.grant, "logs_in", False)

    @property
    def is_of_session(self) -> bool:
        """Whether what it brings goes when a session is given up."""
        return self.grant.spends or getattr(self.grant, "sibling_of", None) is not None

    @property
    def login_timeout(self) -> float:
        """Seconds that a person may take to log in; 0: none is asked."""
        return getattr(self.grant, "login_timeout", 0.0)

    def lead(self, flight: Flight) -> Renewing:
        """The renewal that `flight` needs."""
        flight.grant = getattr(self.grant, "errand_of", type(self.grant)).__name__
        return timed(flight, renew(flight, self))

    def can_meet(self, challenge: Challenge) -> bool:
        """Whether the grant may bring what an API wants of a token that is good."""
        if self.login_timeout > 0 and self.source.logged_out:
            return False
        if challenge.error == "insufficient_scope":
            return self.widens and bool(challenge.scope) and getattr(self.grant, "widens", False)
        return self.login_timeout > 0

    def is_unknown(self) -> bool:
        """Whether an API has to say first which authorization server this is (RFC 9728)."""
        is_unknown = getattr(self.grant, "is_unknown", None)
        return is_unknown is not None and is_unknown(self.source.newest(None))

    def may_log_in(self, flight: Flight) -> bool:
        """Whether a new session may be opened: nobody has logged out, and no person is disturbed too early."""
        is_early = flight.why is Why.EARLY and self.login_timeout > 0
        return self.logs_in and not self.source.logged_out and not is_early and flight.errand is None

    def attempt(self, presented: Entry | None, timeout: float, flight: Flight | None = None) -> Attempt:
        """What the grant may go by."""
        clock, demand = self.policy.clock, flight.demand if flight is not None else None
        return Attempt(
            presented,
            clock.monotonic() + timeout,
            clock,
            challenge=demand.challenge if demand is not None else None,
            url=str(demand.url) if demand is not None else "",
            dpop=self.dpop,
            may_log_in=flight is not None and self.may_log_in(flight),
        )


def renew(flight: Flight, renewals: Renewals) -> Renewing:
    """One renewal: the token that it brings, ready to be used."""
    source, policy = renewals.source, renewals.policy
    entry, stored = yield from _load(flight, renewals)
    if source.unsaved is not None and not flight.without_store:
        if renewals.is_of_session or flight.why is Why.UNSAVED:
            yield from _save_late(source, entry, stored)
        else:
            source.unsaved = None  # another takes its place, and nothing is lost with it
    if entry is not None and _serves(entry, source, policy, flight):
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
        yield from _release(source)
        raise
    if source.unsaved is not None and renewals.grant.spends:
        yield Keep(policy.lease_seconds)  # who looks into the store finds the old refresh token there (rule 4)
    else:
        yield from _release(source)
    return source.hold(entry, policy)


def _can_refresh(entry: Entry | None, flight: Flight) -> bool:
    """Whether the session of `entry` can go on."""
    is_good = entry is not None and entry.token.refresh_token is not None and not entry.is_spent
    return is_good and flight.why is not Why.STEP_UP


def _asks_person(entry: Entry | None, flight: Flight, renewals: Renewals) -> bool:
    return renewals.login_timeout > 0 and renewals.may_log_in(flight) and not _can_refresh(entry, flight)


class _Right(NamedTuple):
    """The right to renew: until when it may be used, by both clocks, one of which stops while a machine sleeps."""

    until: float
    until_wall: float

    def is_good(self, clock: Clock) -> bool:
        """Whether what takes a renewal's budget would still be over before the lease is."""
        return clock.monotonic() <= self.until and clock.wall() <= self.until_wall


def _lease(flight: Flight, renewals: Renewals, *, asks: bool) -> Generator[Step, Any, _Right | None]:
    """The right to renew, for as long as a person may take if one is to be asked. None: look again first."""
    policy, spends = renewals.policy, renewals.grant.spends
    more = renewals.login_timeout if asks else 0.0
    seconds = policy.lease_seconds + more
    patience = seconds + TAKEOVER
    if flight.without_store:
        return _Right(math.inf, math.inf)
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
    return _Right(policy.clock.monotonic() + spare, policy.clock.wall() + spare) if leased else None


def _give_up_on_lease(flight: Flight, renewals: Renewals) -> None:
    error = StoreError("the lease to renew was not to be had: others renew all the time, or say that they do")
    if renewals.grant.spends:
        raise error
    _go_on_without(flight, renewals.source, error, "the renewal goes on without the lease")


def _release(source: TokenSource) -> Generator[Step, Any, None]:
    try:
        yield Release()
    except StoreError as error:
        _tell_store(source, error, "the lease was not given back, and ends by itself")


def _under_lease(flight: Flight, renewals: Renewals, *, asks: bool) -> Generator[Step, Any, Entry]:
    """What to go on with: what somebody else has brought before the lease was ours, or what we bring under it."""
    source, policy = renewals.source, renewals.policy
    lost: str | None = None  # the stamp of what was refused under this very lease
    right = yield from _lease(flight, renewals, asks=asks)
    rounds, weary = 0, math.inf
    while rounds < MAX_ROUNDS:
        entry, stored = yield from _load(flight, renewals)
        if entry is not None and _serves(entry, source, policy, flight):
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
                _give_up_on_lease(flight, renewals)
            yield Sleep(NEWS_PAUSE * policy.random())
        asks = will_ask  # the lease has to outlive the login
        yield from _release(source)
        right = yield from _lease(flight, renewals, asks=asks)
    raise _never_agrees()


def _mint(
    flight: Flight, renewals: Renewals, right: _Right, entry: Entry | None, stored: Entry | None
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
        if not (yield from _mark(source, marked, stored)):
            return None, None  # somebody has logged in meanwhile, or our lease has lapsed: the store holds another
        if not right.is_good(policy.clock):
            yield from _unmark(source, entry, marked)
            return None, None
    flight.last(policy.budget)
    try:
        new = yield from _attempts(flight, renewals, entry)
    except ReauthenticationRequired as error:
        return None, (yield from _refused(flight, renewals, entry, marked, error))
    except TokenFlowError as error:
        if marked is not None and entry is not None and not error.may_have_spent:
            yield from _unmark(source, entry, marked)
        raise
    flight.minted = True
    if not grant.spends:
        source.check(new)  # what belongs elsewhere is not even kept; a session is, since it goes on
    return (yield from _save(flight, renewals, new, marked or stored)), None


def _refused(
    flight: Flight, renewals: Renewals, entry: Entry | None, marked: Entry | None, error: ReauthenticationRequired
) -> Generator[Step, Any, str | None]:
    """What to go on with: None, if somebody else has renewed (rule 5); the stamp of what is lost, if one may log in.

    Raises:
        ReauthenticationRequired: there is no other way: `error`.
    """
    source, policy = renewals.source, renewals.policy
    newer, _ = yield from _load(flight, renewals)
    is_newer = newer is not None and (entry is None or newer.stamp != entry.stamp)
    was_login = marked is None or flight.asked
    if newer is not None and is_newer and (not was_login or _serves(newer, source, policy, flight)):
        return None
    if marked is not None:
        yield from _forget(source, policy, marked)
    if was_login or entry is None or not renewals.may_log_in(flight):
        flight.is_login_refused = was_login and not flight.asked and renewals.may_log_in(flight)
        raise error
    logger.debug("%s: %s; a new session is opened", source.name, error)
    return entry.stamp


def _load(flight: Flight, renewals: Renewals) -> Generator[Step, Any, tuple[Entry | None, Entry | None]]:
    """What to go by, and what the store holds."""
    source, loaded = renewals.source, None
    try:
        if not flight.without_store:
            loaded = yield Load()
    except StoreError as error:
        if renewals.grant.spends:
            raise  # never risk presenting what somebody else has spent (rule 8)
        _go_on_without(flight, source, error, "it cannot be read, and the renewal goes on without")
    entry = source.newest(loaded)
    if entry is not None and entry.is_mark:
        source.found_mark(flight)
    if entry is not None and source.is_in_vain(entry):
        entry = entry.marked(entry.presented - 1)
    return entry, loaded


def _serves(entry: Entry, source: TokenSource, policy: RenewalPolicy, flight: Flight) -> bool:
    if not source.is_expected(entry) or source.is_past(entry):
        return False
    if entry.is_spent or flight.replaces & {entry.stamp, entry.wire_stamp} or flight.errand is not None:
        return False
    if flight.demand is not None and not flight.demand.is_met_by(entry):
        return False
    return entry.age(policy.clock.wall()) < life_of(entry, policy, 0.0).due


def _mark(source: TokenSource, marked: Entry, stored: Entry | None) -> Generator[Step, Any, bool]:
    """Note in the store that the refresh token is about to be presented (rule 2); False: it holds another by now."""
    try:
        saved: bool = yield Save(marked, _fence(stored))
    except StoreError:
        source.note_in_vain(marked)  # it may have been taken all the same, or will be
        raise
    if saved:
        source.unsaved = None
    return saved


def _unmark(source: TokenSource, entry: Entry, marked: Entry) -> Generator[Step, Any, None]:
    source.note_in_vain(marked)
    try:
        yield Save(entry, marked.fence)
    except StoreError as error:
        _tell_store(source, error, "it did not take back the note that the refresh token was presented")


def _forget(source: TokenSource, policy: RenewalPolicy, marked: Entry) -> Generator[Step, Any, None]:
    """Nobody is to present this refresh token again: leave that in the store, if it is still what the store holds."""
    source.forget(marked.stamp, policy.clock)
    try:
        yield Save(marked.spent(), marked.fence)
    except StoreError as error:
        _tell_store(source, error, "it was not told that a refresh token is of no more use")


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


def _save(flight: Flight, renewals: Renewals, entry: Entry, stored: Entry | None) -> Generator[Step, Any, Entry]:
    """Save before use (rule 4); what somebody else has published meanwhile wins.

    Raises:
        ReauthenticationRequired: the session was given up meanwhile (rule 7).
    """
    source, spends = renewals.source, renewals.grant.spends
    theirs: Entry | None = stored
    presented = None if stored is None else stored.stamp
    flight.last(SAVE_PATIENCE + STORE_PATIENCE)
    pauses, patience = [*SAVE_PAUSES] if spends else [], renewals.policy.clock.monotonic() + SAVE_PATIENCE
    try:
        for _ in range(MAX_ROUNDS if not flight.without_store else 0):
            try:
                saved = yield Save(entry, _fence(theirs))
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
                yield from _give_back(renewals, entry)
                raise ReauthenticationRequired("the session was given up while it was renewed")
            if theirs is not None and _serves(theirs, source, renewals.policy, flight):
                return theirs
            if theirs is not None and theirs.stamp != presented and spends:
                return entry  # another session: what it holds is not ours to replace
    except StoreError as error:
        _tell_store(source, error, "it did not take the new token, which is kept in memory")
    source.keep_unsaved(flight, entry, presented)
    return entry


def _save_late(source: TokenSource, entry: Entry | None, stored: Entry | None) -> Generator[Step, Any, None]:
    """Save what the store would not take before (rule 4); what it has taken from somebody else meanwhile wins."""
    try:
        if entry is None or not source.is_unsaved(entry) or (yield Save(entry, _fence(stored))):
            source.unsaved = None
            if source.kept is not None:
                yield LetGo()
    except StoreError as error:
        _tell_store(source, error, "it still does not take the token that is kept in memory")


def save_unsaved(source: TokenSource) -> Generator[Step, Any, None]:
    """What the store would not take, before the program closes."""
    unsaved = source.unsaved
    if unsaved is None or not (unsaved.entry.is_mark or unsaved.entry.token.refresh_token):
        return  # nothing that another token request would not bring
    try:
        loaded: Entry | None = yield Load()
    except StoreError as error:
        _tell_store(source, error, "what it would not take is still in memory alone")
        return
    yield from _save_late(source, source.newest(loaded), loaded)


def _fence(stored: Entry | None) -> str | None:
    return None if stored is None else stored.fence


def _tell_store(source: TokenSource, error: StoreError, consequence: str) -> None:
    source.tell("StoreFailed", logging.WARNING, error=error, consequence=consequence)


def _go_on_without(flight: Flight, source: TokenSource, error: StoreError, consequence: str) -> None:
    flight.without_store = True  # rule 8
    _tell_store(source, error, consequence)


def keep(source: TokenSource, entry: Entry, policy: RenewalPolicy) -> Generator[Step, Any, Held]:
    """A token that came from outside: in the store and in memory, it is the one from now on."""
    held = source.hold(entry, policy)
    for _ in range(MAX_ROUNDS):
        loaded: Entry | None = yield Load()
        if (yield Save(entry, _fence(loaded))):
            source.replace(held)
            return held
    raise _never_agrees()


def guarded(flow: Generator[Step, Any, _T]) -> Generator[Step, Any, _T]:
    """`flow`, whose failures are errors of ours, whatever a transport raises."""
    try:
        return (yield from flow)
    except TokenFlowError:
        raise
    except Exception as error:
        raise unavailable(error, "the authorization server") from error


def leave(renewals: Renewals) -> Generator[Step, Any, bool]:
    """The session is given up: here at once, in the store, and at the server (RFC 7009). Whether the server agreed.

    Whatever the server says, it is over here. A renewal in the air is waited for, a while, so that what it brings can
    be given back as well.
    """
    source = renewals.source
    had = yield from _forgotten(source, renewals.policy, marks=renewals.grant.spends)
    agreed = bool(had) or source.unsaved is None  # or else nobody knows what there still is
    for entry in {entry.stamp: entry for entry in had if not entry.is_mark}.values():
        agreed = (yield from _give_back(renewals, entry)) and agreed
    source.tell("Revoked", logging.INFO, agreed=agreed)
    return agreed


def _forgotten(source: TokenSource, policy: RenewalPolicy, *, marks: bool) -> Generator[Step, Any, list[Entry]]:
    """Forget the session of `source`, here and in the store, and what siblings have bought with it. What there was."""
    had, generation = source.leave()
    yield Settle()
    stored, mark = yield from _bury(source, policy, had, marks=marks)
    # Nor does it come back with what took off before the mark was in the store.
    had += [*stored, *source.leave(generation, mark)[0]]
    for sibling in source.siblings():
        had += yield Elsewhere(sibling, _forgotten(sibling, policy, marks=True))
    return had


def _bury(
    source: TokenSource, policy: RenewalPolicy, had: list[Entry], *, marks: bool
) -> Generator[Step, Any, tuple[list[Entry], Unsaved | None]]:
    """Put a mark in the place of what the store holds (rule 7). What it held, and the mark if it would not take it."""
    session, replaces, stored = source.left, had[0].stamp if had else None, []
    try:
        for _ in range(MAX_ROUNDS):
            loaded: Entry | None = yield Load()
            stored = [] if loaded is None else [loaded]
            if loaded is not None:
                session, replaces = loaded.session or session, loaded.stamp
            if marks:
                done = yield Save(Entry.mark(policy.clock.wall(), session), _fence(loaded))
            else:
                done = loaded is None or (yield Delete(loaded.fence))
            if done:
                return stored, None
        raise _never_agrees()
    except StoreError as error:
        _tell_store(source, error, "what was given up may still be in it")
    return stored, Unsaved(Entry.mark(policy.clock.wall(), session), replaces) if marks else None


def _give_back(renewals: Renewals, entry: Entry) -> Generator[Step, Any, bool]:
    """Have the server revoke what is in `entry`. Whether it agreed."""
    revoke = getattr(renewals.grant, "revoke", None)
    if revoke is None:
        return False
    try:
        return bool((yield from revoke(renewals.attempt(entry, renewals.policy.budget))))
    except Exception as error:  # noqa: BLE001 - whatever a transport raises: it is over here all the same
        logger.warning("%s: the server did not take a session back: %s", renewals.source.name, type(error).__name__)
        return False


def _never_agrees() -> StoreError:
    return StoreError("the store holds something else each time it is asked to change: is its compare-and-set broken?")
