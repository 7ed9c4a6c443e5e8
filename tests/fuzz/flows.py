"""Flows of grants, performed without any I/O: the answers are whatever was drawn, and time passes only in sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._loopback import Listener
from httpx_tokenflow._steps import Call, Fetch, Sleep, Work
from httpx_tokenflow._times import Clock

from .draws import sure

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from httpx_tokenflow._steps import ServerRequest

    from .draws import Draws

NOW = 1_800_000_000.0
OVER = ServerResponse(400, {}, b'{"error": "access_denied"}')  # what is answered when nothing is left
STATUSES = (200, 200, 200, 200, 201, 204, 301, 400, 400, 401, 403, 404, 407, 429, 500, 503, 0, 999)
MOST_REQUESTS = 300  # of one flow: whoever polls a device's login for ten minutes has 120


class World:
    """What a flow is performed in.

    Args:
        answers: to its requests, in order; `OVER` when there are no more.
        callback: where the browser comes back to.
    """

    def __init__(self, answers: Iterable[ServerResponse], callback: str = "/") -> None:
        self._answers = iter(answers)
        self._callback = callback
        self._now = 0.0
        self.clock = Clock(lambda: self._now, lambda: NOW + self._now)
        self.requests: list[ServerRequest] = []

    def attempt(self, **more: Any) -> Attempt:
        """What the flow may go by."""
        return Attempt(**{"presented": None, "deadline": 30.0, "clock": self.clock, **more})

    def play(self, flow: Generator[Any, Any, Any]) -> Any:
        """Perform `flow` to its end."""
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return end.value
            answer = self._perform(step)

    def _perform(self, step: Any) -> Any:
        if isinstance(step, Fetch):
            self.requests.append(step.request)
            sure(len(self.requests) < MOST_REQUESTS, "a flow comes to no end")
            return next(self._answers, OVER)
        if isinstance(step, Sleep):
            sure(step.seconds >= 0, "a sleep of less than nothing", step)
            self._now += step.seconds
        elif isinstance(step, Work) and isinstance(getattr(step.function, "__self__", None), Listener):
            return self._callback
        elif isinstance(step, Call | Work):
            return step.function()
        return None


def answer(draws: Draws) -> ServerResponse:
    """Whatever a server may answer."""
    names = ("date", "retry-after", "content-type", "dpop-nonce", "x")
    headers = {name: draws.line() for name in names if draws.byte() & 1}
    cookies = tuple(draws.line() for _ in range(draws.number(2)))
    return ServerResponse(draws.pick(STATUSES), headers, draws.body(), cookies)
