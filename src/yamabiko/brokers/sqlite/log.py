"""The rooms, their publications and their keys in the file: numbering, keeping and reading, one caller at a time."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from yamabiko.brokers.keys import KEPT_SECONDS
from yamabiko.brokers.sqlite import sql
from yamabiko.brokers.sqlite.errors import LogTrouble, trouble_of
from yamabiko.brokers.sqlite.file import LogFile
from yamabiko.brokers.sqlite.retention import Retention
from yamabiko.core.messages import History, Position, Publication, Stream

ROOMS_REMEMBERED = 20_000
TRIMMED_AT_ONCE = 64
"""How many publications too many may stay in the file for a while; an eighth of what is kept at most."""

_numbers = msgspec.json.Decoder(list[int]).decode
_texts = msgspec.json.Decoder(list[str]).decode


class Entry(msgspec.Struct):
    """What is to be published, and what became of it: `publication` is None if its key was known."""

    room: str
    data: bytes
    history: History | None
    user: str
    key: str
    extras: bytes = b""
    position: Position | None = None
    publication: Publication | None = None


class Question(msgspec.Struct, frozen=True):
    """What is asked of a room: see `Broker.read`. Equal ones have equal answers."""

    room: str
    size: int
    since: Position | None
    limit: int


@dataclass(slots=True)
class StoredRoom:
    """One row of the rooms, as it is after the transaction under way.

    `size` is how many publications its history keeps, `trimmed` the offset up to which they were deleted, 0 if unknown.
    """

    id: int
    name: str
    epoch: str
    top: int
    lives_until: float
    is_saved: bool
    size: int = 0
    trimmed: int = 0

    @property
    def too_old(self) -> int:
        """Return the newest offset beyond the size of the history."""
        return max(self.top - self.size, 0)


class Log:
    """The log at `path`, opened when it is first needed and again after trouble.

    Its methods raise LogTrouble; what they remember is then what the file says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: LogFile | None = None
        self._rooms: dict[str, StoredRoom] = {}
        self._last_id = 0
        self._retention = Retention()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def open(self, now: float) -> None:
        with self._guarded():
            self._opened(now)

    def close(self) -> None:
        """Let go of the file; what was written is there already."""
        self._rooms.clear()
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def write(self, entries: list[Entry], rooms: Iterable[str], now: float) -> None:
        """Number and keep `entries`, and begin those of `rooms` that are new: all or nothing, on disk on return."""
        with self._guarded():
            file = self._opened(now)
            new_rooms = [room for name in rooms if not (room := self._room(name, now)).is_saved]
            if not entries and not new_rooms:
                return
            file.execute("BEGIN IMMEDIATE")
            changed = {room.id: room for room in new_rooms}
            self._add(entries, changed, now)
            self._save(changed.values())
            file.execute("COMMIT")
            _must_be_there(file)
        if len(self._rooms) > ROOMS_REMEMBERED:
            self._rooms.clear()

    def forget(self, name: str, now: float) -> None:
        """Delete what is kept of a room."""
        with self._guarded():
            file = self._opened(now)
            room = self._room(name, now)
            if room.is_saved:
                file.execute(sql.TRIM, (room.id, room.top))
                room.trimmed = room.top
                _must_be_there(file)

    def read(self, question: Question, now: float) -> Stream:
        with self._guarded():
            self._opened(now)
            return self._answer(question, now)

    def sweep(self, now: float, is_in_use: Callable[[str], bool]) -> bool:
        """Delete some of what is not kept any longer; return whether there may be more."""
        with self._guarded():
            file = self._opened(now)
            forgotten, is_more = self._retention.step(file, now, is_in_use)
            for name in forgotten:
                self._rooms.pop(name, None)
        return is_more

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            trouble = trouble_of(error)
            self._rooms.clear()
            if self._file is not None and (trouble.needs_reopening or not self._file.can_go_on()):
                self.close()
            raise trouble from error

    def _opened(self, now: float) -> LogFile:
        if self._file is None:
            file = self._file = LogFile(self.path)
            self._last_id = file.execute(sql.LAST_ROOM_ID).fetchone()[0]
            self._retention = Retention(opened_at=now)
        return self._file

    def _room(self, name: str, now: float) -> StoredRoom:
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = self._stored_room(name) or self._new_room(name, now)
        return room

    def _stored_room(self, name: str) -> StoredRoom | None:
        assert self._file is not None
        found = self._file.execute(sql.ROOM, (name,)).fetchone()
        if found is None:
            return None
        number, epoch, top, lives_until = found
        return StoredRoom(number, name, epoch, top, lives_until, is_saved=True)

    def _new_room(self, name: str, now: float) -> StoredRoom:
        self._last_id += 1
        epoch = secrets.token_urlsafe(6)
        return StoredRoom(self._last_id, name, epoch, 0, now + KEPT_SECONDS, is_saved=False)

    def _add(self, entries: list[Entry], changed: dict[int, StoredRoom], now: float) -> None:
        """Number `entries`, note which rooms they change, and insert what is new."""
        known = self._known_keys(entries, now)
        publications: list[Any] = []
        keys: list[Any] = []
        for entry in entries:
            room = self._room(entry.room, now)
            if entry.key:
                offset, is_recent = known.get((room.id, entry.key), (0, False))
                if is_recent or _is_kept(offset, room, entry.history):
                    entry.position = Position(room.epoch, offset) if offset else None
                    continue
            changed[room.id] = room
            lives_until = now + KEPT_SECONDS
            if entry.history is not None:
                expires_at = now + entry.history.ttl_seconds
                lives_until = max(lives_until, expires_at)
                room.top += 1
                room.size = entry.history.size
                entry.position = Position(room.epoch, room.top)
                publications += (room.id, room.top, expires_at, entry.user, entry.data, entry.extras)
            room.lives_until = max(room.lives_until, lives_until)
            entry.publication = Publication(entry.data, entry.position, entry.user, entry.extras)
            if entry.key:
                offset = entry.position.offset if entry.position is not None else 0
                known[room.id, entry.key] = (offset, True)
                keys += (room.id, entry.key, offset, now)
        self._run_for_rows(sql.ADD_PUBLICATIONS, publications, width=6)
        self._run_for_rows(sql.SAVE_KEYS, keys, width=4)

    def _known_keys(self, entries: list[Entry], now: float) -> dict[tuple[int, str], tuple[int, bool]]:
        """Return what is known of the keys of `entries`, by room and key.

        That is the offset published under it, and whether that was so recent that it counts even if it is gone; of
        others only those are known that have not expired.
        """
        wanted: list[Any] = []
        for entry in entries:
            if entry.key:
                wanted += (self._room(entry.room, now).id, entry.key)
        return {
            (room, key): (offset, now < at + KEPT_SECONDS)
            for room, key, offset, at, expires_at in self._run_for_rows(sql.KNOWN_KEYS, wanted, width=2)
            if now < at + KEPT_SECONDS or (expires_at is not None and expires_at > now)
        }

    def _save(self, rooms: Iterable[StoredRoom]) -> None:
        assert self._file is not None
        values: list[Any] = []
        for room in rooms:
            values += (room.id, room.name, room.epoch, room.top, room.lives_until)
            room.is_saved = True
            if room.size and room.too_old - room.trimmed > min(room.size // 8, TRIMMED_AT_ONCE):
                self._file.execute(sql.TRIM, (room.id, room.too_old))
                room.trimmed = room.too_old
        self._run_for_rows(sql.SAVE_ROOMS, values, width=5)

    def _run_for_rows(self, statement: str, values: list[Any], *, width: int) -> list[Any]:
        assert self._file is not None
        return sql.run_for_rows(self._file.execute, statement, values, width=width)

    def _answer(self, question: Question, now: float) -> Stream:
        assert self._file is not None
        room = self._room(question.room, now)
        top, since = Position(room.epoch, room.top), question.since
        beyond_size = max(room.top - question.size, 0)
        oldest = self._file.execute(sql.OLDEST_KEPT, (room.id, beyond_size, now)).fetchone()
        before_kept = oldest[0] - 1 if oldest else room.top
        if since is None:
            return Stream(self._page(room, max(before_kept, room.top - question.limit), question.limit), top)
        is_known = since.epoch == room.epoch and since.offset <= room.top
        after = max(before_kept, since.offset) if is_known else before_kept
        is_whole = is_known and before_kept <= since.offset
        return Stream(self._page(room, after, question.limit), top, is_whole)

    def _page(self, room: StoredRoom, after: int, limit: int) -> list[Publication]:
        assert self._file is not None
        if after >= room.top or limit < 1:
            return []
        found = self._file.execute(sql.PAGE, (room.id, after, min(limit, room.top))).fetchone()
        offsets, users, sizes, data, extras_sizes, extras = found
        return [
            Publication(each, Position(room.epoch, offset), user, extra)
            for offset, user, each, extra in zip(
                _numbers(offsets),
                _texts(users),
                _cut(data, _numbers(sizes)),
                _cut(extras, _numbers(extras_sizes)),
                strict=True,
            )
        ]


def _cut(joined: bytes, sizes: list[int]) -> list[bytes]:
    """Return the parts, of `sizes` bytes, of what was joined."""
    if not joined:
        return [b""] * len(sizes)
    return [joined[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _must_be_there(file: LogFile) -> None:
    if not file.is_there:
        raise LogTrouble("it was removed or replaced while it was in use")


def _is_kept(offset: int, room: StoredRoom, history: History | None) -> bool:
    return offset > 0 and (history is None or offset > room.top - history.size)
