"""Plays a scenario with one kind of client, through the public surface only.

What holds for every scenario is checked without being said: no secret in an event, an error or a log line; an error
that several callers get is another object for each of them, from one cause.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from conformance.given import Given
from conformance.hands import HANDS, PATIENCE, Call, Gate, Hand
from conformance.scenario import verb_of
from conformance.server import API, OTHER_API, TAIL

from httpx_tokenflow import Token, events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = ["play"]


def play(scenario: dict[str, Any], library: ModuleType, way: str) -> None:
    """Play `scenario` with clients of `library`, used from threads, or on asyncio's or trio's loop."""
    hand = HANDS[way](library)
    patience = scenario["given"].get("patience", PATIENCE)  # in real time, of which a scenario knows nothing
    with _logged() as lines, patch("httpx_tokenflow._flow.PATIENCE", patience):
        player = _Player(scenario["given"], hand)
        hand.play(lambda: player.play(scenario))
    shown = [*lines, *map(str, player.given.events), *map(repr, player.given.events)]
    shown += [text for error in player.errors for text in (str(error), repr(error))]
    leaks = [text for text in shown if TAIL in text]
    assert not leaks, f"a secret has leaked: {leaks}"


@contextmanager
def _logged() -> Iterator[list[str]]:
    """The log lines of the package, all of them."""
    lines: list[str] = []
    logger, handler = logging.getLogger("httpx_tokenflow"), logging.Handler()
    handler.emit = lambda record: lines.append(logging.Formatter().format(record))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Player:
    """One scenario, while it is played."""

    def __init__(self, given: dict[str, Any], hand: Hand) -> None:
        self.hand = hand
        hand.gates = {where: Gate(hand.event) for where in ("api", "other_api", "token_endpoint")}
        self.given = Given(given, hand.client)
        self.clock, self.server, self.auth = self.given.clock, self.given.server, self.given.auth
        self.errors: list[Exception] = []
        self.calls: list[Call] = []

    # the scenario

    async def play(self, scenario: dict[str, Any]) -> None:
        try:
            await self._play(scenario)
        finally:
            for gate in self.hand.gates.values():
                gate.open()

    async def _play(self, scenario: dict[str, Any]) -> None:
        for at, step in enumerate(scenario["steps"], 1):
            try:
                if step.get("only", self.side) == self.side:
                    await self._play_step(step)
            except BaseException as error:
                error.add_note(f"in step {at} of {scenario['name']!r}: {step}")
                raise
        try:
            self._check_end(scenario["expect"])
        except AssertionError as error:
            error.add_note(f"at the end of {scenario['name']!r}")
            raise
        for client in self.given.all_clients:
            await self.hand.close(client)

    @property
    def side(self) -> str:
        return "threads" if self.hand.is_threads else "loops"

    async def _play_step(self, step: dict[str, Any]) -> None:
        verb = verb_of(step)
        carried, requests = len(self.server.carried), self.server.token_requests
        await getattr(self, f"do_{verb}")(step[verb], step)
        await self._come_to_rest()
        self._check("carrying", step, self.server.carried[carried:])
        self._check("token_requests", step, self.server.token_requests - requests)
        self._check("waiting", step, self._waiting())

    async def _come_to_rest(self) -> None:
        """Every caller is done, or waits for a renewal, or for an answer that is held; and so does the renewal."""
        await self.hand.until(self._is_at_rest)

    def _is_at_rest(self) -> bool:
        active = sum(call.outcome is None for call in self.calls)
        apis, endpoint = self._held("api") + self._held("other_api"), self._held("token_endpoint")
        leads = endpoint if self.hand.is_threads else 0  # a thread that leads is no waiter
        return active <= apis + self._waiting() + leads and (self._flight is None or endpoint > 0)

    def _held(self, where: str) -> int:
        return self.hand.gates[where].held

    def _waiting(self) -> int:
        flight = self._flight
        return 0 if flight is None else flight.waiting

    @property
    def _flight(self) -> Any:
        """The renewal in the air: the one look behind the public surface."""
        return self.auth._source.flight

    # steps

    async def do_send(self, number: int, step: dict[str, Any]) -> None:
        outcomes = []
        for _ in range(number):
            try:
                outcomes.append(await self._request(step))
            except Exception as error:  # noqa: BLE001 - an outcome to judge
                outcomes.append(error)
            await self._come_to_rest()
        self._judge(outcomes, step)

    async def do_at_once(self, number: int, step: dict[str, Any]) -> None:
        assert not self.calls, "callers that were started have to finish first"
        for gate in self.hand.gates.values():
            gate.shut()
        await self.do_start(number, step)
        for gate in self.hand.gates.values():  # the token endpoint last
            gate.open()
            await self._come_to_rest()
        await self.do_finish(number, step)

    async def do_start(self, number: int, step: dict[str, Any]) -> None:
        for _ in range(number):
            self.calls.append(call := Call())
            self.hand.start(call, lambda: self._request(step))
        await self._come_to_rest()

    async def do_finish(self, number: int, step: dict[str, Any]) -> None:
        assert number == len(self.calls), f"{len(self.calls)} callers were started"
        await self.hand.until(lambda: all(call.outcome is not None for call in self.calls))
        outcomes, self.calls = [call.outcome for call in self.calls], []
        self._judge(outcomes, step)

    async def do_cancel(self, numbers: list[int], _step: dict[str, Any]) -> None:
        for number in numbers:
            call = self.calls[number - 1]
            assert call.cancel is not None, "a thread cannot be cancelled: say only loops"
            call.cancel()
            await self.hand.until(lambda call=call: call.outcome is not None)

    async def do_hold(self, where: str, _step: dict[str, Any]) -> None:
        self.hand.gates[where].shut()

    async def do_release(self, where: str, _step: dict[str, Any]) -> None:
        self.hand.gates[where].open()

    async def do_let_out(self, where: str, _step: dict[str, Any]) -> None:
        self.hand.gates[where].open()
        self.hand.gates[where].shut()

    async def do_suspend(self, seconds: float, _step: dict[str, Any]) -> None:
        self._check_clock()
        self.clock.move(seconds, monotonic=0.0)

    async def do_set_wall_clock(self, seconds: float, _step: dict[str, Any]) -> None:
        self._check_clock()
        self.clock.wall += seconds

    async def do_pass(self, seconds: float, _step: dict[str, Any]) -> None:
        self._check_clock()
        self.clock.move(seconds)

    def _check_clock(self) -> None:
        assert hasattr(self.auth, "status"), "this kind of auth goes by the machine's own clock"

    async def do_server(self, given: dict[str, Any], _step: dict[str, Any]) -> None:
        self.server.change(given)

    async def do_revoke(self, names: list[str], _step: dict[str, Any]) -> None:
        self.server.revoke(names)

    async def do_set_token(self, given: dict[str, Any], _step: dict[str, Any]) -> None:
        await self.hand.use(self.auth, "set_token", self.given.make_token(given))

    async def do_another_process_stores(self, given: dict[str, Any], _step: dict[str, Any]) -> None:
        self.given.store_elsewhere(given)

    async def do_store_fails(self, verbs: list[str], _step: dict[str, Any]) -> None:
        self.given.store.failing = set(verbs)

    async def do_warm(self, expected: Any, _step: dict[str, Any]) -> None:
        _same(await self._outcome_of("warm"), self._pick(expected), "warm()")

    async def do_token(self, expected: Any, _step: dict[str, Any]) -> None:
        got = await self._outcome_of("token")
        name = self.server.name_of(got.access_token) if isinstance(got, Token) else got
        _same(name, self._pick(expected), "token()")

    async def _outcome_of(self, method: str) -> Any:
        try:
            return await self.hand.use(self.auth, method)
        except Exception as error:  # noqa: BLE001 - an outcome to judge
            self.errors.append(error)
            return type(error).__name__

    async def do_status(self, expected: dict[str, Any], _step: dict[str, Any]) -> None:
        self._check_status(expected)

    def _check_status(self, expected: dict[str, Any]) -> None:
        status = self.auth.status
        found = {
            "state": str(status.state),
            "expires_in": status.expires_in,
            "last_error": None if status.last_error is None else type(status.last_error).__name__,
            "waiting": status.waiting,
        }
        for key, value in self._pick(expected).items():
            _same(found[key], self._pick(value), f"status.{key}")

    async def _request(self, step: dict[str, Any]) -> int:
        where = step.get("to", "api")
        options: dict[str, Any] = {}
        if "timeout" in step:
            options["timeout"] = step["timeout"]
        if "option" in step:
            options["extensions"] = {"tokenflow": step["option"]}
        if step.get("body") == "once":
            options["content"] = self._once()
        url = API if where == "api" else OTHER_API
        response = await self.hand.use(self.given.clients[where], "request", "POST", url, **options)
        status: int = response.status_code
        return status

    def _once(self) -> Any:
        """A body that can be read once."""

        async def chunks() -> Any:
            yield b"chunk"

        return iter([b"chunk"]) if self.hand.is_threads else chunks()

    # judging

    def _judge(self, outcomes: list[Any], step: dict[str, Any]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        self.errors += errors
        got = [type(one).__name__ if isinstance(one, Exception) else one for one in outcomes]
        try:
            self._check("gets", step, got)
        except AssertionError as failed:
            for error in errors:
                failed.__cause__ = error
            raise
        assert len({id(error) for error in errors}) == len(errors), "two callers got one error object"
        if verb_of(step) != "send":
            assert len({id(error.__cause__) for error in errors}) <= 1, "callers at once got errors from several causes"
        for error in errors:
            for name, value in self._pick(step.get("error", {})).items():
                found = getattr(error, name)
                _same(getattr(found, "status_code", found), value, f"error.{name}")

    def _check(self, key: str, expected: dict[str, Any], found: Any) -> None:
        """`expected[key]`, if it is there: for a list that was found, one for all, a list in order, or counts."""
        if key not in expected:
            return
        value = self._pick(expected[key])
        if isinstance(found, list) and isinstance(value, dict):
            _same(dict(Counter(map(str, found))), value, key)
        elif isinstance(found, list) and not isinstance(value, list):
            _same(found, [value] * max(1, len(found)), key)
        else:
            _same(found, value, key)

    def _pick(self, value: Any) -> Any:
        """`value`, or what it says of this driver."""
        if isinstance(value, dict) and value and value.keys() <= {"threads", "loops"}:
            return value[self.side]
        return value

    def _check_end(self, expect: dict[str, Any]) -> None:
        server = self.server
        self._check("token_requests", expect, server.token_requests)
        self._check("api_sends", expect, len(server.carried))
        self._check("carried", expect, server.carried)
        self._check("presented", expect, dict(server.presented))
        self._check("secrets", expect, server.secrets)
        self._check("timeouts", expect, server.timeouts)
        self._check("leased", expect, self.given.store.leased)
        self._check("asked", expect, self.given.asked)
        self._check("slept", expect, self.clock.slept)
        self._check("waited", expect, sum(isinstance(event, events.Waited) for event in self.given.events))
        self._check("refused", expect, sum(isinstance(event, events.RequestRefused) for event in self.given.events))
        if "events" in expect:
            self._check_events(self._pick(expect["events"]))
        if "status" in expect:
            self._check_status(expect["status"])
        if "stored" in expect:
            entry = self.given.store.load(self.auth._source.fingerprint)
            found = None if entry is None else server.name_of(entry.token.access_token)
            _same(found, self._pick(expect["stored"]), "stored")

    def _check_events(self, expected: list[Any]) -> None:
        told = [
            one
            for one in self.given.events
            if not isinstance(one, events.Waited | events.RequestRefused | events.RefusalExplained)
        ]
        wanted = [one if isinstance(one, dict) else {one: {}} for one in expected]
        _same([type(event).__name__ for event in told], [next(iter(one)) for one in wanted], "events")
        for event, one in zip(told, wanted, strict=True):
            for name, value in next(iter(one.values())).items():
                found = getattr(event, name)
                found = type(found).__name__ if isinstance(found, Exception) else found
                _same(found, self._pick(value), f"{type(event).__name__}.{name}")


def _same(found: Any, expected: Any, what: str) -> None:
    is_number = isinstance(expected, int | float) and not isinstance(expected, bool)
    is_same = found == (pytest.approx(expected, abs=1e-6) if is_number else expected)
    assert is_same, f"{what}: {found!r}, expected {expected!r}"
