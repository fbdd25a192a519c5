"""The shortcut takes what the parser would have made of the same bytes, and leaves it the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from yamabiko.transports.shortcut import short_texts, wire_size

OPCODES = [Opcode.TEXT, Opcode.BINARY]
FRAMES = st.lists(
    st.builds(
        Frame,
        st.sampled_from(OPCODES),
        st.binary(max_size=125) | st.sampled_from([126, 300, 65535, 65536]).map(lambda size: b"x" * size),
        fin=st.just(True),
    )
)


def wire(frame: Frame) -> bytes:
    return frame.serialize(mask=True)


def parsed(data: bytes) -> list[Frame]:
    parser = Protocol(Side.SERVER)
    parser.receive_data(data)
    return [event for event in parser.events_received() if isinstance(event, Frame)]


@given(FRAMES, st.integers(0, 400))
def test_the_shortcut_and_the_parser_agree(frames: list[Frame], cut: int) -> None:
    data = b"".join(map(wire, frames))
    data = data[: max(len(data) - cut, 0)]
    texts, rest = short_texts(data)
    expected = parsed(data)
    taken = expected[: len(texts)]
    assert [(Opcode.TEXT, text) for text in texts] == [(frame.opcode, bytes(frame.data)) for frame in taken]
    assert parsed(rest) == expected[len(texts) :]


@given(FRAMES)
def test_whole_texts_at_the_beginning_are_all_taken(frames: list[Frame]) -> None:
    texts, rest = short_texts(b"".join(map(wire, frames)))
    left = frames[len(texts) :]
    assert not left or left[0].opcode is not Opcode.TEXT or len(left[0].data) > 65535
    assert rest.startswith(wire(left[0])[:2] if left else b"")
    assert left or not rest


def test_a_text_that_is_not_masked_is_left_to_the_parser() -> None:
    data = Frame(Opcode.TEXT, b"bare").serialize(mask=False) + b"\0" * 8
    assert short_texts(data) == ([], data)


def test_a_size_that_is_said_in_too_many_bytes_is_left_to_the_parser() -> None:
    data = b"\x81\xfe\x00\x05" + b"\0" * 9
    assert short_texts(data) == ([], data)


def test_a_fragment_is_left_to_the_parser() -> None:
    data = wire(Frame(Opcode.TEXT, b"half", fin=False))
    assert short_texts(data) == ([], data)


@given(st.sampled_from([0, 1, 125, 126, 65535, 65536]))
def test_the_size_of_a_frame_is_what_its_client_sent(size: int) -> None:
    frame = Frame(Opcode.BINARY, b"x" * size)
    assert wire_size(frame) == len(wire(frame))
