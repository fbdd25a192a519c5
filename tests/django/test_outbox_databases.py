"""The outbox on real databases: SQLite in a file, PostgreSQL and MariaDB, with processes that die and race."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction

from tests import database_servers
from tests.django.outbox_bench import (
    ALIAS,
    FailingBroker,
    connected,
    kept,
    leave_behind,
    look,
    make_due,
    roll_back,
    run_elsewhere,
    say,
    send,
    waiting,
)
from yamabiko.django.outbox import Relay
from yamabiko.django.service import service

SQLITE, POSTGRESQL, MYSQL = "sqlite", "postgresql", "mysql"
ALL = [SQLITE, pytest.param(POSTGRESQL, marks=pytest.mark.postgresql), pytest.param(MYSQL, marks=pytest.mark.mysql)]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[dict[str, Any]]:
    with database_servers.postgresql() as database:
        yield database


@pytest.fixture(scope="session")
def mysql() -> Iterator[dict[str, Any]]:
    with database_servers.mysql() as database:
        yield database


@pytest.fixture(params=ALL)
def database(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    if request.param == SQLITE:
        made = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "site.sqlite3"),
            "OPTIONS": {"timeout": 30},
        }
    else:
        made = request.getfixturevalue(request.param)
    with django_db_blocker.unblock(), connected(made):
        yield made


@pytest.mark.usefixtures("database")
def test_what_is_committed_is_said_and_what_is_rolled_back_is_not() -> None:
    with transaction.atomic(ALIAS):
        say("kept/a", "first")
        roll_back("kept/a")
        say("kept/a", "second")
        assert kept("kept/a") == []
    roll_back("kept/a")
    make_due()
    assert look()
    assert kept("kept/a") == ["first", "second"]
    assert not waiting().exists()


@pytest.mark.usefixtures("database")
def test_every_room_is_a_room_of_its_own() -> None:
    """A database may take letters of any case for the same, and may not know all characters."""
    rooms = ["kept/a", "kept/A", "kept/á", "kept/部屋", "kept/🏔"]
    with transaction.atomic(ALIAS):
        for room in rooms:
            say(room, f"in {room} 🏔", idempotency_key=f"{room} 部")
        assert [entry.room for entry in waiting()] == rooms
        assert waiting().filter(room="kept/a").count() == 1
    assert [kept(room) for room in rooms] == [[f"in {room} 🏔"] for room in rooms]


def test_a_process_that_dies_between_commit_and_send_is_outlived(database: dict[str, Any], tmp_path: Path) -> None:
    ended = run_elsewhere(
        "from django.db import transaction\n"
        "with transaction.atomic():\n"
        "    transaction.on_commit(lambda: os._exit(9))\n"
        "    for number in range(3): yamabiko.publish('kept/a', {'said by': 'the dead', 'number': number})\n",
        tmp_path,
        database,
    )
    assert (ended.returncode, ended.stderr) == (9, "")
    assert waiting().count() == 3
    make_due()
    assert look()
    assert kept("kept/a") == [{"said by": "the dead", "number": number} for number in range(3)]
    assert not waiting().exists()


@pytest.mark.usefixtures("database")
def test_what_was_sent_but_not_deleted_is_said_once() -> None:
    for number in range(3):
        leave_behind("kept/a", number, key=f"row {number}")
    entries = list(waiting())
    assert look()
    for entry in entries:  # as if the process had died before the rows were deleted
        entry.save(using=ALIAS, force_insert=True)
    assert look()
    assert kept("kept/a") == [0, 1, 2]
    assert not waiting().exists()


@pytest.mark.parametrize("database", ALL[1:], indirect=True)  # SQLite has one writer at a time
@pytest.mark.usefixtures("database")
def test_a_relay_does_not_wait_for_an_open_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = FailingBroker(lambda room: room == "kept/failing")
    monkeypatch.setattr(service().node.broker, "publish", broker.publish)
    for number in range(2):
        for room in ("kept/a", "kept/failing"):
            leave_behind(room, number)
    with transaction.atomic(ALIAS):
        for room in ("kept/a", "kept/failing"):
            say(room, "not committed yet")
        look()
        assert broker.asked == ["kept/a", "kept/a", "kept/failing"]
        assert kept("kept/a") == [0, 1]
    assert kept("kept/a") == [0, 1, "not committed yet"]


@pytest.mark.parametrize("database", [ALL[1]], indirect=True)
@pytest.mark.usefixtures("database")
def test_a_relay_outlives_a_connection_that_the_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections[ALIAS].settings_dict, "CONN_MAX_AGE", None)  # or it would have a new one each time
    relay = Relay(send)
    relay._loop = asyncio.new_event_loop()

    def look_twice() -> list[bool]:
        return [relay.look(), relay.look()]

    with ThreadPoolExecutor(1) as thread, closing(relay._loop):
        assert thread.submit(look_twice).result() == [True, True]
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            assert cursor.fetchall() == [(True,)]
        assert thread.submit(look_twice).result() == [False, True]
        thread.submit(connections.close_all).result()


@pytest.mark.usefixtures("database")
def test_a_later_commit_never_overtakes_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four writers that wait for each other's commits, two relays, and a broker that fails before or after it took."""
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    brokers = [FailingBroker(lambda room: chance.random() < 0.05)]
    monkeypatch.setattr(service().node.broker, "publish", brokers[0].publish)
    brokers.append(FailingBroker(lambda room: chance.random() < 0.05, afterwards=True))
    monkeypatch.setattr(service().node.broker, "publish", brokers[1].publish)
    make_counter()
    with ThreadPoolExecutor(6) as threads:
        writers = [threads.submit(count_aloud, 15) for _ in range(4)]
        while not all(writer.done() for writer in writers):
            make_due()
            list(threads.map(lambda _: look(), range(2)))
    for broker in brokers:
        broker.mend()
    make_due()
    assert look()
    assert [writer.result() for writer in writers] == [None] * 4
    assert kept("kept/a") == list(range(1, 61)), f"with seed {seed}"
    assert not waiting().exists()


def make_counter() -> None:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS counter")
        cursor.execute("CREATE TABLE counter (number integer)")
        cursor.execute("INSERT INTO counter VALUES (0)")


def count_aloud(times: int) -> None:
    try:
        for _ in range(times):
            with transaction.atomic(ALIAS), connections[ALIAS].cursor() as cursor:
                cursor.execute("UPDATE counter SET number = number + 1")  # waits for whoever counts
                cursor.execute("SELECT number FROM counter")
                say("kept/a", cursor.fetchone()[0])
    finally:
        connections.close_all()
