"""Deletes what is kept no longer, a little at a time, and gives the room it took back to the disk."""

from __future__ import annotations

from collections.abc import Callable

from yamabiko.brokers.keys import KEPT_SECONDS
from yamabiko.brokers.sqlite import sql
from yamabiko.brokers.sqlite.file import LogFile

ROOMS_LOOKED_AT = 1_000
KEYS_LOOKED_AT = 2_000
DELETED_AT_ONCE = 500
FREED_PAGES = 64
"""How many pages are given back at once, and how many free ones are not worth the work."""


class Retention:
    """Goes round the rooms and the keys, from where it stopped the last time.

    For the first five minutes it forgets no room: members of before have until then to come back.
    """

    def __init__(self, opened_at: float = 0.0) -> None:
        self._forgets_from = opened_at + KEPT_SECONDS
        self._after_room = 0
        self._after_key: tuple[int, str] = (0, "")

    def step(self, file: LogFile, now: float, is_in_use: Callable[[str], bool]) -> tuple[list[str], bool]:
        """Do one step; return the names of the rooms that are forgotten, and whether much is left to do."""
        part = {"now": now, "after": self._after_room, "looked_at": ROOMS_LOOKED_AT}
        last = file.execute(sql.LAST_ROOM_LOOKED_AT, part).fetchone()[0]
        found = file.execute(sql.ROOMS_TO_SWEEP, part).fetchall()
        forgotten, left = self._sweep_rooms(file, found, now, is_in_use) if found else ([], DELETED_AT_ONCE)
        if left > 0:
            self._after_room = last or 0
        are_keys_old = self._sweep_keys(file, now)
        return forgotten, left <= 0 or are_keys_old or self._give_back(file)

    def _sweep_rooms(
        self, file: LogFile, found: list[tuple[int, str, bool]], now: float, is_in_use: Callable[[str], bool]
    ) -> tuple[list[str], int]:
        """Delete in the rooms that were found, up to a limit; return those forgotten and what is left of the limit."""
        forgotten, left = [], DELETED_AT_ONCE
        file.execute("BEGIN IMMEDIATE")
        for room, name, is_over in found:
            part = {"room": room, "now": now, "at_most": left}
            left -= file.execute(sql.DELETE_EXPIRED, part).rowcount
            if is_over and now >= self._forgets_from and not is_in_use(name):
                left -= file.execute(sql.DELETE_KEYS_OF_ROOM, part | {"at_most": max(left, 0)}).rowcount
                if left > 0:
                    file.execute(sql.DELETE_ROOM, part)
                    forgotten.append(name)
            if left <= 0:
                break
        file.execute("COMMIT")
        return forgotten, left

    def _sweep_keys(self, file: LogFile, now: float) -> bool:
        """Delete old keys among the next few; return whether there were so many that there will be more."""
        room, key = self._after_key
        part = {"room": room, "key": key, "now": now, "seen_before": now - KEPT_SECONDS, "looked_at": KEYS_LOOKED_AT}
        last = file.execute(sql.LAST_KEY_LOOKED_AT, part).fetchone()
        if last is None:
            self._after_key = (0, "")
            return False
        self._after_key = last
        deleted = file.execute(sql.DELETE_OLD_KEYS, part | {"last_room": last[0], "last_key": last[1]}).rowcount
        return deleted > KEYS_LOOKED_AT // 8

    def _give_back(self, file: LogFile) -> bool:
        """Cut free pages off the file if they are many; return whether there are more."""
        if not self._is_loose(file):
            return False
        file.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
        if self._is_loose(file):
            return True
        # What was cut off is still in the file until the write-ahead log is in it.
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return False

    def _is_loose(self, file: LogFile) -> bool:
        (free,) = file.execute("PRAGMA freelist_count").fetchone()
        (pages,) = file.execute("PRAGMA page_count").fetchone()
        return bool(free > FREED_PAGES and free * 4 > pages)
