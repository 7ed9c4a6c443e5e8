"""What comes from outside: generators without I/O that yield steps and are sent their answers.

    keep    a token is set
    leave   the session is given up

Rules.

1. What is given up leaves a mark in the store, without any token in it, so that whoever finds it knows (`_storing.py`).
   What siblings have bought with the session goes as well. A grant that spends no refresh token has no session: what is
   given up is deleted, and nobody need know.
2. It is over here at once, whatever the store and the server say.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ._entries import Entry
from ._errors import StoreError
from ._holder import Unsaved
from ._steps import Delete, Elsewhere, Load, Save, Settle
from ._storing import MAX_ROUNDS, fence, never_agrees, tell_store

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._flights import Held
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._steps import Step
    from ._terms import Renewals

__all__ = ["keep", "leave"]


def keep(source: TokenSource, entry: Entry, policy: RenewalPolicy) -> Generator[Step, Any, Held]:
    """A token that came from outside: in the store and in memory, it is the one from now on."""
    held = source.hold(entry, policy)
    for _ in range(MAX_ROUNDS):
        loaded: Entry | None = yield Load()
        if (yield Save(entry, fence(loaded))):
            source.replace(held)
            return held
    raise never_agrees()


def leave(renewals: Renewals) -> Generator[Step, Any, bool]:
    """The session is given up: here at once, in the store, and at the server (RFC 7009). Whether the server agreed.

    Whatever the server says, it is over here. A renewal in the air is waited for, a while, so that what it brings can
    be given back as well.
    """
    source = renewals.source
    had = yield from _forgotten(source, renewals.policy, marks=renewals.grant.spends)
    agreed = bool(had) or source.unsaved is None  # or else nobody knows what there still is
    for entry in {entry.stamp: entry for entry in had if not entry.is_mark}.values():
        agreed = (yield from renewals.give_back(entry)) and agreed
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
    """Put a mark in the place of what the store holds (rule 1). What it held, and the mark if it would not take it."""
    session, replaces, stored = source.left, had[0].stamp if had else None, []
    try:
        for _ in range(MAX_ROUNDS):
            loaded: Entry | None = yield Load()
            stored = [] if loaded is None else [loaded]
            if loaded is not None:
                session, replaces = loaded.session or session, loaded.stamp
            if marks:
                done = yield Save(Entry.mark(policy.clock.wall(), session), fence(loaded))
            else:
                done = loaded is None or (yield Delete(loaded.fence))
            if done:
                return stored, None
        raise never_agrees()
    except StoreError as error:
        tell_store(source, error, "what was given up may still be in it")
    return stored, Unsaved(Entry.mark(policy.clock.wall(), session), replaces) if marks else None
