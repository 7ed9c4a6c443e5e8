"""The heart, driven by hand: one step at a time, as a debugger would."""

from __future__ import annotations

import math
import ssl
from typing import Any, ClassVar

import pytest
from world import Sending

from httpx_tokenflow import (
    ClientCredentials,
    ConfigurationError,
    ReauthenticationRequired,
    RefreshToken,
    RenewalPolicy,
    StepUpRequired,
    StoreError,
    Token,
    TokenEndpointUnavailable,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._flights import Flight, Held
from httpx_tokenflow._flow import Verdict, authorize, current, verdict
from httpx_tokenflow._outside import keep
from httpx_tokenflow._renewal import renew
from httpx_tokenflow._sources import TokenSource
from httpx_tokenflow._steps import (
    Answer,
    Drain,
    Fetch,
    Keep,
    Launch,
    Lease,
    Load,
    Release,
    Save,
    Send,
    Sleep,
    Wait,
    Work,
)
from httpx_tokenflow._terms import Renewals
from httpx_tokenflow._times import Clock
from httpx_tokenflow.events import Why
from httpx_tokenflow.stores import MemoryStore

URL = "https://as.example/token"
REFUSED = Answer(401)
FINE = Answer(200)


@pytest.fixture(autouse=True)
def _renewals_are_only_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a renewal that a request leads to a test sees no more than which flight it is for."""
    monkeypatch.setattr("httpx_tokenflow._flow.lead", lambda flight, _renewals: ("renewal", flight))


@pytest.fixture(autouse=True)
def _notes_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpx_tokenflow._entries._new_note", lambda: "note")


class Time:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def policy(time: Time) -> RenewalPolicy:
    return RenewalPolicy(clock=Clock(monotonic=time, wall=time), random=lambda: 0.5)


@pytest.fixture
def source() -> TokenSource:
    return TokenSource("c@as.example", "f", MemoryStore(), lambda token: f"Bearer {token.access_token}")


def entry(access: str, time: Time, lifetime: float = 600.0, refresh: str | None = "rt") -> Entry:
    return Entry(Token(access, refresh_token=refresh), time(), lifetime, session="s")


def hold(source: TokenSource, policy: RenewalPolicy, one: Entry) -> Held:
    source.held = source.hold(one, policy)
    return source.held


def renewals(source: TokenSource, policy: RenewalPolicy, grant: Any = None, **options: Any) -> Renewals:
    return Renewals(source, grant or TestRenewal.grants["client"], policy, **options)


def begin(source: TokenSource, policy: RenewalPolicy, *, renewable: bool = True, **sending: bool) -> Any:
    return authorize(source, policy, renewals(source, policy) if renewable else None, Sending(**sending))


def look(source: TokenSource, policy: RenewalPolicy) -> TokenEndpointUnavailable:
    """The error that answers while a failure is fresh, after a look into the store and nothing else."""
    flight = next(begin(source, policy)).flight
    assert flight.why is Why.BACKED_OFF
    flow = renew(flight, renewals(source, policy))
    assert next(flow) == Load()
    with pytest.raises(TokenEndpointUnavailable) as caught:
        flow.send(None)
    assert source.status(policy).last_error is caught.value
    source.fail(flight, caught.value)
    return caught.value


def ends(flow: Any, answer: Any = None) -> Any:
    """The end of `flow`; a refusal that stands may be explained before (`Work`)."""
    try:
        step = flow.send(answer)
    except StopIteration as end:
        return end.value
    assert isinstance(step, Work), step
    with pytest.raises(StopIteration) as caught:
        flow.send(step.function())
    return caught.value.value


def answered(body: str, status: int = 200, **headers: str) -> ServerResponse:
    return ServerResponse(status, headers, body.encode())


NEW = answered('{"access_token": "new", "expires_in": 600}')
ROTATED = answered('{"access_token": "new", "refresh_token": "rt2", "expires_in": 600}')
REFUSED_GRANT = answered('{"error": "invalid_grant"}', 400)
NOT_NOW = answered("", 503)


class ConnectError(Exception):
    pass


class ReadTimeout(Exception):  # noqa: N818
    pass


class ProxyError(Exception):
    pass


class TestRequest:
    """The life of a request."""

    def test_a_fresh_token_is_sent(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """With a fresh token there is one step, and a good answer ends the flow."""
        held = hold(source, policy, entry("a", time))
        flow = begin(source, policy)
        assert next(flow) == Send(held)
        ends(flow, FINE)

    def test_without_a_token_it_waits_for_one(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """Without a token the request leads a flight, and sends what it brings."""
        flow = begin(source, policy)
        step = next(flow)
        assert isinstance(step, Wait)
        assert step.renewal == ("renewal", step.flight)
        assert not step.flight.replaces
        held = source.hold(entry("a", time), policy)
        assert flow.send(held) == Send(held)

    def test_who_comes_second_joins(self, source: TokenSource, policy: RenewalPolicy) -> None:
        """A second request joins the flight and does not fly it."""
        first, second = next(begin(source, policy)), next(begin(source, policy))
        assert second.flight is first.flight
        assert second.renewal is None

    def test_a_401_is_drained_then_renewed_then_sent_again(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A 401 for the current token: read it, renew, send again (F26: reading comes before waiting)."""
        old = hold(source, policy, entry("old", time))
        flow = begin(source, policy)
        next(flow)
        assert flow.send(REFUSED) == Drain()
        wait = flow.send(None)
        assert wait.renewal == ("renewal", wait.flight)
        assert wait.flight.replaces == {old.entry.stamp, old.stamp}
        new = source.hold(entry("new", time), policy)
        wait.flight.minted = True
        source.land(wait.flight, new)
        assert flow.send(new) == Send(new)
        ends(flow, FINE)

    def test_a_second_401_is_given_back(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """A 401 for the token that a renewal has just brought is given back: two sends, one renewal (F49)."""
        hold(source, policy, entry("old", time))
        flow = begin(source, policy)
        next(flow)
        flow.send(REFUSED)
        wait = flow.send(None)
        wait.flight.minted = True
        new = source.hold(entry("new", time), policy)
        source.land(wait.flight, new)
        flow.send(new)
        ends(flow, REFUSED)

    def test_a_late_401_takes_the_current_token(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """A 401 for a token that is no longer the current one costs no renewal (F50)."""
        hold(source, policy, entry("old", time))
        flow = begin(source, policy)
        next(flow)
        new = hold(source, policy, entry("new", time))
        assert flow.send(REFUSED) == Drain()
        assert flow.send(None) == Send(new)

    def test_taking_over_does_not_spend_the_renewal(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """After a newer token was taken over and refused, a renewal is still to be had; three sends at most."""
        hold(source, policy, entry("one", time))
        time.now += 60
        flow = begin(source, policy)
        next(flow)
        hold(source, policy, entry("two", time))
        flow.send(REFUSED)
        flow.send(None)
        assert flow.send(REFUSED) == Drain()
        wait = flow.send(None)
        assert isinstance(wait, Wait)
        wait.flight.minted = True
        three = source.hold(entry("three", time), policy)
        source.land(wait.flight, three)
        assert flow.send(three) == Send(three)
        ends(flow, REFUSED)

    def test_three_sends_at_most(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """Where others find one token after the other, and each is refused, the third 401 is given back."""
        hold(source, policy, entry("one", time))
        flow = begin(source, policy)
        next(flow)
        for access in ("two", "three"):
            newer = hold(source, policy, entry(access, time))
            assert flow.send(REFUSED) == Drain()
            assert flow.send(None) == Send(newer)
        hold(source, policy, entry("four", time))
        ends(flow, REFUSED)

    def test_a_flight_that_brings_the_refused_token_is_no_answer(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A flight that took off earlier and lands with the token just refused: renew again."""
        old = hold(source, policy, entry("old", time))
        flow = begin(source, policy)
        next(flow)
        flow.send(REFUSED)
        first = flow.send(None)
        source.land(first.flight, old)
        second = flow.send(old)
        assert isinstance(second, Wait)
        assert second.flight is not first.flight

    def test_while_a_refused_token_is_replaced_nobody_takes_it(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Requests that begin during a renewal that a 401 caused wait for it (F50)."""
        hold(source, policy, entry("old", time))
        flow = begin(source, policy)
        next(flow)
        flow.send(REFUSED)
        wait = flow.send(None)
        assert next(begin(source, policy)).flight is wait.flight

    def test_a_refused_token_is_current_again_if_the_renewal_fails(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A token that one API has refused may serve elsewhere while no other can be had (rule 8 of the design)."""
        old = hold(source, policy, entry("old", time))
        flow = begin(source, policy)
        next(flow)
        flow.send(REFUSED)
        wait = flow.send(None)
        source.fail(wait.flight, TokenEndpointUnavailable("down", outcome="not sent"))
        assert source.held is not None
        assert source.held.stamp == old.stamp
        assert next(begin(source, policy)).held is source.held

    @pytest.mark.parametrize("how", [{"retry": False}, {"renewable": False}])
    def test_what_is_not_to_be_mended_is_given_back(
        self, source: TokenSource, policy: RenewalPolicy, time: Time, how: dict[str, bool]
    ) -> None:
        """With retry switched off, or nothing to renew with, the 401 is the answer."""
        hold(source, policy, entry("a", time))
        flow = begin(source, policy, **how)
        next(flow)
        ends(flow, REFUSED)

    def test_a_body_that_cannot_be_replayed(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """The 401 is given back at once, unread, and a renewal is seen off for the next request (F37)."""
        hold(source, policy, entry("a", time))
        flow = begin(source, policy, replayable=False)
        next(flow)
        step = flow.send(REFUSED)
        assert isinstance(step, Launch)
        assert step.until < time(), "nobody waits for it"
        ends(flow)
        assert next(begin(source, policy)).flight is step.flight

    def test_a_body_that_cannot_be_replayed_joins_silently(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """If a renewal is under way there is none to see off; if one has just failed, only the store is looked into."""
        hold(source, policy, entry("a", time))
        flows = [begin(source, policy, replayable=False) for _ in range(3)]
        for flow in flows:
            next(flow)
        wait = flows[0].send(REFUSED)
        ends(flows[1], REFUSED)
        source.fail(wait.flight, TokenEndpointUnavailable("down", outcome="not sent"))
        assert flows[2].send(REFUSED).flight.why is Why.BACKED_OFF

    def test_a_late_401_of_a_body_that_cannot_be_replayed(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """If somebody has renewed meanwhile, the 401 is given back and nothing else happens (F50)."""
        hold(source, policy, entry("old", time))
        flow = begin(source, policy, replayable=False)
        next(flow)
        hold(source, policy, entry("new", time))
        ends(flow, REFUSED)

    def test_a_failed_renewal_is_raised_to_each(self, source: TokenSource, policy: RenewalPolicy) -> None:
        """What the driver throws in comes out of the flow."""
        flow = begin(source, policy)
        next(flow)
        with pytest.raises(TokenRequestError):
            flow.throw(TokenRequestError("no"))

    def test_after_a_failure_the_same_error_answers_for_a_while(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Right after a failure no flight takes off; a second later one does (F55, F56)."""
        wait = next(begin(source, policy))
        source.fail(wait.flight, TokenEndpointUnavailable("down", outcome="not sent"))
        assert look(source, policy).retry_after is None
        time.now += 1.0
        assert next(begin(source, policy)).flight.why is Why.MISSING

    def test_retry_after_is_waited_for(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """For as long as the server asked, the error answers without a token request (F57)."""
        wait = next(begin(source, policy))
        source.fail(wait.flight, TokenEndpointUnavailable("", outcome="answered", retry_after=120))
        time.now += 119
        assert look(source, policy).retry_after == 120
        time.now += 2
        assert next(begin(source, policy)).flight.why is Why.MISSING

    def test_a_step_up_is_raised_and_never_renewed(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """RFC 9470: the answer is read, and an error says which login is wanted."""
        hold(source, policy, entry("a", time))
        flow = begin(source, policy)
        next(flow)
        field = 'Bearer error="insufficient_user_authentication", acr_values="gold", max_age="5", scope="x"'
        assert flow.send(Answer(401, (field,))) == Drain()
        with pytest.raises(StepUpRequired) as caught:
            flow.send(None)
        assert (caught.value.acr_values, caught.value.max_age, caught.value.scope) == ("gold", 5, "x")

    def test_insufficient_scope_is_told(
        self, source: TokenSource, policy: RenewalPolicy, time: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A 403 insufficient_scope is given back, and the log says what scope the API asks for (F52)."""
        hold(source, policy, entry("a", time))
        flow = begin(source, policy)
        next(flow)
        ends(flow, Answer(403, ('Bearer error="insufficient_scope", scope="orders:write"',)))
        assert "orders:write" in caplog.text

    def test_a_token_for_elsewhere(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """`current` gives the fresh token, or waits for one."""
        flow = current(renewals(source, policy))
        wait = next(flow)
        held = source.hold(entry("a", time), policy)
        source.land(wait.flight, held)
        assert ends(flow, held) is held
        assert ends(current(renewals(source, policy))) is held


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (Answer(200), Verdict.GIVE_BACK),
        (Answer(401), Verdict.RENEW),
        (Answer(401, ours=False), Verdict.GIVE_BACK),
        (Answer(200, expired=True), Verdict.RENEW),
        (Answer(200, expired=True, ours=False), Verdict.GIVE_BACK),
        (Answer(403), Verdict.GIVE_BACK),
        (Answer(407, ("Basic realm=x",)), Verdict.GIVE_BACK),
        (Answer(401, ('Bearer error="invalid_token"',)), Verdict.RENEW),
        (Answer(401, ("Bearer",)), Verdict.RENEW),
        (Answer(401, ("Basic realm=x",)), Verdict.RENEW),
        (Answer(401, ('Bearer error="invalid_request"',)), Verdict.GIVE_BACK),
        (Answer(401, ('Bearer error="insufficient_scope"',)), Verdict.STEP_UP),
        (Answer(401, ('DPoP error="invalid_request"', 'Bearer error="invalid_token"')), Verdict.RENEW),
        (Answer(401, ('Basic realm=x, Bearer error="invalid_request"',)), Verdict.GIVE_BACK),
        (Answer(401, ('Bearer error="insufficient_user_authentication"',)), Verdict.STEP_UP),
        (Answer(403, ('Bearer error="insufficient_scope"',)), Verdict.STEP_UP),
        (Answer(401, ('DPoP error="use_dpop_nonce"',), nonce=True), Verdict.NONCE),
        (Answer(401, ('DPoP error="use_dpop_nonce"',)), Verdict.GIVE_BACK),
        (Answer(401, ('\x00,,="',)), Verdict.RENEW),
    ],
)
def test_the_verdict(answer: Answer, what: Verdict) -> None:
    """Whether an answer is ours to mend follows from status, challenges and credential (F20, F52, F53)."""
    assert verdict(answer)[0] is what


class TestRenewal:
    """One renewal."""

    grants: ClassVar = {
        "client": ClientCredentials(URL, client_id="c", client_secret="s"),
        "refresh": RefreshToken(URL, client_id="c"),
    }

    def start(self, source: TokenSource, policy: RenewalPolicy, kind: str, refused: str | None = None) -> Any:
        self.flight = Flight(0, policy, Why.MISSING, frozenset([refused] if refused else []))
        return renew(self.flight, renewals(source, policy, self.grants[kind]))

    def to_fetch(self, flow: Any, stored: Entry | None = None, marks: bool = True) -> Any:
        """Through the steps that come before every token request."""
        assert next(flow) == Load()
        step = flow.send(stored)
        assert step in (Lease(40.0, 41.0), Lease(40.0, 30.0))
        assert flow.send(None) == Load()
        step = flow.send(stored)
        if stored is not None and marks:
            assert step == Save(stored.marked(stored.presented + 1), stored.fence)
            step = flow.send(True)
        assert isinstance(step, Fetch)
        return step

    def test_client_credentials(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """Load, lease, load, fetch, save, release; then the token is there."""
        flow = self.start(source, policy, "client")
        fetch = self.to_fetch(flow)
        assert dict(fetch.request.form) == {"grant_type": "client_credentials"}
        assert flow.send(NEW) == Save(Entry(Token("new", expires_at=time() + 600), time(), 600.0), None)
        assert flow.send(True) == Release()
        held = ends(flow)
        assert held.value == "Bearer new"
        assert held.fresh_until == time() + 400
        assert self.flight.minted

    def test_what_somebody_else_has_brought(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """A fresh token in the store ends the renewal before any lease, or after it, without a token request."""
        theirs = entry("theirs", time)
        flow = self.start(source, policy, "client")
        next(flow)
        assert ends(flow, theirs).value == "Bearer theirs"
        flow = self.start(source, policy, "client")
        next(flow)
        flow.send(None)
        flow.send(None)
        assert flow.send(theirs) == Release()
        assert ends(flow).value == "Bearer theirs"
        assert not self.flight.minted

    def test_the_refused_token_in_the_store_is_not_brought_again(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """What was refused does not serve, however fresh the store thinks it is."""
        refused = entry("refused", time)
        flow = self.start(source, policy, "refresh", refused.stamp)
        assert dict(self.to_fetch(flow, refused).request.form)["refresh_token"] == "rt"

    def test_a_refresh_token_is_marked_before_it_is_presented(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """The mark is in the store before the request leaves; the answer replaces entry and mark in one write."""
        old = entry("old", time, lifetime=0)
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, old)
        saved = flow.send(ROTATED)
        assert saved.replaces == old.marked(1).fence
        assert (saved.entry.token.refresh_token, saved.entry.presented, saved.entry.session) == ("rt2", 0, "s")
        assert flow.send(True) == Release()

    def test_a_mark_that_comes_too_late_starts_over(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """If the store holds something else by now, that is what to go by; nothing is presented."""
        old, login = entry("old", time, lifetime=0), entry("login", time)
        flow = self.start(source, policy, "refresh")
        next(flow)
        flow.send(old)
        flow.send(None)
        flow.send(old)
        assert flow.send(False) == Load()
        assert flow.send(login) == Release()
        assert ends(flow).value == "Bearer login"

    def test_expiry_is_counted_from_when_the_request_was_sent(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """An answer that was long on its way does not make the token younger (F74)."""
        flow = self.start(source, policy, "client")
        self.to_fetch(flow)
        time.now += 20
        saved = flow.send(NEW)
        assert saved.entry.issued_at == time() - 20
        assert saved.entry.token.expires_at == time() + 580

    def test_not_sent_is_tried_again(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """A request that never left is tried again, also with a refresh token, after a jittered pause."""
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, entry("old", time, lifetime=0))
        assert flow.throw(ConnectError()) == Sleep(0.25)
        assert isinstance(flow.send(None), Fetch)
        assert flow.throw(ConnectError()) == Sleep(0.5)
        assert isinstance(flow.send(None), Fetch)

    def test_when_attempts_are_used_up_the_mark_is_taken_back(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A refresh token that was surely not spent is as good as before (F07)."""
        old = entry("old", time, lifetime=0)
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, old)
        for _ in range(2):
            flow.send(NOT_NOW)
            flow.send(None)
        assert flow.send(NOT_NOW) == Save(old, old.marked(1).fence)
        assert flow.send(True) == Release()
        with pytest.raises(TokenEndpointUnavailable):
            flow.send(None)

    def test_a_lost_answer_leaves_the_mark(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """Left and not answered: no second request, the mark stays, and the error says that nobody knows (F03)."""
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, entry("old", time, lifetime=0))
        assert flow.throw(ReadTimeout("SENTINEL")) == Release()
        with pytest.raises(TokenEndpointUnavailable) as caught:
            flow.send(None)
        assert caught.value.outcome == "unknown"
        assert isinstance(caught.value.__cause__, ReadTimeout)
        assert "SENTINEL" not in str(caught.value)

    def test_a_lost_answer_costs_client_credentials_nothing(self, source: TokenSource, policy: RenewalPolicy) -> None:
        """What spends nothing is tried again after an unknown outcome."""
        flow = self.start(source, policy, "client")
        self.to_fetch(flow)
        assert isinstance(flow.throw(ReadTimeout()), Sleep)

    def test_a_marked_token_is_presented_once_more(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Whoever finds one mark presents the token again and marks that; with two marks nobody does."""
        old = entry("old", time, lifetime=0).marked(1)
        self.to_fetch(self.start(source, policy, "refresh"), old)
        flow = self.start(source, policy, "refresh")
        next(flow)
        flow.send(old.spent())
        flow.send(None)
        assert flow.send(old.spent()) == Release()
        with pytest.raises(ReauthenticationRequired):
            flow.send(None)

    def test_invalid_grant_looks_for_a_newer_token_first(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """If somebody else has renewed, theirs is the token, and nothing is forgotten (F08)."""
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, entry("old", time, lifetime=0))
        assert flow.send(REFUSED_GRANT) == Load()
        theirs = entry("theirs", time, refresh="rt9")
        assert flow.send(theirs) == Load()
        assert flow.send(theirs) == Release()
        assert ends(flow).value == "Bearer theirs"

    def test_invalid_grant_is_left_in_the_store(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """Without a newer token nobody is to present this one again, and somebody has to log in."""
        old = entry("old", time, lifetime=0)
        hold(source, policy, old)
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, old)
        assert flow.send(REFUSED_GRANT) == Load()
        assert flow.send(old.marked(1)) == Save(old.spent(), old.marked(1).fence)
        assert source.held is None
        assert flow.send(True) == Release()
        with pytest.raises(ReauthenticationRequired):
            flow.send(None)

    def test_without_a_refresh_token_nothing_is_sent_or_forgotten(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A session without a refresh token cannot be renewed; its access token stays."""
        bare = entry("bare", time, refresh=None)
        held = hold(source, policy, bare)
        flow = self.start(source, policy, "refresh", bare.stamp)
        next(flow)
        flow.send(bare)
        flow.send(None)
        assert flow.send(bare) == Load()
        assert flow.send(bare) == Release()
        with pytest.raises(ReauthenticationRequired, match="refresh token"):
            flow.send(None)
        assert source.held is held

    def test_retry_after_within_the_budget(self, source: TokenSource, policy: RenewalPolicy) -> None:
        """Retry-After wins over the backoff if it fits into the budget; if not, the error says how long (F57)."""
        flow = self.start(source, policy, "client")
        self.to_fetch(flow)
        assert flow.send(answered("", 429, **{"retry-after": "3"})) == Sleep(3.0)
        flow.send(None)
        assert flow.send(answered("", 429, **{"retry-after": "300"})) == Release()
        with pytest.raises(TokenEndpointUnavailable) as caught:
            flow.send(None)
        assert caught.value.retry_after == 300.0

    def test_attempts_share_one_budget(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """Each attempt gets its share of what is left; one that spends a refresh token gets all of it."""
        flow = self.start(source, policy, "client")
        assert self.to_fetch(flow).timeout == 10.0
        time.now += 10
        flow.throw(ReadTimeout())
        assert flow.send(None).timeout == 10.0
        time.now += 20
        assert flow.throw(ReadTimeout()) == Release()
        flow = self.start(source, policy, "refresh")
        assert self.to_fetch(flow, entry("old", time, lifetime=0)).timeout == 30.0

    def test_wrong_configuration_is_not_tried_again(self, source: TokenSource, policy: RenewalPolicy) -> None:
        """invalid_client, and a redirect, end the renewal at once (F16, F51)."""
        for answer, kind in (
            (answered('{"error": "invalid_client"}', 401), TokenRequestError),
            (answered("", 307), ConfigurationError),
        ):
            flow = self.start(source, policy, "client")
            self.to_fetch(flow)
            assert flow.send(answer) == Release()
            with pytest.raises(kind):
                flow.send(None)

    def test_tls_and_proxy_failures_are_named(self, source: TokenSource, policy: RenewalPolicy) -> None:
        """A failed TLS handshake, or a proxy that refuses, is not tried again within the renewal."""
        broken = ConnectError()
        broken.__cause__ = ssl.SSLError("certificate verify failed")
        for error, word in ((broken, "TLS"), (ProxyError(), "proxy")):
            flow = self.start(source, policy, "client")
            self.to_fetch(flow)
            assert flow.throw(error) == Release()
            with pytest.raises(TokenEndpointUnavailable, match=word):
                flow.send(None)

    def test_a_store_that_does_not_take_the_token(
        self, source: TokenSource, policy: RenewalPolicy, time: Time, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The token is used all the same, that is told, and the next renewal goes by it and saves it (F04)."""
        old = entry("old", time, lifetime=0)
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, old)
        flow.send(ROTATED)
        assert flow.throw(StoreError("full")) == Sleep(0.25), "under the lease nobody presents the old one again"
        flow.send(None)
        assert flow.throw(StoreError("full")) == Sleep(1.0)
        flow.send(None)
        assert flow.throw(StoreError("full")) == Keep(40.0)
        held = ends(flow)
        assert held.value == "Bearer new"
        assert "kept in memory" in caplog.text
        source.held = held
        time.now += 590
        flow = self.start(source, policy, "refresh")
        next(flow)
        assert flow.send(old.marked(1)) == Save(held.entry, old.marked(1).fence)
        assert isinstance(flow.send(True), Lease)
        flow.send(True)
        assert flow.send(held.entry) == Save(held.entry.marked(1), held.entry.fence)
        assert dict(flow.send(True).request.form)["refresh_token"] == "rt2"

    def test_what_somebody_has_published_meanwhile_wins(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """If the store holds something newer when we save, that is the token; if it serves nobody, ours is saved."""
        for theirs, value in ((entry("theirs", time), "Bearer theirs"), (None, "Bearer new")):
            flow = self.start(source, policy, "client")
            self.to_fetch(flow)
            flow.send(NEW)
            assert flow.send(False) == Load()
            step = flow.send(theirs)
            if theirs is None:
                assert isinstance(step, Save)
                step = flow.send(True)
            assert step == Release()
            assert ends(flow).value == value

    def test_the_successor_of_what_is_stored_is_saved_whatever_is_noted_on_it(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Whoever took over a lease that had lapsed may have noted more on the old pair: its successor wins."""
        old = entry("old", time, lifetime=0)
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, old)
        saved = flow.send(ROTATED)
        assert flow.send(False) == Load()
        assert flow.send(old.spent()) == Save(saved.entry, old.spent().fence)
        assert flow.send(True) == Release()
        assert ends(flow).value == "Bearer new"

    def test_a_session_that_is_none_of_ours_is_not_replaced(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """What a lapsed holder brings does not take the place of another pair, though that is due."""
        old = entry("old", time, lifetime=0)
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, old)
        flow.send(ROTATED)
        assert flow.send(False) == Load()
        assert flow.send(entry("other", time, lifetime=0)) == Release()
        assert ends(flow).value == "Bearer new"

    def test_a_holder_that_stood_still_asks_for_its_lease_again(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A lease that might end before a token request does is no right any more, however often that happens."""
        old = entry("old", time, lifetime=0)
        flow = self.start(source, policy, "refresh")
        next(flow)
        flow.send(old)
        flow.send(True)
        time.now += 10.5
        assert flow.send(old) == Release()
        assert flow.send(None) == Lease(40.0, 41.0)
        assert flow.send(True) == Load()
        time.now += 9.5
        assert flow.send(old) == Save(old.marked(1), old.fence)

    def test_word_of_a_change_instead_of_the_lease(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Who is told that the entry has changed looks again, and asks for the lease again if that does not serve."""
        old, theirs = entry("old", time, lifetime=0), entry("theirs", time)
        flow = self.start(source, policy, "refresh")
        next(flow)
        assert flow.send(old) == Lease(40.0, 41.0)
        for _ in range(30):
            assert flow.send(False) == Load()
            assert isinstance(flow.send(old), Sleep)
            assert flow.send(None) == Release()
            assert flow.send(None) == Lease(40.0, 41.0)
        assert flow.send(False) == Load()
        assert flow.send(theirs) == Release()
        assert ends(flow).value == "Bearer theirs"

    def test_word_of_changes_that_never_ends(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """Who can publish keeps nobody waiting for longer than a lease: then client credentials go on without."""
        for kind, old in (("refresh", entry("old", time, lifetime=0)), ("client", None)):
            flow = self.start(source, policy, kind)
            next(flow)
            step = flow.send(old)
            for _ in range(5):
                assert isinstance(step, Lease)
                flow.send(False)
                if not isinstance(step := flow.send(old), Sleep):
                    break
                time.now += 10.5
                flow.send(None)
                step = flow.send(None)
            if kind == "client":
                assert isinstance(step, Fetch)
            else:
                assert step == Release()
                with pytest.raises(StoreError, match="lease"):
                    flow.send(None)

    @pytest.mark.parametrize("where", ["load", "lease"])
    def test_a_store_that_fails(self, source: TokenSource, policy: RenewalPolicy, where: str) -> None:
        """Client credentials go on without the store; a refresh token is not presented without it."""
        for kind in ("client", "refresh"):
            flow = self.start(source, policy, kind)
            next(flow)
            if where == "lease":
                flow.send(None)
            if kind == "refresh":
                if where == "lease":
                    assert flow.throw(StoreError("down")) == Release()
                with pytest.raises(StoreError):
                    flow.throw(StoreError("down"))
            else:
                assert isinstance(flow.throw(StoreError("down")), Fetch), "one failure is enough"
                assert flow.send(NEW) == Release()
                assert ends(flow).value == "Bearer new"
                source.unsaved = None

    def test_a_store_that_fails_afterwards_costs_nothing_more(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A mark that cannot be taken back, or a last word that cannot be left, does not hide the real error."""
        flow = self.start(source, policy, "refresh")
        self.to_fetch(flow, entry("old", time, lifetime=0))
        flow.send(answered("", 429, **{"retry-after": "300"}))
        assert flow.throw(StoreError("down")) == Release()
        with pytest.raises(TokenEndpointUnavailable):
            flow.send(None)
        flow = self.start(source, policy, "refresh")
        old = entry("old", time, lifetime=0)
        self.to_fetch(flow, old)
        flow.send(REFUSED_GRANT)
        flow.send(old)
        assert flow.throw(StoreError("down")) == Release()
        with pytest.raises(ReauthenticationRequired):
            flow.send(None)

    def test_thrown_away_at_any_step(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """A renewal can be closed at each of its yields: nothing of ours keeps it from ending."""
        answers = [None, entry("o", time, lifetime=0), None, entry("o", time, lifetime=0), True, ROTATED, True]
        for turns in range(1, len(answers) + 1):
            flow = self.start(source, policy, "refresh")
            for answer in answers[:turns]:
                flow.send(answer)
            flow.close()


class TestFromOutside:
    """A token that the program brings."""

    def test_it_replaces_what_is_stored_whatever_that_is(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """keep saves over what the store holds by now, and is the current token from then on."""
        login = Entry.of_login(Token("login", expires_at=time() + 100, refresh_token="r"), time())
        flow = keep(source, login, policy)
        assert next(flow) == Load()
        assert flow.send(None) == Save(login, None)
        assert flow.send(False) == Load()
        theirs = entry("theirs", time)
        assert flow.send(theirs) == Save(login, theirs.fence)
        assert ends(flow, True).value == "Bearer login"
        assert source.held.value == "Bearer login"

    def test_a_renewal_under_way_does_not_bring_the_old_one_back(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A flight that took off before the login lands for nothing; who waited gets the login's token."""
        wait = next(begin(source, policy))
        login = source.hold(entry("login", time), policy)
        source.replace(login)
        source.land(wait.flight, source.hold(entry("renewed", time), policy))
        assert source.held is login
        assert wait.flight.future.result(0) is login

    def test_nor_after_it_was_given_up(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """A flight whose token was given up meanwhile tells those who waited, and brings nothing."""
        wait = next(begin(source, policy))
        source.leave()
        source.land(wait.flight, source.hold(entry("renewed", time), policy))
        assert source.held is None
        assert isinstance(wait.flight.future.exception(0), ReauthenticationRequired)

    def test_a_lost_flight_has_nothing_to_say(self, source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
        """A flight that was given up is replaced; those who waited are told, and what it brings later is ignored."""
        lost = next(begin(source, policy)).flight
        time.now += 36
        flight = next(begin(source, policy)).flight
        assert flight is not lost
        assert lost.future.exception(0).outcome == "unknown"
        new = source.hold(entry("new", time), policy)
        source.land(flight, new)
        source.land(lost, source.hold(entry("late", time), policy))
        assert source.held is new

    def test_a_first_token_of_another_login_goes_before_a_spent_one(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Where the store says that a session is over, the program's new login counts, and an old one does not."""
        old = Entry.of_login(Token("old", refresh_token="r1"), time())
        source.seed = Entry.of_login(Token("new", refresh_token="r2"), time())
        assert source.newest(old.spent()) is source.seed
        assert source.newest(old) is old
        source.seed = old
        assert source.newest(old.spent()).is_spent


def test_reprs_are_worth_reading(source: TokenSource, policy: RenewalPolicy, time: Time) -> None:
    """A source says whose it is, what it holds by stamp, and who waits; never the token."""
    assert repr(source) == "<TokenSource c@as.example empty>"
    held = hold(source, policy, entry("SENTINEL", time))
    assert repr(source) == f"<TokenSource c@as.example holds {held.stamp}>"
    source.held = None
    flight = next(begin(source, policy)).flight
    with flight.joined():
        assert repr(source) == "<TokenSource c@as.example empty | 1 renewing, 1 waiting>"
        assert repr(flight) == "<Flight in the air, 1 waiting>"
    source.abandon(flight)
    assert repr(flight) == "<Flight landed, 0 waiting>"
    assert "SENTINEL" not in repr(held)


class TestGrowingOld:
    """Requests with a token that is early, due, or ends in the meantime."""

    def test_a_token_that_ends_during_its_early_renewal_is_not_sent(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """In a thread that renewal is waited for: whoever comes back to an ended token waits for another."""
        hold(source, policy, entry("a", time, lifetime=60))
        time.now += 47
        flow = begin(source, policy)
        launch = next(flow)
        assert isinstance(launch, Launch)
        time.now += 14
        wait = flow.send(None)
        assert isinstance(wait, Wait)
        assert (wait.flight, wait.renewal) == (launch.flight, None), "it is flown once"

    def test_who_has_a_good_token_waits_two_seconds(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """A due token is renewed first; if that takes long, it is sent; but it is not handed out for use elsewhere."""
        held = hold(source, policy, entry("a", time))
        time.now += 541
        flow = begin(source, policy)
        wait = next(flow)
        assert wait.until == time.now + 2.0
        assert flow.send(None) == Send(source.held)
        assert source.held.stamp == held.stamp
        assert next(current(renewals(source, policy))).until == math.inf

    def test_who_has_none_waits_as_long_as_it_takes(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Without a token, or with one that was refused, there is nothing else to send."""
        assert next(begin(source, policy)).until == math.inf
        hold(source, policy, entry("a", time))
        flow = begin(source, policy)
        next(flow)
        flow.send(REFUSED)
        assert flow.send(None).until == math.inf

    def test_one_attempt_where_there_is_a_good_token_and_three_where_there_is_none(
        self, source: TokenSource, policy: RenewalPolicy, time: Time
    ) -> None:
        """Also in one and the same early renewal, once somebody's 401 has joined it."""
        held = hold(source, policy, entry("a", time))
        time.now += 500
        for is_refused in (False, True):
            flight = source.board(policy).flight
            flow = renew(flight, renewals(source, policy))
            for answer in (None, None, None):
                flow.send(answer)
            assert isinstance(flow.send(None), Fetch)
            if is_refused:
                source.board(policy, held)
            assert flow.send(NOT_NOW) == (Sleep(0.25) if is_refused else Release())
            source.fail(flight, TokenEndpointUnavailable("down", outcome="answered"))
            time.now += 5

    def test_a_secret_that_gave_way_is_told_after_the_token_is_saved(
        self, source: TokenSource, policy: RenewalPolicy
    ) -> None:
        """A handler that ends the program must not cost the session."""
        told: list[Any] = []
        self._on_event = told.append
        source.listen(self)
        flight = source.board(policy).flight
        grant = ClientCredentials(URL, client_id="c", client_secret=["new", "old"])
        flow = renew(flight, renewals(source, policy, grant))
        for answer in (None, None, None, None):
            flow.send(answer)
        flow.send(answered('{"error": "invalid_client"}', 401))
        assert isinstance(flow.send(NEW), Save)
        assert told == []
        assert flow.send(True) == Release()
        source.land(flight, ends(flow))
        assert [type(event).__name__ for event in told] == ["SecretFellBack", "TokenObtained"]
