"""The way into the outbox, and out of it right after the commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import islice
from uuid import uuid4
from weakref import WeakKeyDictionary

import django.db
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from yamabiko.core.interfaces import Broker
from yamabiko.core.messages import Position
from yamabiko.django import outbox_rows as rows
from yamabiko.django.models import OutboxEntry
from yamabiko.django.outbox_sending import FAILURES_IN_A_ROW, Result, send_in_order, throttle
from yamabiko.django.service import service

logger = logging.getLogger("yamabiko")

REQUEST_SECONDS = 2.0
"""How long a process goes on sending after its own commit before it leaves the rest to a relay."""

REST_SECONDS = 5.0
"""How long requests do not wait for a broker that has failed several of them in a row."""


def publish_at_commit(aliases: list[str], room: str, data: bytes, key: str) -> None:
    """Make a publication part of the transaction of the first of these databases that has an outbox."""
    alias = next((alias for alias in aliases if rows.is_at_home(alias)), None)
    if alias is None:
        _publish_without_outbox(aliases[0], room, data, key)
        return
    send = _commit_of(connections[alias]).add(rows.add(alias, room, data, key or f"outbox:{uuid4()}"))
    # Once for each row, as Django drops the callbacks of a savepoint that is rolled back; the first one sends all.
    transaction.on_commit(send, using=alias, robust=True)


def _publish_without_outbox(alias: str, room: str, data: bytes, key: str) -> None:
    """Send at the commit what no row keeps: a project that is not migrated yet goes on, and is told what it risks."""
    if throttle.allows("no table"):
        logger.warning(
            "database %r has no table yamabiko_outbox, so a message is lost if its process dies or the broker fails "
            "right after the commit: run manage.py migrate",
            alias,
        )

    def send() -> None:
        try:
            service().publish_now(room, data, key=key)
        except Exception as error:
            logger.error("a message in room %r is lost, committed but not sent: %s", room, error)

    transaction.on_commit(send, using=alias, robust=True)


class Commit:
    """What one transaction, or one that was rolled back before it, has put into the outbox of a database."""

    def __init__(self, alias: str) -> None:
        self.is_over = False
        self._alias = alias
        self._added: list[tuple[int, str]] = []

    def add(self, entry: OutboxEntry) -> Callable[[], None]:
        """Return what is to be called after the commit, unless the row is rolled back."""
        number = len(self._added)
        self._added.append((entry.pk, entry.room))

        def send() -> None:
            self._send_from(number)

        return send

    def _send_from(self, number: int) -> None:
        """Send this row and those after it, for a bounded time, unless that is done. Never raises."""
        if self.is_over:
            return
        self.is_over = True
        try:
            if patience().is_left():
                Turn(self._alias, self._added[number:]).send()
        except django.db.Error as error:
            logger.warning("the outbox of database %r failed after a commit; a relay goes on: %s", self._alias, error)
        except Exception:
            # The transaction stands: an error now would tell the caller that it does not.
            logger.exception("what is committed could not be sent at once; a relay will")


class Patience:
    """Ends for a while after several failures in a row: each may have cost a request the broker's whole timeout."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._ended_at = 0.0

    def is_left(self) -> bool:
        return self._failures < FAILURES_IN_A_ROW or self._clock() > self._ended_at + REST_SECONDS

    def note(self, result: Result) -> None:
        self._failures = self._failures + 1 if result is Result.FAILED else 0
        self._ended_at = self._clock()


_patience: WeakKeyDictionary[Broker, Patience] = WeakKeyDictionary()


def patience() -> Patience:
    """Return this process's patience with its broker; another broker, in another test, finds it whole."""
    return _patience.setdefault(service().node.broker, Patience())


class Turn:
    """One process's turn at sending: the rows it has committed, and before them what their rooms had already."""

    def __init__(self, alias: str, added: list[tuple[int, str]]) -> None:
        self._alias = alias
        self._own = {pk for pk, _ in added}
        self._rooms = iter(dict.fromkeys(room for _, room in added))
        self._deadline = time.monotonic() + REQUEST_SECONDS
        # Rows of others are left alone by a test that executes callbacks inside its own transaction, and with a broker
        # without history: Channels remembers keys in each process alone, so what others are about to send would be
        # said twice.
        others_wait = connections[alias].in_atomic_block or not service().node.broker.keeps_history
        self._from = min(self._own) if others_wait else 0

    def send(self) -> None:
        while some := list(islice(self._rooms, rows.VALUES)):
            while self._send_batch(some):
                pass

    def _send_batch(self, rooms: list[str]) -> bool:
        """Send the oldest rows of `rooms`; return whether there may be more that can be sent now."""
        # One query for the whole transaction: only the table knows what others have committed just before.
        batch = rows.oldest(self._alias, rooms, since=self._from)
        mine = self._to_send(batch)
        result = send_in_order(self._alias, mine, _send, is_over=lambda: time.monotonic() > self._deadline)
        if mine:
            patience().note(result)
        return result is Result.SENT and len(mine) == rows.BATCH

    def _to_send(self, batch: list[OutboxEntry]) -> list[OutboxEntry]:
        now = rows.clock_ms()
        failed = {entry.room for entry in batch if entry.tries and not rows.is_due(entry, now)}
        return [entry for entry in batch if entry.room not in failed and (not self._from or entry.pk in self._own)]


_commits: WeakKeyDictionary[BaseDatabaseWrapper, Commit] = WeakKeyDictionary()


def _commit_of(connection: BaseDatabaseWrapper) -> Commit:
    """Return the Commit of the transaction that is open on this thread's `connection`."""
    commit = _commits.get(connection)
    if commit is None or commit.is_over or not connection.run_on_commit:
        commit = _commits[connection] = Commit(connection.alias)
    return commit


def _send(entry: OutboxEntry) -> Position | None:
    return service().publish_now(entry.room, bytes(entry.data), key=entry.key)
