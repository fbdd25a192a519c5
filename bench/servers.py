"""Servers under measurement: each is started on a core of its own, and surely ended."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.failures import LoadFailed
from bench.peers.peer import ROOT, Peer, Place

START_SECONDS = 30.0
END_SECONDS = 5.0
MOST_DESCRIPTORS = 65536


@dataclass(frozen=True)
class Cores:
    """Which core the server has, and which the load and services such as Redis; None on a machine with one core."""

    server: int | None
    load: int | None


def cores_of_this_machine() -> Cores:
    mine = sorted(os.sched_getaffinity(0))
    return Cores(mine[0], mine[1]) if len(mine) > 1 else Cores(None, None)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def prepared(core: int | None) -> Callable[[], None]:
    """Return what a child does before it starts: stay on one core, open many sockets."""

    def prepare() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for wanted in (max(hard, MOST_DESCRIPTORS), hard):
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
                return

    return prepare


@contextmanager
def running(peer: Peer, place: Place, cores: Cores) -> Iterator[int]:
    """Run a peer and what it needs; yield the process id of its server. Raises LoadFailed if it does not start."""
    with ExitStack() as ending:
        if peer.helper is not None:
            ending.enter_context(
                _process(peer.helper(place), {}, place.helper_port, cores.load, place.folder / "helper.log")
            )
        log = place.folder / "server.log"
        command = peer.server(place)
        yield ending.enter_context(_process(command, peer.environment(place), place.port, cores.server, log))


@contextmanager
def _process(
    command: list[str], environment: Mapping[str, str], port: int, core: int | None, log: Path
) -> Iterator[int]:
    with log.open("wb") as output:
        process = _started(command, environment, core, output)
        try:
            _wait_until_it_listens(process, port, log)
            yield process.pid
        finally:
            _end(process)


def _started(
    command: list[str], environment: Mapping[str, str], core: int | None, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=prepared(core),
            start_new_session=True,  # Ctrl+C is for us; we end the server
        )
    except OSError as error:
        raise LoadFailed(f"{command[0]} does not start: {error.strerror}") from error


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LoadFailed(f"the server ended at once with {process.returncode}: {_tail(log)}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise LoadFailed(f"the server does not listen after {START_SECONDS:.0f} s: {_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(lines[-3:])[-500:] or "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
