"""Every statement of the log: the only place that knows its tables and columns.

A statement that takes several rows takes up to 128 of them at once: each step of a statement gives up Python's lock,
and whoever wants it back from a busy event loop waits for milliseconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Execute = Callable[..., sqlite3.Cursor]
"""A connection's `execute`."""
ROWS_AT_ONCE = 128

TABLES = (
    """
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch TEXT NOT NULL,
        top INTEGER NOT NULL,
        lives_until REAL NOT NULL
    )
    """,
    """
    CREATE TABLE publications (
        room INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        expires_at REAL NOT NULL,
        user TEXT NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (room, offset)
    ) WITHOUT ROWID
    """,
    # The offset is 0 where the room keeps no history.
    """
    CREATE TABLE keys (
        room INTEGER NOT NULL,
        key TEXT NOT NULL,
        offset INTEGER NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (room, key)
    ) WITHOUT ROWID
    """,
)
"""The first layout; what was added later is in what follows."""
EXTRAS = "ALTER TABLE publications ADD COLUMN extras BLOB NOT NULL DEFAULT x''"

LAST_ROOM_ID = "SELECT coalesce(max(id), 0) FROM rooms"
ROOM = "SELECT id, epoch, top, lives_until FROM rooms WHERE name = ?"

SAVE_ROOMS = (
    "INSERT INTO rooms (id, name, epoch, top, lives_until) VALUES {rows} "
    "ON CONFLICT (id) DO UPDATE SET top = excluded.top, lives_until = excluded.lives_until"
)
ADD_PUBLICATIONS = "INSERT INTO publications (room, offset, expires_at, user, data, extras) VALUES {rows}"
SAVE_KEYS = "INSERT OR REPLACE INTO keys (room, key, offset, at) VALUES {rows}"
KNOWN_KEYS = """
    WITH wanted (room, key) AS (VALUES {rows})
    SELECT k.room, k.key, k.offset, k.at, p.expires_at
    FROM wanted w
    CROSS JOIN keys k ON k.room = w.room AND k.key = w.key
    LEFT JOIN publications p ON p.room = k.room AND p.offset = k.offset
"""
TRIM = "DELETE FROM publications WHERE room = ? AND offset <= ?"

OLDEST_KEPT = """
    SELECT offset FROM publications WHERE room = ? AND offset > ? AND expires_at > ? ORDER BY offset LIMIT 1
"""
# One row for the whole page: see above.
PAGE = """
    SELECT
        json_group_array(offset), json_group_array(user), json_group_array(length(data)),
        CAST(group_concat(data, '') AS BLOB),
        json_group_array(length(extras)), CAST(group_concat(extras, '') AS BLOB)
    FROM (SELECT offset, user, data, extras FROM publications WHERE room = ? AND offset > ? ORDER BY offset LIMIT ?)
"""

ROOMS_TO_SWEEP = """
    SELECT id, name, lives_until <= :now
    FROM (SELECT * FROM rooms WHERE id > :after ORDER BY id LIMIT :looked_at) r
    WHERE lives_until <= :now
        OR (SELECT expires_at FROM publications WHERE room = r.id ORDER BY offset LIMIT 1) <= :now
"""
LAST_ROOM_LOOKED_AT = "SELECT max(id) FROM (SELECT id FROM rooms WHERE id > :after ORDER BY id LIMIT :looked_at)"
DELETE_EXPIRED = """
    DELETE FROM publications WHERE room = :room AND offset <= (
        SELECT coalesce(min(CASE WHEN expires_at > :now THEN offset END) - 1, max(offset))
        FROM (SELECT offset, expires_at FROM publications WHERE room = :room ORDER BY offset LIMIT :at_most)
    )
"""
DELETE_KEYS_OF_ROOM = """
    DELETE FROM keys WHERE room = :room AND key IN (SELECT key FROM keys WHERE room = :room LIMIT :at_most)
"""
DELETE_ROOM = "DELETE FROM rooms WHERE id = :room"
LAST_KEY_LOOKED_AT = """
    SELECT room, key FROM (
        SELECT room, key FROM keys WHERE (room, key) > (:room, :key) ORDER BY room, key LIMIT :looked_at
    ) ORDER BY room DESC, key DESC LIMIT 1
"""
DELETE_OLD_KEYS = """
    DELETE FROM keys
    WHERE (room, key) > (:room, :key) AND (room, key) <= (:last_room, :last_key) AND at <= :seen_before
        AND NOT EXISTS (
            SELECT 1 FROM publications p
            WHERE p.room = keys.room AND p.offset = keys.offset AND p.expires_at > :now
        )
"""


def run_for_rows(execute: Execute, statement: str, values: list[Any], *, width: int) -> list[Any]:
    """Run a statement for rows of `width` values that follow each other in `values`; return what it selects."""
    found: list[Any] = []
    for start, count in _portions(len(values) // width):
        portion = values[start * width : (start + count) * width]
        found += execute(_for_rows(statement, count, width), portion)
    return found


def _portions(rows: int) -> Iterator[tuple[int, int]]:
    """Yield where each portion starts and how many rows it has: few different numbers, so that few are prepared."""
    start = 0
    while start < rows:
        left = min(rows - start, ROWS_AT_ONCE)
        count = left if left < 16 else left - left % 16
        yield start, count
        start += count


@cache
def _for_rows(statement: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return statement.format(rows=", ".join([row] * count))
