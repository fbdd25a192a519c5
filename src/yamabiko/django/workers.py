"""Several processes that serve one site on one port; a process that dies is replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from socket import socket
from types import FrameType
from typing import Any

import click

multiprocessing.allow_connection_pickling()  # sockets, too
_spawn = multiprocessing.get_context("spawn")

LOOK_SECONDS = 0.5
PAUSE_SECONDS = 1.0
"""A process that lived shorter than this is replaced only after it, so that a broken site does not spin."""
DID_NOT_START = 3


@dataclass(frozen=True)
class Site:
    """What a worker needs to serve: only what can be handed to another process."""

    application: str
    app_dir: Path
    options: dict[str, Any]
    """Of uvicorn."""


@dataclass
class Workers:
    """Begins, watches and ends processes that each run `work(site, listener)`."""

    work: Callable[[Site, socket], None]
    site: Site
    listener: socket
    count: int
    _processes: dict[SpawnProcess, float] = field(default_factory=dict)
    _is_ending: bool = False

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; return the exit code, 3 if a worker cannot start."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)
        for _ in range(self.count):
            self._start_one()
        code = self._watch()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        return code

    def _start_one(self) -> None:
        process = _spawn.Process(target=_work_as_child, args=(self.work, self.site, self.listener), name="yamabiko")
        process.start()
        self._processes[process] = time.monotonic()

    def _watch(self) -> int:
        while not self._is_ending:
            wait([process.sentinel for process in self._processes], timeout=LOOK_SECONDS)
            for process in [process for process in self._processes if process.exitcode is not None]:
                lived_seconds = time.monotonic() - self._processes.pop(process)
                if self._is_ending:
                    break
                if process.exitcode == DID_NOT_START:
                    return DID_NOT_START
                click.echo(f"yamabiko: process {process.pid} ended with {process.exitcode}; replacing it", err=True)
                time.sleep(max(0.0, PAUSE_SECONDS - lived_seconds))
                self._start_one()
        return 0

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_ending = True


def _work_as_child(work: Callable[[Site, socket], None], site: Site, listener: socket) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(site, listener)


def _end_with_parent() -> None:
    """Stop as on SIGTERM when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
