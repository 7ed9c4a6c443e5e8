"""A lease that is kept while the store would not take a token: who looks after it, and who gives it back."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from concurrency.stage import auntil, run
from driven import DRIVERS, LOOPS, Rig, rigged

from httpx_tokenflow import _drivers, _leases
from httpx_tokenflow._leases import LoopLeases, give_back
from httpx_tokenflow._lifecycle import STORE_PATIENCE
from httpx_tokenflow._loops import running_loop
from httpx_tokenflow._steps import (
    Keep,
    LetGo,
    Load,
    Release,
)

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(params=DRIVERS)
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rigged(request.param, monkeypatch)


def test_a_kept_lease_is_looked_after_until_its_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The save is tried again after 2 s, doubling, whatever a try comes to; then the lease is given back."""
    tried = []

    def fails(source: Any) -> Generator[Any, Any, None]:
        tried.append((source, list(rig.closed)))
        yield Load()
        raise RuntimeError

    monkeypatch.setattr(_drivers, "save_unsaved", fails)
    rig.look_after(rig.stack(), 14.5)
    assert rig.slept == [2.0, 4.0, 8.0, 0.5]
    assert tried == [(rig.source, [])] * 4
    assert (rig.closed, rig.source.kept) == (["lease"], None)


def test_a_kept_lease_is_left_alone_once_it_is_let_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds that another lease is kept by now neither saves, nor tries again, nor gives that back."""
    tried: list[Any] = []
    monkeypatch.setattr(_drivers, "save_unsaved", tried.append)
    kept, another = rig.stack(), rig.stack("another")

    def replaced() -> None:
        rig.source.kept = another

    rig.meanwhile = replaced
    rig.look_after(kept, 20.0)
    assert (rig.slept, tried, rig.closed) == ([2.0], [], [])
    assert rig.source.kept is another


def test_a_try_that_works_is_the_last(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the save has let the lease go nothing more is tried."""
    tried = []

    def works(source: Any) -> Generator[Any, Any, None]:
        tried.append(source)
        yield LetGo()

    monkeypatch.setattr(_drivers, "save_unsaved", works)
    rig.look_after(rig.stack(), 20.0)
    assert (rig.slept, tried, rig.closed) == ([2.0], [rig.source], ["lease"])


def test_a_lease_that_cannot_be_given_back_is_nobodys_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails to take its lease back is let be: it ends by itself."""
    monkeypatch.setattr(_drivers, "save_unsaved", lambda _: iter(()))
    kept = rig.stack()
    kept.callback(int, "no number")
    rig.look_after(kept, 1.0)
    assert (rig.closed, rig.source.kept) == (["lease"], None)
    closed: list[str] = []
    rig.source.kept = kept = rig.stack("another")
    kept.callback(int, "no number")
    rig.perform(LetGo(), lambda: closed.extend(rig.closed), leases=kept)
    assert (closed, rig.source.kept) == (["lease", "another"], None), "it is over when the step is"


def test_a_lease_is_kept_beside_the_program(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Keep` takes the lease out of the renewal's hands, and the end of the program does not wait for who has it."""
    begun: list[Any] = []

    class Thread:
        def __init__(self, **options: Any) -> None:
            begun.append(options)

        def start(self) -> None:
            begun.append("started")

    def spawn(function: Any, when_over: Any, patience: float) -> None:
        begun.append((function.func, function.args, when_over(), patience))

    monkeypatch.setattr(_drivers, "threading", SimpleNamespace(Thread=Thread))
    monkeypatch.setattr(_drivers, "spawn", spawn)
    leases = rig.stack()
    seen: list[Any] = []
    rig.perform(Keep(17.0), Release(), lambda: seen.append((rig.source.kept, list(rig.closed))), LetGo(), leases=leases)
    ((kept, closed),) = seen
    assert closed == [], "it was not the renewal's to give back"
    look_after = rig.driver._look_after
    if rig.kind == "threads":
        options = {"target": look_after, "args": (kept, 17.0), "name": "httpx_tokenflow", "daemon": True}
        assert begun == [options, "started"]
    else:
        assert begun == [(look_after, (kept, 17.0), None, 0.0)]
    assert (rig.closed, rig.source.kept) == (["lease"], None)


@pytest.mark.parametrize("backend", LOOPS)
def test_a_loop_that_runs_elsewhere_gives_its_lease_back(backend: str) -> None:
    """A kept lease is given back on its loop only while that runs, and not where the caller would wait for itself."""
    leases: list[Any] = []

    async def scene() -> None:
        leases.append(LoopLeases())
        assert leases[0].give_back_at_home() is False
        assert await anyio.to_thread.run_sync(leases[0].give_back_at_home) is True

    run(backend, scene)
    assert leases[0].give_back_at_home() is False


@pytest.mark.parametrize("is_at_home", [True, False])
def test_a_thread_gives_back_on_a_loop_of_its_own_only_where_it_must(
    *, is_at_home: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what its own loop cannot give back is given back beside, within a store's patience, and tells no failure."""
    kept, begun = LoopLeases(), []

    class Future:
        def result(self, timeout: float) -> None:
            begun.append(timeout)
            raise TimeoutError

    def begin(*_: Any) -> Future:
        return Future()

    monkeypatch.setattr(_leases, "begin", begin)
    monkeypatch.setattr(LoopLeases, "give_back_at_home", lambda _: is_at_home)
    give_back(None)
    give_back(kept)
    assert begun == ([] if is_at_home else [STORE_PATIENCE])


@pytest.mark.parametrize("backend", LOOPS)
def test_a_loop_lets_go_what_a_thread_has_kept(backend: str) -> None:
    """A lease that a thread has kept is given back in a thread: a store may block there, and not on the loop."""
    rig, gave = Rig(backend), []
    rig.source.kept = kept = ExitStack()
    kept.callback(lambda: gave.append(running_loop()))
    rig.perform(LetGo())
    assert (gave, rig.source.kept) == ([None], None)


@pytest.mark.parametrize("backend", LOOPS)
def test_a_thread_lets_go_what_a_loop_has_kept(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given back on its own loop, which no end of a program waits for, and what fails there is told to nobody."""
    rig, gave, spawned = Rig("threads"), [], []

    def spawn(*args: Any) -> None:
        spawned.append((args[1](), *args[2:]))
        real(*args)

    real = _leases.spawn
    monkeypatch.setattr(_leases, "spawn", spawn)

    async def scene() -> None:
        async def fails() -> None:
            gave.append(running_loop())
            raise OSError

        rig.source.kept = kept = LoopLeases()
        kept.push_async_callback(fails)
        await anyio.to_thread.run_sync(rig.driver._let_go)
        await auntil(lambda: gave)
        assert gave == [running_loop()]
        assert kept.home is running_loop()

    run(backend, scene)
    assert (spawned, rig.source.kept) == ([(None, 0.0)], None)
    assert caplog.records == []
