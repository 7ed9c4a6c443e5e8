"""A small world in which flows run without threads, loops or time: one seeded scheduler takes every turn.

Requests and renewals are the generators of `_flow`, nothing else; what they ask for happens in as many turns as it
would take outside (a request leaves, arrives, is answered), and between any two turns anything else may happen: other
requests, a renewal in another process that shares the store, a revocation, a caller that hangs up, a lost answer, the
end of a process. The same seed plays the same story.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import ClientCredentials, RefreshToken, RenewalPolicy, Token, TokenFlowError
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._flow import authorize
from httpx_tokenflow._renewal import Renewals, keep
from httpx_tokenflow._sources import TokenSource
from httpx_tokenflow._steps import (
    Answer,
    Drain,
    Fetch,
    Launch,
    Lease,
    Load,
    Release,
    Save,
    Send,
    Sleep,
    Wait,
)
from httpx_tokenflow._times import Clock
from httpx_tokenflow._tokens import Entry
from httpx_tokenflow.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class ConnectError(Exception):
    """Named like httpx's: the request was not sent."""


class ReadTimeout(Exception):  # noqa: N818 - httpx's name
    """Named like httpx's: it left, and no answer came."""


@dataclass(frozen=True)
class Sending:
    """A request, as a flow sees it."""

    replayable: bool = True
    retry: bool = True
    timeout: float = 0.0


@dataclass
class Server:
    """An authorization server that rotates refresh tokens, and an API that takes what it has issued and not revoked."""

    lifetime: float
    rotates: bool
    numbers: Any = field(default_factory=itertools.count)
    good: set[str] = field(default_factory=set)
    families: dict[str, list[str]] = field(default_factory=dict)  # refresh token -> its family, the newest last
    revoked: list[list[str]] = field(default_factory=list)
    requests: int = 0
    presented: Counter[str] = field(default_factory=Counter)

    def login(self) -> dict[str, Any]:
        return self._issue([])

    def _issue(self, family: list[str] | None) -> dict[str, Any]:
        number = next(self.numbers)
        self.good.add(f"at-{number}")
        answer: dict[str, Any] = {"access_token": f"at-{number}", "expires_in": self.lifetime}
        if family is not None and (self.rotates or not family):
            family.append(f"rt-{number}")
            self.families[family[-1]] = family
            answer["refresh_token"] = family[-1]
        return answer

    def token_request(self, form: dict[str, str]) -> ServerResponse:
        family = None
        if form["grant_type"] == "refresh_token":
            presented = form["refresh_token"]
            self.presented[presented] += 1
            family = self.families[presented]
            if presented != family[-1]:
                self.revoked.append(family)
            if family in self.revoked:
                return _json(400, '{"error": "invalid_grant"}')
        return _json(200, json.dumps(self._issue(family)))


def _json(status: int, body: str) -> ServerResponse:
    return ServerResponse(status, {"content-type": "application/json"}, body.encode())


@dataclass(eq=False)
class Actor:
    """A generator that takes turns: what it waits for, and what it will be sent."""

    name: str
    flow: Generator[Any, Any, Any]
    process: Process
    turns: list[Callable[[], Any]] = field(default_factory=list)
    wake: Callable[[], bool] | None = None
    until: float | None = None
    alarm: float = math.inf
    over: bool = False
    result: Any = None
    error: BaseException | None = None
    sends: int = 0
    last_status: int | None = None


@dataclass(eq=False)
class Process:
    """One process: its memory is a source, and it may end."""

    name: str
    source: TokenSource
    flights: list[tuple[Any, Actor]] = field(default_factory=list)


@dataclass
class World:
    """The scheduler. `odds` says how often what goes wrong."""

    seed: int
    grant_kind: str = "refresh"
    processes: int = 1
    odds: dict[str, float] = field(default_factory=dict)
    lifetime: float = 600.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 1_000_000.0
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)
        self.policy = RenewalPolicy(clock=clock, random=self.random.random)
        self.server = Server(self.lifetime, rotates=self.grant_kind == "refresh")
        self.store = MemoryStore()
        self.lease_holder: Actor | None = None
        self.actors: list[Actor] = []
        self.lost_answers = 0
        self.faults = 0
        self.outside: str | None = None  # the access token that was set from outside, while nothing has ended it
        self.history: list[str] = []
        url = "https://as.example/token"
        if self.grant_kind == "refresh":
            self.grant: Any = RefreshToken(url, client_id="c")
            first = self.server.login()
            seed = Entry.of_login(
                Token(first["access_token"], expires_at=self.now - 1, refresh_token=first["refresh_token"]), self.now
            )
        else:
            self.grant, seed = ClientCredentials(url, client_id="c", client_secret="s"), None
        self.members = [
            Process(f"p{i}", TokenSource(f"p{i}", "f", self.store, lambda token: token.access_token, seed))
            for i in range(self.processes)
        ]

    # what a test asks for

    def request(self, process: Process | None = None, *, replayable: bool = True) -> Actor:
        process = process or self.random.choice(self.members)
        flow = authorize(process.source, self.policy, self._renewals(process), Sending(replayable=replayable))
        return self._actor(f"request {len(self.actors)}", flow, process)

    def set_token(self) -> Actor:
        answer = self.server.login()
        self.outside = answer["access_token"]
        process = self.random.choice(self.members)
        token = Token(
            answer["access_token"], expires_at=self.now + self.lifetime, refresh_token=answer.get("refresh_token")
        )
        return self._actor("set_token", keep(process.source, Entry.of_login(token, self.now), self.policy), process)

    def revoke_access_tokens(self) -> None:
        self.server.good.clear()
        self.outside = None
        self.history.append("revoked")

    def expire(self) -> None:
        self.now += self.lifetime
        self.outside = None

    def grow_old(self, share: float) -> None:
        """Let so much of a lifetime pass: what is held may be early by then, or due."""
        self.now += self.lifetime * share
        if self.outside is not None and share >= 0.5:
            self.outside = None  # it may be renewed any time now

    def run(self) -> None:
        """Take turns until everybody is done; an actor that can never go on again is a violation."""
        self.go_on(100_000)
        stuck = [actor.name for actor in self.actors if not actor.over]
        assert not stuck, self.story(f"never ended: {stuck}")

    def go_on(self, turns: int) -> None:
        """Take so many turns, or fewer if nobody has any left."""
        for _ in range(turns):
            ready = [actor for actor in self.actors if self._is_ready(actor)]
            if not ready:
                if not self._advance():
                    break
                continue
            actor = self.random.choice(ready)
            self._maybe_hang_up(actor)
            if not actor.over:
                self._turn(actor)
            self.now += self.random.random() * 0.01

    def story(self, what: str) -> str:
        return f"seed {self.seed} ({self.grant_kind}): {what}\n" + "\n".join(self.history[-80:])

    # the scheduler

    def _actor(self, name: str, flow: Generator[Any, Any, Any], process: Process) -> Actor:
        actor = Actor(name, flow, process)
        actor.turns.append(partial(self._resume, actor, None))
        self.actors.append(actor)
        return actor

    def _is_ready(self, actor: Actor) -> bool:
        if actor.over or (actor.until is not None and self.now < actor.until):
            return False
        return actor.wake is None or actor.wake()

    def _advance(self) -> bool:
        times = [min(actor.until or math.inf, actor.alarm) for actor in self.actors if not actor.over]
        times = [time for time in times if self.now < time < math.inf]
        self.now = min(times, default=self.now)
        return bool(times)

    def _turn(self, actor: Actor) -> None:
        actor.wake = actor.until = None
        actor.alarm = math.inf
        actor.turns.pop(0)()

    def _maybe_hang_up(self, actor: Actor) -> None:
        if actor.name.startswith("request") and self._happens("hang up"):
            self.history.append(f"{actor.name} hangs up")
            actor.flow.close()
            actor.over, actor.error = True, GeneratorExit()
        elif actor.name.startswith("renewal") and self._happens("process ends"):
            self._end(actor)

    def _end(self, renewal: Actor) -> None:
        """The process that renews ends, and with it its memory; whoever waited there is gone too."""
        self.history.append(f"{renewal.process.name} ends during {renewal.name}")
        self.lost_answers += 1
        for actor in self.actors:
            if actor.process is renewal.process and not actor.over:
                actor.flow.close()
                actor.over, actor.error = True, GeneratorExit()
                if self.lease_holder is actor:
                    self.lease_holder = None
        old = renewal.process.source
        renewal.process.source = TokenSource(old.name, "f", self.store, old.present, None)

    def _happens(self, what: str) -> bool:
        happened = self.random.random() < self.odds.get(what, 0.0)
        self.faults += happened
        return happened

    def _resume(self, actor: Actor, answer: Any, error: Exception | None = None) -> None:
        try:
            step = actor.flow.throw(error) if error is not None else actor.flow.send(answer)
        except StopIteration as end:
            actor.over, actor.result = True, end.value
        except TokenFlowError as failed:
            actor.over, actor.error = True, failed
            if actor.name.startswith("request") and actor.last_status != 401:
                left = actor.process.source.usable(self.policy.clock)
                assert left is None, self.story(f"{actor.name} failed while {left} had not ended")
        else:
            self.history.append(f"{self.now:.2f} {actor.process.name} {actor.name}: {type(step).__name__}")
            self._begin(actor, step)

    def _then(self, actor: Actor, function: Callable[[], Any]) -> None:
        """At another turn, have `function` happen and send on what it returns, or throw in what it raises."""

        def happen() -> None:
            try:
                answer = function()
            except Exception as error:  # noqa: BLE001 - for the flow to judge
                self._resume(actor, None, error)
            else:
                self._resume(actor, answer)

        actor.turns.append(happen)

    # the steps

    def _begin(self, actor: Actor, step: Any) -> None:
        source = actor.process.source
        if isinstance(step, Send):
            actor.sends += 1
            status: list[int] = []
            actor.turns.append(lambda: status.append(self._api(step.held)))
            self._then(actor, lambda: self._answered(actor, status[0]))
        elif isinstance(step, Fetch):
            self._fetch(actor, step)
        elif isinstance(step, Wait):
            held = source.held
            is_due = held is None or held.age(self.policy.clock) >= held.life.due
            assert is_due or actor.last_status == 401, self.story(f"{actor.name} waits although {held} is not due")
            self._wait(actor, step)
        elif isinstance(step, Launch):
            self._launch(actor, step)
            self._then(actor, lambda: None)
        elif isinstance(step, Lease):
            actor.wake = lambda: self.lease_holder is None
            self._then(actor, lambda: setattr(self, "lease_holder", actor))
        elif isinstance(step, Release):
            self._then(actor, lambda: setattr(self, "lease_holder", None))
        elif isinstance(step, Load):
            self._then(actor, lambda: self.store.load(source.fingerprint))
        elif isinstance(step, Save):
            self._then(actor, partial(self.store.save, source.fingerprint, step.entry, replaces=step.replaces))
        elif isinstance(step, Sleep):
            actor.until = self.now + step.seconds
            self._then(actor, lambda: None)
        else:
            assert isinstance(step, Drain)
            self._then(actor, lambda: None)

    def _api(self, held: Any) -> int:
        return 200 if held.value in self.server.good else 401

    def _answered(self, actor: Actor, status: int) -> Answer:
        actor.last_status = status
        return Answer(status)

    def _fetch(self, actor: Actor, step: Fetch) -> None:
        self.server.requests += 1
        form = dict(step.request.form)
        answers: list[ServerResponse] = []
        if self._happens("not sent"):
            self._then(actor, _raise(ConnectError))
            return
        if self._happens("not now"):
            self._then(actor, lambda: _json(503, "{}"))
            return
        if not self._happens("lost before"):
            actor.turns.append(lambda: answers.append(self.server.token_request(form)))
        if not actor.turns or self._happens("lost after"):
            self.lost_answers += 1
            self._then(actor, _raise(ReadTimeout))
        else:
            self._then(actor, lambda: answers[0])

    def _wait(self, actor: Actor, step: Wait) -> None:
        flight = step.flight
        if step.renewal is not None:
            self._launch(actor, step)
        actor.alarm = step.until
        actor.wake = lambda: flight.future.done() or self.now >= step.until
        self._then(actor, lambda: _landed(flight) if flight.future.done() else None)

    def _launch(self, actor: Actor, step: Any) -> None:
        flying = self._fly(actor.process.source, step.flight, step.renewal)
        flyer = self._actor(f"renewal {len(self.actors)}", flying, actor.process)
        actor.process.flights.append((step.flight, flyer))

    def _fly(self, source: TokenSource, flight: Any, renewal: Generator[Any, Any, Any]) -> Generator[Any, Any, None]:
        try:
            held = yield from renewal
        except TokenFlowError as error:
            source.fail(flight, error)
        except BaseException:
            source.abandon(flight)
            raise
        else:
            source.land(flight, held)

    def _renewals(self, process: Process) -> Renewals:
        return Renewals(process.source, self.grant, self.policy)


def _raise(kind: type[Exception]) -> Callable[[], Any]:
    def act() -> Any:
        raise kind

    return act


def _landed(flight: Any) -> Any:
    cause = flight.future.exception(timeout=0)
    if cause is not None:
        raise cause.again() from cause
    return flight.future.result()
