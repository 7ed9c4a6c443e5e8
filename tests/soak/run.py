"""`make soak`: ten minutes in which everything goes wrong, for three processes that share tokens. Prints one table.

    python tests/soak/run.py [--seconds 600] [--seed 1]

Three client processes (`worker.py`: asyncio, trio, threads), each with clients of httpx and of httpx2, tokens of a few
seconds and five auth objects: "shared" (client credentials in a Valkey), "session" (a rotating refresh token in the
same Valkey), "graced" (the same at a server that forgives a lost answer), "own" (a session of its own, in memory) and
"dpop". The parent has the servers (`authority.py`), a network before them (`network.py`) and the fault machine
(`faults.py`), which draws storms and calms by the seed. What is wrong, `judge.py` says. Exit status 1 if anything is.

A seed draws the same faults at the same times; what a machine makes of them may differ.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import mmap
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from soak import judge  # noqa: E402 - after the path to it
from soak.authority import Authority, Client  # noqa: E402
from soak.faults import Faults, Sleeper  # noqa: E402
from soak.network import Network  # noqa: E402
from valkey_server import ValkeyServer  # noqa: E402

from httpx_tokenflow.testing import serve  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAVOURS = ("asyncio", "trio", "threads")
QUIET = 10.0  # seconds after the last fault
STARTS_WITHIN = 120.0  # seconds, on a machine that is very busy
FINISH = 150.0  # seconds in which a process has to come to its end
SAMPLES = 60

CLIENTS = {
    "shared": Client("shared", 5.0, processes=3),
    "session": Client("session", 6.0, is_session=True, processes=3),
    "graced": Client("graced", 7.0, is_session=True, grace=60.0, processes=3),
    **{f"own-{name}": Client("own", 4.0, is_session=True) for name in FLAVOURS},
    **{f"dpop-{name}": Client("dpop", 15.0, dpop=True) for name in FLAVOURS},
}
AUTHS = ("shared", "session", "graced", "own", "dpop")


class Process:
    """A client process, as the parent sees it."""

    def __init__(self, flavour: str, config: dict[str, Any], folder: Path) -> None:
        self.flavour = flavour
        path = folder / f"slept-{flavour}"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self.slept = mmap.mmap(file.fileno(), 8)
        self.outcomes: list[judge.Outcome] = []
        self.samples: list[dict[str, Any]] = []
        self.wrong: list[str] = []
        self.done: dict[str, Any] | None = None
        self.is_ready = threading.Event()
        text = json.dumps({**config, "name": flavour, "flavour": flavour, "slept": str(path)})
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"stderr-{flavour}").open("wb"),
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
        self._stderr = folder / f"stderr-{flavour}"
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def finish(self) -> None:
        """Have it come to its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"finish\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Until it has."""
        try:
            self._process.wait(FINISH)
        except subprocess.TimeoutExpired:
            self.wrong.append("it does not come to its end")
            self._process.kill()
            self._process.wait()
        self._listening.join(10)
        if self._process.returncode:
            self.wrong.append(f"it ended with {self._process.returncode}")
        if said := self._stderr.read_text(errors="replace").strip():
            self.wrong.append(f"on stderr: {said[-1500:]}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "outcome" in said:
                self.outcomes.append(judge.Outcome(**said["outcome"]))
            elif "sample" in said:
                self.samples.append(said["sample"])
            elif "wrong" in said:
                self.wrong.append(said["wrong"])
            elif "ready" in said:
                self.is_ready.set()
            else:
                self.done = said["done"]


class Soak:
    """One run, and what came of it."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds, self.seed = seconds, seed
        self.authority = Authority(CLIENTS, seed)
        self.authority.world.stored = frozenset({"session", "graced"})
        self.processes: list[Process] = []
        self.began = 0.0
        self.probes: list[float] = []
        self.faults: Faults

    def run(self) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenflow-soak-")))
            lives = self.seconds + 300.0
            valkey = stack.enter_context(ValkeyServer(keeps=True, lives=lives))
            port = int(stack.enter_context(serve(self.authority)).rpartition(":")[2])
            targets = {"api": port, "token": port, "session": port, "doomed": port, "store": valkey.port}
            network = stack.enter_context(Network(targets, self.seed))
            urls = {name: f"http://127.0.0.1:{network.port(name)}" for name in targets if name != "store"}
            config = {
                **urls, "store": f"redis://127.0.0.1:{network.port('store')}", "lives": lives,
                "interval": max(0.5, self.seconds / SAMPLES),
            }  # fmt: skip
            logins = {name: self.authority.login(name) for name, client in CLIENTS.items() if client.is_session}
            for number, flavour in enumerate(FLAVOURS):
                more = {"logins": logins, "seed": self.seed * 1_000_003 + number * 10_007}
                self.processes.append(Process(flavour, {**config, **more}, folder))
                stack.callback(self.processes[-1].kill)
            for process in self.processes:
                process.is_ready.wait(STARTS_WITHIN)
            self.began = time.monotonic()
            sleepers = [Sleeper(one.flavour, one.signal, one.slept) for one in self.processes]
            stack.enter_context(self._probing(port))
            self.faults = Faults(self.authority, network, valkey, sleepers, self.seed)
            time.sleep(min(5.0, self.seconds / 6))
            self.faults.run(self.seconds - min(5.0, self.seconds / 6))
            time.sleep(QUIET)
            for process in self.processes:
                process.finish()
            for process in self.processes:
                process.wait()

    @contextmanager
    def _probing(self, port: int) -> Iterator[None]:
        """See whether the machine is busy, twice a second."""
        over, spans = threading.Event(), self.authority.world.spans

        def probe() -> None:
            while not over.wait(0.5):
                start = time.monotonic()
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                    connection.request("GET", "/probe")
                    connection.getresponse().read()
                self.probes.append(time.monotonic() - start)
                if self.probes[-1] > judge.BUSY:
                    spans.append(judge.Span("busy", "machine", start - 1.0, time.monotonic() + 1.0))

        thread = threading.Thread(target=probe, name="probe", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)


class Findings:
    """What the judge says of a run."""

    def __init__(self, soak: Soak) -> None:
        self.soak = soak
        self.causes: dict[str, Counter[str]] = {one.flavour: Counter() for one in soak.processes}
        self.wrong: list[str] = []
        world = soak.authority.world
        for process in soak.processes:
            for one in process.outcomes:
                verdict = judge.judge(one, world)
                if verdict.wrong:
                    self.causes[process.flavour]["wrong"] += 1
                    at = one.began - soak.began
                    which = f"{one.process}, {one.auth}, request {one.number}"
                    when = f"at {at:.1f} s, {one.ended - one.began:.2f} s"
                    self.wrong.append(f"{which} ({when}): {verdict.cause}; {one.detail}")
                elif verdict.cause != "200":
                    self.causes[process.flavour][verdict.cause] += 1
            self._of(process)
        self._of_server(soak.authority)

    def _of(self, process: Process) -> None:
        found = [*process.wrong, *judge.not_flat(process.samples)]
        if process.done is None:
            found.append("it has not said how it ended")
        else:
            left, counts = process.done["left"], process.done["counts"]
            found += [f"{what} left: {left[what]}" for what in ("fds", "threads", "tasks") if left[what]]
            if counts.get("last 200", 0) != 2 * len(AUTHS):
                found.append(f"{counts.get('last 200', 0)} of {2 * len(AUTHS)} got a 200 in the end")
        self.wrong += [f"{process.flavour}: {what}" for what in found]

    def _of_server(self, server: Authority) -> None:
        if server.families_revoked:
            self.wrong.append(f"{server.families_revoked} families revoked")
        if server.reused:
            self.wrong.append(f"{server.reused} refresh tokens presented again, whose answers were not lost")
        # A server that revokes is no calm, and neither are the first seconds.
        self.wrong += judge.too_early(server.minted, server.world.spans)
        self.wrong += judge.hammered(server.asked, {name: one.processes for name, one in CLIENTS.items()})


def table(soak: Soak, findings: Findings) -> str:
    """All there is to see, in one table."""
    rows: list[tuple[str, list[Any]]] = []
    done = [one.done["counts"] if one.done else {} for one in soak.processes]

    def row(name: str, figures: list[Any]) -> None:
        rows.append((name, figures))

    for name in ("requests", "200"):
        row(name, [f"{one.get(name, 0):,}" for one in done])
    for cause in ("cancelled", "network", "no token", "no store", "refused", "suspended", "busy"):
        row(f"excused: {cause}", [findings.causes[one.flavour][cause] for one in soak.processes])
    row("wrong requests", [findings.causes[one.flavour]["wrong"] for one in soak.processes])
    row("renewals, minted", [one.get("minted", 0) for one in done])
    row("renewals, loaded", [one.get("loaded", 0) for one in done])
    row("renewals, failed", [one.get("RenewalFailed", 0) for one in done])
    row("store failures", [one.get("StoreFailed", 0) for one in done])
    row("cancelled by us", [one.get("cancelled", 0) for one in done])
    row("left by httpx", [one.get("left by httpx", 0) for one in done])
    row("suspends", [soak.faults.suspends[one.flavour] for one in soak.processes])
    for share in (0.1, 0.5, 1.0):
        samples = [_at(one.samples, share) for one in soak.processes]
        row(f"MiB resident at {share:.0%}", [f"{one['rss'] / 2**20:.1f}" if one else "-" for one in samples])
    for share in (0.1, 0.5, 1.0):
        samples = [_at(one.samples, share) for one in soak.processes]
        row(f"blocks at {share:.0%}", [f"{one['blocks']:,}" if one else "-" for one in samples])
    row("fds, most; start, end", [_ends(one, "fds") for one in soak.processes])
    row("tasks, most", [max((sample["tasks"] for sample in one.samples), default=0) for one in soak.processes])
    row("threads, most", [max((sample["threads"] for sample in one.samples), default=0) for one in soak.processes])
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}} " + "".join(f"{flavour:>16}" for flavour in FLAVOURS)]
    lines += [f"{name:{width}} " + "".join(f"{figure:>16}" for figure in figures) for name, figures in rows]
    server = soak.authority
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    late = sum(seconds > judge.BUSY for seconds in soak.probes)
    lines += [
        "",
        f"the machine: load {load}; {late} of {len(soak.probes)} probes late, {max(soak.probes):.2f} s at most",
    ]
    lines += ["faults"]
    lines += [f"  {count:6,}  {kind}" for kind, count in sorted(soak.faults.counts.items())]
    lines += ["what the servers made of them"]
    lines += [f"  {count:6,}  {kind}" for kind, count in sorted(server.faults.items())]
    lines += [
        "",
        f"token requests {len(server.asked):,}, of these a token {len(server.minted):,}, answers lost {server.lost}",
    ]
    lines += [f"refresh tokens presented again {server.reused}, families revoked {server.families_revoked}"]
    return "\n".join(lines)


def _at(samples: list[dict[str, Any]], share: float) -> dict[str, Any] | None:
    return samples[min(len(samples) - 1, int(len(samples) * share))] if samples else None


def _ends(process: Process, what: str) -> str:
    most = max((sample[what] for sample in process.samples), default=0)
    start, end = process.done["left"]["counts"] if process.done else ("-", "-")
    return f"{most}; {start}, {end}"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program that reports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 10_000))
    arguments = parser.parse_args()
    # Connections that we drop are no news.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "without starting" not in record.getMessage())
    say(f"soak: {arguments.seconds:g} s, seed {arguments.seed}, {os.cpu_count()} cores")
    soak = Soak(arguments.seconds, arguments.seed)
    soak.run()
    findings = Findings(soak)
    say(table(soak, findings))
    for what, times in Counter(findings.wrong).most_common(60):
        say(f"WRONG {'' if times == 1 else f'({times} times) '}{what}")
    if not findings.wrong:
        say(f"Nothing wrong. Seed {arguments.seed}.")
        return 0
    again = f"python tests/soak/run.py --seconds {arguments.seconds:g} --seed {arguments.seed}"
    say(f"{len(findings.wrong)} things wrong. Again: {again}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
