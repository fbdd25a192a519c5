"""What is written to one peer through an ASGI server's `send`: a byte-bounded outbox, and no task while it is empty."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Self

from yamabiko.core.connection import Connection
from yamabiko.core.errors import NO_PONG, SLOW, WRITE_ERROR, Close
from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Audience
from yamabiko.transports.audience import Section, TurnAudience
from yamabiko.transports.limits import Limits
from yamabiko.transports.pulse import pulse
from yamabiko.transports.sockets import unacknowledged_bytes

if TYPE_CHECKING:
    from yamabiko.transports.asgi import Send

logger = logging.getLogger("yamabiko")

CLOSE_SECONDS = 5.0


class AsgiOutbox(ABC):
    """The writing half of a portable `Transport`; the pulse has it ping peers whose own protocol has pings."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self.is_heard = True
        self.is_lost = False
        """Whether the peer is gone without a word."""
        self._connection = connection
        self._limits = limits
        self._outbox: deque[Frame] = deque()
        self._unsent_bytes = 0
        self._sent_frames = 0
        self._is_handling = False
        self._was_asked = False
        self._close: Close | None = None
        self._is_gone = False
        self._writer: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    _send: Send

    @abstractmethod
    async def _send_frame(self, frame: Frame) -> None: ...

    @abstractmethod
    async def _send_close(self, close: Close) -> None: ...

    @abstractmethod
    def _stop_reading(self) -> None:
        """Stop waiting for what the peer says; called when it is closed from our side."""

    @property
    def kind(self) -> object:
        return type(self)

    def write(self, *frames: Frame) -> None:
        if self._is_over:
            return
        self._outbox.extend(frames)
        self._unsent_bytes += sum(map(len, frames))
        self._empty.clear()
        if self._unsent_bytes > self._limits.backlog_bytes:
            asyncio.get_running_loop().call_soon(self._close_behind, SLOW)
        self._start_writer()

    def write_soon(self, *frames: Frame) -> None:
        self.write(*frames)

    def close(self, close: Close) -> None:
        if not self._is_over:
            self._close = close
            self._start_writer()
            self._stop_reading()

    async def drained(self) -> None:
        await asyncio.sleep(0)
        await self._empty.wait()

    def new_audience(self) -> Audience[Self]:
        return TurnAudience(OutboxSection)

    async def ended(self) -> None:
        """Send what is left to send, for a bounded time, and let go of the peer."""
        if self._writer is None:
            return
        if not self._is_gone:
            await asyncio.wait({self._writer}, timeout=CLOSE_SECONDS)
        if not self._writer.done() and cut_off(self._send):
            await asyncio.wait({self._writer}, timeout=CLOSE_SECONDS)  # the server tells the writer that it is over
        self._writer.cancel()
        await asyncio.wait({self._writer})

    # Of the pulse

    def ping(self) -> None:
        """Ask a peer that its own protocol has pings for; the others are asked by the server."""
        self._was_asked = not self._is_over and self._connection.ping()

    def is_silent(self) -> None:
        if self._was_asked and not self._is_handling:  # else it is we who do not listen
            self._connection.close(NO_PONG)

    @property
    def is_behind(self) -> bool:
        return not self._empty.is_set()

    @property
    def taken(self) -> object:
        transport = transport_of(self._send)
        return self._sent_frames, unacknowledged_bytes(transport) if transport is not None else 0

    def is_stalled(self) -> None:
        self._close_behind(WRITE_ERROR)

    @property
    def _is_over(self) -> bool:
        return self._is_gone or self._close is not None

    def _close_behind(self, close: Close) -> None:
        """The peer does not take what it is sent: what it missed it can have when it resumes."""
        if not self._is_over:
            self._outbox.clear()
            self._connection.close(close)

    def _start_writer(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_out())
            pulse(self._limits).watch_writing(self)

    async def _write_out(self) -> None:
        try:
            while self._outbox:
                frame = self._outbox.popleft()
                await self._send_frame(frame)
                self._unsent_bytes -= len(frame)
                self._sent_frames += 1
            if self._close is not None:
                await self._send_close(self._close)
        except Exception as error:
            # Servers differ in what they raise once the peer is gone. What it said before is still to be read.
            logger.debug("a peer is gone: %r", error)
            self._is_gone = True
        finally:
            self._empty.set()


def cut_off(send: Send) -> bool:
    """Cut off a peer that takes nothing any more; return whether this server lets us.

    ASGI has no message for it: a server that closes waits until the peer has read what was sent before, if ever.
    """
    transport = transport_of(send)
    if transport is None:
        return False
    transport.abort()
    return True


def transport_of(send: Send) -> asyncio.Transport | None:
    """Return the socket's transport where `send` is a method of what has it: of uvicorn, without a middleware."""
    transport: asyncio.Transport | None = getattr(getattr(send, "__self__", None), "transport", None)
    return transport if hasattr(transport, "get_extra_info") else None


class OutboxSection(Section[AsgiOutbox]):
    def pass_on(self, frames: list[Frame]) -> None:
        for member in self.members:
            member.write(*frames)
