"""A small real WebSocket server that speaks the room protocol and does as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from yamabiko.client.changes import Changes

PATIENCE_SECONDS = 20


@dataclass
class RoomDouble:
    """One room. Tests read what came, and set what shall go wrong.

    Attributes:
        refusals: the answers to the next handshakes, each used once, as (status, body, headers).
        refused_texts: messages that are answered with an error, as text -> (code, reason).
        drop_after: break the connection, without an ack, after publishing the message with this text; once.
        is_answering: while False, acks are held back.
        is_greeting: while False, handshakes are heard and not answered.
        keeps_history: whether publications are numbered.
        forgotten: how many of the oldest publications can no longer be had.
    """

    epoch: str = "kQzT"
    keeps_history: bool = True
    forgotten: int = 0
    refusals: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    refused_texts: dict[str, tuple[int, str]] = field(default_factory=dict)
    drop_after: str | None = None
    is_answering: bool = True
    is_greeting: bool = True
    messages: list[object] = field(default_factory=list)
    users: list[str | None] = field(default_factory=list)
    frames: list[dict[str, object]] = field(default_factory=list)
    handshakes: list[Request] = field(default_factory=list)
    closes: list[int] = field(default_factory=list)
    connections: set[ServerConnection] = field(default_factory=set)
    most_unanswered: int = 0
    _offsets: dict[str, int] = field(default_factory=dict)
    _held_acks: list[str] = field(default_factory=list)
    _changes: Changes = field(default_factory=Changes)
    _server: Server | None = None
    host: str = "127.0.0.1"
    port: int = 0

    async def open(self) -> None:
        self._server = await serve(self._converse, self.host, self.port, process_request=self._greet, close_timeout=1)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Stop listening, and break every connection as a machine does that loses its power."""
        self.drop_connections()
        if self._server is not None:
            self._server.close(close_connections=False)
            await self._server.wait_closed()

    async def until(self, is_fact: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._changes.until(lambda: bool(is_fact()))

    async def guests(self, number: int) -> None:
        await self.until(lambda: len(self.connections) == number)

    def query(self, visit: int = -1) -> dict[str, str]:
        """Return the query of a handshake, by default the last one."""
        parameters = parse_qs(urlsplit(self.handshakes[visit].path).query)
        return {name: values[0] for name, values in parameters.items()}

    def publish(self, message: object, user: str | None = None) -> int:
        self.messages.append(message)
        self.users.append(user)
        offset = len(self.messages)
        for connection in self.connections:
            self._post(connection, self._publication(offset))
        self._changes.tell()
        return offset

    def send(self, frame: object) -> None:
        """Send any JSON to everybody."""
        for connection in self.connections:
            self._post(connection, frame)

    def release_acks(self) -> None:
        self.is_answering = True
        for publication_id in self._held_acks:
            self.send(self._ack(publication_id))
        self._held_acks.clear()

    def drop_connections(self) -> None:
        for connection in self.connections:
            connection.transport.abort()

    async def close_connections(self, code: int, reason: str = "") -> None:
        for connection in list(self.connections):
            await connection.close(code, reason)

    async def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request)
        self._changes.tell()
        if not self.is_greeting:
            await connection.connection_lost_waiter
        if not self.refusals:
            return None
        status, body, headers = self.refusals.pop(0)
        length = {"Content-Length": str(len(body.encode())), "Connection": "close"}
        return Response(status, HTTPStatus(status).phrase, Headers({**headers, **length}), body.encode())

    async def _converse(self, connection: ServerConnection) -> None:
        for frame in self._missed(self.query()):
            self._post(connection, frame)
        self.connections.add(connection)
        self._changes.tell()
        try:
            while True:
                self._hear(connection, json.loads(await connection.recv()))
        except ConnectionClosed as closed:
            self.closes.append(1006 if closed.rcvd is None else closed.rcvd.code)
        finally:
            self.connections.discard(connection)
            self._changes.tell()

    def _missed(self, query: dict[str, str]) -> list[object]:
        if not self.keeps_history:
            return []
        if "since" in query:
            return self._since(query["since"])
        first = len(self.messages) - int(query.get("history", 0))
        return [self._publication(offset) for offset in range(max(first, 0) + 1, len(self.messages) + 1)]

    def _since(self, position: str) -> list[object]:
        epoch, _, offset = position.rpartition(":")
        start = int(offset)
        gap: list[object] = []
        if epoch != self.epoch or start < self.forgotten:
            start = self.forgotten
            gap = [{"gap": {"epoch": self.epoch, "offset": start}}]
        return gap + [self._publication(number) for number in range(start + 1, len(self.messages) + 1)]

    def _hear(self, connection: ServerConnection, frame: dict[str, object]) -> None:
        self.frames.append(frame)
        text, publication_id = str(frame["message"]), str(frame["id"])
        if text in self.refused_texts:
            code, reason = self.refused_texts[text]
            self._post(connection, {"error": {"code": code, "message": reason, "id": publication_id}})
        else:
            self._take(connection, text, publication_id)
        self._changes.tell()

    def _take(self, connection: ServerConnection, text: str, publication_id: str) -> None:
        if publication_id not in self._offsets:
            self._offsets[publication_id] = self.publish(text)
        if text == self.drop_after:
            self.drop_after = None
            connection.transport.abort()
        elif self.is_answering:
            self._post(connection, self._ack(publication_id))
        else:
            self._held_acks.append(publication_id)
            self.most_unanswered = max(self.most_unanswered, len(self._held_acks))

    def _ack(self, publication_id: str) -> object:
        place = {"offset": self._offsets[publication_id], "epoch": self.epoch} if self.keeps_history else {}
        return {"ack": {"id": publication_id, **place}}

    def _publication(self, offset: int) -> object:
        place = {"offset": offset, "epoch": self.epoch} if self.keeps_history else {}
        user = self.users[offset - 1]
        known = {} if user is None else {"user": user}
        return {"payload": {"type": "send_message", "message": self.messages[offset - 1], **place, **known}}

    def _post(self, connection: ServerConnection, frame: object) -> None:
        # Written at once and in order; the connection's own send() would have to wait.
        connection.protocol.send_text(json.dumps(frame, ensure_ascii=False).encode())
        for data in connection.protocol.data_to_send():
            connection.transport.write(data)


@asynccontextmanager
async def room_double(**options: object) -> AsyncIterator[RoomDouble]:
    room = RoomDouble(**options)
    await room.open()
    try:
        yield room
    finally:
        await room.shut()
