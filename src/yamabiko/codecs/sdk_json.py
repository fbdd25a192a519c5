"""The SDK protocol in JSON: text frames of objects, one a line.

Source: the Centrifugo client protocol v2. Payloads are embedded as they are; what is empty, zero or false is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw

from yamabiko.codecs.json_data import one_line
from yamabiko.codecs.sdk_checks import checked_commands
from yamabiko.core.errors import BadRequest
from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Codec
from yamabiko.core.messages import Delta, Event, Invalid, Publication
from yamabiko.core.sdk.messages import Command, Reply
from yamabiko.core.sdk.views import replies_of, with_data

_EXPECTED = "expected commands as JSON objects in a text frame, one a line"

NULL = Raw(b"null")

_decode_command = msgspec.json.Decoder(Command).decode
_fields_of = msgspec.json.Decoder(dict[str, Raw]).decode
_to_json = msgspec.json.Encoder().encode


class SdkJsonCodec:
    """See `Codec`. It has no state: one instance serves all connections."""

    tells_gaps = False
    deltas: Codec | None = None
    ping: Frame | None = Frame(b"{}")

    def decode(self, payload: str | bytes) -> Sequence[Command | Invalid]:
        """Return the commands of a frame. The first that is none is the last: an `Invalid`, with its id if known."""
        return checked_commands(_commands_in(payload))

    def encode(self, event: Event | Reply, room: str = "") -> Frame:
        if isinstance(event, Publication):
            return Frame(_pushed(event, room))
        return Frame(b"\n".join([one_line(_to_json(reply)) for reply in replies_of(event, room)]))

    def whole(self, publication: Publication) -> Publication:
        return publication


class SdkJsonDeltaCodec(SdkJsonCodec):
    """Carries every publication's data as a string: of its text or, in a `Delta`, of the changes to the one before."""

    def encode(self, event: Event | Reply, room: str = "") -> Frame:
        if isinstance(event, Delta):
            return Frame(_pushed(with_data(event.publication, _string(event.changes)), room, is_delta=True))
        return super().encode(self.whole(event) if isinstance(event, Publication) else event, room)

    def whole(self, publication: Publication) -> Publication:
        return with_data(publication, _string(publication.data))


SDK_JSON = SdkJsonCodec()
SDK_JSON.deltas = SdkJsonDeltaCodec()


def _commands_in(payload: str | bytes) -> Iterator[Command]:
    if isinstance(payload, bytes):
        raise BadRequest(f"a binary frame; {_EXPECTED}")
    for line in payload.strip(" \t\r\n").split("\n"):
        if not line.strip() and payload.strip():
            continue
        try:
            command = _command_of(line)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{error}; {_EXPECTED}") from error
        yield command


def _command_of(line: str) -> Command:
    try:
        return _decode_command(line)
    except msgspec.ValidationError:
        return _decode_command(_without_nulls(line))


def _without_nulls(line: str) -> bytes:
    """Leave out the fields of a command and its request that are null: they count as not given. Data may be null."""
    command = {}
    for name, value in _fields_of(line).items():
        if bytes(value).startswith(b"{"):
            fields = _fields_of(value).items()
            command[name] = Raw(_to_json({field: given for field, given in fields if field == "data" or given != NULL}))
        elif value != NULL:
            command[name] = value
    return _to_json(command)


def _string(text: bytes) -> bytes:
    return _to_json(text.decode())


def _pushed(publication: Publication, room: str, *, is_delta: bool = False) -> bytes:
    parts = [b'{"push":{"channel":', _to_json(room), b',"pub":{"data":', publication.data]
    if len(publication.extras) > len(b"{}"):
        parts += (b",", publication.extras[1:-1])
    if publication.position is not None:
        parts.append(b',"offset":%d' % publication.position.offset)
    if is_delta:
        parts.append(b',"delta":true')
    parts.append(b"}}}")
    return b"".join(parts)
