"""The lease in Redis: redis-py's own lock, and how to wait for it.

Rules.

1. The first try costs one command. Who does not get the lease subscribes to the news, tries once more, so that nothing
   is missed in between, and then waits for whichever comes first: word that another token was saved, which makes a
   lease needless (the context is False: 100 who wait are not served one after the other), or a moment of 0.1 to 0.5 s,
   since a holder that died says nothing. Without pub/sub the moments are enough; so they are when as many of this
   store listen as may: each takes a connection, of which redis-py's pools have no more than 100 by default.
2. A claim has its token before Redis is asked. If the answer is lost, Redis may take the command later, after a pause
   say, and hold the lease for nobody; or redis-py has sent it twice, and the second finds the first in its way. So
   whoever is refused looks whether it is by their own claim; and a claim in doubt is given back before the next try.
3. A lease that has ended meanwhile is no error to whoever gives it back: what they save is fenced.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import StoreError
from httpx_tokenflow._forks import renew_after_fork

if TYPE_CHECKING:
    from ._sides import Side

__all__ = ["Claim", "Leases"]

logger = logging.getLogger("httpx_tokenflow")

_FIRST_MOMENT = 0.1  # seconds between two tries, growing
_LAST_MOMENT = 0.5
_LISTENERS = 10  # of one store at a time
_CONFIRMS_WITHIN = 1.0  # seconds: Redis says that a subscription is made


@dataclass(slots=True, eq=False)
class Claim:
    """A lock and the token by which it is ours.

    Args:
        name: the key of the lock.
        lock: redis-py's.
        token: what the key holds if it is ours.
        until: when Redis has forgotten it at the latest, of `time.monotonic`.
        is_late: nobody waits for Redis' answer any more.
    """

    name: str
    lock: Any
    token: bytes
    until: float
    is_late: bool = False

    @classmethod
    def of(cls, client: Any, name: str, seconds: float) -> Claim:
        """A claim that nobody has heard of yet."""
        lock = client.lock(name, timeout=seconds, thread_local=False)
        return cls(name, lock, uuid.uuid4().hex.encode(), time.monotonic() + seconds)

    async def made(self, side: Side) -> bool:
        """Whether the lock is ours now (rule 2)."""
        self.lock.local.token = self.token
        return bool(await side.ask(self._acquire) or await side.ask(self.lock.owned))

    def _acquire(self) -> Any:
        """Whether it was free, or what to await for that; a thread that was left to itself gives it back at once."""
        acquired = self.lock.acquire(blocking=False, token=self.token)
        if acquired is True and self.is_late:
            self.lock.release()
        return acquired

    async def given_back(self, side: Side) -> bool:
        """Give the lock back. Whether it was ours."""
        self.lock.local.token = self.token
        try:
            await side.ask(self.lock.release)
        except ValueError:  # LockError, of redis-py and of valkey-py
            return False
        return True


class _News:
    """What is published on a channel; nothing, where nobody may listen, or pub/sub fails."""

    def __init__(self, client: Any, *, may_listen: bool) -> None:
        self._client = client
        self._may_listen = may_listen
        self._pubsub: Any = None

    async def begin(self, side: Side, channel: str) -> None:
        """Subscribe; from then on nothing is missed."""
        if not self._may_listen:
            return
        try:
            self._pubsub = self._client.pubsub()
            await side.ask(self._pubsub.subscribe, channel)
        except Exception as error:  # noqa: BLE001 - of whatever client; the next try tells what is the matter
            await self._give_up(side, error)
        else:
            await self.comes(side, _CONFIRMS_WITHIN)  # the first message is that Redis has done it

    async def comes(self, side: Side, seconds: float) -> bool:
        """Whether there is news within `seconds`."""
        if self._pubsub is None:
            await side.sleep(seconds)
            return False
        try:
            message = await side.ask(self._pubsub.get_message, timeout=seconds, waits=seconds)
        except Exception as error:  # noqa: BLE001 - as above
            await self._give_up(side, error)
            return False
        return message is not None and message["type"] == "message"

    async def end(self, side: Side) -> None:
        """Leave the channel."""
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            with side.shield(), suppress(Exception):
                await side.ask(getattr(pubsub, "aclose", pubsub.close))

    async def _give_up(self, side: Side, error: Exception) -> None:
        logger.debug("no news from Redis (%s): it is asked now and then instead", type(error).__name__)
        await self.end(side)


class Leases:
    """The leases of one store.

    Args:
        client: of redis-py, of either kind.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._doubts: list[Claim] = []  # the parent's claims are its own
        self._waiting = 0

    async def take(self, side: Side, name: str, channel: str, times: tuple[float, float]) -> Claim | None:
        """The lease, for the first of `times` in seconds, once it is free; None: there is news instead.

        Raises:
            StoreError: somebody else has it for longer than the second of `times`.
        """
        seconds, patience = times
        claim = Claim.of(self._client, name, seconds)
        until = time.monotonic() + patience
        try:
            if await self._try(side, claim) or await self._wait(side, claim, channel, until):
                return claim
        except BaseException:
            self._doubt(claim, seconds)
            raise
        if time.monotonic() < until:
            return None
        raise StoreError(
            "the lease to renew this token was not to be had in time: somebody has held it for longer than it may, or "
            "many failed one after the other"
        )

    async def give_back(self, side: Side, claim: Claim | None) -> None:
        """The lease to whoever wants it next."""
        if claim is None:
            return
        try:
            if not await claim.given_back(side):
                logger.debug("the lease %s had ended before it was given back", claim.name)
        except BaseException:
            self._doubt(claim, 0.0)
            raise

    async def _try(self, side: Side, claim: Claim) -> bool:
        for doubt in self._in_doubt(claim.name):
            if await doubt.given_back(side):
                self._settle(doubt)
        return await claim.made(side)

    async def _wait(self, side: Side, claim: Claim, channel: str, until: float) -> bool:
        """Whether the lease is ours in the end; if not, there is news, or time is over."""
        moment = _FIRST_MOMENT
        news = _News(self._client, may_listen=self._count(1) <= _LISTENERS)
        try:
            await news.begin(side, channel)
            while not await self._try(side, claim):
                left = until - time.monotonic()
                if left <= 0 or await news.comes(side, min(left, moment * random.uniform(0.5, 1.0))):
                    return False
                moment = min(moment * 1.5, _LAST_MOMENT)
            return True
        finally:
            self._count(-1)
            await news.end(side)

    def _count(self, more: int) -> int:
        with self._lock:
            self._waiting += more
            return self._waiting

    def _in_doubt(self, name: str) -> list[Claim]:
        if not self._doubts:
            return []
        with self._lock:
            self._doubts = [doubt for doubt in self._doubts if doubt.until > time.monotonic()]
            return [doubt for doubt in self._doubts if doubt.name == name]

    def _doubt(self, claim: Claim, seconds: float) -> None:
        """Redis may take the command as late as now: `seconds` begin anew."""
        claim.is_late = True
        claim.until = max(claim.until, time.monotonic() + seconds)
        with self._lock:
            self._doubts.append(claim)

    def _settle(self, claim: Claim) -> None:
        with self._lock, suppress(ValueError):
            self._doubts.remove(claim)
