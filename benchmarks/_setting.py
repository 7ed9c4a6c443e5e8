"""What a contender is put into, and what there is to know of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from _server import Server

NO_TOKEN, EXPIRED, REFUSED, IN_USE = "no token", "expired", "every 401", "in use"
ASYNCIO, TRIO, THREADS = "asyncio", "trio", "100 threads"
CREDENTIALS, REFRESH = "client credentials", "refresh token"
AZURE = "azure-core"  # a library that is none: its pipeline has a transport of its own


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contender is put into.

    Args:
        case: what awaits it.
        grant: how it gets tokens.
        is_async: it is used on an event loop.
        server: where everything goes.
        library: what its client is made of.
        lifetime: seconds that the token from before has left; 0: it has ended.
    """

    case: str
    grant: str
    is_async: bool
    server: Server
    library: str
    lifetime: int

    @property
    def module(self) -> ModuleType:
        return import_module(self.library)

    @property
    def expires_at(self) -> int:
        """When the token that everybody holds at the start ends, or has ended."""
        return int(time.time()) + (self.lifetime or -3600)

    def client(self, **how: Any) -> Any:
        """A client of the kind that is asked for, of httpx or httpx2."""
        kind = self.module.AsyncClient if self.is_async else self.module.Client
        return kind(transport=self.server.transport(self.module), trust_env=False, **how)

    def sync_client(self, **how: Any) -> Any:
        return self.module.Client(transport=self.server.transport(self.module), trust_env=False, **how)

    def session(self, session: Any = None) -> Any:
        """A session of requests, or the one given, that goes to the server."""
        requests = import_module("requests")
        session = session or requests.Session()
        session.trust_env = False
        session.mount("https://", self.server.transport(requests))
        return session


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who meets a storm, in the way that its manual shows.

    Args:
        set_up: makes the client, which all callers share; may be a coroutine function. Whatever a running program would
            have done long before happens in here, and is not measured.
        library: what its client is made of.
        sync_only: it has nothing for event loops.
        first: what it has to do itself because of the storm, before its callers may come. That is measured.
        renews_on_401: if not, it gives the 401 back, whatever its grant.
        one_at_a_time: it sends a request only after the one before has been answered.
        remarks: what to know of a row, by case, grant or runtime.
    """

    set_up: Callable[[Setting], Any]
    library: str = "httpx"
    sync_only: bool = False
    first: Callable[[Any, Setting], Any] = lambda _client, _setting: None
    renews_on_401: bool = True
    one_at_a_time: bool = False
    remarks: dict[str, str] = field(default_factory=dict)

    def remark(self, *keys: str) -> list[str]:
        return [text for key, text in self.remarks.items() if key in keys]
