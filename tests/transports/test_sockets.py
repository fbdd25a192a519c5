"""Writing to sockets: in step while the kernel takes everything, behind through asyncio otherwise; always in order."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from yamabiko.core.frames import Frame
from yamabiko.transports import audience as audience_module
from yamabiko.transports import sockets
from yamabiko.transports.audience import TurnAudience
from yamabiko.transports.sockets import SocketSection, SocketWriter


class Owner:
    def __init__(self) -> None:
        self.told = 0

    def falls_behind(self) -> None:
        self.told += 1


@dataclass(eq=False)
class Member:
    writer: SocketWriter
    peer: socket.socket
    owner: Owner

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.peer.recv(size - len(data))
        return data


async def new_member() -> Member:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    owner = Owner()
    return Member(SocketWriter(transport, owner), theirs, owner)


def new_audience() -> TurnAudience[Any]:
    return TurnAudience(partial(SocketSection, inflates=False))


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
    audience = new_audience()
    for member in members:
        audience.add(member)
    frames = [Frame(b"one"), Frame(b"two")]
    for frame in frames:
        audience.write(frame)
    await turn()
    expected = b"".join(frame.wire for frame in frames)
    assert [member.read(len(expected)) for member in members] == [expected] * 3


async def test_who_does_not_keep_up_gets_everything_in_order_once_it_reads(members):
    audience = new_audience()
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


async def test_each_thing_that_waits_is_told_and_whether_the_peer_takes_of_it_can_be_seen(members):
    member = members[0]
    member.writer.write(b"nothing waits")
    assert member.owner.told == 0
    member.writer.write(b"x" * 1_000_000)
    assert member.owner.told == 1
    waiting, before = member.writer.unsent_bytes(), member.writer.taken()
    member.writer.write(b"more")
    assert (member.owner.told, member.writer.taken()) == (2, before)
    assert await asyncio.to_thread(member.read, 1_000_017) == b"nothing waits" + b"x" * 1_000_000 + b"more"
    await turn()
    assert member.writer.taken() == (waiting + 4, 0)


async def test_a_socket_that_only_asyncio_may_write_to_tells_what_waits_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sockets, "_borrow", lambda transport: None)
    member = await new_member()
    member.writer.write(b"one")
    assert (member.owner.told, member.writer.taken()[0]) == (0, 3)
    member.writer.write(b"x" * 1_000_000)
    assert member.owner.told == 1
    member.writer.transport.abort()
    member.peer.close()
    await turn()
    assert member.writer.taken()[1] == 0, "a closed socket has nothing to tell"


async def test_a_kernel_that_refuses_for_now_loses_nothing(members, monkeypatch: pytest.MonkeyPatch):
    """Any error of one send leaves the bytes to asyncio, which reports a peer that is really gone."""
    audience = new_audience()
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
    audience = new_audience()
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


async def test_a_large_audience_is_walked_a_section_a_turn(members, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audience_module, "SECTION_MEMBERS", 2)
    audience = new_audience()
    walks: list[int] = []
    for member in members:
        audience.add(member)
    walk = SocketSection.pass_on

    def pass_on(section: SocketSection, frames: list[Frame]) -> None:
        walks.append(len(section.members))
        walk(section, frames)

    monkeypatch.setattr(SocketSection, "pass_on", pass_on)
    audience.write(Frame(b"one"))
    audience.write(Frame(b"two"))
    seen = []
    for _ in range(3):
        await asyncio.sleep(0)
        seen.append(list(walks))
    assert seen == [[2], [2, 1], [2, 1]]
    expected = Frame(b"one").wire + Frame(b"two").wire
    assert [member.read(len(expected)) for member in members] == [expected] * 3


async def test_who_comes_and_goes_between_sections_gets_what_was_written_meanwhile(members, monkeypatch):
    """The section that waits for its turn is written to before it changes."""
    monkeypatch.setattr(audience_module, "SECTION_MEMBERS", 1)
    first, leaving, late = members
    audience = new_audience()
    audience.add(first)
    audience.add(leaving)
    assert len(audience) == 2
    audience.write(Frame(b"one"))
    audience.discard(leaving)
    audience.add(late)
    assert len(audience) == 2
    audience.write(Frame(b"two"))
    await turn()
    both = Frame(b"one").wire + Frame(b"two").wire
    assert first.read(len(both)) == both
    assert leaving.read(5) == Frame(b"one").wire
    assert late.read(5) == Frame(b"two").wire


async def test_sections_that_people_have_left_are_filled_again(members, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audience_module, "SECTION_MEMBERS", 1)
    made: list[SocketSection] = []

    def new_section() -> SocketSection:
        made.append(SocketSection(inflates=False))
        return made[-1]

    audience: TurnAudience[Any] = TurnAudience(new_section)
    for _ in range(5):
        for member in members:
            audience.add(member)
        for member in members:
            audience.discard(member)
    assert len(made) == 3
