"""What requests of the HTTP API have in common, checked: rooms, users, JSON, keys, times. Raises Refusals."""

from __future__ import annotations

import re
from base64 import b64decode
from time import time

import msgspec
from msgspec import Raw, UnsetType

from yamabiko.codecs.json_data import checked
from yamabiko.core.errors import BadRequest, NotAvailable, PublishFailed, UnknownRoom
from yamabiko.core.messages import NOTHING
from yamabiko.core.names import exact_room_name
from yamabiko.core.sdk.messages import Extras
from yamabiko.django.api import messages as api
from yamabiko.django.publish import LONGEST_KEY_BYTES
from yamabiko.django.service import service


def known_room(channel: str) -> str:
    """Return the room that a channel is. Raises BadRequest or UnknownRoom."""
    try:
        name = exact_room_name(channel)
    except UnknownRoom as refusal:
        raise BadRequest(refusal.message) from refusal
    service().node.rules(name)
    return name


def room_with_history(channel: str) -> str:
    room, node = known_room(channel), service().node
    if node.rules(room).history is None or not node.broker.keeps_history:
        raise NotAvailable("this room keeps no history")
    return room


def room_with_presence(channel: str) -> str:
    room = known_room(channel)
    if not service().node.rules(room).presence:
        raise NotAvailable("this room does not tell who is present")
    return room


def user_of(
    request: api.SubscribeRequest | api.UnsubscribeRequest | api.DisconnectRequest | api.RefreshRequest,
) -> str:
    """Return whose connections are meant, so that a request for one session never reaches all."""
    if not request.user:
        raise BadRequest("there is no user")
    if request.session:
        raise NotAvailable("connections have no sessions; name one by its client")
    return request.user


def seconds_until(unix_time: int | None) -> float | None:
    return unix_time - time() if unix_time else None


def json_of(given: Raw | UnsetType, in_base64: str | None) -> bytes:
    """Return JSON as clients may send it too, on one line; empty if there is none. Raises BadRequest."""
    if in_base64:
        try:
            text = b64decode(in_base64, validate=True)
        except ValueError as error:
            raise BadRequest(f"this is not base64: {error}") from error
        return _checked(text)
    return b"" if isinstance(given, UnsetType) else _checked(bytes(given))


def json_or_nothing(given: Raw | UnsetType, in_base64: str | None) -> Raw:
    text = json_of(given, in_base64)
    return Raw(text) if text not in (b"", b"null") else NOTHING


def _checked(text: bytes) -> bytes:
    text = checked(text)
    refuse_too_large(text)
    return text


def refuse_too_large(text: bytes) -> None:
    """Raise BadRequest for what no client could keep up with."""
    try:
        service().refuse_too_large(text)
    except PublishFailed as error:
        raise BadRequest(str(error)) from error


def extras_of(tags: dict[str, str] | None) -> bytes:
    return _checked(msgspec.json.encode(Extras(tags=tags))) if tags else b""


def broker_key(given: str | None) -> str:
    """Return a key that neither clients nor the project's own code can have used."""
    if not given:
        return ""
    if re.search(r"[\x00-\x1f\x7f]", given) or len(given.encode()) > LONGEST_KEY_BYTES:
        raise BadRequest(f"an idempotency_key has at most {LONGEST_KEY_BYTES} bytes and no control characters")
    return f"api:{given}"
