"""A server that fails is left alone for a while, and whoever needs it meanwhile has the error of the last time.

Rules.

1. The pause is a second, then two, up to `most`, and as long as the server asks for: five minutes at most.
2. What fails together is one failure: many questions that were under way make the pause no longer than one does.
3. The first failure of a row is a warning in the log, so that a wrong secret is not silent; those after it are not.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from httpx_tokenflow._errors import TokenEndpointUnavailable, TokenFlowError

if TYPE_CHECKING:
    from httpx_tokenflow._times import Clock

__all__ = ["Pauses"]

logger = logging.getLogger("httpx_tokenflow")

MOST_PAUSE = 300.0  # seconds, whatever the server asks for


class Pauses:
    """What one place has failed with, and how long it is left alone.

    Args:
        most: seconds, unless the server asks for more.
        clock: for that.
    """

    def __init__(self, most: float, clock: Clock) -> None:
        self._most, self._clock = most, clock
        self._until = -math.inf
        self._error: TokenFlowError | None = None
        self.row = 0
        """Failures in a row, to be handed to `failed` by whoever has begun something."""

    @property
    def is_on(self) -> bool:
        """Whether it is to be left alone now."""
        return self._clock.monotonic() < self._until

    def failed(self, error: TokenFlowError, row: int, then: str) -> None:
        """What was begun when the row was `row` has failed; `then` says what comes of it."""
        asked = min(getattr(error, "retry_after", None) or 0.0, MOST_PAUSE)
        if row == self.row:
            logger.log(logging.INFO if row else logging.WARNING, "%s; %s", error, then)
            asked = max(asked, min(2.0 ** min(row, 16), self._most))
            self.row += 1
        self._until = max(self._until, self._clock.monotonic() + asked)
        self._error = error

    def over(self) -> None:
        """It has answered: the row is over."""
        self.row, self._until, self._error = 0, -math.inf, None

    def error(self, what: str) -> TokenFlowError:
        """The error of the last time, with the time that is left; `what` says it where there was none."""
        cause = self._error
        left = max(0.0, self._until - self._clock.monotonic())
        words = what if cause is None else str(cause)
        error = TokenEndpointUnavailable(words, outcome="not sent", retry_after=left)
        error.__cause__ = cause
        return error
