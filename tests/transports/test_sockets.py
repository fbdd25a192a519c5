"""Writing to sockets: in step while the kernel takes everything, behind through asyncio otherwise; always in order."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass
from typing import Any

import pytest

from yamabiko.core.frames import Frame
from yamabiko.transports import sockets
from yamabiko.transports.sockets import SocketAudience, SocketWriter


@dataclass(eq=False)
class Member:
    writer: SocketWriter
    peer: socket.socket

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.peer.recv(size - len(data))
        return data


async def new_member() -> Member:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    return Member(SocketWriter(transport), theirs)


@pytest.fixture
async def members():
    made = [await new_member() for _ in range(3)]
    yield made
    for member in made:
        member.writer.give_back()
        member.writer.transport.abort()
        member.peer.close()


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_is_written_in_one_turn_arrives_in_order_at_everyone(members):
    audience = SocketAudience(inflates=False)
    for member in members:
        audience.add(member)
    frames = [Frame(b"one"), Frame(b"two")]
    for frame in frames:
        audience.write(frame)
    await turn()
    expected = b"".join(frame.wire for frame in frames)
    assert [member.read(len(expected)) for member in members] == [expected] * 3


async def test_who_does_not_keep_up_gets_everything_in_order_once_it_reads(members):
    audience = SocketAudience(inflates=False)
    for member in members:
        audience.add(member)
    slow, quick, _ = members
    frames = [Frame(bytes([65 + number]) * 100_000) for number in range(10)]
    reading = asyncio.to_thread(quick.read, sum(len(frame.wire) for frame in frames))
    quick_read = asyncio.create_task(reading)
    for frame in frames:
        audience.write(frame)
        await turn()
    assert slow.writer.is_behind
    expected = b"".join(frame.wire for frame in frames)
    assert await asyncio.to_thread(slow.read, len(expected)) == expected
    assert await quick_read == expected
    audience.write(Frame(b"again"))
    await turn()
    assert slow.read(7) == Frame(b"again").wire


async def test_a_kernel_that_refuses_for_now_loses_nothing(members, monkeypatch: pytest.MonkeyPatch):
    """Any error of one send leaves the bytes to asyncio, which reports a peer that is really gone."""
    audience = SocketAudience(inflates=False)
    for member in members:
        audience.add(member)
    refusals = iter([OSError(errno.ENOBUFS, "as asked")])

    def send(sock: Any, data: bytes) -> int:
        for refusal in refusals:
            raise refusal
        return int(sock.send(data))

    monkeypatch.setattr(sockets, "_send", send)
    audience.write(Frame(b"one"))
    await turn()
    audience.write(Frame(b"two"))
    await turn()
    expected = Frame(b"one").wire + Frame(b"two").wire
    assert [member.read(len(expected)) for member in members] == [expected] * 3


async def test_who_joins_gets_nothing_from_before_and_who_has_left_nothing_after(members):
    early, late, _ = members
    audience = SocketAudience(inflates=False)
    audience.add(early)
    audience.write(Frame(b"one"))
    audience.add(late)
    audience.write(Frame(b"two"))
    audience.discard(early)
    audience.write(Frame(b"end"))
    await turn()
    assert early.read(10) == Frame(b"one").wire + Frame(b"two").wire
    assert late.read(10) == Frame(b"two").wire + Frame(b"end").wire
    early.peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        early.peer.recv(1)


async def test_a_descriptor_is_given_back_before_it_can_belong_to_another(members):
    member = members[0]
    borrowed = member.writer.socket
    assert borrowed is not None
    member.writer.give_back()
    assert borrowed.fileno() == -1
    member.writer.write(b"nothing")
    member.peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        member.peer.recv(1)
