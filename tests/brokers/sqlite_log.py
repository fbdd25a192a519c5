"""A log in a folder of its own: its broker, what that delivered, its file, and a look at what SQLite is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.brokers.witness import Witness
from yamabiko.brokers.sqlite import SqliteBroker
from yamabiko.core.messages import History, Position, Publication, Stream

HISTORY = History(size=100_000, ttl=timedelta(hours=1))
WAIT_SECONDS = 10.0
SOURCES = Path(__file__).parents[2] / "src"


class Sqlite:
    """What all connections that are opened are told, and the newest of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        self.connection: sqlite3.Connection | None = None
        self._connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", self._open)

    def _open(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        self.connection = self._connect(*arguments, check_same_thread=False, **options)
        self.connection.set_trace_callback(self.statements.append)
        return self.connection

    def count(self, beginning: str) -> int:
        return sum(statement.strip().startswith(beginning) for statement in self.statements)

    def limit_pages(self, pages: int) -> None:
        """Let the file have no more pages, as on a full disk, while the writer has nothing to do."""
        assert self.connection is not None
        self.connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()


class LogBench:
    """A broker on `path`, a clock wound by hand, and what was delivered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_000_000.0
        self.witness = Witness()
        self.broker = self.another()

    def another(self) -> SqliteBroker:
        broker = SqliteBroker(self.path, lambda: self.now)
        broker.start(self.witness)
        return broker

    @property
    def delivered(self) -> list[tuple[str, Publication]]:
        return self.witness.delivered

    @property
    def misses(self) -> int:
        return self.witness.misses

    async def restart(self) -> None:
        await self.broker.close()
        self.broker = self.another()

    async def publish(
        self, message: Any, room: str = "room", history: History | None = HISTORY, **options: Any
    ) -> Position | None:
        return await self.broker.publish(room, msgspec.json.encode(message), history=history, **options)

    async def publish_all(self, messages: Iterable[Any], room: str = "room", **options: Any) -> list[Position]:
        """Publish all in one turn of the loop."""
        return await asyncio.gather(*(self.publish(message, room, **options) for message in messages))

    async def read(self, room: str = "room", since: Position | None = None, limit: int = 100_000) -> Stream:
        return await self.broker.read(room, HISTORY, since=since, limit=limit)

    async def messages(self, room: str = "room") -> list[Any]:
        return [json.loads(publication.data) for publication in (await self.read(room)).publications]

    async def rows(self, query: str) -> list[Any]:
        """Ask the file itself, between one broker and the next."""
        await self.broker.close()
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute(query).fetchall()
        self.broker = self.another()
        return found

    async def sweep(self, rounds: int = 20) -> None:
        """Let time pass, a second at a time, and have the writer notice each."""
        for _ in range(rounds):
            self.now += 1
            await self.read("sweeping")

    def bytes_on_disk(self) -> int:
        return sum(file.stat().st_size for file in self.path.parent.iterdir())


@asynccontextmanager
async def load_on(path: Path) -> AsyncIterator[Process]:
    """Run a process that publishes into the log at `path`; it is gone afterwards."""
    program = Path(__file__).with_name("sqlite_load.py")
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    process = await asyncio.create_subprocess_exec(sys.executable, program, path, stdout=PIPE, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # reads what nobody wanted: wait() alone would not see the end of it


async def acknowledged(process: Process, count: int) -> list[tuple[int, str, str]]:
    """Return the next lines of a load: offset, epoch and message."""
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(WAIT_SECONDS):
        while len(lines) < count and (line := await process.stdout.readline()):
            offset, epoch, message = line.decode().split()
            lines.append((int(offset), epoch, message))
    return lines
