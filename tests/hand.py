"""Flows performed by hand, one process at a time: the steps are noted, and anything may happen before one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from world import REVOCATION, Login, Sending

from httpx_tokenflow import ClientCredentials, RefreshToken, RenewalPolicy, StoreError, Token, TokenFlowError
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._flow import authorize, current
from httpx_tokenflow._renewal import lead
from httpx_tokenflow._siblings import Errand
from httpx_tokenflow._sources import TokenSource
from httpx_tokenflow._steps import (
    Answer,
    Elsewhere,
    Fetch,
    Launch,
    Lease,
    Load,
    Patience,
    Save,
    Send,
    Sleep,
    Wait,
    Work,
)
from httpx_tokenflow._terms import Renewals
from httpx_tokenflow._times import Clock
from httpx_tokenflow.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from httpx_tokenflow._flights import Held

URL = "https://as.example/token"
OPTIONS: dict[str, Any] = {"client_id": "c", "metadata": {"revocation_endpoint": REVOCATION}}
NO = ServerResponse(400, {}, b'{"error": "invalid_grant"}')


class ReadTimeout(Exception):  # noqa: N818 - httpx's name
    """It left, and no answer came."""


def grant_of(kind: str) -> Any:
    """A grant of one of four kinds."""
    if kind == "client":
        return ClientCredentials(URL, client_secret="s", **OPTIONS)
    if kind == "refresh":
        return RefreshToken(URL, **OPTIONS)
    return Login(60.0 if kind == "person" else 0.0, URL, **OPTIONS)


class Hand:
    """One process: a source, a store, and a server that hands out a1, a2 … and r1, r2 … unless `answers` has another.

    Args:
        kind: "client", "refresh", "login" (no person) or "person".
        store: shared with another process.
        widens: an API may ask for more scope.
    """

    def __init__(self, kind: str = "refresh", store: MemoryStore | None = None, *, widens: bool = False) -> None:
        self.now = 1_000_000.0
        self.policy = RenewalPolicy(clock=Clock(lambda: self.now, lambda: self.now), random=lambda: 0.0)
        self.store = store or MemoryStore()
        self.source = self._source("f")
        self.renewals = Renewals(self.source, grant_of(kind), self.policy, widens=widens)
        self.steps: list[Any] = []
        self.forms: list[dict[str, str]] = []
        self.answers: list[Any] = []
        self.before: dict[type, Callable[[], Any]] = {}
        self.broken: set[type] = set()
        self.told: list[Any] = []
        self._on_event = self.told.append
        self.source.listen(self)
        self.number = 0

    def _source(self, fingerprint: str) -> TokenSource:
        return TokenSource(fingerprint, fingerprint, self.store, lambda token: f"Bearer {token.access_token}")

    def sibling(self) -> Renewals:
        """For another resource, of the same session."""
        grant = Errand(self.renewals, self.renewals.grant.using(resource="https://x"))
        return Renewals(self._source("sibling"), grant, self.policy)

    def entry(self, name: str, **notes: Any) -> Entry:
        """A pair of tokens of an hour."""
        token = Token(f"a{name}", refresh_token=f"r{name}")
        return Entry(token, self.now, 3600.0, **{"session": "s", **notes})

    def has(self, entry: Entry, *, held: bool = True) -> Entry:
        """The store holds `entry`; and memory, too."""
        self.store._entries["f"] = entry
        if held:
            self.source.held = self.source.hold(entry, self.policy)
        return entry

    @property
    def stored(self) -> Any:
        return self.store.load("f")

    @property
    def value(self) -> str | None:
        return None if self.source.held is None else self.source.held.value

    def grants(self) -> list[str]:
        """What was asked of the server: grant types, and what was given back."""
        return [form.get("grant_type") or f"revoke {form['token']}" for form in self.forms]

    def token(self, renewals: Renewals | None = None) -> str:
        """As `TokenAuth.token`."""
        renewals = renewals or self.renewals
        held = self.run(current(renewals), renewals.source)
        return str(held.entry.token.access_token)

    def refused(self, **board: Any) -> Any:
        """A flight that replaces a refused token, not flown yet."""
        return self.source.board(self.policy, self.source.held, **board).flight

    def run(self, flow: Generator[Any, Any, Any], source: TokenSource | None = None, flight: Any = None) -> Any:
        """Perform `flow` to its end."""
        source = source or self.source
        answer, error = None, None
        while True:
            try:
                step = flow.throw(error) if error is not None else flow.send(answer)
            except StopIteration as end:
                return end.value
            self.steps.append(step)
            answer, error = None, None
            happens = self.before.pop(type(step), None)
            if happens is not None:
                happens()
            try:
                answer = self._perform(step, source, flight)
            except Exception as failed:  # noqa: BLE001 - for the flow to judge
                error = failed

    def play(self, *answers: Answer, retry: bool = True) -> list[Held | None]:
        """What one request is sent with, each time, answered like this: with all of it, no less and no more."""
        flow = authorize(self.source, self.policy, self.renewals, Sending(retry=retry))
        given, sent = list(answers), []

        def conduct() -> Generator[Any, Any, None]:
            answer, error = None, None
            while True:
                try:
                    step = flow.send(answer) if error is None else flow.throw(error)
                except StopIteration:
                    return
                answer, error = None, None
                if isinstance(step, Send):
                    sent.append(step.held)
                    answer = given.pop(0)
                    continue
                try:
                    answer = yield step
                except Exception as failed:  # noqa: BLE001 - for the flow to judge
                    error = failed

        self.run(conduct())
        assert given == []
        return sent

    def _perform(self, step: Any, source: TokenSource, flight: Any) -> Any:
        if type(step) in self.broken:
            raise StoreError("broken")
        if isinstance(step, Work):
            return step.function()
        if isinstance(step, Load):
            return self.store.load(source.fingerprint)
        if isinstance(step, Save):
            return self.store.save(source.fingerprint, step.entry, replaces=step.replaces)
        if isinstance(step, Fetch):
            if flight is not None:
                flight.requests += 1
            return self._answer(dict(step.request.form))
        if isinstance(step, Elsewhere):
            return self.run(step.flow, step.source, flight)
        if isinstance(step, Patience):
            flight.asked = True
            flight.last(step.seconds)
        elif isinstance(step, Sleep):
            self.now += step.seconds
        elif isinstance(step, Wait | Launch) and step.renewal is not None:
            self.fly(step.flight, step.renewal, source)
        return step.flight.future.result(0) if isinstance(step, Wait) else None

    def fly(self, flight: Any, renewal: Any = None, source: TokenSource | None = None) -> None:
        """Perform the renewal that `flight` needs, and land it."""
        source = source or self.source
        try:
            held = self.run(renewal or lead(flight, self.renewals), source, flight)
        except TokenFlowError as error:
            source.fail(flight, error)
        else:
            source.land(flight, held)

    def _answer(self, form: dict[str, str]) -> ServerResponse:
        self.forms.append(form)
        given = self.answers.pop(0) if self.answers else None
        if isinstance(given, type):
            raise given
        if given is not None or "token" in form:
            return given or ServerResponse(200, {}, b"")
        self.number += 1
        answer = {"access_token": f"new{self.number}", "expires_in": 3600, "scope": form.get("scope", "")}
        if form["grant_type"] != "client_credentials":
            answer["refresh_token"] = f"next{self.number}"
        return ServerResponse(200, {}, json.dumps(answer).encode())

    def leases(self) -> list[float]:
        """The leases that were asked for, in seconds."""
        return [step.seconds for step in self.steps if isinstance(step, Lease)]
