"""A socket on any ASGI server: the handshake, then either adoption by our server or the portable loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from yamabiko.core.connection import Connection
from yamabiko.core.errors import TOO_BIG, Close, Refusal
from yamabiko.core.frames import Frame
from yamabiko.core.interfaces import Transport
from yamabiko.core.messages import Join
from yamabiko.core.plain.connection import PlainConnection
from yamabiko.transports.limits import Limits
from yamabiko.transports.outbox import AsgiOutbox
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
        who = connection.user_name or "somebody unknown"
        logger.warning("refused to let %s join %r: %s", who, join.room, refusal.message)
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


class AsgiTransport(AsgiOutbox):
    """A WebSocket that is read from, and written to, through an ASGI server."""

    def __init__(self, connection: Connection, send: Send, limits: Limits, *, too_big: Close = TOO_BIG) -> None:
        super().__init__(connection, limits)
        self._send = send
        self._too_big = too_big
        self._reader: asyncio.Task[Any] | None = None

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

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    async def _send_frame(self, frame: Frame) -> None:
        payload = {"text": frame.text} if frame.is_text else {"bytes": frame.payload}
        await self._send({"type": "websocket.send", **payload})

    async def _send_close(self, close: Close) -> None:
        await self._send({"type": "websocket.close", "code": close.code, "reason": close.reason})


def size(payload: str | bytes) -> int:
    """Return the size of a payload in bytes of UTF-8."""
    return len(payload) if isinstance(payload, bytes) or payload.isascii() else len(payload.encode())
