"""What the tests of the outbox share: a database that threads and processes can reach, and a broker that fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import call_command
from django.db import connections, transaction

from yamabiko import PublishFailed, publish
from yamabiko.core.messages import History, Position
from yamabiko.django import outbox, outbox_commit, outbox_sending
from yamabiko.django.models import OutboxEntry
from yamabiko.django.outbox import Relay
from yamabiko.django.outbox_sending import Throttle
from yamabiko.django.service import service

ALIAS = "shared"
REPOSITORY = Path(__file__).parents[2]


@contextmanager
def connected(database: dict[str, Any]) -> Iterator[None]:
    """Configure `database` as ALIAS, with an empty outbox."""
    configured = connections.configure_settings({"default": {}, ALIAS: database})  # which fills in what is left out
    connections.settings[ALIAS] = configured[ALIAS]
    try:
        call_command("migrate", "yamabiko", database=ALIAS, verbosity=0)
        waiting().delete()
        yield
    finally:
        connections[ALIAS].close()
        del connections[ALIAS], connections.settings[ALIAS]


@pytest.fixture(autouse=True)
def _no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (outbox, outbox_commit, outbox_sending):
        monkeypatch.setattr(module, "throttle", Throttle())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "site.sqlite3"


@pytest.fixture
def _outbox(file: Path, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), connected({"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}):
        yield


def waiting() -> Any:
    """Return the rows of the outbox, oldest first."""
    return OutboxEntry.objects.using(ALIAS).order_by("id")


def leave_behind(room: str, message: Any, **columns: Any) -> OutboxEntry:
    """Write a row as a process does that dies right after its commit: a relay is to take it up."""
    values = {"key": f"left {message}", "due_at": 0, **columns}
    entry: OutboxEntry = waiting().create(room=room, data=msgspec.json.encode(message), **values)
    return entry


def make_due() -> None:
    """Let the time pass that rows wait for."""
    waiting().filter(due_at__isnull=False).update(due_at=0)


def kept(room: str) -> list[Any]:
    """Return the messages that the broker has of a room."""
    stream = service().run(service().node.broker.read(room, History(size=1000), limit=1000))
    return [msgspec.json.decode(publication.data) for publication in stream.publications]


async def send(room: str, data: bytes, key: str) -> Position | None:
    return await service().publish(room, data, key=key)


def look(relay: Relay | None = None) -> bool:
    """Let a relay look once, as its `run` does, and return what it makes of it."""
    return asyncio.run(_looking(relay or Relay(send)))


async def _looking(relay: Relay) -> bool:
    relay._loop = asyncio.get_running_loop()
    return await asyncio.to_thread(_look_and_close, relay)


def _look_and_close(relay: Relay) -> bool:
    try:
        return relay.look()
    finally:
        connections.close_all()


class FailingBroker:
    """Stands in front of the real one: fails for some rooms, before or after it has published, and counts."""

    def __init__(self, fails: Callable[[str], bool] = lambda room: True, *, afterwards: bool = False) -> None:
        self.fails = fails
        self.asked: list[str] = []
        self._afterwards = afterwards
        self._publish = service().node.broker.publish

    def mend(self) -> None:
        self.fails = lambda room: False

    async def publish(self, room: str, data: bytes, **options: Any) -> Position | None:
        self.asked.append(room)
        is_failing = self.fails(room)
        if is_failing and not self._afterwards:
            raise PublishFailed("as asked")
        position = await self._publish(room, data, **options)
        if is_failing:
            raise PublishFailed("nobody knows whether it was published")
        return position


def fail(monkeypatch: pytest.MonkeyPatch, *rooms: str) -> FailingBroker:
    """Let the broker fail for these rooms, or for all."""
    broker = FailingBroker(lambda room: not rooms or room in rooms)
    monkeypatch.setattr(service().node.broker, "publish", broker.publish)
    return broker


def roll_back(room: str) -> None:
    """Publish in a transaction, or a savepoint, that is rolled back."""
    with suppress(ZeroDivisionError), transaction.atomic(ALIAS):
        say(room, "rolled back")
        raise ZeroDivisionError


def run_elsewhere(program: str, folder: Path, database: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a program in another process of the site, which has `database` as its only one."""
    lines = ["from tests.settings import *", f"DATABASES = {{'default': {database!r}}}"]
    if database["ENGINE"].endswith("mysql"):
        lines.append("import pymysql; pymysql.install_as_MySQLdb()")
    (folder / "elsewhere.py").write_text("\n".join(lines), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-c", f"import django; django.setup(); import os, yamabiko\n{program}"],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY), str(REPOSITORY / "src")]),
            "DJANGO_SETTINGS_MODULE": "elsewhere",
            "TMPDIR": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=50,
    )


def say(room: str, message: Any, **options: Any) -> None:
    assert publish(room, message, using=ALIAS, **options) is None
