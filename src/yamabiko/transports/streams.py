"""WebSocket's stand-in where networks block it: the answer to one HTTP request, which does not end, carries everything
to the peer; what the peer says comes in requests of its own and is handed in by its session.

Source: the Centrifugo client protocol v2, section "endpoints and transports".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from yamabiko.core.errors import SHUTDOWN, SLOW, Close, TooManyRequests
from yamabiko.core.frames import Frame
from yamabiko.core.sdk.connection import SdkConnection
from yamabiko.transports.asgi import Receive, Send, size
from yamabiko.transports.limits import Limits
from yamabiko.transports.outbox import AsgiOutbox
from yamabiko.transports.pulse import pulse

Header = tuple[bytes, bytes]

UNBUFFERED: tuple[Header, ...] = (
    (b"cache-control", b"private, no-cache, no-store, must-revalidate, max-age=0"),
    (b"pragma", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
"""What keeps proxies from holding back what is written."""
UNHANDLED_PAYLOADS = 128
"""Payloads that may wait for a slow handler, each in a request of its own. Browsers send a hundred at once."""


@dataclass(frozen=True)
class Shape:
    """How an answer carries frames: its content type, what it begins with, and how each frame is wrapped."""

    content_type: bytes
    wrap: Callable[[bytes], bytes]
    beginning: bytes = b""


LINES = Shape(b"application/json", lambda payload: payload + b"\n")
LENGTHS = Shape(b"application/octet-stream", lambda payload: payload)
EVENTS = Shape(
    b"text/event-stream",
    lambda payload: b"".join(b"data: %b\n\n" % line for line in payload.split(b"\n")),
    beginning=b"\r\n",
)


open_streams: set[StreamTransport] = set()
"""Those of this process, so that a server that ends can end them: it would wait for their answers otherwise."""


class StreamTransport(AsgiOutbox):
    """The endless answer, and what waits for a handler of that which the peer says elsewhere."""

    def __init__(self, connection: SdkConnection, send: Send, limits: Limits, shape: Shape) -> None:
        super().__init__(connection, limits)
        self._send = send
        self._shape = shape
        self._reader: asyncio.Task[None] | None = None
        self._unhandled: deque[tuple[str | bytes, asyncio.Event]] = deque()
        self._unhandled_bytes = 0

    async def take(self, payload: str | bytes) -> None:
        """Hand in what the peer says elsewhere, in the order of the calls; wait until it is handled, or dropped.

        Raises TooManyRequests, with the connection closed, if too much waits already: as many bytes may wait for us as
        for the peer. What a request said waits on, though the peer breaks it off.
        """
        if not self._connection.is_open:
            return
        is_too_much = self._unhandled_bytes + size(payload) > self._limits.backlog_bytes and self._unhandled
        if is_too_much or len(self._unhandled) >= UNHANDLED_PAYLOADS:
            self._connection.close(SLOW)
            raise TooManyRequests("what was said before is still being handled")
        await self.hear(payload).wait()

    def hear(self, payload: str | bytes) -> asyncio.Event:
        """Have the connection handle a payload after those before it; the event is set when that is over."""
        self.is_heard = True
        is_over = asyncio.Event()
        self._unhandled.append((payload, is_over))
        self._unhandled_bytes += size(payload)
        if not self._is_handling:
            self._is_handling = True
            self._connection.node.spawn(self._handle())
        return is_over

    def forget_unhandled(self) -> None:
        """Drop what still waits for a handler."""
        for _, is_over in self._unhandled:
            is_over.set()
        self._unhandled.clear()
        self._unhandled_bytes = 0

    async def _handle(self) -> None:
        try:
            while self._unhandled:
                payload, is_over = self._unhandled.popleft()
                self._unhandled_bytes -= size(payload)
                try:
                    await self._connection.receive(payload)
                finally:
                    is_over.set()
        finally:
            self._is_handling = False
            self.forget_unhandled()

    async def begin(self, headers: tuple[Header, ...]) -> None:
        """Begin to answer. Raises OSError if the peer has gone."""
        content_type = (b"content-type", self._shape.content_type)
        start = {"type": "http.response.start", "status": 200, "headers": [content_type, *UNBUFFERED, *headers]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": self._shape.beginning, "more_body": True})

    async def last(self, receive: Receive) -> None:
        """Wait until the peer or we end it."""
        self._reader = asyncio.create_task(self._gone(receive))
        pulse(self._limits).watch(self)
        open_streams.add(self)
        try:
            await asyncio.wait({self._reader})
        finally:
            open_streams.discard(self)
            pulse(self._limits).forget(self)
            self._reader.cancel()

    def shutdown(self) -> None:
        """End because the server stops."""
        self._connection.close(SHUTDOWN)

    async def _gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_gone = self.is_lost = self._close is None

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    async def _send_frame(self, frame: Frame) -> None:
        body = self._shape.wrap(frame.payload)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _send_close(self, close: Close) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def serve_stream(
    connection: SdkConnection,
    first: str | bytes,
    limits: Limits,
    shape: Shape,
    *,
    session: str,
    headers: tuple[Header, ...],
    receive: Receive,
    send: Send,
) -> None:
    """Answer a request whose body, or query, was the first frame, until the peer or we end it.

    Requests that show the secret `session` say what the peer says after that.
    """
    transport = StreamTransport(connection, send, limits, shape)
    try:
        await transport.begin(headers)
        connection.open_session(session, transport.take)
        await connection.go_live(transport)
        if connection.is_open:
            transport.hear(first)
            await transport.last(receive)
    except OSError:  # the peer left before it was answered
        transport.is_lost = True
    finally:
        connection.closed(is_lost=transport.is_lost)
        transport.forget_unhandled()
        await transport.ended()
