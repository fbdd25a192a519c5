"""Fossil deltas: a payload told by what it shares with the one before it.

delta     "LENGTH\\n", then copies "COUNT@OFFSET," of the base and inserts "COUNT:BYTES" in order, then "CHECKSUM;"
numbers   in base 64, the highest digit first, with the digits of `DIGITS`
checksum  of the target: the sum of its big-endian 32-bit words, the last filled up with zeros, modulo 2 ** 32

Source: https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from struct import unpack
from typing import NamedTuple

DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
BLOCK = 16
"""What the base has in this length, counted from its beginning, is looked for; so twice as much is found anywhere."""
CANDIDATES = 4
"""How many equal blocks of the base are tried: in repetitive text there may be thousands."""
WORTHWHILE = 8
"""A copy takes 4 to 8 bytes itself."""
NEAR, COARSE_STEP = 4096, 7
"""After so much that is new, one place of seven is looked at. Seven divides no block: every alignment has its turn."""
FIRST_LOOK = 32
LONGEST_REST = 3
"""How many bytes of a UTF-8 character may follow its first one."""


class Copy(NamedTuple):
    """`size` bytes that stand `at` a place of the target and at an `offset` in the base."""

    at: int
    offset: int
    size: int


def delta(base: bytes, target: bytes) -> bytes | None:
    """Return what makes `target` out of `base`, or None if that would not be shorter than `target`.

    It is valid UTF-8 if both are: no insert cuts a character. Takes time in proportion to the two lengths, whatever
    they hold. It is short, not the shortest.
    """
    parts = [_number(len(target)), b"\n"]
    done = 0
    for at, offset, size in _copies(base, target):
        parts += (_insert(target[done:at]), _number(size), b"@", _number(offset), b",")
        done = at + size
    parts += (_insert(target[done:]), _number(_checksum(target)), b";")
    made = b"".join(parts)
    return made if len(made) < len(target) else None


def _insert(data: bytes) -> bytes:
    return b"%b:%b" % (_number(len(data)), data) if data else b""


def _number(value: int) -> bytes:
    digits = bytearray([DIGITS[value & 63]])
    while value := value >> 6:
        digits.append(DIGITS[value & 63])
    digits.reverse()
    return bytes(digits)


def _checksum(data: bytes) -> int:
    count = (len(data) + 3) // 4
    words: tuple[int, ...] = unpack(f">{count}I", data.ljust(count * 4, b"\0"))
    return sum(words) & 0xFFFFFFFF


def _copies(base: bytes, target: bytes) -> Iterator[Copy]:
    """Yield what the target takes of the base, in order: the common head, what is found between, the common tail."""
    head = _edge_before(target, _alike_from(base, 0, target, 0))
    head = head if head >= WORTHWHILE else 0
    if head:
        yield Copy(0, 0, head)
    end = _edge_after(target, len(target) - _alike_up_to(base, len(base), target[head:]))
    tail = len(target) - end
    if tail < WORTHWHILE:
        end, tail = len(target), 0
    yield from _moved(base, target[:end], head)
    if tail:
        yield Copy(end, len(base) - tail, tail)


def _moved(base: bytes, target: bytes, done: int) -> Iterator[Copy]:
    """Yield what the target after `done` takes of any place of the base."""
    if min(len(base), len(target) - done) < BLOCK:
        return
    blocks = _blocks(base)
    at = _next_known(blocks, target, done)
    while at is not None:
        offset, count = _longest(base, blocks[target[at : at + BLOCK]], target, at)
        earlier = _alike_up_to(base, offset, target[done:at])
        start, done = _edge_after(target, at - earlier), _edge_before(target, at + count)
        yield Copy(start, offset + start - at, done - start)
        at = _next_known(blocks, target, done)


def _blocks(base: bytes) -> Mapping[bytes, Sequence[int]]:
    """Return where each block of the base stands."""
    blocks: defaultdict[bytes, list[int]] = defaultdict(list)
    for offset in range(0, len(base) - BLOCK + 1, BLOCK):
        blocks[base[offset : offset + BLOCK]].append(offset)
    return blocks


def _next_known(blocks: Mapping[bytes, Sequence[int]], target: bytes, at: int) -> int | None:
    """Return the next place of the target with a block of the base."""
    near, last = at + NEAR, len(target) - BLOCK + 1
    for place in chain(range(at, min(near, last)), range(near, last, COARSE_STEP)):
        if target[place : place + BLOCK] in blocks:
            return place
    return None


def _longest(base: bytes, offsets: Sequence[int], target: bytes, at: int) -> tuple[int, int]:
    """Return at which of the offsets the base goes on longest like the target `at` a place, and how long."""
    best, longest = offsets[0], _alike_from(base, offsets[0], target, at)
    for offset in offsets[1:CANDIDATES]:
        # One byte tells of most of them that they are not longer.
        if base[offset + longest : offset + longest + 1] == target[at + longest : at + longest + 1] != b"":
            count = _alike_from(base, offset, target, at)
            if count > longest:
                best, longest = offset, count
    return best, longest


def _alike_from(base: bytes, offset: int, target: bytes, at: int) -> int:
    """Return how many bytes are the same from there on, in time proportional to that."""
    count, size = 0, FIRST_LOOK
    limit = min(len(base) - offset, len(target) - at)
    while count < limit:
        size = min(size, limit - count)
        ours, theirs = base[offset + count : offset + count + size], target[at + count : at + count + size]
        if ours != theirs:
            differing = int.from_bytes(ours, "big") ^ int.from_bytes(theirs, "big")
            return count + size - _bytes_of(differing)
        count, size = count + size, size * 2
    return limit


def _alike_up_to(base: bytes, offset: int, text: bytes) -> int:
    """Return how many bytes at the end of `text` are the same as those before `offset`."""
    limit = min(offset, len(text))
    ours, theirs = base[offset - limit : offset], text[len(text) - limit :]
    differing = int.from_bytes(ours, "little") ^ int.from_bytes(theirs, "little")
    return limit - _bytes_of(differing)


def _bytes_of(value: int) -> int:
    return (value.bit_length() + 7) // 8


def _edge_before(text: bytes, at: int) -> int:
    """Return the nearest place up to `at` that is not within a character."""
    least = max(at - LONGEST_REST, 0)
    while at > least and _is_within_character(text, at):
        at -= 1
    return at


def _edge_after(text: bytes, at: int) -> int:
    """Return the nearest place from `at` on that is not within a character."""
    most = at + LONGEST_REST
    while at < most and _is_within_character(text, at):
        at += 1
    return at


def _is_within_character(text: bytes, at: int) -> bool:
    return at < len(text) and text[at] & 0xC0 == 0x80
