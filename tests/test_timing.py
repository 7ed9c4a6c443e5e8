"""Where the time of a renewal goes (`_timing`): what is counted as what, and that a renewal does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from hand import NO as REFUSED
from hand import Hand

from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth
from httpx_tokenflow._flights import Flight
from httpx_tokenflow._lifecycle import Why
from httpx_tokenflow._steps import (
    Call,
    Delete,
    Elsewhere,
    Fetch,
    Keep,
    Lease,
    LetGo,
    Load,
    Patience,
    Release,
    Save,
    ServerRequest,
    Settle,
    Sleep,
    Step,
    Wait,
    Work,
)
from httpx_tokenflow._times import Clock
from httpx_tokenflow._timing import timed
from httpx_tokenflow.events import RenewalFailed, TokenObtained
from httpx_tokenflow.testing import Sandbox, Status

if TYPE_CHECKING:
    from collections.abc import Generator

NO: Any = None  # what a step has in it makes no difference here
ENDPOINT = [Fetch(ServerRequest("https://as.example"), 1.0)]
STORE = [Load(), Save(NO, None), Delete(""), Release(), Keep(1.0), LetGo()]
WAIT = [Lease(1.0, 1.0), Sleep(1.0), Settle(), Wait(NO), Elsewhere(NO, NO)]
REST = [Call(lambda: None, "", 1.0), Work(lambda: None), Patience(1.0)]


class Timed:
    """A renewal of `steps` by hand, on a clock that stands still."""

    def __init__(self, *steps: Step) -> None:
        self.now = 1000.0
        policy = RenewalPolicy(clock=Clock(lambda: self.now, lambda: self.now))
        self.flight = Flight(0, policy, Why.MISSING, frozenset())
        self.given: list[Any] = []
        self.closed = 0
        self.renewal = self._renewal(*steps)  # held, so that nothing but a closing closes it
        self.flow = timed(self.flight, self.renewal)

    def _renewal(self, *steps: Step) -> Generator[Step, Any, Any]:
        try:
            for step in steps:
                try:
                    self.given.append((yield step))
                except LookupError as error:
                    self.given.append(error)
            return "held"
        finally:
            self.closed += 1

    @property
    def seconds(self) -> tuple[float, float, float]:
        return self.flight.endpoint_seconds, self.flight.store_seconds, self.flight.wait_seconds


@pytest.mark.parametrize(("steps", "counted"), [(ENDPOINT, 0), (STORE, 1), (WAIT, 2), (REST, 3)])
@pytest.mark.parametrize("fails", [False, True])
def test_each_step_is_counted_as_what_it_is(steps: list[Step], counted: int, fails: bool) -> None:
    """The time of a step goes to the endpoint, the store, waiting or none of these, whether it fails or not."""
    for step in steps:
        timing = Timed(step)
        assert timing.flow.send(None) is step
        timing.now += 2.0
        with pytest.raises(StopIteration) as end:
            timing.flow.throw(LookupError("no")) if fails else timing.flow.send("answer")
        assert end.value.value == "held"
        assert timing.seconds == tuple(2.0 if at == counted else 0.0 for at in range(3))


def test_every_step_is_on_the_list() -> None:
    """No step of a renewal is left out of the lists above; the others belong to requests."""
    of_requests = {"Send", "Drain", "Read", "Launch"}
    listed = {type(step).__name__ for step in [*ENDPOINT, *STORE, *WAIT, *REST]}
    assert {kind.__name__ for kind in Step.__subclasses__()} == listed | of_requests


def test_times_add_up() -> None:
    """Steps of one kind are added up, and the parts are no more than the whole."""
    timing = Timed(*ENDPOINT, *STORE, *WAIT, *REST, *ENDPOINT)
    for _ in timing.flow:
        timing.now += 1.0
    assert timing.seconds == (2.0, 6.0, 5.0)
    assert timing.flight.facts()["seconds"] == 16.0


def test_the_renewal_gets_what_it_would_get() -> None:
    """Answers and errors come to the renewal as they are; what it raises comes out as it is, and it is closed once."""
    timing = Timed(Load(), Load(), Load())
    error = LookupError("no")
    timing.flow.send(None)
    timing.flow.send("one")
    timing.flow.throw(error)
    with pytest.raises(ValueError, match="defect"):
        timing.flow.throw(ValueError("a defect"))
    assert timing.given == ["one", error]
    assert timing.closed == 1


def test_a_renewal_that_is_torn_is_closed() -> None:
    """Whatever tears a renewal, a closed loop or an interrupt, it lets go at once."""
    closed, interrupted = Timed(Load(), Load()), Timed(Load(), Load())
    for timing in (closed, interrupted):
        timing.flow.send(None)
    closed.flow.close()
    with pytest.raises(KeyboardInterrupt):
        interrupted.flow.throw(KeyboardInterrupt())
    assert closed.closed == interrupted.closed == 1


def test_a_renewal_that_never_began() -> None:
    """A renewal that is given up before its first step has taken no time."""
    timing = Timed(Load())
    timing.flow.close()
    assert timing.seconds == (0.0, 0.0, 0.0)
    assert timing.closed == 0


@pytest.mark.parametrize("fails", [False, True])
def test_events_have_the_parts(fails: bool) -> None:
    """The event of a renewal's end has the number of its flight, the kind of its grant and where its time went."""
    hand = Hand("client")
    for step in (Load, Save, Fetch, Lease, Release):
        hand.before[step] = lambda: setattr(hand, "now", hand.now + 1.0)
    if fails:
        hand.answers = [REFUSED] * 9
    ticket = hand.source.board(hand.policy)
    hand.fly(ticket.flight)
    (event,) = (one for one in hand.told if isinstance(one, TokenObtained | RenewalFailed))
    assert isinstance(event, RenewalFailed) is fails
    assert (event.renewal, event.grant) == (ticket.flight.number, "ClientCredentials")
    assert event.endpoint_seconds == 1.0
    assert event.store_seconds == (2.0 if fails else 3.0)
    assert event.wait_seconds == 1.0
    assert event.seconds == event.endpoint_seconds + event.store_seconds + event.wait_seconds


@pytest.mark.parametrize("is_async", [False, True])
def test_the_parts_of_a_real_renewal(is_async: bool) -> None:
    """A slow token endpoint is the endpoint's time, a pause between two attempts is waiting; the rest is little."""
    told: list[Any] = []
    sandbox = Sandbox(latency=0.05)
    sandbox.script(Status(503, retry_after=0.05))
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    kind = httpx.AsyncClient if is_async else httpx.Client
    auth = TokenAuth(
        grant,
        client=kind(transport=sandbox.transport()),
        policy=RenewalPolicy(random=lambda: 0.1),
        on_event=told.append,
    )
    anyio.run(auth.atoken) if is_async else auth.token()
    (event,) = (one for one in told if isinstance(one, TokenObtained))
    assert event.requests == 2
    assert event.endpoint_seconds >= 0.05
    assert event.wait_seconds >= 0.04
    parts = event.endpoint_seconds + event.store_seconds + event.wait_seconds
    assert 0.0 < parts <= event.seconds
