"""How rows of the outbox are sent: each room's in order, and what happens to a room whose row is not taken."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from enum import Enum

from yamabiko.core.errors import PublishFailed, YamabikoError
from yamabiko.django import outbox_rows as rows
from yamabiko.django import settings
from yamabiko.django.models import OutboxEntry

logger = logging.getLogger("yamabiko")

TRIES_BEFORE_PARKING = 8
"""Spread over four minutes, in which a deployment of new Room classes reaches every process."""

FAILURES_IN_A_ROW = 3
"""So many rooms one after the other say that it is the broker that is away."""

LOG_AGAIN_SECONDS = 60.0


class Result(Enum):
    SENT = "all that was due"
    WAITING = "a room waits, because one of its rows was refused"
    FAILED = "the broker took no more"
    STOPPED = "the time was over"


class TooLarge(YamabikoError):
    """A message was larger than today's settings allow."""


class Throttle:
    """Lets one line of a kind into the log, and the next one a minute later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        now = self._clock()
        if now < self._silent_until.get(kind, now):
            return False
        self._silent_until[kind] = now + LOG_AGAIN_SECONDS
        return True


throttle = Throttle()


def send_in_order(
    alias: str, entries: Iterable[OutboxEntry], send: Callable[[OutboxEntry], object], *, is_over: Callable[[], bool]
) -> Result:
    """Send rows, and delete those that the broker took. From a row on that it did not take, the room waits."""
    taken: list[int] = []
    waiting: set[str] = set()
    try:
        for entry in entries:
            if entry.room in waiting:
                continue
            if is_over():
                return Result.STOPPED
            try:
                _refuse_too_large(entry)
                send(entry)
            except PublishFailed as error:
                _let_wait(alias, entry, str(error))
                _log_failure(alias, error)
                return Result.FAILED
            except CancelledError:
                return Result.STOPPED
            except Exception as error:
                if not _is_parked_for(alias, entry, error):
                    waiting.add(entry.room)
            else:
                taken.append(entry.pk)
    finally:
        rows.remove(alias, taken)
    return Result.WAITING if waiting else Result.SENT


def _refuse_too_large(entry: OutboxEntry) -> None:
    largest = settings.limits().backlog_bytes // 2
    if len(entry.data) > largest:
        raise TooLarge(f"a message of {len(entry.data)} bytes is larger than half of MAX_BACKLOG_BYTES")


def _is_parked_for(alias: str, entry: OutboxEntry, error: Exception) -> bool:
    """Note that a row was refused, which another try may not change; return whether its room can go on without it."""
    reason = str(error) if isinstance(error, YamabikoError) else f"{type(error).__name__}, as the log says"
    if entry.tries + 1 < TRIES_BEFORE_PARKING:
        _let_wait(alias, entry, reason)
        _log_refusal(alias, entry, error)
        return False
    rows.note_failure(alias, entry, reason)
    rows.park(alias, entry)
    logger.error(
        "the outbox of database %r has parked a message in room %r, row %s, after %s tries: %s. Its room goes on "
        "without it. To try again: OutboxEntry.objects.filter(pk=%s).update(due_at=0, tries=0)",
        alias,
        entry.room,
        entry.pk,
        TRIES_BEFORE_PARKING,
        reason,
        entry.pk,
    )
    return True


def _let_wait(alias: str, entry: OutboxEntry, reason: str) -> None:
    wait_ms = min(1000 * 2 ** min(entry.tries, 16), rows.LONGEST_WAIT_MS)
    rows.note_failure(alias, entry, reason)
    rows.postpone(alias, entry.room, rows.clock_ms() + wait_ms)


def _log_failure(alias: str, error: PublishFailed) -> None:
    if throttle.allows("failure"):
        logger.warning("messages wait in the outbox of database %r and are tried again: %s", alias, error)


def _log_refusal(alias: str, entry: OutboxEntry, error: Exception) -> None:
    if throttle.allows("refusal"):
        known = isinstance(error, YamabikoError)
        logger.warning(
            "room %r waits in the outbox of database %r and is tried again: %s",
            entry.room,
            alias,
            error if known else type(error).__name__,
            exc_info=None if known else error,
        )
