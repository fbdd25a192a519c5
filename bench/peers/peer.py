"""What the bench must know of a peer: how to start it, and what the load must say to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

BENCH = Path(__file__).parents[1]
ROOT = BENCH.parent
PROGRAMS = BENCH / "programs"
INSTALLED = BENCH / ".peers"
"""Where --install-peers puts what is not in this environment; git ignores it."""

PLAIN, HISTORY, USERS, USERS_HISTORY, DEFLATE = "plain", "history", "users", "users-history", "deflate"
"""Kinds of rooms: for anybody, the same with 1,000 messages kept, for signed-in users, both, compressed."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one server runs for one measurement."""

    port: int
    helper_port: int
    folder: Path
    """For its files; removed afterwards."""
    kind: str
    database: Path | None = None
    """SQLite, with signed-in users, for the kinds that need some."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    name: str
    title: str
    server: Callable[[Place], list[str]]
    says: Mapping[str, list[str]]
    """Per kind of room that it has: options of the load."""
    missing: Callable[[], str | None]
    """What to install, or None."""
    version: Callable[[], str]
    environment: Callable[[Place], Mapping[str, str]] = field(default=lambda place: {})
    helper: Callable[[Place], list[str]] | None = None
    """A service that it needs beside it, such as Redis. It runs on the load's core and is not counted."""


@cache
def python_with(*modules: str) -> str | None:
    """Return the Python that can import all of these: this one or the one of --install-peers."""
    for python in (sys.executable, str(INSTALLED / "venv" / "bin" / "python")):
        program = f"import {', '.join(modules)}"
        if Path(python).exists() and _output([python, "-c", program]) is not None:
            return python
    return None


def lacks_python(*modules: str) -> str | None:
    if python_with(*modules) is None:
        return f"{', '.join(modules)} cannot be imported; python -m bench --install-peers installs it"
    return None


def distribution_version(distribution: str, *modules: str) -> str:
    program = f"from importlib.metadata import version; print(version({distribution!r}))"
    python = python_with(*modules)
    return (python and _output([python, "-c", program])) or "unknown"


def version_line(*command: str) -> str:
    return (_output(list(command)) or "unknown").splitlines()[0]


def _output(command: list[str]) -> str | None:
    """Return what a short command prints, on either stream; None if it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, "NODE_PATH": ""})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (run.stdout or run.stderr).strip() if run.returncode == 0 else None
