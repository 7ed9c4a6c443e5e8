"""The steps: what a flow asks of the world, as plain data. A driver performs them and sends the answers in.

    Send      the request, with a credential                 -> Answer
    Drain     read a response that another request follows   -> None
    Read      read a response that the caller will get       -> None
    Wait      for a flight (and fly it, if it is ours)       -> Held | None
    Launch    a flight that nobody here waits for            -> None
    Load      what the store holds                           -> Entry | None
    Lease     the right to renew, among processes            -> bool: False, look again
    Fetch     one request to an authorization server         -> ServerResponse
    Call      a callable of the program's, sync or async     -> whatever it returns
    Work      a function of ours that blocks                 -> whatever it returns
    Patience  a person has to act: this takes longer         -> None
    Save      compare and set in the store                   -> bool: it was set
    Delete    compare and delete in the store                -> bool: it was deleted
    Release   the lease                                      -> None
    Keep      the lease, after the flight, for a while       -> None
    LetGo     a lease that was kept                          -> None
    Sleep     for so many seconds                            -> None
    Settle    wait a while for a flight in the air           -> None
    Elsewhere a flow on another source                       -> whatever it returns

A step that fails is answered with an exception, thrown in at the yield. Nobody changes a step; to freeze these classes
as well would cost every program 5 ms when it starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._entries import Entry
    from ._flights import Flight, Held
    from ._sources import TokenSource

__all__ = [
    "Answer", "Call", "Delete", "Drain", "Elsewhere", "Fetch", "Keep", "Launch", "Lease", "LetGo", "Load", "Patience",
    "Read", "Release", "Renewing", "Save", "Send", "ServerRequest", "Settle", "Sleep", "Step", "Wait", "Work",
]  # fmt: skip


@dataclass(slots=True)
class ServerRequest:
    """A request to an authorization server, described: a POST of a form (RFC 6749 §3.2) unless it says otherwise.

    Args:
        url: where it goes.
        form: the parameters of the body; a name may repeat (RFC 8707 §2).
        headers: what goes along.
        json: the body, where it is JSON instead of a form.
        method: POST, or GET for a document.
    """

    url: str
    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    json: Any = field(default=None, repr=False)
    method: str = "POST"

    def with_form(self, *pairs: tuple[str, str]) -> ServerRequest:
        return replace(self, form=(*self.form, *pairs))

    def with_header(self, name: str, value: str) -> ServerRequest:
        return replace(self, headers=(*self.headers, (name, value)))


@dataclass(slots=True)
class Answer:
    """What a flow needs to know of a response.

    Args:
        status: the HTTP status.
        challenges: the values of its `WWW-Authenticate` fields.
        ours: the request that was answered carried the credential that we put on it.
        expired: the program's own predicate says that the credential is no longer good.
        origin: whose answer it is, if that may matter.
        nonce: it brought a nonce for the next proof (RFC 9449 §9).
        url: of the request that was answered, if that may matter.
        response: what all this was read from, for whoever is to explain it.
        place: where the credential was: "Authorization", another field, "Cookie", or "?" and a parameter of the query.
    """

    status: int
    challenges: tuple[str, ...] = ()
    ours: bool = True
    expired: bool = False
    origin: object = ""
    nonce: bool = False
    url: object = ""
    response: Any = field(default=None, repr=False)
    place: str = "Authorization"


class Step:
    """Base of the steps."""

    __slots__ = ()


@dataclass(slots=True)
class Send(Step):
    held: Held | None  # None: without a credential


@dataclass(slots=True)
class Drain(Step):
    """Read `response`, within bounds; the flow itself does not know it and leaves it out."""

    response: Any = None


@dataclass(slots=True)
class Read(Step):
    response: Any


@dataclass(slots=True)
class Wait(Step):
    """Wait for `flight`, and not beyond `until` (monotonic seconds): then the answer is None.

    `renewal` is given to the one who has to fly it; in a thread it is flown to its end.
    """

    flight: Flight
    renewal: Renewing | None = None
    until: float = math.inf


@dataclass(slots=True)
class Launch(Step):
    """See a flight off, as a task of its own; or in a thread of its own, for which whoever asks waits `until` then.

    (Monotonic seconds.) So the one who finds a token early renews it where nothing else can run beside a program.
    """

    flight: Flight
    renewal: Renewing
    until: float = -math.inf


@dataclass(slots=True)
class Load(Step):
    pass


@dataclass(slots=True)
class Lease(Step):
    """The right to renew, for `seconds` at most; who has it now is waited for, `patience` seconds."""

    seconds: float
    patience: float


@dataclass(slots=True)
class Fetch(Step):
    """One request to an authorization server, all of it within `timeout` seconds."""

    request: ServerRequest
    timeout: float


@dataclass(slots=True)
class Call(Step):
    """Call `function`; if it is async, within `timeout` seconds."""

    function: Callable[[], Any]
    what: str
    timeout: float


@dataclass(slots=True)
class Work(Step):
    """Call `function`, which blocks: in a thread of its own where the loop would stop."""

    function: Callable[[], Any]


@dataclass(slots=True)
class Patience(Step):
    """The flight is not lost for another `seconds`: a person has to act."""

    seconds: float


@dataclass(slots=True)
class Save(Step):
    entry: Entry
    replaces: str | None  # a fence


@dataclass(slots=True)
class Delete(Step):
    fence: str


@dataclass(slots=True)
class Release(Step):
    pass


@dataclass(slots=True)
class Keep(Step):
    """Keep the lease for `seconds` at most, or until somebody says `LetGo`."""

    seconds: float


@dataclass(slots=True)
class LetGo(Step):
    pass


@dataclass(slots=True)
class Sleep(Step):
    seconds: float


@dataclass(slots=True)
class Settle(Step):
    pass


@dataclass(slots=True)
class Elsewhere(Step):
    """Perform `flow` on `source`."""

    source: TokenSource
    flow: Generator[Step, Any, Any]


Renewing = Generator[Step, Any, "Held"]
"""A renewal under way: steps out, answers in, and at the end the token that it brought."""
