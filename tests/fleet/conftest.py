"""Real processes that share a store, killed for real; token requests are counted where they arrive.

The fixtures

    valkey       a real Valkey: .url .kill() .restart() .pause() .resume() .calls() …, see `valkey_server.py`
    authority    an authorization server and an API: .token_requests .presented .expire() .hold("after") .lifetime …,
                 see `authority.py`; a thread of the tests' own process, so that a test looks at it directly
    fleet        the workers: processes of their own, which share `valkey` unless they are told otherwise

    first, *others = fleet.start(8, kind="client", policy=…)    eight processes, each with a `TokenAuth`
    outcome = fleet.run(tasks=200, requests=5)                  all at once: .ok .failed .tokens
    running = fleet.begin("run", others, tasks=20)              the same, without waiting; running.result()
    first.do("set_token", token=…)                              any verb of `worker.Worker`; .start(…) does not wait
    first.do("arm", point="leased"); …; first.stops_at("leased")    it has stopped itself there, by SIGSTOP
    first.kill(), first.pause(), first.resume()                 SIGKILL, SIGSTOP, SIGCONT
    fleet.events("TokenRenewed")                                what was told to `on_event`, as plain data

`worker.py` has the points at which a worker can be armed, and how it is made. Workers die with their test; with the
nursery that they are forked from, even when they are stopped; and that with the tests, or after half an hour.

No test here measures time to pass: it waits for facts. What shows the full figures of a fleet is marked slow.
"""

from __future__ import annotations

import pytest
from fleet.authority import Authority
from fleet.rig import Fleet, Nursery
from valkey_server import ValkeyServer

LIVES = 1800.0  # seconds
POLICY = {"budget": 3.0, "lease": 5.0}  # seconds; so that nobody has to wait for long


@pytest.fixture(scope="session")
def nursery():
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def valkey():
    with ValkeyServer(lives=LIVES) as server:
        yield server


@pytest.fixture
def authority():
    with Authority().served() as server:
        yield server


@pytest.fixture
def fleet(nursery, valkey, authority):
    store = {"kind": "redis", "address": valkey.url}
    settings = {"url": authority.url, "api": authority.api, "kind": "client", "policy": POLICY, "store": store}
    with Fleet(nursery, **settings) as fleet:
        yield fleet
