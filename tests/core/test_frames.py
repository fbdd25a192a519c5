"""The bytes of a WebSocket frame, as RFC 6455 section 5.2 lays them out."""

from __future__ import annotations

import zlib

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


@pytest.mark.parametrize("is_text", [True, False])
def test_a_deflated_frame_says_so_and_any_peer_inflates_it_on_its_own(is_text):
    payload = b"yamabiko " * 500
    wire = Frame(payload, is_text=is_text).deflated_wire
    first_byte, length = wire[0], int.from_bytes(wire[2:4])
    assert first_byte == (0xC1 if is_text else 0xC2)
    assert (wire[1], length) == (126, len(wire) - 4) or wire[1] == len(wire) - 2
    deflated = wire[4:] if wire[1] == 126 else wire[2:]
    assert len(deflated) < len(payload) / 10
    assert zlib.decompressobj(wbits=-12).decompress(deflated + b"\x00\x00\xff\xff") == payload


def test_what_deflating_does_not_shorten_is_sent_as_it_is():
    frame = Frame(b"hi")
    assert frame.deflated_wire == frame.wire


def test_a_frame_is_deflated_once():
    frame = Frame(b"yamabiko " * 500)
    assert frame.deflated_wire is frame.deflated_wire
