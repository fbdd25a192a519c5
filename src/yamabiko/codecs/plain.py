"""The room protocol: one room per WebSocket, text frames of JSON, small enough for `new WebSocket(url)` or wscat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from yamabiko.core.errors import BadRequest
from yamabiko.core.frames import Frame
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

DEEPEST = 64
LONGEST_ID_BYTES = 64
_EXPECTED = 'expected text, or {"message": ..., "id": "..."} with an optional id'


class _PublishObject(msgspec.Struct, forbid_unknown_fields=True):
    message: msgspec.Raw
    id: str | None = None


# A Raw is passed over, not read: numbers out of range and broken strings in it are found by reading it in full.
_decode_any = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(_PublishObject).decode
_to_json = msgspec.json.Encoder().encode


class PlainCodec:
    """See `Codec`. It has no state: one instance serves all connections."""

    def decode(self, payload: str | bytes) -> tuple[Command]:
        """Return the one command of a frame: `Publish`, or `Invalid` with a BadRequest that says what was expected."""
        try:
            return (_publish_of(payload),)
        except BadRequest as refusal:
            return (Invalid(refusal, _id_of(payload)),)

    def encode(self, event: Event) -> Frame:
        return Frame(_ENCODERS[type(event)](event))


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
    # Two cheap counts spare almost every message the full walk.
    if payload.count("[") + payload.count("{") > DEEPEST and _is_deeper(payload, DEEPEST):
        raise BadRequest(f"a message is nested at most {DEEPEST} levels deep")
    try:
        given = _decode_object(payload)
        message = _decode_any(given.message)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{error}; {_EXPECTED}") from error
    if "\\u0000" in payload and _has_nul([message, given.id]):
        raise BadRequest("a message has no NUL characters")
    return Publish(_one_line(bytes(given.message)), _checked_id(given.id))


def _is_deeper(payload: str, depth: int) -> bool:
    """Tell whether brackets outside of strings are ever more than `depth` deep, without recursion."""
    open_brackets, in_string, is_escaped = 0, False, False
    for character in payload:
        if in_string:
            in_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            open_brackets += 1
            if open_brackets > depth:
                return True
        elif character in "]}":
            open_brackets -= 1
    return False


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, dict) and any(_has_nul(key) or _has_nul(item) for key, item in value.items())


def _one_line(message: bytes) -> bytes:
    """Return JSON without line breaks: other protocols separate messages by them, and so do logs."""
    if b"\n" in message or b"\r" in message:
        return msgspec.json.format(message, indent=-1)
    return message


def _checked_id(text: str | None) -> str:
    if text is None:
        return ""
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
    id: str | None = None


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
    return {"client": member.client, "user": member.user} if member.user else {"client": member.client}


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Publication: _publication,
    Acknowledged: _acknowledged,
    Failed: _failed,
    Gap: _gap,
    PresenceChanged: _presence,
}
