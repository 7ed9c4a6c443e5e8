"""A small world in which flows run without threads, loops or time: one seeded scheduler takes every turn.

Requests and renewals are the generators of `_flow`, nothing else; what they ask for happens in as many turns as it
would take outside (a request leaves, arrives, is answered), and between any two turns anything else may happen: other
requests, a renewal in another process that shares the store, a revocation, somebody who leaves, a sibling that buys
a token, an API that wants more scope, a person before a login, a caller that hangs up, a lost answer, the end of a
process. The same seed plays the same story.
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

from httpx_tokenflow import (
    ClientCredentials,
    ReauthenticationRequired,
    RefreshToken,
    RenewalPolicy,
    StoreError,
    Token,
    TokenFlowError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._drivers import CLOSING_PATIENCE
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._flow import authorize
from httpx_tokenflow._outside import keep, leave
from httpx_tokenflow._siblings import Errand
from httpx_tokenflow._sources import TokenSource
from httpx_tokenflow._steps import (
    Answer,
    Delete,
    Drain,
    Elsewhere,
    Fetch,
    Keep,
    Launch,
    Lease,
    LetGo,
    Load,
    Patience,
    Release,
    Save,
    Send,
    Settle,
    Sleep,
    Wait,
    Work,
)
from httpx_tokenflow._terms import Renewals
from httpx_tokenflow._times import Clock
from httpx_tokenflow.doctor import Diagnosis, Facts
from httpx_tokenflow.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


REVOCATION = "https://as.example/revoke"
NOT_EXPLAINED = Diagnosis(findings=(), facts=Facts())


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


class Login(RefreshToken):
    """A session that is opened again when it is over: at once, or by a person who takes a while."""

    logs_in = True
    widens = True

    def __init__(self, person: float, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.login_timeout = person

    def obtain(self, attempt: Any) -> Generator[Any, Any, Any]:
        presented = attempt.presented
        is_good = presented is not None and presented.token.refresh_token is not None and not presented.is_spent
        if is_good and (attempt.challenge is None or not attempt.challenge.error.startswith("insufficient")):
            return (yield from super().obtain(attempt))
        if not attempt.may_log_in:
            raise ReauthenticationRequired("log in")
        if self.login_timeout:
            yield Patience(self.login_timeout + 30)
            yield Sleep(self.login_timeout * 0.9)
        return (yield from self._ask(attempt, "password", ()))


@dataclass
class Server:
    """An authorization server that rotates refresh tokens, and an API that takes what it has issued and not revoked."""

    lifetime: float
    rotates: bool
    numbers: Any = field(default_factory=itertools.count)
    good: set[str] = field(default_factory=set)
    families: dict[str, list[str]] = field(default_factory=dict)  # refresh token -> its family, the newest last
    revoked: list[list[str]] = field(default_factory=list)
    owners: dict[str, list[str]] = field(default_factory=dict)  # access token -> its family
    wide: set[str] = field(default_factory=set)  # access tokens that can do more
    left: list[list[str]] = field(default_factory=list)  # families that were given back
    requests: int = 0
    logins: int = 0
    presented: Counter[str] = field(default_factory=Counter)

    def login(self) -> dict[str, Any]:
        return self._issue([])

    def _issue(self, family: list[str] | None, *, scope: str = "") -> dict[str, Any]:
        number = next(self.numbers)
        access = f"at-{number}"
        self.good.add(access)
        answer: dict[str, Any] = {"access_token": access, "expires_in": self.lifetime}
        if family is not None:
            self.owners[access] = family
            if "more" in scope:
                family.append("wide")
        if "more" in scope or "wide" in (family or ()):
            self.wide.add(access)
            answer["scope"] = "some more"
        if family is not None and (self.rotates or not [one for one in family if one != "wide"]):
            family.append(f"rt-{number}")
            self.families[family[-1]] = family
            answer["refresh_token"] = family[-1]
        return answer

    def token_request(self, form: dict[str, str]) -> ServerResponse:
        family, scope = None, form.get("scope", "")
        if form["grant_type"] == "password":
            self.logins += 1
            family = []
        elif form["grant_type"] == "refresh_token":
            presented = form["refresh_token"]
            self.presented[presented] += 1
            family = self.families[presented]
            if presented != [one for one in family if one != "wide"][-1]:
                self.revoked.append(family)
            if any(family is one for one in (*self.revoked, *self.left)):
                return _json(400, '{"error": "invalid_grant"}')
        return _json(200, json.dumps(self._issue(family, scope=scope)))

    def revoke(self, token: str) -> ServerResponse:
        self.good.discard(token)
        family = self.families.get(token)
        if family is not None:
            self.left.append(family)
            self.good -= {access for access, one in self.owners.items() if one is family}
        return _json(200, "")


def _json(status: int, body: str) -> ServerResponse:
    return ServerResponse(status, {"content-type": "application/json"}, body.encode())


@dataclass(eq=False)
class Actor:
    """A generator that takes turns: what it waits for, and what it will be sent."""

    name: str
    flow: Generator[Any, Any, Any]
    process: Process
    source: TokenSource
    flight: Any = None  # that it flies
    leader: Actor | None = None  # who saw it off
    outer: list[tuple[Generator[Any, Any, Any], TokenSource]] = field(default_factory=list)
    wants: str = ""
    turns: list[Callable[[], Any]] = field(default_factory=list)
    wake: Callable[[], bool] | None = None
    until: float | None = None
    alarm: float = math.inf
    over: bool = False
    result: Any = None
    error: BaseException | None = None
    sends: int = 0
    last_status: int | None = None
    led: set[Any] = field(default_factory=set)  # flights that it saw off, and that asked the server


@dataclass(eq=False)
class Process:
    """One process: its memory is a source, and it may end."""

    name: str
    source: TokenSource
    sibling: TokenSource
    banned: list[Any] = field(default_factory=list)  # what nothing may be sent of any more: families, access tokens


@dataclass
class World:
    """The scheduler. `odds` says how often what goes wrong."""

    seed: int
    grant_kind: str = "refresh"
    processes: int = 1
    odds: dict[str, float] = field(default_factory=dict)
    lifetime: float = 600.0
    nonces: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 1_000_000.0
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)
        self.policy = RenewalPolicy(clock=clock, random=self.random.random)
        self.server = Server(self.lifetime, rotates=self.grant_kind != "client")
        self.store = MemoryStore()
        self.news: Counter[str] = Counter()
        self.tells_news = self.seed % 3 > 0
        self.leases: dict[str, tuple[Actor, float]] = {}
        self.given_up: list[Any] = []  # families, access tokens
        self.has_left = False
        self.actors: list[Actor] = []
        self.lost_answers = 0
        self.faults = 0
        self.outside: str | None = None  # the access token that was set from outside, while nothing has ended it
        self.history: list[str] = []
        url = "https://as.example/token"
        options: dict[str, Any] = {"client_id": "c", "metadata": {"revocation_endpoint": REVOCATION}}
        if self.grant_kind in {"login", "person"}:
            self.grant: Any = Login(60.0 if self.grant_kind == "person" else 0.0, url, **options)
            seed = None
        elif self.grant_kind == "refresh":
            self.grant = RefreshToken(url, **options)
            first = self.server.login()
            seed = Entry.of_login(
                Token(first["access_token"], expires_at=self.now - 1, refresh_token=first["refresh_token"]), self.now
            )
        else:
            self.grant, seed = ClientCredentials(url, client_secret="s", **options), None
        self.members = [Process(f"p{i}", *self._sources(f"p{i}", seed)) for i in range(self.processes)]
        for member in self.members:
            self._sibling(member)

    def _sources(self, name: str, seed: Entry | None) -> tuple[TokenSource, TokenSource]:
        def present(token: Token) -> str:
            return token.access_token

        return TokenSource(name, "f", self.store, present, seed), TokenSource(name, "sibling", self.store, present)

    # what a test asks for

    def request(self, process: Process | None = None, *, replayable: bool = True, wants: str = "") -> Actor:
        process = process or self.random.choice(self.members)
        renewals = self._renewals(process)
        if wants == "sibling":
            renewals = self._sibling(process)
        flow = authorize(renewals.source, self.policy, renewals, Sending(replayable=replayable))
        actor = self._actor(f"request {len(self.actors)}", flow, process, renewals.source)
        actor.wants = wants
        return actor

    def leave(self) -> Actor:
        """Somebody leaves, in one process."""
        process = self.random.choice(self.members)
        stored, held = self.store.load("f"), process.source.held
        had = [one.token.access_token for one in (stored, held.entry if held else None) if one is not None]
        self.outside, self.has_left = None, True

        def flow() -> Generator[Any, Any, Any]:
            # But for a login that a process came with and has not used yet: that is another session.
            known = {self.server.owners[one][0] for one in had if one in self.server.owners}
            families = self.server.families.values()
            before = [*had, *[one for one in families if self.server.presented.keys() & {*one} or one[0] in known]]
            agreed = yield from leave(self._renewals(process))
            self.given_up += before
            process.banned += before
            self.history.append(f"{process.name} has left")
            return agreed

        return self._actor("leave", flow(), process)

    def warm(self) -> None:
        """The program asks for a login, if there has to be one."""
        for member in self.members:
            member.source.forgive()

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
        return f"seed {self.seed} ({self.grant_kind}): {what}\n" + "\n".join(self.history[-120:])

    # the scheduler

    def _actor(
        self, name: str, flow: Generator[Any, Any, Any], process: Process, source: TokenSource | None = None
    ) -> Actor:
        actor = Actor(name, flow, process, source or process.source)
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
                self.leases = {what: lease for what, lease in self.leases.items() if lease[0] is not actor}
        renewal.process.source, renewal.process.sibling = self._sources(renewal.process.name, None)
        renewal.process.banned = []
        self._sibling(renewal.process)

    def _happens(self, what: str) -> bool:
        happened = self.random.random() < self.odds.get(what, 0.0)
        self.faults += happened
        return happened

    def _resume(self, actor: Actor, answer: Any, error: Exception | None = None) -> None:
        try:
            step = actor.flow.throw(error) if error is not None else actor.flow.send(answer)
        except StopIteration as end:
            if actor.outer:
                actor.flow, actor.source = actor.outer.pop()
                self._then(actor, partial(_same, end.value))
                return
            actor.over, actor.result = True, end.value
        except TokenFlowError as failed:
            if actor.outer:
                actor.flow, actor.source = actor.outer.pop()
                self._then(actor, _raise(failed))
                return
            actor.over, actor.error = True, failed
            if actor.name.startswith("request") and actor.last_status not in {401, 403}:
                left = actor.source.usable(self.policy.clock)
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

    def _begin(self, actor: Actor, step: Any) -> None:  # noqa: PLR0912 - a line for each step
        source = actor.source
        if isinstance(step, Send):
            actor.sends += 1
            sent = step.held.value
            for banned in actor.process.banned:
                is_banned = banned == sent or banned is self.server.owners.get(sent)
                assert not is_banned, self.story(f"{actor.name} carries {sent}, which was given up")
            status: list[int] = []
            actor.turns.append(lambda: status.append(self._api(actor, step.held)))
            self._then(actor, lambda: self._answered(actor, step.held, status[0]))
        elif isinstance(step, Elsewhere):
            actor.outer.append((actor.flow, actor.source))
            actor.flow, actor.source = step.flow, step.source
            self._then(actor, lambda: None)
        elif isinstance(step, Settle):
            flight, until = source.flight, self.now + CLOSING_PATIENCE
            actor.alarm = until
            actor.wake = lambda: flight is None or flight.future.done() or self.now >= until
            self._then(actor, lambda: None)
        elif isinstance(step, Patience):
            actor.flight.asked = True
            actor.flight.last(step.seconds)
            self._then(actor, lambda: None)
        elif isinstance(step, Fetch):
            self._fetch(actor, step)
        elif isinstance(step, Wait):
            held = source.held
            is_due = held is None or held.age(self.policy.clock) >= held.life.due
            is_errand = bool(actor.outer) or actor.last_status in {401, 403}
            assert is_due or is_errand, self.story(f"{actor.name} waits although {held} is not due")
            self._wait(actor, step)
        elif isinstance(step, Launch):
            self._launch(actor, step)
            self._then(actor, lambda: None)
        elif isinstance(step, Lease):
            what = source.fingerprint
            limit, before = self.now + step.patience, self.news[what]
            actor.alarm = min([limit, *[until for _, until in self.leases.values() if until > self.now]])
            actor.wake = lambda: self._is_free(what) or self.now >= limit or self._is_news(what, before)
            self._then(actor, lambda: self._lease(actor, what, step.seconds, before))
        elif isinstance(step, Keep):
            source.kept = actor
            self._then(actor, lambda: None)
        elif isinstance(step, LetGo):
            kept, source.kept = source.kept, None
            self._then(actor, lambda: self._release(kept, source.fingerprint))
        elif isinstance(step, Release):
            self._then(actor, lambda: self._release(actor, source.fingerprint))
        elif isinstance(step, Load):
            self._maybe_pause(actor, is_lost=False)
            self._then(actor, lambda: self._load(actor, source.fingerprint))
        elif isinstance(step, Save):
            self._maybe_pause(actor, is_lost=step.entry.presented == 0)
            self._then(actor, lambda: self._save(actor, source.fingerprint, step))
        elif isinstance(step, Delete):
            self._then(actor, partial(self.store.delete, source.fingerprint, fence=step.fence))
        elif isinstance(step, Work):  # why a refusal stands: that is not what stories are about
            self._then(actor, lambda: NOT_EXPLAINED)
        elif isinstance(step, Sleep):
            actor.until = self.now + step.seconds
            self._then(actor, lambda: None)
        else:
            assert isinstance(step, Drain)
            self._then(actor, lambda: None)

    def _is_free(self, what: str) -> bool:
        return what not in self.leases or self.leases[what][1] <= self.now

    def _is_news(self, what: str, before: int) -> bool:
        return self.tells_news and self.news[what] != before

    def _lease(self, actor: Actor, what: str, seconds: float, before: int) -> bool:
        self._maybe_fail()
        if not self._is_free(what):
            if self._is_news(what, before):
                return False
            raise StoreError("there is no lease to be had")
        self.leases[what] = actor, self.now + seconds
        return True

    def _maybe_fail(self) -> None:
        if self._happens("store fails"):
            self.history.append("the store fails")
            raise StoreError("down")

    def _maybe_pause(self, actor: Actor, *, is_lost: bool) -> None:
        """A renewal stands still until its lease is over: whoever comes next may take its answer for lost."""
        if actor.name.startswith("renewal") and self._happens("pause"):
            ends = [until for holder, until in self.leases.values() if holder is actor]
            # Not much longer than its lease: it wakes up in the middle of what somebody else does with the next.
            actor.until = max([self.now, *ends]) + self.random.random() * 0.2
            self.lost_answers += is_lost
            self.history.append(f"{actor.name} stands still")

    def _release(self, actor: Actor, what: str) -> None:
        if self.leases.get(what, (None,))[0] is actor:
            del self.leases[what]

    def _save(self, actor: Actor, what: str, step: Save) -> bool:
        before = self.store.load(what)
        try:
            self._maybe_fail()
        except StoreError:
            self.lost_answers += step.entry.presented == 0
            raise
        saved = self.store.save(what, step.entry, replaces=step.replaces)
        holder, until = self.leases.get(what, (None, 0.0))
        holds = holder is actor and self.now < until
        is_first = before is None or before.presented < step.entry.presented
        if saved and not holds and is_first and actor.name.startswith("renewal"):
            self.lost_answers += 1  # it stood still in the one moment in which nobody can see that
        self.news[what] += saved and (before is None or before.stamp != step.entry.stamp)
        return saved

    def _load(self, actor: Actor, what: str) -> Entry | None:
        self._maybe_fail()
        loaded = self.store.load(what)
        if loaded is not None and loaded.is_mark and what == "f" and actor.flight is not None:
            actor.process.banned = [*self.given_up]
        return loaded

    def _api(self, actor: Actor, held: Any) -> int:
        if held.value not in self.server.good or (self.nonces and self._happens("nonce")):
            return 401
        return 403 if actor.wants == "more" and held.value not in self.server.wide else 200

    def _answered(self, actor: Actor, held: Any, status: int) -> Answer:
        actor.last_status = status
        if status == 403:
            return Answer(status, ('Bearer error="insufficient_scope", scope="more"',))
        if status == 401 and held.value in self.server.good and self.nonces:
            return Answer(status, ('DPoP error="use_dpop_nonce"',), nonce=True)
        return Answer(status)

    def _fetch(self, actor: Actor, step: Fetch) -> None:
        self.server.requests += 1
        form = dict(step.request.form)
        self._maybe_pause(actor, is_lost=True)
        if step.request.url == REVOCATION:
            self._then(actor, lambda: self.server.revoke(form["token"]))
            return
        if actor.leader is not None:
            actor.leader.led.add(actor)
        if form["grant_type"] == "password" or "more" in form.get("scope", ""):
            self.outside = None  # an API wants more than that
        if form["grant_type"] == "password" and self._happens("refused login"):
            self._then(actor, lambda: _json(400, '{"error": "invalid_grant"}'))
            return
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
        if actor.flight is not None:
            actor.flight.elsewhere = flight

        def woken() -> Any:
            if actor.flight is not None:
                actor.flight.last(self.policy.budget)
                actor.flight.elsewhere = None
            return _landed(flight) if flight.future.done() else None

        actor.alarm = step.until
        actor.wake = lambda: flight.future.done() or self.now >= step.until
        self._then(actor, woken)

    def _launch(self, actor: Actor, step: Any) -> None:
        flying = self._fly(actor.source, step.flight, step.renewal)
        flyer = self._actor(f"renewal {len(self.actors)}", flying, actor.process, actor.source)
        flyer.flight, flyer.leader = step.flight, actor.leader or actor

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

    def _sibling(self, process: Process) -> Renewals:
        return Renewals(process.sibling, Errand(self._renewals(process), self.grant.using(resource="x")), self.policy)

    def _renewals(self, process: Process) -> Renewals:
        return Renewals(process.source, self.grant, self.policy, widens=True)


def _same(value: Any) -> Any:
    return value


def _raise(kind: type[Exception] | Exception) -> Callable[[], Any]:
    def act() -> Any:
        raise kind

    return act


def _landed(flight: Any) -> Any:
    cause = flight.future.exception(timeout=0)
    if cause is not None:
        raise cause.again() from cause
    return flight.future.result()
