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


# Of what takes seconds `make test` has one of a kind; `make proof` has all.
QUICK = {
    "test_a_fleet_asks_once_for_each_rollover",
    "test_a_fleet_presents_each_rotating_refresh_token_once",
    "test_a_request_with_a_fresh_token_asks_redis_nothing",
    "test_a_session_survives_a_holder_killed_before_it_asks",
    "test_a_paused_holder_does_not_present_what_another_has_presented_meanwhile",
    "test_client_credentials_go_on_without_redis",
    "test_a_rotating_refresh_token_waits_for_redis",
    "test_no_secret_can_be_read_in_redis",
    "test_a_full_disk_costs_no_session",
    "test_processes_that_share_a_folder_present_each_refresh_token_once",
    "test_the_early_window_is_one_for_the_fleet",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "fleet" and item.originalname not in QUICK:
            item.add_marker(pytest.mark.slow)


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
