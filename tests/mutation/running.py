"""Runs tests against mutants: a plugin of pytest, in whose place of a test loop each mutant gets a process of its own.

Rules.

1. Everything is imported and collected once. A fork makes its mutant (`patching.py`), runs tests that reach the changed
   statement, and is over with the first that fails: the mutant is killed. What a test starts dies with its fork.
2. Which test reaches which statement is learnt first, by running each test once. One that fails then, or takes more
   than `TOO_LONG`, is left out.
3. First come tests that have killed a mutant of the same function, then those that drive the heart by hand, then all
   others; of each kind one of each test function, the fast ones first, then their other parameters, and last what is
   slow: as many as take `FIRST_LOOK` seconds. What survives that, and is not explained, gets a second look, with as
   many as take `SECOND_LOOK`.
4. A fork from which nothing is heard for long is hung: the mutant is killed, by time.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import time
import traceback
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import patching
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from pathlib import Path

    from mutants import Mutant, Source

__all__ = ["Fate", "Loop"]

TOO_LONG = 5.0  # seconds of work
SLOW = 0.3  # seconds of work
FIRST_LOOK, SECOND_LOOK = 2.0, 10.0  # seconds of work
SILENCE = 20.0  # seconds for which nothing is heard of a fork before it counts as hung, beside what its test takes
IDLE = 3.0  # seconds after which a silent fork no longer counts as at work
HUNG = 4  # forks that may be silent, beside those at work
MEMORY = 6 << 30

_SURVIVED, _KILLED, _NOT_MADE = 0, 1, 2


@dataclass
class Fate:
    """What has become of a mutant."""

    mutant: Mutant
    end: str  # killed, hung, survived, not reached, not made
    killer: str = ""


@dataclass
class Learnt:
    """What running all tests has shown, each by its id."""

    left_out: set[str] = field(default_factory=set)
    cost: dict[str, float] = field(default_factory=dict)  # seconds of work, and a tenth of those on the clock
    seconds: dict[str, float] = field(default_factory=dict)  # on the clock
    reached: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)  # by a line's key: the tests

    def add(self, other: Learnt) -> None:
        self.left_out |= other.left_out
        self.cost |= other.cost
        self.seconds |= other.seconds
        for line, tests in other.reached.items():
            self.reached.setdefault(line, set()).update(tests)


@dataclass
class _Fork:
    mutant: Mutant
    tests: list[str]
    pipe: int
    heard: float
    is_second: bool
    at: int = -1  # the place in `tests` of the one it is at


class Loop:
    """The plugin.

    Args:
        sources: the modules.
        chosen: which of their mutants are tried.
        explained: the names of those that may survive.
        memory: where what was learnt is kept between runs, if anywhere.
        is_quick: nothing gets a second look.
        workers: how many forks are at work at once.
        near: the files whose tests drive the modules by hand.
        say: says how it goes.
        keep: gets each end.
    """

    def __init__(
        self,
        sources: list[Source],
        chosen: list[Mutant],
        explained: Container[str],
        memory: Path | None,
        is_quick: bool,
        workers: int,
        near: tuple[str, ...],
        say: Callable[[str], None],
        keep: Callable[[Fate], None],
    ) -> None:
        self.sources = {source.name: source for source in sources}
        self.chosen = chosen
        self.explained = explained
        self.memory = memory
        self.is_quick = is_quick
        self.workers = workers
        self.near = near
        self.say = say
        self.keep = keep
        self.fates: list[Fate] = []
        self.items: dict[str, pytest.Item] = {}  # tests by their ids
        self.learnt = Learnt()
        self.killers: dict[str, Counter[str]] = defaultdict(Counter)  # function -> tests
        self.failed: Callable[[], None] = lambda: None

    def pytest_configure(self) -> None:
        import hypothesis  # not before pytest, which rewrites a part of it

        hypothesis.settings.register_profile("mutation", derandomize=True, database=None, deadline=None)
        hypothesis.settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self._learn()
        self.say(
            f"{len(self.items.keys() & self.learnt.cost.keys())} of {len(self.items)} tests, {len(self.chosen)} mutants"
        )
        self._try_all()
        return True

    # What reaches what.

    def _learn(self) -> None:
        if self.memory is not None and self.memory.exists():
            self.learnt = pickle.loads(self.memory.read_bytes())
        new = [name for name in self.items if name not in self.learnt.cost and name not in self.learnt.left_out]
        for pid, pipe in [self._forked(self._watch, new[start :: self.workers]) for start in range(self.workers)]:
            with os.fdopen(pipe, "rb") as found:
                self.learnt.add(pickle.loads(found.read()))
            os.waitpid(pid, 0)
        if self.memory is not None:
            self.memory.write_bytes(pickle.dumps(self.learnt))

    def _watch(self, tests: list[str], pipe: int) -> None:
        learnt, failures = Learnt(), []
        self.failed = lambda: failures.append(1)
        hits: set[tuple[str, int]] = set()
        for source in self.sources.values():
            patching.watch(source.path, hits)
        for test, following in pairwise([*tests, None]):
            hits.clear()
            failures.clear()
            began, work = time.monotonic(), time.process_time()
            self._run(test, following)
            seconds = time.monotonic() - began
            cost = time.process_time() - work + 0.1 * seconds
            if failures or cost > TOO_LONG:
                self.say(f"left out: {test} ({'failed' if failures else f'{cost:.1f} s'})")
                learnt.left_out.add(test)
                continue
            learnt.add(Learnt(set(), {test: cost}, {test: seconds}, self._lines(hits.copy(), test)))
        with os.fdopen(pipe, "wb") as out:
            out.write(pickle.dumps(learnt))

    def _lines(self, hits: set[tuple[str, int]], test: str) -> dict[tuple[str, str, str], set[str]]:
        return {self.sources[name].key(line): {test} for name, line in hits}

    # One mutant after the other.

    def _try_all(self) -> None:
        waiting = [(mutant, FIRST_LOOK) for mutant in reversed(self.chosen)]
        forks: dict[int, _Fork] = {}
        began = told = time.monotonic()
        while waiting or forks:
            now = time.monotonic()
            busy = sum(now - fork.heard < IDLE for fork in forks.values())
            while waiting and busy < self.workers and len(forks) < self.workers + HUNG:
                mutant, look = waiting.pop()
                tests = self._tests_for(mutant, look)
                if not tests:
                    self._end(Fate(mutant, "not reached"))
                    continue
                pid, pipe = self._forked(self._try, (mutant, tests))
                forks[pid] = _Fork(mutant, tests, pipe, now, look == SECOND_LOOK)
                busy += 1
            for pid in list(forks):
                end = self._end_of(pid, forks[pid])
                if end is None:
                    continue
                fork = forks.pop(pid)
                if end == "survived" and self._gets_another(fork):
                    waiting.insert(0, (fork.mutant, SECOND_LOOK))
                else:
                    self._note(fork, end)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                ends = Counter(fate.end for fate in self.fates)
                self.say(f"{told - began:5.0f} s  {len(self.fates)} of {len(self.chosen)}  {dict(ends)}")

    def _gets_another(self, fork: _Fork) -> bool:
        return not (self.is_quick or fork.is_second or fork.mutant.name in self.explained)

    def _note(self, fork: _Fork, end: str) -> None:
        killer = fork.tests[fork.at] if end in {"killed", "hung"} and fork.at >= 0 else None
        if killer is not None and end == "killed":
            self.killers[_key(fork.mutant)][killer] += 1
        self._end(Fate(fork.mutant, end, killer or ""))

    def _end(self, fate: Fate) -> None:
        self.fates.append(fate)
        self.keep(fate)
        if fate.end not in {"killed", "not made"} and fate.mutant.name not in self.explained:
            self.say(f"{fate.end}: {fate.mutant.name}{fate.killer and f'  [{fate.killer}]'}")

    def _tests_for(self, mutant: Mutant, look: float) -> list[str]:
        reaching = self._reaching(mutant)
        best = [test for test, _ in self.killers[_key(mutant)].most_common(6) if test in reaching]
        rounds: Counter[str] = Counter()
        order: list[tuple[bool, bool, int, float, str]] = []
        for test in sorted(reaching, key=self.learnt.cost.__getitem__):
            function = test.partition("[")[0]
            rounds[function] += 1
            cost, is_far = self.learnt.cost[test], not test.startswith(self.near)
            order.append((is_far, cost > SLOW, rounds[function], cost, test))
        chosen, seconds = [], 0.0
        for test in dict.fromkeys([*best, *(test for *_, test in sorted(order))]):
            seconds += self.learnt.cost[test]
            if chosen and seconds > look:
                break
            chosen.append(test)
        return chosen

    def _reaching(self, mutant: Mutant) -> set[str]:
        """The tests that reach its statement; or, where it is made at import, what uses that."""
        source, reached = mutant.source, self.learnt.reached
        if mutant.function is not None:
            lines = {source.key(line) for line in range(mutant.lines[0], mutant.lines[1] + 1)}
        else:
            lines = {one.key(line) for one in self.sources.values() for line in one.users_of(mutant)}
        if mutant.function is None and not any(line in reached for line in lines):
            lines = {line for line in reached if line[0] == source.name}
        if self.memory is not None and not any(line in reached for line in lines):  # it is from before this line
            lines = {line for line in reached if line[:2] == (source.name, mutant.where)}
        found: set[str] = set().union(*(reached.get(line, ()) for line in lines))
        if mutant.function is None:  # other modules may use it too
            found |= {test for test in self.items if test.startswith(f"tests/test{source.name}.py")}
        return found & self.items.keys() & self.learnt.cost.keys()

    def _end_of(self, pid: int, fork: _Fork) -> str | None:
        """How a fork has ended; None: it has not."""
        if select.select([fork.pipe], [], [], 0.01)[0] and (heard := os.read(fork.pipe, 4096)):
            fork.heard = time.monotonic()
            fork.at += len(heard)
            return None
        done, status = os.waitpid(pid, os.WNOHANG)
        at = self.learnt.seconds[fork.tests[fork.at]] if fork.at >= 0 else 0.0
        if not done and time.monotonic() - fork.heard < SILENCE + 3 * at:
            return None
        os.close(fork.pipe)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # the fork's own group: what its tests have started
        if not done:
            os.waitpid(pid, 0)
            return "hung"
        code = os.waitstatus_to_exitcode(status)
        return {_SURVIVED: "survived", _NOT_MADE: "not made"}.get(code, "killed")

    def _try(self, task: tuple[Mutant, list[str]], pipe: int) -> None:
        mutant, tests = task
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        self.failed = lambda: os._exit(_KILLED)
        try:
            patching.apply(mutant)
        except patching.NotMade:
            os._exit(_NOT_MADE)
        except Exception:  # noqa: BLE001 - it cannot be imported
            os._exit(_KILLED)
        for test, following in pairwise([*tests, None]):
            os.write(pipe, b".")
            self._run(test, following)

    def _run(self, test: str, following: str | None) -> None:
        item = self.items[test]
        after = None if following is None else self.items[following]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)

    def _forked(self, work: Callable[[Any, int], None], task: Any) -> tuple[int, int]:
        """A process that does `work`, and the end of the pipe from which it is heard."""
        theirs, ours = os.pipe()
        pid = os.fork()
        if pid:
            os.close(ours)
            return pid, theirs
        try:
            os.setpgid(0, 0)
            os.close(theirs)
            work(task, ours)
            os._exit(_SURVIVED)
        except BaseException:  # noqa: BLE001 - nothing gets out of a fork
            traceback.print_exc()
        finally:
            os._exit(_KILLED)


def _key(mutant: Mutant) -> str:
    return f"{mutant.source.name}.{mutant.where}"
