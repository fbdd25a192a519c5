"""What a relay does with what others have left in the outbox, and how it lives."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tests.django.outbox_bench import (
    ALIAS,
    fail,
    kept,
    leave_behind,
    look,
    make_due,
    send,
    waiting,
)
from tests.django.outbox_bench import _no_memory as _no_memory
from tests.django.outbox_bench import _outbox as _outbox
from tests.django.outbox_bench import file as file
from tests.django.peers import PATIENCE_SECONDS
from yamabiko.django import outbox_rows, outbox_sending
from yamabiko.django.outbox import Relay
from yamabiko.django.outbox_sending import Throttle
from yamabiko.django.rooms import Registry
from yamabiko.django.service import service


@pytest.mark.usefixtures("_outbox")
class TestRelay:
    """What others could not send."""

    def test_rooms_have_their_order(self) -> None:
        for number in range(250):
            leave_behind(f"kept/{number % 3}", number)
        assert look()
        for room in range(3):
            assert kept(f"kept/{room}") == list(range(room, 250, 3))
        assert not waiting().exists()

    def test_a_fresh_row_is_left_to_who_has_written_it(self) -> None:
        leave_behind("kept/a", "hello", due_at=outbox_rows.clock_ms() + outbox_rows.FRESH_MS)
        assert look()
        assert kept("kept/a") == []

    def test_a_due_row_does_not_overtake_an_older_one_that_waits(self) -> None:
        leave_behind("kept/a", "first", due_at=outbox_rows.clock_ms() + 10_000)
        leave_behind("kept/a", "second")
        assert look()
        assert kept("kept/a") == []

    def test_a_row_of_a_machine_whose_clock_is_hours_ahead_does_not_wait_for_hours(self) -> None:
        leave_behind("kept/a", "hello", due_at=outbox_rows.clock_ms() + 3_600_000)
        assert look()
        assert kept("kept/a") == ["hello"]

    def test_a_room_that_another_relay_has_is_left_to_it(self) -> None:
        entry = leave_behind("kept/a", "hello")
        leave_behind("kept/a", "hello again")
        assert outbox_rows.claim(ALIAS, entry, outbox_rows.clock_ms())
        assert not outbox_rows.claim(ALIAS, entry, outbox_rows.clock_ms())
        assert outbox_rows.due_rooms(ALIAS, outbox_rows.clock_ms()) == []
        assert look()
        assert kept("kept/a") == []

    def test_of_two_relays_that_find_a_room_at_once_one_sends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        claim = outbox_rows.claim

        def claim_too_late(*arguments: Any) -> bool:
            return claim(*arguments) and claim(*arguments)

        monkeypatch.setattr(outbox_rows, "claim", claim_too_late)
        broker = fail(monkeypatch, "none")
        leave_behind("kept/a", "hello")
        assert look()
        assert broker.asked == []

    def test_a_room_waits_for_a_row_that_is_refused(self) -> None:
        leave_behind("kept/a", "x" * 600_000)
        leave_behind("kept/a", "second")
        leave_behind("kept/b", "of another room")
        assert look()
        make_due()
        assert look()
        assert (kept("kept/a"), kept("kept/b")) == ([], ["of another room"])

    def test_a_broker_that_is_away_is_asked_for_three_rooms_and_for_the_rest_later(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for room in range(10):
            leave_behind(f"kept/{room}", "hello")
        broker = fail(monkeypatch)
        assert not look()
        assert len(broker.asked) == 3
        assert len(caplog.records) == 1
        broker.mend()
        make_due()
        assert look()
        assert not waiting().exists()

    def test_a_room_whose_shard_is_away_does_not_stop_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(150):
            leave_behind("kept/bad", number)
        leave_behind("kept/good", "hello")
        broker = fail(monkeypatch, "kept/bad")
        assert look()
        assert kept("kept/good") == ["hello"]
        broker.mend()
        make_due()
        assert look()
        assert kept("kept/bad") == list(range(50, 150))

    def test_waits_grow_to_a_minute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox_rows, "clock_ms", lambda: 1_000_000)
        leave_behind("kept/a", "hello")
        fail(monkeypatch)
        waits = []
        for _ in range(8):
            make_due()
            look()
            waits.append(waiting().get().due_at - 1_000_000)
        assert waits == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]

    @pytest.mark.parametrize("reason", ["unknown room", "MAX_BACKLOG_BYTES"])
    def test_a_row_that_is_refused_again_and_again_is_parked_and_its_room_goes_on(
        self, reason: str, caplog: pytest.LogCaptureFixture, only_new_rooms: Registry
    ) -> None:
        from tests.site.rooms import KeptRoom

        only_new_rooms.add("kept/<path:name>", KeptRoom)
        bad_room = "gone/a" if reason == "unknown room" else "kept/a"
        bad = leave_behind(bad_room, "x" if reason == "unknown room" else "x" * 600_000)
        leave_behind("kept/a", "hello")
        for _ in range(outbox_sending.TRIES_BEFORE_PARKING):
            assert look()
            make_due()
        look()
        assert kept("kept/a") == ["hello"]
        (parked,) = waiting()
        assert (parked.pk, parked.due_at) == (bad.pk, None)
        assert reason in parked.error
        levels = [record.levelno for record in caplog.records]
        assert levels == [logging.WARNING, logging.ERROR]
        assert f"has parked a message in room {bad_room!r}, row {bad.pk}, after 8 tries" in caplog.text

    def test_a_parked_row_can_be_tried_again_as_the_documentation_says(self) -> None:
        leave_behind("kept/a", "hello", due_at=None, tries=8, error="unknown room")
        assert look()
        assert kept("kept/a") == []
        waiting().filter(due_at=None).update(due_at=0, tries=0)
        assert look()
        assert kept("kept/a") == ["hello"]

    def test_a_failure_of_the_broker_parks_nothing_however_long_it_lasts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        leave_behind("kept/a", "hello", tries=50)
        fail(monkeypatch)
        look()
        assert waiting().get().due_at is not None

    def test_a_text_that_no_database_takes_does_not_stop_the_relay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def publish(*_: Any, **__: Any) -> None:
            raise outbox_sending.YamabikoError("\0" + "x" * 2000)

        monkeypatch.setattr(service().node.broker, "publish", publish)
        leave_behind("kept/a", "hello")
        assert look()
        assert waiting().get().error == "x" * 500


@pytest.mark.usefixtures("_outbox")
class TestRelaysLife:
    async def test_it_sends_what_is_due_and_ends_when_it_is_cancelled(self) -> None:
        await asyncio.to_thread(in_thread, leave_behind, "kept/a", "hello")
        heard = asyncio.Event()

        async def take(room: str, data: bytes, key: str) -> None:
            assert (room, data, key) == ("kept/a", b'"hello"', "left hello")
            heard.set()

        async with asyncio.timeout(10):
            relay = asyncio.create_task(Relay(take, pause=no_pause).run())
            await heard.wait()
            await end(relay)
        for thread in threading.enumerate():
            if thread.name == "yamabiko-relay":
                thread.join(PATIENCE_SECONDS)
                assert not thread.is_alive()

    async def test_a_row_under_way_when_it_ends_is_given_back(self) -> None:
        await asyncio.to_thread(in_thread, leave_behind, "kept/a", "hello")
        begun = asyncio.Event()

        async def take(*_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with asyncio.timeout(10):
            relay = asyncio.create_task(Relay(take, pause=no_pause).run())
            await begun.wait()
            await end(relay)
        entry = await asyncio.to_thread(in_thread, waiting().get)
        assert (entry.tries, outbox_rows.is_due(entry, outbox_rows.clock_ms())) == (0, True)

    async def test_it_outlives_a_database_that_is_away(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        await asyncio.to_thread(in_thread, leave_behind, "kept/a", "hello")
        away = file.with_suffix(".away")
        put_away(file, away)
        pauses: list[float] = []
        heard = asyncio.Event()

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 8:
                bring_back(file, away)

        async def take(*_: Any) -> None:
            heard.set()

        async with asyncio.timeout(10):
            relay = asyncio.create_task(Relay(take, pause=pause).run())
            await heard.wait()
            await end(relay)
        assert [round(seconds) for seconds in pauses[:1]] == [1]
        assert all(0.75 * 2**n <= seconds <= 1.25 * 2**n for n, seconds in enumerate(pauses[:5]))
        assert max(pauses) <= 1.25 * 30
        (record,) = caplog.records
        assert "the outbox of database 'shared' cannot be read, and is tried again: unable to open" in record.message

    async def test_a_broker_that_never_answers_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("yamabiko.django.outbox.SEND_SECONDS", 0.01)
        await asyncio.to_thread(in_thread, leave_behind, "kept/a", "hello")
        loop, looked = asyncio.get_running_loop(), asyncio.Event()

        def pause(seconds: float) -> None:
            if seconds > 1.25:  # which it is after a failure
                loop.call_soon_threadsafe(looked.set)

        async def take(*_: Any) -> None:
            await asyncio.Event().wait()

        async with asyncio.timeout(10):
            relay = asyncio.create_task(Relay(take, pause=pause).run())
            await looked.wait()
            await end(relay)
        entry = await asyncio.to_thread(in_thread, waiting().get)
        assert entry.error == "the broker has not answered for 0 seconds"


def test_a_relay_ends_when_its_loop_is_closed_without_a_word() -> None:
    relay = Relay(send)
    relay._loop = asyncio.new_event_loop()
    relay._loop.close()
    relay._work(asyncio.Event())
    assert not relay._is_over.is_set()


def put_away(file: Path, away: Path) -> None:
    """Leave something that SQLite cannot open, where it would make an empty database of nothing."""
    file.rename(away)
    file.mkdir()


def bring_back(file: Path, away: Path) -> None:
    file.rmdir()
    away.rename(file)


def no_pause(_: float) -> None:
    """Look again at once."""


async def end(relay: asyncio.Task[None]) -> None:
    relay.cancel()
    await asyncio.wait([relay])
    assert relay.cancelled()


def in_thread(work: Any, *arguments: Any) -> Any:
    try:
        return work(*arguments)
    finally:
        connections.close_all()


async def test_a_site_whose_database_is_in_memory_needs_no_relay() -> None:
    async with asyncio.timeout(1):
        await Relay(send).run()


def test_a_throttle_lets_one_line_a_minute_through() -> None:
    now = [1000.0]
    throttle = Throttle(lambda: now[0])
    assert [throttle.allows("a"), throttle.allows("a"), throttle.allows("b")] == [True, False, True]
    now[0] += 60
    assert throttle.allows("a")
