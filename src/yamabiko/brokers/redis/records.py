"""The shapes in which publications lie in Redis and travel through it.

body      b"USERBYTES USERDATA": the length of the user's name in bytes, the name, the data; with extras
          b"USERBYTES,EXTRASBYTES USEREXTRASDATA"
payload   b"EPOCH OFFSET BODY": what a channel carries; the epoch is - and the offset 0 where the room keeps no history;
          b"+ + " and what is said, if it is no publication: how presence has changed, or a message for all nodes
member    b"USERBYTES USERMEMBER": who is in a room, as JSON
"""

from __future__ import annotations

from typing import Any

import msgspec

from yamabiko.core.messages import NOTHING, Member, Position, PresenceChanged, Publication, Stream

NOWHERE = b"- 0 "
OTHERWISE = b"+ + "
"""No offset begins like this, so that publications are read without looking for it."""

_member = msgspec.json.Decoder(Member).decode
_presence_changed = msgspec.json.Decoder(PresenceChanged).decode


def body_of(data: bytes, user: str, extras: bytes = b"") -> bytes:
    if extras:
        name = user.encode()
        return b"%d,%d %b%b%b" % (len(name), len(extras), name, extras, data)
    if not user:
        return b"0 " + data
    name = user.encode()
    return b"%d %b%b" % (len(name), name, data)


def member_record(member: Member) -> bytes:
    return body_of(msgspec.json.encode(_without_empty_parts(member)), member.user)


def _without_empty_parts(member: Member) -> Member:
    """Return a member whose empty parts are NOTHING itself: any other would be written, and spoil the JSON."""
    parts = {name: getattr(member, name) for name in ("info", "room_info")}
    empty = {name: NOTHING for name, part in parts.items() if not bytes(part)}
    return msgspec.structs.replace(member, **empty) if empty else member


def member_in(record: bytes) -> Member:
    length, rest = record.split(b" ", 1)
    return _member(rest[int(length) :])


def presence_changed(text: bytes) -> PresenceChanged:
    """Return what was said of a room's presence. Raises msgspec.DecodeError, which is a ValueError."""
    return _presence_changed(text)


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
    try:
        size = int(length)
    except ValueError:
        return _with_extras(length, rest, position)
    return Publication(rest[size:], position, rest[:size].decode())


def _with_extras(lengths: bytes, rest: bytes, position: Position | None) -> Publication:
    user_size, extras_size = map(int, lengths.split(b","))
    end = user_size + extras_size
    return Publication(rest[end:], position, rest[:user_size].decode(), rest[user_size:end])
