"""Servers as processes of their own, on a free port of the loopback."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Kind:
    """A server to be: how it is started, how it greets, and what it can do.

    Attributes:
        is_ours: it adopts the sockets of rooms.
        refuses_in_json: a refused handshake can have any status and a body (ASGI extension websocket.http.response).
        holds_back: its `send` waits while a peer does not read.
        says_why_it_fails: a frame against RFC 6455 is answered with a close frame before the connection ends.
        knows_close_codes: it passes on every close code and reason, the peer's and the application's.
    """

    name: str
    arguments: tuple[str, ...]
    greeting: str
    is_ours: bool = False
    refuses_in_json: bool = True
    holds_back: bool = True
    says_why_it_fails: bool = True
    knows_close_codes: bool = True


APPLICATION = "tests.servers.asgi:application"
SERVE = Kind("serve", ("-m", "yamabiko", "serve", APPLICATION, "--port", "0"), r"Open  http://.*:(\d+)/", is_ours=True)
RUNSERVER = Kind(
    "runserver",
    ("-m", "django", "runserver", "--noreload", "127.0.0.1:0"),
    r"server at http://.*:(\d+)/",
    is_ours=True,
)
UVICORN = Kind("uvicorn", ("-m", "uvicorn", APPLICATION, "--port", "0"), r"running on http://.*:(\d+) ")
# Daphne answers every refused handshake with a 403 of its own, its `send` takes whatever it is given into memory, it
# closes with 1000 or 3000-4999 and without a reason only, and answers a peer's close frame with 1000.
DAPHNE = Kind(
    "daphne",
    ("-m", "daphne", "-p", "0", APPLICATION),
    r"Listening on TCP address .*:(\d+)",
    refuses_in_json=False,
    holds_back=False,
    says_why_it_fails=False,
    knows_close_codes=False,
)
HYPERCORN = Kind(
    "hypercorn",
    ("-m", "hypercorn", "-w", "0", "-b", "127.0.0.1:0", APPLICATION),
    r"Running on http://.*:(\d+) ",
    says_why_it_fails=False,
)
DEMO = Kind(
    "demo",
    ("-m", "yamabiko", "serve", "webapp1.asgi:application", "--app-dir", str(ROOT / "demo"), "--port", "0"),
    SERVE.greeting,
    is_ours=True,
)
KINDS = (SERVE, RUNSERVER, UVICORN, DAPHNE, HYPERCORN)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("COV")}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "tests.servers.settings",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        **more,
    }


@dataclass(eq=False)
class Running:
    """A process and what it has printed so far; stderr and stdout are one."""

    kind: Kind
    process: subprocess.Popen[str]
    port: int = 0
    session_key: str = ""
    printed: list[str] = field(default_factory=list)
    _has_printed: threading.Condition = field(default_factory=threading.Condition)
    _reader: threading.Thread | None = None
    _is_over: bool = False

    def read(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._has_printed:
                self.printed.append(line.rstrip("\n"))
                self._has_printed.notify_all()
        with self._has_printed:
            self._is_over = True
            self._has_printed.notify_all()

    def line(self, pattern: str) -> re.Match[str]:
        """Return the first line that matches, as soon as there is one."""
        with self._has_printed:
            self._has_printed.wait_for(lambda: self._is_over or self._match(pattern), PATIENCE_SECONDS)
            match = self._match(pattern)
        assert match, f"{self.kind.name} printed no line like {pattern!r}, but:\n" + "\n".join(self.printed)
        return match

    def _match(self, pattern: str) -> re.Match[str] | None:
        return next(filter(None, (re.search(pattern, line) for line in self.printed)), None)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code once the process has ended by itself and everything it printed is read."""
        code = self.process.wait(PATIENCE_SECONDS)
        assert self._reader is not None
        self._reader.join(PATIENCE_SECONDS)
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            # Ours write down what they have covered only if no signal kills them.
            self.signal(signal.SIGINT if self.kind.is_ours else signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def start(kind: Kind, *more: str, cwd: Path = ROOT, **variables: str) -> Running:
    """Start a server without waiting for it."""
    process = subprocess.Popen(
        [sys.executable, *kind.arguments, *more],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(kind, process)
    running.read()
    return running


@contextmanager
def serving(kind: Kind, *more: str, cwd: Path = ROOT, **variables: str) -> Iterator[Running]:
    """Run a server for as long as the block lasts."""
    running = start(kind, *more, cwd=cwd, **variables)
    try:
        running.port = int(running.line(kind.greeting)[1])
        yield running
    finally:
        running.end()


class Servers:
    """One running server of each kind, started when it is first needed."""

    def __init__(self, database: Path) -> None:
        self._variables = {"SITE_DATABASE": str(database)}
        self._running: dict[str, Running] = {}
        self._ends: list[Callable[[], None]] = []
        self.session_key = self._filled_database()

    def __getitem__(self, kind: Kind) -> Running:
        if kind.name not in self._running:
            context = self.new(kind)
            self._running[kind.name] = context.__enter__()
            self._ends.append(lambda: context.__exit__(None, None, None))
        return self._running[kind.name]

    @contextmanager
    def new(self, kind: Kind, *more: str, **variables: str) -> Iterator[Running]:
        """Run a server that no other test uses."""
        with serving(kind, *more, **self._variables, **variables) as running:
            running.session_key = self.session_key
            yield running

    @asynccontextmanager
    async def meanwhile(self, kind: Kind, *more: str, **variables: str) -> AsyncIterator[Running]:
        """Do the same; others have the loop while it starts and ends."""
        context = self.new(kind, *more, **variables)
        server = await asyncio.to_thread(context.__enter__)
        try:
            yield server
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)

    def end(self) -> None:
        for end in self._ends:
            end()

    def _filled_database(self) -> str:
        made = subprocess.run(
            [sys.executable, "-m", "tests.servers.make_database"],
            cwd=ROOT,
            env=environment(**self._variables),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )
        return made.stdout.strip()
