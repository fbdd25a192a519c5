"""The SDK protocol in Protobuf: binary frames of messages, each after its length as a varint.

Source: the Centrifugo client protocol v2; the messages are those of sdk.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Raw, Struct

from yamabiko.codecs.sdk_checks import checked_commands
from yamabiko.codecs.sdk_schema import schema
from yamabiko.core.errors import BadRequest
from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Codec
from yamabiko.core.messages import Event, Invalid, Publication
from yamabiko.core.sdk import messages as sdk_messages
from yamabiko.core.sdk.messages import Command, EmulationRequest, Reply
from yamabiko.core.sdk.views import replies_of

LONGEST_LENGTH_BYTES = 5
"""What the length of a message takes at most, as a varint: it is less than 2**32."""
_EXPECTED = "expected Protobuf commands in a binary frame, each after its length"


class SdkProtobufCodec:
    """See `Codec`. It has no state: one instance serves all connections."""

    tells_gaps = False
    deltas: Codec | None = None
    ping: Frame | None = Frame(b"\0", is_text=False)

    def load(self) -> None:
        """Import the runtime now, not with the first message: it takes some tens of milliseconds."""
        schema()

    def decode(self, payload: str | bytes) -> Sequence[Command | Invalid]:
        """Return the commands of a frame. The first that is none is the last: an `Invalid`, with its id if known."""
        return checked_commands(_commands_in(payload))

    def encode(self, event: Event | Reply, room: str = "") -> Frame:
        return Frame(b"".join(map(_encoded, replies_of(event, room))), is_text=False)

    def whole(self, publication: Publication) -> Publication:
        return publication


SDK_PROTOBUF = SdkProtobufCodec()
SDK_PROTOBUF.deltas = SdkProtobufCodec()


def emulation_request_in(body: bytes) -> EmulationRequest:
    """Return what is in the body of a request that is no frame itself. Raises BadRequest."""
    try:
        request: EmulationRequest = _struct_of(schema().emulation_request.FromString(body), EmulationRequest)
    except (schema().error, ValueError, RecursionError) as error:
        raise BadRequest(f"{error}; expected an EmulationRequest in Protobuf") from error
    return request


def _commands_in(payload: str | bytes) -> Iterator[Command]:
    if isinstance(payload, str) or not payload:
        raise BadRequest(f"{'a text' if payload else 'an empty'} frame; {_EXPECTED}")
    for encoded in _messages_in(payload):
        if not encoded:  # a pong, as most frames are
            yield Command()
            continue
        try:
            message = schema().command.FromString(encoded)
        # The runtime in pure Python finds invalid UTF-8 in its own way.
        except (schema().error, ValueError, RecursionError) as error:
            raise BadRequest(f"{error}; {_EXPECTED}") from error
        yield _struct_of(message, Command)


def _messages_in(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(payload):
        length, at = _length_at(payload, at)
        if length > len(payload) - at:
            raise BadRequest(f"a message is shorter than its length says; {_EXPECTED}")
        yield payload[at : at + length]
        at += length


def _length_at(payload: bytes, at: int) -> tuple[int, int]:
    """Return a varint and where it ends."""
    length = 0
    for place, byte in enumerate(payload[at : at + LONGEST_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return length, at + place + 1
    raise BadRequest(f"a length does not end; {_EXPECTED}")


def _encoded(reply: Reply) -> bytes:
    message = schema().reply()
    _fill(message, reply)
    encoded: bytes = message.SerializeToString()
    return _varint(len(encoded)) + encoded


def _varint(number: int) -> bytes:
    varint = bytearray()
    while number >= 0x80:
        varint.append(number & 0x7F | 0x80)
        number >>= 7
    varint.append(number)
    return bytes(varint)


def _struct_of(message: Any, kind: type[Struct]) -> Any:
    """Make a Struct of a Protobuf message: their fields have the same names, those not given have the same defaults."""
    return kind(**{field.name: _value_of(field, value) for field, value in message.ListFields()})


def _value_of(field: Any, value: Any) -> object:
    if field.message_type is None:
        return Raw(value) if isinstance(value, bytes) else value
    if isinstance(value, Mapping):
        inner = field.message_type.fields_by_name["value"]
        return {key: _value_of(inner, value[key]) for key in value}
    if field.message_type.name == "FilterNode":
        return Raw(b"{}")
    return _struct_of(value, getattr(sdk_messages, field.message_type.name))


def _fill(message: Any, struct: Struct) -> None:
    """Make a Protobuf message of a Struct."""
    for name in struct.__struct_fields__:
        match getattr(struct, name):
            case None:
                pass
            case Raw() as payload:
                setattr(message, name, bytes(payload))
            case Struct() as inner:
                getattr(message, name).SetInParent()  # there even if it is empty
                _fill(getattr(message, name), inner)
            case list() as structs:
                for inner in structs:
                    _fill(getattr(message, name).add(), inner)
            case dict() as given:
                _fill_map(getattr(message, name), given)
            case value:
                setattr(message, name, value)


def _fill_map(entries: Any, given: dict[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, Struct):
            _fill(entries[key], value)
        else:
            entries[key] = value
