"""The log on disk: what outlives a restart and a kill, one commit for many, whose file it is, and what is deleted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sqlite3
import stat
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.brokers.sqlite_log import HISTORY, SOURCES, WAIT_SECONDS, LogBench, Sqlite, acknowledged, load_on
from tests.brokers.witness import Witness
from yamabiko.brokers.sqlite import SqliteBroker, file, retention, schema, writer
from yamabiko.core.errors import ConfigurationError, NotAvailable, PublishFailed
from yamabiko.core.messages import History, Position, Publication

BIG = "x" * 10_000


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[LogBench]:
    bench = LogBench(tmp_path / "log" / "rooms.log")
    bench.path.parent.mkdir()
    yield bench
    await bench.broker.close()


@pytest.fixture
def sqlite(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sqlite]:
    return Sqlite(monkeypatch)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "WAIT_SECONDS", 0.05)


# Over a restart


async def test_numbers_history_and_keys_outlive_a_restart(log):
    before = await log.publish_all(range(3), user="alice")
    await log.publish("keyed", key="k")
    await log.restart()
    page = await log.read(since=before[0])
    assert [publication.position for publication in page.publications[:2]] == before[1:]
    assert (page.publications[0].user, page.is_whole) == ("alice", True)
    assert await log.publish("keyed again", key="k") == Position(before[0].epoch, 4)
    assert await log.publish("next") == Position(before[0].epoch, 5)


async def test_the_epoch_of_a_room_that_was_only_read_outlives_a_restart(log):
    top = (await log.read()).top
    await log.restart()
    assert await log.publish("first") == Position(top.epoch, 1)


async def test_a_key_without_history_outlives_a_restart(log):
    await log.publish("once", history=None, key="k")
    await log.restart()
    await log.broker.subscribe("room")
    await log.publish("again", history=None, key="k")
    assert log.delivered == []


async def test_after_kill_9_everything_acknowledged_is_there_and_the_epoch_goes_on(log):
    async with load_on(log.path) as load:
        lines = await acknowledged(load, 2_000)
        load.kill()
        lines += await acknowledged(load, 1_000_000)
    assert len(lines) >= 2_000
    page = await log.read()
    epoch = page.top.epoch
    kept = {publication.position.offset: publication.data.decode() for publication in page.publications}
    assert {offset: message for offset, _, message in lines}.items() <= kept.items()
    assert {epoch} == {line[1] for line in lines}
    assert list(kept) == list(range(1, page.top.offset + 1))
    assert await log.publish("next") == Position(epoch, page.top.offset + 1)


async def test_after_a_close_the_broker_begins_anew_on_any_loop(log):
    first = await log.publish("first")
    await log.broker.close()
    second = await asyncio.to_thread(lambda: asyncio.run(log.publish("second")))
    third = await log.publish("third")
    assert [position.offset for position in (first, second, third)] == [1, 2, 3]


async def test_a_close_finishes_what_was_asked_for_in_the_same_turn(log):
    publishing = [asyncio.create_task(log.publish(number)) for number in range(10)]
    await asyncio.sleep(0)
    await log.broker.close()
    assert [position.offset for position in await asyncio.gather(*publishing)] == list(range(1, 11))
    assert "yamabiko-log" not in {thread.name for thread in threading.enumerate()}


async def test_a_broker_that_was_never_used_closes_and_has_no_file(log):
    await log.broker.close()
    assert not log.path.exists()


# Together


async def test_what_is_published_in_one_turn_is_one_commit(log, sqlite):
    await log.broker.open()
    sqlite.statements.clear()
    await log.publish_all(range(300))
    assert sqlite.count("COMMIT") == 1


async def test_what_is_asked_for_in_one_turn_is_handed_over_once(log, monkeypatch):
    wishes = []
    take = writer.Writer.take
    monkeypatch.setattr(writer.Writer, "take", lambda self, wish: (wishes.append(wish), take(self, wish)))
    await asyncio.gather(log.publish_all(range(100)), log.read())
    assert len(wishes) == 1


async def test_a_commit_waits_for_the_disk_and_the_file_is_locked(log, sqlite):
    await log.publish("first")
    pragmas = {"synchronous": 2, "journal_mode": "wal", "locking_mode": "exclusive", "auto_vacuum": 2}
    assert {name: sqlite.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas} == pragmas


async def test_many_who_wait_for_each_of_their_publishes_cause_one_commit_a_turn(log, sqlite):
    async def publish_ten(publisher: int) -> None:
        for number in range(10):
            await log.publish([publisher, number], key=f"{publisher}/{number}")

    await log.broker.open()
    sqlite.statements.clear()
    await asyncio.gather(*map(publish_ten, range(64)))
    assert sqlite.count("COMMIT") == 10
    assert (await log.read()).top.offset == 640


async def test_steps_that_give_up_the_lock_of_python_do_not_grow_with_the_messages(log, sqlite):
    await log.broker.open()
    sqlite.statements.clear()
    await log.publish_all(range(128), key="")
    few = len(sqlite.statements)
    await asyncio.gather(*(log.publish(number, f"room/{number}") for number in range(128)))
    sqlite.statements.clear()
    await asyncio.gather(*(log.publish(number, f"room/{number}", key=f"{number}") for number in range(128)))
    assert few <= 6
    assert len(sqlite.statements) <= 8


async def test_delivery_is_in_order_after_the_commit_and_before_the_acknowledgement(log, sqlite):
    await log.broker.subscribe("room")
    seen = []
    log.broker.start(Witness(lambda room, publication: seen.append((sqlite.count("COMMIT"), publication.data))))
    await log.broker.open()
    sqlite.statements.clear()

    async def publish(number: int) -> None:
        await log.publish(number)
        seen.append("acknowledged")

    await asyncio.gather(*map(publish, range(3)))
    assert seen == [(1, b"0"), (1, b"1"), (1, b"2"), *["acknowledged"] * 3]


async def test_a_delivery_that_fails_troubles_no_publisher(log, caplog):
    def fail(room: str, publication: object) -> None:
        raise RuntimeError("as asked")

    log.broker.start(Witness(fail))
    await log.broker.subscribe("room")
    assert [position.offset for position in await log.publish_all(range(3))] == [1, 2, 3]
    assert caplog.text.count("could not be delivered") == 3


async def test_a_publication_without_history_and_key_needs_no_file_and_no_thread(log):
    await log.broker.subscribe("room")
    before = threading.active_count()
    assert await log.publish("passing", history=None) is None
    assert [publication.data for _, publication in log.delivered] == [b'"passing"']
    assert (log.path.exists(), threading.active_count()) == (False, before)


async def test_a_publisher_that_gives_up_troubles_no_other(log):
    tasks = [asyncio.create_task(log.publish(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["Position", "CancelledError", "Position"]
    assert (await log.publish("next")).offset == 4


async def test_equal_questions_that_wait_together_are_answered_by_one_query(log, sqlite):
    positions = await log.publish_all(range(20))
    sqlite.statements.clear()
    pages = await asyncio.gather(*(log.read(since=positions[9]) for _ in range(1_000)))
    assert {page.publications[-1].position for page in pages} == {positions[-1]}
    assert sum("json_group_array" in statement for statement in sqlite.statements) == 1


async def test_a_question_asked_after_an_acknowledgement_sees_what_was_acknowledged(log):
    async def publish_and_read(number: int) -> None:
        position = await log.publish(number)
        assert (await log.read(limit=1)).top.offset >= position.offset

    for _ in range(20):
        await asyncio.gather(*map(publish_and_read, range(10)))


async def test_a_publish_does_not_wait_for_thousands_of_questions(log, monkeypatch):
    monkeypatch.setattr(writer, "READING_SECONDS", 0.001)
    positions = await log.publish_all(range(1_000))
    reading = [asyncio.create_task(log.read(since=position, limit=100)) for position in positions]
    await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    await log.publish("quick")
    assert not all(task.done() for task in reading)
    await asyncio.gather(*reading)


# Whose file it is


async def test_the_file_is_private(log):
    await log.publish("secret")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in log.path.parent.iterdir()}
    assert modes == {"rooms.log": 0o600, "rooms.log-wal": 0o600}


async def test_a_file_that_another_process_has_is_refused_until_it_is_free(log, impatient):
    async with load_on(log.path) as load:
        await acknowledged(load, 1)
        with pytest.raises(ConfigurationError, match=r"another process is using it.*redis://"):
            await log.broker.open()
        with pytest.raises(PublishFailed, match=r"another process is using it.*redis://"):
            await log.publish("refused")
        with pytest.raises(NotAvailable):
            await log.read()
    await log.broker.open()
    await log.publish("accepted")
    assert (await log.messages())[-1] == "accepted"


async def test_a_file_that_is_let_go_in_time_is_waited_for(log):
    await log.publish("first")
    other = log.another()
    opening = asyncio.create_task(other.open())
    await asyncio.sleep(0)
    await log.broker.close()
    await opening
    await other.close()


async def test_a_broker_that_nobody_holds_any_longer_lets_go_of_the_file(log):
    await log.publish("first")
    log.broker = None
    gc.collect()
    log.broker = log.another()
    assert (await log.publish("second")).offset == 2


async def refusal_of(path: Path) -> str:
    broker = SqliteBroker(path)
    with pytest.raises(ConfigurationError) as refusal:
        await broker.open()
    await broker.close()
    return str(refusal.value)


async def test_a_path_that_cannot_be_is_refused_in_words(tmp_path):
    (tmp_path / "text").write_text("not a database\n" * 100)
    assert "folder does not exist: create it" in await refusal_of(tmp_path / "nowhere" / "log")
    assert "is a folder: give the path of a file" in await refusal_of(tmp_path)
    assert "is no SQLite database" in await refusal_of(tmp_path / "text")
    assert "cannot be made in its folder: Not a directory" in await refusal_of(tmp_path / "text" / "log")
    assert (tmp_path / "text").read_text() == "not a database\n" * 100


@pytest.mark.parametrize("version", [0, 1])
async def test_the_database_of_something_else_is_refused_and_left_alone(tmp_path, version):
    path = tmp_path / "db.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE auth_user (name TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    assert "is a SQLite database of something else: give the rooms a file of their own" in await refusal_of(path)
    assert path.read_bytes() == before


async def test_a_file_that_may_not_be_written_is_refused(log, monkeypatch):
    await log.publish("first")
    await log.broker.close()
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write everything
    with pytest.raises(ConfigurationError, match="may not be read and written by this user"):
        await log.broker.open()


VERSION_1 = """
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL, top INTEGER NOT NULL,
        lives_until REAL NOT NULL
    );
    CREATE TABLE publications (
        room INTEGER NOT NULL, offset INTEGER NOT NULL, expires_at REAL NOT NULL, user TEXT NOT NULL,
        data BLOB NOT NULL, PRIMARY KEY (room, offset)
    ) WITHOUT ROWID;
    CREATE TABLE keys (
        room INTEGER NOT NULL, key TEXT NOT NULL, offset INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (room, key)
    ) WITHOUT ROWID;
    INSERT INTO rooms VALUES (1, 'room', 'epoch', 2, 2000000);
    INSERT INTO publications VALUES (1, 1, 2000000, 'alice', '"old"'), (1, 2, 2000000, '', '"older"');
    INSERT INTO keys VALUES (1, 'k', 2, 1000000);
    PRAGMA application_id = 1500340843;
    PRAGMA user_version = 1;
"""


async def test_a_file_of_version_1_is_upgraded_in_its_place(log):
    with contextlib.closing(sqlite3.connect(log.path)) as connection:
        connection.executescript(VERSION_1)
    await log.publish("new", user="bob", extras=b'{"tags":{"a":"1"}}')
    assert await log.publish("again", key="k") == Position("epoch", 2)
    await log.restart()
    page = await log.read()
    assert page.publications == [
        Publication(b'"old"', Position("epoch", 1), "alice"),
        Publication(b'"older"', Position("epoch", 2)),
        Publication(b'"new"', Position("epoch", 3), "bob", b'{"tags":{"a":"1"}}'),
    ]
    assert await log.rows("PRAGMA user_version") == [(2,)]


async def test_a_file_of_a_newer_version_is_refused(log):
    await log.publish("first")
    await log.broker.close()
    with contextlib.closing(sqlite3.connect(log.path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.UPGRADES) + 1}")
    with pytest.raises(ConfigurationError, match=r"a newer Yamabiko has written it.*upgrade Yamabiko"):
        await log.broker.open()


async def test_a_file_of_an_older_version_is_upgraded_once_and_keeps_everything(log, monkeypatch):
    position = await log.publish("before")
    await log.broker.close()
    monkeypatch.setattr(schema, "UPGRADES", [*schema.UPGRADES, lambda db: db.execute("CREATE TABLE new (n)")])
    for offset in (2, 3):
        assert await log.publish("after") == Position(position.epoch, offset)
        await log.broker.close()
    with contextlib.closing(sqlite3.connect(log.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.UPGRADES),)


async def test_an_upgrade_that_fails_changes_nothing(log, monkeypatch):
    await log.publish("before")
    await log.broker.close()

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE publications")
        connection.execute("no statement")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "UPGRADES", [*schema.UPGRADES, fail])
        with pytest.raises(ConfigurationError, match="syntax error"):
            await log.broker.open()
    assert await log.messages() == ["before"]


async def test_several_that_begin_at_once_do_not_all_go_without(log, impatient, monkeypatch):
    await log.publish("first")
    await log.broker.close()
    brokers = [log.another() for _ in range(4)]
    opened = await asyncio.gather(*(broker.open() for broker in brokers), return_exceptions=True)
    assert opened.count(None) == 1
    await asyncio.gather(*(broker.close() for broker in brokers))


FORKING = """
import asyncio, os, signal, sys
from pathlib import Path
from datetime import timedelta
from yamabiko.brokers.sqlite import SqliteBroker, file
from yamabiko.core.errors import PublishFailed
from yamabiko.core.messages import History

file.WAIT_SECONDS = 0.05
broker = SqliteBroker(Path(sys.argv[1]))

def publish():
    return asyncio.run(broker.publish("room", b"1", history=History(size=100, ttl=timedelta(hours=1)))).offset

publish()
child = os.fork()
signal.alarm(10)
if not child:
    try:
        publish()
    except PublishFailed as error:
        print(error, flush=True)
    sys.exit()
os.waitpid(child, 0)
print([publish(), publish()])
"""


async def test_a_forked_child_is_refused_and_leaves_the_parents_log_whole(log):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        "-c",
        FORKING,
        log.path,
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        stdout=PIPE,
    )
    async with asyncio.timeout(WAIT_SECONDS):
        said, _ = await process.communicate()
    assert "another process is using it" in said.decode()
    assert said.decode().endswith("[2, 3]\n")
    assert await log.messages() == [1, 1, 1]


# What is deleted


async def test_what_is_too_much_for_the_size_is_deleted_from_the_file(log):
    small = History(size=50, ttl=timedelta(hours=1))
    for _ in range(20):
        await log.publish_all([BIG] * 50, history=small)
    await log.broker.close()
    assert log.bytes_on_disk() < 200 * len(BIG)


async def test_what_has_expired_is_deleted_and_the_file_shrinks(log):
    await log.publish_all([BIG] * 500)
    full = log.bytes_on_disk()
    assert full > 500 * len(BIG)
    log.now += 3_600
    async with asyncio.timeout(WAIT_SECONDS):
        while log.bytes_on_disk() > full / 10:
            await log.sweep(1)


async def test_what_is_forgotten_is_gone_from_the_file_and_over_a_restart(log):
    positions = await log.publish_all(range(300))
    await log.publish("kept", room="other")
    await log.broker.forget("room")
    await log.restart()
    page = await log.read()
    assert (page.publications, page.top) == ([], positions[-1])
    assert await log.rows("SELECT count(*) FROM publications") == [(1,)]


async def test_what_was_begun_before_is_forgotten_and_what_is_begun_afterwards_is_kept(log):
    publishing = asyncio.create_task(log.publish("before"))
    await asyncio.sleep(0)
    await log.broker.forget("room")
    assert (await publishing).offset == 1
    await log.publish("after")
    assert await log.messages() == ["after"]


async def test_a_room_that_was_never_used_is_forgotten_without_a_trace(log):
    await log.broker.forget("room")
    assert await log.rows("SELECT count(*) FROM rooms") == [(0,)]


async def test_a_page_skips_what_has_expired_before_it_is_deleted(log):
    await log.publish_all(range(5), history=History(size=100, ttl=timedelta(seconds=0.5)))
    log.now += 0.5
    page = await log.read()
    assert (page.publications, page.top.offset) == ([], 5)


async def test_old_keys_are_deleted_from_the_file(log):
    passing = History(size=1, ttl=timedelta(seconds=1))
    await asyncio.gather(*(log.publish("x", history=passing, key=f"{number}") for number in range(3_000)))
    await log.publish("kept", history=HISTORY, key="kept")
    await log.publish("kept", history=None, key="recent", room="elsewhere")
    log.now += 290
    await log.publish("kept", history=None, key="recent", room="elsewhere")
    log.now += 9
    assert await log.rows("SELECT count(*) FROM keys") == [(3_002,)]
    log.now += 1
    await log.sweep()
    assert await log.rows("SELECT key FROM keys") == [("kept",)]


async def test_nothing_of_a_forgotten_room_is_left(log, monkeypatch):
    monkeypatch.setattr(retention, "KEYS_LOOKED_AT", 1)  # keys go with their room, not some time later
    await log.publish_all(range(1_200), room="passing")
    await asyncio.gather(*(log.publish("x", room="passing", key=f"{number}") for number in range(1_200)))
    log.now += 3_600
    await log.sweep()
    assert await log.rows("SELECT name FROM rooms") == [("sweeping",)]
    for table in ("publications", "keys"):
        assert await log.rows(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_a_room_is_not_forgotten_while_its_last_member_may_come_back(log):
    await log.broker.subscribe("room")
    top = await log.publish("hello")
    log.now += 1_000_000
    await log.broker.unsubscribe("room")
    await log.sweep()
    assert (await log.read()).top == top
    log.now += 300
    await log.sweep()
    assert (await log.read()).top.epoch != top.epoch


async def test_after_a_start_no_room_is_forgotten_before_its_members_may_have_come_back(log):
    top = await log.publish("hello")
    await log.broker.close()
    log.now += 1_000_000
    await log.sweep()
    assert (await log.read()).top == top
    log.now += 300
    await log.sweep()
    assert (await log.read()).top.epoch != top.epoch
