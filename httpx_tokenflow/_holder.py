"""Which token counts: what is held in memory of one fingerprint, beside what the store says. Without I/O.

Rules.

1. Nothing is held, and so nothing is sent, that is not what is expected of a credential.
2. What the store holds wins, unless memory knows better (`TokenHolder.newest`).
3. What others have taken the place of does not come back, though a store after an outage, or a replica that lags, may
   still show it.
4. What the store would not take is the only copy of a session: it is kept even if nobody uses its source any more.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ._credentials import as_field
from ._errors import InvalidCredential
from ._flights import Held
from ._lifecycle import life_of, lifetime_of
from ._secrets import expectation
from ._telling import Teller

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._entries import Entry
    from ._lifecycle import RenewalPolicy
    from ._secrets import Expect
    from ._times import Clock
    from ._tokens import Token

__all__ = ["TokenHolder", "Unsaved"]

MAX_PAST = 8  # tokens of which it is remembered that they have had their time
SAME_END = 1.0  # seconds by which the end of one and the same token may move and still be the same end

_only_copies: set[TokenHolder] = set()  # kept for what they have and the store has not, though nobody uses them


class Unsaved(NamedTuple):
    """What the store would not take.

    Args:
        entry: that.
        replaces: the stamp of what it was to replace.
        again: monotonic seconds at which to try again.
        tries: in vain, so far.
    """

    entry: Entry
    replaces: str | None
    again: float = math.inf
    tries: int = 0


class TokenHolder(Teller):
    """What there is of the tokens of one fingerprint.

    Args:
        name: what logs and reprs call it: client and server.
        fingerprint: its key in the store.
        store: where its tokens live.
        present: how a token is written on the wire.
        seed: a token that the program brought, used while the store holds none.
    """

    __slots__ = ("_lock", "_policy", "_unsaved", "checks", "fingerprint", "held", "in_vain", "past", "present", "seed",
                 "store")  # fmt: skip

    def __init__(
        self, name: str, fingerprint: str, store: Any, present: Callable[[Token], str], seed: Entry | None
    ) -> None:
        super().__init__(name)
        self.fingerprint: str = fingerprint
        self.store: Any = store
        self.present: Callable[[Token], str] = present
        self.seed: Entry | None = seed
        self.held: Held | None = None
        self._unsaved: Unsaved | None = None
        self.checks: tuple[tuple[object, Callable[[str], None]], ...] = ()  # what is expected of every credential
        self.in_vain: tuple[str, ...] = ()  # notes of presentations that did not happen: the latest
        self.past: tuple[str, ...] = ()  # stamps of tokens that others have taken the place of: the latest
        self._policy: RenewalPolicy | None = None  # by which `held` was reckoned
        self._lock = threading.Lock()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._lock = threading.Lock()
        if self.held is not None and self._policy is not None:
            self.held = self._hold(self.held.entry, self._policy)  # each process draws its own early moment

    @property
    def unsaved(self) -> Unsaved | None:
        """What the store would not take."""
        return self._unsaved

    @unsaved.setter
    def unsaved(self, unsaved: Unsaved | None) -> None:
        self._unsaved = unsaved
        if unsaved is not None and unsaved.entry.token.refresh_token is not None:
            _only_copies.add(self)
        else:
            _only_copies.discard(self)

    def is_unsaved(self, entry: Entry | None) -> bool:
        """Whether `entry` is what the store would not take."""
        return self.unsaved is not None and entry is self.unsaved.entry

    def hold(self, entry: Entry, policy: RenewalPolicy) -> Held:
        """`entry` as it is held in memory: ready for the wire, its age counted on both clocks."""
        self.check(entry)
        return self._hold(entry, policy)

    def _hold(self, entry: Entry, policy: RenewalPolicy) -> Held:
        self._policy = policy
        now, now_wall = policy.clock.monotonic(), policy.clock.wall()
        age = entry.age(now_wall)
        life, before = life_of(entry, policy, policy.random()), self.held
        if before is not None and before.entry.token.access_token == entry.token.access_token:
            moved = entry.issued_at + lifetime_of(entry, policy)
            moved -= before.entry.issued_at + lifetime_of(before.entry, policy)
            if moved <= SAME_END and entry.issued_at != before.entry.issued_at:
                life = life.to_its_end()
        value = self.present(entry.token)
        born, born_wall = now - age, now_wall - age
        held = Held(entry, as_field(value), entry.wire_stamp, life, born, born_wall, 0.0, 0.0, 0.0)
        return held.looked_after(life.early)

    def expect(self, expected: Expect | None) -> None:
        """Have every credential checked before it is held, and so before it is sent; first the one at hand.

        Raises:
            InvalidCredential: that one is not what is expected.
        """
        if expected is None:
            return
        check = expectation(expected)
        for entry in (self.seed, self.held.entry if self.held is not None else None):
            if entry is not None and not entry.token.is_for_refresh and not entry.is_mark:
                check(entry.token.access_token)
        name = repr(expected) if isinstance(expected, Mapping) else expected
        self.checks = (*[one for one in self.checks if one[0] != name], (name, check))

    def check(self, entry: Entry) -> None:
        """Nothing, if `entry` is what is expected of every credential.

        Raises:
            InvalidCredential: it is not.
        """
        for _, check in () if entry.token.is_for_refresh else self.checks:
            check(entry.token.access_token)

    def is_expected(self, entry: Entry) -> bool:
        """Whether `entry` is what is expected of every credential; what belongs elsewhere does not serve."""
        try:
            self.check(entry)
        except InvalidCredential:
            return False
        return True

    def newer(self, refused: Held | None, clock: Clock) -> Held | None:
        """What is held, if it is another token than `refused`, and not due."""
        held = self.held
        if held is None or (refused is not None and held.stamp == refused.stamp):
            return None
        return held if held.age(clock) < held.life.due else None

    def usable(self, clock: Clock, refused: Held | None = None) -> Held | None:
        """What is held, if it has not ended and is another token than `refused`."""
        held = self.held
        if held is None or held.left(clock) <= 0 or (refused is not None and held.stamp == refused.stamp):
            return None
        return held

    def _outlive(self, had: Held | None, held: Held | None) -> None:
        """`had` has had its time: the store may still hold it after an outage, and it does not come back."""
        stamps = [*self.past, *([] if had is None else [had.stamp])]
        now = None if held is None else held.stamp
        self.past = tuple([stamp for stamp in dict.fromkeys(stamps) if stamp != now][-MAX_PAST:])

    def is_past(self, entry: Entry) -> bool:
        """Whether `entry` has had its time in this process."""
        return bool(self.past) and entry.wire_stamp in self.past

    def forget(self, stamp: str, clock: Clock) -> None:
        """The token `stamp`, if it is held, cannot be renewed: it is used until it ends, unless it was refused."""
        with self._lock:
            held = self.held
            if held is not None and held.entry.stamp == stamp:
                self.held = None if held.left(clock) <= 0 else held.having(entry=held.entry.spent())
            if self.seed is not None and self.seed.stamp == stamp:
                self.seed = None

    def note_in_vain(self, marked: Entry) -> None:
        """`marked` says that a refresh token was presented, and it was not: who finds the note here knows better."""
        with self._lock:
            self.in_vain = (*self.in_vain[1 - MAX_PAST :], marked.note)

    def is_in_vain(self, entry: Entry) -> bool:
        """Whether the note on `entry` is of a presentation that did not happen."""
        return bool(self.in_vain) and entry.note in self.in_vain

    def newest(self, loaded: Entry | None) -> Entry | None:  # noqa: PLR0911 - a table
        """What to go by: the store's entry, unless memory knows better.

        Memory knows better if it has the successor of what is stored, which the store would not take; or if what is
        stored is spent, and the program came with a token of another login. A mark that the store would not take is for
        all of its session, however often that has been renewed meanwhile.
        """
        unsaved, held = self.unsaved, self.held
        if unsaved is not None and unsaved.replaces == (loaded.stamp if loaded else None):
            return unsaved.entry
        if unsaved is not None and loaded is not None and not loaded.is_spent and self.is_past(loaded):
            return unsaved.entry
        if unsaved is not None and loaded is not None and unsaved.entry.is_mark:
            return unsaved.entry if _covers(unsaved.entry, loaded) else loaded
        if loaded is None:
            return held.entry if held else self.seed
        if held is not None and self._went_back(held.entry, loaded):
            return held.entry
        if not loaded.is_spent:
            self.seed = None  # it has had its time: what came after it may end, but it does not come back
        # A mark is news to who has a session in memory, whatever the program came with before that.
        is_over = loaded.is_spent and not (loaded.is_mark and held is not None)
        if is_over and self.seed is not None and self.seed.session != loaded.session:
            return self.seed
        return loaded

    def _went_back(self, held: Entry, loaded: Entry) -> bool:
        """Whether the store has gone back in time: a replica of Redis that lags, a backup."""
        is_alive = not loaded.is_spent and not held.is_spent
        return is_alive and held.session == loaded.session and self.is_past(loaded) and not self.is_past(held)


def _covers(mark: Entry, loaded: Entry) -> bool:
    """Whether `mark` is for `loaded`: of its session; or of one that nobody could name, and what is older than it."""
    return mark.session == loaded.session if mark.session else loaded.issued_at <= mark.issued_at
