"""The room protocol: one room per WebSocket, text frames of JSON, small enough for `new WebSocket(url)` or wscat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from yamabiko.codecs.json_data import check_depth, checked_but_depth
from yamabiko.core.errors import BadRequest
from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Codec
from yamabiko.core.messages import (
    Acknowledged,
    Command,
    Event,
    Failed,
    Gap,
    Invalid,
    Member,
    Position,
    PresenceChanged,
    Publication,
    Publish,
)

LONGEST_ID_BYTES = 64
_EXPECTED = 'expected text, or {"message": ..., "id": "..."} with an optional id'


class _PublishObject(msgspec.Struct, forbid_unknown_fields=True):
    message: msgspec.Raw
    id: str | None = None


_decode_object = msgspec.json.Decoder(_PublishObject).decode
_to_json = msgspec.json.Encoder().encode


class PlainCodec:
    """See `Codec`. It has no state: one instance serves all connections."""

    tells_gaps = True
    deltas: Codec | None = None
    ping: Frame | None = None
    """Peers are pinged with the frames that WebSocket has for it."""

    def decode(self, payload: str | bytes) -> tuple[Command]:
        """Return the one command of a frame: `Publish`, or `Invalid` with a BadRequest that says what was expected."""
        try:
            return (_publish_of(payload),)
        except BadRequest as refusal:
            return (Invalid(refusal, _id_of(payload)),)

    def encode(self, event: Event, room: str = "") -> Frame:
        return Frame(_ENCODERS[type(event)](event))

    def whole(self, publication: Publication) -> Publication:
        return publication


PLAIN = PlainCodec()


def _publish_of(payload: str | bytes) -> Publish:
    if isinstance(payload, bytes):
        raise BadRequest(f"binary frames are not taken; {_EXPECTED}")
    if not payload:
        raise BadRequest(f"an empty frame; {_EXPECTED}")
    if "\0" in payload:
        raise BadRequest("a message has no NUL characters")
    if payload.lstrip(" \t\r\n").startswith("{"):
        return _publish_of_object(payload)
    try:
        return Publish(_to_json(payload))
    except UnicodeEncodeError as error:
        raise BadRequest("text has no lone surrogates") from error


def _publish_of_object(payload: str) -> Publish:
    check_depth(payload)
    try:
        given = _decode_object(payload)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{error}; {_EXPECTED}") from error
    return Publish(checked_but_depth(bytes(given.message)), _checked_id(given.id) if given.id is not None else "")


def _checked_id(text: str) -> str:
    if "\0" in text:
        raise BadRequest("an id has no NUL characters")
    size = len(text.encode())
    if not 1 <= size <= LONGEST_ID_BYTES:
        raise BadRequest(f"an id is text of 1 to {LONGEST_ID_BYTES} bytes; this one has {size}")
    return text


def _id_of(payload: str | bytes) -> str:
    """Return the id of a frame that is no command, if it has a usable one, so that its sender knows which."""
    try:
        return _checked_id(msgspec.json.decode(payload, type=_OnlyId).id)
    except (ValueError, RecursionError, BadRequest):
        return ""


class _OnlyId(msgspec.Struct):
    id: str


def _publication(publication: Publication) -> bytes:
    parts = [b'{"payload":{"type":"send_message","message":', publication.data]
    if publication.position is not None:
        parts.append(b",")
        parts.append(_position_fields(publication.position))
    if publication.user:
        parts += (b',"user":', _to_json(publication.user))
    parts.append(b"}}")
    return b"".join(parts)


def _position_fields(position: Position) -> bytes:
    return b'"offset":%d,"epoch":%s' % (position.offset, _to_json(position.epoch))


def _acknowledged(event: Acknowledged) -> bytes:
    if event.position is None:
        return b'{"ack":{"id":%s}}' % _to_json(event.id)
    return b'{"ack":{"id":%s,%s}}' % (_to_json(event.id), _position_fields(event.position))


def _failed(event: Failed) -> bytes:
    error: dict[str, object] = {"code": event.refusal.code, "message": event.refusal.message}
    if event.id:
        error["id"] = event.id
    return _to_json({"error": error})


def _gap(event: Gap) -> bytes:
    return _to_json({"gap": {"epoch": event.position.epoch, "offset": event.position.offset}})


def _presence(event: PresenceChanged) -> bytes:
    changes: dict[str, object] = {}
    if event.joined:
        changes["joined"] = [_member(member) for member in event.joined]
    if event.left:
        changes["left"] = [{"client": member.client} for member in event.left]
    return _to_json({"presence": changes})


def _member(member: Member) -> dict[str, str]:
    return {"client": member.client, "user": member.name} if member.name else {"client": member.client}


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Publication: _publication,
    Acknowledged: _acknowledged,
    Failed: _failed,
    Gap: _gap,
    PresenceChanged: _presence,
}
