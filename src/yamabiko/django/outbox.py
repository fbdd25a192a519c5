"""Publications as part of a database transaction: rows of a table that are sent, and deleted, after the commit.

Whoever has committed sends at once; what a dead process or a failed broker leaves behind, a relay takes up. The order
of a room holds without any lock, whoever sends at the same time: each sends a room's rows from the oldest on, and the
row's key makes the second of two sendings say nothing. Leases only save work. The order is that of the commits, as far
as one transaction could know of the other, and that of the calls within a transaction.

A message is said once if it is sent again within the time that the broker remembers keys: five minutes, and as long as
the room's history reaches. That is what a process has left that died between sending and deleting.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress

import django.db
from django.db import close_old_connections, connections

from yamabiko.core.errors import PublishFailed
from yamabiko.core.messages import Position
from yamabiko.django import outbox_rows as rows
from yamabiko.django.models import OutboxEntry
from yamabiko.django.outbox_sending import FAILURES_IN_A_ROW, Result, send_in_order, throttle

logger = logging.getLogger("yamabiko")

POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0

ROOM_SECONDS = 5.0
"""How long a relay stays with one room while others wait."""

SEND_SECONDS = 30.0
"""Longer than a broker takes: without an end, a lost loop would keep the thread for ever."""

END_SECONDS = 5.0
"""How long a server that stops waits for the row under way."""

Send = Callable[[str, bytes, str], Awaitable[Position | None]]


class Relay:
    """Sends what others could not, from every database with an outbox: `send` takes a room, its data and the key."""

    def __init__(self, send: Send, pause: Callable[[float], object] | None = None) -> None:
        self._send = send
        self._is_over = threading.Event()
        self._pause = pause or self._is_over.wait
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sending: Future[Position | None] | None = None

    async def run(self) -> None:
        """Look for due rows again and again until cancelled; the row under way is then sent or given back.

        The looking has a thread, and thus a database connection, of its own: no request and no loop waits for it. A
        database that does not answer does not keep the process from ending, hence a daemon.
        """
        if not rows.homes():
            return
        self._loop = asyncio.get_running_loop()
        has_ended = asyncio.Event()
        threading.Thread(target=self._work, args=[has_ended], name="yamabiko-relay", daemon=True).start()
        try:
            await has_ended.wait()
        finally:
            self._is_over.set()
            if self._sending is not None:
                self._sending.cancel()
            with suppress(TimeoutError):
                await asyncio.wait_for(has_ended.wait(), END_SECONDS)

    def _work(self, has_ended: asyncio.Event) -> None:
        seconds = POLL_SECONDS
        while not self._must_end():
            self._pause(seconds * random.uniform(0.75, 1.25))  # noqa: S311  (so that relays do not look all at once)
            is_well = self._must_end() or self.look()
            seconds = POLL_SECONDS if is_well else min(2 * seconds, LONGEST_PAUSE_SECONDS)
        connections.close_all()
        with suppress(RuntimeError):  # of a loop that was closed without a word
            self._at_home.call_soon_threadsafe(has_ended.set)

    @property
    def _at_home(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "a relay looks while it runs"
        return self._loop

    def _must_end(self) -> bool:
        return self._is_over.is_set() or self._at_home.is_closed()

    def look(self) -> bool:
        """Send all that is due, from a thread; return False if the broker or a database failed. Never raises."""
        close_old_connections()
        try:
            failed = [alias for alias in rows.homes() if not self._look_into(alias)]
            return not failed
        except Exception:
            logger.exception("the relay of the outbox failed, and goes on")
            return False
        finally:
            close_old_connections()

    def _look_into(self, alias: str) -> bool:
        try:
            return not rows.is_at_home(alias) or self._send_due(alias)
        except django.db.Error as error:
            if throttle.allows(f"database {alias}"):
                logger.warning("the outbox of database %r cannot be read, and is tried again: %s", alias, error)
            return False

    def _send_due(self, alias: str) -> bool:
        failures = 0
        while due := rows.due_rooms(alias, rows.clock_ms()):
            for room in due:
                if self._must_end():
                    return True
                failures = failures + 1 if self._send_room(alias, room) is Result.FAILED else 0
                if failures == FAILURES_IN_A_ROW:
                    return False
        return failures == 0

    def _send_room(self, alias: str, room: str) -> Result:
        now = rows.clock_ms()
        batch = rows.oldest(alias, [room])
        if not batch:
            return Result.SENT
        if not rows.is_due(batch[0], now):  # it has failed before, or is being sent
            rows.let_wait_for(alias, batch[0], now)
            return Result.WAITING
        if not rows.claim(alias, batch[0], now):
            return Result.WAITING
        try:
            return self._send_claimed(alias, room, batch)
        finally:
            rows.release(alias, room, now, rows.clock_ms())

    def _send_claimed(self, alias: str, room: str, batch: list[OutboxEntry]) -> Result:
        deadline = time.monotonic() + ROOM_SECONDS
        result = Result.SENT
        while batch and result is Result.SENT:
            result = send_in_order(
                alias, batch, self._send_row, is_over=lambda: self._must_end() or time.monotonic() > deadline
            )
            batch = rows.oldest(alias, [room]) if len(batch) == rows.BATCH else []
        return result

    def _send_row(self, entry: OutboxEntry) -> None:
        """Have the loop send a row, and wait for it. Raises what `send` raises, CancelledError at the end."""
        self._sending = asyncio.run_coroutine_threadsafe(self._take(entry), self._at_home)
        if self._must_end():
            self._sending.cancel()
        try:
            self._sending.result(SEND_SECONDS)
        except TimeoutError as error:
            self._sending.cancel()
            raise PublishFailed(f"the broker has not answered for {SEND_SECONDS:.0f} seconds") from error

    async def _take(self, entry: OutboxEntry) -> Position | None:
        return await self._send(entry.room, bytes(entry.data), entry.key)
