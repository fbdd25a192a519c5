"""A socket on any ASGI server: the handshake, then either adoption by our server or the portable loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from yamabiko.core.connection import Connection
from yamabiko.core.errors import NO_PONG, SLOW, TOO_BIG, Close, Refusal
from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Audience, Transport
from yamabiko.core.messages import Join
from yamabiko.core.plain.connection import PlainConnection
from yamabiko.transports.audience import Section, TurnAudience
from yamabiko.transports.limits import Limits
from yamabiko.transports.pulse import pulse

logger = logging.getLogger("yamabiko")

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

ADOPT = "yamabiko.adopt"
"""The ASGI extension of our server: a callable that takes a Connection and its Limits and returns its transport."""
STATUS = {101: 401, 102: 404, 103: 403, 108: 503}
CLOSE_SECONDS = 5.0
LOST = (1006,)
"""What servers tell as the close code of a peer that has said no goodbye."""
TOO_BIG_FOR_DAPHNE = Close(3501, "message too big")
"""Daphne fails to send any code below 3000 but 1000, and leaves the socket open."""


async def serve_room(
    connection: PlainConnection, join: Join, limits: Limits, *, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer the handshake of a socket whose `websocket.connect` has been received, then serve it until it ends."""
    is_adopted = False
    try:
        if await _is_joined(connection, join, scope, send) and await _is_accepted(send):
            is_adopted = await _serve(connection, limits, scope, receive, send)
    finally:
        if not is_adopted:
            connection.closed()


async def serve_client(
    connection: Connection, subprotocol: str, limits: Limits, *, scope: Scope, receive: Receive, send: Send
) -> None:
    """Do the same for a socket on which who it is, and what it joins, is said later; "" is no subprotocol."""
    is_adopted = False
    try:
        if await _is_accepted(send, subprotocol):
            is_adopted = await _serve(connection, limits, scope, receive, send)
    finally:
        if not is_adopted:
            connection.closed()


async def _is_joined(connection: PlainConnection, join: Join, scope: Scope, send: Send) -> bool:
    try:
        await connection.join(join)
    except Refusal as refusal:
        logger.warning("refused to let %r join %r: %s", connection.user_name, join.room, refusal.message)
        await refuse(refusal, scope, send)
    except Exception:
        logger.exception("joining room %r failed", join.room)
        await refuse(Refusal(), scope, send)
    else:
        return True
    return False


async def _is_accepted(send: Send, subprotocol: str = "") -> bool:
    message: Message = {"type": "websocket.accept"}
    if subprotocol:
        message["subprotocol"] = subprotocol
    try:
        await send(message)
    except OSError:  # the peer left during its handshake
        return False
    return True


async def _serve(connection: Connection, limits: Limits, scope: Scope, receive: Receive, send: Send) -> bool:
    """Serve an accepted socket; return whether our server has adopted it, and serves it on from here."""
    adopt = (scope.get("extensions") or {}).get(ADOPT)
    if adopt is not None:
        transport: Transport = adopt(connection, limits)
        await connection.go_live(transport)
        return True
    portable = AsgiTransport(connection, send, limits, too_big=TOO_BIG if can_refuse(scope) else TOO_BIG_FOR_DAPHNE)
    try:
        await connection.go_live(portable)
        await portable.read(receive)
    finally:
        connection.closed(is_lost=portable.is_lost)
        await portable.ended()
    return False


async def refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Refuse a handshake with an HTTP status and a JSON body; a server that cannot do so answers 403."""
    try:
        if not can_refuse(scope):
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message[:32]})
            return
        body = msgspec.json.encode({"error": {"code": refusal.code, "message": refusal.message}})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        status = STATUS.get(refusal.code, 403 if refusal.code >= 400 else 503)
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    except OSError:
        logger.debug("a peer left before its handshake was refused")


def can_refuse(scope: Scope) -> bool:
    """Tell whether the server can refuse a handshake with a response of ours; Daphne cannot."""
    return "websocket.http.response" in (scope.get("extensions") or {})


class AsgiTransport:
    """Writes through an ASGI server's `send`: a byte-bounded outbox, and a task only while there is something in it."""

    def __init__(self, connection: Connection, send: Send, limits: Limits, *, too_big: Close = TOO_BIG) -> None:
        self._connection = connection
        self._send = send
        self._limits = limits
        self._too_big = too_big
        self._outbox: deque[Frame] = deque()
        self._unsent_bytes = 0
        self.is_heard = True
        self.is_lost = False
        """Whether the peer is gone without a word."""
        self._is_handling = False
        self._was_asked = False
        self._close: Close | None = None
        self._is_gone = False
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def _is_over(self) -> bool:
        return self._is_gone or self._close is not None

    @property
    def kind(self) -> object:
        return AsgiTransport

    def write(self, *frames: Frame) -> None:
        if self._is_over:
            return
        self._outbox.extend(frames)
        self._unsent_bytes += sum(map(len, frames))
        self._empty.clear()
        if self._unsent_bytes > self._limits.backlog_bytes:
            asyncio.get_running_loop().call_soon(self._close_slow)
        self._start_writer()

    def close(self, close: Close) -> None:
        if not self._is_over:
            self._close = close
            self._start_writer()
            if self._reader is not None:
                self._reader.cancel()

    async def drained(self) -> None:
        await self._empty.wait()

    def new_audience(self) -> Audience[AsgiTransport]:
        return TurnAudience(AsgiSection)

    async def read(self, receive: Receive) -> None:
        """Hand what arrives to the connection until the peer or we end it."""
        pulse(self._limits).watch(self)
        try:
            while self._close is None:
                message = await self._next(receive)
                if message is None or message["type"] == "websocket.disconnect":
                    self._is_gone = self._close is None
                    self.is_lost = message is not None and message.get("code") in LOST
                    return
                await self._take(message)
        finally:
            pulse(self._limits).forget(self)

    async def _take(self, message: Message) -> None:
        self.is_heard = True
        payload = message.get("text")
        if payload is None:
            payload = message.get("bytes") or b""
        if size(payload) > self._limits.message_bytes:
            self._connection.close(self._too_big)
            return
        self._is_handling = True
        try:
            await self._connection.receive(payload)
        finally:
            self._is_handling = False

    def ping(self) -> None:
        """Ask a peer that its own protocol has pings for; the others are asked by the server."""
        self._was_asked = not self._is_over and self._connection.ping()

    def is_silent(self) -> None:
        if self._was_asked and not self._is_handling:  # else it is we who do not listen
            self._connection.close(NO_PONG)

    async def _next(self, receive: Receive) -> Message | None:
        """Return the next message, or None as soon as it is over: not every server tells of our own close."""
        self._reader = asyncio.current_task()
        try:
            return await receive()
        except asyncio.CancelledError:
            if self._close is None or self._reader is None:
                raise
            self._reader.uncancel()
            return None
        finally:
            self._reader = None

    async def ended(self) -> None:
        """Send what is left to send, for a bounded time, and let go of the socket."""
        if self._writer is None:
            return
        if not self._is_gone:
            await asyncio.wait({self._writer}, timeout=CLOSE_SECONDS)
        self._writer.cancel()
        await asyncio.wait({self._writer})

    def _close_slow(self) -> None:
        """The peer does not take what it is sent: what it missed it can have when it resumes."""
        if not self._is_over:
            self._outbox.clear()
            self._connection.close(SLOW)

    def _start_writer(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_out())

    async def _write_out(self) -> None:
        try:
            while self._outbox:
                frame = self._outbox.popleft()
                await self._send(_sending(frame))
                self._unsent_bytes -= len(frame)
            if self._close is not None:
                await self._send({"type": "websocket.close", "code": self._close.code, "reason": self._close.reason})
        except Exception as error:
            # Servers differ in what they raise once the peer is gone. What it said before is still to be read.
            logger.debug("a peer is gone: %r", error)
            self._is_gone = True
        finally:
            self._empty.set()


def size(payload: str | bytes) -> int:
    """Return the size of a payload in bytes of UTF-8."""
    return len(payload) if isinstance(payload, bytes) or payload.isascii() else len(payload.encode())


def _sending(frame: Frame) -> Message:
    if frame.is_text:
        return {"type": "websocket.send", "text": frame.text}
    return {"type": "websocket.send", "bytes": frame.payload}


class AsgiSection(Section[AsgiTransport]):
    def pass_on(self, frames: list[Frame]) -> None:
        for member in self.members:
            member.write(*frames)
