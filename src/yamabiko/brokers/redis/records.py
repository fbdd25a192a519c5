"""The shapes in which publications lie in Redis and travel through it.

body      b"USERBYTES USERDATA": the length of the user's name in bytes, the name, the data
payload   b"EPOCH OFFSET BODY": what a channel carries; the epoch is - and the offset 0 where the room keeps no history
"""

from __future__ import annotations

from typing import Any

from yamabiko.core.messages import Position, Publication, Stream

NOWHERE = b"- 0 "


def body_of(data: bytes, user: str) -> bytes:
    if not user:
        return b"0 " + data
    name = user.encode()
    return b"%d %b%b" % (len(name), name, data)


def published(payload: bytes) -> Publication:
    """Return the publication in a payload. Raises ValueError if it is none."""
    epoch, offset, body = payload.split(b" ", 2)
    return _publication(body, position_of(epoch, int(offset)))


def position_of(epoch: bytes, offset: int) -> Position | None:
    return Position(epoch.decode("ascii"), offset) if offset else None


def page_of(reply: list[Any], *, is_newest_first: bool) -> Stream:
    """Return the page that read.lua answers."""
    epoch, offset, is_whole, entries = reply
    name = epoch.decode("ascii")
    publications = [
        _publication(fields[1], Position(name, int(entry_id.split(b"-", 1)[0]))) for entry_id, fields in entries
    ]
    if is_newest_first:
        publications.reverse()
    return Stream(publications, Position(name, offset), is_whole=bool(is_whole))


def _publication(body: bytes, position: Position | None) -> Publication:
    length, rest = body.split(b" ", 1)
    if length == b"0":
        return Publication(rest, position)
    size = int(length)
    return Publication(rest[size:], position, rest[:size].decode())
