"""Writing to sockets: straight into the kernel while it takes everything, through asyncio for a peer that is behind.

A peer is in one of the two states at a time, so its bytes stay in order. Where everyone keeps up, writing to a whole
audience is one loop in C over their sockets.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from itertools import repeat
from typing import Protocol

from yamabiko.core.frames import Frame
from yamabiko.transports.audience import Section

if sys.platform == "linux":
    import fcntl
    import termios

_send = socket.SocketType.send


class Owner(Protocol):
    def falls_behind(self) -> None:
        """Take the news that something waits for the peer, each time that there is more."""


class SocketWriter:
    """The writing end of one socket that asyncio has opened. Returns at once and never raises."""

    __slots__ = ("_borrowed", "_left_to_asyncio", "_owner", "_sections", "is_behind", "is_open", "transport")

    def __init__(self, transport: asyncio.Transport, owner: Owner) -> None:
        self.transport = transport
        self.is_open = True
        self._owner = owner
        self._left_to_asyncio = 0
        self._sections: tuple[SocketSection, ...] = ()
        self._borrowed = _borrow(transport)
        self.is_behind = self._borrowed is None or self.unsent_bytes() > 0

    @property
    def socket(self) -> socket.SocketType | None:
        """The socket to send on directly; None where asyncio has to do it."""
        return None if self.is_behind or not self.is_open else self._borrowed

    def write(self, data: bytes) -> None:
        if not self.is_open:
            return
        if self.is_behind:
            self._write_behind(data)
            return
        assert self._borrowed is not None
        try:
            sent = self._borrowed.send(data)
        except OSError:  # full for now, or gone: asyncio will find out
            sent = 0
        if sent < len(data):
            self.fall_behind(data[sent:])

    def fall_behind(self, rest: bytes) -> None:
        """Leave `rest` and all that follows to asyncio, until the peer has caught up."""
        self.is_behind = True
        self._tell_sections()
        self._leave_to_asyncio(rest)

    def _write_behind(self, data: bytes) -> None:
        if self._borrowed is not None and not self.unsent_bytes():
            self.is_behind = False
            self._tell_sections()
            self.write(data)
        else:
            self._leave_to_asyncio(data)

    def _leave_to_asyncio(self, data: bytes) -> None:
        self._left_to_asyncio += len(data)
        self.transport.write(data)
        if self.unsent_bytes():
            self._owner.falls_behind()

    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def taken(self) -> tuple[int, int]:
        """Return what differs once the kernel or the peer has taken something of what was left to asyncio."""
        return self._left_to_asyncio - self.unsent_bytes(), unacknowledged_bytes(self.transport)

    def enter(self, section: SocketSection) -> None:
        self._sections += (section,)

    def leave(self, section: SocketSection) -> None:
        self._sections = tuple(other for other in self._sections if other is not section)

    def end(self) -> None:
        """Write nothing any more: our close frame, or the peer's, was the last."""
        self.is_open = False
        self._tell_sections()

    def give_back(self) -> None:
        """Let go of the borrowed descriptor, before asyncio closes it and another socket may get its number."""
        self.end()
        if self._borrowed is not None:
            self._borrowed.detach()
            self._borrowed = None

    def _tell_sections(self) -> None:
        for section in self._sections:
            section.is_sorted = False


class HasWriter(Protocol):
    writer: SocketWriter

    def __hash__(self) -> int: ...


class SocketSection(Section[HasWriter]):
    __slots__ = ("_behind", "_in_step", "_inflates", "_sockets", "is_sorted")

    def __init__(self, *, inflates: bool) -> None:
        super().__init__()
        self._inflates = inflates
        self.is_sorted = True
        self._sockets: list[socket.SocketType] = []
        self._in_step: list[SocketWriter] = []
        self._behind: list[SocketWriter] = []

    def add(self, transport: HasWriter) -> None:
        super().add(transport)
        transport.writer.enter(self)
        self.is_sorted = False

    def discard(self, transport: HasWriter) -> None:
        super().discard(transport)
        transport.writer.leave(self)
        self.is_sorted = False

    def pass_on(self, frames: list[Frame]) -> None:
        wires = [frame.deflated_wire if self._inflates else frame.wire for frame in frames]
        data = wires[0] if len(wires) == 1 else b"".join(wires)
        if not self.is_sorted:
            self._sort()
        self._send_to_those_in_step(data)
        for writer in self._behind:
            writer.write(data)

    def _sort(self) -> None:
        self.is_sorted = True
        writers = [member.writer for member in self.members if member.writer.is_open]
        walk = [(writer.socket, writer) for writer in writers]
        self._sockets = [sock for sock, _ in walk if sock is not None]
        self._in_step = [writer for sock, writer in walk if sock is not None]
        self._behind = [writer for sock, writer in walk if sock is None]

    def _send_to_those_in_step(self, data: bytes) -> None:
        """Send to all in C, coming back to Python only for a peer that did not take everything."""
        size, walked = len(data), 0
        fell_behind: list[tuple[SocketWriter, int]] = []
        sockets = iter(self._sockets)
        while walked < len(self._in_step):
            try:
                for sent in map(_send, sockets, repeat(data)):
                    if sent != size:
                        fell_behind.append((self._in_step[walked], sent))
                    walked += 1
            except OSError:  # full for now, or gone: asyncio will find out
                fell_behind.append((self._in_step[walked], 0))
                walked += 1
        for writer, sent in fell_behind:
            writer.fall_behind(data[sent:])


def unacknowledged_bytes(transport: asyncio.BaseTransport) -> int:
    """Return what the kernel holds that the peer's has not acknowledged; 0 where nobody tells, as on any but Linux.

    A kernel with megabytes for a peer takes nothing more until a third of them is free: that alone tells of no one who
    reads slowly. Source: `SIOCOUTQ` in tcp(7).
    """
    opened = transport.get_extra_info("socket")
    if sys.platform != "linux" or opened is None or opened.fileno() < 0:
        return 0
    try:
        waiting: int = struct.unpack("i", fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return 0
    return waiting


def _borrow(transport: asyncio.Transport) -> socket.SocketType | None:
    """Return a second socket object on the transport's descriptor, or None where bytes must go through asyncio."""
    opened = transport.get_extra_info("socket")
    if opened is None or transport.is_closing() or sys.platform == "win32":
        return None
    if transport.get_extra_info("sslcontext") is not None:
        return None
    return socket.SocketType(opened.family, opened.type, opened.proto, opened.fileno())
