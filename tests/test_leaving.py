"""Leaving is final: whatever is under way, here or elsewhere, and whatever the store says."""

from __future__ import annotations

import pytest
from hand import Hand, ReadTimeout

from httpx_tokenflow import ReauthenticationRequired, StoreError, Token
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._outside import keep, leave
from httpx_tokenflow._steps import Fetch, Load, Save, Settle
from httpx_tokenflow.events import Revoked


def test_nothing_is_left_here_or_in_the_store() -> None:
    """The tokens go back to the server, a mark without a token stays, and a request says to log in again."""
    hand = Hand()
    hand.has(hand.entry("1"))
    assert hand.run(leave(hand.renewals)) is True
    assert hand.value is None
    assert hand.stored.is_mark
    assert hand.grants() == ["revoke r1", "revoke a1"]
    assert hand.told == [Revoked(source="f", agreed=True)]
    with pytest.raises(ReauthenticationRequired):
        hand.token()
    assert hand.grants() == ["revoke r1", "revoke a1"]


def test_a_refresh_token_alone_is_given_back_alone() -> None:
    """Where there is no access token yet the server is not asked to revoke one."""
    hand = Hand()
    hand.has(Entry.of_login(Token.for_refresh("r1"), hand.now))
    assert hand.run(leave(hand.renewals)) is True
    assert hand.grants() == ["revoke r1"]


def test_a_server_that_does_not_answer_changes_nothing_here() -> None:
    """False, and it is over here all the same."""
    hand = Hand()
    hand.has(hand.entry("1"))
    hand.answers = [ReadTimeout]
    assert hand.run(leave(hand.renewals)) is False
    assert hand.stored.is_mark


def test_what_takes_off_before_the_mark_is_stored_brings_nothing_back() -> None:
    """A request that finds the old token in the store meanwhile cannot leave it in memory."""
    hand = Hand()
    hand.has(hand.entry("1"))
    hand.before[Save] = hand.token
    hand.run(leave(hand.renewals))
    assert hand.value is None


def test_nor_does_a_flight_that_lands_later() -> None:
    """The same, for one that is still in the air when everything is over."""
    hand = Hand()
    hand.has(hand.entry("1"))
    flights = []
    hand.before[Save] = lambda: flights.append(hand.source.board(hand.policy).flight)
    hand.run(leave(hand.renewals))
    hand.source.land(flights[0], hand.source.hold(hand.entry("1"), hand.policy))
    assert hand.value is None
    assert isinstance(flights[0].future.exception(0), ReauthenticationRequired)


def test_a_renewal_elsewhere_finds_the_mark_and_gives_back_what_it_brought() -> None:
    """In another process: what it has is not stored, not held, and revoked; nor is what it held before."""
    here = Hand()
    first = here.has(here.entry("1"))
    there = Hand(store=here.store)
    there.source.held = there.source.hold(first, there.policy)
    flight = there.refused()
    there.before[Fetch] = lambda: here.run(leave(here.renewals))
    there.fly(flight)
    assert isinstance(flight.future.exception(0), ReauthenticationRequired)
    assert there.value is None
    assert there.stored.is_mark
    assert there.grants() == ["refresh_token", "revoke next1", "revoke new1"]


def test_who_finds_the_mark_forgets_the_session_and_its_siblings() -> None:
    """An early renewal in another process ends what that had in memory, at once."""
    here = Hand()
    first = here.has(here.entry("1"))
    there = Hand(store=here.store)
    there.source.held = there.source.hold(first, there.policy)
    sibling = there.sibling()
    there.token(sibling)
    assert sibling.source.held is not None
    here.run(leave(here.renewals))
    there.now += 3000
    flight = there.source.board(there.policy).flight
    there.fly(flight)
    assert there.value is None
    assert sibling.source.held is None
    assert there.source.logged_out


def test_a_process_that_had_no_session_may_log_in_over_an_old_mark() -> None:
    """The mark speaks to who had the session; a program that starts later opens one."""
    here = Hand("login")
    here.has(here.entry("1"))
    here.run(leave(here.renewals))
    assert Hand("login", here.store).token() == "new1"


def test_after_that_a_login_wants_to_be_asked_for() -> None:
    """A request raises; `warm` forgives, and there is a session again."""
    hand = Hand("login")
    hand.has(hand.entry("1"))
    hand.run(leave(hand.renewals))
    with pytest.raises(ReauthenticationRequired):
        hand.token()
    hand.source.forgive()
    assert hand.token() == "new1"
    assert not hand.source.logged_out


def test_a_session_from_elsewhere_ends_that() -> None:
    """Another process has logged in: its session serves here, and when it is over a login may follow."""
    hand = Hand("login")
    hand.has(hand.entry("1"))
    hand.run(leave(hand.renewals))
    hand.has(hand.entry("2", session="t"), held=False)
    assert hand.token() == "a2"
    assert not hand.source.logged_out


@pytest.mark.parametrize("broken", [Load, Save])
def test_a_store_that_is_down_keeps_nothing_alive(broken: type) -> None:
    """It could not be told; when it is back, what it holds counts for nothing here."""
    hand = Hand()
    hand.has(hand.entry("1"))
    hand.broken = {broken}
    assert hand.run(leave(hand.renewals)) is True
    hand.broken = set()
    with pytest.raises(ReauthenticationRequired):
        hand.token()
    assert hand.value is None


def test_an_outdated_flight_leaves_no_unsaved_token() -> None:
    """A renewal whose store fails after somebody has left does not keep what it brought for the next."""
    hand = Hand()
    hand.has(hand.entry("1"))
    flight = hand.refused()

    def go() -> None:
        hand.source.leave()
        hand.broken = {Save}

    hand.before[Fetch] = go
    hand.fly(flight)
    assert hand.source.unsaved is None
    assert [entry.token.access_token for entry in hand.source.orphans] == ["new1"]
    hand.broken = set()
    hand.run(leave(hand.renewals))
    assert "revoke next1" in hand.grants()


def test_twice_at_once_is_once() -> None:
    """The second, in the middle of the first, changes nothing: and the mark names the session."""
    hand = Hand()
    first = hand.has(hand.entry("1"))
    del hand.store._entries["f"]
    hand.source.seed = first
    hand.before[Settle] = lambda: hand.run(leave(hand.renewals))
    hand.run(leave(hand.renewals))
    assert hand.stored.is_mark
    assert hand.stored.session == "s"
    assert hand.grants() == ["revoke r1", "revoke a1"]


def test_a_token_set_meanwhile_stays() -> None:
    """Who sets a token while somebody leaves is not undone by the end of that, nor is that token given back."""
    hand = Hand()
    hand.has(hand.entry("1"))
    two = hand.entry("2", session="t")
    hand.before[Settle] = lambda: hand.source.replace(hand.source.hold(two, hand.policy))
    hand.run(leave(hand.renewals))
    assert hand.value == "Bearer a2"
    assert "revoke r2" not in hand.grants()


def test_what_the_program_came_with_long_before_does_not_outdo_the_mark() -> None:
    """A process that has had another session since does not go back to its first token."""
    here = Hand()
    two = here.has(here.entry("2", session="t"))
    there = Hand(store=here.store)
    there.source.seed = there.entry("1")
    there.source.held = there.source.hold(two, there.policy)
    here.run(leave(here.renewals))
    there.fly(there.refused())
    with pytest.raises(ReauthenticationRequired):
        there.token()
    assert there.forms == []


def test_a_token_without_a_session_is_simply_got_again() -> None:
    """Client credentials: who waited for a renewal while somebody left is served with another."""
    hand = Hand("client")
    hand.has(hand.entry("1", session=""), held=False)
    hand.now += 4000
    hand.before[Fetch] = lambda: hand.run(leave(hand.renewals))
    assert hand.token() == "new1"
    assert hand.source.orphans == ()


def test_client_credentials_take_the_place_of_a_mark() -> None:
    """A renewal elsewhere that finds it when it saves has nothing to do with what was given up."""
    hand = Hand("client")
    hand.before[Fetch] = lambda: hand.store.save("f", Entry.mark(hand.now, ""), replaces=None)
    assert hand.token() == "new1"
    assert hand.stored.token.access_token == "new1"


def test_set_token_needs_the_store() -> None:
    """A token that could not be stored is not set: nothing has changed."""
    hand = Hand()
    hand.broken = {Save}
    with pytest.raises(StoreError):
        hand.run(keep(hand.source, hand.entry("1"), hand.policy))
    assert hand.value is None
