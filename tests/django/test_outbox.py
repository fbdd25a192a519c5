"""Publications of a transaction: in its database, sent after the commit, and never if it is rolled back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from tests.django.outbox_bench import (
    ALIAS,
    fail,
    kept,
    leave_behind,
    look,
    make_due,
    roll_back,
    say,
    waiting,
)
from tests.django.outbox_bench import _no_memory as _no_memory
from tests.django.outbox_bench import _outbox as _outbox
from tests.django.outbox_bench import file as file
from yamabiko import apublish, publish
from yamabiko.brokers.memory import MemoryBroker
from yamabiko.core.messages import Position
from yamabiko.django import outbox_commit, outbox_rows
from yamabiko.django.models import OutboxEntry
from yamabiko.django.outbox_commit import Patience
from yamabiko.django.service import service


@pytest.mark.usefixtures("_outbox")
class TestCommit:
    """The process that commits sends at once."""

    def test_a_transaction_costs_an_insert_for_each_message_and_a_query_and_a_delete_for_all(self) -> None:
        with transaction.atomic(ALIAS):
            say("kept/c", "looks for the table, once in a process")
        with CaptureQueriesContext(connections[ALIAS]) as queries:
            with transaction.atomic(ALIAS):
                for number in range(3):
                    say("kept/a", number)
                say("kept/b", "in another room")
            assert kept("kept/a") == [0, 1, 2]
        verbs = [query["sql"].split()[0] for query in queries]
        assert verbs == ["BEGIN", "INSERT", "INSERT", "INSERT", "INSERT", "COMMIT", "SELECT", "DELETE"]

    def test_blocks_inside_a_block_are_sent_together(self) -> None:
        with CaptureQueriesContext(connections[ALIAS]) as queries, transaction.atomic(ALIAS):
            for number in range(3):
                with transaction.atomic(ALIAS):
                    say("kept/a", number)
        assert sum(query["sql"].startswith("DELETE") for query in queries) == 1
        assert kept("kept/a") == [0, 1, 2]

    def test_the_first_savepoint_may_be_rolled_back(self) -> None:
        with transaction.atomic(ALIAS):
            roll_back("kept/a")
            say("kept/a", "said")
        assert kept("kept/a") == ["said"]

    def test_a_transaction_that_was_rolled_back_does_not_take_the_next_one_along(self) -> None:
        roll_back("kept/a")
        with transaction.atomic(ALIAS):
            say("kept/b", "said")
        assert (kept("kept/a"), kept("kept/b")) == ([], ["said"])

    def test_more_rows_and_rooms_than_one_query_takes_are_all_sent(self) -> None:
        with transaction.atomic(ALIAS):
            for number in range(250):
                say("kept/a", number)
            for number in range(510):
                say(f"kept/{number}", number)
        assert kept("kept/a") == list(range(150, 250)), "of which the room keeps the newest hundred"
        assert not waiting().exists()

    def test_what_a_dead_process_left_goes_first(self) -> None:
        leave_behind("kept/a", "earlier", due_at=outbox_rows.clock_ms() + 1000)
        leave_behind("kept/b", "of another room", due_at=outbox_rows.clock_ms() + 1000)
        with transaction.atomic(ALIAS):
            say("kept/a", "later")
        assert kept("kept/a") == ["earlier", "later"]
        assert [entry.room for entry in waiting()] == ["kept/b"]

    def test_a_broker_that_fails_costs_the_request_one_try(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        broker = fail(monkeypatch)
        called = []
        with transaction.atomic(ALIAS):
            for room in ("kept/a", "kept/b", "kept/c"):
                say(room, "hello")
            transaction.on_commit(lambda: called.append("other"), using=ALIAS)
        assert called == ["other"]
        assert len(broker.asked) == 1
        assert waiting().count() == 3
        (record,) = caplog.records
        assert "messages wait in the outbox of database 'shared' and are tried again: as asked" in record.message

    def test_requests_stop_waiting_for_a_broker_that_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [1000.0]
        outbox_commit._patience[service().node.broker] = Patience(lambda: now[0])
        broker = fail(monkeypatch)

        def commit() -> int:
            with transaction.atomic(ALIAS):
                say(f"kept/{waiting().count()}", "hello")
            return len(broker.asked)

        assert [commit() for _ in range(5)] == [1, 2, 3, 3, 3]
        now[0] += 6
        assert [commit() for _ in range(2)] == [4, 4]
        broker.mend()
        now[0] += 6
        assert [commit() for _ in range(2)] == [5, 6]

    def test_while_a_room_waits_commits_leave_it_to_the_relay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        broker = fail(monkeypatch)
        for number in range(3):
            with transaction.atomic(ALIAS):
                say("kept/a", number)
        assert len(broker.asked) == 1
        broker.mend()
        assert look()
        assert kept("kept/a") == [], "the room still waits"
        make_due()
        assert look()
        assert kept("kept/a") == [0, 1, 2]

    def test_where_no_relay_runs_the_next_commit_sends_what_waited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        broker = fail(monkeypatch)
        with transaction.atomic(ALIAS):
            say("kept/a", "first")
        broker.mend()
        make_due()
        with transaction.atomic(ALIAS):
            say("kept/a", "second")
        assert kept("kept/a") == ["first", "second"]

    def test_a_service_that_cannot_be_made_does_not_break_the_request(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with transaction.atomic(ALIAS):
            say("kept/a", "hello")
            monkeypatch.setattr(service(), "publish_now", lambda *_, **__: 1 / 0)
        assert waiting().get().error == "ZeroDivisionError, as the log says"
        assert "room 'kept/a' waits in the outbox of database 'shared' and is tried again" in caplog.text

    def test_a_database_that_fails_after_the_commit_does_not_break_the_request(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: Any) -> None:
            with connections[ALIAS].cursor() as cursor:
                cursor.execute("DELETE FROM no_such_table")

        with monkeypatch.context() as broken, transaction.atomic(ALIAS):
            broken.setattr(outbox_rows, "remove", full)
            say("kept/a", "hello")
        assert "failed after a commit; a relay goes on: no such table" in caplog.text
        make_due()
        assert look()
        assert kept("kept/a") == ["hello"]

    def test_over_channels_a_process_says_only_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A layer remembers no keys for others: what another process is about to send would be said twice."""
        monkeypatch.setattr(MemoryBroker, "keeps_history", False)
        broker = fail(monkeypatch, "none")
        leave_behind("open/a", "being sent elsewhere", due_at=outbox_rows.clock_ms() + 1000)
        with transaction.atomic(ALIAS):
            say("open/a", "own")
        assert broker.asked == ["open/a"]
        assert waiting().get().key == "left being sent elsewhere"


@pytest.mark.usefixtures("_outbox")
class TestWhichDatabase:
    def test_without_a_name_it_is_the_one_in_a_transaction(self) -> None:
        with transaction.atomic(ALIAS):
            assert publish("kept/a", "hello") is None
            assert waiting().count() == 1
        assert kept("kept/a") == ["hello"]

    @pytest.mark.django_db(databases=["default"])
    def test_the_default_one_goes_before_others(self) -> None:
        with transaction.atomic(), transaction.atomic(ALIAS):
            publish("kept/a", "hello")
            assert not waiting().exists()
            assert OutboxEntry.objects.count() == 1

    @pytest.mark.django_db(databases=["default"])
    def test_a_named_one_decides_alone(self) -> None:
        with transaction.atomic():
            assert isinstance(publish("kept/a", "at once", using=ALIAS), Position)
            with transaction.atomic(ALIAS):
                assert publish("kept/a", "at the commit", using=ALIAS) is None
            assert kept("kept/a") == ["at once", "at the commit"]

    def test_routers_may_keep_the_outbox_away(self, caplog: pytest.LogCaptureFixture) -> None:
        with override_settings(DATABASE_ROUTERS=[OnlyDefault()]), transaction.atomic(ALIAS):
            publish("kept/a", "hello")
            assert not waiting().exists()
        assert kept("kept/a") == ["hello"]

    def test_without_the_table_it_is_sent_at_the_commit_and_the_risk_is_told_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        call_command("migrate", "yamabiko", "zero", database=ALIAS, verbosity=0)
        monkeypatch.setattr(outbox_rows, "_tables_seen", set())
        with transaction.atomic(ALIAS):
            publish("kept/a", "first")
            publish("kept/a", "second")
            assert kept("kept/a") == []
        assert kept("kept/a") == ["first", "second"]
        (record,) = caplog.records
        assert "run manage.py migrate" in record.message
        assert look(), "the relay waits for the table without complaint"
        call_command("migrate", "yamabiko", database=ALIAS, verbosity=0)
        with transaction.atomic(ALIAS):
            publish("kept/a", "third")
            assert waiting().count() == 1

    def test_without_the_table_a_failure_is_logged_as_lost(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(outbox_rows, "is_at_home", lambda alias: False)
        fail(monkeypatch)
        with transaction.atomic(ALIAS):
            publish("kept/a", "hello")
        assert "a message in room 'kept/a' is lost, committed but not sent: as asked" in caplog.text


class OnlyDefault:
    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        return db == "default" if app_label == "yamabiko" else None


class TestIdempotencyKey:
    @pytest.mark.django_db(transaction=True)
    def test_the_same_key_says_it_once_inside_a_transaction_and_outside(self) -> None:
        first = publish("kept/a", "hello", idempotency_key="order 7 🍜")
        with transaction.atomic():
            publish("kept/a", "hello", idempotency_key="order 7 🍜")
            publish("kept/a", "hello", idempotency_key="order 8")
            publish("kept/a", "hello", idempotency_key="order 8")
        assert publish("kept/a", "hello", idempotency_key="order 7 🍜") == first
        assert kept("kept/a") == ["hello", "hello"]

    async def test_apublish_has_the_same_keys(self) -> None:
        first = await apublish("kept/a", "hello", idempotency_key="order 7")
        assert await apublish("kept/a", "again", idempotency_key="order 7") == first
        assert await asyncio.to_thread(publish, "kept/a", "again", idempotency_key="order 7") == first

    async def test_no_client_can_have_the_same_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys = []

        async def publish(*_: Any, key: str, **__: Any) -> None:
            keys.append(key)

        monkeypatch.setattr(service().node.broker, "publish", publish)
        await apublish("open/a", "hello", idempotency_key="7")
        assert keys == ["app:7"]
        assert "\n" not in keys[0], "a client's key holds a line break, see Connection"

    @pytest.mark.parametrize("key", ["two\nlines", "nul\0", "\ud800", 7, "x" * 256])
    async def test_what_is_no_key_is_told_at_the_call(self, key: Any) -> None:
        with pytest.raises(ValueError, match=r"an idempotency_key (is a text|has at most 255 bytes)"):
            await apublish("open/a", "hello", idempotency_key=key)


class OutboxInTestCase(TestCase):
    def test_executed_callbacks_send_what_was_published_in_the_block_alone(self) -> None:
        for message in ("first", "second"):
            publish("kept/a", f"before the {message}")
            with self.captureOnCommitCallbacks(execute=True):
                publish("kept/a", message)
        assert kept("kept/a") == ["first", "second"]

    def test_the_row_is_there_to_be_asserted_on(self) -> None:
        publish("kept/a", {"any": "thing"})
        assert bytes(OutboxEntry.objects.get().data) == b'{"any":"thing"}'

    def test_executed_callbacks_leave_nothing_behind(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            publish("kept/a", "hello")
        assert kept("kept/a") == ["hello"]
        assert not OutboxEntry.objects.exists()


class OutboxInTransactionTestCase(TransactionTestCase):
    def test_it_is_sent_at_the_commit(self) -> None:
        with transaction.atomic():
            publish("kept/a", "hello")
            assert kept("kept/a") == []
        assert kept("kept/a") == ["hello"]


@pytest.mark.django_db
def test_with_the_fixture_of_pytest_django_nothing_is_sent_until_callbacks_are_executed(
    django_capture_on_commit_callbacks: Any,
) -> None:
    publish("kept/a", "never")
    with django_capture_on_commit_callbacks(execute=True):
        publish("kept/b", "executed")
    assert (kept("kept/a"), kept("kept/b")) == ([], ["executed"])


@pytest.mark.django_db
def test_the_migrations_are_those_of_the_models() -> None:
    call_command("makemigrations", "yamabiko", check=True, dry_run=True, verbosity=0)
