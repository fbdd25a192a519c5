"""The log in trouble: a full disk, a damaged file, a folder that is gone; and that nothing accepted is lost by it."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.brokers.sqlite_log import LogBench, Sqlite
from yamabiko.brokers.sqlite import sql, writer
from yamabiko.core.errors import ConfigurationError, NotAvailable, PublishFailed
from yamabiko.core.messages import Position

BIG = "x" * 10_000
PAGE_BYTES = 4096


@pytest.fixture
async def log(tmp_path: Path, sqlite: Sqlite) -> AsyncIterator[LogBench]:
    bench = LogBench(tmp_path / "log" / "rooms.log")
    bench.path.parent.mkdir()
    yield bench
    await bench.broker.close()


@pytest.fixture
def sqlite(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sqlite]:
    return Sqlite(monkeypatch)


async def refusals(log: LogBench, count: int = 10) -> set[str]:
    """Publish in one turn what is refused; return the reasons."""
    results = await asyncio.gather(
        *(log.publish(BIG, key=f"{number}") for number in range(count)), return_exceptions=True
    )
    assert {type(result) for result in results} == {PublishFailed}
    return {str(result) for result in results}


async def test_on_a_full_disk_a_whole_turn_is_refused_and_what_was_accepted_stays(log, sqlite):
    await log.broker.subscribe("room")
    await log.publish_all(range(5))
    sqlite.limit_pages(10)
    assert len(await refusals(log, 20)) == 1
    assert await log.messages() == list(range(5))
    assert len(log.delivered) == 5


async def test_when_there_is_room_again_numbers_go_on_without_a_hole_and_keys_are_free(log, sqlite):
    (first,) = await log.publish_all(["first"])
    sqlite.limit_pages(10)
    (reason,) = await refusals(log)
    assert "rooms.log cannot be written: the disk is full" in reason
    sqlite.limit_pages(1_000_000)
    assert await log.publish("second", key="0") == Position(first.epoch, 2)
    assert await log.messages() == ["first", "second"]
    assert log.misses == 1  # a failure at the very end of a commit may have left something that nobody heard


async def test_on_a_full_disk_a_file_put_in_place_of_the_old_one_is_taken_up(log, sqlite, tmp_path):
    await log.publish("first")
    sqlite.limit_pages(10)
    await refusals(log)
    other = LogBench(tmp_path / "other.log")
    await other.publish("another site's")
    await other.broker.close()
    other.path.rename(log.path)
    await refusals(log)
    await log.publish("next")
    assert await log.messages() == ["another site's", "next"]


async def test_on_a_full_disk_rooms_that_are_new_can_still_be_joined(log, sqlite):
    await log.publish_all(["first"])
    sqlite.limit_pages(10)
    await refusals(log)
    sqlite.limit_pages(1)
    tops = [(await log.read(f"new/{number}")).top.offset for number in range(200)]
    assert set(tops) == {0}


async def test_trouble_is_told_once_and_so_is_its_end(log, sqlite, caplog, monkeypatch):
    await log.publish("first")
    sqlite.limit_pages(10)
    for _ in range(5):
        await refusals(log, 5)
        await log.read()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"nothing can be written to {log.path}: the disk is full" in caplog.text
    monkeypatch.setattr(writer, "REPEAT_SECONDS", 0.0)
    await refusals(log, 5)
    assert len(caplog.records) == 2
    sqlite.limit_pages(1_000_000)
    await log.publish_all(["second", "third"])
    await log.publish("fourth")
    assert [record.getMessage() for record in caplog.records[2:]] == [
        f'it is over that "nothing can be written to {log.path}"'
    ]


async def damage(log: LogBench, pages: int) -> bytes:
    """Overwrite the last pages of the file between one broker and the next; return what the file was."""
    await log.broker.close()
    whole = log.path.read_bytes()
    spoilt = min(pages * PAGE_BYTES, len(whole))
    log.path.write_bytes(whole[: len(whole) - spoilt] + b"\xa5" * spoilt)
    log.broker = log.another()
    return whole


async def test_a_damaged_file_is_read_where_it_can_be_and_works_again_when_a_backup_is_in_its_place(log, caplog):
    await log.publish("safe", room="safe")
    await log.publish_all([BIG] * 100)
    whole = await damage(log, pages=60)
    assert await log.messages("safe") == ["safe"]
    with pytest.raises(NotAvailable, match="history of this room cannot be read now"):
        await log.read()
    (reason,) = await refusals(log)
    assert "it is damaged: put a backup in its place, or move it away to begin anew" in reason
    assert f"not everything can be read from {log.path}: it is damaged" in caplog.text
    assert "nothing can be written" in caplog.text
    log.path.unlink()
    log.path.write_bytes(whole)
    position = await log.publish("next")
    assert (position.offset, len(await log.messages())) == (101, 101)


async def test_a_file_that_is_nothing_but_damage_is_refused_at_the_start(log):
    await log.publish("lost")
    await damage(log, pages=1_000)
    with pytest.raises(ConfigurationError, match="is no SQLite database, or it is damaged"):
        await log.broker.open()
    assert len(await refusals(log)) == 1


async def test_a_folder_that_is_gone_refuses_publishes_until_it_is_back_with_everything(log, tmp_path):
    await log.broker.subscribe("room")
    (first,) = await log.publish_all(["first"])
    log.path.parent.rename(tmp_path / "elsewhere")
    assert any("removed or replaced" in reason for reason in await refusals(log))
    assert any("folder does not exist" in reason for reason in await refusals(log))
    with pytest.raises(NotAvailable):
        await log.read()
    assert len(log.delivered) == 1
    (tmp_path / "elsewhere").rename(log.path.parent)
    position = await log.publish("second")
    assert (position.epoch, (await log.messages())[0]) == (first.epoch, "first")
    assert log.misses == 1


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let every write of this process beyond `size` bytes of a file fail, as on a broken disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_while_the_disk_fails_reading_goes_on_and_afterwards_everything_does(log, sqlite):
    (first,) = await log.publish_all(["first"])
    with files_limited_to(1_000_000):
        reasons = await refusals(log, 200)
        assert any("the disk cannot be read or written" in reason for reason in reasons)
        assert await log.messages() == ["first"]
    assert await log.publish("second", key="0") == Position(first.epoch, 2)
    await log.restart()
    assert await log.messages() == ["first", "second"]


@pytest.mark.parametrize("name", ["rooms.log", "rooms.log-wal"])
async def test_what_goes_into_a_removed_file_is_not_acknowledged(log, name):
    await log.publish("first")
    log.path.with_name(name).unlink()
    assert any("removed or replaced" in reason for reason in await refusals(log))


async def test_what_cannot_be_forgotten_says_so_and_is_told(log, caplog):
    await log.publish("first")
    log.path.unlink()
    with pytest.raises(NotAvailable, match="cannot be forgotten"):
        await log.broker.forget("room")
    assert "not everything can be forgotten in" in caplog.text


async def test_where_a_file_was_removed_a_new_one_begins_with_a_new_epoch(log):
    first = await log.publish("first")
    log.path.unlink()
    log.path.with_name("rooms.log-wal").unlink()
    await refusals(log)
    again = await log.publish("again")
    assert (again.offset, again.epoch != first.epoch) == (1, True)


async def test_text_that_no_file_can_hold_spoils_nothing_that_is_published_with_it(log):
    half = "\ud800"
    results = await asyncio.gather(
        log.publish(1), log.publish(2, user=half), log.publish(3, key=half), log.publish(4), return_exceptions=True
    )
    assert [type(result) for result in results] == [Position, PublishFailed, PublishFailed, Position]
    assert await log.messages() == [1, 4]


async def test_an_error_that_nobody_expected_ends_neither_the_thread_nor_the_publisher_s_hope(log, monkeypatch):
    await log.publish("first")
    with monkeypatch.context() as patch:
        patch.setattr("yamabiko.brokers.sqlite.log.Position", None)
        assert "nobody expected" in next(iter(await refusals(log)))
    assert (await log.publish("second")).offset == 2


async def test_sweeping_in_trouble_is_told_and_goes_on_afterwards(log, caplog, monkeypatch):
    await log.publish_all([BIG] * 100)
    log.now += 3_600
    with monkeypatch.context() as patch:
        patch.setattr(sql, "DELETE_EXPIRED", "no statement")
        await log.sweep(3)
    assert caplog.text.count("what is kept no longer cannot be deleted") == 1
    await log.sweep(3)
    assert await log.rows("SELECT count(*) FROM publications") == [(0,)]
