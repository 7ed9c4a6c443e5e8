"""What all `auth=` objects do with a request: where the heart meets httpx and httpx2.

Rules.

1. The fast path: a token is in memory, it is fresh, and nothing about the request is out of the ordinary. Then it costs
   a look at the two clocks and one header: no lock, no await, no generator but the one that httpx itself needs. In the
   last third of a token's life it costs a look at the request's timeout as well.
2. Everything else is `_flow.authorize`; here its steps are performed: `Send` and `Drain` with the host's request and
   response, the others by a driver.
3. The same object serves clients of both libraries. It is made from httpx's `Auth`, and says yes when somebody asks
   whether it is one of httpx2's as well. Whether httpx2 is imported, and when, is up to the program: it costs 40 ms.
4. The caller's own credential on a request wins: such a request goes out untouched, and its 401 is not ours.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import httpx

from ._bodies import is_replayable
from ._credentials import InAuthorization, as_field
from ._drivers import LoopDriver, ThreadDriver
from ._errors import ConfigurationError, TokenFlowError
from ._flow import authorize
from ._handlers import checked
from ._libraries import LIBRARIES, library_of
from ._origins import Origins, origin_of
from ._steps import Answer, Drain, Read, Send, Step

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable

    import httpx2

    from ._credentials import Placement
    from ._flights import Held
    from ._lifecycle import RenewalPolicy
    from ._sources import TokenSource
    from ._terms import Renewals
    from ._token_client import TokenClient
    from .events import Event

    class _Base(httpx.Auth, httpx2.Auth):  # rule 3, as a type checker sees it
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...
        def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...
        def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]: ...
else:
    _Base = httpx.Auth

__all__ = ["CredentialAuth"]

_D = TypeVar("_D", ThreadDriver, LoopDriver)

_WORTH_A_LOOK = frozenset({401, 403})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 §9.2.1


_ANYWHERE = Origins(None, httpx.URL)  # for all who give no origins=
_KNOWN: set[type] = set()  # kinds of headers in which the fast path can look for the caller's own


@functools.cache
def _of_both(kind: Any, other: Any) -> type:
    """`kind` as it would be with the `Auth` of httpx2 among its bases (rule 3)."""
    return type(kind.__name__, (kind, other), {"__module__": kind.__module__, "__doc__": kind.__doc__})


class CredentialAuth(_Base):
    """What all `auth=` objects of ours do with a request."""

    _placement: Placement = InAuthorization()

    def __init__(
        self,
        source: TokenSource,
        renewals: Renewals | None,
        policy: RenewalPolicy,
        client: TokenClient,
        origins: Iterable[str] | None,
        on_event: Callable[[Event], object] | None,
        should_renew: Callable[[Any], bool] | None = None,
    ) -> None:
        self._source = source
        self._renewals = renewals
        self._policy = policy
        self._now = policy.clock.monotonic
        self._now_wall = policy.clock.wall
        self._origins = _ANYWHERE if origins is None else Origins(origins, httpx.URL)
        self._is_pinned = origins is not None
        self._passed = self._origins.passed
        # None for what is sealed.
        self._known: set[type] = set() if self._placement.sealed else _KNOWN
        self._client = client
        self._should_renew = should_renew
        if on_event is not None:
            self._on_event = checked(on_event)
            source.listen(self)
            if getattr(on_event, "every_request", False) is True:
                from ._watching import watch  # for those who have such a handler

                watch(self, self._on_event)

    @property  # type: ignore[misc]  # typeshed has it as a plain attribute
    def __class__(self) -> Any:
        """Rule 3: where `isinstance` looks before it says no."""
        kind: Any = type(self)
        other = getattr(sys.modules.get("httpx2"), "Auth", None)
        return kind if other is None or issubclass(kind, other) else _of_both(kind, other)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source!r}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} is not pickled: it holds credentials and open connections; "
            "make one in each process, and let them share a store"
        )

    def _stamp(self, request: Any) -> Held | None:
        """The token that was put on `request`; None if one of the two is out of the ordinary (rule 1)."""
        held = self._source.held
        if held is None or "tokenflow" in request.extensions:
            return None
        if (self._now() >= held.fresh_until or self._now_wall() >= held.fresh_until_wall) and not self._serves(
            held, request
        ):
            return None
        url = request.url
        if (self._is_pinned or url.scheme != "https") and (url.scheme, url.raw_host, url.port) not in self._passed:
            return None
        headers = request.headers
        if type(headers) not in self._known:
            return None
        fields = headers._list  # noqa: SLF001 - the public doors would cost more than all the rest; see _has_own
        for field in fields:
            if field[1] == b"authorization":
                return None
        fields.append(held.field)
        return held

    def _serves(self, held: Held, request: Any) -> bool:
        """Whether `held` can go on `request` although it is no longer young."""
        age = held.age(self._policy.clock)
        return age < held.look and (not self._policy.cover_timeout or held.life.covers(age, _timeout_of(request)))

    def _has_own(self, request: Any) -> bool:
        """Whether the caller has put a credential on `request` (rule 4)."""
        kind: Any = type(request.headers)
        if kind in self._known:
            return any(field[1] == b"authorization" for field in request.headers._list)  # noqa: SLF001 - as in _stamp
        # Open the fast path for the library's own headers, if what it does comes to the same as the public doors.
        probe = kind()
        probe["Authorization"] = "x"
        is_plain = getattr(probe, "_list", None) == [as_field("x")] and kind.__module__.partition(".")[0] in LIBRARIES
        if is_plain and self._known is _KNOWN:
            _KNOWN.add(kind)
        return self._placement.is_on(request)

    def _is_ours(self, request: Any) -> bool:
        """Whether our credential goes on `request`: the caller has not switched it off, nor put on one of their own."""
        return _option(request, "auth") and not self._has_own(request)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """The flow for `httpx.Client` and `httpx2.Client`."""
        held, response = self._stamp(request), None
        if held is not None:
            response = yield request
            if response.status_code not in _WORTH_A_LOOK and self._should_renew is None and not self._source.breakers:
                return
        talk = self._talk(request, held, response)
        driver = ThreadDriver(self._source, self._policy, self._client, library_of(request))
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                asked = talk.send(answer) if error is None else talk.throw(error)
            except StopIteration:
                return
            answer = error = None
            if not isinstance(asked, Step):
                answer = yield asked
                continue
            try:
                answer = driver.perform(asked)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """The flow for `httpx.AsyncClient` and `httpx2.AsyncClient`."""
        held, response = self._stamp(request), None
        if held is not None:
            response = yield request
            if response.status_code not in _WORTH_A_LOOK and self._should_renew is None and not self._source.breakers:
                return
        talk = self._talk(request, held, response)
        driver = LoopDriver(self._source, self._policy, self._client, library_of(request))
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                asked = talk.send(answer) if error is None else talk.throw(error)
            except StopIteration:
                return
            answer = error = None
            if not isinstance(asked, Step):
                answer = yield asked
                continue
            try:
                answer = await driver.perform(asked)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed

    def _talk(self, request: Any, held: Held | None, response: Any) -> Generator[Any, Any, None]:
        """Everything but the fast path: yields requests, for which it is sent responses, and steps for a driver."""
        try:
            if held is None and not self._is_ours(request):
                yield request  # rule 4
                return
            self._origins.check(request.url)
            sending = _Sending(request, response)
            sent = None if held is None else (held, (yield from self._answer(sending, held)))
            flow = authorize(self._source, self._policy, self._renewals, sending, sent)
            yield from self._follow(flow, sending)
        except TokenFlowError as error:
            error.request = request
            raise

    def _follow(self, flow: Generator[Step, Any, None], sending: _Sending) -> Generator[Any, Any, None]:
        """Do what `flow` says with the request."""
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration:
                return
            except TokenFlowError as failed:
                failed.response = sending.response
                raise
            answer = error = None
            try:
                if isinstance(step, Send):
                    yield from self._send(sending, step.held)
                    answer = yield from self._answer(sending, step.held)
                else:
                    answer = yield (Drain(sending.response) if isinstance(step, Drain) else step)
            except Exception as failed:  # noqa: BLE001 - the flow decides what it means
                error = failed

    def _send(self, sending: _Sending, held: Held | None) -> Generator[Any, Any, None]:
        """Send the request with `held`, and again where a redirect within the origin has lost a sealed credential."""
        if held is None:
            sending.response = yield sending.request
            return
        while True:
            request = sending.request
            self._placement.put(request, held)
            try:
                sending.response = yield request
                sending.carried = self._placement.carries(request, held)
            finally:
                self._placement.take_off(request)
            hop = _next_hop(request, sending.response) if self._placement.sealed else None
            if hop is None:
                return
            yield Drain(sending.response)
            sending.request = hop

    def _answer(self, sending: _Sending, held: Held | None) -> Generator[Any, Any, Answer]:
        """The response as the flow sees it."""
        request, response = sending.request, sending.response
        has_nonce = self._placement.heed(response)
        if response.status_code not in _WORTH_A_LOOK and self._should_renew is None and not self._source.breakers:
            return Answer(response.status_code)
        if held is None:
            ours = origin_of(response.request.url) == origin_of(request.url)
        elif self._placement.sealed:
            ours = sending.carried and response.request is request
        else:
            ours = self._placement.carries(response.request, held)
        if ours:
            # Where a redirect within the origin was followed, what comes next goes to where it led: what was sent
            # before may have been done (a POST that was answered with 303).
            sending.request = response.request
        expired = False
        if self._should_renew is not None:
            try:
                expired = bool(self._should_renew(response))
            except Exception as error:
                if type(error).__name__ != "ResponseNotRead":  # one class in each library
                    raise
                yield Read(response)
                expired = bool(self._should_renew(response))
        challenges = tuple(response.headers.get_list("WWW-Authenticate"))
        url, place = response.request.url, self._placement.place
        return Answer(response.status_code, challenges, ours, expired, origin_of(url), has_nonce, url, response, place)

    def _driver(self, kind: type[_D]) -> _D:
        return kind(self._source, self._policy, self._client, httpx)


class _Sending:
    """A request on its way, and the last response to it; what the flow may want to know is looked up when it does."""

    __slots__ = ("carried", "request", "response")

    def __init__(self, request: Any, response: Any) -> None:
        self.request = request
        self.response = response
        self.carried = False  # it was our credential that went out, as far as the request itself can tell

    @property
    def replayable(self) -> bool:
        return is_replayable(self.request)

    @property
    def retry(self) -> bool:
        return _option(self.request, "retry")

    @property
    def timeout(self) -> float:
        return _timeout_of(self.request)


def _option(request: Any, name: str) -> bool:
    """A switch in ``extensions={"tokenflow": {…}}`` of one request; on unless it is switched off."""
    options = request.extensions.get("tokenflow")
    if options is None:
        return True
    if not isinstance(options, dict) or options.keys() - {"auth", "retry"}:
        raise ConfigurationError('extensions["tokenflow"] takes {"auth": False} or {"retry": False}, nothing else')
    return bool(options.get(name, True))


def _timeout_of(request: Any) -> float:
    """Seconds that `request` may take by the longest of its timeouts; 0 if it waits for its answer for ever."""
    timeouts = request.extensions.get("timeout") or {}
    if timeouts.get("read") is None:
        return 0.0
    return float(max(seconds for seconds in timeouts.values() if seconds is not None))


def _next_hop(request: Any, response: Any) -> Any:
    """The request that a redirect within the origin sent without the sealed credential; None: there is none to mend.

    Its answer is given up for one with the credential, unless it may already have done something.
    """
    following = None
    hop = response.request
    for answered in reversed(response.history):
        if hop is request:
            break
        following, hop = hop, answered.request
    if following is None or origin_of(following.url) != origin_of(request.url):
        return None
    return following if following.method in _SAFE or response.status_code >= 400 else None
