"""The keys that an issuer publishes as a JWK Set (RFC 7517 §5): when they are read, and what else costs nothing.

Rules.

1. The set is read when it is first needed, once for everybody, and again when three quarters of `max_age` are over:
   that is done aside, and nobody waits for it, also where the issuer takes its time. A key that is not in the new set
   verifies nothing from then on. Where the set is not to be had, the last one serves for a day beyond `max_age`, and no
   longer; its age is what the clock says that says more, since one of them stands still while a machine sleeps.
2. A token whose key is unknown may have been signed with a new one, and so may one whose signature is bad, since some
   issuers use a name again: so the set is read again for it. But tokens are easy to make up: that is done at most once
   per `cooldown`, counted from the last time it was read for whatever reason. Who comes in between is refused at once.
3. After a failure the set is left alone for a while (`_pauses`), up to `cooldown`, or as long as the issuer asks for,
   five minutes at most. Who needs it meanwhile, and has no older one, gets the same error without a request. A set
   without a single key of use is a failure, too.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import httpx

from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._errors import TokenEndpointUnavailable, TokenFlowError
from httpx_tokenflow._forks import renew_after_fork
from httpx_tokenflow._lifecycle import RenewalPolicy
from httpx_tokenflow._metadata import Metadata, Server, read_document
from httpx_tokenflow._steps import Fetch
from httpx_tokenflow._token_client import TokenClient

from ._keys import KeySet, read_keys
from ._once import Once
from ._pauses import Pauses

if TYPE_CHECKING:
    from collections.abc import Generator

    from httpx_tokenflow._steps import Step
    from httpx_tokenflow._times import Clock

__all__ = ["PublishedKeys"]

AHEAD = 0.75  # of max_age, after which the set is read again aside
STALE = 86_400.0  # seconds beyond max_age for which the last set serves
READING = 10.0  # seconds for finding and reading the set, all in all: each request gets half of what is left
PATIENCE = 15.0  # seconds for which anybody waits for that


class PublishedKeys:
    """Keys that an issuer publishes.

    Args:
        issuer: whose metadata name the place, where `uri` is None.
        uri: the place.
        max_age: seconds.
        cooldown: seconds.
        client: a client of httpx or httpx2; None for our own.
        verify: how our own verifies certificates.
        clock: for all that.
    """

    def __init__(
        self, issuer: str, uri: str | None, *, max_age: float, cooldown: float, client: Any, verify: Any, clock: Clock
    ) -> None:
        self._uri = uri
        self._server = Server(issuer=issuer, endpoints={}) if uri is None else None
        if uri is not None:
            Metadata(None, {"jwks_uri": uri}).endpoint("jwks_uri")  # sees whether a request may go there
        self._max_age, self._cooldown = max_age, cooldown
        self._client = TokenClient.of(client, verify, RenewalPolicy(), None)
        self._clock = clock
        self._set: KeySet | None = None
        self._read_at = -math.inf, -math.inf  # by both clocks
        self._begun_at = -math.inf
        self._pauses = Pauses(cooldown, clock)
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # guards the bookkeeping, never waiting
        self._reading: Once[KeySet] | None = None

    def ready(self) -> KeySet | None:
        """The keys, if they are at hand; it may be that they are read again meanwhile (rule 1)."""
        age = self._age()
        if self._set is None or age >= self._max_age + STALE:
            return None
        if age >= self._max_age * AHEAD:
            self._read()
        return self._set

    async def current(self) -> KeySet:
        """The keys; read first if there are none that may serve.

        Raises:
            TokenFlowError: there are none, and none are to be had now.
        """
        found = self.ready()
        if found is not None:
            return found
        reading = self._read()
        if reading is None:
            raise self._pauses.error("the issuer's keys cannot be read now")
        return await reading.result()

    async def newer(self, seen: KeySet) -> KeySet:
        """The keys, read again unless that has been done a moment ago (rule 2)."""
        if self._set is not None and self._set is not seen:
            return self._set
        reading = self._read(for_unknown=True)
        if reading is None:
            return seen
        try:
            return await reading.result()
        except TokenFlowError:
            return seen

    def _age(self) -> float:
        """Seconds since the set was read, by whichever clock says more (rule 1)."""
        monotonic, wall = self._read_at
        return max(self._clock.monotonic() - monotonic, self._clock.wall() - wall)

    def _read(self, *, for_unknown: bool = False) -> Once[KeySet] | None:
        """The reading under way, or a new one; None where there must be none now (rules 2 and 3)."""
        now = self._clock.monotonic()
        with self._lock:
            reading, lost = self._reading, None
            if reading is not None and not reading.is_over:
                if now < self._begun_at + PATIENCE:
                    return reading
                lost = reading
            if lost is None and (self._pauses.is_on or (for_unknown and now < self._begun_at + self._cooldown)):
                return None
            self._begun_at = now
            reading = self._reading = Once(self._fetched, "reading the issuer's keys", PATIENCE)
        if lost is not None:
            lost.give_up()
        reading.begin(lambda: None)
        return reading

    async def _fetched(self) -> KeySet:
        row = self._pauses.row
        try:
            found = await self._perform(self._find())
        except TokenFlowError as error:
            then = "there are no older ones" if self._set is None else "the older ones serve on"
            self._pauses.failed(error, row, then)
            raise
        self._set, self._read_at = found, (self._clock.monotonic(), self._clock.wall())
        self._pauses.over()
        return found

    def _find(self) -> Generator[Step, Any, KeySet]:
        attempt = Attempt(None, self._clock.monotonic() + READING, self._clock)
        uri = self._uri
        if self._server is not None:
            metadata = yield from self._server.find(attempt)
            uri = metadata.endpoint("jwks_uri")
        assert uri is not None  # noqa: S101 - one of the two is there
        status, document = yield from read_document(uri, "the issuer's key set", attempt)
        listed = None if document is None else document.get("keys")
        keys = read_keys(listed) if isinstance(listed, list) else []
        if not keys:
            if self._server is not None:
                self._server.doubt(metadata)
            what = "is none" if listed is None else "has no key that could verify a token"
            raise TokenEndpointUnavailable(
                f"the issuer's key set {what} ({status}; RFC 7517 §5): check jwks_uri= and issuer=",
                outcome="not sent",
                status=status,
            )
        return KeySet(keys, named=True)

    async def _perform(self, flow: Generator[Step, Any, KeySet]) -> KeySet:
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as end:
                found: KeySet = end.value
                return found
            answer = error = None
            assert isinstance(step, Fetch)  # noqa: S101 - reading takes nothing else
            try:
                answer = await self._client.asend(step.request, step.timeout, httpx)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed
