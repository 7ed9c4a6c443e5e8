"""What happened: frozen dataclasses, for hooks, logs and metrics.

Each event goes to every `on_event` of the objects that share the token, and to the logger ``httpx_tokenflow`` as the
sentence that ``str(event)`` gives: the path taken at DEBUG, a renewal at INFO, a failure at WARNING.

Rules.

1. An event has no secret in it: names, numbers, origins, and errors of ours, which have none either.
2. It is told when what it tells of is over, outside any lock, by whoever did it: in the thread, or on the event loop,
   of a request or of a renewal. A handler that raises an Exception is logged and breaks nothing; one that is slow
   delays whoever tells, so it should be quick, or hand over to a queue.
3. Every single request is told of (`RequestDone`) to those handlers alone that say ``every_request = True``, an
   attribute of theirs: a request with a fresh token should cost no more than a static header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ._handlers import Joined, checked, tell_one
from ._lifecycle import Why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._errors import StoreError, TokenFlowError

__all__ = [
    "BreakerClosed", "BreakerOpened", "Event", "RefusalExplained", "RenewalFailed", "RequestDone", "RequestRefused",
    "Revoked", "SecretFellBack", "StoreFailed", "TokenObtained", "TokenRenewed", "Waited", "Why", "to_all",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        source: names the source of the token: client and server.
    """

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenObtained(Event):
    """There was no token, and now there is one.

    Attributes:
        renewal: the number of the renewal, by which `Waited` names it; in this process.
        grant: the kind of grant that was asked, such as "ClientCredentials".
        why: why it was fetched.
        minted: the grant has brought it; False: somebody else had, and it was in the store.
        requests: token requests that it took.
        expires_in: seconds that it has left.
        seconds: from the moment that it was wanted until it was there. Of these:
        endpoint_seconds: in requests to the authorization server;
        store_seconds: in the store;
        wait_seconds: in waiting, to get the lease, for a renewal that this one needs, or between two attempts. What is
            left is work of this process, of the program's callables and of a person who logs in.
        waiting: how many waited for it; not the thread that renewed.
    """

    renewal: int
    grant: str
    why: Why
    minted: bool
    requests: int
    expires_in: float
    seconds: float
    endpoint_seconds: float
    store_seconds: float
    wait_seconds: float
    waiting: int

    def __str__(self) -> str:
        how = "obtained" if type(self) is TokenObtained else "renewed"
        whence = f"{self.requests} token request(s)" if self.minted else "from the store"
        return (
            f"{self.source}: token {how} ({self.why}), {whence}, in {self.seconds:.3f} s, {self.waiting} waiting; "
            f"it ends in {self.expires_in:.0f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRenewed(TokenObtained):
    """One token has taken the place of another; the attributes are those of `TokenObtained`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFailed(Event):
    """A renewal has failed; whoever has a token that has not ended goes on with it.

    Attributes:
        renewal: its number, by which `Waited` names it; in this process.
        grant: the kind of grant that was asked, such as "ClientCredentials".
        why: why it was tried.
        error: how it failed.
        requests: token requests that were made.
        retry_in: seconds until the next renewal may be tried.
        expires_in: seconds that the token at hand has left; None: there is none.
        seconds: that it took; of these `endpoint_seconds`, `store_seconds` and `wait_seconds` as in `TokenObtained`.
        waiting: how many waited for it.
    """

    renewal: int
    grant: str
    why: Why
    error: TokenFlowError
    requests: int
    retry_in: float
    expires_in: float | None
    seconds: float
    endpoint_seconds: float
    store_seconds: float
    wait_seconds: float
    waiting: int

    def __str__(self) -> str:
        left = "no token is left" if self.expires_in is None else f"the token at hand ends in {self.expires_in:.0f} s"
        return f"{self.source}: renewal failed ({self.why}): {self.error}; {left}, next try in {self.retry_in:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited(Event):
    """A request, or whoever asked for a token, has waited for a renewal.

    Attributes:
        renewal: the number of the renewal, by which the event of its end names it.
        leads: it has set off the renewal; False: it came upon it.
        seconds: how long.
        why: why the token was being renewed.
        served: it got a token; False: it got the renewal's error.
    """

    renewal: int
    leads: bool
    seconds: float
    why: Why
    served: bool

    def __str__(self) -> str:
        return (
            f"{self.source}: a request waited {self.seconds:.3f} s ({self.why}), {'' if self.served else 'not '}served"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDone(Event):
    """A request that carried our credential, or was to, is over; told only to who says ``every_request = True``.

    Attributes:
        origin: whose answer it is; where it was to go, if there was none.
        outcome: "accepted", at once, whatever else the answer says; "absorbed", after it was refused and sent again;
            "refused": the caller got a 401, and not from where a redirect led without the credential; "failed": the
            caller got an error of ours; "broken": the connection failed, the caller went away, or code of the program's
            raised.
        status: of the answer that the caller got; None: there was none.
        sends: how often it was sent.
        expires_in: seconds that the token had left when it was sent last; None: there was none, or nobody knows when it
            ends.
    """

    origin: str
    outcome: Literal["accepted", "absorbed", "refused", "failed", "broken"]
    status: int | None
    sends: int
    expires_in: float | None

    def __str__(self) -> str:
        often = "" if self.sends == 1 else f", sent {self.sends} times"
        return f"{self.source}: request to {self.origin} {self.outcome} ({self.status or 'no answer'}{often})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """An API has refused a request that carried our credential.

    Attributes:
        origin: the API's.
        status: of its answer: 401, or 403 for `insufficient_scope`, or whatever `should_renew` took for a refusal.
        error: the code in its challenge (RFC 6750 §3.1), or None.
        scope: the scope that it asks for, or None.
        stands: the answer goes to the caller; False: the request is sent again with another token.
    """

    origin: str
    status: int
    error: str | None
    scope: str | None
    stands: bool

    def __str__(self) -> str:
        said = " ".join(filter(None, [self.error, self.scope and f"(it asks for scope {self.scope!r})"]))
        told = f": {said}" if said else ""
        return (
            f"{self.source}: {self.origin} answered {self.status}{told}; {'it stands' if self.stands else 'once more'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalExplained(Event):
    """Why an API's refusal stands, as far as its answer tells (`httpx_tokenflow.doctor.explain`).

    Told once for each cause at an origin, and again after a minute if it goes on, to those who listen to the source of
    that request; what a storm ends with is told with the next one.

    Attributes:
        origin: the API's.
        status: of its answer.
        error: the code in its challenge (RFC 6750 §3.1), or None.
        cause: the cause's id, from the doctor's table; None: the answer alone does not tell.
        certainty: "certain", "likely" or "possible"; None where there is no cause.
        verdict: the cause, here, in a sentence.
        remedy: what to do about it; None where there is no cause.
        times: how many refusals have stood for this cause since it was told last, with this one.
    """

    origin: str
    status: int
    error: str | None
    cause: str | None
    certainty: str | None
    verdict: str
    remedy: str | None
    times: int

    def __str__(self) -> str:
        often = "" if self.times == 1 else f" ({self.times} times since this was last said)"
        if self.cause is None:
            why = "its answer alone does not say why; `tokenflow doctor` can look further"
        else:
            sure = "" if self.certainty == "certain" else f"{self.certainty}: "
            why = f"{sure}{self.verdict}. What to do: {self.remedy}"
        said = f" {self.error}" if self.error else ""
        return f"{self.source}: {self.origin} answered {self.status}{said}, and it stands{often}: {why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened(Event):
    """Token after token is refused by one origin: no more are minted for it, for a while. Its 401s stand.

    Attributes:
        origin: the API's.
        seconds: until one more is minted, to see.
    """

    origin: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.source}: {self.origin} refuses one fresh token after the other (audience? scope? a proxy that "
            f"drops the header?): no new one for {self.seconds:.0f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerClosed(Event):
    """An origin that refused fresh tokens has accepted one.

    Attributes:
        origin: the API's.
    """

    origin: str

    def __str__(self) -> str:
        return f"{self.source}: {self.origin} accepts tokens again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked(Event):
    """A session was given up here, for good.

    Attributes:
        agreed: the server has taken its tokens back (RFC 7009), or has nothing to take back; False: it was not reached,
            refused, or has no way to be told, and the tokens end by themselves.
    """

    agreed: bool

    def __str__(self) -> str:
        return f"{self.source}: given up here, {'and' if self.agreed else 'but not'} at the server"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFellBack(Event):
    """A secret was refused, and the next of its sequence has taken its place: the old one can go.

    Attributes:
        what: "client_secret" or "key".
    """

    what: str

    def __str__(self) -> str:
        return f"{self.source}: the {self.what} in use was refused; the next one is used from now on"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFailed(Event):
    """The store of tokens has failed, and what was done about it.

    Attributes:
        error: how.
        consequence: in words.
    """

    error: StoreError
    consequence: str

    def __str__(self) -> str:
        return f"{self.source}: {self.error}; {self.consequence}"


def to_all(*handlers: Callable[[Event], object]) -> Callable[[Event], object]:
    """One ``on_event=`` for several handlers: each is told, and once, whatever Exception another raises.

    auth = TokenAuth(grant, on_event=to_all(PrometheusMetrics(), alert_somebody))

    Raises:
        ConfigurationError: one of them cannot be called, is async, or is a class of which no object has been made.
    """
    return _ToAll([checked(one, "what to_all() joins") for one in handlers])


class _ToAll(Joined):
    def __init__(self, handlers: Iterable[Callable[[Event], object]]) -> None:
        super().__init__(handlers)
        self._of_requests = [one for one in self.leaves if getattr(one, "every_request", False) is True]
        self.every_request = bool(self._of_requests)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ToAll) and self.leaves == other.leaves

    def __hash__(self) -> int:
        return hash(_ToAll)  # a handler need not have one

    def __call__(self, event: Event) -> None:
        for one in self._of_requests if isinstance(event, RequestDone) else self.leaves:
            tell_one(one, event)
