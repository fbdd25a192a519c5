"""Fossil deltas. `apply` is written from the format alone, and knows nothing of how deltas are made."""

from __future__ import annotations

import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yamabiko.core.fossil import delta

NUMBER = rb"([0-9A-Z_a-z~]+)"
COMMAND = re.compile(NUMBER + rb"(?:@" + NUMBER + rb",|(:)|(;))")
JAPANESE = "山彦は山が返す声です。部屋に呼びかけると、皆に聞こえます。会議は三時から始まります。"


def number(digits: bytes) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~".index(digit)
    return value


def checksum(data: bytes) -> int:
    """Add byte by byte, each to its place in a word."""
    return sum(byte << (24 - 8 * (place % 4)) for place, byte in enumerate(data)) % 2**32


def apply(base: bytes, made: bytes) -> bytes:
    """Return the target. Fails if the delta breaks any rule of the format."""
    size = re.match(NUMBER + b"\n", made)
    assert size is not None
    at, target = size.end(), bytearray()
    while True:
        command = COMMAND.match(made, at)
        assert command is not None, f"no command at {at} of {made!r}"
        at, count = command.end(), number(command[1])
        if command[2]:
            offset = number(command[2])
            assert 0 < count <= len(base) - offset
            target += base[offset : offset + count]
        elif command[3]:
            assert 0 < count <= len(made) - at
            target += made[at : at + count]
            at += count
        else:
            assert (at, len(target), checksum(target)) == (len(made), number(size[1]), count)
            return bytes(target)


def inserted(made: bytes) -> int:
    """Return how many bytes of the target the delta had to bring along."""
    at, total = made.index(b"\n") + 1, 0
    while command := COMMAND.match(made, at):
        count = number(command[1]) if command[3] else 0
        at, total = command.end() + count, total + count
    return total


def assert_is_right(base: bytes, target: bytes) -> None:
    made = delta(base, target)
    if made is not None:
        assert apply(base, made) == target
        assert len(made) < len(target)


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def lorem(size: int, seed: int) -> bytes:
    """Return text in which nothing is said twice."""
    return noise(size, seed).hex().encode()[:size]


texts = st.text(st.sampled_from('ab,:{}"0山彦声éß😀'), max_size=60)


@st.composite
def edits(draw) -> tuple[str, str]:
    """Draw a text, and another made of pieces of it in any order with new ones between."""
    base = "".join(draw(st.lists(st.one_of(texts, st.just(JAPANESE)), max_size=6))) * draw(st.integers(1, 4))
    places = st.integers(0, len(base))
    pieces = st.one_of(texts, st.builds(lambda start, stop: base[start:stop], places, places))
    return base, "".join(draw(st.lists(pieces, max_size=8)))


@given(edits())
def test_a_delta_makes_the_target_of_the_base_and_is_text_if_they_are(edit):
    base, target = (text.encode() for text in edit)
    assert_is_right(base, target)
    (delta(base, target) or b"").decode()


@given(st.lists(st.integers(0, 20), max_size=40), st.lists(st.integers(0, 20), max_size=40), st.randoms())
def test_a_delta_of_bytes_that_are_no_text_makes_the_target_too(base, target, chance):
    pieces = [chance.randbytes(chance.choice([1, 5, 16, 17, 40])) for _ in range(21)]
    assert_is_right(b"".join(pieces[at] for at in base), b"".join(pieces[at] for at in target))


@given(st.binary(min_size=1, max_size=4), st.binary(min_size=1, max_size=4), st.integers(0, 999), st.integers(0, 999))
def test_a_delta_of_repetitions_makes_the_target(one, other, count, other_count):
    assert_is_right(one * count + other, other + one * other_count)


def test_the_wire_is_length_copies_inserts_and_checksum():
    # In base 64: w is 59, T is 29, N is 23, Y is 34.
    base = b"the first thing that was said, and what came after it all"
    target = b"the first thing that was said; (and) what came after it all"
    made = delta(base, target)
    assert made == b"w\nT@0,7:; (and)N@Y,Te8qm;"
    assert apply(base, made) == target


def test_the_same_again_is_one_copy():
    same = lorem(100, seed=1)
    made = delta(same, same)
    assert made is not None
    assert made.startswith(b"1_\n1_@0,")
    assert inserted(made) == 0


@pytest.mark.parametrize(
    ("base", "target"),
    [
        (b"", b""),
        (b"", b"a text that stands alone"),
        (b"a text that stands alone", b""),
        (b"", b"\x80"),
        (b"short", b"short"),
        (b"2026-01-01", b"2026-01-02"),
        (lorem(500, seed=1), lorem(500, seed=2)),
        (noise(500, seed=1), noise(500, seed=2)),
    ],
)
def test_there_is_no_delta_that_is_not_shorter_than_the_target(base, target):
    assert delta(base, target) is None


def test_one_changed_field_costs_little_however_long_the_payload():
    records = [{"id": at, "name": lorem(9, seed=at).decode(), "score": at * 7, "note": JAPANESE} for at in range(400)]
    base = json.dumps(records, ensure_ascii=False).encode()
    records[200]["score"] = 99999
    made = delta(base, json.dumps(records, ensure_ascii=False).encode())
    assert made is not None
    assert len(base) > 65536
    assert len(made) < 40


def test_text_that_has_moved_is_found():
    one, two, three = lorem(300, seed=1), JAPANESE.encode(), lorem(300, seed=3)
    made = delta(one + two + three, three + b"!" + one + b"!" + two)
    assert made is not None
    assert inserted(made) == 2


@pytest.mark.parametrize("shift", range(16))
def test_text_of_two_blocks_is_found_wherever_it_stood(shift):
    text = lorem(31, seed=1)
    made = delta(lorem(shift, seed=2) + text + lorem(40, seed=3), lorem(20, seed=4) + text + lorem(20, seed=5))
    assert made is not None
    assert inserted(made) == 40


@pytest.mark.parametrize("shift", range(16))
def test_moved_text_is_found_whole_after_much_that_is_new(shift):
    new, text = lorem(20_000 + shift, seed=1), lorem(200, seed=2)
    made = delta(lorem(100, seed=3) + text, new + text + b".")
    assert made is not None
    assert inserted(made) == len(new) + 1


def test_the_longest_of_some_equal_blocks_is_taken():
    block, endings = lorem(16, seed=1), [lorem(16 * length, seed=length) for length in (1, 2, 5, 3)]
    base = b"".join(block + ending for ending in endings)
    made = delta(base, b"new: " + block + endings[2] + b" and more")
    assert made is not None
    assert inserted(made) == len("new:  and more")
    assert made.count(b"@") == 1


def test_head_and_tail_may_overlap_in_the_base():
    base = lorem(40, seed=1)
    made = delta(base, base + base)
    assert made is not None
    assert inserted(made) == 0


# 山 and 屳, 乱 have bytes in common: E5 B1 B1, E5 B1 B3, E4 B9 B1.
@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("a long enough beginning 山", "a long enough beginning 屳!"),
        ("山 a long enough end of the text", "乱 a long enough end of the text"),
        (f"<{JAPANESE}山><{JAPANESE}乱>", f"[{JAPANESE}屳][{JAPANESE}乱]"),
        (f"{'.' * 20}山 something that has moved 山", f"乱 something that has moved 屳{'!' * 20}"),
    ],
)
def test_no_character_is_cut(base, target):
    made = delta(base.encode(), target.encode())
    assert made is not None
    made.decode()
    assert apply(base.encode(), made).decode() == target


MIB = 1 << 20
BLOCKS = [noise(16, seed) for seed in range(64)]


@pytest.mark.timeout(30)  # a search that is quadratic in one of these takes hours
@pytest.mark.parametrize(
    ("base", "target"),
    [
        (bytes(MIB), b"".join(bytes(100) + noise(1, at) for at in range(MIB // 101))),
        (b"a" + bytes(MIB), bytes(MIB) + b"a" + bytes(MIB)),
        (b"ab" * (MIB // 2), b"ba" * (MIB // 4) + b"c" + b"ab" * (MIB // 4)),
        (b"\x80" * MIB, b"\x81" * 3 + b"\x80" * (MIB // 2) + b"\x81" + b"\x80" * (MIB // 2)),
        (b"".join(random.Random(1).choices(BLOCKS, k=MIB // 16)), b"".join(random.Random(2).choices(BLOCKS, k=9999))),
        (noise(MIB, seed=1), noise(MIB, seed=2)),
    ],
    ids=["zeros", "zeros moved", "period of two", "only continuations", "few blocks", "nothing alike"],
)
def test_the_time_is_linear_whatever_the_payloads_hold(base, target):
    assert_is_right(base, target)
