"""The bytes of a WebSocket frame, as RFC 6455 section 5.2 lays them out."""

from __future__ import annotations

import pytest
from websockets.frames import Opcode
from websockets.streams import StreamReader

from yamabiko.core.frames import Frame


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_the_header_is_as_short_as_the_length_allows(length, header):
    payload = b"x" * length
    assert Frame(payload).wire == header + payload


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
@pytest.mark.parametrize("is_text", [True, False])
def test_another_implementation_reads_the_frame(length, is_text):
    from websockets.frames import Frame as TheirFrame

    frame = Frame(b"y" * length, is_text=is_text)
    reader = StreamReader()
    reader.feed_data(frame.wire)
    parsing = TheirFrame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as end:
        next(parsing)
    theirs = end.value.value
    assert (theirs.fin, theirs.data) == (True, frame.payload)
    assert theirs.opcode is (Opcode.TEXT if is_text else Opcode.BINARY)


def test_the_bytes_and_the_text_are_made_once():
    frame = Frame("山彦".encode())
    assert frame.wire is frame.wire
    assert frame.text is frame.text
    assert (frame.text, len(frame)) == ("山彦", 6)
