"""Requests as they arrive: counted, matched with the script of faults, processed and recorded.

The rules:

1. A request is taken in one step under one lock. Nothing waits in there; what takes time is in the `Delivery` that
   comes out.
2. A request whose body breaks off is recorded, never processed and never counted. How the others are counted is in
   `_record`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from ._app import PATHS, App, endpoint_of, is_counted
from ._faults import Fault
from ._record import Record, Seen
from ._reply import Delivery, Reply

_ENDPOINTS = (*sorted(PATHS.keys() - {"token"}), "token", "api")
_NAMES = ", ".join(f'"{name}"' for name in _ENDPOINTS[:-1]) + ' or "api"'


def check_endpoint(on: str) -> None:
    """Raise `ValueError` unless ``on`` is the name of an endpoint."""
    if on not in _ENDPOINTS:
        raise ValueError(f"on= is {_NAMES}, not {on!r}")


class Arrivals:
    """Takes requests.

    Args:
        app: what answers them.
        clock: gives Unix seconds.
        latency: endpoint -> seconds added to each answer.
        lock: guards everything that the app looks at.
    """

    def __init__(
        self, app: App, clock: Callable[[], float], latency: Mapping[str | None, float], lock: threading.Lock
    ) -> None:
        self.record = Record()
        self._app = app
        self._clock = clock
        self._latency = latency
        self._lock = lock
        self._scripts: dict[str | None, deque[Fault]] = {name: deque() for name in _ENDPOINTS}

    def script(self, faults: Iterable[Fault], on: str) -> None:
        """Add to the script of an endpoint."""
        check_endpoint(on)
        with self._lock:
            self._scripts[on].extend(faults)

    def unused(self) -> dict[str, list[Fault]]:
        """List the faults that have not happened yet, by endpoint."""
        with self._lock:
            return {str(name): list(script) for name, script in self._scripts.items() if script}

    def take(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes, on: str | None = None
    ) -> Delivery:
        """Take one request, by rule 1; ``on`` is the endpoint that it is for, whatever its path says."""
        now = self._clock()
        endpoint = on or endpoint_of(path)
        counted = endpoint if is_counted(endpoint, method) else None
        wait = self._latency.get(counted, 0.0)

        def process() -> Reply:
            return self._app.handle(endpoint, method, path, query, headers, body, now)

        with self._lock:
            script = self._scripts.get(counted)
            if script:
                fault = script.popleft().apply(process)
                delivery = replace(fault, wait=fault.wait + wait, at=now)
            else:
                delivery = Delivery(process(), wait=wait, at=now)
            status = None if delivery.reply is None else delivery.reply.status
            self.record.add(counted, Seen(method, path, headers, body, status, now, query, endpoint))
            self.record.keep(counted, delivery.reply)
        return delivery

    def broke_off(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
        """Record one request, by rule 2."""
        with self._lock:
            seen = Seen(method, path, headers, body, None, self._clock(), query, endpoint_of(path))
            self.record.seen.append(seen)


class Keeper(Protocol):
    """What keeps a record: a sandbox."""

    _arrivals: Arrivals


class Counted:
    """An attribute that is one of the record's counts; who stands before a sandbox may count there, too."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __get__(self, sandbox: Keeper, _owner: object = None) -> int:
        return sandbox._arrivals.record.counts[self._what]  # noqa: SLF001 - the other half

    def __set__(self, sandbox: Keeper, count: int) -> None:
        sandbox._arrivals.record.counts[self._what] = count  # noqa: SLF001 - likewise
