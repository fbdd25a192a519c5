"""The lean steady state of an adopted socket: a parser, a Connection, and nothing that idles."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, MutableSet
from functools import partial
from math import inf
from typing import Any

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from yamabiko.core.connection import Connection
from yamabiko.core.errors import NO_PONG, NOT_TEXT, SHUTDOWN, SLOW, TOO_BIG, WRITE_ERROR, Close
from yamabiko.core.frames import WINDOW_BITS, Frame
from yamabiko.core.interfaces import Audience
from yamabiko.transports.audience import TurnAudience
from yamabiko.transports.limits import Limits
from yamabiko.transports.pulse import pulse
from yamabiko.transports.shortcut import short_texts, wire_size
from yamabiko.transports.sockets import SocketSection, SocketWriter

CLOSE_SECONDS = 10.0
"""How long a peer may take to read what it was sent and to answer our close frame."""
SHUTDOWN_SECONDS = 1.5
"""The same when the server stops: what a peer has not read by then it can have when it resumes."""
UNHANDLED_PAYLOADS = 32
"""Payloads that may wait for a slow handler before the peer is no longer read from; as many are handled in a turn."""
BURST_BYTES = 64 * 1024


class AdoptedSocket(asyncio.Protocol):
    """The asyncio protocol of an adopted socket, and the `Transport` of its Connection."""

    __slots__ = (
        "__weakref__",
        "_connection",
        "_deadline",
        "_drained",
        "_fragments",
        "_handled_this_turn",
        "_inflates",
        "_is_lost",
        "_is_paused",
        "_is_text",
        "_limits",
        "_server_connections",
        "_soon",
        "_transport",
        "_unhandled",
        "_unparsed_bytes",
        "_websocket",
        "is_heard",
        "writer",
    )

    def __init__(
        self,
        connection: Connection,
        websocket: ServerProtocol,
        transport: asyncio.Transport,
        limits: Limits,
        server_connections: MutableSet[Any],
    ) -> None:
        self.is_heard = True
        self._connection = connection
        self._websocket = websocket
        self._transport = transport
        self._limits = limits
        self.writer = SocketWriter(transport, self)
        self._inflates = _inflates_shared_frames(websocket)
        self._server_connections = server_connections
        self._fragments: list[bytes] | None = None
        self._is_text = False
        self._unhandled: deque[str | bytes] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_lost = False
        self._is_paused = False
        self._handled_this_turn = 0
        self._unparsed_bytes = inf
        self._soon: tuple[Frame, ...] = ()

    # Of asyncio

    def begin(self, early: Iterable[WireFrame], *, is_untouched: bool, is_lost: bool) -> None:
        """Take over the socket, and the data frames that arrived before it was adopted.

        A socket is untouched if its parser has had nothing since the handshake.
        """
        if is_untouched and not self._websocket.extensions:
            self._unparsed_bytes = 0
        self._websocket.max_message_size = self._limits.message_bytes
        self._server_connections.add(self)
        pulse(self._limits).watch(self)
        for frame in early:
            self._take(frame)
        if is_lost:
            self.connection_lost(None)
            return
        self._transport.set_write_buffer_limits(high=self._limits.backlog_bytes)
        self._transport.set_protocol(self)
        self._is_paused = True  # as uvicorn has left it, perhaps
        if self._unhandled is None or len(self._unhandled) < UNHANDLED_PAYLOADS:
            self._read_on()

    def data_received(self, data: bytes) -> None:
        self.is_heard = True
        self._handled_this_turn = 0
        if not self._unparsed_bytes and self._fragments is None and self._websocket.state is OPEN:
            texts, data = short_texts(data)
            self._is_text = True
            for text in texts:
                self._accept(text)
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._unparsed_bytes += len(data)
        self._websocket.receive_data(data)
        for event in self._websocket.events_received():
            assert isinstance(event, WireFrame)
            self._unparsed_bytes -= wire_size(event)
            self._take(event)
        self._send_replies()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self.writer.give_back()
        self._server_connections.discard(self)
        pulse(self._limits).forget(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._stop_waiting()
        if self._unhandled is None or self._connection.is_calling:
            self._connection.closed(is_lost=self._has_said_nothing)

    def pause_writing(self) -> None:
        if self._drained is None:
            asyncio.get_running_loop().call_soon(self._connection.close, SLOW)

    def resume_writing(self) -> None:
        self._stop_waiting()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        self._connection.close(SHUTDOWN)
        self._set_deadline(SHUTDOWN_SECONDS)

    # Of the Transport

    @property
    def kind(self) -> object:
        return AdoptedSocket, self._inflates

    def write_soon(self, *frames: Frame) -> None:
        if not self._soon:
            asyncio.get_running_loop().call_soon(self.write)
        self._soon += frames

    def write(self, *frames: Frame) -> None:
        if self._soon:
            frames, self._soon = (*self._soon, *frames), ()
        if not frames:
            return
        wires = [frame.deflated_wire if self._inflates else frame.wire for frame in frames]
        self.writer.write(wires[0] if len(wires) == 1 else b"".join(wires))
        if self._drained is not None and self._unsent_bytes() > self._limits.backlog_bytes:
            asyncio.get_running_loop().call_soon(self._connection.close, SLOW)

    def close(self, close: Close) -> None:
        if not self._is_lost and self._websocket.state is OPEN:
            self.write()
            self._websocket.send_close(close.code, close.reason)
            self._send_replies()
            self.writer.end()
            self._unhandled = None if self._unhandled is None else deque()
            self._set_deadline()

    async def drained(self) -> None:
        await asyncio.sleep(0)
        if self._is_lost or self._unsent_bytes() <= BURST_BYTES:
            return
        self._drained = asyncio.get_running_loop().create_future()
        self._transport.set_write_buffer_limits(high=BURST_BYTES)
        try:
            await self._drained
        finally:
            self._drained = None
            if not self._is_lost:
                self._transport.set_write_buffer_limits(high=self._limits.backlog_bytes)

    def new_audience(self) -> Audience[AdoptedSocket]:
        return TurnAudience(partial(SocketSection, inflates=self._inflates))

    # Of the pulse

    def ping(self) -> None:
        if self._websocket.state is OPEN and not self._connection.ping():
            self._websocket.send_ping(b"")
            self._send_replies()

    def is_silent(self) -> None:
        if not self._is_paused:  # else it is we who do not listen
            self._connection.close(NO_PONG)

    @property
    def is_behind(self) -> bool:
        return self._unsent_bytes() > 0

    @property
    def taken(self) -> object:
        return self.writer.taken()

    def is_stalled(self) -> None:
        self._connection.close(WRITE_ERROR)

    def falls_behind(self) -> None:
        pulse(self._limits).watch_writing(self)

    def _take(self, frame: WireFrame) -> None:
        """Join fragments (RFC 6455, section 5.4) and pass payloads on. The parser has checked their order and size."""
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._accept(frame.data)
            else:
                self._fragments = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT and self._fragments is not None:
            if frame.data:
                self._fragments.append(bytes(frame.data))
            if frame.fin:
                data, self._fragments = b"".join(self._fragments), None
                self._accept(data)

    def _accept(self, data: bytes | bytearray | memoryview) -> None:
        if not self._connection.is_open:
            return
        if len(data) > self._limits.message_bytes:  # before adoption the server's own limit held
            self._connection.close(TOO_BIG)
            return
        try:
            payload = str(data, "utf-8") if self._is_text else bytes(data)
        except UnicodeDecodeError:
            self._connection.close(NOT_TEXT)
            return
        if self._unhandled is None:
            self._handled_this_turn += 1
            if self._handled_this_turn <= UNHANDLED_PAYLOADS and self._connection.receive_at_once(payload):
                return
            self._unhandled = deque()
            self._connection.node.spawn(self._handle())
        self._unhandled.append(payload)
        if len(self._unhandled) >= UNHANDLED_PAYLOADS and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    async def _handle(self) -> None:
        """Handle payloads in order until none is left; those that came before a peer left are handled too."""
        assert self._unhandled is not None
        handled = 0
        while self._unhandled:
            await self._connection.receive(self._unhandled.popleft())
            handled += 1
            if handled % UNHANDLED_PAYLOADS == 0:
                await asyncio.sleep(0)  # others have their turn
        self._unhandled = None
        if self._is_lost or self._websocket.state is not OPEN:
            self._connection.closed(is_lost=self._has_said_nothing)
        else:
            self._read_on()

    def _read_on(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def _send_replies(self) -> None:
        """Send what the parser answers by itself: pongs, close frames, and the end of the stream."""
        for data in self._websocket.data_to_send():
            if data:
                self.writer.write(data)
            else:
                self._end()

    def _end(self) -> None:
        """Say that nothing more comes; a peer that broke the rules may still be sending, and is heard out.

        Closing at once would reset the connection, and the peer would never read why.
        """
        self.writer.end()
        self._set_deadline()
        if self._has_said_nothing and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
        if self._unhandled is None:
            self._connection.closed(is_lost=self._has_said_nothing)

    @property
    def _has_said_nothing(self) -> bool:
        """Whether the peer has sent no close frame."""
        return self._websocket.close_rcvd is None

    def _set_deadline(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let the socket be cut off in so many seconds at the latest."""
        due = asyncio.get_running_loop().time() + seconds
        if self._is_lost or (self._deadline is not None and self._deadline.when() <= due):
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_at(due, self._transport.abort)

    def _unsent_bytes(self) -> int:
        return self.writer.unsent_bytes()

    def _stop_waiting(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


def _inflates_shared_frames(websocket: ServerProtocol) -> bool:
    """Tell whether the peer has agreed to deflated frames of the kind that all share: no context, and our window."""
    return any(
        isinstance(extension, PerMessageDeflate)
        and extension.local_no_context_takeover
        and extension.local_max_window_bits >= WINDOW_BITS
        for extension in websocket.extensions
    )
