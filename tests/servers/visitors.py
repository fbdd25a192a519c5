"""Clients on real sockets: one that behaves (`websockets`), and what it takes to behave badly."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from tests.servers.running import PATIENCE_SECONDS, Running

RESET = struct.pack("ii", 1, 0)


class Visitor:
    """One connection in one room."""

    def __init__(self, link: ClientConnection) -> None:
        self.link = link

    async def say(self, message: object, publication_id: str = "") -> None:
        """Publish `message` as {"message": ...}."""
        frame = {"message": message} | ({"id": publication_id} if publication_id else {})
        await self.send(json.dumps(frame))

    async def send(self, payload: Any) -> None:
        """Send one message as it is; a list is sent in fragments."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.link.send(payload)

    def write_frame(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> None:
        """Send one frame as it is, allowed or not."""
        self.link.transport.write(Frame(opcode, data, fin).serialize(mask=True))

    def write_frames(self, *frames: tuple[Opcode, bytes]) -> None:
        """Send frames at once, so that they arrive together."""
        self.link.transport.write(b"".join(Frame(opcode, data).serialize(mask=True) for opcode, data in frames))

    async def has_been_read(self) -> None:
        """Wait until the server has read all that was sent."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await (await self.link.ping())

    def received(self, opcode: Opcode) -> asyncio.Queue[Frame]:
        """Return where the frames of this type can be found from now on."""
        received: asyncio.Queue[Frame] = asyncio.Queue()
        process = self.link.process_event

        def look_and_process(event: Event) -> None:
            if isinstance(event, Frame) and event.opcode is opcode:
                received.put_nowait(event)
            process(event)

        self.link.process_event = look_and_process
        return received

    async def hear(self) -> dict[str, Any]:
        """Return the next frame."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            frame: dict[str, Any] = json.loads(await self.link.recv())
        return frame

    async def payload(self) -> dict[str, Any]:
        """Return the next frame, which is a publication."""
        frame = await self.hear()
        assert list(frame) == ["payload"], frame
        assert frame["payload"].pop("type") == "send_message"
        payload: dict[str, Any] = frame["payload"]
        return payload

    async def message(self) -> Any:
        return (await self.payload())["message"]

    async def messages(self, number: int) -> list[Any]:
        return [await self.message() for _ in range(number)]

    async def presence(self) -> dict[str, Any]:
        frame = await self.hear()
        assert list(frame) == ["presence"], frame
        presence: dict[str, Any] = frame["presence"]
        return presence

    async def error(self) -> dict[str, Any]:
        frame = await self.hear()
        assert list(frame) == ["error"], frame
        error: dict[str, Any] = frame["error"]
        return error

    async def ack(self) -> dict[str, Any]:
        """Return the next ack; publications on the way are passed over."""
        while "ack" not in (frame := await self.hear()):
            assert "payload" in frame, frame
        ack: dict[str, Any] = frame["ack"]
        return ack

    async def is_live(self) -> None:
        """Wait until this visitor is a member: what it publishes comes back."""
        await self.say("I am here")
        while (await self.hear()).get("payload", {}).get("message") != "I am here":
            pass

    async def closed(self) -> tuple[int, str]:
        """Return the code and reason of the server's close frame; 1006 if there was none."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    await self.link.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (1006, "")

    def stop_reading(self) -> None:
        self.link.transport.pause_reading()

    def read_on(self) -> None:
        self.link.transport.resume_reading()

    def reset(self) -> None:
        """Be gone without a word, as a machine that loses its power or its network."""
        self.link.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.link.transport.abort()


@asynccontextmanager
async def visit(
    server: Running,
    room: str,
    query: str = "",
    *,
    under: str = "/rooms/",
    origin: str | None = None,
    host: str | None = None,
    is_signed_in: bool = False,
    receive_bytes: int = 0,
    compression: str | None = None,
    extensions: Sequence[Any] | None = None,
) -> AsyncIterator[Visitor]:
    """Be in a room for as long as the block lasts. Raises InvalidStatus if the handshake is refused.

    `receive_bytes` makes the kernel's buffer small, so that the server soon feels that nobody reads.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        link = await connect(
            f"ws://{host or '127.0.0.1'}:{server.port}{under}{quote(room)}/{query}",
            origin=origin,
            additional_headers={"Cookie": f"sessionid={server.session_key}"} if is_signed_in else {},
            sock=await _connected(server.port, receive_bytes),
            compression=compression,
            extensions=extensions,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            close_timeout=5,
        )
    try:
        yield Visitor(link)
    finally:
        await link.close()


async def _connected(port: int, receive_bytes: int) -> socket.socket:
    link = socket.socket()
    if receive_bytes:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    link.setblocking(False)
    await asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", port))
    return link


@dataclass(frozen=True)
class RefusedHandshake:
    status: int
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


async def refusal(server: Running, room: str, **options: Any) -> RefusedHandshake:
    """Return how the server refuses a handshake."""
    try:
        async with visit(server, room, **options):
            raise AssertionError(f"{server.kind.name} let us into {room!r}")
    except InvalidStatus as refused:
        return RefusedHandshake(refused.response.status_code, bytes(refused.response.body))


async def get(server: Running, path: str) -> tuple[int, bytes]:
    """Return status and body of a plain HTTP request."""
    return await asyncio.to_thread(_get, server.port, path)


def _get(port: int, path: str) -> tuple[int, bytes]:
    link = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        link.request("GET", path)
        response = link.getresponse()
        return response.status, response.read()
    finally:
        link.close()
