"""The heart: the order of events, written once. Generators without I/O that yield steps and are sent their answers.

    authorize   the life of one request; may be cancelled or thrown away at any yield
    renew       one renewal; belongs to its flight, and nothing that happens to a request can tear it
    keep        a token that came from outside

Rules of a request.

1. Nothing is held across a yield. The host may drop the generator, or close it from another task.
2. A 401 is ours to mend only if the request that was answered carried our credential: not after a redirect to
   somebody else (failures F20), not if the challenge says that another token would not help (RFC 6750 §3.1:
   `invalid_request`, `insufficient_scope`), and never by a renewal where RFC 9470 asks for another login.
3. It is read before anybody waits: until then it holds a connection of the pool, and waiters that hold the whole
   pool starve each other (failures F26).
4. If the current token is another than the one that was refused, it is sent: that costs no renewal. Otherwise there
   is one renewal, for everybody. A second 401 after that is given back. Three sends at most.
5. A body that cannot be replayed is never sent twice: the 401 is given back, and the renewal goes on for the next.

Rules of a renewal.

6. Load: somebody else may have renewed. Lease, and load again: somebody may have done so while we waited.
7. A refresh token that may rotate is marked as presented in the store before it is. One whose answer was lost is
   presented once more at most (also marked), by whoever finds it: then the session is lost, and we say so.
8. A token request that was not sent, or was answered with "not now", is tried again within one budget. One that left
   and was not answered is tried again only if that can cost nothing, that is, if it spends no refresh token.
9. The answer is saved before it is used. A store that will not take it does not cost the token: it is kept here and
   the next renewal tries again.
10. `invalid_grant`: first look whether somebody else has renewed. Only then is the token forgotten, and only if it is
    still the one that was presented.
"""

from __future__ import annotations

import enum
import logging
import ssl
from typing import TYPE_CHECKING, Any, Protocol

from ._challenges import Challenge, parse_challenges
from ._errors import (
    ReauthenticationRequired,
    StepUpRequired,
    StoreError,
    TokenEndpointUnavailable,
    TokenFlowError,
)
from ._flights import Flight, Held
from ._lifecycle import backoff, due_at
from ._steps import Answer, Drain, Lease, Load, Release, Save, Send, Sleep, Step, Wait
from ._tokens import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._flights import TokenSource
    from ._grants import Grant
    from ._lifecycle import RenewalPolicy
    from ._steps import Renewing

__all__ = ["Sending", "Verdict", "authorize", "current", "keep", "renew", "verdict"]

logger = logging.getLogger("httpx_tokenflow")

MAX_SENDS = 3
MAX_ROUNDS = 10  # of load and compare-and-set; a store that disagrees more often will never agree
LEASE_GRACE = 10.0  # seconds by which a lease outlives the budget of the work that it guards

_POINTLESS = frozenset({"invalid_request", "insufficient_scope"})
_NOT_SENT = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "UnsupportedProtocol",
        "LocalProtocolError",
        "ProxyError",
    }
)


class Sending(Protocol):
    """What a flow needs to know of a request, if its answer is one to mend."""

    @property
    def replayable(self) -> bool:
        """Its body can go out twice."""

    @property
    def retry(self) -> bool:
        """The caller wants it to."""


class Verdict(enum.Enum):
    """What to do about an answer."""

    GIVE_BACK = "give it back"
    RENEW = "send it again with another token"
    STEP_UP = "somebody has to log in in another way"


def verdict(answer: Answer) -> tuple[Verdict, Challenge | None]:  # noqa: PLR0911 - a table, in words
    """Whether `answer` is ours to mend (rule 2), and the challenge that decided."""
    if not answer.ours:
        return Verdict.GIVE_BACK, None
    if answer.expired:
        return Verdict.RENEW, None
    if answer.status not in {401, 403}:
        return Verdict.GIVE_BACK, None
    # A challenge of another scheme than ours does not speak of our token (failures F53).
    ours = [one for one in parse_challenges(answer.challenges) if one.is_scheme("Bearer") or one.is_scheme("DPoP")]
    for challenge in ours:
        if challenge.error == "insufficient_user_authentication":
            return Verdict.STEP_UP, challenge
        if challenge.error == "insufficient_scope":
            return Verdict.GIVE_BACK, challenge
    if answer.status != 401 or (ours and all(challenge.error in _POINTLESS for challenge in ours)):
        return Verdict.GIVE_BACK, None
    return Verdict.RENEW, None


def authorize(
    source: TokenSource,
    policy: RenewalPolicy,
    lead: Callable[[Flight, str | None], Renewing] | None,
    sending: Sending,
    sent: tuple[Held, Answer] | None = None,
) -> Generator[Step, Any, None]:
    """The life of one request.

    Args:
        source: where tokens come from.
        policy: the caller's numbers.
        lead: makes the renewal of a flight that the caller has to fly, for the stamp of the token that was refused;
            None if there is nothing to renew with.
        sending: about the request.
        sent: the request has gone out already, with this token, and was answered like this.
    """
    if sent is None:
        held, _ = (yield from _await_token(source, policy, lead)) if lead else (source.held, False)
        assert held is not None  # noqa: S101 - without a grant the source was made with a token
        sent = held, (yield Send(held))
    held, answer = sent
    renewed = False
    for _ in range(MAX_SENDS - 1):
        what, challenge = verdict(answer)
        if what is Verdict.STEP_UP and challenge is not None:
            yield Drain()
            raise _step_up(challenge)
        if what is Verdict.GIVE_BACK or lead is None or not sending.retry:
            _tell(source, answer, challenge)
            return
        if not sending.replayable:
            yield from _renew_aside(source, policy, lead, held)
            return
        if renewed and source.newer(held, policy.clock.monotonic()) is None:
            break
        yield Drain()
        newer = source.newer(held, policy.clock.monotonic())
        if newer is None:
            newer, renewed = yield from _await_token(source, policy, lead, refused=held)
        held = newer
        answer = yield Send(held)
    _tell(source, answer, None)


def current(
    source: TokenSource, policy: RenewalPolicy, lead: Callable[[Flight, str | None], Renewing]
) -> Generator[Step, Any, Held]:
    """A token that is not due, for use elsewhere."""
    held, _ = yield from _await_token(source, policy, lead)
    return held


def _await_token(
    source: TokenSource,
    policy: RenewalPolicy,
    lead: Callable[[Flight, str | None], Renewing],
    refused: Held | None = None,
) -> Generator[Step, Any, tuple[Held, bool]]:
    """A token other than `refused`, and whether a grant was used up for it."""
    while True:
        boarding = source.board(policy, refused)
        if isinstance(boarding, Held):
            return boarding, False
        flight, leads = boarding
        stamp = refused.stamp if refused else None
        held: Held = yield Wait(flight, lead(flight, stamp) if leads else None)
        # A flight that took off before `refused` was refused may bring that very token: once more, then.
        if flight.minted or held.stamp != stamp:
            return held, flight.minted


def _renew_aside(
    source: TokenSource, policy: RenewalPolicy, lead: Callable[[Flight, str | None], Renewing], refused: Held
) -> Generator[Step, Any, None]:
    """See a flight off without waiting for it: the next request will (rule 5)."""
    try:
        boarding = source.board(policy, refused)
    except TokenFlowError:
        return  # a renewal has just failed; that is for the next request to say
    if not isinstance(boarding, Held) and boarding[1]:
        yield Wait(boarding[0], lead(boarding[0], refused.stamp), aside=True)


def _step_up(challenge: Challenge) -> StepUpRequired:
    wants = [f"acr_values={challenge.acr_values}"] if challenge.acr_values else []
    wants += [f"max_age={challenge.max_age}"] if challenge.max_age is not None else []
    return StepUpRequired(
        f"the API wants a stronger or fresher login ({', '.join(wants) or 'it does not say which'}; RFC 9470)",
        acr_values=challenge.acr_values,
        max_age=challenge.max_age,
        scope=challenge.scope,
    )


def _tell(source: TokenSource, answer: Answer, challenge: Challenge | None) -> None:
    if challenge is not None:
        logger.warning(
            "%s: %d insufficient_scope; the API asks for scope %r",
            source.name,
            answer.status,
            challenge.scope,
        )
    elif answer.ours and answer.status == 401:
        logger.warning("%s: a 401 stands", source.name)


def renew(
    flight: Flight,
    source: TokenSource,
    grant: Grant,
    policy: RenewalPolicy,
    random: Callable[[], float],
    refused: str | None = None,
) -> Renewing:
    """One renewal: the token that it brings, ready to be used.

    Args:
        flight: whose renewal this is.
        source: whose token it renews.
        grant: how.
        policy: the numbers, and the clock.
        random: 0 to 1, for jitter.
        refused: stamp of the token that was refused, which is not to be brought again.
    """
    entry, _ = yield from _load(source, grant)
    if entry is not None and _serves(entry, policy, refused):
        return source.hold(entry, policy)
    try:
        yield Lease(policy.budget + LEASE_GRACE)
    except StoreError:
        if grant.spends:
            raise
        logger.warning("%s: no lease to be had; renewing without", source.name)
    try:
        entry = yield from _under_lease(flight, source, grant, policy, random, refused)
    except Exception:
        yield from _release(source)
        raise
    yield from _release(source)
    return source.hold(entry, policy)


def _release(source: TokenSource) -> Generator[Step, Any, None]:
    try:
        yield Release()
    except StoreError:
        logger.warning("%s: the lease was not given back; it ends by itself", source.name)


def _under_lease(
    flight: Flight,
    source: TokenSource,
    grant: Grant,
    policy: RenewalPolicy,
    random: Callable[[], float],
    refused: str | None,
) -> Generator[Step, Any, Entry]:
    for _ in range(MAX_ROUNDS):
        entry, stored = yield from _load(source, grant)
        if entry is not None and _serves(entry, policy, refused):
            return entry
        if grant.spends and entry is not None and entry.token.refresh_token is not None:
            if not (yield from _mark(source, entry, stored)):
                continue  # somebody has logged in meanwhile: the store holds something else
            stored = entry.stamp
        try:
            minted = yield from _attempts(source, grant, policy, random, entry)
        except ReauthenticationRequired:
            newer, _ = yield from _load(source, grant)
            if entry is None or newer is None or newer.stamp == entry.stamp:
                yield from _forget(source, grant, entry)
                raise
            continue  # somebody else has renewed (rule 10)
        except TokenFlowError as error:
            if grant.spends and entry is not None and not error.may_have_spent:
                yield from _unmark(source, entry)
            raise
        flight.minted = True
        return (yield from _save(source, minted, stored, policy))
    raise _never_agrees()


def _load(source: TokenSource, grant: Grant) -> Generator[Step, Any, tuple[Entry | None, str | None]]:
    """What to go by, and the stamp of what the store holds."""
    try:
        loaded: Entry | None = yield Load()
    except StoreError:
        if grant.spends:
            raise  # never risk presenting what somebody else has spent (design rule 9)
        logger.warning("%s: the store cannot be read; renewing without", source.name)
        loaded = None
    return source.newest(loaded), loaded.stamp if loaded else None


def _serves(entry: Entry, policy: RenewalPolicy, refused: str | None) -> bool:
    return not entry.is_spent and entry.stamp != refused and policy.clock.wall() < due_at(entry, policy)


def _mark(source: TokenSource, entry: Entry, stored: str | None) -> Generator[Step, Any, bool]:
    """Note in the store that the refresh token is about to be presented (rule 7); False: it holds another by now."""
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
        logger.warning("%s: the store did not take back the note that the refresh token was presented", source.name)


def _forget(source: TokenSource, grant: Grant, presented: Entry | None) -> Generator[Step, Any, None]:
    """Nobody is to present this refresh token again: leave that in the store, if it is still what the store holds."""
    if not grant.spends or presented is None or presented.token.refresh_token is None:
        return  # nothing was presented
    source.forget(presented.stamp)
    try:
        yield Save(presented.spent(), presented.stamp)
    except StoreError:
        logger.warning("%s: the store was not told that a refresh token is of no more use", source.name)


def _attempts(
    source: TokenSource,
    grant: Grant,
    policy: RenewalPolicy,
    random: Callable[[], float],
    presented: Entry | None,
) -> Generator[Step, Any, Entry]:
    """Token requests until one brings a token, within one budget (rule 8)."""
    clock = policy.clock
    deadline = clock.monotonic() + policy.budget
    attempt = 0
    while True:
        attempt += 1
        sent_at, left = clock.wall(), deadline - clock.monotonic()
        # Where a lost answer may cost the session, the one answer gets all the time there is.
        timeout = left if grant.spends else left / (policy.attempts - attempt + 1)
        try:
            minted = yield from grant.obtain(presented, timeout=timeout, clock=clock)
        except TokenEndpointUnavailable as error:
            failure = error
        except TokenFlowError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a transport or a callable of the program's raises
            failure = _unavailable(error)
            failure.__cause__ = error
        else:
            session = presented.session if presented is not None and grant.spends else ""
            return Entry(minted.token, sent_at, minted.lifetime, session=session)
        logger.debug("%s: attempt %d: %s (%s)", source.name, attempt, failure, failure.outcome)
        pause = backoff(attempt, random()) if failure.retry_after is None else failure.retry_after
        hopeless = not failure.retryable or (grant.spends and failure.may_have_spent)
        if hopeless or attempt >= policy.attempts or pause >= deadline - clock.monotonic():
            raise failure
        yield Sleep(pause)


def _unavailable(error: Exception) -> TokenEndpointUnavailable:
    """What a failed send means, told by the names of its classes: httpx and httpx2 share the names and nothing else."""
    names = {kind.__name__ for kind in type(error).__mro__}
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if "ConnectError" in names and cause is not None:
        return TokenEndpointUnavailable(
            "the TLS connection to the token endpoint failed: check its certificate, or pass verify=",
            outcome="not sent",
            retryable=False,
        )
    if "ProxyError" in names:
        return TokenEndpointUnavailable(
            "the proxy on the way to the token endpoint refused", outcome="not sent", retryable=False
        )
    return TokenEndpointUnavailable(
        f"the token endpoint could not be reached, or did not answer ({type(error).__name__})",
        outcome="not sent" if names & _NOT_SENT else "unknown",
    )


def _save(
    source: TokenSource, entry: Entry, replaces: str | None, policy: RenewalPolicy
) -> Generator[Step, Any, Entry]:
    """Save before use (rule 9); what somebody else has published meanwhile wins."""
    try:
        saved = yield Save(entry, replaces)
        theirs: Entry | None = None if saved else (yield Load())
    except StoreError as error:
        source.unsaved = entry, replaces
        logger.warning("%s: the store did not take the new token, it is kept in memory: %s", source.name, error)
        return entry
    return theirs if theirs is not None and _serves(theirs, policy, replaces) else entry


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
