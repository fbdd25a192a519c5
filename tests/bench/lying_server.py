"""A broadcast server that treats one copy as it is told: the third message, on its way to the second member."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

LIE_ABOUT = b"~@" + b"000000" + b"0000000002"


class LyingServer:
    def __init__(self, lie: str) -> None:
        self.lie = lie
        self.members: list[ServerConnection] = []
        self.held_back: bytes | None = None

    async def visit(self, connection: ServerConnection) -> None:
        self.members.append(connection)
        with suppress(ConnectionClosed):
            async for message in connection:
                await self.fan_out(message if isinstance(message, bytes) else message.encode())

    async def fan_out(self, text: bytes) -> None:
        for member in self.members:
            for copy in self.copies_for(member, text):
                await member.send(copy, text=True)

    def copies_for(self, member: ServerConnection, text: bytes) -> list[bytes]:
        if self.members.index(member) != 1:
            return [text]
        if LIE_ABOUT not in text:
            late, self.held_back = self.held_back, None
            return [text, late] if late else [text]
        if self.lie == "disordered":
            self.held_back = text
        return {
            "lost": [],
            "doubled": [text, text],
            "disordered": [],
            "misrouted": [text, text.replace(b"~@000000", b"~@000007")],
        }.get(self.lie, [text])


@asynccontextmanager
async def lying_server(lie: str) -> AsyncIterator[int]:
    """Serve; yield the port."""
    async with serve(LyingServer(lie).visit, "127.0.0.1", 0, ping_interval=0.2) as server:
        yield server.sockets[0].getsockname()[1]
