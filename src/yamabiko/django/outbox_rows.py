"""The rows of the outbox table: everything that is asked of the database."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.db import connections, router
from django.db.models import F, Q, QuerySet

from yamabiko.django.models import LONGEST_ERROR, OutboxEntry

BATCH = 100
"""How many rows are read at a time, so that none has grown old before it is sent."""

VALUES = 500
"""How many values a query may have: databases set limits, some builds of SQLite at 999."""

FRESH_MS = 2_000
"""How long the committing process has a row to itself before a relay takes it up."""

LEASE_MS = 30_000
"""How long a relay has a room to itself."""

LONGEST_WAIT_MS = 60_000

_OUT_OF_REACH_MS = 2 * LONGEST_WAIT_MS
"""No row waits so long: who wrote that has another idea of the time, and the row is due."""

_tables_seen: set[tuple[str, object]] = set()


def clock_ms() -> int:
    """Return the Unix time. Times are whole milliseconds: databases keep those exactly, in every time zone.

    Clocks of machines differ a little; then a row is taken up earlier, and its key sees to it that it is said once.
    """
    return time.time_ns() // 1_000_000


def homes() -> list[str]:
    """Return the databases that a relay looks into: not those in memory, which no other thread or process has."""
    return [alias for alias in connections if _is_routed(alias) and not _is_in_memory(alias)]


def is_at_home(alias: str) -> bool:
    """Tell whether the outbox is in this database: the routers let it, and `migrate` has made its table there."""
    return _is_routed(alias) and _has_table(alias)


def _is_routed(alias: str) -> bool:
    return bool(router.allow_migrate_model(alias, OutboxEntry))


def _is_in_memory(alias: str) -> bool:
    connection: Any = connections[alias]
    return bool(connection.vendor == "sqlite" and connection.is_in_memory_db())


def _has_table(alias: str) -> bool:
    """Only a yes is remembered."""
    connection = connections[alias]
    known = (alias, connection.settings_dict["NAME"])
    if known not in _tables_seen and OutboxEntry._meta.db_table in connection.introspection.table_names():
        _tables_seen.add(known)
    return known in _tables_seen


def add(alias: str, room: str, data: bytes, key: str) -> OutboxEntry:
    return _rows(alias).create(room=room, data=data, key=key, due_at=clock_ms() + FRESH_MS)


def oldest(alias: str, rooms: Iterable[str], *, since: int = 0) -> list[OutboxEntry]:
    """Return the first rows of `rooms`, from id `since` on, that are not parked, in the order of their writing."""
    return list(_rows(alias).filter(room__in=rooms, id__gte=since, due_at__isnull=False).order_by("id")[:BATCH])


def due_rooms(alias: str, now: int) -> list[str]:
    """Return rooms that have due rows, those that have waited longest first."""
    rooms = _rows(alias).filter(_due(now)).order_by("due_at").values_list("room", flat=True)
    return list(dict.fromkeys(rooms[:BATCH]))


def is_due(entry: OutboxEntry, now: int) -> bool:
    return entry.due_at is not None and not now < entry.due_at <= now + _OUT_OF_REACH_MS


def claim(alias: str, first: OutboxEntry, now: int) -> bool:
    """Hide a room's rows from other relays until the lease ends; False if another one was faster."""
    if not _rows(alias).filter(pk=first.pk, due_at=first.due_at).update(due_at=now + LEASE_MS):
        return False
    _move(alias, Q(room=first.room) & _due(now), now + LEASE_MS)
    return True


def release(alias: str, room: str, claimed_at: int, now: int) -> None:
    """Give back what is left of a claimed room, behind rooms that have waited longer."""
    _move(alias, Q(room=room, due_at=claimed_at + LEASE_MS), now)


def remove(alias: str, ids: list[int]) -> None:
    if ids:
        # delete() would open a transaction around this one statement.
        _rows(alias).filter(pk__in=ids)._raw_delete(alias)


def postpone(alias: str, room: str, until: int) -> None:
    """Let a whole room wait: its order would be lost if a later row overtook the one that failed."""
    _move(alias, Q(room=room, due_at__isnull=False) & ~Q(due_at=until), until)


def let_wait_for(alias: str, first: OutboxEntry, now: int) -> None:
    """Let a whole room wait as long as its first row, which is not due."""
    if first.due_at is not None:
        _move(alias, Q(room=first.room) & _due(now), first.due_at)


def note_failure(alias: str, entry: OutboxEntry, error: str) -> None:
    _rows(alias).filter(pk=entry.pk).update(tries=F("tries") + 1, error=_for_the_table(error))


def park(alias: str, entry: OutboxEntry) -> None:
    _rows(alias).filter(pk=entry.pk).update(due_at=None)


def _rows(alias: str) -> QuerySet[OutboxEntry]:
    return OutboxEntry.objects.using(alias)


def _move(alias: str, these: Q, due_at: int) -> None:
    """Give another time to rows, none of which may be among `these` afterwards.

    They are changed by their ids alone: by another index, MySQL would wait for the rows that open transactions have
    inserted there.
    """
    while ids := list(_rows(alias).filter(these).values_list("pk", flat=True)[:VALUES]):
        _rows(alias).filter(pk__in=ids).update(due_at=due_at)


def _due(now: int) -> Q:
    return Q(due_at__lte=now) | Q(due_at__gt=now + _OUT_OF_REACH_MS)


def _for_the_table(error: str) -> str:
    return error.replace("\0", "")[:LONGEST_ERROR]
