"""The fault machine: storms of faults drawn at random, by a seed, and a calm after each.

Each fault is written down, with when and where, before it happens: the judge excuses nothing else.
"""

from __future__ import annotations

import random
import signal
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import redis
from soak.judge import Span

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from soak.authority import Authority
    from soak.network import Network
    from valkey_server import ValkeyServer

STORM, CALM = 25.0, 22.0  # seconds, of each; of a short run less
REVOKES_AFTER = 15.0  # seconds of a calm: later than what the judge calls one
PAUSE = 1.0  # seconds between two faults in a storm, on average
AFTERMATH = 1.0  # seconds after a fault in which connections that it has hurt are still found

TROUBLES = ("503", "503 later", "429 later", "500", "slow", "hang", "drop", "lost", "garbage")


class Sleeper:
    """One client process, which can be made to stand still, and the clock by which it reckons.

    `slept` is in memory that it shares: seconds that its monotonic clock did not count, as on a laptop that sleeps.
    """

    def __init__(self, name: str, signal_it: Callable[[int], None], slept: mmap.mmap) -> None:
        self.name, self.signal_it = name, signal_it
        self._slept = slept

    def suspend(self, seconds: float, *, counted: bool) -> None:
        """It stands still; `counted`: its monotonic clock goes on meanwhile, as that of a virtual machine may."""
        self.signal_it(signal.SIGSTOP)
        time.sleep(seconds)
        if not counted:
            (slept,) = struct.unpack_from("d", self._slept)
            struct.pack_into("d", self._slept, 0, slept + seconds)
        self.signal_it(signal.SIGCONT)


class Faults:
    """Draws faults and lets them happen.

    Args:
        authority: the servers.
        network: what is before them.
        valkey: the store.
        sleepers: the client processes.
        seed: of all that is drawn.
    """

    def __init__(
        self, authority: Authority, network: Network, valkey: ValkeyServer, sleepers: list[Sleeper], seed: int
    ) -> None:
        self.authority, self.network, self.valkey, self.sleepers = authority, network, valkey, sleepers
        self.counts: Counter[str] = Counter()
        self.suspends: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._threads: list[threading.Thread] = []
        self._store, self._busy = threading.Lock(), {one.name: threading.Lock() for one in sleepers}
        self._doors = {name: threading.Lock() for name in ("api", "token", "session", "store")}
        self._auths = sorted({client.auth for client in authority.clients.values()})
        self._kinds = {
            self._trouble: 8, self._pause_store: 2, self._hold_store: 2, self._restart_store: 1, self._kick: 2,
            self._delay: 3, self._cut: 4, self._refuse: 3, self._revoke: 3, self._suspend: 3,
        }  # fmt: skip

    def run(self, seconds: float) -> None:
        """Storms and calms for so long; then all is well."""
        end = time.monotonic() + seconds
        storm, calm = min(STORM, seconds / 3), min(CALM, seconds / 3)
        while (now := time.monotonic()) < end:
            self._storm(min(now + storm, end))
            self.authority.prune()
            over = min(time.monotonic() + calm, end)
            if over - time.monotonic() > REVOKES_AFTER:
                time.sleep(REVOKES_AFTER)
                self._revoke_all()  # a storm of 401s and nothing else: nobody may fail, and one renews for all
            time.sleep(max(0.0, over - time.monotonic()))

    def _storm(self, until: float) -> None:
        while time.monotonic() < until:
            kinds = list(self._kinds)
            what = self._random.choices(kinds, [self._kinds[kind] for kind in kinds])[0]
            # All draws are made here, so that a seed draws the same whatever the threads do.
            thread = threading.Thread(target=what, args=(random.Random(self._random.random()),), daemon=True)
            thread.start()
            self._threads.append(thread)
            time.sleep(self._random.expovariate(1 / PAUSE))
        for thread in self._threads:
            thread.join(60)
        self._threads.clear()
        self.authority.calm_down()

    def _note(self, kind: str, target: str, seconds: float) -> None:
        self.counts[kind] += 1
        now = time.monotonic()
        self.authority.world.spans.append(Span(kind, target, now, now + seconds + AFTERMATH))

    def _trouble(self, draw: random.Random) -> None:
        kind, auth = draw.choice(TROUBLES), draw.choice([None, *self._auths])
        seconds = draw.uniform(0.5, 8.0)
        delay = draw.uniform(0.2, 1.5) if kind == "slow" else draw.uniform(1.0, 4.0)
        if auth is None:
            seconds /= 2
        self._note(f"token endpoint: {kind}", "token" if auth is None else f"token {auth}", seconds)
        self.authority.trouble(kind, auth, seconds, delay)

    def _pause_store(self, draw: random.Random) -> None:
        with self._store:
            seconds = draw.uniform(0.3, 7.0)
            self._note("Valkey stands still", "store", seconds)
            self.valkey.pause()
            time.sleep(seconds)
            self.valkey.resume()

    def _hold_store(self, draw: random.Random) -> None:
        with self._store, self.valkey.client(socket_timeout=5.0) as client:
            seconds = draw.uniform(0.3, 6.0)
            self._note("Valkey holds clients (CLIENT PAUSE)", "store", seconds)
            client.client_pause(int(seconds * 1000), all=draw.random() < 0.5)
            time.sleep(seconds)

    def _restart_store(self, draw: random.Random) -> None:
        with self._store:
            seconds = draw.uniform(0.0, 3.0)
            self._note("Valkey is killed and comes back", "store", seconds + 2.0)
            self.valkey.kill()
            time.sleep(seconds)
            self.valkey.start()

    def _kick(self, _draw: random.Random) -> None:
        with self._store, self.valkey.client(socket_timeout=5.0) as client, suppress(redis.RedisError):
            self._note("Valkey drops its clients (CLIENT KILL)", "store", 0.0)
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")

    def _target(self, name: str) -> str:
        return "token" if name == "session" else name

    def _delay(self, draw: random.Random) -> None:
        name = draw.choice(list(self._doors))
        with self._doors[name]:
            seconds, delay = draw.uniform(1.0, 4.0), draw.uniform(0.05, 0.4)
            self._note("network: slow", self._target(name), seconds)
            self.network.delay(name, delay)
            time.sleep(seconds)
            self.network.delay(name, 0.0)

    def _cut(self, draw: random.Random) -> None:
        name = draw.choice(["api", "token", "store"])  # of a session no answer is lost
        with self._doors[name]:
            self._note("network: cut", self._target(name), 0.0)
            self.network.cut(name, draw.choice([0.3, 1.0]))

    def _refuse(self, draw: random.Random) -> None:
        name = draw.choice(list(self._doors))
        with self._doors[name]:
            seconds = draw.uniform(0.3, 4.0)
            self._note("network: refused", self._target(name), seconds)
            self.network.refuse(name)
            if name != "session":
                self.network.cut(name, 0.5)
            time.sleep(seconds)
            self.network.listen(name)

    def _revoke(self, draw: random.Random) -> None:
        self.counts["access tokens revoked"] += 1
        self.authority.revoke(draw.choice([None, *self._auths]))

    def _revoke_all(self) -> None:
        self.counts["access tokens revoked, in a calm"] += 1
        self.authority.revoke(None)

    def _suspend(self, draw: random.Random) -> None:
        sleeper = draw.choice(self.sleepers)
        with self._busy[sleeper.name]:
            seconds, counted = draw.uniform(0.3, 6.0), draw.random() < 0.4
            kind = "suspended, clocks go on" if counted else "suspended, the monotonic clock stands"
            self._note(kind, f"process {sleeper.name}", seconds)
            self.suspends[sleeper.name] += 1
            sleeper.suspend(seconds, counted=counted)
